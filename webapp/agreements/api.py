"""Agree by API: wishes and their check, conflicts, negotiations and answers to proposals."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema

from webapp.agreements import declaring, selectors, services, stakeholders
from webapp.agreements.models import Conflict, Negotiation
from webapp.agreements.room import Room
from webapp.fleet.selectors import host_get
from webapp.tenants.selectors import missing, policy_newest, vm_get
from webapp.tenants.services import document_of

router = Router(tags=["agreements"])
NEWEST = 100


class ConflictOut(Schema):
    id: int
    code: str
    name: str
    title: str
    kind: str
    trigger: str
    severity: str
    switch: str
    host: str
    text: str
    found_at: dt.datetime
    closed_at: dt.datetime | None


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def conflict_shown(conflict: Conflict) -> dict[str, Any]:
    fields = ("id", "code", "name", "title", "kind", "trigger", "severity", "switch", "text", "found_at", "closed_at")
    return {"host": conflict.host.name, **{field: getattr(conflict, field) for field in fields}}


@router.get("/conflicts", response=list[ConflictOut])
def conflict_list(request: HttpRequest, open: bool = True) -> Any:
    """Conflicts that concern your VMs, newest first, at most 100."""
    found = selectors.conflicts_of(user=person(request), open_only=open)[:NEWEST]
    return [conflict_shown(conflict) for conflict in found]


@router.get("/vms/{name}/policy", response=dict[str, Any])
def policy_get(request: HttpRequest, name: str) -> Any:
    """The newest wishes for a VM of yours: the document as it was given."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    newest = policy_newest(user=user, vm=vm)
    if newest is None:
        raise missing()
    return document_of(newest)


class SavedOut(Schema):
    version: int
    sha256: str
    status: str
    status_words: str


@router.put("/vms/{name}/policy", response=SavedOut)
def policy_put(request: HttpRequest, name: str) -> Any:
    """Save a vpms-policy/1 document as the next version. It is read strictly and refused whole, or stored whole."""
    user = person(request)
    vm = vm_get(user=user, name=name)
    policy = declaring.wishes_declare(by=user, vm=vm, document=request.body)
    check = selectors.check_of(user=user, vm=vm)
    return {
        "version": policy.version,
        "sha256": policy.sha256,
        "status": check["status"] if check else "not_checked",
        "status_words": check["words"] if check else "Not checked: the VM has no host",
    }


class GoalOut(Schema):
    format: str
    goal: str
    owner: str
    against: list[str]
    functionality: str
    property: str
    switches: list[str]
    mutual: list[str]
    conflicting: list[str]
    status: str
    agreement: str | None = None
    rationale: str
    validity: dict[str, str | None]


@router.get("/hosts/{name}/goals", response=list[GoalOut])
def goal_list(request: HttpRequest, name: str) -> Any:
    """The goals of a host's stakeholders (vpms-goal/1) that you may know: others' as they were disclosed to you."""
    user = person(request)
    host = host_get(user=user, name=name)
    if user.sees_site:
        return stakeholders.operator_picture(user=user, host=host).goals
    return stakeholders.tenant_picture(user=user, host=host).goals


class WaiverIn(Schema):
    given_up: bool


class WaiverOut(WaiverIn):
    vm: str
    switch: str


@router.put("/vms/{name}/goals/{switch}", response=WaiverOut)
def goal_put(request: HttpRequest, name: str, switch: str, wanted: WaiverIn) -> Any:
    """Give the goal of your VM about this setting up, or take it up again. Its wishes stay as they are."""
    declaring.goal_waive(by=person(request), vm=name, switch=switch, given_up=wanted.given_up)
    return {"vm": name, "switch": switch, "given_up": wanted.given_up}


class NegotiationOut(Schema):
    id: int
    host: str
    state: str
    round: int
    version: int
    deadline_at: dt.datetime | None
    reason: str
    requested_by_you: bool


class WantOut(Schema):
    who: str
    words: str


class RowOut(Schema):
    issue: str
    label: str
    value: str
    proposal: str
    you_want: str = ""
    strength: str = ""
    you_give: str = ""
    others: list[WantOut]
    they_give: list[WantOut]


class PartyOut(Schema):
    who: str
    percent: int
    answer: str


class RoomOut(NegotiationOut):
    vm: str | None
    pseudonym: str
    chip: str
    rows: list[RowOut]
    parties: list[PartyOut]
    can_answer: bool
    my_answer: str
    reasons: list[str]
    choices: dict[str, list[str]]
    why: list[str]


class AnswerIn(Schema):
    vm: str = Field(max_length=63)
    round: int = Field(ge=0, le=255)
    version: int = Field(ge=0, le=2**31)
    accept: bool
    reason: str = Field("", max_length=100)
    suggestion: dict[str, str] | None = None  # of a counter: `{setting: value}`


def negotiation_shown(user: Any, negotiation: Negotiation) -> dict[str, Any]:
    fields = ("id", "state", "round", "version", "deadline_at", "reason")
    return {
        "host": negotiation.host.name,
        "requested_by_you": negotiation.requester.tenant.slug in user.tenant_slugs,
        **{field: getattr(negotiation, field) for field in fields},
    }


def room_shown(user: Any, room: Room) -> dict[str, Any]:
    fields = ("vm", "pseudonym", "chip", "rows", "parties", "can_answer", "my_answer", "why")
    return {
        **negotiation_shown(user, room.negotiation),
        **{field: getattr(room, field) for field in fields},
        "reasons": [value for value, _ in room.reasons],
        "choices": {row["issue"]: [value for value, _ in row["values"]] for row in room.choices},
    }


@router.get("/negotiations", response=list[NegotiationOut])
def negotiation_list(request: HttpRequest) -> Any:
    """Negotiations in which your VMs take part, newest first, at most 100."""
    user = person(request)
    return [negotiation_shown(user, row) for row in selectors.negotiations_of(user=user)[:NEWEST]]


@router.get("/negotiations/{int:number}", response=RoomOut)
def negotiation_get(request: HttpRequest, number: int, vm: Annotated[str, Field(max_length=63)] = "") -> Any:
    """What one VM of yours may see of it: contested settings, others by pseudonym."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    if user.sees_site and not vm:
        return room_shown(user, selectors.mediator_room_of(user=user, negotiation=found))
    return room_shown(user, selectors.room_of(user=user, negotiation=found, vm=vm))


@router.post("/negotiations/{int:number}/answer", response=RoomOut)
def negotiation_answer(request: HttpRequest, number: int, given: AnswerIn) -> Any:
    """Accept, reject with a reason (`veto:<setting>`, `floor:<points of 1000>`, `final`) or counter with a suggestion
    exactly the round and version that you have seen; 409 if it has changed."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    room = selectors.room_of(user=user, negotiation=found, vm=given.vm)
    seat = next((seat for seat in room.seats if seat.vm.name == given.vm), None)
    if seat is None:
        raise missing()
    after = services.answer(
        by=user,
        negotiation=found,
        vm=seat.vm,
        round=given.round,
        version=given.version,
        accept=given.accept,
        reason=given.reason,
        suggestion=given.suggestion,
    )
    return room_shown(user, selectors.room_of(user=user, negotiation=after, vm=given.vm))
