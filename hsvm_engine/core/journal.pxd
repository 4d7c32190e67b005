"""Numbered operations and the frames whose owner each one changed, in two bounded rings."""

from hsvm_engine.core.types cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CHANGES = 1 << 18    # runs kept
    EVENTS = 1 << 16     # operations kept

cdef struct Change:       # one run of neighbouring frames, changed alike by one operation
    uint64_t op           # number of the operation
    uint32_t first        # lowest frame
    uint32_t count        # frames
    uint16_t old          # owner before
    uint16_t new          # owner after

cdef struct Event:        # one operation; NO_VALUE / NO_FRAME where a field does not apply
    uint64_t op
    uint64_t vm           # handle
    uint64_t gpn
    uint64_t amount       # pages asked of balloon, accesses done by a trace
    uint32_t mfn
    uint32_t core
    uint32_t zeroed       # frames wiped
    uint32_t shot         # TLB entries shot down
    uint8_t kind          # row of the operation table
    uint8_t status
    uint8_t check         # the check that refused

cdef struct Journal:
    uint64_t op               # number of the last operation
    uint64_t changes          # runs ever written
    uint64_t changes_lost     # runs of operations up to this number may be gone
    uint64_t events           # events ever written
    uint64_t events_lost      # events of operations up to this number may be gone
    Change *change            # ring of CHANGES
    Event *event              # ring of EVENTS

cdef bint journal_open(Journal *j) noexcept
cdef void journal_close(Journal *j) noexcept
cdef void journal_change(Journal *j, uint32_t mfn, uint16_t old, uint16_t new) noexcept nogil
cdef Event *journal_event(Journal *j) noexcept nogil
cdef uint64_t changed_frames(Journal *j, uint64_t since, uint32_t *out) noexcept nogil
cdef uint64_t changed_total(Journal *j, uint64_t since) noexcept nogil
