"""Service levels: what the platform promises, what was measured of it, and how much of the error budget is left."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from django.db.models import Count, Q, QuerySet, Value
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from webapp.agreements.models import Negotiation
from webapp.runs.models import Delay, Run

WINDOW: Final = dt.timedelta(days=30)
FEWEST: Final = 20  # of fewer values no share is told
DETECT_MS, SCREEN_MS = 1000, 250


class Measured(NamedTuple):
    """What was counted in the window; `typical` and `worst` are the 50th and 95th of a hundred, in milliseconds."""

    good: int
    n: int
    typical: int | None = None
    worst: int | None = None


class Level(NamedTuple):
    name: str
    words: Promise
    target: Promise
    share: float  # that must be good
    measure: Callable[[Found], Measured]


class Found(NamedTuple):
    """What the window holds: delays in milliseconds by kind; how many runs and negotiations ended, how many badly."""

    delays: dict[str, list[int]]
    ended: dict[str, tuple[int, int]]


def _found(since: dt.datetime) -> Found:
    """Two queries for all levels: a wall is looked at all day."""
    delays: dict[str, list[int]] = defaultdict(list)
    for kind, ms in Delay.objects.filter(at__gte=since).values_list("kind", "ms"):
        delays[kind].append(ms)
    # A run that somebody cancelled did what it was asked to; a negotiation that a deadline ended was not answered.
    closed = Negotiation.objects.filter(ended_at__gte=since, round__gte=1).exclude(state=Negotiation.State.WITHDRAWN)
    late = Q(state=Negotiation.State.NO_AGREEMENT, protocol__reason__startswith="deadline:")
    runs = _counted("jobs", Run.objects.filter(ended_at__gte=since), Q(state=Run.State.FAILED))
    rows = runs.union(_counted("answered", closed, late), all=True)
    return Found(delays, {what: (n, bad) for what, n, bad in rows})


def _counted(what: str, rows: QuerySet[Any], bad: Q) -> QuerySet[Any, Any]:
    grouped = rows.order_by().annotate(what=Value(what)).values("what")
    counted: QuerySet[Any, Any] = grouped.annotate(n=Count("pk"), bad=Count("pk", filter=bad))
    return counted.values_list("what", "n", "bad")


def _delays(kind: str, most: int) -> Callable[[Found], Measured]:
    def measure(found: Found) -> Measured:
        ms = sorted(found.delays.get(kind, []))
        if not ms:
            return Measured(0, 0)
        worst = ms[min(len(ms) - 1, int(0.95 * len(ms)))]
        return Measured(sum(each <= most for each in ms), len(ms), ms[len(ms) // 2], worst)

    return measure


def _ended(what: str) -> Callable[[Found], Measured]:
    def measure(found: Found) -> Measured:
        n, bad = found.ended.get(what, (0, 0))
        return Measured(n - bad, n)

    return measure


LEVELS: Final = (
    Level(
        "detect",
        gettext_lazy("Time to detect a violation"),
        gettext_lazy("95 % within 1 s of the step in which it happened"),
        0.95,
        _delays("detect", DETECT_MS),
    ),
    Level(
        "screen",
        gettext_lazy("From the measurement to the screen"),
        gettext_lazy("95 % within 250 ms"),
        0.95,
        _delays("screen", SCREEN_MS),
    ),
    Level("jobs", gettext_lazy("Runs that ended well"), gettext_lazy("99 % did not fail"), 0.99, _ended("jobs")),
    Level(
        "answered",
        gettext_lazy("Negotiations answered in time"),
        gettext_lazy("90 % before their deadline"),
        0.90,
        _ended("answered"),
    ),
)


def levels_shown() -> list[dict[str, Any]]:
    """Each level with what was measured and what is left of its error budget; of few values only how many there are."""
    found = _found(timezone.now() - WINDOW)
    return [_shown(level, level.measure(found)) for level in LEVELS]


def _shown(level: Level, found: Measured) -> dict[str, Any]:
    enough = found.n >= FEWEST
    share = found.good / found.n if found.n else None
    left = budget_left(level.share, found) if enough else None
    return {
        "name": level.name,
        "words": level.words,
        "target": level.target,
        "n": found.n,
        "good": found.good,
        "share": share if enough else None,
        "percent": f"{100 * share:.1f} %" if enough and share is not None else "",
        "typical_ms": found.typical,
        "worst_ms": found.worst,
        "budget_left": left,
        "budget_percent": f"{100 * left:.0f} %" if left is not None else "",
        "look": "neutral" if left is None else "violation" if left <= 0 else "warning" if left < 0.25 else "ok",
        "days": WINDOW.days,
        "counted": ngettext("%(n)d value", "%(n)d values", found.n) % {"n": found.n} if found.n else _("no value yet"),
    }


def budget_left(share: float, found: Measured) -> float:
    """What is left of the failures that the target allows: 1 is all of it, 0 none; less than nothing reads 0."""
    allowed = (1 - share) * found.n
    return max(0.0, 1 - (found.n - found.good) / allowed)
