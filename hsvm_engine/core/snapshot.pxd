"""The host's state as bytes: what the digest covers and what a snapshot holds."""

from hsvm_engine.core.context cimport Host
from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.types cimport uint16_t, uint32_t, uint64_t

cdef enum:
    FORMAT = 2                # version of snapshots

cdef packed struct Run:           # neighbouring frames of one owner
    uint32_t first
    uint32_t count
    uint16_t owner

cdef packed struct Entry:         # one TLB entry
    uint32_t place
    uint64_t handle
    uint64_t cr3
    uint64_t vpn                  # of 4 KiB or, for a huge entry, of 2 MiB
    uint64_t gpn
    uint32_t data                 # as in Level.data; bit 3 = huge

cdef uint32_t *nonzero_frames(Frames *f, uint32_t *count) except NULL
cdef list state_sections(Host *h)
cdef bytes to_bytes(Host *h, dict settings)
