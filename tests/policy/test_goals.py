"""Goals of all stakeholders come from what they wrote, and who shares or opposes them is computed."""

import json

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW, h1, vm
from tests.policy.test_enforcement import POLICIES, terms
from webapp.errors import BadInput
from webapp.vpms import goals
from webapp.vpms.conflicts import ACTION_RULES
from webapp.vpms.documents import read_goal, read_host, read_policy
from webapp.vpms.vocabulary import SWITCHES

HOST = read_host(H1)
GOAL = {
    "format": "vpms-goal/1", "goal": "g1", "owner": "alpha", "against": ["co_tenant"], "functionality": "Keep secrets.",
    "property": "confidentiality", "switches": ["smt"], "status": "open", "rationale": "A neighbour could measure.",
}  # fmt: skip


def related(owner, *switches, policies=POLICIES, host=HOST):
    row = goals.relations({**GOAL, "owner": owner, "switches": list(switches)}, policies, host, NOW)
    return row["mutual"], row["conflicting"]


def test_a_goal_is_read_with_its_fields_and_nothing_computed_is_believed():
    assert read_goal(json.dumps({**GOAL, "mutual": ["b-web"]}))["mutual"] == []
    for change, path in (
        ({"functionality": ""}, "$.functionality"),
        ({"functionality": "x" * 201}, "$.functionality"),
        ({"property": "beauty"}, "$.property"),
        ({"switches": ["warp"]}, "$.switches[0]"),
        ({"status": "agreed"}, "$.agreement"),
        ({"rationale": ""}, "$.rationale"),
        ({"colour": 1}, "$.colour"),
    ):
        with pytest.raises(BadInput) as refused:
            read_goal({**GOAL, **change})
        assert refused.value.faults[0].path == path
    assert read_goal({**GOAL, "status": "agreed", "agreement": "g"})["agreement"] == "g"


def test_who_shares_a_goal_on_all_its_switches_and_who_is_in_conflict_on_one():
    assert related("a-db", "smt") == ([], ["b-web"])
    assert related("alpha", "smt") == ([], ["b-web"])  # a tenant speaks for its VMs
    assert related("a-db", "vtpm") == (["b-web"], [])
    assert related("a-db", "vtpm", "smt") == ([], ["b-web"])
    assert related("a-db", "core_dump") == (["b-web"], ["operator"])
    assert related("operator", "core_dump") == ([], ["a-db"])
    assert related("auditor", "smt") == ([], [])


def test_every_stakeholder_has_goals_for_what_it_wrote_and_each_can_be_read():
    found = goals.derived(POLICIES, HOST, NOW)
    for goal in found:
        assert read_goal(goal)["goal"] == goal["goal"]
    assert len({goal["goal"] for goal in found}) == len(found)
    rows = {(goal["owner"], goal["property"], goal["status"], tuple(goal["switches"])) for goal in found}
    assert rows == {
        ("a-db", "confidentiality", "conflict",
         ("memory_protection", "page_sharing", "smt", "mitigations", "core_dump")),
        ("b-web", "availability", "conflict", ("page_sharing", "smt", "mitigations", "snapshot")),
        ("operator", "availability", "open", ("balloon", "snapshot")),
        ("operator", "integrity", "conflict", ("core_dump",)),
        ("operator", "accountability", "open", ("audit_level",)),
    }  # fmt: skip
    mine = next(goal for goal in found if goal["owner"] == "a-db")
    assert mine["against"] == ["co_tenant", "operator", "hypervisor"] and mine["conflicting"] == ["b-web", "operator"]
    assert "Page sharing: Never (must)" in mine["rationale"] and "Two threads on one core: Never;" in mine["rationale"]


def test_what_is_agreed_names_its_agreement_until_that_runs_out():
    host = read_host(h1(running=["a-db", "b-web"], agreement=terms()))
    assert {(g["status"], g.get("agreement")) for g in goals.derived(POLICIES, host, NOW)} == {("agreed", "g")}
    late = goals.derived(POLICIES, host, "2027-01-01T00:00:00Z")
    assert all(goal["status"] != "agreed" and "agreement" not in goal for goal in late)


def test_alike_wishes_are_mutual_goals():
    pair = [read_policy(vm(name, name, {"vtpm": (1000, {"encrypted": 9, "plain": 1, "none": 0})})) for name in "xy"]
    first, second = goals.derived(pair, read_host({**H1, "operator": {}}), NOW)
    assert (first["status"], first["mutual"], second["mutual"]) == ("mutual", ["y"], ["x"])


def test_every_switch_has_one_aim_and_every_action_one():
    named = [switch for aim in goals.AIMS for switch in aim.switches]
    assert sorted(named) == sorted(SWITCHES)
    everything = {**H1, "operator": {"actions": list(ACTION_RULES)}}
    found = goals.derived([read_policy(A_DB), read_policy(B_WEB)], read_host(everything), NOW)
    planned = {s for goal in found if goal["owner"] == "operator" for s in goal["switches"]}
    assert planned == {row[1] for row in ACTION_RULES.values()}
