"""Everything that can be wrong with each operation, one thing at a time: what test_priority combines.

A row of a table is one wrong thing: its place in the order (engine.md section 4, refined by sections 5 and 12 and by
the Readings), the status that it has alone, and what causes it. Two rows go together if they touch different fields.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .states import (
    ALIGNED_EMPTY,
    B_BORROWS,
    B_DIFFERENT,
    B_HUGE,
    B_LENDS,
    B_PLAIN,
    B_SHARED,
    B_UNMARKED,
    BORROWED,
    BORROWED_TOO,
    DIFFERENT,
    EMPTY,
    FAR,
    FAR_GVA,
    FRAMES,
    FREE,
    FREE_GVA,
    HUGE,
    HYPERVISOR,
    LENT,
    LISTED,
    MAPPED_GVA,
    MERGEABLE,
    OWN,
    READ_ONLY,
    RESWAPPED,
    SHARED_R,
    SHARED_RW,
    SWAPPED,
    TABLE_PAGES,
    TARGET,
    UNMARKED,
    Host,
    flipped,
)


class Rank(IntEnum):
    """The order in which things are found to be wrong."""

    INPUT, HANDLE, VCPU_OF_VM, ABSENT, BUSY, STATE, SLOT, PROTECTED, OWNER, INTEGRITY, REPLAY, MEMORY, FAULT = range(13)


INPUT, NOVM, OF_VM, GONE, BUSY, STATE, SLOT, PROT, OWNER, INTEGRITY, REPLAY, NOMEM, FAULT = Rank


@dataclass(frozen=True)
class Wrong:
    """One wrong thing: `fields` of the operation, and `setup`, what was done to the host before."""

    rank: Rank
    status: str
    fields: dict[str, Any]
    setup: Callable[[Host], None] | None = None

    def __str__(self) -> str:
        what = self.setup.__name__ if self.setup else ", ".join(f"{k}={v!r:.24}" for k, v in self.fields.items())
        return f"{self.status} ({self.rank.name}: {what})"


def wrong(rank: Rank, status: str, setup: Callable[[Host], None] | None = None, /, **fields: Any) -> Wrong:
    return Wrong(rank, status, fields, setup)


def bad(**values: Any) -> list[Wrong]:
    """Values out of range, each of which is E_INPUT before anything else; a tuple holds several."""
    each = {key: value if isinstance(value, tuple) else (value,) for key, value in values.items()}
    return [Wrong(INPUT, "E_INPUT", {key: value}) for key, choices in each.items() for value in choices]


def frame_not_free(host: Host) -> list[Wrong]:
    frames = host.frames()
    return [
        *bad(mfn=(-1, FRAMES)),
        *(wrong(PROT, "E_PROT", mfn=frames[name]) for name in ("table", "regs", "pool", "owners")),
        *(wrong(OWNER, "E_OWNER", mfn=frames[name]) for name in ("hyper", "own", "other", "lent", "unfin")),
    ]


def nothing_runs() -> list[Wrong]:
    return [*bad(core=(-1, 3)), wrong(GONE, "E_STATE", core=2)]


def no_vm(host: Host, name: str = "vm") -> list[Wrong]:
    return [*bad(**{name: (-1, 1 << 64)}), *(wrong(NOVM, "E_NOVM", **{name: vm}) for vm in (0, host.dead))]


# Setups: conditions that no field can say.


def pool_is_empty(host: Host) -> None:
    """No protected frame is left."""
    for vcpus in (32, 8, 1):
        while host.machine.apply({"op": "create_vm", "vcpus": vcpus})["status"] == "OK":
            pass
    # create_vm of one vcpu takes two frames: one may be left, and a new table takes it
    host.machine.apply({"op": "page_map", "vm": host.a, "gpn": 1 << 20, "mfn": FREE + 1, "perm": "r", "size": 1})


def no_frame_is_free(host: Host) -> None:
    for mfn in range(FRAMES):
        host.machine.apply({"op": "claim", "mfn": mfn})


def time_is_up(host: Host) -> None:
    """The vcpus on cores 0 and 1 were preempted."""
    for core in (0, 1):
        host.do("preempt", core=core, after=1)
        host.do("guest_read", core=core, gpa=MERGEABLE << 12, length=1)


def no_table_page(host: Host) -> None:
    """No page of A is zero any more, but for its tables."""
    for gpn in TABLE_PAGES[:4]:
        host.do("guest_write", core=0, gpa=gpn << 12, data="01")


def marks_are_full(host: Host) -> None:
    """The room for mergeable marks is used up."""
    for gpn in range(HUGE, HUGE + 80):
        for length in (1024, 256, 32, 8, 1):
            many = list(range(1, length + 1))
            if host.status("guest_mergeable", core=0, gpn=gpn, **{"with": many}) == "OK":
                break


Row = tuple[dict[str, Any], str, list[Wrong]]


def vm_operations(host: Host) -> dict[str, Row]:
    return {
        "create_vm": (
            {"vcpus": 1},
            "OK",
            [*bad(vcpus=(0, 65, True, "1")), wrong(NOMEM, "E_NOMEM", pool_is_empty)],
        ),
        "delete_vm": (
            {"vm": host.idle},
            "OK",
            [*no_vm(host), *(wrong(BUSY, "E_BUSY", vm=vm) for vm in (host.a, host.lender))],
        ),
        "export_vm": (
            {"vm": host.idle, "target": TARGET},
            "OK",
            [
                *bad(target=("", TARGET[1:], TARGET.upper(), 7)),
                *no_vm(host),
                *(wrong(BUSY, "E_BUSY", vm=vm) for vm in (host.a, host.lender, host.sharer, host.swapper)),
            ],
        ),
        "import_vm": (
            {"image": host.images["vm"]},
            "OK",
            [
                *bad(image=("", "00" * 64, flipped(host.images["vm"], 0), host.images["page"])),
                wrong(INTEGRITY, "E_INTEGRITY", image=flipped(host.images["vm"], -1)),
                wrong(INTEGRITY, "E_INTEGRITY", image=host.images["vm elsewhere"]),
                wrong(REPLAY, "E_REPLAY", image=host.images["vm imported"]),
                wrong(NOMEM, "E_NOMEM", no_frame_is_free),
                wrong(NOMEM, "E_NOMEM", pool_is_empty),
            ],
        ),
        "context_save": ({"core": 0}, "OK", nothing_runs()),
        "context_restore": (
            {"vm": host.a, "vcpu": 1, "core": 2},
            "OK",
            [
                *bad(core=(-1, 3), vcpu=(-1, 64)),
                *no_vm(host),
                wrong(OF_VM, "E_INPUT", vcpu=2),
                wrong(BUSY, "E_BUSY", core=1),
                wrong(BUSY, "E_BUSY", vcpu=0),
            ],
        ),
        "hv_read_context": (
            {"vm": host.a, "vcpu": 1},
            "F_PROTECTED",
            [*bad(vcpu=64), *no_vm(host), wrong(OF_VM, "E_INPUT", vcpu=2)],
        ),
        "hv_write_context": (
            {"vm": host.a, "vcpu": 1, "registers": {"rax": 1}},
            "F_PROTECTED",
            [*bad(vcpu=64, registers=({"eax": 1}, {"rax": 1 << 64})), *no_vm(host), wrong(OF_VM, "E_INPUT", vcpu=2)],
        ),
        "set_npt_root": ({"vm": host.a, "mfn": HYPERVISOR}, "E_PROT", [*bad(mfn=FRAMES), *no_vm(host)]),
        "hv_flush": ({"core": 2, "vm": host.a}, "OK", [*bad(core=3), *no_vm(host)]),
        "inject": ({"core": 0, "vector": 128}, "OK", [*bad(vector=(-1, 256)), *nothing_runs()]),
        "preempt": ({"core": 0, "after": 5}, "OK", [*bad(after=(0, (1 << 32) + 1)), *nothing_runs()]),
    }


def page_operations(host: Host) -> dict[str, Row]:
    bad_gpn = bad(gpn=(-1, 1 << 36))
    image = host.images["reswapped"]
    return {
        "page_map": (
            {"vm": host.a, "gpn": EMPTY, "mfn": FREE, "perm": "rw", "size": 1},
            "OK",
            [
                *bad(perm=("w", "x", "", "wr"), size=(0, 2, True)),
                wrong(INPUT, "E_INPUT", size=512, gpn=ALIGNED_EMPTY + 1),
                *bad_gpn,
                *no_vm(host),
                wrong(BUSY, "E_BUSY", gpn=LISTED),
                *(wrong(SLOT, "E_EXIST", gpn=gpn) for gpn in (OWN, SWAPPED, HUGE, HUGE + 7)),
                wrong(SLOT, "E_EXIST", gpn=HUGE, size=512, mfn=1536),
                *frame_not_free(host),
                wrong(NOMEM, "E_NOMEM", pool_is_empty, gpn=FAR),
            ],
        ),
        "page_unmap": (
            {"vm": host.a, "gpn": OWN},
            "OK",
            [
                *bad_gpn,
                *no_vm(host),
                *(wrong(BUSY, "E_BUSY", gpn=gpn) for gpn in (LENT, BORROWED)),
                *(wrong(SLOT, "E_NOENT", gpn=gpn) for gpn in (EMPTY, SWAPPED, FAR)),
            ],
        ),
        "balloon": ({"vm": host.a, "pages": 1}, "OK", [*bad(pages=(0, -1)), *no_vm(host)]),
        "npt_locate": ({"vm": host.a, "gpn": OWN}, "OK", [*bad_gpn, *no_vm(host), wrong(SLOT, "E_NOENT", gpn=FAR)]),
        "swap_out": (
            {"vm": host.a, "gpn": OWN},
            "OK",
            [
                *bad_gpn,
                *no_vm(host),
                *(wrong(BUSY, "E_BUSY", gpn=gpn) for gpn in (SHARED_R, SHARED_RW, LENT, BORROWED)),
                *(wrong(SLOT, "E_NOENT", gpn=gpn) for gpn in (EMPTY, SWAPPED, LISTED)),
            ],
        ),
        "swap_in": (
            {"vm": host.a, "gpn": RESWAPPED, "mfn": FREE, "image": image},
            "OK",
            [
                *bad_gpn,
                *bad(image=("", image[2:], image + "00", flipped(image, 0), 5)),
                *no_vm(host),
                wrong(BUSY, "E_BUSY", gpn=LISTED),
                wrong(SLOT, "E_EXIST", gpn=OWN),
                wrong(SLOT, "E_NOENT", gpn=EMPTY),
                *frame_not_free(host),
                wrong(INTEGRITY, "E_INTEGRITY", image=flipped(image, 2000)),
                wrong(INTEGRITY, "E_INTEGRITY", image=host.images["page"]),
                wrong(INTEGRITY, "E_INTEGRITY", image=host.images["foreign"]),
                wrong(REPLAY, "E_REPLAY", image=host.images["old"]),
            ],
        ),
        "merge": (
            {"vm": host.a, "gpn": MERGEABLE, "other_vm": host.b, "other_gpn": B_PLAIN},
            "OK",
            [
                *bad_gpn,
                *bad(other_gpn=1 << 36),
                *no_vm(host),
                *no_vm(host, "other_vm"),
                *(wrong(GONE, "E_NOENT", gpn=gpn) for gpn in (EMPTY, SWAPPED, LISTED)),
                wrong(GONE, "E_NOENT", other_gpn=EMPTY),
                *(wrong(BUSY, "E_BUSY", gpn=gpn) for gpn in (SHARED_R, BORROWED)),
                *(wrong(BUSY, "E_BUSY", other_gpn=gpn) for gpn in (B_SHARED, B_BORROWS, B_LENDS)),
                wrong(STATE, "E_STATE", gpn=HUGE),
                wrong(STATE, "E_STATE", other_gpn=B_HUGE),
                wrong(STATE, "E_STATE", other_vm=host.a, other_gpn=DIFFERENT),
                wrong(OWNER, "E_OWNER", gpn=UNMARKED),
                wrong(OWNER, "E_OWNER", other_gpn=B_UNMARKED),
                wrong(OWNER, "E_OWNER", other_gpn=B_DIFFERENT),
            ],
        ),
        "unmerge": (
            {"vm": host.a, "gpn": BORROWED, "mfn": FREE},
            "OK",
            [
                *bad_gpn,
                *no_vm(host),
                *(wrong(STATE, "E_STATE", gpn=gpn) for gpn in (OWN, LENT, EMPTY, HUGE)),
                *frame_not_free(host),
            ],
        ),
    }


def bus_operations(host: Host) -> dict[str, Row]:
    frames = host.frames()
    place = bad(mfn=(-1, FRAMES), offset=(-1, 4096))
    protected = [wrong(FAULT, "F_PROTECTED", mfn=frames[name]) for name in ("table", "regs", "pool", "owners")]
    foreign = [wrong(FAULT, "F_OWNER", mfn=frames[name]) for name in ("own", "other", "lent", "unfin")]
    unwritten = [wrong(FAULT, "F_OWNER", mfn=frames[name]) for name in ("free", "sh-r")]
    lengths = bad(length=(0, 4097, -1))
    data = bad(data=("", "0", "AA", "0g", "00" * 4097))
    return {
        "claim": ({"mfn": FREE}, "OK", frame_not_free(host)),
        "release": (
            {"mfn": HYPERVISOR},
            "OK",
            [*bad(mfn=FRAMES), wrong(PROT, "E_PROT", mfn=frames["pool"]), wrong(OWNER, "E_OWNER", mfn=FREE)],
        ),
        "hv_read": (
            {"mfn": HYPERVISOR, "offset": 8, "length": 16},
            "OK",
            [*place, *lengths, wrong(INPUT, "E_INPUT", offset=4090), *protected, *foreign],
        ),
        "hv_write": (
            {"mfn": HYPERVISOR, "offset": 8, "data": "00" * 16},
            "OK",
            [*place, *data, wrong(INPUT, "E_INPUT", offset=4090), *protected, *foreign, *unwritten],
        ),
        "dma_read": (
            {"device": 1, "mfn": HYPERVISOR, "offset": 8, "length": 16},
            "OK",
            [*bad(device=(-1, 65536)), *place, *lengths, *protected, *foreign, wrong(FAULT, "F_OWNER", mfn=FREE)],
        ),
        "dma_write": (
            {"device": 1, "mfn": HYPERVISOR, "offset": 8, "data": "00" * 16},
            "OK",
            [*bad(device=(-1, 65536)), *place, *data, *protected, *foreign, *unwritten],
        ),
        "cold_boot_read": ({"mfn": FREE}, "OK", bad(mfn=(-1, FRAMES, "0"))),
    }


def guest_operations(host: Host) -> dict[str, Row]:
    gpa = bad(gpa=(-1, 1 << 48, (1 << 48) - 1))
    absent = [wrong(FAULT, "F_NOT_PRESENT", gpa=gpn << 12) for gpn in (EMPTY, SWAPPED, LISTED)]
    read_only = [wrong(FAULT, "F_PERMISSION", gpa=gpn << 12) for gpn in (READ_ONLY, LENT, BORROWED)]
    core = nothing_runs()
    late = wrong(STATE, "E_STATE", time_is_up)
    gpn = bad(gpn=(-1, 1 << 36))
    return {
        "guest_read": (
            {"core": 0, "gpa": 0, "length": 16},
            "OK",
            [*core, *bad(length=(0, 4097)), *gpa, late, *absent],
        ),
        "guest_write": (
            {"core": 0, "gpa": 0, "data": "00ff"},
            "OK",
            [*core, *bad(data=("", "FF", "00" * 4097)), *gpa, late, *absent, *read_only],
        ),
        "guest_fetch": (
            {"core": 0, "gpa": 0},
            "F_PERMISSION",
            [*core, *bad(gpa=(-1, 1 << 48)), late, *absent],
        ),
        "guest_access": (
            {"core": 0, "gva": MAPPED_GVA, "kind": "r"},
            "OK",
            [
                *core,
                *bad(kind=("", "rw", "R"), gva=1 << 48),
                late,
                wrong(FAULT, "F_NOT_PRESENT", gva=FREE_GVA),
                wrong(FAULT, "F_PERMISSION", kind="w"),
            ],
        ),
        "guest_map": (
            {"core": 0, "gva": FREE_GVA, "gpn": OWN, "perm": "r"},
            "OK",
            [
                *core,
                *gpn,
                *bad(gva=(-1, 1, 1 << 48), perm=("w", "")),
                wrong(SLOT, "E_EXIST", gva=MAPPED_GVA),
                wrong(NOMEM, "E_NOMEM", no_table_page, gva=FAR_GVA),
            ],
        ),
        "guest_unmap": (
            {"core": 0, "gva": MAPPED_GVA},
            "OK",
            [*core, *bad(gva=(-1, 1, 1 << 48)), wrong(SLOT, "E_NOENT", gva=FREE_GVA)],
        ),
        "guest_flush": ({"core": 0, "gva": 0}, "OK", [*core, *bad(gva=(-1, 1 << 48))]),
        "guest_registers": ({"core": 0}, "OK", core),
        "guest_set_registers": (
            {"core": 0, "registers": {"rax": 1}},
            "OK",
            [*core, *bad(registers=(None, {"rax": -1}, {"al": 1}, {"rax": True}))],
        ),
        "guest_share": (
            {"core": 0, "gpn": OWN, "perm": "r"},
            "OK",
            [
                *core,
                *gpn,
                *bad(perm=("w", "rx", "rwx", "")),
                *(wrong(BUSY, "E_BUSY", gpn=page) for page in (LENT, BORROWED)),
                wrong(STATE, "E_STATE", gpn=READ_ONLY, perm="rw"),
                *(wrong(SLOT, "E_EXIST", gpn=page) for page in (SHARED_R, SHARED_RW)),
                *(wrong(SLOT, "E_NOENT", gpn=page) for page in (EMPTY, SWAPPED, LISTED)),
            ],
        ),
        "guest_unshare": (
            {"core": 0, "gpn": SHARED_R},
            "OK",
            [*core, *gpn, *(wrong(SLOT, "E_NOENT", gpn=page) for page in (OWN, EMPTY, SWAPPED))],
        ),
        "guest_mergeable": (
            {"core": 0, "gpn": BORROWED_TOO, "with": [host.b]},
            "OK",
            [
                *core,
                *gpn,
                *bad(**{"with": ("all", 1, [-1], [1 << 64], list(range(1025)))}),
                *(wrong(SLOT, "E_NOENT", gpn=page) for page in (EMPTY, SWAPPED, LISTED)),
                wrong(NOMEM, "E_NOMEM", marks_are_full, **{"with": list(range(1, 1025))}),
            ],
        ),
    }


def table(host: Host) -> dict[str, Row]:
    """For every operation: right fields, the status that they get, and everything that can be wrong."""
    return vm_operations(host) | page_operations(host) | bus_operations(host) | guest_operations(host)
