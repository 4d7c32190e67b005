"""Machine frames: the page-ownership table, their bytes, and the pool that tables and contexts are made of."""

from hsvm_engine.core.journal cimport Journal, Old
from hsvm_engine.core.types cimport NO_FRAME, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    CHUNK = 1024          # pages of content per allocation

cdef enum:
    LENT_SHIFT = 40       # place of the slot in Frames.lender

cdef enum Note_t:         # low two bits of Frames.note: what a pool frame is used for
    POOL_FREE = 0
    POOL_TABLE = 1        # a nested page table
    POOL_CONTEXT = 2      # the saved context of one vcpu
    POOL_RESERVE = 3      # the table page a 2 MiB leaf will need when it is split; the other bits hold gpn >> 9
    POOL_SHADOW = 5       # POOL_TABLE of a shadow table: gives way to every other use

cdef struct Page:             # the content of one frame
    uint8_t[4096] bytes
    uint64_t frame            # whose it was last

cdef struct PoolUse:
    uint32_t note             # what for, see Note_t
    uint32_t next             # next table of the same VM, NO_FRAME at the end

cdef struct Frames:
    uint32_t count            # frames of the host
    uint32_t hypervisor       # [0, hypervisor) belongs to the hypervisor at boot
    uint32_t protected        # [protected, count) belongs to H-SVM; = count where nothing is protected
    bint strict               # ownership changes only by the rows of `may_change`
    Journal *journal
    # The ownership table: 16 bytes a frame, kept as four arrays, one after the other. Under H-SVM its bytes *are* the
    # content of the first protected frames.
    uint8_t *table
    uint32_t table_first      # first frame that holds the table
    uint32_t table_frames     # 0 where the table is no simulated memory
    bint table_written        # someone stored into those frames past `set_owner` and its like
    uint16_t *owner           # whose the frame is
    uint8_t *shared           # bits of Perm_t that its owner allows to hypervisor and devices
    uint32_t *leaves          # leaves that map it
    uint64_t *lender          # of a frame that is lent: LENT | slot << 40 | guest page of the leaf that lends
    uint64_t *owned           # frames per owner value
    # Content: only frames with a non-zero byte have a page.
    uint8_t **bytes           # per frame: the bytes of its page, NULL = all zero
    uint64_t *filled          # a bit per frame: it has a page
    Page **chunk              # allocations of CHUNK pages
    uint32_t chunks           # chunks allocated
    Page **spare              # pages that can be taken again
    uint32_t spares
    uint32_t free_pages       # pages that can be taken without allocating
    uint32_t fresh            # pages ever taken: the next one of the chunks is taken when there is no spare one
    # Pool: [pool_first, pool_end), taken upwards or downwards.
    uint32_t pool_first
    uint32_t pool_end
    bint pool_down            # unprotected rows take from the end of the hypervisor's region
    uint16_t pool_owner       # only frames of this owner are taken
    uint32_t pool_hint        # no free frame lies before this place in the order of taking
    PoolUse *use              # per frame from pool_first on

cdef inline uint8_t *peek(Frames *f, uint32_t mfn) noexcept nogil:
    """The frame's bytes, or NULL while all of them are zero."""
    cdef uint8_t *bytes = f.bytes[mfn]
    if bytes == NULL and mfn - f.table_first < f.table_frames:
        return f.table + <size_t>(mfn - f.table_first) * 4096
    return bytes

cdef inline bint is_filled(Frames *f, uint32_t mfn) noexcept nogil:
    """Whether the frame has a page: as `bytes` says, in memory that stays in the cache."""
    return f.filled[mfn >> 6] >> (mfn & 63) & 1

cdef inline PoolUse *use_of(Frames *f, uint32_t mfn) noexcept nogil:
    """The use of a pool frame."""
    return &f.use[mfn - f.pool_first]

cdef inline uint32_t note_of(Frames *f, uint32_t mfn) noexcept nogil:
    """What any frame is used for: POOL_FREE outside the pool."""
    return use_of(f, mfn).note if f.pool_first <= mfn < f.pool_end else <uint32_t>POOL_FREE

cdef inline uint32_t frame_of_page(Frames *f, uint32_t number) noexcept nogil:
    """The frame that uses the page taken as number `number`, or NO_FRAME if it was given back."""
    cdef Page *page = &f.chunk[number / CHUNK][number % CHUNK]
    if page.frame < f.count and f.bytes[page.frame] == page.bytes:
        return <uint32_t>page.frame
    return NO_FRAME

cdef inline uint64_t entry_read(Frames *f, uint32_t mfn, uint32_t index) noexcept nogil:
    """One of the 512 little-endian 8-byte words of a frame."""
    cdef uint8_t *bytes = peek(f, mfn)
    return (<uint64_t *>bytes)[index] if bytes != NULL else 0

cdef inline uint64_t lent_by(uint32_t slot, uint64_t gpn) noexcept nogil:
    return <uint64_t>1 << 63 | <uint64_t>slot << LENT_SHIFT | gpn

cdef bint frames_open(Frames *f, uint32_t count, uint32_t hypervisor, uint32_t protected, bint pool_protected,
                      Journal *journal) noexcept
cdef void frames_close(Frames *f) noexcept
cdef bint frames_reserve(Frames *f, uint32_t pages) noexcept nogil
cdef void frame_read(Frames *f, uint32_t mfn, uint32_t offset, uint32_t length, uint8_t *out) noexcept nogil
cdef void frame_write(Frames *f, uint32_t mfn, uint32_t offset, uint32_t length, const uint8_t *data) noexcept nogil
cdef void entry_write(Frames *f, uint32_t mfn, uint32_t index, uint64_t value) noexcept nogil
cdef uint8_t *frame_page(Frames *f, uint32_t mfn) noexcept nogil
cdef void frame_zero(Frames *f, uint32_t mfn) noexcept nogil
cdef bint frame_is_zero(Frames *f, uint32_t mfn) noexcept nogil
cdef void keep_entry(Frames *f, uint32_t mfn) noexcept nogil
cdef void set_owner(Frames *f, uint32_t mfn, uint16_t owner) noexcept nogil
cdef void forget_page(Frames *f, Old *old, uint8_t *bytes) noexcept nogil
cdef bint put_back(Frames *f, Old *old, uint8_t *bytes) noexcept nogil
cdef uint32_t pool_find(Frames *f, uint32_t wanted, uint32_t *out) noexcept nogil
cdef void pool_take(Frames *f, uint32_t mfn, uint32_t note) noexcept nogil
cdef void pool_give(Frames *f, uint32_t mfn, bint wipe) noexcept nogil
