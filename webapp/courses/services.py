"""Writes of courses, members, items and marks: each refuses, records and changes whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from webapp.audit import services as audit
from webapp.courses import kinds, selectors
from webapp.courses.deadlines import LATE, counted, days_late, late_reason, over, told
from webapp.courses.models import Course, Item, ItemVersion, Mark, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.tenants import quotas

if TYPE_CHECKING:
    from webapp.accounts.models import User


MOST_ITEMS: Final = 200  # of one course


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
    selectors.must_change(user=by, course=course)
    kinds.read(kind, text)
    if Item.objects.filter(course=course).count() >= MOST_ITEMS:
        raise VpmsError("too_many", 409, message=f"A course holds at most {MOST_ITEMS} items.")
    last = Item.objects.filter(course=course).aggregate(last=Max("place"))["last"] or 0
    item = Item.objects.create(
        course=course, place=last + 1, kind=kind, title=line("title", title, most=120), text=text, **settings
    )
    ItemVersion.objects.create(item=item, version=1, text=text, by=by)
    quotas.expect_stored(by=by, path="$.text")
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
    selectors.must_change(user=by, course=item.course)
    item.shown = shown
    item.save(update_fields=["shown"])
    told = {"item": item.pk, "shown": shown}
    audit.record(by=by, type="course.item", subject=f"course:{item.course_id}", data=told)
    return item


@transaction.atomic
def item_move(*, by: User, item: Item, places: int) -> None:
    """The item stands so many places later in its course; places are counted anew from 1."""
    selectors.must_change(user=by, course=item.course)
    rows = list(Item.objects.select_for_update().filter(course=item.course))
    at = rows.index(item)
    rows.insert(max(0, min(len(rows) - 1, at + places)), rows.pop(at))
    for place, row in enumerate(rows, 1):
        if row.place != place:
            Item.objects.filter(pk=row.pk).update(place=place)


def expect_open(*, item: Item, used: int, at: dt.datetime) -> None:
    """Refused where the item takes no more work for a grade: its course is archived, it is too late, or all tries are
    used. Kinds whose work is handed in ask before they take it."""
    if item.course.archived_at is not None:
        raise VpmsError("archived", 409, message="The course is archived: nothing can be handed in any more.")
    if item.accepted_until is not None and over(item, at):
        message = f"It was accepted until {told(item.accepted_until)}. You can go on practising."
        raise VpmsError("too_late", 409, message=message)
    if item.tries and used >= item.tries:
        raise VpmsError("no_tries", 409, message=f"All of your tries are used: {item.tries}. You can go on practising.")


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
    """Keep what a piece of work is worth, if it counts for more than what the student has: the best work stands. What
    came late says in a reason of its own what it lost. A teacher's work, also in a preview, makes no mark."""
    at = handed_in_at or timezone.now()
    days = days_late(item, at)
    points = counted(item, earned, days, at)
    late = late_reason(item, earned, days, at)
    reasons = [*reasons, *([late] if late else [])]
    if member.role == Member.Role.TEACHER:
        return Mark(item=item, member=member, earned=earned, points=points, reasons=reasons, handed_in_at=at)
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


def marks_recount(item: Item, *, points_before: int) -> int:
    """Count the marks of an item anew by its points and late rule as they are now; how many changed."""
    scale = item.points / points_before if points_before else 1.0
    changed = 0
    for mark in Mark.objects.select_for_update().filter(item=item, item_version__gt=0).select_related("member"):
        own = [row for row in mark.reasons if row["name"] != LATE]
        earned = round(mark.earned * scale, 4)
        days = days_late(item, mark.handed_in_at)
        late = late_reason(item, earned, days, mark.handed_in_at)
        scaled = [{**row, **{key: round(row[key] * scale, 4) for key in ("points", "of")}} for row in own]
        points = counted(item, earned, days, mark.handed_in_at)
        counts = points if mark.computed is None else mark.points  # what a teacher set by hand stands
        mark.computed = None if mark.computed is None else points
        moved, mark.points = counts != mark.points, counts
        mark.earned, mark.days_late = earned, days
        mark.reasons = [*scaled, *([late] if late else [])]
        mark.save(update_fields=["earned", "points", "computed", "days_late", "reasons", "marked_at"])
        changed += moved
        for hear in on_member_marked if moved else ():
            hear(item.pk, mark.member_id)
    if changed:
        for tell in on_marked:
            tell(item.course_id)
    return changed
