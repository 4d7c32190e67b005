"""A course with a policy game, its people, and a worker: for the tests of the policy lab."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.test import Client


@dataclass
class Lab:
    """ines teaches, or who is named; stu, mia and zoe learn; the item is the shipped game of that name."""

    ines: Any
    people: dict[str, Any]
    course: Any
    item: Any
    members: dict[str, Any]

    def client(self, name: str) -> Client:
        client = Client()
        client.force_login(self.ines if name == "ines" else self.people[name])
        return client


def make_lab(name: str = "3-liars-paradise", *, text: str | None = None, teacher: str = "ines") -> Lab:
    from webapp.accounts.models import User
    from webapp.courses import policy_game, services
    from webapp.tenants.services import membership_add

    ines = User.objects.get_or_create(username=teacher)[0]
    people = {each: User.objects.get_or_create(username=each)[0] for each in ("stu", "mia", "zoe")}
    membership_add(by=None, user=ines, role="teacher")
    course = services.course_create(by=ines, title="Settling")
    game = text or dict(policy_game.shipped())[name]
    item = services.item_add(by=ines, course=course, kind="policy", title="A game", text=game, points=10, shown=True)
    members = {
        each: services.member_add(course=course, user=user, nickname=f"nick-{each}") for each, user in people.items()
    }
    return Lab(ines, people, course, item, members)


def work_all(most: int = 30) -> int:
    """Do what is due, as workers would, until nothing is."""
    from django.utils import timezone

    from webapp.courses import policy_play
    from webapp.courses.models import PolicyTable

    for done in range(most):
        due = PolicyTable.objects.filter(due_at__lte=timezone.now()).values_list("pk", flat=True).first()
        if due is None:
            return done
        policy_play.table_work(table_id=due)
    raise AssertionError("tables fall due without end")


def seated(lab: Lab) -> dict[str, Any]:
    """A game that has begun with stu and mia: their seats by tenant."""
    from webapp.courses import policy_play

    game = policy_play.game_open(by=lab.ines, item=lab.item)
    for name in ("stu", "mia"):
        policy_play.seat_take(game=game, member=lab.members[name])
    policy_play.game_begin(by=lab.ines, game=game)
    return {seat.tenant: seat for seat in game.seats.select_related("table", "game", "member")}
