"""Nobody subscribes to what is another's: every registered topic is tried with things of alice's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from django.utils import timezone

from webapp.live import topics
from webapp.ops import story
from webapp.runs import engine, services
from webapp.runs.models import Run
from webapp.tenants.models import VirtualMachine

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
PUBLIC = {"matrix!"}
OF_THE_OPERATOR = {"fleet!", "run/{}/tlb"}


def vm(name: str) -> VirtualMachine:
    return VirtualMachine.objects.select_related("placement__host", "tenant").get(name=name)


@pytest.fixture
def alone(live_cast: Any, valkey: Any) -> dict[str, str]:
    """Only a-db runs; alice's idents for each kind of topic."""
    engine._hot.clear()
    services.vm_start(by=live_cast.alice, vm=vm("a-db"))
    story.drain()
    run = Run.objects.get()
    return {"run": str(run.pk), "negotiation": str(run.host.negotiations.get().pk), "tenant": "alpha", "vm": "a-db"}


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
        assert answer["type"] == ("denied" if prefix in OF_THE_OPERATOR else "snapshot"), name
        while not await alice.silent(0.1):
            await alice.hear()


async def test_what_bob_is_sent_about_a_shared_host_names_nobody_else(alone: Any, live_cast: Any, page: Any) -> None:
    def share() -> Run:
        services.vm_start(by=live_cast.bob, vm=vm("b-web"))
        story.drain()
        story._all_accept("h1")
        return Run.objects.get()

    run = await asyncio.to_thread(share)
    bob = await page(live_cast.bob)
    heard: list[Any] = []
    for part in ("map", "counters", "log"):
        heard += await bob.ask(f"run/{run.pk}/{part}", answers=2)

    def more() -> None:
        for _ in range(3):
            Run.objects.update(due_at=timezone.now())
            services.run_slice(run_id=run.pk, slice_no=Run.objects.get().slice_no)

    await asyncio.to_thread(more)
    while not await bob.silent(0.5):
        heard.append(await bob.hear())
    said = b"".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in heard)
    assert len(heard) >= 8 and b"b-web" in said
    for secret in (b"a-db", b"alpha", b"alice", b"65537"):
        assert secret not in said
