"""The log by API: what the person may read of it, the check of the chain, and the lines to take away."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest, StreamingHttpResponse
from ninja import Field, Query, Router, Schema

from webapp.audit import selectors, services
from webapp.rest.paging import Listed, Paging, pages

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


class TypeOut(Schema):
    name: str


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


@router.get("/audit", response=Listed[EntryOut])
def audit_list(
    request: HttpRequest,
    paging: Query[Paging],
    type: Annotated[str, Field(max_length=64)] = "",
    subject: Annotated[str, Field(max_length=120)] = "",
) -> Any:
    """Entries that you may read, newest first; those of one type or about one subject, if you name it."""
    found = selectors.entries_of(user=person(request), type=type, subject=subject)
    return pages(request, found, paging, by="-seq", shown_together=selectors.shown_all)


@router.get("/audit/types", response=Listed[TypeOut])
def type_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The types of entries that you have."""
    rows = [{"name": name} for name in selectors.types_of(user=person(request))]
    return pages(request, rows, paging, by="name")


@router.get("/audit/verify", response=VerdictOut)
def audit_verify(request: HttpRequest) -> Any:
    """Read the whole chain and say whether it is whole, or which entry is the first bad one."""
    return services.verify()


@router.get(
    "/audit/lines",
    openapi_extra={
        "responses": {200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}, "description": "OK"}}
    },
)
def audit_lines(request: HttpRequest) -> Any:
    """Your entries as JSON lines, oldest first. For an operator the whole chain, which `vpms verify` can check."""
    return StreamingHttpResponse(selectors.lines_of(user=person(request)), content_type="application/jsonl")
