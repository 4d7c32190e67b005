"""The wall by API: hosts with their checks, worst first; the service levels; delays that a screen measured."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs import fleet_wall, levels, services
from webapp.runs.api import operator

router = Router(tags=["runs"])


class SightOut(Schema):
    name: str
    state: str = Field(description="ok, degraded, violation, unknown, none (not on this machine) or idle")
    why: str
    measured_at: dt.datetime | None
    since: dt.datetime | None


class WallHostOut(Schema):
    name: str
    zone: str
    architecture: str
    state: str = Field(description="of its worst check")
    checks: list[SightOut]


class LevelOut(Schema):
    name: str
    words: str
    target: str
    n: int
    good: int
    share: float | None = Field(description="null: too few values")
    typical_ms: int | None
    worst_ms: int | None
    budget_left: float | None = Field(description="1: all of the failures that the target allows are left, 0: none")
    days: int


class SeenIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ms": [41, 57]}]})
    ms: Annotated[list[int], Field(min_length=1, max_length=50)]


def _time(at: int | None) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC) if at is not None else None


def host_shown(row: dict[str, Any]) -> dict[str, Any]:
    place = row["place"]
    checks = [
        {**{name: str(cell[name]) for name in ("name", "state", "why")}, "measured_at": _time(cell["at"]),
         "since": cell["since"]}
        for cell in row["cells"]
    ]  # fmt: skip
    told = {"name": place.name, "zone": place.zone, "architecture": place.architecture}
    return {**told, "state": str(row["state"]), "checks": checks}


@router.get("/wall", response=Listed[WallHostOut])
def wall_list(
    request: HttpRequest,
    paging: Query[Paging],
    text: Annotated[str, Field(max_length=63, description="Only hosts with this in their name.")] = "",
    state: Annotated[str, Field(max_length=12, description="Only hosts whose worst check is in this state.")] = "",
) -> Any:
    """Every host with its six checks. What was not measured for three intervals is unknown. Operators only."""
    user, now = operator(request), timezone.now()
    found = fleet_wall.places(user=user, now=now, text=text)
    found = [place for place in found if not state or fleet_wall.BY_RANK[place.rank] == state]

    def told(rows: list[Any]) -> list[dict[str, Any]]:
        return [host_shown(row) for row in fleet_wall.rows_of(shown=rows, now=now)]

    return pages(request, found, paging, by="name", shown_together=told)


@router.get("/levels", response=Listed[LevelOut])
def level_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The service levels with what was measured in the window and what is left of each error budget. Operators only."""
    operator(request)
    rows = [{**row, "words": str(row["words"]), "target": str(row["target"])} for row in levels.levels_shown()]
    return pages(request, rows, paging, by="name")


@router.post("/wall/seen", response={204: None})
def wall_seen(request: HttpRequest, given: SeenIn) -> Any:
    """Tell how many milliseconds cells took from their measurement to your screen. Operators only."""
    services.screens_seen(by=operator(request), ms=given.ms)
    return Status(204, None)
