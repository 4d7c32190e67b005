"""The log as a page: a timeline with light filters, the check of the chain, and the lines to take away."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any, Final
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from webapp.audit import selectors, services
from webapp.roles import operator_required, role_required, tenant_required
from webapp.vpms.logwords import sentence, title


def number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


PRINTED: Final = 500  # entries of a page to print
FILTERS: Final = ("type", "subject", "vm", "who", "text", "first", "last")


def day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def timeline(request: HttpRequest, area: str) -> HttpResponse:
    """The newest entries that are looked for; a POST verifies the chain first and says what it found. `print=1` is the
    same for paper: everything opened, with the verdict on the chain at its head."""
    user: Any = request.user
    paper = request.GET.get("print") == "1"
    verdict = services.verify() if request.method == "POST" or paper else None
    chosen = {name: request.GET.get(name, "").strip()[:120] for name in FILTERS}
    wanted = selectors.Wanted(
        type=chosen["type"],
        subject=f"vm:{chosen['vm']}" if chosen["vm"] else chosen["subject"],
        who=chosen["who"],
        text=chosen["text"],
        first=day(chosen["first"]),
        last=day(chosen["last"]),
    )
    before = number(request.GET.get("before", ""))
    page = selectors.page_of(user=user, wanted=wanted, before=before, most=PRINTED if paper else selectors.PAGE)
    for entry in page["entries"]:
        entry["kind"] = title(entry["type"])
        entry["says"] = sentence(entry["type"], entry["data"]) or title(entry["type"])
        if entry["type"] == "conflict":  # its kind and its text are said each by itself
            entry["says"], _, entry["more"] = entry["says"].partition(": ")
        entry["details"] = json.dumps(entry["data"], indent=2, ensure_ascii=False) if entry["data"] else ""
        entry["told"] = told(entry["data"])
    narrowed = {name: text for name, text in chosen.items() if text}
    context = {
        "area": area,
        "page": page,
        "verdict": verdict,
        "types": sorted(((type, title(type)) for type in selectors.types_of(user=user)), key=lambda pair: pair[1]),
        "chosen": chosen,
        "narrowed": bool(narrowed),
        "more": bool(set(narrowed) - {"vm", "text"}),
        "query": urlencode(narrowed),
        "at": timezone.now(),
        "printed": PRINTED,
    }
    return render(request, "audit/print.html" if paper else "audit/timeline.html", context)


def told(data: dict[str, Any]) -> list[tuple[str, Any]]:
    """What an entry says of before, after and why, where it does."""
    after = data.get("sha256") or data.get("new") or data.get("answer") or ""
    rows = [(_("Before"), data.get("before")), (_("After"), after), (_("Why"), data.get("reason"))]
    return [(label, text) for label, text in rows if isinstance(text, str) and text]


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
