"""A teacher looks at a course as a student does: kept with the browser's session, and ended by one button.

While it lasts the teacher is a student in every view of that course (selectors.member_of). What is tried makes no mark,
and what was answered goes when the preview ends. No other course, browser or token knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpRequest, HttpResponseBase

from webapp.courses import selectors
from webapp.courses.models import Course, LessonAnswer, Prediction

if TYPE_CHECKING:
    from webapp.accounts.models import User

KEPT: Final = "preview"  # of the session: {"course", "title"}


class PreviewMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user: Any = request.user
        if user.is_authenticated and (kept := request.session.get(KEPT)):
            user.previewing = kept["course"]
        return self.get_response(request)


def begin(request: HttpRequest, *, by: User, course: Course) -> None:
    """From now on this browser shows the course as to a student who has done nothing yet."""
    selectors.must_teach(user=by, course=course)
    _forget(by, course.pk)
    request.session[KEPT] = {"course": course.pk, "title": course.title}


def end(request: HttpRequest, *, by: User) -> int | None:
    """Ends it; the course that was looked at."""
    kept = request.session.pop(KEPT, None)
    if kept is None:
        return None
    by.previewing = None
    _forget(by, kept["course"])
    return int(kept["course"])


def _forget(by: User, course: int) -> None:
    """A teacher's answers count for nothing; those of a preview would open what a student does not see yet."""
    for answers in (LessonAnswer, Prediction):
        answers.objects.filter(user=by, item__course=course, item__course__members__in=_teaching(by)).delete()


def _teaching(by: User) -> Any:
    from webapp.courses.models import Member

    return Member.objects.filter(user=by, role=Member.Role.TEACHER)
