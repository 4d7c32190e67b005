"""How many sockets a person and an organisation may have open, in all web processes together."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio
from channels.db import database_sync_to_async

from tests.live.conftest import Page, session_of, until
from webapp.live import places, publish
from webapp.live.hub import hub
from webapp.live.mailbox import TOO_MANY
from webapp.live.places import ORGANISATION, PERSON, Full, Places, key_of

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
ALPHA = key_of(ORGANISATION, "alpha")


@pytest_asyncio.fixture
async def client(valkey: Any) -> AsyncIterator[redis.asyncio.Redis]:
    made = redis.asyncio.Redis.from_url(valkey.url, socket_timeout=5)
    yield made
    await made.aclose()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for what takes fifteen."""
    monkeypatch.setattr(places, "LEASE_SECONDS", 1)
    monkeypatch.setattr("webapp.live.hub.RENEW_SECONDS", 0.2)


async def entered(process: Places, client: Any, person: int, slug: str = "alpha") -> str | None:
    """The place, or None where there is no room."""
    try:
        return await process.enter(client, {key_of(PERSON, person): PERSON, key_of(ORGANISATION, slug): ORGANISATION})
    except Full:
        return None


async def refused(user: Any) -> tuple[int, str]:
    """With what code and words a socket of the person is closed."""
    page = Page(cookie="session=" + await database_sync_to_async(session_of)(user))
    assert await page.open()
    output = await page.socket.receive_output(30)
    assert output["type"] == "websocket.close"
    return output["code"], output.get("reason") or ""


async def gets_in(made: Page) -> bool:
    await made.say(type="ping")
    return bool(await made.hear() == {"type": "pong"})


# -- exactly as many as there may be


async def test_of_fifty_at_once_in_three_processes_exactly_the_allowed_number_gets_in(
    client: Any, settings: Any
) -> None:
    settings.TENANT_SOCKETS, settings.PERSON_SOCKETS = 11, 0
    processes = [Places() for _ in range(3)]
    tries = [entered(processes[number % 3], client, number) for number in range(50)]
    found = await asyncio.gather(*tries)
    assert sum(place is not None for place in found) == 11 == await client.zcard(ALPHA)
    assert sum(len(process.held) for process in processes) == 11
    assert await entered(processes[0], client, 99, "beta") is not None  # another's quota is another's
    number = next(number for number, place in enumerate(found) if place)
    await processes[number % 3].leave(client, found[number] or "")
    assert await entered(processes[2], client, 99) and not await entered(processes[1], client, 99)


async def test_who_finds_no_room_in_one_set_takes_none_in_the_other(client: Any, settings: Any) -> None:
    settings.TENANT_SOCKETS, settings.PERSON_SOCKETS = 3, 2
    one, two = Places(), Places()
    assert await entered(one, client, 1) and await entered(two, client, 1)
    assert not await entered(one, client, 1) and not await entered(two, client, 1)  # the person is full
    assert await client.zcard(ALPHA) == 2
    assert await entered(two, client, 2) and not await entered(one, client, 2)  # the organisation is
    assert await client.zcard(key_of(PERSON, 2)) == 1


@pytest.mark.parametrize("seed", range(8))
async def test_places_are_those_of_a_slow_twin(client: Any, settings: Any, seed: int) -> None:
    """Random coming and going in two processes against a list that is looked through."""
    draw = random.Random(seed)
    settings.TENANT_SOCKETS, settings.PERSON_SOCKETS = draw.randrange(0, 6), draw.randrange(0, 4)
    processes, there = [Places(), Places()], []
    for _ in range(120):
        if there and draw.random() < 0.4:
            process, place, _, _ = there.pop(draw.randrange(len(there)))
            await process.leave(client, place)
            continue
        if draw.random() < 0.1:
            await draw.choice(processes).renew(client)
        process, person, slug = draw.choice(processes), draw.randrange(4), draw.choice(("alpha", "beta"))
        room = not settings.PERSON_SOCKETS or sum(row[2] == person for row in there) < settings.PERSON_SOCKETS
        room &= not settings.TENANT_SOCKETS or sum(row[3] == slug for row in there) < settings.TENANT_SOCKETS
        taken = await entered(process, client, person, slug)
        assert (taken is not None) == room
        if taken:
            there.append((process, taken, person, slug))
    assert await client.zcard(ALPHA) == sum(row[3] == "alpha" for row in there)


# -- processes that die, and Redis that goes


async def test_places_of_a_dead_process_return_and_those_of_a_living_one_stay(
    brief: None, client: Any, settings: Any
) -> None:
    settings.TENANT_SOCKETS, settings.PERSON_SOCKETS = 2, 0
    dead, living = Places(), Places()
    assert await entered(dead, client, 1) and await entered(living, client, 1)
    for _ in range(15):  # longer than a lease; the dead one renews nothing
        await asyncio.sleep(0.2)
        await living.renew(client)
    assert await entered(living, client, 1)
    assert not await entered(living, client, 1)


async def test_while_redis_is_away_each_process_counts_and_what_is_open_comes_back(
    valkey: Any, client: Any, settings: Any
) -> None:
    settings.TENANT_SOCKETS, settings.PERSON_SOCKETS = 2, 0
    one, two = Places(), Places()
    assert await entered(one, client, 1)
    valkey.kill()
    assert await entered(one, client, 1) and not await entered(one, client, 1)  # its own alone
    assert await entered(two, client, 1)  # and that is what is not exact
    valkey.start()
    await one.renew(client)
    await two.renew(client)
    assert await client.zcard(ALPHA) == 3  # nobody is put out
    assert not await entered(two, client, 1)


async def test_nothing_is_counted_where_there_is_no_limit(client: Any, settings: Any) -> None:
    settings.TENANT_SOCKETS = settings.PERSON_SOCKETS = 0
    process = Places()
    assert all([await entered(process, client, 1) for _ in range(200)])


# -- sockets


async def test_a_socket_beyond_the_persons_limit_is_closed_with_the_limit_and_a_closed_one_frees_its_place(
    valkey: Any, live_cast: Any, settings: Any, page: Any
) -> None:
    settings.PERSON_SOCKETS = 2
    first, second = await page(live_cast.olga), await page(live_cast.olga)
    assert await gets_in(first) and await gets_in(second)
    assert await refused(live_cast.olga) == (TOO_MANY, "person 2")
    assert await gets_in(await page(live_cast.ines)) and await gets_in(first)  # and nobody else notices
    await second.close()
    assert await gets_in(await page(live_cast.olga))
    assert await refused(live_cast.olga) == (TOO_MANY, "person 2")


async def test_an_organisations_people_share_its_places_and_others_have_their_own(
    valkey: Any, live_cast: Any, settings: Any, page: Any
) -> None:
    from webapp.tenants import quotas
    from webapp.tenants.services import membership_add

    settings.TENANT_SOCKETS = 2
    await database_sync_to_async(membership_add)(by=None, user=live_cast.ines, role="member", tenant=live_cast.alpha)
    open_ones = [await page(live_cast.alice), await page(live_cast.ines)]
    assert await refused(live_cast.alice) == (TOO_MANY, "organisation 2")
    assert await gets_in(await page(live_cast.bob)) and await gets_in(await page(live_cast.olga))

    def told() -> Any:
        publish._writer.resting_until = 0.0
        return {row.name: row for row in quotas.levels(tenant=live_cast.alpha)}["sockets"]

    level = await database_sync_to_async(told)()
    assert (level.used, level.most, level.near) == (2, 2, True)
    await open_ones[0].socket.send_to(text_data="{")  # closed for another reason
    assert await open_ones[0].hear() == 4009
    await open_ones[0].close()
    assert await gets_in(await page(live_cast.alice))


async def test_an_open_socket_keeps_its_place_for_longer_than_a_lease(
    brief: None, valkey: Any, live_cast: Any, settings: Any, page: Any, client: Any
) -> None:
    settings.PERSON_SOCKETS = 1
    alice = await page(live_cast.alice)
    await asyncio.sleep(2.5)
    assert await refused(live_cast.alice) == (TOO_MANY, "person 1")
    await client.flushall()  # it is told to Redis again
    await asyncio.sleep(0.6)
    assert await client.zcard(key_of(PERSON, live_cast.alice.pk)) == 1 and await gets_in(alice)


async def test_visitors_count_to_nobody_and_what_crashes_leaves_no_place(
    valkey: Any, live_cast: Any, settings: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PERSON_SOCKETS = 1
    for _ in range(3):
        await page(cookie="csrf=" + "a" * 32)
    alice = Page(cookie="session=" + await database_sync_to_async(session_of)(live_cast.alice))
    assert await alice.open()

    async def broken(*args: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("webapp.live.consumers.LiveConsumer._act", broken)
    await alice.say(type="ping")
    with pytest.raises(RuntimeError):
        await alice.socket.wait(10)
    monkeypatch.undo()
    settings.PERSON_SOCKETS = 1
    await until(lambda: not [keys for keys in hub()._places.held.values() if keys])
    assert await gets_in(await page(live_cast.alice))
