"""The JSON Schema of attack files and the reader agree on what a file may look like."""

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from hsvm_engine import attackschema
from hsvm_engine.attackfile import BUILTIN, AttackFileError, builtin, builtin_ids, read_attack
from hsvm_engine.operations import OPERATIONS
from tests.engine.jsonschema import allows

SCHEMA = attackschema.attack_schema()
Document = dict[str, Any]


def plain(node: yaml.Node) -> Any:
    """A composed YAML node as data: whole numbers that are not quoted are integers, all else is text."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item) for item in node.value]
    whole = node.style is None and re.fullmatch(r"-?[0-9]+", node.value)
    return int(node.value) if whole else node.value


def document(attack_id: str) -> Document:
    """A built-in attack as plain data."""
    data: Document = plain(yaml.compose((BUILTIN / f"{attack_id}.yaml").read_text()))
    return data


def read_as_json(data: Any) -> bool:
    try:
        read_attack(json.dumps(data))
    except AttackFileError:
        return False
    return True


def test_the_file_is_what_the_tables_say() -> None:
    assert attackschema.FILE.read_text() == attackschema.text(), "run python -m hsvm_engine.attackschema"


@pytest.mark.parametrize("attack_id", builtin_ids())
def test_every_built_in_attack_fits_and_is_the_same_file_as_json(attack_id: str) -> None:
    data = document(attack_id)
    assert allows(SCHEMA, data)
    from_json, from_yaml = read_attack(json.dumps(data)), builtin(attack_id)
    assert dataclasses.replace(from_json, phases={}, let=from_yaml.let, machine_line=0) == dataclasses.replace(
        from_yaml, phases={}, machine_line=0
    )
    assert all(len(from_json.phases[phase]) == len(steps) for phase, steps in from_yaml.phases.items())


def steps_of(data: Document) -> list[Document]:
    return data["attacker"]  # type: ignore[no-any-return]


def drop(name: str) -> Callable[[Document], object]:
    return lambda data: data.pop(name)


def put(name: str, value: Any) -> Callable[[Document], object]:
    return lambda data: data.update({name: value})


def put_in_step(name: str, value: Any) -> Callable[[Document], object]:
    return lambda data: steps_of(data)[0].update({name: value})


def add_step(phase: str, step: Any) -> Callable[[Document], object]:
    return lambda data: data.setdefault(phase, []).append(step)


ACCESS = {"op": "guest_read", "core": 0, "gpa": 0, "length": 1}
MERGEABLE = {"op": "guest_mergeable", "core": 0, "gpn": 0}


@pytest.mark.parametrize(
    "mistake",
    [
        *(drop(name) for name in ("schema", "id", "says", "port", "setup", "attacker")),
        put("schema", 2),
        put("schema", "1"),
        put("speed", 1),
        put("id", "../A"),
        put("id", 5),
        put("says", ""),
        put("says", "x" * 2001),
        put("title", "x" * 201),
        put("port", "kernel"),
        put("port", []),
        put("setup", []),
        put("setup", {}),
        put("attacker", ["hv_read"]),
        put("machine", {"frames": -1}),
        put("machine", {"frames": 1 << 21}),
        put("machine", {"cores": 17}),
        put("machine", {"clock": 1}),
        put("machine", {"frames": "many"}),
        put("let", {"Frame": 1}),
        put("let", {"frame": []}),
        put("let", {"frame": "$ frame"}),
        put("evidence", {"hsvm": "rumour"}),
        put("evidence", {"HSVM": "own"}),
        put("declared", {"hsvm": {"outcome": "BLOCKED", "reason": "x"}}),
        put("declared", {"hsvm": {"outcome": "OUT_OF_SCOPE"}}),
        put("expect", "WON"),
        put("expect", {"hsvm": "WON"}),
        put_in_step("op", "hv_steal"),
        put_in_step("op", 1),
        put_in_step("speed", 1),
        put_in_step("offset", "0"),
        put_in_step("offset", True),
        put_in_step("offset", None),
        put_in_step("offset", "$seen data"),
        put_in_step("as", "Seen"),
        put_in_step("as", 3),
        lambda data: steps_of(data)[0].pop("offset"),
        add_step("attacker", {"repeat": 0, "steps": [ACCESS]}),
        add_step("attacker", {"repeat": 10_001, "steps": [ACCESS]}),
        add_step("attacker", {"repeat": 2, "steps": []}),
        add_step("attacker", {"repeat": 2}),
        add_step("attacker", {"victim": []}),
        add_step("attacker", {"victim": [ACCESS], "as": "x"}),
        add_step("attacker", {"victim": [{"op": "hv_read", "mfn": 0, "offset": 0, "length": 1}]}),
        add_step("attacker", {"victim": [{"let": {"a": 1}}]}),
        add_step("attacker", {"victim": [{"victim": [ACCESS]}]}),
        add_step("attacker", {"victim": [{"note": "$seen"}]}),
        add_step("attacker", {"note": 5}),
        add_step("attacker", {"note": "seen"}),
        add_step("after", {"note": "$seen"}),
        add_step("victim", {"victim": [ACCESS]}),
        add_step("after", {**MERGEABLE, "with": "some"}),
        add_step("after", {**MERGEABLE, "with": []}),
        add_step("after", {**MERGEABLE, "with": ["any"]}),
        add_step("after", {"op": "guest_write", "core": 0, "gpa": 0, "data": "0F"}),
        add_step("after", {"op": "guest_write", "core": 0, "gpa": 0, "data": "00" * 4097}),
        add_step("after", {"op": "guest_set_registers", "core": 0, "registers": {"eax": 1}}),
        add_step("after", {"op": "guest_share", "core": 0, "gpn": 0, "perm": "rw", "as": "x"}),
        add_step("after", {}),
    ],
)
def test_a_mistake_of_shape_is_refused_by_both(mistake: Callable[[Document], object]) -> None:
    data = copy.deepcopy(document("A01"))
    assert allows(SCHEMA, data) and read_as_json(data)
    mistake(data)
    assert not read_as_json(data)
    assert not allows(SCHEMA, data)


@pytest.mark.parametrize(
    "addition",
    [
        put("port", ["hypervisor", "device", "physical"]),
        put("machine", {"seed": (1 << 64) - 1, "cores": 16}),
        put("expect", {"hsvm": "BLOCKED", "nested": "SUCCEEDED"}),
        put("declared", {"tdx": {"outcome": "NOT_APPLICABLE", "reason": "not built"}}),
        put("let", {"frame": 4096, "entry": "00ff", "word": "rw", "same": "$frame"}),
        add_step("attacker", {"victim": [{**ACCESS, "as": "exit"}, {"repeat": 3, "steps": [ACCESS]}]}),
        add_step("attacker", {"note": "$seen"}),
        add_step("attacker", {"repeat": 2, "steps": [{"let": {"a": 1}}, {"note": "$seen"}]}),
        add_step("after", {**MERGEABLE, "with": "any"}),
        add_step("after", {**MERGEABLE, "with": ["$victim", 7]}),
        add_step("after", {"op": "swap_in", "vm": "$victim", "gpn": 1, "mfn": 9, "image": "ab" * 4141}),
        add_step("after", {"op": "guest_set_registers", "core": 0, "registers": {"rax": -1, "rbx": "$secret.low"}}),
    ],
)
def test_what_the_language_has_is_taken_by_both(addition: Callable[[Document], object]) -> None:
    data = copy.deepcopy(document("A01"))
    addition(data)
    assert read_as_json(data)
    assert allows(SCHEMA, data)


def test_every_operation_can_be_said_with_exactly_its_fields() -> None:
    for name, operation in OPERATIONS.items():
        shape = SCHEMA["$defs"][f"op_{name}"]
        assert set(shape["required"]) == {"op", *operation.fields}
        assert ("as" in shape["properties"]) == bool(operation.results)
        assert (f"turn_{name}" in SCHEMA["$defs"]) == (operation.port == "guest")
