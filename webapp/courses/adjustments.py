"""Points that a teacher sets by hand: with a reason, recorded, told to the student, and the work's own points kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from webapp.audit import services as audit
from webapp.courses import selectors, services
from webapp.courses.models import Adjustment, Item, Mark, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.notices import services as notices
from webapp.notices.models import alone

if TYPE_CHECKING:
    from webapp.accounts.models import User

LONGEST: Final = 400


@transaction.atomic
def points_set(
    *, by: User, item: Item, member: Member, points: float | None, reason: str, seen: float | None = None
) -> Mark | None:
    """From now on these points count, whatever is handed in, until they are taken back (`points` null). The same once
    more changes nothing. `seen`: what counted where the teacher looked; another by now is refused with 409."""
    teacher = selectors.must_change(user=by, course=item.course)
    reason = _reason(reason, item, points)
    if member.course_id != item.course_id or member.teaches:
        raise selectors.missing()
    mark = Mark.objects.select_for_update().filter(item=item, member=member).first()
    newest = Adjustment.objects.filter(item=item, member=member).first()
    if newest is not None and (newest.after, newest.reason) == (points, reason):
        return mark
    before = mark.points if mark else None
    if seen is not None and seen != before:
        raise VpmsError("outdated", 409, message="The mark was changed meanwhile; look at it again. Nothing was set.")
    if points is None and (mark is None or mark.computed is None):
        raise VpmsError("not_possible", 409, message="The points count by the work; there is nothing to take back.")
    row = Adjustment.objects.create(item=item, member=member, by=teacher, before=before, after=points, reason=reason)
    mark = _put(item, member, mark, points)
    told = {"item": item.pk, "adjustment": row.pk, "before": _said(before), "after": _said(points)}
    audit.record(by=by, type="course.points", subject=f"course:{item.course_id}", data=told)
    tell(item, member, "mark.unset" if points is None else "mark.set", f"{row.pk}", mark.points if mark else 0.0)
    services.marked(item, member)
    return mark


def _reason(text: str, item: Item, points: float | None) -> str:
    faults = []
    if points is not None and not (math.isfinite(points) and 0 <= points <= item.points):
        faults.append(Fault("$.points", f"must be a number from 0 to {item.points}"))
    text = " ".join(text.split())
    if not text:
        faults.append(Fault("$.reason", "is missing: the student reads it"))
    elif len(text) > LONGEST or not text.isprintable():
        faults.append(Fault("$.reason", f"is longer than {LONGEST} characters, or has some that cannot be printed"))
    if faults:
        raise BadInput(faults)
    return text


def _put(item: Item, member: Member, mark: Mark | None, points: float | None) -> Mark | None:
    """The mark with the teacher's points, or with its own again; one that had no work behind it goes."""
    if mark is None:
        assert points is not None
        return Mark.objects.create(
            item=item, member=member, earned=0.0, computed=0.0, points=round(points, 4), item_version=0,
            handed_in_at=timezone.now(),
        )  # fmt: skip
    if points is None:
        if not mark.item_version:
            mark.delete()
            return None
        mark.points, mark.computed = services.by_work(mark), None
    else:
        mark.computed = mark.points if mark.computed is None else mark.computed
        mark.points = round(points, 4)
    mark.save(update_fields=["points", "computed", "marked_at"])
    return mark


def _said(points: float | None) -> str:
    return "" if points is None else f"{points:g}"


def tell(item: Item, member: Member, code: str, key: str, points: float) -> None:
    """The student is told that a mark changed, inside the caller's transaction."""
    notices.tell(
        code,
        tenant=alone(member.user),
        key=key,
        subject=item.title,
        link=f"/learn/courses/{item.course_id}/grades/mine/#item-{item.pk}",
        course=item.course.title,
        item=item.title,
        points=_said(round(points, 2)),
    )
