"""The operator's page of all jobs, and of one with the end of its log."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from webapp.ops import joblist, services, topics
from webapp.roles import operator_required


@require_GET
@operator_required
def jobs(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    seq = topics.beat()  # read first: what comes later has the page fetched anew
    over = request.GET.get("show") == "finished"
    kind = request.GET.get("kind", "")
    heard = services.workers()
    finished, under_way = joblist.jobs_finished, joblist.jobs_open
    context = {
        "seq": seq,
        "rows": finished(user=user, kind=kind) if over else under_way(user=user, kind=kind, heard=heard),
        "over": over,
        "kinds": joblist.KINDS.values(),
        "kind": kind if kind in joblist.KINDS else "",
        "workers": heard,
    }
    return render(request, "ops/jobs.html", context)


@require_GET
@operator_required
def job(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    user: Any = request.user
    seq = topics.beat()
    return render(request, "ops/job.html", {"seq": seq, "row": joblist.job_shown(user=user, kind=kind, pk=pk)})


@require_POST
@operator_required
def act(request: HttpRequest, kind: str, pk: int) -> HttpResponse:
    user: Any = request.user
    asked = request.POST.get("act", "")
    done = joblist.job_act(by=user, kind=kind, pk=pk, act=asked)
    words = {
        "pause": _("It pauses at its next step, and a checkpoint is kept there."),
        "resume": _("It goes on after operation %(op)s.") % {"op": f"{getattr(done, 'op', 0):,}"},
        "cancel": _("It stops at its next step."),
        "again": _("It is tried again."),
    }
    messages.info(request, words[asked])
    return redirect("job", kind=kind, pk=pk)
