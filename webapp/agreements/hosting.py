"""The operator's side of a host: its document edited, a change of the platform reported, the host retired.

What the operator wants (an edit) may not contradict what is in force for those who run there; the refusal says what
stands against it. What has happened to the machine (a fact) cannot be refused: everything in force is checked anew,
those who lose by it are told, and nothing that runs is stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.agreements import checks, selectors, services
from webapp.agreements.conflicts import conflict_record
from webapp.agreements.models import Agreement, Conflict, Negotiation
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet import services as fleet
from webapp.fleet.models import Host, HostVersion, Placement
from webapp.fleet.selectors import document_of, running_vms
from webapp.live import publish
from webapp.notices.services import tell
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.services import document_of as wishes_of
from webapp.vpms import documents, enforcement
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import RESOURCES, SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User

# Values whose worth rests on a platform that proves what it runs. A choice of this model: the document says only
# whether the host is attested.
ON_PROOF: Final = (
    ("memory_protection", "snp_tdx"),
    ("memory_protection", "hsvm"),
    ("memory_protection", "sev"),
    ("introspection", "attested_probe"),
    ("live_migration", "same_zone_attested"),
)
NEGOTIATED: Final = ("capabilities", "capacity", "zone", "attested", "per_vm", "departed")  # what a settlement rests on
OF_OPERATOR: Final = ("law", "offers", "preferences")
WORDS: Final = {
    "cores": "own cores",
    "key_slots": "keys for encrypted memory",
    "cache_ways": "own parts of the cache",
    "bandwidth_pct": "percent of reserved memory speed",
    "hugepage_mib": "MiB of huge pages",
    "locked_mib": "MiB that are never swapped out",
}


class Broken(NamedTuple):
    """Something in force that a document does not leave possible, and for whom."""

    switch: str
    value: str
    text: str
    vms: tuple[str, ...]
    proof: bool = False  # the value stays possible, but nothing proves it any more

    def as_dict(self) -> dict[str, Any]:
        return {"setting": SWITCHES[self.switch].label, "switch": self.switch, "text": self.text, "vms": [*self.vms]}


class InForce(NamedTuple):
    """What binds the host now: its agreement, and for each VM on it the values in force and the wishes agreed with."""

    agreement: Agreement | None
    assignment: Mapping[str, Any]
    values: dict[str, dict[str, str]]
    policies: list[documents.Policy]
    vms: dict[str, VirtualMachine]


def in_force(host: Host) -> InForce:
    """Read once. A VM that is stopped is bound by nothing: its next start makes a new agreement."""
    vms = {vm.name: vm for vm in running_vms(host=host)}
    agreement = selectors.agreement_in_force(host=host)
    if agreement is None:
        return InForce(None, {"host": {}, "vms": {}}, {}, [], vms)
    predicate = selectors.predicate_of(agreement)
    values = {name: view for name, view in selectors.values_of(agreement).items() if name in vms}
    agreed = {row["id"]: row["policy_version"] for row in predicate["parties"] if row["id"] in values}
    rows = Policy.objects.filter(vm__name__in=agreed).select_related("vm").order_by("vm__name")
    policies = [documents.read_policy(wishes_of(row)) for row in rows if row.version == agreed[row.vm.name]]
    return InForce(agreement, predicate["assignment"], values, policies, vms)


# -- what a document leaves of it


def broken_by(now: InForce, old: documents.Host, new: documents.Host) -> list[Broken]:
    """Everything in force that the new document does not leave possible: values, sums, and what is one for all."""
    if now.agreement is None or not now.values:
        return []
    return [*lost_values(now, old, new), *too_little(now, old, new), *shared_anew(now, new)]


def lost_values(now: InForce, old: documents.Host, new: documents.Host) -> list[Broken]:
    """Values in force that the host could give before and cannot give now, as the gate judges a loss."""
    gone = [(switch, value, False) for switch in SWITCHES for value in _gone(old.offered(switch), new.offered(switch))]
    if old.attested and not new.attested:
        gone += [(switch, value, True) for switch, value in ON_PROOF if (switch, value, False) not in gone]
    found = []
    for switch, value, proof in gone:
        event = {"kind": "capability_lost", "switch": switch, "value": value}
        decision = enforcement.decide(event=event, values=now.values)
        if decision.decision == "breach":
            words = "rests on a host that proves what it runs" if proof else "would not be possible any more"
            found.append(Broken(switch, value, f"{labelled(switch, value)} {words}", decision.holders, proof))
    return found


def _gone(old: Iterable[str], new: Iterable[str]) -> list[str]:
    left = set(new)
    return [value for value in old if value not in left]


def labelled(switch: str, value: str) -> str:
    """A setting and its value in the words of the questions."""
    found = SWITCHES[switch]
    label = next(each.label for each in found.values if each.name == value)
    return f"“{found.label}: {label}”"


def too_little(now: InForce, old: documents.Host, new: documents.Host) -> list[Broken]:
    """Resources of which those who run hold more than there would be. What was too little before is not said again."""
    before, after = (Situation(now.policies, host, checks.policy_time(timezone.now())) for host in (old, new))
    found = []
    for resource in RESOURCES:
        held = {
            vm: amount
            for vm in after.vms
            if vm in now.values and (amount := after.use(resource, vm, now.values[vm][resource.switch]))
        }
        there = new.capacity[resource.capacity]
        if sum(held.values()) > there and there < old.capacity[resource.capacity]:
            text = f"{sum(held.values())} {WORDS[resource.name]} are promised; there would be {there}"
            found.append(Broken(resource.switch, "", text, tuple(sorted(held))))
    promised = next(iter(now.values.values()))["overcommit"]
    if before.memory_fits(promised) and not after.memory_fits(promised):
        amount = sum(policy.size["memory_mib"] for policy in now.policies)
        text = f"{amount} MiB of memory are promised; there would be {new.capacity['memory_mib']}"
        found.append(Broken("overcommit", promised, text, tuple(sorted(now.values))))
    return found


def shared_anew(now: InForce, new: documents.Host) -> list[Broken]:
    """Settings that would be one for all instead of one for each VM, or the other way, while they are agreed on."""
    found = []
    for switch in SWITCHES:
        agreed_for_all = switch in now.assignment["host"]
        if new.is_shared(switch) != agreed_for_all:
            words = "one for each VM" if agreed_for_all else "one for all VMs"
            was = "one for all" if agreed_for_all else "agreed for each VM"
            text = f"“{SWITCHES[switch].label}” would be {words}; it is {was}"
            found.append(Broken(switch, "", text, tuple(sorted(now.values))))
    return found


def listed(now: InForce, broken: Iterable[Broken]) -> list[dict[str, Any]]:
    """The agreements with what in each stands against a document, as pages and programs read it."""
    rows = [row.as_dict() for row in broken]
    if now.agreement is None or not rows:
        return []
    agreement = now.agreement
    name = {"agreement": agreement.agreement, "version": agreement.version, "id": agreement.pk}
    return [{**name, "digest": agreement.digest, "broken": rows}]


# -- an edit


@transaction.atomic
def host_edit(*, by: User, host: Host, document: bytes | dict[str, Any], seen: int | None = None) -> Host:
    """The next version of the host's document. Refused whole, and nothing stored, where an agreement in force would not
    hold under it, or where a start is being negotiated under the present one."""
    row = _locked(by, host)
    if seen is not None:
        fleet.expect_seen(host=row, seen=seen, document=document)
    expect_possible(row, fleet.host_read(document, host=row))
    return fleet.host_save(by=by, host=row, document=document)


def expect_possible(host: Host, new: documents.Host) -> None:
    """Refused with 409 where something in force or under negotiation stands against this document."""
    old = documents.read_host(host.document)
    now = in_force(host)
    agreements = listed(now, broken_by(now, old, new))
    if agreements:
        words = _(
            "This document contradicts what is agreed on %(host)s with VMs that run there, so nothing was saved. "
            "If it has already happened to the machine, report it as a change of the platform."
        )
        raise VpmsError("contradicts_agreements", 409, {"agreements": agreements}, words % {"host": host.name})
    if _rests_on(old) != _rests_on(new):
        open_ones = negotiated_now(host)
        if open_ones:
            words = _(
                "A start on %(host)s is being negotiated under the present document, so nothing was saved. "
                "Wait until it has ended; prices and planned acts can be changed meanwhile."
            )
            data = {"negotiations": [row.pk for row in open_ones]}
            raise VpmsError("negotiating", 409, data, words % {"host": host.name})


def negotiated_now(host: Host) -> list[Negotiation]:
    """Negotiations that rest on the host's present document. One that waits its turn reads it when it begins."""
    rows = Negotiation.objects.filter(host=host, state__in=Negotiation.OPEN)
    return list(rows.exclude(state=Negotiation.State.DRAFT).defer("protocol").order_by("pk"))


def _rests_on(host: documents.Host) -> list[Any]:
    """The parts of the document that decide what can be settled."""
    document, operator = host.document, host.document["operator"]
    return [*(document.get(name) for name in NEGOTIATED), *(operator.get(name) for name in OF_OPERATOR)]


def _locked(by: User, host: Host) -> Host:
    """The host's row, locked: a start on it is asked for before this or after it, not meanwhile."""
    fleet.expect_operator(by)
    row = Host.objects.select_for_update().get(pk=host.pk)
    fleet.expect_in_service(row)
    return row


# -- a fact


class Fact(NamedTuple):
    """What has happened to the platform: the host document after it, and what of the agreements does not hold."""

    document: dict[str, Any]
    agreements: list[dict[str, Any]]
    broken: list[Broken]
    regained: list[tuple[str, str]]


def fact_read(
    *, host: Host, attested: bool | None, lost: Iterable[tuple[str, str]], gained: Iterable[tuple[str, str]]
) -> Fact:
    """What this change would come to; nothing is stored. BadInput where it says nothing, or what cannot be said."""
    before = document_of(host)
    old = documents.read_host(before)
    lost, gained = set(lost), set(gained)
    faults = [
        Fault(f"$.{name}", f"{switch} has no value {value}")
        for name, pairs in (("lost", lost), ("gained", gained))
        for switch, value in sorted(pairs)
        if switch not in SWITCHES or value not in SWITCHES[switch].names
    ]
    if faults:
        raise BadInput(faults)
    after = {**before, "attested": old.attested if attested is None else attested}
    for switch in SWITCHES:
        can = [value for value in old.capabilities.get(switch, SWITCHES[switch].names) if (switch, value) not in lost]
        can += [value for value in SWITCHES[switch].names if (switch, value) in gained and value not in can]
        if set(can) != set(old.capabilities.get(switch, SWITCHES[switch].names)):
            after["capabilities"] = {**after.get("capabilities", {}), switch: can}
            after["operator"] = _still_offered(after["operator"], switch, can)
    if after == before:
        raise BadInput([Fault("$", _("nothing of the platform would be different; say what has changed"))])
    new = fleet.host_read(after, host=host)
    now = in_force(host)
    broken = broken_by(now, old, new)
    back = [(switch, value) for switch in SWITCHES for value in _gone(new.offered(switch), old.offered(switch))]
    if new.attested and not old.attested:
        back += [pair for pair in ON_PROOF if pair not in back]
    return Fact(after, listed(now, broken), broken, back)


def _still_offered(operator: Mapping[str, Any], switch: str, can: list[str]) -> dict[str, Any]:
    """The operator's offer less what the machine cannot give. Where nothing is left of it, all that is lawful and
    possible is offered: a document must offer something, and what has happened cannot be refused."""
    offers = dict(operator.get("offers", {}))
    if switch in offers:
        lawful = operator.get("law", {}).get(switch, SWITCHES[switch].names)
        left = [value for value in offers[switch] if value in can and value in lawful]
        if not left:
            del offers[switch]
    return {**operator, "offers": offers} if "offers" in operator else dict(operator)


@transaction.atomic
def fact_report(
    *,
    by: User,
    host: Host,
    reason: str,
    attested: bool | None = None,
    lost: Iterable[tuple[str, str]] = (),
    gained: Iterable[tuple[str, str]] = (),
) -> Fact:
    """The platform has changed: the document follows, every agreement on the host is checked anew, what no longer holds
    is a conflict of those who held it, and they are told. Nothing that runs is stopped or changed by this.

    A start that is being negotiated under the document before ends without agreement: it would promise what is gone.
    """
    row = _locked(by, host)
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= 200:
        raise BadInput([Fault("$.reason", _("say in 1 to 200 characters what has happened"))])
    fact = fact_read(host=row, attested=attested, lost=lost, gained=gained)
    now, negotiated = in_force(row), negotiated_now(row)
    fleet.host_save(by=by, host=row, document=fact.document, kind=HostVersion.Kind.FACT, reason=reason)
    for each in fact.broken:
        _record_loss(row, now, each)
    for switch, value in fact.regained:
        _close_loss(row, switch, value)
    for negotiation in negotiated:
        words = f"The platform of host {row.name} changed meanwhile; a new start is checked against it as it is now."
        services.negotiation_give_up(negotiation_id=negotiation.pk, reason=words)
    publish.wake_keeper()
    return fact


def _record_loss(host: Host, now: InForce, broken: Broken) -> None:
    """C26: a value in force was lost. Each VM that holds it has its own conflict, which names nobody else."""
    assert now.agreement is not None
    for name in broken.vms:
        vm = now.vms[name]
        told = broken.text.replace("would not be possible any more", "is no longer possible")
        text = (
            f"The platform of host {host.name} changed: {told}. The agreement says otherwise. {name} runs on; "
            "its owner can leave it so, stop it, move it, or start it anew under other terms."
        )
        event = {"kind": "capability_lost", "switch": broken.switch, "value": broken.value}
        if broken.proof:
            event = {"kind": "attestation_lost", "switch": broken.switch, "value": broken.value}
        evidence = {"event": event, "value_in_force": broken.value, "agreement": now.agreement.digest}
        conflict = conflict_record(
            host=host, vms=[vm], code="C26", severity="hard", switch=broken.switch, text=text, evidence=evidence
        )
        tell(
            "platform.lost",
            tenant=vm.tenant.slug,
            key=f"conflict:{conflict.pk}",
            subject=name,
            link=f"/tenant/vm/{name}/move/",
            vm=name,
            host=host.name,
            setting=SWITCHES[broken.switch].label,
        )


def _close_loss(host: Host, switch: str, value: str) -> None:
    """What was lost is there again: the conflict about it is over, and those who had it are told."""
    rows = Conflict.objects.filter(host=host, code="C26", switch=switch, closed_at__isnull=True)
    for row in rows.prefetch_related("vms__tenant"):
        if row.evidence.get("value_in_force") != value:
            continue
        Conflict.objects.filter(pk=row.pk).update(closed_at=timezone.now())
        for vm in row.vms.all():
            key, where = f"conflict:{row.pk}:over", f"/tenant/vm/{vm.name}/"
            label = SWITCHES[switch].label
            slug = vm.tenant.slug
            tell(
                "platform.back", tenant=slug, key=key, subject=vm.name, link=where, vm=vm.name, host=host.name,
                setting=label,
            )  # fmt: skip
            publish.changed(f"tenant/{slug}")


# -- its end


@transaction.atomic
def host_retire(*, by: User, host: Host) -> Host:
    """The host takes no VM from now on. Refused with the list while any VM lives there or is to start there: nobody is
    moved or stopped by this. Its agreements, runs and record stay."""
    row = _locked(by, host)
    placed = here(row)
    open_ones = Negotiation.objects.filter(host=row, state__in=Negotiation.OPEN).values_list(
        "requester__name", flat=True
    )
    coming = sorted(set(open_ones) - {each["vm"] for each in placed})
    if placed or coming:
        words = _(
            "%(host)s is not empty, so it was not retired. Its VMs must be moved or deleted by their owners first."
        )
        raise VpmsError("host_in_use", 409, {"vms": placed, "coming": coming}, words % {"host": row.name})
    return fleet.host_close(by=by, host=row)


def here(host: Host) -> list[dict[str, str]]:
    """Who lives on the host, for its operator: where it runs, or where it will start."""
    rows = Placement.objects.filter(host=host, vm__deleted_at__isnull=True).select_related("vm__tenant")
    return [
        {"vm": row.vm.name, "tenant": row.vm.tenant.slug, "state": row.vm.state} for row in rows.order_by("vm__name")
    ]
