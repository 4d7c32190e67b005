"""Batches of maps and unmaps leave behind what the same operations leave one by one: their twin is `apply` itself."""

import random
from typing import Any

import numpy as np
import pytest

from hsvm_engine import Machine, Status

from .test_step_back import CORES, FRAMES, HYPERVISOR, PROTECTED, Driver

Columns = dict[str, Any]


def host(architecture: str, options: dict[str, Any]) -> Machine:
    protected = 0 if architecture in ("nested", "shadow") else PROTECTED
    return Machine(FRAMES, HYPERVISOR, protected, cores=CORES, architecture=architecture, options=options)


def some_columns(source: random.Random, handles: list[int], op: str) -> Columns:
    """Mostly neighbours that fit, here and there a page, frame or VM that does not."""
    count, first = source.randrange(1, 40), source.randrange(30)
    gpns = [first + i if source.random() < 0.9 else source.randrange(1 << 37) for i in range(count)]
    vms = [source.choice(handles) if source.random() < 0.2 else handles[0] for _ in range(count)]
    columns: Columns = {"vm": np.array(vms, np.uint64), "gpn": np.array(gpns, np.uint64)}
    if op == "page_map":
        mfns = [source.randrange(100, FRAMES + 20) for _ in range(count)]
        columns |= {"mfn": np.array(mfns, np.uint64), "perm": source.choice(("r", "rw", "rwx")), "size": 1}
    return columns


def one_by_one(machine: Machine, op: str, columns: Columns) -> list[str]:
    names = list(columns)
    count = len(columns["gpn"])
    rows = (
        {name: columns[name] if name in ("perm", "size") else int(columns[name][i]) for name in names}
        for i in range(count)
    )
    return [machine.apply({"op": op, **row})["status"] for row in rows]


def agree(batched: Machine, single: Machine, since: int) -> None:
    assert batched.op == single.op
    if batched.op > since:
        assert batched.events(since)[-1]["op"] == batched.op
    for begin in {since, (since + batched.op) // 2, max(since, batched.op - 1)}:  # also from the middle of a run
        assert batched.dirty(begin).tolist() == single.dirty(begin).tolist()
        assert batched.diff(since, begin).tolist() == single.diff(since, begin).tolist()
    assert batched.counters() == single.counters()
    assert batched.digest() == single.digest()


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("hsvm", {}),
        ("hsvm", {"page_map_rule": "literal"}),
        ("hsvm", {"skip": ["tlb_shootdown"]}),
        ("hsvm", {"fault": {"step": 3, "nth": 20}}),
        ("hsvm-smm", {}),
        ("nested", {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(4))
def test_a_batch_is_its_elements_one_by_one_and_is_taken_back_alike(
    architecture: str, options: dict[str, Any], seed: int
) -> None:
    batched, single = host(architecture, options), host(architecture, options)
    driver, source = Driver(batched, seed), random.Random(seed)
    for _ in range(60):
        since = batched.op
        for _ in range(source.randrange(6)):
            op = driver.operation()
            assert batched.apply(op) == single.apply(op)
        handles = [handle for handle, _ in batched.dump()["vms"]] or [1]
        name = source.choice(("page_map", "page_map", "page_unmap"))
        columns = some_columns(source, handles, name)
        statuses = batched.run_batch(name, columns)
        assert [Status(int(status)).name for status in statuses] == one_by_one(single, name, columns)
        agree(batched, single, since)
        if source.random() < 0.3:
            to = source.randrange(max(since - 30, batched.oldest_op, single.oldest_op), batched.op + 1)
            reached = batched.step_back(to)  # a run of plain elements is taken back whole
            assert reached <= to and single.step_back(reached) == reached
            agree(batched, single, min(reached, since))
        batched.check_invariants()


def test_a_run_of_a_batch_is_one_event_and_is_taken_back_whole() -> None:
    machine = Machine(1 << 14, 1024, 1024)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    gpns = np.arange(1000, dtype=np.uint64)
    columns = {"vm": vm, "gpn": gpns, "mfn": gpns + np.uint64(2048), "perm": "rw", "size": 1}
    assert not machine.run_batch("page_map", columns).any()
    assert machine.op == 1001
    runs = [(event["op"], event["gpn"], event["mfn"], event["amount"]) for event in machine.events(1)]
    assert runs == [(2, 0, 2048, 0), (513, 1, None, 511), (514, 512, 2560, 0), (1001, 513, None, 487)]
    assert machine.step_back(1000) == 514
    assert machine.counters()["vms"][0]["frames"] == 513
    machine.check_invariants()


def test_a_batch_that_is_longer_than_the_journal_can_still_be_taken_back_as_far_as_it_says() -> None:
    pages = 200_000
    machine = Machine(1 << 18, 1024, 4096 + 1024)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    gpns = np.arange(pages, dtype=np.uint64)
    columns = {"vm": vm, "gpn": gpns, "mfn": gpns + np.uint64(2048), "perm": "rw", "size": 1}
    machine.run_batch("page_map", columns)
    for _ in range(6):
        machine.run_batch("page_unmap", {"vm": vm, "gpn": gpns})
        machine.run_batch("page_map", columns)
    mapped, last = machine.digest(), machine.op
    machine.run_batch("page_unmap", {"vm": vm, "gpn": gpns[-50_000:]})
    assert last > machine.oldest_op > pages  # 8 MiB of old values: a million plain elements, not all
    assert machine.step_back(last) == last
    assert machine.digest() == mapped
    assert machine.step_back(machine.oldest_op) == machine.oldest_op
    machine.check_invariants()


def test_pages_with_bytes_come_back_with_them() -> None:
    machine = Machine(4096, 64, 512)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    gpns = np.arange(64, dtype=np.uint64)
    machine.run_batch("page_map", {"vm": vm, "gpn": gpns, "mfn": gpns + np.uint64(100), "perm": "rw", "size": 1})
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    for gpn in range(0, 64, 3):
        machine.guest.guest_write(core=0, gpa=gpn * 4096, data=b"\x5a" * (gpn + 1))
    machine.hypervisor.context_save(core=0)
    before, op = machine.digest(), machine.op
    assert not machine.run_batch("page_unmap", {"vm": vm, "gpn": gpns}).any()
    assert machine.dump()["nonzero"] == []
    machine.step_back(op)
    assert machine.digest() == before


def mapped_at_random(machine: Machine, pages: int, seed: int) -> Columns:
    """A batch that maps so many pages to frames in no order, so that no two changes are neighbours."""
    order = np.random.default_rng(seed).permutation(pages).astype(np.uint64)
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    return {"vm": vm, "gpn": np.arange(pages, dtype=np.uint64), "mfn": order + 64, "perm": "rw", "size": 1}


def test_changes_that_run_over_the_end_of_the_journals_ring_are_read_as_they_were() -> None:
    machine = Machine(64 + 1000 + 100, 64, 100)
    columns = mapped_at_random(machine, 1000, 1)
    unmap = {name: columns[name] for name in ("vm", "gpn")}
    for _ in range(800):  # 2 x 1,000 changes in lists of a sixth as many places: the ring of 2^18 goes round
        machine.run_batch("page_map", columns)
        begin = machine.op
        machine.run_batch("page_unmap", unmap)
        for since in (begin - 1000, begin - 400, begin, begin + 700):
            assert machine.dirty(since).tolist() == sorted(
                set((columns["mfn"] if since < begin else columns["mfn"][since - begin :]).tolist())
            )


def test_a_host_that_goes_back_over_more_than_the_journal_lists_goes_on_listing() -> None:
    """Refusals have so short old values that the host can go back beyond its events."""
    machine = Machine(64 + 2000, 64, 500)
    assert machine.run_batch("claim", {"mfn": np.full(100_000, 2050, dtype=np.uint64)}).all()
    far = machine.oldest_op
    with pytest.raises(ValueError, match="the journal starts after operation"):
        machine.events(far)
    machine.step_back(far)
    assert machine.dirty(far).tolist() == machine.events(far) == []
    machine.hypervisor.claim(mfn=1500)
    assert machine.dirty(far).tolist() == [1500] and len(machine.events(far)) == 1
    assert machine.diff(far, machine.op).tolist() == [(1500, 0, 1)]


def test_pages_that_the_tlb_holds_are_shot_down_as_one_by_one() -> None:
    """The rest of the VM's pages need no look at the TLB beyond finding that they are not in it."""
    hosts = [Machine(2048, 64, 500), Machine(2048, 64, 500)]
    for machine in hosts:
        columns = mapped_at_random(machine, 300, 3)
        machine.run_batch("page_map", columns)
        machine.hypervisor.context_restore(vm=columns["vm"], vcpu=0, core=0)
        for gpn in range(0, 300, 7):
            machine.guest.guest_write(core=0, gpa=4096 * gpn, data=b"secret")
        machine.hypervisor.context_save(core=0)
    unmap = {name: columns[name] for name in ("vm", "gpn")}
    hosts[0].run_batch("page_unmap", unmap)
    begin = hosts[1].op
    for gpn in range(300):
        hosts[1].hypervisor.page_unmap(vm=unmap["vm"], gpn=gpn)
    agree(*hosts, since=begin)
    assert len(hosts[0].events(begin)) < len(hosts[1].events(begin))
    assert sum(event["shot"] for event in hosts[0].events(begin)) == 2 * 43  # both levels held the pages
