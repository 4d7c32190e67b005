"""The TLB and the batch loop over it.

A lookup asks the first level, then the second; a second-level hit is copied into the first, a miss fills both. A fill
takes the first empty way of its set; in a full set the way under the set's turn is replaced and the turn moves on. An
entry that lacks the permission is no hit: the walk decides, and what it finds takes that entry's place.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from hsvm_engine.core.paging cimport guest_walk
from hsvm_engine.core.types cimport E_INPUT, HUGE, OK

cdef extern from * nogil:
    int __builtin_ctz(unsigned int bits)


cdef bint tlb_open(Tlb *t, uint32_t cores, uint32_t *geometry) noexcept:
    """Build empty TLBs; `geometry` is sets and ways of level 1, then of level 2. False without memory."""
    cdef uint32_t i
    cdef Level *level
    cdef size_t entries
    t.cores = cores
    t.level = <Level *>calloc(2 * cores, sizeof(Level))
    t.huge = <uint32_t *>calloc(cores, sizeof(uint32_t))
    t.space_room = 64
    t.space = <Space *>calloc(t.space_room, sizeof(Space))
    t.spaces = 1
    if not (t.level and t.huge and t.space):
        return False
    for i in range(2 * cores):
        level = &t.level[i]
        level.sets = geometry[2 * (i & 1)]
        level.ways = geometry[2 * (i & 1) + 1]
        entries = <size_t>level.sets * level.ways
        level.tag = <uint64_t *>calloc(entries, sizeof(uint64_t))
        level.data = <uint32_t *>calloc(entries, sizeof(uint32_t))
        level.gpn = <uint64_t *>calloc(entries, sizeof(uint64_t))
        level.turn = <uint8_t *>calloc(level.sets, 1)
        if not (level.tag and level.data and level.gpn and level.turn):
            return False
    return True


cdef void tlb_close(Tlb *t) noexcept:
    cdef uint32_t i
    if t.level != NULL:
        for i in range(2 * t.cores):
            free(t.level[i].tag)
            free(t.level[i].data)
            free(t.level[i].gpn)
            free(t.level[i].turn)
    free(t.level)
    free(t.huge)
    free(t.space)
    memset(t, 0, sizeof(Tlb))


# Address spaces

cdef bint tlb_reserve(Tlb *t) noexcept nogil:
    """Make sure that one operation can name its new address spaces; False changes nothing."""
    cdef Space *grown
    if t.spaces + 4 <= t.space_room:
        return True
    grown = <Space *>realloc(t.space, 2 * <size_t>t.space_room * sizeof(Space))
    if grown == NULL:
        return False
    memset(grown + t.space_room, 0, t.space_room * sizeof(Space))
    t.space = grown
    t.space_room *= 2
    return True


cdef uint32_t space_find(Tlb *t, uint64_t handle, uint64_t cr3) noexcept nogil:
    """The number that tags this VM's addresses under `cr3`; a number that nothing uses any more is given again."""
    cdef uint32_t i, spare = 0
    for i in range(1, t.spaces):
        if t.space[i].handle == handle and t.space[i].cr3 == cr3:
            return i
        if spare == 0 and t.space[i].live == 0 and t.space[i].pins == 0:
            spare = i
    if spare == 0:
        spare = t.spaces
        t.spaces += 1
    t.space[spare].handle = handle
    t.space[spare].cr3 = cr3
    t.space[spare].live = 0
    t.space[spare].pins = 0
    return spare


cdef void mmu_load(Tlb *t, Mmu *mmu, uint64_t handle, uint32_t root, uint64_t cr3) noexcept nogil:
    """Point a core's walker at a VM's tables; handle 0 points it back at the hypervisor's own."""
    if mmu.handle:
        t.space[mmu.flat].pins -= 1
        t.space[mmu.paged].pins -= 1
    mmu.handle = handle
    mmu.root = root
    mmu.cr3 = cr3
    mmu.flat = 0
    mmu.paged = 0
    if handle:
        mmu.flat = space_find(t, handle, 0)
        t.space[mmu.flat].pins += 1
        mmu.paged = space_find(t, handle, cr3)
        t.space[mmu.paged].pins += 1


# Entries

cdef void tlb_put(Tlb *t, uint32_t core, uint32_t which, uint64_t place, uint64_t tag, uint32_t data,
                  uint64_t gpn) noexcept nogil:
    """Replace one entry; tag 0 empties it."""
    cdef Level *level = &t.level[2 * core + which]
    cdef uint64_t old = level.tag[place]
    if old:
        t.space[(old >> 1) & 0x7FFFFFF].live -= 1
        t.huge[core] -= old & 1
    if tag:
        t.space[(tag >> 1) & 0x7FFFFFF].live += 1
        t.huge[core] += tag & 1
    level.tag[place] = tag
    level.data[place] = data
    level.gpn[place] = gpn


cdef inline void fill(Tlb *t, uint32_t core, uint32_t which, uint64_t tag, uint32_t data, uint64_t gpn) noexcept nogil:
    cdef Level *level = &t.level[2 * core + which]
    cdef uint64_t place = (tag >> 28) & (level.sets - 1)
    cdef uint64_t *ways = level.tag + place * level.ways
    cdef uint32_t way = 0
    while way < level.ways and ways[way]:
        way += 1
    if way == level.ways:
        way = level.turn[place]
        level.turn[place] = 0 if way + 1 == level.ways else way + 1
    tlb_put(t, core, which, place * level.ways + way, tag, data, gpn)


cdef inline uint32_t among4(const uint64_t *way, uint64_t tag) noexcept nogil:
    """One bit for each of four ways that holds the tag; without a branch per way."""
    return (way[0] == tag) | (way[1] == tag) << 1 | (way[2] == tag) << 2 | (way[3] == tag) << 3


cdef inline int64_t find(Level *level, uint64_t tag) noexcept nogil:
    """Place of the entry with this tag, -1 if there is none."""
    cdef uint64_t place = ((tag >> 28) & (level.sets - 1)) * level.ways
    cdef uint64_t *way = level.tag + place
    cdef uint32_t i, found
    if level.ways == 12:
        found = among4(way, tag) | among4(way + 4, tag) << 4 | among4(way + 8, tag) << 8
        return <int64_t>(place + __builtin_ctz(found)) if found else -1
    for i in range(level.ways):
        if way[i] == tag:
            return <int64_t>(place + i)
    return -1


cdef uint32_t tlb_drop_vm(Tlb *t, uint32_t core, uint64_t handle) noexcept nogil:
    """Drop every entry of a VM on one core; returns how many."""
    cdef uint32_t which, dropped = 0
    cdef uint64_t place, tag
    cdef Level *level
    for which in range(2):
        level = &t.level[2 * core + which]
        for place in range(<uint64_t>level.sets * level.ways):
            tag = level.tag[place]
            if tag and t.space[(tag >> 1) & 0x7FFFFFF].handle == handle:
                tlb_put(t, core, which, place, 0, 0, 0)
                dropped += 1
    return dropped


cdef inline uint32_t drop_tag(Tlb *t, uint32_t core, uint64_t tag) noexcept nogil:
    cdef uint32_t which, dropped = 0
    cdef int64_t place
    for which in range(2):
        while True:
            place = find(&t.level[2 * core + which], tag)
            if place < 0:
                break
            tlb_put(t, core, which, <uint64_t>place, 0, 0, 0)
            dropped += 1
    return dropped


cdef inline uint64_t small_tag(uint64_t vpn, uint32_t space) noexcept nogil:
    return vpn << 28 | <uint64_t>space << 1


cdef inline uint64_t huge_tag(uint64_t vpn, uint32_t space) noexcept nogil:
    return (vpn >> 9) << 28 | <uint64_t>space << 1 | 1


cdef void tlb_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn) noexcept nogil:
    """Drop one core's entries that translate this page of this space."""
    drop_tag(t, core, small_tag(vpn, space))
    if t.huge[core]:
        drop_tag(t, core, huge_tag(vpn, space))


cdef uint32_t tlb_shootdown(Tlb *t, uint64_t handle, uint64_t gpn) noexcept nogil:
    """Drop, on every core, what may depend on the nested leaf of `gpn`; returns the number of entries.

    That is the VM's guest-physical entries of the page, and all its guest-virtual entries: the page may be one of the
    guest's tables, and an entry does not say which tables it came from.
    """
    cdef uint32_t core, i, which, dropped = 0
    cdef uint64_t place, tag
    cdef bint paged = False
    cdef Level *level
    for i in range(1, t.spaces):
        if t.space[i].handle != handle or t.space[i].live == 0:
            continue
        if t.space[i].cr3:
            paged = True
            continue
        for core in range(t.cores):
            dropped += drop_tag(t, core, small_tag(gpn, i))
            if t.huge[core]:
                dropped += drop_tag(t, core, huge_tag(gpn, i))
    if not paged:
        return dropped
    for core in range(t.cores):
        for which in range(2):
            level = &t.level[2 * core + which]
            for place in range(<uint64_t>level.sets * level.ways):
                tag = level.tag[place]
                if tag == 0:
                    continue
                i = (tag >> 1) & 0x7FFFFFF
                if t.space[i].handle == handle and t.space[i].cr3:
                    tlb_put(t, core, which, place, 0, 0, 0)
                    dropped += 1
    return dropped


# Translation

cdef inline int64_t seek(Level *level, uint64_t tag, uint32_t need, bint *weak) noexcept nogil:
    """Place of the entry with this tag that allows `need`, else -1; `weak` notes one that does not."""
    cdef int64_t place = find(level, tag)
    if place >= 0 and level.data[place] & need != need:
        weak[0] = True
        return -1
    return place


cdef inline uint32_t lookup(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn, uint32_t need, bint not_first,
                            int64_t *place, bint *weak) noexcept nogil:
    """1 or 2 for a hit at that level, 0 for none, and the entry's place.

    `not_first`: the caller knows that the first level has no 4 KiB entry.
    """
    cdef uint32_t which
    weak[0] = False
    for which in range(2):
        place[0] = -1
        if which or not not_first:
            place[0] = seek(&t.level[2 * core + which], small_tag(vpn, space), need, weak)
        if place[0] < 0 and t.huge[core]:
            place[0] = seek(&t.level[2 * core + which], huge_tag(vpn, space), need, weak)
        if place[0] >= 0:
            return which + 1
    return 0


cdef inline Status_t resolve(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint32_t space, uint64_t address,
                             uint32_t need, bint not_first, Translation *x, Tally *tally) noexcept nogil:
    cdef uint64_t vpn = address >> 12, tag, gpn
    cdef uint32_t data
    cdef int64_t place = -1
    cdef bint weak
    cdef Status_t status
    cdef Level *level
    x.references = 0
    x.guest_fault = False
    x.hit = lookup(t, core, space, vpn, need, not_first, &place, &weak)
    if x.hit:
        level = &t.level[2 * core + x.hit - 1]
        data = level.data[place]
        gpn = level.gpn[place]
        x.perm = data & 7
        x.size = HUGE if data & 8 else 1
        x.mfn = (data >> 4) + <uint32_t>(vpn & (x.size - 1))
        x.gpn = gpn + (vpn & (x.size - 1))
        if x.hit == 2:
            tally.l2 += 1
            fill(t, core, 0, level.tag[place], data, gpn)
        else:
            tally.l1 += 1
        return OK
    x.hit = 3
    status = guest_walk(f, mmu.root, 0 if space == mmu.flat else mmu.cr3, address, need, x, NULL)
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
        drop_tag(t, core, tag)
    gpn = x.gpn & ~<uint64_t>(x.size - 1)
    fill(t, core, 1, tag, data, gpn)
    fill(t, core, 0, tag, data, gpn)
    return OK


cdef Status_t translate(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint32_t space, uint64_t address, uint32_t need,
                        Translation *x, Tally *tally) noexcept nogil:
    """Translate one access through the TLB and, if it must be, a walk. A faulting access leaves the TLB as it was."""
    return resolve(f, t, core, mmu, space, address, need, False, x, tally)


cdef uint64_t trace(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, const uint64_t *addresses, const uint8_t *kinds,
                    uint64_t count, Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) noexcept nogil:
    """Translate a list of accesses and stop at the first that faults; returns how many were done.

    Counts go to `tally` and, for each kind, second-level hits and misses to `by_kind[2 * kind]` and `[2 * kind + 1]`.
    Consecutive accesses to one page are answered by the entry just used: under round-robin a hit changes nothing.
    """
    cdef Level *first = &t.level[2 * core]
    cdef uint64_t *tags = first.tag
    cdef uint32_t *datas = first.data
    cdef uint64_t mask = first.sets - 1, ways = first.ways
    cdef uint64_t low = <uint64_t>mmu.paged << 1
    cdef uint64_t i, vpn, place, l1, last = ~<uint64_t>0
    cdef uint64_t slow = tally.l2 + tally.miss
    cdef uint32_t perm = 0, need, found
    cdef bint not_first
    cdef uint32_t[4] needs
    needs[0], needs[1], needs[2], needs[3] = 1, 2, 4, 0
    status[0] = OK
    l1 = tally.l1
    i = 0
    for i in range(count):
        vpn = addresses[i] >> 12
        need = needs[kinds[i] if kinds[i] < 3 else 3]
        not_first = False
        if vpn != last and ways == 4 and not vpn >> 36:
            place = (vpn & mask) * 4
            found = among4(tags + place, vpn << 28 | low)
            not_first = found == 0
            if found:
                perm = datas[place + __builtin_ctz(found)]
                last = vpn
        if vpn != last or not perm & need:
            if need == 0 or vpn >> 36:
                status[0] = E_INPUT
                break
            status[0] = resolve(f, t, core, mmu, mmu.paged, addresses[i], need, not_first, x, tally)
            if status[0] != OK:
                break
            if x.hit != 1:
                by_kind[2 * kinds[i] + (x.hit == 3)] += 1
            perm = x.perm
            last = vpn
    else:
        i = count
    tally.l1 = l1 + i - (tally.l2 + tally.miss - slow)
    return i
