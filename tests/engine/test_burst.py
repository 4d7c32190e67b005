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
    assert batched.dirty(since).tolist() == single.dirty(since).tolist()
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
