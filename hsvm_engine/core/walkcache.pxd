"""Page-walk caches: what a walk need not read again."""

from hsvm_engine.core.paging cimport Reference
from hsvm_engine.core.tlb cimport Mmu, Tlb
from hsvm_engine.core.types cimport uint32_t, uint64_t

cdef struct Shortcut:         # what one walk looked for in the caches
    uint64_t[6] tag           # the guest cache's, then one of the nested cache per nested walk; 0 = nothing to look for
    uint64_t[6] target        # the level 1 table that the walk found
    uint32_t[6] first         # first reference that an answer saves
    uint32_t[6] count         # references that it saves

cdef void shortcut_read(Shortcut *s, Mmu *mmu, uint64_t cr3, uint64_t vpn, const Reference *log,
                        uint32_t count) noexcept nogil
cdef uint32_t cache_saves(Tlb *t, uint32_t core, Shortcut *s, bint *skipped) noexcept nogil
cdef void cache_learn(Tlb *t, uint32_t core, Shortcut *s) noexcept nogil
cdef void cache_drop_vm(Tlb *t, uint32_t core, uint64_t handle, bint guest_only) noexcept nogil
cdef void cache_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t page) noexcept nogil
