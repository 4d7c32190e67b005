"""What of a run raises an alert for operators, and what ends it. Inside the transaction that keeps the slice."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Final

from django.utils import timezone

from webapp.notices import alerts
from webapp.runs.models import Event, Run

MANY: Final = 5  # refusals of one host within:
WITHIN: Final = dt.timedelta(minutes=10)


def moment_of(run: Run, op: int) -> str:
    """The address at which the host's map, TLB and events stand at this operation."""
    return f"/operator/host/{run.host.name}/?run={run.pk}&op={op}"


def raised(*, run: Run, events: Sequence[Event], mended: bool) -> None:
    """Events that were just stored: pages that break a rule, and refusals if there are many."""
    host = run.host.name
    for event in events:
        if event.kind == "violation":
            drill = drill_before(event, events)
            code, more = ("rule.broken.after", {"attack": drill.title}) if drill else ("rule.broken", {})
            alerts.raise_(code, key=f"violation:{host}", link=moment_of(run, event.op), host=host, **more)
    if mended:
        alerts.resolve(key=f"violation:{host}")
    denied = [event for event in events if event.kind == "denied"]
    if denied:
        count = run.events.filter(kind="denied", at__gt=timezone.now() - WITHIN).count()
        if count >= MANY:
            link = moment_of(run, denied[-1].op)
            alerts.raise_("act.denied", key=f"denied:{host}", link=link, host=host, count=count)


def drill_before(event: Event, events: Sequence[Event]) -> Event | None:
    """The attack drill of the same slice that came last before this event: whoever reads the alert has the cause."""
    drills = [each for each in events if each.kind == "drill" and each.op <= event.op]
    return max(drills, key=lambda each: each.op, default=None)


def ended(*, run: Run, failed: bool) -> None:
    """The run is over: no page of it breaks a rule any more; an operator must know of one that failed."""
    host = run.host.name
    alerts.resolve(key=f"violation:{host}")
    if failed:
        alerts.raise_("run.failed", key=f"run:{host}", link=moment_of(run, run.op), host=host)


def begun(*, host: str) -> None:
    """A new run of the host."""
    alerts.resolve(key=f"run:{host}")
