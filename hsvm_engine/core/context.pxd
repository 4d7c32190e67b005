"""VMs, their saved contexts, the cores, and the host that holds all parts together."""

from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.journal cimport Journal
from hsvm_engine.core.tlb cimport Mmu, Tally, Tlb
from hsvm_engine.core.types cimport (
    MAX_SLOT, MAX_VCPUS, PAGE, REGISTERS, Check_t, Status_t, uint8_t, uint16_t, uint32_t, uint64_t,
)

cdef enum:
    ROOT_WORD = REGISTERS     # 8-byte word of a context frame that holds the nested root's address

cdef struct Vm:
    uint64_t handle
    uint32_t slot                     # value in the ownership table
    uint32_t vcpus
    uint32_t root                     # nested table, made with the VM
    uint32_t tables                   # head of the list of its tables, root included, through Frames.link
    uint32_t[MAX_VCPUS] context       # frame of each vcpu's saved registers
    uint32_t[MAX_VCPUS] core          # 1 + core that runs the vcpu, 0 = none
    uint64_t *guest_tables            # gpns that guest_map has made into tables, ascending
    uint32_t guest_table_count
    uint32_t guest_table_room
    Tally tally

cdef struct Core:
    Vm *vm                            # NULL = the hypervisor runs
    uint32_t vcpu
    uint64_t[REGISTERS] registers     # live only while a vcpu runs
    Mmu mmu

cdef struct Counts:                   # events that the cost table prices
    uint64_t maps
    uint64_t unmaps
    uint64_t zeroed
    uint64_t switches
    uint64_t shootdowns
    uint64_t shot                     # TLB entries

cdef struct Host:
    Frames frames
    Tlb tlb
    Journal journal
    Core *core
    uint32_t cores
    uint32_t checks                   # 1 << Check_t for each check that is on
    bint reuse_handles                # a handle is the slot alone
    uint8_t *visited                  # one bit a frame, see each_leaf; NULL where tables are protected
    Vm **vm                           # by slot
    uint64_t *generation              # by slot: of the next VM there
    uint32_t vm_end                   # slots from here on were never used
    Tally tally                       # of VMs that are gone
    Counts counts

cdef struct Args:                     # an operation's fields, checked one by one for type and range
    uint64_t vm
    uint64_t gpn
    uint64_t gpa
    uint64_t gva
    uint64_t pages
    uint32_t mfn
    uint32_t core
    uint32_t vcpu
    uint32_t vcpus
    uint32_t size                     # 1 or 512
    uint32_t perm                     # bits of Perm_t
    uint32_t kind                     # one bit of Perm_t
    uint32_t offset
    uint32_t length                   # bytes, also of `data`
    uint32_t device
    uint32_t named                    # registers named in `registers`, one bit each
    uint64_t[REGISTERS] registers
    uint8_t[PAGE] data

cdef struct Out:                      # an operation's results and, of a refusal, which check said what
    uint64_t vm
    uint64_t released
    uint64_t done
    uint64_t gpa
    uint32_t mfn
    uint32_t offset
    uint32_t hit
    uint32_t references
    uint32_t length                   # bytes in `data`
    uint32_t zeroed
    uint32_t shot
    Check_t check
    uint32_t bad_mfn                  # NO_FRAME where the check looked at no frame
    uint16_t bad_owner                # owner it found there
    uint64_t[REGISTERS] registers
    uint8_t[PAGE] data

ctypedef Status_t (*Operation)(Host *h, Args *a, Out *o) noexcept nogil

cdef Vm *vm_find(Host *h, uint64_t handle) noexcept nogil
cdef Vm *vm_by_slot(Host *h, uint32_t slot) noexcept nogil
cdef Vm *vm_make(Host *h, uint32_t vcpus, uint32_t *pool) noexcept nogil
cdef void vm_drop(Host *h, Vm *vm) noexcept nogil
cdef void context_store(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil
cdef void context_fetch(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil
cdef uint32_t context_root(Host *h, Vm *vm, uint32_t vcpu) noexcept nogil
cdef void core_enter(Host *h, Core *core, Vm *vm, uint32_t vcpu) noexcept nogil
cdef void core_leave(Host *h, Core *core) noexcept nogil
cdef bint is_guest_table(Vm *vm, uint64_t gpn) noexcept nogil
cdef bint guest_tables_reserve(Vm *vm, uint32_t more) noexcept nogil
cdef void guest_table_add(Vm *vm, uint64_t gpn) noexcept nogil
cdef void guest_table_drop(Vm *vm, uint64_t gpn) noexcept nogil
cdef Status_t refuse(Out *o, Check_t check, Status_t status) noexcept nogil
cdef Status_t refuse_frame(Host *h, Out *o, Check_t check, uint32_t mfn, Status_t status) noexcept nogil
