"""Pages of maintenance: the operator plans it and sees who agrees; owners answer for their VMs."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.agreements import maintenance
from webapp.agreements.models import Consent, Maintenance
from webapp.errors import VpmsError
from webapp.fleet.selectors import site_host
from webapp.roles import operator_required, tenant_required
from webapp.tenants.editing import faults_of

SHOWN: Final = 10
STATES: Final = {
    Maintenance.State.PLANNED: ("planned", "progress"),
    Maintenance.State.BEGUN: ("under way", "warning"),
    Maintenance.State.ENDED: ("ended", "neutral"),
    Maintenance.State.CANCELLED: ("called off", "neutral"),
}
ANSWER_WORDS: Final = {
    Consent.State.ASKED: ("no answer yet", "warning"),
    Consent.State.AGREED: ("agrees", "ok"),
    Consent.State.REFUSED: ("does not agree", "violation"),
}
ACTS: Final = {"begin": maintenance.begin, "end": maintenance.end, "cancel": maintenance.cancel}


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def plan(request: HttpRequest, name: str) -> HttpResponse:
    """What is planned for the host with the answers of those who are there; a new one is planned here."""
    user: Any = request.user
    host = site_host(user=user, name=name)
    refused = None
    if request.method == "POST":
        try:
            maintenance.plan(
                by=user,
                host=host,
                start=maintenance.moment_read(request.POST.get("start", ""), "$.start"),
                end=maintenance.moment_read(request.POST.get("end", ""), "$.end"),
                reason=request.POST.get("reason", ""),
            )
        except VpmsError as fault:
            refused = fault
        else:
            messages.success(
                request, _("It is planned, and the owners of all VMs on %(host)s are asked.") % {"host": name}
            )
            return redirect(request.path)
    rows = maintenance.maintenances_of(user=user, host=host)[:SHOWN]
    context = {
        "host": host,
        "rows": [shown(row) for row in rows],
        "typed": request.POST,
        "faults": faults_of(refused) if refused else [],
    }
    return render(request, "fleet/maintenance.html", context, status=refused.http_status if refused else 200)


def shown(row: Maintenance) -> dict[str, Any]:
    """A maintenance as the operator sees it: who was asked, who agrees, and what can be done now."""
    words, look = STATES[Maintenance.State(row.state)]
    now = timezone.now()
    if row.state == Maintenance.State.BEGUN and now >= row.end:
        words, look = "over its time: VMs can start again", "neutral"
    vms = []
    is_open = row.state in Maintenance.OPEN
    for each in maintenance.who_is_asked(row) if is_open else []:
        consent = each["consent"]
        told, tone = ANSWER_WORDS[Consent.State(consent.state)] if consent else ("is not asked yet", "warning")
        vms.append({**each, "words": told, "tone": tone})
    return {
        "maintenance": row,
        "words": words,
        "look": look,
        "vms": vms,
        "lacking": [each["vm"].name for each in vms if each["is_here"] and each["tone"] != "ok"],
        "new": any(each["consent"] is None for each in vms),
        "planned": row.state == Maintenance.State.PLANNED,
        "begun": row.state == Maintenance.State.BEGUN,
        "may_begin": row.state == Maintenance.State.PLANNED and row.start <= now < row.end,
        "missed": row.state == Maintenance.State.PLANNED and now >= row.end,
    }


@require_POST
@operator_required
def act(request: HttpRequest, pk: int) -> HttpResponse:
    """Begin, end or call it off, ask those who have come since, or offer one of them a move."""
    user: Any = request.user
    row = maintenance.maintenance_get(user=user, pk=pk)
    wanted = request.POST.get("act", "")
    try:
        if wanted == "ask":
            maintenance.ask_newcomers(by=user, maintenance=row)
            words = _("Everybody on %(host)s is asked.")
        elif wanted == "offer":
            consent = maintenance.move_offered(by=user, maintenance=row, vm=request.POST.get("vm", ""))
            words = _("The owner of %(vm)s is told that it can move.") % {"vm": consent.vm.name}
        elif wanted in ACTS:
            ACTS[wanted](by=user, maintenance=row)
            words = {
                "begin": _("The maintenance of %(host)s has begun; no VM starts there until it ends."),
                "end": _("The maintenance of %(host)s has ended; VMs can start there again."),
                "cancel": _("The maintenance of %(host)s is called off, and whoever was asked is told."),
            }[wanted]
        else:
            words = _("Nothing was changed.")
    except VpmsError as refused:
        messages.warning(request, refused.message)
    else:
        messages.success(request, words.replace("%(host)s", row.host.name))
    return redirect("host-maintenance", name=row.host.name)


@require_GET
@tenant_required
def mine(request: HttpRequest) -> HttpResponse:
    """What is planned on the hosts of the person's own VMs, with its answer for each."""
    user: Any = request.user
    rows = []
    for consent in maintenance.questions_to(user=user):
        words, tone = ANSWER_WORDS[Consent.State(consent.state)]
        rows.append({"consent": consent, "words": words, "tone": tone, "planned": consent.maintenance})
    return render(request, "agreements/my_maintenance.html", {"rows": rows})


@require_POST
@tenant_required
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    consent = maintenance.consent_get(user=user, pk=pk)
    agrees = request.POST.get("answer") == "agree"
    if not agrees and request.POST.get("answer") != "refuse":
        messages.warning(request, _("Nothing was changed."))
        return redirect("my-maintenance")
    try:
        maintenance.answer(by=user, consent=consent, agrees=agrees)
    except VpmsError as refused:
        messages.warning(request, refused.message)
    else:
        words = _("Your answer for %(vm)s stands. Until it begins you can change it.")
        messages.success(request, words % {"vm": consent.vm.name})
    return redirect("my-maintenance")
