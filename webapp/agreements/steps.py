"""One negotiation, one step: the protocol of the policy language is moved on, and what follows from it is stored.

A step is computed without a lock and stored by compare-and-set on the row's version. A message that came meanwhile
raises the version, so the step is computed again with it; nothing is lost and nothing is done twice.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from webapp.agreements import checks, telling, wording
from webapp.agreements.conflicts import conflict_record
from webapp.agreements.inputs import inputs_of
from webapp.agreements.keys import key_of, seed_of
from webapp.agreements.models import Agreement, Conflict, Message, Negotiation, Rung, Seat
from webapp.agreements.replies import reason_of
from webapp.agreements.selectors import agreement_in_force
from webapp.audit import services as audit
from webapp.errors import VpmsError
from webapp.fleet.services import place
from webapp.live import publish
from webapp.strictjson import canonical
from webapp.tenants.models import VirtualMachine
from webapp.vpms import agreement as language
from webapp.vpms import protocol
from webapp.vpms.formats import OPERATOR

State = Negotiation.State
Vm = VirtualMachine.State
SOLVER_SECONDS = 3.0
TURN_SECONDS = 2  # how often a start that waits its turn looks again
MOVE_FAILED = "No agreement was found for the neighbour at the other host, so it stays where it is."
ENDED = (State.NO_AGREEMENT, State.WITHDRAWN)
Protocol = dict[str, Any]


def now_text() -> str:
    return checks.policy_time(timezone.now())


# -- what the protocol says next; nothing is stored here


def drafted(negotiation: Negotiation) -> Protocol:
    """The protocol of a start, with everybody's newest wishes, checked."""
    host, vm = negotiation.host, negotiation.requester
    given = inputs_of(host=host, requester=vm)
    keys = {party.name: key_of(party.tenant).public for party in given.vms}
    before = agreement_in_force(host=host)
    last = Agreement.objects.filter(host=host).order_by("-version").first()
    state = protocol.draft(
        negotiation=str(negotiation.pk),
        requester=vm.name,
        host=given.host,
        policies=list(given.policies.values()),
        keys={**keys, OPERATOR: key_of(None).public},
        agreement_id=host.name,
        version=last.version + 1 if last else 1,
        previous=before.digest if before else None,
        pseudonym_seed=secrets.token_hex(16),
        seconds=SOLVER_SECONDS,
    )
    return protocol.apply_message(state, {"type": "check", "sender": protocol.MEDIATOR}, now_text())


def proposed(state: Protocol, seconds: int | None = None) -> Protocol:
    """Everyone is invited, commits to the stored wishes and reveals them to the mediator at once; then it is solved.
    Everyone has `seconds` to answer, as many as the site gives unless said otherwise."""
    now = now_text()
    deadline = protocol.later(now, seconds or settings.NEGOTIATION_DEADLINE_SECONDS)
    new = protocol.apply_message(state, {"type": "invite", "sender": protocol.MEDIATOR, "deadline": deadline}, now)
    nonces = {vm: secrets.token_hex(32) for vm in state["policies"]}
    for vm, policy in sorted(state["policies"].items()):
        digest = protocol.commitment(policy, nonces[vm])
        new = protocol.apply_message(new, {"type": "commit", "sender": vm, "digest": digest}, now)
    for vm, policy in sorted(state["policies"].items()):
        message = {"type": "reveal", "sender": vm, "policy": policy, "nonce": nonces[vm]}
        new = protocol.apply_message(new, message, now)
    return new


def signed(state: Protocol, negotiation: Negotiation) -> Protocol:
    """All parties sign exactly what they accepted, if the time for that is not over."""
    state = protocol.expire(state, now_text())
    if state["state"] != State.ACCEPTED_ALL:
        return state
    payload = language.payload_of(state["statement"])
    keys = {seat.vm.name: key_of(seat.vm.tenant) for seat in negotiation.seats.select_related("vm__tenant")}
    keys[OPERATOR] = key_of(None)
    for party, key in sorted(keys.items()):
        message = {"type": "sign", "sender": party, "digest": state["payload_sha256"]}
        state = protocol.apply_message(
            state, {**message, "signature": language.sign(payload, seed_of(key))}, now_text()
        )
    return state


def answered(state: Protocol, message: Message) -> Protocol:
    """The person's answer put to the protocol; one that it does not take (any more) changes nothing."""
    sent: dict[str, Any] = {"sender": message.vm.name, "k": message.round, "user": message.by.alias}
    try:
        if message.accept:
            sent["type"] = "accept"
        else:
            sent |= {"type": "reject", "reason": reason_of(message.reason, state, message.vm.name)}
        if message.suggestion:
            sent |= {"type": "counter", "assignment": message.suggestion}
        return protocol.apply_message(state, sent, now_text())
    except VpmsError:
        return state


# -- storing


@transaction.atomic
def keep(negotiation: Negotiation, state: Protocol, handled: Iterable[Message] = (), *, by: Any = None) -> bool:
    """Store the step and all that follows from it, only if nothing was stored meanwhile. False: compute it again."""
    now = timezone.now()
    deadline = deadline_of(state)
    new = State(state["state"])
    fresh_proposal = state["round"] != negotiation.round
    due = {State.DETECTED: now, State.ACCEPTED_ALL: now, State.SIGNED: now}.get(new, looked_at(negotiation, state))
    ended = new in ENDED
    changes: dict[str, Any] = {
        "state": new,
        "round": state["round"],
        "protocol": state,
        "reason": wording.ending(state) if ended else "",
        "deadline_at": deadline,
        "due_at": due,
        "enqueued_at": None,
        "attempts": 0,
        "version": F("version") + 1,
    }
    if fresh_proposal:
        changes["proposed_at_version"] = negotiation.version + 1
    if ended:
        changes["ended_at"] = now
    if not Negotiation.objects.filter(pk=negotiation.pk, version=negotiation.version).update(**changes):
        return False
    Message.objects.filter(pk__in=[message.pk for message in handled]).update(handled=True)
    if negotiation.state == State.DRAFT:
        seat_all(negotiation, state)
    audience = audience_of(negotiation)
    telling.deadline_passed(negotiation, negotiation.protocol, {message.vm.name for message in handled}, now_text())
    if fresh_proposal:
        disclose(negotiation, state, audience)
        telling.proposal_waits(negotiation, state)
    if new != negotiation.state or fresh_proposal:
        data = {"state": new.value, "round": state["round"]}
        record(negotiation, type="negotiation.state", data=data, audience=audience, by=by)
    for vm in bound_answers(negotiation, state):
        told_bound(negotiation, vm, "used", state["round"])
    if new == State.SIGNED:
        store_agreement(negotiation, state, audience)
    if ended:
        end(negotiation, reason=changes["reason"], audience=audience)
        telling.ended(negotiation, new, by=by)
    tell(negotiation, audience)
    return True


def bound_answers(negotiation: Negotiation, state: Protocol) -> list[str]:
    """The VMs whose delegate has accepted in this step because it keeps the bounds that a person set here."""
    before = negotiation.protocol.get("answers", {}) if state["round"] == negotiation.round else {}
    return [vm for vm, given in state["answers"].items() if given.get("bound") and vm not in before]


def told_bound(negotiation: Negotiation, vm: str, act: str, round: int, *, by: Any = None) -> None:
    """Bounds were set, revoked or used: an entry for the owner, without the figure, since operators read the log."""
    seat = Seat.objects.select_related("vm__tenant").get(negotiation=negotiation, vm__name=vm)
    data = {"vm": vm, "act": act, "round": round}
    record(negotiation, type="negotiation.bound", data=data, audience=[seat.vm.tenant.slug], by=by)
    if act == "used":
        party = {"party": seat.pseudonym, "answer": wording.ANSWER_WORDS[True], "round": round}
        record(negotiation, type="negotiation.party", data=party, audience=audience_of(negotiation))


def deadline_of(state: Protocol) -> dt.datetime | None:
    text = protocol.next_deadline(state)
    return protocol.moment(text) if text else None


def looked_at(negotiation: Negotiation, state: Protocol) -> dt.datetime | None:
    """When somebody must look again though nobody says anything: half-way to remind the silent, then the deadline."""
    deadline = deadline_of(state)
    if state["state"] != State.PROPOSED or deadline is None or negotiation.reminded == state["round"]:
        return deadline
    made = protocol.moment(state["proposals"][-1]["at"])
    return made + (deadline - made) / 2


@transaction.atomic
def remind(negotiation: Negotiation) -> None:
    """Half-way to the deadline everybody reads for whom the negotiation waits. Once for each proposal."""
    state = negotiation.protocol
    rows = Negotiation.objects.filter(pk=negotiation.pk, version=negotiation.version)
    if not rows.update(reminded=state["round"], version=F("version") + 1):
        return
    silent = sorted(alias for vm, alias in state["pseudonyms"].items() if vm not in state["answers"])
    audience = audience_of(negotiation)
    data = {"to": ", ".join(silent), "round": state["round"]}
    record(negotiation, type="negotiation.reminder", data=data, audience=audience)
    telling.deadline_soon(negotiation, state)
    tell(negotiation, audience)


def record(
    negotiation: Negotiation, *, type: str, data: dict[str, Any], audience: Iterable[str], by: Any = None
) -> None:
    audit.record(by=by, type=type, subject=f"negotiation:{negotiation.pk}", data=data, audience=audience)


def tell(negotiation: Negotiation, audience: Iterable[str]) -> None:
    publish.changed(f"negotiation/{negotiation.pk}")
    for slug in audience:
        publish.changed(f"tenant/{slug}")
    publish.changed("fleet")
    publish.wake_keeper()


def audience_of(negotiation: Negotiation) -> list[str]:
    """The tenants that take part: the requester's, and those of everyone seated."""
    seated = negotiation.seats.values_list("vm__tenant__slug", flat=True)
    return sorted({negotiation.requester.tenant.slug, *seated})


def seat_all(negotiation: Negotiation, state: Protocol) -> None:
    """Parties get their pseudonyms; the start check becomes conflicts and an entry of the log."""
    vms = {vm.name: vm for vm in VirtualMachine.objects.filter(name__in=state["policies"]).select_related("tenant")}
    Seat.objects.bulk_create(
        [Seat(negotiation=negotiation, vm=vms[name], pseudonym=alias) for name, alias in state["pseudonyms"].items()]
    )
    result = state["check"]
    against = result["checked_against"]
    # Everyone seated reads this entry: not which conflicts one party has with itself or the operator, nor how many.
    data = {
        "words": wording.STATUS_WORDS[result["status"]],
        "trigger": "start",
        "host_sha256": against["host_sha256"],
    }
    slugs = {vm.tenant.slug for vm in vms.values()}
    record(negotiation, type="check", data=data, audience=slugs)
    concerned: list[VirtualMachine] = []
    for conflict in result["conflicts"]:
        if conflict["severity"] in checks.BLOCKING:
            parties = [vms[party] for party in conflict["parties"] if party in vms]
            concerned += parties
            conflict_record(
                host=negotiation.host,
                vms=parties,
                code=conflict["code"],
                name=conflict["name"],
                severity=conflict["severity"],
                switch=conflict["switch"] or "",
                text=checks.finding_words(conflict),
                evidence={},  # a core names its owners; the room tells it without them
                trigger="start",
                negotiation=negotiation,
            )
    telling.conflicts_found(vms=concerned, key=f"negotiation:{negotiation.pk}")


def disclose(negotiation: Negotiation, state: Protocol, audience: list[str]) -> None:
    """What the new proposal shows to whom is written down: names of contested settings, never a wish itself."""
    contested = state["result"]["contested"]
    tenants = dict(negotiation.seats.values_list("vm__name", "vm__tenant__slug"))
    for vm, alias in sorted(state["pseudonyms"].items(), key=lambda row: row[1]):
        # What a VM contests with the operator alone is told to its owner and nobody else.
        for scope, readers in (("host", audience), (vm, [tenants[vm]])):
            seen = sorted(wording.switch_of(issue) for issue in contested if issue.partition("/")[0] == scope)
            if seen:
                data = {"to": alias, "what": ", ".join(seen), "round": state["round"]}
                record(negotiation, type="disclosure", data=data, audience=readers)
    data = {"to": "the operator", "what": "the assignment that it must enforce", "round": state["round"]}
    record(negotiation, type="disclosure", data=data, audience=audience)


def store_agreement(negotiation: Negotiation, state: Protocol, audience: list[str]) -> None:
    """The signed envelope as a row that binds nobody until it is put in force."""
    terms = state["agreement"]
    agreement = Agreement.objects.create(
        host=negotiation.host,
        negotiation=negotiation,
        agreement=terms["agreement"],
        version=terms["version"],
        envelope=canonical(state["envelope"]).decode(),
        digest=state["payload_sha256"],
        in_force=False,
    )
    data = {"version": agreement.version, "digest": agreement.digest, "previous": terms["previous"]}
    record(negotiation, type="agreement.signed", data=data, audience=audience)


def end(negotiation: Negotiation, *, reason: str, audience: list[str]) -> None:
    """No agreement: the newcomer is stopped again, nobody else is touched, and whoever waits its turn is looked at."""
    VirtualMachine.objects.filter(pk=negotiation.requester_id, state=Vm.HELD).update(state=Vm.STOPPED)
    if negotiation.home is not None and not negotiation.moves:
        place(by=None, vm=negotiation.requester, host=negotiation.home)
    for rung in Rung.objects.filter(next=negotiation, state=Rung.State.WAITING):  # a move that was to make room
        Rung.objects.filter(pk=rung.pk).update(state=Rung.State.REFUSED, reason=MOVE_FAILED, due_at=None)
        tell(rung.negotiation, [rung.negotiation.requester.tenant.slug])
    proposals = negotiation.protocol.get("proposals") if negotiation.protocol else None
    if proposals:  # otherwise nothing could be proposed at all: the conflict stands until the next start
        Conflict.objects.filter(negotiation=negotiation, closed_at__isnull=True).update(closed_at=timezone.now())
    record(negotiation, type="negotiation.ended", data={"reason": reason}, audience=audience)
    next_turn(negotiation)


def next_turn(negotiation: Negotiation) -> None:
    """Starts that wait for their turn on the host become due now."""
    waiting = Negotiation.objects.filter(host_id=negotiation.host_id, state=State.DRAFT).exclude(pk=negotiation.pk)
    waiting.update(due_at=timezone.now(), enqueued_at=None)


def waits(negotiation: Negotiation) -> bool:
    """Whether an earlier start on the same host is still being settled."""
    return Negotiation.objects.filter(
        host_id=negotiation.host_id, pk__lt=negotiation.pk, state__in=Negotiation.OPEN
    ).exists()
