"""The gradebook: who sees it, what it says, points set by hand, exports; sixty students and forty items at once."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from typing import Any

import jsonschema_rs
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.web.lab import Class, make_class, work_all
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.courses import adjustments, gradebook, lab, services
from webapp.courses.models import Adjustment, Item, Mark, Member
from webapp.errors import BadInput, VpmsError
from webapp.notices.models import Notice
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db


@pytest.fixture
def room(db: None) -> Class:
    return make_class()


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def hand_in(room: Class, user: Any, member: Any, text: str | None = None) -> None:
    lab.attempt_make(by=user, item=room.item, member=member, text=text or room.solution, graded=True)
    work_all()


def paths(room: Class) -> list[str]:
    course, item, one, other = room.course.pk, room.item.pk, room.member.pk, room.other.pk
    return [
        f"/learn/courses/{course}/grades/",
        f"/learn/courses/{course}/grades.csv",
        f"/learn/courses/{course}/grades.json",
        f"/learn/courses/{course}/grades/{one}/{item}/",
        f"/learn/courses/{course}/alike/{item}/",
        f"/learn/courses/{course}/alike/{item}/{one}/{other}/",
        f"/api/courses/{course}/grades",
        f"/api/courses/{course}/grades/document",
        f"/api/courses/{course}/grades/csv",
        f"/api/courses/{course}/grades/{one}/{item}",
        f"/api/courses/{course}/alike/{item}",
        f"/api/courses/{course}/alike/{item}/{one}/{other}",
    ]


def test_only_the_courses_teachers_see_its_gradebook_by_page_and_api(room: Class) -> None:
    hand_in(room, room.stu, room.member)
    hand_in(room, room.mia, room.other)
    tom = User.objects.create(username="tom")
    membership_add(by=None, user=tom, role="teacher")
    guest = User.objects.create(username="g-1", guest=True)
    services.member_add(course=room.course, user=guest, nickname="guest")
    gone = User.objects.create(username="gone")
    membership_add(by=None, user=gone, role="teacher")
    left = services.member_add(course=room.course, user=gone, nickname="gone", role="teacher")
    Member.objects.filter(pk=left.pk).update(left_at=timezone.now())
    for path in paths(room):
        assert signed_in(room.ines).get(path).status_code == 200, path
        for user in (room.stu, room.mia, tom, guest, gone):
            answer = signed_in(user).get(path)
            assert answer.status_code == 404, (path, user.username)
            told = re.sub(r'csrfmiddlewaretoken" value="\w+', "", answer.content.decode())
            assert not re.search(r"\bmia\b", told) or user == room.mia
    halves = signed_in(room.ines).put(
        f"{paths(room)[9]}/points", json.dumps({"points": 2.5, "reason": "x"}), "application/json"
    )
    assert halves.json()["points"] == 2.5 and halves.json()["computed"] == 20
    Adjustment.objects.all().delete()
    body = json.dumps({"points": 3, "reason": "x"})
    for user in (room.stu, tom, guest, gone):
        client = signed_in(user)
        assert client.post(paths(room)[3], {"points": "3", "reason": "x"}).status_code == 404
        assert client.put(f"{paths(room)[9]}/points", body, "application/json").status_code == 404
    assert not Adjustment.objects.exists()


def test_things_of_another_course_are_missing_in_this_one(room: Class) -> None:
    other = make_class("stale-entry")
    stranger = services.member_add(
        course=other.course, user=User.objects.create(username="stranger"), nickname="stranger"
    )
    client = signed_in(room.ines)
    for member, item in (
        (stranger.pk, room.item.pk),
        (room.member.pk, other.item.pk),
        (stranger.pk, other.item.pk),
        (Member.objects.get(course=room.course, user=room.ines).pk, room.item.pk),
    ):
        assert client.get(f"/learn/courses/{room.course.pk}/grades/{member}/{item}/").status_code == 404
    assert client.get(f"/learn/courses/{room.course.pk}/alike/{other.item.pk}/").status_code == 404


def test_a_student_sees_own_marks_with_reasons_and_nothing_of_others(room: Class) -> None:
    hand_in(room, room.stu, room.member, room.solution.replace("length: 16", "length: 8"))
    hand_in(room, room.mia, room.other)
    adjustments.points_set(by=room.ines, item=room.item, member=room.other, points=3, reason="secret between us")
    page = signed_in(room.stu).get(f"/learn/courses/{room.course.pk}/grades/mine/").content.decode()
    assert "16 of 20 points" in page and "Hidden test 1" in page
    assert "secret between us" not in page and not re.search(r"\bmia\b", page)
    api = signed_in(room.stu).get(f"/api/courses/{room.course.pk}/grades/mine").json()
    assert [(row["points"], row["of"]) for row in api["marks"]] == [(16, 20)] and "between us" not in json.dumps(api)
    room.item.shown = False
    room.item.save()
    assert signed_in(room.stu).get(f"/api/courses/{room.course.pk}/grades/mine").json()["marks"] == []


def test_the_table_sorts_filters_and_says_late_missing_and_tries(room: Class) -> None:
    client, at = signed_in(room.ines), f"/learn/courses/{room.course.pk}/grades/"
    Item.objects.filter(pk=room.item.pk).update(due_at=timezone.now() - dt.timedelta(hours=3))
    hand_in(room, room.stu, room.member)
    hand_in(room, room.stu, room.member)

    def names(query: str) -> list[str]:
        return re.findall(r'<th scope="row"><span>(\w+)', client.get(at + query).content.decode())

    page = client.get(at).content.decode()
    assert "1 day late" in page and "2 tries" in page and "missing" in page
    assert names("") == ["mia", "stu"] and names("?sort=-name") == ["stu", "mia"]
    assert names("?sort=-total") == ["stu", "mia"] and names(f"?sort=item-{room.item.pk}") == ["mia", "stu"]
    assert names("?show=missing") == ["mia"] and names("?show=late") == ["stu"] and names("?q=MI") == ["mia"]
    assert names("?show=adjusted") == [] and client.get(at + "?sort=nonsense").status_code == 302
    by_api = client.get(f"/api/courses/{room.course.pk}/grades?show=late").json()
    assert [row["nickname"] for row in by_api["students"]] == ["stu"]
    assert by_api["students"][0]["cells"][0] == {
        "item": room.item.pk, "state": "marked", "points": 20.0, "days_late": 1, "tries": 2, "by_hand": False,
        "outdated": False,
    }  # fmt: skip
    assert client.get(f"/api/courses/{room.course.pk}/grades?sort=nonsense").status_code == 422


def test_a_cell_says_why_when_and_what_hints_cost(room: Class) -> None:
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, seed=4)
    lab.hint_take(by=room.stu, item=room.item, member=room.member, number=1, cost=10)
    hand_in(room, room.stu, room.member)
    page = signed_in(room.ines).get(paths(room)[3]).content.decode()
    assert "18 of 20 points" in page and "1 handed in, 1 to practise" in page
    assert "which costs 10 %" in page and "0x800 is 2048" in page and "Hidden test 1" in page
    told = signed_in(room.ines).get(paths(room)[9]).json()
    assert told["hints"][0]["cost"] == 10 and told["practised"] == 1 and told["computed"] == 18
    assert sum(row["points"] for row in told["reasons"]) == 18


def test_alike_files_are_shown_to_teachers_side_by_side(room: Class) -> None:
    renamed = room.solution + "  # quite my own\n"
    hand_in(room, room.stu, room.member, room.solution + LONG.format(name="one"))
    hand_in(room, room.mia, room.other, renamed + LONG.format(name="two"))
    client = signed_in(room.ines)
    pairs = client.get(f"/api/courses/{room.course.pk}/alike/{room.item.pk}").json()["pairs"]
    assert [(pair["one"], pair["other"], pair["share"]) for pair in pairs] == [(room.member.pk, room.other.pk, 1.0)]
    assert "mia: 100 % of the shorter file" in client.get(paths(room)[3]).content.decode()
    lines = client.get(paths(room)[11]).json()["lines"]
    assert any(line["same"] for line in lines) and any(not line["same"] for line in lines)
    assert "".join((line["one"] or "") + "\n" for line in lines if line["one"] is not None).strip().startswith("schema")
    assert "quite my own" in client.get(paths(room)[5]).content.decode()
    assert "cheat" not in client.get(paths(room)[4]).content.decode().lower()


LONG = """  - op: hv_read
    mfn: $frame
    offset: 7
    length: 16
    as: {name}
  - op: hv_read
    mfn: $frame
    offset: 2
    length: 4
    as: {name}b
  - op: hv_read
    mfn: $frame
    offset: 12
    length: 9
    as: {name}c
"""


# -- points by hand


def test_points_by_hand_stand_until_they_are_taken_back_and_the_works_own_are_kept(room: Class) -> None:
    hand_in(room, room.stu, room.member, room.solution.replace("length: 16", "length: 8"))
    client, at = signed_in(room.ines), paths(room)[3]
    assert client.post(at, {"points": "12,5", "reason": "Told orally", "seen": "16.0"}).status_code == 302
    mark = Mark.objects.get()
    assert (mark.points, mark.computed, mark.earned) == (12.5, 16, 16)
    hand_in(room, room.stu, room.member)  # better work: kept, and the teacher's points stand
    mark.refresh_from_db()
    assert (mark.points, mark.computed, len(mark.reasons)) == (12.5, 20, 5)
    mine = signed_in(room.stu).get(f"/learn/courses/{room.course.pk}/grades/mine/").content.decode()
    assert "Told orally" in mine and "Your work itself counts 20" in mine and "12.50 of 20" in mine
    assert client.post(at, {"act": "unset", "reason": "A mistake", "seen": "12.5"}).status_code == 302
    mark.refresh_from_db()
    assert (mark.points, mark.computed) == (20, None)
    assert [(row.before, row.after) for row in Adjustment.objects.order_by("pk")] == [(16, 12.5), (12.5, None)]
    entries = Entry.objects.filter(type="course.points")
    assert entries.count() == 2 and "Told orally" not in entries[0].line  # a name may stand in it
    texts = [row.event.text for row in Notice.objects.filter(user=room.stu).order_by("pk")]
    assert "to 12.5" in texts[0] and "by your work again: 20" in texts[1]
    assert Notice.objects.exclude(user=room.stu).count() == 0
    assert "to 12.5" in signed_in(room.stu).get("/notices/").content.decode()


def test_posted_twice_it_is_done_once_and_a_mark_changed_meanwhile_is_refused(room: Class) -> None:
    hand_in(room, room.stu, room.member)
    client, at = signed_in(room.ines), paths(room)[3]
    for _ in "12":
        assert client.post(at, {"points": "7", "reason": "Twice", "seen": "20.0"}).status_code == 302
    assert Adjustment.objects.count() == 1
    stale = client.post(at, {"points": "9", "reason": "From an old page", "seen": "20.0"})
    page = stale.content.decode()
    assert stale.status_code == 409 and "changed meanwhile" in page and "From an old page" in page
    assert Mark.objects.get().points == 7


@pytest.mark.parametrize(
    ("points", "reason", "place"),
    [
        *[(points, "x", "points") for points in ("21", "-1", "nan", "inf", "ten", "")],
        *[("5", reason, "reason") for reason in ("  ", "a" * 401, "a\x00b")],
    ],
)
def test_what_cannot_be_set_is_refused_with_its_place_and_kept_as_typed(
    room: Class, points: str, reason: str, place: str
) -> None:
    answer = signed_in(room.ines).post(paths(room)[3], {"points": points, "reason": reason})
    assert answer.status_code == 422 and f'id="{place}-fault"' in answer.content.decode()
    assert not Mark.objects.exists() and not Adjustment.objects.exists()


def test_points_without_work_go_when_they_are_taken_back(room: Class) -> None:
    adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=8, reason="Shown on paper")
    assert Mark.objects.get().points == 8
    with pytest.raises(VpmsError):
        adjustments.points_set(by=room.mia, item=room.item, member=room.member, points=20, reason="Mine")
    with pytest.raises(BadInput):
        adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=99, reason="Too much")
    adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=None, reason="The wrong one")
    assert not Mark.objects.exists()
    with pytest.raises(VpmsError, match="nothing to take back"):
        adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=None, reason="Once more")


def test_work_of_no_points_after_points_by_hand_is_kept_with_its_reasons(room: Class) -> None:
    adjustments.points_set(by=room.ines, item=room.item, member=room.member, points=8, reason="Shown on paper")
    hand_in(room, room.stu, room.member, room.solution.replace("offset: 2048", "offset: 0"))
    mark = Mark.objects.get()
    assert mark.points == 8 and mark.item_version == 1 and mark.reasons


# -- exports


def test_the_document_keeps_to_its_published_schema_by_page_and_api(room: Class) -> None:
    hand_in(room, room.stu, room.member)
    adjustments.points_set(by=room.ines, item=room.item, member=room.other, points=3, reason="Shown on paper")
    client = signed_in(room.ines)
    schema = Client().get("/api/schemas/gradebook.json").json()
    check = jsonschema_rs.validator_for(schema)
    by_page = client.get(paths(room)[2]).json()
    by_api = client.get(paths(room)[7]).json()
    for told in (by_page, by_api):
        check.validate(told)
        told.pop("made_at")
    assert by_page == by_api
    spoiled = json.loads(json.dumps(by_api))
    spoiled["students"][0]["marks"][0]["points"] = "many"
    assert not check.is_valid(spoiled)
    marks = {row["nickname"]: row["marks"] for row in by_page["students"]}
    assert marks["stu"][0]["points"] == 20 and len(marks["stu"][0]["reasons"]) == 5
    assert marks["mia"][0]["version"] is None and marks["mia"][0]["adjustments"][0]["reason"] == "Shown on paper"


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x","y")', "+1", "-2+3", "@SUM(A1)", " =1+1", "＝1"])
def test_no_cell_of_the_csv_is_a_formula(room: Class, name: str) -> None:
    Member.objects.filter(pk=room.member.pk).update(nickname=name)
    Item.objects.filter(pk=room.item.pk).update(title=name)
    hand_in(room, room.stu, room.member)
    content = signed_in(room.ines).get(paths(room)[1]).content.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(content)))
    assert rows[0][2] == f"'{name} (20)" and [row[2] for row in rows[1:]] in (["20", ""], ["", "20"])
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝"))
    assert content == signed_in(room.ines).get(paths(room)[8]).json()["csv"]


# -- many


def test_sixty_students_and_forty_items_ask_as_much_as_few(room: Class) -> None:
    client, at = signed_in(room.ines), f"/learn/courses/{room.course.pk}/grades/"
    hand_in(room, room.stu, room.member)
    client.get(at)
    with CaptureQueriesContext(connection) as few:
        client.get(at)
    people = User.objects.bulk_create([User(username=f"student-{n}") for n in range(58)])
    members = Member.objects.bulk_create(
        [Member(course=room.course, user=user, nickname=user.username, seed=n) for n, user in enumerate(people)]
    )
    items = Item.objects.bulk_create(
        [Item(course=room.course, place=n + 2, kind="lesson", title=f"Item {n}", points=10) for n in range(39)]
    )
    now = timezone.now()
    Mark.objects.bulk_create(
        [Mark(item=item, member=member, earned=5, points=5, handed_in_at=now) for item in items for member in members]
    )
    with CaptureQueriesContext(connection) as many:
        page = client.get(at).content.decode()
    assert len(many) == len(few) <= 12
    assert page.count('<td class="num" data-label="Item ') == 60 * 39
    with CaptureQueriesContext(connection) as document:
        told = client.get(paths(room)[7]).json()
    assert len(document) <= 12 and sum(len(row["marks"]) for row in told["students"]) == 58 * 39 + 1
    assert gradebook.PAGE == 100
