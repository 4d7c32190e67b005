"""Going back: old values are put back, the newest first, until the operation asked for is the last one.

What follows from the rest is not kept but made anew at the end: how many entries each address space has, and where a
search of the pool begins. It costs what the operations changed, and the size of the TLBs once.
"""

from libc.string cimport memcpy

from hsvm_engine.core.burst cimport run_back
from hsvm_engine.core.frames cimport put_back
from hsvm_engine.core.journal cimport (
    OLD_BYTES_AT, OLD_ENTRY, OLD_OP, OLD_RUN, Old, drop_last_old, journal_back, journal_shorten, last_old,
)
from hsvm_engine.core.tlb cimport tlb_put_back, tlb_recount
from hsvm_engine.core.types cimport uint8_t, uint32_t


cdef void put_one_back(Host *h, Old *old, uint8_t *bytes) noexcept nogil:
    if old.kind == OLD_OP:
        journal_back(&h.journal, old, bytes)
    elif old.kind == OLD_BYTES_AT:
        memcpy(<void *><size_t>old.where, bytes, old.size)
    elif old.kind == OLD_RUN:
        run_back(h, old.where != 0, <uint64_t *>bytes, old.size / 8 - 1)
    elif old.kind == OLD_ENTRY:
        tlb_put_back(&h.tlb, old.where, bytes)
    else:
        put_back(&h.frames, old, bytes)


cdef uint64_t go_back(Host *h, uint64_t to) noexcept nogil:
    """Undo operations until the last one is not after `to`, which the journal reaches; a trace is undone whole."""
    cdef uint8_t *bytes
    cdef Old *old
    cdef uint32_t i
    h.journal.quiet = True
    while h.journal.op > to:
        old = last_old(&h.journal, &bytes)
        if old == NULL:
            break
        put_one_back(h, old, bytes)
        drop_last_old(&h.journal)
    journal_shorten(&h.journal)
    h.frames.pool_hint = 0
    tlb_recount(&h.tlb)
    for i in range(h.cores):
        if h.core[i].mmu.handle:
            h.tlb.space[h.core[i].mmu.flat].pins += 1
            h.tlb.space[h.core[i].mmu.paged].pins += 1
    h.journal.quiet = False
    return h.journal.op
