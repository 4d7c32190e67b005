"""Around every request: its id, in every line of the log and in the answer; how long it took, by the route's name."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from django.db import connections
from django.http import HttpRequest, HttpResponseBase

from webapp import logs, tally

log = logging.getLogger(__name__)

HEADER: Final = "X-Request-ID"
QUIET: Final = ("healthz", "readyz", "metrics")  # asked by machines, every few seconds


def give_connections_back() -> None:
    """All is read: who takes long to fetch the answer holds no connection. (In a transaction only tests are here.)"""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class ObservedMiddleware:
    """The first of all, so that what the others refuse is counted too. The id is always ours: one that was sent could
    be anything, and would lead two requests together in the log."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began, ident = time.perf_counter(), secrets.token_hex(8)
        logs.clear()
        with logs.bound(request_id=ident):
            answer = self.get_response(request)
            if not answer.streaming:
                give_connections_back()
            seconds = time.perf_counter() - began
            route = logs.route_of(request)
            tally.count("vpms_http_requests_total", route=route, status=f"{answer.status_code // 100}xx")
            tally.observe("vpms_http_seconds", seconds)
            told = {"route": route, "status": answer.status_code, "ms": round(seconds * 1000, 1)}
            log.log(logging.DEBUG if route in QUIET else logging.INFO, "%s", request.method, extra=told)
        answer.headers[HEADER] = ident
        return answer
