"""Reads of conflicts, negotiations and agreements."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from webapp.agreements import checks
from webapp.agreements.models import Agreement, Conflict, ConflictQuerySet, Negotiation, NegotiationQuerySet
from webapp.tenants.selectors import missing, policy_newest

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.fleet.models import Host
    from webapp.tenants.models import VirtualMachine


def conflicts_of(*, user: User, vm: VirtualMachine | None = None, open_only: bool = False) -> ConflictQuerySet:
    """Conflicts that concern the person's VMs (operators: all), newest first."""
    found = Conflict.objects.visible_to(user).select_related("host")
    if vm is not None:
        found = found.filter(vms=vm)
    return found.filter(closed_at__isnull=True) if open_only else found


def negotiations_of(*, user: User) -> NegotiationQuerySet:
    """Negotiations in which the person's VMs take part (operators: all), newest first."""
    return Negotiation.objects.visible_to(user).select_related("host", "requester")


def negotiation_get(*, user: User, pk: int) -> Negotiation:
    """One of them; a foreign one is as missing as one that does not exist."""
    found = negotiations_of(user=user).filter(pk=pk).first()
    if found is None:
        raise missing()
    return found


def check_of(*, user: User, vm: VirtualMachine) -> checks.Shown | None:
    """The newest wishes checked against the VM's host, now; None without wishes or host."""
    policy = policy_newest(user=user, vm=vm)
    placement = getattr(vm, "placement", None)
    if policy is None or placement is None:
        return None
    return checks.shown(checks.create_check(host=placement.host, policy=policy), names=[vm.name])


def predicate_of(agreement: Agreement) -> dict[str, Any]:
    """What was signed: the predicate inside the envelope."""
    payload = base64.b64decode(json.loads(agreement.envelope)["payload"])
    predicate: dict[str, Any] = json.loads(payload)["predicate"]
    return predicate


def agreement_in_force(*, host: Host) -> Agreement | None:
    """The one agreement that binds the host now. For services and the engine, not for pages."""
    return Agreement.objects.filter(host=host, in_force=True).first()


def values_in_force(*, host: Host) -> dict[str, dict[str, str]]:
    """For each VM under the agreement in force: the value of every switch, shared ones included."""
    agreement = agreement_in_force(host=host)
    if agreement is None:
        return {}
    assignment = predicate_of(agreement)["assignment"]
    return {vm: {**assignment["host"], **own} for vm, own in assignment["vms"].items()}


def names_shown(user: User, conflict: Conflict) -> list[str]:
    """The VMs of a conflict that the person may know: all for operators, else its own; neighbours are not named."""
    mine = set(user.tenant_slugs)
    return sorted(vm.name for vm in conflict.vms.all() if user.is_operator or vm.tenant.slug in mine)
