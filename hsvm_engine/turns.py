"""One step of a machine with what it was before and is afterwards: what questions about the step are made from.

Nothing is declared: the step is carried out, and both sides are asked of the machine. A look that would change
something (a read of a saved context) is taken back by `step_back`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from hsvm_engine.interpreter import NOTED, SKIPPED, Done, Verdict, run_attack

if TYPE_CHECKING:
    import numpy.typing as npt

    from hsvm_engine.attackfile import Attack
    from hsvm_engine.core.machine import Machine

OWNERS = {0: "free", 1: "hypervisor", 2: "hsvm"}
LEVELS = ("l1", "l2", "miss")


@dataclass(frozen=True)
class Facts:
    """A machine at one moment, as far as questions need it.

    leaves  handle -> rows (gpn, first frame, frames, perm);  ways  the valid rows of `Machine.tlb`
    cores   core -> (handle, vcpu);  counts  totals since boot
    """

    owners: npt.NDArray[np.uint16]
    slots: Mapping[int, int]
    nonzero: frozenset[int]
    leaves: Mapping[int, Any]
    ways: npt.NDArray[np.void]
    cores: Mapping[int, tuple[int, int]]
    counts: Mapping[str, int]

    def owner(self, mfn: int) -> str:
        """free, hypervisor, hsvm, or vm:<handle>."""
        slot = int(self.owners[mfn])
        return OWNERS.get(slot) or f"vm:{self.slots[slot]}"

    def leaf(self, handle: int, gpn: int) -> int | None:
        """The frame that a VM reaches by this guest page; None: none."""
        for first, mfn, size, _perm in self.leaves.get(handle, []):
            if first <= gpn < first + size:
                return int(mfn + gpn - first)
        return None

    @property
    def stale(self) -> int:
        return int((self.ways["state"] != 0).sum())

    @property
    def entries(self) -> frozenset[tuple[int, ...]]:
        """The valid TLB entries, each by core, level and what it translates."""
        names = ("core", "level", "set", "way", "dim", "vpn", "mfn", "size", "perm")
        return frozenset(zip(*(self.ways[name].tolist() for name in names), strict=True))


@dataclass(frozen=True)
class Turn:
    """A step of an attack or of a run.

    op, result  as applied and answered;  names  handle -> its name
    frame       the frame that the step is about; None: it is about none
    owner       of that frame, before and after: free, hypervisor, hsvm, vm:<handle>
    holds       whether there are bytes other than zeros in it, before and after
    level       of a guest's one access: l1, l2 or miss; "" for any other step
    references  table entries that were read for it
    entries     valid TLB entries before and after;  gone  of those before, how many are no more
    stale       entries that do not agree with the tables, before and after
    context     what the hypervisor is answered that asks for the registers of the vcpu that the step saved; "": none
    """

    number: int
    total: int
    architecture: str
    phase: str
    op: Mapping[str, Any]
    result: Mapping[str, Any]
    names: Mapping[int, str] = field(default_factory=dict)
    frame: int | None = None
    owner: tuple[str, str] = ("", "")
    holds: tuple[bool, bool] = (False, False)
    level: str = ""
    references: int = 0
    entries: tuple[int, int] = (0, 0)
    gone: int = 0
    stale: tuple[int, int] = (0, 0)
    context: str = ""
    saved: tuple[int, int] | None = None

    @property
    def done(self) -> bool:
        """Whether the machine was asked at all: notes and steps passed over are none of its business."""
        return self.result["status"] not in (NOTED, SKIPPED)


def facts_of(machine: Machine) -> Facts:
    """The machine now; nothing changes."""
    dump, ways, counts = machine.dump(), machine.tlb(), machine.counters()
    return Facts(
        owners=machine.ownership().copy(),
        slots={machine.slot_of(handle): handle for handle, _vcpus in dump["vms"]},
        nonzero=frozenset(dump["nonzero"]),
        leaves={int(handle): rows for handle, rows in dump["leaves"].items()},
        ways=ways[ways["valid"] != 0],
        cores={core: (handle, vcpu) for core, handle, vcpu in dump["cores"]},
        counts={name: int(counts[name]) for name in (*LEVELS, "references")},
    )


def between(before: Facts, after: Facts, op: Mapping[str, Any], result: Mapping[str, Any], **more: Any) -> Turn:
    """The turn that one operation made; `more`: number, total, architecture, phase, names, context and saved."""
    frame = _frame(before, after, op)
    seen = {name: after.counts[name] - before.counts[name] for name in after.counts}
    levels = [name for name in LEVELS if seen[name]]
    return Turn(
        op=op,
        result=result,
        frame=frame,
        owner=(before.owner(frame), after.owner(frame)) if frame is not None else ("", ""),
        holds=(frame in before.nonzero, frame in after.nonzero),
        level=levels[0] if len(levels) == 1 and seen[levels[0]] == 1 else "",
        references=seen["references"],
        entries=(len(before.entries), len(after.entries)),
        gone=len(before.entries - after.entries),
        stale=(before.stale, after.stale),
        **more,
    )


def _frame(before: Facts, after: Facts, op: Mapping[str, Any]) -> int | None:
    """The frame that the operation names, or that its page is or becomes, or the first that its VM has.

    What the step does decides nothing here but where a page had no frame: to ask about a frame must not tell its fate.
    """
    mfn, handle, core = op.get("mfn"), op.get("vm"), op.get("core")
    if _is_number(mfn):
        return mfn if mfn < len(before.owners) else None
    if handle is None and _is_number(core):
        handle = before.cores.get(core, (None, 0))[0]
    if not _is_number(handle):
        return None
    gpn = op["gpa"] >> 12 if _is_number(op.get("gpa")) else op.get("gpn")
    if _is_number(gpn):
        found = before.leaf(handle, gpn)
        return found if found is not None else after.leaf(handle, gpn)
    slot = next((slot for slot, name in before.slots.items() if name == handle), None)
    owned = np.flatnonzero(before.owners == slot).tolist() if slot is not None else []
    return owned[0] if owned else None


def _is_number(value: object) -> TypeGuard[int]:
    """What the machine takes for one: anything else it has refused."""
    return type(value) is int and value >= 0


def turns(
    attack: Attack,
    architecture: str,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    at: Collection[int] | None = None,
) -> tuple[Verdict, dict[int, Turn]]:
    """Run the attack and give its turns by step, those of `at` (None: all of them)."""
    watch = _Watch(architecture, at)
    verdict = run_attack(attack, architecture, seed=seed, options=options, watch=watch)
    total = len(verdict.steps)
    return verdict, {turn["number"]: _turn(turn, total) for turn in watch.kept}


def _turn(kept: dict[str, Any], total: int) -> Turn:
    if kept["before"] is None:
        rest = {name: value for name, value in kept.items() if name not in ("before", "after", "context", "saved")}
        return Turn(total=total, **rest)
    return between(total=total, **kept)


@dataclass
class _Watch:
    """Notes what each step found and left."""

    architecture: str
    at: Collection[int] | None
    names: dict[int, str] = field(default_factory=dict)
    before: Facts | None = None
    kept: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, machine: Machine, done: Done | None, bind: str | None) -> None:
        number = done.number if done is not None else 0
        if done is not None and done.op["op"] in ("create_vm", "import_vm") and done.result["status"] == "OK":
            self.names[done.result["vm"]] = bind or f"VM {done.result['vm']:#x}"
        here = self._wanted(number)
        after = facts_of(machine) if here or self._wanted(number + 1) else None
        if here and done is not None and after is not None:
            told = done.result["status"] not in (NOTED, SKIPPED)
            saved = self.before.cores.get(done.op.get("core", -1)) if self.before is not None else None
            saved = saved if done.op["op"] == "context_save" and done.result["status"] == "OK" else None
            self.kept.append(
                {
                    "number": number,
                    "architecture": self.architecture,
                    "phase": done.phase,
                    "op": done.op,
                    "result": done.result,
                    "names": dict(self.names),
                    "before": self.before if told else None,
                    "after": after if told else None,
                    "context": context_answer(machine, saved),
                    "saved": saved,
                }
            )
        self.before = after

    def _wanted(self, number: int) -> bool:
        return self.at is None or number in self.at


def context_answer(machine: Machine, saved: tuple[int, int] | None) -> str:
    """What the hypervisor is answered when it asks for these saved registers; "" for no vcpu."""
    if saved is None:
        return ""
    op = machine.op
    answer = machine.apply({"op": "hv_read_context", "vm": saved[0], "vcpu": saved[1]})
    machine.step_back(op)
    check = answer.get("check", "")
    return f"{answer['status']} {check}".strip()
