"""For which organisation a signed-in person acts in this request, and how long a sign-in lasts."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user, logout
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import SimpleLazyObject

from webapp import logs
from webapp.accounts import sessions
from webapp.live.rights import ORGANISATION

API = "/api/"


class PersonMiddleware:
    """Every request stands for one organisation: the one that the API's header or query names, else the one that the
    session keeps, else the person's first. A named one to which the person does not belong makes everything missing."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        def person() -> Any:
            user: Any = get_user(request)
            if user.is_authenticated:
                logs.bind(user=user.pk)
                named = request.headers.get("X-Organisation") or request.GET.get("organisation")
                if named and request.path.startswith(API):
                    user.act_for(named, strictly=True)
                else:
                    user.act_for(request.session.get(ORGANISATION))
            return user

        request.user = SimpleLazyObject(person)  # type: ignore[assignment]
        now = int(time.time())
        if (
            sessions.due(request.session, now=now)
            and request.user.is_authenticated
            and not sessions.kept(request, now=now)
        ):
            logout(request)
        return self.get_response(request)
