"""Ownership: who may get which frame, and what is in it then."""

import resource
import time
from collections.abc import Callable

import pytest

from hsvm_engine import Machine, Owner

from .conftest import FRAMES, HYPERVISOR, PROTECTED, Make, must

SECRET = "c0ffee" * 5


def test_at_boot_the_regions_have_their_owners(make: Make) -> None:
    kept = FRAMES - PROTECTED
    assert make().dump()["owners"] == [
        [0, HYPERVISOR, "hypervisor"],
        [HYPERVISOR, kept - HYPERVISOR, "free"],
        [kept, PROTECTED, "hsvm"],
    ]


def test_a_mapped_frame_belongs_to_its_vm_and_an_unmapped_one_is_free(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    owners = machine.ownership()
    assert owners[256] == machine.slot_of(vm)
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    assert owners[256] == Owner.FREE  # the view follows


@pytest.mark.parametrize(
    ("mfn", "status", "check", "owner"),
    [
        (0, "E_OWNER", "owner_check", "hypervisor"),
        (256, "E_OWNER", "owner_check", "vm:65537"),
        (FRAMES - 1, "E_PROT", "protected_check", "hsvm"),
    ],
)
def test_a_frame_that_is_not_free_is_refused_with_the_owner_found(
    make: Make, guest: Callable[..., int], mfn: int, status: str, check: str, owner: str
) -> None:
    machine = make()
    guest(machine)
    other = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    before = machine.digest()
    for result in (machine.hypervisor.page_map(vm=other, gpn=7, mfn=mfn), machine.hypervisor.claim(mfn=mfn)):
        assert (result["status"], result["check"]) == (status, check)
        assert (result["inputs"]["mfn"], result["inputs"]["owner"]) == (mfn, owner)
        assert result["inputs"]["need"] == "free"
    assert machine.digest() == before


def test_a_released_frame_is_zero_before_it_is_free(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    for gpn in (0, 1, 15):
        must(machine.guest.guest_write(core=0, gpa=gpn * 4096 + 77, data=SECRET))
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    must(machine.hypervisor.balloon(vm=vm, pages=1))
    must(machine.hypervisor.context_save(core=0))
    must(machine.hypervisor.delete_vm(vm=vm))
    assert machine.dump()["nonzero"] == []
    for mfn in (256, 257, 271):
        assert must(machine.hypervisor.hv_read(mfn=mfn, offset=0, length=4096))["data"] == "00" * 4096


def test_a_claimed_frame_can_be_used_and_released_but_not_twice(make: Make) -> None:
    machine = make()
    must(machine.hypervisor.claim(mfn=500))
    must(machine.hypervisor.hv_write(mfn=500, offset=0, data=SECRET))
    must(machine.hypervisor.release(mfn=500))
    assert machine.hypervisor.release(mfn=500)["status"] == "E_OWNER"
    assert machine.hypervisor.hv_read(mfn=500, offset=0, length=15)["data"] == "00" * 15


def test_the_balloon_gives_the_highest_pages_and_no_more_than_there_are(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    assert must(machine.hypervisor.balloon(vm=vm, pages=3))["released"] == 3
    assert [leaf[0] for leaf in machine.dump()["leaves"][vm]] == list(range(13))
    assert must(machine.hypervisor.balloon(vm=vm, pages=10**30))["released"] == 13
    assert must(machine.hypervisor.balloon(vm=vm, pages=1))["released"] == 0


def test_a_pool_that_runs_out_refuses_and_a_deleted_vm_fills_it_again(make: Make) -> None:
    machine = make()
    free = PROTECTED - 16 * FRAMES // 4096
    vms = []
    while (result := machine.hypervisor.create_vm(vcpus=1))["status"] == "OK":
        vms.append(result["vm"])
    assert (result["status"], len(vms)) == ("E_NOMEM", free // 2)
    before = machine.digest()
    assert machine.hypervisor.page_map(vm=vms[0], gpn=0, mfn=100)["status"] == "E_NOMEM"
    assert machine.digest() == before
    must(machine.hypervisor.delete_vm(vm=vms[-1]))
    must(machine.hypervisor.delete_vm(vm=vms[-2]))
    must(machine.hypervisor.page_map(vm=vms[0], gpn=0, mfn=100))
    machine.check_invariants()


def test_zeros_written_to_a_zero_frame_are_no_content(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_write(core=0, gpa=0, data="00" * 4096))
    must(machine.guest.guest_write(core=0, gpa=8192, data="01"))
    must(machine.guest.guest_write(core=0, gpa=8192, data="00"))
    assert machine.dump()["nonzero"] == []


def test_on_nested_everything_asked_is_done(make: Make, guest: Callable[..., int]) -> None:
    machine = make("nested")
    vm = guest(machine)
    must(machine.guest.guest_write(core=0, gpa=0, data=SECRET))
    other = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    must(machine.hypervisor.page_map(vm=other, gpn=0, mfn=256))
    assert machine.ownership()[256] == machine.slot_of(other)
    assert must(machine.hypervisor.hv_read(mfn=256, offset=0, length=15))["data"] == SECRET
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    assert machine.ownership()[256] == Owner.FREE
    assert 256 in machine.dump()["nonzero"]  # nobody wiped it
    machine.check_invariants()


def test_a_host_of_64_gib_opens_fast_and_small() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    machine = Machine(16_777_216, 65_536, 70_000)
    assert time.process_time() - start < 0.5
    machine.ownership().sum()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 <= 16 * 16_777_216
