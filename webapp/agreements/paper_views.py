"""Agreements and keys as pages and as files to take away."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from webapp.agreements import papers
from webapp.roles import operator_required, tenant_required
from webapp.strictjson import canonical
from webapp.tenants.selectors import missing, tenants_of


def number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1


def listing(area: str) -> Callable[..., HttpResponse]:
    def view(request: HttpRequest) -> HttpResponse:
        """The newest agreements, verified now, and the keys that sign them."""
        user: Any = request.user
        context = {
            "area": area,
            "rows": papers.shown(user=user),
            "keys": papers.keys_of(user=user),
            "tenants": list(tenants_of(user=user)) if area == "tenant" else [],
        }
        return render(request, "agreements/papers.html", context)

    return view


def paper(request: HttpRequest, pk: int) -> HttpResponse:
    """The envelope, byte for byte what was signed, or the person's part of it."""
    user: Any = request.user
    agreement = papers.agreement_get(user=user, pk=pk)
    found = papers.paper_of(user=user, agreement=agreement)
    kind = "" if "payload" in found else "-part"
    name = f"{agreement.agreement}-v{agreement.version}{kind}.json"
    return as_file(canonical(found), name)


def keys(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    wanted = request.GET.get("agreement", "")
    agreement = papers.agreement_get(user=user, pk=number(wanted)) if wanted else None
    found = papers.key_file(user=user, agreement=agreement)
    return as_file(json.dumps(found, indent=1, sort_keys=True).encode(), "keys.json")


def as_file(content: bytes, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@tenant_required
@require_POST
def tenant_key_replace(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    tenant = tenants_of(user=user).filter(slug=request.POST.get("tenant", "")).first()
    if tenant is None:
        raise missing()
    papers.key_rotate(by=user, tenant=tenant)
    messages.success(request, f"{tenant.name} signs with a new key from now on. What the old one signed stays valid.")
    return redirect("tenant-papers")


@operator_required
@require_POST
def operator_key_replace(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    papers.key_rotate(by=user, tenant=None)
    messages.success(request, "The operator signs with a new key from now on. What the old one signed stays valid.")
    return redirect("operator-papers")


tenant_papers = tenant_required(require_GET(listing("tenant")))
operator_papers = operator_required(require_GET(listing("operator")))
tenant_paper, operator_paper = tenant_required(require_GET(paper)), operator_required(require_GET(paper))
tenant_keys, operator_keys = tenant_required(require_GET(keys)), operator_required(require_GET(keys))
