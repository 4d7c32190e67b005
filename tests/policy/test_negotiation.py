"""The mediator's proposal: the design's example exactly, and the promises that hold for every population."""

import random
from fractions import Fraction

import pytest

from tests.policy.cast import A_DB, B_WEB, H1, NOW, a_db, b_web, h1, vm
from webapp.vpms.conflicts import check
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.instance import Limits
from webapp.vpms.negotiation import keeps_all_terms, negotiate
from webapp.vpms.reduction import Problem
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import FACTS, SWITCHES

FOR_BOTH = {
    "balloon": "none", "swap": "encrypted", "hugepages": "4k", "cpu_pinning": "shared", "emulator_threads": "shared",
    "cache_partition": "shared", "mem_bandwidth": "shared", "introspection": "none", "live_migration": "never",
    "disk_encryption": "tenant_key", "vtpm": "encrypted", "secure_boot": "required", "network_isolation": "isolated",
    "audit_level": "full",
}  # fmt: skip


def negotiated(*documents, host=H1, limits=None):
    return negotiate([read_policy(document) for document in documents], read_host(host), NOW, limits)


def test_the_example_of_the_design_gives_exactly_the_figures_printed_there():
    result = negotiated(A_DB, B_WEB)
    assert result["status"] == "agreed" and result["human"] == []
    assert result["assignment"]["host"] == {
        "page_sharing": "off", "overcommit": "none", "smt": "core_scheduling", "nested_virt": "off",
        "mitigations": "default", "pmu": "off", "co_residence": "same_class",
    }  # fmt: skip
    own = result["assignment"]["vms"]
    assert own["a-db"] == {**FOR_BOTH, "memory_protection": "hsvm", "core_dump": "never", "snapshot": "never"}
    assert own["b-web"] == {**FOR_BOTH, "memory_protection": "none", "core_dump": "never", "snapshot": "allowed"}
    assert result["ideals"] == {"a-db": 1000000, "b-web": 780000}
    assert result["reservations"] == {"a-db": 600000, "b-web": 200000}
    assert result["utilities"] == {"a-db": 845000, "b-web": 660000}
    assert result["gains_exact"] == {"a-db": "49/80", "b-web": "23/29"}
    assert (result["min_gain"], result["nash"]) == (0.6125, -0.719116554)
    assert result["contested"] == ["host/page_sharing", "host/smt", "host/mitigations"]
    assert result["bound"]["proven"] and result["bound"]["gap"] == 0 and result["bound"]["stage"] is None


def test_the_example_shows_exactly_its_four_conflicts():
    found = check([read_policy(B_WEB), read_policy(A_DB)], read_host(H1), now=NOW)
    assert found["status"] == "conflict_negotiable"
    assert [(row["code"], row["severity"], row["parties"]) for row in found["conflicts"]] == [
        ("C06", "negotiable", ["a-db", "b-web"]),
        ("C07", "negotiable", ["a-db", "b-web"]),
        ("C08", "negotiable", ["a-db", "b-web"]),
        ("C21", "possible", ["a-db", "operator"]),
    ]


def random_policy(rng, number, prefix="vm"):
    names = rng.sample(list(SWITCHES), rng.randint(2, 7))
    cuts = sorted(rng.randint(0, 1000) for _ in names[1:])
    weights = [b - a for a, b in zip([0, *cuts], [*cuts, 1000], strict=True)]
    switches = {}
    for name, weight in zip(names, weights, strict=True):
        values = SWITCHES[name].names
        scores = {value: rng.choice([0, 500, 1000, rng.randint(0, 1000)]) for value in values}
        if rng.random() < 0.4:
            scores[rng.choice(values)] = "veto"
        switches[name] = (weight, scores)
    rules = []
    if rng.random() < 0.5:
        when, then = rng.sample(list(SWITCHES), 2)
        rules.append(
            {
                "when": {"switch": when, "in": rng.sample(SWITCHES[when].names, 1)},
                "then": {"switch": then, "in": rng.sample(SWITCHES[then].names, 1)},
            }
        )
    return vm(
        f"{prefix}-{number}",
        rng.choice(["alpha", "beta"]),
        switches,
        size={"vcpus": rng.randint(1, 4), "memory_mib": rng.choice([512, 2048, 4096])},
        rules=rules,
        disagreement={"kind": "do-not-start", "utility": rng.choice([0, 100, 300])},
        delegate={"mode": rng.choice(["auto", "human"])},
    )


def random_host(rng):
    document = h1(capacity={**H1["capacity"], "memory_mib": rng.choice([4096, 16384]), "cores": rng.choice([2, 8])})
    document["operator"] = {**document["operator"], "actions": []}
    if rng.random() < 0.3:
        document["per_vm"] = rng.sample([name for name, s in SWITCHES.items() if not s.shared_by_nature], 14)
    if rng.random() < 0.3:
        scores = {"values": {"full": 0, "default": 500, "off": 1000}, "weight": 1000}
        document["operator"]["preferences"] = {"switches": {"mitigations": scores}, "utility": 100}
    return document


def populations(seed, count):
    rng = random.Random(seed)
    for _ in range(count):
        yield rng, [random_policy(rng, number) for number in range(rng.randint(1, 4))], random_host(rng)


def test_every_proposal_keeps_vetoes_reservations_facts_and_capacities():
    agreed = 0
    for _, documents, host in populations(1, 40):
        result = negotiated(*documents, host=host)
        if result["assignment"] is None:
            continue
        agreed += 1
        situation = Situation([read_policy(d) for d in documents], read_host(host), NOW)
        assert keeps_all_terms(Problem(situation), result["assignment"])
        for document in documents:
            view = {**result["assignment"]["host"], **result["assignment"]["vms"][document["vm"]]}
            wishes = document["switches"]
            assert all(wish["values"][view[name]] != "veto" for name, wish in wishes.items())
            total = sum(wish["weight"] * wish["values"][view[name]] for name, wish in wishes.items())
            assert total == result["utilities"][document["vm"]] >= 1000 * document["disagreement"]["utility"]
            assert all(view[f.switch] not in f.values or view[f.then_switch] in f.then_values for f in FACTS)
            for rule in document["rules"]:
                when, then = rule["when"], rule["then"]
                assert view[when["switch"]] not in when["in"] or view[then["switch"]] in then["in"]
    assert agreed > 12


def test_folding_own_switches_changes_no_outcome():
    for _, documents, host in populations(2, 25):
        problem = Problem(Situation([read_policy(d) for d in documents[:2]], read_host(host), NOW))
        folded, plain = problem.solve(), problem.solve(Limits(seconds=20), folded=False)
        assert plain.solution.bound is None or plain.solution.bound["proven"]
        assert (folded.status, folded.assignment) == (plain.status, plain.assignment)


def test_order_of_policies_and_keys_changes_nothing():
    for rng, documents, host in populations(3, 12):
        turned = [dict(rng.sample(list(d.items()), len(d))) for d in documents]
        for document in turned:
            document["switches"] = dict(rng.sample(list(document["switches"].items()), len(document["switches"])))
        rng.shuffle(turned)
        first, second = negotiated(*documents, host=host), negotiated(*turned, host=host)
        for result in (first, second):
            result["certificate"] = result["bound"] = None
        assert first == second


def test_a_core_cannot_be_met_and_dropping_any_demand_of_it_helps():
    seen = 0
    for _, documents, host in populations(4, 20):
        result = negotiated(*documents, host=host)
        if result["status"] != "no_agreement":
            continue
        seen += 1
        situation = Situation([read_policy(d) for d in documents], read_host(host), NOW)
        rest = [name for name in situation.demands() if name not in result["core"]]
        only = situation.without(*rest, *(b for b in situation.background() if b not in result["background"]))
        assert Problem(only).feasible() is False
        for demand in result["core"]:
            assert Problem(situation.without(*rest, demand)).feasible() is True
    assert seen > 5


def in_force(host, result, documents, running):
    """The host on which this result was agreed and these VMs run."""
    parties = [
        {"id": d["vm"], "tenant": d["tenant"], "policy_sha256": "0" * 64, "policy_version": 1, "key": "A" * 43 + "="}
        for d in documents
    ]
    predicate = {
        "format": "vpms-agreement/1", "agreement": "g", "version": 1, "previous": None, "host": "h1",
        "parties": parties, "assignment": result["assignment"], "not_enforced": [],
        "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-12-01T00:00:00Z", "certificate_sha256": "0" * 64,
    }  # fmt: skip
    return {**host, "running": running, "agreement": predicate}


def test_a_newcomer_never_lowers_what_a_running_vm_has():
    seen = 0
    for rng, documents, host in populations(5, 25):
        first = negotiated(*documents, host=host)
        if first["assignment"] is None:
            continue
        running = in_force(host, first, documents, [d["vm"] for d in documents])
        second = negotiated(*documents, random_policy(rng, 9, "new"), host=running)
        if second["assignment"] is None:
            continue
        seen += 1
        for document in documents:
            assert second["utilities"][document["vm"]] >= first["utilities"][document["vm"]]
            view_before = {**first["assignment"]["host"], **first["assignment"]["vms"][document["vm"]]}
            view_after = {**second["assignment"]["host"], **second["assignment"]["vms"][document["vm"]]}
            asked = document["vm"] in second["human"]
            assert asked == (view_before != view_after and document["delegate"]["mode"] == "human")
    assert seen > 5


def test_a_vm_that_minds_nothing_leaves_the_shared_settings_as_they_were():
    seen = 0
    for rng, documents, host in populations(8, 40):
        if len(documents) < 2 or "per_vm" in host:
            continue
        host["capacity"] = dict.fromkeys(H1["capacity"], 10**6)
        first = negotiated(*documents, host=host)
        if first["assignment"] is None:
            continue
        seen += 1
        switch = rng.choice([name for name, known in SWITCHES.items() if known.shared_by_nature])
        scores = dict.fromkeys(SWITCHES[switch].names, rng.choice([0, 700]))
        mild = vm("vm-x", documents[0]["tenant"], {switch: (1000, scores)})
        second = negotiated(*documents, mild, host=host)
        assert second["assignment"]["host"] == first["assignment"]["host"]
    assert seen > 8


def test_a_person_is_asked_when_the_delegate_is_human_or_a_marked_switch_is_not_at_its_best():
    human = b_web(delegate={"mode": "human"})
    assert negotiated(A_DB, human)["human"] == ["b-web"] and negotiated(A_DB, human)["status"] == "needs_human"
    marked = b_web()
    marked["switches"]["smt"]["approval"] = "human"
    assert negotiated(A_DB, marked)["human"] == ["b-web"]


def test_no_agreement_names_the_ladder_in_its_order():
    strict = a_db(rules=[])
    strict["switches"]["smt"]["values"] = {"off": 1000, "core_scheduling": "veto", "shared": "veto"}
    wild = b_web(disagreement={"kind": "do-not-start", "utility": 200, "budget": 50})
    wild["switches"]["smt"]["values"] = {"off": "veto", "core_scheduling": "veto", "shared": 1000}
    result = negotiated(strict, wild)
    assert result["status"] == "no_agreement" and result["assignment"] is None and result["bound"] is None
    assert result["core"] == ["veto:a-db:smt", "veto:b-web:smt"] and result["background"] == []
    assert [step["step"] for step in result["fallback"]] == [
        "relocate_requester", "another_time", "edit_preference", "refuse_action",
    ]  # fmt: skip
    alone = negotiated(strict, wild, host=h1(running=["a-db"]))
    assert {"step": "migrate_willing", "consent": ["a-db"]} in alone["fallback"]
    assert {"step": "dedicated_host", "consent": ["b-web"]} in alone["fallback"]


def test_the_certificate_bounds_every_outcome_and_its_figures_add_up():
    result = negotiated(A_DB, B_WEB)
    certificate = result["certificate"]
    assert sum(certificate["lambda"].values()) == 10**6 and certificate["table"] is None
    assert certificate["lambda_bound"] >= result["min_gain"]
    for party, row in certificate["parties"].items():
        assert Fraction(row["gain"]) == Fraction(row["u"] - row["d"], row["ideal"] - row["d"])
        assert row["u"] == result["utilities"][party]


def test_a_limit_that_comes_first_is_unknown_and_never_no_agreement():
    assert negotiated(A_DB, B_WEB, limits=Limits(nodes=1))["status"] == "unknown"


@pytest.mark.parametrize("count", [8, 20])
def test_many_vms_on_one_default_host_are_settled_within_seconds(count):
    rng = random.Random(6)
    documents = [{**random_policy(rng, n), "rules": []} for n in range(count)]
    for document in documents:
        document["switches"] = {
            name: {**wish, "values": {v: 0 if score == "veto" else score for v, score in wish["values"].items()}}
            for name, wish in document["switches"].items()
        }
        document["disagreement"]["utility"] = 0
    host = h1(capacity={**H1["capacity"], "memory_mib": 10**6, "cores": 1000})
    assert negotiated(*documents, host=host, limits=Limits(seconds=20))["bound"]["proven"]
