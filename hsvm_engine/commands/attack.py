"""`hsvm attack run` and `hsvm matrix`: one attack, or all of them on every architecture."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hsvm_engine import __version__
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import Attack, attacks, builtin_ids, load_attack
from hsvm_engine.attacktext import MAX_BYTES, AttackFileError
from hsvm_engine.commands.common import (
    DONE,
    FAILED,
    Progress,
    add_architectures,
    add_json,
    add_machine_options,
    command,
    machine_options,
    print_json,
)
from hsvm_engine.goals import grade, grade_text
from hsvm_engine.interpreter import Verdict, run_attack
from hsvm_engine.jsontext import TextError
from hsvm_engine.labtask import read_answer, read_task

HERE = Path(__file__).parent.parent
TASKS = {path.stem: path for path in sorted((HERE / "labs").glob("*.yaml"))}
ENGINE = f"hsvm_engine {__version__}"
WIDTH = 100  # columns of the printed table
LETTERS = {"derived": "d", "own": "o", "modelled": "m"}
LEGEND = "d derived from the paper, o our own rule where it is silent, m modelled by us, else stated"


def add_commands(subparsers: Any) -> None:
    _add_attack_run(subparsers)
    parser = command(
        subparsers,
        "matrix",
        "run every built-in attack on every architecture",
        _matrix,
        "hsvm matrix --architecture hsvm --skip owner_check",
    )
    add_architectures(parser)
    add_json(parser, "print one JSON object with every cell")
    add_machine_options(parser)


def _add_attack_run(subparsers: Any) -> None:
    example = "hsvm attack run A01 --architecture hsvm"
    group = command(subparsers, "attack", "run one attack", None, example)
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    parser = command(actions, "run", "run an attack file, or a built-in attack by its id", _attack_run, example)
    parser.add_argument("attack", metavar="FILE|ID", help=f"a file, or one of {', '.join(builtin_ids())}")
    parser.add_argument(
        "--architecture",
        required=True,
        choices=tuple(ARCHITECTURES),
        metavar="NAME",
        help=f"one of {', '.join(ARCHITECTURES)}",
    )
    add_json(parser, "print the verdict with every step as one JSON object")
    add_machine_options(parser)
    parser = command(
        actions,
        "grade",
        "grade an attack file by the goals of a lab task",
        _attack_grade,
        "hsvm attack grade A01 --task read-a-frame --seed 7",
    )
    parser.add_argument("attack", metavar="FILE|ID", help="the file to be graded, or a built-in attack by its id")
    parser.add_argument("--task", required=True, metavar="TASK", help=f"the task's file, or {', '.join(TASKS)}")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the machine and of the secret (0)")
    add_json(parser, "print the grade as one JSON object")


def _attack_run(args: argparse.Namespace) -> int:
    attack = load_attack(args.attack)
    options = machine_options(args)
    try:
        verdict = run_attack(attack, args.architecture, seed=args.seed, options=options)
    except ValueError as error:
        if not attack.machine:
            raise  # the command line's own options
        raise TextError(args.attack, attack.machine_line, 1, str(error)) from None
    expected = attack.expected(args.architecture)
    missed = expected is not None and expected != verdict.outcome
    if args.json:
        print_json({**verdict.to_dict(), "expected": expected})
    else:
        print(_sentence(verdict))
        if missed:
            print(f"  expected: {_words(str(expected))}")
    return FAILED if missed or verdict.outcome == "ERROR" else DONE


def _attack_grade(args: argparse.Namespace) -> int:
    if args.seed < 0:
        raise ValueError("--seed: must not be negative")
    task = read_task(_bytes(args.task), args.task)
    try:
        graded = grade(task, read_answer(task, _bytes(args.attack), args.attack), args.seed)
    except AttackFileError as wrong:
        raise TextError(args.attack, wrong.line, wrong.column, wrong.reason) from None
    print(grade_text(graded)) if args.json else print("\n".join(_graded(graded)))
    return DONE if graded["points"] == graded["of"] else FAILED


def _bytes(name: str) -> bytes:
    """A file's content; a built-in attack or task is named without its ending."""
    known = TASKS.get(name) or (HERE / "attacks" / f"{name}.yaml" if name in builtin_ids() else Path(name))
    with known.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _graded(graded: dict[str, Any]) -> Iterator[str]:
    yield f"{graded['task']}: {graded['points']:g} of {graded['of']} points, seed {graded['seed']}"
    for number, row in enumerate(graded["hidden"], 1):
        row["name"] = f"hidden test {number}"
    for row in [*graded["goals"], *graded["hidden"]]:
        yield f"  {row['points']:g} of {row['of']}  {row['name']}"
        yield f"      {row['says']}"
    for name, column in graded["columns"].items():
        yield f"  {name}: {_words(column['outcome'])}, {column['reason']}"


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _sentence(verdict: Verdict) -> str:
    lines = [
        f"{verdict.attack} {verdict.title}, on {verdict.architecture}: {_words(verdict.outcome)}",
        f"  {verdict.reason}",
    ]
    if verdict.step:
        step = verdict.step
        lines.append(f"  decided by step {step.number} ({step.phase}, line {step.line}): {json.dumps(step.op)}")
    if verdict.check:
        lines.append(f"  check: {verdict.check} {json.dumps(verdict.inputs)}")
    if verdict.paper:
        lines.append(f"  paper: {verdict.paper}")
    if verdict.evidence:
        lines.append(f"  evidence: {verdict.evidence}")
    return "\n".join(lines)


# The matrix

Row = tuple[Attack, dict[str, Verdict]]


def matrix(chosen: Sequence[str], *, seed: int = 0, options: dict[str, Any] | None = None) -> Iterator[Row]:
    """Every built-in attack with its verdict on each architecture, by executing it there."""
    for attack in attacks().values():
        yield attack, {name: run_attack(attack, name, seed=seed, options=options) for name in chosen}


def _matrix(args: argparse.Namespace) -> int:
    chosen = tuple(dict.fromkeys(args.architecture or ARCHITECTURES))
    rows = []
    with Progress("attacks", len(builtin_ids())) as progress:
        for row in matrix(chosen, seed=args.seed, options=machine_options(args)):
            rows.append(row)
            progress.show(len(rows))
    if args.json:
        cells = {attack.id: {name: _cell(verdict) for name, verdict in row.items()} for attack, row in rows}
        print_json({"engine": ENGINE, "seed": args.seed, "cells": cells})
    else:
        print(table(chosen, rows))
    return FAILED if any(verdict.outcome == "ERROR" for _, row in rows for verdict in row.values()) else DONE


def _cell(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "evidence": verdict.evidence,
        "check": verdict.check,
        "digest": verdict.digest,
    }


def table(chosen: Sequence[str], rows: Sequence[Row]) -> str:
    """One line for each attack, at most 100 columns with four rows; then which check held which attacks."""
    cells = [[_short(row[name]) for name in chosen] for _, row in rows]
    widths = [max(len(name), *(len(line[place]) for line in cells)) for place, name in enumerate(chosen)]
    room = WIDTH - 5 - sum(width + 2 for width in widths)
    room = max(20, min(room, max(len(attack.title) for attack, _ in rows)))
    lines = [f"{'':4} {'attack':{room}}  " + "  ".join(map(str.ljust, chosen, widths))]
    for (attack, _), line in zip(rows, cells, strict=True):
        title = attack.title if len(attack.title) <= room else attack.title[: room - 1] + "…"
        lines.append(f"{attack.id:4} {title:{room}}  " + "  ".join(map(str.ljust, line, widths)))
    return "\n".join(line.rstrip() for line in (*lines, LEGEND, *_held(chosen, rows)))


def _short(verdict: Verdict) -> str:
    return f"{_words(verdict.outcome)} {LETTERS.get(verdict.evidence or '', '')}".rstrip()


def _held(chosen: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    for name in chosen:
        held: dict[str, list[str]] = {}
        for attack, row in rows:
            if row[name].check:
                held.setdefault(str(row[name].check), []).append(attack.id)
        if held:
            text = "; ".join(f"{check} {' '.join(ids)}" for check, ids in sorted(held.items()))
            yield from textwrap.wrap(f"{name} was held by {text}", WIDTH, subsequent_indent="  ")
