"""Pages of a regrade: begin one for an item; look at what would change; apply it, discard it or stop it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from webapp.courses import gradebook, kinds, regrades
from webapp.courses.models import Mark, Regrade
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import signed_in_required

ACTS = {"apply": regrades.regrade_apply, "discard": regrades.regrade_discard, "cancel": regrades.regrade_cancel}


@require_http_methods(["GET", "POST"])
@signed_in_required
def item(request: HttpRequest, pk: int, item: int) -> HttpResponse:
    """What has been graded again so far, and the button that begins it anew."""
    user: Any = request.user
    teacher = gradebook.teacher_of(user=user, pk=pk)
    found = gradebook.item_for(teacher=teacher, pk=item)
    if request.method == "POST":
        return redirect("regrade", pk, regrades.regrade_start(by=user, item=found).pk)
    context = {
        "course": teacher.course,
        "item": found,
        "possible": kinds.kind_of(found.kind).grade is not None and found.points,
        "rows": Regrade.objects.filter(item=found).select_related("by")[:20],
        "outdated": Mark.objects.filter(item=found, item_version__range=(1, found.version - 1)).count(),
    }
    return render(request, "courses/regrade_item.html", context)


@require_http_methods(["GET", "POST"])
@signed_in_required
def regrade(request: HttpRequest, pk: int, number: int) -> HttpResponse:
    """What would change, for whom and why; then one act."""
    user: Any = request.user
    found = regrades.regrade_get(teacher=gradebook.teacher_of(user=user, pk=pk), pk=number)
    refused = ""
    if request.method == "POST":
        act = ACTS.get(request.POST.get("act", ""))
        if act is None:
            raise BadInput([Fault("$.act", f"must be one of {', '.join(ACTS)}")])
        try:
            done = act(by=user, regrade=found)
        except VpmsError as error:
            if error.http_status != 409:
                raise
            refused = error.message
        else:
            if done.state == Regrade.State.APPLIED:
                messages.success(request, _("Applied. The students whose points changed are told."))
            return redirect("regrade", pk, number)
    context = {
        "course": found.item.course,
        "item": found.item,
        "row": found,
        "seq": regrades.number(found),
        "topic": regrades.topic(found.pk),
        "refused": refused,
        **regrades.shown(found),
    }
    return render(request, "courses/regrade.html", context, status=409 if refused else 200)
