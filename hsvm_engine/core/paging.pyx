"""Walks. They read the bytes of frames and nothing else, so a store into a table is seen by the next walk."""

from libc.stdint cimport uint64_t

from hsvm_engine.core.frames cimport NO_FRAME, POOL_TABLE, PoolUse, entry_read, entry_write, use_of
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.types cimport F_NOT_PRESENT, F_PERMISSION, HUGE, OK


cdef inline void log_reference(Reference *log, uint32_t nested_level, uint32_t mfn, uint32_t index,
                               uint64_t entry) noexcept nogil:
    log.nested_level = nested_level
    log.mfn = mfn
    log.offset = index * 8
    log.entry = entry
    log.perm = perm_in(entry) if entry & PRESENT else 0


cdef inline Status_t nested_steps(Frames *f, uint32_t root, uint64_t gpn, Leaf *leaf, Reference *log) noexcept nogil:
    """Find the frame of `gpn` in the nested table at `root`: 4 references, 3 for a 2 MiB leaf.

    F_NOT_PRESENT where an entry is absent or names a frame that the host does not have. `log`, if not NULL, has room
    for 4.
    """
    cdef uint32_t level = 4, index
    cdef uint64_t entry, target, table = root
    leaf.references = 0
    leaf.perm = 7
    leaf.above = 7
    leaf.table = root
    leaf.mfn = 0
    leaf.size = 1
    while True:
        if table >= f.count:
            return F_NOT_PRESENT
        index = index_of(gpn, level)
        entry = entry_read(f, <uint32_t>table, index)
        if log != NULL:
            log_reference(&log[leaf.references], level, <uint32_t>table, index, entry)
        leaf.references += 1
        if not entry & PRESENT:
            return F_NOT_PRESENT
        leaf.above = leaf.perm
        leaf.perm &= perm_in(entry)
        target = number_in(entry)
        if level == 1:
            break
        if level == 2 and entry & LARGE:
            leaf.size = HUGE
            target = (target & ~<uint64_t>511) + (gpn & 511)
            break
        table = target
        level -= 1
    if target >= f.count:
        return F_NOT_PRESENT
    leaf.gpn = gpn & ~<uint64_t>(leaf.size - 1)
    leaf.mfn = <uint32_t>target
    leaf.table = <uint32_t>table
    leaf.index = index
    return OK


cdef Status_t nested_walk(Frames *f, uint32_t root, uint64_t gpn, Leaf *leaf) noexcept nogil:
    """`nested_steps` for other parts, without a log."""
    return nested_steps(f, root, gpn, leaf, NULL)


cdef inline Status_t guest_steps(Frames *f, uint32_t root, uint64_t cr3, uint64_t address, uint32_t need,
                                 Translation *t, Reference *log) noexcept nogil:
    """Translate `address` by the guest's table at `cr3` (0: by the nested table alone) and the nested table at `root`.

    F_PERMISSION if one of them does not allow all of `need`; the guest's own table is asked first, before the page is
    reached. 24 references with a guest table (each of its 4 entries and the page itself is found by a nested walk), 4
    or 3 without.
    """
    cdef Leaf leaf
    cdef Status_t status
    cdef uint32_t level = 4, perm = 7, k
    cdef uint64_t entry = 0, page = address >> 12, table = number_in(cr3)
    cdef Reference *here
    t.references = 0
    t.guest_fault = False
    if cr3:
        while True:
            if table >> 36:
                t.guest_fault = True
                return F_NOT_PRESENT
            here = NULL if log == NULL else log + t.references
            status = nested_steps(f, root, table, &leaf, here)
            t.references += leaf.references
            if status == OK:
                entry = entry_read(f, leaf.mfn, index_of(page, level))
                if log != NULL:
                    log_reference(log + t.references, 0, leaf.mfn, index_of(page, level), entry)
                t.references += 1
            if log != NULL:
                for k in range(<uint32_t>(log + t.references - here)):
                    here[k].guest_level = level
            if status != OK:
                t.fault_gpa = table << 12 | index_of(page, level) * 8
                return status
            if not entry & PRESENT:
                t.guest_fault = True
                return F_NOT_PRESENT
            t.guest_above = perm
            perm &= perm_in(entry)
            table = number_in(entry)
            if level == 1:
                t.guest_table = leaf.mfn
                t.guest_references = t.references
                break
            level -= 1
        if table >> 36 or need & ~perm:
            t.guest_fault = True
            return F_NOT_PRESENT if table >> 36 else F_PERMISSION
        page = table
    t.gpn = page
    here = NULL if log == NULL else log + t.references
    status = nested_steps(f, root, page, &leaf, here)
    if log != NULL:
        for k in range(leaf.references):
            here[k].guest_level = 0
    t.references += leaf.references
    t.fault_gpa = page << 12 | (address & 4095)
    t.mfn = leaf.mfn
    t.perm = leaf.perm & perm
    t.table = leaf.table
    t.above = leaf.above
    t.nested_huge = leaf.size == HUGE
    t.size = 1 if cr3 else leaf.size
    return F_PERMISSION if status == OK and need & ~leaf.perm else status


cdef Status_t guest_walk(Frames *f, uint32_t root, uint64_t cr3, uint64_t address, uint32_t need,
                         Translation *t, Reference *log) noexcept nogil:
    """`guest_steps` for other parts; the branch gives the compiler a version without the log."""
    if log == NULL:
        return guest_steps(f, root, cr3, address, need, t, NULL)
    return guest_steps(f, root, cr3, address, need, t, log)


cdef void path_find(Frames *f, uint32_t root, uint64_t gpn, Path *path) noexcept nogil:
    """Follow the nested table towards `gpn` as deep as tables exist."""
    cdef uint32_t level = 4
    path.table[4] = root
    while True:
        path.lowest = level
        path.entry = entry_read(f, path.table[level], index_of(gpn, level))
        if level == 1 or not path.entry & PRESENT or (level == 2 and path.entry & LARGE):
            return
        if number_in(path.entry) >= f.count:
            return
        path.table[level - 1] = <uint32_t>number_in(path.entry)
        level -= 1


cdef bint path_maps(Frames *f, Path *path) noexcept nogil:
    """Whether the path ends in a present leaf."""
    return path.lowest <= 2 and path.entry & PRESENT and (path.lowest == 1 or path.entry & LARGE)


cdef bint each_leaf(Frames *f, uint32_t table, uint32_t level, uint64_t base, bint down, uint8_t *visited,
                    Visit visit, void *context) noexcept nogil:
    """Call `visit` with every leaf below `table`, in ascending or descending order of gpn; True if it was stopped.

    `visited` (one bit a frame, or NULL where the tables are protected) lets each frame be entered once, so that tables
    which an attacker has tied into a knot cost no more than the host has frames.
    """
    cdef uint32_t i, index
    cdef uint64_t entry, gpn
    cdef Leaf leaf
    if visited != NULL:
        if visited[table >> 3] >> (table & 7) & 1:
            return False
        visited[table >> 3] |= 1 << (table & 7)
    for i in range(512):
        index = 511 - i if down else i
        entry = entry_read(f, table, index)
        if not entry & PRESENT or number_in(entry) >= f.count:
            continue
        gpn = base | <uint64_t>index << (9 * (level - 1))
        if level == 1 or (level == 2 and entry & LARGE):
            leaf.gpn = gpn
            leaf.size = HUGE if level == 2 else 1
            leaf.mfn = <uint32_t>number_in(entry) & ~(leaf.size - 1)
            leaf.perm = perm_in(entry)
            leaf.table = table
            leaf.index = index
            leaf.entry = entry
            if visit(context, &leaf):
                return True
        elif each_leaf(f, <uint32_t>number_in(entry), level - 1, gpn, down, visited, visit, context):
            return True
    return False


cdef bint each_record(Frames *f, uint32_t table, uint32_t level, uint64_t base, uint8_t *visited, Visit visit,
                      void *context) noexcept nogil:
    """Call `visit` with every swap record below `table`, ascending; only gpn, table, index and entry are set."""
    cdef uint32_t index
    cdef uint64_t entry, gpn
    cdef Leaf leaf
    if visited != NULL:
        if visited[table >> 3] >> (table & 7) & 1:
            return False
        visited[table >> 3] |= 1 << (table & 7)
    for index in range(512):
        entry = entry_read(f, table, index)
        gpn = base | <uint64_t>index << (9 * (level - 1))
        if level == 1 and is_swap_record(entry):
            leaf.gpn = gpn
            leaf.table = table
            leaf.index = index
            leaf.entry = entry
            if visit(context, &leaf):
                return True
        elif level > 1 and entry & PRESENT and number_in(entry) < f.count and not (level == 2 and entry & LARGE):
            if each_record(f, <uint32_t>number_in(entry), level - 1, gpn, visited, visit, context):
                return True
    return False


# A VM's tables are a list through Frames.link; its head is in the VM.

cdef uint32_t reserve_of(Frames *f, uint32_t head, uint64_t gpn) noexcept nogil:
    """The table page kept for the 2 MiB leaf of `gpn`, or NO_FRAME."""
    cdef uint32_t note = reserve_note(gpn)
    while head != NO_FRAME and use_of(f, head).note != note:
        head = use_of(f, head).next
    return head


cdef bint is_listed(Frames *f, uint32_t head, uint32_t table) noexcept nogil:
    while head != NO_FRAME and head != table:
        head = use_of(f, head).next
    return head != NO_FRAME


cdef void leaf_split(Frames *f, uint32_t directory, uint64_t gpn, uint32_t table) noexcept nogil:
    """Replace the 2 MiB leaf of `gpn` by `table` with 512 leaves; every page keeps its frame and permission."""
    cdef uint64_t entry = entry_read(f, directory, index_of(gpn, 2))
    cdef uint64_t first = number_in(entry) & ~<uint64_t>511
    cdef uint32_t i
    for i in range(512):
        entry_write(f, table, i, leaf_entry(first + i, perm_in(entry)))
    entry_write(f, directory, index_of(gpn, 2), <uint64_t>table << 12 | TABLE_FLAGS)
    keep_at(f.journal, use_of(f, table), sizeof(PoolUse))
    use_of(f, table).note = POOL_TABLE
