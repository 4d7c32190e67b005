"""Every reachable state of a tiny host: 3 FREE frames, 2 VMs, 2 guest pages, 1 core.

States are equal here if they differ only in counters, nonces, generations and in which frame or VM bears which number.
A slice lets some operations go on from one state to the next. HSVM_MODEL=full tries every operation in every state of
every slice, and takes some minutes.
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any

import pytest

from hsvm_engine import Machine
from hsvm_engine.operations import OPERATIONS

FRAMES, PROTECTED = 256, 16
POOL = range(FRAMES - PROTECTED - 3, FRAMES - PROTECTED)  # the three FREE frames
MACHINE_ID = "0f" * 16
PATTERN = "5e" * 8
WHOLE = -1  # stands for a guest page where an image is of a whole VM
PERMS = {1: "r", 3: "rw", 5: "rx", 7: "rwx"}
FULL = os.environ.get("HSVM_MODEL") == "full"
LONGEST = "swap"  # takes as long as all others together: of `make oracles`, and of the full model

BASE = {"create_vm", "delete_vm", "page_map", "page_unmap", "context_restore", "context_save"}
SLICES: dict[str, tuple[set[str], list[str]]] = {  # what goes on, and the permissions of new leaves
    "owners": (BASE | {"claim", "release", "balloon", "guest_write"}, ["rw"]),
    "permissions": (BASE | {"guest_read", "hv_flush"}, ["r", "rw"]),
    "swap": (BASE | {"swap_out", "swap_in"}, ["r", "rw"]),
    "shares": (BASE | {"guest_share", "guest_unshare"}, ["rw"]),
    "merges": (BASE | {"guest_mergeable", "merge", "unmerge"}, ["rw"]),
    "moves": (BASE | {"export_vm", "import_vm"}, ["rw"]),
}
# The search is exact, so a rule or an operation that comes or goes shows here.
STATES = {"owners": 220, "permissions": 609, "swap": 975, "shares": 299, "merges": 891, "moves": 165}
LOOKS = {name for name in OPERATIONS if name.endswith(("_read", "_locate", "_registers", "_read_context"))}

Operation = dict[str, Any]
Image = tuple[int, int, str, str, str]  # vm, gpn, "new" or "old", hex, what was in it


@dataclass(frozen=True)
class State:
    """A machine, and what no view of it shows: mergeable marks, and images that the hypervisor has kept."""

    data: bytes
    marks: frozenset[tuple[int, int]] = frozenset()
    images: tuple[Image, ...] = ()
    dead: int = 99


def boot() -> State:
    tlb = {"l1": {"sets": 1, "ways": 4}, "l2": {"sets": 1, "ways": 4}}
    return State(Machine(FRAMES, POOL[0], PROTECTED, tlb=tlb).snapshot())


def choices(state: State, living: list[int], field: str, name: str) -> list[Any]:
    """The small values of a field."""
    small: dict[str, list[Any]] = {
        **{"vm": [*living, state.dead], "other_vm": living, "gpn": [0, 1], "other_gpn": [0, 1]},
        **{"mfn": [*POOL, 0, FRAMES - 1], "perm": ["r", "rw"], "size": [1], "pages": [1, 2], "vcpus": [1], "vcpu": [0]},
        **{"core": [0], "offset": [0], "length": [8], "data": [PATTERN], "gpa": [0, 4096], "gva": [0, 4096]},
        **{"kind": ["r", "w"], "target": [MACHINE_ID], "registers": [{"rax": 1}], "with": ["none", "any"]},
        **{"vector": [128], "after": [1 << 32], "device": [0]},
        "image": [image for _, gpn, _, image, _ in state.images if (gpn == WHOLE) == (name == "import_vm")],
    }
    return small[field]


def operations(state: State, living: list[int], names: set[str], perms: list[str]) -> Iterator[Operation]:
    """Every operation of `names` with all small values of its fields; a third VM is not asked for."""
    for name in OPERATIONS:
        if name not in names or (name in ("create_vm", "import_vm") and len(living) == 2):
            continue
        fields = OPERATIONS[name].fields
        small = {field: choices(state, living, field, name) for field in fields}
        if name == "page_map":
            small["perm"] = perms
        for values in product(*small.values()):
            yield {"op": name, **dict(zip(fields, values, strict=True))}


@dataclass(frozen=True)
class View:
    """One look at a host, handles and frames as they are numbered there."""

    vms: list[int]
    owner: dict[int, str]
    bytes_of: dict[int, str]  # the first bytes of each frame, as they lie in DRAM
    leaves: dict[tuple[int, int], tuple[int, str]]  # (vm, gpn) -> (mfn, perm)
    cached: set[tuple[int, int, int, str]]  # valid TLB entries: vm, gpn, mfn, perm
    shared: set[tuple[int, int, str]]
    merged: dict[tuple[int, int], tuple[int, int]]  # borrower -> lender
    swapped: set[tuple[int, int]]
    pending: set[int]
    running: list[int]


def look(machine: Machine) -> View:
    dump, rows = machine.dump(), machine.tlb(0)
    rows = rows[rows["valid"] == 1]
    return View(
        vms=[vm for vm, _ in dump["vms"]],
        owner={
            mfn: owner
            for first, count, owner in dump["owners"]
            if first + count > POOL[0]
            for mfn in POOL
            if first <= mfn < first + count
        },
        bytes_of={mfn: machine.apply({"op": "cold_boot_read", "mfn": mfn})["data"][:16] for mfn in POOL},
        leaves={(int(vm), gpn): (mfn, perm) for vm, leaves in dump["leaves"].items() for gpn, mfn, _, perm in leaves},
        cached={
            (machine.handle_of(int(row["slot"])), int(row["vpn"]), int(row["mfn"]), PERMS[int(row["perm"])])
            for row in rows
        },
        shared={(vm, gpn, perm) for vm, gpn, perm in dump["shared"]},
        merged={(vm, gpn): (lender, at) for vm, gpn, lender, at in dump["merged"]},
        swapped={(vm, gpn) for vm, gpn, _ in dump["swapped"]},
        pending={mfn for mfn, *_ in dump["releasing"]},
        running=[vm for _, vm, _ in dump["cores"]],
    )


def canonical(view: View, state: State) -> str:
    """The state without accidental numbers: frames are known by what is in them, VMs by the lesser naming."""
    kept = {  # what is in an image matters only while it can be taken back
        (vm, gpn, inside if age == "new" else age)
        for vm, gpn, age, _, inside in state.images
        if gpn != WHOLE and (age == "old" or (vm, gpn) in view.swapped)
    }
    found = []
    for letters in permutations("AB", len(view.vms)):
        name = dict(zip(view.vms, letters, strict=True))
        frames = sorted(
            (
                name[int(owner[3:])] if owner.startswith("vm:") else owner,
                view.bytes_of[mfn],
                sorted((name[vm], gpn, perm) for (vm, gpn), (at, perm) in view.leaves.items() if at == mfn),
                sorted((name[vm], gpn, perm) for vm, gpn, at, perm in view.cached if at == mfn),
            )
            for mfn, owner in view.owner.items()
        )
        pages = (
            sorted((name[vm], gpn, perm) for vm, gpn, perm in view.shared),
            sorted((name[a], gpn, name[b], at) for (a, gpn), (b, at) in view.merged.items()),
            sorted((name[vm], gpn) for vm, gpn in view.swapped),
            sorted((name[vm], *image) for vm, *image in kept),
            sorted((name[vm], gpn) for vm, gpn in state.marks),
            sorted(inside for _, gpn, _, _, inside in state.images if gpn == WHOLE),
        )
        found.append((frames, pages, [name[vm] for vm in view.running], len(letters)))
    return repr(min(found, key=repr))


def inside(before: View, vm: int, at: int) -> str:
    """What an image holds of a VM's pages that were there: permission and bytes."""
    pages = [(gpn, leaf) for (of, gpn), leaf in before.leaves.items() if of == vm and at in (gpn, WHOLE)]
    return repr(sorted((gpn, perm, before.bytes_of[mfn]) for gpn, (mfn, perm) in pages))


def follow(state: State, op: Operation, result: dict[str, Any], before: View, now: View) -> State:
    """What an accepted operation does to that which no view shows. `data` is left to the caller."""
    marks, dead = set(state.marks) & now.leaves.keys(), state.dead
    if op["op"] == "guest_mergeable":
        page = (now.running[0], op["gpn"])
        marks = marks - {page} if op["with"] == "none" else marks | {page}
    images = [image for image in state.images if image[3] != (op.get("image") if op["op"] == "import_vm" else None)]
    if op["op"] in ("delete_vm", "export_vm"):
        dead, images = op["vm"], [image for image in images if image[0] != op["vm"]]
    if "image" in result:
        page = (op["vm"], op.get("gpn", WHOLE))
        # of a page the hypervisor keeps the newest image and the one before; of VMs one in all
        kept = [(*image[:2], "old", *image[3:]) for image in images if image[:2] == page and image[2] == "new"]
        others = [image for image in images if image[:2] != page and page[1] + image[1] != 2 * WHOLE]
        images = [*others, *kept, (*page, "new", result["image"], inside(before, *page))]
    return State(b"", frozenset(marks), tuple(images), dead)


def violation(before: View, now: View, loads: dict[int, str]) -> str | None:
    """What the host must never show, judged from its views alone and not by its own invariants."""
    lent = {now.leaves[lender][0] for lender in now.merged.values()}
    shared = {now.leaves[vm, gpn][0] for vm, gpn, _ in now.shared}
    for mfn, owner in now.owner.items():
        own = [page for page, (at, _) in now.leaves.items() if at == mfn and owner == f"vm:{page[0]}"]
        was = before.owner[mfn]
        if owner == "hsvm" or (was.startswith("vm:") and owner not in (was, "free")):
            return f"frame {mfn} went from {was} to {owner}"
        if owner == "free" and now.bytes_of[mfn].strip("0"):
            return f"FREE frame {mfn} is not zero"
        if owner.startswith("vm:") and len(own) != 1 and mfn not in now.pending:
            return f"frame {mfn} of {owner} has the leaves {own}"
        if (loads[mfn] == "OK") != (not owner.startswith("vm:") or mfn in shared):
            return f"the hypervisor's load from frame {mfn} of {owner} is {loads[mfn]}"
        if mfn in lent and any(at == mfn and "w" in perm for at, perm in now.leaves.values()):
            return f"merged frame {mfn} can be written"
    for page, (mfn, _) in now.leaves.items():
        lender = now.merged.get(page)
        if now.owner.get(mfn) != f"vm:{page[0]}" and (lender is None or now.leaves[lender][0] != mfn):
            return f"page {page} lies in frame {mfn} of {now.owner.get(mfn)}"
    for vm, gpn, mfn, perm in now.cached:
        if now.leaves.get((vm, gpn)) != (mfn, perm):
            return f"a translation of page {gpn} of VM {vm} to frame {mfn} outlives its leaf"
    return None


def loads(machine: Machine) -> dict[int, str]:
    """What the hypervisor's load from each frame comes to."""
    return {mfn: machine.apply({"op": "hv_read", "mfn": mfn, "offset": 0, "length": 8})["status"] for mfn in POOL}


@dataclass
class Found:
    """What an exploration came upon."""

    states: int = 1
    accepted: int = 0
    refused: int = 0


def explore(start: State, extends: set[str], tries: set[str], perms: list[str]) -> Found:
    """Breadth-first over all states that `extends` reaches; every operation of `tries` is tried in each."""
    seen = {canonical(look(Machine.restore(start.data)), start)}
    queue, found = deque([(start, "boot")]), Found()
    while queue:
        state, way = queue.popleft()
        machine = Machine.restore(state.data)
        digest, before, here, refused = machine.digest(), look(machine), machine.op, []
        for op in operations(state, before.vms, tries, perms):
            result = machine.apply(op)
            if result["status"] != "OK":
                refused.append(op)
                continue
            if machine.digest() == digest:
                continue
            said = f"{way}; {op['op']}({', '.join(f'{value!s:.12}' for value in list(op.values())[1:])})"
            found.accepted += 1
            machine.check_invariants()
            now = look(machine)
            wrong = violation(before, now, loads(machine))
            assert wrong is None, f"{wrong}: {said}"
            after = follow(state, op, result, before, now)
            if op["op"] in extends and (key := canonical(now, after)) not in seen:
                seen.add(key)
                queue.append((replace(after, data=machine.snapshot()), said))
            machine.step_back(here)
            assert machine.digest() == digest, f"not the state before: {said}"
        for op in refused:
            machine.apply(op)
        assert machine.digest() == digest, f"a refusal changed something: {way}; {refused}"
        found.refused += len(refused)
    found.states = len(seen)
    return found


@pytest.mark.parametrize("name", [name for name in SLICES if name != LONGEST or FULL or "ORACLES" in os.environ])
def test_no_reachable_state_breaks_a_rule(name: str) -> None:
    extends, perms = SLICES[name]
    tries, perms = (set(OPERATIONS), ["r", "rw"]) if FULL else (extends | LOOKS, perms)
    found = explore(boot(), extends, tries, perms)
    print(f"{name}: {found}")
    assert FULL or found.states == STATES[name]


def test_the_exploration_finds_a_violation_where_there_is_one() -> None:
    """The same search on a host that does not wipe frames must fail."""
    weak = State(Machine(FRAMES, POOL[0], PROTECTED, options={"skip": ["zero_on_release"]}).snapshot())
    with pytest.raises(AssertionError, match="is not zero"):
        explore(weak, *(SLICES["owners"][0],) * 2, ["rw"])
