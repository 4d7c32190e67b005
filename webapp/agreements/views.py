"""The negotiation room, the operator's view of it, and the lists of conflicts."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from webapp.agreements import selectors, wording
from webapp.roles import operator_required, tenant_required

NEWEST = 100


def conflict_list(request: HttpRequest, area: str) -> HttpResponse:
    """Conflicts that concern the person, open ones first choice, each with its evidence."""
    user: Any = request.user
    everything = request.GET.get("show") == "all"
    found = selectors.conflicts_of(user=user, open_only=not everything).prefetch_related("vms__tenant")
    rows = [
        {
            "conflict": conflict,
            "severity": wording.SEVERITY_WORDS.get(conflict.severity, conflict.severity),
            "tone": wording.SEVERITY_TONES.get(conflict.severity, "accent"),
            "vms": selectors.names_shown(user, conflict),
            "facts": [(key.replace("_", " "), value) for key, value in conflict.evidence.items() if value],
        }
        for conflict in found[:NEWEST]
    ]
    return render(request, "agreements/conflicts.html", {"area": area, "rows": rows, "everything": everything})


@tenant_required
@require_GET
def tenant_conflicts(request: HttpRequest) -> HttpResponse:
    return conflict_list(request, "tenant")


@operator_required
@require_GET
def operator_conflicts(request: HttpRequest) -> HttpResponse:
    return conflict_list(request, "operator")
