"""A student's attack on all screens: nothing of it before they agree, nothing after it ended, no word of a no."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from hsvm_engine.interpreter import secret_of
from tests.conftest import Cast
from tests.web.lab import Class, make_class, work_all
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.courses import class_live, classes, lab, services, spotlight
from webapp.courses.models import ClassSession, Member, Seat, Spotlight
from webapp.errors import VpmsError
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
MARK = "# quite my own idea, 4711"  # in the file of the attack, and nowhere else


@dataclass
class Scene:
    room: Class
    session: ClassSession
    seat: Seat
    other: Seat
    colleague: User


@pytest.fixture
def scene(cast: Cast) -> Scene:
    room = make_class()
    session = classes.class_open(by=room.ines, course=room.course)
    seat, other = (
        classes.seat_take(session=session, user=each, nickname=each.username)[0] for each in (room.stu, room.mia)
    )
    text = room.solution.replace("schema: 1\n", f"schema: 1\n{MARK}\n", 1)
    assert MARK in text
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=text, seed=3)
    work_all()
    colleague = User.objects.create(username="otto")
    membership_add(by=None, user=colleague, role="teacher")
    services.member_add(course=room.course, user=colleague, role=Member.Role.TEACHER, nickname="otto")
    return Scene(room, session, seat, other, colleague)


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def ask(scene: Scene, by: Any = None) -> Any:
    return as_(by or scene.room.ines).post(
        f"/learn/class/{scene.session.code}/act/", {"act": "spotlight", "seat": scene.seat.pk}, follow=True
    )


def answer(scene: Scene, act: str, who: Any = None) -> int:
    at = f"/learn/class/{scene.session.code}/spotlight/"
    return as_(who or scene.room.stu).post(at, {"act": act}).status_code


def heard(scene: Scene) -> dict[str, str]:
    """All that reaches anybody but the student: pages, parts, API and sockets."""
    code = scene.session.code
    found = {}
    for name, user in (("mia", scene.room.mia), ("ines", scene.room.ines), ("otto", scene.colleague)):
        client = as_(user)
        for path in (f"/learn/class/{code}/", f"/learn/class/{code}/wall/", f"/learn/class/{code}/desk/"):
            found[f"{name} {path}"] = client.get(path, follow=True).content.decode()
        for path in (f"/api/classes/{code}", f"/api/classes/{code}/desk", f"/api/classes/{code}/spotlight"):
            found[f"{name} {path}"] = client.get(path).content.decode()
    found["socket"] = json.dumps(class_live.messages(code, "seat", None))
    found["desk socket"] = json.dumps(class_live.desk_messages(code, "desk", None))
    found["seat socket"] = json.dumps(class_live.seat_messages(code, str(scene.other.pk), None))
    return found


def seen_by(scene: Scene) -> set[str]:
    return {name for name, text in heard(scene).items() if MARK in text}


def test_nothing_of_an_attack_is_anywhere_before_its_author_agrees(scene: Scene) -> None:
    assert (
        "Ask to show their attack"
        in as_(scene.room.ines).get(f"/learn/class/{scene.session.code}/desk/").content.decode()
    )
    ask(scene)
    assert Spotlight.objects.get().state == "asked" and seen_by(scene) == set()
    page = as_(scene.room.stu).get(f"/learn/class/{scene.session.code}/").content.decode()
    assert "May the class see your attack?" in page and MARK not in page
    for name, text in heard(scene).items():
        assert "May the class see" not in text, name
        if not name.startswith("ines"):
            assert "is asked whether" not in text, name


def test_a_no_is_told_to_who_asked_and_to_nobody_else(scene: Scene) -> None:
    ask(scene)
    before, version = Entry.objects.count(), ClassSession.objects.get().version
    assert answer(scene, "decline") == 302
    assert seen_by(scene) == set() and Entry.objects.count() == before
    assert ClassSession.objects.get().version == version  # no screen of the class has changed
    told = {name for name, text in heard(scene).items() if "not now" in text or "declined" in text}
    assert told == {f"ines /learn/class/{scene.session.code}/{page}" for page in ("", "wall/", "desk/")} - {
        f"ines /learn/class/{scene.session.code}/wall/"
    } | {f"ines /api/classes/{scene.session.code}/desk"}
    again = ask(scene).content.decode()
    assert "They said not now" in again and Spotlight.objects.count() == 1


@pytest.mark.parametrize("named", [False, True])
def test_everybody_sees_it_as_the_author_chose_until_the_author_ends_it(scene: Scene, named: bool) -> None:
    ask(scene)
    answer(scene, "agree-named" if named else "agree")
    answer(scene, "agree-named")  # pressed twice: the first stands
    seen = seen_by(scene)
    assert {
        f"mia /learn/class/{scene.session.code}/",
        f"ines /learn/class/{scene.session.code}/wall/",
        "socket",
    } <= seen
    for name in ("socket", f"mia /learn/class/{scene.session.code}/", f"mia /api/classes/{scene.session.code}"):
        assert ("An attack of stu" in heard(scene)[name]) is named, name
        assert ("somebody in this class" in heard(scene)[name]) is not named
    page = heard(scene)[f"mia /learn/class/{scene.session.code}/"]
    assert "SUCCEEDED" in page and "20 points" not in page and "Stop showing it now" not in page
    if not named:
        assert "stu" not in heard(scene)["socket"].replace("student", "")
    assert "Stop showing it now" in as_(scene.room.stu).get(f"/learn/class/{scene.session.code}/").content.decode()
    assert answer(scene, "end") == 302
    assert seen_by(scene) == set() and Spotlight.objects.get().state == "over"
    assert class_live.messages(scene.session.code, "seat", None)[0]["data"]["spotlight"] is False


def test_what_was_handed_in_is_shown_without_its_seed_its_points_and_the_hidden_test(scene: Scene) -> None:
    room = scene.room
    text = room.solution.replace("schema: 1\n", f"schema: 1\n{MARK}\n", 1)
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=text, graded=True)
    work_all()
    ask(scene)
    answer(scene, "agree")
    seed = services.graded_seed(room.item, room.member)
    secret = secret_of(seed).hex()
    whole = heard(scene)
    assert {"socket", f"mia /api/classes/{scene.session.code}"} <= seen_by(scene)
    for name, told in whole.items():
        for word in (str(seed), f"{seed:x}", str(room.member.seed), "page_unmap", "good thief"):
            assert word not in told, (name, word)
        assert not any(secret[at : at + 8] in told for at in range(0, 24, 2)), name
        assert not re.search(r"\d of (10|20) points", told) or name.startswith(("ines", "otto")), name


@pytest.mark.parametrize("how", ["teacher", "class", "seat", "left", "deleted"])
def test_it_is_gone_when_anything_of_it_ends(scene: Scene, how: str) -> None:
    ask(scene)
    answer(scene, "agree")
    assert seen_by(scene)
    ines, code = as_(scene.room.ines), scene.session.code
    if how == "teacher":
        ines.post(f"/learn/class/{code}/act/", {"act": "spotlight-end"})
    elif how == "class":
        ines.post(f"/learn/class/{code}/act/", {"act": "end"})
    elif how == "seat":
        ines.post(f"/learn/class/{code}/act/", {"act": "remove", "seat": scene.seat.pk})
    elif how == "left":
        from django.utils import timezone

        Member.objects.filter(pk=scene.room.member.pk).update(left_at=timezone.now())
    else:
        Member.objects.filter(pk=scene.room.member.pk).delete()
    assert seen_by(scene) == set()


def test_only_the_asked_seat_answers_and_only_teachers_ask(scene: Scene, cast: Cast) -> None:
    for user in (scene.room.stu, scene.room.mia, cast.bob):
        assert ask(scene, by=user).status_code in (403, 404)
    assert not Spotlight.objects.exists()
    ask(scene)
    assert answer(scene, "agree", who=scene.room.mia) == 409 and answer(scene, "agree", who=cast.bob) == 404
    answer(scene, "decline", who=scene.room.mia)
    assert Spotlight.objects.get().state == "asked" and seen_by(scene) == set()
    answer(scene, "agree")
    answer(scene, "end", who=scene.room.mia)
    assert Spotlight.objects.get().state == "shown"
    with pytest.raises(VpmsError, match="no attack of theirs"):
        spotlight.stop(by=scene.room.ines, session=scene.session)
        spotlight.ask(by=scene.room.ines, seat=scene.other)


def test_the_same_by_api(scene: Scene) -> None:
    ines, stu, mia = (as_(each) for each in (scene.room.ines, scene.room.stu, scene.room.mia))
    at = f"/api/classes/{scene.session.code}/spotlight"

    def post(client: Client, path: str, **body: Any) -> Any:
        return client.post(path, json.dumps(body), content_type="application/json")

    desk = ines.get(f"/api/classes/{scene.session.code}/desk").json()
    [seat] = [each["id"] for each in desk["seats"] if each["attempt"]]
    assert post(mia, at, seat=seat).status_code == 403
    assert post(ines, at, seat=seat).json()["wish"] == {"nickname": "stu", "state": "asked"}
    assert mia.get(at).json()["state"] == "" and stu.get(at).json()["state"] == "asked"
    assert post(mia, f"{at}/answer", agree=True).status_code == 409
    assert post(stu, f"{at}/answer", agree=True, named=True).json()["state"] == "shown"
    assert "An attack of stu" in mia.get(f"/api/classes/{scene.session.code}").json()["html"]
    assert mia.delete(at).status_code == 204 and MARK in mia.get(f"/api/classes/{scene.session.code}").json()["html"]
    assert stu.delete(at).status_code == 204 and seen_by(scene) == set()


def test_a_seat_hears_only_of_its_own(scene: Scene) -> None:
    code = scene.session.code
    assert class_live.authorise_seat(scene.room.stu, code) == str(scene.seat.pk)
    assert class_live.authorise_seat(scene.room.ines, code) is None
    before = class_live.seat_messages(code, str(scene.other.pk), None)[0]["seq"]
    ask(scene)
    assert class_live.seat_messages(code, str(scene.other.pk), before) == []
    [message] = class_live.seat_messages(code, str(scene.seat.pk), 0)
    assert message["data"] == {} and message["topic"] == f"class/{code}/seat"
