"""The contract's finer rules, written out by hand: machine and twin both answer as it says."""

from typing import Any

import pytest

from hsvm_engine.randomops import MACHINE_ID, Image, comparable, for_machine, for_twin, pair, visible
from hsvm_engine.randomstream import flipped

CHECKED = ("hsvm", "hsvm-smm")
UNCHECKED = ("nested", "shadow")


class Both:
    """A machine and its twin that are asked the same; VMs are named a, b, ... in the order of their creation."""

    def __init__(self, architecture: str = "hsvm", *, vms: int = 2, pages: int = 8, **options: Any) -> None:
        self.machine, self.twin = pair(architecture, **options)
        self.handles: list[int] = []
        for _ in range(vms):
            self.handles.append(self("OK", "create_vm", vcpus=1)["vm"])
        for number, vm in enumerate("ab"[:vms]):
            for gpn in range(pages):
                self("OK", "page_map", vm=vm, gpn=gpn, mfn=self.frame(vm, gpn), perm="rw", size=1)
            self("OK", "context_restore", vm=vm, vcpu=0, core=number)

    @staticmethod
    def frame(vm: str, gpn: int) -> int:
        return 100 + 100 * "ab".index(vm) + gpn

    def __call__(self, status: str, op: str, **fields: Any) -> dict[str, Any]:
        """Do it on both; both must give this status, the same results, the same dump, and break no invariant."""
        for key in {"vm", "other_vm"} & fields.keys():
            if isinstance(fields[key], str):
                fields[key] = self.handles["abcdef".index(fields[key])]
        asked = {"op": op, **fields}
        mine, other = self.machine.apply(for_machine(asked)), self.twin.apply(for_twin(asked))
        assert comparable(asked, mine, other) == other
        assert mine["status"] == status, mine
        self.machine.check_invariants()
        self.twin.check_invariants()
        if "image" in other:
            return {**other, "image": Image(op, mine["image"], other["image"])}
        return other

    def dump(self, part: str) -> Any:
        mine, other = (visible(side.dump(), self.twin)[part] for side in (self.machine, self.twin))
        assert mine == other
        return other

    def marked(self, *pages: tuple[str, int]) -> None:
        for vm, gpn in pages:
            self("OK", "guest_mergeable", core="ab".index(vm), gpn=gpn, **{"with": "any"})


@pytest.mark.parametrize("architecture", CHECKED)
def test_a_merge_needs_both_guests_and_equal_bytes_and_unmerge_gives_the_permission_back(architecture: str) -> None:
    do = Both(architecture)
    merge = {"vm": "a", "gpn": 1, "other_vm": "b", "other_gpn": 2}
    do("E_OWNER", "merge", **merge)
    do.marked(("a", 1))
    do("E_OWNER", "merge", **merge)
    do("OK", "guest_mergeable", core=1, gpn=2, **{"with": [do.handles[0]]})
    do("OK", "guest_write", core=1, gpa=2 << 12, data="07")
    do("E_OWNER", "merge", **merge)
    do("OK", "guest_write", core=0, gpa=1 << 12, data="07")
    assert do("OK", "merge", **merge)["freed"] == do.frame("b", 2)
    assert do.dump("merged") == [[do.handles[1], 2, do.handles[0], 1]]
    do("F_PERMISSION", "guest_write", core=0, gpa=1 << 12, data="08")
    do("F_PERMISSION", "guest_write", core=1, gpa=2 << 12, data="08")
    for vm, gpn in (("a", 1), ("b", 2)):
        do("E_BUSY", "page_unmap", vm=vm, gpn=gpn)
        do("E_BUSY", "swap_out", vm=vm, gpn=gpn)
        do("E_BUSY", "guest_share", core="ab".index(vm), gpn=gpn, perm="r")
        do("OK", "context_save", core="ab".index(vm))
        do("E_BUSY", "delete_vm", vm=vm)
        do("OK", "context_restore", vm=vm, vcpu=0, core="ab".index(vm))
    do("E_STATE", "unmerge", vm="a", gpn=1, mfn=300)
    do("E_OWNER", "unmerge", vm="b", gpn=2, mfn=do.frame("a", 0))
    do("OK", "unmerge", vm="b", gpn=2, mfn=300)
    do("OK", "guest_write", core=1, gpa=2 << 12, data="08")
    assert do("OK", "guest_read", core=0, gpa=1 << 12, length=1)["data"] == "07"
    do("OK", "guest_write", core=0, gpa=1 << 12, data="09")
    assert do.dump("merged") == []


def test_many_borrow_from_one_lender_but_nobody_lends_what_is_borrowed() -> None:
    do = Both(vms=2)
    do.marked(("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3))
    do("OK", "merge", vm="a", gpn=1, other_vm="b", other_gpn=1)
    do("OK", "merge", vm="a", gpn=1, other_vm="b", other_gpn=2)
    do("E_BUSY", "merge", vm="b", gpn=1, other_vm="a", other_gpn=2)
    do("E_BUSY", "merge", vm="b", gpn=3, other_vm="a", other_gpn=1)
    do("E_STATE", "merge", vm="b", gpn=3, other_vm="b", other_gpn=3)
    do("OK", "unmerge", vm="b", gpn=1, mfn=300)
    do("F_PERMISSION", "guest_write", core=0, gpa=1 << 12, data="08")
    do("OK", "unmerge", vm="b", gpn=2, mfn=301)
    do("OK", "guest_write", core=0, gpa=1 << 12, data="08")


@pytest.mark.parametrize("architecture", UNCHECKED)
def test_an_unchecked_row_unmaps_a_merged_page_and_its_partner_stays_as_it_is(architecture: str) -> None:
    do = Both(architecture)
    do("OK", "merge", vm="a", gpn=1, other_vm="b", other_gpn=1)
    do("OK", "page_unmap", vm="a", gpn=1)
    assert do.dump("merged") == []
    assert [1, do.frame("a", 1), 1, "r"] in do.dump("leaves")[do.handles[1]]
    do("E_STATE", "unmerge", vm="b", gpn=1, mfn=300)


@pytest.mark.parametrize("architecture", CHECKED)
def test_only_the_newest_image_of_the_same_page_is_taken_back(architecture: str) -> None:
    do = Both(architecture)
    do("OK", "guest_write", core=0, gpa=3 << 12, data="0102")
    old = do("OK", "swap_out", vm="a", gpn=3)["image"]
    do("E_EXIST", "page_map", vm="a", gpn=3, mfn=300, perm="rw", size=1)
    do("F_NOT_PRESENT", "guest_read", core=0, gpa=3 << 12, length=2)
    assert do.dump("swapped") == [[do.handles[0], 3, 1]]
    do("OK", "swap_in", vm="a", gpn=3, mfn=300, image=old)
    assert do("OK", "guest_read", core=0, gpa=3 << 12, length=2)["data"] == "0102"
    do("E_EXIST", "swap_in", vm="a", gpn=3, mfn=301, image=old)
    do("E_NOENT", "swap_in", vm="a", gpn=20, mfn=301, image=old)
    other = do("OK", "swap_out", vm="b", gpn=3)["image"]
    new = do("OK", "swap_out", vm="a", gpn=3)["image"]
    do("E_OWNER", "swap_in", vm="a", gpn=3, mfn=do.frame("b", 0), image=other)
    do("E_INTEGRITY", "swap_in", vm="a", gpn=3, mfn=302, image=other)
    do("E_REPLAY", "swap_in", vm="a", gpn=3, mfn=302, image=old)
    for place in (8, 16, 17, 29, 4124, 4125, 4140):
        do(
            "E_INTEGRITY",
            "swap_in",
            vm="a",
            gpn=3,
            mfn=302,
            image=new.changed(lambda text, place=place: flipped(text, place, 0)),
        )
    for place in range(8):
        do(
            "E_INPUT",
            "swap_in",
            vm=0,
            gpn=3,
            mfn=302,
            image=new.changed(lambda text, place=place: flipped(text, place, 0)),
        )
    do("OK", "swap_in", vm="a", gpn=3, mfn=302, image=new)


@pytest.mark.parametrize("architecture", UNCHECKED)
def test_an_unsealed_page_comes_back_as_whatever_was_written_into_its_image(architecture: str) -> None:
    do = Both(architecture)
    do("OK", "guest_write", core=0, gpa=3 << 12, data="0102")
    image = do("OK", "swap_out", vm="a", gpn=3)["image"]
    assert image.machine == image.twin
    do("OK", "swap_in", vm="a", gpn=3, mfn=300, image=image.changed(lambda text: flipped(text, 29, 0)))
    do("OK", "hv_flush", core=0, vm="a")
    assert do("OK", "guest_read", core=0, gpa=3 << 12, length=2)["data"] == "0002"


@pytest.mark.parametrize("architecture", CHECKED)
def test_an_exported_vm_lives_on_once_and_at_its_target_only(architecture: str) -> None:
    do = Both(architecture)
    do("OK", "guest_write", core=0, gpa=(5 << 12) + 4095, data="aabb")
    do("OK", "guest_set_registers", core=0, registers={"r15": 1 << 63})
    do("E_BUSY", "export_vm", vm="a", target=MACHINE_ID)
    do("OK", "context_save", core=0)
    image = do("OK", "export_vm", vm="a", target=MACHINE_ID)["image"]
    do("E_NOVM", "page_unmap", vm="a", gpn=0)
    do.handles.append(do("OK", "import_vm", image=image)["vm"])
    do("E_REPLAY", "import_vm", image=image)
    assert [gpn for gpn, *_ in do.dump("leaves")[do.handles[2]]] == list(range(8))
    do("OK", "context_restore", vm="c", vcpu=0, core=0)
    assert do("OK", "guest_read", core=0, gpa=(5 << 12) + 4095, length=2)["data"] == "aabb"
    assert do("OK", "guest_registers", core=0)["registers"]["r15"] == 1 << 63
    do("OK", "context_save", core=1)
    foreign = do("OK", "export_vm", vm="b", target="00" * 16)["image"]
    do("E_INTEGRITY", "import_vm", image=foreign)


@pytest.mark.parametrize("architecture", [*CHECKED, *UNCHECKED])
def test_an_export_waits_for_swapped_shared_and_merged_pages(architecture: str) -> None:
    do = Both(architecture)
    do("OK", "guest_share", core=0, gpn=1, perm="r")
    do("OK", "context_save", core=0)
    do("E_BUSY", "export_vm", vm="a", target=MACHINE_ID)
    do("OK", "context_restore", vm="a", vcpu=0, core=0)
    do("OK", "guest_unshare", core=0, gpn=1)
    do("OK", "context_save", core=0)
    do("OK", "swap_out", vm="a", gpn=1)
    do("E_BUSY", "export_vm", vm="a", target=MACHINE_ID)


@pytest.mark.parametrize("architecture", CHECKED)
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("completing", ["page_unmap", "delete_vm"])
def test_a_stopped_release_is_listed_until_it_is_completed(architecture: str, step: int, completing: str) -> None:
    do = Both(architecture, vms=1, fault={"step": step, "nth": 1})
    do("OK", "guest_write", core=0, gpa=2 << 12, data="55")
    do("E_STATE", "page_unmap", vm="a", gpn=2)
    frame = do.frame("a", 2)
    assert do.dump("releasing") == [[frame, do.handles[0], 2]]
    assert (frame in do.dump("nonzero")) == (step < 3)
    do("OK" if step == 1 else "F_NOT_PRESENT", "guest_read", core=0, gpa=2 << 12, length=1)
    do("E_BUSY", "page_map", vm="a", gpn=2, mfn=300, perm="rw", size=1)
    do("OK" if step == 4 else "E_OWNER", "page_map", vm="a", gpn=9, mfn=frame, perm="rw", size=1)
    do("OK", "context_save", core=0)
    do("OK", completing, vm="a", **({"gpn": 2} if completing == "page_unmap" else {}))
    assert do.dump("releasing") == [] and frame not in do.dump("nonzero")


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_stopped_merge_is_complete_and_a_stopped_swap_leaves_no_record(step: int) -> None:
    do = Both(fault={"step": step, "nth": 1})
    do.marked(("a", 1), ("b", 1))
    do("E_STATE", "merge", vm="a", gpn=1, other_vm="b", other_gpn=1)
    assert len(do.dump("merged")) == len(do.dump("releasing")) == 1
    do("OK", "page_unmap", vm="b", gpn=1)
    assert len(do.dump("merged")) == 1 and do.dump("releasing") == []
    do = Both(fault={"step": step, "nth": 2})
    do("OK", "page_unmap", vm="a", gpn=7)
    do("E_STATE", "swap_out", vm="a", gpn=1)
    assert do.dump("swapped") == []
    do("OK", "page_unmap", vm="a", gpn=1)
    image = do("OK", "swap_out", vm="a", gpn=2)["image"]
    assert do.dump("swapped") == [[do.handles[0], 2, 1]]
    do("OK", "swap_in", vm="a", gpn=2, mfn=300, image=image)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_a_release_of_the_hypervisors_own_frame_is_completed_by_asking_again(step: int) -> None:
    do = Both(vms=1, fault={"step": step, "nth": 1})
    do("OK", "claim", mfn=300)
    do("OK", "hv_write", mfn=300, offset=0, data="01")
    do("E_STATE", "release", mfn=300)
    assert do.dump("releasing") == [] and (300 in do.dump("nonzero")) == (step < 3)
    do("E_OWNER" if step == 4 else "OK", "release", mfn=300)
    assert 300 not in do.dump("nonzero")


@pytest.mark.parametrize("architecture", CHECKED)
def test_the_literal_rule_aliases_and_remaps_and_a_frame_goes_with_its_last_leaf(architecture: str) -> None:
    do = Both(architecture, vms=1, page_map_rule="literal")
    do("OK", "guest_write", core=0, gpa=0, data="66")
    do("OK", "page_map", vm="a", gpn=9, mfn=do.frame("a", 0), perm="r", size=1)
    assert do("OK", "guest_read", core=0, gpa=9 << 12, length=1)["data"] == "66"
    do("OK", "page_unmap", vm="a", gpn=0)
    assert do("OK", "guest_read", core=0, gpa=9 << 12, length=1)["data"] == "66"
    do("OK", "page_unmap", vm="a", gpn=9)
    do("OK", "page_map", vm="a", gpn=1, mfn=300, perm="rw", size=1)
    owners = do.dump("owners")
    assert [do.frame("a", 1), 7, f"vm:{do.handles[0]}"] in owners and [300, 1, f"vm:{do.handles[0]}"] in owners
    do("OK", "swap_out", vm="a", gpn=2)
    do("OK", "page_map", vm="a", gpn=2, mfn=do.frame("a", 1), perm="rw", size=1)
    assert do.dump("swapped") == []
    do("OK", "context_save", core=0)
    do("OK", "delete_vm", vm="a")
    assert do.dump("owners") == [[0, 64, "hypervisor"], [64, 1480, "free"], [1544, 56, "hsvm"]]


def test_a_preempted_vcpu_makes_so_many_accesses_and_no_more_until_it_is_saved() -> None:
    do = Both(vms=1)
    do("OK", "preempt", core=0, after=2)
    do("E_INPUT", "guest_read", core=0, gpa=0, length=0)
    do("F_NOT_PRESENT", "guest_read", core=0, gpa=20 << 12, length=1)
    do("OK", "guest_read", core=0, gpa=4095, length=2)
    do("E_STATE", "guest_read", core=0, gpa=0, length=1)
    do("E_STATE", "guest_access", core=0, gva=0, kind="r")
    do("OK", "guest_registers", core=0)
    do("OK", "preempt", core=0, after=1)
    do("OK", "guest_write", core=0, gpa=0, data="01")
    do("E_STATE", "guest_fetch", core=0, gpa=0)
    do("OK", "context_save", core=0)
    do("OK", "context_restore", vm="a", vcpu=0, core=0)
    do("OK", "guest_read", core=0, gpa=0, length=1)


def test_marks_of_a_host_have_room_for_so_many_handles() -> None:
    do = Both(pages=40)
    everybody = list(range(1, 1025))
    for number in range(64):
        do("OK", "guest_mergeable", core=number % 2, gpn=number // 2, **{"with": everybody})
    do("E_NOMEM", "guest_mergeable", core=0, gpn=39, **{"with": "any"})
    do("OK", "guest_mergeable", core=0, gpn=0, **{"with": everybody[1:]})
    do("OK", "guest_mergeable", core=0, gpn=39, **{"with": "any"})
    do("OK", "guest_mergeable", core=0, gpn=39, **{"with": [5]})
    do("E_NOMEM", "guest_mergeable", core=0, gpn=38, **{"with": [5]})
    do("OK", "page_unmap", vm="a", gpn=39)
    do("OK", "guest_mergeable", core=0, gpn=38, **{"with": [5]})
    do("E_INPUT", "guest_mergeable", core=0, gpn=38, **{"with": list(range(1, 1026))})


def test_a_balloon_takes_the_highest_pages_and_leaves_merged_ones() -> None:
    do = Both()
    do.marked(("a", 6), ("b", 6))
    do("OK", "merge", vm="a", gpn=6, other_vm="b", other_gpn=6)
    assert do("OK", "balloon", vm="a", pages=3)["released"] == 3
    assert [gpn for gpn, *_ in do.dump("leaves")[do.handles[0]]] == [0, 1, 2, 3, 6]
    assert do("OK", "balloon", vm="a", pages=600)["released"] == 4
    assert do("OK", "balloon", vm="a", pages=1)["released"] == 0


def test_a_share_opens_one_page_to_hypervisor_and_devices_as_far_as_it_says() -> None:
    do = Both(vms=1)
    frame = do.frame("a", 1)
    do("F_OWNER", "hv_read", mfn=frame, offset=0, length=1)
    do("OK", "guest_share", core=0, gpn=1, perm="r")
    do("E_EXIST", "guest_share", core=0, gpn=1, perm="rw")
    do("OK", "hv_read", mfn=frame, offset=0, length=1)
    do("F_OWNER", "dma_write", device=0, mfn=frame, offset=0, data="01")
    assert do("OK", "dma_read", device=0, mfn=frame, offset=4000, length=200)["done"] == 96
    do("OK", "guest_unshare", core=0, gpn=1)
    do("E_NOENT", "guest_unshare", core=0, gpn=1)
    do("OK", "guest_share", core=0, gpn=1, perm="rw")
    do("OK", "dma_write", device=0, mfn=frame, offset=0, data="01")
    do("OK", "page_unmap", vm="a", gpn=1)
    assert do.dump("shared") == []
    do("F_OWNER", "hv_write", mfn=frame, offset=0, data="01")


def test_a_huge_leaf_is_split_by_what_takes_or_shares_one_page_of_it() -> None:
    do = Both(vms=1)
    do("OK", "page_map", vm="a", gpn=512, mfn=512, perm="rw", size=512)
    do("OK", "guest_write", core=0, gpa=513 << 12, data="11")
    do("OK", "page_unmap", vm="a", gpn=600)
    assert len(do.dump("leaves")[do.handles[0]]) == 8 + 511
    assert do("OK", "guest_read", core=0, gpa=513 << 12, length=1)["data"] == "11"
    do("OK", "page_map", vm="a", gpn=1024, mfn=1024, perm="rw", size=512)
    do("OK", "guest_share", core=0, gpn=1030, perm="rw")
    assert [1030, 1030, 1, "rw"] in do.dump("leaves")[do.handles[0]]
