"""Rows that are work: due, leased, attempted.

The row is its own outbox. A service makes it due in the same transaction as everything else it writes; the keeper
enqueues what is due (and enqueues it again when a message was lost); a worker claims it by one conditional UPDATE and
commits by another. So a doubled, late or disordered message finds nothing to claim and changes nothing.

Rows that live through a deploy carry a `shape`: the newest form of what they hold. A release that stores what the one
before cannot read raises SHAPE, and marks the rows in which it does. A worker claims no row of a newer shape than its
own, so that while both run the row waits for a worker that can read it; nothing is counted as an attempt.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from billiard.process import current_process
from django.conf import settings
from django.db import DatabaseError, connection, models
from django.db.models import F, Q
from django.utils import timezone

from webapp import logs, tally

MAX_ATTEMPTS = 3  # attempts without progress before a job is given up
RENEW_SECONDS = 2
SHAPE = 1  # the newest form of stored work that this code reads


class Job(models.Model):
    """Work that a worker does in short steps. `due_at` null means: nothing to do now."""

    due_at = models.DateTimeField(null=True, blank=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    lease_token = models.CharField(max_length=32, blank=True, default="")
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Of the request that led to it: in every line that is logged while it is worked.
    request_id = models.CharField(max_length=32, blank=True, default=logs.request_id)
    worker = models.CharField(max_length=64, blank=True, default="")  # that holds the lease, or held it last

    class Meta:
        abstract = True


def worker_name() -> str:
    """This worker among all: by its main process, of which the processes of its pool are parts."""
    main = os.getppid() if current_process().name != "MainProcess" else os.getpid()
    return f"worker:{main}@{socket.gethostname()}"[:64]


def free(now: dt.datetime) -> Q:
    """Nobody holds a lease on it now."""
    return Q(lease_until__isnull=True) | Q(lease_until__lt=now)


def claim(model: type[Job], pk: int, **expected: Any) -> str | None:
    """The token of a lease on the row if it is due, as expected and not leased by another; else None."""
    now = timezone.now()
    token = secrets.token_hex(16)
    claimed = model._default_manager.filter(free(now), pk=pk, due_at__lte=now, **expected).update(
        lease_token=token,
        lease_until=now + dt.timedelta(seconds=settings.LEASE_SECONDS),
        attempts=F("attempts") + 1,
        worker=worker_name(),
    )
    if not claimed:  # a message that came twice, or too late
        tally.count("vpms_jobs_unclaimed_total", kind=model.__name__.lower())
    return token if claimed else None


def renew(model: type[Job], pk: int, token: str) -> bool:
    """Whether the lease was still ours and now lasts LEASE_SECONDS more."""
    until = timezone.now() + dt.timedelta(seconds=settings.LEASE_SECONDS)
    return bool(model._default_manager.filter(pk=pk, lease_token=token).update(lease_until=until))


def commit(model: type[Job], pk: int, token: str, *, due_at: dt.datetime | None, **changes: Any) -> bool:
    """Write the step's result and when the next is due, only if the lease is still ours. False: throw it away."""
    kept = bool(
        model._default_manager.filter(pk=pk, lease_token=token).update(
            due_at=due_at, enqueued_at=None, lease_token="", lease_until=None, attempts=0, **changes
        )
    )
    if not kept:
        tally.count("vpms_leases_lost_total", kind=model.__name__.lower())
    return kept


def release(model: type[Job], pk: int, token: str, **changes: Any) -> bool:
    """Give the lease back, if it is still ours. The attempt stays counted until a step commits."""
    return bool(
        model._default_manager.filter(pk=pk, lease_token=token).update(
            enqueued_at=None, lease_token="", lease_until=None, **changes
        )
    )


@contextmanager
def kept(model: type[Job], pk: int, token: str) -> Iterator[None]:
    """Renew the lease every 2 s while the block runs: for work that lasts longer than a slice."""
    over = threading.Event()

    def renewing() -> None:
        ours = True
        try:
            while ours and not over.wait(RENEW_SECONDS):
                with suppress(DatabaseError):  # another writer holds it; the next try still comes in time
                    ours = renew(model, pk, token)
        finally:
            connection.close()

    keeper = threading.Thread(target=renewing, name=f"lease-{pk}", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
