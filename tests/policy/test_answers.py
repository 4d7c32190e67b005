"""Plain answers and the document are the same thing, in both directions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.policy.cast import H1, NOW
from webapp.errors import BadInput
from webapp.vpms import documents
from webapp.vpms.answers import answers_from_document, document_from_answers, largest_remainder, nearest_profile
from webapp.vpms.conflicts import check
from webapp.vpms.vocabulary import FACTS, PROFILES, QUESTIONS, STRENGTHS, SWITCHES

HOST = documents.read_host(H1)
SIZE = {"vcpus": 1, "memory_mib": 8}


def document(answers, offers=None):
    fields = {"vm": "a", "tenant": "t", "version": 1, "size": SIZE, "delegate": {"mode": "human"}}
    return document_from_answers(answers, **fields, offers=offers)


answer_sets = st.fixed_dictionaries(
    {},
    optional={
        name: st.fixed_dictionaries(
            {
                "answer": st.sampled_from([a.name for a in question.answers]),
                "strength": st.sampled_from(list(STRENGTHS)),
            }
        )
        for name, question in QUESTIONS.items()
    },
).filter(lambda answers: any(STRENGTHS[given["strength"]] for given in answers.values()))
offer_sets = st.sampled_from([None, documents.offered_values(HOST, SIZE)])


@given(answer_sets, offer_sets)
def test_a_document_made_from_answers_is_valid_and_gives_answers_that_make_it_again(answers, offers):
    made = document(answers, offers)
    documents.read_policy(made)
    again = answers_from_document(made, offers)
    assert again is not None
    assert document(again, offers) == made


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_a_profile_comes_back_as_itself(profile):
    offers = documents.offered_values(HOST, SIZE)
    answers = answers_from_document(document(profile.answers, offers), offers)
    assert document(answers, offers) == document(profile.answers, offers)
    assert nearest_profile(profile.answers) == (profile.name, 0)


def test_must_vetoes_the_laxer_values_only_and_prefer_vetoes_none():
    must = document({"q2": {"answer": "own", "strength": "must"}})["switches"]["page_sharing"]
    assert must == {"weight": 1000, "values": {"off": 500, "same_tenant": 1000, "on": "veto"}}
    prefer = document({"q2": {"answer": "own", "strength": "prefer"}})["switches"]["page_sharing"]
    assert prefer["values"] == {"off": 500, "same_tenant": 1000, "on": 500}


def test_weights_follow_strength_by_largest_remainder():
    made = document({"q2": {"answer": "never", "strength": "must"}, "q4": {"answer": "no", "strength": "prefer"}})
    weights = {name: wish["weight"] for name, wish in made["switches"].items()}
    assert weights == {"page_sharing": 428, "balloon": 286, "overcommit": 286}
    assert largest_remainder(1000, [1, 1, 1]) == [334, 333, 333]


def test_a_document_that_no_answers_express_says_so():
    made = document({"q2": {"answer": "own", "strength": "prefer"}, "q7": {"answer": "speed", "strength": "must"}})
    made["switches"]["page_sharing"]["values"]["off"] = 501
    assert answers_from_document(made) is None


@pytest.mark.parametrize(
    ("answers", "path"),
    [
        ({}, "$"),
        ({"q2": {"answer": "own", "strength": "dont_mind"}}, "$"),
        ({"q9": {"answer": "own", "strength": "must"}}, "$.q9"),
        ({"q2": {"answer": "often", "strength": "must"}}, "$.q2.answer"),
        ({"q2": {"answer": "own", "strength": "very"}}, "$.q2.strength"),
        ({"q2": "own"}, "$.q2"),
    ],
)
def test_wrong_answers_are_refused_with_their_place(answers, path):
    with pytest.raises(BadInput) as refused:
        document(answers)
    assert refused.value.faults[0].path == path


def test_the_vocabulary_is_whole():
    assert (
        len(SWITCHES) == 24
        and len(QUESTIONS) == 8
        and [fact.name for fact in FACTS] == [f"F{n:02}" for n in range(1, 18)]
    )
    for switch in SWITCHES.values():
        assert len(switch.answers) == len(QUESTIONS[switch.question].answers), switch.name
        assert set(switch.answers) <= set(switch.names) and switch.answers[0] == switch.names[0], switch.name
        assert switch.answers[-1] == switch.names[-1] and all(value.consequence for value in switch.values), switch.name
    for fact in FACTS:
        assert fact.values <= set(SWITCHES[fact.switch].names)
        assert fact.then_values <= set(SWITCHES[fact.then_switch].names)


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
def test_no_profile_contradicts_itself_or_what_the_host_can_do(profile):
    policy = documents.read_policy(document(profile.answers, documents.offered_values(HOST, SIZE)))
    found = check([policy], documents.read_host({**H1, "operator": {}}), now=NOW)
    assert found["conflicts"] == [] and found["status"] == "no_static_conflict_now"
