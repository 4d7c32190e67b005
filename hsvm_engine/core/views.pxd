"""The host as Python values, for people and tests to look at."""

from hsvm_engine.core.context cimport Host, Tally
from hsvm_engine.core.types cimport uint32_t, uint64_t

cdef dict dump_host(Host *h)
cdef object tlb_table(Host *h, uint32_t first, uint32_t end)
cdef list events_after(Host *h, uint64_t since)
cdef object frames_after(Host *h, uint64_t since)
cdef dict counters_of(Host *h, dict costs)
cdef void tally_add(Tally *total, Tally *part) noexcept nogil
cdef object changes_between(Host *h, uint64_t since, uint64_t until)
cdef list bus_table(Host *h)
