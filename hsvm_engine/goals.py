"""Grades an attack file by a lab task: each goal is a predicate over what was executed, with points and a reason.

Nothing is declared by a file: outcomes, refusals and bytes are those of the execution on the task's columns. The same
file, task and seed give the same grade, byte for byte, on the page, by the API and on the command line.

That a byte of the secret was read is found by experiment. The attack runs again with other secrets (and other keys of
the machine): a byte was read where one place of what the attacker was given holds it each time. So neither constants
nor the noise of a sealed page are taken for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from hsvm_engine.attackfile import PHASES, Attack
from hsvm_engine.attacktext import AttackFileError
from hsvm_engine.core.machine import Machine
from hsvm_engine.interpreter import Done, Run, Verdict, boot, run_attack, secret_of
from hsvm_engine.labtask import Goal, Task, used
from hsvm_engine.operations import REGISTER_NAMES

SCHEMA: Final = "hsvm/lab-grade-1"
RUNS: Final = 4  # the execution itself and those with another secret
TAKEN: Final = 4 << 20  # bytes that are looked at for one column: what comes out later counts for nothing


@dataclass(frozen=True)
class Seen:
    """What was observed of an attack on one column. `read`: numbers of the secret's bytes; None: nobody asked."""

    verdict: Verdict
    refused: tuple[str, ...]  # checks that refused a step of the attacker's, in the order of the steps
    read: frozenset[int] | None = None


@dataclass(frozen=True)
class Finding:
    """How far a goal was reached, from 0 to 1, and what was observed."""

    share: float
    says: str


def grade(task: Task, attack: Attack, seed: int) -> dict[str, Any]:
    """Execute the attack on every column that counts and say what each goal is worth. `AttackFileError`: a machine that
    cannot be built."""
    goals = (*task.goals, *task.hidden)
    wanted = {goal.column for goal in goals if goal.column} | set(task.columns)
    reads = {goal.column for goal in goals if goal.kind == "read"}
    try:
        seen = {name: _observe(attack, name, seed, read=name in reads) for name in sorted(wanted)}
    except ValueError as wrong:
        raise AttackFileError("attack", attack.machine_line, 1, str(wrong)) from None
    found = [PREDICATES[goal.kind](goal, attack, seen.get(goal.column)) for goal in goals]
    if not any(each.share for goal, each in zip(goals, found, strict=True) if goal.kind not in BESIDE):
        found = [
            Finding(0, f"{each.says} It counts when another goal is reached.") if goal.kind in BESIDE else each
            for goal, each in zip(goals, found, strict=True)
        ]
    rows = [_row(*pair) for pair in zip(goals, found, strict=True)]
    return {
        "schema": SCHEMA,
        "task": task.title,
        "attack": attack.id,
        "seed": seed,
        "points": round(sum(row["points"] for row in rows), 4),
        "of": task.points,
        "goals": rows[: len(task.goals)],
        "hidden": [_unnamed(*pair) for pair in zip(task.hidden, rows[len(task.goals) :], strict=True)],
        "columns": {name: _column(seen[name].verdict) for name in task.columns},
    }


def grade_text(graded: Mapping[str, Any]) -> str:
    """The one spelling of a grade: the command line prints it, and the site stores and answers it."""
    return json.dumps(graded, separators=(",", ":"), ensure_ascii=False)


def told(graded: Mapping[str, Any]) -> dict[str, Any]:
    """A grade without whatever depends on its seed: what a student may be told of the run with the seed that counts."""
    return {name: value for name, value in graded.items() if name not in ("seed", "columns")}


def _observe(attack: Attack, column: str, seed: int, *, read: bool) -> Seen:
    verdict = run_attack(attack, column, seed=seed)
    refused = [step.result["check"] for step in verdict.steps if step.phase == "attacker" and step.result.get("check")]
    return Seen(verdict, tuple(refused), _bytes_read(attack, column, seed) if read else None)


def _row(goal: Goal, found: Finding) -> dict[str, Any]:
    earned = round(goal.points * found.share, 4)
    return {"name": goal.says, "points": earned, "of": goal.points, "met": found.share == 1, "says": found.says}


def _unnamed(goal: Goal, row: dict[str, Any]) -> dict[str, Any]:
    """A hidden test tells whether it passed, and the teacher's message where it did not."""
    return {**row, "name": "", "says": "Passed." if row["met"] else goal.message}


def _column(verdict: Verdict) -> dict[str, Any]:
    step = verdict.step
    return {
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "check": verdict.check,
        "steps": len(verdict.steps),
        "step": step.number if step else None,
        "line": step.line if step else None,
        "digest": verdict.digest,
    }


# -- predicates: what was observed, as a share and a sentence that holds nothing of the seed


def _failed(seen: Seen, column: str) -> Finding | None:
    """An attack that could not be carried out reaches nothing there."""
    if seen.verdict.outcome != "ERROR":
        return None
    return Finding(0, f"On {column} the attack could not be carried out as it is written.")


def _read(goal: Goal, attack: Attack, seen: Seen | None) -> Finding:
    assert seen is not None and seen.read is not None
    first, last = goal.of
    column, count = goal.column, last - first + 1
    got = len(seen.read & set(range(first, last + 1)))
    if failed := _failed(seen, column):
        return failed
    if count == 1:
        if got:
            return Finding(1, f"On {column} byte {first} of the secret came out of the attacker's port.")
        return Finding(0, f"On {column} byte {first} of the secret did not come out of the attacker's port.")
    return Finding(
        got / count, f"On {column} {got} of the bytes {first} to {last} of the secret came out of the attacker's port."
    )


def _blocked(goal: Goal, attack: Attack, seen: Seen | None) -> Finding:
    assert seen is not None
    column, check = goal.column, goal.of
    if failed := _failed(seen, column):
        return failed
    if check in seen.refused:
        step = next(
            each for each in seen.verdict.steps if each.phase == "attacker" and each.result.get("check") == check
        )
        return Finding(1, f"On {column} {check} refused {step.op['op']} of line {step.line}.")
    if seen.verdict.outcome == "BLOCKED" and seen.verdict.check == check:
        return Finding(1, f"On {column} the attack came to nothing, and without {check} it would have succeeded.")
    others = ", ".join(dict.fromkeys(seen.refused))
    if others:
        return Finding(0, f"On {column} {check} refused no step of the attack; {others} did.")
    return Finding(0, f"On {column} {check} refused no step of the attack, and no other check did.")


def _outcome(goal: Goal, attack: Attack, seen: Seen | None) -> Finding:
    assert seen is not None
    column, wanted, outcome = goal.column, goal.of, seen.verdict.outcome
    if failed := _failed(seen, column):
        return failed
    if outcome == wanted == "BLOCKED" and seen.verdict.check is None:
        return Finding(0, f"On {column} nothing of the attack had to be stopped: no step of it does any harm.")
    if outcome == wanted:
        return Finding(1, f"On {column} the attack ended {outcome}.")
    return Finding(0, f"On {column} the attack ended {outcome}, not {wanted}.")


def _operations(goal: Goal, attack: Attack, seen: Seen | None) -> Finding:
    count, most = sum(times for _, times in used(attack.phases["attacker"])), goal.of
    if count <= most:
        return Finding(1, f"Of at most {most} operations the attacker did {count}.")
    return Finding(0, f"The attacker did {count} operations, more than the {most} that are allowed.")


def _not_used(goal: Goal, attack: Attack, seen: Seen | None) -> Finding:
    found = dict.fromkeys(op for op, _ in used(attack.phases["attacker"]) if op in goal.of)
    names = ", ".join(found)
    if found:
        return Finding(0, f"The attacker used {names}, which this goal forbids.")
    return Finding(1, f"The attacker used none of {', '.join(goal.of)}.")


PREDICATES: Final[dict[str, Callable[[Goal, Attack, Seen | None], Finding]]] = {
    "read": _read,
    "blocked": _blocked,
    "outcome": _outcome,
    "operations": _operations,
    "not_used": _not_used,
}
BESIDE: Final = ("operations", "not_used")  # an attack that does nothing would have these for nothing


# -- which bytes of the secret were read


class _Listener(Run):
    """A run that keeps what came out of the attacker's port, by the number of the step."""

    def __init__(self, attack: Attack, machine: Machine, secret: bytes) -> None:
        super().__init__(attack, machine, secret)
        self.given: dict[int, bytes] = {}
        self.taken = 0

    def _observe(self, done: Done, op: dict[str, Any], result: dict[str, Any], phase: str) -> None:
        if phase == "attacker" and result["status"] == "OK" and self.taken < TAKEN:
            registers = result.get("registers", {})
            data = bytes.fromhex(result.get("data", "")) + bytes.fromhex(result.get("image", ""))
            data += b"".join(registers[name].to_bytes(8, "little") for name in REGISTER_NAMES if name in registers)
            self.given[done.number] = data
            self.taken += len(data)
        super()._observe(done, op, result, phase)


def _bytes_read(attack: Attack, column: str, seed: int) -> frozenset[int]:
    """The numbers of the secret's bytes that the attacker was given, each at the same place whatever the secret is."""
    secrets = _secrets(seed)
    heard = []
    for number, secret in enumerate(secrets):
        other = {**attack.machine, "seed": (seed + number) % (1 << 64)}
        varied = replace(attack, machine=other) if number else attack
        run = _Listener(varied, boot(varied, column, seed=seed, options={}), secret.tobytes())
        run.verdict(column, seed, PHASES, digest=False)
        heard.append(run.given)
    found: set[int] = set()
    for step in set.intersection(*(set(each) for each in heard)):
        length = min(len(each[step]) for each in heard)
        given = np.stack([np.frombuffer(each[step][:length], np.uint8) for each in heard])
        found.update(n for n in range(len(secrets[0])) if (given == secrets[:, n, None]).all(axis=0).any())
    return frozenset(found)


def _secrets(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The true secret and RUNS - 1 others: each byte differs from run to run, and no two bytes differ alike."""
    true = np.frombuffer(secret_of(seed), np.uint8).astype(np.int64)
    steps = 2 * np.arange(len(true)) + 1
    return ((true + np.arange(RUNS)[:, None] * steps) % 256).astype(np.uint8)
