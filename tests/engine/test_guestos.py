"""The guest OS model: first touch, page tables in guest memory, memory given back, and what survives bad luck."""

from collections import Counter

import numpy as np
import pytest

from hsvm_engine import Machine
from hsvm_engine.guestos import GuestError, GuestOS, OutOfFrames, SplitMix
from hsvm_engine.honest import ExtentAllocator

PAGES = 512
VIRTUAL = 0x7F00_0000_0000
SECRET = bytes(range(1, 17))


class Host:
    """A machine with one running guest, and a hypervisor that hands out frames from the lowest on."""

    def __init__(self, pages: int = PAGES, frames: int = 4_096) -> None:
        self.machine = Machine(frames=frames, hypervisor_frames=256, protected_frames=256, architecture="hsvm", seed=3)
        self.vm = self.machine.hypervisor.create_vm(vcpus=1)["vm"]
        assert self.machine.hypervisor.context_restore(vm=self.vm, vcpu=0, core=0)["status"] == "OK"
        self.left = frames
        self.guest = GuestOS(self.machine, pages=pages, seed=5, secret=SECRET, back=self.back)

    def back(self, gpn: int, perm: str) -> bool:
        free = np.flatnonzero(self.machine.ownership() == 0)
        if not self.left or not len(free):
            return False
        self.left -= 1
        result = self.machine.hypervisor.page_map(vm=self.vm, gpn=gpn, mfn=int(free[0]), perm=perm, size=1)
        assert result["status"] == "OK"
        return True

    def touch(self, page: int, kind: int = 0) -> int:
        """Access one virtual page until it works; how many faults that took."""
        gva, faults = np.array([VIRTUAL + page * 4096], np.uint64), 0
        while True:
            result = self.machine.run_trace(0, gva.data, bytes([kind]))
            if result["status"] == "OK":
                return faults
            faults += 1
            self.guest.fault(0, result["status"], int(gva[0]), kind)

    def leaves(self) -> dict[int, tuple[int, str]]:
        return {gpn: (mfn, perm) for gpn, mfn, _, perm in self.machine.dump()["leaves"][self.vm]}


def test_boot_writes_the_secret_into_page_0_and_touches_the_kernel() -> None:
    host = Host()
    host.guest.boot(0)
    assert host.machine.guest.guest_read(core=0, gpa=0, length=16)["data"] == SECRET.hex()
    kernel = range(host.guest.tables, host.guest.kernel)
    assert sorted(host.leaves()) == [0, *kernel]


def test_a_page_gets_memory_at_its_first_touch_and_keeps_it() -> None:
    host = Host()
    host.guest.boot(0)
    assert host.touch(0) == 1
    assert host.touch(0) == 0
    gpn, _ = host.guest.program[VIRTUAL >> 12]
    walked = host.machine.walk(0, VIRTUAL)
    assert walked["gpa"] == gpn << 12
    assert walked["mfn"] == host.leaves()[gpn][0]
    assert len(walked["references"]) == 24


def test_page_tables_lie_in_the_guests_own_table_pages() -> None:
    host = Host()
    host.guest.boot(0)
    for page in range(0, 2_000, 100):
        host.touch(page)
    tables = {gpn: perm for gpn, (_, perm) in host.leaves().items() if 0 < gpn < host.guest.tables}
    assert host.guest.cr3 >> 12 in tables
    assert len(tables) == 3 + 4  # one of each upper level, four of the lowest for 2,000 pages
    assert set(tables.values()) == {"rw"}
    assert {perm for gpn, (_, perm) in host.leaves().items() if gpn not in tables} == {"rwx"}
    host.machine.check_invariants()


def test_a_page_that_is_fetched_and_written_is_widened() -> None:
    host = Host()
    host.guest.boot(0)
    for kind in (2, 1, 0, 2):
        host.touch(7, kind)
    assert host.guest.program[(VIRTUAL >> 12) + 7][1] == "rwx"


def test_the_next_process_takes_the_pages_given_back_and_the_same_tables() -> None:
    host = Host()
    host.guest.boot(0)
    seen = []
    for _ in range(3):
        for page in range(50):
            host.touch(page)
        seen.append({gpn for gpn, _ in host.guest.program.values()})
        held, tables = len(host.leaves()), host.guest.next_table
        host.guest.exit_process(0)
        assert host.touch(0) > 0  # nothing is left mapped
        host.guest.exit_process(0)
    assert seen[0] == seen[1] == seen[2]
    assert (len(host.leaves()), host.guest.next_table) == (held, tables)


def test_a_guest_without_free_memory_pages_its_oldest_page_out() -> None:
    host = Host(pages=256)
    host.guest.boot(0)
    room = 256 - host.guest.kernel
    for page in range(room + 20):
        host.touch(page)
    assert len(host.guest.program) == room
    assert host.touch(room + 19) == 0
    assert host.touch(0) > 0
    gpns = Counter(gpn for gpn, _ in host.guest.program.values())
    assert max(gpns.values()) == 1
    host.machine.check_invariants()


def test_a_ballooned_page_that_is_touched_again_faults_and_is_mapped_again() -> None:
    host = Host()
    host.guest.boot(0)
    for page in range(40):
        host.touch(page)
    before = host.leaves()
    assert host.guest.spare() == 40
    assert host.machine.hypervisor.balloon(vm=host.vm, pages=15)["released"] == 15
    host.guest.ballooned(15)
    assert host.guest.spare() == 25
    assert {gpn for gpn in before if gpn in host.leaves()} == {0, *host.guest.backed} | {
        gpn for gpn, (_, perm) in before.items() if perm == "rw"
    }
    faults = [host.touch(page) for page in range(40)]
    assert faults == [0] * 25 + [1] * 15
    assert sorted(host.leaves()) == sorted(before)


def test_a_host_without_frames_is_an_answer_and_not_the_end() -> None:
    host = Host()
    host.guest.boot(0)
    host.touch(0)
    host.left = 0
    for _ in range(2):
        with pytest.raises(OutOfFrames):
            host.touch(1)
    host.left = 10
    assert host.touch(1) > 0
    used = [gpn for gpn, _ in host.guest.program.values()] + list(host.guest.free)
    assert sorted(used) == list(range(host.guest.kernel, host.guest.fresh))  # no guest page is lost
    host.machine.check_invariants()


def test_a_fault_that_nobody_can_answer_ends_the_process_only() -> None:
    host = Host()
    host.guest.boot(0)
    host.touch(0)
    with pytest.raises(GuestError, match="F_OWNER"):
        host.guest.fault(0, "F_OWNER", VIRTUAL, 0)
    host.guest.exit_process(0)
    assert host.touch(0) > 0


def test_a_loaded_guest_goes_on_like_the_saved_one() -> None:
    host = Host()
    host.guest.boot(0)
    for page in range(30):
        host.touch(page)
    saved = host.guest.save()
    other = Host()
    other.machine = Machine.restore(host.machine.snapshot())
    other.vm = host.vm
    other.guest = GuestOS(other.machine, pages=PAGES, seed=0, secret=SECRET, back=other.back)
    other.guest.load(saved)
    for each in (host, other):
        for page in range(20, 60):
            each.touch(page)
        each.guest.exit_process(0)
        each.touch(3)
    assert host.machine.digest() == other.machine.digest()
    assert host.guest.save() == other.guest.save()


def test_frames_come_in_scattered_extents_and_to_the_last_one() -> None:
    owners = np.zeros(4_096, np.uint16)
    owners[:256], owners[-256:] = 1, 2
    allocator = ExtentAllocator(9)
    taken = []
    for _ in range(1_000):
        mfn = allocator.take(owners, 77)
        assert mfn is not None
        assert owners[mfn] == 0
        owners[mfn] = 3
        taken.append(mfn)
    neighbours = sum(b == a + 1 for a, b in zip(taken, taken[1:], strict=False))
    assert 0.7 < neighbours / 1_000 < 0.98  # extents
    assert np.ptp(np.array(taken)) > 3_000  # scattered
    rest = [allocator.take(owners, 77) for _ in range(1)]
    while rest[-1] is not None:
        owners[rest[-1]] = 3
        rest.append(allocator.take(owners, 77))
    assert not (owners == 0).any()


def test_the_random_source_is_known_and_even() -> None:
    assert [SplitMix(0).next(), SplitMix(1234567).next()] == [0xE220A8397B1DCDAF, 6457827717110365317]
    source = SplitMix(1)
    drawn = Counter(source.below(10) for _ in range(10_000))
    assert set(drawn) == set(range(10))
    assert max(drawn.values()) - min(drawn.values()) < 250
