"""The pages of alerts: the list with its acts in the row, one alert with its run-book and history, strip and badge."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from webapp.errors import BadInput, Fault, VpmsError
from webapp.notices import alert_selectors as selectors
from webapp.notices import alerts as services
from webapp.notices import wording
from webapp.notices.models import Alert
from webapp.notices.runbooks import RUNBOOKS
from webapp.pages import window
from webapp.roles import operator_required
from webapp.vpms.logwords import sentence, title

STATES: Final = {
    "current": gettext_lazy("not over"),
    "open": gettext_lazy("open"),
    "acknowledged": gettext_lazy("acknowledged"),
    "silenced": gettext_lazy("silenced"),
    "resolved": gettext_lazy("over"),
    "all": gettext_lazy("all"),
}
GROUPS: Final = {"": gettext_lazy("not grouped"), "host": gettext_lazy("by host"), "kind": gettext_lazy("by kind")}
USUAL_SILENCE: Final = dt.timedelta(hours=4)
WORDS: Final = {
    Alert.State.OPEN: gettext_lazy("Open"),
    Alert.State.ACKNOWLEDGED: gettext_lazy("Acknowledged"),
    Alert.State.RESOLVED: gettext_lazy("Over"),
}


def moment(text: str) -> dt.datetime | None:
    """A time as a form or a program writes it; without a zone it is UTC. None: nothing was written."""
    if not text.strip():
        return None
    try:
        found = dt.datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise BadInput([Fault("$.until", _("is not a time; write it like 2026-11-30T08:00"))]) from None


def wanted_of(request: HttpRequest) -> selectors.Wanted:
    chosen = {name: request.GET.get(name, "").strip()[:150] for name in selectors.Wanted._fields}
    chosen["state"] = chosen["state"] if chosen["state"] in STATES else "current"
    return selectors.Wanted(**chosen)


def shown(row: Alert) -> dict[str, Any]:
    """A row of the table: the alert with its words."""
    book = RUNBOOKS[row.kind]
    ended = row.ended
    return {
        "alert": row,
        "kind": book.label,
        "state": WORDS[Alert.State(row.state)],
        "tone": "neutral" if ended else row.tone,
        "severity": wording.severity_label(row.severity),
        "by_hand": book.by_hand and not ended,
        "silent": row.silent and not ended,
    }


@operator_required
@require_safe
def alerts(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    wanted = wanted_of(request)
    group = request.GET.get("group", "")
    group = group if group in GROUPS else ""
    found = selectors.ordered(selectors.alerts_wanted(user=user, wanted=wanted), group=group)
    page = window(request, found)
    chosen = {**wanted._asdict(), "group": group}
    rest = {name: text for name, text in chosen.items() if text and (name, text) != ("state", "current")}
    rows = [{**shown(row), "group": row.host if group == "host" else row.kind if group else ""} for row in page.rows]
    context = {
        "rows": rows,
        "pages": page,
        "chosen": chosen,
        "narrowed": bool(set(rest) - {"group"}),
        "query": "&" + urlencode(rest) if rest else "",
        "states": STATES.items(),
        "groups": GROUPS.items(),
        "kinds": [(name, book.label) for name, book in RUNBOOKS.items()],
        "severities": [(name, wording.severity_label(name)) for name in wording.TONES],
        "hosts": selectors.hosts_named(),
        "operators": selectors.operators(),
        "until": timezone.now() + USUAL_SILENCE,
    }
    return render(request, "notices/alerts.html", context)


@operator_required
@require_safe
def alert(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    return one(request, selectors.alert_get(user=user, pk=pk))


def one(request: HttpRequest, row: Alert, *, refused: VpmsError | None = None) -> HttpResponse:
    """One alert; with what was refused and why, and what had been typed."""
    user: Any = request.user
    history = selectors.history_of(user=user, alert=row)
    for entry in history:
        entry["says"] = sentence(entry["type"], entry["data"]) or title(entry["type"])
    context = {
        **shown(row),
        "book": RUNBOOKS[row.kind],
        "history": history,
        "operators": selectors.operators(),
        "until": timezone.now() + USUAL_SILENCE,
        "reason": refused.faults[0].reason if isinstance(refused, BadInput) else refused.message if refused else "",
        "where": refused.faults[0].path[2:] if isinstance(refused, BadInput) else "",
        "typed": request.POST,
    }
    return render(request, "notices/alert.html", context, status=refused.http_status if refused else 200)


DONE: Final = {
    "acknowledge": gettext_lazy("The alert is acknowledged."),
    "hand_over": gettext_lazy("The alert has a new owner."),
    "silence": gettext_lazy("The alert is silenced: nothing is sent of it, and it stays here."),
    "lift": gettext_lazy("The silence is lifted."),
    "resolve": gettext_lazy("The alert is over."),
}


def act(by: Any, row: Alert, name: str, given: Any) -> None:
    """What a button of the row asks for."""
    match name:
        case "acknowledge":
            services.acknowledge(by=by, alert=row, note=given.get("note", ""))
        case "hand_over":
            services.hand_over(by=by, alert=row, person=given.get("person", ""))
        case "silence":
            services.silence(by=by, alert=row, until=moment(given.get("until", "")), reason=given.get("reason", ""))
        case "lift":
            services.lift(by=by, alert=row)
        case "resolve":
            services.resolve_by_hand(by=by, alert=row, note=given.get("note", ""))
        case _:
            raise BadInput([Fault("$.act", _("is nothing that can be done with an alert"))])


@operator_required
@require_POST
def alert_act(request: HttpRequest, pk: int) -> HttpResponse:
    """A button in the row. What is refused is said on the alert's own page, with what was typed."""
    user: Any = request.user
    row = selectors.alert_get(user=user, pk=pk)
    name = request.POST.get("act", "")
    try:
        act(user, row, name, request.POST)
    except VpmsError as refused:
        if refused.http_status == 404:
            raise
        return one(request, selectors.alert_get(user=user, pk=pk), refused=refused)
    messages.success(request, str(DONE[name]))
    back = request.POST.get("back", "")
    ours = back.startswith("/operator/") and url_has_allowed_host_and_scheme(back, {request.get_host()})
    return redirect(back if ours else row.page)


@operator_required
@require_POST
def alert_test(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    row = services.test(by=user)
    messages.success(request, _("A test alert was raised. It goes to every operator, as each chose, and to webhooks."))
    return redirect(row.page)


@operator_required
@require_safe
@never_cache
def strip(request: HttpRequest) -> HttpResponse:
    """The strip alone, for pages that are open."""
    return render(request, "notices/_alerts.html")


@operator_required
@require_safe
@never_cache
def badge(request: HttpRequest) -> HttpResponse:
    """The badge of the top bar alone."""
    return render(request, "notices/_alert_badge.html")


@operator_required
@require_safe
def runbooks(request: HttpRequest) -> HttpResponse:
    return render(request, "notices/runbooks.html", {"books": RUNBOOKS.items()})
