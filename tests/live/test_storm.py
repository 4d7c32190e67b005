"""Losses and bad manners in numbers: hints lost, connections cut, slow readers, messages that nobody understands."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from channels.db import database_sync_to_async

from benchmarks._viewers import Client, digest_of
from hsvm_engine import wire
from hsvm_engine.play import Player
from hsvm_engine.scenarios import demo
from tests.live.conftest import Page, until
from webapp.live import hub as hubs
from webapp.live import mailbox, publish, topics
from webapp.live.hub import Hub, hub
from webapp.live.mailbox import Socket, Watch
from webapp.runs.picture import OPERATOR, RunPicture

pytestmark = [pytest.mark.asyncio, pytest.mark.django_db(transaction=True)]
TOPIC = "play/1/map"
DROPS, STEPS = 10, 200


class Played:
    """The database of one run of the real engine: `player` is its truth."""

    def __init__(self) -> None:
        self.player = Player(demo())
        self.head = self.player.state().number

    def heads(self, runs: Sequence[int]) -> dict[int, topics.Head]:
        return {1: topics.Head(self.head, "running")}

    def _picture(self, state: wire.State) -> RunPicture:
        return RunPicture(state, slots_of=lambda slug: frozenset(), tenant_of={})

    def open(self, run: int, state: bytes) -> RunPicture:
        return self._picture(wire.State.from_bytes(state))

    def load(self, run: int) -> RunPicture:
        return self._picture(self.player.state())

    def step(self) -> None:
        step = self.player.step(2_000)
        publish.step(run=1, seq=step.number, entry=wire.encode(step))
        self.head = step.number

    def digest(self) -> str:
        state = self.player.state()
        return digest_of(state.number, wire._bytes_of(state.vms, None)[state.owners].tobytes())


async def watch(client: Client, reconnect: Callable[[], Any]) -> None:
    """One page after the other, each cut off at a moment of chance; a gap is asked for, as pages do."""
    while True:
        page: Page = await reconnect()
        await page.say(type="subscribe", topic=TOPIC, last=client.seq)
        end = asyncio.get_running_loop().time() + random.Random(client.drops).uniform(0.05, 0.3)
        while client.drops >= DROPS or asyncio.get_running_loop().time() < end:
            try:
                heard = await page.hear(0.5)
            except TimeoutError:
                break
            if isinstance(heard, bytes) and not client.take(heard):
                client.drops -= 1  # not a cut of ours: begin again from the last number
                break
        await page.close()
        client.drops += 1


async def test_a_third_of_the_hints_lost_and_ten_cuts_leave_the_client_at_the_engines_state(
    valkey: Any, live_cast: Any, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, hinted = random.Random(5), Hub._hinted
    lost: list[str] = []

    def lossy(self: Hub, channel: str, text: str) -> None:
        if channel == publish.HINT and chance.random() < 0.3:
            lost.append(text)
        else:
            hinted(self, channel, text)

    monkeypatch.setattr(Hub, "_hinted", lossy)
    monkeypatch.setattr(hubs, "FLOOR_SECONDS", 0.3)
    monkeypatch.setattr(topics, "_topics", dict(topics._topics))
    played = Played()
    topics.register_stream("play/{}/map", part="map", authorise=lambda user, ident: OPERATOR, source=played)
    publish.keyframe(run=1, seq=played.head, state=played.player.state().to_bytes())
    client = Client({"topic": TOPIC, "sessions": [""]}, 0)
    watching = asyncio.create_task(watch(client, lambda: page(cookie="csrf=" + "a" * 32)))
    try:
        for number in range(STEPS):
            await database_sync_to_async(played.step)()
            if number % 50 == 0:
                publish.keyframe(run=1, seq=played.head, state=played.player.state().to_bytes())
            await asyncio.sleep(0.01)
        await until(lambda: client.drops >= DROPS and client.seq == played.head)
    finally:
        watching.cancel()
    assert len(lost) > STEPS / 5
    assert digest_of(client.seq or 0, bytes(client.cells)) == played.digest()
    assert client.doubled == 0 and client.gaps == 0
    assert len({seq for seq, *_ in client.arrived}) == len(client.arrived)


async def test_what_waits_for_a_slow_reader_is_one_frame_of_the_newest_state() -> None:
    gate, sent = asyncio.Event(), []

    async def send(frame: Any) -> None:
        sent.append(frame)
        await gate.wait()

    async def close(code: int) -> None:
        sent.append(code)

    made: list[int] = []
    found: Any = SimpleNamespace()
    held = Watch(TOPIC, found, OPERATOR, held=0)
    socket = Socket(SimpleNamespace(), None, send, close, lambda watch: (made.append(100), (100, "whole"))[1])
    socket.watches[TOPIC] = held
    pump = asyncio.create_task(socket.pump())
    socket.offer(held, base=0, seq=1, delta="first")
    await asyncio.sleep(0.01)
    for seq in range(2, 101):
        socket.offer(held, base=seq - 1, seq=seq, delta=f"delta {seq}")
        socket.tell({"type": "state", "seq": seq})
    gate.set()
    await asyncio.sleep(0.2)
    socket.end(mailbox.RESYNC)
    await pump
    assert [one for one in sent if not str(one).startswith("{")] == ["first", "whole", mailbox.RESYNC]
    assert len(made) == 1 and sum(str(one).startswith("{") for one in sent) == 99, "events are never merged away"


async def test_who_does_not_take_a_message_for_long_is_closed_as_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "SEND_SECONDS", 0.1)
    closed: list[int] = []

    async def never(frame: Any) -> None:
        await asyncio.sleep(60)

    async def close(code: int) -> None:
        closed.append(code)

    socket = Socket(SimpleNamespace(), None, never, close, lambda watch: None)
    socket.tell({"type": "pong"})
    await asyncio.wait_for(socket.pump(), 2)
    assert closed == [mailbox.TOO_SLOW]


async def test_a_hidden_page_that_returns_catches_up_at_once(
    valkey: Any, tapes: Any, live_cast: Any, page: Any
) -> None:
    tapes.step(1, 0, 1)
    one: Page = await page(live_cast.alice)
    await one.say(type="rate", hz=1)
    await one.ask("tape/1/row", answers=2)
    await until(lambda: hub().connected)
    waits = []
    for first in range(2, 32, 6):  # a busy machine may be slow once; the slow pace would be waited out each time
        await one.say(type="rate", hz=1)
        for value in range(first, first + 6):
            tapes.step(1, 1, value)
            await asyncio.sleep(0.02)
        await one.say(type="rate", hz=20)
        await one.say(type="subscribe", topic="tape/1/row", last=first - 1)
        asked, head = time.monotonic(), first + 5
        heard = [await one.hear()]
        while heard[-1].get("seq") != head:
            heard.append(await one.hear())
        waits.append(time.monotonic() - asked)
        assert heard[-1]["data"] in ([1, head, 0, 0], {"1": head})
        if waits[-1] < 0.7:
            return
    raise AssertionError(f"the slow pace was waited out: {waits}")


BAD = ["{", '{"type":"resume"}', '{"type":"subscribe","topic":7}', "[]", '{"type":"rate","hz":1e400}', "x" * 60_000]


async def test_two_thousand_bad_messages_leave_the_servers_memory_flat(valkey: Any, db: Any) -> None:
    async def spoil(count: int) -> None:
        for number in range(count):
            page = Page(cookie="csrf=" + "a" * 32)
            assert await page.open()
            for more in range(10):
                await page.socket.send_to(text_data=BAD[(number + more) % len(BAD)])
            assert await page.hear() == 4009
            await page.close()

    await spoil(40)
    before = psutil.Process().memory_info().rss
    await spoil(160)
    assert not hub().sockets
    assert psutil.Process().memory_info().rss - before < 8 << 20
    await hub().stop()
