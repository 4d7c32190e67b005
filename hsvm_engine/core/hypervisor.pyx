"""What the hypervisor may ask. Every operation checks everything first, in the order of engine.md section 4, and then
commits; a commit cannot fail.
"""

from hsvm_engine.core.bus cimport HYPERVISOR_SIDE, bus_knows, bus_learn
from hsvm_engine.core.context cimport (
    ROOT_WORD, Core, Vm, context_fetch, core_enter, core_leave, refuse, refuse_frame, vm_drop, vm_find, vm_make,
    vm_of_tables,
)
from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_FREE, POOL_RESERVE, POOL_TABLE, Frames, PoolUse, entry_read, entry_write, frame_read,
    frame_zero, keep_entry, note_of, use_of,
)
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.pages cimport (
    fault_stop, finish_pending, is_merged, is_pending, leaf_in, leaf_out, must_own, own, page_shoot, release_huge,
    release_page, split, split_page, table_take, visited, wipe,
)
from hsvm_engine.core.paging cimport (
    LARGE, PRESENT, TABLE_FLAGS, Leaf, Path, each_leaf, index_of, is_listed, leaf_entry, number_in, path_find,
    path_maps, reserve_note, reserve_of,
)
from hsvm_engine.core.shadow cimport pool_find_all
from hsvm_engine.core.smm cimport store
from hsvm_engine.core.tlb cimport tlb_drop_vm
from hsvm_engine.core.types cimport (
    BUSY_CHECK, CONTEXT_PROTECTION, E_BUSY, E_EXIST, E_INPUT, E_NOENT, E_NOMEM, E_NOVM, E_PROT, E_STATE, F_OWNER,
    F_PROTECTED, FREE, HANDLE_CHECK, HSVM, HUGE, HV_ACCESS_CHECK, HYPERVISOR, MAX_VCPUS, NPT_PROTECTION,
    NPT_ROOT_PROTECTION, OK, PAGE, PERM_R, PERM_W, PROTECTED_CHECK, REGISTERS, SLOT_CHECK, SMRAM_LOCK,
    TLB_SHOOTDOWN, ZERO_ON_MAP, is_on, uint16_t, uint32_t, uint64_t,
)

cdef enum:
    GUEST_VECTOR = 128    # its default handler adds 1 to rax; all others change no register


cdef struct Release:      # what a visit to the leaves of a VM works on
    Host *host
    Vm *vm
    Out *out
    uint64_t left         # pages still to be given by a balloon
    Status_t status


# Life of a VM

cdef Status_t create_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """Make a VM with an empty nested table and zero registers, all from the pool."""
    cdef uint32_t[MAX_VCPUS + 1] pool
    cdef Vm *vm
    if pool_find_all(&h.frames, &h.shadow, a.vcpus + 1, pool) < a.vcpus + 1:
        return E_NOMEM
    vm = vm_make(h, a.vcpus, pool)
    if vm == NULL:
        return E_NOMEM
    o.vm = vm.handle
    return OK


cdef bint find_merged(void *context, Leaf *leaf) noexcept nogil:
    return leaf.size == 1 and is_merged(leaf.entry)


cdef bint release_leaf(void *context, Leaf *leaf) noexcept nogil:
    """Release a leaf of a VM that is deleted."""
    cdef Release *work = <Release *>context
    if leaf.size == 1:
        work.status = release_page(work.host, work.vm, leaf.table, leaf.index, leaf.gpn, work.out)
    else:
        work.status = release_huge(work.host, work.vm, leaf, work.out)
    return work.status != OK


cdef Status_t delete_commit(Host *h, Vm *vm, Out *o) noexcept nogil:
    """End a VM that nothing holds: every frame is released in order, tables and contexts go back, the handle dies.

    E_STATE where the fault option stops a release: the VM lives on without the pages before it.
    """
    cdef uint32_t i, mfn = 0
    cdef Release work
    work.host, work.vm, work.out, work.left, work.status = h, vm, o, 0, OK
    if h.pending.slot == vm.slot:
        finish_pending(h, o)
    if h.counted and is_on(h.checks, TLB_SHOOTDOWN):       # one sweep; what each release shoots down is then gone
        for i in range(h.cores):
            o.shot += tlb_drop_vm(&h.tlb, i, vm.handle)
    if not vm.stopped:                                     # tables that were tampered with are believed in nothing
        each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), release_leaf, &work)
    if work.status != OK:
        return work.status
    while h.frames.owned[vm.slot] and mfn < h.frames.count:       # frames that lost their leaf without an unmap
        if h.frames.owner[mfn] == vm.slot:
            if h.frames.leaves[mfn] or h.frames.shared[mfn]:
                keep_entry(&h.frames, mfn)
                h.frames.leaves[mfn] = 0
                h.frames.shared[mfn] = 0
            wipe(h, mfn, o)
            own(h, mfn, FREE)
        mfn += 1
    vm_drop(h, vm)
    return OK


cdef Status_t delete_vm(Host *h, Args *a, Out *o) noexcept nogil:
    """End a VM: E_BUSY while a vcpu of it is on a core or a page of it is merged."""
    cdef Vm *vm = vm_find(h, a.vm)
    cdef uint32_t i
    if vm == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    for i in range(vm.vcpus):
        if vm.core[i]:
            return E_BUSY
    if is_on(h.checks, BUSY_CHECK) and not vm.stopped:
        if each_leaf(&h.frames, vm.root, 4, 0, False, visited(h), find_merged, NULL):
            return refuse(o, BUSY_CHECK, E_BUSY)
    return delete_commit(h, vm, o)


# Map

cdef Status_t map_busy(Host *h, Vm *vm, Args *a, Out *o, Path *path) noexcept nogil:
    """E_BUSY for a slot whose release is not finished and, under `literal`, for merged slots and lent frames."""
    cdef Frames *f = &h.frames
    cdef uint32_t i
    cdef bint busy = h.pending.slot == vm.slot and a.gpn <= h.pending.gpn < a.gpn + a.size
    if h.literal and path.lowest == 1:
        for i in range(a.size):
            busy = busy or is_merged(entry_read(f, path.table[1], index_of(a.gpn, 1) + i))
    if h.literal:
        for i in range(a.mfn, a.mfn + a.size):
            busy = busy or (f.owner[i] == vm.slot and f.lender[i] != 0)
            busy = busy or (h.pending.slot == vm.slot and h.pending.mfn == i and f.owner[i] == vm.slot)
    return refuse(o, BUSY_CHECK, E_BUSY) if busy else OK


cdef Status_t map_slot(Host *h, Args *a, Out *o, Path *path) noexcept nogil:
    """E_EXIST if any guest page of the request is mapped or swapped out."""
    cdef uint32_t i
    cdef bint taken = path_maps(&h.frames, path)
    if path.lowest == 1:
        taken = False
        for i in range(a.size):
            taken = taken or entry_read(&h.frames, path.table[1], index_of(a.gpn, 1) + i) != 0
    return refuse(o, SLOT_CHECK, E_EXIST) if taken else OK


cdef Status_t map_frames(Host *h, Vm *vm, Args *a, Out *o) noexcept nogil:
    """Every frame of the request must be FREE; the first that is not decides.

    FREE         -> VM(vm)      accepted
    VM(vm)       -> refused     E_OWNER; accepted under `literal`, as one more leaf of the frame
    VM(other)    -> refused     E_OWNER
    HYPERVISOR   -> refused     E_OWNER
    HSVM         -> refused     E_PROT
    """
    cdef uint32_t mfn
    cdef Status_t status = OK
    for mfn in range(a.mfn, a.mfn + a.size):
        if not (h.literal and h.frames.owner[mfn] == vm.slot):
            status = must_own(h, mfn, FREE, o)
        if status != OK:
            return status
    return OK


cdef bint adopts(Host *h, Vm *vm, Path *path) noexcept nogil:
    """Whether a 2 MiB map finds a table of this VM in its place, to keep as its reserve."""
    return path.lowest == 1 and is_listed(&h.frames, vm.tables, path.table[1])


cdef uint32_t map_tables(Host *h, Vm *vm, Args *a, Path *path) noexcept nogil:
    """How many pool frames the request needs: missing tables and, for a 2 MiB leaf, the page its split will take."""
    cdef bint huge = path.lowest == 2 and path.entry & PRESENT and path.entry & LARGE
    if a.size == 1 and not huge:
        return path.lowest - 1
    if reserve_of(&h.frames, vm.tables, a.gpn) == NO_FRAME and not adopts(h, vm, path):
        return 1 + (path.lowest - 2 if path.lowest > 2 and a.size == HUGE else 0)
    return path.lowest - 2 if path.lowest > 2 and a.size == HUGE else 0


cdef void slot_out(Host *h, Vm *vm, uint32_t table, uint32_t index, uint64_t gpn, Out *o) noexcept nogil:
    """Make room in one slot of a table where the slot check does not keep it free; a swap record goes too."""
    cdef uint64_t entry = entry_read(&h.frames, table, index)
    if entry & PRESENT:
        leaf_out(h, vm, table, index, gpn)
        page_shoot(h, vm, gpn, o)
    elif entry:
        entry_write(&h.frames, table, index, 0)


cdef void map_huge(Host *h, Vm *vm, Args *a, Path *path, uint32_t *pool, Out *o) noexcept nogil:
    """Write a 2 MiB leaf; the table that its split will need is kept ready."""
    cdef Frames *f = &h.frames
    cdef uint32_t mfn, i
    cdef uint64_t old = entry_read(f, path.table[2], index_of(a.gpn, 2))
    if adopts(h, vm, path):             # the table that stands here becomes the reserve
        for i in range(HUGE):
            slot_out(h, vm, path.table[1], i, a.gpn + i, o)
        keep_at(f.journal, use_of(f, path.table[1]), sizeof(PoolUse))
        use_of(f, path.table[1]).note = reserve_note(a.gpn)
    elif reserve_of(f, vm.tables, a.gpn) == NO_FRAME:
        table_take(h, vm, pool[0], reserve_note(a.gpn))
    if h.counted and old & PRESENT and old & LARGE:
        for mfn in range(<uint32_t>number_in(old), <uint32_t>number_in(old) + HUGE):
            keep_entry(f, mfn)
            f.leaves[mfn] -= 1
        page_shoot(h, vm, a.gpn, o)
    entry_write(f, path.table[2], index_of(a.gpn, 2), leaf_entry(a.mfn, a.perm) | LARGE)
    for mfn in range(a.mfn, a.mfn + HUGE):
        own(h, mfn, <uint16_t>vm.slot)
        if h.counted:
            keep_entry(f, mfn)
            f.leaves[mfn] += 1


cdef void map_commit(Host *h, Vm *vm, Args *a, Path *path, uint32_t *pool, Out *o) noexcept nogil:
    """Write the leaf and take the frames. `pool` holds what `map_tables` asked for, used from the first on."""
    cdef Frames *f = &h.frames
    cdef uint32_t bottom = 1 if a.size == 1 else 2
    cdef uint32_t level = path.lowest, table, mfn
    if is_on(h.checks, ZERO_ON_MAP):
        for mfn in range(a.mfn, a.mfn + a.size):
            if f.owner[mfn] == FREE:
                frame_zero(f, mfn)
    if level == 2 and a.size == 1 and path.entry & PRESENT and path.entry & LARGE:     # no slot check
        path.table[1] = split(h, vm, path, a.gpn, pool)
        level = 1
    while level > bottom:
        table = table_take(h, vm, pool[0], POOL_TABLE)
        pool += 1
        entry_write(f, path.table[level], index_of(a.gpn, level), <uint64_t>table << 12 | TABLE_FLAGS)
        level -= 1
        path.table[level] = table
    if a.size == HUGE:
        map_huge(h, vm, a, path, pool, o)
        return
    if not is_on(h.checks, SLOT_CHECK):
        slot_out(h, vm, path.table[1], index_of(a.gpn, 1), a.gpn, o)
    leaf_in(h, vm, path.table[1], index_of(a.gpn, 1), a.mfn, leaf_entry(a.mfn, a.perm))


cdef Status_t page_map(Host *h, Args *a, Out *o) noexcept nogil:
    """Give free frames to guest pages of a VM. (the frames' rows stand at `map_frames`)"""
    cdef Vm *vm
    cdef Path path
    cdef uint32_t[5] pool
    cdef uint32_t wanted
    cdef Status_t status
    if a.size == HUGE and (a.gpn % HUGE or a.mfn % HUGE or a.mfn + HUGE > h.frames.count):
        return E_INPUT
    status = vm_of_tables(h, a.vm, o, &vm)
    if status != OK:
        return status
    path_find(&h.frames, vm.root, a.gpn, &path)
    if h.pending.slot or h.literal:
        status = map_busy(h, vm, a, o, &path)
    if status == OK and is_on(h.checks, SLOT_CHECK):
        status = map_slot(h, a, o, &path)
    if status == OK:
        status = map_frames(h, vm, a, o)
    if status != OK:
        return status
    wanted = map_tables(h, vm, a, &path)
    if pool_find_all(&h.frames, &h.shadow, wanted, pool) < wanted:
        return E_NOMEM
    map_commit(h, vm, a, &path, pool, o)
    h.counts.maps += a.size
    return OK


# Unmap

cdef Status_t unmap(Host *h, Vm *vm, uint64_t gpn, Out *o) noexcept nogil:
    """Release one guest page; its 2 MiB leaf is split first. A release that was stopped there is finished instead."""
    cdef Path path
    cdef Status_t status
    if is_pending(h, vm, gpn):
        finish_pending(h, o)
        return OK
    path_find(&h.frames, vm.root, gpn, &path)
    if not path_maps(&h.frames, &path):
        return E_NOENT
    if path.lowest == 1 and is_merged(path.entry) and is_on(h.checks, BUSY_CHECK):
        return refuse(o, BUSY_CHECK, E_BUSY)
    status = split_page(h, vm, gpn, &path)
    if status != OK:
        return status
    return release_page(h, vm, path.table[1], index_of(gpn, 1), gpn, o)


cdef Status_t page_unmap(Host *h, Args *a, Out *o) noexcept nogil:
    """Take a guest page back: VM(vm) -> FREE."""
    cdef Vm *vm
    cdef Status_t status = vm_of_tables(h, a.vm, o, &vm)
    return unmap(h, vm, a.gpn, o) if status == OK else status


cdef bint balloon_leaf(void *context, Leaf *leaf) noexcept nogil:
    """Unmap the pages of one leaf, highest first, until enough are given; merged pages stay."""
    cdef Release *work = <Release *>context
    cdef uint32_t i
    if leaf.size == 1 and is_merged(leaf.entry):
        return False
    for i in range(leaf.size, 0, -1):
        if work.left == 0:
            return True
        work.status = unmap(work.host, work.vm, leaf.gpn + i - 1, work.out)
        if work.status != OK:
            return True
        work.left -= 1
        work.out.released += 1
    return work.left == 0


cdef Status_t balloon(Host *h, Args *a, Out *o) noexcept nogil:
    """The guest's balloon driver gives up to `pages` pages, highest gpn first, each by page_unmap."""
    cdef Vm *vm
    cdef Release work
    cdef Status_t status = vm_of_tables(h, a.vm, o, &vm)
    if status != OK:
        return status
    work.host, work.vm, work.out, work.left, work.status = h, vm, o, a.pages, OK
    each_leaf(&h.frames, vm.root, 4, 0, True, visited(h), balloon_leaf, &work)
    h.counts.smis += o.released - 1 if h.smi and o.released else 0       # each by a call of its own
    return E_STATE if work.status == E_STATE else OK


# Frames of the hypervisor itself

cdef Status_t claim(Host *h, Args *a, Out *o) noexcept nogil:
    """FREE -> HYPERVISOR."""
    cdef Status_t status = must_own(h, a.mfn, FREE, o)
    if status == OK:
        own(h, a.mfn, HYPERVISOR)
    return status


cdef Status_t release(Host *h, Args *a, Out *o) noexcept nogil:
    """HYPERVISOR -> FREE, zeroed first. A stop of the fault option leaves the frame with the hypervisor."""
    cdef uint32_t stop = 0
    cdef Status_t status
    if h.counted and note_of(&h.frames, a.mfn) != POOL_FREE and h.frames.owner[a.mfn] == HYPERVISOR:
        return refuse_frame(h, o, PROTECTED_CHECK, a.mfn, E_PROT)
    status = must_own(h, a.mfn, HYPERVISOR, o)
    if status != OK:
        return status
    if h.counted:
        stop = fault_stop(h)
    if stop == 1 or stop == 2:
        return E_STATE
    wipe(h, a.mfn, o)
    if stop == 3:
        return E_STATE
    own(h, a.mfn, FREE)
    return E_STATE if stop else OK


cdef Status_t hv_access(Host *h, uint32_t mfn, bint write, Out *o) noexcept nogil:
    """HYPERVISOR: all; FREE: read; a shared frame: as it is shared; HSVM: F_PROTECTED; VM: F_OWNER.

    A nested table and a saved context have a check of their own, which stays when hv_access_check is switched off.
    """
    cdef uint16_t owner = h.frames.owner[mfn]
    cdef uint32_t need = PERM_W if write else PERM_R, allowed = PERM_R | PERM_W, use
    if bus_knows(&h.bus, HYPERVISOR_SIDE, 0, mfn, need):
        return OK
    use = note_of(&h.frames, mfn) & 3
    if owner == HSVM and use in (POOL_TABLE, POOL_RESERVE) and is_on(h.checks, NPT_PROTECTION):
        return refuse_frame(h, o, NPT_PROTECTION, mfn, F_PROTECTED)
    if owner == HSVM and use == POOL_CONTEXT and is_on(h.checks, CONTEXT_PROTECTION):
        return refuse_frame(h, o, CONTEXT_PROTECTION, mfn, F_PROTECTED)
    if owner == HSVM and is_on(h.checks, SMRAM_LOCK):
        return refuse_frame(h, o, SMRAM_LOCK, mfn, F_PROTECTED)
    if owner != HYPERVISOR and is_on(h.checks, HV_ACCESS_CHECK):
        allowed = PERM_R if owner == FREE else h.frames.shared[mfn]
    if not allowed & need:
        return refuse_frame(h, o, HV_ACCESS_CHECK, mfn, F_PROTECTED if owner == HSVM else F_OWNER)
    bus_learn(&h.bus, HYPERVISOR_SIDE, 0, mfn, need)
    return OK


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
        store(h, a.mfn, a.offset, a.length, a.data)
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


# Interrupts and the timer

cdef Status_t inject(Host *h, Args *a, Out *o) noexcept nogil:
    """Deliver a vector to the vcpu on a core; its default handler counts it."""
    cdef Core *core = &h.core[a.core]
    if core.vm == NULL:
        return E_STATE
    keep_at(&h.journal, &core.vm.interrupts, 8)
    core.vm.interrupts += 1
    if a.vector == GUEST_VECTOR:
        keep_at(&h.journal, core.registers, 8)
        core.registers[0] += 1
    return OK


cdef Status_t preempt(Host *h, Args *a, Out *o) noexcept nogil:
    """Set the timer: after so many accesses the vcpu waits to be saved. A second timer replaces the first."""
    cdef Core *core = &h.core[a.core]
    if core.vm == NULL:
        return E_STATE
    keep_at(&h.journal, core, sizeof(Core))
    core.timed = True
    core.left = a.after
    return OK
