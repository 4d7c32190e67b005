"""What ends with a page, a share, a merge or a VM, and what must not be left of it anywhere."""

import pytest

from .states import (
    A_FIRST,
    B_LENDS,
    BORROWED,
    FREE,
    LENT,
    MERGEABLE,
    OWN,
    PAGE,
    SHARED_RW,
    Host,
    every_state,
    fill,
    give,
    start,
)

FIRST = 512  # the frames of the 2 MiB leaf below


@pytest.fixture
def host() -> Host:
    return every_state()


def huge() -> Host:
    """A VM on core 0 with one 2 MiB leaf at guest page 0, its first, eighth and last page written."""
    host = Host(start())
    host.a = host.do("create_vm", vcpus=1)["vm"]
    host.do("page_map", vm=host.a, gpn=0, mfn=FIRST, perm="rw", size=512)
    host.do("context_restore", vm=host.a, vcpu=0, core=0)
    for gpn in (0, 7, 511):
        host.do("guest_write", core=0, gpa=gpn << 12, data=PAGE)
    return host


def owner_of(host: Host, mfn: int) -> int:
    return int(host.machine.ownership()[mfn])


def test_a_deleted_2_mib_leaf_leaves_512_free_frames_of_zeros() -> None:
    host = huge()
    host.do("context_save", core=0)
    host.do("delete_vm", vm=host.a)
    assert {owner_of(host, mfn) for mfn in range(FIRST, FIRST + 512)} == {0}
    assert host.machine.dump()["nonzero"] == []
    host.machine.check_invariants()


def test_a_split_takes_one_page_and_leaves_511_as_they_are() -> None:
    host = huge()
    host.do("page_unmap", vm=host.a, gpn=7)
    leaves = host.machine.dump()["leaves"][host.a]
    assert leaves == [[gpn, FIRST + gpn, 1, "rw"] for gpn in range(512) if gpn != 7]
    assert host.machine.dump()["nonzero"] == [FIRST, FIRST + 511]
    for gpn in (0, 511):
        assert host.do("guest_read", core=0, gpa=gpn << 12, length=64)["data"] == PAGE
    assert host.status("guest_read", core=0, gpa=7 << 12, length=1) == "F_NOT_PRESENT"
    host.machine.check_invariants()


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_release_that_stops_leaves_no_frame_both_free_and_non_zero(step: int) -> None:
    """Clear, shoot down, zero, mark free: what is done after each step, and after the second try."""
    host = Host(start(options={"fault": {"step": step, "nth": 1}}))
    host.a = host.do("create_vm", vcpus=1)["vm"]
    give(host, host.a, (OWN,), A_FIRST)
    host.do("context_restore", vm=host.a, vcpu=0, core=0)
    fill(host, 0, (OWN,))
    slot = host.machine.slot_of(host.a)
    assert host.status("page_unmap", vm=host.a, gpn=OWN) == "E_STATE"
    assert host.machine.dump()["leaves"].get(host.a, []) == []
    assert host.machine.dump()["releasing"] == [[A_FIRST, host.a, OWN]]
    assert owner_of(host, A_FIRST) == (slot if step < 4 else 0)
    assert host.machine.dump()["nonzero"] == ([A_FIRST] if step < 3 else [])
    host.machine.check_invariants()
    host.do("page_unmap", vm=host.a, gpn=OWN)
    assert (owner_of(host, A_FIRST), host.machine.dump()["nonzero"], host.machine.dump()["releasing"]) == (0, [], [])
    assert host.status("guest_read", core=0, gpa=0, length=1) == "F_NOT_PRESENT"
    host.machine.check_invariants()


def test_a_mark_ends_with_its_page(host: Host) -> None:
    host.do("page_unmap", vm=host.a, gpn=MERGEABLE)
    give(host, host.a, (MERGEABLE,), A_FIRST)
    host.do("guest_write", core=0, gpa=MERGEABLE << 12, data=PAGE)
    assert host.status("merge", vm=host.a, gpn=MERGEABLE, other_vm=host.b, other_gpn=8) == "E_OWNER"


def test_what_the_hypervisor_and_a_device_reached_is_lost_with_the_frame() -> None:
    host = Host(start())
    host.a = host.do("create_vm", vcpus=1)["vm"]
    for _ in range(2):
        host.do("claim", mfn=FREE)
        host.do("hv_write", mfn=FREE, offset=0, data="01")
        host.do("dma_read", device=1, mfn=FREE, offset=0, length=1)
        host.do("release", mfn=FREE)
    host.do("page_map", vm=host.a, gpn=OWN, mfn=FREE, perm="rw", size=1)
    assert host.status("hv_read", mfn=FREE, offset=0, length=1) == "F_OWNER"
    assert host.status("hv_write", mfn=FREE, offset=0, data="02") == "F_OWNER"
    assert host.status("dma_read", device=1, mfn=FREE, offset=0, length=1) == "F_OWNER"


def test_a_share_is_over_for_everybody_at_once(host: Host) -> None:
    mfn = A_FIRST + SHARED_RW
    host.do("hv_write", mfn=mfn, offset=0, data="02")
    host.do("dma_write", device=1, mfn=mfn, offset=0, data="03")
    host.do("guest_unshare", core=0, gpn=SHARED_RW)
    assert host.status("hv_write", mfn=mfn, offset=0, data="04") == "F_OWNER"
    assert host.status("hv_read", mfn=mfn, offset=0, length=1) == "F_OWNER"
    assert host.status("dma_write", device=1, mfn=mfn, offset=0, data="05") == "F_OWNER"


def test_a_share_ends_with_its_page(host: Host) -> None:
    mfn = A_FIRST + SHARED_RW
    host.do("page_unmap", vm=host.a, gpn=SHARED_RW)
    give(host, host.b, (SHARED_RW,), A_FIRST)
    assert host.status("hv_read", mfn=mfn, offset=0, length=1) == "F_OWNER"
    assert all(gpn != SHARED_RW for _, gpn, _ in host.machine.dump()["shared"])


def test_the_last_unmerge_gives_the_lender_its_permission_back(host: Host) -> None:
    write = {"core": 1, "gpa": B_LENDS << 12, "data": "01"}
    assert host.status("guest_write", **write) == "F_PERMISSION"
    host.do("unmerge", vm=host.a, gpn=BORROWED, mfn=FREE)
    host.do("guest_write", **write)
    assert host.do("guest_read", core=0, gpa=BORROWED << 12, length=64)["data"] == PAGE
    host.do("guest_write", core=0, gpa=BORROWED << 12, data="02")
    assert host.status("guest_write", core=0, gpa=LENT << 12, data="03") == "F_PERMISSION"
    host.machine.check_invariants()


def test_a_vcpu_finds_its_own_registers_and_nobody_elses(host: Host) -> None:
    host.do("guest_set_registers", core=0, registers={"rax": 7, "r15": 8})
    host.do("context_save", core=0)
    host.do("context_restore", vm=host.a, vcpu=1, core=0)
    assert set(host.do("guest_registers", core=0)["registers"].values()) == {0}
    host.do("context_save", core=0)
    host.do("context_restore", vm=host.a, vcpu=0, core=0)
    registers = host.do("guest_registers", core=0)["registers"]
    assert (registers["rax"], registers["r15"], registers["rbx"]) == (7, 8, 0)
