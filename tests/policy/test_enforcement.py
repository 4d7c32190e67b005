"""The gate: for each row one event that is allowed and one that is refused, with code, value and nothing in between."""

import copy

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW, a_db, b_web, h1
from webapp.errors import BadInput, VpmsError
from webapp.vpms import enforcement
from webapp.vpms.documents import read_event, read_host, read_policy
from webapp.vpms.formats import EVENTS
from webapp.vpms.negotiation import negotiate
from webapp.vpms.vocabulary import SWITCHES

POLICIES = [read_policy(A_DB), read_policy(B_WEB)]
HOST = read_host(H1)
STRICT = {name: switch.names[0] for name, switch in SWITCHES.items()} | {"memory_protection": "hsvm"}
NEARBY = {"live_migration": "same_zone_attested"}
LAX = {name: switch.names[-1] for name, switch in SWITCHES.items()}
KEY = "A" * 43 + "="
TENANTS = {"a": "alpha", "b": "beta", "c": "alpha"}


def decide(kind, in_force=None, **fields):
    base = {"strict": STRICT, "lax": LAX}[in_force] if isinstance(in_force, str) else LAX | (in_force or {})
    values = {"a": base, "b": base, "c": base}
    event = {"kind": kind, "vm": "a", **fields}
    return enforcement.decide(event=event, values=values, tenants=TENANTS, zone="z1")


ROWS = [
    ("page_merge", {"other": "b"}, {"page_sharing": "on"}, "allow", None),
    ("page_merge", {"other": "b"}, {"page_sharing": "same_tenant"}, "deny", "C17"),
    ("page_merge", {"other": "c"}, {"page_sharing": "same_tenant"}, "allow", None),
    ("page_merge", {"other": "b"}, {"page_sharing": "on", "memory_protection": "hsvm"}, "deny", "C17"),
    ("page_merge", {"other": "c"}, {"page_sharing": "off"}, "deny", "C17"),
    ("reclaim", {"pages": 1}, {"balloon": "on"}, "allow", None),
    ("reclaim", {"pages": 1}, {"balloon": "ask"}, "ask", "C19"),
    ("reclaim", {"pages": 1}, {"balloon": "none"}, "deny", "C19"),
    ("swap_out", {"pages": 1, "sealed": False}, {"swap": "plain"}, "allow", None),
    ("swap_out", {"pages": 1, "sealed": True}, {"swap": "encrypted"}, "allow", None),
    ("swap_out", {"pages": 1, "sealed": False}, {"swap": "encrypted"}, "deny", "C17"),
    ("swap_out", {"pages": 1, "sealed": True}, {"swap": "never"}, "deny", "C17"),
    ("hv_read", {"purpose": "introspect", "probe": False}, {"introspection": "full"}, "allow", None),
    ("hv_read", {"purpose": "introspect", "probe": True}, {"introspection": "attested_probe"}, "allow", None),
    ("hv_read", {"purpose": "introspect", "probe": False}, {"introspection": "attested_probe"}, "deny", "C20"),
    ("hv_read", {"purpose": "introspect", "probe": True}, {"introspection": "none"}, "deny", "C20"),
    ("hv_read", {"purpose": "core_dump", "probe": False}, {"core_dump": "allowed"}, "allow", None),
    ("hv_read", {"purpose": "core_dump", "probe": False}, {"core_dump": "encrypted"}, "deny", "C21"),
    ("hv_read", {"purpose": "snapshot", "probe": False}, {"snapshot": "encrypted"}, "deny", "C23"),
    ("hv_read", {"purpose": "snapshot", "probe": False}, {"snapshot": "allowed"}, "allow", None),
    ("hv_read", {"purpose": "other", "probe": True}, {"memory_protection": "none"}, "allow", None),
    ("hv_read", {"purpose": "other", "probe": True}, {"memory_protection": "hsvm"}, "deny", "C17"),
    ("core_dump", {"encrypted": False}, {"core_dump": "allowed"}, "allow", None),
    ("core_dump", {"encrypted": True}, {"core_dump": "encrypted"}, "allow", None),
    ("core_dump", {"encrypted": False}, {"core_dump": "encrypted"}, "deny", "C21"),
    ("core_dump", {"encrypted": True}, {"core_dump": "never"}, "deny", "C21"),
    ("snapshot", {"encrypted": True}, {"snapshot": "encrypted"}, "allow", None),
    ("snapshot", {"encrypted": False}, {"snapshot": "encrypted"}, "deny", "C23"),
    ("migrate", {"mode": "postcopy", "zone": "z9", "attested": False}, {"live_migration": "postcopy"}, "allow", None),
    ("migrate", {"mode": "postcopy", "zone": "z1", "attested": True}, {"live_migration": "precopy"}, "deny", "C22"),
    ("migrate", {"mode": "precopy", "zone": "z9", "attested": False}, {"live_migration": "precopy"}, "allow", None),
    ("migrate", {"mode": "precopy", "zone": "z1", "attested": True}, NEARBY, "allow", None),
    ("migrate", {"mode": "precopy", "zone": "z2", "attested": True}, NEARBY, "deny", "C22"),
    ("migrate", {"mode": "precopy", "zone": "z1", "attested": False}, NEARBY, "deny", "C22"),
    ("migrate", {"mode": "precopy", "zone": "z1", "attested": True}, {"live_migration": "never"}, "deny", "C22"),
    ("leaf_size", {"size": "2m"}, {"hugepages": "2m"}, "allow", None),
    ("leaf_size", {"size": "4k"}, {"hugepages": "2m"}, "deny", "C17"),
    ("leaf_size", {"size": "1g"}, {"hugepages": "4k"}, "allow", None),
    ("co_schedule", {"other": "b"}, {"smt": "shared"}, "allow", None),
    ("co_schedule", {"other": "b"}, {"smt": "core_scheduling"}, "deny", "C17"),
    ("co_schedule", {"other": "c"}, {"smt": "core_scheduling"}, "allow", None),
    ("co_schedule", {"other": "c"}, {"smt": "off"}, "deny", "C17"),
    ("place_vcpu", {"other": "b"}, {"cpu_pinning": "shared"}, "allow", None),
    ("place_vcpu", {"other": "b"}, {"cpu_pinning": "dedicated"}, "deny", "C17"),
    ("nested_enter", {}, {"nested_virt": "on"}, "allow", None),
    ("nested_enter", {}, {"nested_virt": "off"}, "deny", "C10"),
    ("pmu_read", {}, {"pmu": "on"}, "allow", None),
    ("pmu_read", {}, {"pmu": "off"}, "deny", "C10"),
    ("host_mode", {"mode": "hsvm"}, {"memory_protection": "hsvm"}, "allow", None),
    ("host_mode", {"mode": "off"}, {"memory_protection": "none"}, "allow", None),
    ("host_mode", {"mode": "smm_prototype"}, {"memory_protection": "none"}, "allow", None),
    ("host_mode", {"mode": "smm_prototype"}, {"memory_protection": "hsvm"}, "ask", "C25"),
    ("host_mode", {"mode": "off"}, {"memory_protection": "hsvm"}, "deny", "C25"),
    ("capability_lost", {"switch": "smt", "value": "off"}, {"smt": "shared"}, "allow", None),
    ("capability_lost", {"switch": "smt", "value": "off"}, {"smt": "off"}, "breach", "C26"),
    ("vm_stop", {}, {}, "allow", None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "in_force", "answer", "code"), ROWS)
def test_each_row_of_the_gate(kind, fields, in_force, answer, code):
    found = decide(kind, in_force, **fields)
    assert (found.decision, found.code) == (answer, code) and found.text
    if code:
        assert found.value_in_force == in_force.get(found.switch, LAX[found.switch])


def test_an_event_that_concerns_two_vms_needs_both_to_allow_it():
    values = {"a": LAX, "b": LAX | {"page_sharing": "off"}}
    for one, other in (("a", "b"), ("b", "a")):
        found = enforcement.decide(event={"kind": "page_merge", "vm": one, "other": other}, values=values)
        assert (found.decision, found.value_in_force) == ("deny", "off")


def test_every_kind_of_event_that_can_be_read_is_decided():
    assert {row[0] for row in ROWS} | {"vm_start", "policy_changed", "clock"} == set(EVENTS)


def test_a_vm_without_values_in_force_and_an_unknown_kind_are_refused():
    with pytest.raises(VpmsError, match="no value is in force"):
        enforcement.decide(event={"kind": "reclaim", "vm": "zz", "pages": 1}, values={})
    with pytest.raises(VpmsError, match="knows no event"):
        enforcement.decide(event={"kind": "explode", "vm": "a"}, values={"a": LAX})


def test_without_agreement_the_strictest_possible_value_is_in_force_and_with_one_its_values():
    before = enforcement.values_in_force(POLICIES, HOST, NOW)
    assert before["b-web"]["smt"] == "off" and before["a-db"]["memory_protection"] == "hsvm"
    assignment = negotiate(POLICIES, HOST, NOW)["assignment"]
    predicate = {
        "format": "vpms-agreement/1", "agreement": "g", "version": 1, "previous": None, "host": "h1", "parties": [],
        "assignment": assignment, "not_enforced": [], "notBefore": NOW, "notAfter": "2026-05-01T00:00:00Z",
        "certificate_sha256": "0" * 64,
    }  # fmt: skip
    after = enforcement.values_in_force(POLICIES, read_host(h1(agreement=predicate)), NOW)
    assert after["b-web"]["smt"] == "core_scheduling" and after["b-web"]["snapshot"] == "allowed"
    options = enforcement.scenario_options(after, HOST)
    assert options["architecture"] == "hsvm" and options["flush"] == "vm_change"
    assert options["vms"]["a-db"]["protected"] and not options["vms"]["b-web"]["protected"]
    plain = h1(capabilities={"memory_protection": ["none"]})
    assert enforcement.scenario_options(after, read_host(plain))["architecture"] == "nested"


def test_a_refused_event_is_a_run_time_conflict_of_its_owner_and_the_operator():
    event = read_event({"format": "vpms-event/1", "kind": "reclaim", "vm": "a-db", "pages": 4})
    result = enforcement.check_event(POLICIES, HOST, event, now=NOW)
    assert result["event"] == {"kind": "reclaim", "decision": "deny", "code": "C19", "value_in_force": "none"}
    rows = [row for row in result["conflicts"] if row["trigger"] == "run"]
    assert [(row["code"], row["class"], row["severity"], row["parties"]) for row in rows] == [
        ("C19", "dynamic", "hard", ["a-db", "operator"])
    ]
    assert "run_rules" not in result["not_checked"]


def test_a_start_is_held_by_the_first_conflict_and_only_the_start():
    event = read_event({"format": "vpms-event/1", "kind": "vm_start", "vm": "b-web"})
    result = enforcement.check_event(POLICIES, HOST, event, now=NOW)
    assert result["event"]["decision"] == "deny" and result["event"]["code"] == "C06"
    alone = enforcement.check_event(POLICIES[1:], HOST, event, now=NOW)
    assert alone["event"] == {"kind": "vm_start", "decision": "allow", "code": None, "value_in_force": None}


def test_a_move_into_a_conflict_at_the_target_is_refused():
    willing = a_db(rules=[])
    willing["switches"]["live_migration"] = {
        "weight": 0,
        "values": {"never": "veto", "same_zone_attested": 1000, "precopy": 0, "postcopy": 0},
    }
    target = {"host": h1(host="h2"), "policies": [B_WEB]}
    event = read_event(
        {
            "format": "vpms-event/1", "kind": "migrate", "vm": "a-db", "mode": "precopy", "zone": "z1",
            "attested": True, "target": target,
        }
    )  # fmt: skip
    result = enforcement.check_event([read_policy(willing)], HOST, event, now=NOW)
    assert result["event"]["decision"] == "deny" and result["event"]["code"] == "C29"
    assert {row["code"] for row in result["conflicts"]} >= {"C29"}


def terms(**changes):
    """The example's agreement in force; both VMs run."""
    parties = [
        {"id": policy.vm, "tenant": policy.tenant, "policy_sha256": policy.sha256, "policy_version": 1, "key": KEY}
        for policy in POLICIES
    ]
    nobody = {"tenant": None, "policy_sha256": None, "policy_version": None}
    return {
        "format": "vpms-agreement/1", "agreement": "g", "version": 1, "previous": None, "host": "h1",
        "parties": [*parties, {"id": "operator", **nobody, "key": KEY}],
        "assignment": negotiate(POLICIES, HOST, NOW)["assignment"], "not_enforced": [],
        "notBefore": NOW, "notAfter": "2026-05-01T00:00:00Z", "certificate_sha256": "0" * 64, **changes,
    }  # fmt: skip


def happens(kind, *documents, now=NOW, running=("a-db", "b-web"), agreed=True, **fields):
    host = read_host(h1(running=list(running), agreement=terms() if agreed else None))
    event = read_event({"format": "vpms-event/1", "kind": kind, **fields})
    policies = [read_policy(document) for document in documents or (A_DB, B_WEB)]
    result = enforcement.check_event(policies, host, event, now=now)
    rows = [row for row in result["conflicts"] if row["class"] == "dynamic" and row["trigger"] == "run"]
    found = [(row["code"], row["severity"], row["parties"], row["switch"]) for row in rows]
    return tuple(result["event"][name] for name in ("decision", "code", "value_in_force")), found


def test_the_platform_takes_protection_away_only_if_no_vm_that_runs_holds_it():
    off = [("C25", "hard", ["a-db", "operator"], "memory_protection")]
    asked = [("C25", "negotiable", ["a-db", "operator"], "memory_protection")]
    assert happens("host_mode", mode="off") == (("deny", "C25", "hsvm"), off)
    assert happens("host_mode", mode="smm_prototype") == (("ask", "C25", "hsvm"), asked)
    assert happens("host_mode", mode="hsvm")[0][0] == "allow"
    assert happens("host_mode", mode="off", running=["b-web"]) == (("allow", None, None), [])


def test_a_lost_capability_is_a_breach_for_those_who_hold_it():
    lost = ("C26", "hard", ["a-db", "b-web", "operator"], "smt")
    found = happens("capability_lost", switch="smt", value="core_scheduling")
    assert found == (("breach", "C26", "core_scheduling"), [lost])
    assert happens("capability_lost", switch="smt", value="shared") == (("allow", None, None), [])


def test_counters_and_nested_vms_are_a_matter_between_neighbours():
    picky = copy.deepcopy(A_DB)
    picky["switches"]["pmu"] = {"weight": 0, "values": {"off": 1, "on": "veto"}}
    denied = [("C10", "hard", ["a-db", "b-web"], "pmu")]
    assert happens("pmu_read", picky, B_WEB, vm="b-web") == (("deny", "C10", "off"), denied)
    assert happens("nested_enter", vm="b-web")[1] == [("C10", "hard", ["b-web"], "nested_virt")]


def test_a_late_change_of_wishes_asks_and_leaves_all_terms_in_force():
    vetoed = b_web(version=2)
    vetoed["switches"]["smt"]["values"]["core_scheduling"] = "veto"
    late = [("C27", "negotiable", ["b-web"], None)]
    assert happens("policy_changed", A_DB, vetoed, vm="b-web") == (("ask", "C27", None), late)
    more = b_web(version=2, disagreement={"kind": "do-not-start", "utility": 661})
    assert happens("policy_changed", A_DB, more, vm="b-web") == (("ask", "C27", None), late)
    enough = b_web(version=2, disagreement={"kind": "do-not-start", "utility": 660})
    same = {**vetoed, "version": 1}
    for document in (enough, same):
        assert happens("policy_changed", A_DB, document, vm="b-web") == (("allow", None, None), [])
    assert happens("policy_changed", A_DB, vetoed, vm="b-web", running=["a-db"])[0][0] == "allow"
    assert happens("clock", A_DB, vetoed)[1] == []


def test_the_clock_advises_when_terms_have_run_out():
    out = ("C30", "advice", ["a-db", "b-web", "operator"], None)
    assert happens("clock") == (("allow", None, None), [])
    assert happens("clock", now="2026-05-01T00:00:00Z") == (("advice", "C30", None), [out])
    assert happens("clock", now="2026-04-30T23:59:59Z")[0][0] == "allow"
    assert happens("clock", agreed=False)[0][0] == "allow"


def test_a_refused_move_tells_of_its_target_too_and_keeps_its_own_code():
    target = {"host": h1(host="h2", running=["b-web"]), "policies": [B_WEB]}
    decision, rows = happens(
        "migrate", A_DB, agreed=False, running=["a-db"], vm="a-db", mode="precopy", zone="z1", attested=True,
        target=target,
    )  # fmt: skip
    assert decision == ("deny", "C22", "never")
    assert [row[:3] for row in rows if row[0] == "C29"] == [("C29", "hard", ["a-db", "b-web"])] * 3


def test_an_event_of_a_vm_without_policy_is_bad_input():
    event = read_event({"format": "vpms-event/1", "kind": "reclaim", "vm": "zz", "pages": 4})
    with pytest.raises(BadInput, match=r"\$\.vm"):
        enforcement.check_event(POLICIES, HOST, event, now=NOW)
