"""Agreements and keys taken away: they verify elsewhere, name nobody who is not told, and keys can be replaced."""

from __future__ import annotations

import json

import pytest

from tests.conftest import Cast, again
from tests.web.neighbours import TENANTS, Street, make_street
from tests.web.screen import text_of
from webapp.agreements import papers, services
from webapp.agreements.keys import key_of, seed_of
from webapp.agreements.models import Agreement, Negotiation, SigningKey
from webapp.audit.models import Entry
from webapp.audit.services import verify as verify_chain
from webapp.vpms import agreement as language
from webapp.vpms import cli

pytestmark = pytest.mark.django_db


@pytest.fixture
def street(db: None) -> Street:
    return again("street", make_street)


def newest() -> Agreement:
    return Agreement.objects.latest("pk")


def test_the_operators_copy_verifies_by_the_command_line_with_the_sites_keys(
    street: Street, client, tmp_path, capsys
) -> None:
    client.force_login(street.operator)
    for name, path in (("a.json", f"agreements/{newest().pk}/"), ("keys.json", f"keys/?agreement={newest().pk}")):
        answer = client.get(f"/operator/{path}")
        assert answer.status_code == 200 and "attachment" in answer["Content-Disposition"]
        (tmp_path / name).write_bytes(answer.content)
    assert cli.main(["verify", str(tmp_path / "a.json"), "--keys", str(tmp_path / "keys.json")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["valid"], told["identity"]) == (True, "checked")
    changed = (tmp_path / "a.json").read_text().replace('"sig":"', '"sig":"A', 1)
    (tmp_path / "a.json").write_text(changed)
    assert cli.main(["verify", str(tmp_path / "a.json")]) != 0


def test_a_tenant_gets_its_part_and_nothing_that_names_another(street: Street, client) -> None:
    client.force_login(street.people["b-shop"])
    text = client.get(f"/tenant/agreements/{newest().pk}/").content.decode()
    part = json.loads(text)
    for vm, slug in TENANTS.items():
        if vm != "b-shop":
            assert vm not in text and slug not in text and key_of(street.vms[vm].tenant).public not in text
    assert part["payload_sha256"] == newest().digest and part["whole"] == "ok" and part["others"] == 3
    assert [row["id"] for row in part["parties"]] == ["b-shop", "operator"] and len(part["signatures"]) == 2
    assert set(part["assignment"]["vms"]) == {"b-shop"} and part["assignment"]["host"]
    keys = client.get("/tenant/keys/").json()
    assert set(keys) == {"b-shop", "operator"}


def test_a_tenant_alone_on_its_host_gets_the_whole(cast: Cast, client) -> None:
    services.start_request(by=cast.alice, vm=cast.a_db)
    services.negotiation_advance(negotiation_id=Negotiation.objects.get().pk)
    client.force_login(cast.alice)
    whole = client.get(f"/tenant/agreements/{newest().pk}/").content
    assert language.verify(whole, now="2026-11-28T00:00:00Z")["kind"] == "agreement" and "payload" in json.loads(whole)
    page = text_of(client.get("/tenant/agreements/"))
    assert "Signed agreement" in page and "all checked now" in page and "vpms verify" in page


def test_a_foreign_agreement_is_missing(street: Street, client) -> None:
    alone = Agreement.objects.earliest("pk")  # a-bank's alone
    client.force_login(street.people["d-game"])
    assert client.get(f"/tenant/agreements/{alone.pk}/").status_code == 404
    assert client.get(f"/tenant/keys/?agreement={alone.pk}").status_code == 404
    assert str(alone.digest[:12]) not in client.get("/tenant/agreements/").content.decode()
    assert client.get("/operator/agreements/").status_code == 403


def test_a_replaced_key_signs_no_more_and_what_it_signed_can_still_be_checked(street: Street, client) -> None:
    old, agreement = key_of(street.vms["a-bank"].tenant), newest()
    client.force_login(street.people["a-bank"])
    page = client.post("/tenant/keys/replace/", {"tenant": "alpha"}, follow=True)
    assert "signs with a new key from now on" in text_of(page) and old.public in page.content.decode()
    new = key_of(street.vms["a-bank"].tenant)
    assert new.public != old.public and seed_of(new)
    assert bytes(SigningKey.objects.get(pk=old.pk).sealed_seed) == b""  # the private part is gone
    assert papers.key_file(user=street.operator, agreement=agreement)["a-bank"] == old.public
    assert papers.key_file(user=street.operator)["a-bank"] == new.public
    entry = Entry.objects.get(type="key.replaced")
    assert entry.actor == street.people["a-bank"].alias and old.public not in entry.line and verify_chain()["valid"]


def test_a_key_is_not_replaced_while_it_is_to_sign(street: Street, client) -> None:
    negotiation = street.start("e-new")
    client.force_login(street.people["a-bank"])
    assert client.post("/tenant/keys/replace/", {"tenant": "alpha"}).status_code == 409
    client.force_login(street.operator)
    assert client.post("/operator/keys/replace/").status_code == 409
    services.withdraw(by=street.people["e-new"], negotiation=negotiation)
    assert client.post("/operator/keys/replace/").status_code == 302


def test_nobody_replaces_anothers_key(street: Street, client) -> None:
    client.force_login(street.people["a-bank"])
    assert client.post("/tenant/keys/replace/", {"tenant": "beta"}).status_code == 404
    assert client.post("/operator/keys/replace/").status_code == 403
    assert SigningKey.objects.filter(retired_at__isnull=False).count() == 0


def test_looking_at_keys_makes_none(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    for path in ("/tenant/agreements/", "/tenant/keys/"):
        assert client.get(path).status_code == 200
    assert not SigningKey.objects.exists()


def test_the_page_costs_the_same_number_of_queries_with_more_agreements(
    street: Street, client, django_assert_max_num_queries
) -> None:
    client.force_login(street.people["a-bank"])  # party of all four versions
    with django_assert_max_num_queries(9):
        client.get("/tenant/agreements/")
    with django_assert_max_num_queries(14):
        client.get("/tenant/host/h5/goals/")
    client.force_login(street.people["d-game"])  # of the newest alone
    with django_assert_max_num_queries(9):
        client.get("/tenant/agreements/")
