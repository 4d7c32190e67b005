"""Sign-ins: how long each lasts, where they are, and how one is ended.

The session's own expiry is the one clock: it is set to the idle end and never past the absolute end, so that requests
and open sockets, which both look at the session's row, end together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils import timezone

from webapp.live import publish

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase
    from django.http import HttpRequest

    from webapp.accounts.models import User

STARTED, SEEN = "started", "seen"
STEPS = 60  # the clock is written at most so many times within one idle span


class Limits(NamedTuple):
    idle: int
    absolute: int


def limits_of(user: Any) -> Limits:
    """In seconds. Operators' sessions are short: theirs reach every host."""
    return Limits(*(settings.SESSION_OPERATOR if user.sees_site else settings.SESSION_PERSON))


def begin(request: HttpRequest, user: User, *, now: int) -> None:
    """A fresh sign-in: its clock starts, and it stands in the person's list."""
    limits = limits_of(user)
    request.session[STARTED] = request.session[SEEN] = now
    request.session.set_expiry(min(limits))
    UserSession.objects.create_from_request(request)


def moved(request: HttpRequest, user: User) -> None:
    """The session goes on under a new id, as after a new password; its row in the person's list follows."""
    UserSession.objects.create_from_request(request)
    live = Session.objects.filter(expire_date__gt=timezone.now()).values("session_key")
    UserSession.objects.filter(user=user).exclude(session_key__in=live).exclude(
        session_key=request.session.session_key
    ).delete()


def due(session: SessionBase, *, now: int) -> bool:
    """Whether it is time to write down again that the session is in use."""
    return STARTED in session and now - int(session.get(SEEN, 0)) >= min(settings.SESSION_OPERATOR) // STEPS


def kept(request: HttpRequest, *, now: int) -> bool:
    """The session was used now: its idle end moves on. False: it has reached its absolute end."""
    limits, session = limits_of(request.user), request.session
    left = int(session[STARTED]) + limits.absolute - now
    if left <= 0 or now - int(session[SEEN]) > limits.idle:
        return False
    if now - int(session[SEEN]) >= limits.idle // STEPS:
        session[SEEN] = now
        session.set_expiry(min(limits.idle, left))
        UserSession.objects.filter(session_key=session.session_key).update(last_seen_at=timezone.now())
    return True


def live_of(*, user: User) -> list[UserSession]:
    """The person's sign-ins that still hold, newest first."""
    alive = Session.objects.filter(expire_date__gt=timezone.now()).values("session_key")
    return list(UserSession.objects.filter(user=user, session_key__in=alive).order_by("-last_seen_at"))


def end(*, user: User, pk: int | None = None, but: str | None = None) -> int:
    """End one of the person's sign-ins, or all except the one with the key `but`. Their open sockets close too."""
    rows = UserSession.objects.filter(user=user)
    rows = rows.filter(pk=pk) if pk is not None else rows.exclude(session_key=but or "")
    keys = list(rows.values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    rows.delete()
    publish.rights_changed(user=user.pk)
    return len(keys)
