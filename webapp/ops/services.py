"""Signs of life and what they say about the health of the site; how far people are with their first steps."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Min, Q
from django.utils import timezone
from django.utils.translation import gettext

from webapp.accounts.models import User
from webapp.agreements.models import Negotiation
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault
from webapp.live import hub, publish
from webapp.ops.models import Guide, Heartbeat
from webapp.ops.tour import FIRST_STEPS, TOURS, Item
from webapp.runs.models import Run

WORKING: Final = ("keeper", "worker")
FRESH: Final = dt.timedelta(seconds=10)
BEAT_SECONDS: Final = 2.0  # between two signs of life
UNKNOWN_AFTER: Final = dt.timedelta(seconds=3 * BEAT_SECONDS)
KEPT: Final = dt.timedelta(seconds=60)
WAITED_FOR: Final = (Run, Negotiation)

_migrated = False


def heartbeat(*, name: str) -> None:
    """The process of this name lives now. One that was silent for a minute leaves the list, and the log says so."""
    now = timezone.now()
    Heartbeat.objects.update_or_create(name=name[:64], defaults={"at": now})
    for silent in Heartbeat.objects.filter(at__lt=now - KEPT):
        _leave(silent)


@transaction.atomic
def _leave(silent: Heartbeat) -> None:
    kind = silent.name.partition(":")[0]
    gone, _ = Heartbeat.objects.filter(pk=silent.pk, at=silent.at).delete()
    if gone and kind in WORKING:
        data = {"name": silent.name, "last": f"{silent.at:%Y-%m-%d %H:%M:%S}"}
        audit.record(by=None, type="worker.left", subject="site", data=data)


def workers() -> list[dict[str, Any]]:
    """The processes that do the work, with the age of their last sign of life. Old news is unknown, not healthy."""
    now = timezone.now()
    rows = Heartbeat.objects.filter(at__gte=now - KEPT).order_by("name")
    return [
        {
            "name": row.name,
            "kind": row.name.partition(":")[0],
            "at": row.at,
            "seconds": max(0, int((now - row.at).total_seconds())),
            "known": now - row.at <= UNKNOWN_AFTER,
        }
        for row in rows
        if row.name.partition(":")[0] in WORKING
    ]


def alive(*, kind: str) -> bool:
    """Whether a process of this kind (keeper, worker) gave a sign of life within 10 s."""
    return Heartbeat.objects.filter(name__startswith=f"{kind}:", at__gt=timezone.now() - FRESH).exists()


def oldest_wait() -> dt.timedelta:
    """How long the oldest work for which people wait has been due: runs and negotiations. What is done beside them, as
    the table of attacks and mails, may take its time."""
    now = timezone.now()
    free = Q(lease_until__isnull=True) | Q(lease_until__lt=now)
    due = [
        model._default_manager.filter(free, due_at__lte=now).aggregate(at=Min("due_at"))["at"] for model in WAITED_FOR
    ]
    return max((now - at for at in due if at is not None), default=dt.timedelta())


def migrated() -> bool:
    """Whether the database is at the newest migration. Once true it stays true for this process."""
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _migrated


def readiness() -> dict[str, bool]:
    """Each check that must hold before the site is used, by name."""
    try:
        heartbeat(name="web:ready")
        checks = {
            "database": True,
            "migrations": migrated(),
            "keeper": alive(kind="keeper"),
            "worker": alive(kind="worker"),
            "queue": oldest_wait() < dt.timedelta(seconds=settings.QUEUE_SECONDS),
        }
    except DatabaseError:
        checks = {"database": False}
    return {**checks, "redis": publish.reachable(), "hub": hub.connected()}


def guide_of(*, user: User) -> Guide | None:
    """What is kept of the person's first steps, if anything."""
    return Guide.objects.filter(user=user).first()


def guide_hide(*, by: User, area: str, hidden: bool) -> None:
    """The first steps of the area are put away, or shown again."""
    row, _ = Guide.objects.get_or_create(user=by)
    row.hidden = sorted({*row.hidden, area} if hidden else {*row.hidden} - {area})
    row.save(update_fields=["hidden"])


def guide_opened(*, by: User, name: str) -> Item:
    """The person opened this first step from the list; where it leads is in the answer."""
    item = next((item for items in FIRST_STEPS.values() for item in items if item.name == name), None)
    if item is None:
        raise BadInput([Fault("$.opened", gettext("is none of the first steps"))])
    row, _ = Guide.objects.get_or_create(user=by)
    row.opened = sorted({*row.opened, name})
    row.save(update_fields=["opened"])
    return item


def guide_stop(*, by: User, area: str, stop: int) -> None:
    """The tour of the area goes on at this stop; -1: it was seen to its end."""
    if area not in TOURS or not -1 <= stop < len(TOURS[area]):
        raise BadInput([Fault("$.stop", gettext("is no stop of this tour"))])
    row, _ = Guide.objects.get_or_create(user=by)
    row.stops = {**row.stops, area: stop}
    row.save(update_fields=["stops"])
