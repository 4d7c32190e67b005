"""Which slice a message plays in this process.

A slice costs least where the machine of its run stands in memory just before it. Anywhere else what was missed is
played again, or a checkpoint is opened: when every process took any slice, two of them each played every run whole, and
a second one added little. So a message is the right of one organisation to have one slice played: the one that it
names, or rather one of the same organisation whose machine this process has. Turns among organisations stay so.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from django.db import DatabaseError
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
    claimed; whoever claims one tells `played`."""
    if engine.is_hot(*named):
        yield named
    whose = Run.objects.filter(pk=named.run).values_list("tenant_id", "engine_version").first()
    if whose is None or whose[1] != engine.ENGINE_VERSION:  # not for this process
        yield named
        return
    now = timezone.now()
    rows = waiting(whose[0], now, also=named.run)
    sent = [row for row in rows if row.sent]
    # The one whose message this is: another message may have played what it names.
    of = next((row for row in rows if row.of == named), sent[0] if sent else None)
    if of is not None:
        hot = [row for row in rows if engine.is_hot(*row.of)]
        yield from (row.of for row in hot if (now - row.due) * PATIENCE >= now - of.due)
    yield named
    yield from (row.of for row in sent)


def waiting(tenant: int | None, now: dt.datetime, *, also: int) -> list[Waiting]:
    """Of the organisation: the slices that are sent, hot here, or of this run; the oldest first."""
    rows = Run.objects.filter(
        jobs.free(now), Q(enqueued_at__isnull=False) | Q(pk__in=[also, *engine.hot_runs()]), tenant_id=tenant,
        state=Run.State.RUNNING, due_at__lte=now, shape__lte=jobs.SHAPE, engine_version=engine.ENGINE_VERSION,
    )  # fmt: skip
    found = rows.order_by("due_at", "pk").values_list("pk", "slice_no", "due_at", "enqueued_at")
    return [Waiting(Slice(pk, number), due, sent is not None) for pk, number, due, sent in found[:MOST_SEEN]]


def played(named: Slice, run: Run) -> None:
    """The message of one slice plays the run's, which is claimed. Invariant: of an organisation as many slices are
    noted as sent as messages are out, so that the keeper counts right."""
    if named == (run.pk, run.slice_no):
        return
    with suppress(DatabaseError):  # then a slice waits until the keeper finds its message lost
        if run.enqueued_at is None:
            send_again(named, run)
            return
        # Its own message now stands for the named one, and so does the time since when: that may be lost.
        still = Run.objects.filter(jobs.free(timezone.now()), pk=named.run, slice_no=named.number)
        still.filter(enqueued_at__gt=run.enqueued_at).update(enqueued_at=run.enqueued_at)


def send_again(named: Slice, run: Run) -> None:
    """No message of the run's slice is out, and one is used up: the named one is sent again, or where somebody plays
    that too, another that was sent and waits."""
    while True:
        now = timezone.now()
        rows = [row.of for row in waiting(run.tenant_id, now, also=named.run) if row.sent and row.of.run != run.pk]
        chosen = named if named in rows else rows[0] if rows else None
        if chosen is None:
            return
        still = Run.objects.filter(jobs.free(now), pk=chosen.run, slice_no=chosen.number, enqueued_at__isnull=False)
        if still.update(enqueued_at=None):
            return  # else somebody claimed it meanwhile, and it is no longer among the rows
