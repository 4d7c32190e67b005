"""Rejecting and countering in the room: what is excluded, what is suggested, and what follows from it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.conftest import again
from tests.web.neighbours import TENANTS, Street, make_street, put_in_force
from tests.web.screen import Story, text_of
from webapp.agreements import replies, selectors, services, steps
from webapp.agreements.models import Agreement, Message, Negotiation
from webapp.audit.models import Entry
from webapp.audit.selectors import lines_of
from webapp.audit.services import verify
from webapp.errors import BadInput, VpmsError
from webapp.typed import opened
from webapp.vpms import protocol
from webapp.vpms.negotiation import within_bounds

pytestmark = pytest.mark.django_db
State = Negotiation.State


@pytest.fixture
def street(db: None) -> Street:
    return again("street", make_street)


@pytest.fixture
def open_one(street: Street) -> Negotiation:
    """All five are asked: e-new wants to start beside four whose wishes have changed."""
    negotiation = street.start("e-new")
    assert (negotiation.state, negotiation.round) == (State.PROPOSED, 1)
    return negotiation


def say(street: Street, negotiation: Negotiation, vm: str, answer: str, **form: str) -> dict[str, str]:
    """The fields of the form as the browser sends them."""
    return {"vm": vm, "round": str(negotiation.round), "version": str(negotiation.version), "answer": answer, **form}


def post(client: Any, street: Street, negotiation: Negotiation, vm: str, answer: str, **form: str) -> Any:
    client.force_login(street.people[vm])
    data = say(street, negotiation, vm, answer, **{key.replace("__", "-"): value for key, value in form.items()})
    return client.post(f"/tenant/negotiation/{negotiation.pk}/answer/", data)


def advance(negotiation: Negotiation) -> Negotiation:
    return services.negotiation_advance(negotiation_id=negotiation.pk)


def room(street: Street, negotiation: Negotiation, vm: str) -> Any:
    return selectors.room_of(user=street.people[vm], negotiation=negotiation, vm=vm)


def read(client: Any, street: Street, url: str, vm: str) -> Any:
    client.force_login(street.people[vm])
    return client.get(f"{url}?vm={vm}")


COUNTER = {"reason": "veto:nested_virt", "suggest__nested_virt": "off"}


def test_five_tenants_need_two_rounds_and_all_accept_the_counter(street: Street, open_one: Negotiation, client) -> None:
    story, url = Story("five-tenants-two-rounds"), f"/tenant/negotiation/{open_one.pk}/"
    before = selectors.values_in_force(host=street.host)
    story.screen(
        "The first proposal, as the tenant of a-bank reads it, who accepts", read(client, street, url, "a-bank")
    )
    post(client, street, open_one, "a-bank", "accept")
    story.screen("The same, as the newcomer e-new reads it, who counters", read(client, street, url, "e-new"))
    assert post(client, street, open_one, "e-new", "counter", **COUNTER).status_code == 302
    second = advance(open_one)
    story.screen("The second proposal, as d-game reads it", read(client, street, url, "d-game"))
    assert (second.state, second.round) == (State.PROPOSED, 2)
    shown = room(street, second, "d-game")
    assert shown.chip == "Countered" and shown.count == "Proposal 2 of at most 5" and shown.is_suggestion
    assert shown.proposal["nested_virt"] == "off"
    assert "A party suggested this in its counter" in shown.why[0]
    assert selectors.values_in_force(host=street.host) == before  # nothing changes for anybody before all agree
    for vm in TENANTS:
        post(client, street, second, vm, "accept")
    signed = advance(second)
    agreement = put_in_force(signed)
    assert agreement.negotiation.round == 2 and len(selectors.predicate_of(agreement)["parties"]) == 6
    assert selectors.values_in_force(host=street.host)["e-new"]["nested_virt"] == "off"
    number = room(street, signed, "e-new").pseudonym
    page = story.screen("All have accepted, as b-shop reads it", read(client, street, url, "b-shop"))
    assert f"{number} countered proposal 1." in page and "Proposal 2 is on the table." in page
    assert verify()["valid"]
    told = story.log(lines_of(user=street.operator))
    assert "The log holds together" in told and "countered" in told


def test_the_silent_are_reminded_half_way_and_once_for_each_proposal(
    street: Street, open_one: Negotiation, client
) -> None:
    post(client, street, open_one, "a-bank", "accept")
    row = advance(open_one)
    assert row.due_at and row.deadline_at and row.due_at < row.deadline_at
    assert not Entry.objects.filter(type="negotiation.reminder").exists()
    made = row.protocol["proposals"][-1]["at"]
    row.protocol["proposals"][-1]["at"] = f"{int(made[:4]) - 1}{made[4:]}"
    row.save(update_fields=["protocol"])
    for _ in range(2):
        row = advance(open_one)
    assert (row.reminded, row.due_at, row.state) == (1, row.deadline_at, State.PROPOSED)
    data = json.loads(Entry.objects.get(type="negotiation.reminder").line)["data"]
    assert len(data["to"].split(", ")) == 4 and room(street, row, "a-bank").pseudonym not in data["to"]
    page = text_of(read(client, street, f"/tenant/negotiation/{row.pk}/", "e-new"))
    assert f"Reminder: proposal 1 waits for an answer from {data['to']}." in page
    assert re.search("waiting for an answer for [0-9]+ days; a reminder was sent", page)


def test_a_yes_to_the_first_proposal_never_covers_the_second(street: Street, open_one: Negotiation, client) -> None:
    for vm in ("a-bank", "b-shop", "c-lab", "d-game"):
        post(client, street, open_one, vm, "accept")
    post(client, street, open_one, "e-new", "reject", reason="veto:nested_virt")
    second = advance(open_one)
    assert second.round == 2 and second.protocol["answers"] == {}
    assert "You accepted" not in text_of(client.get(f"/tenant/negotiation/{open_one.pk}/"))


def test_an_approval_names_the_person_and_the_proposal(street: Street, open_one: Negotiation, client) -> None:
    post(client, street, open_one, "a-bank", "accept")
    page = text_of(client.get(f"/tenant/negotiation/{open_one.pk}/"))
    assert "You accepted: anna said so for a-bank to proposal 1" in page
    assert advance(open_one).protocol["answers"]["a-bank"]["by"] == street.people["a-bank"].alias
    entry = Entry.objects.get(type="negotiation.answer")
    assert entry.actor == street.people["a-bank"].alias and json.loads(entry.line)["data"]["round"] == 1


def test_a_minimum_leads_to_a_proposal_that_keeps_it_or_to_none(street: Street, open_one: Negotiation, client) -> None:
    kept = room(street, open_one, "e-new").points
    wanted = kept // 1000 + 20
    answer = post(client, street, open_one, "e-new", "reject", reason="minimum", minimum=f"{wanted / 10:g}")
    assert answer.status_code == 302
    again = advance(open_one)
    assert again.state == State.NO_AGREEMENT or room(street, again, "e-new").points >= 1000 * wanted


def test_what_is_said_before_the_button_is_what_follows(street: Street, open_one: Negotiation, client) -> None:
    client.force_login(street.people["d-game"])
    page = text_of(client.get(f"/tenant/negotiation/{open_one.pk}/"))
    for words in (
        "Proposal 1 of at most 5",
        "Your yes counts for proposal 1 only and is recorded with your name, dora",
        "put to everybody as proposal 2",
        "cannot be taken back in it",
        "There will be no further proposal",
    ):
        assert words in page, words
    post(client, street, open_one, "d-game", "reject", reason="final")
    ended = advance(open_one)
    assert ended.state == State.NO_AGREEMENT and ended.round == 1


def test_a_counter_is_shown_before_it_is_sent_and_the_look_stores_nothing(
    street: Street, open_one: Negotiation, client
) -> None:
    answer = post(client, street, open_one, "e-new", "preview", **COUNTER)
    page = text_of(answer)
    assert (
        answer.status_code == 200 and "Your counter, not sent yet." in page and "VMs inside VMs: No instead of" in page
    )
    kept = replies.kept_points({"host/nested_virt": "off"}, open_one.protocol, "e-new", "2026-01-01")
    assert f"It keeps {kept // 1000 / 10:.1f} % of your wishes" in page
    assert not Message.objects.exists() and advance(open_one).round == 1


BAD_COUNTERS: tuple[tuple[dict[str, str], str], ...] = (
    ({"suggest__pmu": "off"}, "The reason is missing"),
    ({"reason": "veto:swap", "suggest__pmu": "off"}, "names no contested setting"),
    ({"reason": "minimum", "suggest__pmu": "off"}, "The minimum must lie between"),
    ({"reason": "minimum", "minimum": "1", "suggest__pmu": "off"}, "this proposal keeps"),
    ({"reason": "minimum", "minimum": "seven", "suggest__pmu": "off"}, "must lie between"),
    ({"reason": "minimum", "minimum": "100", "suggest__pmu": "off"}, "your minimum is 100.0 %"),
    ({"reason": "veto:pmu"}, "Your suggestion changes nothing"),
    ({"reason": "veto:pmu", "suggest__pmu": "on"}, "changes nothing"),
    ({"reason": "veto:pmu", "suggest__nested_virt": "off"}, "is as proposed, and that is what you reject"),
    ({"reason": "veto:pmu", "suggest__swap": "never"}, "is not contested here"),
    ({"reason": "veto:pmu", "suggest__pmu": "warp"}, "is not a value of"),
    ({"reason": "final", "suggest__pmu": "off"}, "nothing can be suggested"),
)


@pytest.mark.parametrize("button", ["counter", "preview"])
def test_a_bad_counter_is_refused_with_field_and_reason_and_kept_as_typed(
    street: Street, open_one: Negotiation, client, button: str
) -> None:
    for form, words in BAD_COUNTERS:
        answer = post(client, street, open_one, "e-new", button, **form)
        page = answer.content.decode()
        assert answer.status_code == 422 and words in page, (form, text_of(answer))
        assert "Your answer was not counted" in page and "What you typed is still here" in page
        if form.get("reason") == "veto:pmu":
            assert 'value="veto:pmu" checked' in page
    assert not Message.objects.exists()


def test_the_api_refuses_a_bad_counter_with_the_same_path_and_words(
    street: Street, open_one: Negotiation, client
) -> None:
    client.force_login(street.people["e-new"])
    given = {"vm": "e-new", "round": 1, "version": open_one.version, "accept": False, "reason": "veto:pmu"}
    for suggestion, path in (
        ({"swap": "never"}, "$.suggestion.swap"),
        ({}, "$.suggestion"),
        ({"pmu": "on"}, "$.suggestion"),
    ):
        data = {**given, "suggestion": suggestion}
        refused = client.post(f"/api/negotiations/{open_one.pk}/answer", data, content_type="application/json")
        assert refused.status_code == 422 and refused.json()["faults"][0]["path"] == path
    data = {**given, "suggestion": {"pmu": "off"}}
    told = client.post(f"/api/negotiations/{open_one.pk}/answer", data, content_type="application/json").json()
    assert told["my_answer"].startswith("You countered")
    assert advance(open_one).protocol["result"]["assignment"]["host"]["pmu"] == "off"


def test_a_counter_that_somebody_could_not_live_with_leads_to_another_search(
    street: Street, open_one: Negotiation, client
) -> None:
    """What d-game would lose is below its minimum, so the suggestion is not proposed; nobody is told what it was."""
    post(client, street, open_one, "e-new", "counter", **COUNTER, suggest__pmu="off")
    again = advance(open_one)
    assert (again.state, again.round) == (State.PROPOSED, 2)
    shown = room(street, again, "d-game")
    assert shown.chip == "Countered" and not shown.is_suggestion
    assert shown.proposal["nested_virt"] == "off" and shown.proposal["pmu"] == "on"  # the veto holds, the wish does not


def test_no_more_than_five_proposals_are_made_and_the_last_cannot_be_countered(street: Street, client) -> None:
    open_one = street.start("e-new")
    negotiation = open_one
    for _ in range(10):
        if negotiation.state != State.PROPOSED:
            break
        if negotiation.round == 5:
            page = text_of(client.get(f"/tenant/negotiation/{open_one.pk}/?vm=e-new"))
            assert "This is the last proposal: a no ends the negotiation" in page and "suggest instead" not in page
            form = {"reason": f"veto:{room(street, negotiation, 'e-new').rows[0]['issue']}", "suggest__pmu": "off"}
            assert post(client, street, negotiation, "e-new", "counter", **form).status_code == 409
        points = room(street, negotiation, "e-new").points
        post(
            client, street, negotiation, "e-new", "reject", reason="minimum", minimum=f"{points // 1000 / 10 + 0.1:.1f}"
        )
        negotiation = advance(negotiation)
    assert negotiation.state == State.NO_AGREEMENT and negotiation.round <= 5
    assert Agreement.objects.filter(in_force=True).get().version == 4


def test_the_reasons_are_read_again_by_their_author_only(street: Street, open_one: Negotiation, client) -> None:
    post(client, street, open_one, "e-new", "counter", **COUNTER)
    advance(open_one)
    own = text_of(client.get(f"/tenant/negotiation/{open_one.pk}/"))
    assert "emil rejected it, because “VMs inside VMs: Yes” cannot be accepted; suggested instead" in own
    for vm in ("a-bank", "d-game"):
        client.force_login(street.people[vm])
        page = text_of(client.get(f"/tenant/negotiation/{open_one.pk}/"))
        assert "emil" not in page and "cannot be accepted; suggested" not in page
    client.force_login(street.operator)
    log = b"".join(client.get("/operator/audit/lines/").streaming_content).decode()
    entry = next(line for line in log.splitlines() if '"negotiation.answer"' in line)
    assert json.loads(entry)["data"] == {
        "vm": "e-new",
        "answer": "countered",
        "round": 1,
        "reason": "veto",
        "settings": ["nested_virt"],
    }


def test_two_answers_to_one_proposal_are_taken_in_the_order_in_which_they_came(
    street: Street, open_one: Negotiation, client
) -> None:
    """b-shop's no came second, so it is an answer to what stands no more; b-shop is asked again."""
    post(client, street, open_one, "e-new", "counter", **COUNTER)
    post(client, street, open_one, "b-shop", "reject", reason="final")
    again = advance(open_one)
    assert (again.state, again.round) == (State.PROPOSED, 2)
    assert room(street, again, "b-shop").can_answer


@pytest.mark.parametrize(
    ("typed", "points"), [("62.5", "625"), ("62,5", "625"), (" 7 ", "70"), ("100", "1000"), ("80 %", "800")]
)
def test_a_percentage_is_read_as_people_write_it(typed: str, points: str) -> None:
    assert replies.per_mille(typed) == points


@pytest.mark.parametrize("typed", ["", "-1", "1e2", "6.25", "٦٢", "9" * 400, "12.", ".5", "NaN"])
def test_what_is_no_percentage_is_never_a_minimum(typed: str) -> None:
    with pytest.raises(BadInput):
        replies.floor_of(replies.per_mille(typed), 612_345)


def test_a_counter_to_what_stands_no_more_is_told_the_difference(street: Street) -> None:
    negotiation = street.start("e-new")
    with pytest.raises(VpmsError) as refused:
        services.counter_preview(
            by=street.people["e-new"],
            negotiation=negotiation,
            vm=street.vms["e-new"],
            round=7,
            version=negotiation.version,
            reason="veto:pmu",
            suggestion={"pmu": "off"},
        )
    assert refused.value.code == "outdated"
    with pytest.raises(VpmsError) as refused:
        services.counter_preview(
            by=street.people["a-bank"],
            negotiation=negotiation,
            vm=street.vms["e-new"],
            round=1,
            version=negotiation.version,
            reason="veto:pmu",
            suggestion={"pmu": "off"},
        )
    assert refused.value.http_status == 404


def bind(client: Any, street: Street, negotiation: Negotiation, vm: str, percent: str, act: str = "set") -> Any:
    client.force_login(street.people[vm])
    data = {"vm": vm, "round": negotiation.round, "version": negotiation.version, "percent": percent, "act": act}
    return client.post(f"/tenant/negotiation/{negotiation.pk}/auto/", data, follow=True)


def test_what_keeps_the_bounds_is_accepted_by_itself_and_everybody_reads_only_that(
    street: Street, open_one: Negotiation, client
) -> None:
    kept = room(street, open_one, "d-game").points // 1000
    page = text_of(bind(client, street, open_one, "d-game", f"{kept / 10:g}"))
    assert "so it is accepted for d-game" in page and "You accepted (by its delegate)" in page
    after = Negotiation.objects.get(pk=open_one.pk)
    number = room(street, after, "d-game").pseudonym
    others = text_of(read(client, street, f"/tenant/negotiation/{open_one.pk}/", "a-bank"))
    assert f"{number} accepted proposal 1." in others and "automatic acceptance" not in others
    told = "".join(lines_of(user=street.operator))
    assert "negotiation.bound" in told and "floor" not in told


def test_what_keeps_less_than_the_bounds_is_asked_and_never_rejected(
    street: Street, open_one: Negotiation, client
) -> None:
    kept = room(street, open_one, "e-new").points // 1000
    assert "You are asked about what keeps less" in text_of(
        bind(client, street, open_one, "e-new", f"{(kept + 1) / 10:g}")
    )
    row = advance(open_one)
    assert (row.state, row.round) == (State.PROPOSED, 1) and "e-new" not in row.protocol["answers"]
    post(client, street, row, "d-game", "reject", reason="veto:nested_virt")
    second = advance(row)
    better = room(street, second, "e-new").points >= 1000 * (kept + 1)
    assert second.round == 2 and ("e-new" in second.protocol["answers"]) == better


def test_bounds_hold_for_the_next_proposal_until_they_are_taken_back(
    street: Street, open_one: Negotiation, client
) -> None:
    bind(client, street, open_one, "e-new", "100")
    row = Negotiation.objects.get(pk=open_one.pk)
    row.protocol["bounds"]["e-new"]["floor"] = 0  # as if it had been too much for this proposal alone
    row.save(update_fields=["protocol"])
    bind(client, street, row, "c-lab", "100")
    page = text_of(bind(client, street, Negotiation.objects.get(pk=row.pk), "c-lab", "", "revoke"))
    assert "You are asked again about every proposal for c-lab." in page
    row = Negotiation.objects.get(pk=row.pk)
    post(client, street, row, "d-game", "reject", reason="veto:nested_virt")
    second = advance(row)
    assert second.round == 2 and second.protocol["answers"]["e-new"] | {"at": ""} == {
        "answer": "accept",
        "by": "delegate",
        "at": "",
        "bound": True,
    }
    assert "c-lab" not in second.protocol["answers"] and "c-lab" not in second.protocol["bounds"]
    entries = [json.loads(entry.line)["data"]["act"] for entry in Entry.objects.filter(type="negotiation.bound")]
    assert entries[0] == "set" and entries[-1] == "used" and entries.count("revoked") == 1


def test_bounds_never_give_up_a_must_nor_what_a_person_must_approve(street: Street, open_one: Negotiation) -> None:
    state = open_one.protocol
    assignment = state["result"]["assignment"]
    now = steps.now_text()
    assert within_bounds(protocol.situation_of(state, now), "e-new", assignment, 0)
    switch = next(iter(state["policies"]["e-new"]["switches"]))
    value = replies.view_of(assignment, "e-new")[switch]
    vetoed = {**state, "rejections": {"e-new": {"vetoes": {switch: [value]}, "floor": 0}}}
    assert not within_bounds(protocol.situation_of(vetoed, now), "e-new", assignment, 0)
    for wish in state["policies"]["e-new"]["switches"].values():
        wish["approval"] = "human"
    assert not within_bounds(protocol.situation_of(state, now), "e-new", assignment, 0)


@pytest.mark.parametrize("typed", ["", "101", "-1", "85.55", "many"])
def test_what_is_no_percentage_sets_no_bounds_and_stays_typed(
    street: Street, open_one: Negotiation, client, typed: str
) -> None:
    answer = bind(client, street, open_one, "d-game", typed)
    assert answer.status_code == 422 and "must lie between 0 % and 100 %" in text_of(answer)
    assert f'value="{typed or 85}"' in answer.content.decode()
    assert not Negotiation.objects.get(pk=open_one.pk).protocol["bounds"]


def test_bounds_for_what_stands_no_more_or_of_a_foreign_vm_are_refused(
    street: Street, open_one: Negotiation, client
) -> None:
    post(client, street, open_one, "e-new", "counter", **COUNTER)
    advance(open_one)
    answer = bind(client, street, open_one, "d-game", "10")
    assert answer.status_code == 409 and "number 2" in text_of(answer)
    client.force_login(street.people["a-bank"])
    data = {"vm": "d-game", "round": 2, "version": 99, "percent": "10", "act": "set"}
    assert client.post(f"/tenant/negotiation/{open_one.pk}/auto/", data).status_code == 404


def test_the_same_bounds_by_api(street: Street, open_one: Negotiation, client) -> None:
    client.force_login(street.people["d-game"])
    url = f"/api/negotiations/{open_one.pk}/auto-accept"
    given = {"vm": "d-game", "round": 1, "version": open_one.version, "floor": 1000}
    found = client.put(url, given, content_type="application/json").json()
    assert found["auto_accept"] == 1000 and found["options"][0]["suggestion"] == {}
    found = client.put(url, {**given, "floor": None}, content_type="application/json").json()
    assert found["auto_accept"] is None


def test_options_are_weighed_by_own_wishes_and_by_what_was_disclosed(
    street: Street, open_one: Negotiation, client
) -> None:
    shown = room(street, open_one, "e-new").options
    assert 2 <= len(shown) <= 6 and shown[0]["changes"] == []
    kept = [row["percent"] for row in shown[1:]]
    assert kept == sorted(kept, reverse=True)
    assert {part["who"] for part in shown[0]["others"]} <= {seat.pseudonym for seat in open_one.seats.all()}
    client.force_login(street.people["e-new"])
    page = client.get(f"/tenant/negotiation/{open_one.pk}/?vm=e-new&{shown[1]['query']}").content.decode()
    switch, value = next(iter(shown[1]["suggestion"].items()))
    assert re.search(f'<option value="{value}" selected', page.partition(f'id="suggest-{switch}"')[2])
    for one in shown:
        for other in shown:
            met = [[part["met"] for part in row["others"]] for row in (one, other)]
            assert one is other or one["percent"] < other["percent"] or met[0] != met[1] or one["kept"] == other["kept"]


def test_an_answer_typed_before_the_sign_in_ended_is_filled_in_again_and_not_sent(
    street: Street, open_one: Negotiation, client
) -> None:
    url = f"/tenant/negotiation/{open_one.pk}/"
    fields = say(street, open_one, "e-new", "reject", reason="minimum", minimum="99.5")
    kept = client.post(f"{url}answer/", fields, HTTP_REFERER=f"http://testserver{url}?vm=e-new")
    assert kept.status_code == 401
    sealed = re.search('name="typed" value="([^"]+)"', kept.content.decode())
    assert sealed is not None
    client.force_login(street.people["e-new"])
    session = client.session
    session["typed"] = opened(sealed[1])
    session.save()
    page = client.get(url, {"vm": "e-new"}).content.decode()
    assert "filled in again. Nothing of it was sent." in page and 'value="99.5"' in page
    assert re.search('value="minimum" checked', page) and not Message.objects.exists()
    assert "filled in again" not in client.get(url).content.decode()
