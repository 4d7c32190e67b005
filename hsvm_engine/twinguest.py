"""The slow twin's guests: accesses by TLB and tables, the guest's own page table, shares, marks. (engine.md, 5, 6)"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsvm_engine.twinvm import HUGE, PAGE, Op, Vm, refuse

if TYPE_CHECKING:
    from hsvm_engine.twin import Twin

PRESENT, WRITE, USER, NO_EXECUTE = 1, 2, 4, 1 << 63
ADDRESS = 0x000F_FFFF_FFFF_F000
MOST_MARKS = 65_536


def guest_read(twin: Twin, core: int, gpa: int, length: int) -> Op:
    pieces = _reach(twin, core, gpa, length, "r")
    return {"data": b"".join(twin.load(*piece) for piece in pieces).hex()}


def guest_write(twin: Twin, core: int, gpa: int, data: bytes) -> None:
    done = 0
    for mfn, offset, length in _reach(twin, core, gpa, len(data), "w"):
        twin.store(mfn, offset, data[done : done + length])
        done += length


def guest_fetch(twin: Twin, core: int, gpa: int) -> None:
    _reach(twin, core, gpa, 1, "x")


def _accessing(twin: Twin, core: int) -> Vm:
    """The VM on a core, if it may go on: an access counts, also when it faults."""
    vm = twin.running(core)
    left = twin.left[core]
    if left is not None:
        twin.left[core] = left - 1 if left else refuse("E_STATE")
    return vm


def _reach(twin: Twin, core: int, gpa: int, length: int, kind: str) -> list[tuple[int, int, int]]:
    """Frame, offset and length of every piece; nothing is moved before all pages are known to be reachable."""
    vm = _accessing(twin, core)
    pieces = []
    while length:
        offset = gpa % PAGE
        part = min(length, PAGE - offset)
        pieces.append((_translate(twin, core, vm, gpa >> 12, kind), offset, part))
        gpa, length = gpa + part, length - part
    return pieces


def _translate(twin: Twin, core: int, vm: Vm, gpn: int, kind: str) -> int:
    """The frame of a guest page for one kind of access, by the core's TLB if it can."""
    tlb = twin.tlb[core]
    for size in (1, HUGE):
        mfn, perm = tlb.get((vm.handle, gpn // size, size), (0, ""))
        if kind in perm:  # a hit that does not permit the access counts as a miss
            return mfn + gpn % size
    mfn, perm = vm.leaf(gpn) or refuse("F_NOT_PRESENT")
    if kind not in perm:
        refuse("F_PERMISSION")
    size = 1 if gpn in vm.pages else HUGE
    tlb[vm.handle, gpn // size, size] = mfn - gpn % size, perm
    return mfn


def guest_access(twin: Twin, core: int, gva: int, kind: str) -> Op:
    vm = _accessing(twin, core)
    cr3 = twin.registers[core]["cr3"]
    if not cr3:
        return {"gpa": gva, "mfn": _translate(twin, core, vm, gva >> 12, kind)}
    entries = twin.virtual[core].setdefault(vm.handle, {})
    known = entries.get((cr3, gva >> 12))
    if known is None or kind not in known[2]:
        gpn, guest_perm = _walk(twin, vm, cr3, gva)
        if kind not in guest_perm:
            refuse("F_PERMISSION")
        mfn, nested_perm = vm.leaf(gpn) or refuse("F_NOT_PRESENT")
        perm = "".join(letter for letter in guest_perm if letter in nested_perm)
        if kind not in perm:
            refuse("F_PERMISSION")
        known = entries[cr3, gva >> 12] = gpn, mfn, perm
    return {"gpa": known[0] << 12 | gva & 4095, "mfn": known[1]}


def _walk(twin: Twin, vm: Vm, cr3: int, gva: int) -> tuple[int, str]:
    """The guest page of a virtual address by the guest's own table, and what all its entries permit."""
    table, perm = (cr3 & ADDRESS) >> 12, "rwx"
    for level in (4, 3, 2, 1):
        entry = _entry(twin, vm, table, gva, level)
        if not entry or entry & ADDRESS >= 1 << 48:  # names no guest page
            refuse("F_NOT_PRESENT")
        perm = perm if entry & WRITE else perm.replace("w", "")
        perm = perm.replace("x", "") if entry & NO_EXECUTE else perm
        table = (entry & ADDRESS) >> 12
    return table, perm


def _entry(twin: Twin, vm: Vm, table: int, gva: int, level: int) -> int:
    """An entry of a guest table; 0 if it is not present."""
    mfn, _perm = vm.leaf(table) or refuse("F_NOT_PRESENT")
    entry = int.from_bytes(twin.load(mfn, _offset(gva, level), 8), "little")
    return entry if entry & PRESENT else 0


def _offset(gva: int, level: int) -> int:
    return (gva >> 3 + 9 * level & 511) * 8


def _put(twin: Twin, vm: Vm, table: int, gva: int, level: int, entry: int) -> None:
    mfn, _perm = vm.leaf(table) or refuse("F_NOT_PRESENT")
    twin.store(mfn, _offset(gva, level), entry.to_bytes(8, "little"))


def _writable(vm: Vm, table: int) -> None:
    """The guest stores into its table through the nested table, past the TLB."""
    _mfn, perm = vm.leaf(table) or refuse("F_NOT_PRESENT")
    if "w" not in perm:
        refuse("F_PERMISSION")


def guest_map(twin: Twin, core: int, gva: int, gpn: int, perm: str) -> None:
    vm = twin.running(core)
    cr3 = twin.registers[core]["cr3"]
    tables = [(cr3 & ADDRESS) >> 12] if cr3 else []
    while tables and len(tables) < 4 and (entry := _entry(twin, vm, tables[-1], gva, 5 - len(tables))):
        tables.append((entry & ADDRESS) >> 12)
    if len(tables) == 4 and _entry(twin, vm, tables[3], gva, 1):
        refuse("E_EXIST")
    if tables:
        _writable(vm, tables[-1])
    for page in _table_pages(twin, vm, {0, gpn, *tables[:1]}, 4 - len(tables)):
        if tables:
            _put(twin, vm, tables[-1], gva, 5 - len(tables), page << 12 | PRESENT | WRITE | USER)
        else:
            twin.registers[core]["cr3"] = page << 12
        tables.append(page)
        vm.guest_tables.add(page)
    bits = PRESENT | USER | (WRITE if "w" in perm else 0) | (0 if "x" in perm else NO_EXECUTE)
    _put(twin, vm, tables[3], gva, 1, gpn << 12 | bits)
    _forget(twin, core, vm, gva)


def guest_unmap(twin: Twin, core: int, gva: int) -> None:
    vm = twin.running(core)
    table = ((twin.registers[core]["cr3"] or refuse("E_NOENT")) & ADDRESS) >> 12
    for level in (4, 3, 2, 1):
        entry = _entry(twin, vm, table, gva, level) or refuse("E_NOENT")
        if level > 1:
            table = (entry & ADDRESS) >> 12
    _writable(vm, table)
    _put(twin, vm, table, gva, 1, 0)
    _forget(twin, core, vm, gva)


def _table_pages(twin: Twin, vm: Vm, others: set[int], count: int) -> list[int]:
    """The guest's highest mapped, zero, unshared rw pages that are neither tables yet nor one of these others."""
    barred = others | vm.guest_tables | vm.shares.keys()
    free = [
        page
        for page, (mfn, perm) in (vm.pages.items() if count else ())
        if perm == "rw" and page not in barred and mfn not in twin.content
    ]
    return sorted(free, reverse=True)[:count] if len(free) >= count else refuse("E_NOMEM")


def _forget(twin: Twin, core: int, vm: Vm, gva: int) -> None:
    twin.virtual[core].get(vm.handle, {}).pop((twin.registers[core]["cr3"], gva >> 12), None)


def guest_flush(twin: Twin, core: int, gva: int) -> None:
    vm, page = twin.running(core), gva >> 12
    _forget(twin, core, vm, gva)
    if not twin.registers[core]["cr3"]:  # without a guest table a virtual address is a guest-physical one
        for key in ((vm.handle, page, 1), (vm.handle, page // HUGE, HUGE)):
            twin.tlb[core].pop(key, None)


def guest_registers(twin: Twin, core: int) -> Op:
    twin.running(core)
    return {"registers": dict(twin.registers[core])}


def guest_set_registers(twin: Twin, core: int, registers: dict[str, int]) -> None:
    vm = twin.running(core)
    if registers.get("cr3", twin.registers[core]["cr3"]) != twin.registers[core]["cr3"]:
        twin.flush(core, vm.handle)
    twin.registers[core].update(registers)


def guest_share(twin: Twin, core: int, gpn: int, perm: str) -> None:
    vm = twin.running(core)
    leaf = vm.leaf(gpn)
    if twin.is_merged((vm.handle, gpn)):
        refuse("E_BUSY")
    if leaf and "w" in perm and "w" not in leaf[1]:
        refuse("E_STATE")
    if gpn in vm.shares:
        refuse("E_EXIST")
    if leaf is None:
        refuse("E_NOENT")
    vm.split(gpn)
    vm.shares[gpn] = perm


def guest_unshare(twin: Twin, core: int, gpn: int) -> None:
    if twin.running(core).shares.pop(gpn, None) is None:
        refuse("E_NOENT")


def guest_mergeable(twin: Twin, core: int, gpn: int, partners: str | list[int]) -> None:
    vm = twin.running(core)
    if vm.leaf(gpn) is None:
        refuse("E_NOENT")
    new = partners if partners == "any" else frozenset(() if partners == "none" else map(int, partners)) - {0}
    others = [
        mark
        for each in twin.vms.values()
        for page, mark in each.marks.items()
        if (each.handle, page) != (vm.handle, gpn)
    ]
    if sum(1 if mark == "any" else len(mark) for mark in (*others, new)) > MOST_MARKS:
        refuse("E_NOMEM")
    vm.marks.pop(gpn, None)
    if new:
        vm.marks[gpn] = new
