"""The gradebook as a file: CSV for spreadsheets, and a JSON document with a published schema for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

from django.utils import timezone

from webapp.courses import gradebook
from webapp.courses.models import Adjustment, Course, Item, Mark, Member

NAME: Final = "vpms-gradebook/1"
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # a spreadsheet reckons what begins so

_TIME: Final = {"type": ["string", "null"], "format": "date-time"}
_POINTS: Final = {"type": ["number", "null"]}


def _object(words: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "description": words,
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_REASON: Final = {
    "type": "object",
    "description": "One predicate: how many points of how many, and a sentence that says why.",
    "required": ["name", "points", "of", "says"],
    "properties": {
        "name": {"type": "string"},
        "points": {"type": "number"},
        "of": {"type": "number"},
        "says": {"type": "string"},
    },
}
SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": NAME,
    **_object(
        "The marks of a course, as its teachers export them.",
        schema={"const": NAME},
        made_at={"type": "string", "format": "date-time"},
        course=_object("The course.", id={"type": "integer"}, title={"type": "string"}),
        items=_list(
            _object(
                "A graded item, in the order of the course.",
                id={"type": "integer"},
                title={"type": "string"},
                kind={"type": "string"},
                points={"type": "integer", "description": "What all of it is worth."},
                due_at=_TIME,
                version={"type": "integer", "description": "Of its text as it is now."},
            )
        ),
        students=_list(
            _object(
                "A student, by nickname.",
                id={"type": "integer", "description": "Of the membership: the same in every export of the course."},
                nickname={"type": "string"},
                account={"type": "string", "description": "Name of the account; empty: a guest's."},
                total={"type": "number"},
                marks=_list(
                    _object(
                        "What the work on an item counts. An item without a mark has no row.",
                        item={"type": "integer"},
                        points={"type": "number", "description": "What counts."},
                        computed={"type": "number", "description": "What the work counts by itself."},
                        earned={"type": "number", "description": "The same before lateness."},
                        days_late={"type": "integer"},
                        handed_in_at=_TIME,
                        version={"type": ["integer", "null"], "description": "Of the item's text; null: no work."},
                        tries={"type": "integer", "description": "How often work was handed in."},
                        reasons=_list(_REASON),
                        adjustments=_list(
                            _object(
                                "What a teacher set, the newest first.",
                                before=_POINTS,
                                after={**_POINTS, "description": "Null: the work counts again."},
                                reason={"type": "string"},
                                at={"type": "string", "format": "date-time"},
                            )
                        ),
                    )
                ),
            )
        ),
    ),
}


def document(course: Course) -> dict[str, Any]:
    """The gradebook of everybody who takes part now, in the form of SCHEMA."""
    items = gradebook.items_of(course)
    rows = gradebook.rows_of(course=course, items=items, asked=gradebook.Asked())
    reasons = dict(Mark.objects.filter(item__in=items).values_list("pk", "reasons"))
    set_by_hand: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in Adjustment.objects.filter(item__in=items):
        told = {"before": row.before, "after": row.after, "reason": row.reason, "at": row.at.isoformat()}
        set_by_hand.setdefault((row.member_id, row.item_id), []).append(told)
    return {
        "schema": NAME,
        "made_at": timezone.now().isoformat(),
        "course": {"id": course.pk, "title": course.title},
        "items": [_item(item) for item in items],
        "students": [
            {
                "id": row.member.pk,
                "nickname": row.member.nickname,
                "account": gradebook.account_of(row.member),
                "total": row.total,
                "marks": [
                    _mark(cell, reasons[cell.mark.pk], set_by_hand.get((row.member.pk, cell.item.pk), []))
                    for cell in row.cells
                    if cell.mark
                ],
            }
            for row in rows
        ],
    }


def _item(item: Item) -> dict[str, Any]:
    due = item.due_at.isoformat() if item.due_at else None
    plain = {"id": item.pk, "title": item.title, "kind": item.kind, "points": item.points}
    return {**plain, "due_at": due, "version": item.version}


def _mark(cell: gradebook.Cell, reasons: Sequence[Any], set_by_hand: list[dict[str, Any]]) -> dict[str, Any]:
    mark: Any = cell.mark
    return {
        "item": cell.item.pk,
        "points": mark.points,
        "computed": mark.points if mark.computed is None else mark.computed,
        "earned": mark.earned,
        "days_late": mark.days_late,
        "handed_in_at": mark.handed_in_at.isoformat() if mark.item_version else None,
        "version": mark.item_version or None,
        "tries": cell.tries,
        "reasons": reasons,
        "adjustments": set_by_hand,
    }


def table(course: Course) -> str:
    """One line a student, one column an item: points that count. No cell is a formula to a spreadsheet."""
    items = gradebook.items_of(course)
    rows = gradebook.rows_of(course=course, items=items, asked=gradebook.Asked())
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["student", "account", *(plain(f"{item.title} ({item.points})") for item in items), "total"])
    for row in rows:
        points = ["" if cell.points is None else f"{cell.points:g}" for cell in row.cells]
        writer.writerow([*names(row.member), *points, f"{row.total:g}"])
    return out.getvalue()


def names(member: Member) -> list[str]:
    return [plain(member.nickname), plain(gradebook.account_of(member))]


def plain(text: str) -> str:
    """The text so that no spreadsheet takes it for a formula."""
    return f"'{text}" if text.lstrip().startswith(FORMULA) or text.startswith(FORMULA) else text
