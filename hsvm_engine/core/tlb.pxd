"""Two TLB levels per core, tagged by address space, set-associative, round-robin."""

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.paging cimport Translation
from hsvm_engine.core.types cimport Status_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef struct Level:
    uint32_t sets         # power of two
    uint32_t ways
    uint64_t *tag         # vpn << 28 | space << 1 | huge, 0 = empty; sets * ways of them
    uint32_t *data        # mfn << 4 | huge << 3 | permission bits
    uint64_t *gpn         # guest page of the entry
    uint8_t *turn         # per set: the way that is replaced next

cdef struct Space:        # what a tag's number stands for; kept while entries or cores use it
    uint64_t handle       # 0 = unused
    uint64_t cr3          # 0 = guest-physical addresses
    uint32_t live         # entries on all cores
    uint32_t pins         # cores that have it loaded

cdef struct Mmu:          # what a core's page walker has loaded
    uint64_t handle       # 0 = the hypervisor's own tables
    uint64_t cr3
    uint32_t root         # nested table
    uint32_t flat         # space of guest-physical addresses
    uint32_t paged        # space of guest-virtual addresses, = flat while cr3 is 0

cdef struct Tlb:
    uint32_t cores
    Level *level          # [2 * core] and [2 * core + 1]
    uint32_t *huge        # live 2 MiB entries per core
    Space *space          # [0] is never used
    uint32_t spaces       # entries of `space` in use or once used
    uint32_t space_room

cdef struct Tally:        # accesses by where they were translated
    uint64_t l1
    uint64_t l2
    uint64_t miss
    uint64_t faults
    uint64_t references   # table entries read by walks

cdef bint tlb_open(Tlb *t, uint32_t cores, uint32_t *geometry) noexcept
cdef void tlb_close(Tlb *t) noexcept
cdef bint tlb_reserve(Tlb *t) noexcept nogil
cdef uint32_t space_find(Tlb *t, uint64_t handle, uint64_t cr3) noexcept nogil
cdef void mmu_load(Tlb *t, Mmu *mmu, uint64_t handle, uint32_t root, uint64_t cr3) noexcept nogil
cdef void tlb_put(Tlb *t, uint32_t core, uint32_t which, uint64_t place, uint64_t tag, uint32_t data,
                  uint64_t gpn) noexcept nogil
cdef uint32_t tlb_drop_vm(Tlb *t, uint32_t core, uint64_t handle) noexcept nogil
cdef void tlb_drop_page(Tlb *t, uint32_t core, uint32_t space, uint64_t vpn) noexcept nogil
cdef uint32_t tlb_shootdown(Tlb *t, uint64_t handle, uint64_t gpn) noexcept nogil
cdef Status_t translate(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, uint32_t space, uint64_t address, uint32_t need,
                        Translation *x, Tally *tally) noexcept nogil
cdef uint64_t trace(Frames *f, Tlb *t, uint32_t core, Mmu *mmu, const uint64_t *addresses, const uint8_t *kinds,
                    uint64_t count, Status_t *status, Translation *x, Tally *tally, uint64_t *by_kind) noexcept nogil
