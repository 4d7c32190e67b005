"""Pages of the classroom: the table for teachers and for everybody, and the replay of one cell."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import ngettext
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from webapp.agreements.vm_views import Editor
from webapp.classroom import consequences, mine, replay, scenes, selectors, services, walk
from webapp.classroom.models import Cell
from webapp.classroom.wording import EVIDENCE, OUTCOMES, column_label, column_name
from webapp.errors import BadInput
from webapp.roles import teacher_required, tenant_required
from webapp.tenants import selectors as tenants


def table_context(**more: Any) -> dict[str, Any]:
    letters = [(letter, meaning) for letter, meaning in EVIDENCE.values() if letter]
    table = selectors.table(titles=services.titles(), files=services.files())
    return {**table, "outcomes": OUTCOMES.values(), "letters": letters, **more}


@require_GET
@teacher_required
def teach(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "classroom/teach.html",
        table_context(may_run=True, checked=services.CHECKED, switches=services.SWITCHES),
    )


@require_GET
@ensure_csrf_cookie  # the cookie with which an anonymous page may open the socket for public topics
def learn(request: HttpRequest) -> HttpResponse:
    vms = tenants.vms_of(user=request.user) if request.user.is_authenticated else ()
    return render(request, "classroom/learn.html", table_context(may_run=False, mine=vms))


@require_POST
@teacher_required
def run_again(request: HttpRequest) -> HttpResponse:
    """All cells, or the one named in the form."""
    chosen = request.POST.get("cell", "")
    cells = [int(chosen)] if chosen.isdecimal() and len(chosen) < 18 else None
    count = services.cells_run_again(by=request.user, cells=cells)  # type: ignore[arg-type]
    told = ngettext(
        "%(count)s cell queued; it fills as it is executed.",
        "%(count)s cells queued; they fill as they are executed.",
        count,
    )
    messages.success(request, told % {"count": count})
    return redirect(f"/teach/cell/{chosen}/" if cells else "/teach/")


@require_POST
@teacher_required
def what_if(request: HttpRequest) -> HttpResponse:
    """One more column of the table, with one check off."""
    services.what_if_add(
        by=request.user,  # type: ignore[arg-type]
        architecture=request.POST.get("architecture", ""),
        skip=request.POST.get("skip", ""),
    )
    messages.success(request, "The column is there; it fills as its cells are executed.")
    return redirect("/teach/")


@require_GET
def cell(request: HttpRequest, pk: int) -> HttpResponse:
    """Open to everybody: one execution at one step. A link holds the step, so it opens at that moment for everybody."""
    found = selectors.cell_get(pk=pk)
    shown = selectors.shown(found, title=services.titles().get(found.attack, ""), files=services.files())
    context: dict[str, Any] = {
        "cell": shown,
        "row": found,
        "label": column_label(found.architecture, found.skip),
        "outcome": OUTCOMES.get(found.outcome),
        "may_run": request.user.is_authenticated and request.user.is_teacher,
    }
    if found.state == Cell.State.DONE:
        execution = scenes.execution_of(found)
        film = replay.film_of(execution)
        context |= {
            "film": film,
            "why": replay.why_of(execution),
            "data": scenes.data_of(film),
            "scene": scenes.scene(film, replay.step_of(film, request.GET.get("step", ""))),
            "others": scenes.others(found),
            "switch": scenes.switch(found),
            "differs": film["digest"] != found.digest,
        }
    return render(request, "classroom/cell.html", context)


@require_GET
@tenant_required
def my_drill(request: HttpRequest, name: str) -> HttpResponse:
    """The drill, executed with what follows from the terms of one of the person's VMs. Nobody else sees it."""
    vm = tenants.vm_get(user=request.user, name=name)  # type: ignore[arg-type]
    return render(request, "classroom/my_drill.html", mine.drill_of(user=request.user, vm=vm))


@require_POST
@tenant_required
def consequences_page(request: HttpRequest, name: str) -> HttpResponse:
    """What the form as it stands would lead to: a part for the page's script, else a page beside the form."""
    editor = Editor(request, name)
    context: dict[str, Any] = {"vm": editor.vm, "newest": editor.newest}
    status = 200
    try:
        context |= consequences.consequences_of(user=editor.user, vm=editor.vm, document=editor.typed_document())
    except BadInput as refused:
        context["faults"], status = refused.faults, refused.http_status
    part = request.headers.get("X-Part") == "consequences"
    template = "classroom/_consequences.html" if part else "classroom/consequences.html"
    return render(request, template, context, status=status)


@require_GET
def compare(request: HttpRequest, pk: int) -> HttpResponse:
    """Open to everybody: a cell beside another machine, or beside itself with one check off, in lock-step."""
    found = selectors.cell_get(pk=pk)
    other = scenes.other_of(found, with_=request.GET.get("with", ""), without=request.GET.get("without", ""))
    pair = scenes.pair(scenes.execution_of(found), other, request.GET.get("step", ""))
    shown = selectors.shown(found, title=services.titles().get(found.attack, ""))
    context = {"cell": shown, "others": scenes.others(found), "query": scenes.query_of(found, other), **pair}
    return render(request, "classroom/compare.html", context)


@require_GET
def verdict(request: HttpRequest, pk: int) -> HttpResponse:
    """The verdict as a file, the same as the command line prints."""
    found = selectors.cell_get(pk=pk)
    body = json.dumps({**found.verdict, "engine": found.engine_version}, indent=2)
    answer = HttpResponse(body, content_type="application/json")
    name = f"{found.attack}-{column_name(found.architecture, found.skip).replace(' ', '-')}.json"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@require_GET
def walk_page(request: HttpRequest) -> HttpResponse:
    """One walk at one step. A link holds case and step, so it opens at the same moment for everybody."""
    walked = walk.walk_of(request.GET.get("case", "nested"))
    step = walk.step_of(walked, request.GET.get("step", ""))
    seen, last = walked["references"][:step], len(walked["references"])
    spared = sum(row["skipped"] for row in seen)
    context = {
        "walk": walked,
        "cases": walk.CASES.items(),
        "grid": walk.grid(walked),
        "step": step,
        "start": walk.START,
        "now": seen[-1] if seen else None,
        "says": seen[-1]["says"] if seen else walk.START,
        "made": step - spared,
        "spared": spared,
        "back": max(step - 1, 0),
        "on": min(step + 1, last),
        "last": last,
        "address": hex(walked["gva"]),
        "costs": walk.costs(),
    }
    return render(request, "classroom/walk.html", context)


@require_GET
def walk_file(request: HttpRequest, case: str, kind: str) -> HttpResponse:
    """The walk to take away: every step drawn (svg), one row a reference (csv), or all of it (json)."""
    if case not in walk.CASES or kind not in walk.FILES:
        raise Http404
    walked = walk.walk_of(case)
    answer = HttpResponse(walk.FILES[kind](walked), content_type=walk.TYPES[kind])
    answer["Content-Disposition"] = f'attachment; filename="walk-{case}.{kind}"'
    return answer
