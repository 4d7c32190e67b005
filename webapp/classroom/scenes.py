"""What the pages of the replay show of films: one step, two in lock-step, and what may be laid beside a cell.

Whoever looks may have a check switched off and watch: it is no row of the table, it is computed when it is asked for
and kept in the process. That is cheap (a few to some tens of milliseconds) and bounded: only the check that decided the
cell, and what a column of the table switches off, can be asked for, so there are few executions to ask for at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from webapp.classroom import replay, services
from webapp.classroom.models import Cell
from webapp.classroom.replay import Execution
from webapp.classroom.wording import ARCHITECTURES, LITERAL, PHASES
from webapp.errors import VpmsError

BESIDE: Final = "There is nothing like that to lay beside this cell."
RULE_CHECKS: Final = ("slot_check", "busy_check", "owner_check")  # what the literal rule relaxes
TILES_A_ROW: Final = 6
TILE_WIDTH, TILE_HEIGHT = 92, 62
TABLE_TITLES: Final = (
    ("frames", "Frames that the attack touches", ("Frame", "Owner", "Mapped by", "Holds")),
    ("tlb", "TLB entries in use", ("Core", "Level", "Of", "Translation", "Allows", "Against the tables")),
    ("cpus", "Registers, as each guest would read them now", ("Vcpu", "Where", "Registers that are not zero")),
)
SIGNS: Final = {"a": "A", "b": "B", "c": "C", "free": "free", "hypervisor": "HV", "hsvm": "H-SVM", "other": "VM"}


def execution_of(cell: Cell) -> Execution:
    return Execution(cell.attack, cell.architecture, cell.skip, cell.seed)


def switch(cell: Cell) -> dict[str, str] | None:
    """What can be turned off to see what the deciding check is good for; None where no check decided."""
    check = cell.check_name
    if not check or cell.skip:
        return None
    if replay.may_switch_off(check):
        return {"check": check, "query": f"without={check}"}
    if check in RULE_CHECKS:
        return {"check": check, "query": f"without={LITERAL}"}
    return {"check": check, "query": ""}


def others(cell: Cell) -> list[dict[str, str]]:
    """What may be laid beside a cell, with the query of its link."""
    if not _is_executed(execution_of(cell)):
        return []
    found = [
        {"name": name, "query": f"with={name}"}
        for name in ARCHITECTURES
        if (name, "") != (cell.architecture, cell.skip) and _is_executed(Execution(cell.attack, name))
    ]
    found += [
        {"name": Execution(cell.attack, cell.architecture, skip).name, "query": f"without={skip}"}
        for skip in _switches(cell)
    ]
    return found


def _switches(cell: Cell) -> list[str]:
    """What of this cell's machine can be asked to be off."""
    if cell.architecture not in services.CHECKED:
        return []
    column = Cell.objects.filter(architecture=cell.architecture).exclude(skip="")
    found = set(column.values_list("skip", flat=True).distinct())
    if not cell.skip and replay.may_switch_off(cell.check_name):
        found.add(cell.check_name)
    return sorted(found - {cell.skip})


def _is_executed(execution: Execution) -> bool:
    """Whether there are steps to show: where the outcome is declared nothing runs."""
    return execution.architecture not in services.declared(execution.attack)


def other_of(cell: Cell, *, with_: str, without: str) -> Execution:
    """The execution that a link lays beside the cell; a VpmsError (404) for anything that is not offered."""
    for offered in others(cell):
        if offered["query"] == (f"with={with_}" if with_ else f"without={without}"):
            architecture = with_ or cell.architecture
            return Execution(cell.attack, architecture, "" if with_ else without, cell.seed)
    raise VpmsError("not_found", 404, message=BESIDE)


def query_of(cell: Cell, other: Execution) -> str:
    return f"without={other.skip}" if other.skip else f"with={other.architecture}"


def data_of(film: Mapping[str, Any]) -> dict[str, Any]:
    """What the script needs of a film."""
    names = ("name", "attack", "title", "seed", "engine", "digest", "total", "deciding", "rows", "steps")
    return {name: film[name] for name in names}


def scene(film: Mapping[str, Any], place: int) -> dict[str, Any]:
    """One step with its tables, the map, the list of all steps by phase, and where the buttons lead."""
    if not film["steps"]:
        return {}
    step = film["steps"][place]
    shown = replay.tables(film, step)
    numbers = [each["n"] for each in film["steps"]]
    return {
        "step": step,
        "tables": [_table(part, caption, heads, shown[part]) for part, caption, heads in TABLE_TITLES],
        "map": drawn(shown["frames"]),
        "phases": phases(film["steps"]),
        "back": numbers[max(place - 1, 0)],
        "on": numbers[min(place + 1, len(numbers) - 1)],
        "last": numbers[-1],
    }


def _table(part: str, caption: str, heads: tuple[str, ...], rows: list[dict[str, Any]]) -> dict[str, Any]:
    labelled = [
        {"mark": row["mark"], "cells": list(zip(heads, row["cells"], strict=False))} for row in rows
    ]  # a row that says how many more there are has one cell
    return {"part": part, "caption": caption, "heads": heads, "rows": labelled}


def phases(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The script: the steps in the order of execution, by the phase of the file that they stand in."""
    found: list[dict[str, Any]] = []
    for step in steps:
        if not step["n"]:
            continue
        if not found or found[-1]["phase"] != step["phase"]:
            found.append({"phase": step["phase"], "label": PHASES[step["phase"]], "steps": []})
        found[-1]["steps"].append(step)
    return found


def drawn(frames: list[dict[str, Any]]) -> dict[str, Any]:
    """The frames as tiles of a drawing."""
    tiles = [
        {
            "x": 4 + TILE_WIDTH * (i % TILES_A_ROW),
            "y": 4 + TILE_HEIGHT * (i // TILES_A_ROW),
            "mfn": row["cells"][0],
            "sign": SIGNS[row["look"]],
            "look": row["look"],
            "changed": row["mark"] == "changed",
        }
        for i, row in enumerate(frames)
    ]
    across = max(1, min(len(tiles), TILES_A_ROW))
    return {
        "tiles": tiles,
        "width": 8 + TILE_WIDTH * across,
        "height": 8 + TILE_HEIGHT * -(-len(tiles) // TILES_A_ROW),
    }


def pair(one: Execution, other: Execution, text: str) -> dict[str, Any]:
    """Two films in lock-step at the step that a link names, at the first divergence if it names none."""
    parted, also = replay.compared(one, other)
    films = [replay.film_of(each, also) for each in (one, other)]
    longer = max(films, key=lambda film: int(film["total"]))
    step = longer["steps"][replay.step_of(longer, text or str(parted.first or longer["deciding"]))]["n"]
    shown = replay.shown_elsewhere(films)
    rows = [_row(number, films, parted) for number in shown if number]
    place = shown.index(step)
    return {
        "both": _both(films, next((row for row in rows if row["n"] == step), None)),
        "films": films,
        "data": [data_of(film) for film in films],
        "scenes": [scene(film, replay.place_of(film, step)) for film in films],
        "parted": parted,
        "rows": rows,
        "step": step,
        "shown": shown,
        "back": shown[max(place - 1, 0)],
        "on": shown[min(place + 1, len(shown) - 1)],
        "last": shown[-1],
    }


def _both(films: list[dict[str, Any]], row: Mapping[str, Any] | None) -> str:
    """What both answered at a step, in one sentence."""
    if row is None:
        return "Nothing is done yet on either machine."
    said = zip((film["name"] for film in films), row["answers"], strict=True)
    words = ", ".join(f"{name} answered {answer or 'nothing'}" for name, answer in said)
    return f"Step {row['n']}, {row['op']}: {words}."


def _row(number: int, films: list[dict[str, Any]], parted: replay.Divergence) -> dict[str, Any]:
    """A step in both executions: what was done, and both answers."""
    steps = [next((step for step in film["steps"] if step["n"] == number), None) for film in films]
    known = next(step for step in steps if step)
    answers = [f"{step['status']}{' by ' + step['check'] if step['check'] else ''}" if step else "" for step in steps]
    return {
        "n": number,
        "op": known["op"],
        "turn": known["turn"],
        "label": PHASES[known["phase"]],
        "fields": known["fields"],
        "answers": answers,
        "differs": bool(steps[0] and steps[1]) and answers[0] != answers[1],
        "first": number == parted.first,
    }
