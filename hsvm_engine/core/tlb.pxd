"""Two TLB levels per core and optional page-walk caches, tagged by address space. The state is described in tlb.h."""

from libc.stdint cimport int64_t

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.journal cimport Journal
from hsvm_engine.core.paging cimport Translation
from hsvm_engine.core.types cimport Status_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "tlb.h" nogil:
    enum:
        CACHE_ROOM            # entries that one page-walk cache may have
        SPACE_LIMIT           # numbers of spaces that a tag can hold

    ctypedef struct Level:
        uint32_t sets
        uint32_t ways
        uint64_t *tag         # vpn << 28 | space << 1 | huge, 0 = empty; sets * ways of them
        uint32_t *data        # mfn << 4 | huge << 3 | permission bits
        uint64_t *gpn         # guest page of the entry
        uint8_t *turn         # per set: the way that is replaced next; round-robin only
        uint64_t *used        # per entry: clock of its last use; NULL under round-robin
        void *memory
        uint64_t bytes
        uint32_t huge         # live 2 MiB entries

    ctypedef struct Space:
        uint64_t handle       # 0 = never used
        uint64_t cr3          # 0 = guest-physical addresses
        uint32_t live         # entries on all cores
        uint32_t paged        # with cr3 0: those of the VM's guest-virtual spaces
        uint32_t pins         # cores that have it loaded
        uint32_t again        # may be given another meaning, once nothing uses it

    ctypedef struct Cache:
        uint64_t[2][CACHE_ROOM] tag
        uint64_t[2][CACHE_ROOM] target
        uint32_t[2] turn

    ctypedef struct Memo:
        pass

    ctypedef struct Tlb:
        uint32_t cores
        uint32_t lru
        Level *level          # [2 * core] and [2 * core + 1]
        uint64_t clock
        Space *space          # [0] is never used
        uint32_t spaces
        uint32_t space_room
        uint32_t hand
        uint32_t *bucket
        uint32_t bucket_shift
        uint32_t[2] cache_size
        Cache *cache          # per core; NULL without page-walk caches
        Memo *memo
        uint64_t epoch
        void *shadow
        uint64_t fills
        uint64_t evictions
        void *journal
        void (*watch)(void *journal, void *tlb, int what, uint64_t place) noexcept nogil

    enum:
        WATCH_ENTRY
        WATCH_TURN
        WATCH_USE
        WATCH_CACHE

    uint32_t tag_space(uint64_t tag)
    uint64_t small_tag(uint64_t vpn, uint32_t space)
    uint64_t huge_tag(uint64_t vpn, uint32_t space)
    uint32_t space_seek(Tlb *t, uint64_t handle, uint64_t cr3)
    void space_name(Tlb *t, uint32_t number, uint64_t handle, uint64_t cr3)
    void space_flat(Tlb *t, uint32_t number, uint32_t flat)
    void space_pin(Tlb *t, uint32_t number, int change)
    void space_count(Tlb *t, uint32_t number, int change)
    void tlb_put(Tlb *t, uint32_t core, uint32_t which, uint64_t place, uint64_t tag, uint32_t data, uint64_t gpn)
    void tlb_turn(Level *level, uint64_t set, uint32_t way)
    void tlb_use(Tlb *t, Level *level, uint64_t place)
    void cache_put(Tlb *t, uint32_t core, uint32_t which, uint32_t place, uint64_t tag, uint64_t target)
    void cache_turn(Tlb *t, uint32_t core, uint32_t which, uint32_t place)
    uint64_t ways_with(const uint64_t *way, uint32_t ways, uint64_t tag)
    int64_t tlb_find(const Level *level, uint64_t tag)
    void level_put(Tlb *t, Level *level, uint64_t place, uint64_t tag, uint32_t data, uint64_t gpn)
    void level_fill(Tlb *t, Level *level, uint64_t tag, uint32_t data, uint64_t gpn)

cdef struct Shape:            # what the constructor's `tlb` says
    uint32_t[4] geometry      # sets and ways of level 1, then of level 2
    uint32_t[2] cache_size    # entries of the page-walk caches, guest and nested
    bint lru

cdef struct Mmu:              # what a core's page walker has loaded
    uint64_t handle           # 0 = the hypervisor's own tables
    uint64_t cr3
    uint32_t root             # nested table
    uint32_t flat             # space of guest-physical addresses
    uint32_t paged            # space of guest-virtual addresses, = flat while cr3 is 0

cdef struct Tally:            # accesses by where they were translated
    uint64_t l1
    uint64_t l2
    uint64_t miss
    uint64_t faults
    uint64_t references       # table entries read by walks

cdef bint tlb_open(Tlb *t, uint32_t cores, Shape *shape) noexcept
cdef void tlb_close(Tlb *t) noexcept
cdef void tlb_watch(Tlb *t, Journal *journal) noexcept nogil
cdef void tlb_keep(Tlb *t, uint32_t core) noexcept nogil
cdef void tlb_put_back(Tlb *t, uint64_t where, const uint8_t *bytes) noexcept nogil
cdef void tlb_recount(Tlb *t) noexcept nogil
cdef uint32_t space_find(Tlb *t, uint64_t handle, uint64_t cr3) noexcept nogil
cdef void mmu_load(Tlb *t, Mmu *mmu, uint64_t handle, uint32_t root, uint64_t cr3) noexcept nogil
cdef uint32_t tlb_age(Level *level, uint64_t set, uint32_t way) noexcept nogil
cdef uint32_t tlb_drop_vm(Tlb *t, uint32_t core, uint64_t handle) noexcept nogil
cdef void tlb_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn) noexcept nogil
cdef bint tlb_holds(Tlb *t, uint32_t space, uint64_t vpn) noexcept nogil
cdef uint32_t tlb_shootdown(Tlb *t, uint64_t handle, uint64_t gpn) noexcept nogil
cdef Status_t translate(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint32_t space, uint64_t address, uint32_t need,
                        Translation *x, Tally *tally) noexcept nogil
