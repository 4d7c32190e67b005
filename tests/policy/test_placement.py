"""Placement equals trying everything, says what it covers, and worsens nobody who runs."""

import random

import pytest

from tests.policy.cast import NOW, h1, vm
from tests.policy.test_fleet import random_policy
from webapp.vpms import placement
from webapp.vpms.documents import read_host, read_policy
from webapp.vpms.placement import Plan, Search, Site, place
from webapp.vpms.vocabulary import SWITCHES


def scores(switch, *points):
    return dict(zip(SWITCHES[switch].names, points, strict=True))


def site(name, *policies, **changes):
    return Site(read_host(h1(host=name, **changes)), tuple(read_policy(policy) for policy in policies))


def random_sites(rng, hosts):
    number = 0
    sites = []
    for at in range(hosts):
        policies = []
        for _ in range(rng.randint(0, 3)):
            policies.append(random_policy(rng, number))
            number += 1
        sites.append(site(f"h{at}", *policies))
    newcomer = random_policy(rng, 999)
    newcomer["disagreement"] = {"kind": "do-not-start", "utility": rng.choice([0, 300])}
    return read_policy(newcomer), sites


def everything(newcomer, sites, pairs):
    """Every plan solved, none sifted out: the slow twin."""
    search = Search(newcomer, sites, NOW)
    plans = [*search.one_move(), *(search.two_moves() if pairs else [])]
    found = [result for plan in plans if (result := search.solve(plan))]
    return min(found, key=lambda row: row.rank, default=None)


@pytest.mark.parametrize("pairs", [False, True], ids=["one_move", "two_moves"])
def test_the_place_equals_trying_everything(pairs):
    rng = random.Random(11 + pairs)
    seen = set()
    for _ in range(12 if pairs else 40):
        newcomer, sites = random_sites(rng, 3 if pairs else rng.randint(1, 8))
        answer = place(newcomer, sites, NOW, two_moves=pairs)
        best = everything(newcomer, sites, pairs)
        assert answer["claim"]["complete"] and answer["claim"]["neighbourhood"] == (
            "two_moves" if pairs else "one_move"
        )
        if best is None:
            assert answer["placement"] is None
        else:
            found = answer["placement"]
            assert found["host"] == sites[best.plan.site].host.host and found["utility"] == best.utility
            assert [move["vm"] for move in found["moves"]] == ([best.plan.moved] if best.plan.moved else [])
        seen |= {answer["placement"] is None, answer["claim"]["excluded"] > 0}
    assert True in seen and False in seen


def test_what_bits_exclude_has_no_outcome_at_all():
    rng = random.Random(13)
    excluded = 0
    for _ in range(30):
        newcomer, sites = random_sites(rng, 4)
        search = Search(newcomer, sites, NOW)
        for plan in search.one_move():
            if search.promise(plan) is None:
                excluded += 1
                assert search.solve(plan) is None
    assert excluded > 10


def test_with_many_hosts_the_claim_does_not_cover_those_that_were_not_solved():
    newcomer = read_policy(vm("new", "t", {"smt": (1000, scores("smt", 1000, 500, 0))}))
    sites = [site(f"h{number}") for number in range(25)]
    claim = place(newcomer, sites, NOW)["claim"]
    assert claim == {
        "neighbourhood": "one_move", "complete": False, "plans": 25, "excluded": 0, "solved": 20, "not_solved": 5,
    }  # fmt: skip


def test_two_moves_of_many_vms_are_not_searched_and_not_claimed(monkeypatch):
    monkeypatch.setattr(placement, "SMALL", 1)
    rng = random.Random(14)
    newcomer, sites = random_sites(rng, 4)
    assert place(newcomer, sites, NOW, two_moves=True)["claim"]["neighbourhood"] == "one_move"


def test_a_second_move_makes_room_when_no_host_can_take_the_newcomer():
    off = {"off": 1000, "core_scheduling": "veto", "shared": "veto"}
    shared = {"off": "veto", "core_scheduling": "veto", "shared": 1000}
    lone, other = vm("lone", "t", {"smt": (1000, shared)}), vm("other", "t", {"smt": (1000, shared)})
    newcomer = read_policy(vm("new", "t", {"smt": (1000, off)}))
    sites = [site("h1", lone), site("h2", other)]
    assert place(newcomer, sites, NOW)["placement"] is None
    answer = place(newcomer, sites, NOW, two_moves=True)
    assert answer["placement"]["host"] == "h1"
    assert answer["placement"]["moves"] == [{"vm": "lone", "from": "h1", "to": "h2"}]
    assert {"lone", "new"} <= set(answer["placement"]["consent"])
    never = {"never": 0, "same_zone_attested": "veto", "precopy": "veto", "postcopy": "veto"}
    unwilling = {**lone, "switches": {**lone["switches"], "live_migration": {"weight": 0, "values": never}}}
    stuck = {**unwilling, "vm": "other"}
    assert place(newcomer, [site("h1", unwilling), site("h2", stuck)], NOW, two_moves=True)["placement"] is None


def test_a_vm_does_not_move_to_where_it_would_have_less():
    prefers = vm("lone", "t", {"smt": (1000, {"off": "veto", "core_scheduling": 900, "shared": 1000})},
                 disagreement={"kind": "do-not-start", "utility": 950})  # fmt: skip
    off = {"off": 1000, "core_scheduling": "veto", "shared": "veto"}
    newcomer = read_policy(vm("new", "t", {"smt": (1000, off)}))
    target = h1(host="h2")
    target["operator"]["offers"] = {"smt": ["core_scheduling"]}
    sites = [site("h1", prefers), Site(read_host(target), ())]
    search = Search(newcomer, sites, NOW)
    assert search.promise(Plan(0, "lone", 1)) is not None and search.solve(Plan(0, "lone", 1)) is None
