"""The machine and its slow twin agree on every status, result and dump, whatever is asked; invariants hold."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsvm_engine.core.machine import Machine
from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES
from hsvm_engine.randomops import CORES, FRAMES, HYPERVISOR_FRAMES, RandomOperations, comparable, compare, pair, visible
from hsvm_engine.twin import Twin

ROWS = ("nested", "hsvm")


@pytest.mark.parametrize("architecture", ROWS)
def test_a_hundred_thousand_random_operations_agree(architecture: str) -> None:
    machine, twin = pair(architecture)
    assert compare(machine, twin, ops=100_000, seed=20_261_124, every=250) is None
    assert machine.op >= 100_000


FEW = {
    "vm": st.integers(0, 3),  # the n-th handle ever given out
    "vcpus": st.sampled_from([1, 2]),
    "vcpu": st.sampled_from([0, 1]),
    "core": st.integers(0, CORES - 1),
    "gpn": st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 512, 513]),
    "mfn": st.sampled_from([0, 7, 64, 65, 66, 67, 68, 69, 70, 71, 512, 513, 514, FRAMES - 1]),
    "perm": st.sampled_from(["rw", "rwx", "r", "rx"]),
    "size": st.sampled_from([1, 1, 512]),
    "pages": st.sampled_from([1, 2, 600]),
    "offset": st.sampled_from([0, 8, 4088]),
    "length": st.sampled_from([8, 16]),
    "data": st.sampled_from(["00", "ff" * 8, "07" + "00" * 7]),
    "gpa": st.sampled_from([0, 4096, 4090, 3 << 12, 512 << 12, 513 << 12]),
    "gva": st.sampled_from([0, 4096, 1 << 39]),
    "kind": st.sampled_from(["r", "w", "x"]),
    "device": st.just(0),
    "registers": st.dictionaries(st.sampled_from([*REGISTER_NAMES[:2], "cr3"]), st.sampled_from([0, 1 << 12, 3 << 12])),
}
OPS = st.sampled_from([*OPERATIONS, "page_map", "page_map", "context_restore", "guest_map", "guest_access"]).flatmap(
    lambda name: st.fixed_dictionaries({"op": st.just(name), **{key: FEW[key] for key in OPERATIONS[name].fields}})
)


def drive(machine: Machine, twin: Twin, ops: list[dict[str, Any]]) -> None:
    """Apply the same operations to both and compare everything; `vm` is the n-th handle that create_vm gave."""
    handles = [machine.apply({"op": "create_vm", "vcpus": 2})["vm"]]
    assert twin.apply({"op": "create_vm", "vcpus": 2}) == {"status": "OK", "vm": handles[0]}
    for op in ops:
        if not twin.hsvm and (op["op"] == "set_npt_root" or op.get("mfn") in range(8, HYPERVISOR_FRAMES)):
            continue
        if "vm" in op:
            op = {**op, "vm": handles[op["vm"]] if op["vm"] < len(handles) else 0}
        mine, other = comparable(machine.apply(op), op["op"]), comparable(twin.apply(op), op["op"])
        assert mine == other, op
        if op["op"] == "create_vm" and mine["status"] == "OK":
            handles.append(mine["vm"])
    assert visible(machine.dump(), twin) == twin.dump()
    machine.check_invariants()
    twin.check_invariants()


@pytest.mark.parametrize("architecture", ROWS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(ops=st.lists(OPS, min_size=5, max_size=60))
def test_short_runs_agree_and_shrink_to_the_point(architecture: str, ops: list[dict[str, Any]]) -> None:
    drive(*pair(architecture), ops)


@pytest.mark.parametrize("architecture", ROWS)
def test_a_refused_operation_leaves_the_digest_as_it_was(architecture: str) -> None:
    machine, twin = pair(architecture)
    assert compare(machine, twin, ops=2000, seed=5) is None
    source = RandomOperations(twin, 6)
    refusals = 0
    for _ in range(1500):
        op = source.next()
        before = machine.digest()
        status = machine.apply(op)["status"]
        twin.apply(op)
        if status.startswith("E_"):
            refusals += 1
            assert machine.digest() == before, op
    assert refusals > 300


@pytest.mark.parametrize("architecture", ROWS)
def test_the_comparison_sees_a_machine_that_stops_mapping(architecture: str) -> None:
    """The oracle itself can fail: a machine that maps no more after a while is found out."""
    machine, twin = pair(architecture)

    class Forgetful:
        count = 0

        def apply(self, op: Any, /) -> dict[str, Any]:
            self.count += 1
            if self.count >= 500 and isinstance(op, dict) and op.get("op") == "page_map":
                return {"status": "OK"}
            return machine.apply(op)

        def dump(self) -> dict[str, Any]:
            return machine.dump()

        def check_invariants(self) -> None:
            machine.check_invariants()

    difference = compare(Forgetful(), twin, ops=3000, seed=1)
    assert difference is not None and difference.number > 400


@pytest.mark.parametrize(("architecture", "hypervisor", "protected"), [("nested", 10, 0), ("hsvm", 10, 11)])
def test_a_pool_that_runs_out_is_nomem_and_is_filled_again_by_delete(
    architecture: str, hypervisor: int, protected: int
) -> None:
    """Both rows have ten frames: two VMs of three vcpus take eight, a map of three tables does not fit."""
    machine = Machine(256, hypervisor, protected, 1, architecture)
    twin = Twin(256, hypervisor, protected, 1, architecture)
    create = {"op": "create_vm", "vcpus": 3}
    seen = []
    for op in (create, create, create, {"op": "create_vm", "vcpus": 1}):
        assert (result := machine.apply(op)) == twin.apply(op)
        seen.append(result)
    assert [result["status"] for result in seen] == ["OK", "OK", "E_NOMEM", "OK"]
    first, second, _, third = (result.get("vm") for result in seen)
    page = {"op": "page_map", "vm": first, "gpn": 0, "mfn": 100, "perm": "rw", "size": 1}
    for op, status in (
        (page, "E_NOMEM"),
        ({"op": "delete_vm", "vm": third}, "OK"),
        (page, "E_NOMEM"),
        ({"op": "delete_vm", "vm": second}, "OK"),
        (page, "OK"),
        ({**page, "gpn": 1 << 27, "mfn": 101}, "OK"),
        ({**page, "gpn": 1 << 28, "mfn": 102}, "E_NOMEM"),
        ({**page, "gpn": 1, "mfn": 102}, "OK"),
    ):
        assert machine.apply(op)["status"] == twin.apply(op)["status"] == status, op
    assert machine.dump()["leaves"] == twin.dump()["leaves"]
    machine.check_invariants()
