"""What a guest does on its core and what a device does on the bus."""

from libc.string cimport memcpy

from hsvm_engine.core.bus cimport DEVICE_SIDE, bus_knows, bus_learn
from hsvm_engine.core.context cimport Core, Vm, refuse_frame
from hsvm_engine.core.frames cimport entry_read, entry_write, frame_is_zero, frame_read
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.pages cimport visited
from hsvm_engine.core.paging cimport (
    BIT_SHARED, BIT_TABLE, PRESENT, TABLE_FLAGS, Leaf, Translation, bit_of, each_leaf, has_bit, index_of,
    leaf_entry, nested_walk, number_in,
)
from hsvm_engine.core.smm cimport store
from hsvm_engine.core.tlb cimport mmu_load, tlb_drop_page, tlb_drop_vm, translate
from hsvm_engine.core.types cimport (
    CR3, DMA_CHECK, E_EXIST, E_INPUT, E_NOENT, E_NOMEM, E_STATE, F_NOT_PRESENT, F_OWNER, F_PERMISSION, F_PROTECTED,
    F_TAMPERED, HSVM, HYPERVISOR, OK, PAGE, PERM_R, PERM_W, PERM_X, REGISTERS, SMRAM_LOCK, is_on, uint8_t, uint16_t,
    uint32_t, uint64_t,
)


# Memory

cdef Status_t guest_of(Core *core, Vm **vm) noexcept nogil:
    """The VM on a core whose memory may be asked for: E_STATE on an empty core, F_TAMPERED if it was stopped."""
    vm[0] = core.vm
    if core.vm == NULL:
        return E_STATE
    return F_TAMPERED if core.vm.stopped else OK


cdef Status_t begin_access(Host *h, Core *core) noexcept nogil:
    """One access of the vcpu begins: the timer counts it, whatever becomes of it."""
    if core.vm == NULL or (core.timed and core.left == 0):
        return E_STATE
    if core.timed:
        keep_at(&h.journal, &core.left, 8)
        core.left -= 1
    return F_TAMPERED if core.vm.stopped else OK


cdef Status_t reach(Host *h, Core *core, uint32_t space, uint64_t address, uint32_t need, Translation *x,
                    Out *o) noexcept nogil:
    """Translate one page of an access; a fault of the nested table names its address."""
    cdef Status_t status
    keep_at(&h.journal, &core.vm.tally, sizeof(core.vm.tally))
    status = translate(&h.frames, &h.tlb, <uint32_t>(core - h.core), &core.mmu, space, address, need, x,
                       &core.vm.tally)
    if status != OK and not x.guest_fault:
        o.fault_gpa = x.fault_gpa
    return status


cdef Status_t reach_all(Host *h, Args *a, uint32_t need, Translation *x, Out *o) noexcept nogil:
    """Translate every page of [gpa, gpa + length), at most two, before any byte moves."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t last = a.gpa + a.length - 1
    cdef Status_t status
    if last >> 48:
        return E_INPUT
    status = begin_access(h, core)
    if status != OK:
        return status
    status = reach(h, core, core.mmu.flat, a.gpa, need, &x[0], o)
    if status == OK and last >> 12 != a.gpa >> 12:
        status = reach(h, core, core.mmu.flat, last & ~<uint64_t>4095, need, &x[1], o)
    return status


cdef inline uint32_t first_part(Args *a) noexcept nogil:
    """Bytes of the access that lie in its first page."""
    return min(a.length, <uint32_t>(PAGE - (a.gpa & 4095)))


cdef Status_t guest_read(Host *h, Args *a, Out *o) noexcept nogil:
    """Load guest-physical bytes."""
    cdef Translation[2] x
    cdef uint32_t part = first_part(a)
    cdef Status_t status = reach_all(h, a, PERM_R, x, o)
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
    cdef Status_t status = reach_all(h, a, PERM_W, x, o)
    if status != OK:
        return status
    store(h, x[0].mfn, a.gpa & 4095, part, a.data)
    if part < a.length:
        store(h, x[1].mfn, 0, a.length - part, a.data + part)
    return OK


cdef Status_t guest_fetch(Host *h, Args *a, Out *o) noexcept nogil:
    """Fetch an instruction byte from a guest-physical address."""
    cdef Translation[2] x
    a.length = 1
    return reach_all(h, a, PERM_X, x, o)


cdef Status_t guest_access(Host *h, Args *a, Out *o) noexcept nogil:
    """One access by guest-virtual address, or by guest-physical address while no guest table is loaded."""
    cdef Core *core = &h.core[a.core]
    cdef Translation x
    cdef Status_t status = begin_access(h, core)
    if status != OK:
        return status
    status = reach(h, core, core.mmu.paged, a.gva, a.kind, &x, o)
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
    uint64_t but              # the guest page being mapped
    uint64_t root             # the page that cr3 names
    uint32_t wanted
    uint32_t found
    Leaf[4] leaf


cdef bint take_zero_page(void *context, Leaf *leaf) noexcept nogil:
    """Note a 4 KiB leaf that is zero, unshared, exactly rw, not gpn 0, not the page being mapped and no table yet."""
    cdef Wanted *w = <Wanted *>context
    if leaf.size != 1 or leaf.perm != PERM_R | PERM_W or leaf.gpn in (0, w.but, w.root):
        return False
    if has_bit(leaf.entry, BIT_TABLE) or has_bit(leaf.entry, BIT_SHARED):
        return False
    if not frame_is_zero(&w.host.frames, leaf.mfn):
        return False
    w.leaf[w.found] = leaf[0]
    w.found += 1
    return w.found == w.wanted


cdef bint find_tables(Host *h, Core *core, Wanted *w) noexcept nogil:
    """Find the guest's highest pages for `w.wanted` tables; False if there are too few."""
    if w.wanted == 0:
        return True
    if core.mmu.root >= h.frames.count:
        return False
    return each_leaf(&h.frames, core.mmu.root, 4, 0, True, visited(h), take_zero_page, w)


cdef void become_table(Host *h, Leaf *leaf) noexcept nogil:
    entry_write(&h.frames, leaf.table, leaf.index, leaf.entry | bit_of(BIT_TABLE))


cdef void table_entry(Host *h, uint32_t mfn, uint32_t index, uint64_t entry) noexcept nogil:
    """The guest OS stores an entry of its own table."""
    store(h, mfn, index * 8, 8, <uint8_t *>&entry)


cdef Status_t guest_map(Host *h, Args *a, Out *o) noexcept nogil:
    """Map a guest-virtual page in the guest's own table; missing tables come from the guest's highest zero pages."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t page = a.gva >> 12
    cdef uint32_t level, frame = 0, k = 0
    cdef GuestPath path
    cdef Wanted w
    cdef Vm *vm
    cdef Status_t status
    if a.gva & 4095:
        return E_INPUT
    status = guest_of(core, &vm)
    if status == OK:
        status = guest_path(h, core, page, &path)
    if status != OK:
        return status
    if path.lowest == 1 and path.entry & PRESENT:
        return E_EXIST
    if not path.perm & PERM_W:
        return F_PERMISSION
    w.host, w.but, w.root, w.wanted, w.found = h, a.gpn, number_in(core.registers[CR3]), path.lowest - 1, 0
    if not find_tables(h, core, &w):
        return E_NOMEM
    level = path.lowest
    if level <= 4:
        frame = path.frame[level]
    while level > 1:
        if level == 5:
            keep_at(&h.journal, core, sizeof(Core))
            core.registers[CR3] = w.leaf[k].gpn << 12
            mmu_load(&h.tlb, &core.mmu, vm.handle, core.mmu.root, core.registers[CR3])
        else:
            table_entry(h, frame, index_of(page, level), w.leaf[k].gpn << 12 | TABLE_FLAGS)
        frame = w.leaf[k].mfn
        become_table(h, &w.leaf[k])
        k += 1
        level -= 1
    table_entry(h, frame, index_of(page, 1), leaf_entry(a.gpn, a.perm))
    tlb_drop_page(&h.tlb, a.core, core.mmu.paged, page)
    return OK


cdef Status_t guest_unmap(Host *h, Args *a, Out *o) noexcept nogil:
    """Clear a guest-virtual page's entry in the guest's own table; tables stay."""
    cdef Core *core = &h.core[a.core]
    cdef uint64_t page = a.gva >> 12
    cdef GuestPath path
    cdef Vm *vm
    cdef Status_t status
    if a.gva & 4095:
        return E_INPUT
    status = guest_of(core, &vm)
    if status == OK:
        status = guest_path(h, core, page, &path)
    if status != OK:
        return status
    if path.lowest != 1 or not path.entry & PRESENT:
        return E_NOENT
    if not path.perm & PERM_W:
        return F_PERMISSION
    table_entry(h, path.frame[1], index_of(page, 1), 0)
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
    keep_at(&h.journal, core, sizeof(Core))
    cr3 = core.registers[CR3]
    for i in range(REGISTERS):
        if a.named >> i & 1:
            core.registers[i] = a.registers[i]
    if core.registers[CR3] != cr3:
        tlb_drop_vm(&h.tlb, a.core, core.vm.handle)
        mmu_load(&h.tlb, &core.mmu, core.vm.handle, core.mmu.root, core.registers[CR3])
    return OK


# Devices

cdef Status_t dma_access(Host *h, uint32_t device, uint32_t mfn, bint write, Out *o) noexcept nogil:
    """HYPERVISOR: all; a shared frame: as it is shared; HSVM: F_PROTECTED; any other: F_OWNER."""
    cdef uint32_t owner = h.frames.owner[mfn], need = PERM_W if write else PERM_R, allowed = PERM_R | PERM_W
    if bus_knows(&h.bus, DEVICE_SIDE, <uint16_t>device, mfn, need):
        return OK
    if owner == HSVM and is_on(h.checks, SMRAM_LOCK):
        return refuse_frame(h, o, SMRAM_LOCK, mfn, F_PROTECTED)
    if owner != HYPERVISOR and is_on(h.checks, DMA_CHECK):
        allowed = h.frames.shared[mfn]
    if not allowed & need:
        return refuse_frame(h, o, DMA_CHECK, mfn, F_PROTECTED if owner == HSVM else F_OWNER)
    bus_learn(&h.bus, DEVICE_SIDE, <uint16_t>device, mfn, need)
    return OK


cdef Status_t dma_burst(Host *h, Args *a, Out *o, bint write) noexcept nogil:
    """Move bytes frame by frame. A refused first frame is the status; a later one ends the burst with what was done."""
    cdef uint32_t mfn = a.mfn, offset = a.offset, part
    cdef Status_t status
    if <uint64_t>a.mfn * PAGE + a.offset + a.length > <uint64_t>h.frames.count * PAGE:
        return E_INPUT
    while o.done < a.length:
        status = dma_access(h, a.device, mfn, write, o)
        if status != OK:
            return status if o.done == 0 else OK
        part = min(a.length - <uint32_t>o.done, PAGE - offset)
        if write:
            store(h, mfn, offset, part, a.data + o.done)
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


# Out of scope in the paper: memory without power

cdef Status_t cold_boot_read(Host *h, Args *a, Out *o) noexcept nogil:
    """The bytes of a frame as they lie in DRAM, whoever owns it."""
    frame_read(&h.frames, a.mfn, 0, PAGE, o.data)
    o.length = PAGE
    return OK
