"""A class in session: coming in, following, answering once, holding still; and what nobody else learns or may do."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.conftest import Cast
from webapp.accounts.models import User
from webapp.courses import class_live, classes, lessons, selectors, services
from webapp.courses.models import ClassAnswer, ClassSession, Course, Item, Member, Seat
from webapp.errors import BadInput, VpmsError

pytestmark = pytest.mark.django_db
ASKED = {
    "text": "Who owns frame 7?",
    "choices": [{"name": "a", "text": "VM A"}, {"name": "b", "text": "VM B", "misconception": "the last mapper owns"}],
    "right": "a",
    "why": "The table says A.",
}


@pytest.fixture
def session(cast: Cast) -> ClassSession:
    return classes.class_of_lesson(by=cast.ines, name="two-translations", language="en")


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def guest(session: ClassSession, nickname: str) -> Client:
    client = Client()
    answer = client.post("/join/", {"code": session.code, "nickname": nickname})
    assert answer.status_code == 302, answer.content
    return client


def act(cast: Cast, session: ClassSession, act: str, **more: Any) -> Any:
    return as_(cast.ines).post(f"/learn/class/{session.code}/act/", {"act": act, **more})


# -- coming in


def test_a_teacher_is_at_the_desk_of_a_running_class_by_one_button(cast: Cast) -> None:
    answer = as_(cast.ines).post("/learn/lessons/compromised-hypervisor/class/")
    session = ClassSession.objects.get()
    assert answer["Location"] == f"/learn/class/{session.code}/desk/"
    desk = as_(cast.ines).get(answer["Location"]).content.decode()
    assert session.code in desk and "The compromised hypervisor" in desk and "Ask" in desk
    assert Item.objects.get().shown and len(session.code) == 6 and set(session.code) <= set(classes.LETTERS)


def test_a_guest_comes_in_by_code_and_nickname_and_sees_what_is_shown(session: ClassSession) -> None:
    client = guest(session, "Ada")
    page = client.get(f"/learn/class/{session.code}/").content.decode()
    assert "you are Ada" in page and "Your word is" in page and "Two translations" in page
    assert "Your word is" not in client.get(f"/learn/class/{session.code}/").content.decode()  # shown once
    user = User.objects.get(guest=True)
    assert not user.has_usable_password() and user.roles == []


@pytest.mark.parametrize("code", ["", "ZZZZZZ", "'; --", "A" * 200])
def test_a_code_that_is_none_is_told_beside_its_field(session: ClassSession, code: str) -> None:
    answer = Client().post("/join/", {"code": code, "nickname": "Ada"})
    assert answer.status_code == 422 and "is no code of a class" in answer.content.decode().lower().replace(
        "is no", "is no"
    )
    assert "Ada" in answer.content.decode() and not User.objects.filter(guest=True).exists()


def test_sixty_come_in_from_one_address_and_a_guesser_is_held_back(session: ClassSession) -> None:
    for number in range(60):
        guest(session, f"s{number}")
    assert session.seats.count() == 60
    client = Client()
    statuses = [
        client.post("/join/", {"code": "ZZZZZZ", "nickname": "x"}).status_code for _ in range(classes.MOST_GUESSES + 2)
    ]
    assert statuses[-1] == 429 and statuses[0] == 422


def test_nicknames_are_taken_once_and_a_word_brings_the_seat_back(session: ClassSession) -> None:
    client = guest(session, "Ada")
    word = client.session["class_word"]
    assert Client().post("/join/", {"code": session.code, "nickname": "ada"}).status_code == 422
    other = Client()
    assert other.post("/join/", {"code": session.code, "nickname": "Ada", "word": "wrong"}).status_code == 422
    answer = other.post("/join/", {"code": session.code, "nickname": "ada", "word": word})
    assert answer["Location"] == f"/learn/class/{session.code}/"
    assert session.seats.count() == 1 and User.objects.filter(guest=True).count() == 1


def test_a_guest_learns_and_reaches_nothing_else(session: ClassSession, cast: Cast) -> None:
    client = guest(session, "Ada")
    for path in ("/account/", "/account/tokens/", "/tenant/", "/operator/", "/teach/", "/api/vms", "/api/account"):
        assert client.get(path).status_code in (403, 404), path
    for path in ("/learn/", "/learn/lessons/", f"/learn/items/{Item.objects.get().pk}/", "/learn/courses/"):
        assert client.get(path).status_code == 200, path


def test_who_was_sent_out_does_not_come_back(session: ClassSession, cast: Cast) -> None:
    client = guest(session, "Ada")
    act(cast, session, "remove", seat=Seat.objects.get().pk)
    assert client.get(f"/learn/class/{session.code}/").status_code == 302
    assert client.post("/join/", {"code": session.code, "nickname": "Ada"}).status_code == 403


# -- what is shown


def test_a_step_of_a_view_reaches_the_stage_and_nothing_after_it(session: ClassSession, cast: Cast) -> None:
    item = Item.objects.get()
    before = session.version
    act(cast, session, "show", kind="view", item=item.pk, view=1, step=3)
    (message,) = class_live.messages(session.code, "seat", before)
    assert message["seq"] == before + 1 and "Reference 3 of 24" in message["data"]["html"]
    assert "Reference 4 of 24" not in message["data"]["html"]
    assert class_live.messages(session.code, "seat", before + 1) == []


def test_a_section_is_shown_up_to_its_first_question_and_a_hidden_item_only_in_class(
    session: ClassSession, cast: Cast
) -> None:
    before, after = "WHAT STANDS BEFORE", "WHAT THE QUESTION HOLDS BACK"
    text = lessons.BLANK.replace("```question", f"{before}\n\n```question", 1)
    text = text.replace("```view", f"{after}\n\n```view", 1)
    item = services.item_add(by=cast.ines, course=session.course, kind="lesson", title="Not yet", text=text)
    ada = guest(session, "Ada")
    section = next(n for n, each in enumerate(lessons.read(text).sections) if any(p.question for p in each.parts))
    act(cast, session, "show", kind="section", item=item.pk, section=section)
    why = next(iter(lessons.read(text).questions.values())).why
    code = session.code
    told = [ada.get(f"/learn/class/{code}/").content.decode(), ada.get(f"/api/classes/{code}").content.decode()]
    told += [str(class_live.messages(code, "seat", None))]
    told += [as_(cast.ines).get(f"/learn/class/{code}/wall/").content.decode()]  # on the wall all can read it
    for shown in told:
        assert before in shown and after not in shown and why not in shown
    for path in (f"/learn/items/{item.pk}/", f"/learn/items/{item.pk}/export/", f"/api/courses/items/{item.pk}/lesson"):
        assert ada.get(path).status_code == 404, path  # shown in class is not opened to all


@pytest.mark.parametrize(
    "cursor",
    [
        {"kind": "view", "item": 0, "view": 1, "step": 0},
        {"kind": "nothing", "item": 1},
        {"kind": "view", "item": -1, "view": 99, "step": 0},
        {"kind": "section", "item": -1, "section": 999},
    ],
)
def test_a_place_that_is_none_is_refused_and_nothing_moves(session: ClassSession, cast: Cast, cursor: Any) -> None:
    item = Item.objects.get().pk
    cursor = {**cursor, "item": item if cursor["item"] == -1 else cursor["item"]}
    with pytest.raises(BadInput):
        classes.show(by=cast.ines, session=session, cursor=cursor)
    assert ClassSession.objects.get().version == session.version


# -- questions


def test_answers_are_counted_once_and_told_only_when_the_teacher_shows_them(session: ClassSession, cast: Cast) -> None:
    ada, bo = guest(session, "Ada"), guest(session, "Bo")
    classes.ask(by=cast.ines, session=session, question=ASKED)
    at = f"/learn/class/{session.code}/"
    for choice in ("b", "a"):
        ada.post(f"{at}answer/", {"choice": choice})
    bo.post(f"{at}answer/", {"choice": "a"})
    told = [ada.get(at).content.decode(), ada.get(f"/api/classes/{session.code}").content.decode()]
    told += [str(class_live.messages(session.code, "seat", None))]
    for text in told:
        assert "The table says A" not in text and "the last mapper" not in text and "Bo" not in text
        assert '"right":' not in text.replace(" ", "") or '"right":true' not in text.replace(" ", "")
    desk = as_(cast.ines).get(f"{at}desk/").content.decode()
    assert "2 answers of 2" in desk and "the last mapper owns" in desk
    act(cast, session, "reveal")
    page = bo.get(at).content.decode()
    assert "The table says A." in page and "50 %" in page and "the last mapper" not in page
    assert ClassAnswer.objects.get(seat__member__nickname="Ada").choice == "b"


def test_a_class_that_is_held_still_takes_no_answer(session: ClassSession, cast: Cast) -> None:
    ada = guest(session, "Ada")
    classes.ask(by=cast.ines, session=session, question=ASKED)
    act(cast, session, "freeze")
    headers = {"accept": "application/json"}
    answer = ada.post(f"/learn/class/{session.code}/answer/", {"choice": "a"}, headers=headers)
    assert answer.status_code == 409 and not ClassAnswer.objects.exists()
    act(cast, session, "go-on")
    assert ada.post(f"/learn/class/{session.code}/answer/", {"choice": "a"}, headers=headers).status_code == 200


def test_a_question_of_a_lesson_is_asked_and_a_wrong_one_refused(session: ClassSession, cast: Cast) -> None:
    from webapp.courses import lessons

    item = Item.objects.get()
    key = next(iter(lessons.known(item.text).questions))
    act(cast, session, "ask", item=item.pk, key=key)
    assert ClassSession.objects.get().question["key"] == key
    act(cast, session, "ask", item=item.pk, key="nothing")
    act(cast, session, "ask", text="", choices="a")
    assert ClassSession.objects.get().question["number"] == 1


# -- who may


def test_students_strangers_and_other_teachers_do_not_lead_the_class(session: ClassSession, cast: Cast) -> None:
    at = f"/learn/class/{session.code}/"
    ada = guest(session, "Ada")
    for client, expected in ((ada, {403}), (as_(cast.bob), {404}), (as_(cast.olga), {404})):
        found = {client.get(f"{at}desk/").status_code, client.get(f"{at}wall/").status_code}
        found |= {client.post(f"{at}act/", {"act": name}).status_code for name in ("freeze", "end", "reveal")}
        found |= {client.get(f"/api/classes/{session.code}/desk").status_code}
        assert found == expected
    assert as_(cast.bob).get(f"/api/classes/{session.code}").status_code == 404
    row = ClassSession.objects.get()
    assert not row.frozen and row.ended_at is None


def test_topics_are_heard_by_who_sits_there_and_the_desk_by_the_teacher(session: ClassSession, cast: Cast) -> None:
    guest(session, "Ada")
    ada = User.objects.get(guest=True)
    assert class_live.authorise(ada, session.code) == class_live.authorise(cast.ines, session.code) == "seat"
    assert class_live.authorise_desk(cast.ines, session.code) == "desk"
    assert class_live.authorise_desk(ada, session.code) is None
    for user in (cast.bob, cast.olga):
        assert class_live.authorise(user, session.code) is class_live.authorise_desk(user, session.code) is None
    classes.class_end(by=cast.ines, session=session)
    assert class_live.authorise(ada, session.code) is None


def test_a_class_that_is_over_takes_nobody_and_its_code_is_free(session: ClassSession, cast: Cast) -> None:
    ada = guest(session, "Ada")
    act(cast, session, "end")
    assert ada.get(f"/learn/class/{session.code}/").status_code == 404
    assert Client().post("/join/", {"code": session.code, "nickname": "x"}).status_code == 422
    with pytest.raises(VpmsError):
        classes.freeze(by=cast.ines, session=session, frozen=True)


def test_the_scoreboard_shows_nicknames_of_those_who_allow_it(session: ClassSession, cast: Cast) -> None:
    ada, _bo = guest(session, "Ada"), guest(session, "Bo")
    item = Item.objects.get()
    classes.board_set(by=cast.ines, session=session, board="live")
    services.mark_put(item=item, member=Member.objects.get(nickname="Ada"), earned=3, reasons=[])
    assert ClassSession.objects.get().board_rows == [["Ada", 3.0], ["Bo", 0.0]]
    ada.post(f"/learn/class/{session.code}/seat/", {"act": "no-board"})
    assert ClassSession.objects.get().board_rows == [["Bo", 0.0]]
    classes.board_set(by=cast.ines, session=session, board="frozen")
    services.mark_put(item=item, member=Member.objects.get(nickname="Bo"), earned=2, reasons=[])
    assert ClassSession.objects.get().board_rows == [["Bo", 0.0]]


# -- courses


def test_a_course_from_nothing_to_a_class_by_the_pages(cast: Cast) -> None:
    client = as_(cast.ines)
    course = Course.objects.get(
        pk=int(client.post("/learn/courses/", {"title": "Isolation"})["Location"].split("/")[3])
    )
    for what in ("lesson/two-translations", "lesson/stale-tlb-entries", "attack/read-the-secret"):
        client.post(f"/learn/courses/{course.pk}/add/", {"what": what})
    first, second, third = course.items.all()
    client.post(f"/learn/items/{third.pk}/act/", {"act": "up"})
    client.post(f"/learn/items/{first.pk}/act/", {"act": "show"})
    assert [item.pk for item in course.items.all()] == [first.pk, third.pk, second.pk]
    session = classes.class_open(by=cast.ines, course=course)
    ada = guest(session, "Ada")
    page = ada.get(f"/learn/courses/{course.pk}/").content.decode()
    assert first.title in page and second.title not in page and "Add to the course" not in page
    assert ada.post(f"/learn/courses/{course.pk}/add/", {"what": "lesson/two-translations"}).status_code == 403
    assert ada.post(f"/learn/items/{first.pk}/act/", {"act": "hide"}).status_code == 403
    assert client.post("/learn/courses/", {"title": ""}).status_code == 422
    assert as_(cast.bob).post("/learn/courses/", {"title": "Mine"}).status_code == 403
    with pytest.raises(VpmsError):
        selectors.course_get(user=cast.bob, pk=course.pk)
