"""The batch loop's variants, and the loop against a plain model of the TLB."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hsvm_engine import Machine
from hsvm_engine.core.batch import batch_loops, use_batch_loop

from .conftest import must
from .tlbmodel import COLUMNS, PERM, Model

USUAL = {"l1": {"sets": 16, "ways": 4}, "l2": {"sets": 128, "ways": 12}}
SHAPES: list[dict[str, Any]] = [
    USUAL,
    {"l1": {"sets": 4, "ways": 4}, "l2": {"sets": 8, "ways": 12}},
    {"l1": {"sets": 1, "ways": 1}, "l2": {"sets": 1, "ways": 1}},
    {"l1": {"sets": 2, "ways": 3}, "l2": {"sets": 4, "ways": 7}},
    {"l1": {"sets": 1, "ways": 64}, "l2": {"sets": 64, "ways": 5}},
    {"l1": {"sets": 8, "ways": 8}, "l2": {"sets": 2, "ways": 64}},
]
POLICIES = ("round-robin", "lru")
FIRST, PAGES, BIG = 1024, 96, 2  # frames and pages of a VM; leaves of 2 MiB from gpn 512 on


class Pair:
    """One machine and its model, driven by one source of chance."""

    def __init__(self, shape: dict[str, Any], policy: str, seed: int, machine: Machine | None = None) -> None:
        self.source = random.Random(seed)
        shape = {**shape, "policy": policy}
        self.machine = machine or Machine(8192, 64, 128, cores=2, tlb=shape)
        self.model = Model(2, shape)
        self.vms = [self.start(number) for number in range(2)]
        self.cr3 = {0: 0, 1: 0}

    def start(self, number: int) -> int:
        """VM `number` on core `number`: pages of mixed permissions, some 2 MiB leaves, zero rw pages for tables."""
        vm = int(must(self.machine.hypervisor.create_vm(vcpus=1))["vm"])
        self.model.nested[vm] = {}
        for gpn in range(PAGES + 12):
            perm = "rw" if gpn >= PAGES else self.source.choice(("rw", "rw", "rwx", "r", "rx"))
            self.map(vm, gpn, FIRST * (1 + 3 * number) + gpn, perm, 1)
        for big in range(BIG):
            self.map(vm, 512 * (1 + big), FIRST * (1 + 3 * number) + 512 * (1 + big), "rw", 512)
        must(self.machine.hypervisor.context_restore(vm=vm, vcpu=0, core=number))
        return vm

    def map(self, vm: int, gpn: int, mfn: int, perm: str, size: int) -> None:
        must(self.machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=mfn, perm=perm, size=size))
        self.model.nested[vm][gpn] = mfn, sum(PERM[letter] for letter in perm), size

    def page(self) -> int:
        at = self.source
        return at.choice((at.randrange(PAGES), at.randrange(8), 512 + at.randrange(512 * BIG), at.randrange(PAGES + 4)))

    def trace(self, core: int, count: int) -> None:
        pages = [page for _ in range(count) for page in [self.page()] * self.source.randrange(1, 4)]
        kinds = [self.source.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2)) for _ in pages]
        addresses: Any = np.array([page << 12 | self.source.randrange(4096) for page in pages], np.uint64)
        kind_bytes: Any = np.array(kinds, np.uint8)
        at = 0
        while at < len(pages):  # a fault ends a trace in the middle: go on behind it
            part = slice(at, None)
            result = self.machine.run_trace(core, addresses[part], kind_bytes[part])
            seen = {"l1": 0, "l2": 0, "miss": 0}
            by_kind = {letter: dict(seen) for letter in "rwx"}
            status, done = "OK", 0
            for page, kind in zip(pages[part], kinds[part], strict=True):
                answer = self.model.access(core, self.vms[core], self.cr3[core], page, 1 << kind)
                if answer not in seen:
                    status = answer
                    break
                seen[answer] += 1
                by_kind["rwx"[kind]][answer] += 1
                done += 1
            assert (result["status"], result["done"]) == (status, done)
            assert {name: result[name] for name in seen} == seen  # type: ignore[literal-required]
            assert result["kinds"] == by_kind
            at += done + 1

    def other(self) -> None:
        """Something that drops entries, or gives addresses another meaning."""
        core = self.source.randrange(2)
        vm, page = self.vms[core], self.source.randrange(PAGES)
        guest, hypervisor = self.machine.guest, self.machine.hypervisor
        what = self.source.randrange(6)
        if what == 0 and page in self.model.nested[vm]:
            must(hypervisor.page_unmap(vm=vm, gpn=page))
            mfn, _, _ = self.model.nested[vm].pop(page)
            self.model.shoot(vm, page)
            if self.source.random() < 0.7:
                self.map(vm, page, mfn, self.source.choice(("rw", "r")), 1)
        elif what == 1:
            perm = self.source.choice(("rw", "r", "rx"))
            result = guest.guest_map(core=core, gva=page << 12, gpn=self.page(), perm=perm)
            self.learn(core, page, result["status"] == "OK")
        elif what == 2 and self.cr3[core]:
            guest.guest_unmap(core=core, gva=page << 12)
            self.learn(core, page, True)
        elif what == 3:
            must(guest.guest_flush(core=core, gva=page << 12))
            self.model.drop(core, vm, cr3=self.cr3[core], page=page)
        elif what == 4:
            other = self.vms[self.source.randrange(2)]
            must(hypervisor.hv_flush(core=core, vm=other))
            self.model.drop(core, other)
        elif self.source.random() < 0.4:
            self.cr3[core] = self.source.choice((0, *(cr3 for handle, cr3 in self.model.guest if handle == vm)))
            before = must(guest.guest_registers(core=core))["registers"]["cr3"]
            must(guest.guest_set_registers(core=core, registers={"cr3": self.cr3[core]}))
            if before != self.cr3[core]:
                self.model.drop(core, vm)

    def learn(self, core: int, page: int, edited: bool) -> None:
        """Take over a guest's edit of its table, as the walk shows it."""
        vm = self.vms[core]
        cr3 = self.cr3[core] = must(self.machine.guest.guest_registers(core=core))["registers"]["cr3"]
        if not edited or not cr3:
            return
        table = self.model.guest.setdefault((vm, cr3), {})
        own = [r for r in self.machine.walk(core, page << 12)["references"] if r["nested_level"] == 0]
        entry = int(own[-1]["entry"], 16)
        table.pop(page, None)
        if entry & 1 and own[-1]["guest_level"] == 1:
            table[page] = entry >> 12 & 0xFFFFFFFFF, 1 | entry & 2 | (0 if entry >> 63 else 4)
        self.model.drop(core, vm, cr3=cr3, page=page)

    def check(self) -> None:
        assert [tuple(int(v) for v in row) for row in self.machine.tlb()[COLUMNS]] == self.model.rows()


@pytest.fixture
def loops() -> Iterator[list[str]]:
    before = use_batch_loop(batch_loops()[0])
    yield batch_loops()
    use_batch_loop(str(before))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_traces_and_drops_leave_what_the_plain_model_says(shape: int, policy: str) -> None:
    pair = Pair(SHAPES[shape], policy, shape)
    for turn in range(60):
        pair.trace(turn % 2, 25)
        for _ in range(3):
            pair.other()
        if turn % 10 == 9:
            pair.check()
    pair.machine.check_invariants()


def long_trace(source: random.Random) -> tuple[Any, Any]:
    """Mixed phases, long enough for the look-ahead to be switched on and off: hits, misses, both sizes."""
    pages: list[int] = []
    for _ in range(12):
        phase = source.randrange(4)
        span = (40, 1200, 30_000, 2600)[phase]
        first = 0 if phase < 3 else 30_720
        pages += [first + source.randrange(span) for _ in range(source.randrange(200, 900))]
    kinds = [source.choice((0, 0, 1)) for _ in pages]
    return np.array(pages, np.uint64) << np.uint64(12), np.array(kinds, np.uint8)


def wide(policy: str, shape: dict[str, Any], paged: bool) -> Machine:
    """A guest of 30,720 pages and 5 leaves of 2 MiB; with `paged` a guest table over a part of them."""
    machine = Machine(1 << 16, 64, 512, tlb={**shape, "policy": policy})
    vm = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    for gpn in range(30_720):
        must(machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=2048 + gpn * 7 % 30_720))
    for big in range(60, 66):
        must(machine.hypervisor.page_map(vm=vm, gpn=512 * big, mfn=512 * (big + 10), perm="rw", size=512))
    must(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0))
    if paged:
        for page in range(0, 33_320):
            gpn = page if page >= 30_000 else (page * 11) % 30_000
            must(machine.guest.guest_map(core=0, gva=page << 12, gpn=gpn))
    return machine


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("paged", [False, True])
def test_all_variants_of_the_loop_do_the_same(loops: list[str], policy: str, paged: bool) -> None:
    for shape in SHAPES[:1] if paged else SHAPES[::2]:
        boot = wide(policy, shape, paged).snapshot()
        seen = []
        for name in loops:
            use_batch_loop(name)
            machine = Machine.restore(boot)
            source = random.Random(5)
            results = [machine.run_trace(0, *long_trace(source)) for _ in range(3)]
            seen.append((results, machine.digest(), machine.tlb().tobytes(), machine.counters()))
        assert all(result["status"] == "OK" and result["miss"] for result in results)
        assert all(each == seen[0] for each in seen[1:])


@pytest.mark.parametrize("paged", [False, True])
def test_a_trace_that_looks_ahead_counts_as_its_accesses_one_by_one(paged: bool) -> None:
    boot = wide("round-robin", USUAL, paged).snapshot()
    batch, single = Machine.restore(boot), Machine.restore(boot)
    addresses, kinds = long_trace(random.Random(9))
    result = batch.run_trace(0, addresses, kinds)
    references = 0
    for gva, kind in zip(addresses.tolist(), kinds.tolist(), strict=True):
        references += must(single.guest.guest_access(core=0, gva=gva, kind="rwx"[kind]))["references"]
    assert result["references"] == references
    assert (batch.digest(), batch.counters()) == (single.digest(), single.counters())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_page_that_another_kind_of_access_has_evicted_is_looked_up_again(loops: list[str], policy: str) -> None:
    boot = wide(policy, USUAL, False).snapshot()
    source = random.Random(2)
    pages = np.array([16 * source.randrange(6) for _ in range(600)], np.uint64)  # six for four ways of one set
    addresses: Any = pages << np.uint64(12)
    kinds: Any = np.array([source.randrange(2) for _ in range(600)], np.uint8)
    single = Machine.restore(boot)
    for gva, kind in zip(addresses.tolist(), kinds.tolist(), strict=True):
        must(single.guest.guest_access(core=0, gva=gva, kind="rw"[kind]))
    for name in loops:
        use_batch_loop(name)
        batch = Machine.restore(boot)
        batch.run_trace(0, addresses, kinds)
        assert (batch.digest(), batch.counters()) == (single.digest(), single.counters())


def test_a_trace_cut_into_pieces_is_the_same_trace() -> None:
    boot = wide("round-robin", USUAL, True).snapshot()
    whole, pieces = Machine.restore(boot), Machine.restore(boot)
    addresses, kinds = long_trace(random.Random(3))
    expected = whole.run_trace(0, addresses, kinds)
    total, at, source = dict.fromkeys(("done", "l1", "l2", "miss", "references"), 0), 0, random.Random(1)
    while at < len(kinds):
        part = slice(at, at + source.choice((1, 2, 60, 300)))
        result = pieces.run_trace(0, addresses[part], kinds[part])
        for key in total:
            total[key] += result[key]  # type: ignore[literal-required]
        at += result["done"]
    assert total == {key: expected[key] for key in total}  # type: ignore[literal-required]
    assert whole.digest() == pieces.digest()


def test_a_loop_that_the_processor_lacks_is_named(loops: list[str]) -> None:
    assert loops[-1] == "portable"
    with pytest.raises(ValueError, match="portable"):
        use_batch_loop("mmx")
    assert use_batch_loop("portable") == loops[0]
    assert use_batch_loop(loops[0]) == "portable"
