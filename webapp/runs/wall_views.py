"""The fleet wall: every host with its checks, worst first."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from webapp.errors import BadInput, Fault
from webapp.pages import AT_ONCE, Window
from webapp.roles import operator_required
from webapp.runs import fleet_wall, levels, services
from webapp.runs.fleet_wall import GROUPINGS, MISSED, WORDS


def wall_context(user: Any, *, text: str = "", by: str = "zone", of: str = "", number: int = 1) -> dict[str, Any]:
    """What the wall shows: groups of all hosts that were asked for, and one page of rows, worst first."""
    changed = fleet_wall.states_at()  # read first: what changes later has the page fetched anew
    now = timezone.now()
    found = fleet_wall.places(user=user, now=now, text=text)
    groups = fleet_wall.groups_of(found=found, by=by)
    chosen = fleet_wall.in_group(found=found, by=by, key=of) if of else found
    shown = chosen[(number - 1) * AT_ONCE : number * AT_ONCE]
    asked = {name: value for name, value in (("q", text), ("by", by if by != "zone" else ""), ("of", of)) if value}
    return {
        "moved": changed,
        "now": fleet_wall.ms(now),
        "read_at": now,
        "unknown_after": MISSED * settings.CHECK_SECONDS * settings.SLOWER,
        "checks": fleet_wall.CHECKS,
        "words": {state: word for state, (word, _look) in WORDS.items()},
        "looks": {state: look for state, (_word, look) in WORDS.items()},
        "counts": fleet_wall.counts_said(found),
        "hosts": len(found),
        "groups": groups,
        "rows": fleet_wall.rows_of(shown=shown, now=now),
        "topics": " ".join(fleet_wall.topics_of(shown)),
        "pages": Window(list(shown), number, len(chosen) > number * AT_ONCE),
        "chosen": {"text": text, "by": by, "of": of},
        "query": urlencode({name: value for name, value in asked.items() if name != "of"}),
        "query_all": "&" + urlencode(asked) if asked else "",
        "groupings": GROUPINGS,
        "levels": levels.levels_shown(),
    }


@require_GET
@operator_required
def page(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    by = request.GET.get("by", "zone")
    number = request.GET.get("page", "")
    context = wall_context(
        user,
        text=request.GET.get("q", "")[:63].strip(),
        by=by if by in GROUPINGS else "zone",
        of=request.GET.get("of", "")[:63],
        number=max(1, int(number)) if number.isascii() and number.isdecimal() and len(number) < 7 else 1,
    )
    return render(request, "runs/wall.html", context)


@require_POST
@operator_required
def seen(request: HttpRequest) -> HttpResponse:
    """The page tells how many milliseconds cells took to its screen: `ms`, once for each."""
    user: Any = request.user
    given = request.POST.getlist("ms")
    if not all(text.isascii() and text.isdecimal() and len(text) < 8 for text in given):
        raise BadInput([Fault("$.ms", "must be whole numbers")])
    services.screens_seen(by=user, ms=[int(text) for text in given])
    return HttpResponse(status=204)
