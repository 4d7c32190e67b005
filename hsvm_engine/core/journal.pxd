"""Numbered operations, the frames whose owner each one changed, and the old value of everything that it changed."""

from hsvm_engine.core.types cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CHANGES = 1 << 18    # places of the ring of changes
    LISTED = 6           # frames that one place of the ring can list
    EVENTS = 1 << 16     # operations kept
    OLD_BYTES = 1 << 23  # bytes of old values kept
    OLD_PAGES = 1 << 10  # whole old pages kept, besides
    OLD_PIECE = 1 << 15  # most bytes of one record

# One run of neighbouring frames, changed alike by one operation; or frames anywhere, changed alike by neighbouring
# operations, one each. Those are listed in the places between two equal Changes, so that it can be read from both ends.
cdef struct Change:
    uint64_t op           # number of the (last) operation
    uint32_t first        # lowest frame of the run
    uint32_t count        # frames
    uint32_t places       # of the ring that the list takes, 0: a run
    uint16_t old          # owner before
    uint16_t new          # owner after

cdef struct Event:        # one operation; NO_VALUE / NO_FRAME where a field does not apply
    uint64_t op
    uint64_t vm           # handle
    uint64_t gpn          # of the request; of an access that faulted in the nested table, the page that faulted
    uint64_t amount       # pages asked of balloon, accesses done by a trace
    uint32_t mfn
    uint32_t core
    uint32_t zeroed       # frames wiped
    uint32_t shot         # TLB entries shot down
    uint32_t filled       # TLB entries filled
    uint32_t evicted      # TLB entries that gave way to them
    uint8_t kind          # row of the operation table
    uint8_t status
    uint8_t check         # the check that refused

cdef enum Old_t:          # what an old value is of
    OLD_OP = 0            # an operation begins here: its number, changes, events and counts before
    OLD_BYTES_AT = 1      # bytes of the simulator's own memory, at a fixed address
    OLD_OWNER = 2         # the owner of a frame
    OLD_CONTENT = 3       # bytes of a frame
    OLD_EMPTY = 4         # a frame that was all zero
    OLD_PAGE = 5          # a whole page that a frame gave up
    OLD_ENTRY = 6         # one TLB entry
    OLD_RUN = 7           # leaves and owners of neighbouring elements of a batch

cdef struct Old:          # head of one old value; its bytes follow
    uint64_t before       # where the record before this one begins
    uint64_t where        # address, frame (offset << 32), or place in a TLB (level << 32)
    uint32_t size         # bytes
    uint32_t kind         # Old_t

ctypedef void (*Forget)(void *host, Old *old, uint8_t *bytes) noexcept nogil

cdef struct Journal:
    uint64_t op               # number of the last operation
    uint64_t changes          # places ever written
    uint64_t change_first     # the oldest change that is still there
    uint64_t changes_lost     # changes of operations up to this number may be gone
    uint64_t events           # events ever written
    uint64_t event_first      # oldest event that is still there
    uint64_t events_lost      # events of operations up to this number may be gone
    Change *change            # ring of CHANGES
    Event *event              # ring of EVENTS
    uint8_t *old              # ring of OLD_BYTES
    uint64_t old_end          # bytes ever written: where the next record begins
    uint64_t old_last         # where the newest record begins
    uint64_t old_first        # where the oldest record that is still there begins
    uint64_t pages            # OLD_PAGE records in the ring
    bint quiet                # nothing is kept: old values are being put back, or somebody else keeps them
    Forget forget             # gives back what a record holds besides its bytes
    void *host
    void *counts              # the host's event counts, which most operations change
    uint32_t counts_size      # bytes

cdef inline uint64_t change_op(const Change *change, uint32_t k) noexcept nogil:
    """The operation that changed frame number `k` of a change."""
    return change.op - (change.count - 1 - k) if change.places else change.op

cdef bint journal_open(Journal *j, Forget forget, void *host, void *counts, uint32_t counts_size) noexcept
cdef void journal_close(Journal *j) noexcept
cdef void journal_begin(Journal *j) noexcept nogil
cdef void journal_back(Journal *j, Old *old, const uint8_t *bytes) noexcept nogil
cdef void journal_shorten(Journal *j) noexcept nogil
cdef void journal_withdraw(Journal *j) noexcept nogil
cdef void journal_change(Journal *j, uint32_t mfn, uint16_t old, uint16_t new) noexcept nogil
cdef void journal_changes(Journal *j, const uint32_t *mfns, uint32_t count, uint16_t old, uint16_t new) noexcept nogil
cdef Change *change_before(Journal *j, uint64_t *place, uint64_t since) noexcept nogil
cdef Change *change_after(Journal *j, uint64_t *place, uint64_t until) noexcept nogil
cdef uint32_t changed_frame(Journal *j, uint64_t place, Change *change, uint32_t k) noexcept nogil
cdef Event *journal_event(Journal *j) noexcept nogil
cdef uint64_t changed_frames(Journal *j, uint64_t since, uint32_t *out) noexcept nogil
cdef uint64_t changed_total(Journal *j, uint64_t since) noexcept nogil
cdef void keep(Journal *j, Old_t kind, uint64_t where, const void *bytes, uint32_t size) noexcept nogil
cdef void keep_page(Journal *j, uint32_t mfn, void *page) noexcept nogil
cdef bint kept_last(Journal *j, Old_t kind, uint64_t where) noexcept nogil
cdef uint64_t journal_reach(Journal *j) noexcept nogil
cdef Old *last_old(Journal *j, uint8_t **bytes) noexcept nogil
cdef void drop_last_old(Journal *j) noexcept nogil
cdef void forget_rest(Journal *j) noexcept nogil
cdef void forget_all(Journal *j) noexcept nogil
cdef void keep_at(Journal *j, void *address, uint64_t size) noexcept nogil
