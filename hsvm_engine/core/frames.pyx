"""Frames, their owners and their bytes.

A frame has exactly one owner. The rows of a protected host (engine.md section 3):

    FREE       -> VM(v)         page_map           content is zero and stays so
    VM(v)      -> FREE          page_unmap, balloon, delete_vm      zeroed first
    FREE       -> HYPERVISOR    claim
    HYPERVISOR -> FREE          release            zeroed first
    VM(a)      -> VM(b)         must never occur
    VM(v)      -> HYPERVISOR    must never occur
    HSVM      <-> anything      must never occur: pool and table use are both HSVM
"""

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from hsvm_engine.core.journal cimport (
    OLD_CONTENT, OLD_EMPTY, OLD_OWNER, OLD_PAGE, journal_change, keep, keep_at, keep_page, kept_last,
)
from hsvm_engine.core.types cimport FIRST_VM, FREE, HSVM, HYPERVISOR, MAX_SLOT, PAGE, hsvm_assert, hsvm_junk


cdef bint frames_open(Frames *f, uint32_t count, uint32_t hypervisor, uint32_t protected, bint pool_protected,
                      Journal *journal) noexcept:
    """Set the owners as at boot; False if the computer has no memory. `protected` frames at the end, 0 for none."""
    cdef uint32_t i
    cdef uint64_t table_frames = (16 * <uint64_t>count + PAGE - 1) / PAGE
    f.count = count
    f.hypervisor = hypervisor
    f.protected = count - protected
    f.journal = journal
    f.table_frames = <uint32_t>table_frames if protected else 0
    f.table_first = f.protected
    f.table = <uint8_t *>calloc(table_frames, PAGE)            # untouched memory costs nothing
    f.owned = <uint64_t *>calloc(MAX_SLOT + 1, sizeof(uint64_t))
    f.bytes = <uint8_t **>calloc(count, sizeof(uint8_t *))
    f.filled = <uint64_t *>calloc(count / 64 + 1, sizeof(uint64_t))
    f.chunk = <Page **>calloc(count / CHUNK + 4, sizeof(Page *))
    f.pool_down = not pool_protected
    f.pool_first = 0 if f.pool_down else f.protected + f.table_frames
    f.pool_end = hypervisor if f.pool_down else count
    f.pool_owner = HYPERVISOR if f.pool_down else HSVM
    f.use = <PoolUse *>calloc(f.pool_end - f.pool_first + 1, sizeof(PoolUse))
    if not (f.table and f.owned and f.bytes and f.filled and f.chunk and f.use):
        return False
    f.owner = <uint16_t *>f.table
    f.shared = f.table + 2 * <size_t>count
    f.leaves = <uint32_t *>(f.table + 4 * <size_t>count)
    f.lender = <uint64_t *>(f.table + 8 * <size_t>count)
    for i in range(hypervisor):
        f.owner[i] = HYPERVISOR
    for i in range(f.protected, count):
        f.owner[i] = HSVM
    f.owned[<int>HYPERVISOR] = hypervisor
    f.owned[<int>HSVM] = protected
    f.owned[<int>FREE] = count - hypervisor - protected
    return True


cdef void frames_close(Frames *f) noexcept:
    cdef uint32_t i
    if f.chunk != NULL:
        for i in range(f.chunks):
            free(f.chunk[i])
    free(f.table)
    free(f.owned)
    free(f.bytes)
    free(f.filled)
    free(f.chunk)
    free(f.spare)
    free(f.use)
    memset(f, 0, sizeof(Frames))


# Content

cdef bint frames_reserve(Frames *f, uint32_t pages) noexcept nogil:
    """Make sure that `pages` frames can become non-zero without allocating; False changes nothing."""
    cdef Page *chunk
    cdef Page **spare
    while f.free_pages < pages and f.chunks < f.count / CHUNK + 4:
        chunk = <Page *>calloc(CHUNK, sizeof(Page))
        spare = <Page **>realloc(f.spare, <size_t>(f.chunks + 1) * CHUNK * sizeof(Page *))
        if spare != NULL:
            f.spare = spare
        if chunk == NULL or spare == NULL:
            free(chunk)
            return False
        f.chunk[f.chunks] = chunk
        f.chunks += 1
        f.free_pages += CHUNK
    return True


cdef inline void set_page(Frames *f, uint32_t mfn, Page *page) noexcept nogil:
    page.frame = mfn
    f.bytes[mfn] = page.bytes
    f.filled[mfn >> 6] |= <uint64_t>1 << (mfn & 63)


cdef Page *take_page(Frames *f, uint32_t mfn) noexcept nogil:
    """A page for a frame that has none; its bytes may be anything. Every operation starts with `frames_reserve`."""
    cdef Page *page
    hsvm_assert(f.free_pages > 0, "pages were reserved before the operation")
    if f.spares:
        f.spares -= 1
        page = f.spare[f.spares]
    else:
        page = &f.chunk[f.fresh / CHUNK][f.fresh % CHUNK]
        f.fresh += 1
    f.free_pages -= 1
    set_page(f, mfn, page)
    return page


cdef void give_page(Frames *f, Page *page) noexcept nogil:
    """Let another frame have the page. Its bytes are not touched: who takes it writes them all."""
    hsvm_junk(page.bytes)
    f.spare[f.spares] = page
    f.spares += 1
    f.free_pages += 1


cdef void frame_read(Frames *f, uint32_t mfn, uint32_t offset, uint32_t length, uint8_t *out) noexcept nogil:
    cdef uint8_t *bytes = peek(f, mfn)
    if bytes == NULL:
        memset(out, 0, length)
    else:
        memcpy(out, bytes + offset, length)


cdef bint all_zero(const uint8_t *data, uint32_t length) noexcept nogil:
    cdef uint32_t i = 0
    cdef uint64_t word = 0
    while i + 8 <= length:
        memcpy(&word, data + i, 8)
        if word:
            return False
        i += 8
    while i < length:
        if data[i]:
            return False
        i += 1
    return True


cdef void frame_write(Frames *f, uint32_t mfn, uint32_t offset, uint32_t length, const uint8_t *data) noexcept nogil:
    """Store bytes; zeros written to a zero frame need no page."""
    cdef uint8_t *bytes = peek(f, mfn)
    if bytes == NULL:
        if all_zero(data, length):
            return
        keep(f.journal, OLD_EMPTY, mfn, NULL, 0)
        bytes = take_page(f, mfn).bytes
        if length < PAGE:
            memset(bytes, 0, PAGE)
    else:
        f.table_written = f.table_written or f.bytes[mfn] == NULL
        keep(f.journal, OLD_CONTENT, mfn | <uint64_t>offset << 32, bytes + offset, length)
    memcpy(bytes + offset, data, length)


cdef uint8_t *frame_page(Frames *f, uint32_t mfn) noexcept nogil:
    """A page for a frame that is zero, its bytes undefined until the caller writes them all; NULL if it is not zero."""
    if peek(f, mfn) != NULL:
        return NULL
    keep(f.journal, OLD_EMPTY, mfn, NULL, 0)
    return take_page(f, mfn).bytes


cdef void entry_write(Frames *f, uint32_t mfn, uint32_t index, uint64_t value) noexcept nogil:
    frame_write(f, mfn, index * 8, 8, <uint8_t *>&value)


cdef void frame_zero(Frames *f, uint32_t mfn) noexcept nogil:
    """Make every byte zero: the frame gives up its page, which the journal keeps as the old value."""
    cdef uint8_t *bytes = f.bytes[mfn]
    cdef Page *page
    if bytes == NULL:
        if mfn - f.table_first < f.table_frames:            # a frame of the ownership table
            bytes = peek(f, mfn)
            keep(f.journal, OLD_CONTENT, mfn, bytes, PAGE)
            memset(bytes, 0, PAGE)
            f.table_written = True
        return
    page = <Page *>bytes                    # its bytes come first
    f.bytes[mfn] = NULL
    f.filled[mfn >> 6] &= ~(<uint64_t>1 << (mfn & 63))
    if f.journal.quiet:
        give_page(f, page)
    else:
        keep_page(f.journal, mfn, page)


cdef bint frame_is_zero(Frames *f, uint32_t mfn) noexcept nogil:
    cdef uint8_t *bytes = peek(f, mfn)
    return bytes == NULL or all_zero(bytes, PAGE)


# Owners

cdef inline bint may_change(uint16_t old, uint16_t new) noexcept nogil:
    """The transition table in the head of this file."""
    if old == FREE:
        return new == HYPERVISOR or new >= FIRST_VM
    return new == FREE and old != HSVM


cdef void keep_entry(Frames *f, uint32_t mfn) noexcept nogil:
    """Keep the frame's entry in the ownership table, which is about to change."""
    cdef uint64_t[2] old
    if kept_last(f.journal, OLD_OWNER, mfn):
        return
    old[0] = f.owner[mfn] | <uint64_t>f.shared[mfn] << 16 | <uint64_t>f.leaves[mfn] << 32
    old[1] = f.lender[mfn]
    keep(f.journal, OLD_OWNER, mfn, old, 16)


cdef void set_owner(Frames *f, uint32_t mfn, uint16_t owner) noexcept nogil:
    """Give the frame to `owner`; the caller has checked. The only place where ownership changes after boot."""
    cdef uint16_t old = f.owner[mfn]
    cdef uint32_t place
    if old == owner:
        return
    hsvm_assert(not f.strict or may_change(old, owner), "an ownership row that must never occur")
    keep_entry(f, mfn)
    f.owner[mfn] = owner
    f.owned[old] -= 1
    f.owned[owner] += 1
    journal_change(f.journal, mfn, old, owner)
    if owner == f.pool_owner and f.pool_first <= mfn < f.pool_end:
        place = f.pool_end - 1 - mfn if f.pool_down else mfn - f.pool_first
        f.pool_hint = min(f.pool_hint, place)


# Old values

cdef void forget_page(Frames *f, Old *old, uint8_t *bytes) noexcept nogil:
    """An OLD_PAGE leaves the journal: nobody can ask for its bytes any more."""
    cdef Page *page
    memcpy(&page, bytes, sizeof(page))
    give_page(f, page)


cdef bint put_back(Frames *f, Old *old, uint8_t *bytes) noexcept nogil:
    """Put an old value of a frame back; False if it is not one of a frame. The journal must be quiet."""
    cdef uint32_t mfn = <uint32_t>old.where
    cdef uint64_t[2] entry
    cdef Page *page
    if old.kind == OLD_OWNER:
        memcpy(entry, bytes, 16)
        f.owned[f.owner[mfn]] -= 1
        f.owner[mfn] = <uint16_t>entry[0]
        f.owned[f.owner[mfn]] += 1
        f.shared[mfn] = <uint8_t>(entry[0] >> 16)
        f.leaves[mfn] = <uint32_t>(entry[0] >> 32)
        f.lender[mfn] = entry[1]
        f.pool_hint = 0
    elif old.kind == OLD_CONTENT:
        memcpy(peek(f, mfn) + (old.where >> 32), bytes, old.size)
    elif old.kind == OLD_EMPTY:
        frame_zero(f, mfn)
    elif old.kind == OLD_PAGE:
        memcpy(&page, bytes, sizeof(page))
        set_page(f, mfn, page)
    else:
        return False
    return True


# Pool

cdef uint32_t pool_find(Frames *f, uint32_t wanted, uint32_t *out) noexcept nogil:
    """Write the next `wanted` free pool frames in the order of taking; fewer if there are fewer. Takes nothing."""
    cdef uint32_t found = 0, place = f.pool_hint, mfn
    cdef uint32_t end = f.pool_end - f.pool_first
    while found < wanted and place < end:
        mfn = f.pool_end - 1 - place if f.pool_down else f.pool_first + place
        if use_of(f, mfn).note == POOL_FREE and f.owner[mfn] == f.pool_owner:
            if found == 0:
                f.pool_hint = place
            out[found] = mfn
            found += 1
        place += 1
    if found == 0 and wanted:
        f.pool_hint = end
    return found


cdef void pool_take(Frames *f, uint32_t mfn, uint32_t note) noexcept nogil:
    """Put a frame that `pool_find` named to its use, all bytes zero."""
    frame_zero(f, mfn)                  # the hypervisor may have written there where nothing is protected
    keep_at(f.journal, use_of(f, mfn), sizeof(PoolUse))
    use_of(f, mfn).note = note


cdef void pool_give(Frames *f, uint32_t mfn, bint wipe) noexcept nogil:
    """Give the frame back to the pool."""
    cdef uint32_t place = f.pool_end - 1 - mfn if f.pool_down else mfn - f.pool_first
    if wipe:
        frame_zero(f, mfn)
    keep_at(f.journal, use_of(f, mfn), sizeof(PoolUse))
    use_of(f, mfn).note = POOL_FREE
    f.pool_hint = min(f.pool_hint, place)
