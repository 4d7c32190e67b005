"""The printed JSON Schemas accept what the readers accept, as far as JSON Schema can say it."""

import copy
import random
import re
from typing import Any

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW
from tests.policy.test_cli import INSTANCE
from webapp import strictjson
from webapp.errors import BadInput
from webapp.vpms import documents, goals
from webapp.vpms.formats import CERTIFICATE, FLEET, PREDICATE
from webapp.vpms.instance import read_instance
from webapp.vpms.negotiation import negotiate

POLICIES, HOST = [documents.read_policy(A_DB), documents.read_policy(B_WEB)], documents.read_host(H1)
TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """The keywords that our schemas use, as draft 2020-12 words them (an integer is a Python int here)."""
    known = {
        "$schema", "$comment", "type", "const", "enum", "anyOf", "oneOf", "allOf", "not", "if", "then", "properties",
        "required", "additionalProperties", "propertyNames", "minProperties", "items", "prefixItems", "minItems",
        "maxItems", "uniqueItems", "minimum", "maximum", "pattern", "minLength", "maxLength",
    }  # fmt: skip
    assert set(schema) <= known, set(schema) - known
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number"))):
        return False
    same = [isinstance(value, bool) == isinstance(item, bool) and value == item for item in schema.get("enum", ())]
    checks = [
        "const" not in schema or value == schema["const"],  # ours are strings
        "enum" not in schema or any(same),
        "anyOf" not in schema or any(accepts(part, value) for part in schema["anyOf"]),
        "oneOf" not in schema or sum(accepts(part, value) for part in schema["oneOf"]) == 1,
        all(accepts(part, value) for part in schema.get("allOf", ())),
        "not" not in schema or not accepts(schema["not"], value),
        "if" not in schema or not accepts(schema["if"], value) or accepts(schema["then"], value),
    ]  # fmt: skip
    if isinstance(value, dict):
        members, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        checks += [accepts(members[key], item) for key, item in value.items() if key in members]
        others = [item for key, item in value.items() if key not in members]
        checks += [rest if isinstance(rest, bool) else accepts(rest, item) for item in others]
        checks += [accepts(schema.get("propertyNames", {}), key) for key in value]
        checks += [key in value for key in schema.get("required", ())]
        checks.append(len(value) >= schema.get("minProperties", 0))
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        checks += [accepts(part, item) for part, item in zip(first, value, strict=False)]
        checks += [accepts(schema.get("items", {}), item) for item in value[len(first) :]]
        checks.append(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**9))
        checks.append(not schema.get("uniqueItems") or all(item not in value[:at] for at, item in enumerate(value)))
    elif isinstance(value, str):
        checks.append("pattern" not in schema or bool(re.search(schema["pattern"].replace("$", r"\Z"), value)))
        checks.append(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**9))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        checks.append(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return all(checks)


def shaped(shape: Any, value: Any) -> None:
    strictjson.check(value, max_depth=16)
    faults: list[Any] = []
    shape.check(value, "$", faults)
    if faults:
        raise BadInput(faults)


RESULT = negotiate(POLICIES, HOST, NOW)
GOALS = goals.derived(POLICIES, HOST, NOW)
TERMS = {
    "format": "vpms-agreement/1", "agreement": "g", "version": 1, "previous": None, "host": "h1",
    "parties": [
        {"id": "a-db", "tenant": "t", "policy_sha256": "0" * 64, "policy_version": 1, "key": "A" * 43 + "="}
    ],
    "assignment": RESULT["assignment"], "not_enforced": ["vtpm"], "notBefore": NOW, "notAfter": "2026-05-01T00:00:00Z",
    "certificate_sha256": "0" * 64,
}  # fmt: skip
PREFERRING = copy.deepcopy(H1)
PREFERRING["operator"]["preferences"] = {
    "switches": {"pmu": {"weight": 1000, "values": {"off": 0, "on": 9}}}, "utility": 0,
}  # fmt: skip
EVENT = {"format": "vpms-event/1"}
MOVE = {"kind": "migrate", "vm": "a-db", "mode": "precopy", "zone": "z", "attested": True}
# kind, documents that are read, what reads them, words of faults between members that no schema can say
ROWS: list[tuple[str, list[Any], Any, str]] = [
    ("policy", [A_DB, B_WEB], documents.read_policy, "weights sum|is also among|must end after|a time like"),
    ("host", [H1, PREFERRING, {**H1, "agreement": TERMS}], documents.read_host,
     "in common|shared switch|weights|a time like"),
    ("event", [
        {**EVENT, "kind": "clock", "at": NOW}, {**EVENT, "kind": "capability_lost", "switch": "smt", "value": "off"},
        {**EVENT, "kind": "hv_read", "vm": "a", "purpose": "other", "probe": True},
        {**EVENT, **MOVE, "target": {"host": H1, "policies": [B_WEB]}},
     ], documents.read_event,
     "weights|also among|must end|in common|shared switch|is not given|of two policies|a time like"),
    ("goal", GOALS, documents.read_goal, "a time like"),
    ("instance", [INSTANCE], lambda d: read_instance(strictjson.canonical(d)),
     "no issue|values, counted|rows, one|numbers, one|another issue"),
    ("fleet", [{"format": "vpms-fleet/1", "host": H1, "templates": [A_DB], "hosts": [[0, 0], []]}],
     lambda d: shaped(FLEET, d), "a time like"),
    ("agreement", [TERMS], lambda d: shaped(PREDICATE, d), "a time like"),
    ("certificate", [RESULT["certificate"]], lambda d: shaped(CERTIFICATE, d), "point or exponent"),
]  # fmt: skip
JUNK = [
    None, True, 0, 1, -1, 5, 1001, 10**9 + 1, "", "veto", "operator", "a", "A b", "off", "smt", "human", "x" * 70, [],
    [0],
    ["off"], ["a", "a"], [[0, 1]], {}, {"weight": 0}, "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "0" * 64,
    "agreed", "accept-if-above-floor", "auto-within-bounds", "vpms-policy/2",
]  # fmt: skip


def places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    rows = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [way, *(place for key, item in rows for place in places(item, (*way, key)))]


def broken(rng: random.Random, document: Any) -> Any:
    """The document with one or two changes: another value, a member more or less, a member renamed, an item doubled."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice([1, 1, 2])):
        found = places(document)[1:]
        if not found:
            break
        *way, last = rng.choice(found)
        spot = document
        for step in way:
            spot = spot[step]
        act = rng.randrange(5)
        if act == 0:
            del spot[last]
        elif act == 1 and isinstance(spot, dict):
            spot[rng.choice(["colour", "smt", "floor", "at", "switch"])] = copy.deepcopy(spot[last])
        elif act == 2 and isinstance(spot, list):
            spot.append(copy.deepcopy(spot[last]))
        else:
            spot[last] = copy.deepcopy(rng.choice(JUNK))
    return document


@pytest.mark.parametrize(("kind", "good", "read", "unsayable"), ROWS, ids=[row[0] for row in ROWS])
def test_schema_and_reader_accept_the_same(kind: str, good: list[Any], read: Any, unsayable: str) -> None:
    schema, rng, refused = documents.json_schema(kind), random.Random(kind), 0
    for document in good:
        read(document) if kind != "certificate" else None
        assert accepts(schema, document), document
    for _ in range(250):
        document = broken(rng, rng.choice(good))
        try:
            if kind == "certificate":
                faults: list[Any] = []
                CERTIFICATE.check(document, "$", faults)
                reasons = [fault.reason for fault in faults]
            else:
                read(document)
                reasons = []
        except BadInput as error:
            reasons = [fault.reason for fault in error.faults]
        if reasons and all(re.search(unsayable, reason) for reason in reasons):
            continue
        assert accepts(schema, document) == (not reasons), (document, reasons)
        refused += bool(reasons)
    assert refused > 80
