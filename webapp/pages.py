"""Refusals before and outside the views: on pages as a page with the right status, in the API in its one shape."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import DataError, OperationalError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render
from django.utils.html import escape
from django.utils.translation import get_language, gettext_lazy

from webapp.errors import BadInput, VpmsError
from webapp.rest.problems import problem

log = logging.getLogger(__name__)

API = "/api/"
AT_ONCE = 50  # rows of a long list on one page
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
FILE = "application/octet-stream"
# Where a file is sent as it is, and the most bytes of one.
UPLOADS = {"/api/workloads": 5 << 20, "/api/course-bundles": 5 << 20}


@dataclass(frozen=True)
class Window:
    """A part of a long list. How long the list is, is not counted: that would read all of it."""

    rows: list[Any]
    number: int
    more: bool

    @property
    def first(self) -> int:
        return (self.number - 1) * AT_ONCE + 1

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def before(self) -> int:
        return self.number - 1

    @property
    def after(self) -> int:
        return self.number + 1 if self.more else 0


def window(request: HttpRequest, rows: QuerySet[Any]) -> Window:
    """The part that `?page=` names, as _pages.html leads through it; the first for nonsense."""
    text = request.GET.get("page", "")
    number = max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 7 else 1
    start = (number - 1) * AT_ONCE
    found = list(rows[start : start + AT_ONCE + 1])
    return Window(found[:AT_ONCE], number, len(found) > AT_ONCE)


def refusal(request: HttpRequest, status: int, code: str, reason: str) -> HttpResponse:
    """One refusal as a page, or in the API's shape."""
    if request.path.startswith(API):
        return problem(status, code, reason, faults=[{"path": "$", "reason": reason}])
    return render(request, "accounts/refused.html", {"reason": reason, "faults": []}, status=status)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Requests that no view ever sees, with the reason where there is one to tell."""
    if isinstance(exception, RequestDataTooBig):
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE // 1_048_576
        return refusal(request, 413, "too_big", f"What was sent is longer than {most} MiB.")
    if isinstance(exception, TooManyFieldsSent):
        most = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        return refusal(request, 400, "too_many_fields", f"The form has more than {most} fields.")
    return render(request, "400.html", status=400)


# Django's own two read the request's body first, for a token that these pages need not be sent; a body that cannot be
# read then turned a 404 into a 500.
def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "403.html", status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "404.html", status=404)


DATABASE_AWAY: Final = gettext_lazy(
    "The site cannot store anything just now. Nothing was changed; try again in a moment."
)

NOT_STORABLE: Final = gettext_lazy("What was sent is too long, too large, or holds a character that cannot be stored.")


def database_away(request: HttpRequest, error: OperationalError) -> HttpResponse:
    """The disk is full, or the database is away or held by somebody else. No page is made of it: that would ask the
    same database again. In the browser's history what was typed is kept."""
    log.error("the database failed %s: %s", request.path, error)
    text = escape(str(DATABASE_AWAY))
    head = f'<!doctype html><html lang="{get_language() or "en"}"><meta charset="utf-8"><title>{text}</title>'
    answer = HttpResponse(f"{head}<h1>{text}</h1></html>")
    answer.status_code = 503
    answer["Retry-After"] = "5"
    return answer


class RefusalMiddleware:
    """A VpmsError that a page's view did not answer itself becomes a page that says what happened; so does a method
    that an address does not know. The API takes bodies as JSON only, apart from files where one is uploaded.
    A path with the character NUL leads nowhere: no database can look for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "\0" in request.path:
            raise Http404
        kind = request.content_type or ""
        known = request.path.startswith(API) and request.user.is_authenticated  # nobody else learns what is taken
        most = UPLOADS.get(request.path) if known and request.method == "POST" and kind == FILE else None
        if most is not None:  # read here, and one byte beyond: Django's own bound is for bodies that are no files
            request._body = request.read(most + 1)
        elif known and request.method not in SAFE and kind not in ("", "application/json"):
            return refusal(request, 415, "not_json", f"The body must be application/json, not {kind[:60]}.")
        answer = self.get_response(request)
        if answer.status_code != 405:
            return answer
        allowed = answer.headers.get("Allow", "")
        only = f", only {allowed}" if allowed else ""
        told = refusal(request, 405, "wrong_method", f"{request.method} is not possible here{only}.")
        if allowed:
            told["Allow"] = allowed
        return told

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, OperationalError):
            return database_away(request, exception)
        if isinstance(exception, DataError):  # NUL, or longer than its column: SQLite stores what PostgreSQL refuses
            log.warning("what was sent to %s cannot be stored: %s", request.path, exception)
            return refusal(request, 422, "not_storable", str(NOT_STORABLE))
        if not isinstance(exception, VpmsError):
            return None
        if exception.http_status == 404:
            return not_found(request, exception)
        if exception.http_status == 403 and exception.code != "read_only":
            return forbidden(request, exception)
        if request.headers.get("Accept") == "application/json":
            return JsonResponse(exception.as_dict(), status=exception.http_status)
        faults = exception.faults if isinstance(exception, BadInput) else []
        context = {"reason": exception.message, "faults": faults}
        return render(request, "accounts/refused.html", context, status=exception.http_status)
