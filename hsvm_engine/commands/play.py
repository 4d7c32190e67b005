"""`hsvm play`: a scenario played step by step, with the attacks that it names."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from hsvm_engine.attackfile import builtin_ids
from hsvm_engine.commands.common import DONE, Progress, add_json, command, print_json, read_text
from hsvm_engine.play import Player
from hsvm_engine.scenarios import MAX_TEXT, SCENARIOS, Scenario, ScenarioError
from hsvm_engine.step import Step
from hsvm_engine.tracefile import Trace, TraceError, load_trace

STEPS, ACCESSES = 20, 5_000
AFTER_ATTACK = 2  # steps that show an attack and its clearing up


def add_commands(subparsers: Any) -> None:
    parser = command(
        subparsers,
        "play",
        "play a scenario: its VMs run recorded traces, an honest hypervisor serves them, its attacks are carried out",
        _play,
        "hsvm play demo --steps 3 --accesses 2000",
    )
    parser.add_argument("scenario", metavar="SCENARIO", help=f"a JSON file, or one of {', '.join(SCENARIOS)}")
    parser.add_argument(
        "--steps", type=int, metavar="N", help=f"steps to play ({STEPS}, and {AFTER_ATTACK} after the last attack)"
    )
    parser.add_argument("--accesses", type=int, default=ACCESSES, metavar="N", help=f"of each VM a step ({ACCESSES})")
    parser.add_argument("--trace", action="append", default=[], metavar="NAME=FILE", help="a trace of your own")
    add_json(parser, "print JSON lines: one a step, then the end; else a line a step, at the scenario's rate")


def _play(args: argparse.Namespace) -> int:
    scenario = _scenario(args.scenario)
    last = max((item.step for item in scenario.attacks), default=0)
    steps = args.steps if args.steps is not None else max(STEPS, last + AFTER_ATTACK)
    if steps < 1 or not 1 <= args.accesses <= 1 << 32:
        raise ValueError("--steps must be at least 1, --accesses 1 to 2^32")
    try:
        player = Player(scenario, traces=_traces(args.trace))
    except TraceError:
        raise
    except ValueError as error:
        raise ValueError(f"{args.scenario}: {error}") from None
    watched = not args.json and scenario.rate > 0 and sys.stdout.isatty()
    with Progress("steps", steps) as progress:
        for number in range(1, steps + 1):
            began = time.monotonic()
            _attack(player, args.scenario, number)
            step = player.step(args.accesses)
            print_json(_values(step)) if args.json else print(_lines(step))
            progress.show(number)
            if watched:
                time.sleep(max(0.0, args.accesses / scenario.rate - (time.monotonic() - began)))
    return _end(player, args)


def _end(player: Player, args: argparse.Namespace) -> int:
    """Say how it ended. An invariant that is broken is told by `main`, with exit 1."""
    rules = player.machine.check_invariants()
    end = {"end": True, "steps": player.number, "op": player.machine.op, "invariants": rules, "digest": player.digest()}
    if args.json:
        print_json(end)
    else:
        print(f"{player.number} steps, {player.machine.op:,} operations, {len(rules)} invariants hold")
        print(f"digest {end['digest']}")
    return DONE


def _attack(player: Player, name: str, number: int) -> None:
    for place, item in enumerate(player.scenario.attacks):
        if item.step == number:
            try:
                player.drill(item.attack, item.victim)
            except ValueError as error:
                raise ValueError(f"{name}: attacks[{place}]: {error}") from None


def _scenario(name: str) -> Scenario:
    if name in SCENARIOS:
        return SCENARIOS[name]
    text = read_text(Path(name), MAX_TEXT)
    try:
        scenario = Scenario.from_json(text, file=name)
    except ScenarioError as error:
        raise ValueError(f"{name}: {error.path}: {error.reason}") from None
    for place, item in enumerate(scenario.attacks):
        if item.attack not in builtin_ids():
            raise ValueError(f"{name}: attacks[{place}].attack: one of {', '.join(builtin_ids())}, not {item.attack}")
    return scenario


def _traces(given: list[str]) -> dict[str, Trace]:
    traces = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name:
            raise ValueError(f"--trace {text}: write NAME=FILE")
        traces[name] = load_trace(Path(path))
    return traces


def _values(step: Step) -> dict[str, Any]:
    return {
        "step": step.number,
        "op": step.op,
        "changed": len(step.changed),
        "counters": step.counters,
        "events": step.events,
        "violations": step.violations.tolist(),
        "vms": step.vms,
    }


def _lines(step: Step) -> str:
    counts = step.counters
    line = (
        f"step {step.number}: {counts['references']:,} references, {counts['l1']:,} L1 hits, {counts['l2']:,} L2 hits, "
        f"{counts['miss']:,} misses, {counts['faults']:,} faults, {len(step.changed):,} frames changed owner"
    )
    if len(step.violations):
        line += f", {len(step.violations)} frames in violation"
    return "\n".join((line, *map(_event, step.events)))


def _event(event: dict[str, Any]) -> str:
    check = f", check {event['check']}" if event["check"] else ""
    return f"  {event['vm']}: {event['title']}: {event['outcome'].replace('_', ' ')}{check}"
