"""Where a guest of a class may go: to learn, and nowhere else. A guest has no password and no role."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext as _

from webapp.pages import refusal

OPEN: Final = (
    *("/learn/", "/join/", "/s/", "/teach/cell/", "/demo/", "/help/", "/guide/", "/live/", "/static/"),
    "/lti/",
    *("/theme/", "/language/", "/sign-out/", "/sign-in/", "/home/", "/notices/bell/", "/healthz"),
    *(
        "/api/lessons",
        "/api/predictions/",
        "/api/courses/",
        "/api/items/",
        "/api/attempts",
        "/api/classes",
        "/api/tables",
        "/api/games",
        "/api/matrix",
        "/api/walks",
    ),
)


class GuestMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        user: Any = request.user
        if user.is_authenticated and user.guest and request.path != "/" and not request.path.startswith(OPEN):
            return refusal(request, 403, "forbidden", _("This is not open to guests of a class."))
        return self.get_response(request)
