"""Who may call: the session cookie with its CSRF token, or an API token whose scope reaches far enough."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest
from ninja.errors import AuthorizationError
from ninja.utils import check_csrf

from webapp.accounts.tokens import SCOPES
from webapp.errors import VpmsError
from webapp.rest.middleware import SAFE
from webapp.roles import only_reads, read_only


class Door:
    """Opens to somebody who is signed in. `scope` is what a token needs; by default `read` to read, else `write`."""

    def __init__(self, scope: str = "") -> None:
        self.scope = scope

    def needed(self, method: str) -> str:
        return self.scope or ("read" if method in SAFE else "write")

    def __call__(self, request: HttpRequest) -> Any:
        token: Any = getattr(request, "token", None)
        if token is not None:
            if SCOPES.index(token.scope) < SCOPES.index(self.needed(request.method or "")):
                raise AuthorizationError
        elif not request.user.is_authenticated:
            return None
        elif request.method not in SAFE and check_csrf(request):
            raise VpmsError("csrf_failed", 403, message="The CSRF token is missing or not the right one.")
        if self.needed(request.method or "") != "read" and only_reads(request.user):
            raise read_only()
        return request.user


reader: Final = Door("read")  # for what reads by an unsafe method
manager: Final = Door("manage")
