"""Foreign documents are understood completely or refused whole, with the path and the reason of each fault."""

import copy
import json
from typing import Any

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, a_db, h1, vm
from webapp import strictjson
from webapp.errors import BadInput
from webapp.vpms import documents


def faults(source: Any, read: Any = documents.read_policy) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as refused:
        read(source)
    assert refused.value.http_status == 422
    return [(fault.path, fault.reason) for fault in refused.value.faults]


def test_the_example_of_the_design_is_read() -> None:
    policy = documents.read_policy(json.dumps(A_DB))
    assert (policy.vm, policy.tenant, policy.size["cache_ways"], policy.rules[0].then) == (
        "a-db",
        "alpha",
        1,
        "audit_level",
    )
    assert documents.read_policy(B_WEB).disagreement["budget"] == 50
    host = documents.read_host(json.dumps(H1))
    assert host.offered("audit_level") == ("full", "metadata")
    assert host.is_shared("smt") and not host.is_shared("swap")


def test_the_digest_is_over_the_document_as_given_whatever_the_order_of_its_keys() -> None:
    turned = dict(reversed(A_DB.items()))
    assert documents.read_policy(turned).sha256 == documents.read_policy(A_DB).sha256
    filled = a_db(size={**A_DB["size"], "cache_ways": 1})
    assert documents.read_policy(filled).sha256 != documents.read_policy(A_DB).sha256


def test_canonical_form_follows_rfc_8785() -> None:
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7, "a": 'x"\\\n\x01é'}
    shown = strictjson.canonical(value).decode()
    order = ["\\r", "1", "a", "\x80", "ö", "€", "\U0001f600", "\ufb33"]
    assert [shown.index(f'"{key}":') for key in order] == sorted(shown.index(f'"{key}":') for key in order)
    assert '"x\\"\\\\\\n\\u0001é"' in shown


TEXTS = [
    ('{"format": NaN}', "$.format", "NaN is not a number"),
    ('{"format": -Infinity}', "$.format", "-Infinity is not a number"),
    ('{"version": 1.0}', "$.version", "without point or exponent"),
    ('{"version": 1e2}', "$.version", "without point or exponent"),
    ('{"version": 1e400}', "$.version", "without point or exponent"),
    ('{"version": -0}', "$.version", "-0"),
    ('{"version": 9007199254740992}', "$.version", "within"),
    ('{"version": ' + "9" * 6000 + "}", "$.version", "within"),
    ('{"a": {"x-y": [1, {"b": 1, "b": 2}]}}', "$.a['x-y'][1].b", "more than once"),
    ('{"vm": "\\ud800"}', "$.vm", "lone surrogate"),
    ('{"vm": "\\u0007"}', "$.vm", "control character"),
    ('{"vm": "' + "x" * 1001 + '"}', "$.vm", "1001 characters"),
    ('{"rules": [' + "0," * 256 + "0]}", "$.rules", "257 items"),
    ('{"a": ' + "[" * 8 + "]" * 8 + "}", "$", "deeper than 8"),
    ("[" * 60000, "$", "deeper than 8"),
    ("[" * (1 << 20), "$", "at most 65536"),
    ('{"vm": "a",}', "$", "line 1 column"),
    ('\ufeff{"vm": "a"}', "$", "byte order mark"),
    ("", "$", "line 1 column 1"),
]


@pytest.mark.parametrize(("text", "path", "reason"), TEXTS, ids=[row[0][:24] for row in TEXTS])
def test_what_json_must_not_hold_is_named_with_its_path(text: str, path: str, reason: str) -> None:
    found = dict(faults(text))
    assert reason in found[path]


def test_bytes_that_are_not_utf8_are_refused() -> None:
    assert faults(b'{"vm": "\xff"}') == [("$", "is not UTF-8 (byte 8)")]


def edited(path: str, value: Any, base: dict[str, Any] = A_DB) -> dict[str, Any]:
    """A copy in which the member at `path` (dots) has this value; `...` removes it."""
    document = copy.deepcopy(base)
    *way, last = path.split(".")
    place: Any = document
    for step in way:
        place = place[int(step)] if isinstance(place, list) else place[step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


POLICIES = [
    ("colour", "red", "$.colour", "not a field"),
    ("vm", "operator", "$.vm", "must not be operator"),
    ("vm", "UPPER", "$.vm", "an id"),
    ("vm", "a-db\n", "$.vm", "control character"),
    ("version", 0, "$.version", "between 1 and"),
    ("version", True, "$.version", "an integer"),
    ("version", 1.5, "$.version", "an integer"),
    ("format", "vpms-policy/2", "$.format", "vpms-policy/1"),
    ("size.vcpus", ..., "$.size.vcpus", "missing"),
    ("size.memory_mib", 0, "$.size.memory_mib", "between"),
    ("switches.warp", {"weight": 0, "values": {}}, "$.switches.warp", "not a known switch"),
    ("switches.smt.weight", 1001, "$.switches.smt.weight", "between 0 and 1000"),
    ("switches.smt.weight", -1, "$.switches.smt.weight", "between 0 and 1000"),
    ("switches.smt.weight", 251, "$.switches", "sum to 1001"),
    ("switches.smt.values.shared", ..., "$.switches.smt.values.shared", "missing"),
    ("switches.smt.values.shared", "vetto", "$.switches.smt.values.shared", "veto"),
    ("switches.smt.values.shared", 1001, "$.switches.smt.values.shared", "between 0 and 1000"),
    ("switches.smt.values.some", 1, "$.switches.smt.values.some", "not a value"),
    ("switches.smt.approval", "maybe", "$.switches.smt.approval", "one of auto, human"),
    ("switches", {}, "$.switches", "not be empty"),
    ("rules.0.then.switch", "core_dump", "$.rules[0].then.in[0]", "never, encrypted, allowed"),
    ("rules.0.then.in", [], "$.rules[0].then.in", "not be empty"),
    ("rules.0.when.in", ["sometimes"], "$.rules[0].when.in[0]", "one of never"),
    ("delegate.floor", ..., "$.delegate.floor", "missing"),
    ("delegate.mode", "robot", "$.delegate.mode", "one of auto"),
    ("labels.exhibits", ["untrusted-code"], "$.labels.refuses", "also among"),
    ("labels.refuses", ["x", "x"], "$.labels.refuses[1]", "twice"),
    ("maintenance", [[360, 0]], "$.maintenance[0]", "end after it starts"),
    ("maintenance", [[0, 1, 2]], "$.maintenance[0]", "at most 2"),
    ("validity.notAfter", "2026-02-30T00:00:00Z", "$.validity.notAfter", "a time"),
    ("validity.notAfter", ..., "$.validity.notAfter", "missing"),
    ("disagreement.utility", ..., "$.disagreement.utility", "missing"),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), POLICIES, ids=[f"{row[0]}={row[1]}" for row in POLICIES])
def test_a_wrong_policy_is_refused_where_it_is_wrong(path: str, value: Any, where: str, why: str) -> None:
    found = faults(edited(path, value))
    assert found[0][0] == where and why in found[0][1]


HOSTS = [
    ("capacity.cores", ..., "$.capacity.cores", "missing"),
    ("capacity.cores", -1, "$.capacity.cores", "between"),
    ("operator", ..., "$.operator", "missing"),
    ("operator.law.audit_level", [], "$.operator.law.audit_level", "not be empty"),
    ("operator.offers", {"audit_level": ["none"]}, "$.operator.offers.audit_level", "in common"),
    ("operator.actions", ["dance"], "$.operator.actions[0]", "one of reclaim"),
    ("capabilities.memory_protection", ["sgx"], "$.capabilities.memory_protection[0]", "one of snp_tdx"),
    ("per_vm", ["smt"], "$.per_vm[0]", "one of memory_protection"),
    (
        "operator.preferences",
        {"utility": 0, "switches": {"swap": {"weight": 1000, "values": {"never": 0, "encrypted": 0, "plain": 0}}}},
        "$.operator.preferences.switches.swap",
        "not a shared switch",
    ),
]


@pytest.mark.parametrize(("path", "value", "where", "why"), HOSTS, ids=[row[0] + str(row[1])[:12] for row in HOSTS])
def test_a_wrong_host_is_refused_where_it_is_wrong(path: str, value: Any, where: str, why: str) -> None:
    found = faults(edited(path, value, H1), documents.read_host)
    assert found[0][0] == where and why in found[0][1]


def test_at_most_twenty_faults_are_told_in_document_order() -> None:
    broken = {f"x{number:02}": 1 for number in range(40)}
    assert [path for path, _ in faults(broken)] == [f"$.x{number:02}" for number in range(20)]


def test_every_fault_is_told_whatever_else_is_wrong_and_in_the_order_of_the_document() -> None:
    text = json.dumps(A_DB)
    text = text.replace('"vcpus": 4', '"vcpus": 4.5').replace('"tenant": "alpha"', '"tenant": "alpha", "tenant": "b"')
    text = text.replace('"smt": {"weight": 250', '"smt": {"weight": 251').replace('"shared": 0', '"shared": "vetto"')
    text = text.replace(', "deadline_s": 86400', "").replace('"floor": 600', '"floor": 6000')
    text = text.replace('"labels": {', '"labels": {"owners": [], ').replace('"database"', '"untrusted-code"')
    text = text.replace('"utility": 500, ', "").replace('"in": ["full"]', '"in": []')
    assert [path for path, _ in faults(text)] == [
        "$.tenant",
        "$.size.vcpus",
        "$.labels.owners",
        "$.switches",
        "$.switches.smt.values.shared",
        "$.rules[0].then.in",
        "$.disagreement.utility",
        "$.delegate.floor",
    ]


def test_a_switch_of_a_newer_version_is_one_fault_and_so_is_a_number_that_is_none() -> None:
    renamed = copy.deepcopy(A_DB)
    renamed["switches"] = {{"smt": "smt_2"}.get(name, name): wish for name, wish in A_DB["switches"].items()}
    assert faults(renamed) == [("$.switches.smt_2", "is not a known switch")]
    ruled = edited("rules.0.when.switch", "smt_2")
    assert [path for path, _ in faults(ruled)] == ["$.rules[0].when.switch"]
    assert faults(json.dumps(A_DB).replace('"weight": 250', '"weight": NaN')) == [
        ("$.switches.smt.weight", "NaN is not a number")
    ]


def test_faults_in_the_target_of_a_migration_have_their_own_paths() -> None:
    event = {
        "format": "vpms-event/1",
        "kind": "migrate",
        "vm": "a-db",
        "mode": "precopy",
        "zone": "z",
        "attested": True,
    }
    heavy = edited("switches.smt.weight", 251)
    there = h1(running=["a-db", "zz"])
    wrong = {**event, "target": {"host": edited("operator.offers", {"audit_level": ["none"]}, H1), "policies": [heavy]}}
    assert [path for path, _ in faults(wrong, documents.read_event)] == [
        "$.target.host.operator.offers.audit_level",
        "$.target.policies[0].switches",
    ]
    twice = {**event, "target": {"host": there, "policies": [A_DB, B_WEB, B_WEB]}}
    assert [path for path, _ in faults(twice, documents.read_event)] == [
        "$.target.host.running[1]",
        "$.target.policies[2].vm",
    ]


def test_each_kind_of_event_has_its_fields_and_only_them() -> None:
    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return {"format": "vpms-event/1", "kind": kind, **fields}

    good = [
        event("co_schedule", vm="a", other="b"),
        event("place_vcpu", vm="a", other="b"),
        event("nested_enter", vm="a"),
        event("pmu_read", vm="a", at="2026-01-01T00:00:00Z"),
        event("host_mode", mode="smm_prototype"),
        event("capability_lost", switch="smt", value="off"),
        event("policy_changed", vm="a"),
        event("clock"),
    ]
    for document in good:
        assert documents.read_event(document) == document
        assert faults({**document, "pages": 1}, documents.read_event) == [
            ("$.pages", "is not a field of this document")
        ]
    lost = event("capability_lost", switch="smt", value="never")
    assert [path for path, _ in faults(lost, documents.read_event)] == ["$.value"]


def test_an_event_is_read_with_exactly_its_fields() -> None:
    event = {"format": "vpms-event/1", "kind": "reclaim", "vm": "a-db", "pages": 3}
    assert documents.read_event(event)["pages"] == 3
    assert faults({**event, "sealed": True}, documents.read_event) == [("$.sealed", "is not a field of this document")]
    assert faults({**event, "kind": "explode"}, documents.read_event)[0][0] == "$.kind"


def test_running_vms_need_their_policy_and_no_vm_has_two() -> None:
    policy = documents.read_policy(A_DB)
    with pytest.raises(BadInput, match="two policies"):
        documents.check_set([policy, policy], documents.read_host(H1))
    with pytest.raises(BadInput, match="b-web runs"):
        documents.check_set([policy], documents.read_host(h1(running=["b-web"])))


def test_the_host_offers_what_its_resources_allow() -> None:
    offered = documents.offered_values(documents.read_host(H1), {"vcpus": 9, "memory_mib": 64})
    assert offered["hugepages"] == ["4k"] and offered["cpu_pinning"] == ["shared"] and "never" in offered["swap"]


def test_the_schema_names_every_switch_and_forbids_everything_else() -> None:
    schema = documents.json_schema("policy")
    switches = schema["properties"]["switches"]
    assert len(switches["properties"]) == 24 and switches["additionalProperties"] is False
    assert switches["properties"]["smt"]["properties"]["values"]["required"] == ["off", "core_scheduling", "shared"]
    assert json.dumps(documents.json_schema("host"))


def test_a_policy_of_defaults_has_the_defaults_of_the_design() -> None:
    plain = documents.read_policy(vm("x", "t", {"pmu": (1000, {"off": 1000, "on": 0})}))
    assert (plain.trust_class, plain.delegate["deadline_s"], plain.delegate["onTimeout"]) == (
        "default",
        86400,
        "reject",
    )
    assert plain.maintenance is None and plain.valid_at("2026-01-01T00:00:00Z")
