"""Building a course by API: texts of items, their versions, settings and end; a course renamed, copied, archived."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema, Status
from pydantic import AwareDatetime, ConfigDict

from webapp.courses import builder, deadlines, editing, selectors, services
from webapp.courses.kinds import LONGEST_TEXT, kind_of
from webapp.courses.models import Course, Item, ItemVersion, Member
from webapp.rest.etags import etag, seen_in
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["courses"])
Number = Annotated[int, Field(ge=1, lt=2**53)]
Line = Annotated[str, Field(max_length=120)]
ItemText = Annotated[str, Field(max_length=LONGEST_TEXT, description="In the language of the item's kind.")]


class CourseDetailOut(Schema):
    id: int
    title: str
    summary: str
    teaches: bool
    archived_at: dt.datetime | None
    copied_from: int | None = Field(description="The course that it is a copy of, for its teachers.")


class CourseChangeIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "Isolation", "summary": ""}]})
    title: Line
    summary: Annotated[str, Field(max_length=500)] = ""


class CourseCopyIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "Isolation", "days": 364}]})
    title: Line
    days: Annotated[int, Field(ge=-builder.MOST_DAYS, le=builder.MOST_DAYS)] = Field(
        0, description="By which every date is shifted, at the same time of day in the site's time zone."
    )


class CourseArchiveIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"archived": True}]})
    archived: bool


class ItemMakeIn(Strict):
    """A new item with a text of your own; without one it is blank."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "lesson", "title": "", "text": ""}]}
    )
    kind: Annotated[str, Field(max_length=16)]
    title: Line = ""
    text: ItemText = ""


class ItemTextIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "---\nschema: vpms/lesson-1\n..."}]}
    )
    text: ItemText


class ItemTextOut(Schema):
    id: int
    kind: str
    version: int
    text: str


class ItemPlaceOut(Schema):
    line: int
    column: int
    reason: str


class ItemCheckOut(Schema):
    ok: bool
    faults: list[ItemPlaceOut]


class ItemVersionOut(Schema):
    id: int
    version: int
    made_at: dt.datetime
    by: str | None


class ItemVersionTextOut(ItemVersionOut):
    text: str


class ItemSettingsOut(Schema):
    id: int
    title: str
    points: int
    tries: int = Field(description="Graded tries of each student; 0: without limit.")
    visible_from: dt.datetime | None
    due_at: dt.datetime | None
    accepted_until: dt.datetime | None
    late: str
    late_percent: int
    zone: str = Field(description="The site's time zone, in which days of lateness are counted.")
    rule: str = Field(description="As students read it.")


class ItemSettingsIn(Strict):
    """Only what is given changes; null takes a time away."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"points": 10, "due_at": "2026-12-01T17:00:00Z", "late": "daily", "late_percent": 10}]
        },
    )
    title: Line | None = None
    points: Annotated[int, Field(ge=0, le=builder.MOST_POINTS)] | None = None
    tries: Annotated[int, Field(ge=0, le=builder.MOST_TRIES)] | None = None
    visible_from: AwareDatetime | None = None
    due_at: AwareDatetime | None = None
    accepted_until: AwareDatetime | None = None
    late: Literal["full", "daily", "none"] | None = None
    late_percent: Annotated[int, Field(ge=0, le=100)] | None = None


class ItemChangedOut(ItemSettingsOut):
    marks_changed: int = Field(description="Marks that count differently now.")


class ItemGoneOut(Schema):
    """What is, or was, deleted with the item."""

    marks: int
    attempts: int
    drafts: int
    answers: int
    versions: int


def _item(request: HttpRequest, pk: int) -> Item:
    """An item that the person teaches."""
    user: Any = request.user
    item, _member = selectors.item_get(user=user, pk=pk)
    selectors.must_teach(user=user, course=item.course)
    return item


def _course(request: HttpRequest, pk: int) -> Course:
    return selectors.course_get(user=request.user, pk=pk)


# -- the course


def _course_shown(course: Course, member: Member) -> dict[str, Any]:
    plain = {name: getattr(course, name) for name in ("title", "summary", "archived_at")}
    copied = course.copied_from_id if member.teaches else None
    return {"id": course.pk, **plain, "teaches": member.teaches, "copied_from": copied}


def _course_tagged(request: HttpRequest, response: HttpResponse, course: Course) -> dict[str, Any]:
    response["ETag"] = etag(course.version, builder.course_digest(course))
    return _course_shown(course, selectors.member_of(user=request.user, course=course))


@router.get("/courses/{int:pk}", response=CourseDetailOut)
def course_get(request: HttpRequest, response: HttpResponse, pk: Number) -> Any:
    """A course in which you take part."""
    return _course_tagged(request, response, _course(request, pk))


@router.put("/courses/{int:pk}", response=CourseDetailOut)
def course_put(request: HttpRequest, response: HttpResponse, pk: Number, body: CourseChangeIn) -> Any:
    """Another title and summary. With If-Match it is refused with 412 where others changed them meanwhile."""
    user: Any = request.user
    course = _course(request, pk)
    seen = seen_in(request, newest=course.version)
    saved = builder.course_put(by=user, course=course, title=body.title, summary=body.summary, seen=seen)
    return _course_tagged(request, response, saved)


@router.put("/courses/{int:pk}/archive", response=CourseDetailOut)
def course_archive(request: HttpRequest, pk: Number, body: CourseArchiveIn) -> Any:
    """Archive the course, or bring it back. An archived one can be read, and nothing in it changes."""
    user: Any = request.user
    course = builder.course_archive(by=user, course=_course(request, pk), archived=body.archived)
    return _course_shown(course, selectors.member_of(user=user, course=course))


@router.post("/courses/{int:pk}/copies", response={201: CourseDetailOut})
def course_copy(request: HttpRequest, pk: Number, body: CourseCopyIn) -> Any:
    """A new course with the same items and shifted dates; without students, marks and classes."""
    user: Any = request.user
    made = builder.course_copy(by=user, course=_course(request, pk), title=body.title, days=body.days)
    return Status(201, _course_shown(made, selectors.member_of(user=user, course=made)))


# -- items


@router.post("/courses/{int:pk}/items/new", response={201: ItemSettingsOut})
def item_make(request: HttpRequest, pk: Number, body: ItemMakeIn) -> Any:
    """A new item at the end of the course, hidden until you show it. A faulty text is refused with line and column."""
    user: Any = request.user
    course = _course(request, pk)
    kind = kind_of(body.kind)
    if not body.text and not body.title:
        return Status(201, _settings_shown(builder.blank_add(by=user, course=course, kind=body.kind)))
    text, title = editing.cleaned(body.text) or kind.blank, body.title or f"{kind.label}"
    made = services.item_add(by=user, course=course, kind=kind.name, title=title, text=text, points=kind.points)
    return Status(201, _settings_shown(made))


@router.delete("/items/{int:pk}", response=ItemGoneOut)
def item_delete(request: HttpRequest, pk: Number, with_work: bool = False) -> Any:
    """Delete an item with all that belongs to it. Where students have worked on it, only with `with_work`."""
    user: Any = request.user
    return builder.item_delete(by=user, item=_item(request, pk), with_work=with_work)


@router.get("/items/{int:pk}/text", response=ItemTextOut)
def item_text_get(request: HttpRequest, response: HttpResponse, pk: Number) -> Any:
    """The text of an item, for its teachers."""
    return _text_tagged(response, _item(request, pk))


def _text_tagged(response: HttpResponse, item: Item) -> dict[str, Any]:
    response["ETag"] = etag(item.version, hashlib.sha256(item.text.encode()).hexdigest())
    return {"id": item.pk, **{name: getattr(item, name) for name in ("kind", "version", "text")}}


@router.put("/items/{int:pk}/text", response=ItemTextOut)
def item_text_put(request: HttpRequest, response: HttpResponse, pk: Number, body: ItemTextIn) -> Any:
    """Save another text as a new version. A faulty one is refused whole. With If-Match it is refused with 412 where
    somebody else saved a version after the one that you had read; the answer holds both differences."""
    user: Any = request.user
    item = _item(request, pk)
    seen = seen_in(request, newest=item.version)
    return _text_tagged(response, editing.text_put(by=user, item=item, text=body.text, seen=seen))


@router.post("/items/{int:pk}/check", response=ItemCheckOut)
def item_check(request: HttpRequest, pk: Number, body: ItemTextIn) -> Any:
    """What is wrong with a text, with line and column. Nothing is saved."""
    faults = editing.checked(_item(request, pk).kind, body.text)
    return {"ok": not faults, "faults": [place._asdict() for place in faults]}


def _version_shown(row: ItemVersion) -> dict[str, Any]:
    name = row.by.username if row.by else None
    return {"id": row.pk, "version": row.version, "made_at": row.made_at, "by": name}


@router.get("/items/{int:pk}/versions", response=Listed[ItemVersionOut])
def item_version_list(request: HttpRequest, pk: Number, paging: Query[Paging]) -> Any:
    """The versions of the text that are kept, newest first."""
    return pages(request, editing.versions_of(_item(request, pk)), paging, by="-id", shown=_version_shown)


@router.get("/items/{int:pk}/versions/{int:version}", response=ItemVersionTextOut)
def item_version_get(request: HttpRequest, pk: Number, version: Number) -> Any:
    """One version with its text."""
    user: Any = request.user
    row = editing.version_get(user=user, item=_item(request, pk), version=version)
    return {**_version_shown(row), "text": row.text}


@router.post("/items/{int:pk}/versions/{int:version}/restore", response=ItemTextOut)
def item_restore(request: HttpRequest, response: HttpResponse, pk: Number, version: Number) -> Any:
    """Bring an earlier text back, as a new version."""
    user: Any = request.user
    item = _item(request, pk)
    row = editing.version_get(user=user, item=item, version=version)
    seen = seen_in(request, newest=item.version)
    return _text_tagged(response, editing.text_put(by=user, item=item, text=row.text, seen=seen))


def _settings_shown(item: Item) -> dict[str, Any]:
    told = {"zone": deadlines.zone_name(), "rule": deadlines.rule(item)}
    return {"id": item.pk, **builder.settings_of(item), **told}


def _settings_tagged(response: HttpResponse, item: Item) -> dict[str, Any]:
    response["ETag"] = etag(item.settings_version, builder.settings_digest(item))
    return _settings_shown(item)


@router.get("/items/{int:pk}/settings", response=ItemSettingsOut)
def item_settings_get(request: HttpRequest, response: HttpResponse, pk: Number) -> Any:
    """Title, points, times, tries and late rule of an item, for its teachers."""
    return _settings_tagged(response, _item(request, pk))


@router.patch("/items/{int:pk}/settings", response=ItemChangedOut)
def item_settings_put(request: HttpRequest, response: HttpResponse, pk: Number, body: ItemSettingsIn) -> Any:
    """Change settings; marks are counted anew by them. With If-Match it is refused with 412 where others changed them
    meanwhile."""
    user: Any = request.user
    item = _item(request, pk)
    given = body.dict(exclude_unset=True)
    times = {name: at.astimezone(dt.UTC) if (at := given[name]) else None for name in builder.TIMES if name in given}
    given = {name: value for name, value in given.items() if value is not None} | times
    seen = seen_in(request, newest=item.settings_version)
    saved, changed = builder.settings_put(by=user, item=item, given=given, seen=seen)
    return {**_settings_tagged(response, saved), "marks_changed": changed}
