"""The host's state as bytes: what the digest covers and what a snapshot holds."""

from hsvm_engine.core.context cimport Host

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.types cimport uint32_t

cdef uint32_t *nonzero_frames(Frames *f, uint32_t *count) except NULL
cdef list state_sections(Host *h)
cdef bytes counter_section(Host *h)
cdef void load_sections(Host *h, dict sections) except *
cdef void load_counters(Host *h, bytes data) except *
