"""The ladder by API: the steps that are open after no agreement, and the questions to owners of running VMs."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from webapp.agreements import ladder, selectors
from webapp.agreements.wording import rung_words
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants.selectors import missing

router = Router(tags=["agreements"])
Number = Annotated[int, Field(ge=1, lt=2**63)]


class StepOut(Schema):
    step: str
    title: str
    begins: str
    consent: str
    hosts: list[str] = []
    minutes: list[int] = []
    price: int | None = None


class StepIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"step": "another_time", "minutes": 60}]})
    step: str = Field(max_length=24)
    host: str = Field("", max_length=63)
    minutes: Annotated[int, Field(ge=0, le=10_000)] = 0


class ChosenOut(Schema):
    step: str
    words: str
    negotiation: int | None


class MoveOut(Schema):
    id: int
    vm: str
    from_host: str
    to_host: str
    until: dt.datetime | None


class MoveIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"consent": True}]})
    consent: bool


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def step_shown(row: dict[str, Any]) -> dict[str, Any]:
    hosts, minutes = [name for name, _ in row.get("hosts", [])], [count for count, _ in row.get("times", [])]
    return {**row, "hosts": hosts, "minutes": minutes}


@router.get("/negotiations/{int:number}/steps", response=Listed[StepOut])
def step_list(request: HttpRequest, number: Number, paging: Query[Paging]) -> Any:
    """What you can choose after no agreement for the VM that you wanted to start; empty where nothing is open."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    own = found.requester.tenant.slug in user.tenant_slugs
    rows = [{**row, "place": place} for place, row in enumerate(ladder.steps_shown(found) if own else [])]
    return pages(request, rows, paging, by="place", shown=step_shown)


@router.post("/negotiations/{int:number}/steps", response=ChosenOut)
def step_choose(request: HttpRequest, number: Number, given: StepIn) -> Any:
    """Choose one. It begins only what it says, and nothing changes for others without their consent; 409: over."""
    user = person(request)
    found = selectors.negotiation_get(user=user, pk=number)
    wanted = {"step": given.step, "host": given.host, "minutes": str(given.minutes)}
    rung = ladder.choose(by=user, negotiation=found, **wanted)
    return {"step": rung.step, "words": rung_words(rung), "negotiation": rung.next_id}


@router.get("/moves", response=Listed[MoveOut])
def move_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Whether a running VM of yours would move, as far as you are asked just now."""
    rows = [
        {
            "id": rung.pk,
            "vm": rung.vm.name,
            "from_host": rung.vm.placement.host.name,
            "to_host": rung.host.name if rung.host else "",
            "until": rung.due_at,
        }
        for rung in ladder.questions_to(person(request))
    ]
    return pages(request, rows, paging, by="id")


@router.post("/moves/{int:number}", response=ChosenOut)
def move_answer(request: HttpRequest, number: Number, given: MoveIn) -> Any:
    """Agree that it moves, if everybody on the other host agrees too; or that it stays, which changes nothing."""
    user = person(request)
    rung = next((rung for rung in ladder.questions_to(user) if rung.pk == number), None)
    if rung is None:
        raise missing()
    after = ladder.move_answer(by=user, rung=rung, consent=given.consent)
    return {"step": after.step, "words": rung_words(after), "negotiation": after.next_id}
