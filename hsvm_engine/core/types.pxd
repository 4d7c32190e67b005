"""Numbers that every part shares: statuses, owners, checks, operations, registers."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "check.h" nogil:
    void hsvm_assert(bint rule, const char *text)
    void hsvm_junk(void *page)
    void hsvm_clean(void *page)

cdef enum:
    PAGE = 4096          # bytes of a frame
    HUGE = 512           # frames of a 2 MiB leaf
    REGISTERS = 19       # rax rbx rcx rdx rsi rdi rbp rsp r8..r15 rip rflags cr3
    CR3 = 18
    MAX_VCPUS = 64
    MAX_SLOT = 65535
    NO_FRAME = 0xFFFFFFFF

cdef enum Status_t:
    OK = 0
    E_INPUT
    E_NOVM
    E_STATE
    E_BUSY
    E_EXIST
    E_NOENT
    E_PROT
    E_OWNER
    E_INTEGRITY
    E_REPLAY
    E_NOMEM
    F_NOT_PRESENT
    F_PERMISSION
    F_OWNER
    F_PROTECTED
    F_TAMPERED

cdef enum Owner_t:        # value of an ownership entry; from FIRST_VM on it is the slot of a VM
    FREE = 0
    HYPERVISOR = 1
    HSVM = 2
    FIRST_VM = 3

cdef enum Check_t:        # number of a protection check; Host.checks holds 1 << number for each that is on
    NO_CHECK = 0
    OWNER_CHECK
    SLOT_CHECK
    BUSY_CHECK
    PROTECTED_CHECK
    HV_ACCESS_CHECK
    SMRAM_LOCK
    CONTEXT_PROTECTION
    NPT_PROTECTION
    NPT_ROOT_PROTECTION
    DMA_CHECK
    HANDLE_CHECK
    MERGE_CONSENT
    SWAP_BINDING
    SWAP_VERSION
    ZERO_ON_RELEASE
    ZERO_ON_MAP
    TLB_SHOOTDOWN

cdef enum Perm_t:
    PERM_R = 1
    PERM_W = 2
    PERM_X = 4

cdef inline bint is_on(uint32_t checks, Check_t check) noexcept nogil:
    return (checks >> <uint32_t>check) & 1
