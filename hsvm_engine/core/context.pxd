"""VMs, their saved contexts, the cores, and the host that holds all parts together."""

from hsvm_engine.core.bus cimport Bus
from hsvm_engine.core.frames cimport Frames
from hsvm_engine.core.journal cimport Journal
from hsvm_engine.core.shadow cimport Shadow
from hsvm_engine.core.tlb cimport Mmu, Tally, Tlb
from hsvm_engine.core.types cimport (
    MAX_SLOT, MAX_VCPUS, PAGE, REGISTERS, Check_t, Status_t, uint8_t, uint16_t, uint32_t, uint64_t,
)

cdef enum:
    ROOT_WORD = REGISTERS     # 8-byte word of a context frame that holds the nested root's address
    MOST_PARTNERS = 1024      # handles that one guest_mergeable may name
    MOST_MARKS = 1 << 16      # of all guests together
    MOST_IMPORTS = 1 << 16    # images that a host remembers to have taken
    ANY_PARTNER = 0           # no VM has this handle

cdef struct Vm:
    uint64_t handle
    uint32_t slot                     # value in the ownership table
    uint32_t vcpus
    uint32_t root                     # nested table, made with the VM
    uint32_t tables                   # head of the list of its tables, root included, through PoolUse.next
    uint32_t[MAX_VCPUS] context       # frame of each vcpu's saved registers
    uint32_t[MAX_VCPUS] core          # 1 + core that runs the vcpu, 0 = none
    uint64_t swaps                    # version of the image made last
    uint64_t interrupts               # vectors that its handlers counted
    bint stopped                      # a table of it was tampered with
    Tally tally

cdef struct Core:
    Vm *vm                            # NULL = the hypervisor runs
    uint32_t vcpu
    bint timed                        # `left` counts
    uint64_t left                     # accesses until the timer; then the vcpu waits to be saved
    uint64_t[REGISTERS] registers     # live only while a vcpu runs
    Mmu mmu

cdef struct Mark:                     # a guest lets one of its pages be merged with those of a partner
    uint32_t slot
    uint64_t gpn
    uint64_t partner                  # handle, or ANY_PARTNER

cdef struct Pending:                  # a release that the fault option stopped; slot 0 = none
    uint32_t slot                     # of the VM
    uint32_t mfn
    uint64_t gpn
    uint32_t step                     # steps done, 1..4

cdef struct Counts:                   # events that the cost table prices
    uint64_t maps
    uint64_t unmaps
    uint64_t zeroed
    uint64_t switches
    uint64_t shootdowns
    uint64_t shot                     # TLB entries
    uint64_t seals                    # pages encrypted or decrypted
    uint64_t smis
    uint64_t releases                 # frames, for `fault_nth`

cdef struct Host:
    Frames frames
    Tlb tlb
    Bus bus
    Journal journal
    Core *core
    uint32_t cores
    uint32_t checks                   # 1 << Check_t for each check that is on
    bint reuse_handles                # a handle is the slot alone
    bint counted                      # map calls are validated: leaves are counted, releases have an order
    bint sealed                       # pages leave the host encrypted
    bint literal                      # a map takes the VM's own frames and occupied slots
    bint smi                          # tables lie in ordinary memory and are compared at each SMI
    uint64_t smi_period               # operations
    uint8_t *visited                  # two bits a frame, see each_leaf; NULL where tables are protected
    Vm **vm                           # by slot; NULL = nobody lives there
    Vm **store                        # by slot: memory of the VMs, at one address for ever
    uint64_t *generation              # by slot: of the newest VM there
    uint32_t vm_end                   # slots from here on were never used
    Mark *mark                        # MOST_MARKS rows, sorted by slot, gpn, partner
    uint32_t marks
    uint64_t fault_nth                # 0 = never
    uint32_t fault_step
    Pending pending
    uint64_t exports
    uint8_t (*imported)[16]           # MOST_IMPORTS rows: ids of the images that were taken
    uint32_t imports
    uint8_t **table_copy              # by pool frame: what the handler last left in a table stored into since, or NULL
    uint8_t *stored                   # by pool frame: 1 while that holds
    uint32_t stored_tables
    Shadow shadow
    void *seals                       # the machine's keys: a Python object of core/sealing.pyx
    Tally tally                       # of VMs that are gone
    Counts counts

cdef struct Args:                     # an operation's fields, checked one by one for type and range
    uint64_t vm
    uint64_t gpn
    uint64_t other_vm
    uint64_t other_gpn
    uint64_t gpa
    uint64_t gva
    uint64_t pages
    uint64_t after
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
    uint32_t vector
    uint32_t named                    # registers named in `registers`, one bit each
    uint32_t partners                 # handles in `partner`
    uint64_t image_length
    const uint8_t *image
    void *image_object                # owns `image`: a Python bytes object, or NULL
    uint8_t[16] target
    uint64_t[REGISTERS] registers
    uint64_t[MOST_PARTNERS] partner
    uint8_t[PAGE] data

cdef struct Out:                      # an operation's results and, of a refusal, which check said what
    uint64_t vm
    uint64_t released
    uint64_t done
    uint64_t gpa
    uint64_t fault_gpa                # NO_PAGE unless the nested table refused an access
    uint32_t mfn
    uint32_t offset
    uint32_t hit
    uint32_t references
    uint32_t length                   # bytes in `data`
    uint32_t zeroed
    uint32_t shot
    uint32_t filled                   # TLB entries
    uint32_t evicted
    Check_t check
    uint32_t bad_mfn                  # NO_FRAME where the check looked at no frame
    uint16_t bad_owner                # owner it found there
    uint8_t *image                    # where a batch wants the image, else NULL
    void *image_object                # the image as a new Python bytes object
    uint64_t[REGISTERS] registers
    uint8_t[PAGE] data

cdef enum:
    NO_PAGE = 0xFFFFFFFFFFFFFFFF

ctypedef Status_t (*Operation)(Host *h, Args *a, Out *o) noexcept nogil

cdef Vm *vm_find(Host *h, uint64_t handle) noexcept nogil
cdef Status_t vm_of_tables(Host *h, uint64_t handle, Out *o, Vm **vm) noexcept nogil
cdef Vm *vm_by_slot(Host *h, uint32_t slot) noexcept nogil
cdef Vm *vm_make(Host *h, uint32_t vcpus, uint32_t *pool) noexcept nogil
cdef void vm_drop(Host *h, Vm *vm) noexcept nogil
cdef void context_store(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil
cdef void context_fetch(Host *h, Vm *vm, uint32_t vcpu, uint64_t *registers) noexcept nogil
cdef uint32_t context_root(Host *h, Vm *vm, uint32_t vcpu) noexcept nogil
cdef void core_enter(Host *h, Core *core, Vm *vm, uint32_t vcpu) noexcept nogil
cdef void pool_put(Host *h, uint32_t mfn, uint32_t note) noexcept nogil
cdef void core_leave(Host *h, Core *core) noexcept nogil
cdef Status_t refuse(Out *o, Check_t check, Status_t status) noexcept nogil
cdef Status_t refuse_frame(Host *h, Out *o, Check_t check, uint32_t mfn, Status_t status) noexcept nogil
