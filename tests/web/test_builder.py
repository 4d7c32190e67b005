"""The course builder: texts, versions, settings, late work, removing, copies, archive, preview; who sees nothing."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.lab import Class, make_class, work_all
from webapp.courses import builder, deadlines, editing, kinds, lab, lessons, reading, services
from webapp.courses.models import Attempt, Course, Item, ItemVersion, LessonAnswer, Mark, Member
from webapp.errors import BadInput, VpmsError

pytestmark = pytest.mark.django_db
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def room(cast: Cast) -> Class:
    return make_class()


@pytest.fixture
def lesson(room: Class) -> Item:
    return services.item_add(
        by=room.ines, course=room.course, kind="lesson", title="A lesson", text=lessons.BLANK, points=10, shown=True
    )


@pytest.fixture
def berlin(settings: Any) -> None:
    settings.SITE_ZONE = BERLIN


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, path: str, **form: Any) -> str:
    answer = client.post(path, form, follow=True) if form else client.get(path)
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


# -- the text


def test_a_teacher_changes_a_text_in_the_page_and_students_read_it(room: Class, lesson: Item) -> None:
    text = lessons.BLANK.replace("Write here.", "Frames are counted.")
    assert "Version 2 is saved" in page(
        as_(room.ines), f"/learn/items/{lesson.pk}/edit/", text=text, seen="1", act="save"
    )
    assert "Frames are counted." in page(as_(room.stu), f"/learn/items/{lesson.pk}/")


def test_a_faulty_text_is_refused_whole_with_line_and_column_and_stays_in_the_editor(room: Class, lesson: Item) -> None:
    text = lessons.BLANK.replace("right: b", "right: z").replace("Write here.", "Words that I typed.")
    line = text.split("\n").index("right: z") + 1
    answer = as_(room.ines).post(f"/learn/items/{lesson.pk}/edit/", {"text": text, "seen": "1", "act": "save"})
    told = answer.content.decode()
    assert answer.status_code == 422 and f"Line {line}, column" in told and "Words that I typed." in told
    lesson.refresh_from_db()
    assert lesson.version == 1 and lesson.text == lessons.BLANK


def test_the_editor_works_without_script_and_places_blocks_that_can_be_saved(room: Class, lesson: Item) -> None:
    client, text = as_(room.ines), lessons.BLANK
    for block in kinds.kind_of("lesson").blocks:
        answer = client.post(
            f"/learn/items/{lesson.pk}/edit/", {"text": text, "seen": "1", "act": f"place:{block.name}"}
        )
        assert "not saved yet" in answer.content.decode()
        text = answer.context["text"]
    text = editing.placed("lesson", "question", text)
    assert editing.checked("lesson", text) == [] and "key: question-2" in text
    assert "Version 2 is saved" in page(client, f"/learn/items/{lesson.pk}/edit/", text=text, seen="1", act="save")
    assert client.post(f"/learn/items/{lesson.pk}/edit/", {"text": text, "act": "place:no"}).status_code == 422


def test_what_was_typed_when_the_sign_in_had_ended_comes_back(room: Class, lesson: Item) -> None:
    client = Client()
    path = f"/learn/items/{lesson.pk}/edit/"
    asked = client.post(path, {"text": "half a sentence", "seen": "1", "act": "save"})
    assert asked.status_code == 401
    room.ines.set_password("a long enough password")
    room.ines.save()
    typed = {"username": "ines", "password": "a long enough password", "typed": asked.context["typed"]}
    back = client.post("/sign-in/", {**typed, "next": asked.context["next"]}, follow=True)
    assert "half a sentence" in back.content.decode() and Item.objects.get(pk=lesson.pk).version == 1


def test_two_teachers_at_once_see_both_differences_and_lose_nothing(room: Class, lesson: Item) -> None:
    path = f"/learn/items/{lesson.pk}/edit/"
    theirs = lessons.BLANK.replace("Write here.", "Their words.")
    mine = lessons.BLANK.replace("Write here.", "My words.")
    editing.text_put(by=room.ines, item=lesson, text=theirs, seen=1)
    answer = as_(room.ines).post(path, {"text": mine, "seen": "1", "act": "save"})
    told = answer.content.decode()
    assert answer.status_code == 412 and told.count("Their words.") == 2 and "My words." in told
    assert Item.objects.get(pk=lesson.pk).text == theirs
    over = as_(room.ines).post(path, {"text": mine, "seen": answer.context["seen"], "act": "save"})
    assert over.status_code == 302 and Item.objects.get(pk=lesson.pk).text == mine
    assert (
        as_(room.ines).post(path, {"text": mine, "seen": "1", "act": "save"}).status_code == 302
    )  # once more: nothing
    assert Item.objects.get(pk=lesson.pk).version == 3


def test_by_the_api_a_version_that_was_overtaken_is_refused_with_both_differences(room: Class, lesson: Item) -> None:
    client, path = as_(room.ines), f"/api/items/{lesson.pk}/text"
    tag = client.get(path)["ETag"]
    mine, theirs = (lessons.BLANK.replace("Write here.", words) for words in ("Mine.", "Theirs."))
    kind: Any = {"content_type": "application/json"}
    assert client.put(path, {"text": theirs}, headers={"If-Match": tag}, **kind).status_code == 200
    refused = client.put(path, {"text": mine}, headers={"If-Match": tag}, **kind)
    told = refused.json()
    assert refused.status_code == 412 and told["code"] == "stale" and told["version"] == 2
    assert {"what": "in", "text": "Theirs."}.items() <= next(r for r in told["changed"] if r["what"] == "in").items()
    assert {"what": "in", "text": "Mine."}.items() <= next(r for r in told["changes"] if r["what"] == "in").items()
    checked = client.post(f"/api/items/{lesson.pk}/check", {"text": "---\n"}, **kind).json()
    assert not checked["ok"] and checked["faults"][0]["line"] == 1


def test_an_earlier_version_is_looked_at_and_brought_back(room: Class, lesson: Item) -> None:
    editing.text_put(by=room.ines, item=lesson, text=lessons.BLANK.replace("Write here.", "Second."), seen=1)
    client = as_(room.ines)
    assert "Version 1" in page(client, f"/learn/items/{lesson.pk}/edit/")
    told = page(client, f"/learn/items/{lesson.pk}/versions/1/")
    assert "taken out" in told and "Second." in told and "Write here." in told
    assert "as version 3" in page(client, f"/learn/items/{lesson.pk}/versions/1/", seen="2")
    lesson.refresh_from_db()
    assert (lesson.version, lesson.text) == (3, lessons.BLANK)
    kind: Any = {"content_type": "application/json"}
    assert client.post(f"/api/items/{lesson.pk}/versions/2/restore", {}, **kind).json()["version"] == 4
    assert [row["version"] for row in client.get(f"/api/items/{lesson.pk}/versions").json()["items"]] == [4, 3, 2, 1]
    assert client.get(f"/learn/items/{lesson.pk}/versions/9/").status_code == 404


def test_only_so_many_versions_are_kept(room: Class, lesson: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editing, "KEPT", 3)
    for number in range(5):
        text = lessons.BLANK.replace("Write here.", f"Try {number}.")
        lesson = editing.text_put(by=room.ines, item=lesson, text=text, seen=None)
    assert list(ItemVersion.objects.filter(item=lesson).values_list("version", flat=True)) == [6, 5, 4]


@pytest.mark.parametrize("kind", ["lesson", "attack"])
def test_a_blank_item_of_each_kind_is_valid_and_made_once(room: Class, kind: str) -> None:
    client = as_(room.ines)
    for _ in "12":
        answer = client.post(f"/learn/courses/{room.course.pk}/add/", {"what": f"{kind}/"})
        made = Item.objects.filter(course=room.course).latest("pk")
        assert answer["Location"] == f"/learn/items/{made.pk}/edit/"
    assert Item.objects.filter(course=room.course).count() == 2 and not made.shown and made.kind == kind
    assert editing.checked(kind, made.text) == []


def test_every_kind_has_a_blank_text_that_can_be_saved() -> None:
    for kind in kinds.kinds():
        assert kind.blank and editing.checked(kind.name, kind.blank) == [], kind.name
        assert all(editing.checked(kind.name, editing.placed(kind.name, b.name, kind.blank)) == [] for b in kind.blocks)


# -- settings, due times and late work


def hand_in(room: Class, text: str, *, at: dt.datetime | None = None) -> Attempt:
    made = lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=text, graded=True)
    if at is not None:
        Attempt.objects.filter(pk=made.pk).update(made_at=at)
    work_all()
    return made


def settings(room: Class, item: Item, **given: Any) -> None:
    builder.settings_put(by=room.ines, item=item, given=given, seen=None)
    item.refresh_from_db()


FORM = {"title": "A lab", "points": "20", "late": "daily", "late_percent": "10", "tries": "2", "seen": "1"}


def test_the_settings_form_says_its_zone_and_students_read_the_rule(room: Class, berlin: None) -> None:
    path = f"/learn/items/{room.item.pk}/settings/"
    assert "Europe/Berlin" in page(as_(room.ines), path)
    times = {"visible_from": "2026-01-01T08:00", "due_at": "2027-07-01T18:00", "accepted_until": "2027-07-08 18:00"}
    page(as_(room.ines), path, **FORM, **times)
    room.item.refresh_from_db()
    assert room.item.due_at == dt.datetime(2027, 7, 1, 16, tzinfo=dt.UTC) and room.item.title == "A lab"
    for address in (f"/learn/courses/{room.course.pk}/", f"/learn/items/{room.item.pk}/"):
        told = page(as_(room.stu), address)
        assert "Due at 2027-07-01 18:00 (Europe/Berlin). For each day begun after that, 10 percent" in told
        assert "It is accepted until 2027-07-08 18:00 (Europe/Berlin). 2 graded tries." in told
    assert "You have 2 graded tries left." in told
    assert 'value="2027-07-01T18:00"' in page(as_(room.ines), path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("title", ""), ("title", "x" * 200), ("points", "-1"), ("points", "1001"), ("points", "x"), ("tries", "101")),
        *(("late", "never"), ("late_percent", "101"), ("late_percent", "0"), ("due_at", "tomorrow")),
        *(("due_at", "2027-02-30T10:00"), ("due_at", "9999-01-01T00:00"), ("due_at", "2027-03-28T02:30")),
        *(("accepted_until", "2027-06-01T00:00"), ("visible_from", "2027-07-02T00:00")),
    ],
)
def test_a_setting_that_cannot_be_is_named_and_all_that_was_typed_stays(
    room: Class, berlin: None, field: str, value: str
) -> None:
    form = {**FORM, "due_at": "2027-07-01T18:00", field: value}
    answer = as_(room.ines).post(f"/learn/items/{room.item.pk}/settings/", form)
    told = answer.content.decode()
    assert answer.status_code == 422 and f'id="{field}-fault"' in told and (not value or value in told)
    assert Item.objects.get(pk=room.item.pk).settings_version == 1


def test_settings_of_two_teachers_at_once(room: Class) -> None:
    settings(room, room.item, points=30)
    path = f"/learn/items/{room.item.pk}/settings/"
    answer = as_(room.ines).post(path, FORM)
    told = answer.content.decode()
    assert answer.status_code == 412 and "30 → 20" in told and 'value="2"' in told
    assert as_(room.ines).post(path, {**FORM, "seen": answer.context["seen"]}).status_code == 302
    client, kind = as_(room.ines), {"content_type": "application/json"}
    address = f"/api/items/{room.item.pk}/settings"
    tag = client.get(address)["ETag"]
    assert client.patch(address, {"points": 5}, headers={"If-Match": tag}, **kind).json()["points"] == 5
    refused = client.patch(address, {"points": 6}, headers={"If-Match": tag}, **kind)
    assert refused.status_code == 412 and refused.json()["changes"][0] == {"setting": "points", "now": "5", "then": "6"}
    assert client.patch(address, {"due_at": "2027-01-01T10:00:00"}, **kind).status_code == 422  # of which zone?
    assert (
        client.patch(address, {"due_at": "2027-01-01T10:00:00+01:00"}, **kind).json()["due_at"]
        == "2027-01-01T09:00:00Z"
    )
    assert client.patch(address, {"due_at": None}, **kind).json()["due_at"] is None


def moment(*clock: int, fold: int = 0) -> dt.datetime:
    return dt.datetime(*clock, tzinfo=BERLIN, fold=fold).astimezone(dt.UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("due", "came", "days"),
    [
        # clocks are put forward on 2027-03-28 at 02:00: that day has 23 hours
        (moment(2027, 3, 27, 18, 0), moment(2027, 3, 28, 18, 0), 1),
        (moment(2027, 3, 27, 18, 0), moment(2027, 3, 28, 18, 1), 2),
        (moment(2027, 3, 27, 18, 0), moment(2027, 3, 29, 18, 0), 2),
        (moment(2027, 3, 27, 2, 30), moment(2027, 3, 28, 3, 29), 1),  # 02:30 is left out: the day ends at 03:30
        (moment(2027, 3, 27, 2, 30), moment(2027, 3, 28, 3, 31), 2),
        # and back on 2027-10-31 at 03:00: that day has 25
        (moment(2027, 10, 30, 18, 0), moment(2027, 10, 31, 18, 0), 1),
        (moment(2027, 10, 30, 18, 0), moment(2027, 10, 31, 18, 1), 2),
        (moment(2027, 10, 30, 2, 30), moment(2027, 10, 31, 2, 30, fold=0), 1),  # of 02:30 twice the second ends it
        (moment(2027, 10, 30, 2, 30), moment(2027, 10, 31, 2, 30, fold=1), 1),
        (moment(2027, 10, 30, 2, 30), moment(2027, 10, 31, 2, 31, fold=1), 2),
        (moment(2027, 6, 1, 18, 0), moment(2027, 6, 1, 18, 0), 0),
        (moment(2027, 6, 1, 18, 0), moment(2027, 6, 1, 18, 1), 1),
        (moment(2027, 6, 1, 23, 50), moment(2027, 6, 2, 0, 10), 1),
        (moment(2027, 6, 1, 0, 10), moment(2027, 6, 4, 0, 9), 3),
    ],
)
def test_a_day_of_lateness_ends_at_the_due_time_on_the_clock(
    berlin: None, due: dt.datetime, came: dt.datetime, days: int
) -> None:
    assert deadlines.days_late(Item(due_at=due), came) == days


def test_dates_are_shifted_by_the_clock_across_daylight_saving(berlin: None) -> None:
    winter = moment(2027, 3, 20, 18, 0)
    assert deadlines.shifted(winter, 14) == moment(2027, 4, 3, 18, 0)
    assert deadlines.shifted(moment(2027, 3, 27, 2, 30), 1) == moment(2027, 3, 28, 3, 30)  # 02:30 is left out
    assert deadlines.shifted(moment(2027, 10, 30, 2, 30), 1) == moment(2027, 10, 31, 2, 30, fold=1)
    assert deadlines.read("due_at", "2027-10-31T02:30") == moment(2027, 10, 31, 2, 30, fold=1)
    assert deadlines.typed(moment(2027, 7, 1, 18, 0)) == "2027-07-01T18:00"


def test_a_late_mark_says_why_it_lost_what(room: Class, berlin: None) -> None:
    due = timezone.now() - dt.timedelta(hours=30)
    settings(room, room.item, due_at=due, late="daily", late_percent=15)
    hand_in(room, room.solution)
    mark = Mark.objects.get()
    assert mark.days_late == 2 and mark.points == round(mark.earned * 0.7, 4)
    late = mark.reasons[-1]
    assert late["name"] == "Late" and late["points"] == round(mark.points - mark.earned, 4)
    assert late["says"] == "Days begun after it was due: 2. 30 percent of the points are lost."
    assert late["says"] in page(as_(room.stu), f"/learn/courses/{room.course.pk}/")


def test_nothing_is_accepted_after_the_end_and_practice_goes_on(room: Class) -> None:
    now = timezone.now()
    settings(room, room.item, due_at=now - dt.timedelta(days=3), accepted_until=now - dt.timedelta(days=1))
    with pytest.raises(VpmsError, match="It was accepted until") as refused:
        hand_in(room, room.solution)
    assert refused.value.code == "too_late" and not Attempt.objects.exists()
    form = {"text": room.solution, "act": "hand_in"}
    told = as_(room.stu).post(f"/learn/items/{room.item.pk}/lab/", form)
    assert told.status_code == 409 and "It was accepted until" in told.content.decode()
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, seed=3)


def test_a_lesson_that_is_answered_too_late_opens_and_counts_nothing(room: Class, lesson: Item) -> None:
    due = timezone.now() - dt.timedelta(hours=1)
    settings(room, lesson, due_at=due, late="none")
    page(as_(room.stu), f"/learn/items/{lesson.pk}/answer/", question="first", choice="b")
    mark = Mark.objects.get(item=lesson)
    assert (mark.earned, mark.points) == (10.0, 0.0) and "it counts nothing" in mark.reasons[-1]["says"]


def test_only_so_many_graded_tries(room: Class) -> None:
    settings(room, room.item, tries=2)
    starter = lab.task_of(room.item).starter
    hand_in(room, starter)
    assert "You have 1 graded try left." in page(as_(room.stu), f"/learn/items/{room.item.pk}/")
    hand_in(room, starter + "# again\n")
    with pytest.raises(VpmsError, match="All of your tries are used: 2") as refused:
        hand_in(room, room.solution)
    assert refused.value.code == "no_tries" and Attempt.objects.filter(graded=True).count() == 2
    lab.attempt_make(
        by=room.mia, item=room.item, member=room.other, text=room.solution, graded=True
    )  # hers are her own
    Attempt.objects.filter(member=room.member).update(state=Attempt.State.FAILED)
    hand_in(room, room.solution)  # what was given up was no try


def test_marks_are_counted_anew_when_the_rule_or_the_points_change(room: Class) -> None:
    hand_in(room, room.solution)
    mark = Mark.objects.get()
    assert mark.points == mark.earned == 20.0
    form = {**FORM, "tries": "0", "points": "10", "due_at": "2026-01-01T00:00", "late": "none"}
    told = page(as_(room.ines), f"/learn/items/{room.item.pk}/settings/", **form)
    assert "1 mark counts differently now." in told
    mark.refresh_from_db()
    assert (mark.earned, mark.points) == (10.0, 0.0) and sum(row["of"] for row in mark.reasons) == 10.0
    room.item.refresh_from_db()
    settings(room, room.item, points=20, due_at=None)
    mark.refresh_from_db()
    assert (mark.earned, mark.points, mark.days_late) == (20.0, 20.0, 0)
    assert all(row["name"] != "Late" for row in mark.reasons)
    with pytest.raises(BadInput, match="students have marks"):
        settings(room, room.item, points=0)


def test_an_item_is_seen_from_its_time_on(room: Class) -> None:
    soon = timezone.now() + dt.timedelta(hours=1)
    settings(room, room.item, visible_from=soon)
    assert as_(room.stu).get(f"/learn/items/{room.item.pk}/").status_code == 404
    assert room.item.title not in page(as_(room.stu), f"/learn/courses/{room.course.pk}/")
    assert as_(room.stu).get(f"/api/courses/{room.course.pk}/items").json()["items"] == []
    assert "not yet" in page(as_(room.ines), f"/learn/courses/{room.course.pk}/")
    settings(room, room.item, visible_from=timezone.now() - dt.timedelta(seconds=1))
    assert as_(room.stu).get(f"/learn/items/{room.item.pk}/").status_code == 200


# -- removing


def test_an_item_goes_with_what_belongs_to_it_and_says_so_before(room: Class, lesson: Item) -> None:
    hand_in(room, room.solution)
    path = f"/learn/items/{room.item.pk}/delete/"
    client = as_(room.ines)
    told = page(client, path)
    assert "1 mark" in told and "1 attempt of students" in told and "1 draft of a student" in told
    refused = client.post(path)
    assert refused.status_code == 409 and "Nothing was deleted." in refused.content.decode()
    assert as_(room.ines).delete(f"/api/items/{room.item.pk}").status_code == 409
    assert "is deleted" in page(client, path, with_work="1")
    assert (
        not Item.objects.filter(pk=room.item.pk).exists() and not Mark.objects.exists() and not Attempt.objects.exists()
    )
    lesson.refresh_from_db()
    assert lesson.place == 1 and client.post(path, {"with_work": "1"}).status_code == 404
    gone = as_(room.ines).delete(f"/api/items/{lesson.pk}").json()
    assert gone == {"marks": 0, "attempts": 0, "drafts": 0, "answers": 0, "versions": 1}


# -- the course


def test_last_years_course_is_duplicated_without_its_students(room: Class, lesson: Item, berlin: None) -> None:
    settings(room, lesson, due_at=moment(2027, 3, 20, 18, 0))
    hand_in(room, room.solution)
    form = {"act": "copy", "copy_title": "Next year", "days": "14"}
    for _ in "12":
        as_(room.ines).post(f"/learn/courses/{room.course.pk}/settings/", form)
    made = Course.objects.get(title="Next year")
    assert made.copied_from == room.course and not Mark.objects.filter(item__course=made).exists()
    assert [row.user for row in made.members.all()] == [room.ines] and not made.sessions.exists()
    first, second = made.items.all()
    assert (first.text, first.points, first.shown) == (room.item.text, 20, True)
    assert second.due_at == moment(2027, 4, 3, 18, 0) and first.due_at is None
    for days in ("", "x", "1.5", "99999"):
        refused = as_(room.ines).post(f"/learn/courses/{room.course.pk}/settings/", {**form, "days": days})
        assert refused.status_code == 422 and 'id="days-fault"' in refused.content.decode()


def test_a_course_is_renamed_archived_and_brought_back(room: Class) -> None:
    path, client = f"/learn/courses/{room.course.pk}/settings/", as_(room.ines)
    page(client, path, act="save", title="Another name", summary="In short.", seen="1")
    assert "Another name" in page(as_(room.stu), "/learn/courses/")
    answer = client.post(path, {"act": "save", "title": "Mine", "summary": "", "seen": "1"})
    assert answer.status_code == 412 and "Another name → Mine" in answer.content.decode()
    page(client, path, act="archive")
    course = page(as_(room.stu), f"/learn/courses/{room.course.pk}/")
    assert "The course is archived" in course
    for call in (
        lambda: services.item_shown(by=room.ines, item=room.item, shown=False),
        lambda: settings(room, room.item, points=1),
        lambda: builder.item_delete(by=room.ines, item=room.item),
        lambda: editing.text_put(by=room.ines, item=room.item, text=lab.BLANK, seen=None),
        lambda: hand_in(room, room.solution),
    ):
        room.item.course.refresh_from_db()
        with pytest.raises(VpmsError) as refused:
            call()
        assert refused.value.code == "archived"
    assert client.post(f"/learn/courses/{room.course.pk}/class/").status_code == 409
    page(client, path, act="bring-back")
    room.item.course.refresh_from_db()
    hand_in(room, room.solution)


# -- preview


def test_a_preview_is_what_a_student_sees_and_leaves_nothing(room: Class, lesson: Item) -> None:
    hidden = services.item_add(by=room.ines, course=room.course, kind="lesson", title="Not yet", text=lessons.BLANK)
    client = as_(room.ines)
    answers = LessonAnswer.objects
    reading.answer(
        reading.of_item(item=lesson, member=Member.objects.get(course=room.course, user=room.ines)),
        key="first",
        choice="b",
    )
    shown = page(client, f"/learn/courses/{room.course.pk}/preview/", go="1")
    assert "as a student does" in shown and "Not yet" not in shown and "Open a class" not in shown
    assert client.get(f"/learn/items/{hidden.pk}/").status_code == 404
    assert client.get(f"/api/items/{hidden.pk}/text").status_code == 404
    lesson_page = page(client, f"/learn/items/{lesson.pk}/")
    why = "must itself be translated"
    assert why not in lesson_page and why not in client.get(f"/api/courses/items/{lesson.pk}/lesson").content.decode()
    assert "The same with answers" not in lesson_page and not answers.exists()
    mine = page(as_(room.stu), f"/learn/items/{lesson.pk}/")
    for part in ('<div class="lesson-section', "question-asked", "choice"):
        assert lesson_page.count(part) == mine.count(part)
    assert why in page(client, f"/learn/items/{lesson.pk}/answer/", question="first", choice="b")
    page(client, f"/learn/items/{room.item.pk}/lab/", text=room.solution, act="hand_in")
    work_all()
    assert not Mark.objects.exists() and Attempt.objects.get().state == Attempt.State.DONE
    assert client.post(f"/learn/items/{lesson.pk}/edit/", {"text": "x"}).status_code == 409
    assert "as a student does" not in page(as_(room.ines), f"/learn/courses/{room.course.pk}/")  # another browser
    over = page(client, "/learn/preview/end/", go="1")
    assert "Open a class" in over and "as a student does" not in over and not answers.exists()


def test_a_student_begins_no_preview(room: Class) -> None:
    assert as_(room.stu).post(f"/learn/courses/{room.course.pk}/preview/").status_code == 403


# -- who sees nothing

PAGES = (
    "courses/{c}/settings/",
    "items/{i}/edit/",
    "items/{i}/versions/1/",
    "items/{i}/settings/",
    "items/{i}/delete/",
)
CALLS = (
    *(("get", "items/{i}/text"), ("put", "items/{i}/text"), ("post", "items/{i}/check"), ("get", "items/{i}/versions")),
    *(("get", "items/{i}/versions/1"), ("post", "items/{i}/versions/1/restore"), ("get", "items/{i}/settings")),
    *(("patch", "items/{i}/settings"), ("delete", "items/{i}"), ("put", "courses/{c}"), ("put", "courses/{c}/archive")),
    *(("post", "courses/{c}/copies"), ("post", "courses/{c}/items/new")),
)
BODIES = {"text": {"text": "x"}, "check": {"text": "x"}, "archive": {"archived": True}, "copies": {"title": "x"}}
BODIES |= {"new": {"kind": "lesson"}}


@pytest.mark.parametrize("who", ["stu", "alice", "olga", "nobody"])
def test_nobody_but_its_teachers_gets_to_the_builder(room: Class, cast: Cast, who: str) -> None:
    """A student of the course is refused; to others, operators among them, there is nothing."""
    secret = "cost: 20"
    Item.objects.filter(pk=room.item.pk).update(text=lab.BLANK)
    people = {"stu": room.stu, "alice": cast.alice, "olga": cast.olga}
    client = as_(people[who]) if who in people else Client()
    wanted = {"stu": {403}, "nobody": {302, 401}}.get(who, {404})
    numbers = {"c": room.course.pk, "i": room.item.pk}
    for path in PAGES:
        for method in (client.get, client.post):
            answer = method(f"/learn/{path.format(**numbers)}")
            assert answer.status_code in wanted and secret not in answer.content.decode(), path
    for method, path in CALLS:
        body: Any = BODIES.get(path.rpartition("/")[2], {"title": "x"}) if method != "get" else None
        kind: Any = {"content_type": "application/json"} if method != "get" else {}
        answer = getattr(client, method)(f"/api/{path.format(**numbers)}", body, **kind)
        assert answer.status_code in wanted and secret not in answer.content.decode(), (method, path)
    assert Item.objects.get(pk=room.item.pk).text == lab.BLANK and Course.objects.filter(archived_at=None).count() == 1
