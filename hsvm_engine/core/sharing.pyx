"""Sharing with the hypervisor, which only a guest can start, and merging of equal pages, which both guests must want.

A merged page: the borrower's leaf shows the lender's frame, no leaf of it is writable, and BIT_HAD_W remembers who was.
"""

from libc.string cimport memcmp, memmove

from hsvm_engine.core.context cimport ANY_PARTNER, MOST_MARKS, Core, Mark, Vm, refuse, refuse_frame, vm_of_tables
from hsvm_engine.core.frames cimport LENT_SHIFT, Frames, entry_write, frame_read, frame_write, keep_entry, lent_by, peek
from hsvm_engine.core.journal cimport keep_at
from hsvm_engine.core.pages cimport (
    is_merged, leaf_in, mark_drop, mark_place, must_own, page_shoot, release_frame, share_leaf, split_page, own,
)
from hsvm_engine.core.paging cimport (
    BIT_BORROWS, BIT_HAD_W, BIT_LENDS, BIT_SHARED, WRITABLE, Path, bit_of, has_bit, index_of, number_in, path_find,
    path_maps, perm_in,
)
from hsvm_engine.core.types cimport (
    BUSY_CHECK, E_BUSY, E_EXIST, E_INPUT, E_NOENT, E_NOMEM, E_OWNER, E_STATE, F_TAMPERED, FREE, MERGE_CONSENT, OK,
    PAGE, PERM_W, PERM_X, is_on, uint8_t, uint32_t, uint64_t,
)


# Shares

cdef Status_t own_page(Host *h, uint32_t number, uint64_t gpn, Vm **vm, Path *path) noexcept nogil:
    """The page of the guest on a core; E_STATE on an empty one. An unmapped page has no present entry at `path`."""
    cdef Core *core = &h.core[number]
    vm[0] = core.vm
    if core.vm == NULL:
        return E_STATE
    if core.vm.stopped:
        return F_TAMPERED
    path_find(&h.frames, core.vm.root, gpn, path)
    return OK


cdef Status_t guest_share(Host *h, Args *a, Out *o) noexcept nogil:
    """Let hypervisor and devices read the guest's own page, or read and write it; a 2 MiB leaf is split first."""
    cdef Path path
    cdef Vm *vm
    cdef Status_t status
    if a.perm & PERM_X:
        return E_INPUT
    status = own_page(h, a.core, a.gpn, &vm, &path)
    if status != OK:
        return status
    if not path_maps(&h.frames, &path):
        return E_NOENT
    if path.lowest == 1 and is_merged(path.entry):
        return refuse(o, BUSY_CHECK, E_BUSY)
    if a.perm & PERM_W and not perm_in(path.entry) & PERM_W:
        return E_STATE
    if path.lowest == 1 and has_bit(path.entry, BIT_SHARED):
        return E_EXIST
    status = split_page(h, vm, a.gpn, &path)
    if status == OK:
        share_leaf(h, vm, path.table[1], index_of(a.gpn, 1), a.perm)
    return status


cdef Status_t guest_unshare(Host *h, Args *a, Out *o) noexcept nogil:
    """End a share of the guest's own page."""
    cdef Path path
    cdef Vm *vm
    cdef Status_t status = own_page(h, a.core, a.gpn, &vm, &path)
    if status != OK:
        return status
    if not path_maps(&h.frames, &path) or path.lowest == 2 or not has_bit(path.entry, BIT_SHARED):
        return E_NOENT
    share_leaf(h, vm, path.table[1], index_of(a.gpn, 1), 0)
    return OK


# Marks

cdef Status_t guest_mergeable(Host *h, Args *a, Out *o) noexcept nogil:
    """Say with whose pages the guest's own page may be merged; the new mark replaces the old one."""
    cdef Path path
    cdef Vm *vm
    cdef uint32_t i, place, old
    cdef Status_t status = own_page(h, a.core, a.gpn, &vm, &path)
    if status != OK:
        return status
    if not path_maps(&h.frames, &path):
        return E_NOENT
    old = mark_place(h, vm.slot, a.gpn + 1, 0) - mark_place(h, vm.slot, a.gpn, 0)
    if h.marks - old + a.partners > MOST_MARKS:
        return E_NOMEM
    mark_drop(h, vm.slot, a.gpn)
    for i in range(a.partners):
        place = mark_place(h, vm.slot, a.gpn, a.partner[i])
        if place < h.marks and is_mark(&h.mark[place], vm.slot, a.gpn, a.partner[i]):
            continue                                       # named twice
        keep_at(&h.journal, &h.mark[place], <uint64_t>(h.marks - place + 1) * sizeof(Mark))
        keep_at(&h.journal, &h.marks, 4)
        memmove(&h.mark[place + 1], &h.mark[place], <size_t>(h.marks - place) * sizeof(Mark))
        h.mark[place].slot = vm.slot
        h.mark[place].gpn = a.gpn
        h.mark[place].partner = a.partner[i]
        h.marks += 1
    return OK


cdef inline bint is_mark(Mark *m, uint32_t slot, uint64_t gpn, uint64_t partner) noexcept nogil:
    return m.slot == slot and m.gpn == gpn and m.partner == partner


cdef bint has_mark(Host *h, uint32_t slot, uint64_t gpn, uint64_t partner) noexcept nogil:
    cdef uint32_t place = mark_place(h, slot, gpn, partner)
    return place < h.marks and is_mark(&h.mark[place], slot, gpn, partner)


cdef bint consents(Host *h, Vm *vm, uint64_t gpn, Vm *partner) noexcept nogil:
    return has_mark(h, vm.slot, gpn, ANY_PARTNER) or has_mark(h, vm.slot, gpn, partner.handle)


# Merges

cdef bint same_bytes(Frames *f, uint32_t one, uint32_t other) noexcept nogil:
    cdef uint8_t[4096] x
    cdef uint8_t[4096] y
    if peek(f, one) == NULL and peek(f, other) == NULL:
        return True
    frame_read(f, one, 0, PAGE, x)
    frame_read(f, other, 0, PAGE, y)
    return memcmp(x, y, PAGE) == 0


cdef uint64_t shown_frame(Path *path, uint64_t gpn) noexcept nogil:
    """The frame that a mapped page shows."""
    return number_in(path.entry) + (gpn & 511 if path.lowest == 2 else 0)


cdef bint is_held(Host *h, Path *path, uint64_t gpn, bint may_lend) noexcept nogil:
    """Whether a page is shared, borrows, lends (unless it may), or shows a frame that another page shows or lends."""
    cdef uint64_t mfn = shown_frame(path, gpn)
    cdef bint lends = path.lowest == 1 and has_bit(path.entry, BIT_LENDS)
    if path.lowest == 1 and (has_bit(path.entry, BIT_SHARED) or has_bit(path.entry, BIT_BORROWS)):
        return True
    if lends:
        return not may_lend
    return mfn < h.frames.count and (h.frames.lender[mfn] != 0 or (h.literal and h.frames.leaves[mfn] > 1))


cdef Status_t can_merge(Host *h, Args *a, Out *o, Vm *vm, Vm *other, Path *lender, Path *borrower) noexcept nogil:
    """Order of engine.md 5 and 12.5: mapped, busy, two 4 KiB leaves of two VMs, consent, and only then the bytes."""
    cdef Frames *f = &h.frames
    cdef uint64_t one = lender.entry, two = borrower.entry
    cdef bint small = lender.lowest == 1 and borrower.lowest == 1
    if not path_maps(f, lender) or not path_maps(f, borrower):
        return E_NOENT
    if is_held(h, lender, a.gpn, True) or is_held(h, borrower, a.other_gpn, False):
        return refuse(o, BUSY_CHECK, E_BUSY)
    if not small or vm == other or number_in(one) == number_in(two):
        return E_STATE
    if number_in(one) >= f.count or number_in(two) >= f.count:
        return E_STATE                              # only where the hypervisor writes entries itself
    if not is_on(h.checks, MERGE_CONSENT):
        return OK
    if not consents(h, vm, a.gpn, other) or not consents(h, other, a.other_gpn, vm):
        return refuse_frame(h, o, MERGE_CONSENT, <uint32_t>number_in(two), E_OWNER)
    if not same_bytes(f, <uint32_t>number_in(one), <uint32_t>number_in(two)):
        return refuse_frame(h, o, MERGE_CONSENT, <uint32_t>number_in(two), E_OWNER)
    return OK


cdef inline uint64_t without_w(uint64_t entry) noexcept nogil:
    """A leaf that cannot write and remembers whether it could."""
    return (entry & ~<uint64_t>WRITABLE) | (bit_of(BIT_HAD_W) if entry & WRITABLE else 0)


cdef Status_t merge(Host *h, Args *a, Out *o) noexcept nogil:
    """Let the second page show the frame of the first, and release its own."""
    cdef Frames *f = &h.frames
    cdef Vm *vm
    cdef Vm *other
    cdef Path lender, borrower
    cdef uint32_t kept, freed
    cdef uint64_t entry
    cdef Status_t status = vm_of_tables(h, a.vm, o, &vm)
    cdef Status_t second = vm_of_tables(h, a.other_vm, o, &other)
    if status != OK and (status < second or second == OK):
        return status
    if second != OK:
        return second
    path_find(f, vm.root, a.gpn, &lender)
    path_find(f, other.root, a.other_gpn, &borrower)
    status = can_merge(h, a, o, vm, other, &lender, &borrower)
    if status != OK:
        return status
    kept, freed = <uint32_t>number_in(lender.entry), <uint32_t>number_in(borrower.entry)
    o.mfn = freed
    if not has_bit(lender.entry, BIT_LENDS):
        entry_write(f, lender.table[1], index_of(a.gpn, 1), without_w(lender.entry) | bit_of(BIT_LENDS))
        page_shoot(h, vm, a.gpn, o)
    entry = without_w(borrower.entry) & ~(0xFFFFFFFFFFULL << 12) | <uint64_t>kept << 12
    entry_write(f, borrower.table[1], index_of(a.other_gpn, 1), entry | bit_of(BIT_BORROWS))
    keep_entry(f, kept)
    keep_entry(f, freed)
    f.lender[kept] = lent_by(vm.slot, a.gpn)
    f.leaves[kept] = max(f.leaves[kept], <uint32_t>1) + 1
    f.leaves[freed] = 0
    if h.counted:
        return release_frame(h, other, a.other_gpn, freed, o)
    own(h, freed, FREE)
    return OK


cdef void lender_back(Host *h, uint32_t mfn, Out *o) noexcept nogil:
    """Nobody borrows the frame any more: its leaf is as it was before."""
    cdef Frames *f = &h.frames
    cdef uint64_t gpn = f.lender[mfn] & ((<uint64_t>1 << LENT_SHIFT) - 1)
    cdef uint32_t slot = <uint32_t>(f.lender[mfn] >> LENT_SHIFT) & 0xFFFF
    cdef Vm *vm = h.vm[slot]
    cdef Path path
    f.lender[mfn] = 0
    if vm == NULL:
        return
    path_find(f, vm.root, gpn, &path)
    if path.lowest == 1 and has_bit(path.entry, BIT_LENDS):
        entry_write(f, path.table[1], index_of(gpn, 1), with_w(path.entry & ~bit_of(BIT_LENDS)))
        page_shoot(h, vm, gpn, o)


cdef inline uint64_t with_w(uint64_t entry) noexcept nogil:
    """A leaf that can write again if it could."""
    return (entry & ~bit_of(BIT_HAD_W)) | (WRITABLE if has_bit(entry, BIT_HAD_W) else 0)


cdef Status_t unmerge(Host *h, Args *a, Out *o) noexcept nogil:
    """Give the borrower a private copy in a free frame, with its old permission."""
    cdef Frames *f = &h.frames
    cdef Vm *vm
    cdef Path path
    cdef uint32_t shown
    cdef uint64_t entry
    cdef uint8_t[4096] page
    cdef Status_t status = vm_of_tables(h, a.vm, o, &vm)
    if status != OK:
        return status
    path_find(f, vm.root, a.gpn, &path)
    if path.lowest != 1 or not path_maps(f, &path) or not has_bit(path.entry, BIT_BORROWS):
        return E_STATE
    status = must_own(h, a.mfn, FREE, o)
    if status != OK:
        return status
    shown = <uint32_t>number_in(path.entry)
    if shown < f.count:
        frame_read(f, shown, 0, PAGE, page)
        frame_write(f, a.mfn, 0, PAGE, page)
        keep_entry(f, shown)
        f.leaves[shown] -= 1 if f.leaves[shown] else 0
    entry = path.entry & ~(bit_of(BIT_BORROWS) | 0xFFFFFFFFFFULL << 12)
    leaf_in(h, vm, path.table[1], index_of(a.gpn, 1), a.mfn, with_w(entry) | <uint64_t>a.mfn << 12)
    page_shoot(h, vm, a.gpn, o)
    if shown < f.count and f.leaves[shown] <= 1:
        lender_back(h, shown, o)
        if not h.counted:
            f.leaves[shown] = 0
    return OK
