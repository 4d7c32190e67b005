"""What the hub shows of a run: the newest state, and frames of it for each view.

A view is `operator`, or `tenant:` and the tenants for which the viewer acts; such a view sees the VMs of these tenants
and one grey value for all else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Final

from webapp.runs.engine import wire

OPERATOR: Final = "operator"
TENANT: Final = "tenant:"
Frame = str | bytes


def view_of_tenants(slugs: Sequence[str]) -> str:
    return TENANT + ",".join(sorted(slugs))


def whole(state: wire.State) -> RunPicture:
    """The state for operators alone, who see everything: whose VM is whose need not be known for it."""
    return RunPicture(state, slots_of=lambda slug: frozenset(), tenant_of={})


class RunPicture:
    """A run's state as onlookers know it. `slots_of` and `tenant_of` say whose VM is whose; they are kept by others."""

    def __init__(
        self,
        state: wire.State,
        *,
        slots_of: Callable[[str], frozenset[int]],
        tenant_of: Mapping[str, str],
    ) -> None:
        self.state = state
        self._slots_of = slots_of
        self._tenant_of = tenant_of
        self._known: dict[str, set[int]] = {}
        self._seen: dict[tuple[str, str], wire.Visible] = {}
        self._learn()

    @property
    def seq(self) -> int:
        return self.state.number

    def apply(self, entry: bytes) -> wire.Change:
        """Go on by one step; WireError or ValueError if the entry does not follow, and nothing changed."""
        change = self.state.apply(wire.decode(entry))
        self._learn()
        return change

    def _learn(self) -> None:
        """Whose slots these are, also of VMs that will be gone when somebody asks."""
        for row in self.state.vms:
            tenant = self._tenant_of.get(row["name"])
            if tenant is not None:
                self._known.setdefault(tenant, set()).add(row["slot"])

    def visible(self, view: str) -> wire.Visible:
        """The slots that the view may see; None: all."""
        if view == OPERATOR:
            return None
        self._learn()
        slots: set[int] = set()
        for slug in view.removeprefix(TENANT).split(","):
            slots |= self._slots_of(slug) | self._known.get(slug, set())
        return frozenset(slots)

    def keyframe(self, run: int, part: str, view: str) -> Frame:
        visible = self._seen[part, view] = self.visible(view)
        if part == "map":
            return wire.map_keyframe(self.state, run, visible)
        return wire.tlb_keyframe(self.state, run, visible) if part == "tlb" else wire.counters(self.state, run, visible)

    def delta(self, run: int, part: str, view: str, base: int, touched: Sequence[wire.Change]) -> Frame | None:
        """The frame from `base` to now. When the view's own VMs changed, only a keyframe can tell it."""
        visible = self.visible(view)
        if self._seen.get((part, view), visible) != visible:
            self._seen[part, view] = visible
            return None
        self._seen[part, view] = visible
        change = reduce(lambda earlier, later: earlier.then(later), touched)
        if change.base != base:
            return None
        if part == "map":
            return wire.map_delta(self.state, run, change, visible)
        if part == "tlb":
            return wire.tlb_delta(self.state, run, change, visible)
        return wire.counters(self.state, run, visible)
