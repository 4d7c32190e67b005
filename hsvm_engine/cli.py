"""`hsvm`: JSON on standard output; exit 0 done, 1 a check failed, 2 bad input with its place on standard error."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hsvm_engine import __version__, trace
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import Attack, attacks, builtin_ids, load_attack
from hsvm_engine.core.machine import Machine
from hsvm_engine.core.types import InvariantError
from hsvm_engine.interpreter import Verdict, run_attack
from hsvm_engine.jsontext import TextError, load_json
from hsvm_engine.randomops import compare, pair

ENGINE = f"hsvm_engine {__version__}"
MACHINE_FIELDS = (
    *("frames", "hypervisor_frames", "protected_frames", "cores"),
    *("architecture", "seed", "options", "tlb", "costs"),
)
DONE, FAILED, BAD_INPUT = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing that a file holds ends in a traceback."""
    parser = argparse.ArgumentParser(prog="hsvm", description="The simulated H-SVM host.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_apply, _add_attack, _add_matrix, _add_check, trace.add_commands):
        add(subparsers)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except TextError as error:
        print(f"hsvm: {error}", file=sys.stderr)
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: nothing is left to say, nor to flush at exit
        return DONE
    except OSError as error:
        print(f"hsvm: {error.filename}: {error.strerror}", file=sys.stderr)
    except ValueError as error:
        print(f"hsvm: {error}", file=sys.stderr)
    return BAD_INPUT


def _print(value: object) -> None:
    print(json.dumps(value, separators=(",", ":")))


# hsvm apply


def _add_apply(subparsers: Any) -> None:
    example = 'example: hsvm apply --machine machine.json operations.jsonl --dump\n  machine.json: {"frames": 8192, …}'
    parser = subparsers.add_parser(
        "apply",
        help="apply operations to a fresh machine, one result line each",
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--machine", type=Path, required=True, metavar="M.json", help="the machine's parameters")
    parser.add_argument("operations", type=Path, metavar="OPS.jsonl", help="one operation per line, as JSON")
    parser.add_argument("--dump", action="store_true", help="print the machine's state after the last operation")
    parser.add_argument("--digest", action="store_true", help="print its digest after the last operation")
    parser.set_defaults(run=_apply)


def _apply(args: argparse.Namespace) -> int:
    machine = _read_machine(args.machine)
    for _ in _read_operations(args.operations):
        pass  # every line is known to be good before the first operation is done
    for op in _read_operations(args.operations):
        _print(machine.apply(op))
    if args.dump:
        _print({"dump": machine.dump()})
    if args.digest:
        _print({"digest": machine.digest()})
    return DONE


def _read_text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise TextError(str(path), line, column, "not UTF-8") from None


def _read_machine(path: Path) -> Machine:
    value = load_json(_read_text(path), file=str(path))
    if not isinstance(value, dict):
        raise TextError(str(path), 1, 1, "a machine must be an object")
    unknown = sorted(set(value) - set(MACHINE_FIELDS))
    if unknown:
        raise TextError(str(path), 1, 1, f"unknown field {unknown[0]}")
    try:
        return Machine(**value)
    except (TypeError, ValueError) as error:
        raise TextError(str(path), 1, 1, str(error)) from None


def _read_operations(path: Path) -> Iterator[Any]:
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if line.strip():
            yield load_json(line, file=str(path), first_line=number)


# hsvm attack run


def _add_attack(subparsers: Any) -> None:
    actions = subparsers.add_parser("attack", help="run one attack").add_subparsers(dest="action", required=True)
    parser = actions.add_parser("run", help="run an attack file, or a built-in attack by its id")
    parser.add_argument("attack", metavar="FILE|ID", help=f"a file, or one of {', '.join(builtin_ids())}")
    parser.add_argument("--architecture", required=True, choices=tuple(ARCHITECTURES), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print the verdict with every step as JSON")
    _add_options(parser)
    parser.set_defaults(run=_attack_run)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="switch off one check")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="one option of the machine")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in args.option:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--option {text}: write KEY=VALUE")
        options[key] = int(value) if value.isascii() and value.isdigit() and len(value) < 20 else value
    if args.skip:
        options["skip"] = args.skip
    return options


def _attack_run(args: argparse.Namespace) -> int:
    attack = load_attack(args.attack)
    options = _options(args)
    try:
        verdict = run_attack(attack, args.architecture, seed=args.seed, options=options)
    except ValueError as error:
        if not attack.machine:
            raise  # the command line's own options
        raise TextError(args.attack, attack.machine_line, 1, str(error)) from None
    expected = attack.expected(args.architecture)
    if args.json:
        _print({**verdict.to_dict(), "expected": expected})
    else:
        print(_sentence(verdict))
    missed = expected is not None and expected != verdict.outcome
    return FAILED if missed or verdict.outcome == "ERROR" else DONE


def _sentence(verdict: Verdict) -> str:
    lines = [
        f"{verdict.attack} {verdict.title}, on {verdict.architecture}: {verdict.outcome.replace('_', ' ')}",
        f"  {verdict.reason}",
    ]
    if verdict.step:
        step = verdict.step
        lines.append(f"  decided by step {step.number} ({step.phase}, line {step.line}): {json.dumps(step.op)}")
    if verdict.check:
        lines.append(f"  check: {verdict.check} {json.dumps(verdict.inputs)}")
    if verdict.paper:
        lines.append(f"  paper: {verdict.paper}")
    return "\n".join(lines)


# hsvm matrix


def _add_matrix(subparsers: Any) -> None:
    parser = subparsers.add_parser("matrix", help="run every built-in attack on every architecture")
    parser.add_argument("--architecture", action="extend", nargs="+", choices=tuple(ARCHITECTURES), metavar="NAME")
    parser.add_argument("--json", action="store_true", help="print the cells as JSON")
    _add_options(parser)
    parser.set_defaults(run=_matrix)


def matrix(
    chosen: Sequence[str], *, seed: int = 0, options: dict[str, Any] | None = None
) -> Iterator[tuple[Attack, dict[str, Verdict]]]:
    """Every built-in attack with its verdict on each architecture, by executing it there."""
    for attack in attacks().values():
        yield attack, {name: run_attack(attack, name, seed=seed, options=options) for name in chosen}


def _matrix(args: argparse.Namespace) -> int:
    chosen = tuple(dict.fromkeys(args.architecture or ARCHITECTURES))
    rows = list(matrix(chosen, seed=args.seed, options=_options(args)))
    if args.json:
        cells = {attack.id: {name: _cell(verdict) for name, verdict in row.items()} for attack, row in rows}
        _print({"engine": ENGINE, "seed": args.seed, "cells": cells})
    else:
        print(_table(chosen, rows))
    return FAILED if any(verdict.outcome == "ERROR" for _, row in rows for verdict in row.values()) else DONE


def _cell(verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome,
        "evidence": verdict.evidence,
        "check": verdict.check,
        "digest": verdict.digest,
    }


def _table(chosen: Sequence[str], rows: list[tuple[Attack, dict[str, Verdict]]]) -> str:
    lines = [f"{'':4} {'attack':40} " + " ".join(f"{name:34}" for name in chosen)]
    for attack, row in rows:
        cells = (f"{v.outcome} {v.evidence or ''} {v.check or ''}".rstrip() for v in row.values())
        lines.append(f"{attack.id:4} {attack.title:40} " + " ".join(f"{cell:34}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines)


# hsvm check


def _add_check(subparsers: Any) -> None:
    parser = subparsers.add_parser("check", help="random operations against the slow twin, and all invariants")
    parser.add_argument("--ops", type=int, default=100_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--architecture", action="extend", nargs="+", choices=tuple(ARCHITECTURES), metavar="NAME")
    parser.add_argument("--every", type=int, default=100, metavar="N", help="compare dumps and check invariants")
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    """Print one object per architecture; a difference or a broken invariant is exit 1, with what replays it."""
    if args.ops < 1 or args.every < 1:
        raise ValueError("--ops and --every must be at least 1")
    code = DONE
    for name in dict.fromkeys(args.architecture or ARCHITECTURES):
        machine, twin = pair(name)
        report: dict[str, Any] = {"architecture": name, "ops": args.ops, "seed": args.seed, "ok": True}
        try:
            difference = compare(machine, twin, ops=args.ops, seed=args.seed, every=args.every)
        except (InvariantError, AssertionError) as broken:
            report.update(ok=False, invariant=str(broken), number=machine.op)
        else:
            if difference:
                report.update(ok=False, difference=difference.to_dict())
        report["digest"] = machine.digest()
        _print(report)
        code = code if report["ok"] else FAILED
    return code
