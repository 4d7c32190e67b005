"""The rules that must hold after every operation, and the state of a TLB entry against them."""

from hsvm_engine.core.context cimport Host
from hsvm_engine.core.tlb cimport Level
from hsvm_engine.core.types cimport uint32_t, uint64_t

cdef bint entry_agrees(Host *h, uint32_t which, uint64_t place, bint guest_too) noexcept nogil
cdef bint is_due(Host *h, Level *level, uint64_t place) noexcept nogil
cdef list check_host(Host *h)
