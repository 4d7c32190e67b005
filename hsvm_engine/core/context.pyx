"""VMs by handle, contexts as bytes of frames, and the world switch.

A context frame holds the registers as 8-byte little-endian words in the order of REGISTER_NAMES, then the machine
address of the nested root. Under H-SVM the frame is protected; elsewhere it is an ordinary frame of the hypervisor.
"""

from libc.stdlib cimport calloc
from libc.string cimport memset

from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_CONTEXT, POOL_TABLE, entry_read, entry_write, pool_give, pool_take, use_of,
)
from hsvm_engine.core.bus cimport bus_forget
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.tlb cimport mmu_load
from hsvm_engine.core.types cimport E_NOVM, E_STATE, FIRST_VM, HANDLE_CHECK, OK, TLB_SHOOTDOWN, is_on


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


cdef Status_t vm_of_tables(Host *h, uint64_t handle, Out *o, Vm **vm) noexcept nogil:
    """The living VM whose tables are to be changed: E_NOVM, or E_STATE once they were tampered with."""
    vm[0] = vm_find(h, handle)
    if vm[0] == NULL:
        return refuse(o, HANDLE_CHECK, E_NOVM)
    return E_STATE if vm[0].stopped else OK


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
    if h.store[slot] == NULL:
        h.store[slot] = <Vm *>calloc(1, sizeof(Vm))
    vm = h.store[slot]
    if vm == NULL:
        return NULL
    keep_at(&h.journal, vm, sizeof(Vm))
    keep_at(&h.journal, &h.vm[slot], sizeof(Vm *))
    keep_at(&h.journal, &h.generation[slot], 8)
    keep_at(&h.journal, &h.vm_end, 4)
    memset(vm, 0, sizeof(Vm))
    vm.slot = slot
    vm.handle = slot - 2
    if not h.reuse_handles:
        h.generation[slot] += 1
        vm.handle |= h.generation[slot] << 16
    vm.vcpus = vcpus
    vm.root = pool[0]
    vm.tables = pool[0]
    pool_put(h, pool[0], POOL_TABLE)
    use_of(&h.frames, pool[0]).next = NO_FRAME
    for i in range(vcpus):
        vm.context[i] = pool[1 + i]
        pool_put(h, pool[1 + i], POOL_CONTEXT)
        entry_write(&h.frames, vm.context[i], ROOT_WORD, <uint64_t>vm.root << 12)
    h.vm[slot] = vm
    h.vm_end = max(h.vm_end, slot + 1)
    return vm


cdef void vm_drop(Host *h, Vm *vm) noexcept nogil:
    """Give the VM's tables and contexts back to the pool; its handle is dead from here on."""
    cdef bint wipe = h.counted
    cdef uint32_t table = vm.tables, following, i
    while table != NO_FRAME:
        following = use_of(&h.frames, table).next
        pool_give(&h.frames, table, wipe)
        table = following
    for i in range(vm.vcpus):
        pool_give(&h.frames, vm.context[i], wipe)
    keep_at(&h.journal, &h.tally, sizeof(Tally))
    keep_at(&h.journal, &h.vm[vm.slot], sizeof(Vm *))
    h.tally.l1 += vm.tally.l1
    h.tally.l2 += vm.tally.l2
    h.tally.miss += vm.tally.miss
    h.tally.faults += vm.tally.faults
    h.tally.references += vm.tally.references
    h.vm[vm.slot] = NULL


cdef void pool_put(Host *h, uint32_t mfn, uint32_t note) noexcept nogil:
    """Put a pool frame to its use; hypervisor and devices forget what they knew of it."""
    pool_take(&h.frames, mfn, note)
    if is_on(h.checks, TLB_SHOOTDOWN):
        bus_forget(&h.bus, mfn)


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
    keep_at(&h.journal, core, sizeof(Core))
    keep_at(&h.journal, &vm.core[vcpu], 4)
    context_fetch(h, vm, vcpu, core.registers)
    core.vm = vm
    core.vcpu = vcpu
    core.timed = False
    core.left = 0
    vm.core[vcpu] = <uint32_t>(core - h.core) + 1
    mmu_load(&h.tlb, &core.mmu, vm.handle, context_root(h, vm, vcpu), core.registers[REGISTERS - 1])


cdef void core_leave(Host *h, Core *core) noexcept nogil:
    """World switch out: registers go to the context frame, none stays on the core."""
    keep_at(&h.journal, core, sizeof(Core))
    keep_at(&h.journal, &core.vm.core[core.vcpu], 4)
    context_store(h, core.vm, core.vcpu, core.registers)
    core.vm.core[core.vcpu] = 0
    core.vm = NULL
    core.vcpu = 0
    core.timed = False
    core.left = 0
    memset(core.registers, 0, sizeof(core.registers))
    mmu_load(&h.tlb, &core.mmu, 0, 0, 0)


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
