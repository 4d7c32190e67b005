"""Declaring with its consequence: wishes are checked against the host as soon as they are saved (trigger create)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from webapp.agreements import checks, places, telling
from webapp.agreements.conflicts import conflict_record
from webapp.agreements.models import Conflict, Waiver
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault
from webapp.fleet.selectors import hosts_open
from webapp.fleet.services import placement_set
from webapp.live import publish
from webapp.roles import must
from webapp.tenants import forms
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import expect_own, missing, policy_newest, programs_of, tenants_of, vm_get
from webapp.tenants.services import document_of, policy_save, vm_create
from webapp.vpms.answers import document_from_answers
from webapp.vpms.goals import has_goal

if TYPE_CHECKING:
    from typing import Any

    from webapp.accounts.models import User
    from webapp.fleet.models import Host
    from webapp.tenants.models import Policy
    from webapp.vpms.vocabulary import Profile


@transaction.atomic
def wishes_declare(
    *, by: User, vm: VirtualMachine, document: bytes | dict[str, Any], seen: int | None = None
) -> Policy:
    """The next version of the wishes, stored and checked at once: conflicts that wishes have by themselves or with the
    host's operator are recorded now, those with neighbours when the VM starts. Nobody's agreement changes by this.
    `seen` is the version that the person had read; see policy_save."""
    expect_own(by=by, tenant=vm.tenant.slug)
    policy = policy_save(by=by, vm=vm, document=document, seen=seen)
    placement = getattr(vm, "placement", None)
    if placement is not None:
        record_check(host=placement.host, vm=vm, policy=policy)
    publish.changed(f"tenant/{vm.tenant.slug}")
    return policy


def record_check(*, host: Host, vm: VirtualMachine, policy: Policy) -> None:
    """The check of a new version as rows and log entry; what an older version was told is closed."""
    result = checks.create_check(host=host, policy=policy)
    Conflict.objects.filter(vms=vm, trigger="create", closed_at__isnull=True).update(closed_at=timezone.now())
    audit.record(
        by=None,
        type="check",
        subject=f"vm:{vm.name}",
        data={
            "words": checks.status_words(result),
            "trigger": "create",
            "against": result["checked_against"],
            "codes": sorted(conflict["code"] for conflict in result["conflicts"]),
        },
        audience=[vm.tenant.slug],
    )
    blocking = [conflict for conflict in result["conflicts"] if conflict["severity"] in checks.BLOCKING]
    telling.conflicts_found(vms=[vm] * len(blocking), key=f"policy:{policy.pk}")
    for conflict in blocking:
        conflict_record(
            host=host,
            vms=[vm],
            code=conflict["code"],
            name=conflict["name"],
            severity=conflict["severity"],
            switch=conflict["switch"] or "",
            text=checks.finding_words(conflict),
            evidence={"core": conflict["core"], "background": conflict["background"]},
            trigger="create",
        )


@transaction.atomic
def goal_waive(*, by: User, vm: str, switch: str, given_up: bool) -> VirtualMachine:
    """The owner gives up the VM's goal about this setting, or takes it up again; what is so already stays so.

    No wish changes by it: a negotiation goes on counting them. A goal that the wishes do not have is missing.
    """
    own = vm_get(user=by, name=vm)
    must(by, "act", tenant=own.tenant.slug)
    row = VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=own.pk)
    newest = policy_newest(user=by, vm=row)
    if newest is None or not has_goal(document_of(newest), switch):
        raise missing()
    waiver = row.waivers.filter(switch=switch, ended_at__isnull=True).first()
    if given_up == (waiver is not None):
        return own
    if waiver is None:
        waiver = Waiver.objects.create(vm=row, switch=switch, by=by)
    else:
        waiver.ended_at = timezone.now()
        waiver.save(update_fields=["ended_at"])
    audit.record(
        by=by,
        type="goal.waived" if given_up else "goal.resumed",
        subject=f"vm:{row.name}",
        data={"number": waiver.pk},
        audience=[row.tenant.slug],
    )
    publish.changed(f"tenant/{row.tenant.slug}")
    return own


@transaction.atomic
def vm_declare(
    *, by: User, tenant: str, name: str, trace: str, host: str, memory_mib: str, profile: str
) -> VirtualMachine:
    """A stopped VM with its place and the first version of its wishes, all or nothing. Without a host one is
    chosen: where these wishes are kept best, and among such hosts where it could start at once."""
    faults = []
    owner = tenants_of(user=by).filter(slug=tenant).first()
    place = hosts_open(user=by).filter(name=host).first()
    start = forms.profile_named(profile)
    sizes = {str(size): size for size in forms.MEMORY_MIB}
    if owner is None:
        faults.append(Fault("$.tenant", "is not a tenant that you act for"))
    offered = [name for name, _label in programs_of(user=by, tenant=tenant)]
    if trace not in offered:
        faults.append(Fault("$.trace", f"must be one of the recorded programs {', '.join(offered)}"))
    if place is None and host:
        faults.append(Fault("$.host", "is not a host of this platform"))
    if memory_mib not in sizes:
        faults.append(Fault("$.memory_mib", f"must be one of {', '.join(sizes)}"))
    if start is None:
        faults.append(Fault("$.profile", "is not one of the profiles"))
    if owner is None or start is None or faults:
        raise BadInput(faults)
    must(by, "act", tenant=owner.slug)
    vm = vm_create(by=by, tenant=owner, name=name, trace=trace)
    first_wishes = partial(_wishes_of_profile, start, vm, {"vcpus": 1, "memory_mib": sizes[memory_mib]})
    place = place or places.host_for(user=by, vm=vm, document_on=first_wishes)
    if place is None:
        raise BadInput([Fault("$.host", "is needed: this platform has no host yet")])
    placement_set(by=by, vm=vm, host=place)
    vm.refresh_from_db()
    wishes_declare(by=by, vm=vm, document=first_wishes(place))
    return vm


def _wishes_of_profile(start: Profile, vm: VirtualMachine, size: dict[str, int], host: Host | None) -> dict[str, Any]:
    """The profile's answers as the first version of the wishes on this host; None: on one that can do everything."""
    return document_from_answers(
        start.answers,
        vm=vm.name,
        tenant=vm.tenant.slug,
        version=1,
        size=size,
        delegate=forms.delegate_default(),
        offers=checks.offers_of(host=host, size=size),
    )
