"""VMs by handle, contexts as bytes of frames, and the world switch.

A context frame holds the registers as 8-byte little-endian words in the order of REGISTER_NAMES, then the machine
address of the nested root. Under H-SVM the frame is protected; elsewhere it is an ordinary frame of the hypervisor.
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memmove, memset

from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_TABLE, entry_read, entry_write, pool_give, pool_take, use_of,
)
from hsvm_engine.core.tlb cimport mmu_load
from hsvm_engine.core.types cimport FIRST_VM, NPT_PROTECTION, is_on


# A handle is generation << 16 | slot number from 1 on; without generations the slot number alone. The owner's value in
# the ownership table is slot number + 2.

cdef Vm *vm_by_slot(Host *h, uint32_t slot) noexcept nogil:
    return h.vm[slot] if FIRST_VM <= slot <= MAX_SLOT else NULL


cdef Vm *vm_find(Host *h, uint64_t handle) noexcept nogil:
    """The living VM of this handle, or NULL."""
    cdef uint64_t number = handle if h.reuse_handles else handle & 0xFFFF
    cdef Vm *vm
    if number == 0 or number + 2 > MAX_SLOT:
        return NULL
    vm = h.vm[number + 2]
    return vm if vm != NULL and vm.handle == handle else NULL


cdef Vm *vm_make(Host *h, uint32_t vcpus, uint32_t *pool) noexcept nogil:
    """Make a VM from 1 + vcpus pool frames: its root, then its contexts.

    NULL, and nothing changed, without a free slot or memory.
    """
    cdef uint32_t slot = FIRST_VM, i
    cdef Vm *vm
    while slot <= MAX_SLOT and h.vm[slot] != NULL:
        slot += 1
    if slot > MAX_SLOT:
        return NULL
    vm = <Vm *>calloc(1, sizeof(Vm))
    if vm == NULL:
        return NULL
    vm.slot = slot
    vm.handle = slot - 2
    if not h.reuse_handles:
        h.generation[slot] += 1
        vm.handle |= h.generation[slot] << 16
    vm.vcpus = vcpus
    vm.root = pool[0]
    vm.tables = pool[0]
    pool_take(&h.frames, pool[0], POOL_TABLE)
    use_of(&h.frames, pool[0]).next = NO_FRAME
    for i in range(vcpus):
        vm.context[i] = pool[1 + i]
        pool_take(&h.frames, pool[1 + i], POOL_CONTEXT)
        entry_write(&h.frames, vm.context[i], ROOT_WORD, <uint64_t>vm.root << 12)
    h.vm[slot] = vm
    h.vm_end = max(h.vm_end, slot + 1)
    return vm


cdef void vm_drop(Host *h, Vm *vm) noexcept nogil:
    """Give the VM's tables and contexts back to the pool; its handle is dead from here on."""
    cdef bint wipe = is_on(h.checks, NPT_PROTECTION)
    cdef uint32_t table = vm.tables, following, i
    while table != NO_FRAME:
        following = use_of(&h.frames, table).next
        pool_give(&h.frames, table, wipe)
        table = following
    for i in range(vm.vcpus):
        pool_give(&h.frames, vm.context[i], wipe)
    h.tally.l1 += vm.tally.l1
    h.tally.l2 += vm.tally.l2
    h.tally.miss += vm.tally.miss
    h.tally.faults += vm.tally.faults
    h.tally.references += vm.tally.references
    h.vm[vm.slot] = NULL
    free(vm.guest_tables)
    free(vm)


# Contexts

cdef void context_store(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil:
    cdef uint32_t i
    for i in range(REGISTERS):
        entry_write(&h.frames, vm.context[vcpu], i, registers[i])


cdef void context_fetch(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil:
    cdef uint32_t i
    for i in range(REGISTERS):
        registers[i] = entry_read(&h.frames, vm.context[vcpu], i)


cdef uint32_t context_root(Host *h, Vm *vm, uint32_t vcpu) noexcept nogil:
    """The nested root that the context frame names; NO_FRAME for an address the host does not have."""
    cdef uint64_t root = entry_read(&h.frames, vm.context[vcpu], ROOT_WORD) >> 12
    return <uint32_t>root if root < h.frames.count else NO_FRAME


cdef void core_enter(Host *h, Core *core, Vm *vm, uint32_t vcpu) noexcept nogil:
    """World switch into a vcpu: registers and root come from its context frame and from nowhere else."""
    context_fetch(h, vm, vcpu, core.registers)
    core.vm = vm
    core.vcpu = vcpu
    vm.core[vcpu] = <uint32_t>(core - h.core) + 1
    mmu_load(&h.tlb, &core.mmu, vm.handle, context_root(h, vm, vcpu), core.registers[REGISTERS - 1])


cdef void core_leave(Host *h, Core *core) noexcept nogil:
    """World switch out: registers go to the context frame, none stays on the core."""
    context_store(h, core.vm, core.vcpu, core.registers)
    core.vm.core[core.vcpu] = 0
    core.vm = NULL
    core.vcpu = 0
    memset(core.registers, 0, sizeof(core.registers))
    mmu_load(&h.tlb, &core.mmu, 0, 0, 0)


# Guest pages that hold the guest's own tables

cdef uint32_t guest_table_place(Vm *vm, uint64_t gpn) noexcept nogil:
    """First place whose gpn is not below `gpn`."""
    cdef uint32_t low = 0, high = vm.guest_table_count, middle
    while low < high:
        middle = (low + high) / 2
        if vm.guest_tables[middle] < gpn:
            low = middle + 1
        else:
            high = middle
    return low


cdef bint is_guest_table(Vm *vm, uint64_t gpn) noexcept nogil:
    cdef uint32_t place = guest_table_place(vm, gpn)
    return place < vm.guest_table_count and vm.guest_tables[place] == gpn


cdef bint guest_tables_reserve(Vm *vm, uint32_t more) noexcept nogil:
    """Room for `more` tables; False changes nothing."""
    cdef uint32_t room = vm.guest_table_count + more
    cdef uint64_t *grown
    if room <= vm.guest_table_room:
        return True
    room *= 2
    grown = <uint64_t *>realloc(vm.guest_tables, room * sizeof(uint64_t))
    if grown == NULL:
        return False
    vm.guest_tables = grown
    vm.guest_table_room = room
    return True


cdef void guest_table_add(Vm *vm, uint64_t gpn) noexcept nogil:
    cdef uint32_t place = guest_table_place(vm, gpn)
    memmove(vm.guest_tables + place + 1, vm.guest_tables + place, (vm.guest_table_count - place) * sizeof(uint64_t))
    vm.guest_tables[place] = gpn
    vm.guest_table_count += 1


cdef void guest_table_drop(Vm *vm, uint64_t gpn) noexcept nogil:
    """A page that is taken from the guest is none of its tables any more."""
    cdef uint32_t place = guest_table_place(vm, gpn)
    if place < vm.guest_table_count and vm.guest_tables[place] == gpn:
        vm.guest_table_count -= 1
        memmove(vm.guest_tables + place, vm.guest_tables + place + 1, (vm.guest_table_count - place) * sizeof(uint64_t))


# Refusals

cdef Status_t refuse(Out *o, Check_t check, Status_t status) noexcept nogil:
    """Name the check that refused."""
    o.check = check
    return status


cdef Status_t refuse_frame(Host *h, Out *o, Check_t check, uint32_t mfn, Status_t status) noexcept nogil:
    """Name the check that refused and the owner it found."""
    o.check = check
    o.bad_mfn = mfn
    o.bad_owner = h.frames.owner[mfn]
    return status
