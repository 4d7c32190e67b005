"""A policy game's file, its table and its end, without the database: and that a slow twin comes to the same."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
import yaml

from tests.web import slow_policy
from webapp.courses import policy_game, policy_lies, policy_table
from webapp.errors import BadInput, VpmsError
from webapp.vpms.vocabulary import SWITCHES

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
SHIPPED = dict(policy_game.shipped())
PARADISE = SHIPPED["3-liars-paradise"]


def truths(game: policy_game.Game) -> dict[str, Any]:
    return {name: policy_table.truth(game, name) for name in game.names}


def opened(game: policy_game.Game, claims: Any = None) -> Any:
    return policy_table.opened(game, claims or truths(game), now=NOW, ident="game-1", seed="s")


def random_game(chance: random.Random) -> str:
    settings = chance.sample(["smt", "mitigations", "cpu_pinning", "page_sharing", "pmu", "nested_virt"], 3)
    tenants = []
    for name in ["ada", "bo", "cy"][: chance.choice([2, 2, 3])]:
        wishes = {
            s: {
                "value": chance.choice(SWITCHES[s].names),
                "strength": chance.choice(["prefer", "prefer", "prefer", "must"]),
                "weight": chance.randint(1, 9),
            }
            for s in chance.sample(settings, chance.randint(1, 3))
        }
        tenants.append({"name": name, "says": "x", "least": chance.randrange(0, 400, 50), "vcpus": 4, "wishes": wishes})
    game = {"schema": "hsvm/policy-1", "title": "t", "says": "s", "settings": settings, "rounds": 3, "minutes": 2}
    return yaml.safe_dump({**game, "capacity": {"cores": 6}, "tenants": tenants}, sort_keys=False)


# -- the slow twin


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_games_are_settled_and_lied_about_as_the_twin_says(name: str) -> None:
    text = SHIPPED[name]
    twin = slow_policy.loaded(text)
    cores = int(twin.get("capacity", {}).get("cores", 64))
    agree_with_twin(text, twin, cores)


def test_random_games_are_settled_and_lied_about_as_the_twin_says() -> None:
    chance, played = random.Random(8), 0
    while played < 12:
        text = random_game(chance)
        try:
            policy_game.read(text)
        except BadInput:
            continue
        agree_with_twin(text, slow_policy.loaded(text), 6)
        played += 1


def agree_with_twin(text: str, twin: dict[str, Any], cores: int) -> None:
    game = policy_game.read(text)
    parties = {tenant["name"]: slow_policy.told(tenant) for tenant in twin["tenants"]}
    views = slow_policy.settle(twin["settings"], parties, cores)
    assert views is not None and game.solved.assignment is not None
    for row in policy_lies.of_text(text):
        name = row["tenant"]
        mine = game.truth.view(name, game.solved.assignment) or {}
        assert {s: mine[s] for s in game.settings} == views[name]
        expected = slow_policy.best_lie(twin["settings"], parties, name, cores)
        found = {key: row[key] for key in ("honest", "tried", "paid", "hurt", "ruined")}
        assert {**found, "best": row["best"]["worth"] if row["best"] else 0} == expected, (name, text)


# -- the file


def test_shipped_games_say_what_their_titles_promise() -> None:
    assert len(SHIPPED) >= 3
    for text in SHIPPED.values():
        game = policy_game.read(text)
        assert game.solved.assignment is not None and 2 <= len(game.tenants) <= 6
    assert all(row["best"] for row in policy_lies.of_text(PARADISE))
    assert not any(row["best"] for row in policy_lies.of_text(SHIPPED["4-honesty-pays"]))


def test_shipped_games_are_the_same_in_german_but_for_what_people_read() -> None:
    for (name, text), (again, german) in zip(policy_game.shipped(), policy_game.shipped("de"), strict=True):
        assert name == again and text != german
        one, two = (slow_policy.loaded(each) for each in (text, german))
        for file in (one, two):
            for part in (file, *file["tenants"]):
                assert part.pop("says")
            assert file.pop("title")
        assert one == two and policy_game.read(german).solved.assignment == policy_game.read(text).solved.assignment


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("rounds: 5", "rounds: 0", "line 47, column 9: rounds must lie"),
        ("rounds: 5", "runds: 5", "line 47, column 8: runds is no word of a game"),
        (
            "value: shared",
            "value: sharde",
            "column 16: tenants[1].wishes.smt.value must be one of off, core_scheduling",
        ),
        ("name: b-web", "name: a-db", "tenants[1].name a-db is the name of two tenants"),
        ("  - pmu\n", "", ""),
        ("least: 0", "least: 1001", "least must lie"),
        ("strength: must", "strength: should", "must be one of must, prefer"),
        ("points: share", "points: most", "must be one of share, gain, kept"),
        ("  - mitigations\n", "  - mitigation\n", "settings[2] must be one of"),
        ("  - mitigations\n", "", "wishes.mitigations is not one of the game's settings"),
        ("    least: 0", "    least: &x 0", "anchors and tags are not allowed"),
        ("    least: 0", "    least: 900", "have no settlement even if all tell the truth"),
    ],
)
def test_a_faulty_file_is_refused_with_line_and_column(old: str, new: str, told: str) -> None:
    text = PARADISE.replace(old, new)
    if not told:
        policy_game.read(text)
        return
    with pytest.raises(BadInput) as refused:
        policy_game.read(text)
    assert told in "\n".join(f"{fault.path}: {fault.reason}" for fault in refused.value.faults)
    assert all(fault.path.startswith("line ") for fault in refused.value.faults)


def test_what_the_host_does_not_offer_cannot_be_wished_for() -> None:
    text = PARADISE + 'offers:\n  smt:\n    - "off"\n'
    with pytest.raises(BadInput, match="cannot be had on this host, which offers off"):
        policy_game.read(text)


# -- the table


def test_honest_claims_lead_to_the_solvers_settlement_and_to_no_gain_or_loss() -> None:
    game = policy_game.read(PARADISE)
    state = opened(game)
    assert state["state"] == "PROPOSED" and state["result"]["assignment"] == game.solved.assignment
    for name in game.names:
        state = policy_table.answered(state, name, {"answer": "accept"}, k=1, user="x", now=LATER)
    assert state["state"] == policy_table.AGREED
    told = policy_table.reveal(PARADISE, state["result"]["assignment"], truths(game))
    assert told["settled"] and [row["change"] for row in told["tenants"]] == [0, 0]
    assert [row["points"] for row in told["tenants"]] == [700, 500]
    assert [row["lie"]["gain"] for row in told["tenants"]] == [300, 300]
    assert not any(row["differs"] for row in told["said"])
    json.dumps(told)


def test_a_lie_is_judged_by_the_truth_and_told_beside_it() -> None:
    game = policy_game.read(PARADISE)
    lie = {"smt": ("shared", 1), "mitigations": ("off", 1), "page_sharing": ("on", 8)}
    wishes = {s: {"value": v, "strength": "prefer", "weight": w} for s, (v, w) in lie.items()}
    claims = {**truths(game), "b-web": {"wishes": wishes, "least": 0, "silent": "accept"}}
    state = opened(game, claims)
    told = policy_table.reveal(PARADISE, state["result"]["assignment"], claims)
    rows = {row["name"]: row for row in told["tenants"]}
    assert rows["b-web"]["points"] == 650 and rows["b-web"]["change"] == 150 and rows["a-db"]["change"] == -200
    assert rows["b-web"]["truthful"] == 500  # what b-web would have had with the truth
    said = {row["name"]: row for row in told["said"]}["b-web"]
    assert said["differs"] and said["rows"][0]["says"] == {"value": "on", "must": False, "points": 800}


def test_a_must_that_was_not_said_is_broken_and_then_the_settlement_is_worth_nothing() -> None:
    game = policy_game.read(PARADISE)
    wishes = {"smt": {"value": "off", "strength": "prefer", "weight": 1}}
    claims = {**truths(game), "a-db": {"wishes": wishes, "least": 0, "silent": "accept"}}
    state = opened(game, claims)
    row = policy_table.reveal(PARADISE, state["result"]["assignment"], claims)["tenants"][0]
    assert state["result"]["assignment"]["host"]["page_sharing"] == "on"
    assert row["breaks"] and row["points"] == 0 and row["change"] == -700


def test_claims_that_clash_end_at_once_and_a_player_reads_only_its_own_part_of_why() -> None:
    game = policy_game.read(PARADISE)
    claims = {**truths(game), "b-web": {**policy_table.truth(game, "b-web"), "least": 900}}
    state = opened(game, claims)
    assert state["state"] == "NO_AGREEMENT" and policy_table.ending(state) == "clash"
    seen = policy_table.seen(game, state, "a-db", LATER)
    assert seen["core_of_others"] == 1 and seen["core"] == [{"kind": "veto", "what": "page_sharing"}]
    told = policy_table.reveal(PARADISE, None, claims)
    assert not told["settled"] and [row["points"] for row in told["tenants"]] == [0, 0]


def test_an_objection_excludes_the_proposal_and_a_counter_is_proposed_if_all_can_keep_their_terms() -> None:
    game = policy_game.read(PARADISE)
    state = opened(game)
    given = {"answer": "counter", "reason": "veto:mitigations", "suggestion": {"mitigations": "default", "smt": "off"}}
    answer = policy_table.answer_checked(game, state, "b-web", given, LATER)
    state = policy_table.answered(state, "b-web", answer, k=1, user="x", now=LATER)
    assert state["round"] == 2 and state["result"]["assignment"]["host"]["mitigations"] == "default"
    assert state["result"]["assignment"]["host"]["smt"] == "off"
    with pytest.raises(VpmsError) as refused:
        policy_table.answered(state, "a-db", {"answer": "accept"}, k=1, user="x", now=LATER)
    assert refused.value.code == "outdated"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"answer": "maybe"}, "must be one of accept, reject, counter"),
        ({"answer": "reject"}, "choose what stands in the way"),
        ({"answer": "reject", "reason": "veto:pmu"}, "names no contested setting"),
        ({"answer": "reject", "reason": "floor:1"}, "must lie between"),
        ({"answer": "counter", "reason": "more", "suggestion": {"smt": "nothing"}}, "is no value that the host offers"),
        ({"answer": "counter", "reason": "more", "suggestion": {"pmu": "on"}}, "is not contested here"),
        ({"answer": "counter", "reason": "veto:mitigations", "suggestion": {"mitigations": "full"}}, "changes nothing"),
        ({"answer": "counter", "reason": "final", "suggestion": {"mitigations": "off"}}, "no to any settlement"),
        ({"answer": "counter", "reason": "more", "suggestion": {"smt": "off"}}, "keeps less than the minimum"),
    ],
)
def test_an_answer_that_cannot_be_is_refused_with_a_reason(given: dict[str, Any], told: str) -> None:
    game = policy_game.read(PARADISE)
    with pytest.raises(BadInput, match=told):
        policy_table.answer_checked(game, opened(game), "b-web", given, LATER)


def test_silence_means_what_the_player_has_said_that_it_means() -> None:
    game = policy_game.read(PARADISE)
    state = policy_table.closed(opened(game))
    assert state["state"] == policy_table.AGREED
    claims = {name: {**claim, "silent": "reject"} for name, claim in truths(game).items()}
    state = policy_table.closed(opened(game, claims))
    assert state["state"] == "NO_AGREEMENT" and policy_table.ending(state) == "silence"


def test_the_solver_bot_says_the_truth_and_accepts_what_keeps_its_least() -> None:
    game = policy_game.read(PARADISE)
    state = opened(game, dict.fromkeys(game.names))
    assert state["state"] == policy_table.AGREED and state["result"]["assignment"] == game.solved.assignment


def test_a_seat_sees_nothing_that_depends_on_what_another_claims_but_the_proposal_and_whole_percent() -> None:
    """Claims of a neighbour that lead to the same proposal, contested settings and percent look the same from here."""
    game = policy_game.read(PARADISE)
    found: dict[str, str] = {}
    alike = 0
    for lie in policy_lies.misreports(game, game.tenant("a-db")):
        wishes = {s: {"strength": "prefer", "weight": 1, **wish} for s, wish in lie.said.items()}
        state = opened(game, {**truths(game), "a-db": {"wishes": wishes, "least": lie.least, "silent": "accept"}})
        seen = policy_table.seen(game, state, "b-web", LATER)
        told = [seen["state"], seen["view"], [row["switch"] for row in seen["rows"]], seen["others"], seen["core"]]
        key, whole = json.dumps([*told, seen["core_of_others"], seen["gain_percent"]]), json.dumps(seen)
        alike += key in found
        assert found.setdefault(key, whole) == whole
    assert alike >= 10


@pytest.mark.parametrize("name", SHIPPED)
def test_what_a_seat_sees_has_no_place_for_wishes_of_others(name: str) -> None:
    game = policy_game.read(SHIPPED[name])
    seen = policy_table.seen(game, opened(game), game.names[0], LATER)
    assert {key for row in seen["rows"] for key in row} <= {
        *("switch", "label", "shared", "proposal", "you_give_up", "choices")
    }
    assert {key for row in seen["others"] for key in row} == {"name", "answered", "gain_percent"}
    assert set(seen) == {
        *("k", "state", "rows", "view", "kept", "gain_percent", "true", "breaks", "answer", "others", "core"),
        "core_of_others",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "must name at least one setting"),
        ({"wishes": {"pmu": {"value": "on", "strength": "must", "weight": 1}}}, "is not one of the game's settings"),
        ({"wishes": {"smt": {"value": "x", "strength": "must", "weight": 1}}}, "must be one of off, core_scheduling"),
        ({"wishes": {"smt": {"value": "off", "strength": "must", "weight": 0}}}, "weight"),
        ({"least": 2000}, "least"),
        ({"silent": "perhaps"}, "silent"),
    ],
)
def test_a_claim_that_cannot_be_is_refused(given: dict[str, Any], told: str) -> None:
    game = policy_game.read(PARADISE)
    claim = {**policy_table.truth(game, "b-web"), "least": 0, **({"wishes": {}} if not given else {}), **given}
    with pytest.raises(BadInput) as refused:
        policy_table.claim_checked(game, claim)
    assert told in str([(fault.path, fault.reason) for fault in refused.value.faults])
