"""Teach: cells are filled by executing the attack on the engine, one small job each, and by nothing else."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from hsvm_engine.architectures import ARCHITECTURES, SKIPPABLE
from hsvm_engine.attackfile import BUILTIN, builtin, builtin_ids
from hsvm_engine.interpreter import NOTED, SKIPPED, run_attack
from webapp import jobs
from webapp.audit import services as audit
from webapp.classroom.models import Cell
from webapp.classroom.wording import LITERAL
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish
from webapp.runs.engine import ENGINE_VERSION

if TYPE_CHECKING:
    from webapp.accounts.models import User

ATTACKS: Final = builtin_ids()
COLUMNS: Final = tuple(ARCHITECTURES)
WHAT_IFS: Final = (("hsvm", "owner_check"), ("hsvm", LITERAL))  # the columns that every table has beside its own
CHECKED: Final = ("hsvm", "hsvm-smm")  # columns that have something to switch off
SWITCHES: Final = (*SKIPPABLE, LITERAL)
SEED: Final = 0  # the command line's default: page and command line give the same digests


@transaction.atomic
def table_prepare() -> int:
    """Every cell of the table exists; new ones are due. The number of new ones."""
    columns = [(name, "") for name in COLUMNS]
    fresh = sum(_column_prepare(architecture, skip) for architecture, skip in [*columns, *WHAT_IFS])
    publish.wake_keeper()
    return fresh


def _column_prepare(architecture: str, skip: str) -> int:
    fresh = 0
    for attack in ATTACKS:
        _, made = Cell.objects.get_or_create(
            attack=attack,
            architecture=architecture,
            skip=skip,
            defaults={"due_at": timezone.now(), "number": _next_number(), "seed": SEED},
        )
        fresh += made
    return fresh


@transaction.atomic
def what_if_add(*, by: User, architecture: str, skip: str) -> int:
    """Add a column with one check off, to be executed. The number of new cells. Teachers only: it costs a worker."""
    _teacher(by)
    if architecture not in CHECKED or skip not in SWITCHES:
        reason = f"{architecture[:32]} has no switch {skip[:64]}; there are {', '.join(SWITCHES)}"
        raise BadInput([Fault("$.skip", reason)])
    fresh = _column_prepare(architecture, skip)
    audit.record(by=by, type="matrix.what_if", subject="matrix", data={"architecture": architecture, "skip": skip})
    publish.changed("matrix")
    publish.wake_keeper()
    return fresh


def _teacher(by: User) -> None:
    if not by.is_teacher:
        raise VpmsError("forbidden", 403, message="Only a teacher can run the table again or add to it.")


@transaction.atomic
def cells_run_again(*, by: User, cells: list[int] | None = None) -> int:
    """Queue these cells (None: all) for a new execution; what they showed stays until it is done. Teachers only."""
    _teacher(by)
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
            ops=operations_in(verdict),
            file_digest=file_digest(cell.attack),
            engine_version=ENGINE_VERSION,
            duration_ms=round(duration, 2),
            verdict=verdict,
            ran_at=timezone.now(),
        )
        publish.changed("matrix")


def execute(*, attack: str, architecture: str, skip: str, seed: int) -> dict[str, Any]:
    """The verdict of one built-in attack on one architecture, as the command line would print it."""
    return run_attack(builtin(attack), architecture, seed=seed, options=options_of(skip=skip)).to_dict()


def options_of(*, skip: str) -> dict[str, Any]:
    """The engine's options for what a column switches off."""
    if not skip:
        return {}
    return {"page_map_rule": LITERAL} if skip == LITERAL else {"skip": [skip]}


def operations_in(verdict: Mapping[str, Any]) -> int:
    """How many operations the machine did; notes and steps passed over are none."""
    return sum(step["result"]["status"] not in (NOTED, SKIPPED) for step in verdict["steps"])


@cache
def file_digest(attack: str) -> str:
    """SHA-256 of the attack's file: another file, another attack."""
    return hashlib.sha256((BUILTIN / f"{attack}.yaml").read_bytes()).hexdigest()


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


def files() -> dict[str, str]:
    """The digest of each attack's file now."""
    return {attack: file_digest(attack) for attack in ATTACKS}


def declared(attack: str) -> Mapping[str, Any]:
    """The architectures on which nothing is run, because there the outcome follows from the threat model."""
    return builtin(attack).declared


def evidence(attack: str, architecture: str) -> str:
    """Where the expectation for a cell comes from."""
    return builtin(attack).evidence.get(architecture, "")
