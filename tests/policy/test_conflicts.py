"""Every kind of conflict that documents can have is recognised once, with its parties, severity and minimal core."""

import random

import pytest

from tests.policy.cast import A_DB, H1, NOW, a_db, b_web, h1, vm
from tests.policy.test_negotiation import in_force, negotiated, populations
from webapp.vpms.conflicts import ACTION_RULES, check, smallest_disjoint
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.findings import NAMES
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES


def found(documents, host=H1, trigger="start", code=None):
    result = check([read_policy(d) for d in documents], read_host(host), now=NOW, trigger=trigger)
    return [row for row in result["conflicts"] if code in (None, row["code"])]


def only(documents, code, host=H1, trigger="start"):
    rows = found(documents, host, trigger, code)
    assert len(rows) == 1, rows
    row = rows[0]
    assert row["name"] == NAMES[code]
    return row["severity"], row["parties"], row["switch"], row["core"], row["background"]


def wants(name, switch, tenant="t", weight=1000, **scores):
    """A VM that cares about one switch: scores of the values given, veto for the others if `veto` is true."""
    rest = "veto" if scores.pop("strictly", False) else 0
    values = {value: scores.get(value, rest) for value in SWITCHES[switch].names}
    return vm(name, tenant, {switch: (weight, values)})


def host(**operator):
    capacity = operator.pop("capacity", {})
    extra = {key: operator.pop(key) for key in ("capabilities", "per_vm", "departed", "running") if key in operator}
    document = h1(capacity={**H1["capacity"], **capacity}, **extra)
    document["operator"] = {"law": {}, "offers": {}, "actions": [], **operator}
    return document


def with_rule(document, when, when_in, then, then_in):
    rule = {"when": {"switch": when, "in": when_in}, "then": {"switch": then, "in": then_in}}
    return {**document, "rules": [*document.get("rules", []), rule]}


def test_c01_vetoes_and_rules_that_leave_nothing():
    nothing = wants("a", "smt", strictly=True)
    assert only([nothing], "C01", host()) == ("hard", ["a"], None, ["veto:a:smt"], [])
    by_rule = with_rule(wants("a", "pmu", strictly=True, on=1000), "pmu", ["on"], "smt", ["off"])
    by_rule["switches"]["smt"] = {"weight": 0, "values": {"off": "veto", "core_scheduling": 1, "shared": 1}}
    assert only([by_rule], "C01", host())[3] == ["veto:a:smt", "veto:a:pmu", "rule:a:0"]


def test_c02_what_the_platform_cannot_do():
    snp = wants("a", "memory_protection", strictly=True, snp_tdx=1000)
    severity, _, switch, core, background = only([snp], "C02", host())
    assert (severity, switch, core) == ("hard", "memory_protection", ["veto:a:memory_protection"])
    assert background == ["capability:memory_protection"]
    wished = wants("a", "memory_protection", snp_tdx=1000, hsvm=900)
    assert only([wished], "C02", host())[:3] == ("advice", ["a"], "memory_protection")
    torn = {
        "memory_protection": (500, {"snp_tdx": 0, "hsvm": 1000, "sev": 0, "none": "veto"}),
        "page_sharing": (500, {"off": "veto", "same_tenant": 0, "on": 1000}),
    }
    severity, _, switch, core, background = only([vm("a", "t", torn)], "C02", host())
    assert (severity, switch) == ("hard", None)
    assert core == ["veto:a:memory_protection", "veto:a:page_sharing"]
    assert background == ["F08"]
    torn["page_sharing"][1]["off"] = 0
    assert only([vm("a", "t", torn)], "C02", host())[:3] == ("advice", ["a"], None)


def test_c03_rules_that_do_nothing():
    base = wants("a", "smt", off=1000)
    useless = with_rule(base, "pmu", ["on"], "smt", ["off", "core_scheduling", "shared"])
    twice = with_rule(with_rule(base, "pmu", ["on", "off"], "smt", ["off"]), "pmu", ["on"], "smt", ["off"])
    dead = with_rule(wants("a", "smt", strictly=True, off=1000), "smt", ["shared"], "pmu", ["off"])
    for document, start in ((useless, "0: "), (twice, "1: "), (dead, "0: ")):
        [row] = found([document], host(), code="C03")
        assert row["severity"] == "advice" and row["text"].startswith(start) and row["switch"] is None


def test_c04_a_floor_that_nothing_reaches():
    low = vm("a", "t", {"smt": (1000, {"off": 300, "core_scheduling": 200, "shared": 100})})
    low["disagreement"] = {"kind": "do-not-start", "utility": 400}
    assert only([low], "C04", host())[:4] == ("hard", ["a"], None, ["reservation:a"])
    vetoed = vm("a", "t", {"smt": (1000, {"off": 300, "core_scheduling": 200, "shared": "veto"})})
    vetoed["delegate"] = {"mode": "auto-within-bounds", "floor": 301}
    assert only([vetoed], "C04", host())[3] == ["reservation:a"]
    assert not found([{**low, "disagreement": {"kind": "do-not-start", "utility": 300}}], host(), code="C04")


def test_c05_plain_dumps_of_protected_memory():
    both = vm("a", "t", {
        "core_dump": (500, {"never": 0, "encrypted": 0, "allowed": 1000}),
        "memory_protection": (500, {"snp_tdx": 0, "hsvm": 1000, "sev": 0, "none": 0}),
    })  # fmt: skip
    assert only([both], "C05", host())[:3] == ("advice", ["a"], "core_dump")


@pytest.mark.parametrize(
    ("code", "switch", "low", "high"),
    [
        ("C06", "page_sharing", "off", "on"),
        ("C07", "smt", "off", "shared"),
        ("C08", "mitigations", "full", "off"),
        ("C10", "nested_virt", "off", "on"),
        ("C10", "pmu", "off", "on"),
        ("C18", "overcommit", "none", "x150"),
    ],
)
def test_shared_switches_clash(code, switch, low, high):
    apart = [wants("a", switch, **{low: 1000}), wants("b", switch, **{high: 1000})]
    assert only(apart, code, host()) == ("negotiable", ["a", "b"], switch, [], [])
    hard = [wants("a", switch, strictly=True, **{low: 1000}), wants("b", switch, strictly=True, **{high: 1000})]
    assert only(hard, code, host()) == ("hard", ["a", "b"], switch, [f"veto:a:{switch}", f"veto:b:{switch}"], [])


def test_the_operator_with_preferences_is_a_party_of_shared_switches():
    wish = {"weight": 1000, "values": {"full": "veto", "default": "veto", "off": 1000}}
    bound = host(preferences={"switches": {"mitigations": wish}, "utility": 0})
    severity, parties, _, core, _ = only([wants("a", "mitigations", strictly=True, full=1000)], "C08", bound)
    assert (severity, parties, core) == ("hard", ["a", "operator"], ["veto:a:mitigations", "veto:operator:mitigations"])


def test_the_smallest_set_of_parties_is_named_and_ties_go_to_the_first_names():
    assert smallest_disjoint({"d": {1}, "c": {2}, "b": {1}, "a": {1, 2}}) == ("b", "c")
    assert smallest_disjoint({"a": {1, 2}, "b": {2, 3}, "c": {1, 3}}) == ("a", "b", "c")
    rng = random.Random(3)
    for _ in range(200):
        sets = {f"p{n}": set(rng.sample(range(4), rng.randint(1, 3))) for n in range(rng.randint(2, 6))}
        slow = []
        for bits in range(1 << len(sets)):
            chosen = [p for n, p in enumerate(sorted(sets)) if bits >> n & 1]
            if len(chosen) > 1 and not set.intersection(*(sets[p] for p in chosen)):
                slow.append((len(chosen), chosen))
        assert list(smallest_disjoint(sets)) == (min(slow)[1] if slow else [])


def test_c09_rival_tenants_and_those_who_have_just_left():
    def member(name, tenant):
        return {**wants(name, "smt", off=1000, tenant=tenant), "labels": {"conflictClass": ["banks"]}}

    assert only([member("a", "x"), member("b", "y")], "C09", host())[3:] == (["class:a:banks", "class:b:banks"], [])
    assert not found([member("a", "x"), member("b", "x")], host(), code="C09")
    gone = [{"tenant": "y", "conflictClass": "banks", "until": "2026-03-03T00:00:00Z"}]
    assert only([member("a", "x")], "C09", host(departed=gone))[3:] == (["class:a:banks"], ["departed"])
    assert not found([member("a", "x")], host(departed=gone, running=["a"]), code="C09")
    gone[0]["until"] = NOW
    assert not found([member("a", "x")], host(departed=gone), code="C09")


def test_c10_refused_labels():
    refusing = {**wants("a", "smt", off=1000), "labels": {"refuses": ["loud"]}}
    loud = {**wants("b", "smt", off=1000), "labels": {"exhibits": ["loud"]}}
    assert only([refusing, loud], "C10", host()) == ("hard", ["a", "b"], None, ["label:a:loud"], [])


@pytest.mark.parametrize(
    ("code", "switch", "value", "capacity", "background"),
    [
        ("C12", "cpu_pinning", "dedicated", {"cores": 1}, "capacity:cores"),
        ("C11", "cache_partition", "exclusive", {"cache_ways": 1}, "capacity:cache_ways"),
        ("C11", "mem_bandwidth", "reserved", {"bandwidth_pct": 19}, "capacity:bandwidth_pct"),
        ("C18", "hugepages", "2m", {"hugepage_mib": 1000}, "capacity:hugepage_mib"),
        ("C18", "swap", "never", {"memory_mib": 1000}, "capacity:locked_mib"),
        ("C13", "memory_protection", "sev", {"key_slots": 1}, "capacity:key_slots"),
    ],
)
def test_scarce_resources(code, switch, value, capacity, background):
    here = host(capacity={"memory_mib": 1024, **capacity}, capabilities={"memory_protection": ["sev", "none"]})
    wished = [wants("a", switch, **{value: 1000}), wants("b", switch, **{value: 1000})]
    rows = [row for row in found(wished, here, code=code) if row["switch"] == switch]
    assert [(row["severity"], row["parties"]) for row in rows] == [("negotiable", ["a", "b"])]
    needed = [wants(name, switch, strictly=True, **{value: 1000}) for name in "ab"]
    rows = [row for row in found(needed, here, code=code) if row["switch"] == switch]
    assert [(row["severity"], row["core"]) for row in rows] == [("hard", [f"veto:a:{switch}", f"veto:b:{switch}"])]
    assert rows[0]["background"] == [background]


def test_c14_neighbours_that_cannot_be_had():
    alone = wants("a", "co_residence", strictly=True, dedicated_host=1000)
    other = wants("b", "smt", off=1000)
    severity, parties, _, core, background = only([alone, other], "C14", host())
    assert (severity, parties, core, background) == ("hard", ["a"], ["veto:a:co_residence"], ["population"])
    wished = wants("a", "co_residence", dedicated_host=1000)
    assert only([wished, other], "C14", host())[:2] == ("negotiable", ["a"])
    assert not found([alone], host(), code="C14")


def test_c15_no_common_hour():
    early, late = [{**wants(n, "smt", off=1000), "maintenance": w} for n, w in (("a", [[0, 60]]), ("b", [[30, 89]]))]
    assert not found([early, late], host(maintenance_min=30), code="C15")
    [row] = found([early, late], host(maintenance_min=31), code="C15")
    assert (row["severity"], row["class"], row["parties"]) == ("possible", "dynamic", ["a", "b"])
    never = {**early, "maintenance": []}
    assert found([never], host(maintenance_min=1), code="C15")
    split = {**early, "maintenance": [[0, 30], [30, 60]]}
    assert not found([split], host(maintenance_min=60), code="C15")


def test_c16_a_uniform_host_shares_every_switch():
    apart = [wants("a", "swap", strictly=True, never=1000), wants("b", "swap", strictly=True, plain=1000)]
    assert only(apart, "C16", host(per_vm=[]))[:3] == ("hard", ["a", "b"], "swap")
    assert not found(apart, host(), code="C16")


@pytest.mark.parametrize(
    ("code", "switch", "wanted", "offered"),
    [
        ("C17", "smt", "off", "shared"),
        ("C18", "overcommit", "none", "x150"),
        ("C19", "balloon", "none", "on"),
        ("C20", "introspection", "none", "full"),
        ("C21", "core_dump", "never", "allowed"),
        ("C22", "live_migration", "never", "postcopy"),
        ("C23", "snapshot", "never", "allowed"),
    ],
)
def test_what_the_operator_does_not_offer(code, switch, wanted, offered):
    here = host(offers={switch: [offered]})
    assert only([wants("a", switch, **{wanted: 1000})], code, here)[:3] == ("negotiable", ["a", "operator"], switch)
    hard = only([wants("a", switch, strictly=True, **{wanted: 1000})], code, here, "create")
    assert hard == ("hard", ["a", "operator"], switch, [f"veto:a:{switch}"], [f"offer:{switch}"])


@pytest.mark.parametrize("action", ACTION_RULES)
def test_what_the_operator_plans_and_a_wish_denies_is_possible(action):
    code, switch, denying = ACTION_RULES[action]
    value = next(name for name in SWITCHES[switch].names if name in denying and name not in ("snp_tdx", "sev"))
    [row] = found([wants("a", switch, **{value: 1000})], host(actions=[action]), "create", code)
    assert (row["severity"], row["class"], row["parties"]) == ("possible", "dynamic", ["a", "operator"])
    assert not found([wants("a", "vtpm", none=1000)], host(actions=[action]), "create", code)


def test_c18_more_memory_than_may_be_promised():
    big = [{**wants(name, "smt", off=1000), "size": {"vcpus": 1, "memory_mib": 800}} for name in "ab"]
    severity, parties, switch, core, background = only(big, "C18", host(capacity={"memory_mib": 1000}))
    assert (severity, parties, switch, core, background) == ("hard", ["a", "b"], "overcommit", [], ["capacity:memory"])
    assert not found(big, host(capacity={"memory_mib": 1100}), code="C18")
    bound = host(capacity={"memory_mib": 1100}, law={"overcommit": ["none"]})
    assert only(big, "C18", bound)[4] == ["capacity:memory", "law:overcommit"]


def test_c24_law_is_told_and_not_negotiated():
    here = host(law={"audit_level": ["full"]})
    hard = only([wants("a", "audit_level", strictly=True, none=1000)], "C24", here, "create")
    assert hard == ("hard", ["a", "operator"], "audit_level", ["veto:a:audit_level"], ["law:audit_level"])
    assert only([wants("a", "audit_level", none=1000)], "C24", here)[0] == "advice"


def test_c28_three_who_cannot_be_together_though_each_pair_can():
    three = [
        wants("a", "smt", strictly=True, off=1000, core_scheduling=1000),
        wants("b", "smt", strictly=True, core_scheduling=1000, shared=1000),
        wants("c", "pmu", strictly=True, on=1000),
    ]
    three[0] = with_rule(three[0], "smt", ["core_scheduling"], "pmu", ["off"])
    severity, parties, switch, core, _ = only(three, "C28", host())
    assert (severity, parties, switch) == ("hard", ["a", "b", "c"], None)
    assert core == ["veto:a:smt", "rule:a:0", "veto:b:smt", "veto:c:pmu"]


def test_c28_reservations_can_be_the_reason():
    low = {"off": 1000, "core_scheduling": 400, "shared": 0}
    pair = [vm(n, "t", {"smt": (1000, low if n == "a" else dict(zip(low, [0, 400, 1000], strict=True)))}) for n in "ab"]
    for document in pair:
        document["disagreement"] = {"kind": "do-not-start", "utility": 401}
    assert only(pair, "C28", host())[3] == ["reservation:a", "reservation:b"]


def test_c30_policies_and_agreements_out_of_time():
    late = {**wants("a", "smt", off=1000), "validity": {"notBefore": None, "notAfter": NOW}}
    assert only([late], "C30", host(), "create") == ("hard", ["a"], None, [], ["validity"])
    result = negotiated(A_DB, b_web())
    old = in_force(H1, result, [A_DB, b_web()], ["a-db", "b-web"])
    old["agreement"]["notAfter"] = NOW
    [row] = found([A_DB, b_web()], old, "run", "C30")
    assert (row["severity"], row["class"], row["parties"]) == ("advice", "dynamic", ["a-db", "b-web"])
    assert not found([A_DB, b_web()], old, "start", "C30")


def test_a_trigger_shows_what_it_reveals_and_says_what_it_left_out():
    pair = [read_policy(a_db()), read_policy(b_web())]
    create = check(pair, read_host(H1), now=NOW, trigger="create")
    assert [row["code"] for row in create["conflicts"]] == ["C21"] and create["status"] == "possible_when_running"
    always = ["vms_not_given", "other_hosts", "future_events", "declared_only_switches"]
    assert create["not_checked"] == [*always, "start_rules", "run_rules"]
    assert check(pair, read_host(H1), now=NOW, trigger="start")["not_checked"] == [*always, "run_rules"]
    run = check(pair, read_host(H1), now=NOW, trigger="run")
    assert run["not_checked"] == always and run["checked_against"]["policies"]["a-db"] == read_policy(A_DB).sha256


def test_no_order_of_policies_changes_a_finding():
    for rng, documents, place in populations(11, 12):
        shuffled = rng.sample(documents, len(documents))
        assert found(documents, place) == found(shuffled, place)


def test_rules_delete_what_they_leave_without_support_in_both_directions():
    forced = with_rule(wants("a", "pmu", strictly=True, on=1000), "pmu", ["on"], "smt", ["off"])
    assert Situation([read_policy(forced)], read_host(H1), NOW).permitted("a")["smt"] == ("off",)
    barred = with_rule(wants("a", "smt", strictly=True, shared=1000), "pmu", ["on"], "smt", ["off"])
    assert Situation([read_policy(barred)], read_host(H1), NOW).permitted("a")["pmu"] == ("off",)


def test_of_several_cores_the_one_of_the_first_names_is_given():
    lax = [wants(name, "smt", strictly=True, shared=1000) for name in "bc"]
    assert negotiated(wants("a", "smt", strictly=True, off=1000), *lax)["core"] == ["veto:a:smt", "veto:b:smt"]


def test_deleting_unsupported_values_does_not_depend_on_the_order_of_rules():
    rng = random.Random(12)
    for _, documents, place in populations(12, 20):
        document = documents[0]
        for _ in range(5):
            when, then = rng.sample(list(SWITCHES), 2)
            document = with_rule(document, when, [SWITCHES[when].names[0]], then, [SWITCHES[then].names[-1]])
        turned = {**document, "rules": document["rules"][::-1]}
        sets = [Situation([read_policy(d)], read_host(place), NOW).permitted(d["vm"]) for d in (document, turned)]
        assert sets[0] == sets[1]
