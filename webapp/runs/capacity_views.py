"""Pages of capacity: every host at a glance, one host with its VMs, and where a VM of some size could go."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from webapp.errors import BadInput
from webapp.fleet.models import Host
from webapp.fleet.selectors import site_host
from webapp.pages import window
from webapp.roles import operator_required
from webapp.runs import capacity


@require_GET
@operator_required
def fleet(request: HttpRequest) -> HttpResponse:
    """All hosts in service with what is promised and free, and with `?mib=` those that have so much left."""
    user: Any = request.user
    page = window(request, Host.objects.filter(retired_at__isnull=True).order_by("name"))
    mib = request.GET.get("mib", "").strip()
    fault, places = "", None
    if mib:
        try:
            places = capacity.places_for(user=user, mib=capacity.size_read(mib))
        except BadInput as refused:
            fault = refused.faults[0].reason
    context = {
        "rooms": capacity.rooms(page.rows),
        "pages": page,
        "mib": mib,
        "fault": fault,
        "places": places,
        "most": capacity.MOST_FOUND,
    }
    return render(request, "runs/capacity.html", context, status=422 if fault else 200)


@require_GET
@operator_required
def host(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    found = site_host(user=user, name=name)
    return render(request, "runs/host_capacity.html", {"host": found, "room": capacity.room_of(user=user, host=found)})
