"""Random operations that drive a machine beside its slow twin: 70 % sensible, 15 % stale, 15 % wild.

Sensible ones are made from the twin's state and mostly succeed; stale ones name what is dead, unmapped or someone
else's; wild ones have a field of another type or range, one too many, or one missing.
"""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES
from hsvm_engine.twin import Twin
from hsvm_engine.twinvm import FREE, HUGE, HYPERVISOR, PAGE, Page, Vm

HUGE_PAGES = (512, 1024)
LARGE_IMAGE = 400_000  # digits; larger ones are imported now and then only
FEW_PAGES = 24  # guest pages that most operations are about
WILD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1.5, float("nan"), 1 << 36, 1 << 48, (1 << 64) - 1, 1 << 64),
    *("", "r", "zz", "AB", "0", "any", b"ab", [], [1], {}),
)
GVAS = (0, 0, 1, 1, 2, 3, 516, (1 << 27) + 5, (1 << 36) - 1)
WEIGHTS = {
    "create_vm": 1.2,
    "delete_vm": 0.7,
    "page_map": 19,
    "page_unmap": 5,
    "balloon": 0.6,
    "swap_out": 4,
    "swap_in": 5,
    "context_save": 2.5,
    "context_restore": 8,
    "claim": 3,
    "release": 2,
    "hv_read": 4,
    "hv_write": 4,
    "hv_read_context": 0.7,
    "hv_write_context": 0.7,
    "set_npt_root": 0.7,
    "export_vm": 0.7,
    "import_vm": 1.2,
    "merge": 4,
    "unmerge": 2,
    "hv_flush": 1,
    "npt_locate": 2,
    "inject": 1,
    "preempt": 0.5,
    "guest_read": 6,
    "guest_write": 6,
    "guest_fetch": 2,
    "guest_map": 8,
    "guest_unmap": 1.5,
    "guest_access": 6,
    "guest_registers": 1.5,
    "guest_set_registers": 2,
    "guest_share": 4,
    "guest_unshare": 2.5,
    "guest_mergeable": 6,
    "guest_flush": 0.7,
    "dma_read": 3,
    "dma_write": 3,
    "cold_boot_read": 0.7,
}
assert WEIGHTS.keys() == OPERATIONS.keys()
MAPPED_PAGE = ("page_unmap", "swap_out", "npt_locate", "guest_share", "guest_unshare", "guest_mergeable")
TABLE_CHANGES = ("release", "claim")  # what may touch the region that holds tables on hsvm-smm


@dataclass(frozen=True)
class Image:
    """One image as the machine and as its twin made it: how each writes it is its own business."""

    op: str
    machine: str
    twin: str
    page: Page = (0, 0)

    def changed(self, change: Callable[[str], str]) -> "Image":
        return replace(self, machine=change(self.machine), twin=change(self.twin))

    def damaged(self, random: random.Random, *, sealed: bool) -> "Image":
        """A bit flipped or bytes cut off, in both at the same place; in the body only where it is sealed."""
        if random.random() < 0.25:
            cut = 2 * random.randrange(1, 32)
            return self.changed(lambda text: text[:-cut])
        place, bit = random.random(), random.randrange(8)
        if not sealed or place < 0.1:
            return self.changed(lambda text: flipped(text, int(place * 8) % 8, bit))
        # A swap image has one form, and all of it after the magic is sealed; an exported one is each side's own.
        first = 8 if self.op == "swap_out" else 16
        return self.changed(lambda text: flipped(text, first + int(place * (len(text) // 2 - first)), bit))


def flipped(text: str, byte: int, bit: int) -> str:
    """Hex with one bit of one byte turned over."""
    return text[: 2 * byte] + f"{int(text[2 * byte : 2 * byte + 2], 16) ^ 1 << bit:02x}" + text[2 * byte + 2 :]


class RandomOperations:
    """An endless stream of operations; the same seed and the same twin give the same stream.

    An image in an operation is an `Image` once `learn` was told of some: `told` gives each side its own.
    """

    def __init__(self, twin: Twin, seed: int) -> None:
        self.twin = twin
        self.random = random.Random(seed)
        self.dead: list[int] = [0, 99]
        self.images: dict[str, deque[Image]] = {"swap_out": deque(maxlen=40), "export_vm": deque(maxlen=4)}
        self.gvas: dict[int, deque[int]] = {}  # virtual pages that a guest has mapped
        self.names = self.random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=8192)

    def next(self) -> Any:
        """The next operation, never one that the twin of this row has no answer to."""
        while True:
            op = self._any()
            if self.twin.microcode or self._has_answer(op):
                return op

    def learn(self, op: Any, machine: dict[str, Any], twin: dict[str, Any]) -> None:
        """Keep what later operations are made of: images, and handles that died."""
        name = op.get("op") if isinstance(op, dict) and twin["status"] == "OK" else None
        if name in ("delete_vm", "export_vm"):
            self.dead = [*self.dead[-7:], op["vm"]]
        if name == "guest_map":
            self.gvas.setdefault(self.twin.running(op["core"]).handle, deque(maxlen=8)).append(op["gva"] >> 12)
        if name == "swap_out":
            self.images[name].append(Image(name, machine["image"], twin["image"], (op["vm"], op["gpn"])))
        elif name == "export_vm":
            self.images[name].append(Image(name, machine["image"], twin["image"]))

    def _any(self) -> Any:
        kind = self.random.random()
        op = self._operation(self.random.choice(self.names), stale=0.7 <= kind < 0.85)
        return op if kind < 0.85 else self._wild(op)

    def _has_answer(self, op: Any) -> bool:
        """Where nobody is kept from the frames that hold tables, stay out of them: the twin's are not in frames."""
        mfn = op.get("mfn") if isinstance(op, dict) else None
        if not isinstance(mfn, int):
            return True
        if op.get("op") == "set_npt_root":
            vm = self.twin.vms.get(op["vm"]) if isinstance(op.get("vm"), int) else None
            return vm is None or vm.tables[4, 0] == mfn
        return mfn > self.twin.pool.start or self.twin.checked and op.get("op") in TABLE_CHANGES

    def _operation(self, name: str, *, stale: bool) -> dict[str, Any]:
        op: dict[str, Any] = {"op": name}
        plan = PLANS.get(name)
        if plan and not stale:
            op.update(plan(self) or {})
        for key in OPERATIONS[name].fields:
            if key not in op:
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

    # Plans: fields that make sense together only. None where there is nothing to plan with.

    def _plan_merge(self) -> dict[str, Any] | None:
        """Marked pages of two VMs; mostly zero ones that nothing else holds, so that they can be merged."""
        easy = self.random.random() < 0.8
        marked = [page for vm in self.twin.vms.values() for page in self._marked(vm, easy=easy)]
        if easy and self.twin.lends and self.random.random() < 0.3:
            vm, gpn = self.random.choice(sorted(self.twin.lends))
        elif marked:
            vm, gpn = self.random.choice(marked)
        others = [page for page in marked if page[0] != vm] if marked else []
        if not others:
            return None
        other_vm, other_gpn = self.random.choice(others)
        return {"vm": vm, "gpn": gpn, "other_vm": other_vm, "other_gpn": other_gpn}

    def _marked(self, vm: Vm, *, easy: bool) -> list[Page]:
        pages = [(vm.handle, gpn) for gpn in sorted(vm.marks)]
        if not easy:
            return pages
        free = [page for page in pages if page[1] in vm.pages and page[1] not in vm.shares]
        return [page for page in free if vm.pages[page[1]][0] not in self.twin.content and page not in self.twin.lends]

    def _plan_unmerge(self) -> dict[str, Any] | None:
        return self._page(sorted(self.twin.borrows))

    def _plan_unmap(self) -> dict[str, Any] | None:
        pages = sorted(page for page, _ in self.twin.releasing.values())
        pages += sorted(self.twin.lends) if self.random.random() < 0.2 else []
        return self._page(pages) if self.random.random() < 0.2 else None

    def _plan_swap_in(self) -> dict[str, Any] | None:
        waiting = sorted((vm.handle, gpn) for vm in self.twin.vms.values() for gpn in vm.records)
        found = self._page(waiting)
        if found:
            page = found["vm"], found["gpn"]
            fitting = [image for image in self.images["swap_out"] if image.page == page]
            if fitting:
                pick = self.random.random()
                found["image"] = fitting[-1] if pick < 0.75 else self.random.choice(fitting)
                if pick > 0.9:
                    found["image"] = fitting[-1].damaged(self.random, sealed=self.twin.checked)
                elif pick > 0.86:
                    found["image"] = self.random.choice(list(self.images["swap_out"]))
        return found

    def _plan_off_core(self) -> dict[str, Any] | None:
        """A VM that can be deleted or exported now: off the cores and not tied to others, if there is one."""
        tied = {running[0] for running in self.twin.on_core if running}
        tied |= {handle for handle, _ in (*self.twin.borrows, *self.twin.lends)}
        idle = [vm.handle for vm in self.twin.vms.values() if vm.handle not in tied and not vm.records]
        return {"vm": self.random.choice(idle)} if idle and self.random.random() < 0.8 else None

    def _plan_running(self) -> dict[str, Any] | None:
        cores = [core for core, running in enumerate(self.twin.on_core) if running]
        return {"core": self.random.choice(cores)} if cores and self.random.random() < 0.95 else None

    def _plan_idle(self) -> dict[str, Any] | None:
        cores = [core for core, running in enumerate(self.twin.on_core) if not running]
        vms = [(vm.handle, n) for vm in self.twin.vms.values() for n in range(len(vm.saved))]
        idle = [vcpu for vcpu in vms if vcpu not in self.twin.on_core]
        if not cores or not idle or self.random.random() < 0.2:
            return None
        vm, vcpu = self.random.choice(idle)
        return {"vm": vm, "vcpu": vcpu, "core": self.random.choice(cores)}

    def _plan_shared(self) -> dict[str, Any] | None:
        """The frame of a shared page, for loads, stores and DMA."""
        shared = [vm.pages[gpn][0] for vm in self.twin.vms.values() for gpn in sorted(vm.shares)]
        return {"mfn": self.random.choice(shared)} if shared and self.random.random() < 0.4 else None

    def _plan_unshare(self) -> dict[str, Any] | None:
        shared = [
            {"core": core, "gpn": gpn}
            for core, running in enumerate(self.twin.on_core)
            for gpn in (sorted(self.twin.vms[running[0]].shares) if running else ())
        ]
        return self.random.choice(shared) if shared and self.random.random() < 0.9 else self._plan_running()

    def _page(self, pages: list[Page]) -> dict[str, Any] | None:
        if not pages:
            return None
        vm, gpn = self.random.choice(pages)
        return {"vm": vm, "gpn": gpn}

    # One maker per field. `op` holds the fields made before.

    def _target_vm(self, op: dict[str, Any]) -> Vm | None:
        """The VM that an operation is about, if it lives."""
        if "vm" in op:
            return self.twin.vms.get(op["vm"])
        running = self.twin.on_core[op["core"]] if "core" in op else None
        return self.twin.vms[running[0]] if running else None

    def _vm(self, op: dict[str, Any], stale: bool) -> int:
        living = list(self.twin.vms)
        if stale and self.random.random() < 0.5 or not living:
            return self.random.choice(self.dead)
        return self.random.choice(living)

    _other_vm = _vm

    def _vcpus(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 1, 2, 3, 40 if stale else 2))

    def _vcpu(self, op: dict[str, Any], stale: bool) -> int:
        found = self.twin.vms.get(op["vm"])
        return self.random.randrange(len(found.saved)) if found and not stale else self.random.randrange(4)

    def _core(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.randrange(self.twin.core_count)

    def _size(self, op: dict[str, Any], stale: bool) -> int:
        aligned = op["gpn"] % HUGE == 0 and op["mfn"] % HUGE == 0
        return HUGE if aligned and (op["mfn"] or stale) and self.random.random() < 0.8 else 1

    def _pages(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 2, 3, 600 if stale else 5))

    def _gpn(self, op: dict[str, Any], stale: bool) -> int:
        pick = self.random.random()
        vm = self._target_vm(op)
        if vm and not stale and op["op"] in MAPPED_PAGE:
            gpn = self._mapped(vm)
            if gpn is not None and (gpn not in vm.guest_tables or pick < 0.2):
                return gpn
        if pick < 0.8:
            empty = [gpn for gpn in range(FEW_PAGES) if vm and gpn not in vm.pages]
            return self.random.choice(empty) if op["op"] == "page_map" and empty else self.random.randrange(FEW_PAGES)
        if pick < 0.93:
            return self.random.choice((512, 1024, 1 << 18))
        return self.random.choice((513, 777, 1 << 27, (1 << 36) - 1, (1 << 36) - 512))

    def _other_gpn(self, op: dict[str, Any], stale: bool) -> int:
        vm = self.twin.vms.get(op["other_vm"])
        gpn = self._mapped(vm) if vm else None
        return self.random.randrange(FEW_PAGES) if gpn is None or stale else gpn

    def _mapped(self, vm: Vm) -> int | None:
        """Some mapped page of a VM: any 4 KiB leaf, or a page of a 2 MiB leaf."""
        if vm.large and (not vm.pages or self.random.random() < 0.1):
            return self.random.choice(sorted(vm.large)) + self.random.randrange(HUGE)
        return self.random.choice(list(vm.pages)) if vm.pages else None

    def _mfn(self, op: dict[str, Any], stale: bool) -> int:
        name = op["op"]
        # Where nothing is refused, 2 MiB leaves would replace everything else all the time.
        if name == "page_map" and op["gpn"] % HUGE == 0 and self.random.random() < (0.7 if self.twin.checked else 0.1):
            return self.random.choice(HUGE_PAGES)
        if name == "set_npt_root" and not self.twin.microcode and op["vm"] in self.twin.vms:
            return self.twin.vms[op["vm"]].tables[4, 0]
        wanted = HYPERVISOR if name in ("release", "hv_write", "hv_read", "dma_read", "dma_write") else FREE
        if self.twin.literal and name == "page_map" and self.random.random() < 0.3:
            wanted = op["vm"]
        for _ in range(1 if stale or self.random.random() < 0.06 else 8):
            low, high = self.random.choice(((0, 8), (120, 200), (0, self.twin.frames), (-8, 0)))
            mfn = self.random.randrange(low, high) % self.twin.frames
            if self.twin.owner[mfn] == wanted:
                break
        return mfn

    def _perm(self, op: dict[str, Any], stale: bool) -> str:
        if op["op"] == "guest_share" and not stale:
            return self.random.choice(("r", "rw"))
        return self.random.choice(("rw", "rw", "rw", "rw", "rwx", "r", "rx"))

    def _kind(self, op: dict[str, Any], stale: bool) -> str:
        return self.random.choice("rrwx")

    def _offset(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((0, 0, 8, 4080, self.random.randrange(PAGE)))

    def _length(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 8, 16, 64, 4096 if stale else 16))

    def _data(self, op: dict[str, Any], stale: bool) -> str:
        length = self.random.choice((1, 8, 16, 16, 4096 if stale else 5))
        return (b"\0" * length if self.random.random() < 0.4 else self.random.randbytes(length)).hex()

    def _gpa(self, op: dict[str, Any], stale: bool) -> int:
        vm = self._target_vm(op)
        gpn = self._mapped(vm) if vm else None
        if stale or gpn is None:
            return self.random.choice((0, 4090, 16 << 12, (1 << 48) - 8, self.random.randrange(1 << 48)))
        return gpn * PAGE + self.random.choice((0, 0, 100, 4090))

    def _gva(self, op: dict[str, Any], stale: bool) -> int:
        vm = self._target_vm(op)
        known = self.gvas.get(vm.handle) if vm and not stale and op["op"] != "guest_map" else None
        page = self.random.choice(known or GVAS) << 12
        loose = stale or op["op"] not in ("guest_map", "guest_unmap")
        return page + (self.random.randrange(PAGE) if loose and self.random.random() < 0.5 else 0)

    def _device(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.randrange(4)

    def _vector(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((128, 128, 0, 3, 255))

    def _after(self, op: dict[str, Any], stale: bool) -> int:
        return self.random.choice((1, 2, 5, 20, 1 << 32))

    def _with(self, op: dict[str, Any], stale: bool) -> str | list[int]:
        if self.random.random() < 0.6:
            return "any"
        some = list(self.twin.vms) if not stale else self.dead
        return self.random.choice(("none", some, some, self.random.sample(some, len(some) // 2)))

    def _target(self, op: dict[str, Any], stale: bool) -> str:
        return "f0" * 16 if stale or self.random.random() < 0.2 else self.twin.machine_id

    def _image(self, op: dict[str, Any], stale: bool) -> Image | str:
        images = list(self.images["swap_out" if op["op"] == "swap_in" else "export_vm"])
        if not images:
            return self.random.choice(("", "00", b"HSVMSWAP".hex() + "00" * 4133))
        image = images[-1] if op["op"] == "import_vm" and not stale else self.random.choice(images)
        if len(image.machine) > LARGE_IMAGE and self.random.random() < 0.9:
            return "00"
        damage = 0.4 if stale else 0.05
        return image.damaged(self.random, sealed=self.twin.checked) if self.random.random() < damage else image

    def _registers(self, op: dict[str, Any], stale: bool) -> dict[str, int]:
        names = self.random.sample(REGISTER_NAMES[:-1], self.random.randrange(3))
        registers = {name: self.random.getrandbits(64) for name in names}
        vm = self._target_vm(op) if "core" in op else None
        lost = vm is not None and vm.leaf(self.twin.registers[op["core"]]["cr3"] >> 12) is None
        if lost or self.random.random() < 0.03:
            registers["cr3"] = 0 if lost or self.random.random() < 0.5 else self.random.randrange(FEW_PAGES) << 12
        return registers


PLANS: dict[str, Callable[[RandomOperations], dict[str, Any] | None]] = {
    "merge": RandomOperations._plan_merge,
    "unmerge": RandomOperations._plan_unmerge,
    "page_unmap": RandomOperations._plan_unmap,
    "swap_in": RandomOperations._plan_swap_in,
    "delete_vm": RandomOperations._plan_off_core,
    "export_vm": RandomOperations._plan_off_core,
    "context_restore": RandomOperations._plan_idle,
    "context_save": RandomOperations._plan_running,
    "guest_unshare": RandomOperations._plan_unshare,
    **dict.fromkeys(("hv_read", "hv_write", "dma_read", "dma_write"), RandomOperations._plan_shared),
    **dict.fromkeys(
        (name for name in OPERATIONS if name.startswith("guest_") and name != "guest_unshare"),
        RandomOperations._plan_running,
    ),
    **dict.fromkeys(("inject", "preempt"), RandomOperations._plan_running),
}
