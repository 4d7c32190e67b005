"""Tenants share the workers: a thousand starts of one do not hold up another."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.utils import timezone

from tests.conftest import CAREFUL, QUICK, wishes
from webapp import jobs
from webapp.agreements.models import Negotiation
from webapp.fleet.services import placement_set
from webapp.ops import keeper
from webapp.runs import services
from webapp.runs.models import Run
from webapp.tenants.models import VirtualMachine
from webapp.tenants.services import policy_save, vm_create

MANY = 1_000


@pytest.fixture(autouse=True)
def nobody_was_served() -> None:
    keeper._served.clear()


@pytest.fixture
def unsent(monkeypatch: Any) -> list[tuple[str, list[Any]]]:
    """Messages go here instead of to a broker."""
    sent: list[tuple[str, list[Any]]] = []

    def send(task: str, args: list[Any], **options: Any) -> bool:
        sent.append((options["queue"], args))
        return True

    monkeypatch.setattr(keeper, "send", send)
    return sent


def ready_vm(cast: Any, number: int, *, who: str = "alice") -> VirtualMachine:
    """A stopped VM of the person's tenant that could be started on h1."""
    by, tenant = getattr(cast, who), cast.alpha if who == "alice" else cast.beta
    vm = vm_create(by=by, tenant=tenant, name=f"{who}-{number}", trace="gzip")
    answers = CAREFUL if who == "alice" else QUICK
    policy_save(by=by, vm=vm, document=wishes(answers, vm=vm.name, tenant=tenant.slug))
    placement_set(by=by, vm=vm, host=cast.h1)
    return vm


def queued(cast: Any, vm: VirtualMachine, number: int) -> list[Negotiation]:
    """So many starts of the VM's tenant, due now, oldest first."""
    now = timezone.now()
    rows = [Negotiation(host=cast.h1, requester=vm, requested_by=cast.alice, due_at=now) for _ in range(number)]
    return Negotiation.objects.bulk_create(rows)


def served(sent: list[tuple[str, list[Any]]], rounds: int) -> list[int]:
    """The jobs in the order in which workers that are never idle get them: each step of one is done at once."""
    order: list[int] = []
    for _ in range(rounds):
        keeper.relay(timezone.now())
        done, sent[:] = [args[0] for _, args in sent], []
        order += done
        Negotiation.objects.filter(pk__in=done).update(due_at=None, enqueued_at=None)
    return order


@pytest.mark.django_db
def test_who_comes_behind_a_thousand_of_another_is_in_the_next_round(cast: Any, unsent: Any, settings: Any) -> None:
    theirs = queued(cast, cast.a_db, MANY)
    served(unsent, 5)
    (mine,) = queued(cast, cast.b_web, 1)
    order = served(unsent, 1)
    assert order[0] == mine.pk and len(order) == 1 + settings.WORKER_SLOTS
    assert set(order[1:]) <= {row.pk for row in theirs}


@pytest.mark.django_db
def test_one_tenant_never_has_more_out_than_there_are_workers(cast: Any, unsent: Any, settings: Any) -> None:
    queued(cast, cast.a_db, MANY)
    now = timezone.now()  # one moment for all rounds: no message counts as lost meanwhile
    for _ in range(5):
        keeper.relay(now)
    assert len(unsent) == settings.WORKER_SLOTS
    queued(cast, cast.b_web, MANY)
    Negotiation.objects.filter(due_at__gt=now).update(due_at=now)
    for _ in range(5):
        keeper.relay(now)
    assert len(unsent) == 2 * settings.WORKER_SLOTS  # and the broker's queue is full


@pytest.mark.django_db
def test_two_tenants_with_much_to_do_get_equally_much(cast: Any, unsent: Any) -> None:
    alices = {row.pk for row in queued(cast, cast.a_db, MANY)}
    queued(cast, cast.b_web, 60)
    shares = Counter(pk in alices for pk in served(unsent, 20))
    assert abs(shares[True] - shares[False]) <= 2, shares


@pytest.mark.django_db
def test_runs_take_turns_by_the_tenant_in_whose_name_they_run(cast: Any, unsent: Any, settings: Any) -> None:
    from webapp.fleet.models import Host

    now = timezone.now()
    hosts = Host.objects.bulk_create([Host(name=f"x{n}", document=cast.h1.document) for n in range(40)])
    runs = [Run(host=h, tenant=cast.alpha, scenario={}, engine_version="1", due_at=now) for h in hosts]
    Run.objects.bulk_create(runs)
    keeper.relay(timezone.now())
    mine = Run.objects.create(host=cast.h1, tenant=cast.beta, scenario={}, engine_version="1", due_at=timezone.now())
    keeper.relay(timezone.now())
    assert [args[0] for _, args in unsent[settings.WORKER_SLOTS :]] == [mine.pk]
    assert {queue for queue, _ in unsent} == {"slices"}


# -- rows of a newer shape


@pytest.mark.django_db
def test_a_row_of_a_newer_shape_is_left_for_a_newer_worker(cast: Any, monkeypatch: Any) -> None:
    (row,) = queued(cast, cast.a_db, 1)
    Negotiation.objects.update(shape=jobs.SHAPE + 1, protocol={"of": "tomorrow"})
    services.negotiation_work(negotiation_id=row.pk)
    row.refresh_from_db()
    assert (row.attempts, row.lease_token, row.state) == (0, "", Negotiation.State.DRAFT)
    assert row.due_at is not None  # the keeper sends it again, until somebody can read it
    monkeypatch.setattr(jobs, "SHAPE", jobs.SHAPE + 1)  # the newer worker
    assert jobs.claim(Negotiation, row.pk, shape__lte=jobs.SHAPE)
