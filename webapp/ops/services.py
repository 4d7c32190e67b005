"""Signs of life, and what they say about the health of the site."""

from __future__ import annotations

import datetime as dt
from typing import Final

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from webapp.live import hub, publish
from webapp.ops.models import Heartbeat

FRESH: Final = dt.timedelta(seconds=10)
KEPT: Final = dt.timedelta(hours=1)

_migrated = False


def heartbeat(*, name: str) -> None:
    """The process of this name lives now. Processes that were silent for an hour are forgotten."""
    now = timezone.now()
    Heartbeat.objects.update_or_create(name=name[:64], defaults={"at": now})
    Heartbeat.objects.filter(at__lt=now - KEPT).delete()


def alive(*, kind: str) -> bool:
    """Whether a process of this kind (keeper, worker) gave a sign of life within 10 s."""
    return Heartbeat.objects.filter(name__startswith=f"{kind}:", at__gt=timezone.now() - FRESH).exists()


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
        }
    except DatabaseError:
        checks = {"database": False}
    return {**checks, "redis": publish.reachable(), "hub": hub.connected()}
