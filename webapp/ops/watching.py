"""What the keeper and the workers watch of the service itself, and raise alerts about."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.utils import timezone

from webapp import jobs
from webapp.audit import services as audit
from webapp.notices import alerts
from webapp.ops import services
from webapp.ops.models import ChainCheck

if TYPE_CHECKING:
    from webapp.audit.services import Verdict

CHAIN_EVERY: Final = dt.timedelta(minutes=15)
AGAIN: Final = dt.timedelta(minutes=1)
STUCK_SECONDS: Final = 30  # work that is due for so long and that nobody took up
SETTLED: Final = dt.timedelta(minutes=1)  # a keeper that began just now sees workers begin after it
WALL: Final = "/operator/"


def look(now: dt.datetime, *, oldest: dt.datetime | None, up: dt.timedelta) -> None:
    """The keeper's look, with its sign of life. `oldest`: since when the oldest row waits that nobody works on; `up`:
    how long this keeper runs, for workers may begin after it."""
    alerts.tick(now)
    settled = up > SETTLED
    silent = settled and not services.alive(kind="worker")
    alerts.follow(silent, "worker.silent", key="worker", link=WALL)
    stuck = settled and oldest is not None and now - oldest > dt.timedelta(seconds=STUCK_SECONDS)
    alerts.follow(stuck, "queue.stuck", key="queue", link=WALL, seconds=STUCK_SECONDS)
    if not ChainCheck.objects.exists():
        ChainCheck.objects.get_or_create(pk=1, defaults={"due_at": now})


def chain_check(*, check_id: int) -> None:
    """Verify the whole record once."""
    token = jobs.claim(ChainCheck, check_id)
    if token is None:
        return
    with jobs.kept(ChainCheck, check_id, token):
        verdict = audit.verify()
    with transaction.atomic():
        later, entries = timezone.now() + CHAIN_EVERY, verdict["entries"]
        told = {"seen_at": timezone.now(), "entries": entries, "valid": verdict["valid"]}
        if jobs.commit(ChainCheck, check_id, token, due_at=later, **told):
            chain_told(verdict)


def chain_told(verdict: Verdict) -> None:
    """A broken record is an alert until it verifies as whole."""
    broken, entry = not verdict["valid"], verdict["first_bad"] or 0
    alerts.follow(broken, "record.broken", key="record", link="/operator/audit/", entry=entry)


def chain_check_failed(check_id: int, *, reason: str) -> None:
    """Workers died of it three times: it is tried again a little later."""
    ChainCheck.objects.filter(pk=check_id).update(
        due_at=timezone.now() + AGAIN, lease_token="", lease_until=None, attempts=0, enqueued_at=None
    )
