"""What one step of a run changed: the only thing that leaves the loop, and all that an onlooker needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

FREE, HYPERVISOR, HSVM, FIRST_VM = 0, 1, 2, 3
STATES = ("ok", "STALE", "PENDING")
PERMISSIONS = (("r", 1), ("w", 2), ("x", 4))

# One way of a TLB. `index` counts core by core, in a core first the ways of level 1, then those of level 2.
WAY = np.dtype(
    [
        ("index", "<u4"),
        ("valid", "u1"),
        ("dim", "u1"),  # 1: the vpn is guest-physical, 2: guest-virtual
        ("slot", "<u2"),  # of the VM in this run
        ("vpn", "<u8"),
        ("mfn", "<u4"),
        ("size", "<u2"),  # pages of 4 KiB
        ("perm", "u1"),
        ("age", "<u4"),
        ("state", "u1"),  # index into STATES
    ]
)

Frames = npt.NDArray[np.uint32]
Slots = npt.NDArray[np.uint16]
Ways = npt.NDArray[np.void]


@dataclass(frozen=True)
class Geometry:
    """Size of the TLBs of a machine."""

    cores: int
    l1_sets: int
    l1_ways: int
    l2_sets: int
    l2_ways: int

    @property
    def per_core(self) -> int:
        return self.l1_sets * self.l1_ways + self.l2_sets * self.l2_ways

    @property
    def total(self) -> int:
        return self.cores * self.per_core

    def place(self, index: int) -> tuple[int, int, int, int]:
        """Core, level, set and way of a TLB entry's index."""
        core, rest = divmod(index, self.per_core)
        first = self.l1_sets * self.l1_ways
        level, rest, ways = (1, rest, self.l1_ways) if rest < first else (2, rest - first, self.l2_ways)
        return core, level, rest // ways, rest % ways

    def to_dict(self) -> dict[str, Any]:
        return {
            "cores": self.cores,
            "l1": {"sets": self.l1_sets, "ways": self.l1_ways},
            "l2": {"sets": self.l2_sets, "ways": self.l2_ways},
        }

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Geometry:
        l1, l2 = value["l1"], value["l2"]
        return Geometry(value["cores"], l1["sets"], l1["ways"], l2["sets"], l2["ways"])


@dataclass(frozen=True)
class Step:
    """The state after a step where it differs from the one before. Slots are the run's: never used twice in it."""

    number: int
    op: int  # number of the last operation
    changed: Frames  # sorted
    owner: Slots  # of each changed frame
    tlb: Ways  # the ways that changed, sorted by index
    counters: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    violations: Frames = field(default_factory=lambda: np.empty(0, np.uint32))  # all that stand, sorted
    vms: list[dict[str, Any]] = field(default_factory=list)  # slot, byte, letter, name, handle: all that live


@cache
def permission(bits: int) -> str:
    """`rw` for 3: the letters of a permission."""
    return "".join(letter for letter, bit in PERMISSIONS if bits & bit)
