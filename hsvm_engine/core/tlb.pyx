"""The TLB, address spaces, and the translation of single accesses.

A lookup asks the first level, then the second; a second-level hit is copied into the first, a miss fills both. A fill
takes the first empty way of its set; in a full set the way under the set's turn, which then moves on, or under LRU the
one used longest ago. An entry that lacks the permission is no hit: the walk decides, and what it finds takes that
entry's place.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from hsvm_engine.core.journal cimport OLD_ENTRY, Journal, forget_all, keep, keep_at
from hsvm_engine.core.paging cimport MAX_REFERENCES, Reference, guest_walk
from hsvm_engine.core.shadow cimport Shadow, shadow_translate
from hsvm_engine.core.types cimport HUGE, OK
from hsvm_engine.core.walkcache cimport (
    Shortcut, cache_drop_page, cache_drop_vm, cache_learn, cache_saves, shortcut_read,
)

cdef extern from "memo.h" nogil:
    enum:
        MEMOS


cdef enum:
    MOST_KEPT = 16384         # entries of a core's TLBs that are worth keeping for a trace


cdef void *carve(void **at, size_t bytes) noexcept:
    """The next `bytes` of a block, at a cache line of their own."""
    cdef size_t start = (<size_t>at[0] + 63) & ~<size_t>63
    at[0] = <void *>(start + bytes)
    return <void *>start


cdef bint level_open(Level *level, uint32_t sets, uint32_t ways, bint lru) noexcept:
    cdef size_t entries = <size_t>sets * ways
    cdef void *at
    level.sets = sets
    level.ways = ways
    level.bytes = entries * (28 if lru else 20) + sets + 5 * 64
    level.memory = calloc(level.bytes, 1)
    if level.memory == NULL:
        return False
    at = level.memory
    level.tag = <uint64_t *>carve(&at, entries * 8)
    level.data = <uint32_t *>carve(&at, entries * 4)
    level.gpn = <uint64_t *>carve(&at, entries * 8)
    level.turn = <uint8_t *>carve(&at, sets)
    level.used = <uint64_t *>carve(&at, entries * 8) if lru else NULL
    return True


cdef bint tlb_open(Tlb *t, uint32_t cores, Shape *shape) noexcept:
    """Build empty TLBs; False without memory."""
    cdef uint32_t i
    cdef uint64_t entries = shape.cache_size[0] + shape.cache_size[1], room, buckets = 64
    t.cores = cores
    t.lru = shape.lru
    t.clock = 64                        # a snapshot's ranks come before all uses to come
    t.level = <Level *>calloc(2 * cores, sizeof(Level))
    t.memo = <Memo *>calloc(2 * MEMOS, sizeof(Memo))
    if not (t.level and t.memo):
        return False
    for i in range(2 * cores):
        if not level_open(&t.level[i], shape.geometry[2 * (i & 1)], shape.geometry[2 * (i & 1) + 1], shape.lru):
            return False
    if entries:
        t.cache_size[0] = shape.cache_size[0]
        t.cache_size[1] = shape.cache_size[1]
        t.cache = <Cache *>calloc(cores, sizeof(Cache))
        if t.cache == NULL:
            return False
    # Each entry may need a space of its own and that VM's guest-physical one; a core has two loaded.
    for i in range(2):
        entries += <uint64_t>t.level[i].sets * t.level[i].ways
    room = min(<uint64_t>cores * (2 * entries + 2) + 64, <uint64_t>SPACE_LIMIT)
    t.space_room = <uint32_t>room
    t.bucket_shift = 58
    while buckets < room:
        buckets *= 2
        t.bucket_shift -= 1
    t.space = <Space *>calloc(room, sizeof(Space))
    t.bucket = <uint32_t *>calloc(buckets, sizeof(uint32_t))
    t.spaces = 1
    t.hand = 1
    return t.space != NULL and t.bucket != NULL


cdef void tlb_close(Tlb *t) noexcept:
    cdef uint32_t i
    if t.level != NULL:
        for i in range(2 * t.cores):
            free(t.level[i].memory)
    free(t.level)
    free(t.space)
    free(t.bucket)
    free(t.cache)
    free(t.memo)
    memset(t, 0, sizeof(Tlb))


# Address spaces

cdef inline bint is_spare(Tlb *t, uint32_t number) noexcept nogil:
    return t.space[number].live == 0 and t.space[number].paged == 0 and t.space[number].pins == 0


cdef void free_spaces(Tlb *t) noexcept nogil:
    """All numbers are given out: those that nothing uses may get another meaning. Old values that name them go."""
    cdef uint32_t number
    if t.journal != NULL:
        forget_all(<Journal *>t.journal)
    for number in range(1, t.spaces):
        t.space[number].again = is_spare(t, number)


cdef uint32_t spare_space(Tlb *t) noexcept nogil:
    """A number without a meaning. One is used again only when there is no fresh one: old values may name it."""
    cdef uint32_t tries = 0
    if t.spaces < t.space_room:
        t.spaces += 1
        return t.spaces - 1
    while True:                         # the room is larger than what can be in use
        if tries % t.spaces == 0 and tries:
            free_spaces(t)
        tries += 1
        t.hand = t.hand + 1 if t.hand + 1 < t.spaces else 1
        if t.space[t.hand].again and is_spare(t, t.hand):
            t.space[t.hand].again = 0
            return t.hand


cdef uint32_t space_find(Tlb *t, uint64_t handle, uint64_t cr3) noexcept nogil:
    """The number that tags this VM's addresses under `cr3`; a number that nothing uses any more is given again."""
    cdef uint32_t flat = 0, number
    if cr3:
        flat = space_find(t, handle, 0)
    number = space_seek(t, handle, cr3)
    if number == 0:
        if flat:
            space_pin(t, flat, 1)       # it is no spare
        number = spare_space(t)
        if flat:
            space_pin(t, flat, -1)
        space_name(t, number, handle, cr3)
    if flat:
        space_flat(t, number, flat)
    return number


cdef void mmu_load(Tlb *t, Mmu *mmu, uint64_t handle, uint32_t root, uint64_t cr3) noexcept nogil:
    """Point a core's walker at a VM's tables; handle 0 points it back at the hypervisor's own."""
    if mmu.handle:
        space_pin(t, mmu.flat, -1)
        space_pin(t, mmu.paged, -1)
    mmu.handle = handle
    mmu.root = root
    mmu.cr3 = cr3
    mmu.flat = 0
    mmu.paged = 0
    if handle:
        mmu.flat = space_find(t, handle, 0)
        space_pin(t, mmu.flat, 1)
        mmu.paged = space_find(t, handle, cr3)
        space_pin(t, mmu.paged, 1)


# Old values

cdef void keep_entry(void *journal, void *tlb, int what, uint64_t place) noexcept nogil:
    """Keep what is about to change: an entry, the turn of a set, or when an entry was used last."""
    cdef Tlb *t = <Tlb *>tlb
    cdef Level *level = &t.level[place >> 32]
    cdef uint64_t at = <uint32_t>place
    cdef uint32_t core = <uint32_t>(place >> 33), which = <uint32_t>(place >> 32) & 1
    cdef uint64_t[3] old
    if what == WATCH_CACHE:
        keep_at(<Journal *>journal, &t.cache[core].tag[which][at], 8)
        keep_at(<Journal *>journal, &t.cache[core].target[which][at], 8)
        keep_at(<Journal *>journal, &t.cache[core].turn[which], 4)
    elif what == WATCH_ENTRY:
        old[0] = level.tag[at]
        old[1] = level.gpn[at]
        old[2] = level.data[at]
        keep(<Journal *>journal, OLD_ENTRY, place, old, 24)
    elif what == WATCH_TURN:
        keep_at(<Journal *>journal, &level.turn[at], 1)
    else:
        keep_at(<Journal *>journal, &level.used[at], 8)
        keep_at(<Journal *>journal, &t.clock, 8)


cdef void tlb_watch(Tlb *t, Journal *journal) noexcept nogil:
    """Have the journal keep every entry that changes from now on."""
    t.journal = journal
    t.watch = keep_entry


cdef void tlb_keep(Tlb *t, uint32_t core) noexcept nogil:
    """Keep one core's TLBs as they are, and do not watch them entry by entry until `tlb_watch`."""
    cdef Journal *j = <Journal *>t.journal
    cdef uint32_t which
    cdef uint64_t entries = 0
    t.watch = NULL
    for which in range(2):
        entries += <uint64_t>t.level[2 * core + which].sets * t.level[2 * core + which].ways
    if entries > MOST_KEPT:
        forget_all(j)
        return
    for which in range(2 * core, 2 * core + 2):
        keep_at(j, t.level[which].memory, t.level[which].bytes)
    keep_at(j, &t.clock, 8)
    if t.cache != NULL:
        keep_at(j, &t.cache[core], sizeof(Cache))


cdef void tlb_put_back(Tlb *t, uint64_t where, const uint8_t *bytes) noexcept nogil:
    """Put an old entry back, without counting: that is `tlb_recount`'s."""
    cdef Level *level = &t.level[where >> 32]
    cdef uint64_t at = <uint32_t>where
    cdef uint64_t[3] old
    memcpy(old, bytes, 24)
    level.tag[at] = old[0]
    level.gpn[at] = old[1]
    level.data[at] = <uint32_t>old[2]


cdef void tlb_recount(Tlb *t) noexcept nogil:
    """Count anew what each space has; pins are the caller's."""
    cdef uint32_t i, which, k
    cdef uint64_t place
    cdef Level *level
    for i in range(1, t.spaces):
        t.space[i].live = 0
        t.space[i].paged = 0
        t.space[i].pins = 0
    for which in range(2 * t.cores):
        level = &t.level[which]
        level.huge = 0
        for place in range(<uint64_t>level.sets * level.ways):
            if level.tag[place]:
                space_count(t, tag_space(level.tag[place]), 1)
                level.huge += level.tag[place] & 1
    for i in range(t.cores if t.cache != NULL else 0):
        for which in range(2):
            for k in range(t.cache_size[which]):
                if t.cache[i].tag[which][k]:
                    space_count(t, tag_space(t.cache[i].tag[which][k]), 1)


# Entries

cdef uint32_t tlb_age(Level *level, uint64_t set, uint32_t way) noexcept nogil:
    """How many ways of the set are replaced later than this one: 0 = replaced last."""
    cdef uint64_t first = set * level.ways
    cdef uint32_t i, age = 0
    if level.used == NULL:
        return (level.turn[set] + level.ways - 1 - way) % level.ways
    for i in range(level.ways):
        if level.tag[first + way] == 0:
            age += level.tag[first + i] != 0 or i > way
        else:
            age += level.tag[first + i] != 0 and level.used[first + i] > level.used[first + way]
    return age


cdef uint32_t drop_where(Tlb *t, uint32_t core, uint64_t handle, bint paged_only) noexcept nogil:
    """Drop one core's entries of a VM, or only those of its guest-virtual spaces; returns how many."""
    cdef uint32_t which, dropped = 0
    cdef uint64_t place, tag
    cdef Space *space
    cdef Level *level
    for which in range(2):
        level = &t.level[2 * core + which]
        for place in range(<uint64_t>level.sets * level.ways):
            tag = level.tag[place]
            if tag == 0:
                continue
            space = &t.space[tag_space(tag)]
            if space.handle == handle and (space.cr3 or not paged_only):
                level_put(t, level, place, 0, 0, 0)
                dropped += 1
    return dropped


cdef uint32_t tlb_drop_vm(Tlb *t, uint32_t core, uint64_t handle) noexcept nogil:
    """Drop every entry of a VM on one core; returns how many the TLB had."""
    cdef uint32_t flat = space_seek(t, handle, 0)
    if flat == 0 or (t.space[flat].live == 0 and t.space[flat].paged == 0):
        return 0
    cache_drop_vm(t, core, handle, False)
    return drop_where(t, core, handle, False)


cdef inline uint32_t drop_tag(Tlb *t, Level *level, uint64_t tag) noexcept nogil:
    cdef int64_t place
    cdef uint32_t dropped = 0
    while True:
        place = tlb_find(level, tag)
        if place < 0:
            return dropped
        level_put(t, level, <uint64_t>place, 0, 0, 0)
        dropped += 1


cdef inline uint32_t drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn) noexcept nogil:
    cdef uint32_t which, dropped = 0
    cdef Level *level
    for which in range(2):
        level = &t.level[2 * core + which]
        dropped += drop_tag(t, level, small_tag(vpn, space))
        if level.huge:
            dropped += drop_tag(t, level, huge_tag(vpn, space))
    return dropped


cdef void tlb_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn) noexcept nogil:
    """Drop one core's entries that translate this page of this space."""
    cache_drop_page(t, core, space, vpn)
    drop_page(t, core, space, vpn)


cdef bint tlb_holds(Tlb *t, uint32_t space, uint64_t vpn) noexcept nogil:
    """Whether any core has an entry that translates this page of this space."""
    cdef uint32_t i
    for i in range(2 * t.cores):
        if tlb_find(&t.level[i], small_tag(vpn, space)) >= 0:
            return True
        if t.level[i].huge and tlb_find(&t.level[i], huge_tag(vpn, space)) >= 0:
            return True
    return False


cdef uint32_t tlb_shootdown(Tlb *t, uint64_t handle, uint64_t gpn) noexcept nogil:
    """Drop, on every core, what may depend on the nested leaf of `gpn`; returns the number of TLB entries.

    That is the VM's guest-physical entries of the page, and all its guest-virtual entries: the page may be one of the
    guest's tables, and an entry does not say which tables it came from.
    """
    cdef uint32_t core, dropped = 0, flat = space_seek(t, handle, 0)
    if flat == 0:
        return 0
    for core in range(t.cores):
        if t.space[flat].live == 0 and t.space[flat].paged == 0:
            break
        cache_drop_page(t, core, flat, gpn)
        cache_drop_vm(t, core, handle, True)
        if t.space[flat].live:
            dropped += drop_page(t, core, flat, gpn)
        if t.space[flat].paged:
            dropped += drop_where(t, core, handle, True)
    return dropped


# Translation

cdef inline int64_t seek(Level *level, uint64_t tag, uint32_t need, bint *weak) noexcept nogil:
    """Place of the entry with this tag that allows `need`, else -1; `weak` notes one that does not."""
    cdef int64_t place = tlb_find(level, tag)
    if place >= 0 and level.data[place] & need != need:
        weak[0] = True
        return -1
    return place


cdef inline uint32_t lookup(Level *level, uint32_t space, uint64_t vpn, uint32_t need, int64_t *place,
                            bint *weak) noexcept nogil:
    """1 or 2 for a hit at that level, 0 for none, and the entry's place. `level` is the first of two."""
    cdef uint32_t which
    weak[0] = False
    for which in range(2):
        place[0] = seek(&level[which], small_tag(vpn, space), need, weak)
        if place[0] < 0 and level[which].huge:
            place[0] = seek(&level[which], huge_tag(vpn, space), need, weak)
        if place[0] >= 0:
            return which + 1
    return 0


cdef inline Status_t walk(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint64_t cr3, uint64_t address, uint32_t need,
                          Translation *x) noexcept nogil:
    """A walk that makes the references that no page-walk cache answers."""
    cdef Reference[MAX_REFERENCES] log
    cdef Shortcut cut
    cdef Status_t status
    if cr3 and t.shadow != NULL:
        return shadow_translate(f, <Shadow *>t.shadow, mmu, address, need, x)
    if t.cache == NULL:
        return guest_walk(f, mmu.root, cr3, address, need, x, NULL)
    status = guest_walk(f, mmu.root, cr3, address, need, x, log)
    shortcut_read(&cut, mmu, cr3, address >> 12, log, x.references)
    x.references -= cache_saves(t, core, &cut, NULL)
    if status == OK:
        cache_learn(t, core, &cut)
    return status


cdef Status_t translate(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint32_t space, uint64_t address, uint32_t need,
                        Translation *x, Tally *tally) noexcept nogil:
    """Translate one access through the TLB and, if it must be, a walk. A faulting access leaves the TLB as it was."""
    cdef uint64_t vpn = address >> 12, tag, gpn
    cdef uint32_t data
    cdef int64_t place = -1
    cdef bint weak
    cdef Status_t status
    cdef Level *first = &t.level[2 * core]
    cdef Level *level
    x.references = 0
    x.guest_fault = False
    x.hit = lookup(first, space, vpn, need, &place, &weak)
    if x.hit:
        level = &first[x.hit - 1]
        tag = level.tag[place]
        data = level.data[place]
        gpn = level.gpn[place]
        x.perm = data & 7
        x.size = HUGE if data & 8 else 1
        x.mfn = (data >> 4) + <uint32_t>(vpn & (x.size - 1))
        x.gpn = gpn + (vpn & (x.size - 1))
        if t.lru:
            tlb_use(t, level, place)
        if x.hit == 2:
            tally.l2 += 1
            level_fill(t, first, tag, data, gpn)
        else:
            tally.l1 += 1
        return OK
    x.hit = 3
    status = walk(f, t, core, mmu, 0 if space == mmu.flat else mmu.cr3, address, need, x)
    tally.references += x.references
    if status != OK:
        tally.faults += 1
        return status
    tally.miss += 1
    if x.size == HUGE:
        tag = huge_tag(vpn, space)
        data = (x.mfn & ~<uint32_t>511) << 4 | 8 | x.perm
    else:
        tag = small_tag(vpn, space)
        data = x.mfn << 4 | x.perm
    if weak:
        drop_tag(t, first, tag)
        drop_tag(t, &first[1], tag)
    gpn = x.gpn & ~<uint64_t>(x.size - 1)
    level_fill(t, &first[1], tag, data, gpn)
    level_fill(t, first, tag, data, gpn)
    return OK
