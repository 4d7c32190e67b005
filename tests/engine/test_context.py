"""VMs, their handles, their registers, and the world switch."""

from collections.abc import Callable

import pytest

from .conftest import Make, must


def test_registers_survive_a_world_switch_and_stay_with_their_vcpu(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    must(machine.guest.guest_set_registers(core=0, registers={"rax": 2**64 - 1, "rip": 7}))
    must(machine.hypervisor.context_save(core=0))
    must(machine.hypervisor.context_restore(vm=vm, vcpu=1, core=0))
    assert set(must(machine.guest.guest_registers(core=0))["registers"].values()) == {0}
    must(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=1))
    registers = must(machine.guest.guest_registers(core=1))["registers"]
    assert (registers["rax"], registers["rip"], registers["rbx"]) == (2**64 - 1, 7, 0)


def test_a_vcpu_is_on_one_core_and_a_core_has_one_vcpu(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    assert machine.hypervisor.context_restore(vm=vm, vcpu=0, core=1)["status"] == "E_BUSY"
    assert machine.hypervisor.context_restore(vm=vm, vcpu=1, core=0)["status"] == "E_BUSY"
    assert machine.hypervisor.context_save(core=1)["status"] == "E_STATE"
    assert machine.hypervisor.context_restore(vm=vm, vcpu=2, core=1)["status"] == "E_INPUT"
    assert machine.hypervisor.context_restore(vm=99, vcpu=2, core=1)["status"] == "E_NOVM"
    assert machine.hypervisor.context_restore(vm=99, vcpu=64, core=1)["status"] == "E_INPUT"
    assert machine.hypervisor.delete_vm(vm=vm)["status"] == "E_BUSY"
    assert machine.dump()["cores"] == [[0, vm, 0]]


def test_without_a_vcpu_a_core_has_no_guest(make: Make) -> None:
    machine = make()
    for result in (
        machine.guest.guest_read(core=0, gpa=0, length=1),
        machine.guest.guest_registers(core=0),
        machine.guest.guest_access(core=0, gva=0, kind="x"),
        machine.guest.guest_map(core=0, gva=0, gpn=1),
        machine.guest.guest_flush(core=0, gva=0),
    ):
        assert result["status"] == "E_STATE"


def test_under_hsvm_saved_registers_are_out_of_reach(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    before = machine.digest()
    for result in (
        machine.hypervisor.hv_read_context(vm=vm, vcpu=0),
        machine.hypervisor.hv_write_context(vm=vm, vcpu=0, registers={"rip": 1}),
    ):
        assert (result["status"], result["check"]) == ("F_PROTECTED", "context_protection")
    refused = machine.hypervisor.set_npt_root(vm=vm, mfn=5)
    assert (refused["status"], refused["check"]) == ("E_PROT", "npt_root_protection")
    assert machine.digest() == before


def test_on_nested_the_saved_registers_are_bytes_of_the_hypervisor(make: Make, guest: Callable[..., int]) -> None:
    machine = make("nested")
    vm = guest(machine)
    must(machine.guest.guest_set_registers(core=0, registers={"rbx": 0x1122}))
    assert must(machine.hypervisor.hv_read_context(vm=vm, vcpu=0))["registers"]["rbx"] == 0  # not saved yet
    must(machine.hypervisor.context_save(core=0))
    assert must(machine.hypervisor.hv_read_context(vm=vm, vcpu=0))["registers"]["rbx"] == 0x1122
    frames = [mfn for mfn in machine.dump()["nonzero"] if mfn < 64]
    assert any(machine.hypervisor.hv_read(mfn=mfn, offset=8, length=8)["data"] == "2211" + "00" * 6 for mfn in frames)
    must(machine.hypervisor.hv_write_context(vm=vm, vcpu=0, registers={"rbx": 5}))
    must(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0))
    assert must(machine.guest.guest_registers(core=0))["registers"]["rbx"] == 5


def test_on_nested_another_root_is_loaded_at_the_next_entry(make: Make, guest: Callable[..., int]) -> None:
    machine = make("nested")
    vm = guest(machine)
    other = guest(machine, first=400, core=1)
    must(machine.guest.guest_write(core=1, gpa=0, data="5eed"))
    root = machine.walk(1, 0)["references"][0]["mfn"]
    must(machine.hypervisor.set_npt_root(vm=vm, mfn=root))
    assert must(machine.guest.guest_read(core=0, gpa=0, length=2))["data"] == "0000"
    must(machine.hypervisor.context_save(core=0))
    must(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0))
    must(machine.hypervisor.hv_flush(core=0, vm=vm))
    assert must(machine.guest.guest_read(core=0, gpa=0, length=2))["data"] == "5eed"
    assert machine.dump()["leaves"][other][0] == [0, 400, 1, "rw"]


@pytest.mark.parametrize(("architecture", "reused"), [("hsvm", False), ("nested", True)])
def test_a_handle_is_reused_only_where_it_is_the_slot_alone(make: Make, architecture: str, reused: bool) -> None:
    machine = make(architecture)
    first = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    must(machine.hypervisor.delete_vm(vm=first))
    stale = machine.hypervisor.page_map(vm=first, gpn=0, mfn=100)
    assert (stale["status"], stale["check"]) == ("E_NOVM", "handle_check")
    second = must(machine.hypervisor.create_vm(vcpus=1))["vm"]
    assert (first == second) is reused
    assert (machine.hypervisor.page_map(vm=first, gpn=0, mfn=100)["status"] == "OK") is reused
    assert machine.slot_of(second) == 3
    assert machine.handle_of(3) == second


def test_slots_and_handles_that_nobody_has_are_value_errors(make: Make) -> None:
    machine = make()
    for ask, value in ((machine.slot_of, 65537), (machine.handle_of, 3), (machine.handle_of, 2)):
        with pytest.raises(ValueError, match="no living VM has"):
            ask(value)
