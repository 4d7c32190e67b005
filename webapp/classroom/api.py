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
    evidence: str
    check: str
    seed: int
    digest: str
    url: str


class Queued(Schema):
    queued: int


@router.get("/matrix", response=list[CellOut], auth=None)
def matrix(request: HttpRequest) -> Any:
    """Every cell of the attack table."""
    titles = services.titles()
    return [selectors.shown(cell, title=titles.get(cell.attack, "")) for cell in selectors.cells()]


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
