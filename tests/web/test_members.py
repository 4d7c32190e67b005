"""Who takes part in a course: links and invitations, roles, removing, leaving, deleting accounts; who sees nothing."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.lab import Class, make_class, work_all
from webapp.accounts.models import User
from webapp.courses import builder, joining, lab, services
from webapp.courses.models import Course, CourseInvitation, Mark, Member
from webapp.errors import BadInput, VpmsError
from webapp.ops import story
from webapp.tenants import people
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
JSON: Any = {"content_type": "application/json"}


@pytest.fixture
def room(cast: Cast) -> Class:
    return make_class()


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def link_of(room: Class, **form: str) -> str:
    """The path of a new link, as the page tells it once."""
    path = f"/learn/courses/{room.course.pk}/members/"
    told = as_(room.ines).post(path, {"act": "link", "days": "14", **form}).content.decode()
    found = re.search(r'value="https?://[^/]+(/learn/enter/[^"]+)"', told)
    assert found is not None, told
    return found[1]


def roles(room: Class) -> dict[str, str]:
    rows = Member.objects.filter(course=room.course, left_at__isnull=True).select_related("user")
    return {row.user.username: row.role for row in rows}


# -- coming in


def test_a_link_lets_whoever_has_it_in_once_each_and_its_secret_is_kept_nowhere(room: Class, cast: Cast) -> None:
    path = link_of(room)
    token = path.split("/")[3]
    assert token not in str(list(CourseInvitation.objects.values()))
    told = as_(room.ines).get(f"/learn/courses/{room.course.pk}/members/").content.decode()
    assert token not in told and '<a href="/teach/">Teach</a>' in told
    client = as_(cast.alice)
    assert "Who owns the page tables" in client.get(path).content.decode()
    for _ in "12":
        assert client.post(path, {"nickname": "Ada"})["Location"] == f"/learn/courses/{room.course.pk}/"
    assert as_(cast.bob).post("/api/courses/members", {"token": token, "nickname": "Bob"}, **JSON).status_code == 201
    assert roles(room) == {"ines": "teacher", "stu": "student", "mia": "student", "alice": "student", "bob": "student"}
    assert CourseInvitation.objects.get().used == 2


def test_a_nickname_that_is_taken_is_told_and_what_was_typed_stays(room: Class, cast: Cast) -> None:
    answer = as_(cast.alice).post(link_of(room), {"nickname": "STU"})
    assert answer.status_code == 422 and "is taken in this course" in answer.content.decode().lower()
    assert 'value="STU"' in answer.content.decode() and "alice" not in roles(room)


@pytest.mark.parametrize("how", ["too old", "withdrawn", "archived", "none"])
def test_a_link_that_is_over_opens_nothing(room: Class, cast: Cast, how: str) -> None:
    path = link_of(room)
    row = CourseInvitation.objects.get()
    if how == "too old":
        CourseInvitation.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    elif how == "withdrawn":
        form = {"act": "revoke", "pk": str(row.pk)}
        assert as_(room.ines).post(f"/learn/courses/{room.course.pk}/members/", form).status_code == 302
    elif how == "archived":
        builder.course_archive(by=room.ines, course=room.course, archived=True)
    else:
        path = "/learn/enter/none/"
    for client in (Client(), as_(cast.alice)):
        for answer in (client.get(path), client.post(path, {"nickname": "x"})):
            assert answer.status_code == 404 and room.course.title not in answer.content.decode()
    token = path.split("/")[3]
    assert as_(cast.alice).post("/api/courses/members", {"token": token, "nickname": "x"}, **JSON).status_code == 410
    assert "alice" not in roles(room)


def test_who_is_invited_by_mail_makes_an_account_without_any_role(
    room: Class, django_capture_on_commit_callbacks: Any
) -> None:
    path = f"/learn/courses/{room.course.pk}/members/"
    with django_capture_on_commit_callbacks(execute=True):
        answer = as_(room.ines).post(
            path, {"act": "invite", "emails": "ada@example.org, bo@example.org", "role": "student"}
        )
    assert answer.status_code == 302 and [each.to for each in mail.outbox] == [["ada@example.org"], ["bo@example.org"]]
    way = re.search(r"/learn/enter/\S+", mail.outbox[0].body)
    assert way is not None
    form = {"username": "ada", "full_name": "", "nickname": "Ada", "password": "correct horse battery", "again": "x"}
    refused = Client().post(way[0], form)
    assert refused.status_code == 422 and not User.objects.filter(username="ada").exists()
    assert Client().post(way[0], {**form, "nickname": "", "again": form["password"]}).status_code == 422
    client = Client()
    assert client.post(way[0], {**form, "again": form["password"]}).status_code == 302
    ada = User.objects.get(username="ada")
    assert ada.roles == [] and ada.email == "ada@example.org" and roles(room)["ada"] == "student"
    assert client.get(f"/learn/courses/{room.course.pk}/").status_code == 200
    assert Client().get(way[0]).status_code == 404  # it works once
    assert not CourseInvitation.objects.filter(email="ada@example.org").exists()


@pytest.mark.parametrize(
    "emails", ["", "no address", "a@b\n", "x@example.org " * 3 + "y", " ".join(f"a{n}@example.org" for n in range(51))]
)
def test_a_wrong_address_is_named_and_nothing_is_sent(room: Class, emails: str) -> None:
    answer = as_(room.ines).post(f"/learn/courses/{room.course.pk}/members/", {"act": "invite", "emails": emails})
    assert answer.status_code == 422 and 'id="emails-fault"' in answer.content.decode()
    assert not CourseInvitation.objects.exists() and not mail.outbox


def test_a_link_for_teachers_asks_for_the_sites_role(room: Class, cast: Cast) -> None:
    path = link_of(room, role="teacher")
    refused = as_(cast.alice).post(path, {"nickname": "alice"})
    assert refused.status_code == 409 and "needs the role teacher" in refused.content.decode()
    assert Client().post(path, {"username": "new", "nickname": "new"}).status_code == 409
    membership_add(by=None, user=room.mia, role="teacher")
    assert as_(room.mia).post(path, {"nickname": "mia"}).status_code == 302  # a student of it teaches from now on
    assert roles(room) == {"ines": "teacher", "mia": "teacher", "stu": "student"}
    assert as_(room.mia).get(f"/learn/items/{room.item.pk}/edit/").status_code == 200


def test_an_auditor_takes_part_in_nothing(room: Class, cast: Cast) -> None:
    nora = User.objects.create(username="nora")
    membership_add(by=None, user=nora, role="auditor", tenant=cast.alpha)
    path = link_of(room)
    refused = as_(nora).post(path, {"nickname": "nora"})
    assert refused.status_code == 409 and "Your role here is to read" in refused.content.decode()
    told = {"token": path.split("/")[3], "nickname": "nora"}
    assert as_(nora).post("/api/courses/members", told, **JSON).status_code == 403 and "nora" not in roles(room)


# -- roles, removing, leaving


def test_who_is_removed_sees_nothing_and_finds_the_work_again_by_a_link(room: Class) -> None:
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    work_all()
    path = f"/learn/courses/{room.course.pk}/members/"
    assert as_(room.ines).post(path, {"act": "remove", "pk": str(room.member.pk)}).status_code == 302
    assert as_(room.ines).post(path, {"act": "remove", "pk": str(room.member.pk)}).status_code == 404
    for way in (f"/learn/courses/{room.course.pk}/", f"/learn/items/{room.item.pk}/", f"/api/items/{room.item.pk}/lab"):
        assert as_(room.stu).get(way).status_code == 404
    assert Mark.objects.exists()
    as_(room.stu).post(link_of(room), {"nickname": "stu"})
    assert "Your best result so far counts" in as_(room.stu).get(f"/learn/items/{room.item.pk}/").content.decode()


def test_the_only_teacher_stays_while_there_are_students(room: Class) -> None:
    own = Member.objects.get(course=room.course, user=room.ines)
    client, path = as_(room.ines), f"/learn/courses/{room.course.pk}/"
    for answer in (
        client.post(f"{path}members/", {"act": "remove", "pk": str(own.pk)}),
        client.post(f"{path}members/", {"act": "role", "role": "student", "pk": str(own.pk)}),
        client.post(f"{path}leave/"),
        client.delete(f"/api/courses/{room.course.pk}/membership"),
    ):
        assert answer.status_code == 409 and "Invite another teacher first" in answer.content.decode()
    with pytest.raises(VpmsError, match="only teacher of the course Who owns the page tables") as refused:
        people.account_delete(user=room.ines)
    assert refused.value.code == "last_one" and roles(room)["ines"] == "teacher"
    told = client.get("/account/delete/").content.decode()
    assert "account" in told
    membership_add(by=None, user=room.mia, role="teacher")
    form = {"act": "role", "role": "teacher", "pk": str(room.other.pk)}
    assert client.post(f"{path}members/", form).status_code == 302
    assert client.post(f"{path}leave/").status_code == 302 and roles(room) == {"mia": "teacher", "stu": "student"}


def test_an_account_that_is_deleted_leaves_its_work_without_a_name(room: Class) -> None:
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    work_all()
    people.account_delete(user=room.stu)
    room.member.refresh_from_db()
    assert room.member.nickname == room.stu.alias and room.member.left_at and Mark.objects.exists()
    people.account_delete(user=room.mia)
    people.account_delete(user=room.ines)  # nobody learns there any more
    assert Course.objects.get(pk=room.course.pk).archived_at is not None


def test_a_role_needs_the_sites_and_a_name_that_is_none_is_refused(room: Class) -> None:
    path = f"/learn/courses/{room.course.pk}/members/"
    for form, status in (({"role": "teacher"}, 409), ({"role": "owner"}, 422)):
        answer = as_(room.ines).post(path, {"act": "role", "pk": str(room.member.pk), **form})
        assert answer.status_code == status
    assert roles(room)["stu"] == "student"
    with pytest.raises(BadInput):
        joining.link_make(by=room.ines, course=room.course, role="student", days=0)


# -- who sees nothing


@pytest.mark.parametrize("who", ["stu", "alice", "olga", "nobody", "other"])
def test_nobody_but_its_teachers_sees_who_takes_part(room: Class, cast: Cast, who: str) -> None:
    link_of(room)
    other = User.objects.create(username="tom")
    membership_add(by=None, user=other, role="teacher")
    theirs = services.course_create(by=other, title="Another course")
    persons = {"stu": room.stu, "alice": cast.alice, "olga": cast.olga, "other": other}
    client = as_(persons[who]) if who in persons else Client()
    wanted = {"stu": {403}, "nobody": {302, 401}}.get(who, {404})
    at, row = f"/api/courses/{room.course.pk}", CourseInvitation.objects.get()
    answers = [
        client.get(f"/learn/courses/{room.course.pk}/members/"),
        client.post(f"/learn/courses/{room.course.pk}/members/", {"act": "remove", "pk": str(room.other.pk)}),
        client.get(f"{at}/members"),
        client.get(f"{at}/invitations"),
        client.put(f"{at}/members/{room.other.pk}", {"role": "teacher"}, **JSON),
        client.delete(f"{at}/members/{room.other.pk}"),
        client.delete(f"{at}/invitations/{row.pk}"),
        client.post(f"{at}/invitations", {"emails": ["x@example.org"]}, **JSON),
        client.post(f"{at}/links", {}, **JSON),
    ]
    for answer in answers:
        assert answer.status_code in wanted and "mia" not in answer.content.decode(), answer
    assert roles(room)["mia"] == "student" and CourseInvitation.objects.get().closed_at is None
    if who == "other":  # nor by way of a course of one's own
        at = f"/api/courses/{theirs.pk}"
        assert client.delete(f"{at}/members/{room.other.pk}").status_code == 404
        assert client.delete(f"{at}/invitations/{row.pk}").status_code == 404


# -- the navigation


def test_courses_stand_in_the_navigation_of_all_who_are_signed_in(room: Class, cast: Cast) -> None:
    for user in (room.ines, room.stu, cast.alice):
        told = as_(user).get("/learn/").content.decode()
        assert '<a href="/learn/courses/">Courses</a>' in told
    assert (
        '<a href="/learn/courses/" aria-current="true">'
        in as_(room.stu).get(f"/learn/items/{room.item.pk}/").content.decode()
    )
    assert "/learn/courses/" not in Client().get("/learn/").content.decode()


def test_the_demo_has_a_course_that_is_under_way_and_makes_it_once(cast: Cast) -> None:
    for _ in "12":
        story._teach({"ines": "a long enough password", "sven": "a long enough password"})
    course = Course.objects.get(members__user=cast.ines)
    assert course.items.count() == 4 and course.sessions.filter(ended_at=None).count() == 1
    sven = User.objects.get(username="sven")
    told = as_(sven).get(f"/learn/courses/{course.pk}/").content.decode()
    assert "To the class that is open" in told and told.count('<li class="panel course-item"') == 3
    assert "10 percent of its points are lost" in told and Mark.objects.get(member__user=sven).points > 0
    assert "Two translations" in as_(cast.ines).get(f"/learn/class/{course.sessions.get().code}/desk/").content.decode()
