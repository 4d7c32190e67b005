"""Reads of courses. To whoever takes no part in a course it is as missing as one that does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import OuterRef, QuerySet, Subquery

from webapp.courses.models import ClassSession, Course, Item, Member
from webapp.errors import VpmsError

if TYPE_CHECKING:
    from webapp.accounts.models import User


def missing() -> VpmsError:
    return VpmsError("not_found", 404, message="There is nothing here that you may see.")


def courses_of(*, user: Any) -> QuerySet[Course]:
    return Course.objects.visible_to(user)


def members_of(*, user: Any) -> QuerySet[Member]:
    """The person's memberships with their courses, and the code of the class that is open (`class_code`)."""
    open_ = ClassSession.objects.filter(course=OuterRef("course"), ended_at__isnull=True).values("code")[:1]
    found = Member.objects.filter(user=user, left_at__isnull=True) if user.pk else Member.objects.none()
    return found.select_related("course").annotate(class_code=Subquery(open_)).order_by("-course")


def course_get(*, user: Any, pk: int) -> Course:
    found = Course.objects.visible_to(user).filter(pk=pk).first()
    if found is None:
        raise missing()
    return found


def member_of(*, user: Any, course: Course) -> Member:
    """The person as a member of the course; 404 for everybody else. A teacher who looks at it as a student does is one
    here (webapp/courses/preview.py)."""
    found = Member.objects.filter(course=course, user=user, left_at__isnull=True).first() if user.pk else None
    if found is None:
        raise missing()
    found.previews = found.teaches and user.previewing == course.pk
    return found


def must_teach(*, user: User, course: Course) -> Member:
    """The person as a teacher of this course. A student of it is refused with a sentence, others find nothing."""
    found = member_of(user=user, course=course)
    if found.previews:
        raise VpmsError("previewing", 409, message="You see this course as a student now. End the preview first.")
    if not found.teaches or not user.is_teacher:
        raise VpmsError("forbidden", 403, message="Only a teacher of this course can do this.")
    return found


def must_change(*, user: User, course: Course) -> Member:
    """The same, for what changes the course: an archived one is read alone."""
    found = must_teach(user=user, course=course)
    if course.archived_at is not None:
        raise VpmsError("archived", 409, message="The course is archived. Bring it back first.")
    return found


def items_of(*, member: Member) -> QuerySet[Item]:
    """What the member may see of the course: students what is shown, teachers all."""
    found = Item.objects.filter(course=member.course)
    return found if member.teaches else found.open_to_students()


def item_get(*, user: Any, pk: int) -> tuple[Item, Member]:
    """The item and the person as a member of its course; 404 if there is none that the person may see."""
    item = Item.objects.select_related("course").filter(pk=pk, course__in=Course.objects.visible_to(user)).first()
    if item is None:
        raise missing()
    member = member_of(user=user, course=item.course)
    if not item.open_to_students and not member.teaches:
        raise missing()
    return item, member
