"""Teach by API: the attack table and the verdicts of its cells. Reading is open to everybody."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from webapp.agreements.life_api import SpotOut, spot_shown
from webapp.agreements.wishes_api import CheckOut
from webapp.classroom import consequences, mine, selectors, services, walk
from webapp.rest.document import body_of_kind
from webapp.rest.doors import reader
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants.selectors import missing, vm_get

router = Router(tags=["classroom"])
Number = Annotated[int, Field(ge=1, lt=2**63)]


class CellOut(Schema):
    id: int
    attack: str
    title: str
    architecture: str
    state: str
    outcome: str
    word: str
    old_word: str
    evidence: str
    check: str
    seed: int
    digest: str
    engine: str
    duration_ms: float | None
    ops: int
    url: str


class Queued(Schema):
    queued: int


class AgainIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"cells": [7]}]})
    cells: Annotated[list[Number], Field(max_length=256)] | None = Field(None, description="null or missing: all")


class ColumnIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"architecture": "hsvm", "skip": services.SWITCHES[0]}]}
    )
    architecture: Literal[services.CHECKED]  # type: ignore[valid-type]  # a tuple of words, known when this is read
    skip: Literal[services.SWITCHES]  # type: ignore[valid-type]


class DrillRowOut(Schema):
    attack: str
    title: str
    word: str
    evidence: str
    check: str
    digest: str
    decides: bool
    effect: str


class DrillOut(Schema):
    vm: str
    host: str | None
    source: str = Field("", description="agreed or wished: where the terms come from; empty: there are none")
    rows: list[DrillRowOut]


class AttackEndOut(Schema):
    attack: str
    title: str
    word: str


class SlowerOut(Schema):
    estimate: str
    least: str
    most: str


class ConsequencesOut(Schema):
    vm: str
    host: str | None = Field(description="Where drill, cost and check were tried; null: there is no host.")
    places: list[SpotOut]
    check: CheckOut | None
    attacks: list[AttackEndOut]
    slower_percent: SlowerOut | None = Field(description="More cycles for memory accesses than without protection.")
    memory_mib: int | None
    promised_percent: int | None = Field(description="How much of its memory the host promises at most.")


@router.get("/matrix", response=Listed[CellOut], auth=None)
def matrix(
    request: HttpRequest,
    paging: Query[Paging],
    what_if: bool = False,
    attack: Annotated[str, Field(max_length=8)] = "",
    architecture: Annotated[str, Field(max_length=16)] = "",
) -> Any:
    """The cells of the attack table; with `what_if` also those of columns in which something is switched off."""
    titles, files = services.titles(), services.files()
    found = selectors.columns_all() if what_if else selectors.cells()
    found = found.filter(attack=attack) if attack else found
    found = found.filter(architecture=architecture) if architecture else found

    def shown(cell: Any) -> dict[str, Any]:
        return selectors.shown(cell, title=titles.get(cell.attack, ""), files=files)

    return pages(request, found, paging, by="id", shown=shown)


@router.get("/matrix/{int:cell_id}", auth=None, response=dict[str, Any])
def verdict(request: HttpRequest, cell_id: Number) -> Any:
    """The verdict of one cell, with every executed step."""
    found = selectors.cell_get(pk=cell_id)
    return {"engine": found.engine_version, **found.verdict}


@router.post("/matrix/run", response=Queued)
def run_all(request: HttpRequest, given: AgainIn | None = None) -> Any:
    """Queue cells for a new execution: those that are named, else every cell. Teachers only."""
    person: Any = request.user
    return {"queued": services.cells_run_again(by=person, cells=given.cells if given else None)}


@router.post("/matrix/columns", response=Queued)
def column_add(request: HttpRequest, given: ColumnIn) -> Any:
    """Add a column to the table with one check switched off; it fills as its cells are executed. Teachers only."""
    person: Any = request.user
    return {"queued": services.what_if_add(by=person, architecture=given.architecture, skip=given.skip)}


@router.get("/vms/{name}/drill", response=DrillOut)
def drill_get(request: HttpRequest, name: str) -> Any:
    """The attack drill, executed with what follows from the terms of a VM of yours. Nobody else sees it."""
    person: Any = request.user
    drill = mine.drill_of(user=person, vm=vm_get(user=person, name=name))
    host = drill["host"]
    return {"vm": name, "host": host.name if host else None, "source": drill.get("source", ""), "rows": drill["rows"]}


@router.post("/vms/{name}/consequences", response=ConsequencesOut, auth=reader, openapi_extra=body_of_kind("policy"))
def consequences_get(request: HttpRequest, name: str) -> Any:
    """What a document would lead to for a VM of yours: the drill really run, the cost estimated by a run, the hosts
    that can keep it, its conflicts. Nothing is saved and nobody else is told."""
    person: Any = request.user
    vm = vm_get(user=person, name=name)
    found = consequences.consequences_of(user=person, vm=vm, document=request.body)
    home = vm.placement.host if hasattr(vm, "placement") else None
    return {
        "vm": name,
        "host": found["host"].name if found["host"] else None,
        "places": [spot_shown(row, home) for row in found["places"]],
        "check": found["check"],
        "attacks": found.get("attacks", []),
        "slower_percent": found.get("slower"),
        "memory_mib": found.get("memory_mib"),
        "promised_percent": found.get("promised"),
    }


@router.get("/walks/{case}", auth=None, response=dict[str, Any])
def walk_get(request: HttpRequest, case: str) -> Any:
    """One address translated step by step, with every reference to memory."""
    if case not in walk.CASES:
        raise missing()
    return json.loads(walk.as_json(walk.walk_of(case)))
