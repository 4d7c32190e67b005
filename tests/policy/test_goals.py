"""Goals of all stakeholders come from what they wrote, one a switch, and who shares or opposes them is computed."""

import json
import random

import pytest

from tests.policy import slow_recognition
from tests.policy.cast import A_DB, B_WEB, H1, NOW, h1, vm
from tests.policy.test_enforcement import POLICIES, terms
from tests.policy.test_recognition_twin import some_host, some_policy
from webapp.errors import BadInput
from webapp.vpms import goals
from webapp.vpms.conflicts import ACTION_RULES, check
from webapp.vpms.documents import read_goal, read_host, read_policy
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

HOST = read_host(H1)
GOAL = {
    "format": "vpms-goal/1", "goal": "g1", "owner": "alpha", "against": ["co_tenant"], "functionality": "Keep secrets.",
    "property": "confidentiality", "switches": ["smt"], "status": "open", "rationale": "A neighbour could measure.",
}  # fmt: skip


def relations(owner, *switches, policies=POLICIES, host=HOST):
    row = goals.relations({**GOAL, "owner": owner, "switches": list(switches)}, policies, host, NOW)
    return row["mutual"], row["conflicting"]


def of(found, owner, switch):
    return next(goal for goal in found if goal["owner"] == owner and goal["switches"] == [switch])


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
    assert relations("a-db", "smt") == ([], ["b-web"])
    assert relations("alpha", "smt") == ([], ["b-web"])  # a tenant speaks for its VMs
    assert relations("a-db", "vtpm") == (["b-web"], [])
    assert relations("a-db", "vtpm", "smt") == ([], ["b-web"])
    assert relations("a-db", "core_dump") == (["b-web"], ["operator"])
    assert relations("operator", "core_dump") == ([], ["a-db"])
    assert relations("auditor", "smt") == ([], [])


def slow_relations(owner, switches, policies, case, found):
    """Section 2 word by word: b from the slow twin of recognition, the conflicts that `check` found."""
    mine = {row["vm"] for row in policies if owner in (row["vm"], row["tenant"])} | ({owner} & {"operator"})
    mutual = set()
    for party in case.parties if mine and mine <= set(case.parties) else []:
        pairs = [(i, s) for i in mine for s in switches if party not in mine]
        common = [
            set(case.best(i, s, case.possible(i, s))) & set(case.best(party, s, case.possible(party, s)))
            for i, s in pairs
        ]
        mutual |= {party} if pairs and all(common) else set()
    named = [set(row["parties"]) for row in found if row["switch"] in switches and mine & set(row["parties"])]
    return sorted(mutual), sorted(set().union(*named) - mine)


def test_relations_equal_a_slow_twin_on_random_documents():
    rng, met, clashed = random.Random(20), 0, 0
    for _ in range(60):
        kinds = rng.choice(["HP", "HP", "HPVO"])  # narrow draws let wishes meet
        live = rng.sample([s for s, switch in SWITCHES.items() if switch.scope in kinds], rng.randint(2, 3))
        policies = [some_policy(rng, name, live) for name in "xyz"[: rng.choice([1, 2, 3, 3])]]
        host = some_host(rng, live)
        read, there = [read_policy(row) for row in policies], read_host(host)
        case, conflicts = slow_recognition.Case(policies, host, NOW), check(read, there, now=NOW)["conflicts"]
        for owner in ("x", "y", "z", "alpha", "operator"):
            switches = rng.sample(live, rng.choice([1, 2]))
            found = relations(owner, *switches, policies=read, host=there)
            assert found == slow_relations(owner, switches, policies, case, conflicts), (owner, switches, policies)
            met, clashed = met + bool(found[0]), clashed + bool(found[1])
    assert met > 30 and clashed > 30  # else the comparison would say little


def test_every_stakeholder_has_a_goal_for_each_thing_it_cares_about_and_each_can_be_read():
    found = goals.derived(POLICIES, HOST, NOW)
    for goal in found:
        assert read_goal(goal)["goal"] == goal["goal"]
    assert len({goal["goal"] for goal in found}) == len(found)
    rows = {(goal["owner"], *goal["switches"], goal["property"], goal["status"]) for goal in found}
    assert rows == {
        ("a-db", "memory_protection", "confidentiality", "mutual"),
        ("a-db", "page_sharing", "confidentiality", "conflict"),
        ("a-db", "smt", "confidentiality", "conflict"),
        ("a-db", "mitigations", "confidentiality", "conflict"),
        ("a-db", "core_dump", "confidentiality", "conflict"),
        ("b-web", "page_sharing", "availability", "conflict"),
        ("b-web", "smt", "availability", "conflict"),
        ("b-web", "mitigations", "availability", "conflict"),
        ("b-web", "snapshot", "availability", "mutual"),
        ("operator", "audit_level", "accountability", "open"),
        ("operator", "balloon", "availability", "open"),
        ("operator", "snapshot", "availability", "open"),
        ("operator", "core_dump", "availability", "conflict"),
    }


def test_what_is_agreed_names_its_agreement_until_that_runs_out():
    host = read_host(h1(running=["a-db", "b-web"], agreement=terms()))
    found = goals.derived(POLICIES, host, NOW)
    by_vm = [goal for goal in found if goal["owner"] != "operator"]
    assert by_vm and {(goal["status"], goal.get("agreement")) for goal in by_vm} == {("agreed", "g")}
    assert of(found, "operator", "core_dump")["status"] == "agreed"  # a-db, whom it concerns, consented
    late = goals.derived(POLICIES, host, "2027-01-01T00:00:00Z")
    assert all(goal["status"] != "agreed" and "agreement" not in goal for goal in late)


def test_alike_wishes_are_mutual_goals():
    pair = [read_policy(vm(name, name, {"vtpm": (1000, {"encrypted": 9, "plain": 1, "none": 0})})) for name in "xy"]
    first, second = goals.derived(pair, read_host({**H1, "operator": {}}), NOW)
    assert (first["status"], first["mutual"], second["mutual"]) == ("mutual", ["y"], ["x"])


def test_a_goal_that_its_owner_gave_up_reads_so_and_changes_nothing_for_others():
    situation = Situation(POLICIES, HOST, NOW)
    mine = [row for name in situation.vms for row in goals.vm_goals(situation, name)]
    before = goals.related(mine, situation, agreed={})
    after = goals.related(mine, situation, agreed={"a-db": "g", "b-web": "g"}, waived={"a-db.smt"})
    waived = of(after, "a-db", "smt")
    assert waived == {**of(before, "a-db", "smt"), "status": "waived"}
    assert of(after, "b-web", "smt")["conflicting"] == ["a-db"] and of(after, "a-db", "mitigations")["agreement"] == "g"


def test_who_has_no_policy_is_compared_by_the_values_that_its_goals_name():
    situation = Situation([read_policy(A_DB)], HOST, NOW)
    mine = goals.vm_goals(situation, "a-db")
    told = [
        goals.goal("T-1", "smt", rationale="Told.", wanted=["shared"]),
        goals.goal("T-2", "smt", rationale="Told.", wanted=["off", "shared"]),
        goals.goal("T-2", "core_dump", rationale="Told.", wanted=["never"]),  # a VM's own matter: compared with nobody
    ]
    public = [*goals.operator_goals(HOST), *goals.teacher_goals()]
    found = goals.related(mine, situation, by_value=[*told, *public], shared=["smt"], agreed={})
    assert [goal["goal"] for goal in found] == [goal["goal"] for goal in [*mine, *told, *public]]
    smt = of(found, "a-db", "smt")
    assert (smt["mutual"], smt["conflicting"], smt["status"]) == (["T-2"], ["T-1"], "conflict")
    assert (of(found, "T-1", "smt")["mutual"], of(found, "T-1", "smt")["conflicting"]) == (["T-2"], ["a-db"])
    assert of(found, "a-db", "core_dump")["conflicting"] == ["operator"]
    assert of(found, "operator", "core_dump")["conflicting"] == ["T-2", "a-db"]  # plans to write dumps
    assert of(found, goals.TEACHER, "audit_level")["mutual"] == ["operator"]


def test_the_order_of_policies_changes_nothing():
    assert goals.derived(POLICIES, HOST, NOW) == goals.derived(POLICIES[::-1], HOST, NOW)


def test_every_switch_has_a_meaning_and_every_action_is_a_goal_of_the_operator():
    assert list(goals.MEANINGS) == list(SWITCHES)
    everything = {**H1, "operator": {"actions": list(ACTION_RULES)}}
    found = goals.derived([read_policy(A_DB), read_policy(B_WEB)], read_host(everything), NOW)
    planned = {s for goal in found if goal["owner"] == "operator" for s in goal["switches"]}
    assert planned == {row[1] for row in ACTION_RULES.values()}


def test_long_names_keep_their_goals_apart():
    names = ["x" * 62 + "1", "x" * 62 + "2"]
    pair = [read_policy(vm(name, "t", {"smt": (500, {"off": 9, "core_scheduling": 1, "shared": 0}),
                                       "pmu": (500, {"off": 9, "on": 0})})) for name in names]  # fmt: skip
    found = [goal["goal"] for goal in goals.derived(pair, read_host({**H1, "operator": {}}), NOW)]
    assert len(set(found)) == 4 and all(len(name) <= 63 for name in found)
