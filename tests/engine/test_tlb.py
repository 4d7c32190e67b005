"""The TLB keeps what a walk said, and forgets it in time where the hardware cares."""

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hsvm_engine import Machine

from .conftest import Make, must


def hit(machine: Machine, gva: int, core: int = 0, kind: str = "r") -> str:
    return str(must(machine.guest.guest_access(core=core, gva=gva, kind=kind))["hit"])


def buffers(accesses: list[tuple[int, int]]) -> tuple[Any, Any]:
    return np.array([a for a, _ in accesses], dtype=np.uint64), np.array([k for _, k in accesses], dtype=np.uint8)


def test_the_first_level_replaces_in_turn_and_the_second_still_knows(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine, pages=100)
    same_set = [page << 12 for page in range(0, 80, 16)]  # five pages for four ways
    assert [hit(machine, gva) for gva in same_set] == ["miss"] * 5
    assert hit(machine, same_set[1]) == "l1"
    assert hit(machine, same_set[0]) == "l2"  # the fifth took its way; this takes the second's
    assert hit(machine, same_set[1]) == "l2"


def test_entries_are_tagged_by_vm_and_cr3(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    guest(machine, first=400, core=1)
    assert (hit(machine, 0), hit(machine, 0), hit(machine, 0, core=1)) == ("miss", "l1", "miss")
    must(machine.guest.guest_map(core=0, gva=0, gpn=5))
    assert must(machine.guest.guest_access(core=0, gva=0, kind="r"))["mfn"] == 261  # not the entry of gpa 0
    assert {int(row["cr3"]) for row in machine.tlb(0) if row["valid"]} == {0, 15 << 12}


def test_another_cr3_drops_all_of_the_vms_entries_on_its_core(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    hit(machine, 0)
    must(machine.guest.guest_set_registers(core=0, registers={"rax": 1, "cr3": 0}))
    assert hit(machine, 0) == "l1"  # no change
    must(machine.guest.guest_set_registers(core=0, registers={"cr3": 4096}))
    assert not machine.tlb(0)["valid"].any()


def test_an_unmap_shoots_down_every_core(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.context_restore(vm=vm, vcpu=1, core=1))
    assert [hit(machine, 0, core=core) for core in (0, 1)] == ["miss", "miss"]
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    assert machine.events(machine.op - 1)[0]["shot"] == 4  # two levels of two cores
    for core in (0, 1):
        assert machine.guest.guest_access(core=core, gva=0, kind="r")["status"] == "F_NOT_PRESENT"


def test_an_unmap_of_a_guest_table_shoots_down_what_came_from_it(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.guest.guest_map(core=0, gva=0, gpn=1))
    hit(machine, 0)
    must(machine.hypervisor.page_unmap(vm=vm, gpn=12))  # the lowest of the four tables
    assert machine.guest.guest_access(core=0, gva=0, kind="r")["status"] == "F_NOT_PRESENT"


def test_on_nested_an_entry_stays_until_it_is_flushed(make: Make, guest: Callable[..., int]) -> None:
    machine = make("nested")
    vm = guest(machine)
    must(machine.guest.guest_write(core=0, gpa=0, data="aa"))
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    assert must(machine.guest.guest_read(core=0, gpa=0, length=1))["data"] == "aa"
    assert machine.tlb()["state"].sum() == 2  # STALE in both levels
    must(machine.hypervisor.hv_flush(core=0, vm=vm))
    assert machine.guest.guest_read(core=0, gpa=0, length=1)["status"] == "F_NOT_PRESENT"


def test_guest_flush_drops_one_page_on_its_own_core(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.context_restore(vm=vm, vcpu=1, core=1))
    for core in (0, 1):
        hit(machine, 0, core=core)
        hit(machine, 4096, core=core)
    must(machine.guest.guest_flush(core=0, gva=5))
    assert [hit(machine, 4096), hit(machine, 0), hit(machine, 0, core=1)] == ["l1", "miss", "l1"]


def test_a_permission_that_the_guest_has_widened_is_found_by_a_walk(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_map(core=0, gva=0, gpn=1, perm="r"))
    hit(machine, 0)
    assert machine.guest.guest_access(core=0, gva=0, kind="w")["status"] == "F_PERMISSION"
    leaf = (1 << 12 | 7).to_bytes(8, "little")
    must(machine.guest.guest_write(core=0, gpa=12 * 4096, data=leaf))
    assert [hit(machine, 0, kind="w"), hit(machine, 0, kind="w")] == ["miss", "l1"]
    machine.check_invariants()


@pytest.mark.parametrize("seed", range(3))
def test_a_trace_does_what_its_accesses_do_one_by_one(make: Make, guest: Callable[..., int], seed: int) -> None:
    batch, single = make(), make()
    for machine in (batch, single):
        vm = guest(machine, pages=200)
        must(machine.hypervisor.page_map(vm=vm, gpn=512, mfn=512, size=512))
        if seed:
            for page in range(100):
                must(machine.guest.guest_map(core=0, gva=page << 12, gpn=page, perm="rw"))
    source = random.Random(seed)
    accesses = []
    for _ in range(3000):
        page = source.choice((source.randrange(100), source.randrange(8), source.randrange(64, 80)))
        if not seed and source.random() < 0.2:
            page = 512 + source.randrange(512)
        accesses += [((page << 12) + source.randrange(4096), source.randrange(2))] * source.randrange(1, 3)
    result = batch.run_trace(0, *buffers(accesses))
    seen = {"l1": 0, "l2": 0, "miss": 0}
    for gva, kind in accesses:
        seen[hit(single, gva, kind="rw"[kind])] += 1
    assert {level: result[level] for level in seen} == seen  # type: ignore[literal-required]
    assert sum(sum(counts.values()) for counts in result["kinds"].values()) == result["done"] == len(accesses)
    assert batch.digest() == single.digest()
    assert (batch.op, batch.counters()["references"]) == (single.op, single.counters()["references"])
    batch.check_invariants()


def test_a_trace_stops_at_the_first_access_that_faults(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine, pages=4, perm="r")
    before = machine.op
    result = machine.run_trace(0, *buffers([(0, 0), (4096, 0), (4100, 1), (0, 0)]))
    assert (result["done"], result["status"], result["gva"], result["gpa"]) == (2, "F_PERMISSION", 4100, 4100)
    assert machine.op == before + 3
    result = machine.run_trace(0, *buffers([(9 << 12, 0)]))
    assert (result["status"], result["gpa"]) == ("F_NOT_PRESENT", 9 << 12)
    must(machine.hypervisor.page_map(vm=vm, gpn=9, mfn=1000))
    assert machine.run_trace(0, *buffers([(9 << 12, 0)]))["status"] == "OK"


def test_a_fault_in_the_guests_own_table_names_no_guest_physical_address(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_map(core=0, gva=0, gpn=40))
    assert machine.run_trace(0, *buffers([(4096, 0)]))["gpa"] is None
    result = machine.run_trace(0, *buffers([(7, 0)]))
    assert (result["status"], result["gva"], result["gpa"]) == ("F_NOT_PRESENT", 7, (40 << 12) + 7)


@pytest.mark.parametrize(
    ("core", "accesses", "status"),
    [(0, [(1 << 48, 0)], "E_INPUT"), (0, [(0, 3)], "E_INPUT"), (1, [(0, 0)], "E_STATE"), (9, [(0, 0)], "E_INPUT")],
)
def test_a_trace_out_of_range_is_a_status(
    make: Make, guest: Callable[..., int], core: int, accesses: list[tuple[int, int]], status: str
) -> None:
    machine = make()
    guest(machine)
    before = machine.digest()
    assert (machine.run_trace(core, *buffers(accesses))["status"], machine.digest()) == (status, before)


@pytest.mark.parametrize(
    ("addresses", "kinds", "name"),
    [
        ([1], np.zeros(1, np.uint8), "addresses"),
        (np.zeros(1, np.int32), np.zeros(1, np.uint8), "addresses"),
        (np.zeros(2, np.uint64), np.zeros(1, np.uint8), "kinds"),
        (np.zeros((2, 2), np.uint64), np.zeros(4, np.uint8), "addresses"),
        (None, None, "addresses"),
    ],
)
def test_a_wrong_buffer_is_named(make: Make, addresses: Any, kinds: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make().run_trace(0, addresses, kinds)


def test_nobody_touches_the_machine_while_a_trace_runs(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine, pages=1500, first=400)
    accesses = buffers([((page * 7919 % 1500) << 12, 0) for page in range(2_000_000)])
    thread = threading.Thread(target=machine.run_trace, args=(0, *accesses))
    refused = 0
    thread.start()
    while thread.is_alive():
        try:
            machine.apply({"op": "guest_registers", "core": 0})
        except RuntimeError:
            refused += 1
    thread.join()
    assert refused
    assert machine.counters()["accesses"] == 2_000_000
