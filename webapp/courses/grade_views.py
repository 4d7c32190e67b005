"""Pages of the gradebook: the table, one cell, files beside each other, the exports; and a student's own marks."""

from __future__ import annotations

import math
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from webapp.courses import adjustments, grade_export, gradebook, kinds, selectors
from webapp.courses.models import Member
from webapp.errors import BadInput, VpmsError
from webapp.roles import signed_in_required

SHOW_WORDS: Final = {
    "all": gettext_lazy("everybody"),
    "missing": gettext_lazy("who lacks something that is due"),
    "late": gettext_lazy("who was late"),
    "adjusted": gettext_lazy("points set by hand"),
    "outdated": gettext_lazy("marked by an older text"),
    "left": gettext_lazy("who has left"),
}


@require_GET
@signed_in_required
def book(request: HttpRequest, pk: int) -> HttpResponse:
    teacher = gradebook.teacher_of(user=request.user, pk=pk)
    items = gradebook.items_of(teacher.course)
    try:
        asked = gradebook.asked_of(request.GET.dict(), items)
    except BadInput:
        return redirect("grades", pk)  # an address from elsewhere: the whole book
    rows = gradebook.rows_of(course=teacher.course, items=items, asked=asked)
    pages = max(1, math.ceil(len(rows) / gradebook.PAGE))
    page = min(asked.page, pages)
    context = {
        "course": teacher.course,
        "heads": [_head(item, asked) for item in items],
        "sorts": {name: _sort(name, asked) for name in ("name", "total")},
        "rows": rows[(page - 1) * gradebook.PAGE : page * gradebook.PAGE],
        "count": len(rows),
        "of": sum(item.points for item in items),
        "asked": asked,
        "shows": SHOW_WORDS.items(),
        "before": _address(asked, page=page - 1) if page > 1 else "",
        "after": _address(asked, page=page + 1) if page < pages else "",
    }
    return render(request, "courses/gradebook.html", context)


def _address(asked: gradebook.Asked, **change: Any) -> str:
    return "?" + urlencode({name: value for name, value in {**asked._asdict(), **change}.items() if value})


def _sort(name: str, asked: gradebook.Asked) -> dict[str, str]:
    """Where the head of a column leads, and how it is sorted now, as aria-sort says it."""
    now = {name: "ascending", f"-{name}": "descending"}.get(asked.sort, "none")
    return {"now": now, "at": _address(asked, sort=f"-{name}" if asked.sort == name else name, page=1)}


def _head(item: Any, asked: gradebook.Asked) -> dict[str, Any]:
    kind = kinds.kind_of(item.kind)
    return {
        "item": item,
        **_sort(f"item-{item.pk}", asked),
        "alike": kind.files is not None,
        "regrade": kind.grade is not None,
    }


@require_http_methods(["GET", "POST"])
@signed_in_required
def cell(request: HttpRequest, pk: int, member: int, item: int) -> HttpResponse:
    """One student at one item; a teacher sets the points by hand here, or lets the work count again."""
    user: Any = request.user
    teacher = gradebook.teacher_of(user=user, pk=pk)
    if request.method == "POST":
        told = gradebook.cell_of(teacher=teacher, member_id=member, item_id=item)
        faults = _set(request, user, told)
        if not faults:
            return redirect("grade", pk, member, item)
    else:
        faults = {}
    told = gradebook.cell_of(teacher=teacher, member_id=member, item_id=item)
    points = told["cell"].points
    context = {
        **told,
        "course": teacher.course,
        "seen": "" if points is None else repr(points),
        "faults": faults,
        "typed": {"points": request.POST.get("points", "" if points is None else f"{points:g}"),
                  "reason": request.POST.get("reason", "")},
    }  # fmt: skip
    return render(request, "courses/grade.html", context, status=faults.pop("status", 200))


def _set(request: HttpRequest, user: Any, told: dict[str, Any]) -> dict[str, Any]:
    """What is wrong with the form, by its fields; nothing: it is done."""
    back = request.POST.get("act") == "unset"
    seen = _number(request.POST.get("seen", ""))
    points = None if back else _number(request.POST.get("points", ""))
    if not back and points is None:
        points = math.nan
    item = told["item"]
    try:
        adjustments.points_set(
            by=user, item=item, member=told["member"], points=points, reason=request.POST.get("reason", ""), seen=seen
        )
    except BadInput as refused:
        return {"status": 422, **{fault.path.removeprefix("$."): fault.reason for fault in refused.faults}}
    except VpmsError as refused:
        if refused.http_status != 409:
            raise
        return {"status": 409, "whole": refused.message}
    messages.success(request, _("The work counts again.") if back else _("The points are set; the student is told."))
    return {}


def _number(text: str) -> float | None:
    """As typed, with point or comma."""
    try:
        return float(text.strip().replace(",", ".")) if len(text) < 32 else None
    except ValueError:
        return None


@require_GET
@signed_in_required
def alike(request: HttpRequest, pk: int, item: int) -> HttpResponse:
    """The pairs whose work on an item is much alike."""
    teacher = gradebook.teacher_of(user=request.user, pk=pk)
    found = gradebook.item_for(teacher=teacher, pk=item)
    if kinds.kind_of(found.kind).files is None:
        raise selectors.missing()
    context = {"course": teacher.course, "item": found, "pairs": gradebook.alike_of(item=found)}
    return render(request, "courses/alike.html", context)


@require_GET
@signed_in_required
def beside(request: HttpRequest, pk: int, item: int, one: int, other: int) -> HttpResponse:
    """Two students' files beside each other."""
    teacher = gradebook.teacher_of(user=request.user, pk=pk)
    found = gradebook.item_for(teacher=teacher, pk=item)
    left, right = gradebook.students_of(teacher=teacher, pks=[one, other])
    told = gradebook.beside(item=found, one=left, other=right)
    percent = None if told["share"] is None else int(told["share"] * 100 + 0.5)
    context = {"course": teacher.course, "item": found, "one": left, "other": right, "percent": percent, **told}
    return render(request, "courses/beside.html", context)


@require_safe
@signed_in_required
def export(request: HttpRequest, pk: int, form: str) -> HttpResponse:
    """The gradebook as a file: csv or json."""
    course = gradebook.teacher_of(user=request.user, pk=pk).course
    if form not in ("csv", "json"):
        raise selectors.missing()
    if form == "csv":
        answer = HttpResponse("\ufeff" + grade_export.table(course), content_type="text/csv; charset=utf-8")
    else:
        answer = JsonResponse(grade_export.document(course), json_dumps_params={"indent": 1, "ensure_ascii": False})
    answer["Content-Disposition"] = f'attachment; filename="grades-{course.pk}.{form}"'
    return answer


@require_safe
def schema(request: HttpRequest) -> JsonResponse:
    """The form of the exported document, as JSON Schema."""
    return JsonResponse(grade_export.SCHEMA)


@require_GET
@signed_in_required
def mine(request: HttpRequest, pk: int) -> HttpResponse:
    """A student's own marks, and nobody else's."""
    course = selectors.course_get(user=request.user, pk=pk)
    member: Member = selectors.member_of(user=request.user, course=course)
    if member.teaches:
        return redirect("grades", pk)
    member.course = course
    rows = gradebook.own(member=member)
    total = sum(row["cell"].points or 0 for row in rows)
    context = {"course": course, "rows": rows, "total": total, "of": sum(row["item"].points for row in rows)}
    return render(request, "courses/grades_mine.html", context)
