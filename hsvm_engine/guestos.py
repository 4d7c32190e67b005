"""The guest operating system of a VM: it gives memory to a program on first touch and takes it back when it ends.

Guest-physical memory is laid out as

    0                the boot page: the guest's 16 secret bytes
    1 .. tables      pages that become the guest's page tables, mapped when the machine asks for one (exactly rw)
    tables .. kernel the kernel, touched at boot
    kernel .. pages  memory of the program: pages given back last first, as kernels do, then those never used

The hypervisor's side are two callbacks. `back(gpn, perm)`: map a free frame at this guest page, or say there is none.
`fetch(gpn)`: bring back the page that it had swapped out, or say that it had not.
All pages but tables are mapped rwx, so the machine never takes a page of the program for a table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hsvm_engine.core.machine import Machine

PAGE_BITS = 12
SECRET_BYTES = 16
MASK = (1 << 64) - 1
FETCH = 2

Back = Callable[[int, str], bool]
Fetch = Callable[[int], bool]


class SplitMix:
    """A random source whose whole state is one integer, so that it can be saved with everything else."""

    def __init__(self, state: int) -> None:
        self.state = state & MASK

    def next(self) -> int:
        """64 random bits."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        mixed = ((self.state ^ (self.state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """An integer in 0..limit-1; the bias is below limit / 2^64."""
        return (self.next() * limit) >> 64


def secret_of(name: str, seed: int) -> bytes:
    """The guest's secret: the same for the same VM and seed, and not to be guessed from its name by an attacker."""
    return hashlib.sha256(f"guest secret {seed} {name}".encode()).digest()[:SECRET_BYTES]


class GuestError(Exception):
    """The guest cannot go on: its reason is the text. `fatal` guests cannot even start another process."""

    def __init__(self, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.fatal = fatal


class OutOfFrames(Exception):
    """The host has no free frame for the page that the guest needs; it may have one later."""


class GuestOS:
    """Memory management of one guest. Every method needs one of its vcpus on `core`."""

    def __init__(
        self,
        machine: Machine,
        *,
        pages: int,
        seed: int,
        secret: bytes,
        back: Back,
        fetch: Fetch = lambda gpn: False,
        image: str = "",
    ) -> None:
        self.machine, self.pages, self.secret, self._back, self._fetch = machine, pages, secret, back, fetch
        self.image = image  # guests that boot the same one hold the same kernel pages; "": a kernel of its own
        self.tables = 1 + max(32, pages // 32)
        self.kernel = self.tables + pages // 16
        self.random = SplitMix(seed)
        self.backed: set[int] = set()  # pages of the program and the kernel that have a frame
        self.program: dict[int, tuple[int, str]] = {}  # virtual page -> guest page and permission, oldest first
        self.free: list[int] = []  # guest pages given back by ended processes, longest ago first
        self.fresh = self.kernel  # the lowest guest page that was never used
        self.next_table = 1
        self.processes = 0
        self.cr3 = 0
        self.touched = 0  # first touches of the running process

    def boot(self, core: int) -> None:
        """Write the secret and the kernel into memory."""
        self._fill(core, 0, self.secret)
        for gpn in range(self.tables, self.kernel):
            self._fill(core, gpn, self._kernel_page(gpn - self.tables))

    def _kernel_page(self, number: int) -> bytes:
        return hashlib.sha256(f"{self.image} {number}".encode()).digest() if self.image else self._content()

    def rewrite_secret(self, core: int) -> None:
        """Put the secret into the boot page again, wherever that page lies now."""
        self._fill(core, 0, self.secret)

    def load_tables(self, core: int) -> None:
        """Make the vcpu on `core` use this guest's page tables; vcpus other than the first start without."""
        if self.cr3 and self._registers(core)["cr3"] != self.cr3:
            self._must(self.machine.guest.guest_set_registers(core=core, registers={"cr3": self.cr3}), "loading cr3")

    def fault(self, core: int, status: str, gva: int, kind: int) -> None:
        """Answer the fault that stopped the program, so that the same access can be tried again."""
        page = gva >> PAGE_BITS
        known = self.program.get(page)
        if status == "F_NOT_PRESENT" and known is None:
            self._first_touch(core, page, "rx" if kind == FETCH else "rw")
        elif status == "F_NOT_PRESENT" and known is not None and known[0] not in self.backed:
            self._fill(core, known[0], self._content())  # taken by the balloon: read from disk again
        elif status == "F_NOT_PRESENT" and known is not None and self._fetch(known[0]):
            pass  # the hypervisor had it swapped out
        elif status == "F_PERMISSION" and known is not None and known[1] != "rwx":
            self._must(self.machine.guest.guest_unmap(core=core, gva=page << PAGE_BITS), "widening a page")
            self._map(core, page, known[0], "rwx")
        else:
            raise GuestError(f"{status} at {gva:#x}")

    def exit_process(self, core: int) -> None:
        """End the running process: its pages are free for the next one, the tables stay for it, empty."""
        for page, (gpn, _) in self.program.items():
            self._must(self.machine.guest.guest_unmap(core=core, gva=page << PAGE_BITS), "ending a process")
            self.free.append(gpn)
        self._next_process()

    def abandon_process(self, core: int) -> None:
        """Forget a process whose tables can no longer be trusted; the next one starts with new tables."""
        self.free.extend(gpn for gpn, _ in self.program.values())
        self._must(self.machine.guest.guest_set_registers(core=core, registers={"cr3": 0}), "leaving the tables")
        self.cr3 = 0
        self._next_process()

    def spare(self, out: frozenset[int] = frozenset()) -> int:
        """How many pages the balloon driver can give, beside those that the hypervisor has swapped out."""
        return len(self.lendable(out))

    def lendable(self, out: frozenset[int] = frozenset()) -> list[int]:
        """The pages that hold neither kernel nor tables nor secret, and are in memory."""
        return sorted(gpn for gpn in self.backed if gpn >= self.kernel and gpn not in out)

    def ballooned(self, released: int, out: frozenset[int] = frozenset()) -> None:
        """Note that the machine took the `released` highest pages, which is what its balloon rule takes."""
        held = sorted(self.backed - out)
        self.backed.difference_update(held[len(held) - released :])

    # --- one page ---

    def _first_touch(self, core: int, page: int, perm: str) -> None:
        gpn = self._take(core)
        try:
            self._fill(core, gpn, self._content())
            self._map(core, page, gpn, perm)
        except (OutOfFrames, GuestError):
            self.free.append(gpn)
            raise
        self.touched += 1

    def _take(self, core: int) -> int:
        """A guest page for the program: the one given back last, else a fresh one, else the one that it touched first.
        So a guest holds no more of the host than its largest process needs."""
        if self.free:
            return self.free.pop()
        if self.fresh < self.pages:
            self.fresh += 1
            return self.fresh - 1
        page, (gpn, _) = next(iter(self.program.items()))
        self._must(self.machine.guest.guest_unmap(core=core, gva=page << PAGE_BITS), "paging out")
        del self.program[page]
        return gpn

    def _map(self, core: int, page: int, gpn: int, perm: str) -> None:
        """Enter the page in the guest's page table, with as many new table pages as that takes."""
        self.program.pop(page, None)
        while True:
            result = self.machine.guest.guest_map(core=core, gva=page << PAGE_BITS, gpn=gpn, perm=perm)
            if result["status"] != "E_NOMEM":
                break
            if self.next_table >= self.tables:
                raise GuestError("no memory is left for page tables", fatal=True)
            if not self._back(self.next_table, "rw"):
                raise OutOfFrames
            self.next_table += 1
        self._must(result, "mapping a page")
        self.program[page] = (gpn, perm)
        if not self.cr3:
            self.cr3 = self._registers(core)["cr3"]

    def _fill(self, core: int, gpn: int, data: bytes) -> None:
        """Write into a page as the kernel does; the hypervisor backs it at the first touch."""
        write = self.machine.guest.guest_write
        result = write(core=core, gpa=gpn << PAGE_BITS, data=data.hex())
        if result["status"] == "F_NOT_PRESENT":
            if not self._fetch(gpn):
                if not self._back(gpn, "rwx"):
                    raise OutOfFrames
                self.backed.add(gpn)
            result = write(core=core, gpa=gpn << PAGE_BITS, data=data.hex())
        self._must(result, "writing a page")

    def _content(self) -> bytes:
        return (self.random.next() | 1).to_bytes(8, "little")

    def _registers(self, core: int) -> dict[str, int]:
        result = self.machine.guest.guest_registers(core=core)
        self._must(result, "reading registers")
        registers: dict[str, int] = result["registers"]
        return registers

    def _next_process(self) -> None:
        self.program.clear()
        self.processes += 1
        self.touched = 0

    @staticmethod
    def _must(result: dict[str, Any], what: str) -> None:
        if result["status"] != "OK":
            raise GuestError(f"{what} was answered with {result['status']}", fatal=True)

    # --- saving ---

    def save(self) -> dict[str, Any]:
        """Everything that is not in the machine, as JSON."""
        return {
            "random": self.random.state,
            "backed": sorted(self.backed),
            "program": [[page, gpn, perm] for page, (gpn, perm) in self.program.items()],
            "free": list(self.free),
            "fresh": self.fresh,
            "next_table": self.next_table,
            "processes": self.processes,
            "cr3": self.cr3,
            "touched": self.touched,
        }

    def load(self, saved: dict[str, Any]) -> None:
        """Take up the state that `save` gave."""
        self.random = SplitMix(saved["random"])
        self.backed = set(saved["backed"])
        self.program = {page: (gpn, perm) for page, gpn, perm in saved["program"]}
        self.free = list(saved["free"])
        self.fresh, self.next_table = saved["fresh"], saved["next_table"]
        self.processes, self.cr3, self.touched = saved["processes"], saved["cr3"], saved["touched"]
