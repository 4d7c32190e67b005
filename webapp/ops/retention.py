"""What is kept for how long. The log is kept for ever, and so is everything signed; the rest makes room in the end.

What runs leave behind can be put into archives first: gzipped JSON lines as Django's `loaddata` reads them, so that a
run whose history left the database can be looked at again. An archive holds checkpoints as sealed as they were stored.
"""

from __future__ import annotations

import datetime as dt
import gzip
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import serializers
from django.db import transaction
from django.db.models import Exists, Max, OuterRef, QuerySet
from django.utils import timezone

from webapp.accounts.models import Attempts, CallCount, StoredAnswer, User
from webapp.audit import services as audit
from webapp.courses import own
from webapp.lti.models import Nonce
from webapp.notices.models import Delivery, Mail, Notice
from webapp.notices.models import Event as Told
from webapp.runs.models import Checkpoint, Event, Mark, Run
from webapp.shares.models import Share
from webapp.tenants.models import Invitation

TOGETHER: Final = 500  # rows of one transaction: others who write wait for no more
ENDED: Final = (Run.State.DONE, Run.State.CANCELLED, Run.State.FAILED)
Rows = Callable[[dt.datetime], "QuerySet[Any]"]


def checkpoints(before: dt.datetime) -> QuerySet[Any]:
    """Of runs that ended; the newest stays, for the picture of how it ended, and so does what somebody marked."""
    newest = Checkpoint.objects.filter(run=OuterRef("run")).order_by("-slice_no").values("slice_no")[:1]
    marked = Mark.objects.filter(run=OuterRef("run"), slice_no=OuterRef("slice_no"))
    old = Checkpoint.objects.filter(run__state__in=ENDED, run__ended_at__lt=before)
    return old.exclude(slice_no=newest).exclude(Exists(marked))


@dataclass(frozen=True)
class Kept:
    """One kind of row, after how many days it goes, and which of them are past that."""

    name: str
    setting: str
    rows: Rows
    archived: str = ""  # what its files are called, where an archive is asked for


KEPT: Final = (
    Kept("checkpoints of ended runs", "KEEP_CHECKPOINTS_DAYS", checkpoints, archived="checkpoints"),
    Kept(
        "events of ended runs",
        "KEEP_RUN_EVENTS_DAYS",
        lambda before: Event.objects.filter(run__state__in=ENDED, run__ended_at__lt=before),
        archived="events",
    ),
    Kept(
        "mails",
        "KEEP_MAILS_DAYS",
        lambda before: Mail.objects.filter(due_at__isnull=True, done_at__lt=before),
    ),
    Kept(
        "webhook deliveries",
        "KEEP_DELIVERIES_DAYS",
        lambda before: Delivery.objects.filter(due_at__isnull=True, done_at__lt=before),
    ),
    Kept("notices that were read", "KEEP_NOTICES_DAYS", lambda before: Notice.objects.filter(read_at__lt=before)),
    Kept(
        "events that nobody has a notice of any more",
        "KEEP_NOTICES_DAYS",
        lambda before: Told.objects.filter(at__lt=before, notices__isnull=True, deliveries__isnull=True),
    ),
    Kept("sign-ins that ended", "KEEP_SESSIONS_DAYS", lambda before: Session.objects.filter(expire_date__lt=before)),
    Kept(
        "entries in the lists of sign-ins",
        "KEEP_SESSIONS_DAYS",
        lambda before: UserSession.objects.filter(last_seen_at__lt=before).exclude(
            session_key__in=Session.objects.values("session_key")
        ),
    ),
    Kept("launches that were used", "KEEP_SESSIONS_DAYS", lambda before: Nonce.objects.filter(at__lt=before)),
    Kept("failed sign-ins", "KEEP_SESSIONS_DAYS", lambda before: Attempts.objects.filter(last_at__lt=before)),
    Kept("stored answers of the API", "KEEP_SESSIONS_DAYS", lambda before: StoredAnswer.objects.filter(at__lt=before)),
    Kept(
        "counts of API calls",
        "KEEP_SESSIONS_DAYS",
        lambda before: CallCount.objects.filter(minute__lt=int(before.timestamp()) // 60),
    ),
    Kept("guests of classes that are over", "KEEP_GUESTS_DAYS", own.guests_past),
    Kept("links that are over", "KEEP_SHARES_DAYS", lambda before: Share.objects.filter(ends_at__lt=before)),
    Kept(
        "invitations that are over",
        "KEEP_INVITATIONS_DAYS",
        lambda before: Invitation.objects.filter(expires_at__lt=before, accepted_by__isnull=True),
    ),
)


def past(kept: Kept, now: dt.datetime) -> QuerySet[Any]:
    return kept.rows(now - dt.timedelta(days=getattr(settings, kept.setting)))


def counts() -> dict[str, int]:
    """How many rows of each kind `prune` would remove now."""
    now = timezone.now()
    return {kept.name: past(kept, now).count() for kept in KEPT}


def prune(archive: Path | None = None) -> dict[str, int]:
    """Remove what is past its time, a few hundred rows at once, and write into the log how many of what. With a folder
    for archives, what runs leave behind is on its disk before it goes. OSError: it cannot be written there; the rows
    that would have gone with it stay, and what went before stands in the log all the same."""
    now = timezone.now()
    gone = {kept.name: 0 for kept in KEPT}
    files: dict[str, str] = {}  # SHA-256 by name
    try:
        for kept in KEPT:
            while chosen := _next(past(kept, now)):
                if archive is not None and kept.archived:
                    path = archive / f"vpms-{kept.archived}-{now:%Y%m%dT%H%M%S%f}-{len(files):04}.jsonl.gz"
                    files[path.name] = _archived(chosen, path)
                gone[kept.name] += _remove(chosen)
    finally:
        if any(gone.values()):
            data = {"rows": {k: n for k, n in gone.items() if n}, **({"archives": files} if files else {})}
            with transaction.atomic():
                audit.record(by=None, type="site.pruned", subject="site", data=data)
    return gone


def prune_guests() -> int:
    """The same for guests alone, a few hundred at once. The keeper does it unasked: nobody asked to be kept."""
    kept = next(each for each in KEPT if each.rows is own.guests_past)
    return _remove(_next(past(kept, timezone.now())))


def _next(rows: QuerySet[Any]) -> list[Any]:
    """The next few rows that go, without what they hold."""
    return list(rows.order_by("pk").only("pk")[:TOGETHER])


def _archived(chosen: list[Any], path: Path) -> str:
    """The rows in a new file that only its owner reads, on the disk for good; its SHA-256, which the log keeps. A file
    that cannot be finished goes again."""
    rows = type(chosen[0])._default_manager.filter(pk__in=[row.pk for row in chosen]).order_by("pk")
    packed = gzip.compress(serializers.serialize("jsonl", rows).encode(), mtime=0)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            path.unlink()
            raise
    return hashlib.sha256(packed).hexdigest()


@transaction.atomic
def _remove(chosen: list[Any]) -> int:
    if not chosen:
        return 0
    model, keys = type(chosen[0]), [row.pk for row in chosen]
    if model is Checkpoint:
        runs = set(Checkpoint.objects.filter(pk__in=keys).values_list("run", flat=True))
    if model is User:
        own.guests_counted(keys)
    model._default_manager.filter(pk__in=keys).delete()
    if model is Checkpoint:
        _look_back(runs)
    return len(keys)


def _look_back(runs: set[int]) -> None:
    """The runs say how far back they can still be looked at: to their newest checkpoint, marks apart."""
    newest = Checkpoint.objects.filter(run__in=runs).values("run").annotate(at=Max("slice_no"))
    for row in newest:
        op, seq = Checkpoint.objects.filter(run=row["run"], slice_no=row["at"]).values_list("op", "seq").get()
        Run.objects.filter(pk=row["run"]).update(oldest_op=op, oldest_seq=seq)
