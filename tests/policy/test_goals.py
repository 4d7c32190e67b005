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
    rows = {(goal["owner"], *goal["switches"]): goal for goal in found}
    assert {switch for owner, switch in rows if owner == "a-db"} == {
        "memory_protection", "page_sharing", "smt", "mitigations", "core_dump"
    }  # fmt: skip
    assert [owner for owner, switch in rows if switch == "audit_level"] == ["operator", "teacher"]
    mine, theirs = rows["a-db", "smt"], rows["b-web", "smt"]
    assert (mine["property"], mine["against"], mine["status"]) == ("confidentiality", ["co_tenant"], "conflict")
    assert (theirs["property"], theirs["conflicting"]) == ("availability", ["a-db"])  # who wants the open side uses it
    assert rows["operator", "core_dump"]["conflicting"] == ["a-db"]


def test_each_derived_goal_is_related_as_one_that_was_typed_in():
    for goal in goals.derived(POLICIES, HOST, NOW):
        if goal["owner"] != goals.TEACHER:
            assert (goal["mutual"], goal["conflicting"]) == related(goal["owner"], *goal["switches"])


def test_what_is_agreed_names_its_agreement_until_that_runs_out():
    host = read_host(h1(running=["a-db", "b-web"], agreement=terms()))
    found = [goal for goal in goals.derived(POLICIES, host, NOW) if goal["owner"] in ("a-db", "b-web")]
    assert {(goal["status"], goal.get("agreement")) for goal in found} == {("agreed", "g")}
    late = goals.derived(POLICIES, host, "2027-01-01T00:00:00Z")
    assert all(goal["status"] != "agreed" and "agreement" not in goal for goal in late)


def test_alike_wishes_are_mutual_goals():
    pair = [read_policy(vm(name, name, {"vtpm": (1000, {"encrypted": 9, "plain": 1, "none": 0})})) for name in "xy"]
    first, second, _ = goals.derived(pair, read_host({**H1, "operator": {}}), NOW)
    assert (first["status"], first["mutual"], second["mutual"]) == ("mutual", ["y"], ["x"])


def test_a_goal_that_its_owner_gave_up_reads_waived_and_nothing_else_changes():
    plain, given_up = (goals.derived(POLICIES, HOST, NOW, waived=waived) for waived in ((), {("a-db", "smt")}))
    for before, after in zip(plain, given_up, strict=True):
        mine = (before["owner"], before["switches"]) == ("a-db", ["smt"])
        assert after == ({**before, "status": "waived"} if mine else before)


def test_every_switch_has_one_meaning_and_every_action_one_goal():
    assert set(goals.MEANINGS) == set(SWITCHES)
    everything = {**H1, "operator": {"actions": list(ACTION_RULES)}}
    found = goals.derived([read_policy(A_DB), read_policy(B_WEB)], read_host(everything), NOW)
    planned = {s for goal in found if ".plan." in goal["goal"] for s in goal["switches"]}
    assert planned == {row[1] for row in ACTION_RULES.values()}
