"""Load: many viewers, and viewers that never read."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from typing import Any

from tests.goals.stack import Place

FRAMES, VMS, PAGES, HZ = 16_384, 8, 400, 5.0  # 400 changed pages are 2 kB
MB = 1 << 20


def map_of(frames: int) -> Any:
    """A state of so many pages with some VMs, made by the engine and then given owners."""
    import numpy as np

    from benchmarks._live import with_vms
    from hsvm_engine import wire
    from hsvm_engine.play import Player
    from hsvm_engine.scenarios import demo

    state = wire.State.from_player(Player(demo()))
    slots = np.arange(2, 2 + VMS, dtype=np.uint16)
    owners = slots[np.random.default_rng(1).integers(0, VMS, frames)]
    return with_vms(state, owners, VMS)


def viewers(place: Place) -> dict[str, Any]:
    """200 viewers of one run at 5 Hz, then 400, by the web process of the demo."""
    from benchmarks import _live

    found: dict[str, Any] = {}
    with _live.stack() as live:
        for count in (200, 400):
            found[str(count)] = watched(place, live, place.count(count, count // 10))
    two, four = found["200"], found["400"]
    ok = two["unresolved"] == four["unresolved"] == 0 and two["p95_ms"] <= 500 and two["web_rss_mb"] <= 250
    return {"ok": ok, **{f"viewers_{name}": row for name, row in found.items()}}


def watched(place: Place, live: Any, count: int) -> dict[str, Any]:
    """So many viewers over so many steps: delays, what stayed open, the web process's memory."""
    live.start_web()
    run = live.run(f"v{count}", map_of(FRAMES))
    clients = live.viewers(count, run.topic)
    run.steps(place.count(150, 30), HZ, PAGES)
    rss = live.web.memory_info().rss
    rows = clients.end(run.state.number, 30)
    delays = sorted((at - run.sent[seq]) * 1000 for row in rows for seq, at, _ in row["arrived"] if seq in run.sent)
    unresolved = sum(row["seq"] != run.state.number or row["digest"] != run.digest() for row in rows)
    return {
        "viewers": count,
        "steps": len(run.sent),
        "unresolved": unresolved,
        "frames": len(delays),
        "p50_ms": round(delays[len(delays) // 2]),
        "p95_ms": round(delays[int(len(delays) * 0.95)]),
        "resyncs": sum(row["gaps"] for row in rows),
        "reconnects": sum(row["drops"] for row in rows),
        "web_rss_mb": round(max(rss, live.web.memory_info().rss) / MB),
    }


def never_reading(place: Place) -> dict[str, Any]:
    """Clients that subscribe to the map and read nothing, beside some that read, by the web process of the demo."""
    from benchmarks import _live

    with _live.stack() as live:
        run = live.run("v2", map_of(FRAMES))
        others = live.viewers(20, run.topic)
        run.steps(20, HZ, PAGES)
        before = live.web.memory_info().rss
        calm = len(run.sent)
        mute = [silent(live, run.topic, number) for number in range(place.count(20, 5))]
        began = time.monotonic()
        gone: dict[int, float] = {}
        most = before
        while time.monotonic() < began + 20:
            run.steps(1, HZ, PAGES)
            most = max(most, live.web.memory_info().rss)
            open_now = peers(live.web, {raw.getsockname()[1] for raw in mute})
            for number, raw in enumerate(mute):
                if raw.getsockname()[1] not in open_now:
                    gone.setdefault(number, time.monotonic() - began)
        rows = others.end(run.state.number, 30)
    unaffected = all(row["seq"] == run.state.number and row["digest"] == run.digest() for row in rows)
    delays = {"before": [], "beside": []}
    for row in rows:
        for seq, at, _ in row["arrived"]:
            if seq in run.sent:
                delays["before" if seq - 1 <= calm else "beside"].append((at - run.sent[seq]) * 1000)
    growth = (most - before) / MB
    dropped = max(gone.values()) if len(gone) == len(mute) else None
    p95 = {name: round(sorted(found)[int(len(found) * 0.95)]) for name, found in delays.items() if found}
    return {
        "ok": growth <= 50 and dropped is not None and dropped <= 15 and unaffected and p95["beside"] <= 500,
        "clients": len(mute),
        "dropped": len(gone),
        "dropped_max_s": dropped and round(dropped, 1),
        "rss_growth_mb": round(growth, 1),
        "others": len(rows),
        "others_right": unaffected,
        "others_p95_ms": p95,
    }


def silent(live: Any, topic: str, number: int) -> socket.socket:
    """A client that subscribes and then reads nothing, not even what keeps a socket alive."""
    raw = socket.socket()
    raw.connect(("127.0.0.1", live.port))
    key = base64.b64encode(os.urandom(16)).decode()
    session = live.sessions[number % len(live.sessions)]
    raw.sendall(
        f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nOrigin: {live.url}\r\nCookie: session={session}\r\n"
        f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert raw.recv(12) == b"HTTP/1.1 101"
    raw.sendall(text_frame(json.dumps({"type": "subscribe", "topic": topic, "last": None})))
    return raw


def text_frame(text: str) -> bytes:
    """A masked text frame of the websocket protocol, shorter than 64 KiB."""
    body, mask = text.encode(), os.urandom(4)
    size = bytes([0x80 | len(body)]) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big")
    return b"\x81" + size + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(body))


def peers(web: Any, ports: set[int]) -> set[int]:
    """Of these client ports those to which the process still holds a connection."""
    return {each.raddr.port for each in web.net_connections("tcp") if each.raddr and each.raddr.port in ports}
