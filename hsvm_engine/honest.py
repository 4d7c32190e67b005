"""The honest hypervisor of a run: it backs pages, takes memory back and deletes VMs, and leaves nothing behind.

Where the architecture neither shoots down nor wipes by itself, it does both, as a careful hypervisor of today would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.guestos import GuestError, SplitMix
from hsvm_engine.step import FREE, Slots

if TYPE_CHECKING:
    from hsvm_engine.core.machine import Machine

PAGE_OF_ZEROS = bytes(4_096).hex()


class Hypervisor:
    """Works on one machine; its own state is the allocator's."""

    def __init__(self, machine: Machine, *, seed: int) -> None:
        self.machine, self.frames = machine, ExtentAllocator(seed)
        self.protected = ARCHITECTURES[machine.architecture].protected_region

    def must(self, op: str, **fields: Any) -> dict[str, Any]:
        """The result of an operation that an honest hypervisor is never refused."""
        result: dict[str, Any] = self.machine.apply({"op": op, **fields})
        if result["status"] != "OK":
            raise RuntimeError(f"{op} {fields} was answered with {result}")
        return result

    def back(self, handle: int, gpn: int, perm: str) -> bool:
        """Give a guest page a free frame; False if the host has none, or none for the nested table."""
        mfn = self.free_frame(handle)
        if mfn is None:
            return False
        result = self.machine.hypervisor.page_map(vm=handle, gpn=gpn, mfn=mfn, perm=perm, size=1)
        if result["status"] not in ("OK", "E_NOMEM"):
            raise GuestError(f"guest page {gpn} could not be backed: {result['status']}", fatal=True)
        return bool(result["status"] == "OK")

    def free_frame(self, handle: int) -> int | None:
        """A free frame for this VM, or None."""
        return self.frames.take(self.machine.ownership(), handle)

    def balloon(self, handle: int, pages: int) -> int:
        """Take up to so many pages from the guest's balloon; how many it gave."""
        if pages < 1:
            return 0
        before = self._owned(handle)
        released = int(self.must("balloon", vm=handle, pages=pages)["released"])
        self.shoot_down(handle)
        self.wipe(before)
        return released

    def delete(self, handle: int) -> None:
        """Delete a VM that is on no core."""
        before = self._owned(handle)
        self.shoot_down(handle)
        self.must("delete_vm", vm=handle)
        self.wipe(before)
        self.frames.forget(handle)

    def living(self) -> list[int]:
        """The handles of all VMs of the machine, those of attackers included."""
        return [handle for handle, _ in self.machine.dump()["vms"]]

    def take_away(self, handle: int, gpn: int) -> None:
        """Unmap a page that an attack may have harmed, wherever it shows, and wipe what lies about."""
        self.machine.hypervisor.page_unmap(vm=handle, gpn=gpn)
        self.shoot_down(handle)
        self.wipe(np.array(self.machine.dump()["nonzero"], np.intp))

    def shoot_down(self, handle: int) -> None:
        """Where the architecture does not do it: every core forgets the VM's translations."""
        if not self.protected:
            for core in range(self.machine.cores):
                self.must("hv_flush", core=core, vm=handle)

    def wipe(self, frames: npt.NDArray[np.intp]) -> None:
        """Where the architecture does not do it: zero those of these frames that are free now."""
        if not self.protected:
            for mfn in frames[self.machine.ownership()[frames] == FREE]:
                self.must("hv_write", mfn=int(mfn), offset=0, data=PAGE_OF_ZEROS)

    def _owned(self, handle: int) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.machine.ownership() == self.machine.slot_of(handle))


class ExtentAllocator:
    """Chooses free frames the way a busy host does: each VM fills extents of 4 to 64 frames that lie scattered.

    It keeps no list of free frames: the machine's ownership table is the only truth.
    """

    def __init__(self, seed: int) -> None:
        self.random = SplitMix(seed)
        self.extents: dict[int, list[int]] = {}  # handle -> next frame, end

    def take(self, owners: Slots, handle: int) -> int | None:
        """A free frame for this VM, or None if the host has none."""
        extent = self.extents.setdefault(handle, [0, 0])
        while extent[0] < extent[1]:
            mfn = extent[0]
            extent[0] += 1
            if owners[mfn] == 0:
                return mfn
        return self._open(owners, extent)

    def _open(self, owners: Slots, extent: list[int]) -> int | None:
        frames = len(owners)
        size = 4 << self.random.below(5)
        for _ in range(16):
            start = self.random.below(frames // size) * size
            if not owners[start : start + size].any():
                extent[:] = [start + 1, start + size]
                return start
        start = self.random.below(frames)  # crowded: whatever comes next
        for first, last in ((start, frames), (0, start)):
            free = (owners[first:last] == 0).nonzero()[0]
            if len(free):
                mfn = first + int(free[0])
                extent[:] = [mfn + 1, min(mfn + 4, frames)]
                return mfn
        return None

    def forget(self, handle: int) -> None:
        """Forget the extent of a VM that is gone."""
        self.extents.pop(handle, None)

    def save(self) -> dict[str, Any]:
        return {"random": self.random.state, "extents": [[handle, *extent] for handle, extent in self.extents.items()]}

    def load(self, saved: dict[str, Any]) -> None:
        self.random = SplitMix(saved["random"])
        self.extents = {handle: [first, last] for handle, first, last in saved["extents"]}
