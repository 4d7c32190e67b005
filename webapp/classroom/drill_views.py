"""The pages of drills: plans, one now, the history, and one drill compared with the one before."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.classroom import drill_selectors as selectors
from webapp.classroom import drills as services
from webapp.classroom.models import Drill, DrillSchedule
from webapp.classroom.selectors import DRILL
from webapp.classroom.services import ATTACKS, COLUMNS, titles
from webapp.classroom.wording import OUTCOMES
from webapp.errors import BadInput, Fault, VpmsError
from webapp.notices.wording import WEEKDAYS
from webapp.pages import window
from webapp.roles import operator_required
from webapp.runs.selectors import moved_for

STATES: Final = {
    Drill.State.WAITING: (gettext_lazy("waiting"), "progress"),
    Drill.State.DONE: (gettext_lazy("held"), "ok"),
    Drill.State.FAILED: (gettext_lazy("not held"), "violation"),
}


def number(text: str, path: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise BadInput([Fault(path, _("must be a whole number"))])
    return int(text)


def times_of(post: QueryDict) -> dict[str, Any]:
    """Every so many hours, or once a week; fields of the other one do not count."""
    if post.get("how") == "weekly":
        weekday, hour = number(post.get("weekday", ""), "$.weekday"), number(post.get("hour", ""), "$.hour")
        return {"every_hours": None, "weekday": weekday, "hour": hour}
    return {"every_hours": number(post.get("every_hours", ""), "$.every_hours"), "weekday": 0, "hour": 0}


def target_of(post: QueryDict) -> dict[str, Any]:
    kind, _colon, name = post.get("target", "").partition(":")
    return {"host": name if kind == "host" else "", "architecture": name if kind == "architecture" else ""}


def when(row: DrillSchedule) -> str:
    if row.every_hours:
        told = ngettext("every hour", "every %(count)d hours", row.every_hours)
        return told % {"count": row.every_hours}
    return _("%(day)s at %(hour)s:00") % {"day": WEEKDAYS[row.weekday], "hour": f"{row.hour:02d}"}


@operator_required
@require_http_methods(["GET", "HEAD", "POST"])
def drills(request: HttpRequest) -> HttpResponse:
    """Plans and history; a POST holds a drill now, or plans one."""
    user: Any = request.user
    refused: VpmsError | None = None
    if request.method == "POST":
        try:
            target = target_of(request.POST)
            if request.POST.get("act") == "plan":
                services.schedule_make(by=user, **target, **times_of(request.POST))
                messages.success(request, _("The drills are planned."))
            else:
                services.drill_now(by=user, **target)
                messages.success(request, _("The drill is asked for; it stands below as soon as it is held."))
            return redirect("drills")
        except VpmsError as error:
            if error.http_status in (403, 404):
                raise
            refused = error
    return listed(request, refused)


def listed(request: HttpRequest, refused: VpmsError | None = None) -> HttpResponse:
    user: Any = request.user
    moved = moved_for(tenant=None)
    chosen = {name: request.GET.get(name, "")[:63] for name in ("target", "outcome", "differs")}
    wanted = selectors.Wanted(chosen["target"], chosen["outcome"], chosen["differs"] == "1")
    page = window(request, selectors.drills_wanted(user=user, wanted=wanted))
    rest = {name: text for name, text in chosen.items() if text}
    typed: Any = request.POST if request.method == "POST" else {}
    context = {
        "moved": moved,
        "schedules": [{"schedule": row, "when": when(row)} for row in selectors.schedules_of(user=user)],
        "rows": [row_of(drill) for drill in page.rows],
        "pages": page,
        "query": "&" + urlencode(rest) if rest else "",
        "chosen": chosen,
        "narrowed": bool(rest),
        "hosts": selectors.hosts_named(),
        "architectures": COLUMNS,
        "outcomes": OUTCOMES.items(),
        "weekdays": enumerate(WEEKDAYS),
        "hours": range(24),
        "typed": typed,
        "reason": refused.faults[0].reason if isinstance(refused, BadInput) else refused.message if refused else "",
        "where": refused.faults[0].path[2:] if isinstance(refused, BadInput) else "",
        "attacks": len(DRILL),
        "known": len(ATTACKS),
    }
    return render(request, "classroom/drills.html", context, status=refused.http_status if refused else 200)


def row_of(drill: Drill) -> dict[str, Any]:
    state, look = STATES[Drill.State(drill.state)]
    return {"drill": drill, "state": state, "look": "warning" if drill.differs else look}


@operator_required
@require_POST
def schedule_act(request: HttpRequest, pk: int) -> HttpResponse:
    """A button of a plan's row: other times, on, off, hold it now, remove it."""
    user: Any = request.user
    row = selectors.schedule_get(user=user, pk=pk)
    act = request.POST.get("act", "")
    times: dict[str, Any] = {"every_hours": row.every_hours, "weekday": row.weekday, "hour": row.hour}
    try:
        if act == "remove":
            services.schedule_delete(by=user, schedule=row)
            messages.success(request, _("The plan is removed; the history stays."))
        elif act == "now":
            services.drill_now(by=user, host=row.host, architecture=row.architecture)
            messages.success(request, _("The drill is asked for; it stands below as soon as it is held."))
        else:
            active = row.active if act == "keep" else act == "on"
            times = times_of(request.POST) if act == "keep" else times
            services.schedule_change(by=user, schedule=row, active=active, **times)
            messages.success(request, _("The plan is kept as you chose."))
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        return listed(request, refused)
    return redirect("drills")


@operator_required
@require_safe
def drill(request: HttpRequest, pk: int) -> HttpResponse:
    """One drill: each attack, the drill before, the attack table."""
    user: Any = request.user
    found = selectors.drill_get(user=user, pk=pk)
    before = selectors.drill_before(found) if found.state == Drill.State.DONE else None
    digests = {row.attack: row.digest for row in before.results.all()} if before else {}
    cells = selectors.cells_now(found.architecture)
    rows = [
        {
            "result": row,
            "title": titles().get(row.attack, ""),
            "now": OUTCOMES[row.outcome],
            "before": OUTCOMES.get(row.before),
            "expected": OUTCOMES.get(row.expected),
            "same": digests.get(row.attack) == row.digest,
            "cell": cells.get(row.attack),
        }
        for row in found.results.all()
    ]
    context = {**row_of(found), "before": before, "rows": rows}
    return render(request, "classroom/drill.html", context)
