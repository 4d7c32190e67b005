"""Course work as a person's own data: taken away, forgotten with the account; guests who go after their class."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.lab import Class, make_class, work_all
from tests.web.policy import make_lab, seated
from webapp.accounts.models import User
from webapp.courses import (
    classes,
    lab,
    policy_game,
    policy_play,
    policy_table,
    predict_item,
    reading,
    services,
)
from webapp.courses.models import Attempt, ClassSession, GuestMarks, LabWork, LessonAnswer, Mark, Member
from webapp.ops import retention
from webapp.tenants import people

pytestmark = pytest.mark.django_db


@pytest.fixture
def room(cast: Cast) -> Class:
    room = make_class()
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    work_all()
    reading.answer(
        reading.of_shipped(user=room.stu, name="two-translations", language="en"), key="guess-count", choice="a"
    )
    session = classes.class_open(by=room.ines, course=room.course)
    classes.seat_take(session=session, user=room.stu, nickname="stu")
    return room


def test_the_export_holds_courses_answers_attempts_and_marks_and_no_seed(room: Class) -> None:
    client = Client()
    client.force_login(room.stu)
    told = client.get("/api/account/data").json()["courses"]
    assert [row["nickname"] for row in told["courses"]] == ["stu"] and len(told["classes"]) == 1
    assert told["attempts"][0]["text"] == room.solution and told["marks"][0]["points"] == Mark.objects.get().points
    assert told["lesson_answers"][0]["key"] == "guess-count" and told["drafts"][0]["text"] == room.solution
    whole = json.dumps(told)
    assert str(room.member.seed) not in whole and "mia" not in whole
    client.force_login(room.mia)
    assert client.get("/api/account/data").json()["courses"]["attempts"] == []


def test_of_games_and_predictions_the_export_holds_ones_own_without_answers_and_seeds(db: None) -> None:
    play = make_lab()
    seats = seated(play)
    for name, seat in seats.items():
        policy_play.claim_put(
            seat=seat, declaration=1, claim=policy_table.truth(policy_game.read(seat.game.text), name)
        )
    text = predict_item.shipped("en")[0].text
    item = services.item_add(
        by=play.ines, course=play.course, kind="predict", title="P", text=text, points=8, shown=True
    )
    for name in ("stu", "mia"):
        found = predict_item.round_of(item, play.members[name], None)
        predict_item.answer(found, step=1, choice="")
    whole = play.client("stu").get("/api/account/data").content.decode()
    told = json.loads(whole)["courses"]
    [claim], [predicted] = told["policy_claims"], told["predictions"]
    own = next(seat for seat in seats.values() if seat.member == play.members["stu"])
    assert claim["claim"]["wishes"] == policy_table.truth(policy_game.read(own.game.text), own.tenant)["wishes"]
    assert set(predicted) == {"item", "source", "step", "kind", "choice"} and predicted["item"] == item.pk
    for member in play.members.values():
        assert str(member.seed) not in whole and str(services.graded_seed(item, member)) not in whole
    assert "nick-mia" not in whole


def test_with_the_account_go_words_and_files_and_the_marks_stay_under_a_sign(room: Class) -> None:
    classes.board_set(by=room.ines, session=ClassSession.objects.get(), board="live")
    people.account_delete(user=room.stu)
    assert not Attempt.objects.exists() and not LabWork.objects.exists() and not LessonAnswer.objects.exists()
    member = Member.objects.get(pk=room.member.pk)
    assert member.nickname == room.stu.alias and member.left_at is not None and Mark.objects.get().points > 0
    assert all("stu" not in row for row in ClassSession.objects.get().board_rows)


def test_guests_go_when_their_class_is_long_over_and_their_marks_stay_as_counts(room: Class, settings: Any) -> None:
    session = ClassSession.objects.get()
    for name, earned in (("Ada", 4), ("Bo", 6)):
        seat, _word = classes.seat_take(session=session, user=None, nickname=name)
        services.mark_put(item=room.item, member=seat.member, earned=earned, reasons=[])
    long_ago = timezone.now() - dt.timedelta(days=settings.KEEP_GUESTS_DAYS + 1)
    User.objects.update(date_joined=long_ago)
    assert retention.prune_guests() == 0  # the class is open
    classes.class_end(by=room.ines, session=session)
    assert retention.prune_guests() == 0  # and then only just over
    ClassSession.objects.update(ended_at=long_ago)
    later = classes.class_open(by=room.ines, course=room.course)
    bo = User.objects.get(first_name="Bo")
    classes.seat_take(session=later, user=bo, nickname="Bo")
    assert retention.prune()["guests of classes that are over"] == 1
    assert not Member.objects.filter(nickname="Ada").exists() and Member.objects.filter(nickname="Bo").exists()
    kept = GuestMarks.objects.get()
    assert (kept.item, kept.people, kept.points) == (room.item, 1, 4.0)
    ClassSession.objects.update(ended_at=long_ago)
    assert retention.prune_guests() == 1 and not User.objects.filter(guest=True).exists()
    kept.refresh_from_db()
    assert (kept.people, kept.points) == (2, 10.0) and User.objects.filter(username="stu").exists()
