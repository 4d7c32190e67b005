"""The screen on the wall, and the operator's page of playlists."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.accounts.context import THEMES
from webapp.classroom.views import table_context
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host
from webapp.ops import kiosk
from webapp.ops.kiosk import LOCK, MAP
from webapp.ops.models import Playlist
from webapp.roles import operator_required
from webapp.runs import overview, selectors
from webapp.runs.picture import OPERATOR
from webapp.runs.wall_views import wall_context

TITLES: Final = {
    "wall": gettext_lazy("Wall"),
    "alerts": gettext_lazy("Alerts"),
    "matrix": gettext_lazy("Attacks and architectures"),
}
SCRIPTS: Final = {"wall": "src/wall.ts", "alerts": "src/main.ts", "matrix": "src/main.ts", "map": "src/main.ts"}


def _asked(request: HttpRequest, row: Playlist) -> tuple[list[str], int, dict[str, str]]:
    """Panels and seconds as the address asks for them, else the playlist's own; and what of the address is kept."""
    given = {name: request.GET[name][:400] for name in ("theme", "rotate", "panels") if request.GET.get(name)}
    panels, seconds = row.panels, row.rotate_seconds
    if "panels" in given:
        panels = kiosk.panels_checked(given["panels"].split(","), "panels")
    if "rotate" in given:
        found = re.fullmatch(r"([0-9]{1,4})s?", given["rotate"])
        seconds = kiosk.seconds_checked(int(found[1]) if found else 0, "rotate")
    if given.get("theme", "system") not in THEMES:
        raise BadInput([Fault("theme", _("must be one of %(names)s") % {"names": ", ".join(THEMES)})])
    return panels, seconds, given


def _panel(user: Any, panel: str, playlist: str) -> dict[str, Any]:
    """What the template of this panel needs. Names of VMs and of organisations are nothing for passers-by."""
    if panel == "wall":
        return {"kind": "wall", "title": TITLES["wall"], **wall_context(user)}
    if panel == "alerts":
        return {"kind": "alerts", "title": TITLES["alerts"]}
    if panel == "matrix":
        return {"kind": "matrix", "title": TITLES["matrix"], **table_context(may_run=False)}
    name = panel.removeprefix(MAP)
    host = Host.objects.filter(name=name).first()
    run = selectors.newest_run(user=user, host=host) if host else None
    title = _("Memory of %(host)s") % {"host": name}
    context: dict[str, Any] = {"kind": "map", "title": title, "run": run}
    if run is not None:
        context |= overview.picture_now(run=run, view=OPERATOR) | {"topic": f"run/{run.pk}/map", "seed": None}
        owners = context.get("owners", [])
        context["owners"] = [{**row, "name": "" if row["letter"] else row["name"]} for row in owners]
    return context


@require_GET
@operator_required
def show(request: HttpRequest, name: str) -> HttpResponse:
    """One panel of the playlist; the next one follows by itself, with or without script."""
    user: Any = request.user
    locked = request.session.get(LOCK) == name
    row = kiosk.playlists_of(user=user).filter(name=name).first()
    if row is None and locked:
        logout(request)  # its playlist is gone, and nobody is there to decide what the screen shows now
        return redirect("sign-in")
    row = row or kiosk.playlist_get(user=user, name=name)
    panels, seconds, given = _asked(request, row)
    text = request.GET.get("at", "")
    at = int(text) % len(panels) if text.isascii() and text.isdecimal() and len(text) < 4 else 0
    shown = _panel(user, panels[at], row.name)
    context = {
        **shown,
        "playlist": row,
        "panel": shown["kind"],
        "script": SCRIPTS[shown["kind"]],
        "locked": locked,
        "seconds": seconds,
        "at_panel": at + 1,
        "panels_all": len(panels),
        "asked": urlencode(given),
        "next": "?" + urlencode({**given, "at": (at + 1) % len(panels)}),
        "clock": timezone.now(),
        "clock_ms": int(timezone.now().timestamp() * 1000),
        "screen_theme": given.get("theme", ""),
    }
    return render(request, "ops/kiosk.html", context)


@require_POST
@operator_required
def lock(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    kiosk.lock(by=user, playlist=kiosk.playlist_get(user=user, name=name), session=request.session)
    return _back(request, name)


def _back(request: HttpRequest, name: str) -> HttpResponse:
    """To the screen, with the theme and the panels that its address asked for."""
    asked = request.GET.urlencode()
    return redirect(f"{reverse('kiosk', args=[name])}{'?' if asked else ''}{asked}")


@require_POST
@operator_required
def leave(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    row = kiosk.playlist_get(user=user, name=name)
    try:
        kiosk.leave(by=user, playlist=row, session=request.session, token=request.POST.get("token", "")[:64])
    except VpmsError as refused:
        messages.error(request, refused.message)
        return _back(request, name)
    return redirect("wall")


@require_http_methods(["GET", "HEAD", "POST"])
@operator_required
def playlists(request: HttpRequest) -> HttpResponse:
    """The playlists; POST saves one."""
    user: Any = request.user
    typed, faults, token, status = {"rotate": "20"}, {}, "", 200
    if request.method == "POST":
        typed = {name: request.POST.get(name, "")[:400].strip() for name in ("name", "panels", "rotate")}
        try:
            seconds = int(typed["rotate"]) if re.fullmatch(r"[0-9]{1,4}", typed["rotate"]) else 0
            panels = typed["panels"].replace(",", " ").split()
            row, token = kiosk.playlist_put(by=user, name=typed["name"], panels=panels, rotate_seconds=seconds)
            if not token:
                messages.success(request, _("The playlist %(name)s is saved.") % {"name": row.name})
                return redirect("playlists")
        except BadInput as refused:
            places = {"$.name": "name", "$.panels": "panels", "$.rotate_seconds": "rotate"}
            faults, status = {places[fault.path]: fault.reason for fault in refused.faults}, 422
    context = {"playlists": kiosk.playlists_of(user=user), "typed": typed, "faults": faults, "token": token}
    context["of"] = typed.get("name", "")
    return render(request, "ops/playlists.html", context, status=status)


@require_POST
@operator_required
def playlist_change(request: HttpRequest, name: str) -> HttpResponse:
    """A new token for the playlist, or away with it."""
    user: Any = request.user
    row = kiosk.playlist_get(user=user, name=name)
    if request.POST.get("act") == "token":
        token = kiosk.playlist_token(by=user, playlist=row)
        context = {
            "playlists": kiosk.playlists_of(user=user),
            "typed": {"rotate": "20"},
            "token": token,
            "of": row.name,
        }
        return render(request, "ops/playlists.html", context)
    if request.POST.get("act") != "delete":
        raise BadInput([Fault("$.act", _("must be token or delete"))])
    kiosk.playlist_delete(by=user, playlist=row)
    messages.success(request, _("The playlist %(name)s is gone.") % {"name": name})
    return redirect("playlists")
