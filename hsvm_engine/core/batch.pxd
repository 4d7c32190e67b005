"""Traces."""

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.paging cimport Translation
from hsvm_engine.core.tlb cimport Mmu, Tally, Tlb
from hsvm_engine.core.types cimport Status_t, uint8_t, uint32_t, uint64_t

cdef uint64_t trace(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, const uint64_t *addresses, const uint8_t *kinds,
                    uint64_t count, Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) noexcept nogil
