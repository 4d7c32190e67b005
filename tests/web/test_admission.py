"""Before every request: order, bound, and who is told to be gone before any work is done."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from webapp.admission import GONE, admitted

WHOLE: dict[str, Any] = {"type": "http.request", "body": b"x", "more_body": False}
PART: dict[str, Any] = {"type": "http.request", "body": b"x", "more_body": True}
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
BODY: dict[str, Any] = {"type": "http.response.body", "body": b"", "more_body": False}


class Site:
    """An application that reads the body and works until it is let go; it counts how many are at work."""

    def __init__(self, at_once: int) -> None:
        self.at_work = self.most = self.begun = 0
        self.gone: list[int] = []
        self.order: list[int] = []
        self.go, self.read = asyncio.Event(), asyncio.Event()
        self.read.set()
        self.app = admitted(self.work, at_once)

    async def work(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (message := await receive()) != GONE and message["more_body"]:
            pass
        if message == GONE:
            self.gone.append(scope["n"])
            return
        self.order.append(scope["n"])
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        try:
            await self.go.wait()
            if scope.get("fails"):
                raise ValueError
            await send(START)
            await self.read.wait()  # a streamed answer's list is read after its head is sent
        finally:
            self.at_work -= 1
        await send(BODY)
        await scope.get("fetched", self.go).wait()


class Client:
    """One request: what it has sent so far, and whether it has left."""

    def __init__(self, site: Site, number: int, **scope: Any) -> None:
        self.said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(site.app({"type": "http", "n": number, **scope}, self.said.get, self.take))

    async def take(self, message: dict[str, Any]) -> None:
        self.answer = message

    def say(self, *messages: dict[str, Any]) -> Client:
        for message in messages:
            self.said.put_nowait(message)
        return self


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_so_many_at_once_in_order_and_slow_bodies_take_no_turn() -> None:
    async def main() -> None:
        site = Site(2)
        slow = Client(site, 0).say(PART)
        others = [Client(site, n).say(PART, WHOLE) for n in (1, 2, 3, 4)]
        await settled()
        assert site.order == [1, 2] and site.at_work == 2
        site.go.set()
        await asyncio.gather(*(client.task for client in others))
        assert site.order == [1, 2, 3, 4] and site.most == 2 and not slow.task.done()
        slow.say(WHOLE)
        await slow.task
        assert site.order[-1] == 0

    asyncio.run(asyncio.wait_for(main(), 30))


def test_who_left_while_waiting_is_never_worked_for() -> None:
    async def main() -> None:
        site = Site(1)
        first = Client(site, 0).say(WHOLE)
        leavers = [Client(site, n).say(WHOLE) for n in range(1, 500)]
        last = Client(site, 500).say(WHOLE)
        await settled()
        for client in leavers:
            client.say(GONE)
        await asyncio.gather(*(client.task for client in leavers))
        assert site.order == [0] and sorted(site.gone) == list(range(1, 500))
        site.go.set()
        await asyncio.gather(first.task, last.task)
        assert site.order == [0, 500]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_turn_ends_with_the_answer_an_error_or_a_cancelled_request() -> None:
    async def main() -> None:
        chance = random.Random(7)
        site, clients = Site(3), list[Client]()
        for number in range(600):
            client = Client(site, number, fails=chance.random() < 0.2)
            client.say(PART, WHOLE) if chance.random() < 0.9 else client.say(PART)
            if chance.random() < 0.3:
                await settled()
            if chance.random() < 0.2:
                client.say(GONE)
            if chance.random() < 0.2:
                client.task.cancel()
            if chance.random() < 0.1:
                site.go.set()
                await settled()
                site.go = asyncio.Event()
            clients.append(client)
        site.go.set()
        await settled()
        for client in clients:
            client.say(GONE)
        await asyncio.gather(*(client.task for client in clients), return_exceptions=True)
        assert site.most == 3 and site.at_work == 0
        site.go = asyncio.Event()
        again = [Client(site, n).say(WHOLE) for n in (1001, 1002, 1003, 1004)]
        await settled()
        assert site.order[-3:] == [1001, 1002, 1003]  # all three turns are there again, and no more
        site.go.set()
        await asyncio.gather(*(client.task for client in again))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_turn_lasts_until_the_body_begins_and_not_until_it_is_fetched() -> None:
    async def main() -> None:
        site, never = Site(1), asyncio.Event()
        site.go.set()
        site.read.clear()
        slow, next_one = Client(site, 0, fetched=never).say(WHOLE), Client(site, 1).say(WHOLE)
        await settled()
        assert site.order == [0]
        site.read.set()
        await next_one.task
        assert site.order == [0, 1] and not slow.task.done()
        never.set()
        await slow.task

    asyncio.run(asyncio.wait_for(main(), 30))


def test_whether_the_process_lives_is_answered_out_of_turn() -> None:
    async def main() -> None:
        site = Site(1)
        busy = [Client(site, n).say(WHOLE) for n in (0, 1)]
        alive = Client(site, 2, path="/healthz").say(WHOLE)
        await settled()
        assert site.order == [2, 0]
        site.go.set()
        await asyncio.gather(alive.task, *(client.task for client in busy))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_the_application_hears_that_its_client_left_while_it_works() -> None:
    async def main() -> None:
        heard: list[dict[str, Any]] = []

        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await receive()
            heard.append(await receive())

        said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        said.put_nowait(WHOLE)
        running = asyncio.create_task(admitted(app, 1)({"type": "http"}, said.get, None))
        await settled()
        assert heard == []
        said.put_nowait(GONE)
        await running
        assert heard == [GONE]

    asyncio.run(asyncio.wait_for(main(), 30))
