"""The recorded story of the demo page: two hosts played by the engine, written as the messages that a page would get.

Its records (webapp/live/records.py) carry the milliseconds since the start. Nothing in it is drawn by hand: maps,
TLBs, counters, verdicts and the bytes of the secret come from the engine, the settlement from the policy language.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from django.conf import settings

from webapp.live.records import RECORD, TEXT, record
from webapp.runs import engine
from webapp.runs.engine import PAGES_PER_MIB, Player, Scenario, Step, VmSpec
from webapp.runs.picture import OPERATOR, RunPicture

VERSION: Final = 3
TICK: Final = 200  # milliseconds between two pictures of the map
ACCESSES: Final = 2_000  # a VM's references in one tick
TLB_EVERY, COUNTERS_EVERY = 5, 5  # ticks
NESTED, HSVM = 1, 2  # numbers of the two runs in the recording
ATTACK: Final = "A03"
VICTIM: Final = "b-web"
VMS: Final = (("a-db", "sqlite3", 0), ("b-web", "gzip", 1), ("a-mail", "gzip", 0), ("b-shop", "sqlite3", 1))


class Line(NamedTuple):
    """A caption as the page prints it."""

    at: str
    text: str


def path() -> Path:
    """The file, by engine version: another engine makes its own."""
    return Path(settings.RUN_DIR) / f"story-{engine.ENGINE_VERSION}-{VERSION}.recording"


def machines() -> dict[int, dict[str, Any]]:
    """What decides how long a TLB entry lasts, for each run of the recording."""
    rows = ((NESTED, "nested"), (HSVM, "hsvm"))
    return {run: engine.tlb_facts(machine={"architecture": row}, flush="tagged") for run, row in rows}


def story() -> list[Line]:
    """The recording's captions with their times; empty while there is no recording."""
    try:
        changed = path().stat().st_mtime_ns
    except FileNotFoundError:
        return []
    return list(_captions(path(), changed))


@lru_cache(maxsize=2)
def _captions(file: Path, changed: int) -> tuple[Line, ...]:
    data, at, lines = file.read_bytes(), 0, []
    while at < len(data):
        ms, kind, length = RECORD.unpack_from(data, at)
        payload = data[at + RECORD.size : at + RECORD.size + length]
        at += RECORD.size + length
        message = json.loads(payload) if kind == TEXT else {}
        if message.get("type") == "caption":
            lines.append(Line(f"{ms // 60_000}:{ms // 1000 % 60:02d}", message["text"]))
    return tuple(lines)


def make(*, settlement: Sequence[str]) -> Path:
    """Write the recording if this engine has not made it yet. `settlement`: captions of a real negotiation's result."""
    target = path()
    if target.is_file():
        return target
    tape = Tape()
    nested = Stage(tape, NESTED, "nested")
    hsvm = Stage(tape, HSVM, "hsvm")
    _arrive(tape, nested)
    _attack_nested(tape, nested)
    _attack_hsvm(tape, hsvm)
    tape.mark("A settlement")
    for text in settlement:
        tape.caption(text)
        hsvm.play(20_000 // max(1, len(settlement)))
    tape.mark("Your turn")
    tape.caption("Every moment can be looked at again: press Step back once, then go on.")
    tape.mark("wait")
    hsvm.play(6_000)
    tape.caption(
        "That was the story. Sign in to declare your own wishes, or open the attack table to try every attack."
    )
    hsvm.play(2_000)
    waiting = target.with_suffix(".part")
    waiting.write_bytes(b"".join(tape.records))
    os.replace(waiting, target)
    return target


class Tape:
    """Messages in the order of their time."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.now = 0

    def put(self, message: str | bytes) -> None:
        self.records.append(record(message, at=self.now))

    def caption(self, text: str) -> None:
        self.put(json.dumps({"type": "caption", "text": text}, ensure_ascii=False))

    def mark(self, name: str) -> None:
        self.put(json.dumps({"type": "mark", "name": name}))


class Stage:
    """One host of the story, whose pictures go onto the tape as they would go to an operator's page."""

    def __init__(self, tape: Tape, run: int, architecture: str) -> None:
        machine = {
            "frames": 64 * PAGES_PER_MIB,
            "hypervisor_frames": engine.HYPERVISOR_FRAMES,
            "protected_frames": engine.PROTECTED_FRAMES if architecture == "hsvm" else 0,
            "cores": 2,
            "architecture": architecture,
        }
        self.tape, self.run = tape, run
        self.player = Player(Scenario(machine=machine, seed=2013))
        self.picture = RunPicture(self.player.state(), slots_of=lambda slug: frozenset(), tenant_of={})
        self.events = 0
        self.ticks = 0

    def start(self, name: str, trace: str, core: int) -> None:
        spec = VmSpec(name=name, vm_pages=8 * PAGES_PER_MIB, trace=trace, core=core, seed=len(name), balloon="on")
        self.player.start_vm(spec)

    def show(self) -> None:
        """Everything of this host, for the moment at which the story comes to it."""
        for part in ("map", "counters", "tlb"):
            self.tape.put(self.picture.keyframe(self.run, part, OPERATOR))

    def play(self, milliseconds: int) -> None:
        for _ in range(milliseconds // TICK):
            self.tick()

    def tick(self) -> None:
        base = self.picture.seq
        step = self.player.step(ACCESSES)
        touched = self.picture.apply(engine.entry_of(step))
        parts = ["map"]
        parts += ["counters"] if self.ticks % COUNTERS_EVERY == 0 else []
        for part in parts:
            frame = self.picture.delta(self.run, part, OPERATOR, base, [touched])
            self.tape.put(frame if frame is not None else self.picture.keyframe(self.run, part, OPERATOR))
        if self.ticks % TLB_EVERY == 0:
            self.tape.put(self.picture.keyframe(self.run, "tlb", OPERATOR))
        self._log(step)
        self.ticks += 1
        self.tape.now += TICK

    def _log(self, step: Step) -> None:
        if not step.events:
            return
        shown = []
        for event in step.events:
            self.events += 1
            at = f"1970-01-01T00:{self.tape.now // 60_000:02d}:{self.tape.now // 1000 % 60:02d}Z"
            fields = ("op", "kind", "vm", "title", "outcome", "detail")
            told = {name: event[name] for name in fields}
            shown.append({"number": self.events, "at": at, "check": event["check"] or "", **told})
        base = self.events - len(shown)
        head = {
            "topic": f"run/{self.run}/log",
            "kind": "delta" if base else "keyframe",
            "seq": self.events,
            "base": base,
        }
        self.tape.put(json.dumps({**head, "op": step.op, "data": {"events": shown}}))


def _arrive(tape: Tape, stage: Stage) -> None:
    stage.show()
    tape.mark("Four VMs")
    tape.caption("A host without protection. Four VMs of two tenants come to it; each cell is one page of its memory.")
    for name, trace, core in VMS:
        stage.play(2_000)
        stage.start(name, trace, core)
    stage.play(15_000 - tape.now)


def _attack_nested(tape: Tape, stage: Stage) -> None:
    tape.mark("The attack, unprotected")
    tape.caption(f"Somebody has taken over the hypervisor. It maps a page of {VICTIM} into a VM of its own.")
    stage.play(5_000)
    verdict = stage.player.drill(ATTACK, VICTIM)
    stage.tick()
    tape.caption(_seen(verdict))
    stage.play(35_000 - tape.now)


def _seen(verdict: dict[str, Any]) -> str:
    """What the engine observed, with the bytes that the attacker got."""
    got = ((verdict["step"] or {}).get("result") or {}).get("data", "")
    bytes_shown = f": {got}" if got else ""
    return (
        f"{verdict['outcome']}. The page changed hands, and the attacker reads {VICTIM}'s secret in clear{bytes_shown}."
    )


def _attack_hsvm(tape: Tape, stage: Stage) -> None:
    for name, trace, core in VMS:
        stage.start(name, trace, core)
    stage.player.step(200_000)
    stage.picture = RunPicture(stage.player.state(), slots_of=lambda slug: frozenset(), tenant_of={})
    tape.mark("The attack on H-SVM")
    stage.show()
    tape.caption("The same four VMs on an H-SVM host. Here the hardware keeps a table of who owns each page.")
    stage.play(7_000)
    tape.caption("The same attack: the hypervisor asks the hardware to map that page into its own VM.")
    stage.play(4_000)
    verdict = stage.player.drill(ATTACK, VICTIM)
    stage.tick()
    tape.caption(_stopped(verdict))
    stage.play(60_000 - tape.now)


def _stopped(verdict: dict[str, Any]) -> str:
    inputs = verdict["inputs"]
    page = f" page {inputs['mfn']:#x} belongs to {VICTIM}" if isinstance(inputs.get("mfn"), int) else ""
    check = (verdict["check"] or "").replace("_", " ")
    return f"{verdict['outcome']} by the {check}:{page}, and only a free page may be mapped. Nothing changed."
