"""The closed list of operations: port, fields, results. Nothing else can be said, by an attack file or anybody.

The table follows engine.md section 5 and grows only together with the machine: a name that stands here is done by it.
"""

from dataclasses import dataclass

INT, HEX, WORD, REGISTERS, PARTNERS = "integer", "hex bytes", "word", "registers", "partners"

REGISTER_NAMES = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *(f"r{number}" for number in range(8, 16)),
    *("rip", "rflags", "cr3"),
)


@dataclass(frozen=True)
class Operation:
    """One operation: the port that may do it, the kind of each field, the kind of each result."""

    port: str
    fields: dict[str, str]
    results: dict[str, str]


KINDS = {
    "data": HEX,
    "image": HEX,
    "target": HEX,
    "perm": WORD,
    "kind": WORD,
    "hit": WORD,
    "registers": REGISTERS,
    "with": PARTNERS,
}


def _operation(port: str, fields: str, results: str = "") -> Operation:
    return Operation(
        port,
        {name: KINDS.get(name, INT) for name in fields.split()},
        {name: KINDS.get(name, INT) for name in results.split()},
    )


OPERATIONS: dict[str, Operation] = {
    "create_vm": _operation("hypervisor", "vcpus", "vm"),
    "delete_vm": _operation("hypervisor", "vm"),
    "page_map": _operation("hypervisor", "vm gpn mfn perm size"),
    "page_unmap": _operation("hypervisor", "vm gpn"),
    "balloon": _operation("hypervisor", "vm pages", "released"),
    "swap_out": _operation("hypervisor", "vm gpn", "image"),
    "swap_in": _operation("hypervisor", "vm gpn mfn image"),
    "context_save": _operation("hypervisor", "core"),
    "context_restore": _operation("hypervisor", "vm vcpu core"),
    "claim": _operation("hypervisor", "mfn"),
    "release": _operation("hypervisor", "mfn"),
    "hv_read": _operation("hypervisor", "mfn offset length", "data"),
    "hv_write": _operation("hypervisor", "mfn offset data"),
    "hv_read_context": _operation("hypervisor", "vm vcpu", "registers"),
    "hv_write_context": _operation("hypervisor", "vm vcpu registers"),
    "set_npt_root": _operation("hypervisor", "vm mfn"),
    "export_vm": _operation("hypervisor", "vm target", "image"),
    "import_vm": _operation("hypervisor", "image", "vm"),
    "merge": _operation("hypervisor", "vm gpn other_vm other_gpn", "freed"),
    "unmerge": _operation("hypervisor", "vm gpn mfn"),
    "hv_flush": _operation("hypervisor", "core vm"),
    "npt_locate": _operation("hypervisor", "vm gpn", "mfn offset"),
    "inject": _operation("hypervisor", "core vector"),
    "preempt": _operation("hypervisor", "core after"),
    "guest_read": _operation("guest", "core gpa length", "data"),
    "guest_write": _operation("guest", "core gpa data"),
    "guest_fetch": _operation("guest", "core gpa"),
    "guest_map": _operation("guest", "core gva gpn perm"),
    "guest_unmap": _operation("guest", "core gva"),
    "guest_access": _operation("guest", "core gva kind", "gpa mfn hit references"),
    "guest_registers": _operation("guest", "core", "registers"),
    "guest_set_registers": _operation("guest", "core registers"),
    "guest_share": _operation("guest", "core gpn perm"),
    "guest_unshare": _operation("guest", "core gpn"),
    "guest_mergeable": _operation("guest", "core gpn with"),
    "guest_flush": _operation("guest", "core gva"),
    "dma_read": _operation("device", "device mfn offset length", "data done"),
    "dma_write": _operation("device", "device mfn offset data", "done"),
    "cold_boot_read": _operation("physical", "mfn", "data"),
}

PORTS = ("hypervisor", "guest", "device", "physical")
