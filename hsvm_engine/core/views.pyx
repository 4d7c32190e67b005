"""Views. They change nothing, and cost what they show."""

import numpy

from libc.stdlib cimport free

from hsvm_engine.core.bus cimport BUS_SETS, Passage
from hsvm_engine.core.calls cimport call_name, owner_names
from hsvm_engine.core.context cimport Tally, Vm, vm_find
from hsvm_engine.core.invariants cimport entry_agrees, is_due
from hsvm_engine.core.frames cimport LENT_SHIFT
from hsvm_engine.core.journal cimport (
    EVENTS, Change, Event, Journal, change_after, change_before, change_op, changed_frame, changed_frames,
    changed_total,
)
from hsvm_engine.core.pages cimport visited
from hsvm_engine.core.paging cimport BIT_BORROWS, BIT_SHARED, BIT_SHARED_W, Leaf, each_leaf, each_record, has_bit
from hsvm_engine.core.snapshot cimport nonzero_frames
from hsvm_engine.core.tlb cimport Level, tag_space, tlb_age
from hsvm_engine.core.types cimport FIRST_VM, HSVM, HUGE, NO_FRAME, uint8_t, uint16_t
from hsvm_engine.core.types import CHECK_NAMES, PERM_NAMES, STATUS_NAMES

cdef dict perm_names = PERM_NAMES

# Columns of tlb(): TlbRow in Python's words
TLB_COLUMNS = numpy.dtype([
    ("core", "<u2"), ("level", "u1"), ("valid", "u1"), ("set", "<u4"), ("way", "u1"), ("dim", "u1"), ("perm", "u1"),
    ("state", "u1"), ("slot", "<u2"), ("age", "<u2"), ("size", "<u4"), ("mfn", "<u4"), ("cr3", "<u8"), ("vpn", "<u8"),
])

cdef packed struct TlbRow:
    uint16_t core
    uint8_t level
    uint8_t valid
    uint32_t place
    uint8_t way
    uint8_t dim
    uint8_t perm
    uint8_t state
    uint16_t slot
    uint16_t age
    uint32_t size
    uint32_t mfn
    uint64_t cr3
    uint64_t vpn


# Dump

cdef list owner_runs(Host *h):
    """Run-length list [first, count, owner]."""
    cdef uint16_t *owner = h.frames.owner
    cdef uint32_t i, start = 0
    cdef dict names = owner_names(h)
    cdef list out = []
    for i in range(1, h.frames.count + 1):
        if i == h.frames.count or owner[i] != owner[start]:
            out.append([start, i - start, names.get(owner[start], "vm:0")])
            start = i
    return out


cdef bint list_leaf(void *context, Leaf *leaf) noexcept nogil:
    with gil:
        (<list>context).append([leaf.gpn, leaf.mfn, leaf.size, perm_names[leaf.perm]])
    return False


cdef bint list_state(void *context, Leaf *leaf) noexcept nogil:
    """Pages that are more than mapped: (gpn, mfn, entry)."""
    if leaf.size == 1 and (has_bit(leaf.entry, BIT_SHARED) or has_bit(leaf.entry, BIT_BORROWS)):
        with gil:
            (<list>context).append((leaf.gpn, leaf.mfn, leaf.entry))
    return False


cdef bint list_record(void *context, Leaf *leaf) noexcept nogil:
    with gil:
        (<list>context).append((leaf.gpn, leaf.entry >> 4))
    return False


cdef void list_pages(Host *h, Vm *vm, list shared, list merged, list swapped) except *:
    """Add a VM's shared, borrowed and swapped pages to the lists of a dump."""
    cdef list found = [], records = []
    cdef uint64_t lender
    cdef uint32_t slot
    each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), list_state, <void *>found)
    for gpn, mfn, entry in found:
        if has_bit(entry, BIT_SHARED):
            shared.append([vm.handle, gpn, "rw" if has_bit(entry, BIT_SHARED_W) else "r"])
        if has_bit(entry, BIT_BORROWS):
            lender = h.frames.lender[<uint32_t>mfn]
            slot = <uint32_t>(lender >> LENT_SHIFT) & 0xFFFF
            handle = h.vm[slot].handle if h.vm[slot] != NULL else 0
            merged.append([vm.handle, gpn, handle, lender & ((<uint64_t>1 << LENT_SHIFT) - 1)])
    each_record(&h.frames, vm.root, 4, 0, visited(h), list_record, <void *>records)
    swapped.extend([vm.handle, gpn, version] for gpn, version in records)


cdef dict dump_host(Host *h):
    cdef uint32_t slot, i, n = 0
    cdef uint32_t *frames
    cdef dict leaves = {}
    cdef list vms = [], cores = [], shared = [], merged = [], swapped = [], releasing = [], found
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] == NULL:
            continue
        found = []
        each_leaf(&h.frames, h.vm[slot].root, 4, 0, False, visited(h), list_leaf, <void *>found)
        leaves[h.vm[slot].handle] = found
        list_pages(h, h.vm[slot], shared, merged, swapped)
        vms.append([h.vm[slot].handle, h.vm[slot].vcpus])
    for i in range(h.cores):
        if h.core[i].vm != NULL:
            cores.append([i, h.core[i].vm.handle, h.core[i].vcpu])
    frames = nonzero_frames(&h.frames, &n)
    try:
        nonzero = [frames[i] for i in range(n) if h.frames.owner[frames[i]] != HSVM]
    finally:
        free(frames)
    if h.pending.slot:
        releasing.append([h.pending.mfn, h.vm[h.pending.slot].handle, h.pending.gpn])
    return {"owners": owner_runs(h), "leaves": leaves, "shared": sorted(shared), "merged": sorted(merged),
            "releasing": releasing, "swapped": sorted(swapped), "cores": cores, "vms": sorted(vms), "nonzero": nonzero}


# TLB

cdef void fill_row(Host *h, uint32_t which, uint32_t place, uint32_t way, TlbRow *row) noexcept:
    cdef Level *level = &h.tlb.level[which]
    cdef uint64_t at = <uint64_t>place * level.ways + way, tag = level.tag[at]
    cdef uint32_t space = tag_space(tag)
    cdef Vm *vm
    row.core = <uint16_t>(which / 2)
    row.level = 1 + <uint8_t>(which & 1)
    row.place = place
    row.way = <uint8_t>way
    row.age = <uint16_t>tlb_age(level, place, way)
    if tag == 0:
        return
    vm = vm_find(h, h.tlb.space[space].handle)
    row.valid = 1
    row.cr3 = h.tlb.space[space].cr3
    row.dim = 2 if row.cr3 else 1
    row.slot = <uint16_t>vm.slot if vm != NULL else 0
    row.size = HUGE if tag & 1 else 1
    row.vpn = tag >> 28 << (9 if tag & 1 else 0)
    row.mfn = level.data[at] >> 4
    row.perm = <uint8_t>(level.data[at] & 7)
    row.state = 0 if entry_agrees(h, which, at, True) else 2 if is_due(h, level, at) else 1


cdef object tlb_table(Host *h, uint32_t first, uint32_t end):
    """Rows of the cores [first, end), one per way."""
    cdef uint32_t which, place, way
    cdef uint64_t total = 0
    cdef uint8_t[::1] view
    cdef TlbRow *row
    for which in range(2 * first, 2 * end):
        total += <uint64_t>h.tlb.level[which].sets * h.tlb.level[which].ways
    table = numpy.zeros(total, dtype=TLB_COLUMNS)
    view = table.view(numpy.uint8)
    row = <TlbRow *>&view[0]
    for which in range(2 * first, 2 * end):
        for place in range(h.tlb.level[which].sets):
            for way in range(h.tlb.level[which].ways):
                fill_row(h, which, place, way, row)
                row += 1
    return table


# Journal

cdef list events_after(Host *h, uint64_t since):
    cdef uint64_t i = h.journal.events
    cdef Event *e
    cdef list out = []
    while i > h.journal.event_first and h.journal.event[(i - 1) & (EVENTS - 1)].op > since:
        i -= 1
        e = &h.journal.event[i & (EVENTS - 1)]
        out.append({
            "op": e.op, "kind": call_name(e.kind), "status": STATUS_NAMES[e.status], "check": CHECK_NAMES.get(e.check),
            "vm": e.vm if e.vm else None, "gpn": e.gpn if e.gpn != ~<uint64_t>0 else None,
            "mfn": e.mfn if e.mfn != NO_FRAME else None, "core": e.core if e.core != NO_FRAME else None,
            "amount": e.amount, "zeroed": e.zeroed, "shot": e.shot, "filled": e.filled, "evicted": e.evicted,
        })
    out.reverse()
    return out


CHANGE_COLUMNS = numpy.dtype([("mfn", "<u4"), ("old", "<u2"), ("new", "<u2")])


cdef object changes_between(Host *h, uint64_t since, uint64_t until):
    """Frames with another owner after `until` than after `since`, each with both."""
    cdef Journal *j = &h.journal
    cdef uint64_t place = j.changes, begin
    cdef uint32_t k, mfn
    cdef Change *change
    cdef dict found = {}
    while change_before(j, &place, since) != NULL:
        pass
    begin = place
    change = change_after(j, &place, until)
    while change != NULL:
        for k in range(change.count):
            if since < change_op(change, k) <= until:
                mfn = changed_frame(j, begin, change, k)
                found[mfn] = (found[mfn][0] if mfn in found else change.old, change.new)
        begin = place
        change = change_after(j, &place, until)
    rows = [(mfn, old, new) for mfn, (old, new) in sorted(found.items()) if old != new]
    return numpy.array(rows, dtype=CHANGE_COLUMNS)


cdef list bus_table(Host *h):
    """What hypervisor and devices remember of frames, by frame."""
    cdef uint32_t side, i
    cdef Passage *p
    cdef list out = []
    for side in range(2):
        for i in range(BUS_SETS):
            p = &h.bus.passage[side][i]
            if p.mfn:
                holder = f"device:{p.device}" if side else "hypervisor"
                out.append({"holder": holder, "mfn": p.mfn - 1, "perm": ("", "r", "w", "rw")[p.perm & 3]})
    return sorted(out, key=lambda row: (row["mfn"], row["holder"]))


cdef object frames_after(Host *h, uint64_t since):
    cdef uint64_t total = changed_total(&h.journal, since)
    cdef uint32_t[::1] view
    if total == 0:
        return numpy.empty(0, dtype=numpy.uint32)
    frames = numpy.empty(2 * total, dtype=numpy.uint32)
    view = frames
    total = changed_frames(&h.journal, since, &view[0])
    return frames[:total]


# Counters

cdef void tally_add(Tally *total, Tally *part) noexcept nogil:
    total.l1 += part.l1
    total.l2 += part.l2
    total.miss += part.miss
    total.faults += part.faults
    total.references += part.references


cdef dict tally_dict(Tally *t):
    return {"accesses": t.l1 + t.l2 + t.miss, "l1": t.l1, "l2": t.l2, "miss": t.miss, "faults": t.faults,
            "references": t.references}


cdef dict counters_of(Host *h, dict costs):
    cdef uint32_t slot
    cdef Tally total = h.tally
    cdef list vms = []
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            tally_add(&total, &h.vm[slot].tally)
            vms.append({"handle": h.vm[slot].handle, "slot": slot, "frames": h.frames.owned[slot],
                        "interrupts": h.vm[slot].interrupts, **tally_dict(&h.vm[slot].tally)})
    cycles = (
        (total.l1 + total.l2 + total.miss) * costs["access"] + total.l2 * costs["l2_hit"]
        + total.references * costs["walk_reference"] + h.counts.maps * (costs["map"] + costs["owner_check"])
        + h.counts.unmaps * costs["unmap"] + h.counts.zeroed * costs["zero"] + h.counts.shootdowns * costs["shootdown"]
        + h.counts.switches * costs["world_switch"] + h.counts.seals * costs["seal"]
        + h.counts.smis * costs["smi"] * h.cores
    )
    return {
        "op": h.journal.op, **tally_dict(&total), "cycles": cycles, "maps": h.counts.maps, "unmaps": h.counts.unmaps,
        "zeroed": h.counts.zeroed, "world_switches": h.counts.switches, "shootdowns": h.counts.shootdowns,
        "shot": h.counts.shot, "seals": h.counts.seals, "smis": h.counts.smis, "vms": vms,
        "owners": {name: h.frames.owned[<int>slot] for slot, name in owner_names(h).items()},
    }
