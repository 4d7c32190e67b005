"""Reads of the log: what a person may see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from webapp.audit.models import Entry, EntryQuerySet

if TYPE_CHECKING:
    from webapp.accounts.models import User

PAGE = 50


class Page(TypedDict):
    entries: list[dict[str, Any]]
    before: int | None  # pass it on to see older entries; None when there are none


def entries_of(*, user: User, type: str = "", subject: str = "", since: int = 0) -> EntryQuerySet:
    """Entries that the person may read, optionally of one type or about one subject."""
    found = Entry.objects.visible_to(user).filter(seq__gte=since)
    if type:
        found = found.filter(type=type)
    if subject:
        found = found.filter(subject=subject)
    return found


def page_of(*, user: User, type: str = "", subject: str = "", before: int | None = None) -> Page:
    """The newest entries first, at most PAGE of them."""
    found = entries_of(user=user, type=type, subject=subject)
    if before is not None:
        found = found.filter(seq__lt=before)
    rows = list(found.order_by("-seq")[: PAGE + 1])
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    return {"entries": [shown(row) for row in rows], "before": rows[-1].seq if more else None}


def shown(entry: Entry) -> dict[str, Any]:
    """An entry for a page or the API: its line, read."""
    try:
        body = json.loads(entry.line)
    except ValueError:
        body = {}
    return {
        "seq": entry.seq,
        "at": entry.at,
        "type": entry.type,
        "actor": entry.actor,
        "subject": entry.subject,
        "data": body.get("data", {}) if isinstance(body, dict) else {},
        "prev": body.get("prev", "") if isinstance(body, dict) else "",
        "hash": entry.hash,
    }


def types_of(*, user: User) -> list[str]:
    """The types of entries that the person has, for the filter."""
    return sorted(Entry.objects.visible_to(user).order_by().values_list("type", flat=True).distinct())


def lines_of(*, user: User) -> Iterator[str]:
    """The person's entries as JSON lines. For an operator this is the whole chain, which `vpms verify` can check."""
    for line in entries_of(user=user).order_by("seq").values_list("line", flat=True).iterator(chunk_size=1000):
        yield line + "\n"
