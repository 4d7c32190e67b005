"""What the site says would drop a TLB entry, tried out: whatever it names drops that very entry, all else leaves it."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hsvm_engine import Machine
from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.play import Player
from hsvm_engine.step import STATES
from hsvm_engine.watch import geometry_of, violations_of, ways_of
from hsvm_engine.wire import State, decode, encode, tlb_delta, tlb_keyframe
from tests.engine.conftest import must
from tests.engine.test_play import player, small

RULES = json.loads((Path(__file__).parents[2] / "frontend/src/tlb_rules.json").read_text())
SHAPE = {"l1": {"sets": 2, "ways": 2}, "l2": {"sets": 4, "ways": 3}}
PAGES, HUGE = 64, 512
PLACE = ["core", "level", "set", "way", "valid", "dim", "cr3", "vpn", "size", "mfn"]
CODES = [0, 1]  # both cores
Entry = Any  # a row of Machine.tlb
Host = tuple[Machine, list[int]]  # and the handles of its two VMs


def named(entry: Entry, *, shoots: bool, flush: str = "none") -> dict[str, bool]:
    """Operation -> whether it drops the entry, as the rows say. Anything that no row names leaves it."""
    facts = {"dim": int(entry["dim"]), "state": STATES[entry["state"]], "shoots": shoots, "flush": flush, "lives": True}
    return {
        row["op"]: row["drops"] for row in RULES if all(row.get(name, fact) == fact for name, fact in facts.items())
    }


def fills_before(entry: Entry, rows: Any, ways: int, *, lru: bool) -> int:
    """How many new translations into its set there are until this entry is replaced; the last of them does it."""
    same = (rows["core"] == entry["core"]) & (rows["level"] == entry["level"]) & (rows["set"] == entry["set"])
    here = rows[same]
    return int(ways - entry["age"] + (0 if lru else (here["valid"] == 0).sum()))


def busy(architecture: str, policy: str, seed: int) -> Host:
    """Two VMs that have worked on both cores, vcpu 0 under tables of its guest, vcpu 1 without; some pages are gone."""
    source = random.Random(seed)
    protects = ARCHITECTURES[architecture].protected_region
    options = {"fault": {"step": 1, "nth": 3}} if protects and seed % 2 else {}
    machine = Machine(
        4096, 256, 256 if protects else 0, cores=2, architecture=architecture, seed=seed, options=options,
        tlb={**SHAPE, "policy": policy},
    )  # fmt: skip
    vms = [int(must(machine.hypervisor.create_vm(vcpus=2))["vm"]) for _ in range(2)]
    for number, vm in enumerate(vms):
        for gpn in range(PAGES):
            must(machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=512 + number * PAGES + gpn, perm="rw"))
        must(machine.hypervisor.page_map(vm=vm, gpn=HUGE, mfn=1024 + number * HUGE, perm="rw", size=HUGE))
        enter(machine, vm, 0, number)
        for page in range(PAGES // 2):
            must(machine.guest.guest_map(core=number, gva=page << 12, gpn=page, perm="rw"))
    for _ in range(4):
        for core in CODES:
            vm, vcpu = source.choice(vms), source.randrange(2)
            enter(machine, vm, vcpu, core)
            for _ in range(source.randrange(1, 9)):
                page = source.randrange(PAGES // 2 - 4) if vcpu == 0 or source.random() < 0.8 else HUGE + 7
                machine.guest.guest_access(core=core, gva=page << 12, kind=source.choice("rw"))
    for _ in range(3):
        machine.hypervisor.page_unmap(vm=source.choice(vms), gpn=source.randrange(12, PAGES // 2 - 4))
    return machine, vms


def enter(machine: Machine, vm: int, vcpu: int, core: int) -> None:
    """Put a vcpu on a core, whatever was there or wherever it was; entries stay."""
    for busy_core, handle, busy_vcpu in machine.dump()["cores"]:
        if busy_core == core or (handle, busy_vcpu) == (vm, vcpu):
            must(machine.hypervisor.context_save(core=busy_core))
    must(machine.hypervisor.context_restore(vm=vm, vcpu=vcpu, core=core))


def held(machine: Machine, entry: Entry) -> bool:
    return bool((machine.tlb()[PLACE] == entry[PLACE]).any())


# --- operations: each is tried and taken back. False: it cannot be tried on this entry. ---


def own_flush(machine: Machine, vm: int, entry: Entry, *, away: int = 0, core: int | None = None) -> bool:
    core = int(entry["core"]) if core is None else core
    enter(machine, vm, 0 if entry["dim"] == 2 else 1, core)
    must(machine.guest.guest_flush(core=core, gva=(int(entry["vpn"]) + away) % (1 << 36) << 12 | 5))
    return True


def guest_unmap(machine: Machine, vm: int, entry: Entry) -> bool:
    if entry["dim"] == 1 or entry["state"]:
        return False
    enter(machine, vm, 0, int(entry["core"]))
    must(machine.guest.guest_unmap(core=int(entry["core"]), gva=int(entry["vpn"]) << 12))
    return True


def load_cr3(machine: Machine, vm: int, entry: Entry) -> bool:
    core = int(entry["core"])
    enter(machine, vm, machine.op % 2, core)
    before = must(machine.guest.guest_registers(core=core))["registers"]["cr3"]
    must(machine.guest.guest_set_registers(core=core, registers={"cr3": before + 4096}))
    return True


def pages_of(machine: Machine, vm: int) -> list[int]:
    """Guest pages of the VM, also those inside a 2 MiB leaf."""
    return [page for gpn, _, size, _ in machine.dump()["leaves"][vm] for page in range(gpn, gpn + size)]


def take_page(machine: Machine, vm: int, entry: Entry) -> bool:
    """Take a page by one of three ways: the entry's own, or any where the entry is of a guest's table."""
    pages = pages_of(machine, vm)
    own = range(int(entry["vpn"]), int(entry["vpn"]) + int(entry["size"]))
    gpn = random.Random(machine.op).choice(pages if entry["dim"] == 2 else own)
    if entry["dim"] == 1 and STATES[entry["state"]] == "PENDING":
        return False  # that is `finish_release`
    if gpn not in pages:
        machine.hypervisor.page_unmap(vm=vm, gpn=gpn)
        return True
    way = random.Random(machine.op).randrange(3)
    if way == 0:
        must(machine.hypervisor.page_unmap(vm=vm, gpn=gpn))
    elif way == 1:
        must(machine.hypervisor.swap_out(vm=vm, gpn=gpn))
    else:
        must(machine.hypervisor.balloon(vm=vm, pages=sum(page >= gpn for page in pages)))
    return True


def take_another(machine: Machine, vm: int, entry: Entry) -> bool:
    if entry["dim"] == 2:
        return False
    own = range(int(entry["vpn"]), int(entry["vpn"]) + int(entry["size"]))
    pages = [gpn for gpn in pages_of(machine, vm) if gpn not in own and gpn < PAGES]
    must(machine.hypervisor.page_unmap(vm=vm, gpn=pages[machine.op % len(pages)]))
    return True


def page_map(machine: Machine, vm: int, entry: Entry) -> bool:
    must(
        machine.hypervisor.page_map(
            vm=vm, gpn=5 * HUGE, mfn=int(np.flatnonzero(machine.ownership() == 0)[0]), perm="rw"
        )
    )
    return True


def finish_release(machine: Machine, vm: int, entry: Entry) -> bool:
    pending = [gpn for _, handle, gpn in machine.dump()["releasing"] if handle == vm]
    if STATES[entry["state"]] != "PENDING":
        return False
    must(machine.hypervisor.page_unmap(vm=vm, gpn=pending[0]))
    return True


def hv_flush(machine: Machine, vm: int, entry: Entry, *, core: int | None = None) -> bool:
    must(machine.hypervisor.hv_flush(core=int(entry["core"]) if core is None else core, vm=vm))
    return True


def delete_vm(machine: Machine, vm: int, entry: Entry) -> bool:
    for core, handle, _ in machine.dump()["cores"]:
        if handle == vm:
            must(machine.hypervisor.context_save(core=core))
    must(machine.hypervisor.delete_vm(vm=vm))
    return True


def other_core(entry: Entry) -> int:
    return 1 - int(entry["core"])


OPERATIONS: dict[str, Callable[[Machine, int, Entry], bool]] = {
    "guest_flush": own_flush,
    "guest_unmap": guest_unmap,
    "load_cr3": load_cr3,
    "page_unmap": take_page,
    "page_map": page_map,
    "finish_release": finish_release,
    "hv_flush": hv_flush,
    "delete_vm": delete_vm,
    # what the rows do not name
    "guest_flush of another page": lambda machine, vm, entry: own_flush(machine, vm, entry, away=int(entry["size"])),
    "guest_flush on another core": lambda machine, vm, entry: own_flush(machine, vm, entry, core=other_core(entry)),
    "hv_flush on another core": lambda machine, vm, entry: hv_flush(machine, vm, entry, core=other_core(entry)),
    "page_unmap of another page": take_another,
}
OF_ANOTHER_VM = ("load_cr3", "hv_flush", "delete_vm", "page_map")


@pytest.mark.parametrize("policy", ["round-robin", "lru"])
@pytest.mark.parametrize("architecture", ["nested", "shadow", "hsvm", "hsvm-smm"])
def test_what_is_said_to_drop_an_entry_does_and_nothing_else(architecture: str, policy: str) -> None:
    shoots = ARCHITECTURES[architecture].tlb_shootdown
    tried: Counter[tuple[str, bool]] = Counter()
    for seed in range(4):
        machine, vms = busy(architecture, policy, seed)
        start = machine.op
        rows = machine.tlb()
        source = random.Random(seed)
        filled = rows[rows["valid"] == 1]
        contradicting = [row for row in filled if row["state"]]
        for entry in contradicting[:4] + source.sample(list(filled), 8):
            vm, rules = machine.handle_of(int(entry["slot"])), named(entry, shoots=shoots)
            for name, does in OPERATIONS.items():
                if does(machine, vm, entry):
                    tried[name, rules.get(name, False)] += 1
                    assert held(machine, entry) is not rules.get(name, False), (seed, name, entry)
                machine.step_back(start)
            for name in OF_ANOTHER_VM:
                OPERATIONS[name](machine, next(other for other in vms if other != vm), entry)
                assert held(machine, entry), (seed, f"{name} of another VM", entry)
                machine.step_back(start)
            after_fills(machine, vms, entry, lru=policy == "lru")
            machine.step_back(start)
    expected = {
        (row["op"], row["drops"]) for row in RULES if row.get("shoots", shoots) == shoots and "flush" not in row
    }
    expected -= {("fills", True)} | (
        set() if ARCHITECTURES[architecture].protected_region else {("finish_release", True)}
    )
    assert expected <= set(tried), "every row was tried"
    assert {(name, False) for name in OPERATIONS if " " in name} <= set(tried)


def after_fills(machine: Machine, vms: list[int], entry: Entry, *, lru: bool) -> None:
    """As many new translations into its set as the age says replace it, and one fewer does not."""
    core, level = int(entry["core"]), int(entry["level"])
    sets = SHAPE[f"l{level}"]["sets"]
    count = fills_before(entry, machine.tlb(), SHAPE[f"l{level}"]["ways"], lru=lru)
    for vm in vms:
        enter(machine, vm, 1, core)
        mine = machine.tlb(core)
        mine = mine[(mine["valid"] == 1) & (mine["dim"] == 1) & (mine["slot"] == machine.slot_of(vm))]
        known = set(mine["vpn"].tolist())
        for page in pages_of(machine, vm):
            if count == 0:
                return
            if page >= PAGES or page in known or page % sets != entry["set"]:
                continue
            count -= 1
            must(machine.guest.guest_access(core=core, gva=page << 12, kind="r"))
            assert held(machine, entry) is (count > 0), (count, entry)
    raise AssertionError("the machine has too few pages for this")


@pytest.mark.parametrize("flush", ["always", "on_change", "tagged"])
def test_what_is_said_of_a_world_switch_is_what_the_run_does(flush: str) -> None:
    for turn in range(4):
        p = player(small(cores=(0, 0), flush=flush))
        p.step(700 + turn)
        rows = p.machine.tlb()
        entry = next(row for row in rows[rows["valid"] == 1][turn:] if row["slot"])
        own = next(vm for vm in p.vms if p.machine.slot_of(vm.handle) == entry["slot"])
        rules = named(entry, shoots=True, flush=flush)
        for vm in (own, *(vm for vm in p.vms if vm is not own)):
            machine, start = p.machine, p.machine.op
            name = "enter_same" if vm is own else "enter_other"
            drops = rules.get("enter_any", False) or rules.get(name, False)
            p._flush(vm)  # what the loop does before a quantum
            assert p._enter(vm)
            assert held(machine, entry) is not drops, (flush, name)
            machine.step_back(start)


def test_every_row_is_one_that_these_tests_try() -> None:
    switches = {"enter_any", "enter_other", "enter_same"}
    assert {row["op"] for row in RULES} == {name for name in OPERATIONS if " " not in name} | switches | {"fills"}
    for row in RULES:
        assert set(row) <= {"op", "drops", "dim", "state", "shoots", "lives", "flush", "says"}
        assert row.get("flush", "tagged") in ("always", "on_change", "tagged")


def plant(p: Player) -> int:
    """Unmap a page that a TLB holds, as a hypervisor that forgets the flush; the index of the entry on the wire."""
    ways, vm = p.state().tlb, p.vms[0]
    leaves = {mfn: gpn for gpn, mfn, _, _ in p.machine.dump()["leaves"][vm.handle]}
    entry = max((row for row in ways[ways["valid"] == 1] if row["slot"] == vm.slot), key=lambda row: -int(row["age"]))
    assert not ways["state"].any()
    must(p.machine.hypervisor.page_unmap(vm=vm.handle, gpn=leaves[int(entry["mfn"])]))
    return int(entry["index"])


def test_a_stale_entry_that_was_planted_is_marked_in_the_very_next_frame() -> None:
    p = player(small("nested"))
    p.step(2_000)
    known = State.from_player(p)
    assert "STALE" not in tlb_keyframe(known, 1)
    index = plant(p)
    change = known.apply(decode(encode(p.step(1))))
    rows = {row[0]: row for row in json.loads(tlb_delta(known, 1, change))["data"]["entries"]}
    assert rows[index][6] == "STALE"
    assert rows[index][8] in known.violations  # the map rings the frame that it still reaches
    assert rows == {row[0]: row for row in json.loads(tlb_keyframe(known, 1))["data"]["entries"] if row[0] in rows}


def test_an_entry_whose_shootdown_is_still_to_come_is_pending_and_no_violation() -> None:
    machine, _ = busy("hsvm", "round-robin", 1)
    ways = ways_of(machine, np.arange(1 << 16, dtype=np.uint16), geometry_of(machine))
    assert set(ways["state"].tolist()) == {0, STATES.index("PENDING")}
    assert len(violations_of(machine, ways, look_everywhere=True)[0]) == 0
    must(machine.hypervisor.page_unmap(vm=machine.dump()["releasing"][0][1], gpn=machine.dump()["releasing"][0][2]))
    assert not machine.tlb()["state"].any()
