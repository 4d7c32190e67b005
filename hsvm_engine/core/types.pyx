"""The public enums and the names by which results and events call checks, permissions and registers."""

from enum import IntEnum

Status = IntEnum("Status", {
    "OK": OK, "E_INPUT": E_INPUT, "E_NOVM": E_NOVM, "E_STATE": E_STATE, "E_BUSY": E_BUSY, "E_EXIST": E_EXIST,
    "E_NOENT": E_NOENT, "E_PROT": E_PROT, "E_OWNER": E_OWNER, "E_INTEGRITY": E_INTEGRITY, "E_REPLAY": E_REPLAY,
    "E_NOMEM": E_NOMEM, "F_NOT_PRESENT": F_NOT_PRESENT, "F_PERMISSION": F_PERMISSION, "F_OWNER": F_OWNER,
    "F_PROTECTED": F_PROTECTED, "F_TAMPERED": F_TAMPERED,
}, module=__name__)

Owner = IntEnum("Owner", {
    "FREE": FREE, "HYPERVISOR": HYPERVISOR, "HSVM": HSVM, "FIRST_VM": FIRST_VM,
}, module=__name__)

Status.__doc__ = "Outcome of an operation; a refusal is a value, never an exception. (engine.md section 4)"
Owner.__doc__ = "Values of `Machine.ownership()`; from FIRST_VM on a VM's owner slot. (engine.md section 3)"

STATUS_NAMES = tuple(status.name for status in Status)
CHECK_NUMBERS = {
    "owner_check": OWNER_CHECK,
    "slot_check": SLOT_CHECK,
    "busy_check": BUSY_CHECK,
    "protected_check": PROTECTED_CHECK,
    "hv_access_check": HV_ACCESS_CHECK,
    "smram_lock": SMRAM_LOCK,
    "context_protection": CONTEXT_PROTECTION,
    "npt_protection": NPT_PROTECTION,
    "npt_root_protection": NPT_ROOT_PROTECTION,
    "dma_check": DMA_CHECK,
    "handle_check": HANDLE_CHECK,
    "merge_consent": MERGE_CONSENT,
    "swap_binding": SWAP_BINDING,
    "swap_version": SWAP_VERSION,
    "zero_on_release": ZERO_ON_RELEASE,
    "zero_on_map": ZERO_ON_MAP,
    "tlb_shootdown": TLB_SHOOTDOWN,
}
CHECK_NAMES = {number: name for name, number in CHECK_NUMBERS.items()}
PERM_BITS = {"r": PERM_R, "rw": PERM_R | PERM_W, "rx": PERM_R | PERM_X, "rwx": PERM_R | PERM_W | PERM_X}
PERM_NAMES = {0: "", **{bits: name for name, bits in PERM_BITS.items()}}
KIND_BITS = {"r": PERM_R, "w": PERM_W, "x": PERM_X}


class InvariantError(AssertionError):
    """A rule of the simulator itself is broken; the message starts with the rule's name."""
