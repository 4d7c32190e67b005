"""What hypervisor and devices remember of frames that they were let into: their translations."""

from hsvm_engine.core.journal cimport Journal
from hsvm_engine.core.types cimport uint8_t, uint16_t, uint32_t

cdef enum:
    BUS_SETS = 64         # one entry each
    HYPERVISOR_SIDE = 0
    DEVICE_SIDE = 1

cdef struct Passage:      # one translation
    uint32_t mfn          # 1 + frame, 0 = empty
    uint16_t device       # of the device side
    uint8_t perm          # bits of Perm_t

cdef struct Bus:
    Passage[2][64] passage
    Journal *journal

cdef bint bus_knows(Bus *b, uint32_t side, uint16_t device, uint32_t mfn, uint32_t need) noexcept nogil
cdef void bus_learn(Bus *b, uint32_t side, uint16_t device, uint32_t mfn, uint32_t perm) noexcept nogil
cdef uint32_t bus_forget(Bus *b, uint32_t mfn) noexcept nogil
