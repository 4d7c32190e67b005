"""One's own account: passwords, second factors, sign-ins, data; and a form that outlives its sign-in."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import secrets
import subprocess
import sys
import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.keys import Key
from tests.web.neighbours import put_in_force
from webapp.accounts import factors, services, sessions
from webapp.accounts.entry_views import password_forgotten
from webapp.accounts.models import Attempts, User
from webapp.agreements import leaving
from webapp.agreements import services as agreements
from webapp.agreements.models import Agreement, Negotiation
from webapp.audit.models import Entry
from webapp.audit.services import verify
from webapp.live import rights
from webapp.tenants.models import Membership, Policy, Tenant, VirtualMachine
from webapp.tenants.services import document_of, membership_add

pytestmark = pytest.mark.django_db
PASSWORD = "a long and quiet password"
ANOTHER = "another long and quiet one"


@pytest.fixture(autouse=True)
def quick(settings) -> None:
    """test_sign_in.py holds the slow hasher to its place; here it would only cost time."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def ann(db: None) -> User:
    return services.user_create(by=None, username="ann", password=PASSWORD, email="ann@vpms.example")


def sign_in(client: Client, name: str = "ann", **more: str) -> Any:
    return client.post("/sign-in/", {"username": name, "password": PASSWORD, **more})


def signed_in(name: str = "ann") -> Client:
    client = Client()
    assert sign_in(client, name).status_code == 302
    return client


def client_of(user: User) -> Client:
    """Signed in just now."""
    user.set_password(PASSWORD)
    user.save()
    return signed_in(user.username)


def code_of(user: User, ahead: int = 0) -> str:
    row = Authenticator.objects.get(user=user, type="totp")
    counter = int(time.time()) // 30 + ahead
    return totp.format_hotp_value(totp.hotp_value(decrypt(row.data["secret"]), counter))


def connect_app(client: Client, user: User) -> list[str]:
    """The app is connected as a person does it; the recovery codes that were shown."""
    page = client.get("/account/second-factor/app/").content.decode()
    secret = re.search(r'<dd class="mono">([A-Z2-7 ]+)</dd>', page)[1].replace(" ", "")
    code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30 - 1))
    shown = client.post("/account/second-factor/app/", {"code": code}).content.decode()
    assert "data:image/svg+xml;base64," in page and Authenticator.objects.filter(user=user, type="totp").exists()
    return re.findall(r"\b\d{8}\b", shown)


# -- passwords


def test_a_new_password_ends_every_other_sign_in(ann: User) -> None:
    here, there = signed_in(), signed_in()
    new = {"password-current": PASSWORD, "password": ANOTHER, "password-again": ANOTHER}
    assert here.post("/account/password/", new).status_code == 302
    assert here.get("/account/").status_code == 200 and there.get("/account/").status_code == 302
    assert [row["this"] for row in here.get("/account/sessions/").context["rows"]] == [True]


def test_a_wrong_old_password_changes_nothing_and_counts_as_a_failed_try(ann: User) -> None:
    client = signed_in()
    new = {"password-current": "wrong", "password": ANOTHER, "password-again": ANOTHER}
    assert client.post("/account/password/", new).status_code == 422
    assert Attempts.objects.get().failures == 1 and User.objects.get().check_password(PASSWORD)


def test_a_forgotten_password_is_replaced_by_a_link_that_works_once(ann: User, client) -> None:
    there = signed_in()
    client.post("/password/forgotten/", {"email": "ANN@vpms.example"})
    link = re.search(r"http://\S+?(/password/\S+)", mail.outbox[0].body)[1]
    assert client.post(link, {"password": "short", "again": "short"}).status_code == 422
    assert client.post(link, {"password": ANOTHER, "again": ANOTHER}).status_code == 302
    assert client.post(link, {"password": PASSWORD, "again": PASSWORD}).status_code == 404
    assert User.objects.get().check_password(ANOTHER) and there.get("/account/").status_code == 302


def test_known_and_unknown_addresses_get_one_answer_before_any_work_is_done(ann: User, client, monkeypatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(services, "reset_send", lambda *, email: done.append(email))
    told = []
    for email in ("ann@vpms.example", "zoe@vpms.example"):
        request = client.post("/password/forgotten/", {"email": email}).wsgi_request
        request.user = AnonymousUser()
        answer = password_forgotten(request)
        assert email not in done[done.index(email) + 1 :]  # the view itself did nothing
        told.append(re.sub(r'csrfmiddlewaretoken" value="\w+', "", answer.content.decode()).replace(email, ""))
    assert told[0] == told[1] and not mail.outbox


# -- the second factor


def test_a_code_is_asked_for_after_the_password_and_opens_once(ann: User) -> None:
    connect_app(signed_in(), ann)
    client = Client()
    assert sign_in(client)["Location"] == "/sign-in/second/"
    assert client.get("/account/").status_code == 302  # not in yet
    code = code_of(ann)
    assert client.post("/sign-in/second/", {"code": "000000"}).status_code == 422
    assert client.post("/sign-in/second/", {"code": code})["Location"] == "/home/"
    again = Client()
    sign_in(again)
    assert again.post("/sign-in/second/", {"code": code}).status_code == 422


def test_a_recovery_code_opens_once(ann: User) -> None:
    codes = connect_app(signed_in(), ann)
    assert len(codes) == 10
    for status in (302, 422):
        client = Client()
        sign_in(client)
        assert client.post("/sign-in/second/", {"code": codes[0]}).status_code == status


def test_guessed_codes_are_slowed_down_from_wherever_they_come(ann: User) -> None:
    connect_app(signed_in(), ann)
    here, client = Client(REMOTE_ADDR="10.0.0.1"), Client(REMOTE_ADDR="10.0.0.2")
    for each in (here, client):
        sign_in(each)
    here.post("/sign-in/second/", {"code": "000000"})
    Attempts.objects.update(failures=20, blocked_until=timezone.now() + dt.timedelta(minutes=1))
    assert "Too many tries" in client.post("/sign-in/second/", {"code": code_of(ann)}).content.decode()


def test_secrets_of_factors_are_sealed_in_the_database(ann: User) -> None:
    client = signed_in()
    page = client.get("/account/second-factor/app/").content.decode()
    secret = re.search(r'<dd class="mono">([A-Z2-7 ]+)</dd>', page)[1].replace(" ", "")
    code = totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))
    client.post("/account/second-factor/app/", {"code": code})
    assert secret not in json.dumps([row.data for row in Authenticator.objects.all()])


def test_factors_are_changed_only_soon_after_the_password(ann: User) -> None:
    client = signed_in()
    session = client.session
    session["confirmed"] = 0
    session.save()
    assert client.get("/account/second-factor/app/")["Location"] == "/account/confirm/"
    assert client.post("/account/confirm/", {"password": "wrong"}).status_code == 422
    assert client.post("/account/confirm/", {"password": PASSWORD})["Location"] == "/account/second-factor/app/"
    assert client.get("/account/second-factor/app/").status_code == 200


def register(client: Client, key: Key, origin: str = "http://localhost:8000") -> Any:
    page = client.get("/account/second-factor/key/", HTTP_HOST="localhost:8000")
    answer = key.create(page.context["key_options"], origin)
    typed = {"name": "blue key", "credential": json.dumps(answer)}
    return client.post("/account/second-factor/key/", typed, HTTP_HOST="localhost:8000")


def test_a_security_key_is_registered_and_opens_the_account(ann: User) -> None:
    key = Key("localhost")
    assert register(signed_in(), key).status_code == 200
    client = Client()
    assert sign_in(client)["Location"] == "/sign-in/second/"
    options = client.get("/sign-in/second/", HTTP_HOST="localhost:8000").context["key_options"]
    for origin, status in (("http://localhost:8000", 302), ("http://localhost:8000", 302)):
        signed = {"credential": json.dumps(key.get(options, origin))}
        answer = client.post("/sign-in/second/", signed, HTTP_HOST="localhost:8000")
        assert answer.status_code == status
    assert answer["Location"] == "/sign-in/"  # the same answer sent again: nobody is waiting any more


def test_a_keys_answer_to_another_site_is_refused(ann: User) -> None:
    key = Key("localhost")
    assert register(signed_in(), key, "http://localhost:8001").status_code == 422
    assert register(signed_in(), key).status_code == 200
    client = Client()
    sign_in(client)
    options = client.get("/sign-in/second/", HTTP_HOST="localhost:8000").context["key_options"]
    for origin in ("http://localhost:8001", "https://localhost.evil.example", "null"):
        signed = {"credential": json.dumps(key.get(options, origin))}
        assert client.post("/sign-in/second/", signed, HTTP_HOST="localhost:8000").status_code == 422


@pytest.mark.parametrize("credential", ["", "x", "{}", "[]", '{"response": {"clientDataJSON": 7}}', "[" * 99999])
def test_nonsense_for_a_keys_answer_is_refused(ann: User, credential: str) -> None:
    client = signed_in()
    client.get("/account/second-factor/key/")
    assert client.post("/account/second-factor/key/", {"name": "k", "credential": credential}).status_code == 422


def test_where_it_is_required_an_operator_acts_only_with_a_second_factor(cast: Cast, client, settings) -> None:
    settings.MFA_REQUIRED = True
    client.force_login(cast.olga)
    assert client.get("/operator/")["Location"] == "/account/second-factor/"
    assert client.get("/api/hosts").status_code == 404
    factors.app_add(
        user=cast.olga, secret="A" * 32, code=totp.format_hotp_value(totp.hotp_value("A" * 32, int(time.time()) // 30))
    )
    assert client.get("/operator/").status_code == 200 and client.get("/api/hosts").status_code == 200
    with pytest.raises(Exception, match="your last one"):
        factors.remove(user=User.objects.get(pk=cast.olga.pk), pk=Authenticator.objects.get(type="totp").pk)


def factor_for(user: User) -> None:
    step = int(time.time()) // 30
    factors.app_add(user=user, secret="A" * 32, code=totp.format_hotp_value(totp.hotp_value("A" * 32, step)))


def test_an_organisation_demands_a_second_factor_and_whoever_has_none_sets_it_up_before_anything(cast: Cast) -> None:
    dan = services.user_create(by=None, username="dan", password=PASSWORD)
    membership_add(by=None, user=dan, role="member", tenant=cast.alpha)
    services.password_set(by=None, user=cast.alice, password=PASSWORD)
    owner, member = signed_in("alice"), signed_in("dan")
    demand = {"act": "factor", "required": "1"}
    page = owner.post("/tenant/people/change/", demand, follow=True).content.decode()
    assert "Set up a second factor for yourself first" in page and not Tenant.objects.get(slug="alpha").factor_required
    factor_for(User.objects.get(username="alice"))
    page = owner.post("/tenant/people/change/", demand, follow=True).content.decode()
    assert "1 person here has none yet" in page
    assert member.get("/tenant/")["Location"] == "/account/second-factor/"
    assert member.get("/api/vms").json()["items"] == [] and member.get("/api/vms/a-db").status_code == 404
    assert sign_in(Client(), "dan")["Location"] == "/account/second-factor/"  # before anything else
    factor_for(User.objects.get(username="dan"))
    assert member.get("/tenant/").status_code == 200 and member.get("/api/vms/a-db").status_code == 200
    with pytest.raises(Exception, match="your last one"):
        factors.remove(user=User.objects.get(username="dan"), pk=Authenticator.objects.get(user=dan, type="totp").pk)
    told = {"required": False}
    path = "/api/organisations/alpha/second-factor"
    assert member.put(path, told, content_type="application/json").status_code == 403  # for owners
    assert not owner.put(path, told, content_type="application/json").json()["factor_required"]
    assert list(
        Entry.objects.filter(type__startswith="tenant.factor").order_by("pk").values_list("type", flat=True)
    ) == [
        "tenant.factor_required",
        "tenant.factor_free",
    ]
    assert verify()["valid"]


def test_only_the_demo_on_loopback_lets_operators_in_without_a_second_factor() -> None:
    told = "from webapp import settings; print(settings.MFA_REQUIRED)"
    for tls, flag, required in (("1", "0", "True"), ("0", "0", "False"), ("0", "1", "True")):
        env = {**os.environ, "HSVM_TLS": tls, "HSVM_MFA": flag, "HSVM_BIND": "127.0.0.1"}
        env |= {"HSVM_SECRET_KEY": secrets.token_hex(32), "HSVM_SEAL_KEY": secrets.token_hex(32)}
        done = subprocess.run([sys.executable, "-c", told], env=env, capture_output=True, text=True, timeout=60)
        assert done.stdout.strip() == required, done.stderr[-500:]


# -- the language of mails


def test_mails_come_in_the_readers_language_whoever_asks_for_them(ann: User) -> None:
    german = Client(HTTP_ACCEPT_LANGUAGE="de")
    sign_in(german)
    assert User.objects.get().language == "de"  # as the browser asked at the first sign-in
    services.reset_send(email=ann.email)
    assert mail.outbox[-1].subject == "Ein neues Passwort"
    german.post("/language/", {"language": "en"})  # the switch at the top, pressed while signed in
    services.reset_send(email=ann.email)
    assert mail.outbox[-1].subject == "A new password"
    german.post("/account/", {"full_name": "Ann", "email": ann.email, "language": "de"})
    assert User.objects.get().language == "de"
    assert german.post("/account/", {"full_name": "Ann", "email": ann.email, "language": "xx"}).status_code == 422
    sign_in(Client(HTTP_ACCEPT_LANGUAGE="en"))
    assert User.objects.get().language == "de"  # another browser changes nothing
    answer = german.put("/api/account", {"full_name": "Ann", "language": "en"}, content_type="application/json")
    assert answer.json()["language"] == "en"


# -- sign-ins


def test_a_sign_in_is_listed_and_ended_and_its_sockets_with_it(ann: User) -> None:
    here, there = signed_in(), signed_in()
    claim = rights.claim_of(User.objects.get(), there.session.session_key)
    assert claim in rights.upheld([claim])
    other = next(row for row in here.get("/account/sessions/").context["rows"] if not row["this"])
    here.post("/account/sessions/", {"end": other["pk"]})
    assert there.get("/account/").status_code == 302 and here.get("/account/").status_code == 200
    assert rights.upheld([claim]) == {}


def test_nobody_ends_the_sign_in_of_somebody_else(ann: User) -> None:
    services.user_create(by=None, username="ben", password=PASSWORD)
    theirs, ours = signed_in("ben"), signed_in()
    number = theirs.get("/account/sessions/").context["rows"][0]["pk"]
    ours.post("/account/sessions/", {"end": number})
    assert theirs.get("/account/").status_code == 200


@pytest.mark.parametrize(("name", "idle", "absolute"), [("alice", 8, 168), ("olga", 1, 12)])
def test_a_sign_in_ends_by_idleness_and_by_age(cast: Cast, name: str, idle: int, absolute: int) -> None:
    user = getattr(cast, name)
    user.set_password(PASSWORD)
    user.save()
    client = signed_in(name)

    def turned_back(**hours: float) -> Client:
        session = client.session
        for key, value in hours.items():
            session[key] = int(time.time() - value * 3600)
        session.save()
        return client

    assert turned_back(started=absolute - 0.5, seen=idle - 0.1).get("/account/").status_code == 200
    left = Session.objects.get(pk=client.session.session_key).expire_date - timezone.now()
    assert left.total_seconds() <= min(idle, 0.5) * 3600  # the socket's sweep sees the same end
    assert turned_back(started=absolute - 0.5, seen=idle + 0.1).get("/account/").status_code == 302
    client = signed_in(name)
    assert turned_back(started=absolute + 0.1, seen=0.05).get("/account/").status_code == 302


# -- a form that outlives its sign-in


def test_an_expired_sign_in_loses_nothing_of_the_typed_wishes(cast: Cast) -> None:
    cast.alice.set_password(PASSWORD)
    cast.alice.save()
    client = signed_in("alice")
    sessions.end(user=cast.alice)
    typed = {
        "tab": "form",
        "q1": "nobody",
        "q1-strength": "must",
        "q6": "guarded",
        "q6-strength": "prefer",
        "memory_mib": "16",
    }
    stopped = client.post("/tenant/vm/a-db/", typed, HTTP_REFERER="http://testserver/tenant/vm/a-db/?tab=form")
    assert stopped.status_code == 401 and "What you typed is kept" in stopped.content.decode()
    carried = {name: stopped.context[name] for name in ("next", "typed")}
    wrong = client.post("/sign-in/", {"username": "alice", "password": "wrong", **carried})
    assert carried["typed"] in wrong.content.decode()  # a mistyped password loses it neither
    back = sign_in(client, "alice", **carried)
    assert back["Location"] == "/tenant/vm/a-db/?tab=form"
    page = client.get(back["Location"])
    chosen = re.findall(r'name="([\w-]+)" value="(\w+)" checked', page.content.decode())
    assert {("q6", "guarded"), ("q6-strength", "prefer"), ("memory_mib", "16")} <= set(chosen)
    assert Policy.objects.filter(vm=cast.a_db).count() == 1  # nothing was sent on by itself
    again = re.findall(r'name="([\w-]+)" value="(\w+)" checked', client.get(back["Location"]).content.decode())
    assert ("q6", "guarded") not in again  # told once


def test_a_typed_document_comes_back_and_a_forged_one_does_not(cast: Cast) -> None:
    cast.alice.set_password(PASSWORD)
    cast.alice.save()
    client = Client()
    stopped = client.post("/tenant/vm/a-db/", {"tab": "json", "document": '{"my": "half-written text"'})
    sign_in(client, "alice", typed=stopped.context["typed"])
    assert "half-written text" in client.get("/tenant/vm/a-db/").content.decode()
    client = Client()
    assert sign_in(client, "alice", typed=stopped.context["typed"][:-3] + "abc")["Location"] == "/home/"


# -- data and leaving


def test_everybody_takes_the_own_data_away_and_no_secret_with_it(ann: User) -> None:
    client = signed_in()
    connect_app(client, ann)
    told = json.loads(client.post("/account/data/").content)
    assert (told["name"], told["email"], len(told["sign_ins"])) == ("ann", "ann@vpms.example", 1)
    assert {row["kind"] for row in told["second_factors"]} == {"totp", "recovery_codes"}
    assert "secret" not in json.dumps(told) and "account.factor_added" in {row["what"] for row in told["acts"]}


def test_a_deleted_account_leaves_a_whole_chain_and_no_name(cast: Cast) -> None:
    mia = services.user_create(by=None, username="mia", password=PASSWORD, full_name="Mia M", email="mia@vpms.example")
    membership_add(by=cast.alice, user=mia, role="member", tenant=cast.alpha)
    from tests.conftest import CAREFUL, wishes
    from webapp.agreements import declaring

    declaring.wishes_declare(by=mia, vm=cast.a_db, document=wishes(CAREFUL, vm="a-db", tenant="alpha", version=2))
    client, alice = signed_in("mia"), Client()
    alice.force_login(cast.alice)
    assert "mia" in alice.get("/tenant/audit/").content.decode()
    assert client.post("/account/delete/", {"name": "somebody"}).status_code == 409
    assert client.post("/account/delete/", {"name": "mia"})["Location"] == "/"
    assert client.get("/account/").status_code == 302 and sign_in(Client(), "mia").status_code == 422
    for path in ("/tenant/audit/", "/tenant/vm/a-db/", "/tenant/people/"):
        assert not re.search(r"\bmia\b", alice.get(path).content.decode(), re.I), path
    row = User.objects.get(pk=mia.pk)
    assert (row.email, row.first_name, row.is_active) == ("", "", False)
    assert verify()["valid"] and not Entry.objects.filter(line__contains="mia").exists()


def test_the_last_owner_cannot_leave_an_organisation_without_one(cast: Cast) -> None:
    cast.alice.set_password(PASSWORD)
    cast.alice.save()
    answer = signed_in("alice").post("/account/delete/", {"name": "alice"})
    assert answer.status_code == 409 and "last owner of Alpha Clinic" in answer.content.decode()
    assert User.objects.get(pk=cast.alice.pk).is_active


def test_an_organisation_goes_with_its_name_typed_and_only_while_nothing_runs(cast: Cast) -> None:
    cast.alice.set_password(PASSWORD)
    cast.alice.save()
    client = signed_in("alice")
    type(cast.a_db).objects.filter(pk=cast.a_db.pk).update(state="running")
    refused = client.post("/tenant/delete/", {"name": "Alpha Clinic"})
    assert refused.status_code == 409 and "a-db is running. Stop it first" in refused.content.decode()
    type(cast.a_db).objects.filter(pk=cast.a_db.pk).update(state="stopped")
    assert client.post("/tenant/delete/", {"name": "alpha clinic"}).status_code == 409
    page = client.get("/tenant/delete/").content.decode()
    assert page.index("Keep it") < page.index('button-danger">Delete Alpha Clinic')
    assert client.post("/tenant/delete/", {"name": "Alpha Clinic"}).status_code == 302
    row = Tenant.objects.get(slug="alpha")
    assert row.name == "deleted organisation" and not Membership.objects.filter(tenant=row).exists()
    assert {policy.document for policy in Policy.objects.filter(vm__tenant=row)} == {"{}"}
    assert client.get("/tenant/").status_code == 403 and verify()["valid"]


def test_a_deleted_organisation_takes_its_wishes_out_of_negotiations_and_leaves_others_their_own(
    cast: Cast, client: Client
) -> None:
    alone = agreements.start_request(by=cast.alice, vm=cast.a_db)
    put_in_force(agreements.negotiation_advance(negotiation_id=alone.pk))
    begun = agreements.start_request(by=cast.bob, vm=cast.b_web)
    both = agreements.negotiation_advance(negotiation_id=begun.pk)
    assert both.seats.count() == 2 and "hsvm" in json.dumps(both.protocol["policies"]["a-db"])
    VirtualMachine.objects.filter(pk=cast.a_db.pk).update(state="stopped")
    refused = client_of(cast.alice).post("/tenant/delete/", {"name": "Alpha Clinic"})
    assert refused.status_code == 409 and f"Negotiation {both.pk} is not over yet" in refused.content.decode()
    agreements.withdraw(by=cast.bob, negotiation=both)
    kept = list(Agreement.objects.values_list("digest", flat=True))
    leaving.organisation_delete(by=cast.alice, tenant=cast.alpha)
    for row in Negotiation.objects.all():
        assert row.protocol == {}
    client.force_login(cast.bob)
    for path in (f"/tenant/negotiation/{both.pk}/", f"/tenant/host/{both.host.name}/goals/", "/tenant/"):
        page = client.get(path)
        assert page.status_code == 200, path
    assert "A party was deleted with its wishes" in client.get(f"/tenant/negotiation/{both.pk}/").content.decode()
    assert client.get(f"/api/negotiations/{both.pk}").status_code == 200
    client.force_login(cast.olga)
    assert client.get(f"/operator/negotiation/{both.pk}/").status_code == 200
    assert list(Agreement.objects.values_list("digest", flat=True)) == kept and verify()["valid"]
    assert document_of(cast.b_web.policies.first())["switches"]  # bob's own wishes are his


def test_a_new_address_counts_when_its_link_was_followed(ann: User) -> None:
    client = signed_in()
    client.post("/account/", {"full_name": "Ann A", "email": "ann@elsewhere.example"})
    assert User.objects.get().email == "ann@vpms.example" and mail.outbox[0].to == ["ann@elsewhere.example"]
    link = re.search(r"http://\S+?(/account/\S+)", mail.outbox[0].body)[1]
    client.get(link)
    assert User.objects.get().email == "ann@vpms.example"  # mail readers open links
    client.post(link)
    assert User.objects.get().email == "ann@elsewhere.example"
    assert client.post(link).status_code == 404


def test_every_page_of_the_account_has_its_row_in_the_navigation(ann: User) -> None:
    from django.urls import reverse

    from webapp.accounts.nav import PAGES

    client = signed_in()
    for name, _ in PAGES:
        page = client.get(reverse(name))
        assert page.status_code == 200 and f'href="{reverse(name)}" aria-current="page"' in page.content.decode()
