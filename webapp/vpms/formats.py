"""The shapes of the documents: which members each has and which values each member takes, from the vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from webapp import strictjson
from webapp.errors import Fault
from webapp.vpms.shapes import (
    ID_PATTERN,
    Array,
    Boolean,
    ById,
    ByIssue,
    ByName,
    Faults,
    Integer,
    Matching,
    Nullable,
    Number,
    Object,
    OneOf,
    Shape,
    Text,
    Time,
    is_integer,
)
from webapp.vpms.vocabulary import PER_VM, SWITCHES

VETO: Final = "veto"
OPERATOR: Final = "operator"
MODES: Final = ("auto", "auto-within-bounds", "human")
ACTIONS: Final = ("reclaim", "introspect", "core_dump", "snapshot", "live_migrate", "ksm_scan", "protection_off")
CAPACITIES: Final = ("cores", "memory_mib", "hugepage_mib", "cache_ways", "bandwidth_pct", "key_slots")
_ID: Final = Matching(ID_PATTERN, "an id (a-z, 0-9, . _ -, at most 63 characters)")
_VM: Final = Matching(ID_PATTERN, "an id (a-z, 0-9, . _ -, at most 63 characters)", never=OPERATOR)
_DIGEST: Final = Matching("^[0-9a-f]{64}$", "a SHA-256 in lower-case hex")
KEY: Final = Matching("^[A-Za-z0-9+/]{43}=$", "a raw Ed25519 public key in base64")
_ANY_VALUE: Final = Matching("^.*$", "a value of a switch")
_UNKNOWN_SWITCH: Final = "is not a known switch"
_COUNT: Final = Integer(0, strictjson.MAX_INTEGER)


def _known(names: Mapping[str, Shape], least: int = 0) -> Object:
    return Object({}, names, least=least, unknown=_UNKNOWN_SWITCH)


class _Score:
    """A score 0..1000 or the word veto."""

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if value != VETO and not (is_integer(value) and 0 <= value <= 1000):
            faults.append(Fault(path, 'must be an integer between 0 and 1000, or "veto"'))

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": VETO}, {"type": "integer", "minimum": 0, "maximum": 1000}]}


def _wish(names: Sequence[str], approval: bool) -> Object:
    scores = Object({name: _Score() for name in names}, unknown="is not a value of this switch")
    return Object(
        {"weight": Integer(0, 1000), "values": scores}, {"approval": OneOf(["auto", "human"])} if approval else {}
    )


def _value_lists(names: Iterable[str]) -> Object:
    return _known({name: Array(OneOf(SWITCHES[name].names), least=1) for name in names})


class _RuleSide:
    """`{"switch": s, "in": [values of s]}`"""

    def check(self, value: Any, path: str, faults: Faults) -> None:
        name = value.get("switch") if isinstance(value, dict) else None
        known = SWITCHES.get(name) if isinstance(name, str) else None
        item: Shape = OneOf(known.names) if known else _ANY_VALUE
        Object({"switch": OneOf(list(SWITCHES)), "in": Array(item, least=1)}).check(value, path, faults)

    def schema(self) -> dict[str, Any]:
        return {
            "oneOf": [
                Object({"switch": OneOf([name]), "in": Array(OneOf(switch.names), least=1)}).schema()
                for name, switch in SWITCHES.items()
            ]
        }


class _Rule:
    """`{"when": side, "then": side}` of different switches."""

    _sides = Object({"when": _RuleSide(), "then": _RuleSide()})

    def check(self, value: Any, path: str, faults: Faults) -> None:
        before = len(faults)
        self._sides.check(value, path, faults)
        if len(faults) == before and value["when"]["switch"] == value["then"]["switch"]:
            faults.append(Fault(f"{path}.then.switch", "must differ from the switch of when"))

    def schema(self) -> dict[str, Any]:
        def both(name: str) -> dict[str, Any]:
            side = {"properties": {"switch": {"const": name}}}
            return {"properties": {"when": side, "then": side}}

        return {**self._sides.schema(), "not": {"anyOf": [both(name) for name in SWITCHES]}}


_VALIDITY: Final = Object({"notBefore": Nullable(Time()), "notAfter": Nullable(Time())})
_LABELS: Final = Array(_ID, most=16, different=True)
POLICY: Final = Object(
    {
        "format": OneOf(["vpms-policy/1"]),
        "vm": _VM,
        "tenant": _ID,
        "version": Integer(1, 2147483647),
        "size": Object(
            {"vcpus": Integer(1, 1024), "memory_mib": Integer(1, 67108864)},
            {"cache_ways": Integer(0, 64), "bandwidth_pct": Integer(0, 100)},
        ),
        "switches": _known({name: _wish(switch.names, True) for name, switch in SWITCHES.items()}, least=1),
        "disagreement": Object(
            {
                "kind": OneOf(["do-not-start", "other-host", "dedicated-host", "keep-current-agreement"]),
                "utility": Integer(0, 1000),
            },
            {"budget": Integer(0, 10**9)},
        ),
        "delegate": Object(
            {"mode": OneOf(MODES)},
            {
                "floor": Integer(0, 1000),
                "deadline_s": Integer(1, 604800),
                "onTimeout": OneOf(["reject", "accept-if-above-floor"]),
            },
            needs=[("mode", ("auto-within-bounds",), "floor"), ("onTimeout", ("accept-if-above-floor",), "floor")],
        ),
    },
    {
        "trustClass": _ID,
        "labels": Object({}, {"conflictClass": _LABELS, "exhibits": _LABELS, "refuses": _LABELS}),
        "rules": Array(_Rule(), most=32),
        "maintenance": Array(Array(Integer(0, 10080), most=2, least=2), most=32),
        "validity": _VALIDITY,
    },
)
_VALUES: Final = _known({name: OneOf(switch.names) for name, switch in SWITCHES.items()})
PREDICATE: Final = Object(
    {
        "format": OneOf(["vpms-agreement/1"]),
        "agreement": _ID,
        "version": Integer(1, 2147483647),
        "previous": Nullable(_DIGEST),
        "host": _ID,
        "parties": Array(
            Object(
                {
                    "id": _ID,
                    "tenant": Nullable(_ID),
                    "policy_sha256": Nullable(_DIGEST),
                    "policy_version": Nullable(Integer(1, 2147483647)),
                    "key": KEY,
                }
            )
        ),
        "assignment": Object({"host": _VALUES, "vms": ById(_VALUES)}),
        "not_enforced": Array(OneOf(list(SWITCHES))),
        "notBefore": Time(),
        "notAfter": Time(),
        "certificate_sha256": _DIGEST,
    }
)
_OPERATOR: Final = Object(
    {},
    {
        "law": _value_lists(SWITCHES),
        "offers": _value_lists(SWITCHES),
        "actions": Array(OneOf(ACTIONS)),
        "maintenance_min": Integer(0, 10080),
        "preferences": Nullable(
            Object(
                {
                    "switches": _known(
                        {name: _wish(switch.names, False) for name, switch in SWITCHES.items()}, least=1
                    ),
                    "utility": Integer(0, 1000),
                }
            )
        ),
        "prices": Object({}, {"relocate": _COUNT, "dedicated_host": _COUNT}),
    },
)
HOST: Final = Object(
    {
        "format": OneOf(["vpms-host/1"]),
        "host": _ID,
        "zone": _ID,
        "attested": Boolean(),
        "capacity": Object(dict.fromkeys(CAPACITIES, _COUNT)),
        "operator": _OPERATOR,
    },
    {
        "capabilities": _value_lists(SWITCHES),
        "per_vm": Array(OneOf(PER_VM)),
        "running": Array(_ID),
        "departed": Array(Object({"tenant": _ID, "conflictClass": _ID, "until": Time()})),
        "agreement": Nullable(PREDICATE),
    },
)
_PAGES: Final = Integer(1, strictjson.MAX_INTEGER)
EVENTS: Final[Mapping[str, Mapping[str, Shape]]] = {
    "page_merge": {"vm": _ID, "other": _ID},
    "reclaim": {"vm": _ID, "pages": _PAGES},
    "swap_out": {"vm": _ID, "pages": _PAGES, "sealed": Boolean()},
    "hv_read": {"vm": _ID, "purpose": OneOf(["introspect", "core_dump", "snapshot", "other"]), "probe": Boolean()},
    "core_dump": {"vm": _ID, "encrypted": Boolean()},
    "snapshot": {"vm": _ID, "encrypted": Boolean()},
    "migrate": {"vm": _ID, "mode": OneOf(["precopy", "postcopy"]), "zone": _ID, "attested": Boolean()},
    "leaf_size": {"vm": _ID, "size": OneOf(SWITCHES["hugepages"].names)},
    "co_schedule": {"vm": _ID, "other": _ID},
    "place_vcpu": {"vm": _ID, "other": _ID},
    "nested_enter": {"vm": _ID},
    "pmu_read": {"vm": _ID},
    "vm_start": {"vm": _ID},
    "vm_stop": {"vm": _ID},
    "host_mode": {"mode": OneOf(["hsvm", "smm_prototype", "off"])},
    "capability_lost": {"switch": OneOf(list(SWITCHES)), "value": _ANY_VALUE},
    "policy_changed": {"vm": _ID},
    "clock": {},
}
TARGET: Final = Object({"host": HOST, "policies": Array(POLICY, most=64)})


class _Event:
    """An event: its kind says which further members it has."""

    def check(self, value: Any, path: str, faults: Faults) -> None:
        kind = value.get("kind") if isinstance(value, dict) else None
        fields = EVENTS.get(kind) if isinstance(kind, str) else None
        if fields is None and isinstance(value, dict):  # one fault says it; what an unknown kind has is unknown
            value = {key: value[key] for key in ("format", "kind") if key in value}
        elif kind == "capability_lost" and value.get("switch") in list(SWITCHES):
            fields = _lost(value["switch"])
        self._object(kind, fields or {}).check(value, path, faults)

    def schema(self) -> dict[str, Any]:
        rows = [(kind, fields) for kind, fields in EVENTS.items() if kind != "capability_lost"]
        rows += [("capability_lost", _lost(name)) for name in SWITCHES]
        return {"oneOf": [self._object(kind, fields, [kind]).schema() for kind, fields in rows]}

    def _object(self, kind: Any, fields: Mapping[str, Shape], kinds: Sequence[str] = tuple(EVENTS)) -> Object:
        optional: dict[str, Shape] = {"at": Time(), **({"target": TARGET} if kind == "migrate" else {})}
        return Object({"format": OneOf(["vpms-event/1"]), "kind": OneOf(kinds), **fields}, optional)


def _lost(switch: str) -> Mapping[str, Shape]:
    return {"switch": OneOf([switch]), "value": OneOf(SWITCHES[switch].names)}


EVENT: Final = _Event()


PROPERTIES: Final = ("confidentiality", "integrity", "availability", "accountability")
_PARTIES: Final = Array(_ID, different=True)
GOAL: Final = Object(
    {
        "format": OneOf(["vpms-goal/1"]),
        "goal": _ID,
        "owner": _ID,
        "against": Array(_ID, different=True),  # co_tenant, operator, hypervisor, guest_software, outsider, or a party
        "functionality": Text(1, 200),
        "property": OneOf(PROPERTIES),
        "switches": Array(OneOf(list(SWITCHES)), different=True),
        "status": OneOf(["open", "mutual", "conflict", "agreed", "waived"]),
        "rationale": Text(1, 1000),
    },
    {"mutual": _PARTIES, "conflicting": _PARTIES, "validity": _VALIDITY, "agreement": _ID},
    needs=[("status", ("agreed",), "agreement")],
)
FLEET: Final = Object(
    {
        "format": OneOf(["vpms-fleet/1"]),
        "host": HOST,
        "templates": Array(POLICY, most=None),
        "hosts": Array(Array(_COUNT, most=None), most=None),
    }
)
_FRACTION: Final = Matching("^-?[0-9]+/[1-9][0-9]*$", "a fraction like 49/80")
_SHARE: Final = Integer(0, 10**6)
CERTIFICATE: Final = Object(
    {
        "format": OneOf(["vpms-certificate/1"]),
        "host_sha256": _DIGEST,
        "policies": ById(_DIGEST),
        "parties": ById(Object({"d": _COUNT, "ideal": _COUNT, "u": _COUNT, "gain": _FRACTION})),
        "domains": ByIssue(Array(Text(1, 63))),
        "lambda": ById(_SHARE),
        "lambda_bound": Number(),
        "search": Object({"proven": Boolean(), "nodes": _COUNT}),
        "table": Nullable(ByIssue(ByName(_FRACTION))),
    }
)
