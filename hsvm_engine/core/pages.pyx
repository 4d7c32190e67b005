"""Guest pages. What is known of a 4 KiB page beside its frame stands in its leaf (PageBit_t), so it goes with the leaf.

A release has four steps: 1 clear the leaf, 2 shoot down every core, 3 zero the frame, 4 mark it FREE. Where map calls
are not validated (Host.counted is off) it is one store, as today's hypervisors do it: nothing is shot down or zeroed.
"""

from libc.string cimport memmove, memset

from hsvm_engine.core.bus cimport bus_forget
from hsvm_engine.core.context cimport Mark, Pending, pool_put, refuse_frame
from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_TABLE, Frames, entry_read, entry_write, frame_zero, keep_entry, set_owner, use_of,
)
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.paging cimport (
    BIT_BORROWS, BIT_HAD_W, BIT_LENDS, BIT_SHARED, BIT_SHARED_W, Leaf, PageBit_t, bit_of, each_leaf, has_bit,
    index_of, leaf_split, number_in, path_find, reserve_of,
)
from hsvm_engine.core.shadow cimport pool_find_all
from hsvm_engine.core.tlb cimport tlb_shootdown
from hsvm_engine.core.types cimport (
    E_NOMEM, E_OWNER, E_PROT, E_STATE, FIRST_VM, FREE, HSVM, HUGE, OK, OWNER_CHECK, PERM_R, PERM_W, PROTECTED_CHECK,
    TLB_SHOOTDOWN, ZERO_ON_RELEASE, is_on,
)


cdef uint8_t *visited(Host *h) noexcept nogil:
    """An empty set of frames for `each_leaf`; NULL where tables cannot be tied into knots."""
    if h.visited != NULL:
        memset(h.visited, 0, h.frames.count / 8 + 1)
    return h.visited


cdef uint8_t *visited_again(Host *h) noexcept nogil:
    """A second such set, for a visit within a visit."""
    cdef uint8_t *second = h.visited + h.frames.count / 8 + 1
    if h.visited == NULL:
        return NULL
    memset(second, 0, h.frames.count / 8 + 1)
    return second


# Frames

cdef void own(Host *h, uint32_t mfn, uint16_t owner) noexcept nogil:
    """Change the owner; hypervisor and devices forget the frame."""
    set_owner(&h.frames, mfn, owner)
    if is_on(h.checks, TLB_SHOOTDOWN):
        bus_forget(&h.bus, mfn)


cdef void wipe(Host *h, uint32_t mfn, Out *o) noexcept nogil:
    if is_on(h.checks, ZERO_ON_RELEASE):
        frame_zero(&h.frames, mfn)
        o.zeroed += 1
        h.counts.zeroed += 1


cdef void page_shoot(Host *h, Vm *vm, uint64_t gpn, Out *o) noexcept nogil:
    """Make every core forget what depends on this guest page's leaf."""
    if is_on(h.checks, TLB_SHOOTDOWN):
        o.shot += tlb_shootdown(&h.tlb, vm.handle, gpn)
        h.counts.shootdowns += 1


cdef Status_t must_own(Host *h, uint32_t mfn, uint16_t owner, Out *o) noexcept nogil:
    """E_PROT for H-SVM's frames, E_OWNER for those of anybody else but `owner`."""
    if h.frames.owner[mfn] == HSVM and is_on(h.checks, PROTECTED_CHECK):
        return refuse_frame(h, o, PROTECTED_CHECK, mfn, E_PROT)
    if h.frames.owner[mfn] != owner and is_on(h.checks, OWNER_CHECK):
        return refuse_frame(h, o, OWNER_CHECK, mfn, E_OWNER)
    return OK


# Tables

cdef uint32_t table_take(Host *h, Vm *vm, uint32_t mfn, uint32_t note) noexcept nogil:
    """Make a pool frame a table of the VM."""
    pool_put(h, mfn, note)
    keep_at(&h.journal, &vm.tables, 4)
    use_of(&h.frames, mfn).next = vm.tables
    vm.tables = mfn
    return mfn


cdef uint32_t split(Host *h, Vm *vm, Path *path, uint64_t gpn, uint32_t *pool) noexcept nogil:
    """Split the 2 MiB leaf at `path` with its reserve, or with `pool[0]` where it never had one; the new table."""
    cdef uint32_t table = reserve_of(&h.frames, vm.tables, gpn)
    if table == NO_FRAME:
        table = table_take(h, vm, pool[0], POOL_TABLE)
    leaf_split(&h.frames, path.table[2], gpn, table)
    return table


cdef Status_t split_page(Host *h, Vm *vm, uint64_t gpn, Path *path) noexcept nogil:
    """Make the mapped page that `path` leads to one with a 4 KiB leaf, and `path` lead there."""
    cdef uint32_t[1] pool
    if path.lowest == 1:
        return OK
    if reserve_of(&h.frames, vm.tables, gpn) == NO_FRAME and pool_find_all(&h.frames, &h.shadow, 1, pool) == 0:
        return E_NOMEM
    path.table[1] = split(h, vm, path, gpn, pool)
    path.lowest = 1
    path.entry = entry_read(&h.frames, path.table[1], index_of(gpn, 1))
    return OK


# Leaves

cdef bint is_merged(uint64_t entry) noexcept nogil:
    return has_bit(entry, BIT_BORROWS) or has_bit(entry, BIT_LENDS)


cdef void leaf_in(Host *h, Vm *vm, uint32_t table, uint32_t index, uint32_t mfn, uint64_t entry) noexcept nogil:
    """Write a 4 KiB leaf and give its frame to the VM."""
    entry_write(&h.frames, table, index, entry)
    own(h, mfn, <uint16_t>vm.slot)
    if h.counted:
        keep_entry(&h.frames, mfn)
        h.frames.leaves[mfn] += 1


cdef void leaf_out(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn) noexcept nogil:
    """Clear a 4 KiB leaf with all that is known of its page. The frame keeps its owner and bytes."""
    cdef Frames *f = &h.frames
    cdef uint64_t entry = entry_read(f, table, index), mfn = number_in(entry)
    if h.marks:
        mark_drop(h, vm.slot, gpn)
    if mfn < f.count and not h.counted and is_merged(entry):
        merge_forget(h, <uint32_t>mfn, entry)
    if has_bit(entry, BIT_SHARED):
        share_leaf(h, vm, table, index, 0)
    entry_write(f, table, index, 0)
    if h.counted and mfn < f.count and f.leaves[mfn]:
        keep_entry(f, <uint32_t>mfn)
        f.leaves[mfn] -= 1


# Shares

cdef struct Sharing:
    uint64_t mfn
    uint32_t perm


cdef bint add_share(void *context, Leaf *leaf) noexcept nogil:
    cdef Sharing *s = <Sharing *>context
    if leaf.size == 1 and leaf.mfn == s.mfn and has_bit(leaf.entry, BIT_SHARED):
        s.perm |= PERM_R | (PERM_W if has_bit(leaf.entry, BIT_SHARED_W) else 0)
    return False


cdef void share_leaf(Host *h, Vm *vm, uint32_t table, uint32_t index, uint32_t perm) noexcept nogil:
    """Share a page for `perm`, 0 for not at all. A frame with several leaves is shared as any of them is."""
    cdef Frames *f = &h.frames
    cdef uint64_t entry = entry_read(f, table, index)
    cdef Sharing s
    entry &= ~(bit_of(BIT_SHARED) | bit_of(BIT_SHARED_W))
    if perm & PERM_R:
        entry |= bit_of(BIT_SHARED)
    if perm & PERM_W:
        entry |= bit_of(BIT_SHARED_W)
    entry_write(f, table, index, entry)
    s.mfn, s.perm = number_in(entry), perm
    if s.mfn >= f.count:
        return
    if h.counted and f.leaves[s.mfn] > 1:
        each_leaf(f, vm.root, 4, 0, False, visited_again(h), add_share, &s)
    keep_entry(f, <uint32_t>s.mfn)
    f.shared[s.mfn] = <uint8_t>s.perm
    if is_on(h.checks, TLB_SHOOTDOWN):
        bus_forget(&h.bus, <uint32_t>s.mfn)


# Merges that come apart because a hypervisor that may do everything took a page away

cdef struct Parting:
    Host *host
    uint32_t mfn
    uint64_t drop             # bits of PageBit_t to take off
    PageBit_t where           # of leaves with this bit


cdef bint part_leaf(void *context, Leaf *leaf) noexcept nogil:
    cdef Parting *p = <Parting *>context
    if leaf.size == 1 and leaf.mfn == p.mfn and has_bit(leaf.entry, p.where):
        entry_write(&p.host.frames, leaf.table, leaf.index, leaf.entry & ~p.drop)
    return False


cdef void merge_forget(Host *h, uint32_t mfn, uint64_t entry) noexcept nogil:
    """The record of a merge goes with either of its leaves; nobody's permission changes."""
    cdef Frames *f = &h.frames
    cdef uint32_t slot
    cdef Parting p
    keep_entry(f, mfn)
    f.leaves[mfn] = f.leaves[mfn] - 1 if has_bit(entry, BIT_BORROWS) and f.leaves[mfn] > 2 else 0
    if f.leaves[mfn]:
        return
    f.lender[mfn] = 0
    p.host, p.mfn = h, mfn
    p.where = BIT_LENDS if has_bit(entry, BIT_BORROWS) else BIT_BORROWS
    p.drop = bit_of(p.where) | bit_of(BIT_HAD_W)
    for slot in range(FIRST_VM, h.vm_end):
        if h.vm[slot] != NULL:
            each_leaf(f, h.vm[slot].root, 4, 0, False, visited_again(h), part_leaf, &p)


# Release

cdef uint32_t fault_stop(Host *h) noexcept nogil:
    """Count one release of a frame: the step after which it is to stop, 0 for none."""
    h.counts.releases += 1
    return h.fault_step if h.counts.releases == h.fault_nth else 0


cdef Status_t pend(Host *h, Vm *vm, uint64_t gpn, uint32_t mfn, uint32_t step) noexcept nogil:
    keep_at(&h.journal, &h.pending, sizeof(Pending))
    h.pending.slot = vm.slot
    h.pending.gpn = gpn
    h.pending.mfn = mfn
    h.pending.step = step
    return E_STATE


cdef Status_t release_frame(Host *h, Vm *vm, uint64_t gpn, uint32_t mfn, Out *o) noexcept nogil:
    """Steps 2 to 4 for a frame whose last leaf is gone; E_STATE where the fault option stops it."""
    cdef uint32_t stop = fault_stop(h)
    h.counts.unmaps += 1
    if stop == 1:
        return pend(h, vm, gpn, mfn, 1)
    page_shoot(h, vm, gpn, o)
    if stop == 2:
        return pend(h, vm, gpn, mfn, 2)
    wipe(h, mfn, o)
    if stop == 3:
        return pend(h, vm, gpn, mfn, 3)
    own(h, mfn, FREE)
    return pend(h, vm, gpn, mfn, 4) if stop == 4 else OK


cdef Status_t release_page(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn, Out *o) noexcept nogil:
    """Take a page with a 4 KiB leaf from its VM; the frame is released with its last leaf."""
    cdef uint64_t mfn = number_in(entry_read(&h.frames, table, index))
    leaf_out(h, vm, table, index, gpn)
    if mfn >= h.frames.count:                   # only where the hypervisor writes entries itself
        return OK
    if not h.counted:
        h.counts.unmaps += 1
        own(h, <uint32_t>mfn, FREE)
        return OK
    if h.frames.leaves[mfn]:                    # rule `literal`: another page of the VM shows the frame
        page_shoot(h, vm, gpn, o)
        return OK
    return release_frame(h, vm, gpn, <uint32_t>mfn, o)


cdef Status_t release_huge(Host *h, Vm *vm, Leaf *leaf, Out *o) noexcept nogil:
    """Take a 2 MiB leaf whole from a VM that is deleted, or page by page where a stop may come between."""
    cdef uint32_t mfn, i
    cdef Path path
    cdef Status_t status = OK
    if h.counted and h.counts.releases < h.fault_nth <= h.counts.releases + HUGE:
        path_find(&h.frames, vm.root, leaf.gpn, &path)
        status = split_page(h, vm, leaf.gpn, &path)
        i = 0
        while status == OK and i < HUGE:
            status = release_page(h, vm, path.table[1], i, leaf.gpn + i, o)
            i += 1
        return status
    entry_write(&h.frames, leaf.table, leaf.index, 0)
    if h.counted:
        page_shoot(h, vm, leaf.gpn, o)
        h.counts.releases += HUGE
    for mfn in range(leaf.mfn, min(leaf.mfn + HUGE, h.frames.count)):
        if h.counted and h.frames.leaves[mfn]:
            keep_entry(&h.frames, mfn)
            h.frames.leaves[mfn] -= 1
            if h.frames.leaves[mfn]:
                continue
        wipe(h, mfn, o)
        own(h, mfn, FREE)
        h.counts.unmaps += 1
    return OK


cdef bint is_pending(Host *h, Vm *vm, uint64_t gpn) noexcept nogil:
    return h.pending.slot == vm.slot and h.pending.gpn == gpn


cdef void finish_pending(Host *h, Out *o) noexcept nogil:
    """Do the steps that a stopped release still needs. A frame that was FREE already may be somebody's by now."""
    cdef Vm *vm = h.vm[h.pending.slot]
    cdef uint32_t step = h.pending.step, mfn = h.pending.mfn
    if step < 2:
        page_shoot(h, vm, h.pending.gpn, o)
    if step < 3:
        wipe(h, mfn, o)
    if step < 4:
        own(h, mfn, FREE)
    keep_at(&h.journal, &h.pending, sizeof(Pending))
    memset(&h.pending, 0, sizeof(Pending))


# Marks: which pages may be merged with whose

cdef uint32_t mark_place(Host *h, uint32_t slot, uint64_t gpn, uint64_t partner) noexcept nogil:
    """First row that is not below this one."""
    cdef uint32_t low = 0, high = h.marks, middle
    cdef Mark *m
    while low < high:
        middle = (low + high) / 2
        m = &h.mark[middle]
        if m.slot < slot or (m.slot == slot and (m.gpn < gpn or (m.gpn == gpn and m.partner < partner))):
            low = middle + 1
        else:
            high = middle
    return low


cdef void mark_drop(Host *h, uint32_t slot, uint64_t gpn) noexcept nogil:
    """Take every mark off a page."""
    cdef uint32_t first = mark_place(h, slot, gpn, 0), end = mark_place(h, slot, gpn + 1, 0)
    if first == end:
        return
    keep_at(&h.journal, &h.mark[first], <uint64_t>(h.marks - first) * sizeof(Mark))
    keep_at(&h.journal, &h.marks, 4)
    memmove(&h.mark[first], &h.mark[end], <size_t>(h.marks - end) * sizeof(Mark))
    h.marks -= end - first
