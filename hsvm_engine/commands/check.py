"""`hsvm check`: random operations against the slow twin, and all invariants."""

from __future__ import annotations

import argparse
from typing import Any

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.commands.common import DONE, FAILED, Progress, add_architectures, add_json, command, print_json
from hsvm_engine.core.machine import Machine
from hsvm_engine.core.types import InvariantError
from hsvm_engine.randomops import compare, pair

RULES: dict[str, tuple[dict[str, Any], ...]] = {
    "hsvm": ({}, {"page_map_rule": "literal"}),
    "hsvm-smm": ({}, {"page_map_rule": "literal"}),
}
"""Options under which a row is checked; the other rows have no rule to choose."""


def add_commands(subparsers: Any) -> None:
    parser = command(
        subparsers,
        "check",
        "compare random operations on every row with the slow twin, and check all invariants",
        _check,
        "hsvm check --ops 2000 --seed 1",
    )
    parser.add_argument("--ops", type=int, default=100_000, metavar="N", help="operations on each row and rule")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the operations (0)")
    add_architectures(parser)
    parser.add_argument(
        "--every", type=int, default=100, metavar="N", help="compare whole states after so many operations (100)"
    )
    form = parser.add_mutually_exclusive_group()
    add_json(form, "print one JSON object, as in any case but --text")
    form.add_argument("--text", action="store_true", help="print a line for people about each row and rule")


class Counted:
    """A machine that tells how many operations it has done."""

    def __init__(self, machine: Machine, progress: Progress) -> None:
        self._machine, self._progress = machine, progress

    def apply(self, op: Any) -> dict[str, Any]:
        self._progress.show(self._machine.op)
        return self._machine.apply(op)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)


def _check(args: argparse.Namespace) -> int:
    """Exit 1 at a difference or a broken invariant, with what replays it."""
    if args.ops < 1 or args.every < 1:
        raise ValueError("--ops and --every must be at least 1")
    rows = []
    for name in dict.fromkeys(args.architecture or ARCHITECTURES):
        for options in RULES.get(name, ({},)):
            rows.append(_row(args, name, options))
            if args.text:
                print(_line(rows[-1]), flush=True)
    ok = all(row["ok"] for row in rows)
    if not args.text:
        print_json({"ok": ok, "ops": args.ops, "seed": args.seed, "rows": rows})
    return DONE if ok else FAILED


def _row(args: argparse.Namespace, name: str, options: dict[str, Any]) -> dict[str, Any]:
    machine, twin = pair(name, **options)
    row: dict[str, Any] = {"architecture": name, "options": options, "ops": args.ops, "seed": args.seed, "ok": True}
    with Progress(" ".join((name, *map(str, options.values()))), args.ops) as progress:
        try:
            difference = compare(Counted(machine, progress), twin, ops=args.ops, seed=args.seed, every=args.every)
        except (InvariantError, AssertionError) as broken:
            row.update(ok=False, invariant=str(broken), number=machine.op)
        else:
            if difference:
                row.update(ok=False, difference=difference.to_dict())
    row["digest"] = machine.digest()
    return row


def _line(row: dict[str, Any]) -> str:
    name = " ".join((row["architecture"], *map(str, row["options"].values())))
    if row["ok"]:
        return f"{name}: {row['ops']:,} operations, machine and twin agree, all invariants hold"
    if "invariant" in row:
        return f"{name}: operation {row['number']:,} broke {row['invariant']}"
    return f"{name}: machine and twin differ at operation {row['difference']['number']:,}: {row['difference']['op']}"
