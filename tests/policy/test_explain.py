"""Results and logs are told in sentences: the clash, its core, what a proposal costs whom, and what is open."""

import json

import pytest

from tests.policy.cast import A_DB, H1, NOW, a_db, b_web, h1
from tests.policy.test_agreement import log_lines
from tests.policy.test_enforcement import POLICIES
from tests.policy.test_protocol import proposed, send
from webapp import strictjson
from webapp.errors import BadInput
from webapp.vpms import auditlog
from webapp.vpms.conflicts import check
from webapp.vpms.documents import read_event, read_host, read_policy
from webapp.vpms.enforcement import check_event
from webapp.vpms.explain import background_words, demand_words, explain
from webapp.vpms.negotiation import negotiate
from webapp.vpms.situation import Situation


def told(document):
    return explain(json.dumps(document).encode())


def clashing():
    strict, wild = a_db(rules=[]), b_web()
    strict["switches"]["smt"]["values"] = {"off": 1000, "core_scheduling": "veto", "shared": "veto"}
    wild["switches"]["smt"]["values"] = {"off": "veto", "core_scheduling": "veto", "shared": 1000}
    return [read_policy(strict), read_policy(wild)]


def test_a_check_names_each_clash_its_parties_and_their_wishes():
    text = told(check(POLICIES, read_host(H1), now=NOW))
    for line in (
        "Conflict: negotiable.",
        "2. Sharing a core (C07, can be negotiated): a-db and b-web.",
        "   a-db would like: Never.",
        "   b-web would like: With anyone.",
        "4. Writing memory to a dump (C21, only if it happens): a-db and the operator.",
        "   The operator offers: Never, Only sealed and Allowed.",
    ):
        assert line in text.splitlines(), text
    assert "Not checked: VMs that were not given" in text


def test_a_hard_clash_tells_the_smallest_set_that_cannot_hold_and_why():
    text = told(check(clashing(), read_host(H1), now=NOW))
    at = text.index("These cannot all be met")
    assert text[at:].splitlines()[1:3] == [
        "   - a-db refuses some choices for “Two threads on one core”;",
        "   - b-web refuses some choices for “Two threads on one core”;",
    ]
    event = read_event({"format": "vpms-event/1", "kind": "reclaim", "vm": "a-db", "pages": 4})
    text = told(check_event(POLICIES, read_host(H1), event, now=NOW))
    assert "The event reclaim is denied and has no effect.\nIn force is: none." in text


def test_a_proposal_tells_what_each_gets_and_gives_up():
    text = told(negotiate(POLICIES, read_host(H1), NOW))
    assert text.startswith("Agreed: every delegate accepts this proposal.")
    assert "- Two threads on one core, for the whole host: Only one tenant per core." in text
    assert "a-db gets 845 points; the most it could get here is 1000, the least it accepts 600." in text
    assert "So it gives up 155 points and keeps 61 %" in text and "It is proven" in text
    human = negotiate([read_policy(A_DB), read_policy(b_web(delegate={"mode": "human"}))], read_host(H1), NOW)
    assert "A person must answer for: b-web." in told(human)


def test_no_agreement_tells_the_open_steps_and_whose_consent_each_needs():
    text = told(negotiate(clashing(), read_host(h1(running=["a-db"])), NOW))
    assert text.startswith("No agreement")
    for line in (
        "1. Start the newcomer on another host. Needs the consent of: b-web.",
        "2. Move a running VM that is willing to another host. Needs the consent of: a-db.",
        "4. A party of the clash changes a wish of its own. Needs the consent of: a-db and b-web.",
        "6. Leave everything as it is; only the new action is refused. Needs the consent of: nobody; this is always",
    ):
        assert f"\n{line}" in text, text


def test_every_demand_and_every_background_fact_has_words():
    situation = Situation(clashing(), read_host(H1), NOW)
    demands = [*situation.demands(), "label:a:loud", "class:a:banks", "veto:operator:smt"]
    assert all(demand_words(name) != name for name in demands)
    assert all(background_words(name) != name for name in [*situation.background(), "offer:smt"])


def test_a_negotiation_is_told_round_by_round():
    state = send(proposed(), "accept", "a-db", k=1, user="alice")
    veto = {"veto": {"switch": "smt", "value": "core_scheduling"}}
    text = told(send(state, "reject", "b-web", k=1, reason=veto))
    first, second = text.index("Round 1"), text.index("Round 2")
    assert first < text.index("a-db accepted, by alice.") < second
    assert first < text.index("b-web rejected: never “Two threads on one core: Only one tenant per core”.") < second
    ended = told(send(state, "reject", "b-web", k=1, reason={"final": True}))
    assert "b-web rejected: for good." in ended and "Now: NO_AGREEMENT" in ended


def test_a_log_is_told_as_far_as_its_chain_holds():
    lines, _ = log_lines(4)
    text = explain(b"\n".join(lines))
    assert text.startswith("The log holds together: 4 entries") and f"2. {NOW} alice, vm:a-db: policy.saved (" in text
    broken = explain(b"\n".join([lines[0], lines[1].replace(b"alice", b"mally"), *lines[2:]]))
    assert "entry 1 is not what followed" in broken and "mally" not in broken and "\n0. " in broken


def test_entries_that_have_a_sentence_are_told_by_it_and_a_thin_one_by_its_members():
    rows = [
        ("policy.version", {"version": 3, "sha256": "0" * 64, "before": None}, "Version 3 of the wishes was saved."),
        ("negotiation.state", {"state": "PROPOSED", "round": 2}, "Proposal 2 is on the table."),
        (
            "disclosure",
            {"to": "T-1", "what": "smt, pmu"},
            "Shown to T-1: Two threads on one core, Performance counters.",
        ),
        ("negotiation.party", {"answer": "accepted"}, "negotiation.party (answer: accepted)"),
    ]
    lines, previous = [], auditlog.GENESIS
    for seq, (kind, data, _) in enumerate(rows):
        entry = {
            "seq": seq,
            "at": NOW,
            "type": kind,
            "actor": "vpms",
            "subject": "vm:a-db",
            "data": data,
            "prev": previous,
        }
        previous = strictjson.digest(entry)
        lines.append(strictjson.canonical({**entry, "hash": previous}))
    text = explain(b"\n".join(lines))
    for seq, (_, _, words) in enumerate(rows):
        assert f"{seq}. {NOW} vpms, vm:a-db: {words}" in text


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps(A_DB), '{"checked_against": 1}', '{"gains_exact": {}}',
                                  '{"format": "vpms-negotiation/1"}', '{"checked_against": 1e999}'])  # fmt: skip
def test_anything_else_is_bad_input(text):
    with pytest.raises(BadInput):
        explain(text.encode())
