"""The views that a lesson can hold: one row a view.

A view shows one step of something that the engine executes. Only that step goes to the page: what comes later is asked
for when it is wanted, so a page never carries what a question above it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from webapp.classroom import replay, scenes, services, walk
from webapp.classroom.replay import Execution
from webapp.classroom.wording import ARCHITECTURES, OUTCOMES
from webapp.courses import lesson_conflict
from webapp.errors import BadInput, Fault
from webapp.vpms.shapes import Anything, Array, Integer, Object, OneOf, Shape, Text

SHOWN: Final = ("script", "map", "tlb", "registers")
LARGEST_STEP: Final = 100_000


@dataclass(frozen=True)
class View:
    """`shape`: the keys of its block. `read(block)`: the definition, or BadInput. `render(definition, step)`: what the
    template shows; `step` None: the one that the block names. `numbers(definition)`: the steps that there are."""

    shape: Shape
    read: Callable[[Mapping[str, Any]], Any]
    render: Callable[[Any, int | None], dict[str, Any]]
    template: str
    numbers: Callable[[Any], list[int]] = lambda _definition: []


@dataclass(frozen=True)
class Block:
    view: View
    definition: Any
    title: str

    def shown(self, step: int | None = None) -> dict[str, Any]:
        return self.view.render(self.definition, step)

    @property
    def numbers(self) -> list[int]:
        return self.view.numbers(self.definition)


# -- walk


def _walk_read(block: Mapping[str, Any]) -> Mapping[str, Any]:
    last = len(walk.walk_of(block["case"])["references"])
    if not 0 <= block["step"] <= last:
        raise BadInput([Fault("$.step", f"must be from 0 to {last}")])
    return block


def _walk_numbers(block: Mapping[str, Any]) -> list[int]:
    return list(range(len(walk.walk_of(block["case"])["references"]) + 1))


def _walk_shown(block: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    """The drawing and the facts at one step; of references to come the number and place alone."""
    whole = walk.walk_of(block["case"])
    last = len(whole["references"])
    at = min(max(block["step"] if step is None else step, 0), last)
    seen = whole["references"][:at]
    told = [
        row if row["order"] <= at else {**row, "says": "", "skipped": False, "fault": False}
        for row in whole["references"]
    ]
    spared = sum(row["skipped"] for row in seen)
    return {
        "walk": {**whole, "references": told},
        "grid": walk.grid({**whole, "references": told}),
        "step": at,
        "now": seen[-1] if seen else None,
        "says": seen[-1]["says"] if seen else walk.START,
        "made": at - spared,
        "spared": spared,
        "result": whole["result"] if at == last else "",
        "rows": seen,
        **_about(list(range(last + 1)), at),
    }


# -- replay


def _executions(block: Mapping[str, Any]) -> list[Execution]:
    return [Execution(block["attack"], column) for column in block["columns"]]


def _replay_read(block: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(set(block["columns"])) < len(block["columns"]):
        raise BadInput([Fault("$.columns", "has a column twice")])
    films = [replay.film_of(each) for each in _executions(block)]
    if not all(film["steps"] for film in films):
        raise BadInput([Fault("$.attack", "is not executed on this machine: its outcome is declared")])
    if block["step"] > max(film["total"] for film in films):
        raise BadInput([Fault("$.step", f"must be from 0 to {max(film['total'] for film in films)}")])
    return block


def _replay_numbers(block: Mapping[str, Any]) -> list[int]:
    return sorted({step["n"] for each in _executions(block) for step in replay.film_of(each)["steps"]})


def _replay_shown(block: Mapping[str, Any], step: int | None) -> dict[str, Any]:
    """Each machine after one step, and the script up to it."""
    numbers = _replay_numbers(block)
    wanted = block["step"] if step is None else step
    at = max((number for number in numbers if number <= wanted), default=0)
    show = block.get("show") or ["script", "map"]
    machines = []
    for each in _executions(block):
        film = replay.film_of(each)
        place = max(n for n, step in enumerate(film["steps"]) if step["n"] <= at)
        scene = scenes.scene({**film, "steps": film["steps"][: place + 1]}, place)
        parts = {"frames": "map", "tlb": "tlb", "cpus": "registers"}
        over = at >= film["total"]
        machines.append(
            {
                "name": each.name,
                "film": film,
                "over": over,
                "outcome": OUTCOMES[_outcome(each)] if over or (film["deciding"] and at >= film["deciding"]) else None,
                "step": scene["step"],
                "phases": scene["phases"] if "script" in show else [],
                "map": scene["map"] if "map" in show else None,
                "tables": [table for table in scene["tables"] if parts[table["part"]] in show],
            }
        )
    return {"machines": machines, "attack": block["attack"], "step": at, **_about(numbers, at)}


def _outcome(execution: Execution) -> str:
    return replay.summary_of(execution).outcome


# -- matrix


def _matrix_shown(block: Mapping[str, Any], _step: int | None) -> dict[str, Any]:
    rows = []
    for attack in block["attacks"]:
        cells = [replay.summary_of(Execution(attack, column)) for column in block["columns"]]
        told = zip(block["columns"], cells, strict=True)
        rows.append(
            {
                "attack": attack,
                "title": services.titles()[attack],
                "cells": [(column, OUTCOMES[cell.outcome], cell.check) for column, cell in told],
            }
        )
    return {"columns": block["columns"], "rows": rows, "step": 0}


def _same(block: Mapping[str, Any]) -> Mapping[str, Any]:
    return block


def _about(numbers: list[int], at: int) -> dict[str, Any]:
    """Where the buttons lead."""
    place = numbers.index(at)
    return {
        "first": numbers[0],
        "back": numbers[max(place - 1, 0)],
        "on": numbers[min(place + 1, len(numbers) - 1)],
        "last": numbers[-1],
    }


ATTACK: Final = OneOf(sorted(services.titles()))
COLUMN: Final = OneOf(list(ARCHITECTURES))
STEP: Final = Integer(0, LARGEST_STEP)
TITLE: Final = {"title": Text()}
VIEWS: Final[Mapping[str, View]] = {
    "walk": View(
        Object({"view": Text(), "case": OneOf(list(walk.CASES)), "step": STEP}, TITLE),
        *(_walk_read, _walk_shown, "courses/_view_walk.html", _walk_numbers),
    ),
    "replay": View(
        Object(
            {"view": Text(), "attack": ATTACK, "columns": Array(COLUMN, least=1, most=2), "step": STEP},
            {"show": Array(OneOf(SHOWN), most=len(SHOWN), different=True), **TITLE},
        ),
        *(_replay_read, _replay_shown, "courses/_view_replay.html", _replay_numbers),
    ),
    "matrix": View(
        Object(
            {"view": Text(), "attacks": Array(ATTACK, least=1, most=25), "columns": Array(COLUMN, least=1, most=4)},
            TITLE,
        ),
        *(_same, _matrix_shown, "courses/_view_matrix.html"),
    ),
    "conflict": View(
        Anything(),
        lesson_conflict.read,
        lambda definition, _step: {**lesson_conflict.render(definition), "step": 0},
        "courses/_view_conflict.html",
    ),
}
