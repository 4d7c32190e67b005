"""What an onlooker can see of a machine: its TLBs as one array, and frames where a rule of ownership is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.core.types import InvariantError
from hsvm_engine.step import FREE, HSVM, STATES, WAY, Frames, Geometry, Slots, Ways

if TYPE_CHECKING:
    from hsvm_engine.core.machine import Machine

COLUMNS = ("valid", "dim", "vpn", "mfn", "size", "perm", "age", "state")
STALE, PENDING = STATES.index("STALE"), STATES.index("PENDING")
# Which of the invariants' rules (core/invariants.pyx) is about the TLBs, and which about the protected region.
TLB_RULES = ("tlb", "bus")
REGION_RULES = ("tables", "tree", "contexts", "leaf-protected")


def geometry_of(machine: Machine) -> Geometry:
    """The size of the machine's TLBs."""
    rows = machine.tlb()
    sizes = [int(rows[name][rows["level"] == level].max()) + 1 for level in (1, 2) for name in ("set", "way")]
    return Geometry(int(rows["core"].max()) + 1, *sizes)


def ways_of(machine: Machine, run_slots: Slots, geometry: Geometry) -> Ways:
    """All ways in order of their index, with the slots of the run; an empty way holds zeros."""
    rows = machine.tlb()
    ways = np.zeros(geometry.total, WAY)
    second = rows["level"] == 2
    width = np.where(second, geometry.l2_ways, geometry.l1_ways)
    offset = np.where(second, geometry.l1_sets * geometry.l1_ways, 0)
    index = (
        rows["core"].astype(np.int64) * geometry.per_core + offset + rows["set"].astype(np.int64) * width + rows["way"]
    )
    filled = rows["valid"] == 1
    ways["index"] = np.arange(geometry.total)
    for name in COLUMNS:
        ways[name][index[filled]] = rows[name][filled]
    ways["slot"][index[filled]] = run_slots[rows["slot"][filled]]
    return ways


def violations_of(machine: Machine, ways: Ways, *, look_everywhere: bool) -> tuple[Frames, bool]:
    """Frames where a rule is broken, sorted, and whether there is reason to look everywhere again.

    Always: frames that a stale TLB entry reaches. Looking everywhere: also frames that another VM than their owner
    maps, free ones that are not zero, and protected ones that are mapped at all.
    """
    found = set(ways["mfn"][(ways["valid"] == 1) & (ways["state"] == STALE)].tolist())
    if look_everywhere:
        wrong = _wrong_frames(machine, machine.dump())
        look_everywhere = bool(wrong)
        found |= wrong
    return np.array(sorted(found), np.uint32), look_everywhere


def rules_of(machine: Machine, ways: Ways) -> dict[str, Any]:
    """The state of the rules that a host's keeper watches, looked at everywhere: counts of what breaks each of them.

    `ownership`: frames with a wrong mapping, or free and not zero; `region`: protected frames that a VM maps, None on a
    machine without such frames; `stale` and `pending`: TLB entries; `swapped`: pages out of memory, None where they
    leave in the clear, and `repeated`: those whose version another page of the same VM has; `broken`: the first rule of
    the invariants that does not hold, by the one of these it is about, with its words.
    """
    row, dump, owners = ARCHITECTURES[machine.architecture], machine.dump(), machine.ownership()
    wrong = _wrong_frames(machine, dump)
    region = {frame for frame in wrong if owners[frame] == HSVM}
    versions = {(handle, version) for handle, _, version in dump["swapped"]}
    state = ways["state"][ways["valid"] == 1]
    return {
        "ownership": len(wrong - region),
        "region": len(region) if row.protected_region else None,
        "stale": int((state == STALE).sum()),
        "pending": int((state == PENDING).sum()),
        "swapped": len(dump["swapped"]) if row.swap_sealed else None,
        "repeated": len(dump["swapped"]) - len(versions),
        "broken": _broken(machine),
    }


def _broken(machine: Machine) -> dict[str, str]:
    try:
        machine.check_invariants()
    except InvariantError as error:
        rule = str(error).partition(":")[0]
        about = "stale" if rule in TLB_RULES else "region" if rule in REGION_RULES else "ownership"
        return {about: str(error)}
    return {}


def _wrong_frames(machine: Machine, dump: dict[str, Any]) -> set[int]:
    owners = machine.ownership()
    merged = {(borrower, gpn) for borrower, gpn, _, _ in dump["merged"]}
    wrong = {mfn for mfn in dump["nonzero"] if owners[mfn] == FREE}
    for handle, leaves in dump["leaves"].items():
        slot = machine.slot_of(int(handle))
        for gpn, mfn, size, _ in leaves:
            for frame in range(mfn, mfn + size):
                if owners[frame] == HSVM or (owners[frame] != slot and (handle, gpn) not in merged):
                    wrong.add(frame)
    return wrong
