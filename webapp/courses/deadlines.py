"""When work of a course is due, until when it is accepted, and what coming late costs: typed, told and counted here.

Kept in UTC, typed and told in the site's time zone (settings.SITE_ZONE). A day of lateness ends when the clock of that
zone shows the due time again, also where clocks are put forward or back within it.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from webapp.errors import BadInput, Fault

if TYPE_CHECKING:
    from webapp.courses.models import Item

TYPED: Final = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2})(?::\d{2}(?:\.0+)?)?")
YEARS: Final = range(2000, 2100)
MOST_DAYS: Final = 32_767


def zone_name() -> str:
    return str(settings.SITE_ZONE)


def local(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(settings.SITE_ZONE)


def told(moment: dt.datetime) -> str:
    """`2026-12-01 18:00 (Europe/Berlin)`."""
    return f"{local(moment):%Y-%m-%d %H:%M} ({zone_name()})"


def typed(moment: dt.datetime | None) -> str:
    """As a form's field holds it."""
    return f"{local(moment):%Y-%m-%dT%H:%M}" if moment else ""


def read(name: str, text: str) -> dt.datetime | None:
    """The moment that was typed in the site's zone; None: nothing. Of an hour that comes twice the second is meant; one
    that is left out is refused, as is what is no time."""
    text = text.strip()
    if not text:
        return None
    parts = TYPED.fullmatch(text)
    try:
        clock = dt.datetime.fromisoformat(f"{parts[1]}T{parts[2]}") if parts else None
    except ValueError:
        clock = None
    if clock is None or clock.year not in YEARS:
        raise BadInput([Fault(f"$.{name}", _("is no date and time: 2026-12-01 18:00"))])
    if _left_out(clock):
        words = _("does not exist in %(zone)s: clocks are put forward then") % {"zone": zone_name()}
        raise BadInput([Fault(f"$.{name}", words)])
    return moment_of(clock)


def moment_of(clock: dt.datetime) -> dt.datetime:
    """The moment at which clocks of the zone show this; the second of two, and after a gap what they show then."""
    return clock.replace(tzinfo=settings.SITE_ZONE, fold=0 if _left_out(clock) else 1).astimezone(dt.UTC)


def _left_out(clock: dt.datetime) -> bool:
    there = clock.replace(tzinfo=settings.SITE_ZONE).astimezone(dt.UTC)
    return local(there).replace(tzinfo=None) != clock


def shifted(moment: dt.datetime, days: int) -> dt.datetime:
    """The same time of day, so many days later."""
    return moment_of(local(moment).replace(tzinfo=None) + dt.timedelta(days=days))


def days_late(item: Item, at: dt.datetime) -> int:
    """Days begun after the due time; 0: in time."""
    if item.due_at is None or at <= item.due_at:
        return 0
    days = max(1, (local(at).date() - local(item.due_at).date()).days)
    return min(days + (at > shifted(item.due_at, days)), MOST_DAYS)


def over(item: Item, at: dt.datetime) -> bool:
    """Nothing that comes at this moment counts any more."""
    if item.accepted_until is not None and at > item.accepted_until:
        return True
    return item.late == item.Late.NONE and item.due_at is not None and at > item.due_at


def counted(item: Item, earned: float, days: int, at: dt.datetime | None = None) -> float:
    """The points that count by the item's late rule; `at`: when the work came."""
    if at is not None and over(item, at):
        return 0.0
    if not days or item.late == item.Late.FULL:
        return earned
    if item.late == item.Late.NONE:
        return 0.0
    return round(earned * max(0.0, 1 - days * item.late_percent / 100), 4)


LATE: Final = "Late"  # the name of the reason that says what coming late has cost


def late_reason(item: Item, earned: float, days: int, at: dt.datetime) -> dict[str, Any] | None:
    """Why a piece of work lost points by coming late; None: it lost none. English, as all reasons are stored."""
    lost = round(earned - counted(item, earned, days, at), 4)
    if not lost:
        return None
    if item.accepted_until is not None and at > item.accepted_until:
        says = f"It came after {told(item.accepted_until)}, until when work was accepted: it counts nothing."
    elif item.late == item.Late.NONE and item.due_at:
        says = f"It came after it was due at {told(item.due_at)}: it counts nothing."
    else:
        percent = min(100, days * item.late_percent)
        says = f"Days begun after it was due: {days}. {percent} percent of the points are lost."
    return {"name": LATE, "points": -lost, "of": 0, "says": says}


def rule(item: Item) -> str:
    """When it is due and what coming late costs, as students read it; "": it is never due."""
    said = []
    if item.due_at:
        said.append(_("Due at %(time)s.") % {"time": told(item.due_at)})
        if item.points and item.late == item.Late.FULL:
            said.append(_("What comes later counts in full."))
        if item.points and item.late == item.Late.NONE:
            said.append(_("What comes later counts nothing."))
        if item.points and item.late == item.Late.DAILY:
            lost = {"percent": item.late_percent}
            said.append(_("For each day begun after that, %(percent)s percent of its points are lost.") % lost)
    if item.accepted_until and item.late != item.Late.NONE:
        said.append(_("It is accepted until %(time)s.") % {"time": told(item.accepted_until)})
    if item.tries:
        words = ngettext("%(tries)s graded try.", "%(tries)s graded tries.", item.tries)
        said.append(words % {"tries": item.tries})
    return " ".join(said)
