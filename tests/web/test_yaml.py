"""The YAML view: the same document, the same limits, the same faults in the same words as the JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import CAREFUL, Cast, wishes
from webapp.errors import BadInput
from webapp.tenants import yamltext
from webapp.tenants.models import Policy
from webapp.tenants.services import document_of
from webapp.vpms.documents import read_policy


def document(**more: Any) -> dict[str, Any]:
    return wishes(CAREFUL, **{"vm": "a-db", "tenant": "alpha", "version": 2, **more})


def faults_of(read: Any, text: bytes) -> list[tuple[str, str]]:
    with pytest.raises(BadInput) as refused:
        read(text)
    return [(fault.path, fault.reason) for fault in refused.value.faults]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | TEXT
    | st.sampled_from(["off", "no", "1e3", "~"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(TEXT, VALUES, max_size=5))
def test_what_is_written_is_read_back_the_same(value: dict[str, Any]) -> None:
    assert yamltext.read(yamltext.write(value).encode()) == value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | st.text("[]{}-:,#&*!|>'\"%@ \n\tab1<~.0", max_size=120).map(str.encode))
def test_any_bytes_are_read_or_refused_with_faults(data: bytes) -> None:
    try:
        yamltext.read(data)
    except BadInput as refused:
        assert refused.faults and all(fault.path.startswith("$") and fault.reason for fault in refused.faults)


def changed(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    found = document()
    place: Any = found
    for name in path[:-1]:
        place = place[name]
    if value is Ellipsis:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 0),
        (("version",), 2**60),
        (("version",), "two"),
        (("vm",), ...),
        (("colour",), "blue"),
        (("switches", "mitigations", "weight"), 1001),
        (("switches", "mitigations", "values", "full"), "vetoed"),
        (("switches", "warp"), {"weight": 0, "values": {}}),
        (("size", "vcpus"), None),
        (("size", "vcpus"), True),
        (("delegate", "mode"), "auto-within-bounds"),
        (("labels",), {"exhibits": ["x"], "refuses": ["x"]}),
        (("labels",), {"exhibits": [1, [2]]}),
    ],
    ids=lambda value: ".".join(value) if isinstance(value, tuple) else repr(value)[:24],
)
def test_a_wrong_document_has_the_same_faults_in_both_forms(path: tuple[str, ...], value: Any) -> None:
    wrong = changed(path, value)
    by_json = faults_of(read_policy, json.dumps(wrong).encode())
    assert faults_of(lambda text: read_policy(yamltext.read(text)), yamltext.write(wrong).encode()) == by_json


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("vm: a\nvm: b", "$.vm", "this key is given more than once"),
        ("version: 2.5", "$.version", "must be an integer without point or exponent"),
        ("version: -0", "$.version", "-0 is not allowed"),
        ("version: 99999999999999999999", "$.version", "must lie within"),
        ("a: &x 1", "$.a", "anchor or a tag"),
        ("a: *x", "$.a", "alias"),
        ("a: !!int 3", "$.a", "anchor or a tag"),
        ("<<: {a: 1}", "$", "merge key"),
        ("? [a]\n: 1", "$", "a key that is not a string"),
        ("a: 1\n---\nb: 2", "$", "one document"),
        ("%YAML 1.1\n---\na: 1", "$", "one document"),
        ("[" * 5000, "$", "is nested deeper than 8 levels"),
        ("a: [", "$", "line 1"),
        ("just words", "$", "must be an object"),
        ("", "$", "must be an object"),
        ("x" * 70_000, "$", "at most 65536 are allowed"),
        ("a: \x07", "$", "a character that YAML does not allow"),
    ],
)
def test_what_yaml_adds_is_refused_with_path_and_reason(text: str, path: str, words: str) -> None:
    def read(data: bytes) -> Any:
        return read_policy(yamltext.read(data))

    found = faults_of(read, text.encode())
    assert any(where == path and words in why for where, why in found), found


def test_words_that_other_readers_take_for_truth_stay_words() -> None:
    assert yamltext.read(b"a: off\nb: no\nc: on\nd: yes\ne: 1e3\nf: 'true'") == {
        "a": "off",
        "b": "no",
        "c": "on",
        "d": "yes",
        "e": "1e3",
        "f": "true",
    }


# -- the page


@pytest.mark.django_db
def test_the_tab_shows_the_stored_document_and_saves_the_next_version(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    page = client.get("/tenant/vm/a-db/?tab=yaml").content.decode()
    assert "format: vpms-policy/1" in page and "as YAML" in page and 'aria-current="page">YAML' in page
    text = yamltext.write(document())
    answer = client.post("/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "act": "save", "document": text})
    assert answer.status_code == 302 and answer["Location"].endswith("?tab=yaml")
    assert document_of(Policy.objects.get(vm=cast.a_db, version=2)) == document()


@pytest.mark.django_db
def test_a_refused_text_stays_with_path_line_and_the_words_of_the_api(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    wrong = changed(("switches", "mitigations", "weight"), 1001)
    page = client.post("/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "document": yamltext.write(wrong) + "\n# mine"})
    by_api = client.put("/api/vms/a-db/policy", json.dumps(wrong), content_type="application/json")
    assert page.status_code == by_api.status_code == 422
    fault = by_api.json()["faults"][0]
    told = page.content.decode()
    line = yamltext.write(wrong).splitlines().index("    weight: 1001") + 1
    assert fault["path"] in told and fault["reason"] in told and f"(line {line})" in told and "# mine" in told
    assert Policy.objects.filter(vm=cast.a_db).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("tab", ["json", "yaml"])
def test_a_document_beyond_the_eight_questions_says_so_in_both_tabs(cast: Cast, client, tab: str) -> None:
    client.force_login(cast.alice)
    rule = {"when": {"switch": "smt", "in": ["off"]}, "then": {"switch": "pmu", "in": ["off"]}}
    text = yamltext.write(document(rules=[rule]))
    client.post("/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "act": "save", "document": text})
    words = "This document cannot be said in the eight questions"
    assert words in client.get(f"/tenant/vm/a-db/?tab={tab}").content.decode()
    client.post(
        "/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "act": "save", "document": yamltext.write(document(version=3))}
    )
    assert words not in client.get(f"/tenant/vm/a-db/?tab={tab}").content.decode()
