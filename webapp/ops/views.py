"""The site's own pages: landing, demo, health and the schema of the socket."""

from __future__ import annotations

import hmac
import json
from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from webapp.ops import figures, services
from webapp.runs import recording
from webapp.vpms import documents

LOOPBACK = ("127.0.0.1", "::1")


@require_safe
def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "landing.html")


@require_safe
def demo(request: HttpRequest) -> HttpResponse:
    """The recorded story, open to everybody; in words too."""
    story = recording.story()
    context: dict[str, Any] = {"recording": "/demo/recording" if story else "", "story": story}
    context["machines"] = json.dumps(recording.machines())
    return render(request, "demo.html", context)


@require_safe
def demo_recording(request: HttpRequest) -> HttpResponse:
    path = recording.path()
    if not path.is_file():
        raise Http404
    return HttpResponse(path.read_bytes(), content_type="application/octet-stream")


@require_safe
@never_cache
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers. Nothing else is touched."""
    return HttpResponse("ok\n", content_type="text/plain")


def insider(request: HttpRequest) -> bool:
    """Whether it is asked on this machine, and not by a proxy for somebody else."""
    forwarded = {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP"} & request.META.keys()
    return request.META.get("REMOTE_ADDR") in LOOPBACK and not forwarded


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    """All figures for Prometheus: for who shows the token of the settings, or asks on this machine. For others it is
    missing."""
    scheme, _space, shown = request.headers.get("Authorization", "").partition(" ")
    right = settings.METRICS_TOKEN.encode()
    named = scheme.lower() == "bearer" and hmac.compare_digest(shown.strip().encode(), right) and right
    if not named and not insider(request):
        raise Http404
    return HttpResponse(figures.text(), content_type="text/plain; version=0.0.4; charset=utf-8")


@require_safe
@never_cache
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when everything that pages and runs need is there, else 503; which check fails is told to insiders only."""
    checks = services.readiness()
    ready = all(checks.values())
    body: dict[str, Any] = {"ready": ready}
    if insider(request) or (checks["database"] and request.user.is_authenticated and request.user.is_operator):
        body["failing"] = sorted(name for name, holds in checks.items() if not holds)
    answer = JsonResponse(body, status=200 if ready else 503)
    answer._has_been_logged = True  # type: ignore[attr-defined]  # asked for several times a second at start
    return answer


@require_safe
def live_schema(request: HttpRequest) -> JsonResponse:
    """The messages of the socket at /ws/."""
    text = (settings.BASE_DIR / "webapp" / "live" / "schema.json").read_text()
    return JsonResponse(json.loads(text))


@require_safe
def document_schema(request: HttpRequest, kind: str) -> JsonResponse:
    """What a document of this kind may hold: the same JSON Schema that `vpms schema` prints."""
    if kind not in documents.SCHEMAS:
        raise Http404
    return JsonResponse(documents.json_schema(kind))
