"""What a negotiation's events come to as notices: one for each VM concerned, told to its own people only.

Beside pseudonyms each names only the reader's own VM; the sentences stand in webapp.notices.wording.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from webapp.agreements.models import Negotiation, Rung, Seat
from webapp.notices.services import tell
from webapp.tenants.models import VirtualMachine

State = Negotiation.State
CONFLICTS = "/tenant/conflicts/"


def room(negotiation: Negotiation) -> str:
    return f"/tenant/negotiation/{negotiation.pk}/"


def seats_of(negotiation: Negotiation) -> list[Seat]:
    return list(negotiation.seats.select_related("vm__tenant").order_by("pk"))


def parties_of(negotiation: Negotiation) -> list[VirtualMachine]:
    """Everyone seated; before anyone is, the VM that wants to start."""
    return [seat.vm for seat in seats_of(negotiation)] or [negotiation.requester]


def told(code: str, negotiation: Negotiation, vm: VirtualMachine, key: str, *, by: Any = None, **data: Any) -> None:
    tell(
        code,
        tenant=vm.tenant.slug,
        key=f"negotiation:{negotiation.pk}:{vm.name}:{key}",
        subject=vm.name,
        link=room(negotiation),
        by=by,
        vm=vm.name,
        number=negotiation.pk,
        **data,
    )


def conflicts_found(*, vms: Iterable[VirtualMachine], key: str) -> None:
    """A check found conflicts: each VM is told how many concern it. `vms` names one as often as it has conflicts."""
    found: dict[str, list[VirtualMachine]] = {}
    for vm in vms:
        found.setdefault(vm.name, []).append(vm)
    for name, rows in sorted(found.items()):
        slug = rows[0].tenant.slug
        where = f"{key}:{name}"
        tell("conflict.found", tenant=slug, key=where, subject=name, link=CONFLICTS, vm=name, count=len(rows))


def clock(moment: str | dt.datetime | None) -> str:
    """A time of the protocol as a sentence says it."""
    if isinstance(moment, dt.datetime):
        return f"{moment:%Y-%m-%d %H:%M}"
    return (moment or "")[:16].replace("T", " ")


def proposal_waits(negotiation: Negotiation, state: Mapping[str, Any]) -> None:
    """A new proposal: those whose delegate has not answered for them are asked."""
    for seat in seats_of(negotiation):
        until = state["deadlines"].get(seat.vm.name)
        if until is not None and seat.vm.name not in state["answers"]:
            told("proposal", negotiation, seat.vm, f"{state['round']}", round=state["round"], until=clock(until))


def deadline_soon(negotiation: Negotiation, state: Mapping[str, Any]) -> None:
    for seat in seats_of(negotiation):
        until = state["deadlines"].get(seat.vm.name)
        if until is not None and seat.vm.name not in state["answers"]:
            told("deadline.soon", negotiation, seat.vm, f"{state['round']}", round=state["round"], until=clock(until))


def deadline_passed(negotiation: Negotiation, before: Mapping[str, Any], answered: set[str], now: str) -> None:
    """Those who were asked and said nothing until their time was over."""
    if before.get("state") != State.PROPOSED:
        return
    silent = {vm for vm, until in before["deadlines"].items() if vm not in before["answers"] and now >= until}
    for seat in seats_of(negotiation):
        if seat.vm.name in silent - answered:
            told("deadline.passed", negotiation, seat.vm, f"{before['round']}", round=before["round"])


def answer_given(negotiation: Negotiation, seat: Seat, answer: str, *, by: Any) -> None:
    """The others learn what a party answered, by its pseudonym, as the room shows it."""
    for other in seats_of(negotiation):
        if other.pk != seat.pk:
            key = f"{negotiation.round}:{seat.pseudonym}"
            said = {"party": seat.pseudonym, "round": negotiation.round}
            told(f"answer.{answer}", negotiation, other.vm, key, by=by, **said)


def ended(negotiation: Negotiation, state: str, *, by: Any) -> None:
    code = "withdrawn" if state == State.WITHDRAWN else "ended"
    for vm in parties_of(negotiation):
        told(code, negotiation, vm, "end", by=by)


def in_force(negotiation: Negotiation, before: Negotiation | None, *, version: int) -> None:
    """The agreement holds for those seated; those of the one before who are not seated here learn that they left."""
    host = negotiation.host.name
    old = {vm.pk: vm for vm in parties_of(before)} if before is not None else {}
    for vm in parties_of(negotiation):
        code = "agreement.replaced" if old.pop(vm.pk, None) else "agreement.made"
        told(code, negotiation, vm, "in_force", host=host, version=version)
    for vm in old.values():
        told("agreement.left", before or negotiation, vm, f"left:{negotiation.pk}", host=host)


def move_asked(rung: Rung) -> None:
    host = rung.host.name if rung.host else ""
    slug, name = rung.vm.tenant.slug, rung.vm.name
    tell("move.asked", tenant=slug, key=f"rung:{rung.pk}", subject=name, link="/tenant/", vm=name, host=host)


def move_answered(rung: Rung, *, consent: bool) -> None:
    code = "move.agreed" if consent else "move.refused"
    told(code, rung.negotiation, rung.negotiation.requester, f"rung:{rung.pk}")
