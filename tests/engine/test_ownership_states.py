"""Every operation that names a frame or a guest page, from every ownership state: one table per row.

The columns are the frames of `Host.frames`, the cells the statuses in short. A page operation is tried on A's page
that lies in the frame; where the state has no page of A there is a dot.
"""

from collections.abc import Callable
from typing import Any

import pytest

from hsvm_engine import Machine

from .states import (
    B_PLAIN,
    BORROWED,
    EMPTY,
    FREE,
    LENT,
    LISTED,
    OWN,
    RESWAPPED,
    SHARED_R,
    SHARED_RW,
    Host,
    every_state,
)

STATUSES = {
    **{"OK": "OK", "OWNER": "E_OWNER", "PROT": "E_PROT", "EXIST": "E_EXIST", "NOENT": "E_NOENT", "BUSY": "E_BUSY"},
    **{"STATE": "E_STATE", "F-OWN": "F_OWNER", "F-PROT": "F_PROTECTED", "F-PERM": "F_PERMISSION"},
    "ABSENT": "F_NOT_PRESENT",
}

HSVM = """
                free   hyper  table  pool   owners regs   own    other  sh-r   sh-rw  lent   borrow unfin
page_map        OK     OWNER  PROT   PROT   PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
swap_in         OK     OWNER  PROT   PROT   PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
unmerge_to      OK     OWNER  PROT   PROT   PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
claim           OK     OWNER  PROT   PROT   PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
release         OWNER  OK     PROT   PROT   PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
set_npt_root    PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT   PROT
hv_read         OK     OK     F-PROT F-PROT F-PROT F-PROT F-OWN  F-OWN  OK     OK     F-OWN  F-OWN  F-OWN
hv_write        F-OWN  OK     F-PROT F-PROT F-PROT F-PROT F-OWN  F-OWN  F-OWN  OK     F-OWN  F-OWN  F-OWN
dma_read        F-OWN  OK     F-PROT F-PROT F-PROT F-PROT F-OWN  F-OWN  OK     OK     F-OWN  F-OWN  F-OWN
dma_write       F-OWN  OK     F-PROT F-PROT F-PROT F-PROT F-OWN  F-OWN  F-OWN  OK     F-OWN  F-OWN  F-OWN
cold_boot_read  OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
page_unmap      .      .      .      .      .      .      OK     .      OK     OK     BUSY   BUSY   OK
page_map_over   .      .      .      .      .      .      EXIST  .      EXIST  EXIST  EXIST  EXIST  BUSY
swap_out        .      .      .      .      .      .      OK     .      BUSY   BUSY   BUSY   BUSY   NOENT
merge_lender    .      .      .      .      .      .      OK     .      BUSY   BUSY   OK     BUSY   NOENT
merge_borrower  .      .      .      .      .      .      OK     .      BUSY   BUSY   BUSY   BUSY   NOENT
unmerge         .      .      .      .      .      .      STATE  .      STATE  STATE  STATE  OK     STATE
guest_share     .      .      .      .      .      .      OK     .      EXIST  EXIST  BUSY   BUSY   NOENT
guest_unshare   .      .      .      .      .      .      NOENT  .      OK     OK     NOENT  NOENT  NOENT
guest_mergeable .      .      .      .      .      .      OK     .      OK     OK     OK     OK     NOENT
guest_read      .      .      .      .      .      .      OK     .      OK     OK     OK     OK     ABSENT
guest_write     .      .      .      .      .      .      OK     .      OK     OK     F-PERM F-PERM ABSENT
"""

# The handler checks what changes tables, as above; tables and contexts lie in the hyper isor's frames, where loads,
# stores and DMA go unseen, and "pool" is a frame of SMRAM.
SMM = (
    HSVM
    + """
page_map        OK     OWNER  OWNER  PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
swap_in         OK     OWNER  OWNER  PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
unmerge_to      OK     OWNER  OWNER  PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
claim           OK     OWNER  OWNER  PROT   PROT   OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER  OWNER
set_npt_root    OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
hv_read         OK     OK     OK     F-PROT F-PROT OK     OK     OK     OK     OK     OK     OK     OK
hv_write        OK     OK     OK     F-PROT F-PROT OK     OK     OK     OK     OK     OK     OK     OK
dma_read        OK     OK     OK     F-PROT F-PROT OK     OK     OK     OK     OK     OK     OK     OK
dma_write       OK     OK     OK     F-PROT F-PROT OK     OK     OK     OK     OK     OK     OK     OK
"""
)

# Everything that the hyper isor asks is done. What stays: an empty slot is E_NOENT, merges have their states, and the
# guest's own operations answer as ever. The faulted release of page LISTED has just happened.
NESTED = """
                free   hyper  table  pool   owners regs   own    other  sh-r   sh-rw  lent   borrow unfin
page_map        OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
swap_in         OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
unmerge_to      OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
claim           OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
release         OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
set_npt_root    OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
hv_read         OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
hv_write        OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
dma_read        OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
dma_write       OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
cold_boot_read  OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK     OK
page_unmap      .      .      .      .      .      .      OK     .      OK     OK     OK     OK     NOENT
page_map_over   .      .      .      .      .      .      OK     .      OK     OK     OK     OK     OK
swap_out        .      .      .      .      .      .      OK     .      OK     OK     OK     OK     NOENT
merge_lender    .      .      .      .      .      .      OK     .      BUSY   BUSY   OK     BUSY   NOENT
merge_borrower  .      .      .      .      .      .      OK     .      BUSY   BUSY   BUSY   BUSY   NOENT
unmerge         .      .      .      .      .      .      STATE  .      STATE  STATE  STATE  OK     STATE
guest_share     .      .      .      .      .      .      OK     .      EXIST  EXIST  BUSY   BUSY   NOENT
guest_unshare   .      .      .      .      .      .      NOENT  .      OK     OK     NOENT  NOENT  NOENT
guest_mergeable .      .      .      .      .      .      OK     .      OK     OK     OK     OK     NOENT
guest_read      .      .      .      .      .      .      OK     .      OK     OK     OK     OK     OK
guest_write     .      .      .      .      .      .      OK     .      OK     OK     OK     OK     OK
"""

PAGES = {
    "own": OWN,
    "sh-r": SHARED_R,
    "sh-rw": SHARED_RW,
    "lent": LENT,
    "borrow": BORROWED,
    "unfin": LISTED,
}
Make = Callable[[Host, int], dict[str, Any]]

# How an operation is tried: on a frame, or on a guest page of A.
ON_FRAME: dict[str, Make] = {
    "page_map": lambda h, mfn: {"op": "page_map", "vm": h.a, "gpn": EMPTY, "mfn": mfn, "perm": "rw", "size": 1},
    "swap_in": lambda h, mfn: {
        "op": "swap_in",
        "vm": h.a,
        "gpn": RESWAPPED,
        "mfn": mfn,
        "image": h.images["reswapped"],
    },
    "unmerge_to": lambda h, mfn: {"op": "unmerge", "vm": h.a, "gpn": BORROWED, "mfn": mfn},
    "claim": lambda h, mfn: {"op": "claim", "mfn": mfn},
    "release": lambda h, mfn: {"op": "release", "mfn": mfn},
    "set_npt_root": lambda h, mfn: {"op": "set_npt_root", "vm": h.a, "mfn": mfn},
    "hv_read": lambda h, mfn: {"op": "hv_read", "mfn": mfn, "offset": 0, "length": 4096},
    "hv_write": lambda h, mfn: {"op": "hv_write", "mfn": mfn, "offset": 2048, "data": "00"},
    "dma_read": lambda h, mfn: {"op": "dma_read", "device": 0, "mfn": mfn, "offset": 0, "length": 16},
    "dma_write": lambda h, mfn: {"op": "dma_write", "device": 0, "mfn": mfn, "offset": 2048, "data": "00"},
    "cold_boot_read": lambda h, mfn: {"op": "cold_boot_read", "mfn": mfn},
}
ON_PAGE: dict[str, Make] = {
    "page_unmap": lambda h, gpn: {"op": "page_unmap", "vm": h.a, "gpn": gpn},
    "page_map_over": lambda h, gpn: {"op": "page_map", "vm": h.a, "gpn": gpn, "mfn": FREE, "perm": "r", "size": 1},
    "swap_out": lambda h, gpn: {"op": "swap_out", "vm": h.a, "gpn": gpn},
    "merge_lender": lambda h, gpn: {"op": "merge", "vm": h.a, "gpn": gpn, "other_vm": h.b, "other_gpn": B_PLAIN},
    "merge_borrower": lambda h, gpn: {"op": "merge", "vm": h.b, "gpn": B_PLAIN, "other_vm": h.a, "other_gpn": gpn},
    "unmerge": lambda h, gpn: {"op": "unmerge", "vm": h.a, "gpn": gpn, "mfn": FREE},
    "guest_share": lambda h, gpn: {"op": "guest_share", "core": 0, "gpn": gpn, "perm": "r"},
    "guest_unshare": lambda h, gpn: {"op": "guest_unshare", "core": 0, "gpn": gpn},
    "guest_mergeable": lambda h, gpn: {"op": "guest_mergeable", "core": 0, "gpn": gpn, "with": "none"},
    "guest_read": lambda h, gpn: {"op": "guest_read", "core": 0, "gpa": gpn << 12, "length": 16},
    "guest_write": lambda h, gpn: {"op": "guest_write", "core": 0, "gpa": (gpn << 12) + 2048, "data": "00"},
}


def cells(text: str) -> dict[tuple[str, str], str]:
    """A table as {(operation, state): status}; a row that is written again replaces the first."""
    heading, *rows = (line.split() for line in text.strip().splitlines() if line.strip())
    return {
        (name, state): STATUSES[cell]
        for name, *row in rows
        for state, cell in zip(heading, row, strict=True)
        if cell != "."
    }


TABLES = {"hsvm": cells(HSVM), "hsvm-smm": cells(SMM), "nested": cells(NESTED)}


@pytest.mark.parametrize("architecture", TABLES)
def test_every_operation_from_every_ownership_state(architecture: str) -> None:
    host = every_state(architecture)
    frames = host.frames()
    before, data = host.machine.digest(), host.machine.snapshot()
    found = {}
    for name, state in TABLES[architecture]:
        op = ON_FRAME[name](host, frames[state]) if name in ON_FRAME else ON_PAGE[name](host, PAGES[state])
        fresh = host.restored(data)
        found[name, state] = status = fresh.machine.apply(op)["status"]
        if status != "OK":
            assert fresh.machine.digest() == before, (name, state)
        fresh.machine.check_invariants()
    assert found == TABLES[architecture]


def test_the_tables_know_every_operation_and_state() -> None:
    for table in TABLES.values():
        assert {name for name, _ in table} == ON_FRAME.keys() | ON_PAGE.keys()
        assert {state for _, state in table} == every_state().frames().keys()


@pytest.mark.parametrize("architecture", ["hsvm", "hsvm-smm"])
def test_no_operation_makes_a_transition_that_must_never_occur(architecture: str) -> None:
    """The rows of engine.md section 3 that must never occur, looked for after every operation of the table."""
    host = every_state(architecture)
    frames, data = host.frames(), host.machine.snapshot()
    before = host.machine.ownership().copy()
    for name, state in TABLES[architecture]:
        op = ON_FRAME[name](host, frames[state]) if name in ON_FRAME else ON_PAGE[name](host, PAGES[state])
        machine = Machine.restore(data)
        machine.apply(op)
        after = machine.ownership()
        for mfn in (before != after).nonzero()[0]:
            pair = {int(before[mfn]), int(after[mfn])}
            assert 0 in pair and 2 not in pair, (name, state, int(mfn), pair)
