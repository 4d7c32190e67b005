"""Carries an attack out again and notes the state that its steps left, for people who look at it step by step.

The recording changes nothing: seed, operations and digest at the end are those of `run_attack`. What a look at the
registers would change (it is an operation of the machine) is taken back by `step_back` before the attack goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hsvm_engine.interpreter import Done, Verdict, run_attack

if TYPE_CHECKING:
    from hsvm_engine.attackfile import Attack
    from hsvm_engine.core.machine import Machine

FRAMES_SHOWN = 24  # of those that an attack touched, the lowest
PERMISSIONS = ("r", "w", "x")


@dataclass(frozen=True)
class Frame:
    """A frame after a step. `maps`: who reaches it by which guest page and how, as (handle, gpn, perm)."""

    owner: str
    maps: tuple[tuple[int, int, str], ...]
    holds_bytes: bool


@dataclass(frozen=True)
class TlbEntry:
    """A valid entry. `handle` None: the VM is gone. `size` in frames; `guest_virtual`: vpn is of the guest's own."""

    core: int
    level: int
    handle: int | None
    vpn: int
    mfn: int
    size: int
    perm: str
    guest_virtual: bool
    stale: bool


@dataclass(frozen=True)
class State:
    """The machine after step `number`; 0 is before the first. `op`: the number of its last operation.

    cores      core -> (handle, vcpu) that runs there
    registers  (handle, vcpu) -> the registers as that guest would read them now; None where it can no longer run
    names      handle -> its name in the attack file, of VMs that live
    """

    number: int
    op: int
    frames: Mapping[int, Frame]
    tlb: tuple[TlbEntry, ...]
    cores: Mapping[int, tuple[int, int]]
    registers: Mapping[tuple[int, int], Mapping[str, int] | None]
    names: Mapping[int, str]


@dataclass(frozen=True)
class Recording:
    """An execution with the states that were asked for, and how many touched frames are not among those shown."""

    verdict: Verdict
    states: tuple[State, ...]
    left_out: int


def record(
    attack: Attack,
    architecture: str,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    at: Collection[int] | None = None,
) -> Recording:
    """Run the attack and keep the state after each step of `at` (None: after every step); 0 is always kept."""
    notes = _Notes(at)
    verdict = run_attack(attack, architecture, seed=seed, options=options, watch=notes)
    touched = sorted(notes.touched)
    shown = frozenset(touched[:FRAMES_SHOWN])
    return Recording(verdict, tuple(notes.states(shown)), max(0, len(touched) - FRAMES_SHOWN))


@dataclass
class _Notes:
    """What is noted while the attack runs; which frames matter is known only at its end."""

    at: Collection[int] | None
    touched: set[int] = field(default_factory=set)
    names: dict[int, str] = field(default_factory=dict)
    boot: Any = None
    kept: list[tuple[State, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, machine: Machine, done: Done | None, bind: str | None) -> None:
        number = 0
        if done is None:
            self.boot = machine.ownership().copy()
        else:
            number = done.number
            if done.op["op"] in ("create_vm", "import_vm") and done.result["status"] == "OK":
                self.names[done.result["vm"]] = bind or f"VM {done.result['vm']:#x}"
            mfn = done.op.get("mfn")
            if isinstance(mfn, int) and mfn < machine.frames:
                self.touched.add(mfn)
        if number and self.at is not None and number not in self.at:
            return
        self.touched.update(int(mfn) for mfn in np.flatnonzero(machine.ownership() != self.boot)[: 4 * FRAMES_SHOWN])
        dump = machine.dump()
        cores = {core: (handle, vcpu) for core, handle, vcpu in dump["cores"]}
        state = State(
            number=number,
            op=machine.op,
            frames={},
            tlb=tuple(_tlb(machine)),
            cores=cores,
            registers=_registers(machine, cores, dump["vms"]),
            names={handle: self.names.get(handle, f"VM {handle:#x}") for handle, _ in dump["vms"]},
        )
        self.kept.append((state, {name: dump[name] for name in ("owners", "leaves", "nonzero")}))

    def states(self, shown: frozenset[int]) -> list[State]:
        return [replace(state, frames=_frames(dump, shown)) for state, dump in self.kept]


def _frames(dump: Mapping[str, Any], shown: frozenset[int]) -> dict[int, Frame]:
    maps: dict[int, list[tuple[int, int, str]]] = {mfn: [] for mfn in sorted(shown)}
    for handle, leaves in dump["leaves"].items():
        for gpn, mfn, size, perm in leaves:
            for each in shown.intersection(range(mfn, mfn + size)):
                maps[each].append((int(handle), gpn + each - mfn, perm))
    bytes_in = shown.intersection(dump["nonzero"])
    return {mfn: Frame(_owner(dump["owners"], mfn), tuple(found), mfn in bytes_in) for mfn, found in maps.items()}


def _owner(owners: list[list[Any]], mfn: int) -> str:
    return next(str(owner) for first, count, owner in owners if first <= mfn < first + count)


def _tlb(machine: Machine) -> list[TlbEntry]:
    rows = machine.tlb()
    return [
        TlbEntry(
            core=int(row["core"]),
            level=int(row["level"]),
            handle=machine.handle_of(int(row["slot"])) if row["slot"] else None,
            vpn=int(row["vpn"]),
            mfn=int(row["mfn"]),
            size=int(row["size"]),
            perm="".join(letter for bit, letter in enumerate(PERMISSIONS) if int(row["perm"]) >> bit & 1),
            guest_virtual=int(row["dim"]) == 2,
            stale=bool(row["state"]),
        )
        for row in rows[rows["valid"] != 0]
    ]


def _registers(
    machine: Machine, cores: Mapping[int, tuple[int, int]], vms: list[list[int]]
) -> dict[tuple[int, int], Mapping[str, int] | None]:
    """What each guest would read now. A saved vcpu is put on a core for a moment, and all is taken back."""
    found: dict[tuple[int, int], Mapping[str, int] | None] = {}
    on = {runs: core for core, runs in cores.items()}
    for handle, vcpus in vms:
        for vcpu in range(vcpus):
            before = machine.op
            core = on.get((handle, vcpu))
            if core is None:
                core = next((each for each in range(machine.cores) if each not in cores), 0)
                if core in cores:
                    machine.apply({"op": "context_save", "core": core})
                machine.apply({"op": "context_restore", "vm": handle, "vcpu": vcpu, "core": core})
            found[handle, vcpu] = machine.apply({"op": "guest_registers", "core": core}).get("registers")
            machine.step_back(before)
    return found
