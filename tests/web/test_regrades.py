"""Grading again after a text was corrected: what would change is shown first, applied as one, and never doubled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.web.lab import Class, make_class, work_all
from tests.web.test_gradebook import hand_in, signed_in
from webapp import jobs
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.courses import adjustments, regrades, services
from webapp.courses.models import Item, Mark, Regrade, RegradeRow
from webapp.errors import VpmsError
from webapp.notices.models import Notice
from webapp.ops import keeper
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db


@pytest.fixture
def room(db: None) -> Class:
    """stu solved all of the task, mia half of it; then the task is corrected: its last goal counts more."""
    room = make_class()
    hand_in(room, room.stu, room.member)
    hand_in(room, room.mia, room.other, room.solution.replace("length: 16", "length: 8"))
    return room


def corrected(room: Class) -> Item:
    """The points of the goals are other ones: what was partly done counts less."""
    text = room.item.text.replace("points: 4", "points: 7", 1)
    assert text != room.item.text
    Item.objects.filter(pk=room.item.pk).update(text=text, version=2)
    room.item = Item.objects.select_related("course").get(pk=room.item.pk)
    return room.item


def work(regrade: Regrade) -> Regrade:
    while Regrade.objects.get(pk=regrade.pk).state == "running":
        regrades.regrade_work(regrade_id=regrade.pk)
    return Regrade.objects.select_related("item__course").get(pk=regrade.pk)


def begun(room: Class) -> Regrade:
    return regrades.regrade_start(by=room.ines, item=room.item)


def marks() -> list[Any]:
    return list(Mark.objects.order_by("pk").values())


def test_what_would_change_is_shown_with_reasons_and_applied_as_one_act(room: Class) -> None:
    before = marks()
    corrected(room)
    client = signed_in(room.ines)
    sent = client.post(f"/learn/courses/{room.course.pk}/regrade/{room.item.pk}/")
    page = sent["Location"]
    assert "0 of 2 students" in client.get(page).content.decode()
    regrade = work(Regrade.objects.get())
    assert regrade.state == "ready" and marks() == before and Notice.objects.count() == 0
    shown = client.get(page).content.decode()
    assert "1 student would have other points" in shown and "mia" in shown and "1 stays as it is" in shown
    told = client.get(f"/api/courses/{room.course.pk}/regrades/{regrade.pk}").json()
    [change] = told["changes"]
    assert change["nickname"] == "mia" and change["was"] == 16 and change["now"] != 16 and change["why"]
    assert all(row["says"] for row in change["why"])
    client.post(page, {"act": "apply"})
    client.post(page, {"act": "apply"})
    one, other = Mark.objects.get(member=room.member), Mark.objects.get(member=room.other)
    assert (one.points, other.points) == (20, pytest.approx(change["now"])) and other.item_version == 2
    assert one.item_version == 2 and sum(row["points"] for row in other.reasons) == pytest.approx(other.points)
    assert [notice.user for notice in Notice.objects.all()] == [room.mia]
    whats = [json.loads(entry.line)["data"]["what"] for entry in Entry.objects.filter(type="course.regrade")]
    assert whats == ["begun", "applied"]


def test_discarded_or_stopped_it_changes_nothing(room: Class) -> None:
    before = marks()
    corrected(room)
    first = work(begun(room))
    regrades.regrade_discard(by=room.ines, regrade=first)
    with pytest.raises(VpmsError, match="not possible"):
        regrades.regrade_apply(by=room.ines, regrade=first)
    second = begun(room)
    assert second.pk != first.pk
    token = jobs.claim(Regrade, second.pk)
    assert token is not None
    regrades.regrade_cancel(by=room.ines, regrade=second)
    row = RegradeRow.objects.filter(regrade=second).select_related("member__user").first()
    assert not regrades._row(second, token, row, regrades.kinds.read("attack", room.item.text))  # type: ignore[arg-type]
    second.refresh_from_db()
    assert (second.state, second.done, second.due_at) == ("cancelled", 0, None) and marks() == before


def test_begun_twice_it_is_one_and_a_worker_that_died_doubles_nothing(room: Class) -> None:
    corrected(room)
    regrade = begun(room)
    assert begun(room).pk == regrade.pk
    token = jobs.claim(Regrade, regrade.pk)
    row = regrade.rows.select_related("member__user").first()
    assert token and row
    definition = regrades.kinds.read("attack", room.item.text)
    assert regrades._row(Regrade.objects.select_related("item__course").get(pk=regrade.pk), token, row, definition)
    Regrade.objects.update(lease_until=timezone.now())  # killed
    keeper.reap(timezone.now())
    regrades.regrade_work(regrade_id=regrade.pk)
    regrade.refresh_from_db()
    assert (regrade.state, regrade.done, regrade.total) == ("ready", 2, 2)
    old = Regrade.objects.select_related("item__course").get(pk=regrade.pk)
    assert not regrades._row(old, token, row, definition)  # the dead one comes back
    assert Regrade.objects.get().done == 2


def test_given_up_after_three_deaths_it_says_so(room: Class) -> None:
    regrade = begun(room)
    Regrade.objects.update(attempts=3)
    keeper.reap(timezone.now())
    regrade.refresh_from_db()
    assert regrade.state == "failed" and "three times" in regrade.reason and regrade.due_at is None


@pytest.mark.parametrize("meanwhile", ["mark", "work", "hand"])
def test_it_is_refused_whole_where_something_changed_meanwhile_and_says_for_whom(room: Class, meanwhile: str) -> None:
    corrected(room)
    regrade = work(begun(room))
    if meanwhile == "mark":
        services.mark_put(item=room.item, member=room.other, earned=20, reasons=[])
    elif meanwhile == "work":  # graded, and worth no more than before
        hand_in(room, room.mia, room.other, room.solution.replace("length: 16", "length: 2"))
    else:
        adjustments.points_set(by=room.ines, item=room.item, member=room.other, points=1, reason="By hand")
    before = marks()
    page = f"/learn/courses/{room.course.pk}/regrades/{regrade.pk}/"
    answer = signed_in(room.ines).post(page, {"act": "apply"})
    assert answer.status_code == 409 and "changed for mia." in answer.content.decode() and marks() == before
    by_api = signed_in(room.ines).post(
        f"/api/courses/{room.course.pk}/regrades/{regrade.pk}", json.dumps({"act": "apply"}), "application/json"
    )
    assert by_api.status_code == 409 and by_api.json()["code"] == "marks_changed" and marks() == before


def test_points_by_hand_go_on_counting_and_the_work_behind_them_is_graded_again(room: Class) -> None:
    adjustments.points_set(by=room.ines, item=room.item, member=room.other, points=11, reason="By hand")
    Notice.objects.all().delete()
    corrected(room)
    regrade = work(begun(room))
    assert (
        "set by hand"
        in signed_in(room.ines).get(f"/learn/courses/{room.course.pk}/regrades/{regrade.pk}/").content.decode()
    )
    regrades.regrade_apply(by=room.ines, regrade=regrade)
    mark = Mark.objects.get(member=room.other)
    assert mark.points == 11 and mark.computed not in (None, 16) and not Notice.objects.exists()


def test_a_text_that_changed_again_ends_it(room: Class) -> None:
    corrected(room)
    ready = work(begun(room))
    Item.objects.filter(pk=room.item.pk).update(version=3)
    with pytest.raises(VpmsError, match="changed meanwhile"):
        regrades.regrade_apply(by=room.ines, regrade=ready)
    room.item.refresh_from_db()
    again = begun(room)
    assert again.pk != ready.pk and Regrade.objects.get(pk=ready.pk).state == "discarded"
    Item.objects.filter(pk=room.item.pk).update(version=4)
    assert work(again).state == "failed"


def test_the_best_of_what_was_handed_in_counts_as_it_does_for_marks(room: Class) -> None:
    hand_in(room, room.stu, room.member, room.solution.replace("length: 16", "length: 4"))  # the last is not the best
    regrade = work(begun(room))
    assert not RegradeRow.objects.filter(regrade=regrade, changes=True).exists()


def test_a_regrade_is_missing_to_all_but_the_courses_teachers(room: Class) -> None:
    regrade = work(begun(room))
    tom = User.objects.create(username="tom")
    membership_add(by=None, user=tom, role="teacher")
    course, item = room.course.pk, room.item.pk
    paths = (
        f"/learn/courses/{course}/regrade/{item}/", f"/learn/courses/{course}/regrades/{regrade.pk}/",
        f"/api/courses/{course}/regrade/{item}", f"/api/courses/{course}/regrades/{regrade.pk}",
    )  # fmt: skip
    for path in paths:
        assert signed_in(room.ines).get(path).status_code == 200
        for user in (room.stu, tom):
            client = signed_in(user)
            assert client.get(path).status_code == 404, path
            body: Any = json.dumps({"act": "apply"}) if path.startswith("/api") else {"act": "apply"}
            kind = {"content_type": "application/json"} if path.startswith("/api") else {}
            assert client.post(path, body, **kind).status_code == 404, path
    assert Client().get(paths[0]).status_code == 302
    assert Regrade.objects.get().state == "ready"
    other = make_class("stale-entry")
    assert signed_in(room.ines).get(f"/learn/courses/{other.course.pk}/regrades/{regrade.pk}/").status_code == 404
    work_all()
