"""Scenarios: one strict form, a JSON Schema that says the same as the reader, and canonical bytes that never change."""

import copy
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hsvm_engine
from hsvm_engine.scenarios import SCENARIOS, AttackSpec, Scenario, ScenarioError, VmSpec

from .jsonschema import allows

SCHEMA = json.loads((Path(hsvm_engine.__file__).parent / "schemas" / "scenario.schema.json").read_text())
WHOLE: dict[str, Any] = {
    "format": "hsvm-scenario/1",
    "machine": {
        **{"frames": 8192, "hypervisor_frames": 1024, "protected_frames": 64, "cores": 2, "architecture": "hsvm"},
        **{"options": {}, "tlb": {"l1": {"sets": 16}}, "costs": {"map": 7}},
    },
    "vms": [
        {"name": "a", "vm_pages": 256, "trace": "gzip"},
        {"name": "b-2", "vm_pages": 1024, "trace": "x", "vcpus": 2, "core": 1, "seed": 3, "balloon": "on"},
    ],
    "seed": 9,
    "quantum": 500,
    "flush": "on_change",
    "rate": 100,
    "agreement": "ab" * 32,
    "attacks": [{"step": 3, "attack": "A01", "victim": "a"}],
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 63, 64, 65, 255, 256, 1 << 20, (1 << 20) + 1, 1 << 24, 1 << 28, (1 << 28) + 1),
    *(1 << 32, (1 << 32) + 1, (1 << 63) - 1, 1 << 63, "", "a", "A", "a\n", "a-", "é", "on", "tagged", "ab" * 32),
    *("x" * 64, "hsvm-scenario/1", [], {}, [[]], [{}], {"a": 1}, [None], ["a"]),
)
BEYOND = ("is taken", "no such core", "no VM is named")  # what the schema's description leaves to the reader


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def changed(path: tuple[Any, ...], value: Any, *, drop: bool = False) -> Any:
    if not path:
        return value
    document = copy.deepcopy(WHOLE)
    inner: Any = document
    for key in path[:-1]:
        inner = inner[key]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


def documents() -> Iterator[Any]:
    for path in places(WHOLE):
        for value in VALUES:
            yield changed(path, value)
        if path:
            yield changed(path, None, drop=True)
        yield changed((*path[:-1], "surprise"), 1) if path and isinstance(path[-1], str) else {**WHOLE, "surprise": 1}


def refusal(document: Any) -> str | None:
    try:
        Scenario.from_json(json.dumps(document))
    except ScenarioError as error:
        return str(error)
    return None


def test_schema_and_reader_say_the_same_of_good_and_bad_documents() -> None:
    accepted = refused = 0
    for document in documents():
        reason = refusal(document)
        if reason is None:
            assert allows(SCHEMA, document), document
            accepted += 1
        elif any(words in reason for words in BEYOND):
            assert allows(SCHEMA, document), document
        else:
            assert not allows(SCHEMA, document), (reason, document)
            refused += 1
    assert accepted > 100
    assert refused > 1_000


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_built_in_scenarios_are_as_the_schema_says(name: str) -> None:
    assert allows(SCHEMA, json.loads(SCENARIOS[name].to_json()))


def test_what_was_read_is_written_again() -> None:
    scenario = Scenario.from_json(json.dumps(WHOLE))
    assert scenario.attacks == (AttackSpec(step=3, attack="A01", victim="a"),)
    assert Scenario.from_json(scenario.to_json()) == scenario


def test_a_scenario_without_attacks_has_the_bytes_that_it_always_had() -> None:
    """Digests of scenarios are stored by those who run them: a new field must not change an old scenario's text."""
    digests = {name: hashlib.sha256(scenario.to_json().encode()).hexdigest() for name, scenario in SCENARIOS.items()}
    assert digests == {
        "demo": "2d376901faa9d9c7bbd05045a8dd35a4718a5918fbd3de663e1aabf3c43bbfe8",
        "demo-nested": "cce76f7e4aa01f199e2bf71139cf694144fb49e48070c35178b174f95d3108bb",
    }
    assert '"attacks"' not in SCENARIOS["demo"].to_json()


@pytest.mark.parametrize(
    ("attacks", "path"),
    [
        ({}, "attacks"),
        ([7], "attacks"),
        ([{"step": 0, "attack": "A01", "victim": "a"}], "attacks[0].step"),
        ([{"step": 1, "attack": "../A01", "victim": "a"}], "attacks[0].attack"),
        ([{"step": 1, "attack": "A01"}], "attacks[0].victim"),
        ([{"step": 1, "attack": "A01", "victim": "c"}], "attacks[0].victim"),
    ],
)
def test_a_wrong_attack_is_refused_with_its_path(attacks: Any, path: str) -> None:
    with pytest.raises(ScenarioError) as stop:
        Scenario.from_json(json.dumps({**WHOLE, "attacks": attacks}))
    assert stop.value.path.startswith(path)


def test_attacks_made_in_python_are_checked_too() -> None:
    vm = VmSpec(name="a", vm_pages=256, trace="gzip")
    machine = WHOLE["machine"]
    with pytest.raises(ScenarioError, match="attacks"):
        Scenario(machine=machine, vms=(vm,), attacks=({"step": 1},))  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="at most"):
        Scenario(machine=machine, vms=(vm,), attacks=(AttackSpec(step=1, attack="A01", victim="a"),) * 1_001)
