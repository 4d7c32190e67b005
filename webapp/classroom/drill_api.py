"""Drills by API: plans, one now, history. Operators only; auditors of the site may read."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.classroom import drill_selectors as selectors
from webapp.classroom import drills as services
from webapp.classroom.models import Drill, DrillSchedule
from webapp.classroom.wording import OUTCOMES
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["drills"])
Name = Annotated[str, Field(max_length=63)]
Small = Annotated[int, Field(ge=0, le=100_000)]


class TargetIn(Strict):
    """A host or an architecture, not both."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"host": "h1"}]})
    host: Name = ""
    architecture: Name = ""


class PlanIn(TargetIn):
    """Without `every_hours` it is held once a week, on `weekday` (0: Monday) at `hour` (UTC)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"architecture": "hsvm", "every_hours": 24}]}
    )
    every_hours: Small | None = None
    weekday: Small = 0
    hour: Small = 0


class PlanChangeIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"every_hours": 12, "active": True}]})
    every_hours: Small | None = None
    weekday: Small = 0
    hour: Small = 0
    active: bool


class PlanOut(Schema):
    id: int
    host: str
    architecture: str
    every_hours: int | None
    weekday: int
    hour: int
    active: bool
    reason: str = Field(description="Why the product switched it off.")
    next_at: dt.datetime | None


class HeldOut(Schema):
    id: int
    host: str
    architecture: str
    state: str
    by: str = Field(description="Empty: by its plan.")
    asked_at: dt.datetime
    held_at: dt.datetime | None
    engine: str
    seed: int
    blocked: int
    differs: int
    reason: str


class HeldRowOut(Schema):
    attack: str
    outcome: str
    word: str
    check: str
    digest: str
    before: str = Field(description="In the drill before; empty: there was none.")
    expected: str = Field(description="In the attack table then; empty: it had no result of this engine.")
    differs: bool


class HeldDetailOut(HeldOut):
    before: int | None = Field(description="The drill before of the same target.")
    results: list[HeldRowOut]


class AskedDrills(Schema):
    target: Name = ""
    outcome: Annotated[str, Field(max_length=16)] = ""
    differs: bool = False


def operator(request: HttpRequest) -> Any:
    """The signed-in operator; to everybody else drills are missing."""
    user: Any = request.user
    if not user.sees_site:
        raise selectors.missing()
    return user


def plan_shown(row: DrillSchedule) -> dict[str, Any]:
    plain = ("host", "architecture", "every_hours", "weekday", "hour", "active", "reason")
    return {"id": row.pk, **{name: getattr(row, name) for name in plain}, "next_at": getattr(row, "due", None)}


def drill_shown(row: Drill) -> dict[str, Any]:
    plain = ("host", "architecture", "state", "asked_at", "held_at", "seed", "blocked", "differs", "reason")
    told = {name: getattr(row, name) for name in plain}
    return {"id": row.pk, "by": row.by.username if row.by else "", "engine": row.engine_version, **told}


@router.get("/drills/schedules", response=Listed[PlanOut])
def drill_plan_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The plans of drills: which target, how often, when next."""
    return pages(request, selectors.schedules_of(user=operator(request)), paging, by="id", shown=plan_shown)


@router.post("/drills/schedules", response={201: PlanOut})
def drill_plan_make(request: HttpRequest, body: PlanIn) -> Any:
    """Plan the drills of a host or an architecture: every so many hours beginning now, or once a week."""
    user = operator(request)
    row = services.schedule_make(by=user, **body.dict())
    return Status(201, plan_shown(selectors.schedule_get(user=user, pk=row.pk)))


@router.put("/drills/schedules/{int:pk}", response=PlanOut)
def drill_plan_put(request: HttpRequest, pk: int, body: PlanChangeIn) -> Any:
    """Other times, switched on or off. A plan of a host that is gone cannot be switched on."""
    user = operator(request)
    services.schedule_change(by=user, schedule=selectors.schedule_get(user=user, pk=pk), **body.dict())
    return plan_shown(selectors.schedule_get(user=user, pk=pk))


@router.delete("/drills/schedules/{int:pk}", response={204: None})
def drill_plan_delete(request: HttpRequest, pk: int) -> Any:
    """No more drills by this plan; the history stays."""
    user = operator(request)
    services.schedule_delete(by=user, schedule=selectors.schedule_get(user=user, pk=pk))
    return Status(204, None)


@router.get("/drills", response=Listed[HeldOut])
def drill_list(request: HttpRequest, paging: Query[Paging], asked: Query[AskedDrills]) -> Any:
    """The drills that were held, newest first: of one host or architecture, with one outcome, or that differ."""
    wanted = selectors.Wanted(**asked.dict())
    found = selectors.drills_wanted(user=operator(request), wanted=wanted)
    return pages(request, found, paging, by="-id", shown=drill_shown)


@router.post("/drills", response={202: HeldOut})
def drill_now(request: HttpRequest, body: TargetIn) -> Any:
    """Hold the drill of a host or an architecture as soon as a worker is free."""
    row = services.drill_now(by=operator(request), host=body.host, architecture=body.architecture)
    return Status(202, drill_shown(row))


@router.get("/drills/{int:pk}", response=HeldDetailOut)
def drill_detail(request: HttpRequest, pk: int) -> Any:
    """One drill with every attack, beside the drill before and the attack table."""
    row = selectors.drill_get(user=operator(request), pk=pk)
    before = selectors.drill_before(row) if row.state == Drill.State.DONE else None
    results = [
        {
            **{name: getattr(each, name) for name in ("attack", "outcome", "digest", "before", "expected", "differs")},
            "word": OUTCOMES[each.outcome].word,
            "check": each.check_name,
        }
        for each in row.results.all()
    ]
    return {**drill_shown(row), "before": before.pk if before else None, "results": results}
