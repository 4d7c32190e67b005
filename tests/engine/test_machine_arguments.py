"""What a machine is given: the wrong argument is named, and no value of any type does harm."""

from collections.abc import Callable
from typing import Any

import pytest

from hsvm_engine import ARCHITECTURES, Machine, Status
from hsvm_engine.architectures import SKIPPABLE
from hsvm_engine.operations import OPERATIONS

from .conftest import Make, must

GOOD: dict[str, Any] = {"frames": 1024, "hypervisor_frames": 16, "protected_frames": 16}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames", 255),
        ("frames", (1 << 28) + 1),
        ("frames", 1024.0),
        ("frames", True),
        ("frames", "1024"),
        ("hypervisor_frames", 0),
        ("hypervisor_frames", 1008),
        ("hypervisor_frames", None),
        ("protected_frames", 3),
        ("protected_frames", -1),
        ("protected_frames", 1008),
        ("cores", 0),
        ("cores", 257),
        ("architecture", "tdx"),
        ("architecture", ["hsvm"]),
        ("seed", -1),
        ("seed", 1 << 64),
        ("options", []),
        ("options", {"turbo": 1}),
        ("options", {"skip": "owner_check"}),
        ("options", {"skip": ["gravity"]}),
        ("options", {"skip": [["owner_check"]]}),
        ("tlb", {"l3": {}}),
        ("tlb", {"l1": {"sets": 3}}),
        ("tlb", {"l1": {"ways": 0}}),
        ("tlb", 7),
        ("costs", {"map": -1}),
        ("costs", {"love": 1}),
        ("costs", {"map": float("nan")}),
    ],
)
def test_a_wrong_argument_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        Machine(**{**GOOD, name: value})


def test_a_row_without_a_protected_region_has_none() -> None:
    with pytest.raises(ValueError, match="protected_frames"):
        Machine(1024, 16, 16, architecture="nested")
    Machine(1024, 16, 0, architecture="nested")


def test_the_smallest_and_the_largest_hosts_open() -> None:
    Machine(256, 1, 1)
    Machine(1 << 28, 1, 1 << 20, cores=256)


def test_a_status_is_a_value_with_the_name_that_results_carry() -> None:
    assert Status.OK == 0
    assert [Status[name].name for name in ("E_INPUT", "E_NOMEM", "F_TAMPERED")] == ["E_INPUT", "E_NOMEM", "F_TAMPERED"]


def test_rows_are_flags_that_name_checks() -> None:
    assert ARCHITECTURES["nested"].checks() == ()
    assert set(SKIPPABLE) < set(ARCHITECTURES["hsvm"].checks())
    for row in ARCHITECTURES.values():
        assert all(cost.cycles >= 0 and "model parameter" in cost.provenance for cost in row.costs.values())


def right_fields(vm: int) -> dict[str, Any]:
    return {
        **{"vm": vm, "vcpus": 1, "vcpu": 0, "core": 0, "gpn": 1, "mfn": 300, "perm": "rw", "size": 1, "pages": 1},
        **{"offset": 0, "length": 8, "data": "00ff", "gpa": 0, "gva": 0, "kind": "r", "device": 0, "registers": {}},
        **{
            "other_vm": vm,
            "other_gpn": 2,
            "image": PAGE_IMAGE,
            "target": "00" * 16,
            "with": "any",
            "vector": 3,
            "after": 9,
        },
    }


PAGE_IMAGE = (b"HSVMSWAP" + bytes(4141 - 8)).hex()
WILD = (
    *(None, True, False, -1, 1 << 64, 1 << 200, 0.0, 1.5, float("nan"), float("inf"), "", "rw ", "RW", "w", "0", "0g"),
    *("AA", "00" * 4097, "é", b"00", b"", [], [1], (), {}, {"rax": -1}, {"rax": True}, {"eax": 1}, {1: 1}, object()),
    *(2, 511, 513, 64, 65, 4096, 4097, 65536, 1 << 36, 1 << 48),
)


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_value_of_any_type_in_any_field_does_harm(make: Make, guest: Callable[..., int], name: str) -> None:
    machine = make()
    vm = guest(machine)
    fields = {key: right_fields(vm)[key] for key in OPERATIONS[name].fields}
    for key in fields:
        for value in WILD:
            before = machine.digest()
            status = machine.apply({"op": name, **fields, key: value})["status"]
            assert status in Status.__members__
            plain = (int, str, dict, list) if key == "with" else (int, str, dict)
            if type(value) not in plain or type(value) is bool:
                assert status == "E_INPUT", (key, value)
            if status != "OK" and not name.startswith("guest_"):
                assert machine.digest() == before, (key, value, status)
        assert machine.apply({"op": name, **{k: v for k, v in fields.items() if k != key}})["status"] == "E_INPUT"
    assert machine.apply({"op": name, **fields, "surprise": 1})["status"] == "E_INPUT"
    machine.check_invariants()


@pytest.mark.parametrize("op", [None, 7, "create_vm", [], {}, {"op": None}, {"op": "fly"}, {"op": ["claim"]}, {1: 2}])
def test_what_is_no_operation_is_a_wrong_input(make: Make, op: Any) -> None:
    machine = make()
    assert machine.apply(op) == {"status": "E_INPUT"}
    assert machine.op == 1


@pytest.mark.parametrize(
    ("first", "second", "fields"),
    [
        ("E_INPUT", "E_NOVM", {"op": "page_map", "vm": 9, "gpn": 0, "mfn": 300, "perm": "w", "size": 1}),
        ("E_NOVM", "E_EXIST", {"op": "page_map", "vm": 9, "gpn": 0, "mfn": 0, "perm": "r", "size": 1}),
        ("E_EXIST", "E_OWNER", {"op": "page_map", "vm": 65537, "gpn": 0, "mfn": 0, "perm": "r", "size": 1}),
        ("E_EXIST", "E_PROT", {"op": "page_map", "vm": 65537, "gpn": 0, "mfn": 2047, "perm": "r", "size": 1}),
        ("E_INPUT", "E_STATE", {"op": "guest_read", "core": 1, "gpa": (1 << 48) - 1, "length": 2}),
        ("E_INPUT", "F_PROTECTED", {"op": "hv_read", "mfn": 2047, "offset": 4095, "length": 2}),
        ("E_INPUT", "F_OWNER", {"op": "dma_read", "device": 0, "mfn": 2047, "offset": 4095, "length": 2}),
        ("E_NOVM", "F_PROTECTED", {"op": "hv_read_context", "vm": 9, "vcpu": 9}),
        ("E_INPUT", "F_PROTECTED", {"op": "hv_read_context", "vm": 65537, "vcpu": 9}),
    ],
)
def test_of_two_faults_the_earlier_rank_wins(
    make: Make, guest: Callable[..., int], first: str, second: str, fields: dict[str, Any]
) -> None:
    machine = make()
    guest(machine)
    assert machine.apply(fields)["status"] == first, f"not {second}"


def test_a_burst_that_meets_a_refused_frame_later_says_how_far_it_came(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.hypervisor.claim(mfn=255))
    must(machine.hypervisor.hv_write(mfn=255, offset=4000, data="ab" * 96))
    read = must(machine.device.dma_read(device=1, mfn=255, offset=4000, length=200))
    assert (read["done"], read["data"]) == (96, "ab" * 96)
    written = must(machine.device.dma_write(device=1, mfn=255, offset=4090, data="cd" * 50))
    assert written["done"] == 6
    refused = machine.device.dma_read(device=1, mfn=256, offset=0, length=1)
    assert (refused["status"], refused["check"], refused["inputs"]["requester"]) == ("F_OWNER", "dma_check", "device:1")
