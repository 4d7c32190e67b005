"""A slice is done once, whatever happens to its messages, its worker or its lease."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from tests.faults.conftest import run_to_end, start_run
from webapp import jobs
from webapp.live import publish
from webapp.runs import engine, services
from webapp.runs.models import Act, Checkpoint, Event, Run

pytestmark = pytest.mark.django_db
LENGTH = 4 * engine.FAST_STEPS * engine.FAST_ACCESSES + 1_234


@pytest.fixture
def undisturbed(cast: Any, valkey: Any) -> str:
    """The digest of the same run when nothing goes wrong."""
    run = run_to_end(start_run(cast, length=LENGTH))
    assert run.state == Run.State.DONE and run.accesses == LENGTH
    Run.objects.all().delete()
    engine._hot.clear()
    valkey.client().flushall()
    return run.digest


def test_a_doubled_message_changes_nothing(cast: Any, valkey: Any, undisturbed: str) -> None:
    run = start_run(cast, length=LENGTH)
    for _ in range(3):
        services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert run.slice_no == 1
    assert run_to_end(run).digest == undisturbed


def test_late_and_disordered_messages_change_nothing(cast: Any, valkey: Any, undisturbed: str) -> None:
    run = start_run(cast, length=LENGTH)
    for slice_no in (3, 1, 0, 0, 2, 1, 0, 4, 3, 2):
        services.run_slice(run_id=run.pk, slice_no=slice_no)
    assert run_to_end(run).digest == undisturbed


def test_a_slice_under_another_lease_is_left_alone(cast: Any, valkey: Any) -> None:
    run = start_run(cast, length=LENGTH)
    assert jobs.claim(Run, run.pk, slice_no=0)
    services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    assert run.slice_no == 0 and not Checkpoint.objects.exists()


def test_a_lease_that_ran_out_lets_another_worker_do_the_slice_and_the_late_result_is_thrown_away(
    cast: Any, valkey: Any, undisturbed: str
) -> None:
    run = start_run(cast, length=LENGTH)
    token = jobs.claim(Run, run.pk, slice_no=0)
    Run.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    services.run_slice(run_id=run.pk, slice_no=0)
    run = Run.objects.select_related("host").get(pk=run.pk)
    assert run.slice_no == 1
    late = engine.Outcome(99, 99)
    old = Run(pk=run.pk, host=run.host, slice_no=0, seq=0, op=0)
    assert token is not None
    kept = services.slice_commit(
        run=old, token=token, outcome=late, accesses=5, done=False, stored=None, began=timezone.now(), sights={}
    )
    assert not kept
    assert run_to_end(run).digest == undisturbed


@pytest.mark.parametrize("forget", ["before every slice", "and load the oldest checkpoint"])
def test_a_cold_process_goes_on_as_if_nothing_had_happened(
    cast: Any, valkey: Any, undisturbed: str, forget: str
) -> None:
    run = start_run(cast, length=LENGTH)
    while run.state == Run.State.RUNNING:
        engine._hot.clear()
        if forget.startswith("and"):
            Checkpoint.objects.exclude(slice_no=1).delete()
        services.run_slice(run_id=run.pk, slice_no=run.slice_no)
        run.refresh_from_db()
    assert run.digest == undisturbed


def test_a_repeated_slice_publishes_the_same_bytes(cast: Any, valkey: Any, monkeypatch: Any) -> None:
    run = start_run(cast, length=LENGTH)
    published: dict[int, set[bytes]] = {}
    step = publish.step
    monkeypatch.setattr(
        publish,
        "step",
        lambda *, run, seq, entry: published.setdefault(seq, set()).add(entry) or step(run=run, seq=seq, entry=entry),
    )
    for _ in range(2):
        with pytest.raises(RuntimeError), transaction.atomic():
            services.run_slice(run_id=run.pk, slice_no=0)
            raise RuntimeError("the worker dies before its work is committed")
        engine._hot.clear()
    assert set(published) == {1, 2, 3, 4}
    assert all(len(different) == 1 for different in published.values())
    assert valkey.client().xlen(f"run:{run.pk}") == 4


def test_an_act_is_done_in_the_slice_to_which_it_was_bound_and_in_no_other(cast: Any, valkey: Any) -> None:
    run = start_run(cast)
    services.run_slice(run_id=run.pk, slice_no=0)
    run.refresh_from_db()
    act = services.act_request(by=cast.olga, run=run, kind="drill", vm=fresh(cast.a_db), data={"attack": "A01"})
    for slice_no in (1, 2, 3):
        services.run_slice(run_id=run.pk, slice_no=slice_no)
    act.refresh_from_db()
    assert (act.state, act.slice_no) == (Act.State.DONE, 2)
    [event] = Event.objects.filter(kind="drill")
    assert (event.outcome, event.check_name, event.vm) == ("BLOCKED", "hv_access_check", cast.a_db)
    engine._hot.clear()
    Checkpoint.objects.exclude(slice_no=1).delete()
    run.refresh_from_db()
    replayed = services.player_of(run).digest()
    services.run_slice(run_id=run.pk, slice_no=4)
    assert Event.objects.filter(kind="drill").count() == 1 and replayed


def fresh(vm: Any) -> Any:
    return type(vm).objects.select_related("placement", "tenant").get(pk=vm.pk)


def test_a_run_that_never_gets_on_is_given_up_with_the_reason(cast: Any, valkey: Any, monkeypatch: Any) -> None:
    from webapp.ops import keeper

    run = start_run(cast)
    monkeypatch.setattr(engine, "play", lambda *_: (_ for _ in ()).throw(ValueError("broken")))
    for _ in range(jobs.MAX_ATTEMPTS):
        Run.objects.update(due_at=timezone.now())
        services.run_slice(run_id=run.pk, slice_no=0)
    keeper.reap(timezone.now() + dt.timedelta(seconds=5))
    run.refresh_from_db()
    assert run.state == Run.State.FAILED and "three times" in run.reason
    assert {vm.state for vm in type(cast.a_db).objects.all()} == {"stopped"}


def test_pause_resume_and_cancel_take_effect_at_slice_starts(cast: Any, valkey: Any, undisturbed: str) -> None:
    run = start_run(cast, length=LENGTH)
    services.run_slice(run_id=run.pk, slice_no=0)
    services.run_want(by=cast.olga, run=run, wanted="pause")
    services.run_slice(run_id=run.pk, slice_no=1)
    run.refresh_from_db()
    assert (run.state, run.slice_no, run.due_at) == (Run.State.PAUSED, 1, None)
    services.run_want(by=cast.olga, run=run, wanted="resume")
    assert run_to_end(run).digest == undisturbed
    other = start_run(cast, length=LENGTH)
    services.run_slice(run_id=other.pk, slice_no=0)
    services.run_want(by=cast.olga, run=other, wanted="cancel")
    services.run_slice(run_id=other.pk, slice_no=1)
    other.refresh_from_db()
    assert other.state == Run.State.CANCELLED


def test_a_checkpoint_is_sealed_for_its_place(cast: Any, valkey: Any) -> None:
    from cryptography.exceptions import InvalidTag

    run = start_run(cast)
    services.run_slice(run_id=run.pk, slice_no=0)
    sealed = bytes(Checkpoint.objects.get().sealed)
    assert b"HSVR" not in sealed and b"sqlite" not in sealed
    assert engine.unseal(sealed, run=run.pk, slice_no=1).startswith(b"HSVR")
    with pytest.raises(InvalidTag):
        engine.unseal(sealed, run=run.pk, slice_no=2)
