"""Which process plays which slice: in any order of messages each slice is played once, and mostly where it is hot."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from tests.conftest import HOST
from webapp import jobs
from webapp.fleet.services import host_create
from webapp.runs import affinity, engine, services
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db
NO_PLAYER: Any = None  # nothing is played here


@pytest.fixture
def runs(cast: Any) -> list[Run]:
    """Twelve runs of one organisation before slice 1, due for 112 to 101 ms; the first four are sent."""
    now = timezone.now()
    for number in range(12):
        host = host_create(by=cast.olga, document={**HOST, "host": f"k{number}"})
        Run.objects.create(
            host=host, scenario={}, engine_version=engine.ENGINE_VERSION, rate=100, tenant=cast.alpha, slice_no=1,
            due_at=now - dt.timedelta(milliseconds=112 - number), enqueued_at=now if number < 4 else None,
        )  # fmt: skip
    return list(Run.objects.order_by("pk"))


@pytest.fixture
def hot(monkeypatch: Any) -> Callable[..., None]:
    """Makes these runs hot here, just before slice 1 or another."""
    found: OrderedDict[int, Any] = OrderedDict()
    monkeypatch.setattr(engine, "_hot", found)

    def make(*runs: Run, slice_no: int = 1) -> None:
        found.update((run.pk, engine.Hot(slice_no, NO_PLAYER)) for run in runs)

    return make


def order(runs: list[Run], named: Run) -> list[int]:
    """Places of the runs, each once."""
    keys = [run.pk for run in runs]
    found = affinity.in_turn(affinity.Slice(named.pk, named.slice_no))
    return list(dict.fromkeys(keys.index(each.run) for each in found))


def test_the_named_one_if_it_is_hot_else_what_is_else_the_named_one(runs: list[Run], hot: Any) -> None:
    assert order(runs, runs[2]) == [2, 0, 1, 3]
    hot(runs[7], runs[3])
    hot(runs[9], slice_no=0)  # it was played elsewhere meanwhile
    assert order(runs, runs[2])[:3] == [3, 7, 2]
    assert order(runs, runs[7])[0] == 7
    assert next(iter(engine._hot)) == runs[9].pk  # the first to go


def test_what_waited_four_times_as_long_goes_before_what_is_hot(runs: list[Run], hot: Any) -> None:
    hot(runs[7], runs[8])
    now = timezone.now()
    Run.objects.filter(pk=runs[2].pk).update(due_at=now - dt.timedelta(seconds=40))
    Run.objects.filter(pk=runs[8].pk).update(due_at=now - dt.timedelta(seconds=11))
    assert order(runs, runs[2])[:2] == [8, 2]
    Run.objects.filter(pk=runs[8].pk).update(due_at=now - dt.timedelta(seconds=9))
    assert order(runs, runs[2])[0] == 2


def test_a_message_of_what_was_played_serves_another_while_any_is_sent(runs: list[Run], hot: Any) -> None:
    hot(runs[3], runs[7])
    later = timezone.now() + dt.timedelta(hours=1)
    Run.objects.filter(pk=runs[2].pk).update(slice_no=2, enqueued_at=None, due_at=later)
    assert order(runs, runs[2]) == [3, 7, 2, 0, 1]  # the named one is tried, and is not there
    Run.objects.update(enqueued_at=None)  # a message that came twice: nobody waits for it
    assert order(runs, runs[2]) == [2]


def test_nothing_of_others_nor_what_is_not_due_held_or_of_another_code(cast: Any, runs: list[Run], hot: Any) -> None:
    later = timezone.now() + dt.timedelta(seconds=9)
    hot(*runs)
    changes: list[dict[str, Any]] = [
        {"tenant": cast.beta}, {"tenant": None}, {"due_at": later}, {"due_at": None}, {"lease_until": later},
        {"state": Run.State.PAUSED}, {"shape": jobs.SHAPE + 1}, {"engine_version": "0"},
    ]  # fmt: skip
    for run, change in zip(runs[1:], changes, strict=False):
        Run.objects.filter(pk=run.pk).update(**change)
    assert order(runs, runs[0]) == [0, 9, 10, 11]


def test_a_slice_whose_message_played_another_is_sent_again_or_served_by_the_others(
    runs: list[Run], hot: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(services, "_slice", lambda run, token: jobs.commit(Run, run.pk, token, due_at=None, slice_no=2))

    def sent() -> list[bool]:
        return [run.enqueued_at is not None for run in Run.objects.order_by("pk")[:4]]

    hot(runs[7])
    services.run_slice(run_id=runs[0].pk, slice_no=1)  # plays 7, which was not sent
    assert Run.objects.get(pk=runs[7].pk).slice_no == 2 and sent() == [False, True, True, True]
    hot(runs[3])
    services.run_slice(run_id=runs[1].pk, slice_no=1)  # plays 3, whose message is still to come
    assert Run.objects.get(pk=runs[3].pk).slice_no == 2 and sent() == [False, True, True, False]
    services.run_slice(run_id=runs[3].pk, slice_no=1)  # which serves 1
    assert Run.objects.get(pk=runs[1].pk).slice_no == 2 and sent() == [False, False, True, False]
    hot(runs[8])
    services.run_slice(run_id=runs[3].pk, slice_no=1)  # comes again, plays 8: the message of 2 is left over, or lost
    assert Run.objects.get(pk=runs[8].pk).slice_no == 2 and sent() == [False, False, False, False]


def test_the_age_of_a_message_goes_with_it(runs: list[Run], hot: Any, monkeypatch: Any) -> None:
    """A slice whose message was lost is found by the keeper after a while, however often others are played for it."""
    monkeypatch.setattr(services, "_slice", lambda run, token: jobs.commit(Run, run.pk, token, due_at=None, slice_no=2))
    lost = timezone.now() - dt.timedelta(seconds=2)
    Run.objects.filter(pk=runs[3].pk).update(enqueued_at=lost)
    hot(runs[3])
    services.run_slice(run_id=runs[0].pk, slice_no=1)  # plays 3: now 0 waits for a message that will not come
    assert Run.objects.get(pk=runs[3].pk).slice_no == 2
    assert Run.objects.get(pk=runs[0].pk).enqueued_at == lost


def test_what_somebody_plays_meanwhile_is_not_sent_again_but_another_is(
    runs: list[Run], hot: Any, monkeypatch: Any
) -> None:
    named, other = affinity.Slice(runs[0].pk, 1), runs[1]
    told, once = affinity.waiting, []

    def raced(*args: Any, **more: Any) -> Any:
        rows = told(*args, **more)
        if not once:  # between the look and the change another process claims it
            once.append(jobs.claim(Run, named.run, slice_no=1))
        return rows

    monkeypatch.setattr(affinity, "waiting", raced)
    assert jobs.claim(Run, runs[7].pk, slice_no=1)
    affinity.played(named, Run.objects.get(pk=runs[7].pk))
    assert Run.objects.get(pk=named.run).enqueued_at is not None and Run.objects.get(pk=other.pk).enqueued_at is None


def test_a_run_of_another_engine_is_looked_at_even_where_others_are_hot(runs: list[Run], hot: Any) -> None:
    hot(*runs[1:])
    Run.objects.filter(pk=runs[0].pk).update(engine_version="0")
    assert order(runs, runs[0]) == [0]


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_in_any_order_of_messages_each_slice_is_played_once_and_mostly_where_it_is_hot(
    runs: list[Run], monkeypatch: Any, processes: int
) -> None:
    """Several processes in one: each message goes to who is free, some come twice, some never. All runs wait always."""
    Run.objects.filter(pk__gt=runs[0].pk + 6 * processes - 1).delete()  # no more than they keep hot
    chance = random.Random(processes)
    held: list[OrderedDict[int, engine.Hot]] = [OrderedDict() for _ in range(processes)]
    played: list[tuple[int, int]] = []
    kinds: Counter[str] = Counter()

    def slice_(run: Run, token: str) -> None:
        played.append((run.pk, run.slice_no))
        kinds["hot" if engine.is_hot(run.pk, run.slice_no) else "cold"] += 1
        assert jobs.commit(Run, run.pk, token, due_at=timezone.now(), slice_no=run.slice_no + 1)
        engine.keep_hot(run=run.pk, slice_no=run.slice_no + 1, player=NO_PLAYER)

    monkeypatch.setattr(services, "_slice", slice_)
    messages: list[tuple[int, int]] = []
    Run.objects.update(enqueued_at=None)
    for turn in range(400):
        lost = Run.objects.filter(enqueued_at__isnull=True).order_by("due_at")[: processes - len(messages)]
        for run in lost:  # as the keeper does
            Run.objects.filter(pk=run.pk).update(enqueued_at=timezone.now())
            messages.append((run.pk, run.slice_no))
        named = messages.pop(0)
        if chance.random() < 0.05:
            messages.append(named)  # it comes once more
        if chance.random() < 0.02:  # it never comes: the keeper finds that out
            Run.objects.filter(pk=named[0], slice_no=named[1]).update(enqueued_at=None)
            continue
        monkeypatch.setattr(engine, "_hot", held[(turn + (chance.random() < 0.3)) % processes])
        services.run_slice(run_id=named[0], slice_no=named[1])
    by_run: dict[int, list[int]] = {}
    for pk, slice_no in played:
        by_run.setdefault(pk, []).append(slice_no)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_run.values())  # each once, in order
    assert len(by_run) == min(12, 6 * processes) and min(map(len, by_run.values())) > 20  # none is left behind
    assert len(played) > 360
    assert kinds["hot"] / len(played) > 0.85, kinds
