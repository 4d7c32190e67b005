"""Batches of page_map and page_unmap.

Most elements of a batch are plain: a 4 KiB page of a living VM, in a table that is there, under a row that checks, and
nothing else is known of page or frame. Those of one table are done here in one run, each with the checks and steps that
it has one by one; a run has one event and one old value, and is taken back whole. The first element that is not plain
ends the run; the caller does it as any operation.
"""

from libc.stdint cimport int64_t
from libc.string cimport memset

from hsvm_engine.core.bus cimport BUS_SETS, DEVICE_SIDE, HYPERVISOR_SIDE, Bus
from hsvm_engine.core.calls cimport rows
from hsvm_engine.core.context cimport Vm, vm_find
from hsvm_engine.core.frames cimport Frames, frame_zero, is_filled
from hsvm_engine.core.hypervisor cimport page_map, page_unmap
from hsvm_engine.core.journal cimport (
    OLD_RUN, Event, Journal, journal_begin, journal_changes, journal_event, journal_withdraw, keep,
)
from hsvm_engine.core.paging cimport (
    BIT_BORROWS, BIT_HAD_W, BIT_LENDS, BIT_SHARED, BIT_SHARED_W, PRESENT, Path, bit_of, leaf_entry, number_in,
    path_find,
)
from hsvm_engine.core.tlb cimport space_seek, tlb_holds
from hsvm_engine.core.types cimport (
    BUSY_CHECK, FREE, HUGE, NO_FRAME, OK, OWNER_CHECK, PROTECTED_CHECK, SLOT_CHECK, TLB_SHOOTDOWN, ZERO_ON_MAP,
    ZERO_ON_RELEASE, is_on, uint16_t, uint32_t,
)

cdef extern from * nogil:
    void __builtin_prefetch(const void *place, int write)

cdef enum:
    AHEAD = 24                # elements whose frame is fetched into the cache early
    INDEX_SHIFT = 53          # an old value holds for each element its old entry and, from here on, its index
    SLOT_SHIFT = 48           # place of the VM's slot in the first word; the table at 0


cdef struct Run:              # what neighbouring elements have in common
    uint64_t handle
    Vm *vm
    uint64_t region           # gpn >> 9 of the level 1 table, ~0 = none
    uint64_t place            # table and slot, the first word of an old value
    uint64_t *leaf            # its 512 entries
    uint32_t cached           # the VM's space if an unmap must look for TLB entries of its pages, else 0


cdef bint row_is_plain(Host *h, Args *a) noexcept nogil:
    """Whether map calls are validated in full and nothing unusual is under way."""
    if not h.counted or h.literal or h.smi or h.fault_nth or h.pending.slot or h.marks or h.journal.quiet:
        return False
    return (is_on(h.checks, SLOT_CHECK) and is_on(h.checks, OWNER_CHECK) and is_on(h.checks, PROTECTED_CHECK)
            and is_on(h.checks, BUSY_CHECK) and is_on(h.checks, TLB_SHOOTDOWN) and is_on(h.checks, ZERO_ON_RELEASE)
            and not is_on(h.checks, ZERO_ON_MAP))


cdef bint run_begin(Host *h, Run *run, uint64_t handle, bint map) noexcept nogil:
    """Find the VM; False unless it lives and what an unmap would shoot down is no more than a page's own entries."""
    run.handle = handle
    run.region = ~<uint64_t>0
    run.vm = vm_find(h, handle)
    run.cached = 0
    if run.vm == NULL or run.vm.stopped:
        return False
    if not map:
        run.cached = space_seek(&h.tlb, handle, 0)
    if run.cached and h.tlb.space[run.cached].live == 0 and h.tlb.space[run.cached].paged == 0:
        run.cached = 0
    return not run.cached or (h.tlb.space[run.cached].paged == 0 and h.tlb.cache == NULL)


cdef bint run_region(Host *h, Run *run, uint64_t gpn) noexcept nogil:
    """Find the level 1 table of the page; False unless there is one with bytes of its own."""
    cdef Path path
    run.region = ~<uint64_t>0
    if gpn >> 36:
        return False
    path_find(&h.frames, run.vm.root, gpn, &path)
    if path.lowest != 1 or h.frames.bytes[path.table[1]] == NULL:
        return False
    run.region = gpn >> 9
    run.place = path.table[1] | <uint64_t>run.vm.slot << SLOT_SHIFT
    run.leaf = <uint64_t *>h.frames.bytes[path.table[1]]
    return True


cdef inline bint on_bus(Bus *b, uint64_t mfn) noexcept nogil:
    """Whether hypervisor or devices have a translation of the frame."""
    return (b.passage[<int>HYPERVISOR_SIDE][mfn % BUS_SETS].mfn == mfn + 1
            or b.passage[<int>DEVICE_SIDE][mfn % BUS_SETS].mfn == mfn + 1)


cdef inline uint64_t not_plain() noexcept nogil:
    """What a leaf may say of its page that makes it more than plain."""
    return bit_of(BIT_SHARED) | bit_of(BIT_SHARED_W) | bit_of(BIT_BORROWS) | bit_of(BIT_LENDS) | bit_of(BIT_HAD_W)


cdef bint bus_is_empty(Bus *b) noexcept nogil:
    cdef uint32_t i, used = 0
    for i in range(BUS_SETS):
        used |= b.passage[<int>HYPERVISOR_SIDE][i].mfn | b.passage[<int>DEVICE_SIDE][i].mfn
    return used == 0


cdef uint64_t map_run(Host *h, Run *run, const uint64_t *gpn, const uint64_t *mfn, uint64_t fixed, uint64_t most,
                      uint32_t perm, uint64_t *kept, uint32_t *frames) noexcept nogil:
    """Map pages of one table until one is not plain; returns how many. `mfn` NULL: the frame `fixed` for all."""
    cdef uint16_t *owner = h.frames.owner
    cdef uint32_t *leaves = h.frames.leaves
    cdef uint64_t *leaf = run.leaf
    cdef uint64_t i, frame, count = h.frames.count, region = run.region, first = leaf_entry(0, perm)
    cdef uint32_t index
    cdef uint16_t slot = <uint16_t>run.vm.slot
    cdef bint quiet_bus = bus_is_empty(&h.bus)
    for i in range(most):
        if mfn != NULL and i + AHEAD < most and mfn[i + AHEAD] < count:
            __builtin_prefetch(&owner[mfn[i + AHEAD]], 1)
            __builtin_prefetch(&leaves[mfn[i + AHEAD]], 1)
        frame = mfn[i] if mfn != NULL else fixed
        index = gpn[i] & 511
        if gpn[i] >> 9 != region or frame >= count or leaf[index] or owner[frame] != FREE:
            return i
        if not quiet_bus and on_bus(&h.bus, frame):
            return i
        kept[i] = <uint64_t>index << INDEX_SHIFT
        frames[i] = <uint32_t>frame
        leaf[index] = first | frame << 12
        owner[frame] = slot
        leaves[frame] = 1
    return most


cdef uint64_t unmap_run(Host *h, Run *run, const uint64_t *gpn, uint64_t most, uint64_t *kept,
                        uint32_t *frames) noexcept nogil:
    """Unmap pages of one table, each in the order of a release, until one is not plain; returns how many."""
    cdef Frames *f = &h.frames
    cdef uint16_t *owner = f.owner
    cdef uint32_t *leaves = f.leaves
    cdef uint64_t *leaf = run.leaf
    cdef uint64_t i, entry, frame, count = f.count, region = run.region, unusual = not_plain()
    cdef uint32_t index
    cdef uint16_t slot = <uint16_t>run.vm.slot
    cdef bint quiet_bus = bus_is_empty(&h.bus)
    for i in range(most):
        if i + AHEAD < most:
            frame = number_in(leaf[gpn[i + AHEAD] & 511])
            if frame < count:
                __builtin_prefetch(&owner[frame], 1)
                __builtin_prefetch(&leaves[frame], 1)
        index = gpn[i] & 511
        entry = leaf[index]
        frame = number_in(entry)
        if gpn[i] >> 9 != region or not entry & PRESENT or entry & unusual or frame >= count:
            return i
        if owner[frame] != slot or leaves[frame] != 1 or (not quiet_bus and on_bus(&h.bus, frame)):
            return i
        if run.cached and tlb_holds(&h.tlb, run.cached, gpn[i]):
            return i
        kept[i] = entry | <uint64_t>index << INDEX_SHIFT
        frames[i] = <uint32_t>frame
        leaf[index] = 0
        leaves[frame] = 0
        if is_filled(f, <uint32_t>frame):
            frame_zero(f, <uint32_t>frame)
        owner[frame] = <uint16_t>FREE
    return most


cdef void book(Host *h, bint map, uint32_t slot, int64_t pages) noexcept nogil:
    """Count pages that were mapped or released; fewer than 0 when they are taken back."""
    h.frames.owned[slot] += pages if map else -pages
    h.frames.owned[<int>FREE] += -pages if map else pages
    if map:
        h.counts.maps += pages
        return
    h.counts.unmaps += pages
    h.counts.releases += pages
    h.counts.shootdowns += pages
    h.counts.zeroed += pages


cdef uint64_t one_run(Host *h, int number, bint map, Run *run, Columns *c, uint64_t i, Args *a) noexcept nogil:
    """One run from element `i` on, with its old value and its event; returns its length, 0 with nothing changed."""
    cdef Journal *j = &h.journal
    cdef uint64_t[HUGE + 1] kept
    cdef uint32_t[HUGE] frames
    cdef uint64_t *room = kept + 1
    cdef uint64_t most = min(c.count - i, <uint64_t>HUGE), done
    cdef uint16_t slot = <uint16_t>run.vm.slot
    cdef Event *event
    journal_begin(j)
    if map:
        done = map_run(h, run, c.gpn + i, c.mfn + i if c.mfn != NULL else NULL, a.mfn, most, a.perm, room, frames)
    else:
        done = unmap_run(h, run, c.gpn + i, most, room, frames)
    if done == 0:
        j.op -= 1
        journal_withdraw(j)
        return 0
    j.op += done - 1
    journal_changes(j, frames, <uint32_t>done, <uint16_t>FREE if map else slot, slot if map else <uint16_t>FREE)
    kept[0] = run.place
    keep(j, OLD_RUN, 1 if map else 0, kept, <uint32_t>(8 * (done + 1)))
    event = journal_event(j)
    event.kind, event.status, event.vm = <uint8_t>number, <uint8_t>OK, run.handle
    event.gpn, event.amount = c.gpn[i], done
    event.mfn = event.core = <uint32_t>NO_FRAME
    event.zeroed = 0 if map else <uint32_t>done
    book(h, map, run.vm.slot, <int64_t>done)
    return done


cdef uint64_t burst(Host *h, int number, Columns *c, uint64_t first, Args *a, uint8_t *statuses) noexcept nogil:
    """Do the elements from `first` on in runs, until one is not plain; returns how many."""
    cdef bint map = rows[number].call == page_map
    cdef uint64_t i = first, done = 1
    cdef Run run
    if not map and rows[number].call != page_unmap or map and a.size != 1 or not row_is_plain(h, a):
        return 0
    if c.gpn == NULL or c.vm != NULL or not run_begin(h, &run, a.vm, map):
        return 0
    while done and i < c.count and (c.gpn[i] >> 9 == run.region or run_region(h, &run, c.gpn[i])):
        done = one_run(h, number, map, &run, c, i, a)
        memset(statuses + i, OK, done)
        i += done
    return i - first


cdef void run_back(Host *h, bint map, const uint64_t *kept, uint64_t done) noexcept nogil:
    """Take a run back. The journal must be quiet; pages that were zeroed get their bytes back by themselves."""
    cdef Frames *f = &h.frames
    cdef uint32_t slot = <uint32_t>(kept[0] >> SLOT_SHIFT), index
    cdef uint64_t *leaf = <uint64_t *>f.bytes[<uint32_t>kept[0]]
    cdef uint64_t i, mfn, entry
    for i in range(done):
        index = <uint32_t>(kept[i + 1] >> INDEX_SHIFT) & 511
        entry = 0 if map else kept[i + 1] & ~(<uint64_t>511 << INDEX_SHIFT)
        mfn = number_in(leaf[index] if map else entry)
        leaf[index] = entry
        f.owner[mfn] = <uint16_t>FREE if map else <uint16_t>slot
        f.leaves[mfn] = 0 if map else 1
    book(h, map, slot, -<int64_t>done)
