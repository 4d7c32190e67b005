"""The protocol ends for every sequence of messages, invalid ones change nothing, and silence never consents."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.cast import A_DB, B_WEB, H1, NOW, a_db, b_web
from webapp.errors import VpmsError
from webapp.vpms import agreement, disclosure, protocol

SEEDS = {party: bytes([number]) * 32 for number, party in enumerate(("a-db", "b-web", "operator"), start=1)}
KEYS = {party: agreement.public_key(seed) for party, seed in SEEDS.items()}
NONCES = {"a-db": "aa" * 32, "b-web": "bb" * 32}
HUMAN = {"mode": "human", "deadline_s": 600}
LATER = "2026-03-02T12:10:00Z"
A_HUMAN, B_HUMAN = a_db(delegate=HUMAN), b_web(delegate=HUMAN)


def draft(*policies, **changes):
    fields = {
        "negotiation": "n1", "requester": "b-web", "host": H1, "policies": policies or (A_HUMAN, B_HUMAN),
        "keys": KEYS, "agreement_id": "h1", "pseudonym_seed": "chance",
    }  # fmt: skip
    return protocol.draft(**{**fields, **changes})


def proposed(*policies):
    return protocol.mediate(draft(*policies), NOW, NONCES)


def send(state, kind, sender, now=NOW, **fields):
    return protocol.apply_message(state, {"type": kind, "sender": sender, **fields}, now)


def signed_by(state, party):
    signature = agreement.sign(agreement.payload_of(state["statement"]), SEEDS[party])
    return send(state, "sign", party, digest=state["payload_sha256"], signature=signature)


def refused(code, state, kind, sender, **fields):
    before = json.dumps(state, sort_keys=True)
    with pytest.raises(VpmsError) as error:
        send(state, kind, sender, **fields)
    assert error.value.code == code and json.dumps(state, sort_keys=True) == before


def test_two_people_accept_all_sign_and_the_terms_are_in_force():
    state = proposed()
    assert (state["state"], state["round"], state["answers"]) == ("PROPOSED", 1, {})
    assert protocol.next_deadline(state) == LATER
    state = send(state, "accept", "a-db", k=1, user="alice")
    assert state["state"] == "PROPOSED"
    state = send(state, "accept", "b-web", k=1, user="bob")
    assert state["state"] == "ACCEPTED_ALL"
    for party in ("a-db", "b-web", "operator"):
        state = signed_by(state, party)
    assert state["state"] == "SIGNED"
    assert agreement.verify(state["envelope"], now=NOW, keys=KEYS)["valid"]
    state = send(state, "enforced", "mediator")
    assert state["state"] == "ENFORCED" and json.loads(json.dumps(state)) == state
    assert send(state, "breach", "mediator", event={}, evidence={})["state"] == "BREACHED"


def test_delegates_accept_by_themselves_where_no_person_is_needed():
    state = proposed(A_DB, B_WEB)
    assert state["state"] == "ACCEPTED_ALL" and {a["by"] for a in state["answers"].values()} == {"delegate"}
    mixed = proposed(A_HUMAN, B_WEB)
    assert mixed["state"] == "PROPOSED" and set(mixed["answers"]) == {"b-web"} and set(mixed["deadlines"]) == {"a-db"}


def test_silence_is_a_reject():
    state = send(proposed(), "accept", "a-db", k=1, user="alice")
    assert protocol.expire(state, "2026-03-02T12:09:59Z")["state"] == "PROPOSED"
    ended = protocol.expire(state, LATER)
    assert ended["state"] == "NO_AGREEMENT" and ended["reason"].startswith("deadline")
    refused("invalid_transition", ended, "accept", "b-web", k=1, user="bob")


@pytest.mark.parametrize(
    ("floor", "silence", "state"),
    [
        (600, "accept-if-above-floor", "ACCEPTED_ALL"),
        (661, "accept-if-above-floor", "NO_AGREEMENT"),
        (600, "reject", "NO_AGREEMENT"),
    ],
)
def test_silence_consents_only_above_a_floor_that_the_owner_wrote_for_it(floor, silence, state):
    delegate = {"mode": "human", "deadline_s": 600, "floor": floor, "onTimeout": silence}
    waiting = send(proposed(A_HUMAN, b_web(delegate=delegate)), "accept", "a-db", k=1, user="alice")
    ended = protocol.expire(waiting, LATER)
    assert ended["state"] == state
    if state == "ACCEPTED_ALL":
        assert ended["answers"]["b-web"]["by"] == "delegate at timeout"


def test_an_answer_to_an_earlier_proposal_is_outdated_and_a_late_one_finds_the_end():
    state = proposed()
    smt = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    state = send(state, "accept", "a-db", k=1, user="alice")
    state = send(state, "reject", "b-web", k=1, reason=smt)
    assert (state["state"], state["round"], state["answers"]) == ("PROPOSED", 2, {})
    assert state["result"]["assignment"]["host"]["smt"] != "core_scheduling"
    refused("outdated", state, "accept", "a-db", k=1, user="alice")
    refused("invalid_transition", state, "accept", "a-db", k=2, user="alice", now=LATER)


def test_an_answer_names_its_proposal():
    state = proposed()
    smt = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    for kind, fields in (("accept", {"user": "alice"}), ("human_ok", {"user": "alice"}), ("reject", {"reason": smt})):
        refused("bad_message", state, kind, "a-db", **fields)
        refused("bad_message", state, kind, "a-db", k=True, **fields)
        refused("outdated", state, kind, "a-db", k=2, **fields)


def test_a_counter_rejects_by_veto_or_floor_and_touches_only_the_view_of_its_sender():
    torn = copy.deepcopy(B_HUMAN)
    torn["switches"]["memory_protection"] = {"weight": 0, "values": {"snp_tdx": 0, "hsvm": 1, "sev": 0, "none": "veto"}}
    state = proposed(A_HUMAN, torn)
    assert "b-web/snapshot" in state["result"]["contested"]
    smt = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    wanted = {"b-web/snapshot": "never"}
    refused("not_contested", state, "counter", "a-db", k=1, reason=smt, assignment=wanted)
    assert send(state, "counter", "b-web", k=1, reason=smt, assignment=wanted)["round"] == 2
    refused("excludes_nothing", state, "counter", "a-db", k=1, reason={"final": True}, assignment={})
    refused("excludes_nothing", state, "reject", "a-db", k=1, reason={"floor": True})


def test_deadlines_digests_and_breaches_of_the_wrong_form_change_nothing():
    state = send(draft(), "check", "mediator")
    for deadline in ("soon", NOW, "2026-03-09T12:00:01Z"):
        refused("bad_message", state, "invite", "mediator", deadline=deadline)
    state = send(state, "invite", "mediator", deadline="2026-03-09T12:00:00Z")
    refused("bad_message", state, "commit", "a-db", digest="xyz")


def test_a_party_reveals_wishes_of_its_own_tenant():
    other = {**A_HUMAN, "tenant": "beta"}
    state = send(draft(), "check", "mediator")
    state = send(state, "invite", "mediator", deadline=LATER)
    for vm, policy in (("a-db", other), ("b-web", B_HUMAN)):
        state = send(state, "commit", vm, digest=protocol.commitment(policy, NONCES[vm]))
    ended = send(state, "reveal", "a-db", policy=other, nonce=NONCES["a-db"])
    assert (ended["state"], ended["policies"]["a-db"]["tenant"]) == ("NO_AGREEMENT", "alpha")


def test_the_owner_of_broken_terms_alone_chooses_to_go_on():
    state = proposed(A_DB, B_WEB)
    for party in ("a-db", "b-web", "operator"):
        state = signed_by(state, party)
    state = send(state, "enforced", "mediator")
    refused("bad_message", state, "breach", "mediator", event={"vm": "a-db"})
    state = send(state, "breach", "mediator", event={"kind": "reclaim", "vm": "a-db"}, evidence={"op": 7})
    refused("not_a_party", state, "keep", "b-web")
    assert send(state, "keep", "a-db")["state"] == "ENFORCED"


def test_a_reject_must_exclude_the_proposal():
    state = proposed()
    refused("excludes_nothing", state, "reject", "b-web", k=1, reason={"floor": 660})
    refused("excludes_nothing", state, "reject", "b-web", k=1, reason={"veto": {"switch": "smt", "value": "off"}})
    refused("excludes_nothing", state, "reject", "b-web", k=1, reason={"floor": "high"})
    refused("reason_missing", state, "reject", "b-web", k=1)
    better = send(state, "reject", "b-web", k=1, reason={"floor": 661})
    assert better["result"]["utilities"]["b-web"] >= 661000 or better["state"] == "NO_AGREEMENT"
    assert send(state, "reject", "b-web", k=1, reason={"final": True})["state"] == "NO_AGREEMENT"


def test_rejects_lead_to_an_end_after_five_rounds_at_most():
    state, seen = proposed(), 0
    while state["state"] == "PROPOSED":
        seen += 1
        points = state["result"]["utilities"]["b-web"] // 1000 + 1
        state = send(state, "reject", "b-web", k=seen, reason={"floor": points})
    assert state["state"] == "NO_AGREEMENT" and seen <= 5 and state["fallback"] or state["reason"].startswith("rounds")


def test_the_fifth_proposal_is_the_last():
    state = proposed()
    steps = [("vtpm", "encrypted"), ("vtpm", "plain"), ("network_isolation", "isolated"), ("swap", "encrypted")]
    for number, (switch, value) in enumerate(steps, start=1):
        reason = {"veto": {"switch": switch, "value": value}}
        state = send(state, "reject", "b-web", k=number, reason=reason)
        assert (state["state"], state["round"]) == ("PROPOSED", number + 1)
    last = {"veto": {"switch": "secure_boot", "value": "required"}}
    state = send(state, "reject", "b-web", k=5, reason=last)
    assert (state["state"], state["round"]) == ("NO_AGREEMENT", 5) and state["reason"].startswith("rounds")


def test_a_counter_is_proposed_if_all_keep_their_terms_and_may_touch_contested_settings_only():
    state = proposed()
    reason = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    countered = send(state, "counter", "a-db", k=1, reason=reason, assignment={"host/smt": "off"})
    assert countered["round"] == 2 and countered["result"]["assignment"]["host"]["smt"] == "off"
    refused("not_contested", state, "counter", "a-db", k=1, reason=reason, assignment={"host/pmu": "on"})
    refused("bad_message", state, "counter", "a-db", k=1, reason=reason)


def test_a_person_must_be_named_and_approval_of_one_proposal_never_covers_the_next():
    state = proposed()
    refused("needs_person", state, "accept", "b-web", k=1)
    refused("needs_person", state, "accept", "b-web", k=1, user=3)
    approved = send(state, "human_ok", "b-web", k=1, user="bob")
    assert send(approved, "accept", "b-web", k=1)["answers"]["b-web"]["by"] == "bob"
    smt = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    refused("needs_person", send(approved, "reject", "a-db", k=1, reason=smt), "accept", "b-web", k=2)


def test_nothing_is_learned_before_all_have_committed_and_a_false_reveal_ends_it():
    state = send(draft(), "check", "mediator")
    assert state["state"] == "DETECTED"
    state = send(state, "invite", "mediator", deadline=LATER)
    for vm, policy in (("a-db", A_HUMAN), ("b-web", B_HUMAN)):
        view = disclosure.party_view(state, vm, NOW)
        assert all(not row["others_want"] and row["proposal"] is None for row in view["contested"])
        state = send(state, "commit", vm, digest=protocol.commitment(policy, NONCES[vm]))
        if vm == "a-db":
            refused("already_committed", state, "commit", vm, digest="0" * 64)
    assert state["state"] == "COMMITTED"
    false = send(state, "reveal", "a-db", policy=a_db(version=2), nonce=NONCES["a-db"])
    assert false["state"] == "NO_AGREEMENT" and "T-" in false["reason"]
    assert protocol.expire(state, LATER)["reason"] == "deadline: a commitment was missing"


def test_wishes_that_cannot_be_met_end_with_a_core_and_the_requester_may_withdraw():
    strict, wild = a_db(delegate=HUMAN), b_web(delegate=HUMAN)
    strict["switches"]["smt"]["values"] = {"off": 1000, "core_scheduling": "veto", "shared": "veto"}
    wild["switches"]["smt"]["values"] = {"off": "veto", "core_scheduling": "veto", "shared": 1000}
    ended = proposed(strict, wild)
    assert ended["state"] == "NO_AGREEMENT" and ended["core"] == ["veto:a-db:smt", "veto:b-web:smt"]
    assert ended["fallback"][-1] == {"step": "refuse_action", "consent": []}
    assert send(proposed(), "withdraw", "b-web")["state"] == "WITHDRAWN"
    assert send(proposed(), "withdraw", "a-db")["state"] == "NO_AGREEMENT"
    refused("invalid_transition", ended, "withdraw", "b-web")


def test_a_missing_or_false_signature_never_gives_an_agreement():
    state = proposed(A_DB, B_WEB)
    wrong = agreement.sign(agreement.payload_of(state["statement"]), SEEDS["b-web"])
    refused("bad_signature", state, "sign", "a-db", digest=state["payload_sha256"], signature=wrong)
    refused("bad_signature", state, "sign", "a-db", digest=state["payload_sha256"])
    refused("digest_mismatch", state, "sign", "a-db", digest="0" * 64, signature=wrong)
    assert protocol.expire(signed_by(state, "a-db"), "2026-03-02T13:00:00Z")["state"] == "NO_AGREEMENT"


def test_two_parties_see_again_what_each_proposal_gave_to_both_and_three_do_not():
    state = proposed()
    told = {}
    for vm in ("a-db", "b-web"):
        view = disclosure.party_view(state, vm, NOW)
        [row], figures = view["gains_so_far"], view["figures"]
        assert row == {"k": 1, "you": figures["gain_percent"], "other": next(iter(figures["others_gain"].values()))}
        told[vm] = row
    smt = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    second = send(state, "reject", "a-db", k=1, reason=smt)
    for vm, first in told.items():
        rows = disclosure.party_view(second, vm, NOW)["gains_so_far"]
        assert rows[0] == first and [row["k"] for row in rows] == [1, 2]  # not measured anew by what came after
    third = {**B_HUMAN, "vm": "c-third", "tenant": "gamma"}
    three = draft(A_HUMAN, B_HUMAN, third, keys={**KEYS, "c-third": KEYS["a-db"]})
    three = protocol.mediate(three, NOW, {**NONCES, "c-third": "cc" * 32})
    assert three["proposals"] and disclosure.party_view(three, "a-db", NOW)["gains_so_far"] == []


def test_a_party_sees_its_own_figures_and_of_others_only_what_is_contested():
    state = proposed()
    mine = disclosure.party_view(state, "a-db", NOW)
    smt = next(row for row in mine["contested"] if row["switch"] == "smt")
    other = mine["others"][0]["who"]
    assert smt["you_want"] == ["off"] and smt["proposal"] == "core_scheduling" and smt["strength"] == "prefer"
    assert smt["others_want"] == [{"who": other, "values": ["shared"]}] and smt["they_give_up"] == [other]
    assert smt["you_give_up"] == 75000
    assert mine["figures"]["others_gain"] == {other: 79} and mine["figures"]["utility"] == 845000
    text = json.dumps(mine)
    assert "b-web" not in text.replace("the newcomer", "") and "beta" not in text
    for secret in ("780000", "200000", "660000", "23/29", '"budget"', B_HUMAN["tenant"]):
        assert secret not in text, secret
    theirs = json.dumps(disclosure.party_view(state, "b-web", NOW))
    for secret in ("a-db", "alpha", "845000", "49/80", "untrusted-code", 'memory_protection", "label'):
        assert secret not in theirs, secret
    assert "host/smt" in disclosure.disclosed(mine)


def test_what_others_do_not_contest_is_never_shown_whatever_they_wish():
    changed = copy.deepcopy(B_HUMAN)
    changed["switches"]["snapshot"] = {"weight": 299, "values": {"never": 0, "encrypted": 777, "allowed": 1000}}
    changed["switches"]["vtpm"] = {"weight": 1, "values": {"encrypted": 0, "plain": 1000, "none": "veto"}}

    def shown(policy):
        view = disclosure.party_view(proposed(A_HUMAN, policy), "a-db", NOW)
        del view["figures"]["others_gain"], view["certificate"]
        return view

    assert shown(changed) == shown(B_HUMAN)


def test_a_setting_that_another_party_cannot_have_for_itself_stays_its_own_affair():
    torn = copy.deepcopy(B_HUMAN)
    torn["switches"]["memory_protection"] = {"weight": 0, "values": {"snp_tdx": 0, "hsvm": 1, "sev": 0, "none": "veto"}}
    state = proposed(A_HUMAN, torn)
    assert "b-web/snapshot" in state["result"]["contested"]
    assert {row["issue"] for row in disclosure.party_view(state, "b-web", NOW)["contested"]} >= {"b-web/snapshot"}
    theirs = disclosure.party_view(state, "a-db", NOW)
    assert all(row["shared"] for row in theirs["contested"])
    assert not any(row["switch"] == "snapshot" for row in theirs["contested"])


def test_the_operator_sees_the_assignment_and_who_has_answered_but_no_weights():
    state = send(proposed(), "accept", "a-db", k=1, user="alice")
    view = disclosure.operator_view(state, NOW)
    assert {row["party"]: row["answer"] for row in view["parties"]} == {"a-db": "accepted", "b-web": "waiting"}
    assert view["assignment"]["host"]["smt"] == "core_scheduling"
    assert "weight" not in json.dumps(view) and "845000" not in json.dumps(view)


def test_answers_and_wishes_stay_visible_after_the_end_and_answers_that_just_came_count():
    state = send(proposed(), "accept", "a-db", k=1, user="alice")
    [other] = disclosure.party_view(state, "a-db", NOW, {"b-web": False})["others"]
    assert (other["answer"], other["by_delegate"]) == ("rejected", False)
    ended = disclosure.party_view(send(state, "reject", "b-web", k=1, reason={"final": True}), "b-web", NOW)
    assert ended["others"][0]["answer"] == "accepted" and ended["contested"][0]["others_want"]
    [by_delegate] = disclosure.party_view(proposed(A_HUMAN, B_WEB), "a-db", NOW)["others"]
    assert (by_delegate["answer"], by_delegate["by_delegate"]) == ("accepted", True)


MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["check", "invite", "commit", "reveal", "accept", "reject", "counter", "human_ok"] * 2
                                + ["sign", "enforced", "withdraw", "breach", "keep", "nonsense"]),
        "sender": st.sampled_from(["a-db", "b-web", "operator", "mediator", "mallory"]),
    },
    optional={
        "k": st.integers(0, 6),
        "user": st.sampled_from(["alice", "", None, 3]),
        "reason": st.sampled_from(
            [{"final": True}, {"floor": 700}, {"floor": 900}, {"floor": []}, {"veto": {"switch": [], "value": 1}}, "no",
             {"veto": {"switch": "smt", "value": "core_scheduling"}}, {"veto": {"switch": "smt", "value": "off"}}]
        ),
        "assignment": st.sampled_from([{"host/smt": "off"}, {"host/smt": 3}, {"x": 1}, []]),
        "digest": st.sampled_from([protocol.commitment(A_HUMAN, NONCES["a-db"]), 7]),
        "policy": st.sampled_from([A_HUMAN, B_HUMAN, 3]),
        "nonce": st.sampled_from([*NONCES.values(), "xyz"]),
        "signature": st.sampled_from([{}, {"keyid": "", "sig": "?"}, 3]),
        "deadline": st.just(LATER),
    },
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(MESSAGES, max_size=12), st.booleans())
def test_any_messages_end_within_five_rounds_and_without_consent_there_is_no_agreement(messages, mediated):
    state = proposed() if mediated else draft()
    for message in messages:
        before = json.dumps(state, sort_keys=True)
        try:
            changed = protocol.apply_message(state, message, NOW)
        except VpmsError:
            changed = state
        assert json.dumps(state, sort_keys=True) == before
        state = changed
        assert state["round"] <= 5
        if state["state"] in ("ACCEPTED_ALL", "SIGNED", "ENFORCED"):
            assert {answer["by"] for answer in state["answers"].values()} == {"alice"}
    for _ in range(8):
        deadline = protocol.next_deadline(state)
        if deadline is not None:
            state = protocol.expire(state, deadline)
    assert state["state"] in (*protocol.ENDED, "DRAFT", "DETECTED", "ENFORCED", "BREACHED", "SIGNED")
