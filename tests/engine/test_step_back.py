"""Going back: after any number of random operations the host is again, byte for byte, as it was at an earlier one."""

import random
from typing import Any

import numpy as np
import pytest

from hsvm_engine import ARCHITECTURES, Machine

FRAMES, HYPERVISOR, PROTECTED, CORES, PAGES = 1600, 128, 40, 2, 6
TLBS: dict[str, dict[str, Any]] = {"plain": {}, "lru": {"policy": "lru", "walk_cache": {"guest": 4, "nested": 4}}}


class Driver:
    """Random operations that get deep: a few VMs, a few pages each, everything that can happen to a page."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self.machine, self.random = machine, random.Random(seed)
        self.images: list[tuple[int, int, str]] = []

    def step(self) -> None:
        if self.random.random() < 0.1:
            count = self.random.randrange(1, 30)
            addresses = np.array([self.random.randrange(PAGES) << 12 for _ in range(count)], np.uint64)
            self.machine.run_trace(self.random.randrange(CORES), addresses, np.zeros(count, np.uint8))
            return
        op = self.operation()
        result = self.machine.apply(op)
        if op["op"] == "swap_out" and result["status"] == "OK":
            self.images.append((op["vm"], op["gpn"], result["image"]))

    def operation(self) -> dict[str, Any]:
        pick = self.random.choice
        living = [handle for handle, _ in self.machine.dump()["vms"]]
        vm, other = (pick(living), pick(living)) if living else (0, 0)
        core, gpn, mfn = self.random.randrange(CORES), self.random.randrange(PAGES), self.random.randrange(120, 1500)
        gpa, gva = (gpn << 12) + self.random.randrange(4096), gpn << 12
        page = {"op": "page_map", "vm": vm, "gpn": gpn, "mfn": mfn, "perm": pick(("rw", "rw", "rwx", "r")), "size": 1}
        spare = {"op": "page_map", "vm": vm, "gpn": self.random.randrange(20, 30), "mfn": mfn, "perm": "rw", "size": 1}
        choices: list[dict[str, Any]] = [
            *[page] * 4,
            *[spare] * 4,
            {"op": "page_map", "vm": vm, "gpn": 512, "mfn": 512, "perm": "rwx", "size": 512},
            {"op": "page_unmap", "vm": vm, "gpn": pick((gpn, 512 + gpn))},
            {"op": "swap_out", "vm": vm, "gpn": pick((gpn, 512 + gpn))},
            {"op": "context_restore", "vm": vm, "vcpu": pick((0, 1)), "core": core},
            {"op": "context_save", "core": core},
            *[{"op": "guest_write", "core": core, "gpa": gpa, "data": "ab" * self.random.randrange(1, 9)}] * 2,
            {"op": "guest_read", "core": core, "gpa": (512 + gpn) << 12, "length": 8},
            *[{"op": "guest_map", "core": core, "gva": gva, "gpn": gpn, "perm": "rw"}] * 2,
            *[{"op": "guest_access", "core": core, "gva": gva, "kind": pick("rw")}] * 2,
            {"op": "guest_set_registers", "core": core, "registers": {"rax": self.random.randrange(9)}},
            {"op": "guest_share", "core": core, "gpn": gpn, "perm": pick(("r", "rw"))},
            {"op": "guest_unshare", "core": core, "gpn": gpn},
            *[{"op": "guest_mergeable", "core": core, "gpn": gpn, "with": pick(("any", living))}] * 3,
            *[{"op": "merge", "vm": vm, "gpn": gpn, "other_vm": other, "other_gpn": self.random.randrange(PAGES)}] * 3,
            {"op": "unmerge", "vm": vm, "gpn": gpn, "mfn": mfn},
            {"op": "balloon", "vm": vm, "pages": 2},
            {"op": "hv_write", "mfn": self.random.randrange(8), "offset": 8, "data": "01"},
            {"op": "hv_read", "mfn": mfn, "offset": 0, "length": 8},
            {"op": "dma_read", "device": 1, "mfn": 3, "offset": 0, "length": 8},
            {"op": "claim", "mfn": mfn},
            {"op": "release", "mfn": self.random.randrange(128, 200)},
            {"op": "inject", "core": core, "vector": 128},
        ]
        rare = [
            {"op": "delete_vm", "vm": vm},
            {"op": "export_vm", "vm": vm, "target": "00" * 16},
            {"op": "preempt", "core": core, "after": 3},
            {"op": "set_npt_root", "vm": vm, "mfn": 5},
            {"op": "hv_flush", "core": core, "vm": vm},
        ]
        if len(living) < 3:
            choices += [{"op": "create_vm", "vcpus": 2}] * 3
        if self.images:
            handle, swapped, image = pick(self.images[-4:])
            choices += [{"op": "swap_in", "vm": handle, "gpn": swapped, "mfn": mfn, "image": image}] * 2
        return pick(rare) if self.random.random() < 0.06 else pick(choices)


def machine(architecture: str, tlb: str = "plain", **more: Any) -> Machine:
    protected = PROTECTED if ARCHITECTURES[architecture].protected_region else 0
    return Machine(FRAMES, HYPERVISOR, protected, CORES, architecture, tlb=TLBS[tlb], **more)


@pytest.mark.parametrize("tlb", TLBS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_earlier_state_comes_back_whole(architecture: str, tlb: str) -> None:
    host = machine(architecture, tlb)
    driver = Driver(host, 5)
    seen = {0: (host.digest(), host.counters())}
    back = 0
    for number in range(1200):
        driver.step()
        seen[host.op] = host.digest(), host.counters()
        if number % 40 == 39:
            host.check_invariants()
            to = max(host.oldest_op, host.op - driver.random.randrange(1, 25))
            reached = host.step_back(to)
            assert reached <= to
            assert (host.digest(), host.counters()) == seen[reached], (number, reached)
            host.check_invariants()
            assert Machine.restore(host.snapshot()).digest() == host.digest()
            back += 1
    assert back == 30
    assert host.op > 300


def test_what_was_taken_back_can_be_done_again_with_the_same_end() -> None:
    host = machine("hsvm")
    driver = Driver(host, 9)
    for _ in range(200):
        driver.step()
    middle, ops = host.op, []
    apply = host.apply
    for _ in range(200):
        ops.append(driver.operation())
        apply(ops[-1])
    end, events = host.digest(), host.events(middle)
    assert host.step_back(middle) == middle
    assert host.events(max(0, middle - 5))[-1]["op"] == middle
    for op in ops:
        apply(op)
    assert (host.digest(), host.events(middle)) == (end, events)


def test_owners_between_two_operations_are_listed_once_each_with_both() -> None:
    host = machine("hsvm")
    before = host.ownership().copy()
    vm = host.hypervisor.create_vm(vcpus=1)["vm"]
    for gpn in range(5):
        host.hypervisor.page_map(vm=vm, gpn=gpn, mfn=300 + gpn)
    host.hypervisor.page_unmap(vm=vm, gpn=2)
    rows = host.diff(0)
    assert rows["mfn"].tolist() == [300, 301, 303, 304]
    assert rows["old"].tolist() == before[rows["mfn"]].tolist()
    assert rows["new"].tolist() == host.ownership()[rows["mfn"]].tolist()
    assert host.diff(0, 4)["mfn"].tolist() == [300, 301, 302]


def test_a_trace_is_taken_back_whole() -> None:
    host = machine("hsvm")
    vm = host.hypervisor.create_vm(vcpus=1)["vm"]
    for gpn in range(8):
        host.hypervisor.page_map(vm=vm, gpn=gpn, mfn=300 + gpn)
    host.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    before, digest = host.op, host.digest()
    host.run_trace(0, (np.arange(100, dtype=np.uint64) % 8) << np.uint64(12), np.zeros(100, np.uint8))
    assert host.op == before + 100
    assert host.step_back(before + 50) == before
    assert host.digest() == digest


def test_a_million_operations_are_taken_back_and_done_again_with_the_same_digests() -> None:
    host = machine("hsvm")
    vm = host.hypervisor.create_vm(vcpus=1)["vm"]
    for gpn in range(PAGES * 20):
        host.hypervisor.page_map(vm=vm, gpn=gpn, mfn=300 + gpn)
    host.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    before, digest = host.op, host.digest()
    draw = np.random.default_rng(7)
    bursts = [draw.integers(0, PAGES * 20, 10_000, np.uint64) << np.uint64(12) for _ in range(100)]
    ends = []
    for _ in range(2):
        for burst in bursts:
            assert host.run_trace(0, burst, np.zeros(len(burst), np.uint8))["done"] == len(burst)
        ends.append((host.op, host.digest(), host.counters()))
        assert host.step_back(before) == before
        assert host.digest() == digest
    assert ends[0] == ends[1]
    assert ends[0][0] - before == 1_000_000


def test_what_the_journal_has_forgotten_is_refused_and_nothing_changes() -> None:
    host = machine("hsvm")
    for _ in range(200):
        host.hypervisor.hv_write(mfn=5, offset=0, data="ab" * 4096)
        host.hypervisor.hv_write(mfn=5, offset=0, data="cd" * 4096)
    for _ in range(2000):
        host.hypervisor.hv_write(mfn=5, offset=0, data="ab" * 4096)
    assert host.oldest_op > 300
    digest = host.digest()
    for to in (0, host.oldest_op - 1):
        with pytest.raises(ValueError, match="to_op"):
            host.step_back(to)
    assert host.digest() == digest
    assert host.step_back(host.oldest_op) == host.oldest_op
    with pytest.raises(ValueError, match="to_op"):
        host.step_back("1")  # type: ignore[arg-type]
