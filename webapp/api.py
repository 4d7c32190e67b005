"""The REST API: collects each app's router; one handler turns every refusal into one JSON shape.

Signed in by the session cookie, with the CSRF token on every unsafe request. The shape of a refusal is
`{"code", "message", "faults": [{"path", "reason"}]}`, with whatever more the code promises beside it.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, AuthorizationError, HttpError, ValidationError
from ninja.parser import Parser
from ninja.security import django_auth

from webapp import strictjson
from webapp.agreements.api import router as agreements
from webapp.agreements.ladder_api import router as ladder
from webapp.audit.api import router as audit
from webapp.classroom.api import router as classroom
from webapp.errors import VpmsError
from webapp.notices.api import router as notices
from webapp.runs.api import router as runs
from webapp.tenants.api import router as tenants

log = logging.getLogger(__name__)


class StrictParser(Parser):
    """Small bodies are read as strictly as documents: no NaN, no duplicate key, no deep nesting."""

    def parse_body(self, request: HttpRequest) -> Any:
        return strictjson.load(request.body)


api = NinjaAPI(title="VPMS", version="1", docs_url=None, auth=django_auth, parser=StrictParser())
api.add_router("", tenants)
api.add_router("", agreements)
api.add_router("", ladder)
api.add_router("", audit)
api.add_router("", runs)
api.add_router("", classroom)
api.add_router("", notices)


def refusal(request: HttpRequest, status: int, code: str, message: str, **more: Any) -> HttpResponse:
    return api.create_response(request, {"code": code, "message": message, "faults": [], **more}, status=status)


@api.exception_handler(VpmsError)
def refused(request: HttpRequest, error: VpmsError) -> HttpResponse:
    return refusal(request, error.http_status, error.code, error.message, **error.data)


def path_of(place: tuple[Any, ...]) -> str:
    """`$.round`. A body's place starts with the name of our parameter, which no client knows."""
    return ".".join(["$", *map(str, place[2 if place[0] == "body" else 1 :])])


@api.exception_handler(ValidationError)
def not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Faults of query and path parameters and of small bodies, with the same kind of paths as documents have."""
    faults = [{"path": path_of(fault["loc"]), "reason": fault["msg"]} for fault in error.errors[:20]]
    first = f"{faults[0]['path']}: {faults[0]['reason']}" if faults else "not understood"
    return refusal(request, 422, "bad_input", first, faults=faults)


@api.exception_handler(AuthenticationError)
def not_signed_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return refusal(request, 401, "not_signed_in", "Sign in first.")


@api.exception_handler(AuthorizationError)
def not_allowed(request: HttpRequest, error: AuthorizationError) -> HttpResponse:
    return refusal(request, 403, "not_allowed", "Your role does not open this.")


@api.exception_handler(Http404)
def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return refusal(request, 404, "not_found", "There is nothing here that you may see.")


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    fault = {"path": "$", "reason": "is longer than 1 MiB"}
    return refusal(request, 413, "too_big", "$: is longer than 1 MiB", faults=[fault])


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, VpmsError):  # the strict parser's own faults, with path and reason
        return refused(request, error.__cause__)
    if isinstance(error.__cause__, RequestDataTooBig):
        return too_big(request, error.__cause__)
    return refusal(request, error.status_code, "bad_request", str(error))


@api.exception_handler(Exception)
def broken(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("the API failed at %s", request.path, exc_info=error)
    return refusal(request, 500, "internal", "Something broke here; nothing was changed. It has been written down.")
