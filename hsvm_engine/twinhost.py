"""The slow twin's hypervisor and devices: VMs, memory, contexts. A function is an operation of engine.md section 5."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsvm_engine.operations import REGISTER_NAMES
from hsvm_engine.twinvm import FREE, HSVM, HUGE, HYPERVISOR, PAGE, Op, Owner, Refused, Vm, refuse

if TYPE_CHECKING:
    from hsvm_engine.twin import Twin


def create_vm(twin: Twin, vcpus: int) -> Op:
    root, *contexts = twin.take(1 + vcpus)
    handle = twin.new_handle()
    saved = [dict.fromkeys(REGISTER_NAMES, 0) for _ in range(vcpus)]
    twin.vms[handle] = Vm(handle, saved, contexts, {(4, 0): root})
    return {"vm": handle}


def delete_vm(twin: Twin, vm: int) -> None:
    found = twin.vm(vm)
    merged = twin.checked and any(page[0] == vm for page in (*twin.borrows, *twin.lends))
    if merged or any(running and running[0] == vm for running in twin.on_core):
        refuse("E_BUSY")
    twin.dissolve(found)


def page_map(twin: Twin, vm: int, gpn: int, mfn: int, perm: str, size: int) -> None:
    found = twin.vm(vm)
    if twin.checked:
        _check_slot(twin, found, gpn, mfn, size)
        twin.check_free(mfn, size, also=vm if twin.literal else FREE)
    missing = found.missing(gpn)
    found.tables.update(zip(missing, twin.take(len(missing)), strict=True))
    if twin.checked and not twin.microcode:  # the SMI handler wipes what it gives, but not what the VM has already
        for frame in range(mfn, mfn + size):
            if twin.owner[frame] == FREE:
                twin.content.pop(frame, None)
    _vacate(twin, found, gpn, size)
    (found.large if size == HUGE else found.pages)[gpn] = mfn, perm
    twin.owner[mfn : mfn + size] = [vm] * size


def _check_slot(twin: Twin, vm: Vm, gpn: int, mfn: int, size: int) -> None:
    """Whether the guest pages may be mapped now: E_BUSY goes before E_EXIST."""
    slots = range(gpn, gpn + size)
    busy = any(page[0] == vm.handle and page[1] in slots for page, _ in twin.releasing.values())
    if twin.literal:
        pages = [page for page in (*twin.borrows, *twin.lends) if page[0] == vm.handle]
        lent = [vm.pages[page[1]][0] for page in pages if page in twin.lends]
        busy |= any(page[1] in slots for page in pages) or any(mfn <= frame < mfn + size for frame in lent)
        busy |= any(mfn <= frame < mfn + size and twin.owner[frame] == vm.handle for frame in twin.releasing)
    if busy:
        refuse("E_BUSY")
    if not twin.literal and (gpn & -HUGE in vm.large or any(slot in vm.pages or slot in vm.records for slot in slots)):
        refuse("E_EXIST")


def _vacate(twin: Twin, vm: Vm, gpn: int, size: int) -> None:
    """Where a slot is not checked, what it holds is replaced; the frame stays as it is."""
    if size == 1:
        vm.split(gpn)
    for slot in range(gpn, gpn + size):
        vm.records.pop(slot, None)
        if slot in vm.pages or slot & -HUGE in vm.large:
            twin.drop(vm, slot)
            if twin.checked:
                twin.shoot((vm.handle, slot))


def page_unmap(twin: Twin, vm: int, gpn: int) -> None:
    found = twin.vm(vm)
    if twin.complete(lambda page: page == (vm, gpn)):
        return
    if twin.checked and twin.is_merged((vm, gpn)):
        refuse("E_BUSY")
    if found.leaf(gpn) is None:
        refuse("E_NOENT")
    twin.release_page(found, gpn)


def balloon(twin: Twin, vm: int, pages: int) -> Op:
    found = twin.vm(vm)
    mapped = {gpn + i for gpn, _, size, _ in found.leaves() for i in range(size)}
    chosen = sorted((gpn for gpn in mapped if not twin.is_merged((vm, gpn))), reverse=True)[:pages]
    for gpn in chosen:
        page_unmap(twin, vm, gpn)
    return {"released": len(chosen)}


def context_save(twin: Twin, core: int) -> None:
    vm = twin.running(core)
    vm.saved[twin.on_core[core][1]] = twin.registers[core]  # type: ignore[index]
    twin.on_core[core] = twin.left[core] = None


def context_restore(twin: Twin, vm: int, vcpu: int, core: int) -> None:
    saved = _context(twin, vm, vcpu)
    if twin.on_core[core] is not None or (vm, vcpu) in twin.on_core:
        refuse("E_BUSY")
    twin.on_core[core] = vm, vcpu
    twin.registers[core] = dict(saved)


def _context(twin: Twin, vm: int, vcpu: int) -> dict[str, int]:
    saved = twin.vm(vm).saved
    return saved[vcpu] if vcpu < len(saved) else refuse("E_INPUT")  # after E_NOVM: only a living VM has a number


def claim(twin: Twin, mfn: int) -> None:
    _check_owner(twin, mfn, FREE)
    twin.owner[mfn] = HYPERVISOR


def release(twin: Twin, mfn: int) -> None:
    _check_owner(twin, mfn, HYPERVISOR)
    if twin.checked:
        if mfn in twin.used:
            refuse("E_PROT")  # the SMI handler keeps the tables that it left in the hypervisor's frames
        stop = twin.fault_step()
        last = stop or 4
        if last >= 3:
            twin.content.pop(mfn, None)
        if last == 4:
            twin.owner[mfn] = FREE
        if stop:
            refuse("E_STATE")  # unlisted: what is still the hypervisor's is released by asking again
    else:
        twin.owner[mfn] = FREE


def _check_owner(twin: Twin, mfn: int, wanted: Owner) -> None:
    if twin.checked and twin.owner[mfn] != wanted:
        refuse("E_PROT" if twin.owner[mfn] == HSVM else "E_OWNER")


def hv_read(twin: Twin, mfn: int, offset: int, length: int) -> Op:
    if twin.owner[mfn] != FREE:
        _reach(twin, mfn, write=False)
    return {"data": twin.load(mfn, offset, length).hex()}


def hv_write(twin: Twin, mfn: int, offset: int, data: bytes) -> None:
    _reach(twin, mfn, write=True)
    twin.store(mfn, offset, data)


def _reach(twin: Twin, mfn: int, *, write: bool) -> None:
    """Hypervisor and devices reach what is the hypervisor's and what a guest shared."""
    owner = twin.owner[mfn]
    if owner == HSVM:
        refuse("F_PROTECTED")
    if not twin.microcode or owner == HYPERVISOR:
        return
    vm = twin.vms[owner] if isinstance(owner, int) else None
    shares = [perm for gpn, perm in vm.shares.items() if vm.pages[gpn][0] == mfn] if vm else []
    if not any("w" in perm or not write for perm in shares):
        refuse("F_OWNER")


def hv_read_context(twin: Twin, vm: int, vcpu: int) -> Op:
    saved = _context(twin, vm, vcpu)
    return {"registers": dict(saved)} if not twin.microcode else refuse("F_PROTECTED")


def hv_write_context(twin: Twin, vm: int, vcpu: int, registers: dict[str, int]) -> None:
    saved = _context(twin, vm, vcpu)
    saved.update(registers) if not twin.microcode else refuse("F_PROTECTED")


def set_npt_root(twin: Twin, vm: int, mfn: int) -> None:
    found = twin.vm(vm)
    if twin.microcode:
        refuse("E_PROT")
    assert mfn == found.tables[4, 0], "the twin has no tables in frames: random operations name the VM's own root"


def hv_flush(twin: Twin, core: int, vm: int) -> None:
    twin.vm(vm)
    twin.flush(core, vm)


def npt_locate(twin: Twin, vm: int, gpn: int) -> Op:
    mfn, offset = twin.vm(vm).place(gpn) or refuse("E_NOENT")
    return {"mfn": mfn, "offset": offset}


def inject(twin: Twin, core: int, vector: int) -> None:
    twin.running(core)
    if vector == 128:
        twin.registers[core]["rax"] = (twin.registers[core]["rax"] + 1) % (1 << 64)


def preempt(twin: Twin, core: int, after: int) -> None:
    twin.running(core)
    twin.left[core] = after


def dma_read(twin: Twin, device: int, mfn: int, offset: int, length: int) -> Op:
    pieces = _burst(twin, mfn, offset, length, write=False)
    return {"data": b"".join(twin.load(*piece) for piece in pieces).hex(), "done": sum(part for _, _, part in pieces)}


def dma_write(twin: Twin, device: int, mfn: int, offset: int, data: bytes) -> Op:
    done = 0
    for frame, start, part in _burst(twin, mfn, offset, len(data), write=True):
        twin.store(frame, start, data[done : done + part])
        done += part
    return {"done": done}


def _burst(twin: Twin, mfn: int, offset: int, length: int, *, write: bool) -> list[tuple[int, int, int]]:
    """The pieces of a burst up to the first frame that a device may not touch; the very first one decides."""
    first = min(length, PAGE - offset)
    _reach(twin, mfn, write=write)
    pieces = [(mfn, offset, first)]
    if length > first:
        try:
            _reach(twin, mfn + 1, write=write)
        except Refused:
            return pieces
        pieces.append((mfn + 1, 0, length - first))
    return pieces


def cold_boot_read(twin: Twin, mfn: int) -> Op:
    """Raw memory; what tables hold is the machine's own business."""
    known = twin.owner[mfn] != HSVM and mfn not in twin.used
    return {"data": twin.load(mfn).hex() if known else None}
