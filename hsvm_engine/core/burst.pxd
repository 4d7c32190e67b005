"""Batches of page_map and page_unmap, the plain elements of which are done in one loop."""

from hsvm_engine.core.calls cimport Columns
from hsvm_engine.core.context cimport Args, Host
from hsvm_engine.core.types cimport uint8_t, uint64_t

cdef uint64_t burst(Host *h, int number, Columns *c, uint64_t first, Args *a, uint8_t *statuses) noexcept nogil
cdef void run_back(Host *h, bint map, const uint64_t *kept, uint64_t done) noexcept nogil
