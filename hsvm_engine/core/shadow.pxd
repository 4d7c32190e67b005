"""Shadow tables: guest-virtual to machine in one dimension, built by the hypervisor. (row `shadow`)"""

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.journal cimport Journal
from hsvm_engine.core.paging cimport Translation
from hsvm_engine.core.tlb cimport Mmu
from hsvm_engine.core.types cimport Status_t, uint8_t, uint32_t, uint64_t

cdef enum:
    SHADOWS = 64              # address spaces that have a table at a time

cdef struct ShadowRoot:
    uint64_t handle           # 0 = unused
    uint64_t cr3
    uint32_t nested           # root of the nested table that it was built from
    uint32_t root             # its own root

cdef struct Shadow:
    bint on
    ShadowRoot[64] root
    uint8_t *source           # by frame: 1 if a shadow table was built from a table there

cdef void shadow_drop_all(Frames *f, Shadow *s) noexcept nogil
cdef void shadow_before_store(Frames *f, Shadow *s, uint32_t mfn) noexcept nogil
cdef uint32_t shadow_find(Frames *f, Shadow *s, Mmu *mmu) noexcept nogil
cdef Status_t shadow_fill(Frames *f, Shadow *s, Mmu *mmu, uint64_t address, uint32_t need,
                          Translation *x) noexcept nogil
cdef Status_t shadow_translate(Frames *f, Shadow *s, Mmu *mmu, uint64_t address, uint32_t need,
                               Translation *x) noexcept nogil
cdef uint32_t pool_find_all(Frames *f, Shadow *s, uint32_t wanted, uint32_t *out) noexcept nogil
