"""A way to the broker that died without a word is found out: the worker connects anew and takes what waits."""

from __future__ import annotations

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.conftest import Stack, start_run
from tests.goals.stack import FaultProxy
from webapp.celery import cut_ways
from webapp.runs.models import Run

LEAST_MESSAGE = 500  # bytes; what else the worker says and hears meanwhile is shorter


def test_a_way_that_is_cut_ends_for_its_reader_and_one_that_is_gone_is_no_failure() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        cut_ways(SimpleNamespace(transport=SimpleNamespace(cycle=SimpleNamespace(fds={ours.fileno(): "BRPOP"}))))
        assert ours.recv(1) == b""
    cut_ways(None)


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_worker_whom_no_message_reaches_connects_anew(live_cast: Any, stack: Stack, tmp_path: Path) -> None:
    way = FaultProxy(tmp_path / "way.sock", Path(stack.environment["HSVM_REDIS"].removeprefix("unix://")))
    stack.start("keeper")
    stack.environment["HSVM_REDIS"] = f"unix://{way.listen}"
    stack.start("worker")
    done = start_run(live_cast, rate=200_000, length=50_000)
    stack.until(lambda: Run.objects.filter(pk=done.pk, state=Run.State.DONE).exists())

    way.mode = "drop"  # the worker waits for a message, and the next one is lost on the way
    before = way.swallowed
    run = start_run(live_cast, rate=200_000)
    stack.until(lambda: Run.objects.filter(pk=run.pk, enqueued_at__isnull=False).exists())
    stack.until(lambda: way.swallowed >= before + LEAST_MESSAGE)
    way.mode = "pass"
    stack.until(lambda: Run.objects.filter(pk=run.pk, slice_no__gte=4).exists(), 30)
    assert stack.processes["worker"].poll() is None  # it was not for the supervisor to help
