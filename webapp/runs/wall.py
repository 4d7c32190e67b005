"""What the wall knows of each host: six checks, measured by the host's own slices and written with them.

A cell says what was measured and when. That it is unknown is never stored: it follows from its age where it is read.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webapp.errors import BadInput, Fault
from webapp.live import publish
from webapp.roles import must
from webapp.runs import engine
from webapp.runs.engine import DEGRADED, OK, VIOLATION, Sight
from webapp.runs.models import Delay, HostCheck, Run
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.fleet.models import Host

NAMES: Final = ("ownership", "region", "tlb", "swap", "engine", "queue")
STATES_TOPIC: Final = "wall"  # that a cell of any host changed its state
CELLS_TOPIC: Final = "wall-hosts/"  # that cells were measured
REMEMBERED: Final = 12  # intervals: a violation that is over reads degraded for so long
LATE_SECONDS: Final = 2.0  # a slice that waited longer for a worker, or took longer than it should, is late
DELAYS_KEPT: Final = 5000  # of each kind
SLOWEST_MS: Final = 600_000
MOST_SEEN: Final = 50


def interval() -> dt.timedelta:
    """The time between two measurements of a host's checks."""
    return dt.timedelta(seconds=settings.CHECK_SECONDS * settings.SLOWER)


def measured(*, run: Run, player: engine.Player, wrong: int, began: dt.datetime) -> dict[str, Sight]:
    """All six checks if it is time for them, or if pages came to break a rule or ceased to; else nothing."""
    newest = HostCheck.objects.filter(host=run.host, name="engine").values_list("measured_at", "state").first()
    due = newest is None or newest[1] == HostCheck.State.IDLE or began - newest[0] >= interval()
    if not due and bool(wrong) == bool(run.wrong):
        return {}
    return {
        **engine.sights_of(player),
        "engine": _late("slice_slow", timezone.now() - began, run, {"op": player.machine.op}),
        "queue": _late("slice_waited", began - (run.due_at or began), run, {}),
    }


def _late(code: str, took: dt.timedelta, run: Run, data: dict[str, Any]) -> Sight:
    """How long a slice took or waited, and whether that is too long. Repeated attempts tell of a worker that died."""
    seconds = max(0.0, took.total_seconds())
    figures = {**data, "ms": round(seconds * 1000)}
    if run.attempts > 1:
        return Sight(DEGRADED, "attempts", {**figures, "count": run.attempts})
    return Sight(DEGRADED if seconds > LATE_SECONDS * settings.SLOWER else OK, code, figures)


def keep(*, run: Run, sights: Mapping[str, Sight], events: Iterable[Mapping[str, Any]], began: dt.datetime) -> None:
    """Write what was measured, inside the slice's transaction; a violation that the slice brought counts at once."""
    now = timezone.now()
    for event in events:
        if event["kind"] == "violation":
            delay_keep(kind="detect", ms=[(now - began).total_seconds() * 1000])
    if sights:
        cells_write(host=run.host, sights=sights, now=now)


def cells_write(*, host: Host, sights: Mapping[str, Sight], now: dt.datetime) -> None:
    """The host's cells as they are now. A violation stays on the wall for one interval at least, and is remembered for
    a while: a page that broke a rule for a quarter of a second must not slip past who looks."""
    before = {row.name: row for row in HostCheck.objects.filter(host=host)}
    rows, moved = [], False
    for name, sight in sights.items():
        old = before.get(name)
        row = _cell(old, HostCheck(host=host, name=name), sight, now)
        moved = moved or old is None or (old.state, old.code) != (row.state, row.code)
        rows.append(row)
    fields = ["state", "code", "data", "measured_at", "since", "broken_at", "version"]
    HostCheck.objects.bulk_create(rows, update_conflicts=True, unique_fields=["host", "name"], update_fields=fields)
    publish.changed(CELLS_TOPIC)
    if moved:
        publish.changed(STATES_TOPIC)


def _cell(old: HostCheck | None, row: HostCheck, sight: Sight, now: dt.datetime) -> HostCheck:
    row.state, row.code, row.data, row.measured_at = sight.state, sight.code, {**sight.data}, now
    row.broken_at = now if sight.state == VIOLATION else old.broken_at if old else None
    over = now - row.broken_at if row.broken_at and sight.state in (OK, DEGRADED) else None
    if over is not None and old is not None and over < interval() and old.state == VIOLATION:
        row.state, row.code, row.data = old.state, old.code, old.data
    elif over is not None and over < REMEMBERED * interval():
        row.state, row.code, row.data = DEGRADED, "mended", {}
    row.since = old.since if old is not None and old.state == row.state else now
    row.version = old.version + 1 if old is not None else 1
    return row


def rest(*, host: Host) -> None:
    """The host's run has ended: nothing is measured there any more, and nothing is wrong with that."""
    if HostCheck.objects.filter(host=host).exists():
        cells_write(host=host, sights={name: Sight(HostCheck.State.IDLE) for name in NAMES}, now=timezone.now())


# -- how quick it is


def delay_keep(*, kind: str, ms: Iterable[float]) -> None:
    now = timezone.now()
    Delay.objects.bulk_create([Delay(kind=kind, ms=min(SLOWEST_MS, max(0, round(each))), at=now) for each in ms])
    last = Delay.objects.filter(kind=kind).order_by("-id").values_list("id", flat=True)[DELAYS_KEPT : DELAYS_KEPT + 1]
    for pk in last:
        Delay.objects.filter(kind=kind, id__lte=pk).delete()


@transaction.atomic
def screens_seen(*, by: User, ms: list[int]) -> None:
    """An operator's page tells how long cells took from their measurement to its screen. Like a sign of life it is a
    measurement, nothing that anybody did, so the record does not name it."""
    if not by.sees_site:
        raise missing()
    must(by, "act", tenant=None)
    if not 1 <= len(ms) <= MOST_SEEN or not all(isinstance(each, int) and 0 <= each <= SLOWEST_MS for each in ms):
        raise BadInput([Fault("$.ms", f"must be 1 to {MOST_SEEN} whole numbers from 0 to {SLOWEST_MS}")])
    delay_keep(kind="screen", ms=ms)
