"""The slow twin: the same contract as the machine, as plain dicts. Written from engine.md, never from its source.

It is small enough to be believed by reading and slow enough to be simple: a page table is a dict of dicts, a TLB is a
dict that never forgets by itself, a frame's content is a bytearray that exists only while a byte of it is not zero.
Random operations drive it beside the machine (`hsvm check`, tests/engine/test_twin.py); what differs is an error in one
of the two.

Rows: `nested` and `hsvm` (strict). Left out: `hit` and `references` of `guest_access`, which are a matter of the real
TLB's size, and stores into nested page tables on `nested`, which the random operations avoid (attacks A09 and A10 have
them).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NoReturn

from hsvm_engine.operations import REGISTER_NAMES
from hsvm_engine.twinfields import check_fields

FREE, HYPERVISOR, HSVM = "free", "hypervisor", "hsvm"
PAGE = 4096
PRESENT, WRITE, USER, HUGE, NO_EXECUTE = 1, 2, 4, 128, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
Op = dict[str, Any]
Owner = str | int  # a VM's frames are owned by its handle
Entry = tuple[int, str]  # machine frame, permission


class Refused(Exception):
    """A refusal: its status. Nothing has changed."""


def refuse(status: str) -> NoReturn:
    raise Refused(status)


@dataclass
class Vm:
    """One VM: its nested page table as dicts of dicts, its saved contexts, the pages that its guest uses as tables."""

    handle: int
    vcpus: int
    saved: list[dict[str, int]]
    root: dict[int, Any] = field(default_factory=dict)
    frames: int = 1  # of the pool: root, contexts, tables, reserves
    guest_tables: set[int] = field(default_factory=set)

    def slot(self, gpn: int) -> Any:
        """What stands for 2 MiB of guest-physical memory: None, a 2 MiB leaf, or a dict of 4 KiB leaves."""
        return self.root.get(gpn >> 27, {}).get(gpn >> 18 & 511, {}).get(gpn >> 9 & 511)

    def leaf(self, gpn: int) -> Entry | None:
        """The frame and permission of one guest page, also inside a 2 MiB leaf."""
        slot = self.slot(gpn)
        if isinstance(slot, dict):
            return slot.get(gpn & 511)
        return (slot[0] + (gpn & 511), slot[1]) if slot else None

    def missing(self, gpn: int) -> int:
        """How many table pages a map at `gpn` takes; a 2 MiB map takes the one that its split will need."""
        upper = self.root.get(gpn >> 27)
        middle = None if upper is None else upper.get(gpn >> 18 & 511)
        lowest = None if middle is None else middle.get(gpn >> 9 & 511)
        return (upper is None) + (middle is None) + (lowest is None)

    def store(self, gpn: int, value: Any) -> None:
        self.root.setdefault(gpn >> 27, {}).setdefault(gpn >> 18 & 511, {})[gpn >> 9 & 511] = value

    def table(self, gpn: int) -> dict[int, Entry]:
        """The dict of 4 KiB leaves around `gpn`; a 2 MiB leaf there is split and keeps all its pages."""
        slot = self.slot(gpn)
        if not isinstance(slot, dict):
            slot = {i: (slot[0] + i, slot[1]) for i in range(512)} if slot else {}
            self.store(gpn, slot)
        return slot

    def slots(self) -> Iterator[tuple[int, Any]]:
        """First guest page and what stands there, for every 2 MiB that has a table or a leaf."""
        for i, upper in self.root.items():
            for j, middle in upper.items():
                for k, slot in middle.items():
                    yield i << 27 | j << 18 | k << 9, slot

    def leaves(self) -> Iterator[tuple[int, int, int, str]]:
        for base, slot in self.slots():
            if isinstance(slot, dict):
                yield from [(base | low, mfn, 1, perm) for low, (mfn, perm) in slot.items()]
            else:
                yield base, slot[0], 512, slot[1]


class Twin:
    """A machine as plain as possible. Same constructor, `apply`, `dump` and `check_invariants` as the real one."""

    def __init__(
        self, frames: int, hypervisor_frames: int, protected_frames: int, cores: int = 1, architecture: str = "hsvm"
    ) -> None:
        self.frames, self.core_count = frames, cores
        self.hsvm = architecture == "hsvm"
        kept = frames - protected_frames
        self.owner: list[Owner] = [FREE] * frames
        self.owner[:hypervisor_frames] = [HYPERVISOR] * hypervisor_frames
        self.owner[kept:] = [HSVM] * protected_frames
        self.pool = protected_frames - -(-16 * frames // PAGE) if self.hsvm else hypervisor_frames
        self.content: dict[int, bytearray] = {}
        self.vms: dict[int, Vm] = {}
        self.generation: dict[int, int] = {}
        self.on_core: list[tuple[int, int] | None] = [None] * cores
        self.registers: list[dict[str, int]] = [{} for _ in range(cores)]
        # Per core: (handle, page, size) and (handle, cr3, virtual page, "virtual") to what the walk gave then.
        self.tlb: list[dict[Any, Any]] = [{} for _ in range(cores)]

    def apply(self, op: object) -> Op:
        """Do one operation; the result as the machine's `apply` gives it, without `check` and `inputs`."""
        try:
            fields = check_fields(op, frames=self.frames, cores=self.core_count)
            if fields is None:
                refuse("E_INPUT")
            name = fields.pop("op")
            return {"status": "OK", **(getattr(self, f"_do_{name}")(**fields) or {})}
        except Refused as refusal:
            return {"status": str(refusal)}

    # What every operation shares

    def _vm(self, handle: int) -> Vm:
        return self.vms.get(handle) or refuse("E_NOVM")

    def _context(self, vm: int, vcpu: int) -> tuple[Vm, dict[str, int]]:
        found = self._vm(vm)
        if vcpu >= found.vcpus:
            refuse("E_INPUT")  # after E_NOVM: only a living VM has a number of vcpus
        return found, found.saved[vcpu]

    def _running(self, core: int) -> Vm:
        running = self.on_core[core]
        return self.vms[running[0]] if running else refuse("E_STATE")

    def _take(self, count: int) -> int:
        if count > self.pool:
            refuse("E_NOMEM")
        self.pool -= count
        return count

    def _load(self, mfn: int, offset: int, length: int) -> bytes:
        return bytes(self.content.get(mfn, bytes(PAGE))[offset : offset + length])

    def _store(self, mfn: int, offset: int, data: bytes) -> None:
        page = self.content.setdefault(mfn, bytearray(PAGE))
        page[offset : offset + len(data)] = data
        if not any(page):
            del self.content[mfn]

    def _release(self, vm: Vm, gpn: int) -> None:
        """Clear the entry, shoot down, zero, mark free: the order of section 3."""
        mfn, _perm = vm.table(gpn).pop(gpn & 511)
        vm.guest_tables.discard(gpn)
        if self.hsvm:
            self._forget(vm.handle)
            self.content.pop(mfn, None)
        self.owner[mfn] = FREE

    def _forget(self, handle: int, cores: Iterator[int] | None = None) -> None:
        for core in range(self.core_count) if cores is None else cores:
            self.tlb[core] = {key: value for key, value in self.tlb[core].items() if key[0] != handle}

    # Hypervisor

    def _do_create_vm(self, vcpus: int) -> Op:
        slot = next(i for i in range(1, len(self.vms) + 2) if all(h & 0xFFFF != i for h in self.vms))
        self._take(1 + vcpus)
        self.generation[slot] = self.generation.get(slot, 0) + 1
        handle = self.generation[slot] << 16 | slot if self.hsvm else slot
        contexts = [dict.fromkeys(REGISTER_NAMES, 0) for _ in range(vcpus)]
        self.vms[handle] = Vm(handle, vcpus, contexts, frames=1 + vcpus)
        return {"vm": handle}

    def _do_delete_vm(self, vm: int) -> None:
        found = self._vm(vm)
        if any(running and running[0] == vm for running in self.on_core):
            refuse("E_BUSY")
        for gpn, _mfn, size, _perm in list(found.leaves()):
            for page in range(gpn, gpn + size):
                self._release(found, page)
        self.owner = [FREE if owner == vm else owner for owner in self.owner]
        self.pool += found.frames
        del self.vms[vm]

    def _do_page_map(self, vm: int, gpn: int, mfn: int, perm: str, size: int) -> None:
        found = self._vm(vm)
        slot = found.slot(gpn)
        if self.hsvm:
            if slot and (size == 512 or not isinstance(slot, dict) or gpn & 511 in slot):
                refuse("E_EXIST")
            for owner in self.owner[mfn : mfn + size]:
                if owner != FREE:
                    refuse("E_PROT" if owner == HSVM else "E_OWNER")
        found.frames += self._take(found.missing(gpn))
        if size == 512:
            found.store(gpn, (mfn, perm))
        else:
            found.table(gpn)[gpn & 511] = (mfn, perm)
        self.owner[mfn : mfn + size] = [vm] * size

    def _do_page_unmap(self, vm: int, gpn: int) -> None:
        found = self._vm(vm)
        if found.leaf(gpn) is None:
            refuse("E_NOENT")
        self._release(found, gpn)

    def _do_balloon(self, vm: int, pages: int) -> Op:
        found = self._vm(vm)
        mapped = sorted((gpn + i for gpn, _mfn, size, _perm in found.leaves() for i in range(size)), reverse=True)
        for gpn in mapped[:pages]:
            self._release(found, gpn)
        return {"released": min(pages, len(mapped))}

    def _do_context_save(self, core: int) -> None:
        vm = self._running(core)
        vm.saved[self.on_core[core][1]] = self.registers[core]  # type: ignore[index]
        self.on_core[core] = None

    def _do_context_restore(self, vm: int, vcpu: int, core: int) -> None:
        _found, saved = self._context(vm, vcpu)
        if self.on_core[core] is not None or (vm, vcpu) in self.on_core:
            refuse("E_BUSY")
        self.on_core[core] = (vm, vcpu)
        self.registers[core] = dict(saved)

    def _do_claim(self, mfn: int) -> None:
        self._move(mfn, FREE, HYPERVISOR)

    def _do_release(self, mfn: int) -> None:
        self._move(mfn, HYPERVISOR, FREE)

    def _move(self, mfn: int, before: Owner, after: Owner) -> None:
        if self.hsvm:
            if self.owner[mfn] != before:
                refuse("E_PROT" if self.owner[mfn] == HSVM else "E_OWNER")
            self.content.pop(mfn, None)
        self.owner[mfn] = after

    def _hypervisor_may(self, mfn: int, *, write: bool) -> None:
        owner = self.owner[mfn]
        if self.hsvm and owner != HYPERVISOR and (owner != FREE or write):
            refuse("F_PROTECTED" if owner == HSVM else "F_OWNER")

    def _do_hv_read(self, mfn: int, offset: int, length: int) -> Op:
        self._hypervisor_may(mfn, write=False)
        return {"data": self._load(mfn, offset, length).hex()}

    def _do_hv_write(self, mfn: int, offset: int, data: bytes) -> None:
        self._hypervisor_may(mfn, write=True)
        self._store(mfn, offset, data)

    def _do_hv_read_context(self, vm: int, vcpu: int) -> Op:
        _found, saved = self._context(vm, vcpu)
        return {"registers": dict(saved)} if not self.hsvm else refuse("F_PROTECTED")

    def _do_hv_write_context(self, vm: int, vcpu: int, registers: dict[str, int]) -> None:
        _found, saved = self._context(vm, vcpu)
        saved.update(registers) if not self.hsvm else refuse("F_PROTECTED")

    def _do_set_npt_root(self, vm: int, mfn: int) -> None:
        self._vm(vm)
        if self.hsvm:
            refuse("E_PROT")
        raise AssertionError("the twin has no tables in frames: random operations on nested leave set_npt_root out")

    def _do_hv_flush(self, core: int, vm: int) -> None:
        self._vm(vm)
        self._forget(vm, iter((core,)))

    def _do_npt_locate(self, vm: int, gpn: int) -> Op:
        """Only whether there is a place: where it lies is the machine's own business."""
        if gpn >> 27 not in self._vm(vm).root:
            refuse("E_NOENT")
        return {}

    # Guest

    def _do_guest_read(self, core: int, gpa: int, length: int) -> Op:
        pieces = self._reach(core, gpa, length, "r")
        return {"data": b"".join(self._load(*piece) for piece in pieces).hex()}

    def _do_guest_write(self, core: int, gpa: int, data: bytes) -> None:
        done = 0
        for mfn, offset, length in self._reach(core, gpa, len(data), "w"):
            self._store(mfn, offset, data[done : done + length])
            done += length

    def _do_guest_fetch(self, core: int, gpa: int) -> None:
        self._reach(core, gpa, 1, "x")

    def _do_guest_registers(self, core: int) -> Op:
        self._running(core)
        return {"registers": dict(self.registers[core])}

    def _do_guest_set_registers(self, core: int, registers: dict[str, int]) -> None:
        vm = self._running(core)
        if registers.get("cr3", self.registers[core]["cr3"]) != self.registers[core]["cr3"]:
            self._forget(vm.handle, iter((core,)))
        self.registers[core].update(registers)

    def _do_guest_flush(self, core: int, gva: int) -> None:
        vm, page = self._running(core), gva >> 12
        self._drop(core, vm, gva)
        if not self.registers[core]["cr3"]:  # without a guest table a virtual address is a guest-physical one
            for key in ((vm.handle, page, 1), (vm.handle, page >> 9, 512)):
                self.tlb[core].pop(key, None)

    def _do_guest_access(self, core: int, gva: int, kind: str) -> Op:
        vm = self._running(core)
        cr3 = self.registers[core]["cr3"]
        if not cr3:
            return {"gpa": gva, "mfn": self._translate(core, vm, gva >> 12, kind)}
        key = vm.handle, cr3, gva >> 12, "virtual"
        known = self.tlb[core].get(key)
        if known is None or kind not in known[2]:
            gpn, guest_perm = self._walk(core, vm, gva)
            if kind not in guest_perm:
                refuse("F_PERMISSION")
            mfn, nested_perm = vm.leaf(gpn) or refuse("F_NOT_PRESENT")
            perm = "".join(letter for letter in guest_perm if letter in nested_perm)
            if kind not in perm:
                refuse("F_PERMISSION")
            known = self.tlb[core][key] = gpn, mfn, perm
        return {"gpa": known[0] << 12 | gva & 4095, "mfn": known[1]}

    def _do_guest_map(self, core: int, gva: int, gpn: int, perm: str) -> None:
        vm = self._running(core)
        cr3 = self.registers[core]["cr3"]
        tables = [cr3 >> 12] if cr3 else []
        while tables and len(tables) < 4:
            entry = self._entry(vm, tables[-1], gva, len(tables))
            if not entry & PRESENT:
                break
            tables.append((entry & ADDRESS) >> 12)
        if len(tables) == 4 and self._entry(vm, tables[3], gva, 4) & PRESENT:
            refuse("E_EXIST")
        if tables:
            self._writable(vm, tables[-1])
        new = self._table_pages(vm, gpn, 4 - len(tables))
        for page in new:
            if tables:
                self._put(vm, tables[-1], gva, len(tables), page << 12 | PRESENT | WRITE | USER)
            else:
                self.registers[core]["cr3"] = page << 12
            tables.append(page)
            vm.guest_tables.add(page)
        bits = PRESENT | USER | (WRITE if "w" in perm else 0) | (0 if "x" in perm else NO_EXECUTE)
        self._put(vm, tables[3], gva, 4, gpn << 12 | bits)
        self._drop(core, vm, gva)

    def _do_guest_unmap(self, core: int, gva: int) -> None:
        vm = self._running(core)
        table = self.registers[core]["cr3"] >> 12 or refuse("E_NOENT")
        for level in range(1, 5):
            entry = self._entry(vm, table, gva, level)
            if not entry & PRESENT:
                refuse("E_NOENT")
            if level < 4:
                table = (entry & ADDRESS) >> 12
        self._writable(vm, table)
        self._put(vm, table, gva, 4, 0)
        self._drop(core, vm, gva)

    def _drop(self, core: int, vm: Vm, gva: int) -> None:
        self.tlb[core].pop((vm.handle, self.registers[core]["cr3"], gva >> 12, "virtual"), None)

    def _writable(self, vm: Vm, table: int) -> None:
        """The guest stores into its table through the nested table, past the TLB."""
        _mfn, perm = vm.leaf(table) or refuse("F_NOT_PRESENT")
        if "w" not in perm:
            refuse("F_PERMISSION")

    def _table_pages(self, vm: Vm, gpn: int, count: int) -> list[int]:
        """The guest's highest mapped, zero rw pages that are not tables yet."""
        free = [
            page
            for page, mfn, size, perm in vm.leaves()
            if size == 1 and perm == "rw" and page not in (0, gpn) and page not in vm.guest_tables
            if mfn not in self.content
        ]
        return sorted(free, reverse=True)[:count] if len(free) >= count else refuse("E_NOMEM")

    def _walk(self, core: int, vm: Vm, gva: int) -> tuple[int, str]:
        """The guest page of a virtual address by the guest's own table, and what all its entries permit."""
        table, perm = (self.registers[core]["cr3"] & ADDRESS) >> 12, "rwx"
        for level in range(1, 5):
            entry = self._entry(vm, table, gva, level)
            if not entry & PRESENT:
                refuse("F_NOT_PRESENT")
            perm = perm if entry & WRITE else perm.replace("w", "")
            perm = perm.replace("x", "") if entry & NO_EXECUTE else perm
            table = (entry & ADDRESS) >> 12
        return table, perm

    def _entry(self, vm: Vm, table: int, gva: int, level: int) -> int:
        mfn, _perm = vm.leaf(table) or refuse("F_NOT_PRESENT")
        return int.from_bytes(self._load(mfn, (gva >> 48 - 9 * level & 511) * 8, 8), "little")

    def _put(self, vm: Vm, table: int, gva: int, level: int, entry: int) -> None:
        mfn = (vm.leaf(table) or refuse("F_NOT_PRESENT"))[0]
        self._store(mfn, (gva >> 48 - 9 * level & 511) * 8, entry.to_bytes(8, "little"))

    def _reach(self, core: int, gpa: int, length: int, kind: str) -> list[tuple[int, int, int]]:
        """Frame, offset and length of every piece; nothing is moved before all pages are known to be reachable."""
        vm = self._running(core)
        pieces = []
        while length:
            offset = gpa % PAGE
            part = min(length, PAGE - offset)
            pieces.append((self._translate(core, vm, gpa >> 12, kind), offset, part))
            gpa, length = gpa + part, length - part
        return pieces

    def _translate(self, core: int, vm: Vm, gpn: int, kind: str) -> int:
        """The frame of a guest page for one kind of access, by the core's TLB if it can."""
        tlb = self.tlb[core]
        for size in (1, 512):
            mfn, perm = tlb.get((vm.handle, gpn // size, size), (0, ""))
            if kind in perm:  # a hit that does not permit the access counts as a miss
                return int(mfn) + gpn % size
        mfn, perm = vm.leaf(gpn) or refuse("F_NOT_PRESENT")
        if kind not in perm:
            refuse("F_PERMISSION")
        size = 1 if isinstance(vm.slot(gpn), dict) else 512
        tlb[vm.handle, gpn // size, size] = mfn - gpn % size, perm
        return mfn

    # Device

    def _do_dma_read(self, device: int, mfn: int, offset: int, length: int) -> Op:
        pieces = self._burst(mfn, offset, length)
        return {
            "data": b"".join(self._load(*piece) for piece in pieces).hex(),
            "done": sum(part for _, _, part in pieces),
        }

    def _do_dma_write(self, device: int, mfn: int, offset: int, data: bytes) -> Op:
        done = 0
        for frame, start, part in self._burst(mfn, offset, len(data)):
            self._store(frame, start, data[done : done + part])
            done += part
        return {"done": done}

    def _burst(self, mfn: int, offset: int, length: int) -> list[tuple[int, int, int]]:
        """The pieces of a burst up to the first frame that a device may not touch; the very first one decides."""
        pieces: list[tuple[int, int, int]] = []
        while length:
            owner = self.owner[mfn]
            if self.hsvm and owner != HYPERVISOR:
                return pieces or refuse("F_PROTECTED" if owner == HSVM else "F_OWNER")
            part = min(length, PAGE - offset)
            pieces.append((mfn, offset, part))
            mfn, offset, length = mfn + 1, 0, length - part
        return pieces

    # What can be seen

    def dump(self) -> Op:
        owners, first = [], 0
        for owner, run in groupby(self.owner):
            count = len(list(run))
            owners.append([first, count, f"vm:{owner}" if isinstance(owner, int) else owner])
            first += count
        running = [[core, *pair] for core, pair in enumerate(self.on_core) if pair]
        return {
            "owners": owners,
            "leaves": {handle: sorted(map(list, vm.leaves())) for handle, vm in sorted(self.vms.items())},
            "shared": [],
            "merged": [],
            "releasing": [],
            "swapped": [],
            "cores": running,
            "vms": [[handle, vm.vcpus] for handle, vm in sorted(self.vms.items())],
            "nonzero": sorted(mfn for mfn in self.content if self.owner[mfn] != HSVM),
        }

    def check_invariants(self) -> None:
        """The rules of section 9 that dicts can break; AssertionError names the rule."""
        assert len(set(self.on_core) - {None}) == sum(pair is not None for pair in self.on_core), "vcpu on two cores"
        assert all(pair is None or pair[0] in self.vms for pair in self.on_core), "a dead VM on a core"
        if not self.hsvm:
            return
        mapped: dict[int, int] = {}
        for vm in self.vms.values():
            for _gpn, mfn, size, _perm in vm.leaves():
                for frame in range(mfn, mfn + size):
                    assert self.owner[frame] == vm.handle, "a leaf maps only frames of its VM"
                    assert frame not in mapped, "a frame has one leaf"
                    mapped[frame] = vm.handle
        assert len(mapped) == sum(isinstance(owner, int) for owner in self.owner), "a VM's frame has a leaf"
        assert all(self.owner[mfn] != FREE for mfn in self.content), "free frames are zero"
        assert all(key[0] in self.vms for tlb in self.tlb for key in tlb), "no translation of a dead VM"
