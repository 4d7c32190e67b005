"""Around every request of the API: whose token it carries, how many calls are left, and problems instead of pages."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _

from webapp import logs
from webapp.accounts import tokens
from webapp.rest.problems import problem

log = logging.getLogger(__name__)
API: Final = "/api/"
SAFE: Final = ("GET", "HEAD", "OPTIONS", "TRACE")


class ApiMiddleware:
    """A token beside the session cookie: where one is sent, it alone says who calls. Limits are counted in the database
    for all processes; while it cannot count, calls are not held back (only signing in is, then)."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.token = None  # type: ignore[attr-defined]
        if not request.path.startswith(API):
            return self.get_response(request)
        refused = signed(request)
        if refused is not None:
            return refused
        headers, over = counted(request)
        answer = over or in_shape(self.get_response(request))
        for name, value in headers.items():
            answer.headers[name] = value
        answer.headers.setdefault("Cache-Control", "private, no-store")
        return answer


def signed(request: HttpRequest) -> HttpResponse | None:
    """The person of the token that is sent takes the place of the cookie's; 401 for one that does not count."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _space, secret = header.partition(" ")
    token = tokens.token_found(secret=secret.strip()) if scheme.lower() == "bearer" else None
    if token is None:
        answer = problem(401, "bad_token", _("This API token is unknown, revoked or past its end."))
        answer["WWW-Authenticate"] = 'Bearer error="invalid_token"'
        return answer
    logs.bind(user=token.user.pk)
    request.token, request.user = token, token.user  # type: ignore[attr-defined]
    return None


def counted(request: HttpRequest) -> tuple[dict[str, str], HttpResponse | None]:
    """The headers of the limit, and the refusal where it is reached."""
    write = request.method not in SAFE
    most = settings.API_WRITES_PER_MINUTE if write else settings.API_CALLS_PER_MINUTE
    if not most:
        return {}, None
    try:
        count = tokens.call_counted(key=f"{'write' if write else 'read'} {caller(request)}", most=most)
    except DatabaseError:
        log.warning("API calls are not counted: the database does not answer")
        return {}, None
    headers = {
        "RateLimit-Limit": str(most),
        "RateLimit-Remaining": str(count.remaining),
        "RateLimit-Reset": str(count.reset),
    }
    if count.allowed:
        return headers, None
    message = _("More than %(most)s calls in this minute. Try again in %(seconds)s s.")
    told = problem(429, "too_many_calls", message % {"most": most, "seconds": count.reset})
    return {**headers, "Retry-After": str(count.reset)}, told


def caller(request: HttpRequest) -> str:
    token: Any = request.token  # type: ignore[attr-defined]
    if token is not None:
        return f"token:{token.pk}"
    if request.user.is_authenticated:
        return f"user:{request.user.pk}"
    return "address:" + hashlib.sha256(request.META.get("REMOTE_ADDR", "").encode()).hexdigest()[:32]


def in_shape(answer: HttpResponseBase) -> HttpResponseBase:
    """Refusals that were made as a page, by what stands outside the views, as problems."""
    if answer.status_code < 400 or not answer.headers.get("Content-Type", "").startswith("text/html"):
        return answer
    if answer.status_code == 404:
        return problem(404, "not_found", _("There is nothing here that you may see."))
    if answer.status_code >= 500:
        return problem(answer.status_code, "internal", _("Something broke here; nothing was changed."))
    return problem(answer.status_code, "bad_request", _("The request was not understood."))
