"""What the hypervisor may ask. Every operation checks everything first, in the order of engine.md section 4, and then
commits; a commit cannot fail.
"""

from libc.string cimport memset

from hsvm_engine.core.context cimport (
    ROOT_WORD, Core, Vm, context_fetch, core_enter, core_leave, guest_table_drop, refuse, refuse_frame, vm_drop,
    vm_find, vm_make,
)
from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_RESERVE, POOL_TABLE, Frames, entry_read, entry_write, frame_read, frame_write,
    frame_zero, note_of, pool_find, pool_take, set_owner, use_of,
)
from hsvm_engine.core.paging cimport (
    LARGE, PRESENT, TABLE_FLAGS, Leaf, Path, each_leaf, index_of, is_listed, leaf_entry, leaf_split, number_in,
    path_find, path_maps, reserve_note, reserve_of,
)
from hsvm_engine.core.tlb cimport tlb_drop_vm, tlb_shootdown
from hsvm_engine.core.types cimport (
    CONTEXT_PROTECTION, E_BUSY, E_EXIST, E_INPUT, E_NOENT, E_NOMEM, E_NOVM, E_OWNER, E_PROT, E_STATE, F_OWNER,
    F_PROTECTED, FREE, HANDLE_CHECK, HSVM, HUGE, HV_ACCESS_CHECK, HYPERVISOR, MAX_VCPUS, NPT_PROTECTION,
    NPT_ROOT_PROTECTION, OK, OWNER_CHECK, PAGE, PROTECTED_CHECK, REGISTERS, SLOT_CHECK, TLB_SHOOTDOWN,
    ZERO_ON_RELEASE, is_on, uint8_t, uint16_t, uint32_t, uint64_t,
)


cdef struct Release:      # what a visit to the leaves of a VM works on
    Host *host
    Vm *vm
    Out *out
    uint64_t left         # pages still to be given by a balloon


# Life of a VM

cdef Status_t create_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """Make a VM with an empty nested table and zero registers, all from the pool."""
    cdef uint32_t[MAX_VCPUS + 1] pool
    cdef Vm *vm
    if pool_find(&h.frames, a.vcpus + 1, pool) < a.vcpus + 1:
        return E_NOMEM
    vm = vm_make(h, a.vcpus, pool)
    if vm == NULL:
        return E_NOMEM
    o.vm = vm.handle
    return OK


cdef Status_t delete_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """End a VM: every frame is released in the order of section 3, tables and contexts go back, the handle dies."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef uint32_t i, mfn
    cdef Release work
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    for i in range(vm.vcpus):
        if vm.core[i]:
            return E_BUSY
    work.host, work.vm, work.out, work.left = h, vm, o, 0
    if is_on(h.checks, TLB_SHOOTDOWN):          # one sweep; what each release then shoots down is already gone
        for i in range(h.cores):
            o.shot += tlb_drop_vm(&h.tlb, i, vm.handle)
    each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), release_leaf, &work)
    mfn = 0
    while h.frames.owned[vm.slot] and mfn < h.frames.count:       # frames that lost their leaf without an unmap
        if h.frames.owner[mfn] == vm.slot:
            wipe(h, mfn, o)
            set_owner(&h.frames, mfn, FREE)
        mfn += 1
    vm_drop(h, vm)
    return OK


cdef uint8_t *visited(Host *h) noexcept nogil:
    if h.visited != NULL:
        memset(h.visited, 0, h.frames.count / 8 + 1)
    return h.visited


# Map

cdef Status_t map_slot(Host *h, Args *a, Out *o, Path *path) noexcept nogil:
    """E_EXIST if any guest page of the request is mapped."""
    cdef uint32_t i
    cdef bint taken = path_maps(&h.frames, path)
    if a.size == HUGE and path.lowest == 1:
        taken = False
        for i in range(HUGE):
            taken = taken or entry_read(&h.frames, path.table[1], i) & PRESENT
    return refuse(o, SLOT_CHECK, E_EXIST) if taken and is_on(h.checks, SLOT_CHECK) else OK


cdef Status_t map_frames(Host *h, Args *a, Out *o) noexcept nogil:
    """Every frame of the request must be FREE; the first that is not decides.

    FREE         -> VM(vm)      accepted
    VM(any)      -> refused     E_OWNER
    HYPERVISOR   -> refused     E_OWNER
    HSVM         -> refused     E_PROT
    """
    cdef uint32_t mfn
    for mfn in range(a.mfn, a.mfn + a.size):
        if h.frames.owner[mfn] == HSVM and is_on(h.checks, PROTECTED_CHECK):
            return refuse_frame(h, o, PROTECTED_CHECK, mfn, E_PROT)
        if h.frames.owner[mfn] != FREE and is_on(h.checks, OWNER_CHECK):
            return refuse_frame(h, o, OWNER_CHECK, mfn, E_OWNER)
    return OK


cdef bint adopts(Host *h, Vm *vm, Path *path) noexcept nogil:
    """Whether a 2 MiB map finds a table of this VM in its place, to keep as its reserve."""
    return path.lowest == 1 and is_listed(&h.frames, vm.tables, path.table[1])


cdef uint32_t map_tables(Host *h, Vm *vm, Args *a, Path *path) noexcept nogil:
    """How many pool frames the request needs: missing tables and, for a 2 MiB leaf, the page its split will take."""
    cdef uint32_t bottom = 1 if a.size == 1 else 2
    cdef bint huge = path.lowest == 2 and path.entry & PRESENT and path.entry & LARGE
    cdef bint reserved = reserve_of(&h.frames, vm.tables, a.gpn) != NO_FRAME or adopts(h, vm, path)
    if a.size == 1 and not huge:
        return path.lowest - 1
    return (0 if reserved else 1) + (path.lowest - bottom if path.lowest > 2 else 0)


cdef uint32_t table_take(Host *h, Vm *vm, uint32_t mfn, uint32_t note) noexcept nogil:
    pool_take(&h.frames, mfn, note)
    use_of(&h.frames, mfn).next = vm.tables
    vm.tables = mfn
    return mfn


cdef void map_commit(Host *h, Vm *vm, Args *a, Path *path, uint32_t *pool) noexcept nogil:
    """Write the leaf and take the frames. `pool` holds what `map_tables` asked for, used from the first on."""
    cdef Frames *f = &h.frames
    cdef uint32_t bottom = 1 if a.size == 1 else 2
    cdef uint32_t level = path.lowest, table, mfn
    cdef uint64_t entry
    if level == 2 and a.size == 1 and path.entry & PRESENT and path.entry & LARGE:     # unprotected rows only
        table = split(h, vm, path, a.gpn, pool)
        path.table[1] = table
        level = 1
    while level > bottom:
        table = table_take(h, vm, pool[0], POOL_TABLE)
        pool += 1
        entry_write(f, path.table[level], index_of(a.gpn, level), <uint64_t>table << 12 | TABLE_FLAGS)
        level -= 1
        path.table[level] = table
    entry = leaf_entry(a.mfn, a.perm)
    if a.size == HUGE:
        entry |= LARGE
        if adopts(h, vm, path):         # the table that stands here becomes the reserve
            use_of(f, path.table[1]).note = reserve_note(a.gpn)
        elif reserve_of(f, vm.tables, a.gpn) == NO_FRAME:
            table_take(h, vm, pool[0], reserve_note(a.gpn))
    entry_write(f, path.table[bottom], index_of(a.gpn, bottom), entry)
    for mfn in range(a.mfn, a.mfn + a.size):
        set_owner(f, mfn, <uint16_t>vm.slot)


cdef Status_t page_map(Host *h, Args *a, Out *o) noexcept nogil:
    """Give free frames to guest pages of a VM. (strict rule; the frames' rows stand at `map_frames`)"""
    cdef Vm *vm
    cdef Path path
    cdef uint32_t[5] pool
    cdef uint32_t wanted
    cdef Status_t status
    if a.size == HUGE and (a.gpn % HUGE or a.mfn % HUGE or a.mfn + HUGE > h.frames.count):
        return E_INPUT
    vm = vm_find(h, a.vm)
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    path_find(&h.frames, vm.root, a.gpn, &path)
    status = map_slot(h, a, o, &path)
    if status == OK:
        status = map_frames(h, a, o)
    if status != OK:
        return status
    wanted = map_tables(h, vm, a, &path)
    if pool_find(&h.frames, wanted, pool) < wanted:
        return E_NOMEM
    map_commit(h, vm, a, &path, pool)
    h.counts.maps += a.size
    return OK


# Release: 1 clear the entry, 2 shoot down every core's TLB, 3 zero the frame, 4 mark it FREE

cdef void wipe(Host *h, uint32_t mfn, Out *o) noexcept nogil:
    if is_on(h.checks, ZERO_ON_RELEASE):
        frame_zero(&h.frames, mfn)
        o.zeroed += 1
        h.counts.zeroed += 1


cdef void release_page(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn, uint32_t mfn,
                       Out *o) noexcept nogil:
    """Release the frame of one 4 KiB leaf, in the contract's order."""
    guest_table_drop(vm, gpn)
    entry_write(&h.frames, table, index, 0)
    if is_on(h.checks, TLB_SHOOTDOWN):
        o.shot += tlb_shootdown(&h.tlb, vm.handle, gpn)
        h.counts.shootdowns += 1
    wipe(h, mfn, o)
    set_owner(&h.frames, mfn, FREE)
    h.counts.unmaps += 1


cdef bint release_leaf(void *context, Leaf *leaf) noexcept nogil:
    """Release a leaf of a VM that is deleted; a 2 MiB leaf whole."""
    cdef Release *work = <Release *>context
    cdef Host *h = work.host
    cdef uint32_t mfn
    if leaf.size == 1:
        release_page(h, work.vm, leaf.table, leaf.index, leaf.gpn, leaf.mfn, work.out)
        return False
    entry_write(&h.frames, leaf.table, leaf.index, 0)
    for mfn in range(leaf.mfn, min(leaf.mfn + HUGE, h.frames.count)):
        wipe(h, mfn, work.out)
        set_owner(&h.frames, mfn, FREE)
        h.counts.unmaps += 1
    return False


cdef uint32_t split(Host *h, Vm *vm, Path *path, uint64_t gpn, uint32_t *pool) noexcept nogil:
    """Split the 2 MiB leaf at `path` with its reserve, or with `pool[0]` where it never had one; the new table."""
    cdef uint32_t table = reserve_of(&h.frames, vm.tables, gpn)
    if table == NO_FRAME:
        table = table_take(h, vm, pool[0], POOL_TABLE)
    leaf_split(&h.frames, path.table[2], gpn, table)
    return table


cdef Status_t unmap(Host *h, Vm *vm, uint64_t gpn, Out *o) noexcept nogil:
    """Release one guest page; its 2 MiB leaf is split first."""
    cdef Path path
    cdef uint32_t[1] pool
    cdef uint32_t table
    cdef uint64_t number
    path_find(&h.frames, vm.root, gpn, &path)
    if not path_maps(&h.frames, &path):
        return E_NOENT
    table = path.table[1]
    number = number_in(path.entry)
    if path.lowest == 2:
        if reserve_of(&h.frames, vm.tables, gpn) == NO_FRAME and pool_find(&h.frames, 1, pool) == 0:
            return E_NOMEM
        table = split(h, vm, &path, gpn, pool)
        number = (number & ~<uint64_t>511) + (gpn & 511)
    if number >= h.frames.count:                # only where the hypervisor writes entries itself
        entry_write(&h.frames, table, index_of(gpn, 1), 0)
        return OK
    release_page(h, vm, table, index_of(gpn, 1), gpn, <uint32_t>number, o)
    return OK


cdef Status_t page_unmap(Host *h, Args *a, Out *o) noexcept nogil:
    """Take a guest page back: VM(vm) -> FREE."""
    cdef Vm *vm = vm_find(h, a.vm)
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    return unmap(h, vm, a.gpn, o)


cdef bint balloon_leaf(void *context, Leaf *leaf) noexcept nogil:
    """Unmap the pages of one leaf, highest first, until enough are given."""
    cdef Release *work = <Release *>context
    cdef uint32_t i
    for i in range(leaf.size, 0, -1):
        if work.left == 0 or unmap(work.host, work.vm, leaf.gpn + i - 1, work.out) != OK:
            return True
        work.left -= 1
        work.out.released += 1
    return work.left == 0


cdef Status_t balloon(Host *h, Args *a, Out *o) noexcept nogil:
    """The guest's balloon driver gives up to `pages` pages, highest gpn first, each by page_unmap."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef Release work
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    work.host, work.vm, work.out, work.left = h, vm, o, a.pages
    each_leaf(&h.frames, vm.root, 4, 0, True, visited(h), balloon_leaf, &work)
    return OK


# Frames of the hypervisor itself

cdef Status_t must_own(Host *h, uint32_t mfn, uint16_t owner, Out *o) noexcept nogil:
    if h.frames.owner[mfn] == HSVM and is_on(h.checks, PROTECTED_CHECK):
        return refuse_frame(h, o, PROTECTED_CHECK, mfn, E_PROT)
    if h.frames.owner[mfn] != owner and is_on(h.checks, OWNER_CHECK):
        return refuse_frame(h, o, OWNER_CHECK, mfn, E_OWNER)
    return OK


cdef Status_t claim(Host *h, Args *a, Out *o) noexcept nogil:
    """FREE -> HYPERVISOR."""
    cdef Status_t status = must_own(h, a.mfn, FREE, o)
    if status == OK:
        set_owner(&h.frames, a.mfn, HYPERVISOR)
    return status


cdef Status_t release(Host *h, Args *a, Out *o) noexcept nogil:
    """HYPERVISOR -> FREE, zeroed first."""
    cdef Status_t status = must_own(h, a.mfn, HYPERVISOR, o)
    if status == OK:
        wipe(h, a.mfn, o)
        set_owner(&h.frames, a.mfn, FREE)
    return status


cdef Status_t hv_access(Host *h, uint32_t mfn, bint write, Out *o) noexcept nogil:
    """HYPERVISOR: all; FREE: read; HSVM: F_PROTECTED; VM: F_OWNER.

    A nested table and a saved context have a check of their own, which stays when hv_access_check is switched off.
    """
    cdef uint16_t owner = h.frames.owner[mfn]
    cdef uint32_t use = note_of(&h.frames, mfn) & 3
    if owner == HSVM and use in (POOL_TABLE, POOL_RESERVE) and is_on(h.checks, NPT_PROTECTION):
        return refuse_frame(h, o, NPT_PROTECTION, mfn, F_PROTECTED)
    if owner == HSVM and use == POOL_CONTEXT and is_on(h.checks, CONTEXT_PROTECTION):
        return refuse_frame(h, o, CONTEXT_PROTECTION, mfn, F_PROTECTED)
    if owner == HYPERVISOR or (owner == FREE and not write) or not is_on(h.checks, HV_ACCESS_CHECK):
        return OK
    return refuse_frame(h, o, HV_ACCESS_CHECK, mfn, F_PROTECTED if owner == HSVM else F_OWNER)


cdef Status_t hv_read(Host *h, Args *a, Out *o) noexcept nogil:
    """The hypervisor's own load of bytes inside one frame."""
    cdef Status_t status
    if a.offset + a.length > PAGE:
        return E_INPUT
    status = hv_access(h, a.mfn, False, o)
    if status == OK:
        frame_read(&h.frames, a.mfn, a.offset, a.length, o.data)
        o.length = a.length
    return status


cdef Status_t hv_write(Host *h, Args *a, Out *o) noexcept nogil:
    """The hypervisor's own store of bytes inside one frame; into a table it is a store like any other."""
    cdef Status_t status
    if a.offset + a.length > PAGE:
        return E_INPUT
    status = hv_access(h, a.mfn, True, o)
    if status == OK:
        frame_write(&h.frames, a.mfn, a.offset, a.length, a.data)
    return status


# World switch and contexts

cdef Status_t context_save(Host *h, Args *a, Out *o) noexcept nogil:
    """Take the vcpu off the core; its registers go to its context frame."""
    cdef Core *core = &h.core[a.core]
    if core.vm == NULL:
        return E_STATE
    core_leave(h, core)
    h.counts.switches += 1
    return OK


cdef Status_t find_vcpu(Host *h, Args *a, Out *o, Vm **vm) noexcept nogil:
    vm[0] = vm_find(h, a.vm)
    if vm[0] == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    return OK if a.vcpu < vm[0].vcpus else E_INPUT


cdef Status_t context_restore(Host *h, Args *a, Out *o) noexcept nogil:
    """Put a vcpu on an empty core; a vcpu is on at most one."""
    cdef Vm *vm
    cdef Status_t status = find_vcpu(h, a, o, &vm)
    if status != OK:
        return status
    if h.core[a.core].vm != NULL or vm.core[a.vcpu]:
        return E_BUSY
    core_enter(h, &h.core[a.core], vm, a.vcpu)
    h.counts.switches += 1
    return OK


cdef Status_t hv_read_context(Host *h, Args *a, Out *o) noexcept nogil:
    """Read a vcpu's saved registers: F_PROTECTED where contexts are protected."""
    cdef Vm *vm
    cdef Status_t status = find_vcpu(h, a, o, &vm)
    if status != OK:
        return status
    if is_on(h.checks, CONTEXT_PROTECTION):
        return refuse(o, CONTEXT_PROTECTION, F_PROTECTED)
    context_fetch(h, vm, a.vcpu, o.registers)
    return OK


cdef Status_t hv_write_context(Host *h, Args *a, Out *o) noexcept nogil:
    """Change a vcpu's saved registers: F_PROTECTED where contexts are protected."""
    cdef Vm *vm
    cdef uint32_t i
    cdef Status_t status = find_vcpu(h, a, o, &vm)
    if status != OK:
        return status
    if is_on(h.checks, CONTEXT_PROTECTION):
        return refuse(o, CONTEXT_PROTECTION, F_PROTECTED)
    for i in range(REGISTERS):
        if a.named >> i & 1:
            entry_write(&h.frames, vm.context[a.vcpu], i, a.registers[i])
    return OK


cdef Status_t set_npt_root(Host *h, Args *a, Out *o) noexcept nogil:
    """Store another nested root in every context of the VM: E_PROT where roots are protected."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef uint32_t i
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    if is_on(h.checks, NPT_ROOT_PROTECTION):
        return refuse_frame(h, o, NPT_ROOT_PROTECTION, a.mfn, E_PROT)
    for i in range(vm.vcpus):
        entry_write(&h.frames, vm.context[i], ROOT_WORD, <uint64_t>a.mfn << 12)
    return OK


cdef Status_t hv_flush(Host *h, Args *a, Out *o) noexcept nogil:
    """Drop a core's TLB entries of a VM."""
    cdef Vm *vm = vm_find(h, a.vm)
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    o.shot = tlb_drop_vm(&h.tlb, a.core, vm.handle)
    return OK


cdef Status_t npt_locate(Host *h, Args *a, Out *o) noexcept nogil:
    """Where the entry at the deepest existing table for a guest page lies; E_NOENT if the top-level entry is absent."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef Path path
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    path_find(&h.frames, vm.root, a.gpn, &path)
    if path.lowest == 4 and not path.entry & PRESENT:
        return E_NOENT
    o.mfn = path.table[path.lowest]
    o.offset = index_of(a.gpn, path.lowest) * 8
    return OK
