"""The log as a page: a timeline with light filters, the check of the chain, and the lines to take away."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_http_methods

from webapp.audit import selectors, services
from webapp.roles import operator_required, role_required, tenant_required
from webapp.vpms.logwords import sentence, title


def number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


def timeline(request: HttpRequest, area: str) -> HttpResponse:
    """The newest entries; a POST verifies the chain first and says what it found."""
    user: Any = request.user
    verdict = services.verify() if request.method == "POST" else None
    type, subject = request.GET.get("type", ""), request.GET.get("subject", "")
    page = selectors.page_of(user=user, type=type, subject=subject, before=number(request.GET.get("before", "")))
    for entry in page["entries"]:
        entry["says"] = sentence(entry["type"], entry["data"]) or title(entry["type"])
        entry["details"] = json.dumps(entry["data"], indent=2, ensure_ascii=False) if entry["data"] else ""
    context = {
        "area": area,
        "page": page,
        "verdict": verdict,
        "types": selectors.types_of(user=user),
        "chosen": {"type": type, "subject": subject},
    }
    return render(request, "audit/timeline.html", context)


@role_required("tenant", reads=True)  # to verify the chain is what auditors are there for
@require_http_methods(["GET", "HEAD", "POST"])
def tenant_audit(request: HttpRequest) -> HttpResponse:
    return timeline(request, "tenant")


@role_required("operator", reads=True)
@require_http_methods(["GET", "HEAD", "POST"])
def operator_audit(request: HttpRequest) -> HttpResponse:
    return timeline(request, "operator")


def download(request: HttpRequest) -> StreamingHttpResponse:
    user: Any = request.user
    response = StreamingHttpResponse(selectors.lines_of(user=user), content_type="application/jsonl")
    response["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
    return response


tenant_lines = tenant_required(require_GET(download))
operator_lines = operator_required(require_GET(download))
