"""A course as one file: what it holds in order, with the settings of each item; nobody's name, work, mark or seed.

The manifest comes first and names every other member with its digest. A bundle is read by the readers that the course
itself uses, whole, before a row is made. The format is told in docs/course-formats.md.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.text import slugify
from django.utils.translation import gettext as _

from webapp.audit import services as audit
from webapp.courses import archives, builder, kinds, selectors, services
from webapp.courses.models import Course, Item
from webapp.courses.texts import Text as Yaml
from webapp.errors import BadInput, Fault, VpmsError
from webapp.vpms.shapes import Array, Integer, Matching, Nullable, Object, OneOf, Text

if TYPE_CHECKING:
    from webapp.accounts.models import User

SCHEMA: Final = "vpms/course-1"
MANIFEST: Final = "course.json"
MOST_ITEMS: Final = archives.MOST_MEMBERS - 1
LONGEST: Final = 3 * 366 * 86400  # seconds between the first and the last date
FIRST: Final = dt.timedelta(days=14)  # from now to the first date, where nobody says when it is
SETTINGS: Final = ("points", "tries", "late", "late_percent")  # of an item, as they are
# Dates of an item, as seconds after the first date of the course.
DATES: Final = {"visible_after": "visible_from", "due_after": "due_at", "accepted_after": "accepted_until"}
SECONDS: Final = 6  # that reading all items may take
ENDINGS: Final = {"lesson": "md"}  # of a file by its kind; all others are YAML
SHAPE: Final = Object(
    {
        "schema": OneOf([SCHEMA]),
        "title": Text(1, 120),
        "summary": Text(0, 500),
        "items": Array(
            Object(
                {
                    "file": Matching(r"items/[a-z0-9][a-z0-9._-]{0,99}", "the name of a file in items/"),
                    "sha256": Matching(r"[0-9a-f]{64}", "a SHA-256 in lower-case hex"),
                    "kind": Text(1, 16),
                    "title": Text(1, 120),
                    "points": Integer(0, builder.MOST_POINTS),
                    "tries": Integer(0, builder.MOST_TRIES),
                    **{name: Nullable(Integer(0, LONGEST)) for name in DATES},
                    "late": OneOf(Item.Late.values),
                    "late_percent": Integer(0, 100),
                }
            ),
            most=MOST_ITEMS,
        ),
    }
)


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read: the manifest, and the text of each of its items."""

    title: str
    summary: str
    items: list[tuple[Mapping[str, Any], str]]


# -- out


def exported(*, by: User, course: Course) -> bytes:
    """The course as an archive; the same course gives the same bytes. Its teachers only."""
    selectors.must_teach(user=by, course=course)
    items = list(Item.objects.filter(course=course))
    if len(items) > MOST_ITEMS:
        raise VpmsError("too_many", 409, message=_("A bundle holds at most 99 items. Divide the course into two."))
    first = min((date for item in items for date in _dates(item).values() if date), default=None)
    files = {_name(number, item): item.text.encode() for number, item in enumerate(items, 1)}
    manifest = {
        "schema": SCHEMA,
        "title": course.title,
        "summary": course.summary,
        "items": [
            {
                "file": name,
                "sha256": hashlib.sha256(files[name]).hexdigest(),
                "kind": item.kind,
                "title": item.title,
                **{name: getattr(item, name) for name in SETTINGS},
                **{name: date and round((date - first).total_seconds()) for name, date in _dates(item).items()},
            }
            for name, item in zip(files, items, strict=True)
        ],
    }
    text = json.dumps(manifest, ensure_ascii=False, indent=1) + "\n"
    raw = archives.written({MANIFEST: text.encode(), **files})
    if len(raw) > archives.MOST_BYTES:
        raise VpmsError(
            "too_many", 409, message=_("The bundle would be larger than 5 MiB. Divide the course into two.")
        )
    return raw


def _dates(item: Item) -> dict[str, dt.datetime | None]:
    return {name: getattr(item, field) for name, field in DATES.items()}


def _name(number: int, item: Item) -> str:
    words = slugify(item.title)[:60].strip("-_") or item.kind
    return f"items/{number:02}-{words}.{ENDINGS.get(item.kind, 'yaml')}"


# -- in


def read(raw: bytes) -> Bundle:
    """The bundle in an archive; BadInput with one sentence, or with the place of each fault in a file of it."""
    members = archives.read(raw, longest=kinds.LONGEST_TEXT)
    if MANIFEST not in members:
        raise archives.refused(_("holds no course.json"))
    facts = _manifest(members.pop(MANIFEST))
    names = [row["file"] for row in facts["items"]]
    if len(set(names)) < len(names):
        raise archives.refused(_("names a file twice in course.json"))
    for name in [*members, *names]:
        if name not in members or name not in names:
            told = _("holds a file that course.json does not name: %(name)s")
            told = told if name in members else _("does not hold a file that course.json names: %(name)s")
            raise archives.refused(told % {"name": archives.shown(name)})
    for row in facts["items"]:
        if hashlib.sha256(members[row["file"]]).hexdigest() != row["sha256"]:
            told = _("holds a file with another digest than course.json says: %(name)s")
            raise archives.refused(told % {"name": archives.shown(row["file"])})
    over = time.monotonic() + SECONDS
    return Bundle(
        facts["title"], facts["summary"], [(row, _item(row, members[row["file"]], over)) for row in facts["items"]]
    )


def _manifest(data: bytes) -> Any:
    try:
        return Yaml(_text(data)).check(SHAPE)
    except BadInput as refused:
        raise _in_file(MANIFEST, refused) from None


def _item(row: Mapping[str, Any], data: bytes, over: float) -> str:
    """The text of an item that its kind has read."""
    if time.monotonic() > over:
        raise archives.refused(_("takes too long to read. Divide the course into two."))
    try:
        text = _text(data)
        kinds.read(row["kind"], text)
        builder.settings_checked(Item(kind=row["kind"], title=row["title"]), _settings(row, timezone.now()))
    except BadInput as refused:
        raise _in_file(row["file"], refused) from None
    return text


def _text(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadInput([Fault("$", _("is no text in UTF-8"))]) from None
    if "\0" in text:
        raise BadInput([Fault("$", _("is no text in UTF-8"))])
    return text


def _in_file(name: str, refused: BadInput) -> BadInput:
    """The faults with the name of the file that they stand in."""
    return BadInput(
        [Fault(f"{name}, {place}" if (place := _place(path)) else name, why) for path, why in refused.faults]
    )


def _place(path: str) -> str:
    return path.removeprefix("$").removeprefix(".")


def _settings(row: Mapping[str, Any], begin: dt.datetime) -> dict[str, Any]:
    """The settings of an item, with its dates counted from when the course begins."""
    dates = {
        field: None if row[name] is None else begin + dt.timedelta(seconds=row[name]) for name, field in DATES.items()
    }
    return {**{name: row[name] for name in SETTINGS}, **dates}


@transaction.atomic
def imported(*, by: User, raw: bytes, first: dt.datetime | None = None) -> Course:
    """A new course of the bundle in an archive, all of it hidden from students, its first date as said. Teachers only;
    of a faulty bundle nothing is made."""
    if not by.is_teacher:
        raise VpmsError("forbidden", 403, message=_("Only a teacher can make a course."))
    found = read(raw)
    course = services.course_create(by=by, title=found.title, summary=found.summary)
    now = timezone.now().replace(minute=0, second=0, microsecond=0)
    begin = first or now + FIRST
    for row, text in found.items:
        plain = {"kind": row["kind"], "title": row["title"], "text": text}
        services.item_add(by=by, course=course, **plain, **_settings(row, begin))
    told = {"items": len(found.items), "sha256": hashlib.sha256(raw).hexdigest()}
    audit.record(by=by, type="course.imported", subject=f"course:{course.pk}", data=told)
    return course
