"""What the slow twin is made of: a VM as plain dicts, and refusals. Written from engine.md, never from the machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

FREE, HYPERVISOR, HSVM = "free", "hypervisor", "hsvm"
PAGE = 4096
HUGE = 512  # 4 KiB pages of a 2 MiB leaf
Op = dict[str, Any]
Owner = str | int  # a VM's frames are owned by its handle
Leaf = tuple[int, str]  # machine frame, permission
Page = tuple[int, int]  # handle, guest page


class Refused(Exception):
    """A refusal: its status. Nothing has changed."""


def refuse(status: str) -> NoReturn:
    raise Refused(status)


@dataclass
class Vm:
    """One VM. A nested page table is a dict of leaves; where its tables lie is remembered beside it."""

    handle: int
    saved: list[dict[str, int]]  # registers of each vcpu
    context_frames: list[int]
    tables: dict[tuple[int, int], int]  # (level, gpn >> 9 * level) to frame; (4, 0) is the root
    pages: dict[int, Leaf] = field(default_factory=dict)  # 4 KiB leaves
    large: dict[int, Leaf] = field(default_factory=dict)  # 2 MiB leaves, by their first guest page
    records: dict[int, tuple[int, str]] = field(default_factory=dict)  # swapped pages: version, permission
    swaps: int = 0  # the version given last
    shares: dict[int, str] = field(default_factory=dict)  # by the guest, to the hypervisor
    marks: dict[int, str | frozenset[int]] = field(default_factory=dict)  # mergeable with "any" or these
    guest_tables: set[int] = field(default_factory=set)

    def leaf(self, gpn: int) -> Leaf | None:
        """Frame and permission of a guest page, also inside a 2 MiB leaf."""
        found = self.pages.get(gpn)
        if found is None and self.large:
            first, perm = self.large.get(gpn & -HUGE, (None, ""))
            found = None if first is None else (first + gpn % HUGE, perm)
        return found

    def split(self, gpn: int) -> None:
        """A 2 MiB leaf around `gpn` becomes 512 leaves; its pages keep frame and permission."""
        base = gpn & -HUGE
        if base in self.large:
            first, perm = self.large.pop(base)
            self.pages.update({base + i: (first + i, perm) for i in range(HUGE)})

    def missing(self, gpn: int) -> list[tuple[int, int]]:
        """The tables that a map at `gpn` still needs, from the top down; a 2 MiB map keeps its last as reserve."""
        return [key for level in (3, 2, 1) if (key := (level, gpn >> 9 * level)) not in self.tables]

    def place(self, gpn: int) -> tuple[int, int] | None:
        """Frame and offset of the lowest existing entry for `gpn`; None if the top-level entry is absent."""
        levels = [level for level in (3, 2, 1) if (level, gpn >> 9 * level) in self.tables]
        if not levels:
            return None
        level = max(levels[-1], 2 if gpn & -HUGE in self.large else 1)  # under a 2 MiB leaf lies only its reserve
        return self.tables[level, gpn >> 9 * level], (gpn >> 9 * (level - 1)) % HUGE * 8

    def leaves(self) -> Iterator[tuple[int, int, int, str]]:
        for gpn, (mfn, perm) in self.pages.items():
            yield gpn, mfn, 1, perm
        for gpn, (mfn, perm) in self.large.items():
            yield gpn, mfn, HUGE, perm

    def frames(self) -> list[int]:
        """Frames of the pool that hold this VM's tables and contexts."""
        return [*self.tables.values(), *self.context_frames]
