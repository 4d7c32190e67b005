"""Page-walk caches of a core, an option: round-robin, fully associative, tagged by address space.

    guest     region of 2 MiB of guest-virtual addresses -> guest page of the guest's level 1 table: saves the first 15
              of 24 references
    nested    region of 2 MiB of guest-physical addresses -> frame of the nested level 1 table: saves 3 of 4, in each
              of the nested walks that a walk consists of

They are coherent, as caches of table entries by their address are: an entry that does not say what the tables say now
is no hit. So they change how many references a walk makes, never what it finds. A walk asks them as it found them;
what it learns is entered when it is done, and nothing if it faults.
"""

from hsvm_engine.core.paging cimport number_in
from hsvm_engine.core.tlb cimport cache_put, cache_turn, tag_space


cdef inline uint64_t region_tag(uint64_t page, uint32_t space) noexcept nogil:
    return page >> 9 << 28 | <uint64_t>space << 1 | 1


cdef void shortcut_read(Shortcut *s, Mmu *mmu, uint64_t cr3, uint64_t vpn, const Reference *log,
                        uint32_t count) noexcept nogil:
    """Note, of a walk's references, which part each cache could have answered and with what."""
    cdef uint32_t i = 0, first, k = 0
    cdef uint64_t page = number_in(cr3) if cr3 else vpn
    for k in range(6):
        s.tag[k] = 0
        s.count[k] = 0
    k = 0
    while i < count:
        if cr3 and log[i].guest_level == 1 and s.tag[0] == 0:
            s.tag[0] = region_tag(vpn, mmu.paged)
            s.target[0] = page
            s.first[0] = 0
            s.count[0] = i
        first = i
        k += 1
        while i < count and log[i].nested_level:
            i += 1
        if log[i - 1].nested_level == 1:
            s.tag[k] = region_tag(page, mmu.flat)
            s.target[k] = log[i - 1].mfn
            s.first[k] = first
            s.count[k] = i - 1 - first
        if i < count and log[i].nested_level == 0:
            page = number_in(log[i].entry)
            i += 1


cdef int cache_find(Tlb *t, uint32_t core, uint32_t which, uint64_t tag) noexcept nogil:
    cdef uint32_t place
    for place in range(t.cache_size[which]):
        if t.cache[core].tag[which][place] == tag:
            return <int>place
    return -1


cdef uint32_t cache_saves(Tlb *t, uint32_t core, Shortcut *s, bint *skipped) noexcept nogil:
    """How many references the caches save this walk; `skipped`, if not NULL, gets a mark for each of them."""
    cdef uint32_t k, i, saved = 0
    cdef int place
    cdef bint[24] mark
    if t.cache == NULL:
        return 0
    for i in range(24):
        mark[i] = False
    for k in range(6):
        if s.tag[k]:
            place = cache_find(t, core, k > 0, s.tag[k])
            if place >= 0 and t.cache[core].target[k > 0][place] == s.target[k]:
                for i in range(s.first[k], s.first[k] + s.count[k]):
                    mark[i] = True
    for i in range(24):
        saved += mark[i]
        if skipped != NULL:
            skipped[i] = mark[i]
    return saved


cdef void cache_learn(Tlb *t, uint32_t core, Shortcut *s) noexcept nogil:
    """Enter what a walk that did not fault has found."""
    cdef uint32_t k, which, turn
    cdef int place
    for k in range(6):
        which = k > 0
        if s.tag[k] == 0 or t.cache_size[which] == 0:
            continue
        place = cache_find(t, core, which, s.tag[k])
        if place < 0:
            place = cache_find(t, core, which, 0)
        if place < 0:
            turn = t.cache[core].turn[which]
            place = <int>turn
            cache_turn(t, core, which, 0 if turn + 1 == t.cache_size[which] else turn + 1)
        cache_put(t, core, which, <uint32_t>place, s.tag[k], s.target[k])


cdef void cache_drop_vm(Tlb *t, uint32_t core, uint64_t handle, bint guest_only) noexcept nogil:
    """Drop what one core's caches hold of a VM, or only of its guest tables."""
    cdef uint32_t which, place
    cdef uint64_t tag
    if t.cache == NULL:
        return
    for which in range(1 if guest_only else 2):
        for place in range(t.cache_size[which]):
            tag = t.cache[core].tag[which][place]
            if tag and t.space[tag_space(tag)].handle == handle:
                cache_put(t, core, which, place, 0, 0)


cdef void cache_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t page) noexcept nogil:
    """Drop the entries of the region of a page, guest-virtual or guest-physical as `space` is."""
    cdef uint32_t which
    cdef int place
    if t.cache == NULL:
        return
    for which in range(2):
        place = cache_find(t, core, which, region_tag(page, space))
        if place >= 0:
            cache_put(t, core, which, <uint32_t>place, 0, 0)
