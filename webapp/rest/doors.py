"""Who may call: the session cookie with its CSRF token, or an API token whose scope reaches far enough."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.errors import AuthorizationError
from ninja.utils import check_csrf

from webapp.accounts import entering
from webapp.accounts.tokens import SCOPES
from webapp.errors import VpmsError
from webapp.rest.middleware import SAFE
from webapp.roles import only_reads, read_only


class Door:
    """Opens to somebody who is signed in. `scope` is what a token needs; by default `read` to read, else `write`.
    `grave`: a session must have proved just now whose it is, as on the page. `whole`: a token that was made for one
    organisation does not reach what is the person's own."""

    def __init__(self, scope: str = "", *, grave: bool = False, whole: bool = False) -> None:
        self.scope, self.grave, self.whole = scope, grave, whole

    def needed(self, method: str) -> str:
        return self.scope or ("read" if method in SAFE else "write")

    def __call__(self, request: HttpRequest) -> Any:
        token: Any = getattr(request, "token", None)
        if token is not None:
            if SCOPES.index(token.scope) < SCOPES.index(self.needed(request.method or "")):
                raise AuthorizationError
            if self.whole and token.tenant:
                raise AuthorizationError
        elif not request.user.is_authenticated:
            return None
        elif request.method not in SAFE and check_csrf(request):
            raise VpmsError("csrf_failed", 403, message="The CSRF token is missing or not the right one.")
        changes = request.method not in SAFE
        if changes and self.scope != "read" and only_reads(request.user):
            raise read_only()
        if changes and self.grave and token is None and not entering.is_fresh(request):
            message = _("Confirm at /account/confirm/ that it is you, then send this again. Nothing was changed.")
            raise VpmsError("confirm_first", 403, message=message)
        return request.user


reader: Final = Door("read")  # for what reads by an unsafe method
manager: Final = Door("manage")
governor: Final = Door("manage", grave=True)  # who belongs where
oneself: Final = Door("manage", whole=True)  # what is kept about the person
