"""The operator's pages of a host, as forms send them, and who is kept out."""

from __future__ import annotations

import datetime as dt
import json
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import HOST, Cast, wishes
from tests.web.test_hosts import in_force, running, start
from webapp.agreements import maintenance, services
from webapp.agreements.models import Consent, Maintenance, Negotiation
from webapp.errors import VpmsError
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.notices.models import Event
from webapp.tenants.models import VirtualMachine

pytestmark = pytest.mark.django_db
__all__ = ["running"]


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


class Fields(HTMLParser):
    """What the form with this id would send as it stands."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside, self.area, self.sent = False, "", dict[str, list[str]]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self.inside = given.get("id") == "wishes"
        if not self.inside:
            return
        if tag == "textarea":
            self.area = given["name"] or ""
        kind = given.get("type") or "text"
        if (
            tag == "input"
            and "name" in given
            and kind != "file"
            and (kind not in ("checkbox", "radio") or "checked" in given)
        ):
            self.sent.setdefault(given["name"] or "", []).append(given.get("value") or "")

    def handle_data(self, data: str) -> None:
        if self.area:
            self.sent[self.area] = [self.sent.get(self.area, [""])[0] + data]

    def handle_endtag(self, tag: str) -> None:
        self.area = "" if tag == "textarea" else self.area
        self.inside = self.inside and tag != "form"


def form(client: Client, path: str, **changed: Any) -> dict[str, Any]:
    return {**Fields(client.get(path).content.decode()).sent, **changed}


def test_the_form_sent_as_it_stands_says_the_stored_document(cast: Cast) -> None:
    client = client_of(cast.olga)
    page = client.post("/operator/host/h1/document/", form(client, "/operator/host/h1/document/"))
    assert page.context["changes"] == [] and json.loads(page.context["text"]) == HOST


def test_the_form_shows_what_would_change_and_then_saves_it(cast: Cast) -> None:
    client, path = client_of(cast.olga), "/operator/host/h1/document/"
    typed = {"memory_mib": "128", "offers-smt": ["off", "core_scheduling"], "actions": ["snapshot"]}
    typed |= {"q7": "protection", "q7-strength": "prefer", "utility": "400", "price-relocate": ""}
    page = client.post(path, form(client, path, **typed))
    told = {row.setting: (row.now, row.then) for row in page.context["changes"]}
    assert told["Memory in MiB"] == ("64", "128") and told["Price of moving a VM here"] == ("5", "not said")
    assert told["Acts that are planned"] == ("Take memory back", "Store the state of VMs")
    assert Host.objects.get(name="h1").version == 1, "a preview saves nothing"
    saved = client.post(
        path, {"seen": "1", "tab": "json", "form": "1", "act": "save", "document": page.context["text"]}
    )
    assert saved.status_code == 302
    after = document_of(Host.objects.get(name="h1"))
    assert after["capacity"]["memory_mib"] == 128 and after["operator"]["offers"] == {"smt": ["off", "core_scheduling"]}
    assert after["operator"]["preferences"]["utility"] == 400
    assert set(after["operator"]["preferences"]["switches"]) == {"mitigations"}, "only what is one for the whole host"
    again = client.get(path)
    assert [row["strengths"][1][2] for row in again.context["form"]["rows"] if row["name"] == "q7"] == [True]


def test_yaml_and_json_are_the_same_document_and_faults_name_the_line(cast: Cast) -> None:
    client = client_of(cast.olga)
    text = client.get("/operator/host/h1/document/?tab=yaml").context["text"]
    sent = {"seen": "1", "tab": "yaml", "document": text.replace("zone: z1", "zone: Z 1")}
    page = client.post("/operator/host/h1/document/", sent)
    assert page.status_code == 422
    [fault] = page.context["faults"]
    assert (fault["path"], fault["line"]) == ("$.zone", 1 + text.splitlines().index("zone: z1"))
    page = client.post("/operator/host/h1/document/", {**sent, "document": text})
    assert page.context["changes"] == []
    for kind in ("json", "yaml"):
        assert client.get(f"/operator/host/h1/document.{kind}?version=1").status_code == 200


def test_a_page_that_somebody_else_was_faster_on_shows_both_sides(cast: Cast) -> None:
    client, path = client_of(cast.olga), "/operator/host/h1/document/"
    for zone in ("z2", "z3"):
        text = json.dumps({**HOST, "zone": zone})
        answer = client.post(path, {"seen": "1", "tab": "json", "act": "save", "document": text})
    assert answer.status_code == 412 and "was saved while you were writing" in answer.content.decode()
    assert client.post("/operator/host/h1/document/revert/", {"seen": "2", "version": "1"}).status_code == 302
    assert document_of(Host.objects.get(name="h1", version=3))["zone"] == "z1"


def test_the_page_lists_the_agreements_that_stand_against_a_document(running: Cast) -> None:
    client, value = client_of(running.olga), in_force(running, "mitigations")
    left = [name for name in ("full", "default", "off") if name != value]
    text = json.dumps({**HOST, "operator": {**HOST["operator"], "offers": {"mitigations": left}}})
    for act in ("look", "save"):
        page = client.post("/operator/host/h1/document/", {"seen": "1", "tab": "json", "act": act, "document": text})
        told = page.content.decode()
        assert "Agreement h1 version 1" in told and "Agreed with: a-db" in told
    assert page.status_code == 409
    assert "See what would change" in told, "what was typed is still there"


def test_a_host_is_added_and_retired_by_pages(cast: Cast) -> None:
    client = client_of(cast.olga)
    typed = form(client, "/operator/hosts/new/", host="spare.host", zone="z1")
    assert client.post("/operator/hosts/new/", {**typed, "host": "h1"}).status_code == 422
    assert client.post("/operator/hosts/new/", typed).status_code == 302
    tenant = client_of(cast.alice)
    assert "spare.host" in tenant.get("/tenant/vm/new/").content.decode()
    assert client.post("/operator/host/spare.host/retire/").status_code == 302
    assert "spare.host" not in tenant.get("/tenant/vm/new/").content.decode()
    link = 'href="/operator/host/spare.host/"'
    assert link not in client.get("/operator/").content.decode()
    assert link in client.get("/operator/?show=retired").content.decode()
    assert client.get("/operator/host/spare.host/document/").status_code == 200, "its history stays"
    assert client.post("/operator/host/h1/retire/").status_code == 409


def test_a_change_of_the_platform_is_looked_at_and_then_reported(running: Cast) -> None:
    client, value = client_of(running.olga), in_force(running, "mitigations")
    sent = {"reason": "New firmware", "attested": "", "lost": [f"mitigations/{value}"]}
    page = client.post("/operator/host/h1/platform/", {**sent, "act": "look"})
    assert "Agreed with: a-db" in page.content.decode() and Host.objects.get(name="h1").version == 1
    assert client.post("/operator/host/h1/platform/", {**sent, "act": "report"}).status_code == 302
    assert Event.objects.filter(code="platform.lost", tenant="alpha").exists()
    assert "is no longer possible" in client_of(running.alice).get("/tenant/conflicts/").content.decode()


def test_capacity_tells_what_is_promised_and_where_room_is(running: Cast) -> None:
    client = client_of(running.olga)
    room = client.get("/operator/host/h1/capacity/").context["room"]
    assert (room.promised_mib, room.running, [guest.vm.name for guest in room.guests]) == (8, 1, ["a-db", "b-web"])
    [locked] = [row for row in room.rows if row["name"] == "locked_mib"]
    assert locked["promised"] == (8 if in_force(running, "swap") == "never" else 0)
    free = room.free_mib
    assert [each.host.name for each in client.get(f"/operator/capacity/?mib={free}").context["places"]] == ["h1"]
    assert client.get(f"/operator/capacity/?mib={free + 1}").context["places"] == []
    assert client.get("/operator/capacity/?mib=much").status_code == 422


# -- maintenance


def planned(cast: Cast, *, hours: int = 0) -> Maintenance:
    start = timezone.now().replace(second=0, microsecond=0) + dt.timedelta(hours=hours)
    end = start + dt.timedelta(minutes=30)
    return maintenance.plan(by=cast.olga, host=cast.h1, start=start, end=end, reason="A new fan")


def test_maintenance_begins_only_when_everybody_who_is_there_has_agreed(running: Cast) -> None:
    row = planned(running)
    [consent] = Consent.objects.all()
    assert consent.vm.name == "a-db" and consent.state == "asked"
    assert Event.objects.filter(code="maintenance.asked", tenant="alpha").exists()
    with pytest.raises(VpmsError) as refused:
        maintenance.begin(by=running.olga, maintenance=row)
    assert (refused.value.code, refused.value.data["vms"]) == ("consent_missing", ["a-db"])
    tenant = client_of(running.alice)
    assert "asks for your answer" in tenant.get("/tenant/").content.decode()
    for answer in ("refuse", "agree"):
        tenant.post(f"/tenant/maintenance/{consent.pk}/answer/", {"answer": answer})
    operator = client_of(running.olga)
    operator.post(f"/operator/maintenance/{row.pk}/act/", {"act": "begin"})
    row.refresh_from_db()
    assert row.state == "begun"
    with pytest.raises(VpmsError, match="under maintenance until .* UTC: A new fan") as refused:
        services.start_request(by=running.bob, vm=running.b_web)
    assert refused.value.code == "in_maintenance" and "until" in refused.value.data
    assert VirtualMachine.objects.get(name="a-db").state == "running", "nothing is stopped by it"
    operator.post(f"/operator/maintenance/{row.pk}/act/", {"act": "end"})
    assert services.start_request(by=running.bob, vm=running.b_web).state != Negotiation.State.NO_AGREEMENT


def test_a_start_that_is_being_negotiated_is_put_off_by_it(running: Cast) -> None:
    row = planned(running)
    negotiation = start(running.b_web, running.bob)
    assert Consent.objects.filter(vm=running.b_web, state="asked").exists(), "who wants to come is asked too"
    maintenance.answer(by=running.alice, consent=Consent.objects.get(vm=running.a_db), agrees=True)
    maintenance.begin(by=running.olga, maintenance=row)
    negotiation.refresh_from_db()
    assert negotiation.state == "NO_AGREEMENT" and "under maintenance until" in negotiation.reason


def test_agreed_maintenance_times_that_cover_it_are_the_yes_and_others_are_not(cast: Cast) -> None:
    from tests.conftest import CAREFUL
    from tests.web.neighbours import put_in_force
    from webapp.tenants.services import policy_save

    document = wishes(CAREFUL, vm="a-db", tenant="alpha", version=2, maintenance=[[0, 10080]])
    policy_save(by=cast.alice, vm=cast.a_db, document=document)
    put_in_force(start(cast.a_db, cast.alice))
    policy_save(by=cast.alice, vm=cast.a_db, document={**document, "version": 3, "maintenance": []})
    planned(cast)
    consent = Consent.objects.get()
    assert consent.state == "agreed" and consent.auto, "what was agreed on counts, not what is wished since"
    maintenance.answer(by=cast.alice, consent=consent, agrees=False)
    consent.refresh_from_db()
    assert consent.state == "refused"


@pytest.mark.parametrize(
    ("windows", "covers"),
    [([(60, 120)], True), ([(60, 90), (90, 120)], True), ([(60, 119)], False), ([(61, 120)], False), ([], False)],
)
def test_every_minute_must_lie_in_a_window(windows: list[tuple[int, int]], covers: bool) -> None:
    monday = dt.datetime(2026, 11, 30, 1, 0, tzinfo=dt.UTC)
    assert maintenance.covered(windows, monday, monday + dt.timedelta(hours=1)) == covers


def test_a_window_goes_on_over_the_end_of_the_week() -> None:
    sunday = dt.datetime(2026, 11, 29, 23, 30, tzinfo=dt.UTC)
    assert maintenance.covered([(0, 30), (10050, 10080)], sunday, sunday + dt.timedelta(hours=1))


def test_whoever_does_not_agree_is_offered_a_move_once_and_maintenance_can_be_called_off(running: Cast) -> None:
    row = planned(running, hours=5)
    operator = client_of(running.olga)
    with pytest.raises(VpmsError, match="cannot begin before"):
        maintenance.begin(by=running.olga, maintenance=row)
    maintenance.answer(by=running.alice, consent=Consent.objects.get(), agrees=False)
    for _ in range(2):
        operator.post(f"/operator/maintenance/{row.pk}/act/", {"act": "offer", "vm": "a-db"})
    assert Event.objects.filter(code="maintenance.move").count() == 1
    assert "A move was offered" in operator.get("/operator/host/h1/maintenance/").content.decode()
    operator.post(f"/operator/maintenance/{row.pk}/act/", {"act": "cancel"})
    assert Event.objects.filter(code="maintenance.cancelled", tenant="alpha").exists()


def test_times_that_cannot_be_are_refused_on_the_page(cast: Cast) -> None:
    client = client_of(cast.olga)
    for first, last in (
        ("soon", "2030-01-01T10:00"),
        ("2030-01-01T10:00", "2030-01-01T10:00"),
        ("2020-01-01T10:00", "2030-01-01T10:00"),
    ):
        page = client.post("/operator/host/h1/maintenance/", {"start": first, "end": last, "reason": "x"})
        assert page.status_code == 422 and not Maintenance.objects.exists()


def test_a_question_to_somebody_else_is_missing(running: Cast) -> None:
    planned(running)
    consent = Consent.objects.get()
    assert (
        client_of(running.bob).post(f"/tenant/maintenance/{consent.pk}/answer/", {"answer": "agree"}).status_code == 404
    )
    consent.refresh_from_db()
    assert consent.state == "asked"
    assert "a-db" not in client_of(running.bob).get("/tenant/maintenance/").content.decode()


def test_the_api_saves_under_if_match_and_tells_what_stands_against_it(running: Cast) -> None:
    client = client_of(running.olga)
    tag = client.get("/api/hosts/h1/document")["ETag"]
    edited = {**HOST, "operator": {**HOST["operator"], "prices": {}}}
    sent = {"content_type": "application/json", "headers": {"If-Match": tag}}
    assert client.put("/api/hosts/h1/document", json.dumps(edited), **sent).status_code == 200
    assert client.put("/api/hosts/h1/document", json.dumps(edited), **sent).status_code == 412
    small = {**HOST, "capacity": {**HOST["capacity"], "memory_mib": 4}}
    refused = client.put("/api/hosts/h1/document", json.dumps(small), content_type="application/json")
    assert refused.status_code == 409 and refused.json()["agreements"][0]["broken"][0]["vms"] == ["a-db"]
    checked = client.post("/api/hosts/h1/document/check", json.dumps(small), content_type="application/json").json()
    assert checked["refused"] == "contradicts_agreements"
    assert client_of(running.alice).get("/api/hosts/h1/document").status_code == 404
