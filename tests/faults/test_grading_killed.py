"""kill -9 of the worker while it grades loses and doubles nothing; a class that hands in at once is soon graded."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.faults.conftest import Stack
from tests.web.lab import Class, make_class
from webapp.courses import lab, regrades, services
from webapp.courses.models import Attempt, Item, LabWork, Mark, Regrade

pytestmark = pytest.mark.django_db(transaction=True)
STUDENTS = 60
SECONDS = 30
LONG = """  - repeat: 2000
    steps:
      - op: hv_read
        mfn: 512
        offset: 0
        length: 4096
        as: much
"""


@pytest.mark.long
def test_a_killed_worker_neither_loses_nor_doubles_an_attempt(transactional_db: None, stack: Stack) -> None:
    text = (
        dict(lab.shipped())["read-the-secret"]
        .replace("  steps: 50", "  steps: 10000")
        .replace("operations: 2", "operations: 9999")
    )
    room = make_class(text=text)
    expected = hand_in(room, 0)
    lab.attempt_work(attempt_id=expected.pk)
    expected.refresh_from_db()
    Mark.objects.all().delete()
    made = [hand_in(room, number) for number in range(1, 5)]
    stack.start("keeper")
    stack.start("worker")
    stack.until(lambda: Attempt.objects.filter(state="waiting", lease_until__isnull=False).exists())
    stack.kill("worker")
    held = Attempt.objects.filter(state="waiting").count()
    assert held  # it died in the middle of its work
    stack.start("worker")
    stack.until(lambda: not Attempt.objects.filter(state="waiting").exists())
    rows = Attempt.objects.filter(pk__in=[row.pk for row in made])
    assert {row.state for row in rows} == {"done"} and all(row.result == expected.result for row in rows)
    assert all(row.due_at is None and row.lease_token == "" for row in rows)
    assert Mark.objects.count() == 1 and Mark.objects.get().points == 20
    assert LabWork.objects.get().number == 2 * (1 + len(made))  # each was told once when made and once when done


def hand_in(room: Class, number: int) -> Attempt:
    """A file that takes its time; each another one."""
    return lab.attempt_make(
        by=room.stu, item=room.item, member=room.member, text=f"{room.solution}{LONG}# {number}\n", graded=True
    )


@pytest.mark.long
def test_sixty_students_who_hand_in_at_once_are_graded_within_thirty_seconds(
    transactional_db: None, stack: Stack
) -> None:
    room = make_class("stale-entry")
    people = [member(room, number) for number in range(STUDENTS)]
    stack.start("keeper")
    stack.start("worker")
    stack.until(stack_lives)
    began = time.monotonic()
    for one in people:
        lab.attempt_make(by=one.user, item=room.item, member=one, text=room.solution, graded=True)
    stack.until(lambda: Attempt.objects.filter(state="done").count() == STUDENTS, seconds=4 * SECONDS)
    took = time.monotonic() - began
    print(f"{STUDENTS} attempts graded in {took:.1f} s")
    assert took < SECONDS
    assert Mark.objects.filter(points=20).count() == STUDENTS


def stack_lives() -> bool:
    from webapp.ops.services import alive

    return alive(kind="keeper") and alive(kind="worker")


def member(room: Class, number: int) -> Any:
    from webapp.accounts.models import User

    user = User.objects.create(username=f"student-{number}")
    return services.member_add(course=room.course, user=user, nickname=user.username)


@pytest.mark.long
def test_a_killed_worker_neither_loses_nor_doubles_a_student_of_a_regrade(transactional_db: None, stack: Stack) -> None:
    text = (
        dict(lab.shipped())["read-the-secret"]
        .replace("  steps: 50", "  steps: 10000")
        .replace("operations: 2", "operations: 9999")
    )
    room = make_class(text=text)
    people = [member(room, number) for number in range(6)]
    for number, one in enumerate(people):
        made = lab.attempt_make(
            by=one.user, item=room.item, member=one, text=f"{room.solution}{LONG}# {number}\n", graded=True
        )
        lab.attempt_work(attempt_id=made.pk)
    before = list(Mark.objects.order_by("pk").values())
    Item.objects.filter(pk=room.item.pk).update(text=text.replace("points: 4", "points: 6", 1), version=2)
    regrade = regrades.regrade_start(by=room.ines, item=room.item)
    stack.start("keeper")
    stack.start("worker")
    stack.until(lambda: 0 < Regrade.objects.get().done < regrade.total)
    stack.kill("worker")
    assert Regrade.objects.get().state == "running"
    stack.start("worker")
    stack.until(lambda: Regrade.objects.get().state == "ready")
    row = Regrade.objects.get()
    assert row.done == row.total == regrade.rows.filter(done=True).count()
    assert list(Mark.objects.order_by("pk").values()) == before
