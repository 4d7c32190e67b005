"""Agree: a start is checked, a negotiation decides, an agreement is signed and put in force. Every write is audited."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.agreements import maintenance, replies, steps, telling, wording
from webapp.agreements.conflicts import conflict_record
from webapp.agreements.inputs import newest_documents
from webapp.agreements.models import Agreement, Conflict, Message, Negotiation, Seat
from webapp.agreements.selectors import agreement_in_force
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host, Placement
from webapp.fleet.services import expect_in_service
from webapp.roles import must
from webapp.tenants import quotas
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import expect_own, missing
from webapp.tenants.services import document_of
from webapp.vpms import protocol

if TYPE_CHECKING:
    from webapp.accounts.models import User

__all__ = [
    "agreement_put_in_force",
    "answer",
    "auto_accept",
    "conflict_record",
    "counter_preview",
    "negotiation_advance",
    "move_request",
    "negotiation_give_up",
    "size_of",
    "start_request",
    "withdraw",
]
State = Negotiation.State
Vm = VirtualMachine.State
MOST_STEPS = 20  # of one call; a negotiation needs far fewer
UNCONTESTED = ("no_static_conflict_now", "possible_when_running")


@transaction.atomic
def start_request(*, by: User, vm: VirtualMachine, home: Host | None = None) -> Negotiation:
    """The VM wants to run: it is held, the start check is made, and a negotiation decides. Nobody who runs is touched.

    While another start on the host is being settled this one waits its turn as a draft. With `home` the VM tries a
    host away from it, and is placed there again if this comes to nothing.
    """
    expect_own(by=by, tenant=vm.tenant.slug)
    quotas.lock(vm.tenant_id)
    row = (
        VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant", "placement__host").get(pk=vm.pk)
    )
    expect_own(by=by, tenant=row.tenant.slug)
    if row.state != Vm.STOPPED:
        raise VpmsError("not_stopped", 409, message=f"{row.name} is {row.state}; only a stopped VM can be started.")
    if Negotiation.objects.filter(requester=row, moves=True, state__in=Negotiation.OPEN).exists():
        raise VpmsError("moving", 409, message=f"{row.name} is being moved to another host; it starts there by itself.")
    placement = getattr(row, "placement", None)
    if placement is None:
        raise VpmsError("not_placed", 409, message=f"{row.name} has no host yet.")
    mib = newest_documents([row])[row.name]["size"]["memory_mib"]
    # One start after the other draws the order of a host, so two pressed at once do not both believe to be first.
    host = Host.objects.select_for_update().get(pk=placement.host_id)
    expect_in_service(host)
    maintenance.expect_open(host=host, vm=row)
    expect_room(host=host, vm=row)
    for quota, more in (("starts", 1), ("running", 1), ("memory", mib)):
        quotas.expect(quota, tenant_id=row.tenant_id, more=more)
    VirtualMachine.objects.filter(pk=row.pk).update(state=Vm.HELD, memory_mib=mib)
    vm.state = row.state = Vm.HELD
    Conflict.objects.filter(vms=row, trigger="run", closed_at__isnull=True).update(closed_at=timezone.now())
    Conflict.objects.filter(negotiation__requester=row, closed_at__isnull=True).update(closed_at=timezone.now())
    return opened(by=by, vm=row, host=host, home=home)


@transaction.atomic
def move_request(*, by: User, vm: VirtualMachine, host: Host) -> Negotiation:
    """The owner consents that the running VM moves to this host, if all there agree. It runs on where it is until the
    agreement there is signed; if there is none, nothing has changed."""
    row = (
        VirtualMachine.objects.select_for_update(of=("self",)).select_related("tenant", "placement__host").get(pk=vm.pk)
    )
    expect_own(by=by, tenant=row.tenant.slug)
    if row.state != Vm.RUNNING:
        raise VpmsError("not_running", 409, message=f"{row.name} is {row.state}; only a running VM can be moved.")
    target = Host.objects.select_for_update().get(pk=host.pk)
    expect_in_service(target)
    maintenance.expect_open(host=target, vm=row)
    expect_room(host=target, vm=row)
    return opened(by=by, vm=row, host=target, home=row.placement.host, moves=True)


def opened(*, by: User, vm: VirtualMachine, host: Host, home: Host | None = None, moves: bool = False) -> Negotiation:
    """A negotiation about the host, begun at once if no other start there is being settled."""
    negotiation = Negotiation.objects.create(
        host=host, requester=vm, requested_by=by, home=home, moves=moves, due_at=timezone.now()
    )
    data = {"host": host.name, "vm": vm.name}
    steps.record(negotiation, type="negotiation.opened", data=data, audience=[vm.tenant.slug], by=by)
    maintenance.asked_to_join(vm=vm, host=host)
    if steps.waits(negotiation):
        steps.tell(negotiation, [vm.tenant.slug])
        return negotiation
    begin(negotiation)
    return fresh(negotiation)


def expect_room(*, host: Host, vm: VirtualMachine) -> None:
    """Nobody starts beside a VM that has the host to itself, nor such a VM beside others."""
    others = Placement.objects.filter(host=host).exclude(vm=vm).exclude(vm__state=Vm.STOPPED)
    own = Placement.objects.filter(vm=vm, host=host, alone=True)
    if others.filter(alone=True).exists():
        raise VpmsError("host_taken", 409, message=f"{host.name} is given to one VM alone; choose another host.")
    if own.exists() and others.exists():
        raise VpmsError("host_taken", 409, message=f"{host.name} is no longer empty; it cannot be had alone now.")


def begin(negotiation: Negotiation) -> bool:
    """The start check. Without a static conflict nothing of the requester's wishes is contested, so that its press of
    the button is its acceptance; everyone else is asked as far as anything changes for them."""
    state = steps.drafted(negotiation)
    if state["state"] == State.PROPOSED and state["check"]["status"] in UNCONTESTED:
        user = negotiation.requested_by.alias
        accept = {"type": "accept", "sender": negotiation.requester.name, "k": state["round"], "user": user}
        state = protocol.apply_message(state, accept, steps.now_text())
    return steps.keep(negotiation, state)


def fresh(negotiation: Negotiation) -> Negotiation:
    return Negotiation.objects.select_related("host", "home", "requester__tenant", "requested_by").get(
        pk=negotiation.pk
    )


def negotiation_advance(*, negotiation_id: int) -> Negotiation:
    """Whatever is due by the server's clock is done: answers that came are taken up, silence is counted at the
    deadline, settlements are sought and signed. It stops where only people can go on, or at SIGNED, or at the end."""
    negotiation = fresh(Negotiation(pk=negotiation_id))
    for _step in range(MOST_STEPS):
        if not step(negotiation):
            break
        negotiation = fresh(negotiation)
    return negotiation


def step(negotiation: Negotiation) -> bool:
    """One move of the protocol. False: nothing is left to do now."""
    if negotiation.state == State.DRAFT:
        if steps.waits(negotiation):
            rest(negotiation, timezone.now() + dt.timedelta(seconds=steps.TURN_SECONDS))
            return False
        with transaction.atomic():
            begin(negotiation)
        return True
    before = negotiation.protocol
    handled: list[Message] = []
    state = before
    if negotiation.state == State.DETECTED:
        state = steps.proposed(before)
    elif negotiation.state == State.ACCEPTED_ALL:
        state = steps.signed(before, negotiation)
    elif negotiation.state == State.PROPOSED:
        handled = list(negotiation.messages.filter(handled=False).select_related("vm", "by"))
        for message in handled:
            state = steps.answered(state, message)
        state = protocol.expire(state, steps.now_text())
    if state == before and not handled:
        if negotiation.state == State.SIGNED:
            return False
        until = steps.looked_at(negotiation, state)
        if until != negotiation.deadline_at and until and until <= timezone.now():
            steps.remind(negotiation)
            return True
        rest(negotiation, until)
        return False
    steps.keep(negotiation, state, handled)
    return True


def rest(negotiation: Negotiation, until: dt.datetime | None) -> None:
    """Nothing to do before that; unless something was stored meanwhile."""
    rows = Negotiation.objects.filter(pk=negotiation.pk, version=negotiation.version)
    rows.update(due_at=until, enqueued_at=None, attempts=0)


@transaction.atomic
def answer(
    *,
    by: User,
    negotiation: Negotiation,
    vm: VirtualMachine,
    round: int,
    version: int,
    accept: bool,
    reason: str,
    suggestion: Mapping[str, str] | None = None,
) -> Negotiation:
    """Store a person's answer to exactly the proposal that was seen; the worker takes it up.

    A rejection has a reason, a counter also a suggestion `{switch: value}`. An answer to something else than what
    stands now is refused with 409 and the difference. Given twice, the same answer is stored once.
    """
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "home", "requester__tenant")
        .get(pk=negotiation.pk)
    )
    seat = seat_of(row, by=by, vm=vm)
    given = row.messages.filter(vm=seat.vm, round=round).first()
    if given is not None and round == row.round:
        if given.accept == accept:
            return row
        raise VpmsError("already_answered", 409, message=f"{seat.vm.name} has already answered this proposal.")
    expect_current(row, vm=seat.vm.name, round=round, version=version)
    stored = row.protocol["answers"].get(seat.vm.name)
    if stored is not None:
        if accept:
            return row
        raise VpmsError("already_answered", 409, message=f"Your delegate has accepted for {seat.vm.name}.")
    changes = {} if accept else reply_checked(row, seat.vm.name, reason, suggestion)
    try:
        with transaction.atomic():
            Message.objects.create(
                negotiation=row,
                vm=seat.vm,
                by=by,
                round=round,
                accept=accept,
                reason="" if accept else reason,
                suggestion=changes,
                sent_at=timezone.now(),
            )
    except IntegrityError:  # the same person twice at the same moment
        return row
    Negotiation.objects.filter(pk=row.pk).update(version=F("version") + 1, due_at=timezone.now(), enqueued_at=None)
    words = wording.COUNTERED if changes else wording.ANSWER_WORDS[accept]
    slug = seat.vm.tenant.slug
    touched = {"settings": sorted(wording.switch_of(issue) for issue in changes)} if changes else {}
    steps.record(
        row,
        type="negotiation.answer",
        # Operators read the log: no minimum, and of a suggestion only which settings it touches.
        data={"vm": seat.vm.name, "answer": words, "round": round, "reason": reason.partition(":")[0], **touched},
        audience=[slug],
        by=by,
    )
    data = {"party": seat.pseudonym, "answer": words, "round": round}
    steps.record(row, type="negotiation.party", data=data, audience=steps.audience_of(row))
    telling.answer_given(row, seat, "countered" if changes else "accepted" if accept else "rejected", by=by)
    steps.tell(row, steps.audience_of(row))
    return fresh(row)


@transaction.atomic
def auto_accept(
    *, by: User, negotiation: Negotiation, vm: VirtualMachine, floor: int | None, round: int, version: int
) -> Negotiation:
    """From now on, and in this negotiation only, what keeps the VM's musts and `floor` of 1000 points of its wishes is
    accepted for it, the proposal on the table too. None: its people are asked again; what was accepted stays so.

    Below the floor a person is asked as before: it rejects nothing, so it narrows nobody's proposals.
    """
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "home", "requester__tenant")
        .get(pk=negotiation.pk)
    )
    seat = seat_of(row, by=by, vm=vm)
    if floor is not None or row.state != State.PROPOSED:  # to be asked again is safe whatever is on the table now
        expect_current(row, vm=seat.vm.name, round=round, version=version)
    if floor is not None and not 0 <= floor <= 1000:
        raise BadInput([Fault("$.floor", _("must lie between 0 % and 100 %"))])
    before = row.protocol.get("bounds", {}).get(seat.vm.name, {}).get("floor")
    if before == floor:
        return row
    if row.messages.filter(vm=seat.vm, handled=False, accept=False).exists():
        message = _("Your rejection for %(vm)s is being taken up. Set this when the next proposal is there.")
        raise VpmsError("already_answered", 409, message=message % {"vm": seat.vm.name})
    sent = {"type": "bound", "sender": seat.vm.name, "floor": floor, "user": by.alias}
    state = protocol.apply_message(row.protocol, sent, steps.now_text())
    steps.told_bound(row, seat.vm.name, "revoked" if floor is None else "set", row.round, by=by)
    steps.keep(row, state, by=by)
    # Answers of others may wait to be taken up: the step that was stored here must not put them off.
    Negotiation.objects.filter(pk=row.pk, state__in=Negotiation.OPEN).update(due_at=timezone.now(), enqueued_at=None)
    return fresh(row)


def seat_of(row: Negotiation, *, by: User, vm: VirtualMachine) -> Seat:
    """The VM's seat, for people of its tenant; for all others it is missing."""
    seat = row.seats.filter(vm=vm, vm__tenant__slug__in=by.tenant_slugs).select_related("vm__tenant").first()
    if seat is None:
        raise missing()
    must(by, "act", tenant=seat.vm.tenant.slug)
    return seat


def expect_current(row: Negotiation, *, vm: str, round: int, version: int) -> None:
    """Refused with 409 and the difference unless this round, seen at this version, is what stands now."""
    if row.state != State.PROPOSED or round != row.round or not row.proposed_at_version <= version <= row.version:
        difference = wording.difference(row, round=round, vm=vm)
        raise VpmsError("outdated", 409, {"difference": difference}, "Changed since you opened it. " + difference)


def counter_preview(
    *,
    by: User,
    negotiation: Negotiation,
    vm: VirtualMachine,
    round: int,
    version: int,
    reason: str,
    suggestion: Mapping[str, str],
) -> dict[str, str]:
    """The changes that this counter would ask for, refused for the same reasons as when it is sent. Nothing is stored,
    and nothing is told of what the others could accept."""
    row = fresh(negotiation)
    seat = seat_of(row, by=by, vm=vm)
    expect_current(row, vm=seat.vm.name, round=round, version=version)
    return reply_checked(row, seat.vm.name, reason, suggestion)


def reply_checked(row: Negotiation, vm: str, reason: str, suggestion: Mapping[str, str] | None) -> dict[str, str]:
    """The suggested changes of a rejection that the protocol will take, none for a plain one; else BadInput."""
    state = row.protocol
    if suggestion is None:
        replies.reason_of(reason, state, vm)
        return {}
    if state["round"] >= protocol.ROUNDS:
        message = f"Proposal {protocol.ROUNDS} is the last one; it can be accepted or rejected, not countered."
        raise VpmsError("last_round", 409, message=message)
    return replies.suggestion_of(suggestion, reason, state, vm, steps.now_text())


@transaction.atomic
def withdraw(*, by: User, negotiation: Negotiation) -> Negotiation:
    """The requester no longer wants to start. Everybody else keeps everything as it was."""
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "home", "requester__tenant")
        .get(pk=negotiation.pk)
    )
    expect_own(by=by, tenant=row.requester.tenant.slug)
    if row.state == State.DRAFT:
        stop_unsettled(row, State.WITHDRAWN, wording.WITHDRAWN, by=by)
        return fresh(row)
    message = {"type": "withdraw", "sender": row.requester.name}
    steps.keep(row, protocol.apply_message(row.protocol, message, steps.now_text()), by=by)
    return fresh(row)


@transaction.atomic
def negotiation_give_up(*, negotiation_id: int, reason: str) -> Negotiation:
    """A negotiation that could not be worked on ends without agreement; the newcomer is stopped, nobody is touched."""
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "home", "requester__tenant")
        .get(pk=negotiation_id)
    )
    if row.state in Negotiation.OPEN:
        stop_unsettled(row, State.NO_AGREEMENT, reason, by=None)
    return fresh(row)


def stop_unsettled(row: Negotiation, state: str, reason: str, *, by: Any) -> None:
    """End a negotiation from outside the protocol, inside the caller's transaction."""
    Negotiation.objects.filter(pk=row.pk).update(
        state=state,
        reason=reason,
        due_at=None,
        deadline_at=None,
        ended_at=timezone.now(),
        version=F("version") + 1,
    )
    audience = steps.audience_of(row)
    data = {"state": State(state).value, "round": row.round}
    steps.record(row, type="negotiation.state", data=data, audience=audience, by=by)
    steps.end(row, reason=reason, audience=audience)
    telling.ended(row, state, by=by)
    steps.tell(row, audience)


@transaction.atomic
def agreement_put_in_force(*, negotiation: Negotiation) -> Agreement:
    """From this moment exactly this version binds the host; the one before is superseded. All or nothing, and only for
    an agreement that all have signed and that follows the one in force."""
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "home", "requester__tenant")
        .get(pk=negotiation.pk)
    )
    if row.state != State.SIGNED:
        raise VpmsError("not_signed", 409, message="Only an agreement that all have signed can be put in force.")
    agreement = Agreement.objects.select_for_update().get(negotiation=row)
    before = agreement_in_force(host=row.host)
    if (before.digest if before else None) != row.protocol["agreement"]["previous"]:
        raise VpmsError("outdated", 409, message="Another agreement was put in force meanwhile.")
    audience = steps.audience_of(row)
    if before is not None:
        Agreement.objects.filter(pk=before.pk).update(in_force=False)
        Negotiation.objects.filter(pk=before.negotiation_id).update(state=State.SUPERSEDED, version=F("version") + 1)
        steps.tell(before.negotiation, [])
    agreement.in_force = True
    agreement.save(update_fields=["in_force"])
    state = protocol.apply_message(row.protocol, {"type": "enforced", "sender": protocol.MEDIATOR}, steps.now_text())
    Negotiation.objects.filter(pk=row.pk).update(
        state=State.ENFORCED,
        protocol=state,
        due_at=None,
        ended_at=timezone.now(),
        version=F("version") + 1,
    )
    Conflict.objects.filter(negotiation=row, closed_at__isnull=True).update(closed_at=timezone.now())
    data = {"version": agreement.version, "digest": agreement.digest, "host": row.host.name}
    steps.record(row, type="agreement.in_force", data=data, audience=audience)
    telling.in_force(row, before.negotiation if before else None, version=agreement.version)
    steps.next_turn(row)
    steps.tell(row, audience)
    return agreement


def size_of(*, vm: VirtualMachine) -> dict[str, Any]:
    """The size in the newest wishes for the VM: vcpus and memory_mib."""
    newest = vm.policies.first()
    if newest is None:
        raise VpmsError("no_wishes", 409, message=f"{vm.name} has no wishes yet.")
    size: dict[str, Any] = document_of(newest)["size"]
    return size
