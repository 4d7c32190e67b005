"""Typed ports. What a port cannot say, its holder cannot do: the ports are the threat model. (engine.md section 5)

Each method is one operation of `Machine.apply` and gives the same result dict. Bytes may be given as `bytes`; results
hold hex.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hsvm_engine.core.machine import Machine

Result = dict[str, Any]


def _hex(data: bytes | str) -> str:
    return data.hex() if isinstance(data, bytes | bytearray | memoryview) else data


def _partners(partners: str | Sequence[int]) -> str | Sequence[int]:
    return list(partners) if isinstance(partners, tuple) else partners


class Port:
    """One side of a machine."""

    __slots__ = ("_machine",)

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def _do(self, op: str, **fields: Any) -> Result:
        return self._machine.apply({"op": op, **fields})


class HypervisorPort(Port):
    """What a hypervisor, honest or compromised, can ask."""

    __slots__ = ()

    def create_vm(self, *, vcpus: int) -> Result:
        return self._do("create_vm", vcpus=vcpus)

    def delete_vm(self, *, vm: int) -> Result:
        return self._do("delete_vm", vm=vm)

    def page_map(self, *, vm: int, gpn: int, mfn: int, perm: str = "rw", size: int = 1) -> Result:
        return self._do("page_map", vm=vm, gpn=gpn, mfn=mfn, perm=perm, size=size)

    def page_unmap(self, *, vm: int, gpn: int) -> Result:
        return self._do("page_unmap", vm=vm, gpn=gpn)

    def balloon(self, *, vm: int, pages: int) -> Result:
        return self._do("balloon", vm=vm, pages=pages)

    def swap_out(self, *, vm: int, gpn: int) -> Result:
        return self._do("swap_out", vm=vm, gpn=gpn)

    def swap_in(self, *, vm: int, gpn: int, mfn: int, image: bytes | str) -> Result:
        return self._do("swap_in", vm=vm, gpn=gpn, mfn=mfn, image=_hex(image))

    def claim(self, *, mfn: int) -> Result:
        return self._do("claim", mfn=mfn)

    def release(self, *, mfn: int) -> Result:
        return self._do("release", mfn=mfn)

    def context_save(self, *, core: int) -> Result:
        return self._do("context_save", core=core)

    def context_restore(self, *, vm: int, vcpu: int, core: int) -> Result:
        return self._do("context_restore", vm=vm, vcpu=vcpu, core=core)

    def hv_read(self, *, mfn: int, offset: int, length: int) -> Result:
        return self._do("hv_read", mfn=mfn, offset=offset, length=length)

    def hv_write(self, *, mfn: int, offset: int, data: bytes | str) -> Result:
        return self._do("hv_write", mfn=mfn, offset=offset, data=_hex(data))

    def hv_read_context(self, *, vm: int, vcpu: int) -> Result:
        return self._do("hv_read_context", vm=vm, vcpu=vcpu)

    def hv_write_context(self, *, vm: int, vcpu: int, registers: Mapping[str, int]) -> Result:
        return self._do("hv_write_context", vm=vm, vcpu=vcpu, registers=dict(registers))

    def set_npt_root(self, *, vm: int, mfn: int) -> Result:
        return self._do("set_npt_root", vm=vm, mfn=mfn)

    def export_vm(self, *, vm: int, target: bytes | str) -> Result:
        return self._do("export_vm", vm=vm, target=_hex(target))

    def import_vm(self, *, image: bytes | str) -> Result:
        return self._do("import_vm", image=_hex(image))

    def merge(self, *, vm: int, gpn: int, other_vm: int, other_gpn: int) -> Result:
        return self._do("merge", vm=vm, gpn=gpn, other_vm=other_vm, other_gpn=other_gpn)

    def unmerge(self, *, vm: int, gpn: int, mfn: int) -> Result:
        return self._do("unmerge", vm=vm, gpn=gpn, mfn=mfn)

    def hv_flush(self, *, core: int, vm: int) -> Result:
        return self._do("hv_flush", core=core, vm=vm)

    def npt_locate(self, *, vm: int, gpn: int) -> Result:
        return self._do("npt_locate", vm=vm, gpn=gpn)

    def inject(self, *, core: int, vector: int) -> Result:
        return self._do("inject", core=core, vector=vector)

    def preempt(self, *, core: int, after: int) -> Result:
        return self._do("preempt", core=core, after=after)


class GuestPort(Port):
    """What the guest whose vcpu is on a core can do."""

    __slots__ = ()

    def guest_read(self, *, core: int, gpa: int, length: int) -> Result:
        return self._do("guest_read", core=core, gpa=gpa, length=length)

    def guest_write(self, *, core: int, gpa: int, data: bytes | str) -> Result:
        return self._do("guest_write", core=core, gpa=gpa, data=_hex(data))

    def guest_fetch(self, *, core: int, gpa: int) -> Result:
        return self._do("guest_fetch", core=core, gpa=gpa)

    def guest_map(self, *, core: int, gva: int, gpn: int, perm: str = "rw") -> Result:
        return self._do("guest_map", core=core, gva=gva, gpn=gpn, perm=perm)

    def guest_unmap(self, *, core: int, gva: int) -> Result:
        return self._do("guest_unmap", core=core, gva=gva)

    def guest_access(self, *, core: int, gva: int, kind: str) -> Result:
        return self._do("guest_access", core=core, gva=gva, kind=kind)

    def guest_share(self, *, core: int, gpn: int, perm: str = "rw") -> Result:
        return self._do("guest_share", core=core, gpn=gpn, perm=perm)

    def guest_unshare(self, *, core: int, gpn: int) -> Result:
        return self._do("guest_unshare", core=core, gpn=gpn)

    def guest_mergeable(self, *, core: int, gpn: int, partners: str | Sequence[int]) -> Result:
        """`partners` is the operation's field `with`: "none", "any", or the handles of the VMs to merge with."""
        return self._do("guest_mergeable", core=core, gpn=gpn, **{"with": _partners(partners)})

    def guest_flush(self, *, core: int, gva: int) -> Result:
        return self._do("guest_flush", core=core, gva=gva)

    def guest_registers(self, *, core: int) -> Result:
        return self._do("guest_registers", core=core)

    def guest_set_registers(self, *, core: int, registers: Mapping[str, int]) -> Result:
        return self._do("guest_set_registers", core=core, registers=dict(registers))


class DevicePort(Port):
    """What a device on the bus can do."""

    __slots__ = ()

    def dma_read(self, *, device: int, mfn: int, offset: int, length: int) -> Result:
        return self._do("dma_read", device=device, mfn=mfn, offset=offset, length=length)

    def dma_write(self, *, device: int, mfn: int, offset: int, data: bytes | str) -> Result:
        return self._do("dma_write", device=device, mfn=mfn, offset=offset, data=_hex(data))


class PhysicalPort(Port):
    """What somebody with the machine in their hands can do; the paper's threat model excludes it."""

    __slots__ = ()

    def cold_boot_read(self, *, mfn: int) -> Result:
        return self._do("cold_boot_read", mfn=mfn)
