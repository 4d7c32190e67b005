"""The real live path on scratch data: a database, valkey, the web process with the demo's options, and whoever watches.

No keeper and no worker run: what moves is published by the bench itself through `webapp.live.publish`, so that the
figures are those of the path from there to the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from hsvm_engine import wire
from hsvm_engine.step import FIRST_VM, Step
from tests.e2e.stack import free_port

ROOT = Path(__file__).resolve().parent.parent
USERS = 5  # a person may hold 100 sockets


class Stack:
    """valkey and one web process. `url` is the server's, `proxy_url` that of the way with forced drops."""

    def __init__(self, folder: Path) -> None:
        self.port, self.proxy_port = free_port(), free_port()
        self.url, self.proxy_url = (f"http://127.0.0.1:{port}" for port in (self.port, self.proxy_port))
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
            "HSVM_RUN_DIR": str(folder),
            "HSVM_TLS": "0",
            "HSVM_PORT": str(self.port),
            "HSVM_ORIGINS": f"{self.url},{self.proxy_url}",
            "HSVM_REDIS": f"unix://{folder / 'valkey.sock'}",
            "HSVM_LOG": "WARNING",
            "DJANGO_ALLOW_ASYNC_UNSAFE": "1",  # Playwright's own loop runs in this thread
        }
        import django

        django.setup()
        from django.core.management import call_command

        from webapp.ops import demo
        from webapp.ops.supervisor import Supervisor

        call_command("migrate", verbosity=0, interactive=False)
        self.supervisor = Supervisor(demo.children(self.port, demo.socket_path(folder)))
        self.folder = folder
        self.supervisor.start("valkey")
        self.people = self._people()
        self.sessions = [self._session(user) for user in self.people]

    def _people(self) -> list[Any]:
        from webapp.accounts.models import User
        from webapp.tenants.services import membership_add

        people = [User.objects.create(username=f"olga{number}") for number in range(USERS)]
        for user in people:
            membership_add(by=None, user=user, role="operator")
        return people

    def _session(self, user: Any) -> str:
        from django.conf import settings
        from django.test import Client

        client = Client()
        client.force_login(user)
        return str(client.cookies[settings.SESSION_COOKIE_NAME].value)

    def run(self, name: str, state: wire.State) -> Run:
        """A run on a host of its own that stands at this state, and is at once what everybody is shown."""
        from tests.conftest import HOST
        from webapp.fleet.services import host_create
        from webapp.runs.models import Run as Row

        host = host_create(by=self.people[0], document={**HOST, "host": name})
        machine = {"frames": len(state.owners), "cores": state.geometry.cores, "architecture": "hsvm"}
        scenario = {"machine": machine, "seed": 1}
        row = Row.objects.create(host=host, scenario=scenario, engine_version="bench")
        run = Run(row.pk, name, state)
        run.keyframe()
        return run

    @property
    def web(self) -> psutil.Process:
        process = next(child.process for child in self.supervisor.children if child.name == "web")
        assert process is not None
        return psutil.Process(process.pid)

    def start_web(self) -> None:
        """A fresh web process, and the old one ended."""
        child = next(child for child in self.supervisor.children if child.name == "web")
        if child.process is not None:
            child.process.terminate()
            child.process.wait(30)
        child.start()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + "/healthz", timeout=5).close()
                return
            time.sleep(0.1)
        raise SystemExit(child.tail())

    def viewers(self, count: int, topic: str, path: str = "/ws/", port: int = 0) -> Viewers:
        """This many protocol clients in a process of their own, each already subscribed."""
        return Viewers(port or self.port, count, topic, self.sessions, path, self.url)

    def stop(self) -> None:
        self.supervisor.stop()


@contextlib.contextmanager
def stack() -> Iterator[Stack]:
    with tempfile.TemporaryDirectory(prefix="vpms-live-") as folder:
        made = Stack(Path(folder))
        try:
            made.start_web()
            yield made
        finally:
            made.stop()


class Run:
    """A published run: its newest state here, and the moment at which each step was published (seconds, one clock)."""

    def __init__(self, number: int, host: str, state: wire.State) -> None:
        self.number, self.host, self.state = number, host, state
        self.topic = f"run/{number}/map"
        self.sent: dict[int, float] = {}
        self._random = np.random.default_rng(number)

    def keyframe(self) -> None:
        from webapp.live import publish

        if not publish.keyframe(run=self.number, seq=self.state.number, state=self.state.to_bytes()):
            raise SystemExit("the keyframe was not published")

    def publish(self, step: Step) -> None:
        from webapp.live import publish

        entry = wire.encode(step)
        self.state.apply(step)
        self.sent[step.number] = time.time()
        if not publish.step(run=self.number, seq=step.number, entry=entry):
            raise SystemExit(f"step {step.number} was not published")

    def change(self, pages: int) -> None:
        """A step in which so many pages get another owner."""
        state = self.state
        slots = np.array([row["slot"] for row in state.vms], np.uint16)
        changed = np.sort(self._random.choice(len(state.owners), pages, replace=False)).astype(np.uint32)
        now = state.owners[changed]
        owner = slots[self._random.integers(0, len(slots), pages)]
        owner = np.where(owner == now, 0, owner).astype(np.uint16)
        self.publish(
            Step(state.number + 1, state.op + pages, changed, owner, state.tlb[:0], state.counters, vms=state.vms)
        )

    def steps(self, count: int, hz: float, pages: int) -> None:
        """So many steps at this pace; falling behind shifts the later ones and merges none."""
        at = time.monotonic()
        for _ in range(count):
            self.change(pages)
            at = max(at + 1 / hz, time.monotonic())
            time.sleep(max(0.0, at - time.monotonic()))

    def digest(self) -> str:
        from benchmarks._viewers import digest_of

        return digest_of(self.state.number, wire._bytes_of(self.state.vms, None)[self.state.owners].tobytes())


def with_vms(state: wire.State, owners: Any, vms: int) -> wire.State:
    rows = [
        {"slot": FIRST_VM + i, "byte": FIRST_VM + i, "letter": wire.letter(i), "name": f"vm{i}", "handle": FIRST_VM + i}
        for i in range(vms)
    ]
    counts = dict.fromkeys(wire.COUNTS, 0)
    counters = {**counts, "vms": [{"slot": row["slot"], **counts} for row in rows]}
    return dataclasses.replace(state, owners=owners, vms=rows, counters=counters, number=1)


class Viewers:
    """`benchmarks._viewers` as a process: started and subscribed when made, its report read by `end`."""

    def __init__(self, port: int, count: int, topic: str, sessions: list[str], path: str, origin: str) -> None:
        asked = {"port": port, "count": count, "topic": topic, "sessions": sessions, "path": path, "origin": origin}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks._viewers", json.dumps(asked)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        if said.strip() != "ready":
            raise SystemExit(f"the viewers did not get ready: {said}")

    def end(self, last: int, seconds: float = 15) -> list[dict[str, Any]]:
        """What each viewer holds once all are at step `last`, or after this time."""
        told, _ = self.process.communicate(json.dumps({"last": last, "seconds": seconds}) + "\n", timeout=seconds + 30)
        rows: list[dict[str, Any]] = json.loads(told.splitlines()[-1])
        return rows


class Proxy:
    """A TCP way to the server that can be cut: `drop` resets what is open and refuses what comes until `open`."""

    def __init__(self, port: int, target: int) -> None:
        self.port, self.target = port, target
        self.refusing = False
        self.tries: list[float] = []  # when connections were let through (seconds, the clock of time.time)
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)

    def _serve(self, ready: threading.Event) -> None:
        async def main() -> None:
            await asyncio.start_server(self._joined, "127.0.0.1", self.port)
            ready.set()

        self._loop.run_until_complete(main())
        self._loop.run_forever()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.tries.append(time.time())
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        both = {writer, back}
        self._open |= both
        await asyncio.wait(
            [asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for end in both:
            end.transport.abort()
        self._open -= both

    def drop(self) -> None:
        def cut() -> None:
            self.refusing = True
            for writer in list(self._open):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(cut)

    def open(self) -> None:
        self.refusing = False


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
