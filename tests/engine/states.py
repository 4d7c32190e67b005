"""One host that holds a frame and a guest page of every kind: where a test of single operations starts.

VM A runs on core 0, VM B on core 1, core 2 is empty, the others wait. The names below are places in that host.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hsvm_engine import ARCHITECTURES, Machine

from .conftest import must

FRAMES, HYPERVISOR_FRAMES, PROTECTED_FRAMES, CORES = 2048, 64, 64, 3
OWNERSHIP_FRAMES = 16 * FRAMES // 4096
PLATFORM_KEY = "5a" * 32
TARGET = "00112233445566778899aabbccddeeff"  # the machine that images for export name, and this one

# Guest pages of A. Those from MERGEABLE on are marked, as all of A's and B's small pages are unless a name says else.
OWN, SHARED_R, SHARED_RW, LENT, BORROWED, SWAPPED, LISTED, READ_ONLY = range(8)
MERGEABLE, UNMARKED, DIFFERENT, RESWAPPED, BORROWED_TOO = range(8, 13)
EMPTY, ALIGNED_EMPTY, FAR = 100, 1024, 1 << 27
TABLE_PAGES = range(40, 48)  # zero pages that the guest's own tables may take; the highest four are taken
HUGE = 512
# Guest pages of B.
B_PLAIN, B_SHARED, B_BORROWS, B_LENDS, B_UNMARKED, B_DIFFERENT, B_SWAPPED, B_HUGE = 8, 1, 3, 4, 9, 10, 5, 512

A_FIRST, B_FIRST, FREE, HYPERVISOR, A_HUGE_FRAME, B_HUGE_FRAME = 256, 320, 400, 10, 512, 1024
MAPPED_GVA, FREE_GVA, FAR_GVA = 0x0000, 0x5000, 1 << 40
PAGE = "c3" * 64


@dataclass
class Host:
    """The machine of `every_state` with its handles and images."""

    machine: Machine
    a: int = 0
    b: int = 0
    idle: int = 0  # off every core, one page, may be deleted or exported
    lender: int = 0  # off every core, lends a page to A's page BORROWED_TOO
    sharer: int = 0  # off every core, shares a page
    swapper: int = 0  # off every core, one page swapped out
    dead: int = 0
    images: dict[str, str] = field(default_factory=dict)

    def do(self, name: str, **fields: Any) -> dict[str, Any]:
        """An operation that has to succeed."""
        return must(self.machine.apply({"op": name, **fields}))

    def status(self, name: str, **fields: Any) -> str:
        return str(self.machine.apply({"op": name, **fields})["status"])

    def restored(self, data: bytes) -> Host:
        """The same host with the machine of a snapshot."""
        return replace(self, machine=Machine.restore(data))

    def frames(self) -> dict[str, int]:
        """A frame in every ownership state. The protected ones lie where Readings 13 puts them."""
        first = FRAMES - PROTECTED_FRAMES
        if ARCHITECTURES[self.machine.architecture].pool_protected:
            context = first + OWNERSHIP_FRAMES + 1
        else:
            context = HYPERVISOR_FRAMES - 2
        located = self.do("npt_locate", vm=self.a, gpn=OWN)
        return {
            "free": FREE,
            "hyper": HYPERVISOR,
            "table": located["mfn"],
            "regs": context,
            "pool": FRAMES - 1,
            "owners": first,
            "own": A_FIRST + OWN,
            "other": B_FIRST + B_PLAIN,
            "sh-r": A_FIRST + SHARED_R,
            "sh-rw": A_FIRST + SHARED_RW,
            "lent": A_FIRST + LENT,
            "borrow": B_FIRST + B_LENDS,
            "unfin": A_FIRST + LISTED,
        }


def start(architecture: str = "hsvm", **more: Any) -> Machine:
    """A machine of the shape that these tests use."""
    protected = PROTECTED_FRAMES if ARCHITECTURES[architecture].protected_region else 0
    options = {"platform_key": PLATFORM_KEY, "machine_id": TARGET} | more.pop("options", {})
    shape = (FRAMES, HYPERVISOR_FRAMES, protected, CORES, architecture)
    return Machine(*shape, options=options, **more)


def give(host: Host, vm: int, pages: range | tuple[int, ...], first: int, perm: str = "rw") -> None:
    """Map page n of `vm` to frame first + n for all `pages`."""
    for gpn in pages:
        host.do("page_map", vm=vm, gpn=gpn, mfn=first + gpn, perm=perm, size=1)


def fill(host: Host, core: int, pages: tuple[int, ...] | range, data: str = PAGE) -> None:
    """The guest on a core writes `data` at the start of its pages and lets everybody merge them."""
    for gpn in pages:
        host.do("guest_write", core=core, gpa=gpn << 12, data=data)
        host.do("guest_mergeable", core=core, gpn=gpn, **{"with": "any"})


def every_state(architecture: str = "hsvm") -> Host:
    """Build the host. The first release of all stops after step 2, so page LISTED of A stays unfinished."""
    host = Host(start(architecture, options={"fault": {"step": 2, "nth": 1}}))
    host.a = host.do("create_vm", vcpus=2)["vm"]
    host.b = host.do("create_vm", vcpus=1)["vm"]
    host.do("context_restore", vm=host.a, vcpu=0, core=0)
    host.do("context_restore", vm=host.b, vcpu=0, core=1)
    _pages_of_a(host)
    _pages_of_b(host)
    host.do("merge", vm=host.a, gpn=LENT, other_vm=host.b, other_gpn=B_BORROWS)
    host.do("merge", vm=host.b, gpn=B_LENDS, other_vm=host.a, other_gpn=BORROWED)
    _waiting_vms(host)
    host.images |= _images(host)
    return host


def _pages_of_a(host: Host) -> None:
    small = (*range(READ_ONLY), *range(MERGEABLE, BORROWED_TOO + 1), *TABLE_PAGES)
    give(host, host.a, small, A_FIRST)
    give(host, host.a, (READ_ONLY,), A_FIRST, "r")
    host.do("page_map", vm=host.a, gpn=HUGE, mfn=A_HUGE_FRAME, perm="rw", size=512)
    fill(host, 0, (*range(READ_ONLY), *range(MERGEABLE, BORROWED_TOO + 1)))
    host.machine.apply({"op": "page_unmap", "vm": host.a, "gpn": LISTED})  # stops: see every_state
    host.do("guest_mergeable", core=0, gpn=UNMARKED, **{"with": "none"})
    host.do("guest_write", core=0, gpa=DIFFERENT << 12, data="77")
    host.do("guest_share", core=0, gpn=SHARED_R, perm="r")
    host.do("guest_share", core=0, gpn=SHARED_RW, perm="rw")
    host.do("guest_map", core=0, gva=MAPPED_GVA, gpn=OWN, perm="r")


def _pages_of_b(host: Host) -> None:
    small = (B_SHARED, B_BORROWS, B_LENDS, B_SWAPPED, B_PLAIN, B_UNMARKED, B_DIFFERENT)
    give(host, host.b, small, B_FIRST)
    host.do("page_map", vm=host.b, gpn=B_HUGE, mfn=B_HUGE_FRAME, perm="rw", size=512)
    fill(host, 1, small)
    host.do("guest_mergeable", core=1, gpn=B_UNMARKED, **{"with": "none"})
    host.do("guest_write", core=1, gpa=B_DIFFERENT << 12, data="88")
    host.do("guest_share", core=1, gpn=B_SHARED, perm="r")


def _waiting_vms(host: Host) -> None:
    """VMs that are on no core: one free of ties, one that lends, one that shares, one with a swapped page, one dead."""
    for number, name in enumerate(("idle", "lender", "sharer", "swapper", "dead")):
        vm = host.do("create_vm", vcpus=1)["vm"]
        setattr(host, name, vm)
        give(host, vm, (0,), 410 + number)
        host.do("context_restore", vm=vm, vcpu=0, core=2)
        fill(host, 2, (0,))
        if name == "sharer":
            host.do("guest_share", core=2, gpn=0, perm="r")
        host.do("context_save", core=2)
    host.do("merge", vm=host.lender, gpn=0, other_vm=host.a, other_gpn=BORROWED_TOO)
    host.do("swap_out", vm=host.swapper, gpn=0)
    host.do("delete_vm", vm=host.dead)


def _images(host: Host) -> dict[str, str]:
    """Swapped pages, newest and old, of A and B, and exported VMs, one of them imported already."""
    old = host.do("swap_out", vm=host.a, gpn=RESWAPPED)["image"]
    host.do("swap_in", vm=host.a, gpn=RESWAPPED, mfn=A_FIRST + RESWAPPED, image=old)
    images = {
        "page": host.do("swap_out", vm=host.a, gpn=SWAPPED)["image"],
        "old": old,
        "reswapped": host.do("swap_out", vm=host.a, gpn=RESWAPPED)["image"],
        "foreign": host.do("swap_out", vm=host.b, gpn=B_SWAPPED)["image"],
    }
    for name, target in (("vm", TARGET), ("vm imported", TARGET), ("vm elsewhere", "ff" * 16)):
        vm = host.do("create_vm", vcpus=1)["vm"]
        give(host, vm, (0,), 420)
        images[name] = host.do("export_vm", vm=vm, target=target)["image"]
    host.do("delete_vm", vm=host.do("import_vm", image=images["vm imported"])["vm"])
    return images


def flipped(image: str, byte: int, bit: int = 0) -> str:
    """The image with one bit changed."""
    data = bytearray.fromhex(image)
    data[byte] ^= 1 << bit
    return data.hex()
