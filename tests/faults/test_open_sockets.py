"""A real server: an idle socket stays open, and a reader that never reads costs little and is dropped."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.faults.conftest import PORT, Stack, start_run
from tests.live.conftest import session_of
from webapp.live import places, publish
from webapp.runs import engine, services
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db(transaction=True)
ORIGIN = f"http://127.0.0.1:{PORT}"
GROWTH_MB = 50


def open_socket(cookie: str) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{PORT}/ws/",
        origin=ORIGIN,
        additional_headers={"Cookie": f"session={cookie}"},
        max_size=None,
        legacy=True,
    )


def never_reading(cookie: str) -> socket.socket:
    """A client that reads nothing at all."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", PORT))
    key = base64.b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nOrigin: {ORIGIN}\r\nCookie: session={cookie}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw


def ask_for_everything(raw: socket.socket, topic: str) -> None:
    """Subscribe anew, as after a gap: the whole grid is sent."""
    text = json.dumps({"type": "subscribe", "topic": topic, "last": None}).encode()
    mask = os.urandom(4)
    raw.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(text)))


def answers() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", PORT)) == 0


@pytest.mark.long
def test_idle_sockets_live_on_and_slow_readers_are_dropped(live_cast: Any, stack: Stack) -> None:
    run = start_run(live_cast)
    services.run_slice(run_id=run.pk, slice_no=0)
    run = Run.objects.get(pk=run.pk)
    player = services.player_of(run)
    cookie = session_of(live_cast.olga)
    stack.start("web")
    stack.until(answers)
    server = psutil.Process(stack.processes["web"].pid)
    idle, viewer = open_socket(cookie), open_socket(cookie)
    viewer.send(json.dumps({"type": "subscribe", "topic": f"run/{run.pk}/tlb", "last": None}))
    assert json.loads(viewer.recv(60))["type"] == "snapshot"
    before = server.memory_info().rss
    began = time.monotonic()
    slow = [never_reading(cookie) for _ in range(5)]
    seen: list[int] = []

    def watch() -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                seen.append(json.loads(viewer.recv(10)).get("seq", 0))

    watching = threading.Thread(target=watch)
    watching.start()
    while time.monotonic() < began + 15.5:
        step = player.step(200_000)  # touches much of the TLB: tens of kilobytes a frame
        publish.step(run=run.pk, seq=step.number, entry=engine.entry_of(step))
        if time.monotonic() < began + 4 and step.number % 2:
            for raw in slow:
                ask_for_everything(raw, f"run/{run.pk}/tlb")
        time.sleep(0.05)
    watching.join(60)
    assert server.memory_info().rss - before < GROWTH_MB << 20
    assert seen == sorted(seen) and len(seen) > 100, "the other viewer went on without a pause"
    for raw in slow:  # dropped: what is left in the buffers ends in a reset or an end of stream
        raw.settimeout(2)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(1 << 20):
                pass
    idle.send(json.dumps({"type": "ping"}))
    assert json.loads(idle.recv(60)) == {"type": "pong"}
    idle.close()
    viewer.close()


@pytest.mark.long
def test_a_web_process_that_is_killed_gives_its_places_back(
    live_cast: Any, stack: Stack, valkey: Any, settings: Any
) -> None:
    cookie, key = session_of(live_cast.alice), places.key_of(places.ORGANISATION, "alpha")
    stack.environment["HSVM_TENANT_SOCKETS"] = "3"
    stack.start("web")
    stack.until(answers)
    held = [open_socket(cookie) for _ in range(3)]
    for one in held:
        one.send(json.dumps({"type": "ping"}))
        assert json.loads(one.recv(60)) == {"type": "pong"}
    with pytest.raises(ConnectionClosed) as refused, open_socket(cookie) as more:
        more.recv(60)
    assert refused.value.rcvd is not None
    assert (refused.value.rcvd.code, refused.value.rcvd.reason) == (4029, "organisation 3")
    stack.kill("web")
    assert valkey.client().zcard(key) == 3  # nobody was there to give them back
    died = time.monotonic()
    stack.start("web")
    stack.until(answers)
    while time.monotonic() < died + 60:
        with contextlib.suppress(ConnectionClosed), open_socket(cookie) as again:
            again.send(json.dumps({"type": "ping"}))
            assert json.loads(again.recv(60)) == {"type": "pong"}
            break
        time.sleep(0.5)
    assert time.monotonic() - died < places.LEASE_SECONDS + 10
