"""The gradebook by API: the table, one cell, points set by hand, whose work is alike, exports; and one's own marks."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.courses import adjustments, grade_export, gradebook, kinds, regrades, selectors
from webapp.courses.models import Adjustment, Item, Member, Regrade
from webapp.rest.paging import Strict

router = Router(tags=["grades"])
Number = Annotated[int, Field(ge=1, lt=2**53)]
Word = Annotated[str, Field(max_length=60)]


class GradeItemOut(Schema):
    id: int
    title: str
    kind: str
    points: int
    shown: bool
    due_at: dt.datetime | None
    version: int


class GradeCellOut(Schema):
    item: int
    state: str = Field(description="marked, missing (due, and nothing there) or open")
    points: float | None
    days_late: int
    tries: int
    by_hand: bool
    outdated: bool = Field(description="Marked by a text that the item no longer has.")


class GradeRowOut(Schema):
    member: int
    nickname: str
    account: str = Field(description="Name of the account, for teachers; empty: a guest's.")
    total: float
    cells: list[GradeCellOut]


class GradebookOut(Schema):
    items: list[GradeItemOut]
    students: list[GradeRowOut]
    count: int = Field(description="Of students that fit.")
    pages: int


class GradeReasonOut(Schema):
    name: str
    points: float
    of: float
    says: str


class GradeHintOut(Schema):
    number: int
    cost: int
    says: str


class AdjustmentOut(Schema):
    before: float | None
    after: float | None = Field(description="Null: the work counts again.")
    reason: str
    by: str
    at: dt.datetime


class AlikeOut(Schema):
    one: int
    other: int
    share: float = Field(description="Of the shorter file, from 0 to 1: a reason to look, no verdict.")


class GradeOut(GradeCellOut):
    computed: float | None = Field(description="What the work counts by itself.")
    earned: float | None
    handed_in_at: dt.datetime | None
    began_at: dt.datetime | None
    practised: int
    version: int | None = Field(description="Of the item's text by which it was graded; null: there is no work.")
    reasons: list[GradeReasonOut]
    hints: list[GradeHintOut]
    adjustments: list[AdjustmentOut]
    alike: list[AlikeOut]


class OwnGradeOut(Schema):
    item: int
    title: str
    points: float | None
    of: int
    computed: float | None
    days_late: int
    reasons: list[GradeReasonOut]
    adjustments: list[AdjustmentOut]


class OwnGradesOut(Schema):
    marks: list[OwnGradeOut]
    total: float
    of: int


class PointsIn(Strict):
    """Points by hand; null: the work counts again. With `seen`, what counted where you looked, another is refused."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"points": 15, "reason": "Told orally"}]})
    points: Annotated[float, Field(ge=0, le=65535)] | None
    reason: Annotated[str, Field(max_length=adjustments.LONGEST)]
    seen: float | None = None


class AlikePairsOut(Schema):
    pairs: list[AlikeOut]


class BesideLineOut(Schema):
    one: str | None
    other: str | None
    same: bool


class BesideOut(Schema):
    share: float | None
    lines: list[BesideLineOut]


class GradesFileOut(Schema):
    csv: str


class RegradeChangeOut(Schema):
    member: int
    nickname: str
    was: float | None = Field(description="What the work counts; null: there was no mark.")
    now: float | None
    by_hand: bool = Field(description="A teacher set the points; they go on counting.")
    why: list[dict[str, Any]] = Field(description="The predicates that count another number: name, was, now, says.")


class RegradeRowOut(Schema):
    id: int
    item: int
    version: int = Field(description="Of the text by which it is graded.")
    state: str = Field(description="running, ready, applied, discarded, cancelled or failed")
    total: int
    done: int
    reason: str
    made_at: dt.datetime
    ended_at: dt.datetime | None


class RegradeOut(RegradeRowOut):
    changes: list[RegradeChangeOut]
    same: int
    none: int = Field(description="Students who handed in nothing.")


class RegradesOut(Schema):
    regrades: list[RegradeRowOut]


class RegradeActIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"act": "apply"}]})
    act: Literal["apply", "discard", "cancel"]


class BookAsked(Schema):
    q: Word = ""
    show: Word = "all"
    sort: Word = "name"
    page: Annotated[str, Field(max_length=6)] = "1"


def item_shown(item: Item) -> dict[str, Any]:
    plain = ("title", "kind", "points", "shown", "due_at", "version")
    return {"id": item.pk, **{name: getattr(item, name) for name in plain}}


def cell_shown(cell: gradebook.Cell) -> dict[str, Any]:
    told = {"days_late": cell.late, "by_hand": cell.adjusted, "outdated": cell.outdated}
    return {"item": cell.item.pk, "state": cell.state, "points": cell.points, "tries": cell.tries, **told}


def adjustment_shown(row: Adjustment) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("before", "after", "reason", "at")}
    return {**plain, "by": row.by.nickname if row.by else ""}


def grade_shown(told: dict[str, Any]) -> dict[str, Any]:
    mark = told["mark"]
    work = mark if mark and mark.item_version else None
    own = None if work is None else work.points if work.computed is None else work.computed
    return {
        **cell_shown(told["cell"]),
        "computed": own,
        "earned": work.earned if work else None,
        "handed_in_at": work.handed_in_at if work else None,
        "version": work.item_version if work else None,
        **{name: told[name] for name in ("began_at", "practised", "reasons", "hints")},
        "adjustments": [adjustment_shown(row) for row in told["adjustments"]],
        "alike": [alike_shown(pair) for pair in told["alike"]],
    }


def alike_shown(pair: dict[str, Any]) -> dict[str, Any]:
    return {"one": pair["one"].pk, "other": pair["other"].pk, "share": pair["share"]}


def teacher(request: HttpRequest, pk: int) -> Member:
    return gradebook.teacher_of(user=request.user, pk=pk)


@router.get("/courses/{int:pk}/grades", response=GradebookOut)
def gradebook_get(request: HttpRequest, pk: Number, asked: Query[BookAsked]) -> Any:
    """Students and graded items of a course that you teach, a page of 100 students at once.

    `show`: all, missing, late, adjusted, outdated or left. `sort`: name, total or item-<id>, `-` before it turns it.
    """
    course = teacher(request, pk).course
    items = gradebook.items_of(course)
    wanted = gradebook.asked_of(asked.dict(), items)
    rows = gradebook.rows_of(course=course, items=items, asked=wanted)
    first = (wanted.page - 1) * gradebook.PAGE
    return {
        "items": [item_shown(item) for item in items],
        "students": [
            {
                "member": row.member.pk,
                "nickname": row.member.nickname,
                "account": gradebook.account_of(row.member),
                "total": row.total,
                "cells": [cell_shown(cell) for cell in row.cells],
            }
            for row in rows[first : first + gradebook.PAGE]
        ],
        "count": len(rows),
        "pages": max(1, -(-len(rows) // gradebook.PAGE)),
    }


@router.get("/courses/{int:pk}/grades/mine", response=OwnGradesOut)
def grades_mine(request: HttpRequest, pk: Number) -> Any:
    """Your own marks in a course, with reasons and what a teacher set by hand."""
    course = selectors.course_get(user=request.user, pk=pk)
    member = selectors.member_of(user=request.user, course=course)
    member.course = course
    rows = [] if member.teaches else gradebook.own(member=member)
    marks = [
        {
            "item": row["item"].pk,
            "title": row["item"].title,
            "points": row["cell"].points,
            "of": row["item"].points,
            "computed": row["mark"].computed if row["mark"] else None,
            "days_late": row["cell"].late,
            "reasons": row["mark"].reasons if row["mark"] else [],
            "adjustments": [adjustment_shown(each) for each in row["adjustments"]],
        }
        for row in rows
    ]
    return {"marks": marks, "total": sum(row["points"] or 0 for row in marks), "of": sum(row["of"] for row in marks)}


@router.get("/courses/{int:pk}/grades/document", response=dict[str, Any])
def grades_document(request: HttpRequest, pk: Number) -> Any:
    """The whole gradebook as a document of the form /api/schemas/gradebook.json."""
    return grade_export.document(teacher(request, pk).course)


@router.get("/courses/{int:pk}/grades/csv", response=GradesFileOut)
def grades_csv(request: HttpRequest, pk: Number) -> Any:
    """The points that count as CSV: a line a student, a column an item, no cell a formula."""
    return {"csv": grade_export.table(teacher(request, pk).course)}


@router.get("/courses/{int:pk}/grades/{int:member}/{int:item}", response=GradeOut)
def grade_get(request: HttpRequest, pk: Number, member: Number, item: Number) -> Any:
    """One student at one item: reasons, time, hints, whose work it is like, and what was set by hand."""
    return grade_shown(gradebook.cell_of(teacher=teacher(request, pk), member_id=member, item_id=item))


@router.put("/courses/{int:pk}/grades/{int:member}/{int:item}/points", response=GradeOut)
def grade_points_put(request: HttpRequest, pk: Number, member: Number, item: Number, body: PointsIn) -> Any:
    """Set points by hand, with a reason that the student reads, or let the work count again; its own are kept."""
    who, user = teacher(request, pk), request.user
    told = gradebook.cell_of(teacher=who, member_id=member, item_id=item)
    person: Any = user
    adjustments.points_set(
        by=person, item=told["item"], member=told["member"], points=body.points, reason=body.reason, seen=body.seen
    )
    return grade_shown(gradebook.cell_of(teacher=who, member_id=member, item_id=item))


@router.get("/courses/{int:pk}/alike/{int:item}", response=AlikePairsOut)
def grades_alike(request: HttpRequest, pk: Number, item: Number) -> Any:
    """Pairs of students whose work on an item shares four fifths or more: a reason to look, no verdict."""
    found = gradebook.item_for(teacher=teacher(request, pk), pk=item)
    if kinds.kind_of(found.kind).files is None:
        raise selectors.missing()
    return {"pairs": [alike_shown(pair) for pair in gradebook.alike_of(item=found)]}


@router.get("/courses/{int:pk}/alike/{int:item}/{int:one}/{int:other}", response=BesideOut)
def grades_beside(request: HttpRequest, pk: Number, item: Number, one: Number, other: Number) -> Any:
    """Two students' files line by line."""
    who = teacher(request, pk)
    found = gradebook.item_for(teacher=who, pk=item)
    left, right = gradebook.students_of(teacher=who, pks=[one, other])
    return gradebook.beside(item=found, one=left, other=right)


# -- grading again


def regrade_row(row: Regrade) -> dict[str, Any]:
    plain = ("state", "total", "done", "reason", "made_at", "ended_at")
    told = {"id": row.pk, "item": row.item_id, "version": row.item_version}
    return {**told, **{name: getattr(row, name) for name in plain}}


def regrade_shown(row: Regrade) -> dict[str, Any]:
    told = regrades.shown(row)
    changes = [
        {
            "member": each["member"].pk,
            "nickname": each["member"].nickname,
            **{name: each[name] for name in ("was", "now", "by_hand", "why")},
        }
        for each in told["changes"]
    ]
    return {**regrade_row(row), "changes": changes, "same": told["same"], "none": told["none"]}


@router.get("/courses/{int:pk}/regrade/{int:item}", response=RegradesOut)
def regrade_list(request: HttpRequest, pk: Number, item: Number) -> Any:
    """When an item was graded again, the newest first."""
    found = gradebook.item_for(teacher=teacher(request, pk), pk=item)
    return {"regrades": [regrade_row(row) for row in Regrade.objects.filter(item=found)[:20]]}


@router.post("/courses/{int:pk}/regrade/{int:item}", response={202: RegradeOut})
def regrade_begin(request: HttpRequest, pk: Number, item: Number) -> Any:
    """Grade what was handed in by the text as it is now, without changing a mark. A worker does it in a moment."""
    found = gradebook.item_for(teacher=teacher(request, pk), pk=item)
    person: Any = request.user
    return Status(202, regrade_shown(regrades.regrade_start(by=person, item=found)))


@router.get("/courses/{int:pk}/regrades/{int:number}", response=RegradeOut)
def regrade_get(request: HttpRequest, pk: Number, number: Number) -> Any:
    """Who would have other points, from what to what, and why."""
    return regrade_shown(regrades.regrade_get(teacher=teacher(request, pk), pk=number))


@router.post("/courses/{int:pk}/regrades/{int:number}", response=RegradeOut)
def regrade_act(request: HttpRequest, pk: Number, number: Number, body: RegradeActIn) -> Any:
    """Apply it as one act, discard it, or stop it. Applying is refused where a mark was changed meanwhile."""
    found = regrades.regrade_get(teacher=teacher(request, pk), pk=number)
    person: Any = request.user
    act = {"apply": regrades.regrade_apply, "discard": regrades.regrade_discard, "cancel": regrades.regrade_cancel}
    return regrade_shown(act[body.act](by=person, regrade=found))
