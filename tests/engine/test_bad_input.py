"""Any value of any type in any field: a status or a ValueError that names the argument, and nothing else happens."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsvm_engine import Machine, Status
from hsvm_engine.attackfile import AttackFileError, read_attack
from hsvm_engine.jsontext import TextError
from hsvm_engine.operations import OPERATIONS
from hsvm_engine.scenarios import Scenario

from .badinput import SHAPE, apply_findings, machine_of, right_fields, value_findings
from .nasty import Endless, Integer, Key, Raises

ROOT = Path(__file__).resolve().parent.parent.parent
SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.integers(0, 1 << 65), st.floats(), st.binary(max_size=20)),
    *(
        st.text(max_size=20),
        st.text("0123456789abcdef", max_size=40),
        st.sampled_from(("rw", "any", "none", "rax", "cr3")),
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(SCALARS, inner, max_size=4), st.tuples(inner)),
    max_leaves=12,
)


def test_nasty_values_get_an_answer_everywhere_and_no_memory() -> None:
    """In a process of its own, because memory is measured; it begins with strings of 100 MB and must not copy them."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.badinput"], cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    assert done.stdout, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["findings"] == []
    assert report["grown_mb"] < 64


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_value_in_any_field_is_answered_with_a_status(data: st.DataObject) -> None:
    machine, vm = machine_of()
    for _ in range(12):
        name = data.draw(st.sampled_from(tuple(OPERATIONS)))
        op: dict[Any, Any] = right_fields(name, vm)
        for field in data.draw(st.lists(st.sampled_from(tuple(op)), min_size=1, max_size=3)):
            op[field] = data.draw(VALUES)
        before = machine.digest()
        status = machine.apply(op)["status"]
        assert status in Status.__members__
        assert status == "OK" or status.startswith("F_") or machine.digest() == before, (op, status)
    machine.check_invariants()


@settings(max_examples=200, deadline=None)
@given(VALUES)
def test_a_value_that_is_no_operation_is_a_wrong_input(value: Any) -> None:
    machine = Machine(256, 16, 1)
    before = machine.digest()
    assert machine.apply(value) == {"status": "E_INPUT"}
    assert machine.digest() == before


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(("cores", "architecture", "seed", "options", "tlb", "costs")), VALUES)
def test_a_constructor_argument_is_taken_or_named(name: str, value: Any) -> None:
    try:
        Machine(**{**SHAPE, name: value})
    except ValueError as error:
        assert str(error).startswith(name)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.sampled_from(("machine", "vms", "attacks", "seed", "quantum", "flush", "rate", "agreement", "more")))
def test_a_scenario_with_any_value_is_read_or_refused(value: Any, name: str) -> None:
    document = {"format": "hsvm-scenario/1", "machine": SHAPE, name: value}
    try:
        text = json.dumps(document)
    except (TypeError, ValueError):
        return
    try:
        Scenario.from_json(text)
    except ValueError as error:
        assert str(error)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_any_text_is_no_attack_and_is_refused_with_its_place(text: str | bytes) -> None:
    with pytest.raises(AttackFileError) as stop:
        read_attack(text, "any")
    assert isinstance(stop.value, TextError)
    assert stop.value.line >= 1
    assert stop.value.column >= 1


class Careless:
    """A machine that lets a nasty value's own error out: what the tests above must notice."""

    def apply(self, op: Any) -> dict[str, Any]:
        return {"status": "OK" if op["op"] < 7 else "E_INPUT"}

    def digest(self) -> str:
        return ""


def test_a_careless_machine_would_be_noticed() -> None:
    found = list(apply_findings(Careless(), 1, [Integer(1), Raises()]))  # type: ignore[arg-type]
    assert ("apply: op", "raised RuntimeError") in found
    assert len(list(value_findings("x", "x", int, ["a"]))) == 1  # int() names nothing
    assert not list(value_findings("x", "invalid", int, ["a"]))


def test_a_mapping_without_end_is_refused_in_time() -> None:
    machine, _ = machine_of()
    op = {"op": "guest_set_registers", "core": 0, "registers": Endless()}
    assert machine.apply(op)["status"] in ("OK", "E_INPUT")
    assert machine.apply({Key("op"): "claim"})["status"] == "E_INPUT"
