"""Signing in and out, the delay that grows with failures, the theme, and the way to the own area."""

import datetime as dt

import pytest
from django.utils import timezone

from tests.conftest import Cast
from webapp.accounts import services
from webapp.accounts.models import Attempts, User

pytestmark = pytest.mark.django_db
PASSWORD = "a long and quiet password"


@pytest.fixture
def ann(db: None) -> User:
    return services.user_create(by=None, username="ann", password=PASSWORD)


def sign_in(client, password: str = PASSWORD, **more: str):
    return client.post("/sign-in/", {"username": "ann", "password": password, **more})


def test_passwords_are_kept_as_argon2(ann: User) -> None:
    assert ann.password.startswith("argon2$")


def test_name_and_password_open_the_home_page(ann: User, client) -> None:
    answer = sign_in(client)
    assert (answer.status_code, answer["Location"]) == (302, "/home/")


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(ann: User, client) -> None:
    wrong = sign_in(client, "not the password")
    unknown = client.post("/sign-in/", {"username": "nobody", "password": "not the password"})
    assert wrong.status_code == unknown.status_code == 422
    assert wrong.content.replace(b"ann", b"") != b"" and b"do not fit together" in unknown.content


def test_after_five_failures_even_the_right_password_waits_and_then_opens(ann: User, client) -> None:
    for _ in range(6):
        sign_in(client, "not the password")
    assert sign_in(client).status_code == 429
    Attempts.objects.update(blocked_until=timezone.now())
    assert sign_in(client).status_code == 302
    assert not Attempts.objects.exists()


def test_the_delay_doubles_and_never_passes_a_minute(db: None) -> None:
    key = services.attempts_key(username="ann", address="10.0.0.1")
    delays = [services.sign_in_failed(key=key) for _ in range(20)]
    assert delays[:8] == [0, 0, 0, 0, 0, 2, 4, 8] and max(delays) == 60


def test_another_address_is_not_delayed(db: None) -> None:
    for _ in range(9):
        services.sign_in_failed(key=services.attempts_key(username="ann", address="10.0.0.1"))
    assert services.sign_in_delay(key=services.attempts_key(username="ann", address="10.0.0.2")) == 0


def test_an_empty_password_does_not_forget_the_failures(ann: User, client) -> None:
    for _ in range(4):
        sign_in(client, "not the password")
    sign_in(client, "")
    assert Attempts.objects.get().failures == 4


def test_old_failures_are_forgotten(db: None) -> None:
    services.sign_in_failed(key="old")
    Attempts.objects.update(last_at=timezone.now() - dt.timedelta(hours=1))
    services.sign_in_failed(key="new")
    assert [row.key for row in Attempts.objects.all()] == ["new"]


def test_the_session_key_changes_at_sign_in(ann: User, client) -> None:
    client.get("/sign-in/")
    before = client.session.session_key
    sign_in(client)
    assert client.session.session_key != before


def test_next_leads_only_to_pages_of_this_site(ann: User, client) -> None:
    assert sign_in(client, next="https://elsewhere.example/")["Location"] == "/home/"
    client.post("/sign-out/")
    assert sign_in(client, next="/tenant/audit/")["Location"] == "/tenant/audit/"


@pytest.mark.parametrize(
    ("name", "area"), [("alice", "/tenant/"), ("olga", "/operator/"), ("ines", "/teach/"), ("carl", "/learn/")]
)
def test_home_leads_each_role_to_its_area(cast: Cast, client, name: str, area: str) -> None:
    client.force_login(getattr(cast, name, None) or User.objects.create(username=name))
    assert client.get("/home/")["Location"] == area


def test_signing_out_needs_a_post(ann: User, client) -> None:
    client.force_login(ann)
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/").status_code == 302
    assert client.get("/home/")["Location"].startswith("/sign-in/")


def test_the_theme_is_remembered_without_script_and_without_signing_in(client, db: None) -> None:
    answer = client.post("/theme/", {"theme": "dark", "next": "/sign-in/"})
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in/")
    assert 'data-theme="dark"' in client.get("/sign-in/").content.decode()


def test_an_unknown_theme_is_refused_and_a_foreign_next_is_not_followed(client, db: None) -> None:
    assert client.post("/theme/", {"theme": "pink"}).status_code == 422
    assert client.post("/theme/", {"theme": "dark", "next": "//elsewhere.example/"})["Location"] == "/"


@pytest.mark.parametrize("path", ["/tenant/audit/", "/operator/audit/", "/tenant/vm/new/", "/tenant/vm/a-db/"])
def test_anonymous_people_are_sent_to_the_sign_in(cast: Cast, client, path: str) -> None:
    assert client.get(path)["Location"] == f"/sign-in/?next={path}"


@pytest.mark.parametrize(
    ("name", "path"), [("alice", "/operator/audit/"), ("olga", "/tenant/audit/"), ("ines", "/tenant/vm/new/")]
)
def test_areas_of_other_roles_are_forbidden(cast: Cast, client, name: str, path: str) -> None:
    client.force_login(getattr(cast, name))
    assert client.get(path).status_code == 403
