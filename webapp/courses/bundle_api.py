"""Courses as files by API: what the pages of bundles do."""

from __future__ import annotations

from typing import Annotated, Any, Final

from django.http import HttpRequest, HttpResponse
from ninja import Field, Router, Status

from webapp.courses import bundle_views, bundles, selectors
from webapp.courses.class_api import CourseOut, course_shown
from webapp.rest.document import body_of_file

router = Router(tags=["courses"])
ZIP: Final[dict[str, Any]] = {
    "responses": {
        200: {
            "description": "The bundle, a zip archive as docs/course-formats.md describes it.",
            "content": {"application/zip": {"schema": {"type": "string", "contentEncoding": "binary"}}},
        }
    }
}


@router.get("/courses/{int:pk}/bundle", openapi_extra=ZIP)
def bundle_get(request: HttpRequest, pk: int) -> Any:
    """A course of yours as one file: items, settings and offsets of dates; no person, work, mark or seed. The same
    course gives the same bytes. Teachers of the course only."""
    user: Any = request.user
    raw = bundles.exported(by=user, course=selectors.course_get(user=user, pk=pk))
    return HttpResponse(raw, content_type="application/zip")


@router.post(
    "/course-bundles",
    response={201: CourseOut},
    openapi_extra=body_of_file("A bundle of a course (.zip), at most 5 MiB."),
)
def bundle_import(
    request: HttpRequest,
    first: Annotated[str, Field(max_length=10, description="The first date of the course, like 2026-01-31.")] = "",
) -> Any:
    """Make a new course of a bundle, all of it hidden from students. The file is the body itself, with Content-Type:
    application/octet-stream; a faulty one is refused whole. Teachers only."""
    user: Any = request.user
    made = bundles.imported(by=user, raw=request.body, first=bundle_views.first_of(first))
    return Status(201, course_shown(selectors.members_of(user=user).get(course=made)))
