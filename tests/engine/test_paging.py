"""Nested and guest tables are bytes in frames; the walk reads them."""

from collections.abc import Callable

import pytest

from hsvm_engine import Machine

from .conftest import FRAMES, Make, must

PRESENT, WRITABLE, USER, NO_EXECUTE = 1, 2, 4, 1 << 63


def entry(machine: Machine, mfn: int, offset: int) -> int:
    data = must(machine.hypervisor.hv_read(mfn=mfn, offset=offset, length=8))["data"]
    return int.from_bytes(bytes.fromhex(data), "little")


def test_a_cold_two_dimensional_walk_has_24_references_in_order(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_map(core=0, gva=0x7000_1234_5000, gpn=3))
    walk = machine.walk(0, 0x7000_1234_5678)
    assert (walk["status"], walk["gpa"], walk["mfn"]) == ("OK", 3 * 4096 + 0x678, 259)
    shape = [(r["guest_level"], r["nested_level"]) for r in walk["references"]]
    assert shape == [(g, n) for g in (4, 3, 2, 1, 0) for n in (4, 3, 2, 1, 0)][:24]
    assert [r["order"] for r in walk["references"]] == list(range(1, 25))
    assert must(machine.guest.guest_access(core=0, gva=0x7000_1234_5678, kind="r"))["references"] == 24


def test_a_walk_without_a_guest_table_has_4_references_and_3_for_2_mib(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.page_map(vm=vm, gpn=512, mfn=512, perm="rw", size=512))
    assert must(machine.guest.guest_access(core=0, gva=0, kind="r"))["references"] == 4
    big = must(machine.guest.guest_access(core=0, gva=(512 << 12) + 5 * 4096 + 9, kind="w"))
    assert (big["references"], big["mfn"], big["hit"]) == (3, 517, "miss")
    assert must(machine.guest.guest_access(core=0, gva=(1023 << 12), kind="r"))["hit"] == "l1"


@pytest.mark.parametrize(
    ("perm", "bits"),
    [
        ("r", PRESENT | USER | NO_EXECUTE),
        ("rw", PRESENT | USER | WRITABLE | NO_EXECUTE),
        ("rx", PRESENT | USER),
        ("rwx", PRESENT | USER | WRITABLE),
    ],
)
def test_an_entry_has_the_processors_format(make: Make, perm: str, bits: int) -> None:
    machine = make("nested")
    vm = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    must(machine.hypervisor.page_map(vm=vm, gpn=(1 << 27) + 5, mfn=777, perm=perm))
    place = must(machine.hypervisor.npt_locate(vm=vm, gpn=(1 << 27) + 5))
    assert place["offset"] == 5 * 8
    assert entry(machine, place["mfn"], place["offset"]) == 777 << 12 | bits


def test_on_nested_a_store_into_an_entry_is_obeyed_by_the_next_walk(make: Make, guest: Callable[..., int]) -> None:
    machine = make("nested")
    vm = guest(machine)
    must(machine.guest.guest_write(core=0, gpa=4096, data="5ec7e7"))
    place = must(machine.hypervisor.npt_locate(vm=vm, gpn=9))
    forged = (257 << 12 | PRESENT | USER | WRITABLE).to_bytes(8, "little")
    must(machine.hypervisor.hv_write(mfn=place["mfn"], offset=place["offset"], data=forged))
    assert must(machine.guest.guest_read(core=0, gpa=9 * 4096, length=3))["data"] == "5ec7e7"
    assert [9, 257, 1, "rwx"] in machine.dump()["leaves"][vm]


def test_under_hsvm_the_entry_is_found_but_neither_read_nor_written(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    place = must(machine.hypervisor.npt_locate(vm=vm, gpn=9))
    before = machine.digest()
    for result in (
        machine.hypervisor.hv_read(mfn=place["mfn"], offset=0, length=8),
        machine.hypervisor.hv_write(mfn=place["mfn"], offset=place["offset"], data=bytes(8)),
    ):
        assert (result["status"], result["check"]) == ("F_PROTECTED", "npt_protection")
    assert machine.device.dma_write(device=1, mfn=place["mfn"], offset=0, data=b"1")["status"] == "F_PROTECTED"
    assert machine.digest() == before


def test_npt_locate_stops_at_the_deepest_table(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    assert machine.hypervisor.npt_locate(vm=vm, gpn=1 << 35)["status"] == "E_NOENT"
    leaf = must(machine.hypervisor.npt_locate(vm=vm, gpn=400))  # absent, in the table of the others
    assert leaf["mfn"] == must(machine.hypervisor.npt_locate(vm=vm, gpn=0))["mfn"]
    assert must(machine.hypervisor.npt_locate(vm=vm, gpn=3 << 9))["mfn"] != leaf["mfn"]


def test_unmapping_one_page_of_2_mib_keeps_the_other_511(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.page_map(vm=vm, gpn=1024, mfn=1024, perm="rwx", size=512))
    for gpn in (1024, 1100, 1535):
        must(machine.guest.guest_write(core=0, gpa=gpn * 4096, data=f"{gpn:08x}"))
    pool = machine.counters()["owners"]["hsvm"]
    must(machine.hypervisor.page_unmap(vm=vm, gpn=1100))
    leaves = [leaf for leaf in machine.dump()["leaves"][vm] if leaf[0] >= 1024]
    assert len(leaves) == 511
    assert all(leaf == [leaf[0], leaf[0], 1, "rwx"] for leaf in leaves)
    assert must(machine.guest.guest_read(core=0, gpa=1024 * 4096, length=4))["data"] == f"{1024:08x}"
    assert machine.guest.guest_read(core=0, gpa=1100 * 4096, length=4)["status"] == "F_NOT_PRESENT"
    assert machine.counters()["owners"]["hsvm"] == pool
    machine.check_invariants()


def test_the_split_of_2_mib_never_lacks_a_table(make: Make) -> None:
    """The reserve was taken by the map: an exhausted pool cannot stop an unmap."""
    machine = make()
    vm = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    must(machine.hypervisor.page_map(vm=vm, gpn=0, mfn=512, size=512))
    while machine.hypervisor.create_vm(vcpus=1)["status"] == "OK":
        pass
    while machine.hypervisor.create_vm(vcpus=2)["status"] == "OK":
        pass
    must(machine.hypervisor.page_unmap(vm=vm, gpn=511))
    machine.check_invariants()


def test_of_512_frames_the_first_that_is_not_free_decides(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.claim(mfn=FRAMES - 512 + 3))
    refused = machine.hypervisor.page_map(vm=vm, gpn=1024, mfn=FRAMES - 512, size=512)
    assert (refused["status"], refused["inputs"]["mfn"]) == ("E_OWNER", FRAMES - 512 + 3)
    must(machine.hypervisor.release(mfn=FRAMES - 512 + 3))
    assert machine.hypervisor.page_map(vm=vm, gpn=1024, mfn=FRAMES - 512, size=512)["status"] == "E_PROT"


@pytest.mark.parametrize(("gpn", "mfn"), [(1, 512), (512, 513), (0, FRAMES), (1 << 36, 512)])
def test_a_2_mib_map_that_is_not_aligned_is_refused(make: Make, gpn: int, mfn: int) -> None:
    machine = make()
    vm = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    assert machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=mfn, size=512)["status"] == "E_INPUT"


def test_a_mapped_guest_page_is_never_mapped_over(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    for fields in ({"gpn": 3, "mfn": 900}, {"gpn": 0, "mfn": 1024, "size": 512}):
        refused = machine.hypervisor.page_map(vm=vm, **fields)
        assert (refused["status"], refused["check"]) == ("E_EXIST", "slot_check")


def test_guest_tables_are_the_guests_highest_zero_pages(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_write(core=0, gpa=14 * 4096, data="01"))
    must(machine.guest.guest_map(core=0, gva=0, gpn=15))
    registers = must(machine.guest.guest_registers(core=0))["registers"]
    assert registers["cr3"] == 13 << 12  # 15 is being mapped, 14 is not zero
    assert {reference["mfn"] for reference in machine.walk(0, 0)["references"] if reference["nested_level"] == 0} == {
        256 + 13,
        256 + 12,
        256 + 11,
        256 + 10,
    }


def test_a_guest_without_zero_pages_gets_no_table_and_nothing_changes(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine, pages=4)
    before = machine.digest()
    assert machine.guest.guest_map(core=0, gva=0, gpn=0)["status"] == "E_NOMEM"  # gpn 0 is never a table
    assert machine.digest() == before


def test_guest_map_and_unmap_say_what_is_there(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    assert machine.guest.guest_unmap(core=0, gva=4096)["status"] == "E_NOENT"
    must(machine.guest.guest_map(core=0, gva=4096, gpn=2, perm="r"))
    assert machine.guest.guest_map(core=0, gva=4096, gpn=3)["status"] == "E_EXIST"
    assert machine.guest.guest_access(core=0, gva=4096, kind="w")["status"] == "F_PERMISSION"
    assert must(machine.guest.guest_access(core=0, gva=4097, kind="r"))["gpa"] == 2 * 4096 + 1
    must(machine.guest.guest_unmap(core=0, gva=4096))
    assert machine.guest.guest_access(core=0, gva=4096, kind="r")["status"] == "F_NOT_PRESENT"
    assert machine.guest.guest_map(core=0, gva=4097, gpn=3)["status"] == "E_INPUT"
    assert machine.guest.guest_map(core=0, gva=1 << 48, gpn=3)["status"] == "E_INPUT"


def test_a_table_page_without_w_is_not_edited(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.hypervisor.page_unmap(vm=vm, gpn=9))
    must(machine.hypervisor.page_map(vm=vm, gpn=9, mfn=265, perm="r"))
    must(machine.guest.guest_set_registers(core=0, registers={"cr3": 9 << 12}))
    before = machine.digest()
    assert machine.guest.guest_map(core=0, gva=0, gpn=1)["status"] == "F_PERMISSION"
    assert machine.digest() == before


def test_a_page_taken_from_the_guest_is_none_of_its_tables_any_more(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine, pages=6)
    must(machine.guest.guest_map(core=0, gva=0, gpn=1))  # tables: 5, 4, 3, 2
    must(machine.guest.guest_set_registers(core=0, registers={"cr3": 0}))
    assert machine.guest.guest_map(core=0, gva=0, gpn=1)["status"] == "E_NOMEM"
    must(machine.hypervisor.balloon(vm=vm, pages=4))
    for gpn in range(2, 6):
        must(machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=256 + gpn))
    must(machine.guest.guest_map(core=0, gva=0, gpn=1))


def test_tables_tied_into_a_knot_cost_no_more_than_the_host_has_frames(make: Make) -> None:
    machine = make("nested")
    vm = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    must(machine.hypervisor.page_map(vm=vm, gpn=0, mfn=700))
    for gpn in (0, 1 << 9, 1 << 18, 1 << 27):
        place = machine.hypervisor.npt_locate(vm=vm, gpn=gpn)
        if place["status"] == "OK":
            knot = (place["mfn"] << 12 | 7).to_bytes(8, "little") * 512
            must(machine.hypervisor.hv_write(mfn=place["mfn"], offset=0, data=knot))
    assert len(machine.dump()["leaves"][vm]) <= 512 * FRAMES
    must(machine.hypervisor.balloon(vm=vm, pages=3))
    must(machine.hypervisor.delete_vm(vm=vm))
    machine.check_invariants()


def test_an_access_over_two_pages_is_all_or_nothing(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine, pages=4)
    must(machine.guest.guest_write(core=0, gpa=4096 * 2 - 2, data="01020304"))
    assert must(machine.guest.guest_read(core=0, gpa=4096 * 2 - 2, length=4))["data"] == "01020304"
    assert machine.guest.guest_write(core=0, gpa=4 * 4096 - 2, data="ffffffff")["status"] == "F_NOT_PRESENT"
    assert must(machine.guest.guest_read(core=0, gpa=4 * 4096 - 2, length=2))["data"] == "0000"
