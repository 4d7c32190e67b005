"""The keeper enqueues fairly and little, again what was lost, and never what is under way."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections import Counter
from typing import Any

import pytest
from django.utils import timezone

from tests.faults.conftest import start_run
from webapp import jobs
from webapp.celery import app
from webapp.classroom import services as classroom
from webapp.classroom.models import Cell
from webapp.ops import keeper, services
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db
QUEUES = ("slices", "policy", "house")


@pytest.fixture(autouse=True)
def broker(valkey: Any, settings: Any) -> Any:
    """Messages of these tests go to the private valkey."""
    app.conf.broker_url = settings.CELERY_BROKER_URL
    app._pool = app.amqp._producer_pool = None
    return valkey.client()


def waiting(broker: Any) -> list[tuple[str, list[Any]]]:
    """Task and arguments of every message that waits, oldest first in each queue."""
    found = []
    for queue in QUEUES:
        for raw in reversed(broker.lrange(queue, 0, -1)):
            message = json.loads(raw)
            found.append((message["headers"]["task"], json.loads(base64.b64decode(message["body"]))[0]))
    return found


def test_what_is_due_is_enqueued_once_with_ids_only(cast: Any, broker: Any) -> None:
    run = start_run(cast)
    assert keeper.relay(timezone.now()) == 1
    assert keeper.relay(timezone.now()) == 0
    assert waiting(broker) == [("webapp.runs.tasks.run_slice", [run.pk, 0])]


def test_few_messages_are_in_the_broker_and_every_column_gets_its_turn(cast: Any, broker: Any, settings: Any) -> None:
    classroom.table_prepare()
    run = start_run(cast)
    assert keeper.relay(timezone.now()) == 1 + 2 * settings.WORKER_SLOTS
    sent = waiting(broker)
    assert sent[0] == ("webapp.runs.tasks.run_slice", [run.pk, 0])  # alone in its queue
    columns = Counter(Cell.objects.get(pk=args[0]).architecture for task, args in sent if "cell" in task)
    assert set(columns) <= set(classroom.COLUMNS) and len(columns) == 2 * settings.WORKER_SLOTS


def test_a_lost_message_is_sent_again(cast: Any, broker: Any) -> None:
    start_run(cast)
    keeper.relay(timezone.now())
    broker.flushall()  # Redis was wiped
    assert keeper.relay(timezone.now() + keeper.LOST_AFTER / 2) == 0
    assert keeper.relay(timezone.now() + keeper.LOST_AFTER * 2) == 1
    assert len(waiting(broker)) == 1


def test_what_a_worker_holds_is_not_enqueued_and_a_dead_lease_comes_back(cast: Any, broker: Any) -> None:
    run = start_run(cast)
    assert jobs.claim(Run, run.pk)
    assert keeper.relay(timezone.now() + keeper.LOST_AFTER * 1.5) == 0
    later = timezone.now() + dt.timedelta(seconds=7)
    assert keeper.reap(later) == 1
    assert keeper.relay(later) == 1


def test_without_a_broker_everything_stays_due(cast: Any, broker: Any, valkey: Any) -> None:
    run = start_run(cast)
    valkey.kill()
    assert keeper.relay(timezone.now()) == 0
    run.refresh_from_db()
    assert run.enqueued_at is None
    valkey.start()
    assert keeper.relay(timezone.now()) == 1


def test_two_keepers_send_one_message(cast: Any, broker: Any, monkeypatch: Any) -> None:
    start_run(cast)
    now = timezone.now()
    first = list(keeper.due(now))
    assert keeper.relay(now) == 1
    monkeypatch.setattr(keeper, "due", lambda _: iter(first))  # the second keeper read the rows at the same moment
    assert keeper.relay(now) == 0
    assert len(waiting(broker)) == 1


def test_silent_processes_are_not_alive(cast: Any) -> None:
    assert not services.alive(kind="worker")
    services.heartbeat(name="worker:1@here")
    assert services.alive(kind="worker")
    services.Heartbeat.objects.update(at=timezone.now() - dt.timedelta(seconds=11))
    assert not services.alive(kind="worker")
    assert not services.readiness()["worker"]


def test_the_broker_library_knows_the_options_that_bring_back_what_a_killed_worker_held(settings: Any) -> None:
    from kombu.transport.redis import Channel

    assert set(settings.CELERY_BROKER_TRANSPORT_OPTIONS) <= set(Channel.from_transport_options)


def test_a_clock_that_was_set_back_stops_nothing(cast: Any, broker: Any) -> None:
    run = start_run(cast)
    later = timezone.now() + dt.timedelta(hours=1)
    Run.objects.update(due_at=later, enqueued_at=later, lease_until=later, lease_token="x" * 32)
    assert keeper.clock_set_back(timezone.now()) == 3
    assert keeper.clock_set_back(timezone.now()) == 0
    run.refresh_from_db()
    ends = timezone.now() + dt.timedelta(seconds=7)
    assert run.lease_until is not None and run.lease_until < ends and run.lease_token == "x" * 32
    Run.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    assert keeper.relay(timezone.now()) == 1
