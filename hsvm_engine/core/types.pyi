"""Public enums and names (engine.md sections 3 to 5)."""

from enum import IntEnum

class Status(IntEnum):
    """Outcome of an operation; a refusal is a value, never an exception. (engine.md section 4)"""

    OK = 0
    E_INPUT = 1
    E_NOVM = 2
    E_STATE = 3
    E_BUSY = 4
    E_EXIST = 5
    E_NOENT = 6
    E_PROT = 7
    E_OWNER = 8
    E_INTEGRITY = 9
    E_REPLAY = 10
    E_NOMEM = 11
    F_NOT_PRESENT = 12
    F_PERMISSION = 13
    F_OWNER = 14
    F_PROTECTED = 15
    F_TAMPERED = 16

class Owner(IntEnum):
    """Values of `Machine.ownership()`; from FIRST_VM on the value is a VM's owner slot. (engine.md section 3)"""

    FREE = 0
    HYPERVISOR = 1
    HSVM = 2
    FIRST_VM = 3

class InvariantError(AssertionError):
    """A rule of the simulator itself is broken; the message starts with the rule's name. (engine.md section 9)"""

STATUS_NAMES: tuple[str, ...]
CHECK_NUMBERS: dict[str, int]
CHECK_NAMES: dict[int, str]
PERM_BITS: dict[str, int]
PERM_NAMES: dict[int, str]
KIND_BITS: dict[str, int]
