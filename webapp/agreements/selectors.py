"""Reads of conflicts, negotiations and agreements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Prefetch

from webapp.agreements import checks, wording
from webapp.agreements.models import Agreement, Conflict, ConflictQuerySet, Message, Negotiation, NegotiationQuerySet
from webapp.agreements.room import Room
from webapp.audit.selectors import entries_of, shown
from webapp.fleet.selectors import running_vms
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import missing, policy_newest
from webapp.vpms import agreement as language
from webapp.vpms.logwords import sentence, title

HISTORY = 200
WHEN = {"create": "when wishes were saved", "start": "at a start", "run": "while running"}

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User
    from webapp.fleet.models import Host


def conflicts_of(*, user: User, vm: VirtualMachine | None = None, open_only: bool = False) -> ConflictQuerySet:
    """Conflicts that concern the person's VMs (operators: all), newest first."""
    found = Conflict.objects.visible_to(user).select_related("host")
    if vm is not None:
        found = found.filter(vms=vm)
    return found.filter(closed_at__isnull=True) if open_only else found


def negotiations_of(*, user: User) -> NegotiationQuerySet:
    """Negotiations in which the person's VMs take part (operators: all), newest first."""
    return Negotiation.objects.visible_to(user).select_related("host", "requester__tenant")


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
    return language.predicate_of(agreement.envelope)


def agreement_in_force(*, host: Host) -> Agreement | None:
    """The one agreement that binds the host now. For services and the engine, not for pages."""
    return Agreement.objects.filter(host=host, in_force=True).first()


def values_in_force(*, host: Host) -> dict[str, dict[str, str]]:
    """For each VM under the agreement in force: the value of every switch, shared ones included."""
    agreement = agreement_in_force(host=host)
    if agreement is None:
        return {}
    return values_of(agreement)


def values_of(agreement: Agreement) -> dict[str, dict[str, str]]:
    """The same for one agreement."""
    assignment = predicate_of(agreement)["assignment"]
    return {vm: {**assignment["host"], **own} for vm, own in assignment["vms"].items()}


def running_here(*, host: Host) -> QuerySet[VirtualMachine]:
    """The VMs that hold the host's resources now. For the operator's pages and for services."""
    return running_vms(host=host)


def names_shown(user: User, conflict: Conflict) -> list[str]:
    """The VMs of a conflict that the person may know: all for operators, else its own; neighbours are not named."""
    mine = set(user.tenant_slugs)
    return sorted(vm.name for vm in conflict.vms.all() if user.sees_site or vm.tenant.slug in mine)


def conflicts_shown(*, user: User, conflicts: ConflictQuerySet) -> list[dict[str, Any]]:
    """Conflicts as lists show them: how grave, about which of the VMs that the person may know, with what evidence."""
    return [
        {
            "conflict": conflict,
            "severity": wording.severity_words(conflict),
            "tone": wording.SEVERITY_TONES.get(conflict.severity, "accent"),
            "when": WHEN.get(conflict.trigger, conflict.trigger),
            "vms": names_shown(user, conflict),
            "facts": [
                (name.replace("_", " "), wording.evidence_words(value))
                for name, value in conflict.evidence.items()
                if value
            ],
        }
        for conflict in conflicts.prefetch_related(Prefetch("vms", VirtualMachine.objects.select_related("tenant")))
    ]


def room_of(*, user: User, negotiation: Negotiation, vm: str = "") -> Room:
    """The room for one of the person's VMs (if none is named the one that wants to start, else the first); for a VM of
    somebody else it is missing."""
    seats = list(negotiation.seats.select_related("vm__tenant").order_by("vm__name"))
    slugs = set(user.tenant_slugs)
    own = [seat.vm.name for seat in seats if seat.vm.tenant.slug in slugs]
    if not seats and negotiation.requester.tenant.slug in slugs:  # it waits its turn: nobody is seated yet
        own = [negotiation.requester.name]
    if not own or (vm and vm not in own):
        raise missing()
    first = negotiation.requester.name if negotiation.requester.name in own else own[0]
    return Room(negotiation, seats, messages_of(negotiation), vm or first, own)


def mediator_room_of(*, user: User, negotiation: Negotiation) -> Room:
    """The operator's view: what is proposed and who has answered, no own part."""
    if not user.sees_site:
        raise missing()
    seats = list(negotiation.seats.select_related("vm__tenant").order_by("vm__name"))
    return Room(negotiation, seats, messages_of(negotiation), None)


def messages_of(negotiation: Negotiation) -> list[Message]:
    return list(negotiation.messages.select_related("vm", "by"))


def history_of(*, user: User, negotiation: Negotiation) -> list[dict[str, Any]]:
    """What happened in the negotiation, as the log tells this person, oldest first."""
    entries = entries_of(user=user, subject=f"negotiation:{negotiation.pk}").order_by("seq")[:HISTORY]
    told = []
    for entry in entries:
        item = shown(entry, {})
        if item["type"] != "negotiation.answer":  # the same by pseudonym follows it
            told.append(
                {
                    "at": item["at"],
                    "type": item["type"],
                    "words": sentence(item["type"], item["data"]) or title(item["type"]),
                }
            )
    return told
