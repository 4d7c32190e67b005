"""Nested and guest page tables as bytes of frames, and the two-dimensional walk over them.

An entry has 8 bytes, AMD64 format:

    bit 0   present
    bit 1   writable
    bit 2   user (set in every entry that the machine writes)
    bit 7   page size: a 2 MiB leaf, looked at in level 2 of a nested table only
    bits 12..51   number of the frame (nested table) or guest page (guest table)
    bits 52..57   of a 4 KiB leaf of a nested table, for software: see PageBit_t
    bit 63  no execute

An absent entry in level 1 of a nested table that is not 0 is the record of a page that was swapped out:

    bit 0   0
    bit 1   1
    bits 2, 3     writable, executable
    bits 4..63    version of the image

A page number has 36 bits: level 4 (root) uses bits 35..27, level 3 26..18, level 2 17..9, level 1 8..0.
"""

from hsvm_engine.core.frames cimport POOL_RESERVE, Frames
from hsvm_engine.core.types cimport Status_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    PRESENT = 1
    WRITABLE = 2
    USER = 4
    LARGE = 128
    TABLE_FLAGS = 7
    MAX_REFERENCES = 24   # (4 + 1) * (4 + 1) - 1

cdef enum PageBit_t:          # what H-SVM knows of a mapped 4 KiB page; bit of its leaf
    BIT_TABLE = 52            # the guest uses the page as one of its tables
    BIT_SHARED = 53           # hypervisor and devices may read it
    BIT_SHARED_W = 54         # and write it
    BIT_BORROWS = 55          # merged: the frame is another VM's
    BIT_LENDS = 56            # merged: the frame shows in other VMs
    BIT_HAD_W = 57            # merged: the page was writable before

cdef struct Leaf:             # where a guest page lies
    uint64_t gpn              # first guest page of the leaf
    uint32_t mfn              # frame of the page asked for; of `each_leaf`, first frame of the leaf
    uint32_t size             # guest pages: 1 or 512
    uint32_t perm             # bits of Perm_t
    uint32_t above            # what the entries above it allow
    uint32_t references       # table entries read
    uint32_t table            # table frame that holds the entry
    uint32_t index            # place in it, 0..511
    uint64_t entry            # of `each_leaf` only

cdef struct Path:             # the tables on the way to a guest page
    uint32_t table[5]         # [4] is the root; [lowest] the deepest that exists
    uint32_t lowest           # 4..1
    uint64_t entry            # the entry found in table[lowest]

cdef struct Reference:        # one memory reference of a walk
    uint32_t guest_level      # 4..1 while a guest table's address is resolved, 0 for the page itself
    uint32_t nested_level     # 4..1, or 0: the guest table's own entry
    uint32_t mfn
    uint32_t offset           # bytes
    uint64_t entry
    uint32_t perm             # bits of Perm_t that this entry allows, 0 when it is not present

cdef struct Translation:
    uint64_t gpn
    uint32_t mfn
    uint32_t perm
    uint32_t size             # guest pages that one TLB entry may cover: 1 or 512
    uint32_t references       # table entries read, 0 on a TLB hit
    uint32_t hit              # 1 first level, 2 second level, 3 miss
    uint32_t guest_table       # with a cr3: frame of the guest's level 1 table,
    uint32_t guest_above       # what the entries above it allow
    uint32_t guest_references  # and the references up to its entry
    uint32_t table            # nested table frame that holds the page's entry
    uint32_t above            # what the entries above it allow
    bint nested_huge          # that entry is a 2 MiB leaf
    bint guest_fault          # the fault lies in the guest's own table
    uint64_t fault_gpa        # else: the guest-physical address that could not be reached

ctypedef bint (*Visit)(void *context, Leaf *leaf) noexcept nogil      # True stops the visit

cdef inline uint32_t index_of(uint64_t page, uint32_t level) noexcept nogil:
    return <uint32_t>(page >> (9 * (level - 1))) & 511

cdef inline uint64_t number_in(uint64_t entry) noexcept nogil:
    return (entry >> 12) & 0xFFFFFFFFFFULL

cdef inline uint32_t perm_in(uint64_t entry) noexcept nogil:
    """Permission bits of a present entry: readable, and w and x as it says."""
    return 1 | (entry & WRITABLE) | (0 if entry >> 63 else 4)

cdef inline uint64_t leaf_entry(uint64_t number, uint32_t perm) noexcept nogil:
    cdef uint64_t entry = number << 12 | PRESENT | USER
    if perm & 2:
        entry |= WRITABLE
    if not perm & 4:
        entry |= <uint64_t>1 << 63
    return entry

cdef inline bint has_bit(uint64_t entry, PageBit_t bit) noexcept nogil:
    return entry >> <uint64_t>bit & 1

cdef inline uint64_t bit_of(PageBit_t bit) noexcept nogil:
    return <uint64_t>1 << <uint64_t>bit

cdef inline uint64_t swap_record(uint64_t version, uint32_t perm) noexcept nogil:
    return version << 4 | <uint64_t>(perm & 6) << 1 | 2

cdef inline bint is_swap_record(uint64_t entry) noexcept nogil:
    return entry & 3 == 2

cdef inline uint32_t perm_of_record(uint64_t record) noexcept nogil:
    return 1 | <uint32_t>(record >> 1) & 6

cdef Status_t nested_walk(Frames *f, uint32_t root, uint64_t gpn, Leaf *leaf) noexcept nogil
cdef Status_t guest_walk(Frames *f, uint32_t root, uint64_t cr3, uint64_t address, uint32_t need,
                         Translation *t, Reference *log) noexcept nogil
cdef void path_find(Frames *f, uint32_t root, uint64_t gpn, Path *path) noexcept nogil
cdef bint path_maps(Frames *f, Path *path) noexcept nogil
cdef bint each_leaf(Frames *f, uint32_t table, uint32_t level, uint64_t base, bint down, uint8_t *visited,
                    Visit visit, void *context) noexcept nogil
cdef bint each_record(Frames *f, uint32_t table, uint32_t level, uint64_t base, uint8_t *visited, Visit visit,
                      void *context) noexcept nogil
cdef inline uint32_t reserve_note(uint64_t gpn) noexcept nogil:
    """Frames.use note of the table page kept for the 2 MiB leaf of `gpn`."""
    return <uint32_t>(gpn >> 9) << 2 | <uint32_t>POOL_RESERVE

cdef uint32_t reserve_of(Frames *f, uint32_t head, uint64_t gpn) noexcept nogil
cdef bint is_listed(Frames *f, uint32_t head, uint32_t table) noexcept nogil
cdef void leaf_split(Frames *f, uint32_t directory, uint64_t gpn, uint32_t table) noexcept nogil
