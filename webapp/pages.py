"""Refusals on pages: the same errors as in the API, as a page with the right status."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.defaults import page_not_found, permission_denied

from webapp.errors import BadInput, VpmsError


class RefusalMiddleware:
    """A VpmsError that a page's view did not answer itself becomes a page that says what happened."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not isinstance(exception, VpmsError):
            return None
        if exception.http_status == 404:
            return page_not_found(request, exception)
        if exception.http_status == 403:
            return permission_denied(request, exception)
        faults = exception.faults if isinstance(exception, BadInput) else []
        context = {"reason": exception.message, "faults": faults}
        return render(request, "accounts/refused.html", context, status=exception.http_status)
