"""A TLB as one would explain it on a blackboard: lists of ways, searched one by one. Slow twin of the engine's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PERM = {"r": 1, "w": 2, "x": 4}
Place = tuple[int, int, int]  # mfn, permission bits, size


@dataclass
class Way:
    handle: int
    cr3: int
    vpn: int  # first 4 KiB page
    size: int
    mfn: int
    perm: int


@dataclass
class Set:
    ways: list[Way | None]
    turn: int = 0
    recent: list[int] = field(default_factory=list)  # under LRU: valid ways, the one used last at the end

    def find(self, handle: int, cr3: int, page: int, size: int) -> int | None:
        for index, way in enumerate(self.ways):
            if way and (way.handle, way.cr3, way.size, way.vpn) == (handle, cr3, size, page - page % size):
                return index
        return None

    def use(self, index: int) -> None:
        self.recent = [i for i in self.recent if i != index] + [index]

    def fill(self, way: Way, *, lru: bool) -> None:
        if None in self.ways:
            index = self.ways.index(None)
        elif lru:
            index = self.recent[0]
        else:
            index, self.turn = self.turn, (self.turn + 1) % len(self.ways)
        self.ways[index] = way
        self.use(index)

    def drop(self, index: int) -> None:
        self.ways[index] = None
        self.recent = [i for i in self.recent if i != index]

    def age(self, index: int, *, lru: bool) -> int:
        count = len(self.ways)
        if not lru:
            return (self.turn - 1 - index) % count
        empty = [i for i in range(count) if self.ways[i] is None]
        order = empty + self.recent  # from the first to be replaced to the last
        return count - 1 - order.index(index)


class Model:
    """TLBs of all cores, and the tables of all VMs as dicts."""

    def __init__(self, cores: int, shape: dict[str, Any]) -> None:
        self.lru = shape.get("policy") == "lru"
        self.levels = [
            [[Set([None] * shape[name]["ways"]) for _ in range(shape[name]["sets"])] for name in ("l1", "l2")]
            for _ in range(cores)
        ]
        self.nested: dict[int, dict[int, Place]] = {}  # handle -> first gpn of a leaf -> where it is
        self.guest: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}  # handle, cr3 -> page -> gpn, perm

    def walk(self, handle: int, cr3: int, page: int, need: int) -> tuple[str, Way | None]:
        gpn, perm = page, 7
        if cr3:
            gpn, perm = self.guest.get((handle, cr3), {}).get(page, (-1, 0))
            if gpn < 0:
                return "F_NOT_PRESENT", None
            if need & ~perm:
                return "F_PERMISSION", None
        for size in (1, 512):
            mfn, allowed, real = self.nested[handle].get(gpn - gpn % size, (0, 0, 0))
            if real != size:
                continue
            if need & ~allowed:
                return "F_PERMISSION", None
            if cr3:
                return "OK", Way(handle, cr3, page, 1, mfn + gpn % size, perm & allowed)
            return "OK", Way(handle, 0, page - page % size, size, mfn, allowed)
        return "F_NOT_PRESENT", None

    def access(self, core: int, handle: int, cr3: int, page: int, need: int) -> str:
        """`l1`, `l2`, `miss`, or the fault."""
        levels = self.levels[core]
        for name, level in zip(("l1", "l2"), levels, strict=True):
            for size in (1, 512):
                here = level[page // size % len(level)]
                index = here.find(handle, cr3, page, size)
                way = here.ways[index] if index is not None else None
                if index is None or way is None or need & ~way.perm:
                    continue
                here.use(index)
                if name == "l2":
                    levels[0][page // size % len(levels[0])].fill(way, lru=self.lru)
                return name
        status, found = self.walk(handle, cr3, page, need)
        if found is None:
            return status
        for level in reversed(levels):
            here = level[page // found.size % len(level)]
            index = here.find(handle, cr3, page, found.size)
            if index is not None:
                here.drop(index)
        for level in reversed(levels):
            level[page // found.size % len(level)].fill(found, lru=self.lru)
        return "miss"

    def drop(self, core: int, handle: int, *, cr3: int | None = None, page: int | None = None) -> None:
        """Forget a VM's entries on a core: all, those of a cr3, those of one page of a cr3."""
        for level in self.levels[core]:
            for here in level:
                for index, way in enumerate(here.ways):
                    if way is None or way.handle != handle or (cr3 is not None and way.cr3 != cr3):
                        continue
                    if page is None or way.vpn == page - page % way.size:
                        here.drop(index)

    def shoot(self, handle: int, gpn: int) -> None:
        for core, levels in enumerate(self.levels):
            self.drop(core, handle, cr3=0, page=gpn)
            for cr3 in {w.cr3 for level in levels for here in level for w in here.ways if w and w.cr3}:
                self.drop(core, handle, cr3=cr3)

    def rows(self) -> list[tuple[int, ...]]:
        """One row per way in the order of `Machine.tlb`."""
        out: list[tuple[int, ...]] = []
        for core, levels in enumerate(self.levels):
            for number, level in enumerate(levels, 1):
                for place, here in enumerate(level):
                    for index, w in enumerate(here.ways):
                        head = core, number, place, index, int(w is not None), here.age(index, lru=self.lru)
                        out.append((*head, *((w.cr3, w.vpn, w.mfn, w.size, w.perm) if w else (0, 0, 0, 0, 0))))
        return out


COLUMNS = ["core", "level", "set", "way", "valid", "age", "cr3", "vpn", "mfn", "size", "perm"]
