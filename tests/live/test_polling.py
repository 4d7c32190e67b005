"""Where websockets are refused: plain requests get the same bytes, under the same rights."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from channels.db import database_sync_to_async
from django.test import AsyncClient

from tests.live.conftest import Page
from webapp.live.hub import hub

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
TOPIC = "tape/1/row"


@pytest_asyncio.fixture
async def client() -> AsyncIterator[AsyncClient]:
    yield AsyncClient()
    await hub().stop()


async def ask(client: AsyncClient, user: Any, query: str) -> list[Any]:
    if user is not None:
        await database_sync_to_async(client.force_login)(user)
    answer = await client.get(f"/live/newest/?{query}")
    assert answer.status_code == 200 and answer["Cache-Control"] == "no-store"
    found, at, body = [], 0, answer.content
    while at < len(body):
        _, binary, length = struct.unpack_from("<IBI", body, at)
        found.append(body[at + 9 : at + 9 + length] if binary else json.loads(body[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


async def test_it_is_answered_what_a_socket_is_told(
    valkey: Any, tapes: Any, live_cast: Any, page: Any, client: AsyncClient
) -> None:
    for value in range(1, 6):
        tapes.step(1, value % 4, value)
    socket: Page = await page(live_cast.alice)
    for last, answers in ((None, 2), (3, 2), (5, 1)):
        told = await socket.ask(TOPIC, last=last, answers=answers)
        assert await ask(client, live_cast.alice, f"t={TOPIC}" + (f":{last}" if last else "")) == told
    assert [row["type"] for row in await ask(client, live_cast.alice, "t=matrix")][:1] == ["snapshot"]


async def test_the_rights_are_those_of_sockets_and_nothing_is_left_behind(
    valkey: Any, tapes: Any, live_cast: Any, client: AsyncClient
) -> None:
    tapes.step(1, 0, 150)
    [answer] = await ask(client, None, f"t={TOPIC}")
    assert answer == {"type": "denied", "topic": TOPIC, "reason": "Sign in to watch this."}
    assert (await ask(client, live_cast.bob, f"t={TOPIC}"))[1]["data"] == [0, 0, 0, 0]
    [answer] = await ask(client, live_cast.bob, "t=run/7/map")
    assert answer["type"] == "denied"
    assert not hub().feeds and not hub().sockets


@pytest.mark.parametrize("query", ["", "t=a:x", "t=a:-1", "t=a:" + "9" * 20, "t=" + "x" * 200, "&".join(["t=a"] * 33)])
async def test_what_is_not_understood_is_400(live_cast: Any, client: AsyncClient, query: str) -> None:
    assert (await client.get(f"/live/newest/?{query}")).status_code == 400
