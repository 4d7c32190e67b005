"""The one way in: after the password or the identity provider comes the second factor, then the session begins.

Also what is asked again before something grave: a password or factor given within the last ten minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils import translation
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _

from webapp import typed
from webapp.accounts import services, sessions
from webapp.accounts.models import User
from webapp.roles import signed_in_required

BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
PENDING: Final = "entering"
PENDING_SECONDS: Final = 600
CONFIRMED: Final = "confirmed"
FRESH_SECONDS: Final = 600

View = Callable[..., HttpResponseBase]


def ours(request: HttpRequest, wanted: str, otherwise: str) -> str:
    """The wanted address if it is one of this site, else the other."""
    fits = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if fits else otherwise


def password_fault(request: HttpRequest, user: User, given: str) -> str:
    """What is wrong with the password that a person gives again; "" if it is theirs. Counted as sign-ins are."""
    key = services.attempts_key(username=user.username, address=request.META.get("REMOTE_ADDR", ""))
    wait = services.sign_in_delay(key=key)
    if wait:
        return _("Too many tries. Your account is not locked: the next try is looked at in %d s.") % wait
    if user.check_password(given):
        services.sign_in_succeeded(key=key)
        return ""
    services.sign_in_failed(key=key)
    return _("This is not your password. It is read as typed, capital letters included.")


def first_step(request: HttpRequest, user: User, *, next: str, sealed: str = "") -> HttpResponse:
    """The person has proved the first factor. Whoever has a second one is asked for it; nobody is signed in before."""
    told = typed.opened(sealed) if sealed else None
    if not user.has_factor:
        return enter(request, user, next=next, told=told)
    request.session[PENDING] = {"user": user.pk, "at": int(time.time()), "next": next, "typed": told}
    return redirect("second-step")


def pending(request: HttpRequest) -> tuple[User, dict[str, Any]] | None:
    """Who is on the way in, if the first factor was proved not long ago."""
    told = request.session.get(PENDING)
    if not told or int(time.time()) - told["at"] > PENDING_SECONDS:
        return None
    user = User.objects.filter(pk=told["user"], is_active=True).first()
    return (user, told) if user is not None else None


def enter(request: HttpRequest, user: User, *, next: str, told: dict[str, Any] | None = None) -> HttpResponse:
    """The person is signed in from here on, under a new session id."""
    request.session.pop(PENDING, None)
    login(request, user, backend=BACKEND)
    sessions.begin(request, user, now=int(time.time()))
    confirmed(request)
    if not user.language:  # the first time: as the browser asks, or as was chosen on the pages before
        services.language_set(user=user, language=translation.get_language() or settings.LANGUAGE_CODE)
    if user.waiting_areas and not told:
        return factor_first(request)
    if told:
        return typed.back(request, {**told, "page": ours(request, told["page"], "/home/")})
    return redirect(ours(request, next, "/home/"))


def factor_first(request: HttpRequest) -> HttpResponse:
    """To the page of one's factors: what the person has a role for opens when one is set up."""
    messages.warning(request, _("Your role here needs a second factor. Set one up, then go on."))
    return redirect("account-factors")


# -- what is asked again


def confirmed(request: HttpRequest) -> None:
    """The person proved just now who it is."""
    request.session[CONFIRMED] = int(time.time())


def is_fresh(request: HttpRequest) -> bool:
    return int(time.time()) - int(request.session.get(CONFIRMED, 0)) <= FRESH_SECONDS


def fresh_required(view: View) -> View:
    """Only for signed-in people, and changes only soon after password or factor were given; typed text is kept."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.method == "POST" and not is_fresh(request):
            return ask_again(request)
        return view(request, *args, **kwargs)

    return signed_in_required(guarded)


def ask_again(request: HttpRequest) -> HttpResponse:
    """To the page that asks for password or factor, and from there back to the form as it was filled in."""
    told = typed.fields_of(request)
    request.session[typed.SESSION_KEY] = told
    request.session["confirm-next"] = told["page"]
    return redirect("account-confirm")
