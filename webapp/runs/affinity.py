"""Which slice a message plays in this process.

A slice costs least where the machine of its run stands in memory just before it. Anywhere else what was missed is
played again, or a checkpoint is opened: when every process took any slice, two of them each played every run whole, and
a second one added little. So a message is the right of one organisation to have one slice played: the one that it
names, or rather one of the same organisation whose machine this process has. Turns among organisations stay so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final, NamedTuple

from django.db.models import Q
from django.utils import timezone

from webapp import jobs
from webapp.runs import engine
from webapp.runs.models import Run

PATIENCE: Final = 4  # a slice that waited so many times as long as one that is hot here goes before it
MOST_SEEN: Final = 100  # waiting slices of one organisation; the keeper has fewer out


class Slice(NamedTuple):
    run: int
    number: int


class Waiting(NamedTuple):
    """A slice that is due and that nobody plays."""

    of: Slice
    due: dt.datetime
    sent: bool  # a message names it


def in_turn(named: Slice) -> Iterator[Slice]:
    """The slices that this process may play for the message, the best first. Each may be another's by the time it is
    claimed; whoever plays one that was not named tells `instead`."""
    if engine.is_hot(*named):
        yield named
    now = timezone.now()
    rows = waiting(named, now)
    sent = [row for row in rows if row.sent]
    # The one whose message this is: another message may have played what it names.
    of = next((row for row in rows if row.of == named), sent[0] if sent else None)
    if of is not None:
        hot = [row for row in rows if engine.is_hot(*row.of)]
        yield from (row.of for row in hot if (now - row.due) * PATIENCE >= now - of.due)
    yield named
    yield from (row.of for row in sent)


def waiting(named: Slice, now: dt.datetime) -> list[Waiting]:
    """Of the organisation of this run: the slices that are sent, hot here, or named; the oldest first."""
    whose = Run.objects.filter(pk=named.run).values_list("tenant_id", flat=True).first()
    rows = Run.objects.filter(
        jobs.free(now), Q(enqueued_at__isnull=False) | Q(pk__in=[named.run, *engine.hot_runs()]), tenant_id=whose,
        state=Run.State.RUNNING, due_at__lte=now, shape__lte=jobs.SHAPE, engine_version=engine.ENGINE_VERSION,
    )  # fmt: skip
    found = rows.order_by("due_at", "pk").values_list("pk", "slice_no", "due_at", "enqueued_at")
    return [Waiting(Slice(pk, number), due, sent is not None) for pk, number, due, sent in found[:MOST_SEEN]]


def instead(named: Slice, taken: Slice) -> None:
    """The message of one slice played another of which no message was sent: the first is sent again. If somebody plays
    that one too, another that was sent stays without a message, and is sent again in its place."""
    now = timezone.now()
    rows = [row for row in waiting(named, now) if row.sent and row.of != taken]
    chosen = next((row for row in rows if row.of == named), rows[0] if rows else None)
    if chosen is not None:
        still = Run.objects.filter(jobs.free(now), pk=chosen.of.run, slice_no=chosen.of.number)
        still.update(enqueued_at=None)
