"""Agree by API: wishes and their check, conflicts, negotiations and answers to proposals."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema

from webapp.agreements import selectors
from webapp.agreements.models import Conflict

router = Router(tags=["agreements"])
NEWEST = 100


class ConflictOut(Schema):
    id: int
    code: str
    name: str
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
    fields = ("id", "code", "name", "kind", "trigger", "severity", "switch", "text", "found_at", "closed_at")
    return {"host": conflict.host.name, **{field: getattr(conflict, field) for field in fields}}


@router.get("/conflicts", response=list[ConflictOut])
def conflict_list(request: HttpRequest, open: bool = Query(True)) -> Any:
    """Conflicts that concern your VMs, newest first, at most 100."""
    found = selectors.conflicts_of(user=person(request), open_only=open)[:NEWEST]
    return [conflict_shown(conflict) for conflict in found]
