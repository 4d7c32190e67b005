"""The API's operations about people, the life of a VM and uploads: what they do, and what they refuse."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from tests.conftest import HOST, Cast
from tests.web.test_api import put, text, with_token
from tests.web.test_portal import LACKEY
from webapp.accounts.entering import CONFIRMED
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.audit.services import verify
from webapp.fleet.services import host_create
from webapp.runs import engine
from webapp.tenants.models import Invitation, Membership, VirtualMachine, Workload
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
JSON = "application/json"
ALPHA = "/api/organisations/alpha"


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()


@pytest.fixture
def owner(cast: Cast) -> Client:
    return with_token(cast.alice, "manage")


def post(client: Client, path: str, body: dict[str, Any]) -> Any:
    return client.post(path, body, content_type=JSON)


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# -- people


def test_an_owner_invites_changes_a_role_and_takes_it_and_each_is_recorded(cast: Cast, owner: Client) -> None:
    sent = post(owner, f"{ALPHA}/invitations", {"email": "dan@vpms.example", "role": "member"})
    assert sent.status_code == 201 and [to for letter in mail.outbox for to in letter.to] in ([], ["dan@vpms.example"])
    assert "token" not in sent.json()  # the link is told to whoever reads that mail, and to nobody else
    assert [row["id"] for row in owner.get(f"{ALPHA}/invitations").json()["items"]] == [sent.json()["id"]]
    assert owner.delete(f"{ALPHA}/invitations/{sent.json()['id']}").status_code == 204
    assert Invitation.objects.get().closed_at is not None and owner.get(f"{ALPHA}/invitations").json()["items"] == []
    dan = User.objects.create(username="dan")
    row = membership_add(by=None, user=dan, role="member", tenant=cast.alpha)
    changed = owner.put(f"{ALPHA}/members/{row.pk}", {"role": "auditor"}, content_type=JSON)
    assert changed.json()["role"] == "auditor" and Membership.objects.get(user=dan).role == "auditor"
    assert owner.delete(f"{ALPHA}/members/{changed.json()['id']}").status_code == 204
    assert not Membership.objects.filter(user=dan).exists() and verify()["valid"]
    types = set(Entry.objects.values_list("type", flat=True))
    assert {"invitation.sent", "invitation.revoked", "role.taken"} <= types


def test_the_last_owner_stays_and_foreign_organisations_are_missing(cast: Cast, owner: Client) -> None:
    own = Membership.objects.get(user=cast.alice)
    assert code_of(owner.delete(f"{ALPHA}/members/{own.pk}")) == (409, "last_one")
    assert owner.put(f"{ALPHA}/members/{own.pk}", {"role": "member"}, content_type=JSON).status_code == 409
    theirs = Membership.objects.get(user=cast.bob)
    for answer in (
        owner.delete(f"{ALPHA}/members/{theirs.pk}"),
        owner.delete(f"/api/organisations/beta/members/{theirs.pk}"),
        post(owner, "/api/organisations/beta/invitations", {"email": "x@vpms.example", "role": "owner"}),
        owner.get("/api/organisations/beta/members"),
    ):
        assert answer.status_code == 404
    assert Membership.objects.filter(pk__in=(own.pk, theirs.pk)).count() == 2 and not Invitation.objects.exists()


def test_operators_register_organisations_and_give_roles_on_the_site_and_owners_do_not(
    cast: Cast, owner: Client
) -> None:
    site = with_token(cast.olga, "manage")
    assert post(site, "/api/site/organisations", {"slug": "gamma", "name": "Gamma Archive"}).status_code == 201
    asked = {"email": "gil@vpms.example", "role": "owner", "organisation": "gamma"}
    assert post(site, "/api/site/invitations", asked).json()["organisation"] == "gamma"
    wrong = post(site, "/api/site/invitations", {**asked, "role": "teacher"})
    assert wrong.status_code == 422 and wrong.json()["faults"][0]["path"] == "$.role"
    assert post(owner, "/api/site/organisations", {"slug": "delta", "name": "D"}).status_code in (403, 404)
    assert owner.get("/api/site/members").status_code == 404
    last = Membership.objects.get(user=cast.olga)
    assert site.delete(f"/api/site/members/{last.pk}").status_code == 409


def test_a_session_changes_who_belongs_where_only_when_it_has_just_proved_whose_it_is(
    cast: Cast, client: Client
) -> None:
    client.force_login(cast.alice)
    body = {"email": "dan@vpms.example", "role": "member"}
    for seconds, wanted in ((None, 403), (601, 403), (10, 201)):
        session = client.session
        session.pop(CONFIRMED, None)
        if seconds is not None:
            session[CONFIRMED] = int(time.time()) - seconds
        session.save()
        answer = post(client, f"{ALPHA}/invitations", body)
        assert answer.status_code == wanted
        assert wanted == 201 or (answer.json()["code"] == "confirm_first" and not Invitation.objects.exists())


def test_an_auditor_reads_by_api_and_every_change_is_refused_in_words(cast: Cast) -> None:
    nora = User.objects.create(username="nora")
    membership_add(by=None, user=nora, role="auditor", tenant=cast.alpha)
    client = with_token(nora, "manage")
    assert client.get("/api/vms/a-db").status_code == 200 and client.get(f"{ALPHA}/members").status_code == 200
    log = Entry.objects.count()
    for answer in (
        post(client, "/api/vms/a-db/start", {}),
        client.delete("/api/vms/a-db"),
        put(client, text()),
        post(client, "/api/vm-acts", {"act": "delete", "vms": ["a-db"]}),
        post(client, "/api/vms/a-db/move", {"host": "h1"}),
        post(client, f"{ALPHA}/invitations", {"email": "x@vpms.example", "role": "owner"}),
        client.put(f"{ALPHA}/second-factor", {"required": True}, content_type=JSON),
        client.post("/api/workloads?title=t", b"x", content_type="application/octet-stream"),
    ):
        assert code_of(answer) == (403, "read_only") and "to read" in answer.json()["message"]
    assert Entry.objects.count() == log and VirtualMachine.objects.filter(deleted_at=None).count() == 2


# -- the life of a VM


def test_a_vm_is_declared_placed_given_a_profile_and_deleted_and_its_name_is_never_given_again(
    cast: Cast, owner: Client
) -> None:
    host_create(by=cast.olga, document={**HOST, "host": "h2"})
    body = {"name": "a-new", "trace": "gzip", "host": "h1", "profile": "balanced"}
    assert post(owner, "/api/vms", body).status_code == 201
    places = {row["host"]: row for row in owner.get("/api/vms/a-new/places").json()["items"]}
    assert places["h1"]["here"] and places["h2"]["at_once"] and not places["h2"]["busy"]
    moved = post(owner, "/api/vms/a-new/move", {"host": "h2"}).json()
    assert moved == {"vm": "a-new", "host": "h2", "negotiation": None}
    assert code_of(post(owner, "/api/vms/a-new/move", {"host": "h2"})) == (409, "same_host")
    assert post(owner, "/api/vms/a-new/profile", {"profile": "balanced"}).json()["saved"] is False
    assert post(owner, "/api/vms/a-new/profile", {"profile": "confidential"}).json()["version"] == 2
    assert post(owner, "/api/vms/a-new/profile", {"profile": "none"}).status_code == 422
    VirtualMachine.objects.filter(name="a-new").update(state="running")
    assert code_of(owner.delete("/api/vms/a-new")) == (409, "not_stopped")
    VirtualMachine.objects.filter(name="a-new").update(state="stopped")
    assert owner.delete("/api/vms/a-new").status_code == 204
    assert owner.get("/api/vms/a-new").status_code == 404 and owner.delete("/api/vms/a-new").status_code == 404
    assert post(owner, "/api/vms", body).status_code in (409, 422)
    assert owner.delete("/api/vms/b-web").status_code == 404


def test_acts_on_several_vms_answer_for_each_and_a_foreign_one_refuses_them_all(cast: Cast, owner: Client) -> None:
    post(owner, "/api/vms", {"name": "a-two", "trace": "gzip", "host": "h1", "profile": "speed"})
    VirtualMachine.objects.filter(name="a-db").update(state="running")
    both = {"act": "delete", "vms": ["a-db", "a-two", "a-two"]}
    rows = post(owner, "/api/vm-acts", both).json()["results"]
    assert [(row["vm"], row["good"], row["code"]) for row in rows] == [
        ("a-db", False, "not_stopped"),
        ("a-two", True, ""),
    ]
    assert post(owner, "/api/vm-acts", {"act": "stop", "vms": ["a-db", "b-web"]}).status_code == 404
    assert VirtualMachine.objects.get(name="a-db").state == "running"
    assert post(owner, "/api/vm-acts", {"act": "stop", "vms": ["a-db"], "profile": "speed"}).status_code == 422


def test_a_program_is_uploaded_strictly_and_deleted_while_no_vm_ever_had_it(cast: Cast, owner: Client) -> None:
    path, kind = "/api/workloads", "application/octet-stream"
    data = LACKEY
    made = owner.post(f"{path}?title=mine", data, content_type=kind)
    assert made.status_code == 201 and made.json()["organisation"] == "alpha"
    again = owner.post(f"{path}?title=mine", data, content_type=kind)
    assert again.json()["id"] == made.json()["id"] and Workload.objects.count() == 1
    assert owner.post(f"{path}?title=bad", b"no trace", content_type=kind).status_code == 422
    number = made.json()["id"]
    assert with_token(cast.bob).delete(f"{path}/{number}").status_code == 404
    used = {"name": "a-own", "trace": made.json()["name"], "host": "h1", "profile": "speed"}
    assert post(with_token(cast.bob), "/api/vms", {**used, "name": "b-own"}).status_code == 422
    assert post(owner, "/api/vms", used).status_code == 201
    assert owner.delete(f"{path}/{number}").status_code == 409 and Workload.objects.count() == 1


# -- going back to an old version


def test_going_back_over_a_version_that_was_not_seen_is_refused_with_the_difference(cast: Cast, owner: Client) -> None:
    first = owner.get("/api/vms/a-db/policy")["ETag"]
    assert put(owner, text(trustClass="other")).status_code == 200
    path = "/api/vms/a-db/policies/1/restore"
    refused = owner.post(path, content_type=JSON, headers={"If-Match": first})
    assert refused.status_code == 412 and cast.a_db.policies.count() == 2
    told = {"setting": "Trust class", "now": "other", "then": "default"}
    assert refused.json()["changes"] == [told]
    newest = owner.get("/api/vms/a-db/policy")["ETag"]
    assert owner.post(path, content_type=JSON, headers={"If-Match": newest}).json()["version"] == 3
    assert "trustClass" in owner.get("/api/vms/a-db/policies/3").content.decode()
    assert post(owner, "/api/vms/a-db/policies/99/restore", {}).status_code == 404
