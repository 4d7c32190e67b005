"""What the lab shows of a task, a student's file and an attempt: for pages and API alike.

Hidden tests are a number and their points; hints that were not taken are a cost. Of a run that was handed in there is
neither a replay nor a seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from hsvm_engine.attackfile import (
    Attack,
    LetStep,
    NoteStep,
    OperationStep,
    Reference,
    RepeatStep,
    Step,
    TurnStep,
    read_attack,
)
from hsvm_engine.interpreter import run_attack
from webapp.classroom import replay, scenes
from webapp.classroom.wording import ARCHITECTURES, OUTCOMES, PHASES, worded
from webapp.courses import lab, selectors
from webapp.courses.models import Attempt, Item, LabWork, Mark, Member

HISTORY: Final = 12  # attempts that the page lists
OUTLINE: Final = 200  # steps of a file that are listed


def task_shown(item: Item, work: LabWork) -> dict[str, Any]:
    """The task as a student may see it, with what this student took of its hints."""
    task = lab.task_of(item)
    return {
        "title": task.title,
        "says": task.says,
        "ports": sorted(task.ports) if task.ports is not None else [],
        "setup_given": task.given,
        "columns": list(task.columns),
        "limits": dict(task.limits),
        "starter": task.starter,
        "points": task.points,
        "goals": [{"says": goal.says, "points": goal.points, "column": goal.column} for goal in task.goals],
        "hidden_tests": len(task.hidden),
        "hidden_points": sum(goal.points for goal in task.hidden),
        "hints": [
            {"number": number, "cost": hint.cost, "taken": number <= work.hints, "next": number == work.hints + 1}
            | ({"says": hint.says} if number <= work.hints else {"says": ""})
            for number, hint in enumerate(task.hints, 1)
        ],
        "hints_cost": lab.cost_of(task, work.hints),
    }


def attempt_shown(attempt: Attempt) -> dict[str, Any]:
    """One attempt without its file."""
    result = attempt.result
    return {
        "id": attempt.pk,
        "item": attempt.item_id,
        "graded": attempt.graded,
        "seed": attempt.seed,
        "state": attempt.state,
        "points": attempt.points,
        "of": result.get("of"),
        "hints": attempt.hints,
        "digest": attempt.digest,
        "made_at": attempt.made_at,
        "done_at": attempt.done_at,
        "reason": attempt.reason or result.get("refused", ""),
    }


def columns_of(attempt: Attempt) -> list[dict[str, Any]]:
    """How a practice run ended on each column, with what its replay is called."""
    return [
        {"name": name, "label": ARCHITECTURES[name], "look": OUTCOMES[found["outcome"]].look, **found}
        | {"word": OUTCOMES[found["outcome"]].word}
        for name, found in attempt.result.get("columns", {}).items()
    ]


def whole(attempt: Attempt) -> dict[str, Any]:
    """An attempt with its goals and columns, as pages show it."""
    goals = attempt.result.get("goals", [])
    hidden = [{**row, "number": number} for number, row in enumerate(attempt.result.get("hidden", []), 1)]
    return {**attempt_shown(attempt), "goals": goals, "hidden": hidden, "columns": columns_of(attempt)}


def context(item: Item, member: Member) -> dict[str, Any]:
    """All that the page of a lab shows to this member."""
    work = lab.work_of(item=item, member=member)
    task = task_shown(item, work)
    text = work.text or task["starter"]
    recent = list(lab.attempts_of(item=item, member=member)[:HISTORY])
    shown = [whole(row) for row in recent]
    return {
        "item": item,
        "member": member,
        "work": work,
        "task": task,
        "text": text,
        "outline": outline(lab.places(lab.task_of(item), text)[0]),
        "attempts": shown,
        "newest": shown[0] if shown else None,
        "best": Mark.objects.filter(item=item, member=member).first(),
        "topic": lab.topic(item.pk, member.pk),
        "tries_left": max(0, item.tries - lab.tries_used(item=item, member=member)) if item.tries else 0,
        "seed": next((row.seed for row in recent if row.seed is not None), 1),
    }


# -- the file as a list of steps


def outline(attack: Attack | None) -> list[dict[str, Any]]:
    """The steps of a file, each with its line, phase and depth; nothing of a file that cannot be read."""
    if attack is None:
        return []
    rows = [row for phase, steps in attack.phases.items() for row in _rows(steps, PHASES[phase], 0)]
    return rows[:OUTLINE]


def _rows(steps: tuple[Step, ...], phase: str, depth: int) -> Iterator[dict[str, Any]]:
    for step in steps:
        yield {"line": step.line, "phase": phase, "depth": depth, **_words(step)}
        if isinstance(step, RepeatStep | TurnStep):
            yield from _rows(step.steps, phase, depth + 1)


def _words(step: Step) -> dict[str, Any]:
    match step:
        case OperationStep():
            fields = ", ".join(f"{name}={_value(value)}" for name, value in step.fields.items())
            return {"op": step.op, "fields": fields, "bind": step.bind or ""}
        case RepeatStep():
            return {"op": "repeat", "fields": f"{step.count} ×", "bind": ""}
        case LetStep():
            return {"op": "let", "fields": ", ".join(f"{n}={_value(v)}" for n, v in step.names.items()), "bind": ""}
        case NoteStep():
            return {"op": "note", "fields": str(step.value), "bind": ""}
    return {"op": "victim", "fields": "", "bind": ""}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name} {_value(part)}" for name, part in value.items())
    if isinstance(value, tuple):
        return " ".join(map(_value, value))
    return str(value) if isinstance(value, Reference) else worded(value)


# -- the replay of a practice run


def film_of(attempt: Attempt, architecture: str) -> dict[str, Any]:
    """A practice run step by step on one of its columns. What was handed in has none: it would show its seed."""
    if attempt.seed is None or architecture not in attempt.result.get("columns", {}):
        raise selectors.missing()
    return _film(attempt.text, architecture, attempt.seed)


@lru_cache(maxsize=64)
def _film(text: str, architecture: str, seed: int) -> dict[str, Any]:
    attack = read_attack(text)
    execution = replay.Execution(attack.id, architecture, "", seed)
    return replay.filmed(attack, execution, run_attack(attack, architecture, seed=seed))


def scene_of(film: dict[str, Any], step: str) -> dict[str, Any]:
    """One step of a film with its tables, as the replay of an attack of the table has them."""
    return {"film": film, "data": scenes.data_of(film), "scene": scenes.scene(film, replay.step_of(film, step))}
