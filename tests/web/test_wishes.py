"""Wishes: eight plain questions and one document, versioned, refused whole or stored whole."""

import html
import json
import random
import re
from typing import Any

import pytest

from tests.conftest import CAREFUL, QUICK, Cast, wishes
from webapp.audit.models import Entry
from webapp.errors import BadInput, VpmsError
from webapp.tenants import yamltext
from webapp.tenants.changes import changes
from webapp.tenants.models import Policy
from webapp.tenants.services import document_of, policy_save
from webapp.vpms.vocabulary import QUESTIONS, SWITCHES

pytestmark = pytest.mark.django_db


def document(**more: Any) -> dict[str, Any]:
    return wishes(CAREFUL, **{"vm": "a-db", "tenant": "alpha", "version": 2, **more})


def text(**more: Any) -> str:
    return json.dumps(document(**more))


def with_switches(change: Any) -> str:
    switches = document()["switches"]
    change(switches)
    return text(switches=switches)


BAD = {
    "unknown switch": (with_switches(lambda s: s.update(warp={"weight": 0, "values": {}})), "$.switches.warp"),
    "unknown field": (text(colour="blue"), "$.colour"),
    "weight out of range": (
        with_switches(lambda s: s["mitigations"].update(weight=1001)),
        "$.switches.mitigations.weight",
    ),
    "weight sum": (
        with_switches(lambda s: s["mitigations"].update(weight=s["mitigations"]["weight"] - 1)),
        "$.switches",
    ),
    "NaN": (text(version=2).replace('"version": 2', '"version": NaN'), "$.version"),
    "fraction": (text(version=2).replace('"version": 2', '"version": 2.5'), "$.version"),
    "duplicate key": (text().replace('"vm": "a-db"', '"vm": "a-db", "vm": "a-db"'), "$.vm"),
    "1 MB of nesting": ("[" * 1_000_000, "$"),
    "deep nesting": ("[" * 5_000, "$"),
    "not JSON": ("must: everything", "$"),
    "empty": ("", "$"),
    "lone surrogate": (text().replace('"a-db"', '"\\ud800"'), "$.vm"),
    "foreign VM": (text(vm="b-web"), "$.vm"),
    "foreign tenant": (text(tenant="beta"), "$.tenant"),
    "version does not rise": (text(version=1), "$.version"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_documents_are_refused_by_page_and_api_with_path_and_reason(cast: Cast, client, case: str) -> None:
    given, path = BAD[case]
    client.force_login(cast.alice)
    log = Entry.objects.count()
    page = client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "document": given})
    api = client.put("/api/vms/a-db/policy", given, content_type="application/json")
    assert page.status_code == api.status_code == 422
    faults = api.json()["faults"]
    assert path in [fault["path"] for fault in faults] and all(fault["reason"] for fault in faults)
    shown = page.content.decode()
    assert f">{path}<" in shown.replace("&#x27;", "'") and "Not saved" in shown
    assert Policy.objects.filter(vm=cast.a_db).count() == 1 and Entry.objects.count() == log


def test_what_was_typed_is_kept_when_it_is_refused(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    given = text(colour="blue")
    page = client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "document": given})
    assert "blue" in page.content.decode()
    answers = {"q1": "nobody", "q1-strength": "very much", "memory_mib": "8", "q7": "speed", "q7-strength": "must"}
    page = client.post("/tenant/vm/a-db/", answers)
    assert page.status_code == 422
    assert 'name="q7" value="speed" checked' in page.content.decode()


def test_a_body_of_more_than_a_mebibyte_is_refused(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    api = client.put("/api/vms/a-db/policy", "[" * 1_200_000, content_type="application/json")
    assert api.status_code == 413 and api.json()["faults"][0]["path"] == "$"
    page = client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "document": "[" * 1_200_000})
    assert page.status_code == 413


def form_of(answers: dict[str, dict[str, str]], **more: str) -> dict[str, str]:
    typed = {"tab": "form", "memory_mib": "8", "delegate": "human", **more}
    for name, given in answers.items():
        typed[name], typed[f"{name}-strength"] = given["answer"], given["strength"]
    return typed


def test_form_and_json_are_the_same_document(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    answers = {**CAREFUL, "q7": {"answer": "speed", "strength": "prefer"}}
    assert client.post("/tenant/vm/a-db/", form_of(answers)).status_code == 302
    saved = client.get("/api/vms/a-db/policy").json()
    assert saved["version"] == 2 and saved["delegate"]["mode"] == "human"
    assert saved["switches"] == wishes(answers, vm="a-db", tenant="alpha")["switches"]
    page = client.get("/tenant/vm/a-db/?tab=form").content.decode()
    assert 'name="q7" value="speed" checked' in page and 'name="q7-strength" value="prefer" checked' in page
    assert client.put("/api/vms/a-db/policy", text(version=3), content_type="application/json").status_code == 200
    assert 'name="q7" value="protection" checked' in client.get("/tenant/vm/a-db/").content.decode()


@pytest.mark.parametrize("seed", range(6))
def test_no_way_through_form_json_and_api_changes_the_wishes(cast: Cast, client, seed: int) -> None:
    rng = random.Random(seed)
    client.force_login(cast.alice)
    asked = rng.sample(list(QUESTIONS.values()), rng.randint(1, len(QUESTIONS)))
    answers = {
        question.name: {"answer": rng.choice(question.answers).name, "strength": rng.choice(["must", "prefer"])}
        for question in asked
    }

    def saved() -> dict[str, Any]:
        return {key: value for key, value in client.get("/api/vms/a-db/policy").json().items() if key != "version"}

    assert client.post("/tenant/vm/a-db/", form_of(answers)).status_code == 302
    first = saved()
    assert first["switches"] == wishes(answers, vm="a-db", tenant="alpha")["switches"]
    page = client.get("/tenant/vm/a-db/?tab=form").content.decode()
    shown = dict(
        re.findall(r'name="(q\d(?:-strength)?)" value="(\w+)" checked', page)
    )  # the fields as the page has them
    assert (
        client.post("/tenant/vm/a-db/", {"tab": "form", "memory_mib": "8", "delegate": "human", **shown}).status_code
        == 302
    )
    assert saved() == first
    typed = json.dumps({**first, "version": 9})
    assert (
        client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "act": "save", "document": typed}).status_code == 302
    )
    assert saved() == first
    by_yaml = json.dumps({**yamltext.read(yamltext.write(first).encode()), "version": 10})
    assert client.put("/api/vms/a-db/policy", by_yaml, content_type="application/json").status_code == 200
    assert saved() == first


def test_the_form_keeps_what_it_does_not_show(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    labels = {"conflictClass": [], "exhibits": ["database"], "refuses": []}
    client.put("/api/vms/a-db/policy", text(labels=labels, trustClass="gold"), content_type="application/json")
    client.post("/tenant/vm/a-db/", form_of(QUICK))
    saved = client.get("/api/vms/a-db/policy").json()
    assert saved["labels"] == labels and saved["trustClass"] == "gold" and saved["disagreement"]["utility"] == 200


def test_all_answers_dont_mind_is_refused(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    page = client.post("/tenant/vm/a-db/", {"tab": "form", "memory_mib": "8"})
    assert page.status_code == 422 and "at least one question" in page.content.decode()


def test_a_document_that_no_answers_can_say_opens_as_json_and_says_so(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    rule = {"when": {"switch": "smt", "in": ["off"]}, "then": {"switch": "pmu", "in": ["off"]}}
    policy_save(by=cast.alice, vm=cast.a_db, document=document(rules=[rule]))
    page = client.get("/tenant/vm/a-db/").content.decode()
    assert "say more than the eight questions can" in page and "<textarea" in page


def test_an_old_version_comes_back_under_a_new_number(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    client.post("/tenant/vm/a-db/", form_of(QUICK))
    assert client.post("/tenant/vm/a-db/revert/", {"version": "1"}).status_code == 302
    newest = Policy.objects.filter(vm=cast.a_db).first()
    assert newest is not None and newest.version == 3
    assert document_of(newest)["switches"] == wishes(CAREFUL, vm="a-db", tenant="alpha")["switches"]
    assert client.post("/tenant/vm/a-db/revert/", {"version": "77"}).status_code == 404


def test_an_hour_holds_ten_versions(cast: Cast) -> None:
    for version in range(2, 11):
        policy_save(by=cast.alice, vm=cast.a_db, document={**document(), "version": version})
    with pytest.raises(VpmsError) as refused:
        policy_save(by=cast.alice, vm=cast.a_db, document={**document(), "version": 11})
    assert refused.value.http_status == 429


def test_each_version_is_an_entry_of_the_log_and_its_wishes_are_not(cast: Cast) -> None:
    policy = policy_save(by=cast.alice, vm=cast.a_db, document=document())
    entry = Entry.objects.get(type="policy.version", line__contains=policy.sha256, subject="vm:a-db")
    assert entry.actor == cast.alice.alias and "weight" not in entry.line


def test_not_even_the_operator_reads_wishes(cast: Cast, client) -> None:
    client.force_login(cast.olga)
    assert client.get("/api/vms/a-db/policy").status_code == 404
    assert client.get("/api/vms/a-db/policies").status_code == 404
    assert client.get("/tenant/vm/a-db/").status_code == 403


def test_the_check_after_saving_says_one_of_the_four_honest_statuses(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    page = client.get("/tenant/vm/a-db/").content.decode()
    words = ("No static conflict now", "Possible when running", "Conflict: negotiable", "Conflict: cannot both be met")
    assert sum(word in page for word in words) == 1
    assert "Checked against" in page and "Not checked" in page


def test_a_wish_that_the_law_of_the_host_forbids_is_told_at_once(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    answers = {"q8": {"answer": "none", "strength": "must"}}
    switches = wishes(answers, vm="a-db", tenant="alpha")["switches"]
    switches["audit_level"]["values"] = {"full": "veto", "metadata": "veto", "none": 1000}
    client.put("/api/vms/a-db/policy", text(switches=switches), content_type="application/json")
    assert "Conflict: cannot both be met" in client.get("/tenant/vm/a-db/").content.decode()
    assert [row["code"] for row in client.get("/api/conflicts").json()["items"]] == ["C24"]
    client.put("/api/vms/a-db/policy", text(version=3), content_type="application/json")
    assert client.get("/api/conflicts").json()["items"] == []


def test_a_new_vm_is_declared_with_place_and_first_wishes(cast: Cast, client) -> None:
    from webapp.tenants.selectors import programs

    client.force_login(cast.alice)
    typed = {"name": "a-2", "trace": programs()[0], "host": "h1", "memory_mib": "8", "profile": "confidential"}
    assert client.post("/tenant/vm/new/", typed)["Location"] == "/tenant/vm/a-2/"
    assert "Confidential" in client.get("/tenant/vm/a-2/").content.decode()
    assert client.get("/api/vms/a-2").json()["host"] == "h1"


@pytest.mark.parametrize("field", ["name", "trace", "host", "memory_mib", "profile"])
def test_a_new_vm_with_a_bad_field_is_refused_and_nothing_is_left(cast: Cast, client, field: str) -> None:
    from webapp.tenants.selectors import programs

    client.force_login(cast.alice)
    typed = {"name": "a-2", "trace": programs()[0], "host": "h1", "memory_mib": "8", "profile": "confidential"}
    answer = client.post("/tenant/vm/new/", {**typed, field: "No Such Thing"})
    assert answer.status_code == 422 and "field-error" in answer.content.decode()
    assert client.get("/api/vms/a-2").status_code == 404


def test_a_name_that_is_taken_reserved_or_no_id_is_refused(cast: Cast, client) -> None:
    from webapp.tenants.services import vm_create

    for name in ("b-web", "operator", "new", "", "Big", "a/b", "x" * 64):
        with pytest.raises(BadInput):
            vm_create(by=cast.alice, tenant=cast.alpha, name=name, trace="x")


def test_the_preferences_page_costs_the_same_number_of_queries_with_more_versions(
    cast: Cast, client, django_assert_max_num_queries
) -> None:
    client.force_login(cast.alice)
    for version in range(2, 9):
        policy_save(by=cast.alice, vm=cast.a_db, document={**document(), "version": version})
    with django_assert_max_num_queries(9):
        client.get("/tenant/vm/a-db/")


def test_a_document_is_saved_only_after_what_it_would_change_was_shown(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    before = client.get("/api/vms/a-db/policy").json()
    after = json.loads(json.dumps({**before, "version": 2, "trustClass": "gold"}))
    after["switches"]["page_sharing"]["values"]["on"] = "veto"
    typed = json.dumps(after)
    page = client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "document": typed})
    assert page.status_code == 200 and Policy.objects.filter(vm=cast.a_db).count() == 1
    told = page.content.decode()
    table = told[told.index("What would change") : told.index("</table>")]
    assert re.findall(r'<th scope="row">([^<]+)<', table) == ["Page sharing", "Trust class"]
    assert "never accepted" in table and ">gold<" in table
    hidden = re.search(r'name="document" value="([^"]*)"', told)
    assert hidden and html.unescape(hidden[1]) == typed  # the very text, so that Save needs no script
    back = client.post("/tenant/vm/a-db/?tab=json", {"tab": "json", "act": "back", "document": typed})
    assert back.status_code == 200 and "gold" in back.content.decode() and "<textarea" in back.content.decode()
    assert Policy.objects.filter(vm=cast.a_db).count() == 1
    save = {"tab": "json", "act": "save", "document": html.unescape(hidden[1])}
    assert client.post("/tenant/vm/a-db/?tab=json", save).status_code == 302
    assert client.get("/api/vms/a-db/policy").json() == after


def test_every_difference_of_two_documents_is_a_row_and_equal_ones_have_none() -> None:
    one = wishes(CAREFUL, vm="a-db", tenant="alpha")
    assert changes(one, {**one, "version": 7}) == []
    for name in one:
        if name not in ("version", "switches"):
            assert len(changes(one, {**one, name: "x"})) == 1, name
    for switch, wish in one["switches"].items():
        others = {name: row for name, row in one["switches"].items() if name != switch}
        (row,) = changes(one, {**one, "switches": others})
        assert row.setting == SWITCHES[switch].label and row.then == "does not matter"
        (row,) = changes(one, {**one, "switches": {**others, switch: {**wish, "weight": wish["weight"] + 1}}})
        assert row.now != row.then
