"""Screens on the wall: playlists of panels, and the lock that keeps a screen's session on its playlist.

The lock is in the session, not in the page: whatever is pressed or typed there, the session opens nothing else until
somebody gives the playlist's token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host
from webapp.ops.models import Playlist
from webapp.pages import refusal
from webapp.roles import must
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from webapp.accounts.models import User

LOCK: Final = "kiosk"  # the session's key: the name of the playlist that it is locked to
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,38}\Z")
SINGLE: Final = ("wall", "alerts", "matrix")
MAP: Final = "map:"
MOST_PANELS: Final = 12
FASTEST, SLOWEST = 5, 3600  # seconds of a panel


def playlists_of(*, user: User) -> QuerySet[Playlist]:
    """The playlists, for those who see the site."""
    return Playlist.objects.all() if user.sees_site else Playlist.objects.none()


def playlist_get(*, user: User, name: str) -> Playlist:
    found = playlists_of(user=user).filter(name=name).first()
    if found is None:
        raise missing()
    return found


def _operator(by: User) -> None:
    if not by.sees_site:
        raise missing()
    must(by, "act", tenant=None)


def panels_checked(panels: Sequence[str], path: str = "$.panels") -> list[str]:
    """The panels, if each is one that there is; hosts are named as they are called."""
    known = set(Host.objects.filter(name__in=[each[len(MAP) :] for each in panels]).values_list("name", flat=True))
    words = _("must be 1 to %(most)d of: wall, alerts, matrix, map: and the name of a host")
    wrong = [each for each in panels if each not in SINGLE and not (each.startswith(MAP) and each[len(MAP) :] in known)]
    if wrong or not 1 <= len(panels) <= MOST_PANELS:
        raise BadInput([Fault(path, words % {"most": MOST_PANELS})])
    return list(panels)


def seconds_checked(seconds: int, path: str = "$.rotate_seconds") -> int:
    if not FASTEST <= seconds <= SLOWEST:
        limits = {"low": FASTEST, "high": SLOWEST}
        raise BadInput([Fault(path, _("must be from %(low)d to %(high)d seconds") % limits)])
    return seconds


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@transaction.atomic
def playlist_put(*, by: User, name: str, panels: Sequence[str], rotate_seconds: int) -> tuple[Playlist, str]:
    """Make the playlist, or change it. A new one's token comes with it, shown this once; of an old one it is ""."""
    _operator(by)
    if not NAME.match(name):
        raise BadInput([Fault("$.name", _("must be small letters, digits and hyphens, at most 39"))])
    shown = {"panels": panels_checked(panels), "rotate_seconds": seconds_checked(rotate_seconds)}
    token = "" if Playlist.objects.filter(name=name).exists() else secrets.token_hex(8)
    made = {**shown, "token_digest": _digest(token)}
    row, _made = Playlist.objects.update_or_create(name=name, defaults=shown, create_defaults=made)
    audit.record(by=by, type="playlist.saved", subject=f"playlist:{name}", data=shown)
    return row, token


@transaction.atomic
def playlist_token(*, by: User, playlist: Playlist) -> str:
    """A new token; the old one opens nothing any more."""
    _operator(by)
    token = secrets.token_hex(8)
    Playlist.objects.filter(pk=playlist.pk).update(token_digest=_digest(token))
    audit.record(by=by, type="playlist.token", subject=f"playlist:{playlist.name}", data={})
    return token


@transaction.atomic
def playlist_delete(*, by: User, playlist: Playlist) -> None:
    """Gone. A screen that is locked to it is signed out at its next turn."""
    _operator(by)
    audit.record(by=by, type="playlist.deleted", subject=f"playlist:{playlist.name}", data={})
    playlist.delete()


@transaction.atomic
def lock(*, by: User, playlist: Playlist, session: Any) -> None:
    """From now on this session opens nothing but the playlist."""
    _operator(by)
    session[LOCK] = playlist.name
    audit.record(by=by, type="kiosk.locked", subject=f"playlist:{playlist.name}", data={})


@transaction.atomic
def leave(*, by: User, playlist: Playlist, session: Any, token: str) -> None:
    """Unlock the session with the playlist's token; with any other it stays locked."""
    if not constant_time_compare(_digest(token.strip()), playlist.token_digest):
        raise VpmsError("wrong_token", 403, message=_("This is not the token of this screen. It stays locked."))
    session.pop(LOCK, None)
    audit.record(by=by, type="kiosk.left", subject=f"playlist:{playlist.name}", data={})


class KioskMiddleware:
    """A locked session is led back to its screen, whatever it asks for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        name = request.session.get(LOCK)
        if name is None or request.path.startswith((f"/kiosk/{name}/", "/live/newest/", "/operator/alerts/strip/")):
            return self.get_response(request)
        if request.method in ("GET", "HEAD") and not request.path.startswith("/api/"):
            return redirect("kiosk", name=name)
        reason = _("This screen is locked to its playlist. Leave it with its token first.")
        answer: HttpResponse = refusal(request, 403, "locked", reason)
        return answer
