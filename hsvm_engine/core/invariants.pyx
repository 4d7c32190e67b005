"""Invariants of engine.md section 9. A check that is off, or that the row does not make, switches its rules off too."""

from libc.stdlib cimport calloc, free

from hsvm_engine.core.bus cimport BUS_SETS, HYPERVISOR_SIDE, Passage
from hsvm_engine.core.context cimport Core, Vm, vm_find
from hsvm_engine.core.frames cimport (
    LENT_SHIFT, NO_FRAME, POOL_CONTEXT, POOL_FREE, POOL_RESERVE, POOL_SHADOW, POOL_TABLE, Frames, entry_read,
    frame_is_zero, frame_of_page, note_of, use_of,
)
from hsvm_engine.core.pages cimport visited
from hsvm_engine.core.paging cimport (
    BIT_BORROWS, LARGE, PRESENT, Leaf, Translation, each_leaf, guest_walk, has_bit, nested_walk, number_in,
)
from hsvm_engine.core.tlb cimport Level, tag_space
from hsvm_engine.core.types cimport (
    CONTEXT_PROTECTION, DMA_CHECK, FIRST_VM, FREE, HSVM, HUGE, HV_ACCESS_CHECK, HYPERVISOR, MAX_SLOT,
    NPT_PROTECTION, OK, OWNER_CHECK, PERM_R, PERM_W, PROTECTED_CHECK, TLB_SHOOTDOWN, ZERO_ON_RELEASE, is_on,
    uint8_t, uint64_t,
)
from hsvm_engine.core.types import InvariantError


cdef bint entry_agrees(Host *h, uint32_t which, uint64_t place, bint guest_too) noexcept nogil:
    """Whether a TLB entry says what a walk would say now; without `guest_too` only its nested half is asked.

    A guest that edits its own table without a flush makes only itself stale: that is no fault of the host.
    """
    cdef Level *level = &h.tlb.level[which]
    cdef uint64_t tag = level.tag[place]
    cdef uint32_t space = tag_space(tag), data = level.data[place], i, pages = HUGE if tag & 1 else 1
    cdef uint64_t cr3 = h.tlb.space[space].cr3
    cdef Vm *vm = vm_find(h, h.tlb.space[space].handle)
    cdef Leaf leaf
    cdef Translation x
    if vm == NULL:
        return False
    if cr3 and guest_too:
        return (guest_walk(&h.frames, vm.root, cr3, (tag >> 28) << 12, 0, &x, NULL) == OK and x.mfn == data >> 4
                and x.perm == data & 7)
    for i in range(pages):
        if nested_walk(&h.frames, vm.root, level.gpn[place] + i, &leaf) != OK or leaf.mfn != (data >> 4) + i:
            return False
        if (data & 7) & ~leaf.perm or (not cr3 and leaf.perm != data & 7):
            return False
    return True


cdef struct Visited:
    Host *host
    Vm *vm
    uint32_t *leaves        # per frame: leaves that map it
    uint32_t bad            # frame at which the visit stopped
    int why


cdef bint borrows(Host *h, Leaf *leaf) noexcept nogil:
    """Whether the leaf is a recorded merge: it cannot write, and the frame's lender shows the frame too."""
    cdef uint64_t lender = h.frames.lender[leaf.mfn]
    cdef uint32_t slot = <uint32_t>(lender >> LENT_SHIFT) & 0xFFFF
    cdef Leaf shown
    if not has_bit(leaf.entry, BIT_BORROWS) or leaf.perm & PERM_W or h.vm[slot] == NULL:
        return False
    if nested_walk(&h.frames, h.vm[slot].root, lender & ((<uint64_t>1 << LENT_SHIFT) - 1), &shown) != OK:
        return False
    return shown.mfn == leaf.mfn and not shown.perm & PERM_W and h.frames.owner[leaf.mfn] == slot


cdef bint count_leaf(void *context, Leaf *leaf) noexcept nogil:
    cdef Visited *v = <Visited *>context
    cdef uint32_t mfn
    for mfn in range(leaf.mfn, leaf.mfn + leaf.size):
        v.bad = mfn
        if mfn >= v.host.frames.count or v.host.frames.owner[mfn] == HSVM:
            v.why = 1
            return True
        if v.host.frames.owner[mfn] != v.vm.slot and not (leaf.size == 1 and borrows(v.host, leaf)):
            v.why = 2
            return True
        v.leaves[mfn] += 1
    return False


cdef void check_counts(Host *h) except *:
    cdef Frames *f = &h.frames
    cdef uint32_t i
    cdef uint64_t *seen = <uint64_t *>calloc(MAX_SLOT + 1, sizeof(uint64_t))
    if seen == NULL:
        raise MemoryError
    try:
        for i in range(f.count):
            seen[f.owner[i]] += 1
        for i in range(MAX_SLOT + 1):
            if seen[i] != f.owned[i]:
                raise InvariantError(f"owner-counts: {f.owned[i]} frames booked on owner {i}, the table has {seen[i]}")
            if i >= FIRST_VM and seen[i] and h.vm[i] == NULL:
                raise InvariantError(f"owner-counts: {seen[i]} frames belong to slot {i}, where no VM lives")
    finally:
        free(seen)


cdef void check_pool(Host *h) except *:
    """Every table and context frame is used once."""
    cdef Frames *f = &h.frames
    cdef uint32_t slot, i, table, used = 0, noted = 0
    cdef Vm *vm
    cdef uint8_t *seen = <uint8_t *>calloc(f.count, 1)
    if seen == NULL:
        raise MemoryError
    try:
        for slot in range(FIRST_VM, h.vm_end):
            vm = h.vm[slot]
            if vm == NULL:
                continue
            table = vm.tables
            while table != NO_FRAME:
                if seen[table] or use_of(f, table).note & 3 not in (POOL_TABLE, POOL_RESERVE):
                    raise InvariantError(f"tables: frame {table} is not one table of one VM")
                seen[table] = 1
                used += 1
                table = use_of(f, table).next
            if not seen[vm.root]:
                raise InvariantError(f"tables: root of VM {vm.handle} is not among its tables")
            for i in range(vm.vcpus):
                if seen[vm.context[i]] or use_of(f, vm.context[i]).note != POOL_CONTEXT:
                    raise InvariantError(f"tables: frame {vm.context[i]} is not one context of one vcpu")
                seen[vm.context[i]] = 1
                used += 1
        for i in range(f.pool_first, f.pool_end):
            noted += use_of(f, i).note not in (POOL_FREE, POOL_SHADOW)
        if used != noted:
            raise InvariantError(f"tables: {noted} pool frames are in use, VMs know {used}")
    finally:
        free(seen)


cdef void check_tree(Host *h, Vm *vm, uint32_t table, uint32_t level, uint8_t *seen) except *:
    """Tables form a tree: each is reached once, and only this VM's own tables are."""
    cdef Frames *f = &h.frames
    cdef uint32_t i
    cdef uint64_t entry
    if seen[table]:
        raise InvariantError(f"tree: frame {table} is reached twice in the tables of VM {vm.handle}")
    if f.owner[table] != HSVM or note_of(f, table) != POOL_TABLE:
        raise InvariantError(f"tree: frame {table} is no protected table")
    seen[table] = 1
    if level == 1:
        return
    for i in range(512):
        entry = entry_read(f, table, i)
        if entry & PRESENT and not (level == 2 and entry & LARGE):
            if number_in(entry) >= f.count:
                raise InvariantError(f"tree: frame {table} names a frame that the host does not have")
            check_tree(h, vm, <uint32_t>number_in(entry), level - 1, seen)


cdef void check_trees(Host *h) except *:
    cdef uint32_t slot
    cdef uint8_t *seen = <uint8_t *>calloc(h.frames.count, 1)
    if seen == NULL:
        raise MemoryError
    try:
        for slot in range(FIRST_VM, h.vm_end):
            if h.vm[slot] != NULL:
                check_tree(h, h.vm[slot], h.vm[slot].root, 4, seen)
    finally:
        free(seen)


cdef void check_leaves(Host *h) except *:
    """A leaf maps a frame of its VM, never a protected one; a VM's frame has exactly one leaf."""
    cdef uint32_t slot, mfn
    cdef Visited v
    v.leaves = <uint32_t *>calloc(h.frames.count, sizeof(uint32_t))
    v.host, v.why = h, 0
    if v.leaves == NULL:
        raise MemoryError
    try:
        for slot in range(FIRST_VM, h.vm_end):
            v.vm = h.vm[slot]
            if v.vm == NULL or v.vm.stopped:
                continue
            if each_leaf(&h.frames, v.vm.root, 4, 0, False, visited(h), count_leaf, &v):
                rule = "leaf-protected: a leaf maps H-SVM's" if v.why == 1 else "leaf-owner: a leaf maps another's"
                raise InvariantError(f"{rule} frame {v.bad} into VM {v.vm.handle}")
        for mfn in range(h.frames.count):
            if v.leaves[mfn] != h.frames.leaves[mfn]:
                booked = h.frames.leaves[mfn]
                raise InvariantError(f"leaf-count: frame {mfn} has {v.leaves[mfn]} leaves, {booked} are booked")
            if h.frames.owner[mfn] < FIRST_VM or h.literal:
                continue
            expected = 0 if h.pending.slot and h.pending.mfn == mfn and h.pending.step < 4 else 1
            if (v.leaves[mfn] > 1 and not h.frames.lender[mfn]) or v.leaves[mfn] < expected:
                raise InvariantError(f"one-leaf: frame {mfn} has {v.leaves[mfn]} leaves")
    finally:
        free(v.leaves)


cdef void check_zero(Host *h) except *:
    """FREE frames are zero; pool frames that nothing uses are too."""
    cdef Frames *f = &h.frames
    cdef uint32_t page, mfn
    for page in range(f.fresh):
        mfn = frame_of_page(f, page)
        if mfn == NO_FRAME or frame_is_zero(f, mfn):
            continue
        if f.owner[mfn] == FREE or (f.owner[mfn] == HSVM and note_of(f, mfn) == POOL_FREE):
            raise InvariantError(f"free-is-zero: frame {mfn} is free and holds a non-zero byte")


cdef bint is_due(Host *h, Level *level, uint64_t place) noexcept nogil:
    """Whether the shootdown of an entry is still to come, because its page's release was stopped before."""
    cdef uint32_t space = tag_space(level.tag[place])
    if h.pending.slot == 0 or h.pending.step != 1 or h.vm[h.pending.slot].handle != h.tlb.space[space].handle:
        return False
    return h.tlb.space[space].cr3 != 0 or level.gpn[place] <= h.pending.gpn < level.gpn[place] + (
        HUGE if level.tag[place] & 1 else 1)


cdef void check_tlb(Host *h) except *:
    cdef uint32_t which
    cdef uint64_t place
    cdef Level *level
    for which in range(2 * h.cores):
        level = &h.tlb.level[which]
        for place in range(<uint64_t>level.sets * level.ways):
            if level.tag[place] and not entry_agrees(h, which, place, False) and not is_due(h, level, place):
                at = f"core {which // 2}, level {1 + which % 2}, place {place}"
                raise InvariantError(f"tlb: {at} differs from a walk, or its VM is gone")


cdef void check_bus(Host *h) except *:
    """What hypervisor and devices remember is what they would be allowed now."""
    cdef uint32_t side, i, allowed, mfn
    cdef Passage *p
    for side in range(2):
        for i in range(BUS_SETS):
            p = &h.bus.passage[side][i]
            if p.mfn == 0:
                continue
            mfn = p.mfn - 1
            allowed = PERM_R | PERM_W if h.frames.owner[mfn] == HYPERVISOR else h.frames.shared[mfn]
            if h.frames.owner[mfn] == FREE and side == HYPERVISOR_SIDE:
                allowed = PERM_R
            if p.perm & ~allowed:
                raise InvariantError(f"bus: side {side} may reach frame {mfn} by an old translation")


cdef void check_cores(Host *h) except *:
    """A vcpu is on at most one core, and both sides say so."""
    cdef uint32_t slot, i, running = 0, booked = 0
    cdef Core *core
    cdef Vm *vm
    for i in range(h.cores):
        core = &h.core[i]
        if core.vm != NULL:
            running += 1
            if core.vm.core[core.vcpu] != i + 1:
                raise InvariantError(f"cores: core {i} runs a vcpu that is booked elsewhere")
    for slot in range(FIRST_VM, h.vm_end):
        vm = h.vm[slot]
        if vm != NULL:
            for i in range(vm.vcpus):
                booked += vm.core[i] != 0
    if booked != running:
        raise InvariantError(f"cores: {booked} vcpus are booked on cores, {running} run")


cdef void check_contexts(Host *h) except *:
    """Saved contexts lie in protected frames."""
    cdef uint32_t slot, i
    cdef Vm *vm
    for slot in range(FIRST_VM, h.vm_end):
        vm = h.vm[slot]
        if vm != NULL:
            for i in range(vm.vcpus):
                if h.frames.owner[vm.context[i]] != HSVM:
                    raise InvariantError(f"contexts: a context of VM {vm.handle} lies in frame {vm.context[i]}")


cdef list check_host(Host *h):
    """Names of the rules that were checked; raises InvariantError at the first that is broken."""
    cdef bint bus = is_on(h.checks, HV_ACCESS_CHECK) and is_on(h.checks, DMA_CHECK)   # nobody stores past the checks
    cdef bint tables = bus and is_on(h.checks, NPT_PROTECTION) and is_on(h.checks, PROTECTED_CHECK)
    cdef bint owners = tables and is_on(h.checks, OWNER_CHECK)
    cdef list done = ["tables", "cores"]
    check_pool(h)
    check_cores(h)
    if bus or h.frames.table_frames == 0:
        check_counts(h)
        done.append("owner-counts")
    if tables:
        check_trees(h)
        done.append("tree")
    if owners:
        check_leaves(h)
        done += ["leaf-owner", "leaf-protected", "leaf-count"] + ([] if h.literal else ["one-leaf"])
    if owners and is_on(h.checks, ZERO_ON_RELEASE):
        check_zero(h)
        done.append("free-is-zero")
    if tables and is_on(h.checks, TLB_SHOOTDOWN):
        check_tlb(h)
        check_bus(h)
        done += ["tlb", "bus"]
    if tables and is_on(h.checks, CONTEXT_PROTECTION):
        check_contexts(h)
        done.append("contexts")
    return done
