"""Pages of courses: mine, and one course with what it holds."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.courses import builder, classes, kinds, selectors, services
from webapp.courses.models import Mark, Member
from webapp.errors import BadInput, Fault
from webapp.roles import only_reads, read_only, signed_in_required


@require_http_methods(["GET", "POST"])
@signed_in_required
def mine(request: HttpRequest) -> HttpResponse:
    """The courses in which the person takes part; a teacher makes one here."""
    user: Any = request.user
    faults: list[Fault] = []
    if request.method == "POST":
        if only_reads(user):
            raise read_only()
        try:
            return redirect("course", services.course_create(by=user, title=request.POST.get("title", "")).pk)
        except BadInput as refused:
            faults = refused.faults
    context = {"members": _listed(user), "faults": faults, "title": request.POST.get("title", "")}
    return render(request, "courses/courses.html", context, status=422 if faults else 200)


def _listed(user: Any) -> list[Member]:
    """The person's courses, newest first; archived ones at the end."""
    return sorted(selectors.members_of(user=user), key=lambda row: row.course.archived_at is not None)


@require_GET
@signed_in_required
def course(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    found = selectors.course_get(user=user, pk=pk)
    member = selectors.member_of(user=user, course=found)
    marks = {mark.item_id: mark for mark in Mark.objects.filter(member=member, item__course=found)}
    items = [
        {"item": item, "mark": marks.get(item.pk), "kind": kinds.kind_of(item.kind)}
        for item in selectors.items_of(member=member)
    ]
    context = {
        "course": found,
        "member": member,
        "items": items,
        "class_": classes.open_of(course=found),
        "changes": member.teaches and found.archived_at is None,
        "shipped": [(kind, kind.shipped(get_language() or "en")) for kind in kinds.kinds()] if member.teaches else [],
    }
    return render(request, "courses/course.html", context)


@require_POST
@signed_in_required
def item_act(request: HttpRequest, pk: int) -> HttpResponse:
    """Show an item to the students, hide it, move it up or down."""
    user: Any = request.user
    item, _member = selectors.item_get(user=user, pk=pk)
    act = request.POST.get("act", "")
    if act in ("show", "hide"):
        services.item_shown(by=user, item=item, shown=act == "show")
    elif act in ("up", "down"):
        services.item_move(by=user, item=item, places=-1 if act == "up" else 1)
    else:
        raise BadInput([Fault("$.act", _("must be show, hide, up or down"))])
    return redirect(f"/learn/courses/{item.course_id}/#item-{item.pk}")


@require_POST
@signed_in_required
def shipped_add(request: HttpRequest, pk: int) -> HttpResponse:
    """Something that comes with the product, by `kind/name`; by `kind/` a blank one, which is then edited."""
    user: Any = request.user
    found = selectors.course_get(user=user, pk=pk)
    kind, _slash, name = request.POST.get("what", "").partition("/")
    if not name:
        return redirect("item-edit", builder.blank_add(by=user, course=found, kind=kind).pk)
    language = get_language() or "en"
    item = services.shipped_add(by=user, course=found, kind=kind, name=name, language=language)
    told = _("%(title)s is in the course. Students see it once you show it.")
    messages.success(request, told % {"title": item.title})
    return redirect("course", found.pk)
