"""Stores that go past the handler, and how the handler finds them out."""

from hsvm_engine.core.context cimport Host
from hsvm_engine.core.types cimport uint8_t, uint32_t

cdef void store(Host *h, uint32_t mfn, uint32_t offset, uint32_t length, const uint8_t *data) noexcept nogil
cdef void smi(Host *h) noexcept nogil
cdef void compare_tables(Host *h) noexcept nogil
