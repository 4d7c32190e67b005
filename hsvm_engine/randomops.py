"""A machine beside its slow twin: both do the same random operations, and what differs is an error in one of them."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.core.machine import Machine
from hsvm_engine.operations import OPERATIONS
from hsvm_engine.randomstream import Image, RandomOperations
from hsvm_engine.twin import Twin

__all__ = [
    "CORES",
    "Difference",
    "FRAMES",
    "HYPERVISOR_FRAMES",
    "Image",
    "MACHINE_ID",
    "RandomOperations",
    "Tally",
    "comparable",
    "compare",
    "for_machine",
    "for_twin",
    "pair",
    "visible",
]

FRAMES, HYPERVISOR_FRAMES, PROTECTED_FRAMES, CORES = 1600, 64, 56, 2
MOST_VMS = 4
MACHINE_ID = "0123456789abcdef" * 2
HIDDEN = frozenset(("check", "inputs", "hit", "references"))
CHANGES = frozenset(("OK", "E_STATE"))  # a release that is stopped half-way is the one refusal that changes something
READS = frozenset(name for name in OPERATIONS if "read" in name or name in ("npt_locate", "guest_registers", "preempt"))


Tally = Counter[tuple[str, str]]


class Applies(Protocol):
    """What a machine and its twin have in common."""

    def apply(self, op: Any, /) -> dict[str, Any]: ...
    def dump(self) -> dict[str, Any]: ...
    def check_invariants(self) -> object: ...


@dataclass(frozen=True)
class Difference:
    """Where machine and twin part: the number of the operation, what was asked, what each said."""

    number: int
    op: Any
    machine: Any
    twin: Any

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: a wild operation may be of any type."""
        try:
            op = json.loads(json.dumps(self.op, allow_nan=False))
        except (TypeError, ValueError):
            op = repr(self.op)
        return {"number": self.number, "op": op, "machine": self.machine, "twin": self.twin}


def pair(architecture: str, **options: Any) -> tuple[Machine, Twin]:
    """A machine and its twin of the small shape in which everything collides; both get `options`."""
    protected = PROTECTED_FRAMES if ARCHITECTURES[architecture].protected_region else 0
    shape = (FRAMES, HYPERVISOR_FRAMES, protected, CORES, architecture)
    options = {"machine_id": MACHINE_ID, **options}
    # The twin's TLB never runs full. Translations can be stale, so the machine's must not either.
    tlb = {"l1": {"sets": 32, "ways": 64}, "l2": {"sets": 32, "ways": 64}}
    return Machine(*shape, options=options, tlb=tlb), Twin(*shape, options=options)


def for_machine(op: Any) -> Any:
    """The operation as the machine is asked: an image is the one that it made itself."""
    return {**op, "image": op["image"].machine} if _has_image(op) else op


def for_twin(op: Any) -> Any:
    return {**op, "image": op["image"].twin} if _has_image(op) else op


def _has_image(op: Any) -> bool:
    return isinstance(op, dict) and isinstance(op.get("image"), Image)


def comparable(op: Any, mine: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A machine's result as far as the twin can know it: not who refused and why, how an image or a table looks."""
    seen = {key: value for key, value in mine.items() if key not in HIDDEN}
    if "image" in seen and "image" in other and not _same_form(op, other["image"]):
        seen["image"] = other["image"]
    if "data" in seen and other.get("data", "") is None:
        seen["data"] = None
    return seen


def _same_form(op: Any, image: str) -> bool:
    """Whether the contract says every byte of an image: of an unsealed page it does. A twin's own tag is not zero."""
    return isinstance(op, dict) and op.get("op") == "swap_out" and image.endswith("00" * 16)


def visible(dump: dict[str, Any], twin: Twin) -> dict[str, Any]:
    """A machine's dump without frames that hold tables in the hypervisor's region: the twin has none in frames."""
    if twin.microcode:
        return dump
    return {**dump, "nonzero": [mfn for mfn in dump["nonzero"] if mfn >= HYPERVISOR_FRAMES]}


def compare(
    machine: Applies, twin: Twin, *, ops: int, seed: int, every: int = 100, tally: Tally | None = None
) -> Difference | None:
    """Drive both with the same `ops` random operations: the first difference, or None. What breaks raises.

    Results are compared after each operation. After every `every` operations the machine's invariants are checked;
    then, and at the end, dumps are compared and the twin's own invariants checked, unless nothing has changed since.
    `tally` counts the statuses that each operation answered.
    """
    source = RandomOperations(twin, seed)
    changed = True
    for number in range(1, ops + 1):
        op = source.next()
        mine, other = machine.apply(for_machine(op)), twin.apply(for_twin(op))
        seen = comparable(op, mine, other)
        if seen != other:
            return Difference(number, for_machine(op), seen, other)
        source.learn(op, mine, other)
        name = op.get("op") if isinstance(op, dict) else None
        if tally is not None and isinstance(name, str):
            tally[name, other["status"]] += 1
        if "vm" in other and len(twin.vms) > MOST_VMS:
            spare = {"op": "delete_vm", "vm": other["vm"]}
            machine.apply(spare), twin.apply(spare)
        changed |= other["status"] in CHANGES and name not in READS
        if number % every == 0 or number == ops:
            machine.check_invariants()
            if changed or number % 100 == 0 or number == ops:
                if difference := _state(number, op, machine, twin):
                    return difference
                twin.check_invariants()
            changed = False
    return None


def _state(number: int, op: Any, machine: Applies, twin: Twin) -> Difference | None:
    mine, other = visible(machine.dump(), twin), visible(twin.dump(), twin)
    parts = [key for key in other if mine.get(key) != other[key]]
    if not parts:
        return None
    only = [{key: dump.get(key) for key in parts} for dump in (mine, other)]
    return Difference(number, for_machine(op), *only)
