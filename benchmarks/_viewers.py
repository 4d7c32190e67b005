"""Protocol clients for the live bench, in a process of their own: they subscribe, apply frames, and resync after drops.

Reads one JSON argument, prints `ready` when every client has its first frame, reads {"last", "seconds"} from stdin and
prints one row a client: its number and digest, the arrival of each number, and how many it had twice or with a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import struct
import sys
import time
import zlib
from typing import Any

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

HEADER = struct.Struct("<HBBIIIQII")
ROW = np.dtype([("mfn", "<u4"), ("byte", "u1")])


def digest_of(seq: int, cells: bytes) -> str:
    return hashlib.sha256(struct.pack("<Q", seq) + cells).hexdigest()


class Client:
    """One map topic over one socket at a time. The format is read here anew: no code of the server's is used."""

    def __init__(self, asked: dict[str, Any], number: int) -> None:
        self.asked = asked
        self.session = asked["sessions"][number % len(asked["sessions"])]
        self.seq: int | None = None
        self.cells = bytearray()
        self.arrived: list[tuple[int, float, int]] = []  # number, time, bytes
        self.doubled = self.gaps = self.drops = 0
        self.first = asyncio.Event()

    async def live(self) -> None:
        while True:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self.connected()
            self.drops += 1
            await asyncio.sleep(0.5 + random.random() / 4)

    async def connected(self) -> None:
        async with connect(
            f"ws://127.0.0.1:{self.asked['port']}{self.asked['path']}",
            origin=self.asked["origin"],
            additional_headers={"Cookie": f"session={self.session}"},
            max_size=None,
            compression=None,
            open_timeout=30,
        ) as socket:
            await self.subscribe(socket)
            async for message in socket:
                if isinstance(message, bytes) and not self.take(message):
                    await self.subscribe(socket)

    async def subscribe(self, socket: Any) -> None:
        if self.asked["topic"]:
            await socket.send(json.dumps({"type": "subscribe", "topic": self.asked["topic"], "last": self.seq}))
        else:
            self.first.set()

    def take(self, frame: bytes) -> bool:
        """False: there is a gap, so ask."""
        kind, seq, base, length, crc = (int(HEADER.unpack_from(frame)[place]) for place in (2, 4, 5, 7, 8))
        body = frame[HEADER.size :]
        assert len(body) == length and zlib.crc32(body) == crc
        if self.seq is not None and kind == 2 and (seq <= self.seq or base != self.seq):
            self.doubled += seq <= self.seq
            self.gaps += seq > self.seq
            return seq <= self.seq
        if kind == 1:
            (text,) = struct.unpack_from("<I", body)
            (wrong,) = struct.unpack_from("<I", body, 4 + text)
            self.cells = bytearray(zlib.decompress(body[8 + text + 4 * wrong :])) if length > 64 else self.cells
        elif self.asked["topic"]:
            (count,) = struct.unpack_from("<I", body)
            rows = np.frombuffer(body, ROW, count, 4)
            np.frombuffer(self.cells, np.uint8)[rows["mfn"]] = rows["byte"]
        self.seq = seq
        self.arrived.append((seq, time.time(), len(frame)))
        self.first.set()
        return True


async def main() -> None:
    asked = json.loads(sys.argv[1])
    clients = [Client(asked, number) for number in range(asked["count"])]
    tasks = []
    for client in clients:
        tasks.append(asyncio.create_task(client.live()))
        await asyncio.sleep(0.002)
    await asyncio.wait_for(asyncio.gather(*(client.first.wait() for client in clients)), 60)
    for client in clients:
        client.arrived.clear()  # the first frame was no step
    print("ready", flush=True)
    told = json.loads(await asyncio.to_thread(sys.stdin.readline))
    end = time.monotonic() + told["seconds"]
    while time.monotonic() < end and any(client.seq != told["last"] for client in clients):
        await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    rows = [
        {
            "seq": client.seq,
            "digest": digest_of(client.seq or 0, bytes(client.cells)),
            "arrived": client.arrived,
            "doubled": client.doubled,
            "gaps": client.gaps,
            "drops": client.drops,
        }
        for client in clients
    ]
    print(json.dumps(rows), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
