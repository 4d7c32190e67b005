"""Nobody subscribes to what is another's: every registered topic is tried with things of alice's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.utils import timezone

from tests.web.lab import make_class
from tests.web.policy import make_lab
from webapp.accounts.models import User
from webapp.courses import classes, policy_play, regrades
from webapp.courses.models import Member
from webapp.courses.services import member_add as add_student
from webapp.live import topics
from webapp.ops import story
from webapp.runs import engine, services
from webapp.runs.models import Run
from webapp.tenants.models import VirtualMachine
from webapp.tenants.services import membership_add

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
PUBLIC = {"matrix!"}
OF_THE_OPERATOR = {"jobs!", "alerts!", "wall!", "wall-hosts", "fleet!", "run/{}/tlb"}
OF_THE_TEACHER = {"class/{}/desk", "policy-desk", "regrade"}


def vm(name: str) -> VirtualMachine:
    return VirtualMachine.objects.select_related("placement__host", "tenant").get(name=name)


@pytest.fixture
def alone(live_cast: Any, valkey: Any) -> dict[str, str]:
    """Only a-db runs; alice's idents for each kind of topic."""
    engine._hot.clear()
    services.vm_start(by=live_cast.alice, vm=vm("a-db"))
    story.drain()
    run = Run.objects.get()
    negotiation = run.host.negotiations.get()
    room = make_class()
    learns = add_student(course=room.course, user=live_cast.alice, nickname="alice")
    idents = {"run": run.pk, "negotiation": negotiation.pk, "notices": live_cast.alice.pk}
    idents["lab"] = f"{room.item.pk}-{learns.pk}"
    idents["regrade"] = regrades.regrade_start(by=room.ines, item=room.item).pk
    Member.objects.filter(course=room.course, user=room.ines).update(left_at=timezone.now())  # ines is to hear nothing
    tom = User.objects.create_user("tom")  # not ines: she is asked for topics that she must not hear
    membership_add(by=None, user=tom, role="teacher")
    session = classes.class_of_lesson(by=tom, name="two-translations", language="en")
    classes.seat_take(session=session, user=live_cast.alice, nickname="alice")
    idents["class"] = session.code
    policy = make_lab(teacher="tom")
    plays = add_student(course=policy.course, user=live_cast.alice, nickname="alice")
    policy_play.seat_take(game=policy_play.game_open(by=policy.ines, item=policy.item), member=plays)
    idents |= {"policy": f"{policy.item.pk}-{plays.pk}", "policy-desk": policy.item.pk}
    return {"tenant": "alpha", "vm": "a-db", **{kind: str(pk) for kind, pk in idents.items()}}


def names(idents: dict[str, str]) -> dict[str, str]:
    found = {}
    for prefix in topics._topics:
        pattern = prefix.removesuffix("!") if prefix.endswith("!") else prefix if "{}" in prefix else prefix + "/{}"
        found[prefix] = pattern.replace("{}", idents.get(pattern.split("/")[0], "1"))
    return found


async def test_every_topic_of_alices_is_denied_to_bob_and_to_visitors(alone: Any, live_cast: Any, page: Any) -> None:
    known = names(alone)
    assert {"run/{}/map", "run/{}/log", "matrix!", "tenant/{}"} <= known.keys()
    for user in (live_cast.bob, live_cast.ines, None):
        watcher = await page(user) if user else await page(cookie="csrf=" + "a" * 32)
        for prefix, name in known.items():
            if prefix not in PUBLIC:
                [answer] = await watcher.ask(name)
                assert answer["type"] == "denied", (user, name)


async def test_alice_watches_her_own_and_nothing_of_the_operators(alone: Any, live_cast: Any, page: Any) -> None:
    alice = await page(live_cast.alice)
    for prefix, name in names(alone).items():
        [answer] = await alice.ask(name)
        assert answer["type"] == ("denied" if prefix in OF_THE_OPERATOR | OF_THE_TEACHER else "snapshot"), name
        while not await alice.silent(0.1):
            await alice.hear()


async def test_what_bob_is_sent_about_a_shared_host_names_nobody_else(alone: Any, live_cast: Any, page: Any) -> None:
    def share() -> Run:
        services.vm_start(by=live_cast.bob, vm=vm("b-web"))
        story.drain()
        story._all_accept("h1")
        return Run.objects.get()

    run = await database_sync_to_async(share)()
    bob = await page(live_cast.bob)
    heard: list[Any] = []
    for part in ("map", "counters", "log"):
        heard += await bob.ask(f"run/{run.pk}/{part}", answers=2)

    def more() -> None:
        for _ in range(3):
            Run.objects.update(due_at=timezone.now())
            services.run_slice(run_id=run.pk, slice_no=Run.objects.get().slice_no)

    await database_sync_to_async(more)()
    while not await bob.silent(0.5):
        heard.append(await bob.hear())
    said = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in heard)
    assert len(heard) >= 8 and b"b-web" in said
    for secret in (b"a-db", b"alpha", b"alice", b"65537"):
        assert secret not in said


async def test_what_bob_is_sent_while_a_start_is_refused_and_led_elsewhere_names_nobody_else(
    alone: Any, live_cast: Any, page: Any
) -> None:
    from tests.conftest import HOST
    from webapp.agreements import ladder
    from webapp.agreements import services as agreements
    from webapp.agreements.models import Negotiation
    from webapp.fleet.services import host_create

    def begin() -> Negotiation:
        host_create(by=live_cast.olga, document={**HOST, "host": "h2"})
        services.vm_start(by=live_cast.bob, vm=vm("b-web"))
        story.drain()
        return Negotiation.objects.latest("pk")

    def say(who: str, name: str, **given: Any) -> None:
        row = Negotiation.objects.filter(host__name="h1").latest("pk")
        asked = {"by": getattr(live_cast, who), "negotiation": row, "vm": vm(name), "round": row.round}
        agreements.answer(**asked, version=row.version, accept=False, **given)
        story.drain()

    def elsewhere() -> None:
        ended = Negotiation.objects.filter(host__name="h1").latest("pk")
        ladder.choose(by=live_cast.bob, negotiation=ended, step="relocate_requester", host="h2")
        story.drain()

    clash = await database_sync_to_async(begin)()
    bob = await page(live_cast.bob)
    heard: list[Any] = [*await bob.ask(f"negotiation/{clash.pk}"), *await bob.ask("tenant/beta")]
    await database_sync_to_async(say)("alice", "a-db", reason="final")
    await database_sync_to_async(elsewhere)()
    while not await bob.silent(0.5):
        heard.append(await bob.hear())
    said = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in heard)
    assert (
        len(heard) >= 4
        and b"NO_AGREEMENT" in said
        and (await database_sync_to_async(vm)("b-web")).placement.host.name == "h2"
    )
    for secret in (b"a-db", b"alpha", b"alice", b"veto", b"suggestion"):
        assert secret not in said
