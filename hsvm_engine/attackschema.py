"""The language of attack files as a JSON Schema, made from the tables that the reader uses.

`python -m hsvm_engine.attackschema` writes it to `schemas/attack.schema.json`. It says what a file may look like; what
needs more than one place (whether a name is bound, of which kind and whose it is; the granted ports; the fuel) only the
reader knows.
"""

import json
from pathlib import Path
from typing import Any

from hsvm_engine.attackfile import (
    ARCHITECTURE_WORD,
    EVERYBODY,
    EVIDENCE,
    ID,
    MAX_CORES,
    MAX_FRAMES,
    MAX_HEX,
    NAME,
    OUTCOMES,
    PHASES,
    REFERENCE,
)
from hsvm_engine.attackscope import TURN
from hsvm_engine.attacktext import MAX_BYTES
from hsvm_engine.operations import HEX, INT, OPERATIONS, PARTNERS, PORTS, REGISTER_NAMES, REGISTERS, WORD

FILE = Path(__file__).parent / "schemas" / "attack.schema.json"
Schema = dict[str, Any]


def attack_schema() -> Schema:
    """The schema of a whole file."""
    text = {"type": "string", "minLength": 1}
    properties: Schema = {
        "schema": {"const": 1},
        "id": {"type": "string", "pattern": _whole(ID.pattern)},
        "title": {**text, "maxLength": 200},
        "says": {**text, "maxLength": 2000, "description": "the sentence that the screen shows"},
        "paper": {**text, "maxLength": 200},
        "port": {"anyOf": [{"enum": list(PORTS)}, _list({"enum": list(PORTS)})]},
        "machine": _object({}, _machine()),
        "let": _ref("names"),
        "evidence": _by_architecture({"enum": list(EVIDENCE)}),
        "declared": _by_architecture(
            _object(
                {
                    "outcome": {"enum": ["OUT_OF_SCOPE", "NOT_APPLICABLE"]},
                    "reason": {**text, "maxLength": 2000},
                }
            )
        ),
        "expect": {"anyOf": [{"enum": list(OUTCOMES)}, _by_architecture({"enum": list(OUTCOMES)})]},
        **{phase: _list(_ref(f"{phase}_step" if phase == "attacker" else "step")) for phase in PHASES},
    }
    required = ("schema", "id", "says", "port", "setup", "attacker")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "attack.schema.json",
        "title": "Attack file of the H-SVM engine, as JSON or as YAML in block style",
        **_object({name: properties[name] for name in required}, properties),
        "$defs": _definitions(),
    }


def _definitions() -> Schema:
    anything = list(OPERATIONS)
    guests = [name for name, operation in OPERATIONS.items() if operation.port == "guest"]
    return {
        "reference": {"type": "string", "pattern": _whole(REFERENCE.pattern)},
        "integer": {"anyOf": [{"type": "integer"}, _ref("reference")]},
        "word": _text(MAX_HEX),
        "bytes": _bytes(MAX_HEX),
        "image": _bytes(MAX_BYTES),
        "registers": {"anyOf": [_object({}, {name: _ref("integer") for name in REGISTER_NAMES}), _ref("reference")]},
        "partners": {"anyOf": [{"enum": list(EVERYBODY)}, _list(_ref("integer"))]},
        "names": {
            "type": "object",
            "propertyNames": {"pattern": _whole(NAME.pattern)},
            "additionalProperties": {"anyOf": [{"type": "integer"}, _text(MAX_BYTES)]},
        },
        **{f"op_{name}": _operation(name, anything=True) for name in anything},
        **{f"{TURN}_{name}": _operation(name, anything=False) for name in guests},
        "step": _step("step", [_ref(f"op_{name}") for name in anything], let=True),
        "attacker_step": _step(
            "attacker_step",
            [
                *(_ref(f"op_{name}") for name in anything),
                _object({"victim": _list(_ref(f"{TURN}_step"))}),
                _object({"note": _ref("reference")}),
            ],
            let=True,
        ),
        f"{TURN}_step": _step(f"{TURN}_step", [_ref(f"{TURN}_{name}") for name in guests], let=False),
    }


def _step(name: str, kinds: list[Schema], *, let: bool) -> Schema:
    repeat = _object({"repeat": {"type": "integer", "minimum": 1, "maximum": 10_000}, "steps": _list(_ref(name))})
    return {"anyOf": [*kinds, repeat, *([_object({"let": _ref("names")})] if let else [])]}


def _operation(name: str, *, anything: bool) -> Schema:
    """One operation with all its fields. In the victim's turn each has an exit to bind, else only a result can be."""
    operation = OPERATIONS[name]
    fields: Schema = {"op": {"const": name}}
    for field, kind in operation.fields.items():
        fields[field] = _ref("image") if field == "image" else _ref(KIND[kind])
    bind = {"as": {"type": "string", "pattern": _whole(NAME.pattern)}}
    return _object(fields, bind if operation.results or not anything else {})


KIND = {INT: "integer", HEX: "bytes", WORD: "word", REGISTERS: "registers", PARTNERS: "partners"}


def _machine() -> Schema:
    high = {"cores": MAX_CORES, "seed": (1 << 64) - 1}
    names = ("frames", "hypervisor_frames", "protected_frames", "cores", "seed")
    return {name: {"type": "integer", "minimum": 0, "maximum": high.get(name, MAX_FRAMES)} for name in names}


def _text(limit: int) -> Schema:
    """Words that are no `$name`, or one."""
    plain = {"type": "string", "pattern": "^[^$]", "maxLength": limit}
    return {"anyOf": [plain, _ref("reference")]}


def _bytes(limit: int) -> Schema:
    digits = {"type": "string", "pattern": "^(?:[0-9a-f]{2})+$", "maxLength": limit}
    return {"anyOf": [digits, _ref("reference")]}


def _by_architecture(cell: Schema) -> Schema:
    return {
        "type": "object",
        "propertyNames": {"pattern": _whole(ARCHITECTURE_WORD.pattern)},
        "additionalProperties": cell,
    }


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    closed: Schema = {"type": "object", "additionalProperties": False, "properties": {**required, **(optional or {})}}
    return {**closed, "required": list(required)} if required else closed


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _whole(pattern: str) -> str:
    return f"^(?:{pattern})$"


def text() -> str:
    return json.dumps(attack_schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
