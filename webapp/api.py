"""The REST API: collects each app's router; one handler turns every refusal into one JSON shape.

Signed in by the session cookie, with the CSRF token on every unsafe request, or by an API token. A refusal is a problem
(RFC 9457) that also carries `{"code", "message", "faults": [{"path", "reason"}]}`, and whatever more the code promises.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.db import DataError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja.errors import AuthenticationError, AuthorizationError, HttpError, ValidationError
from ninja.parser import Parser

from webapp import strictjson
from webapp.accounts.api import router as accounts
from webapp.agreements.api import router as agreements
from webapp.agreements.ladder_api import router as ladder
from webapp.agreements.life_api import router as life
from webapp.agreements.paper_api import router as papers
from webapp.agreements.wishes_api import router as wishes
from webapp.audit.api import router as audit
from webapp.classroom.api import router as classroom
from webapp.classroom.drill_api import router as drills
from webapp.courses.builder_api import router as building
from webapp.courses.bundle_api import router as bundles
from webapp.courses.class_api import router as courses
from webapp.courses.grade_api import router as grades
from webapp.courses.lab_api import router as labs
from webapp.courses.lesson_api import router as lessons
from webapp.courses.member_api import router as members
from webapp.courses.policy_api import router as policies
from webapp.courses.predict_api import router as predictions
from webapp.errors import VpmsError
from webapp.lti.api import router as lti
from webapp.notices.alert_api import router as alerts
from webapp.notices.api import router as notices
from webapp.ops.job_api import router as jobs
from webapp.ops.kiosk_api import router as screens
from webapp.pages import DATABASE_AWAY, NOT_STORABLE
from webapp.rest.document import Api
from webapp.rest.doors import Door
from webapp.rest.problems import problem
from webapp.rest.repeats import once
from webapp.runs.api import router as runs
from webapp.runs.host_api import router as hosts
from webapp.runs.time_api import router as moments
from webapp.runs.wall_api import router as wall
from webapp.runs.workload_api import router as workloads
from webapp.runs.workload_api import runs as together
from webapp.shares.api import router as shares
from webapp.tenants.api import router as tenants
from webapp.tenants.people_api import router as people

log = logging.getLogger(__name__)


FILES = re.compile(r"/api/(items|courses)/")  # where the member `text` of a body is a file of many lines


POINTS = re.compile(r"/api/courses/\d+/grades/\d+/\d+/points")  # that a teacher sets: halves are points too


class StrictParser(Parser):
    """Small bodies are read as strictly as documents: no NaN, no duplicate key, no deep nesting."""

    def parse_body(self, request: HttpRequest) -> Any:
        file = "text" if FILES.match(request.path) else ""
        return strictjson.load(request.body, file=file, decimals=bool(POINTS.match(request.path)))


api = Api(title="VPMS", version="1", docs_url=None, auth=Door(), parser=StrictParser())
api.add_decorator(once, mode="view")
for router in (
    *(accounts, people, tenants, wishes, life, agreements, ladder, papers, audit),
    *(runs, wall, hosts, together, moments, workloads, notices, alerts, classroom, drills, jobs, screens),
    *(courses, building, members, bundles, lessons, labs, predictions, policies, grades, shares, lti),
):
    api.add_router("", router)


@api.exception_handler(VpmsError)
def refused(request: HttpRequest, error: VpmsError) -> HttpResponse:
    return problem(error.http_status, error.code, error.message, more=error.data)


def path_of(place: tuple[Any, ...]) -> str:
    """`$.round`. A body's place starts with the name of our parameter, which no client knows; so does a query's that
    is read as a group."""
    skipped = 2 if place[0] == "body" or place[:2] in (("query", "paging"), ("query", "asked")) else 1
    return ".".join(["$", *map(str, place[skipped:])])


@api.exception_handler(ValidationError)
def not_valid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Faults of query and path parameters and of small bodies, with the same kind of paths as documents have."""
    faults = [{"path": path_of(fault["loc"]), "reason": fault["msg"]} for fault in error.errors[:20]]
    first = f"{faults[0]['path']}: {faults[0]['reason']}" if faults else "not understood"
    return problem(422, "bad_input", first, faults=faults)


@api.exception_handler(AuthenticationError)
def not_signed_in(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    told = problem(401, "not_signed_in", "Sign in first.")
    told["WWW-Authenticate"] = "Bearer"
    return told


@api.exception_handler(AuthorizationError)
def not_allowed(request: HttpRequest, error: AuthorizationError) -> HttpResponse:
    return problem(403, "not_allowed", "Your role, or the scope of your token, does not open this.")


@api.exception_handler(Http404)
def not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem(404, "not_found", "There is nothing here that you may see.")


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    fault = {"path": "$", "reason": "is longer than 1 MiB"}
    return problem(413, "too_big", "$: is longer than 1 MiB", faults=[fault])


@api.exception_handler(HttpError)
def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__cause__, VpmsError):  # the strict parser's own faults, with path and reason
        return refused(request, error.__cause__)
    if isinstance(error.__cause__, RequestDataTooBig):
        return too_big(request, error.__cause__)
    return problem(error.status_code, "bad_request", str(error))


@api.exception_handler(OperationalError)
def database_away(request: HttpRequest, error: OperationalError) -> HttpResponse:
    """The disk is full, the database is away or held by somebody else: all that the call wrote is taken back."""
    log.error("the database failed the API at %s: %s", request.path, error)
    told = problem(503, "database_away", str(DATABASE_AWAY))
    told["Retry-After"] = "5"
    return told


@api.exception_handler(DataError)
def not_storable(request: HttpRequest, error: DataError) -> HttpResponse:
    """A net below the checks: SQLite stores what PostgreSQL refuses (NUL, more than a column holds)."""
    log.warning("what was sent to the API at %s cannot be stored: %s", request.path, error)
    return problem(422, "not_storable", str(NOT_STORABLE))


@api.exception_handler(Exception)
def broken(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("the API failed at %s", request.path, exc_info=error)
    return problem(500, "internal", "Something broke here; nothing was changed. It has been written down.")
