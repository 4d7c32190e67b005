"""Going back to an earlier operation."""

from hsvm_engine.core.context cimport Host
from hsvm_engine.core.types cimport uint64_t

cdef uint64_t go_back(Host *h, uint64_t to) noexcept nogil
