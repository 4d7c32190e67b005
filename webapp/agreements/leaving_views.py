"""An organisation leaves: the page that asks its owner once more."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from webapp.accounts import entering
from webapp.agreements import leaving
from webapp.roles import tenant_required
from webapp.tenants import people, selectors


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def organisation_delete(request: HttpRequest) -> HttpResponse:
    """Delete the organisation one owns."""
    user: Any = request.user
    tenant = selectors.active_of(user=user)
    people.expect_governs(by=user, tenant=tenant)
    refusals, fault = leaving.refusals(tenant=tenant), ""
    if request.method == "POST":
        if not entering.is_fresh(request):
            return entering.ask_again(request)
        if request.POST.get("name", "") != tenant.name:
            fault = _("Type the name exactly as it stands above. Nothing was changed.")
        elif not refusals:
            leaving.organisation_delete(by=user, tenant=tenant)
            messages.info(request, _("The organisation is deleted."))
            return redirect("account")
    context = {"tenant": tenant, "refusals": refusals, "fault": fault}
    status = 409 if request.method == "POST" else 200
    return render(request, "agreements/organisation_delete.html", context, status=status)
