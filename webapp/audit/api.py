"""The log by API: what the person may read of it, and the check of the chain."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema

from webapp.audit import selectors, services

router = Router(tags=["audit"])


class EntryOut(Schema):
    seq: int
    at: dt.datetime
    type: str
    actor: str
    subject: str
    data: dict[str, Any]
    prev: str
    hash: str


class PageOut(Schema):
    entries: list[EntryOut]
    before: int | None


class VerdictOut(Schema):
    valid: bool
    reason: str
    entries: int
    first_bad: int | None
    why: str
    head: str


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


@router.get("/audit", response=PageOut)
def audit_list(
    request: HttpRequest,
    type: Annotated[str, Field(max_length=64)] = "",
    subject: Annotated[str, Field(max_length=120)] = "",
    before: Annotated[int | None, Field(ge=0, le=2**53)] = None,
) -> Any:
    """Entries that you may read, newest first, at most 50; pass `before` on to see older ones."""
    return selectors.page_of(user=person(request), type=type, subject=subject, before=before)


@router.get("/audit/verify", response=VerdictOut)
def audit_verify(request: HttpRequest) -> Any:
    """Read the whole chain and say whether it is whole, or which entry is the first bad one."""
    return services.verify()
