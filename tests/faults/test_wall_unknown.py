"""kill -9 of the worker and of the broker: every cell of the wall turns unknown, none stays OK, and all come back."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from tests.faults.conftest import Stack, start_run
from tests.live.conftest import Valkey
from webapp.runs import fleet_wall
from webapp.runs.models import HostCheck

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.long
def test_cells_turn_unknown_when_nobody_measures_and_come_back_with_who_does(
    live_cast: Any,
    stack: Stack,
    valkey: Valkey,
    settings: Any,
) -> None:
    settings.CHECK_SECONDS = 1
    stack.environment["HSVM_CHECK_SECONDS"] = "1"
    start_run(live_cast, rate=20_000)

    def read() -> set[str]:
        now = timezone.now()
        return {fleet_wall.state_of(cell, now) for cell in HostCheck.objects.filter(host=live_cast.h1)}

    def known() -> bool:
        return bool(read()) and "unknown" not in read()

    stack.start("keeper")
    stack.start("worker")
    stack.until(known)
    stack.kill("worker")
    stack.until(lambda: read() == {"unknown"})
    stack.start("worker")
    stack.until(known)
    valkey.kill()
    stack.until(lambda: read() == {"unknown"})
    valkey.start()
    stack.until(lambda: stack.watch() and known())
    place = next(iter(fleet_wall.places(user=live_cast.olga, now=timezone.now())))
    assert place.name == "h1" and place.rank >= 1
