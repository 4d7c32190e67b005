"""Questions, form fields, JSON, YAML and the API's document are one document: no way through them loses anything."""

import copy
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.cast import A_DB, B_WEB, H1
from tests.policy.test_answers import answer_sets, document, offer_sets
from tests.policy.test_recognition_twin import some_policy
from webapp.errors import BadInput
from webapp.tenants import yamltext
from webapp.vpms import documents
from webapp.vpms.answers import answers_from_document
from webapp.vpms.vocabulary import SWITCHES


@st.composite
def policies(draw):
    """Valid policies with rules, labels and every odd but allowed id."""
    rng = random.Random(draw(st.integers(0, 10**9)))
    policy = some_policy(rng, "a", rng.sample(list(SWITCHES), rng.randint(2, 8)))
    odd = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z") | st.sampled_from(
        ["1e3", "007", "null", "true", "no", "on", "1.5", "0x1f", "0", "12", "2026-01-01", "1_000", "0.e", "9-", "y"]
    )
    policy["tenant"], policy["trustClass"] = draw(odd), draw(odd)
    policy["labels"] = {"exhibits": draw(st.lists(odd, max_size=3, unique=True))}
    return policy


@settings(max_examples=150, deadline=None)
@given(policies())
def test_json_and_yaml_are_the_same_document(policy):
    by_json = documents.read_policy(json.dumps(policy))
    text = yamltext.write(policy)
    back, lines = yamltext.read_with_lines(text.encode())
    assert back == policy and list(back) == list(policy)
    assert documents.read_policy(back).sha256 == by_json.sha256
    assert yamltext.write(back) == text and lines["$.vm"] == text[: text.index("\nvm: ") + 1].count("\n") + 1


@given(answer_sets, offer_sets)
def test_answers_survive_the_way_through_document_yaml_and_json(answers, offers):
    made = document(answers, offers)
    there = json.loads(json.dumps(yamltext.read(yamltext.write(made).encode())))
    back = answers_from_document(there, offers)
    assert there == made and document(back, offers) == made
    firm = {name: row for name, row in answers.items() if row["strength"] != "dont_mind"}
    assert {name: row["strength"] for name, row in back.items()} == {n: row["strength"] for n, row in firm.items()} or (
        len({row["strength"] for row in firm.values()}) == 1  # prefer alone weighs like must alone where none is laxer
    )


@pytest.mark.parametrize("example", [A_DB, B_WEB, H1], ids=["a-db", "b-web", "h1"])
def test_the_examples_of_the_design_survive(example):
    assert yamltext.read(yamltext.write(example).encode()) == example


def test_lines_lead_from_a_fault_to_its_place_in_the_text():
    wrong = copy.deepcopy(A_DB)
    wrong["switches"]["smt"]["weight"] = 251
    wrong["rules"][0]["then"]["in"] = ["sometimes"]
    text = yamltext.write(wrong)
    read, lines = yamltext.read_with_lines(text.encode())
    with pytest.raises(BadInput) as refused:
        documents.read_policy(read)
    shown = {fault.path: text.splitlines()[lines[fault.path] - 1].strip() for fault in refused.value.faults}
    assert shown == {"$.switches": "switches:", "$.rules[0].then.in[0]": "- sometimes"}
