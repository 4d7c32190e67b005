"""Teach by API: the attack table and the verdicts of its cells. Reading is open to everybody."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.classroom import selectors, services

router = Router(tags=["classroom"])


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


@router.get("/matrix", response=list[CellOut], auth=None)
def matrix(request: HttpRequest, what_if: bool = False) -> Any:
    """Every cell of the attack table; with `what_if` also those of columns in which something is switched off."""
    titles, files = services.titles(), services.files()
    cells = selectors.columns_all() if what_if else selectors.cells()
    return [selectors.shown(cell, title=titles.get(cell.attack, ""), files=files) for cell in cells]


@router.get("/matrix/{cell_id}", auth=None)
def verdict(request: HttpRequest, cell_id: int) -> Any:
    """The verdict of one cell, with every executed step."""
    found = selectors.cell_get(pk=cell_id)
    return {"engine": found.engine_version, **found.verdict}


@router.post("/matrix/run", response=Queued)
def run_all(request: HttpRequest) -> Any:
    """Queue every cell for a new execution. Teachers only."""
    person: Any = request.user
    return {"queued": services.cells_run_again(by=person)}
