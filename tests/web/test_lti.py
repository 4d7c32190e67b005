"""LTI 1.3 against a real platform in a process of its own: launches, hostile launches, deep links, and grades."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

import jwt
import pytest
from django.conf import settings as site
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils import timezone

from tests.web.lab import Class, make_class, work_all
from tests.web.lti_platform import AGS, CLAIM, CLIENT, DEPLOYMENT
from tests.web.test_gradebook import hand_in, signed_in
from webapp.accounts import selectors as accounts
from webapp.accounts.models import User
from webapp.courses import adjustments
from webapp.courses.models import Member
from webapp.errors import VpmsError
from webapp.lti import keys, launches, platforms, returns, services
from webapp.lti.models import Account, Context, Nonce, Return, SigningKey
from webapp.ops import keeper
from webapp.tenants import people
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
JSON: dict[str, Any] = {"content_type": "application/json"}
TARGET = f"{site.SITE_URL}/lti/launch/"


class Running:
    def __init__(self, folder: Path) -> None:
        self.keys = folder / "tool-keys.json"
        self.keys.write_text('{"keys": []}')
        command = [sys.executable, "-m", "tests.web.lti_platform", str(self.keys)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=site.BASE_DIR)
        assert self.process.stdout
        self.url = self.process.stdout.readline().strip()
        self.file = folder / "platforms.json"

    def ask(self, path: str, **words: Any) -> dict[str, Any]:
        with urlopen(f"{self.url}{path}?{urlencode(words)}", timeout=5) as answer:
            told: dict[str, Any] = json.load(answer)
            return told

    def named(self, **more: Any) -> None:
        row = {
            "name": "Campus", "issuer": self.url, "client_id": CLIENT, "deployments": [DEPLOYMENT],
            "auth_url": f"{self.url}/auth", "token_url": f"{self.url}/token", "jwks_url": f"{self.url}/keys", **more,
        }  # fmt: skip
        self.file.write_text(json.dumps({"platforms": [row], "networks": []}))
        platforms._read.cache_clear()


@pytest.fixture(scope="module")
def running(tmp_path_factory: Any) -> Iterator[Running]:
    started = Running(tmp_path_factory.mktemp("lti"))
    yield started
    started.process.terminate()
    started.process.wait(timeout=10)


@pytest.fixture
def campus(running: Running, settings: Any) -> Running:
    settings.LTI_PLATFORMS = str(running.file)
    running.named()
    running.ask("/forget")
    launches._keys.clear()
    returns._tokens.clear()
    return running


@pytest.fixture
def room(db: None) -> Class:
    return make_class()


@pytest.fixture
def olga(db: None) -> User:
    user = User.objects.create(username="olga")
    membership_add(by=None, user=user, role="operator")
    return user


def linked(room: Class, campus: Running, context: str = "c-1") -> None:
    Context.objects.create(
        issuer=campus.url, client_id=CLIENT, deployment=DEPLOYMENT, context=context, course=room.course
    )


def begin(client: Client, campus: Running, **more: Any) -> dict[str, str]:
    """The browser is sent to the platform; what it takes there."""
    words = {"iss": campus.url, "login_hint": "7", "target_link_uri": TARGET, "client_id": CLIENT, **more}
    sent = client.get("/lti/login/", words)
    assert sent.status_code == 302, sent.content.decode()
    assert sent["Location"].startswith(f"{campus.url}/auth?")
    return {name: values[0] for name, values in parse_qs(urlsplit(sent["Location"]).query).items()}


def arrive(client: Client, campus: Running, **wanted: Any) -> Any:
    asked = begin(client, campus)
    token = campus.ask("/launch", nonce=asked["nonce"], target=TARGET, **wanted)["id_token"]
    return client.post("/lti/launch/", {"id_token": token, "state": asked["state"]})


def nothing_happened() -> None:
    assert not Account.objects.exists() and not Nonce.objects.exists() and not User.objects.filter(
        username__startswith="lti-"
    ).exists()  # fmt: skip


# -- launches


def test_the_platform_is_asked_as_the_specification_says_and_nothing_is_stored(campus: Running) -> None:
    asked = begin(Client(), campus, lti_message_hint="m")
    assert asked["scope"] == "openid" and asked["response_type"] == "id_token" and asked["prompt"] == "none"
    assert asked["response_mode"] == "form_post" and asked["redirect_uri"] == TARGET and asked["login_hint"] == "7"
    assert asked["lti_message_hint"] == "m" and asked["client_id"] == CLIENT and len(asked["nonce"]) >= 32
    nothing_happened()


def test_a_student_comes_in_as_somebody_new_and_is_known_from_then_on(campus: Running, room: Class) -> None:
    linked(room, campus)
    client = Client()
    asked_who = arrive(client, campus, item=room.item.pk)
    assert asked_who.status_code == 302 and asked_who["Location"].startswith("/lti/enter/")
    page = client.get(asked_who["Location"]).content.decode()
    assert "Campus sends you" in page
    nobody = User.objects.count()
    made = client.post(asked_who["Location"], {"act": "make"})
    assert made["Location"] == f"/learn/items/{room.item.pk}/" and User.objects.count() == nobody + 1
    account = Account.objects.get()
    assert (account.issuer, account.subject) == (campus.url, "s-1") and not account.user.has_usable_password()
    assert account.user.email == "" and client.get(made["Location"]).status_code == 200
    member = Member.objects.get(user=account.user)
    assert (member.role, member.nickname, member.course) == ("student", "Ada", room.course)
    again = Client()
    assert arrive(again, campus, item=room.item.pk)["Location"] == f"/learn/items/{room.item.pk}/"
    assert again.get(f"/learn/items/{room.item.pk}/").status_code == 200
    assert User.objects.count() == nobody + 1 and client.post(asked_who["Location"], {"act": "make"}).status_code == 404


def test_an_account_is_never_recognised_by_an_address(campus: Running, room: Class) -> None:
    linked(room, campus)
    User.objects.filter(pk=room.ines.pk).update(email="ines@school.example")
    client = Client()
    at = arrive(client, campus, item=room.item.pk, email="ines@school.example", name="ines")["Location"]
    client.post(at, {"act": "make"})
    account = Account.objects.get()
    assert account.user_id != room.ines.pk and Member.objects.get(user=account.user).nickname == "ines 2"


def test_the_account_that_is_signed_in_can_be_connected_by_its_owner(campus: Running, room: Class) -> None:
    linked(room, campus)
    client = Client()
    at = arrive(client, campus, item=room.item.pk)["Location"]
    assert client.post(at, {"act": "connect"})["Location"].startswith("/sign-in/?next=")
    client.force_login(room.stu)
    assert "You are signed in as stu" in client.get(at).content.decode()
    assert "/account/confirm" in client.post(at, {"act": "connect"})["Location"]  # asked for the password first
    session = client.session
    session["confirmed"] = int(timezone.now().timestamp())
    session.save()
    assert client.post(at, {"act": "connect"})["Location"] == f"/learn/items/{room.item.pk}/"
    assert Account.objects.get().user == room.stu


@pytest.mark.parametrize(
    "spoil",
    ["key", "none", "hmac", "kid", "audience", "azp", "issuer", "expired", "ancient", "deployment", "version", "type",
     "target", "nonce", "context", "no_sub", "no_exp", "no_nonce"],
)  # fmt: skip
def test_a_hostile_launch_is_refused_and_changes_nothing(campus: Running, room: Class, spoil: str) -> None:
    linked(room, campus)
    client = Client()
    answer = arrive(client, campus, item=room.item.pk, spoil=spoil)
    assert answer.status_code == 403 and "Not started" in answer.content.decode()
    nothing_happened()
    assert arrive(client, campus, item=room.item.pk).status_code == 302  # the same without the spoiling is taken


def test_a_launch_counts_once_in_one_browser_and_not_for_long(campus: Running, room: Class, monkeypatch: Any) -> None:
    linked(room, campus)
    client = Client()
    asked = begin(client, campus)
    token = campus.ask("/launch", nonce=asked["nonce"], target=TARGET, item=room.item.pk)["id_token"]
    sent = {"id_token": token, "state": asked["state"]}
    thief = Client()
    begin(thief, campus)
    assert thief.post("/lti/launch/", sent).status_code == 403  # another browser
    assert client.post("/lti/launch/", {**sent, "state": asked["state"][:-2] + "xx"}).status_code == 403
    assert client.post("/lti/launch/", {**sent, "id_token": token[:-3] + "AAA"}).status_code == 403
    with monkeypatch.context() as late:
        late.setattr(launches, "STATE_SECONDS", -1)
        assert client.post("/lti/launch/", sent).status_code == 403
    assert client.post("/lti/launch/", sent).status_code == 302
    replayed = client.post("/lti/launch/", sent)
    assert replayed.status_code == 403 and "was used already" in replayed.content.decode()
    assert Nonce.objects.count() == 1


@pytest.mark.parametrize(
    "words",
    [
        {"iss": "https://elsewhere.example"},
        {"target_link_uri": "https://elsewhere.example/"},
        {"login_hint": ""},
        {"client_id": "another"},
        {"lti_deployment_id": "d-2"},
    ],
)
def test_a_start_of_strangers_or_elsewhere_is_refused(campus: Running, words: dict[str, str]) -> None:
    given = {"iss": campus.url, "login_hint": "7", "target_link_uri": TARGET, "client_id": CLIENT, **words}
    for method in ("get", "post"):
        assert getattr(Client(), method)("/lti/login/", given).status_code == 403


def test_in_a_frame_a_window_of_its_own_is_offered_and_nothing_else_may_be_framed(campus: Running, room: Class) -> None:
    linked(room, campus)
    words = {"iss": campus.url, "login_hint": "7", "target_link_uri": TARGET, "client_id": CLIENT}
    framed = Client().get("/lti/login/", words, headers={"Sec-Fetch-Dest": "iframe"})
    page = framed.content.decode()
    assert 'target="_blank"' in page and "login_hint=7" in page and "X-Frame-Options" not in framed.headers
    assert f"frame-ancestors {campus.url}" in framed["Content-Security-Policy"]
    client = Client()
    asked = begin(client, campus)
    token = campus.ask("/launch", nonce=asked["nonce"], target=TARGET, item=room.item.pk)["id_token"]
    refused = Client().post("/lti/launch/", {"id_token": token, "state": asked["state"]})  # the cookie was refused
    assert 'target="_blank"' in refused.content.decode() and not Nonce.objects.exists()
    cookie = client.cookies["lti"]
    assert cookie["samesite"] == "None" and cookie["secure"] and cookie["httponly"] and cookie["path"] == "/lti/"
    other = Client().get("/sign-in/")
    assert other["X-Frame-Options"] == "DENY" and "frame-ancestors 'none'" in other["Content-Security-Policy"]


def test_only_what_a_teacher_put_into_that_course_is_reached(campus: Running, room: Class) -> None:
    linked(room, campus, context="c-other")
    client = Client()
    at = arrive(client, campus, item=room.item.pk)["Location"]
    answer = client.post(at, {"act": "make"})
    assert answer.status_code == 403 and not Member.objects.filter(user__username__startswith="lti-").exists()
    foreign = make_class("stale-entry")
    linked(room, campus)
    for item in (foreign.item.pk, 999_999, "x", "-1", "9" * 40):
        again = Client()
        assert arrive(again, campus, item=item).status_code == 403
    room.item.shown = False
    room.item.save()
    assert arrive(Client(), campus, item=room.item.pk).status_code == 403


def test_a_teacher_there_is_one_here_only_if_the_site_says_so(campus: Running, room: Class) -> None:
    linked(room, campus)
    client = Client()
    at = arrive(client, campus, item=room.item.pk, sub="t-1", role="Instructor")["Location"]
    assert "no teacher" in client.post(at, {"act": "make"}).content.decode().replace("&#x27;", "'")
    user = Account.objects.get(subject="t-1").user
    assert not user.memberships.exists() and not Member.objects.filter(user=user).exists()
    campus.named(teachers=True)
    assert arrive(Client(), campus, item=room.item.pk, sub="t-1", role="Instructor").status_code == 302
    assert Member.objects.get(user=user).role == "teacher" and User.objects.get(pk=user.pk).is_teacher
    assert arrive(Client(), campus, item=room.item.pk, sub="t-1", role="Learner").status_code == 302
    assert Member.objects.get(user=user).role == "teacher"  # nobody is made less


def test_an_account_that_is_closed_stays_outside(campus: Running, room: Class) -> None:
    linked(room, campus)
    Account.objects.create(issuer=campus.url, subject="s-1", user=room.stu)
    User.objects.filter(pk=room.stu.pk).update(is_active=False)
    assert arrive(Client(), campus, item=room.item.pk).status_code == 403


# -- deep links


def test_a_teacher_puts_an_item_into_the_platforms_course_and_its_answer_is_signed(
    campus: Running, room: Class
) -> None:
    Account.objects.create(issuer=campus.url, subject="t-1", user=room.ines)
    client = Client()
    sent = arrive(client, campus, sub="t-1", role="Instructor", type="LtiDeepLinkingRequest")
    assert sent.status_code == 302 and sent["Location"].startswith("/lti/pick/")
    page = client.get(sent["Location"]).content.decode()
    assert "A lab of the course" in page and "Isolation" in page
    foreign = make_class("stale-entry")
    Member.objects.filter(course=foreign.course, user=foreign.ines).delete()
    assert client.post(sent["Location"], {"item": str(foreign.item.pk)}).status_code == 422
    stranger = signed_in(room.stu)
    stranger.cookies["lti"] = client.cookies["lti"].value
    assert stranger.get(sent["Location"]).status_code == 404
    done = client.post(sent["Location"], {"item": str(room.item.pk)})
    told = done.content.decode()
    token = re.search(r'name="JWT" value="([^"]+)"', told)
    assert token and f'action="{campus.url}/back"' in told and campus.url in done["Content-Security-Policy"]
    row = Client().get("/lti/keys.json").json()["keys"][0]
    claims = jwt.decode(token[1], jwt.PyJWK(row).key, algorithms=["RS256"], audience=campus.url, issuer=CLIENT)
    [content] = claims["https://purl.imsglobal.org/spec/lti-dl/claim/content_items"]
    assert content["custom"] == {"item": str(room.item.pk)} and content["lineItem"]["scoreMaximum"] == 20
    assert content["url"] == TARGET and claims[CLAIM + "deployment_id"] == DEPLOYMENT
    assert claims["https://purl.imsglobal.org/spec/lti-dl/claim/data"] == "opaque"
    assert Context.objects.get().course == room.course
    assert client.post(sent["Location"], {"item": str(room.item.pk)}).status_code == 404  # done once
    student = Client()
    assert arrive(student, campus, item=room.item.pk)["Location"].startswith("/lti/enter/")


def test_a_way_back_that_is_not_the_platforms_own_is_refused(campus: Running, room: Class) -> None:
    Account.objects.create(issuer=campus.url, subject="t-1", user=room.ines)
    answer = arrive(
        Client(), campus, sub="t-1", role="Instructor", type="LtiDeepLinkingRequest", back="https://elsewhere.example/"
    )
    assert answer.status_code == 403


# -- grades


@pytest.fixture
def returned(campus: Running, room: Class) -> Return:
    """stu came from the platform."""
    linked(room, campus)
    Account.objects.create(issuer=campus.url, subject="s-1", user=room.stu)
    arrive(Client(), campus, item=room.item.pk)
    keys.signing_key()
    campus.keys.write_text(json.dumps(Client().get("/lti/keys.json").json()))
    return Return.objects.get()


def send(row: Return) -> Return:
    Return.objects.filter(pk=row.pk, due_at__isnull=False).update(due_at=timezone.now())
    returns.return_work(return_id=row.pk)
    row.refresh_from_db()
    return row


def test_a_mark_goes_back_and_a_changed_one_again(campus: Running, room: Class, returned: Return) -> None:
    assert returned.state == "idle" and returned.due_at is None
    hand_in(room, room.stu, room.member)
    returned.refresh_from_db()
    assert returned.state == "waiting"
    send(returned)
    assert (returned.state, returned.sent_points, returned.error) == ("sent", 20, "")
    adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=7.5, reason="Told orally")
    send(returned)
    scores = campus.ask("/state")["scores"]
    assert [(row["scoreGiven"], row["scoreMaximum"], row["userId"]) for row in scores] == [
        (20, 20, "s-1"),
        (7.5, 20, "s-1"),
    ]
    assert campus.ask("/state")["tokens"] >= 1
    page = signed_in(room.ines).get(f"/learn/courses/{room.course.pk}/returns/").content.decode()
    assert "taken by the platform" in page and "7.50" in page and "Campus" in page


def test_sent_twice_it_counts_once(campus: Running, room: Class, returned: Return) -> None:
    hand_in(room, room.stu, room.member)
    send(returned)
    Return.objects.update(state="waiting", due_at=timezone.now())  # the answer was lost
    send(returned)
    assert returned.state == "sent" and len(campus.ask("/state")["scores"]) == 1


def test_a_platform_that_fails_is_asked_again_ever_more_rarely_and_given_up(
    campus: Running, room: Class, returned: Return
) -> None:
    hand_in(room, room.stu, room.member)
    campus.ask("/fail", times=len(returns.PAUSES) + 1)
    for tries in range(1, len(returns.PAUSES) + 1):
        before = timezone.now()
        send(returned)
        assert returned.state == "waiting" and returned.tries == tries and "503" in returned.error
        assert returned.due_at and (returned.due_at - before).total_seconds() >= returns.PAUSES[tries - 1]
    send(returned)
    assert returned.state == "failed" and returned.due_at is None
    client, at = signed_in(room.ines), f"/learn/courses/{room.course.pk}/returns/"
    assert "given up" in client.get(at).content.decode()
    client.post(at, {"return": str(returned.pk)})
    send(returned)
    assert returned.state == "sent" and campus.ask("/state")["scores"][0]["scoreGiven"] == 20


def test_a_mark_that_changes_while_it_is_sent_is_sent_again(
    campus: Running, room: Class, returned: Return, monkeypatch: Any
) -> None:
    hand_in(room, room.stu, room.member, room.solution.replace("length: 16", "length: 8"))
    sent = returns._send

    def meanwhile(row: Return, mark: Any) -> None:
        sent(row, mark)
        monkeypatch.setattr(returns, "_send", sent)
        hand_in(room, room.stu, room.member)

    monkeypatch.setattr(returns, "_send", meanwhile)
    send(returned)
    assert returned.state == "waiting" and returned.due_at is not None
    send(returned)
    assert [row["scoreGiven"] for row in campus.ask("/state")["scores"]] == [16, 20]


def test_workers_that_die_of_it_leave_it_given_up(campus: Running, room: Class, returned: Return) -> None:
    hand_in(room, room.stu, room.member)
    Return.objects.update(attempts=3)
    keeper.reap(timezone.now())
    returned.refresh_from_db()
    assert returned.state == "failed" and returned.due_at is None


def test_nothing_is_sent_to_a_platform_that_the_settings_name_no_more_or_elsewhere(
    campus: Running, room: Class, returned: Return
) -> None:
    hand_in(room, room.stu, room.member)
    Return.objects.update(line_item="http://127.0.0.2:9/line/1")
    assert "does not allow" in send(returned).error
    campus.file.write_text('{"platforms": []}')
    platforms._read.cache_clear()
    assert "does not name" in send(returned).error


def test_with_a_new_key_the_old_one_is_still_published_and_the_platform_takes_the_new(
    campus: Running, room: Class, returned: Return, olga: User
) -> None:
    old = SigningKey.objects.get()
    client = signed_in(olga)
    assert old.kid in client.get("/operator/lti/").content.decode()
    for _ in "12":  # pressed twice
        client.post("/operator/lti/key/", {"seen": old.kid})
    assert SigningKey.objects.count() == 2
    published = Client().get("/lti/keys.json").json()
    assert {row["kid"] for row in published["keys"]} == set(SigningKey.objects.values_list("kid", flat=True))
    assert not any("d" in row for row in published["keys"]) and b"PRIVATE" not in bytes(old.sealed)
    campus.keys.write_text(json.dumps(published))
    hand_in(room, room.stu, room.member)
    assert send(returned).state == "sent"
    SigningKey.objects.filter(pk=old.pk).update(retired_at=timezone.now() - keys.PUBLISHED_AFTER)
    assert old.kid not in json.dumps(Client().get("/lti/keys.json").json())
    with pytest.raises(VpmsError):
        keys.rotate(by=room.ines, seen="")


def test_returns_and_platforms_are_for_those_whom_they_concern(
    campus: Running, room: Class, returned: Return, olga: User
) -> None:
    tom = User.objects.create(username="tom")
    membership_add(by=None, user=tom, role="teacher")
    Return.objects.update(state="failed")
    course = room.course.pk
    for user in (room.stu, room.mia, tom):
        client = signed_in(user)
        assert client.get(f"/learn/courses/{course}/returns/").status_code == 404
        assert client.post(f"/learn/courses/{course}/returns/", {"return": returned.pk}).status_code == 404
        assert client.get(f"/api/courses/{course}/returns").status_code == 404
        assert client.post(f"/api/courses/{course}/returns/{returned.pk}", **JSON).status_code == 404
        assert client.get("/operator/lti/").status_code == 403
        assert client.get("/api/lti").status_code == 404
    assert Return.objects.get().state == "failed"
    told = signed_in(room.ines).get(f"/api/courses/{course}/returns").json()
    assert told["returns"][0]["nickname"] == "stu" and told["platforms"] == ["Campus"]
    assert (
        signed_in(room.ines).post(f"/api/courses/{course}/returns/{returned.pk}", **JSON).json()["state"] == "waiting"
    )
    assert signed_in(olga).get("/api/lti").json()["platforms"][0]["issuer"] == campus.url
    work_all()


def test_with_the_account_goes_who_it_was_at_the_platform(campus: Running, room: Class, returned: Return) -> None:
    hand_in(room, room.stu, room.member)
    send(returned)
    told = accounts.more_of_own["learning_platforms"](room.stu)
    assert told[0] == {"platform": campus.url, "subject": "s-1"} and told[1]["points"] == 20
    services.forget(room.stu)
    assert not Account.objects.exists() and not Return.objects.exists() and services.forget in people.on_deleted


# -- settings


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"platforms": {}}', '{"platforms": [{}]}', '{"platforms": [], "more": 1}',
        '{"platforms": [], "networks": ["x"]}',
    ],
)  # fmt: skip
def test_a_faulty_file_stops_the_start_with_a_sentence(settings: Any, tmp_path: Path, text: str) -> None:
    file = tmp_path / "platforms.json"
    file.write_text(text)
    settings.LTI_PLATFORMS = str(file)
    with pytest.raises(ImproperlyConfigured, match="HSVM_LTI_PLATFORMS"):
        platforms.known()


@pytest.mark.parametrize("change", [{"token_url": "http://campus.example/t"}, {"deployments": []}, {"client_id": 7}])
def test_a_platform_without_https_or_place_is_refused(campus: Running, change: dict[str, Any]) -> None:
    campus.named(**change)
    with pytest.raises(ImproperlyConfigured, match=r"platforms\[0\]"):
        platforms.known()


def test_without_a_file_there_is_no_lti(settings: Any) -> None:
    settings.LTI_PLATFORMS = ""
    assert platforms.known() == () and AGS
    assert Client().get("/lti/login/", {"iss": "https://x.example"}).status_code == 403
