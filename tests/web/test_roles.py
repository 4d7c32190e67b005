"""What auditors may read and not press, several organisations of one person, and people who come by invitation."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core import mail

from tests.conftest import CAREFUL, Cast, wishes
from tests.web.test_isolation import PUBLIC, filled, our_routes
from webapp.accounts.models import User
from webapp.tenants import people
from webapp.tenants.models import Invitation, Membership
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
PASSWORD = "a long and quiet password"
READING = ("/tenant/audit/", "/operator/audit/")  # to verify the chain changes nothing
OWN = ("/account/", "/home/", "/sign-", "/theme/", "/organisation/", "/password/", "/invitation/")
OWN += ("/language/", "/guide/", "/notices/read/", "/learn/preview/end/")  # the person's own things


@pytest.fixture(autouse=True)
def quick(settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def nora(cast: Cast) -> User:
    """An auditor of alpha."""
    nora = User.objects.create(username="nora")
    membership_add(by=None, user=nora, role="auditor", tenant=cast.alpha)
    return nora


def rows() -> dict[str, int]:
    """How many rows every table of the product has."""
    from django.apps import apps

    ours = [model for model in apps.get_models() if model.__module__.startswith("webapp.")]
    return {model.__name__: model._default_manager.count() for model in ours}


@pytest.mark.parametrize("where", ["tenant", "site"])
def test_an_auditor_changes_nothing_by_any_route_of_pages_and_api(cast: Cast, client, nora: User, where: str) -> None:
    if where == "site":
        Membership.objects.filter(user=nora).delete()
        membership_add(by=None, user=nora, role="auditor")
    from webapp.agreements.services import start_request

    alone = start_request(by=cast.alice, vm=cast.a_db).pk
    client.force_login(nora)
    before = rows()
    for route in our_routes():
        path = filled(route, alone)
        if path.startswith((*OWN, *READING, *PUBLIC[:3])) or "sign-out" in path:
            continue
        for method in ("post", "put", "delete"):
            answer = getattr(client, method)(path, data="{}", content_type="application/json")
            assert answer.status_code >= 400, (method, path, answer.status_code)
    assert rows() == before


def test_an_auditor_is_told_in_a_sentence_why_not(cast: Cast, client, nora: User) -> None:
    client.force_login(nora)
    document = json.dumps(wishes(CAREFUL, vm="a-db", tenant="alpha", version=2))
    by_api = client.put("/api/vms/a-db/policy", document, content_type="application/json")
    assert by_api.status_code == 403 and by_api.json()["code"] == "read_only"
    by_page = client.post("/tenant/vm/a-db/start/")
    assert by_page.status_code == 403 and "Your role here is to read" in by_page.content.decode()


@pytest.mark.parametrize(
    "path", ["/tenant/", "/tenant/vm/a-db/", "/tenant/host/h1/goals/", "/tenant/agreements/", "/tenant/people/"]
)
def test_an_auditors_pages_show_no_button_that_it_may_not_press(cast: Cast, client, nora: User, path: str) -> None:
    def forms(who: User) -> list[str]:
        client.force_login(who)
        page = client.get(path).content.decode()
        main = page[page.index("<main") :]
        found = re.findall(r'<form[^>]*method="post".*?</form>', main, re.S)
        return [form for form in found if "<button" in form and "/guide/" not in form]

    assert forms(nora) == []
    if path != "/tenant/agreements/":
        assert forms(cast.alice) != []


def test_an_auditor_verifies_the_chain(cast: Cast, client, nora: User) -> None:
    client.force_login(nora)
    assert client.post("/tenant/audit/").status_code == 200


def test_a_person_of_two_organisations_acts_for_one_at_a_time(cast: Cast, client) -> None:
    membership_add(by=None, user=cast.alice, role="member", tenant=cast.beta)
    client.force_login(cast.alice)
    assert [vm["name"] for vm in client.get("/api/vms").json()["items"]] == ["a-db"]
    assert client.get("/tenant/vm/b-web/").status_code == 404
    client.post("/organisation/", {"organisation": "beta"})
    assert [vm["name"] for vm in client.get("/api/vms").json()["items"]] == ["b-web"]
    assert client.get("/tenant/vm/a-db/").status_code == 404
    for named in ({"headers": {"X-Organisation": "alpha"}}, {"query_params": {"organisation": "alpha"}}):
        assert [vm["name"] for vm in client.get("/api/vms", **named).json()["items"]] == ["a-db"]
    assert client.get("/api/vms", headers={"X-Organisation": "gamma"}).json()["items"] == []


def test_nobody_switches_to_an_organisation_of_others(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    assert client.post("/organisation/", {"organisation": "beta"}).status_code == 404
    assert client.get("/tenant/vm/b-web/").status_code == 404


# -- invitations


def fresh(client, who: User) -> None:
    """Signed in, and asked for the password just now."""
    import time

    client.force_login(who)
    session = client.session
    session["confirmed"] = int(time.time())
    session.save()


def link_of(message: Any) -> str:
    return re.search(r"http://127.0.0.1:\d+(/\S+)", message.body)[1]


@pytest.fixture
def link(cast: Cast, client, django_capture_on_commit_callbacks) -> str:
    """The link of an invitation as member of alpha."""
    fresh(client, cast.alice)
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post("/tenant/people/", {"email": "carl@vpms.example", "role": "member"})
    assert answer.status_code == 302
    client.logout()
    return link_of(mail.outbox[-1])


def test_the_invited_choose_name_and_password_and_the_link_works_once(cast: Cast, client, link: str) -> None:
    assert link.rsplit("/", 2)[1] not in Invitation.objects.get().token  # only a digest is kept
    typed = {"username": "carl", "password": PASSWORD, "again": PASSWORD}
    assert client.post(link, typed)["Location"] == "/home/"
    carl = User.objects.get(username="carl")
    assert (carl.email, carl.organisations) == ("carl@vpms.example", ["alpha"])
    client.logout()
    assert client.post(link, {**typed, "username": "mallory"}).status_code == 404
    assert not User.objects.filter(username="mallory").exists()


@pytest.mark.parametrize("password", ["short of fifteen"[:14], "x" * 129, "yfdbufnjh10305070"])
def test_weak_passwords_are_refused_and_the_typed_name_stays(cast: Cast, client, link: str, password: str) -> None:
    answer = client.post(link, {"username": "carl", "password": password, "again": password})
    assert answer.status_code == 422 and 'value="carl"' in answer.content.decode()
    assert not User.objects.filter(username="carl").exists()
    longest = "x y" + "z" * 125
    assert client.post(link, {"username": "carl", "password": longest, "again": longest}).status_code == 302


def test_an_existing_account_joins_by_the_same_link(cast: Cast, client, link: str) -> None:
    client.force_login(cast.bob)
    assert client.get(link).status_code == 200 and User.objects.get(pk=cast.bob.pk).organisations == ["beta"]
    client.post(link)
    assert User.objects.get(pk=cast.bob.pk).organisations == ["alpha", "beta"]


def test_a_withdrawn_or_old_invitation_opens_nothing(cast: Cast, client, link: str) -> None:
    people.invitation_revoke(by=cast.alice, pk=Invitation.objects.get().pk)
    assert client.get(link).status_code == 404
    assert Invitation.objects.get().email == ""
    Invitation.objects.update(closed_at=None, expires_at="2020-01-01T00:00:00Z")
    assert client.get(link).status_code == 404


def test_only_owners_invite_and_only_with_a_fresh_password(cast: Cast, client) -> None:
    member = User.objects.create(username="mia")
    membership_add(by=None, user=member, role="member", tenant=cast.alpha)
    fresh(client, member)
    assert client.post("/tenant/people/", {"email": "x@vpms.example", "role": "owner"}).status_code == 403
    client.force_login(cast.alice)  # long ago
    answer = client.post("/tenant/people/", {"email": "x@vpms.example", "role": "owner"})
    assert answer["Location"] == "/account/confirm/" and not Invitation.objects.exists()
    fresh(client, cast.bob)
    row = Membership.objects.get(user=cast.alice)
    answer = client.post("/tenant/people/change/", {"act": "remove", "pk": row.pk})
    assert answer.status_code == 404 and Membership.objects.filter(pk=row.pk).exists()


def test_an_organisation_keeps_an_owner(cast: Cast, client) -> None:
    fresh(client, cast.alice)
    row = Membership.objects.get(user=cast.alice)
    assert client.post("/tenant/people/change/", {"act": "remove", "pk": row.pk}).status_code == 409
    assert client.post("/tenant/people/change/", {"act": "role", "pk": row.pk, "role": "member"}).status_code == 409
    assert Membership.objects.get(pk=row.pk).role == "owner"


def test_a_changed_role_counts_at_once_and_is_recorded(cast: Cast, client) -> None:
    member = User.objects.create(username="mia")
    row = membership_add(by=None, user=member, role="member", tenant=cast.alpha)
    version = User.objects.get(pk=member.pk).rights_version
    fresh(client, cast.alice)
    client.post("/tenant/people/change/", {"act": "role", "pk": row.pk, "role": "auditor"})
    changed = User.objects.get(pk=member.pk)
    assert changed.rights_version > version and changed.roles_in("alpha") == {"auditor"}
    page = client.get("/tenant/audit/").content.decode()
    assert "mia was given the role auditor" in page and "The role member was taken from mia" in page


def test_an_operator_registers_an_organisation_and_invites_its_owner(cast: Cast, client) -> None:
    fresh(client, cast.olga)
    client.post("/operator/organisations/", {"slug": "gamma", "name": "Gamma Lab"})
    answer = client.post("/operator/people/", {"email": "gina@vpms.example", "role": "owner:gamma"})
    assert answer.status_code == 302
    assert (Invitation.objects.get().tenant.slug, Invitation.objects.get().role) == ("gamma", "owner")
    with pytest.raises(Exception, match="nothing here"):
        people.invite(by=cast.olga, tenant=cast.alpha, email="x@vpms.example", role="member")
