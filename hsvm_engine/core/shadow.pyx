"""Shadow tables are made entry by entry when the processor misses one, from the guest's table and the nested one.

A change of a table that they were made from drops them all: a hypervisor traps the guest's stores there, and knows of
its own. Their frames are those of the hypervisor's region that nothing else wants.
"""

from libc.string cimport memchr

from hsvm_engine.core.frames cimport (
    NO_FRAME, POOL_FREE, POOL_SHADOW, entry_read, entry_write, pool_find, pool_give, pool_take, use_of,
)
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.paging cimport (
    MAX_REFERENCES, PRESENT, TABLE_FLAGS, Leaf, Reference, guest_walk, index_of, leaf_entry, nested_walk, number_in,
)
from hsvm_engine.core.types cimport OK

cdef enum:
    SHADOW_WALK = 4           # references of a walk that finds its entry


cdef void shadow_drop_all(Frames *f, Shadow *s) noexcept nogil:
    """Drop every shadow table of the host."""
    cdef uint32_t i
    cdef uint8_t *at = s.source
    cdef bint any_root = False
    for i in range(SHADOWS):
        if s.root[i].handle:
            any_root = True
            keep_at(f.journal, &s.root[i], sizeof(ShadowRoot))
            s.root[i].handle = 0
    for i in range(f.pool_first, f.pool_end if any_root else f.pool_first):
        if use_of(f, i).note == POOL_SHADOW:            # not by following them: their entries may be forged
            pool_give(f, i, False)
    while any_root:
        at = <uint8_t *>memchr(at, 1, <size_t>(s.source + f.count - at))
        if at == NULL:
            return
        keep_at(f.journal, at, 1)
        at[0] = 0


cdef void shadow_before_store(Frames *f, Shadow *s, uint32_t mfn) noexcept nogil:
    """Somebody stores into a frame: what was made from it is made anew."""
    if s.source[mfn]:
        shadow_drop_all(f, s)


cdef uint32_t pool_find_all(Frames *f, Shadow *s, uint32_t wanted, uint32_t *out) noexcept nogil:
    """`pool_find` as if there were no shadow tables: they go where one of their frames is wanted.

    Nothing changes where fewer than `wanted` can be had: then the request is refused.
    """
    cdef uint32_t found = 0, place = 0, mfn
    cdef bint shadows = False
    if not s.on:
        return pool_find(f, wanted, out)
    while found < wanted and place < f.pool_end - f.pool_first:
        mfn = f.pool_end - 1 - place
        if use_of(f, mfn).note in (POOL_FREE, POOL_SHADOW) and f.owner[mfn] == f.pool_owner:
            shadows = shadows or use_of(f, mfn).note == POOL_SHADOW
            out[found] = mfn
            found += 1
        place += 1
    if shadows and found == wanted:
        shadow_drop_all(f, s)
    return found


cdef uint32_t shadow_find(Frames *f, Shadow *s, Mmu *mmu) noexcept nogil:
    """Root of the shadow table for what a core has loaded, NO_FRAME if there is none yet."""
    cdef uint32_t i
    for i in range(SHADOWS):
        if s.root[i].handle == mmu.handle and s.root[i].cr3 == mmu.cr3 and s.root[i].nested == mmu.root:
            return s.root[i].root
    return NO_FRAME


cdef uint32_t take_table(Frames *f) noexcept nogil:
    cdef uint32_t[1] pool
    if pool_find(f, 1, pool) == 0:
        return NO_FRAME
    pool_take(f, pool[0], POOL_SHADOW)
    return pool[0]


cdef uint32_t make_root(Frames *f, Shadow *s, Mmu *mmu) noexcept nogil:
    cdef uint32_t i = 0, table
    while i < SHADOWS and s.root[i].handle:
        i += 1
    table = take_table(f) if i < SHADOWS else NO_FRAME
    if table == NO_FRAME:
        return NO_FRAME
    keep_at(f.journal, &s.root[i], sizeof(ShadowRoot))
    s.root[i].handle = mmu.handle
    s.root[i].cr3 = mmu.cr3
    s.root[i].nested = mmu.root
    s.root[i].root = table
    return table


cdef bint write_leaf(Frames *f, uint32_t root, uint64_t page, Translation *x) noexcept nogil:
    """Enter a translation; False if a table is missing and there is no frame for it."""
    cdef uint32_t level = 4, table = root, lower
    cdef uint64_t entry
    while level > 1:
        entry = entry_read(f, table, index_of(page, level))
        if entry & PRESENT and number_in(entry) < f.count:
            lower = <uint32_t>number_in(entry)
        else:
            lower = take_table(f)
            if lower == NO_FRAME:
                return False
            entry_write(f, table, index_of(page, level), <uint64_t>lower << 12 | TABLE_FLAGS)
        table = lower
        level -= 1
    entry_write(f, table, index_of(page, 1), leaf_entry(x.mfn, x.perm))
    return True


cdef Status_t shadow_fill(Frames *f, Shadow *s, Mmu *mmu, uint64_t address, uint32_t need,
                          Translation *x) noexcept nogil:
    """Answer a miss of the shadow table: the fault that guest and nested table give, or OK with the entry made.

    Without a frame left for tables, even after all others were dropped, the translation is given without an entry.
    """
    cdef Reference[MAX_REFERENCES] log
    cdef uint32_t i, root, made_of
    cdef Status_t status = guest_walk(f, mmu.root, mmu.cr3, address, need, x, log)
    if status != OK:
        return status
    made_of = x.references
    x.references = SHADOW_WALK
    for _ in range(2):
        root = shadow_find(f, s, mmu)
        if root == NO_FRAME:
            root = make_root(f, s, mmu)
        if root != NO_FRAME and write_leaf(f, root, address >> 12, x):
            for i in range(made_of):
                if not s.source[log[i].mfn]:
                    keep_at(f.journal, &s.source[log[i].mfn], 1)
                    s.source[log[i].mfn] = 1
            return OK
        shadow_drop_all(f, s)
    return OK


cdef Status_t shadow_translate(Frames *f, Shadow *s, Mmu *mmu, uint64_t address, uint32_t need,
                               Translation *x) noexcept nogil:
    """What the processor does on a TLB miss: it walks the shadow table, and the hypervisor answers what is missing.

    The frame and permission are those of the shadow entry, whoever wrote it; only the number of the guest page, which
    such an entry does not hold, comes from the guest's table.
    """
    cdef Leaf leaf
    cdef uint32_t root = shadow_find(f, s, mmu)
    x.gpn = address >> 12
    if root == NO_FRAME or nested_walk(f, root, address >> 12, &leaf) != OK or need & ~leaf.perm:
        return shadow_fill(f, s, mmu, address, need, x)
    guest_walk(f, mmu.root, mmu.cr3, address, 0, x, NULL)
    x.guest_fault = False
    x.mfn = leaf.mfn
    x.perm = leaf.perm
    x.size = 1
    x.references = leaf.references
    return OK
