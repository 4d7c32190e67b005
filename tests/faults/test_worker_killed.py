"""kill -9 of the worker in mid-run loses nothing: the final digest is that of a run that nothing happened to."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.conftest import Stack, run_to_end, start_run
from webapp.runs import engine
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)
RATE = 200_000
LENGTH = 16 * RATE // engine.SLICES_A_SECOND


def test_the_digest_after_a_kill_equals_that_of_an_undisturbed_run(live_cast: Any, stack: Stack) -> None:
    expected = run_to_end(start_run(live_cast, length=LENGTH)).digest
    Run.objects.all().delete()
    run = start_run(live_cast, length=LENGTH, rate=RATE)

    def slice_no() -> int:
        run.refresh_from_db()
        return run.slice_no

    stack.start("keeper")
    stack.start("worker")
    stack.until(lambda: slice_no() >= 3)
    stack.kill("worker")
    before = slice_no()
    stack.start("worker")
    stack.until(lambda: slice_no() > before)
    stack.until(lambda: slice_no() and run.state != Run.State.RUNNING)
    assert (run.state, run.accesses, run.slice_no) == (Run.State.DONE, LENGTH, 16)
    assert run.digest == expected
