"""Stores by anybody but H-SVM, and the handler of the prototype that compares tables in ordinary memory.

The prototype keeps a hash of the tables in SMRAM. The machine keeps the bytes themselves of each table that is stored
into, as they were before: that is what a hash without collisions tells, and costs nothing while nobody stores there.
"""

from libc.stdlib cimport malloc
from libc.string cimport memcmp

from hsvm_engine.core.context cimport Vm
from hsvm_engine.core.frames cimport NO_FRAME, POOL_FREE, POOL_CONTEXT, frame_read, frame_write, note_of, use_of
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.shadow cimport shadow_before_store
from hsvm_engine.core.types cimport FIRST_VM, PAGE, hsvm_assert


cdef void store(Host *h, uint32_t mfn, uint32_t offset, uint32_t length, const uint8_t *data) noexcept nogil:
    """A store by hypervisor, guest or device into a frame that it may write."""
    if h.smi and note_of(&h.frames, mfn) & 3 not in (POOL_FREE, POOL_CONTEXT):
        remember(h, mfn)
    if h.shadow.on:
        shadow_before_store(&h.frames, &h.shadow, mfn)
    frame_write(&h.frames, mfn, offset, length, data)


cdef void remember(Host *h, uint32_t mfn) noexcept nogil:
    """Keep the table as the handler left it, before the first store past the handler since the last SMI."""
    cdef uint32_t place = mfn - h.frames.pool_first
    if h.stored[place]:
        return
    if h.table_copy[place] == NULL:
        h.table_copy[place] = <uint8_t *>malloc(PAGE)
        hsvm_assert(h.table_copy[place] != NULL, "memory for the copy of one table")
        if h.table_copy[place] == NULL:
            return
    keep_at(&h.journal, h.table_copy[place], PAGE)
    keep_at(&h.journal, &h.stored[place], 1)
    keep_at(&h.journal, &h.stored_tables, 4)
    frame_read(&h.frames, mfn, 0, PAGE, h.table_copy[place])
    h.stored[place] = 1
    h.stored_tables += 1


cdef bint differs(Host *h, uint32_t mfn) noexcept nogil:
    """Whether a table that was stored into is not as the handler left it; the note of the store is taken off."""
    cdef uint32_t place = mfn - h.frames.pool_first
    cdef uint8_t[4096] now
    if not h.stored[place]:
        return False
    keep_at(&h.journal, &h.stored[place], 1)
    h.stored[place] = 0
    frame_read(&h.frames, mfn, 0, PAGE, now)
    return memcmp(now, h.table_copy[place], PAGE) != 0


cdef void smi(Host *h) noexcept nogil:
    """All cores stop, and every table is compared."""
    h.counts.smis += 1
    compare_tables(h)


cdef void compare_tables(Host *h) noexcept nogil:
    """A VM with a table that differs never runs again."""
    cdef uint32_t slot, table
    cdef bint tampered
    cdef Vm *vm
    if h.stored_tables == 0:
        return
    keep_at(&h.journal, &h.stored_tables, 4)
    h.stored_tables = 0
    for slot in range(FIRST_VM, h.vm_end):
        vm = h.vm[slot]
        if vm == NULL:
            continue
        tampered = False
        table = vm.tables
        while table != NO_FRAME:
            tampered = differs(h, table) or tampered
            table = use_of(&h.frames, table).next
        if tampered and not vm.stopped:
            keep_at(&h.journal, &vm.stopped, sizeof(vm.stopped))
            vm.stopped = True
