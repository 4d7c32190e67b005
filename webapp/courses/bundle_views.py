"""A course to take away as one file, and the form that makes a course of such a file."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from webapp.courses import archives, bundles, selectors
from webapp.errors import BadInput, Fault
from webapp.roles import teacher_required


@require_GET
@teacher_required
def take(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    found = selectors.course_get(user=user, pk=pk)
    answer = HttpResponse(bundles.exported(by=user, course=found), content_type="application/zip")
    name = slugify(found.title)[:60] or "course"
    answer["Content-Disposition"] = f'attachment; filename="{name}.zip"'
    return answer


@require_http_methods(["GET", "HEAD", "POST"])
@teacher_required
def bring(request: HttpRequest) -> HttpResponse:
    """A form for the file and the first date; what is refused is told with its place, and nothing is made."""
    user: Any = request.user
    faults: list[Fault] = []
    typed = request.POST.get("first", "").strip()[:40]
    if request.method == "POST":
        file = request.FILES.get("file")
        raw = file.read(archives.MOST_BYTES + 1) if file else b""
        try:
            made = bundles.imported(by=user, raw=raw, first=first_of(typed)) if raw else None
        except BadInput as refused:
            faults = refused.faults
        else:
            if made is not None:
                messages.success(request, _("The course is made. Students see each item once you show it."))
                return redirect("course", made.pk)
            faults = [Fault("$.file", _("is missing or empty; choose a file"))]
    context = {
        "whole": [fault.reason for fault in faults if fault.path == "$.file"],
        "first_fault": next((fault.reason for fault in faults if fault.path == "$.first"), ""),
        "places": [fault for fault in faults if fault.path not in ("$.file", "$.first")],
        "first": typed,
    }
    return render(request, "courses/bundle.html", context, status=422 if faults else 200)


def first_of(text: str) -> dt.datetime | None:
    """The date of a form, 23:59 in UTC of that day; None where none is given; BadInput."""
    if not text:
        return None
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise BadInput([Fault("$.first", _("must be a date like 2026-01-31"))]) from None
    if not 2000 <= day.year <= 2100:
        raise BadInput([Fault("$.first", _("must be a date like 2026-01-31"))])
    return dt.datetime.combine(day, dt.time(23, 59), dt.UTC)
