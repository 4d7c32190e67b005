"""Teach: cells are filled by executing the attack on the engine, one small job each, and by nothing else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import builtin, builtin_ids
from hsvm_engine.interpreter import run_attack
from webapp import jobs
from webapp.audit import services as audit
from webapp.classroom.models import Cell
from webapp.errors import VpmsError
from webapp.live import publish
from webapp.runs.engine import ENGINE_VERSION

if TYPE_CHECKING:
    from webapp.accounts.models import User

ATTACKS: Final = builtin_ids()
COLUMNS: Final = tuple(ARCHITECTURES)
SEED: Final = 0  # the command line's default: page and command line give the same digests


@transaction.atomic
def table_prepare() -> int:
    """Every cell of the table exists; new ones are due. The number of new ones."""
    fresh = 0
    for attack in ATTACKS:
        for architecture in COLUMNS:
            _, made = Cell.objects.get_or_create(
                attack=attack,
                architecture=architecture,
                skip="",
                defaults={"due_at": timezone.now(), "number": _next_number(), "seed": SEED},
            )
            fresh += made
    publish.wake_keeper()
    return fresh


@transaction.atomic
def cells_run_again(*, by: User, cells: list[int] | None = None) -> int:
    """Queue these cells (None: all) for a new execution; what they showed stays until it is done. Teachers only."""
    if not by.is_teacher:
        raise VpmsError("forbidden", 403, message="Only a teacher can run the table again.")
    chosen = Cell.objects.exclude(state=Cell.State.RUNNING)
    if cells is not None:
        chosen = chosen.filter(pk__in=cells)
    count = 0
    for cell in chosen:
        cell.state, cell.due_at, cell.enqueued_at, cell.attempts = Cell.State.QUEUED, timezone.now(), None, 0
        cell.number = _next_number()
        cell.save(update_fields=["state", "due_at", "enqueued_at", "attempts", "number"])
        count += 1
    audit.record(by=by, type="matrix.run", subject="matrix", data={"cells": count})
    publish.changed("matrix")
    publish.wake_keeper()
    return count


def cell_run(*, cell_id: int) -> None:
    """Execute the attack of one cell once and keep what was observed. A repeated message changes nothing."""
    token = jobs.claim(Cell, cell_id)
    if token is None:
        return
    _change(cell_id, state=Cell.State.RUNNING)
    cell = Cell.objects.get(pk=cell_id)
    began = time.perf_counter()
    with jobs.kept(Cell, cell_id, token):
        verdict = execute(attack=cell.attack, architecture=cell.architecture, skip=cell.skip, seed=cell.seed)
    duration = (time.perf_counter() - began) * 1000
    with transaction.atomic():
        jobs.commit(
            Cell,
            cell_id,
            token,
            due_at=None,
            number=_next_number(),
            state=Cell.State.DONE,
            outcome=verdict["outcome"],
            evidence=verdict["evidence"] or "",
            check_name=verdict["check"] or "",
            digest=verdict["digest"] or "",
            engine_version=ENGINE_VERSION,
            duration_ms=round(duration, 2),
            verdict=verdict,
            ran_at=timezone.now(),
        )
        publish.changed("matrix")


def execute(*, attack: str, architecture: str, skip: str, seed: int) -> dict[str, Any]:
    """The verdict of one built-in attack on one architecture, as the command line would print it."""
    options = {"skip": [skip]} if skip else {}
    return run_attack(builtin(attack), architecture, seed=seed, options=options).to_dict()


@transaction.atomic
def cell_failed(cell_id: int, *, reason: str) -> None:
    """Give a cell up: it shows ERROR, which is never counted as blocked."""
    Cell.objects.filter(pk=cell_id).update(
        due_at=None,
        lease_token="",
        lease_until=None,
        attempts=0,
        state=Cell.State.FAILED,
        outcome="ERROR",
        verdict={"reason": reason},
        number=_next_number(),
    )
    publish.changed("matrix")


@transaction.atomic
def _change(cell_id: int, **changes: Any) -> None:
    Cell.objects.filter(pk=cell_id).update(number=_next_number(), **changes)
    publish.changed("matrix")


def _next_number() -> int:
    """The number of the next change of any cell. Inside a transaction, so two changes never share one."""
    return (Cell.objects.aggregate(last=Max("number"))["last"] or 0) + 1


def titles() -> dict[str, str]:
    """The plain title of each attack of the table."""
    return {attack: builtin(attack).title for attack in ATTACKS}
