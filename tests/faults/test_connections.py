"""What a worker keeps from task to task, and what it gives back: connections to PostgreSQL, and memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.faults.conftest import Stack, start_run
from webapp import celery
from webapp.runs.models import Run


def sessions() -> int:
    """How many connections were ever opened to this database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_a_worker_goes_from_task_to_task_with_the_connections_that_it_has(live_cast: Any, stack: Stack) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite opens a file, which costs nothing")
    run = start_run(live_cast, length=12_000_000)
    stack.start("worker")
    stack.start("keeper")
    Run.objects.filter(pk=run.pk).update(due_at=timezone.now())

    def slices() -> int:
        return int(Run.objects.values_list("slice_no", flat=True).get(pk=run.pk))

    stack.until(lambda: slices() >= 2)
    before, began = sessions(), slices()
    stack.until(lambda: slices() >= began + 8)
    assert sessions() - before <= 4  # statistics come a moment late, and each process may have opened one more


def test_memory_is_given_back_now_and_then_and_not_after_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    library = SimpleNamespace(malloc_trim=asked.append)
    monkeypatch.setattr(celery.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(celery, "_given_back_at", -100.0)
    for _ in range(3):
        celery.give_back()
    assert asked == [0]
    monkeypatch.setattr(celery.ctypes, "CDLL", lambda _: SimpleNamespace())  # a C library without it
    monkeypatch.setattr(celery, "_given_back_at", -100.0)
    celery.give_back()
