"""Agree by API: conflicts, goals, negotiations and answers to proposals."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from webapp.agreements import declaring, selectors, services, stakeholders
from webapp.agreements.models import Conflict, Negotiation, Seat
from webapp.agreements.room import Room
from webapp.fleet.selectors import host_get
from webapp.rest.doors import reader
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants.selectors import missing

router = Router(tags=["agreements"])
Number = Annotated[int, Field(ge=1, lt=2**63)]


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
    vms: list[str] = Field(description="The VMs that you may know; neighbours are not named.")
    evidence: dict[str, Any]
    found_at: dt.datetime
    closed_at: dt.datetime | None


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def conflict_shown(user: Any, conflict: Conflict) -> dict[str, Any]:
    fields = ("id", "code", "name", "title", "kind", "trigger", "severity", "switch", "text", "found_at", "closed_at")
    return {
        "host": conflict.host.name,
        "vms": selectors.names_shown(user, conflict),
        "evidence": conflict.evidence,
        **{field: getattr(conflict, field) for field in fields},
    }


@router.get("/conflicts", response=Listed[ConflictOut])
def conflict_list(
    request: HttpRequest,
    paging: Query[Paging],
    open: bool = True,
    host: Annotated[str, Field(max_length=63)] = "",
    severity: Annotated[str, Field(max_length=16)] = "",
) -> Any:
    """Conflicts that concern your VMs (operators: all), newest first; with `open=false` those that are over too."""
    user = person(request)
    found = selectors.conflicts_of(user=user, open_only=open).prefetch_related("vms__tenant")
    found = found.filter(host__name=host) if host else found
    found = found.filter(severity=severity) if severity else found
    return pages(request, found, paging, by="-id", shown=lambda row: conflict_shown(user, row))


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


@router.get("/hosts/{name}/goals", response=Listed[GoalOut])
def goal_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """The goals of a host's stakeholders (vpms-goal/1) that you may know: others' as they were disclosed to you."""
    user = person(request)
    host = host_get(user=user, name=name)
    whole = stakeholders.operator_picture if user.sees_site else stakeholders.tenant_picture
    return pages(request, whole(user=user, host=host).goals, paging, by="goal")


class WaiverIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"given_up": True}]})
    given_up: bool


class WaiverOut(Schema):
    vm: str
    switch: str
    given_up: bool


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


class MetOut(Schema):
    """Of the disclosed wishes of one other party, how many an option meets."""

    who: str
    met: int
    of: int


class OptionOut(Schema):
    """The proposal (`suggestion` empty) or another settlement; `percent` of your own wishes that it keeps."""

    suggestion: dict[str, str]
    percent: int
    others: list[MetOut]


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
    options: list[OptionOut]
    auto_accept: int | None = Field(None, description="The floor that your people set here, in points of 1000.")


class BoundIn(Strict):
    """`vm`, `round` and `version` are those of the room that you have read."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"vm": "my-vm", "round": 1, "version": 4, "floor": 850}]}
    )
    vm: str = Field(max_length=63)
    round: int = Field(ge=0, le=255)
    version: int = Field(ge=0, le=2**31)
    floor: int | None = Field(None, ge=0, le=1000, description="Points of 1000; null: ask your people again.")


class CounterIn(Strict):
    """`vm`, `round` and `version` are those of the room that you have read."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "vm": "my-vm",
                    "round": 1,
                    "version": 4,
                    "reason": "veto:page_sharing",
                    "suggestion": {"page_sharing": "off"},
                }
            ]
        },
    )
    vm: str = Field(max_length=63)
    round: int = Field(ge=0, le=255)
    version: int = Field(ge=0, le=2**31)
    reason: str = Field("", max_length=100)
    suggestion: dict[str, str] | None = Field(None, description="Of a counter: a value for each contested setting.")


class AnswerIn(CounterIn):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"vm": "my-vm", "round": 1, "version": 4, "accept": True}]},
    )
    accept: bool


class ChangesOut(Schema):
    changes: dict[str, str]


class HistoryOut(Schema):
    number: int
    at: dt.datetime
    type: str
    words: str


def negotiation_shown(user: Any, negotiation: Negotiation) -> dict[str, Any]:
    fields = ("id", "state", "round", "version", "deadline_at", "reason")
    return {
        "host": negotiation.host.name,
        "requested_by_you": negotiation.requester.tenant.slug in user.tenant_slugs,
        **{field: getattr(negotiation, field) for field in fields},
    }


def room_shown(user: Any, room: Room) -> dict[str, Any]:
    fields = ("vm", "pseudonym", "chip", "rows", "parties", "can_answer", "my_answer", "why", "options")
    return {
        **negotiation_shown(user, room.negotiation),
        **{field: getattr(room, field) for field in fields},
        "auto_accept": room.bound["floor"] if room.bound else None,
        "reasons": [value for value, _ in room.reasons],
        "choices": {row["issue"]: [value for value, _ in row["values"]] for row in room.choices},
    }


@router.get("/negotiations", response=Listed[NegotiationOut])
def negotiation_list(
    request: HttpRequest,
    paging: Query[Paging],
    state: Annotated[str, Field(max_length=16)] = "",
    host: Annotated[str, Field(max_length=63)] = "",
) -> Any:
    """Negotiations in which your VMs take part (operators: all), newest first."""
    user = person(request)
    found = selectors.negotiations_of(user=user)
    found = found.filter(state=state) if state else found
    found = found.filter(host__name=host) if host else found
    return pages(request, found, paging, by="-id", shown=lambda row: negotiation_shown(user, row))


@router.get("/negotiations/{int:number}", response=RoomOut)
def negotiation_get(request: HttpRequest, number: Number, vm: Annotated[str, Field(max_length=63)] = "") -> Any:
    """What one VM of yours may see of it: contested settings, others by pseudonym."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    if user.sees_site and not vm:
        return room_shown(user, selectors.mediator_room_of(user=user, negotiation=found))
    return room_shown(user, selectors.room_of(user=user, negotiation=found, vm=vm))


def seat_of(user: Any, negotiation: Negotiation, vm: str) -> Seat:
    """The seat of a VM of yours; every other is missing."""
    room = selectors.room_of(user=user, negotiation=negotiation, vm=vm)
    seat = next((seat for seat in room.seats if seat.vm.name == vm), None)
    if seat is None:
        raise missing()
    return seat


@router.post("/negotiations/{int:number}/answer", response=RoomOut)
def negotiation_answer(request: HttpRequest, number: Number, given: AnswerIn) -> Any:
    """Accept, reject with a reason (`veto:<setting>`, `floor:<points of 1000>`, `final`) or counter with a suggestion
    exactly the round and version that you have seen; 409 if it has changed."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    seat = seat_of(user, found, given.vm)
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


@router.put("/negotiations/{int:number}/auto-accept", response=RoomOut)
def auto_accept_put(request: HttpRequest, number: Number, given: BoundIn) -> Any:
    """Have everything accepted in this negotiation that keeps your VM's musts and so many points of its wishes, the
    proposal on the table too, or be asked again. What keeps less is asked, not rejected. Nobody else reads it."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    after = services.auto_accept(
        by=user,
        negotiation=found,
        vm=seat_of(user, found, given.vm).vm,
        floor=given.floor,
        round=given.round,
        version=given.version,
    )
    return room_shown(user, selectors.room_of(user=user, negotiation=after, vm=given.vm))


@router.post("/negotiations/{int:number}/preview", response=ChangesOut, auth=reader)
def counter_preview(request: HttpRequest, number: Number, given: CounterIn) -> Any:
    """The changes that a counter would ask for, refused for the same reasons as when it is sent. Nothing is stored."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    changes = services.counter_preview(
        by=user,
        negotiation=found,
        vm=seat_of(user, found, given.vm).vm,
        round=given.round,
        version=given.version,
        reason=given.reason,
        suggestion=given.suggestion or {},
    )
    return {"changes": changes}


@router.post("/negotiations/{int:number}/withdraw", response=NegotiationOut)
def negotiation_withdraw(request: HttpRequest, number: Number) -> Any:
    """Give up the start of your VM. Everybody else keeps everything as it was."""
    user = person(request)
    after = services.withdraw(by=user, negotiation=selectors.negotiation_get(user=user, pk=number))
    return negotiation_shown(user, after)


@router.get("/negotiations/{int:number}/history", response=Listed[HistoryOut])
def history_list(request: HttpRequest, number: Number, paging: Query[Paging]) -> Any:
    """What happened in the negotiation, as the log tells it to you, oldest first, at most 200."""
    user = person(request)
    told = selectors.history_of(user=user, negotiation=selectors.negotiation_get(user=user, pk=number))
    rows = [{"number": at, **row} for at, row in enumerate(told, start=1)]
    return pages(request, rows, paging, by="number")
