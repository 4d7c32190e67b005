"""Signing in by an identity provider: a real one on loopback, with signed tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.socialaccount.models import SocialAccount
from django.test import Client

from tests.web.issuer import CLIENT, SECRET, Issuer
from webapp.accounts import factors, oidc, services
from webapp.accounts.models import User

pytestmark = pytest.mark.django_db
PASSWORD = "a long and quiet password"


@pytest.fixture(scope="module")
def running() -> Iterator[Issuer]:
    started = Issuer()
    yield started
    started.close()


@pytest.fixture
def issuer(running: Issuer, settings) -> Issuer:
    running.subject, running.spoil = "sub-1", ""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.OIDC_ORIGINS = [running.url]
    app = {
        "provider_id": "oidc",
        "name": "Campus",
        "client_id": CLIENT,
        "secret": SECRET,
        "settings": {"server_url": running.url},
    }
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [app]}}
    return running


@pytest.fixture
def ann(db: None, issuer: Issuer) -> User:
    return services.user_create(by=None, username="ann", password=PASSWORD)


def there_and_back(client: Client, issuer: Issuer) -> Any:
    sent = client.post("/sign-in/elsewhere/oidc/")
    assert sent.status_code == 302 and sent["Location"].startswith(f"{issuer.url}/authorize?")
    return client.get(issuer.authorise(sent["Location"]))


def connected(ann: User, issuer: Issuer) -> None:
    client = Client()
    client.post("/sign-in/", {"username": "ann", "password": PASSWORD})
    assert there_and_back(client, issuer)["Location"] == "/account/"
    assert SocialAccount.objects.get().user_id == ann.pk


def told(client: Client) -> str:
    return client.get("/sign-in/").content.decode()


def test_an_account_is_connected_by_its_owner_and_opens_by_the_provider_from_then_on(ann: User, issuer: Issuer) -> None:
    connected(ann, issuer)
    client = Client()
    assert "Continue with Campus" in told(client)
    assert there_and_back(client, issuer)["Location"] == "/home/"
    assert client.get("/account/").context["user"].username == "ann"


def test_the_provider_makes_no_account_and_opens_none_that_is_not_connected(ann: User, issuer: Issuer) -> None:
    client = Client()
    assert there_and_back(client, issuer)["Location"] == "/sign-in/"
    assert "No account here is connected" in told(client) and User.objects.count() == 1
    connected(ann, issuer)
    issuer.subject = "somebody else"
    assert there_and_back(Client(), issuer)["Location"] == "/sign-in/"


def test_the_provider_stands_for_the_password_and_not_for_the_second_factor(ann: User, issuer: Issuer) -> None:
    connected(ann, issuer)
    from allauth.mfa.totp.internal import auth as totp

    code = totp.format_hotp_value(totp.hotp_value("A" * 32, int(time.time()) // 30))
    factors.app_add(user=ann, secret="A" * 32, code=code)
    assert there_and_back(Client(), issuer)["Location"] == "/sign-in/second/"


@pytest.mark.parametrize("spoil", ["issuer", "audience", "old", "key", "elsewhere"])
def test_a_token_that_is_not_the_issuers_for_us_now_opens_nothing(ann: User, issuer: Issuer, spoil: str) -> None:
    connected(ann, issuer)
    issuer.spoil = spoil
    client = Client()
    assert there_and_back(client, issuer)["Location"] == "/sign-in/"
    assert "did not confirm who you are" in told(client) and client.get("/account/").status_code == 302


def test_an_answer_that_nobody_asked_for_opens_nothing(ann: User, issuer: Issuer) -> None:
    connected(ann, issuer)
    theirs = Client()
    address = issuer.authorise(theirs.post("/sign-in/elsewhere/oidc/")["Location"])
    client = Client()
    client.get(address)  # somebody else's answer, sent to another browser
    assert client.get("/account/").status_code == 302


def test_requests_go_to_the_named_issuer_alone(issuer: Issuer) -> None:
    with oidc.OneOrigin() as session, pytest.raises(Exception, match="not an origin"):
        session.get("http://127.0.0.1:1/anything")


def test_without_settings_there_is_no_such_sign_in(db: None, client) -> None:
    assert "Continue with" not in told(client)
    assert client.post("/sign-in/elsewhere/oidc/").status_code == 404
    assert client.get("/sign-in/elsewhere/oidc/back/").status_code == 404
