"""Page-walk caches save references and change nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hsvm_engine import Machine

from .conftest import FRAMES, Make, must

CACHES = {"guest": 4, "nested": 4}
TINY = {"l1": {"sets": 1, "ways": 1}, "l2": {"sets": 1, "ways": 2}}


def references(machine: Machine, gva: int) -> int:
    """References of one access, which the walk foretells."""
    shown = [r["skipped"] for r in machine.walk(0, gva)["references"]]
    made = int(must(machine.guest.guest_access(core=0, gva=gva, kind="r"))["references"])
    assert made in (0, shown.count(False))
    return made


def test_a_default_machine_has_none(make: Make, guest: Callable[..., int]) -> None:
    machine = make(tlb=TINY)
    guest(machine, pages=16)
    must(machine.guest.guest_map(core=0, gva=0, gpn=1))
    must(machine.guest.guest_map(core=0, gva=4096, gpn=2))
    must(machine.guest.guest_map(core=0, gva=8192, gpn=3))
    assert [references(machine, page << 12) for page in (0, 1, 2)] == [24, 24, 24]


@pytest.mark.parametrize(
    ("caches", "first", "second"),
    [
        ({"guest": 4}, 24, 24 - 15),
        ({"nested": 4}, 24, 24 - 15),  # 3 in each of five nested walks
        (CACHES, 24, 3),  # the nested leaf of the guest's table, its entry, the nested leaf of the page
    ],
)
def test_the_second_walk_in_a_region_is_shorter(
    make: Make, guest: Callable[..., int], caches: dict[str, int], first: int, second: int
) -> None:
    machine = make(tlb={"walk_cache": caches})
    guest(machine)
    for page in range(3):
        must(machine.guest.guest_map(core=0, gva=page << 12, gpn=1 + page))
    assert [references(machine, page << 12) for page in range(3)] == [first, second, second]
    assert machine.counters()["references"] == first + 2 * second
    walk = machine.walk(0, 0)["references"]
    assert len(walk) == 24
    assert [r["order"] for r in walk] == list(range(1, 25))


def test_a_walk_in_one_dimension_keeps_its_last_reference(make: Make, guest: Callable[..., int]) -> None:
    machine = make(tlb={"walk_cache": CACHES})
    vm = guest(machine)
    must(machine.hypervisor.page_map(vm=vm, gpn=512, mfn=512, perm="rw", size=512))
    assert [references(machine, page << 12) for page in (0, 1, 512)] == [4, 1, 3]


def prepared(make: Make, guest: Callable[..., int]) -> tuple[Machine, int]:
    """A machine that has walked for page 0, and would make 3 references for page 1."""
    machine = make(tlb={"walk_cache": CACHES})
    vm = guest(machine)
    for page in range(3):
        must(machine.guest.guest_map(core=0, gva=page << 12, gpn=1 + page))
    references(machine, 0)
    return machine, vm


def shown(machine: Machine, gva: int = 4096) -> int:
    return [r["skipped"] for r in machine.walk(0, gva)["references"]].count(False)


def test_what_drops_translations_drops_the_walks_too(make: Make, guest: Callable[..., int]) -> None:
    machine, vm = prepared(make, guest)
    assert shown(machine) == 3
    must(machine.hypervisor.hv_flush(core=0, vm=vm))
    assert shown(machine) == 24
    machine, vm = prepared(make, guest)
    must(machine.hypervisor.page_unmap(vm=vm, gpn=9))  # shoots the VM's guest tables and the region's nested table down
    assert shown(machine) == 24
    edits: list[dict[str, Any]] = [
        {"op": "guest_flush", "gva": 4096},
        {"op": "guest_unmap", "gva": 8192},
        {"op": "guest_map", "gva": 12288, "gpn": 5, "perm": "rw"},
    ]
    for edit in edits:
        machine, vm = prepared(make, guest)
        must(machine.apply({"core": 0, **edit}))
        assert shown(machine) == 9  # the guest's; nested tables are none of its business
    machine, vm = prepared(make, guest)
    cr3 = must(machine.guest.guest_registers(core=0))["registers"]["cr3"]
    must(machine.guest.guest_set_registers(core=0, registers={"cr3": 0}))
    must(machine.guest.guest_set_registers(core=0, registers={"cr3": cr3}))
    assert shown(machine) == 24


def test_the_next_vm_inherits_no_walk(make: Make, guest: Callable[..., int]) -> None:
    machine, vm = prepared(make, guest)
    must(machine.hypervisor.context_save(core=0))
    must(machine.hypervisor.delete_vm(vm=vm))
    guest(machine)
    assert shown(machine, 0) == 4
    machine.check_invariants()


def test_a_full_cache_replaces_in_turn(make: Make, guest: Callable[..., int]) -> None:
    machine = make(tlb={**TINY, "walk_cache": {"nested": 2}})
    vm = guest(machine)
    for page in (512, 513, 514, 1024, 1025):
        must(machine.hypervisor.page_map(vm=vm, gpn=page, mfn=400 + page))
    seen = [references(machine, page << 12) for page in (0, 512, 1, 1024, 513, 2, 514, 1025)]
    assert seen == [4, 4, 1, 4, 1, 4, 4, 4]  # the third region takes the first's place, that the second's, and so on


def test_a_walk_that_faults_enters_nothing(make: Make, guest: Callable[..., int]) -> None:
    machine = make(tlb={"walk_cache": CACHES})
    guest(machine)
    before = machine.digest()
    assert machine.guest.guest_access(core=0, gva=40 << 12, kind="r")["status"] == "F_NOT_PRESENT"
    assert machine.digest() == before
    must(machine.guest.guest_access(core=0, gva=0, kind="r"))
    before, total = machine.digest(), machine.counters()["references"]
    assert machine.guest.guest_access(core=0, gva=40 << 12, kind="r")["status"] == "F_NOT_PRESENT"
    assert (machine.digest(), machine.counters()["references"]) == (before, total + 1)


class Chance:
    """Random operations on two VMs and their guest tables; on rows that check nothing also raw stores into tables."""

    def __init__(self, seed: int, raw: bool) -> None:
        self.at = random.Random(seed)
        self.raw = raw
        self.vms: list[int] = []
        self.ahead: list[dict[str, Any]] = []  # operations that are settled already

    def next(self, machine: Machine) -> dict[str, Any]:
        """The next operation; `machine` tells where tables lie."""
        if self.ahead:
            return self.ahead.pop()
        at = self.at
        vm, core, gpn = self.vms[-1] if self.vms else 1, at.randrange(2), at.choice((at.randrange(30), 512, 1024))
        gva = at.choice((0, 1 << 21, 1 << 30)) + (at.randrange(6) << 12)
        registers = machine.apply({"op": "guest_registers", "core": core})
        cr3 = registers["registers"]["cr3"] if registers["status"] == "OK" else 0
        table = 8 * at.randrange(3) + 4096 * at.randrange(12, 30)
        choices: dict[str, dict[str, Any]] = {
            "page_map": {"vm": vm, "gpn": gpn, "mfn": 200 + at.randrange(300), "perm": "rw", "size": 1},
            "page_unmap": {"vm": vm, "gpn": gpn},
            "context_save": {"core": core},
            "context_restore": {"vm": at.choice(self.vms or [1]), "vcpu": at.randrange(2), "core": core},
            "hv_flush": {"core": core, "vm": vm},
            "guest_map": {"core": core, "gva": gva, "gpn": at.randrange(30), "perm": at.choice(("rw", "r"))},
            "guest_unmap": {"core": core, "gva": gva},
            "guest_flush": {"core": core, "gva": gva},
            "guest_access": {"core": core, "gva": gva, "kind": at.choice("rrw")},
            "guest_write": {"core": core, "gpa": table, "data": self.entry(30)},
            "guest_set_registers": {"core": core, "registers": {"cr3": at.choice((0, cr3, 29 << 12))}},
            "hv_write": {"mfn": at.randrange(64), "offset": 8 * at.randrange(8), "data": self.entry(600)},
        }
        op = at.choice(WEIGHED)
        if op == "renew":
            self.renew()
            return self.next(machine)
        if op == "hv_write" and self.raw:
            place = machine.apply({"op": "npt_locate", "vm": vm, "gpn": at.randrange(4)})
            if place["status"] == "OK":
                choices[op] |= {"mfn": place["mfn"], "offset": place["offset"]}
        return {"op": op, **choices[op]}

    def renew(self) -> None:
        """One VM less or one more; a new one is given pages."""
        if len(self.vms) == 2:
            gone = self.vms.pop(0)
            self.ahead = [{"op": "delete_vm", "vm": gone}, *({"op": "context_save", "core": i} for i in (0, 1))]
        else:
            self.ahead = [{"op": "create_vm", "vcpus": 2}]

    def see(self, op: dict[str, Any], result: dict[str, Any]) -> None:
        if op["op"] == "create_vm" and result["status"] == "OK":
            vm = result["vm"]
            self.vms.append(vm)
            pages = self.at.sample(range(200, 500), 40)
            self.ahead = [
                *({"op": "context_restore", "vm": vm, "vcpu": i, "core": i} for i in (0, 1)),
                {"op": "page_map", "vm": vm, "gpn": 1024, "mfn": 1024, "perm": "rw", "size": 512},
                *({"op": "page_map", "vm": vm, "gpn": g, "mfn": pages[g], "perm": "rw", "size": 1} for g in range(30)),
            ]

    def entry(self, numbers: int) -> str:
        number, flags = self.at.randrange(numbers), self.at.choice((7, 7, 7, 5, 0, 135))
        return (number << 12 | flags).to_bytes(8, "little").hex()

    def trace(self) -> tuple[Any, Any]:
        pages = [self.at.choice((0, 512, 1 << 18)) + self.at.randrange(6) for _ in range(30)]
        return np.array(pages, np.uint64) << np.uint64(12), np.zeros(30, np.uint8)


WEIGHED = [
    *(["guest_access"] * 24 + ["guest_map"] * 16 + ["page_map"] * 4 + ["context_restore"] * 4),
    *(["page_unmap", "hv_flush", "guest_unmap", "guest_flush", "hv_write"] * 2),
    *("context_save", "renew", "guest_write", "guest_set_registers"),
]


def without_references(result: Any) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "references"}


@pytest.mark.parametrize("architecture", ["hsvm", "nested"])
@pytest.mark.parametrize("seed", range(4))
def test_machines_with_and_without_caches_say_the_same(architecture: str, seed: int) -> None:
    caches = {"guest": 1 + 3 * (seed % 2), "nested": (0, 2, 64, 5)[seed]}
    protected = 256 if architecture == "hsvm" else 0
    plain = Machine(FRAMES, 64, protected, cores=2, architecture=architecture, tlb=TINY)
    cached = Machine(FRAMES, 64, protected, cores=2, architecture=architecture, tlb={**TINY, "walk_cache": caches})
    chance = Chance(seed, architecture == "nested")
    for turn in range(2500):
        operation = chance.next(plain)
        result = plain.apply(operation)
        assert without_references(cached.apply(operation)) == without_references(result), (turn, operation)
        chance.see(operation, result)
        if turn % 10 == 0:
            trace = chance.trace()
            one, two = plain.run_trace(turn % 20 // 10, *trace), cached.run_trace(turn % 20 // 10, *trace)
            assert without_references(two) == without_references(one)
            assert two["references"] <= one["references"]
        if turn % 250 == 249:
            assert plain.dump() == cached.dump()
            assert plain.tlb().tobytes() == cached.tlb().tobytes()
            cached.check_invariants()
    few, many = cached.counters(), plain.counters()
    assert few["miss"] == many["miss"] > 80
    assert few["references"] < many["references"]


@pytest.mark.parametrize("policy", ["round-robin", "lru"])
def test_a_restored_machine_goes_on_as_if_nothing_had_been(policy: str) -> None:
    machine = Machine(FRAMES, 64, 256, cores=2, tlb={**TINY, "policy": policy, "walk_cache": {"guest": 2, "nested": 2}})
    chance = Chance(7, False)
    for turn in range(1500):
        operation = chance.next(machine)
        chance.see(operation, machine.apply(operation))
        if turn % 300 == 299:
            twin = Machine.restore(machine.snapshot())
            assert twin.digest() == machine.digest()
            assert twin.tlb().tobytes() == machine.tlb().tobytes()
            for core in (0, 1):
                trace = chance.trace()
                assert twin.run_trace(core, *trace) == machine.run_trace(core, *trace)
            machine = twin


@pytest.mark.parametrize(
    ("tlb", "name"),
    [
        ({"policy": "fifo"}, "tlb.policy"),
        ({"policy": ["lru"]}, "tlb.policy"),
        ({"walk_cache": {"guest": 65}}, "tlb.walk_cache.guest"),
        ({"walk_cache": {"nested": True}}, "tlb.walk_cache.nested"),
        ({"walk_cache": {"levels": 2}}, "tlb.walk_cache"),
    ],
)
def test_a_wrong_option_is_named(tlb: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        Machine(FRAMES, 64, 64, tlb=tlb)
