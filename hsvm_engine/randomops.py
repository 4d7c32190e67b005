"""Random operations that drive a machine beside its slow twin: 70 % sensible, 15 % stale, 15 % wild.

Sensible ones are made from the twin's state and mostly succeed; stale ones name what is dead, unmapped or someone
else's; wild ones have a field of another type or range, one too many, or one missing.
"""

import json
import random
from dataclasses import dataclass
from typing import Any, Protocol

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.core.machine import Machine
from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES
from hsvm_engine.twin import FREE, HYPERVISOR, PAGE, Twin, Vm

FRAMES, HYPERVISOR_FRAMES, PROTECTED_FRAMES, CORES = 1600, 128, 32, 2
SAFE_ON_NESTED = 8  # the hypervisor's frames below this one hold no table on any row
MOST_VMS = 4
HUGE_PAGES = (512, 1024)
WILD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    1.5,
    float("nan"),
    1 << 36,
    1 << 48,
    (1 << 64) - 1,
    1 << 64,
    "",
    "r",
    "zz",
    "AB",
    "0",
    b"ab",
    [],
    {},
)
WEIGHTS = {
    "create_vm": 1.5,
    "delete_vm": 1,
    "page_map": 22,
    "page_unmap": 7,
    "balloon": 1,
    "claim": 3,
    "release": 3,
    "hv_read": 6,
    "hv_write": 5,
    "hv_read_context": 1,
    "hv_write_context": 1,
    "context_save": 2,
    "context_restore": 9,
    "set_npt_root": 1,
    "hv_flush": 1,
    "npt_locate": 2,
    "guest_read": 8,
    "guest_write": 9,
    "guest_fetch": 2,
    "guest_map": 12,
    "guest_unmap": 2,
    "guest_access": 8,
    "guest_registers": 2,
    "guest_set_registers": 2,
    "guest_flush": 1,
    "dma_read": 2,
    "dma_write": 2,
}
assert WEIGHTS.keys() == OPERATIONS.keys()


class Applies(Protocol):
    """What a machine and its twin have in common."""

    def apply(self, op: Any, /) -> dict[str, Any]: ...
    def dump(self) -> dict[str, Any]: ...
    def check_invariants(self) -> object: ...


class RandomOperations:
    """An endless stream of operations; the same seed and the same twin give the same stream."""

    def __init__(self, twin: Twin, seed: int) -> None:
        self.twin = twin
        self.random = random.Random(seed)
        self.dead: list[int] = [0, 99]
        names = [name for name in WEIGHTS if twin.hsvm or name != "set_npt_root"]
        self.names = self.random.choices(names, [WEIGHTS[name] for name in names], k=4096)

    def next(self) -> Any:
        """The next operation, never one that the twin of this row has no answer to."""
        while True:
            op = self._any()
            if self.twin.hsvm or self._has_answer(op):
                return op

    def _any(self) -> Any:
        kind = self.random.random()
        op = self._operation(self.random.choice(self.names), stale=0.7 <= kind < 0.85)
        return op if kind < 0.85 else self._wild(op)

    def _has_answer(self, op: Any) -> bool:
        """On `nested` nobody is kept from the frames that hold tables; the twin's tables are not in frames."""
        mfn = op.get("mfn") if isinstance(op, dict) else None
        if not isinstance(mfn, int):
            return True
        reached = 512 if op.get("size") == 512 else 2  # a burst may run into the next frame
        return mfn >= HYPERVISOR_FRAMES or mfn + reached <= SAFE_ON_NESTED

    def _operation(self, name: str, *, stale: bool) -> dict[str, Any]:
        op: dict[str, Any] = {"op": name}
        for key in OPERATIONS[name].fields:
            op[key] = getattr(self, f"_{key}")(op, stale)
        return op

    def _wild(self, op: dict[str, Any]) -> Any:
        pick = self.random.random()
        key = self.random.choice(list(op))
        if pick < 0.1:
            return self.random.choice((None, [], "create_vm", 7, {}, {"op": "rule_the_world"}, {"op": None}))
        if pick < 0.2:
            del op[key]
        elif pick < 0.3:
            op[self.random.choice(("when", "vm", "core", "size"))] = 1
        else:
            op[key] = self.random.choice(WILD)
        return op

    # One maker per field. `op` holds the fields made before.

    def _handle_of(self, core: int) -> int | None:
        running = self.twin.on_core[core]
        return running[0] if running else None

    def _vm(self, op: dict[str, Any], stale: bool) -> int:
        living = list(self.twin.vms)
        if stale and self.random.random() < 0.5 or not living:
            return self.random.choice(self.dead)
        return self.random.choice(living)

    def _vcpus(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 1, 2, 3))

    def _vcpu(self, op: dict[str, Any], stale: bool) -> int:
        found = self.twin.vms.get(op["vm"])
        return self.random.randrange(found.vcpus) if found and not stale else self.random.randrange(4)

    def _core(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.randrange(CORES)

    def _size(self, op: dict[str, Any], stale: bool) -> int:
        aligned = op["gpn"] % 512 == 0 and op["mfn"] % 512 == 0
        return 512 if aligned and (op["mfn"] or stale) and self.random.random() < 0.8 else 1

    def _pages(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 2, 3, 600 if stale else 5))

    def _gpn(self, op: dict[str, Any], stale: bool) -> int:
        pick = self.random.random()
        mapped = self.twin.vms.get(op["vm"]) if "vm" in op else None
        if op["op"] in ("page_unmap", "npt_locate") and mapped and not stale:
            gpn = self._page(mapped)
            if gpn is not None and (gpn not in mapped.guest_tables or pick < 0.2):
                return gpn
        if pick < 0.75:
            return self.random.randrange(24)
        if pick < 0.9:
            return self.random.choice((512, 1024, 1 << 18))
        return self.random.choice((513, 777, 1 << 27, (1 << 36) - 1, (1 << 36) - 512))

    def _mfn(self, op: dict[str, Any], stale: bool) -> int:
        wanted = {"page_map": FREE, "claim": FREE, "release": HYPERVISOR, "hv_write": HYPERVISOR}.get(op["op"])
        if op["op"] == "page_map" and op["gpn"] % 512 == 0 and self.random.random() < 0.7:
            return self.random.choice(HUGE_PAGES)
        for _ in range(1 if stale or wanted is None else 8):
            mfn = self.random.choice(
                (self.random.randrange(8), self.random.randrange(120, 200), self.random.randrange(FRAMES))
            )
            if self.twin.owner[mfn] == wanted:
                break
        return mfn

    def _perm(self, op: dict[str, Any], stale: bool) -> str:
        return self.random.choice(("rw", "rw", "rw", "rw", "rwx", "r", "rx"))

    def _kind(self, op: dict[str, Any], stale: bool) -> str:
        return self.random.choice("rrwx")

    def _offset(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((0, 0, 8, 4080, self.random.randrange(PAGE)))

    def _length(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 8, 16, 64, 4096 if stale else 16))

    def _data(self, op: dict[str, Any], stale: bool) -> str:
        length = self.random.choice((1, 8, 16, 16, 4096 if stale else 5))
        return (b"\0" * length if self.random.random() < 0.3 else self.random.randbytes(length)).hex()

    def _gpa(self, op: dict[str, Any], stale: bool) -> int:
        handle = self._handle_of(op["core"])
        gpn = self._page(self.twin.vms[handle]) if handle is not None else None
        if stale or gpn is None:
            return self.random.choice((0, 4090, 16 << 12, (1 << 48) - 8, self.random.randrange(1 << 48)))
        return gpn * PAGE + self.random.choice((0, 0, 100, 4090))

    def _page(self, vm: Vm) -> int | None:
        """Some mapped page of a VM."""
        slots = [(base, slot) for base, slot in vm.slots() if slot]
        if not slots:
            return None
        base, slot = self.random.choice(slots)
        return base | (self.random.choice(list(slot)) if isinstance(slot, dict) else self.random.randrange(512))

    def _gva(self, op: dict[str, Any], stale: bool) -> int:
        page = self.random.choice((0, 1, 2, 3, 516, (1 << 27) + 5, (1 << 36) - 1)) << 12
        loose = stale or op["op"] not in ("guest_map", "guest_unmap")
        return page + (self.random.randrange(PAGE) if loose and self.random.random() < 0.5 else 0)

    def _device(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.randrange(4)

    def _registers(self, op: dict[str, Any], stale: bool) -> dict[str, int]:
        names = self.random.sample(REGISTER_NAMES[:-1], self.random.randrange(3))
        registers = {name: self.random.getrandbits(64) for name in names}
        handle = self._handle_of(op["core"]) if "core" in op else None
        lost = handle is not None and self.twin.vms[handle].leaf(self.twin.registers[op["core"]]["cr3"] >> 12) is None
        if lost or self.random.random() < 0.03:
            registers["cr3"] = 0 if lost or self.random.random() < 0.5 else self.random.randrange(24) << 12
        return registers


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
    """A machine and its twin of the small shape in which everything collides; `options` go to the machine alone."""
    protected = PROTECTED_FRAMES if ARCHITECTURES[architecture].protected_region else 0
    shape = (FRAMES, HYPERVISOR_FRAMES, protected, CORES, architecture)
    # The twin's TLB never runs full. Where translations can be stale, the machine's must not either.
    tlb = {} if shape[2] else {"l1": {"sets": 32, "ways": 64}, "l2": {"sets": 32, "ways": 64}}
    return Machine(*shape, options=options, tlb=tlb), Twin(*shape)


def comparable(result: dict[str, Any], name: object) -> dict[str, Any]:
    """A result without what only the machine knows: who refused and why, where a table lies, how fast the TLB was."""
    hidden = {"check", "inputs"}
    if name == "npt_locate":
        hidden |= {"mfn", "offset"}
    if name == "guest_access":
        hidden |= {"hit", "references"}
    return {key: value for key, value in result.items() if key not in hidden}


def visible(dump: dict[str, Any], twin: Twin) -> dict[str, Any]:
    """A machine's dump without the hypervisor's frames that hold tables on `nested`: the twin has none in frames."""
    if twin.hsvm:
        return dump
    return {**dump, "nonzero": [mfn for mfn in dump["nonzero"] if not SAFE_ON_NESTED <= mfn < HYPERVISOR_FRAMES]}


def compare(machine: Applies, twin: Twin, *, ops: int, seed: int, every: int = 100) -> Difference | None:
    """Drive both with the same `ops` random operations: the first difference, or None. What breaks raises.

    Results are compared after each operation, dumps and invariants after every `every` operations and at the end.
    """
    source = RandomOperations(twin, seed)
    for number in range(1, ops + 1):
        op = source.next()
        name = op.get("op") if isinstance(op, dict) else None
        mine, other = comparable(machine.apply(op), name), comparable(twin.apply(op), name)
        if mine != other:
            return Difference(number, op, mine, other)
        if name == "create_vm" and mine["status"] == "OK" and len(twin.vms) > MOST_VMS:
            spare = {"op": "delete_vm", "vm": mine["vm"]}
            machine.apply(spare), twin.apply(spare)
        if name == "delete_vm" and mine["status"] == "OK":
            source.dead = [*source.dead[-7:], op["vm"]]
        if number % every == 0 or number == ops:
            mine, other = visible(machine.dump(), twin), twin.dump()
            if mine != other:
                changed = [key for key in other if mine.get(key) != other[key]]
                return Difference(number, op, {k: mine.get(k) for k in changed}, {k: other[k] for k in changed})
            machine.check_invariants()
            twin.check_invariants()
    return None
