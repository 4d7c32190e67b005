"""Translations of the hypervisor and of devices: they have one stage, from a frame to itself, and hold a permission.

A frame that was checked once is not checked again while its translation stands, as in a processor. So whoever takes a
right away must make both sides forget the frame: that is part of every shootdown.
"""

from hsvm_engine.core.journal cimport keep_at


cdef bint bus_knows(Bus *b, uint32_t side, uint16_t device, uint32_t mfn, uint32_t need) noexcept nogil:
    """Whether a translation of this frame allows all of `need`."""
    cdef Passage *p = &b.passage[side][mfn % BUS_SETS]
    return p.mfn == mfn + 1 and p.device == device and p.perm & need == need


cdef void bus_learn(Bus *b, uint32_t side, uint16_t device, uint32_t mfn, uint32_t perm) noexcept nogil:
    """Remember that the frame may be reached; the set's old entry gives way."""
    cdef Passage *p = &b.passage[side][mfn % BUS_SETS]
    if p.mfn == mfn + 1 and p.device == device:
        perm |= p.perm
    elif p.mfn == 0 and perm == 0:
        return
    keep_at(b.journal, p, sizeof(Passage))
    p.mfn = mfn + 1
    p.device = device
    p.perm = <uint8_t>perm


cdef uint32_t bus_forget(Bus *b, uint32_t mfn) noexcept nogil:
    """Drop what both sides know of the frame; returns the number of entries."""
    cdef uint32_t side, dropped = 0
    cdef Passage *p
    for side in range(2):
        p = &b.passage[side][mfn % BUS_SETS]
        if p.mfn == mfn + 1:
            keep_at(b.journal, p, sizeof(Passage))
            p.mfn = 0
            p.device = 0
            p.perm = 0
            dropped += 1
    return dropped
