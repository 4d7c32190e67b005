"""Writes of courses, members, items and marks: each refuses, records and changes whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from webapp.audit import services as audit
from webapp.courses import kinds, selectors
from webapp.courses.models import Course, Item, Mark, Member
from webapp.errors import BadInput, Fault, VpmsError

if TYPE_CHECKING:
    from webapp.accounts.models import User


@transaction.atomic
def course_create(*, by: User, title: str, summary: str = "") -> Course:
    """A new, empty course with the person as its teacher. Teachers only."""
    if not by.is_teacher:
        raise VpmsError("forbidden", 403, message="Only a teacher can make a course.")
    course = Course.objects.create(title=line("title", title, most=120), summary=line("summary", summary, most=500))
    member_add(course=course, user=by, role=Member.Role.TEACHER, nickname=by.username)
    audit.record(by=by, type="course.created", subject=f"course:{course.pk}", data={})
    return course


def line(name: str, text: str, *, most: int, needed: bool | None = None) -> str:
    """A line of text as typed, without blanks around it; BadInput if it is too long, or missing where it is needed."""
    text = " ".join(text.split())
    if not text and (name == "title" if needed is None else needed):
        raise BadInput([Fault(f"$.{name}", "is missing")])
    if len(text) > most or not text.isprintable():
        raise BadInput([Fault(f"$.{name}", f"is longer than {most} characters, or has some that cannot be printed")])
    return text


@transaction.atomic
def member_add(*, course: Course, user: User, role: str = Member.Role.STUDENT, nickname: str) -> Member:
    """The person takes part in the course; who took part before does so again, with the work of then."""
    nickname = line("nickname", nickname, most=40, needed=True)
    taken = Member.objects.filter(course=course, nickname__iexact=nickname).exclude(user=user)
    if taken.exists():
        raise BadInput([Fault("$.nickname", "is taken in this course; choose another")])
    member, _ = Member.objects.update_or_create(
        course=course,
        user=user,
        defaults={"nickname": nickname, "left_at": None},
        create_defaults={"nickname": nickname, "role": role, "seed": secrets.randbits(48)},
    )
    return member


def graded_seed(item: Item, member: Member) -> int:
    """The seed with which this student's work on this item is graded: fixed, told to nobody, another for each."""
    return int.from_bytes(hashlib.sha256(f"{member.seed}/{item.pk}".encode()).digest()[:6], "big")


@transaction.atomic
def item_add(*, by: User, course: Course, kind: str, title: str, text: str, **settings: Any) -> Item:
    """A new item at the end of the course, hidden until it is shown. Its teachers only."""
    selectors.must_teach(user=by, course=course)
    kinds.read(kind, text)
    last = Item.objects.filter(course=course).aggregate(last=Max("place"))["last"] or 0
    item = Item.objects.create(
        course=course, place=last + 1, kind=kind, title=line("title", title, most=120), text=text, **settings
    )
    audit.record(by=by, type="course.item", subject=f"course:{course.pk}", data={"item": item.pk, "kind": kind})
    return item


@transaction.atomic
def shipped_add(*, by: User, course: Course, kind: str, name: str, language: str) -> Item:
    """A copy of what comes with the product as an item of the course; BadInput for a name that is none."""
    row = kinds.kind_of(kind)
    found = next((each for each in row.shipped(language) if each.name == name), None)
    if found is None:
        raise BadInput([Fault("$.name", f"{name[:32]!r} is nothing of this kind that comes with the product")])
    return item_add(by=by, course=course, kind=kind, title=found.title[:120], text=found.text, points=row.points)


@transaction.atomic
def item_shown(*, by: User, item: Item, shown: bool) -> Item:
    """Students see the item from now on, or no longer."""
    selectors.must_teach(user=by, course=item.course)
    item.shown = shown
    item.save(update_fields=["shown"])
    told = {"item": item.pk, "shown": shown}
    audit.record(by=by, type="course.item", subject=f"course:{item.course_id}", data=told)
    return item


@transaction.atomic
def item_move(*, by: User, item: Item, places: int) -> None:
    """The item stands so many places later in its course; places are counted anew from 1."""
    selectors.must_teach(user=by, course=item.course)
    rows = list(Item.objects.select_for_update().filter(course=item.course))
    at = rows.index(item)
    rows.insert(max(0, min(len(rows) - 1, at + places)), rows.pop(at))
    for place, row in enumerate(rows, 1):
        if row.place != place:
            Item.objects.filter(pk=row.pk).update(place=place)


def days_late(item: Item, at: dt.datetime) -> int:
    """Days begun after the due time; 0: in time."""
    if item.due_at is None or at <= item.due_at:
        return 0
    return math.ceil((at - item.due_at) / dt.timedelta(days=1))


def counted(item: Item, earned: float, days: int) -> float:
    """The points that count by the item's late rule."""
    if not days or item.late == Item.Late.FULL:
        return earned
    if item.late == Item.Late.NONE:
        return 0.0
    return round(earned * max(0.0, 1 - days * item.late_percent / 100), 4)


def by_work(mark: Mark) -> float:
    """What the work itself counts, whatever a teacher set; less than nothing where there is no work."""
    if not mark.item_version:
        return -1.0
    return mark.points if mark.computed is None else mark.computed


on_marked: list[Callable[[int], None]] = []  # told the course of a mark that has changed, in its transaction
on_member_marked: list[Callable[[int, int], None]] = []  # the same, told the item and the member


@transaction.atomic
def mark_put(
    *, item: Item, member: Member, earned: float, reasons: Sequence[Any], handed_in_at: dt.datetime | None = None
) -> Mark:
    """Keep what a piece of work is worth, if it counts for more than what the student has: the best work stands."""
    at = handed_in_at or timezone.now()
    days = days_late(item, at)
    points = counted(item, earned, days)
    held = Mark.objects.select_for_update().filter(item=item, member=member).first()
    if held is not None and by_work(held) >= points:
        return held
    by_hand = held is not None and held.computed is not None  # then the teacher's points stand, and the work is kept
    mark, _ = Mark.objects.update_or_create(
        item=item,
        member=member,
        defaults={
            "earned": earned,
            "computed" if by_hand else "points": points,
            "reasons": list(reasons),
            "days_late": days,
            "item_version": item.version,
            "handed_in_at": at,
        },
    )
    marked(item, member)
    return mark


def marked(item: Item, member: Member) -> None:
    """Whoever wants to know is told that a mark has changed, inside the caller's transaction."""
    for tell in on_marked:
        tell(item.course_id)
    for hear in on_member_marked:
        hear(item.pk, member.pk)
