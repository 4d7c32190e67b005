"""What a guest does on its core and what a device does on the bus."""

from libc.string cimport memcpy, memset

from hsvm_engine.core.context cimport Core, Vm, guest_table_add, guest_tables_reserve, is_guest_table, refuse_frame
from hsvm_engine.core.frames cimport entry_read, entry_write, frame_is_zero, frame_read, frame_write
from hsvm_engine.core.paging cimport (
    PRESENT, TABLE_FLAGS, Leaf, Translation, each_leaf, index_of, leaf_entry, nested_walk, number_in,
)
from hsvm_engine.core.tlb cimport mmu_load, tlb_drop_page, tlb_drop_vm, translate
from hsvm_engine.core.types cimport (
    CR3, DMA_CHECK, E_EXIST, E_INPUT, E_NOENT, E_NOMEM, E_STATE, F_NOT_PRESENT, F_OWNER, F_PERMISSION, F_PROTECTED,
    HSVM, HYPERVISOR, OK, PAGE, PERM_R, PERM_W, PERM_X, REGISTERS, is_on, uint32_t, uint64_t,
)


# Memory

cdef Status_t reach(Host *h, Core *core, uint32_t space, uint64_t address, uint32_t need,
                    Translation *x) noexcept nogil:
    """One access of the vcpu on `core`."""
    return translate(&h.frames, &h.tlb, <uint32_t>(core - h.core), &core.mmu, space, address, need, x,
                     &core.vm.tally)


cdef Status_t reach_all(Host *h, Args *a, uint32_t need, Translation *x) noexcept nogil:
    """Translate every page of [gpa, gpa + length), at most two, before any byte moves."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t last = a.gpa + a.length - 1
    cdef Status_t status
    if last >> 48:
        return E_INPUT
    if core.vm == NULL:
        return E_STATE
    status = reach(h, core, core.mmu.flat, a.gpa, need, &x[0])
    if status == OK and last >> 12 != a.gpa >> 12:
        status = reach(h, core, core.mmu.flat, last & ~<uint64_t>4095, need, &x[1])
    return status


cdef inline uint32_t first_part(Args *a) noexcept nogil:
    """Bytes of the access that lie in its first page."""
    return min(a.length, <uint32_t>(PAGE - (a.gpa & 4095)))


cdef Status_t guest_read(Host *h, Args *a, Out *o) noexcept nogil:
    """Load guest-physical bytes."""
    cdef Translation[2] x
    cdef uint32_t part = first_part(a)
    cdef Status_t status = reach_all(h, a, PERM_R, x)
    if status != OK:
        return status
    frame_read(&h.frames, x[0].mfn, a.gpa & 4095, part, o.data)
    if part < a.length:
        frame_read(&h.frames, x[1].mfn, 0, a.length - part, o.data + part)
    o.length = a.length
    return OK


cdef Status_t guest_write(Host *h, Args *a, Out *o) noexcept nogil:
    """Store guest-physical bytes, all or none."""
    cdef Translation[2] x
    cdef uint32_t part = first_part(a)
    cdef Status_t status = reach_all(h, a, PERM_W, x)
    if status != OK:
        return status
    frame_write(&h.frames, x[0].mfn, a.gpa & 4095, part, a.data)
    if part < a.length:
        frame_write(&h.frames, x[1].mfn, 0, a.length - part, a.data + part)
    return OK


cdef Status_t guest_fetch(Host *h, Args *a, Out *o) noexcept nogil:
    """Fetch an instruction byte from a guest-physical address."""
    cdef Translation[2] x
    a.length = 1
    return reach_all(h, a, PERM_X, x)


cdef Status_t guest_access(Host *h, Args *a, Out *o) noexcept nogil:
    """One access by guest-virtual address, or by guest-physical address while no guest table is loaded."""
    cdef Core *core = &h.core[a.core]
    cdef Translation x
    cdef Status_t status
    if core.vm == NULL:
        return E_STATE
    status = reach(h, core, core.mmu.paged, a.gva, a.kind, &x)
    if status == OK:
        o.gpa = x.gpn << 12 | (a.gva & 4095)
        o.mfn = x.mfn
        o.hit = x.hit
        o.references = x.references
    return status


# The guest's own page table. The guest OS edits it through the nested table, past the TLB.

cdef struct GuestPath:
    uint32_t[5] frame         # machine frame of the table at each level, down to `lowest`
    uint32_t lowest           # deepest level with a table, 5 = no table is loaded
    uint64_t entry            # the entry found there
    uint32_t perm             # what the nested leaf of that table allows


cdef Status_t guest_path(Host *h, Core *core, uint64_t page, GuestPath *path) noexcept nogil:
    """Follow the guest's table towards `page`; the fault of a table page that cannot be reached."""
    cdef Leaf leaf
    cdef uint64_t table = number_in(core.registers[CR3])
    cdef uint32_t level = 4
    cdef Status_t status
    path.lowest = 5
    path.entry = 0
    path.perm = PERM_R | PERM_W
    if core.registers[CR3] == 0:
        return OK
    while True:
        if table >> 36:
            return F_NOT_PRESENT
        status = nested_walk(&h.frames, core.mmu.root, table, &leaf)
        if status != OK:
            return status
        path.lowest = level
        path.frame[level] = leaf.mfn
        path.perm = leaf.perm
        path.entry = entry_read(&h.frames, leaf.mfn, index_of(page, level))
        if level == 1 or not path.entry & PRESENT:
            return OK
        table = number_in(path.entry)
        level -= 1


cdef struct Wanted:           # a search for pages that can become guest tables
    Host *host
    Vm *vm
    uint64_t but              # the guest page being mapped
    uint32_t wanted
    uint32_t found
    uint64_t[4] gpn
    uint32_t[4] mfn


cdef bint take_zero_page(void *context, Leaf *leaf) noexcept nogil:
    """Note a 4 KiB leaf that is zero, exactly rw, not gpn 0, not the page being mapped and no table yet."""
    cdef Wanted *w = <Wanted *>context
    if leaf.size != 1 or leaf.perm != PERM_R | PERM_W or leaf.gpn == 0 or leaf.gpn == w.but:
        return False
    if is_guest_table(w.vm, leaf.gpn) or not frame_is_zero(&w.host.frames, leaf.mfn):
        return False
    w.gpn[w.found] = leaf.gpn
    w.mfn[w.found] = leaf.mfn
    w.found += 1
    return w.found == w.wanted


cdef bint find_tables(Host *h, Core *core, Wanted *w) noexcept nogil:
    """Find the guest's highest pages for `w.wanted` tables; False if there are too few."""
    if w.wanted == 0:
        return True
    if core.mmu.root >= h.frames.count or not guest_tables_reserve(core.vm, w.wanted):
        return False
    if h.visited != NULL:
        memset(h.visited, 0, h.frames.count / 8 + 1)
    return each_leaf(&h.frames, core.mmu.root, 4, 0, True, h.visited, take_zero_page, w)


cdef Status_t guest_map(Host *h, Args *a, Out *o) noexcept nogil:
    """Map a guest-virtual page in the guest's own table; missing tables come from the guest's highest zero pages."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t page = a.gva >> 12
    cdef uint32_t level, frame = 0, k = 0
    cdef GuestPath path
    cdef Wanted w
    cdef Status_t status
    if a.gva & 4095:
        return E_INPUT
    if core.vm == NULL:
        return E_STATE
    status = guest_path(h, core, page, &path)
    if status != OK:
        return status
    if path.lowest == 1 and path.entry & PRESENT:
        return E_EXIST
    if not path.perm & PERM_W:
        return F_PERMISSION
    w.host, w.vm, w.but, w.wanted, w.found = h, core.vm, a.gpn, path.lowest - 1, 0
    if not find_tables(h, core, &w):
        return E_NOMEM
    level = path.lowest
    if level <= 4:
        frame = path.frame[level]
    while level > 1:
        if level == 5:
            core.registers[CR3] = w.gpn[k] << 12
            mmu_load(&h.tlb, &core.mmu, core.vm.handle, core.mmu.root, core.registers[CR3])
        else:
            entry_write(&h.frames, frame, index_of(page, level), w.gpn[k] << 12 | TABLE_FLAGS)
        frame = w.mfn[k]
        guest_table_add(core.vm, w.gpn[k])
        k += 1
        level -= 1
    entry_write(&h.frames, frame, index_of(page, 1), leaf_entry(a.gpn, a.perm))
    tlb_drop_page(&h.tlb, a.core, core.mmu.paged, page)
    return OK


cdef Status_t guest_unmap(Host *h, Args *a, Out *o) noexcept nogil:
    """Clear a guest-virtual page's entry in the guest's own table; tables stay."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t page = a.gva >> 12
    cdef GuestPath path
    cdef Status_t status
    if a.gva & 4095:
        return E_INPUT
    if core.vm == NULL:
        return E_STATE
    status = guest_path(h, core, page, &path)
    if status != OK:
        return status
    if path.lowest != 1 or not path.entry & PRESENT:
        return E_NOENT
    if not path.perm & PERM_W:
        return F_PERMISSION
    entry_write(&h.frames, path.frame[1], index_of(page, 1), 0)
    tlb_drop_page(&h.tlb, a.core, core.mmu.paged, page)
    return OK


cdef Status_t guest_flush(Host *h, Args *a, Out *o) noexcept nogil:
    """Drop the guest's own entry for an address, on its own core."""
    cdef Core *core = &h.core[a.core]
    if core.vm == NULL:
        return E_STATE
    tlb_drop_page(&h.tlb, a.core, core.mmu.paged, a.gva >> 12)
    return OK


# Registers

cdef Status_t guest_registers(Host *h, Args *a, Out *o) noexcept nogil:
    """The registers of the vcpu on a core."""
    cdef Core *core = &h.core[a.core]
    if core.vm == NULL:
        return E_STATE
    memcpy(o.registers, core.registers, sizeof(core.registers))
    return OK


cdef Status_t guest_set_registers(Host *h, Args *a, Out *o) noexcept nogil:
    """Set the named registers; another cr3 drops all of the VM's TLB entries on this core."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t cr3
    cdef uint32_t i
    if core.vm == NULL:
        return E_STATE
    cr3 = core.registers[CR3]
    for i in range(REGISTERS):
        if a.named >> i & 1:
            core.registers[i] = a.registers[i]
    if core.registers[CR3] != cr3:
        tlb_drop_vm(&h.tlb, a.core, core.vm.handle)
        mmu_load(&h.tlb, &core.mmu, core.vm.handle, core.mmu.root, core.registers[CR3])
    return OK


# Devices

cdef Status_t dma_access(Host *h, uint32_t mfn, Out *o) noexcept nogil:
    """HYPERVISOR: all; HSVM: F_PROTECTED; any other: F_OWNER."""
    cdef uint32_t owner = h.frames.owner[mfn]
    if owner == HYPERVISOR or not is_on(h.checks, DMA_CHECK):
        return OK
    return refuse_frame(h, o, DMA_CHECK, mfn, F_PROTECTED if owner == HSVM else F_OWNER)


cdef Status_t dma_burst(Host *h, Args *a, Out *o, bint write) noexcept nogil:
    """Move bytes frame by frame. A refused first frame is the status; a later one ends the burst with what was done."""
    cdef uint32_t mfn = a.mfn, offset = a.offset, part
    cdef Status_t status
    if <uint64_t>a.mfn * PAGE + a.offset + a.length > <uint64_t>h.frames.count * PAGE:
        return E_INPUT
    while o.done < a.length:
        status = dma_access(h, mfn, o)
        if status != OK:
            return status if o.done == 0 else OK
        part = min(a.length - <uint32_t>o.done, PAGE - offset)
        if write:
            frame_write(&h.frames, mfn, offset, part, a.data + o.done)
        else:
            frame_read(&h.frames, mfn, offset, part, o.data + o.done)
        o.done += part
        mfn += 1
        offset = 0
    return OK


cdef Status_t dma_read(Host *h, Args *a, Out *o) noexcept nogil:
    cdef Status_t status = dma_burst(h, a, o, False)
    o.length = <uint32_t>o.done
    return status


cdef Status_t dma_write(Host *h, Args *a, Out *o) noexcept nogil:
    return dma_burst(h, a, o, True)
