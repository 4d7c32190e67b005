"""Moments: a player played forward to one exact operation, to be looked at and thrown away.

A moment is made by the engine and not kept as a picture: the run is played again from a save, a trace ends at the
operation that is asked for, and what a command did beyond it is taken back by the machine's journal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hsvm_engine.play import Player, Vm
from hsvm_engine.step import Step
from hsvm_engine.watch import ways_of

if TYPE_CHECKING:
    from hsvm_engine.core.machine import TraceResult

T = TypeVar("T")
FOREVER: Final = 1 << 62


class _Reached(Exception):
    """The operation that was asked for is done."""


class Looker(Player):
    """A player that can stop in the middle of a step. Once it has stopped it can only be looked at."""

    _until = FOREVER
    _misses: list[int] | None = None  # operations of TLB misses, while they are looked for one by one
    _first, _most = 0, 0  # the operation after which they are looked for, and how many
    _before: tuple[list[Vm], list[tuple[int, int]]] = ([], [])

    # --- going ---

    def step_until(self, accesses: int, op: int) -> bool:
        """Play a step, but not past operation `op`. True: it is reached, and what `state` gives is that moment."""
        self._until = op
        self._remember()
        try:
            self.step(accesses)
        except _Reached:
            self._stop()
            return True
        return self.machine.op == op

    def command_until(self, command: Callable[[], object], op: int) -> bool:
        """Carry out a command between steps (an attack, a start), of which nothing after operation `op` stands."""
        self._remember()
        command()
        if self.machine.op <= op:
            return False
        self._until = op
        self._stop()
        return True

    def misses_until(self, accesses: int, first: int, op: int, most: int = 1 << 30) -> list[int]:
        """The operations after `first` and up to `op` that missed both levels of the TLB, the first `most` of them,
        while a step is played access by access."""
        found: list[int] = []
        self._misses = found
        self._first, self._most = first, most
        try:
            self.step_until(accesses, op)
        finally:
            self._misses = None
        return found

    # --- looking ---

    def doing(self) -> dict[str, Any] | None:
        """The operation that the moment ends with, as the journal has it; None where the journal begins."""
        op = self.machine.op
        try:
            return next((event for event in self.machine.events(op - 1) if event["op"] >= op), None)
        except ValueError:
            return None

    def frame(self, mfn: int, most: int = 3) -> dict[str, Any]:
        """What is known of a frame now. ValueError for one that the host does not have.

        mfn, owner slot (of the run), maps: (handle, gpn, perm) of leaves that reach it, tlb: rows of `Machine.tlb` that
        hold it, events: the last operations of the journal that name it, newest first.
        """
        if not 0 <= mfn < self.machine.frames:
            raise ValueError(f"the host has frames 0 to {self.machine.frames - 1:,}, not {mfn:,}")
        leaves: dict[int, list[Any]] = self.machine.dump()["leaves"]
        maps = [
            (int(handle), gpn + mfn - first, perm)
            for handle, rows in leaves.items()
            for gpn, first, size, perm in rows
            if first <= mfn < first + size
        ]
        ways = self._ways[self._ways["valid"] == 1]
        held = ways[(ways["mfn"] <= mfn) & (mfn < ways["mfn"] + ways["size"])]
        events = [event for event in self.machine.events(self.machine.oldest_op) if event["mfn"] == mfn]
        owner = int(self._run_slots()[self.machine.ownership()[mfn]])
        return {"mfn": mfn, "owner": owner, "maps": maps, "tlb": held, "events": events[: -most - 1 : -1]}

    # --- stopping ---

    def _remember(self) -> None:
        self._before = (list(self.vms), list(self._strangers))

    def _stop(self) -> None:
        """Take back what lies beyond, and show who lives then: who came or went meanwhile included. In the middle of
        an act on very many pages that is as far as the journal reaches."""
        if self.machine.op > self._until:
            self.machine.step_back(max(self._until, self.machine.oldest_op))
        living = set(self.hypervisor.living())
        vms, strangers = self._before
        self.vms = [vm for vm in _once(vms + self.vms, lambda vm: vm.handle) if vm.handle in living]
        self._strangers = [row for row in _once(strangers + self._strangers, lambda row: row[0]) if row[0] in living]
        self._ways = ways_of(self.machine, self._run_slots(), self.geometry)
        self._suspect = True

    def _quantum(self, vm: Vm, count: int) -> None:
        if self.machine.op >= self._until:
            raise _Reached
        super()._quantum(vm, count)

    def _access(self, vm: Vm, core: int, count: int) -> TraceResult:
        left = self._until - self.machine.op
        if left <= 0 or (self._misses is not None and len(self._misses) == self._most):
            raise _Reached
        if self._misses is None:
            return super()._access(vm, core, min(count, left))
        if self.machine.op < self._first:
            return super()._access(vm, core, min(count, left, self._first - self.machine.op))
        result = super()._access(vm, core, 1)
        if result["miss"]:
            self._misses.append(self.machine.op)
        return result

    def _end_process(self, vm: Vm, core: int) -> None:
        if self.machine.op >= self._until:
            raise _Reached
        super()._end_process(vm, core)

    def _collect(self) -> Step:
        if self.machine.op > self._until:
            raise _Reached
        return super()._collect()


def _once(rows: list[T], key: Callable[[T], object]) -> list[T]:
    found: dict[object, T] = {}
    for row in rows:
        found.setdefault(key(row), row)
    return list(found.values())
