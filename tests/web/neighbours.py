"""Five tenants on one host, each with one person and one VM, and a second host that is empty."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from tests.conftest import HOST, wishes
from webapp.agreements import services
from webapp.agreements.models import Agreement, Negotiation
from webapp.tenants.models import VirtualMachine

EASY = {"q2": {"answer": "anyone", "strength": "prefer"}, "q3": {"answer": "anyone", "strength": "prefer"}}
# What each wishes when the fifth comes: guarded, careful, fast, thrifty, and the newcomer in between.
WISHES: dict[str, dict[str, dict[str, str]]] = {
    "a-bank": {
        "q1": {"answer": "nobody", "strength": "must"},
        "q2": {"answer": "never", "strength": "prefer"},
        "q7": {"answer": "protection", "strength": "prefer"},
    },
    "b-shop": {
        "q2": {"answer": "anyone", "strength": "prefer"},
        "q4": {"answer": "yes", "strength": "prefer"},
        "q7": {"answer": "speed", "strength": "prefer"},
    },
    "c-lab": {"q2": {"answer": "own", "strength": "prefer"}, "q4": {"answer": "no", "strength": "prefer"}},
    "d-game": {"q3": {"answer": "anyone", "strength": "prefer"}, "q7": {"answer": "speed", "strength": "prefer"}},
    "e-new": {
        "q2": {"answer": "anyone", "strength": "prefer"},
        "q3": {"answer": "class", "strength": "prefer"},
        "q4": {"answer": "yes", "strength": "prefer"},
    },
}
TENANTS = {"a-bank": "alpha", "b-shop": "beta", "c-lab": "gamma", "d-game": "delta", "e-new": "epsilon"}
PEOPLE = {"a-bank": "anna", "b-shop": "ben", "c-lab": "carla", "d-game": "dora", "e-new": "emil"}


@dataclass
class Street:
    people: dict[str, Any] = field(default_factory=dict)  # by VM
    vms: dict[str, VirtualMachine] = field(default_factory=dict)
    operator: Any = None
    host: Any = None
    other: Any = None

    def start(self, vm: str) -> Negotiation:
        row = VirtualMachine.objects.get(name=vm)
        negotiation = services.start_request(by=self.people[vm], vm=row)
        return services.negotiation_advance(negotiation_id=negotiation.pk)

    def wish(self, vm: str, version: int, answers: dict[str, dict[str, str]], **more: Any) -> None:
        from webapp.tenants.services import policy_save

        document = wishes(answers, vm=vm, tenant=TENANTS[vm], version=version, **more)
        policy_save(by=self.people[vm], vm=self.vms[vm], document=document)


def host(name: str) -> dict[str, Any]:
    return {**HOST, "host": name, "capacity": {**HOST["capacity"], "cores": 8, "memory_mib": 256}}


def make_street(*, running: bool = True) -> Street:
    """Everybody placed on h5; the first four run there under one agreement, unless told otherwise."""
    from webapp.accounts.models import User
    from webapp.fleet.services import host_create, placement_set
    from webapp.tenants.services import membership_add, tenant_create, vm_create

    street = Street()
    street.operator = User.objects.create(username="oskar")
    membership_add(by=None, user=street.operator, role="operator")
    street.host, street.other = (host_create(by=None, document=host(name)) for name in ("h5", "h6"))
    for vm, slug in TENANTS.items():
        person = User.objects.create(username=PEOPLE[vm])
        tenant = tenant_create(by=None, slug=slug, name=slug.capitalize())
        membership_add(by=None, user=person, role="owner", tenant=tenant)
        street.people[vm] = person
        street.vms[vm] = vm_create(by=person, tenant=tenant, name=vm, trace="gzip")
        placement_set(by=person, vm=street.vms[vm], host=street.host)
        street.wish(vm, 1, EASY)
    if running:
        for vm in list(TENANTS)[:4]:
            put_in_force(street.start(vm))
        for vm in list(TENANTS)[:4]:
            street.wish(vm, 2, WISHES[vm])
        street.wish("e-new", 2, WISHES["e-new"])
    return street


def put_in_force(negotiation: Negotiation) -> Agreement:
    """What the run side does when all have signed, without a machine."""
    assert negotiation.state == Negotiation.State.SIGNED, (negotiation.state, negotiation.reason)
    with transaction.atomic():
        agreement = services.agreement_put_in_force(negotiation=negotiation)
        VirtualMachine.objects.filter(pk=negotiation.requester_id).update(state=VirtualMachine.State.RUNNING)
    return agreement
