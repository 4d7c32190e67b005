"""What waits to be sent to one socket: bounded, however slowly the other side reads."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from webapp import tally
from webapp.live.rights import Claim
from webapp.live.topics import Found, Frame

MOST_EVENTS: Final = 256
SEND_SECONDS: Final = 10
FASTEST_HZ: Final = 20

RESYNC, RIGHTS, TOO_SLOW, NOT_UNDERSTOOD, TOO_MANY = 4001, 4003, 4008, 4009, 4029

ANSWERS: Final = ("current", "replay", "snapshot")  # to who subscribes, or comes back

Keyframe = Callable[["Watch"], tuple[int, Frame] | None]


@dataclass(eq=False)
class Watch:
    """One topic on one socket. `held` is the number that the client has, or will have when the slot is sent."""

    name: str
    found: Found
    view: str
    held: int | None = None
    waiting: bool = False
    delta: Frame | None = None  # of the waiting frame; None: a keyframe is made when it is sent


@dataclass(eq=False)
class Socket:
    """One open page. Messages are sent in order; of each frame topic only the newest frame waits."""

    user: Any
    claim: Claim | None  # None: nobody is signed in, public topics only
    send: Callable[[Frame], Awaitable[None]]
    close: Callable[[int], Awaitable[None]]
    keyframe: Keyframe
    watches: dict[str, Watch] = field(default_factory=dict)
    events: deque[str] = field(default_factory=deque)
    hz: int = FASTEST_HZ
    overwritten: int = 0
    closing: int = 0
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _next: float = 0.0  # when frames may be sent again

    def tell(self, message: dict[str, Any]) -> None:
        """Queue a message that is never merged away. A full queue ends the socket: the client resyncs."""
        if message.get("type") in ANSWERS:
            tally.count("vpms_resyncs_total", kind=message["type"])
        if len(self.events) >= MOST_EVENTS:
            self.end(RESYNC)
            return
        self.events.append(json.dumps(message, separators=(",", ":")))
        self._wake.set()

    def offer(self, watch: Watch, *, base: int, seq: int, delta: Frame | None) -> None:
        """Put the step into the topic's one slot. A waiting frame that is overwritten becomes a keyframe."""
        if watch.waiting:
            self.overwritten += 1
            tally.count("vpms_mailbox_overwrites_total")
            watch.delta = None
        else:
            watch.delta = delta if watch.held == base else None
        watch.held, watch.waiting = seq, True
        self._wake.set()

    def pace(self, hz: int) -> None:
        """Frames a second from now on. Who comes back from a slow pace does not wait for its end."""
        self.hz, self._next = hz, min(self._next, time.monotonic() + 1 / hz)
        self._wake.set()

    def end(self, code: int) -> None:
        """Have the socket closed with this code after what is being sent now."""
        if not self.closing:
            self.closing = code
            self._wake.set()

    async def pump(self) -> None:
        """Send until the socket ends. A send that does not finish in 10 s closes it as too slow."""
        try:
            while not self.closing:
                now = time.monotonic()
                frames_wait = any(watch.waiting for watch in self.watches.values())
                if not self.events and not (frames_wait and now >= self._next):
                    await self._sleep(self._next - now if frames_wait else None)
                    continue
                while self.events and not self.closing:
                    await asyncio.wait_for(self.send(self.events.popleft()), SEND_SECONDS)
                if frames_wait and now >= self._next:
                    self._next = now + 1 / self.hz
                    await self._send_frames()
            while self.events:  # e.g. the words that say why it ends
                await asyncio.wait_for(self.send(self.events.popleft()), 1)
            await asyncio.wait_for(self.close(self.closing), 1)
        except TimeoutError:
            self.closing = TOO_SLOW
            tally.count("vpms_sends_timed_out_total")
            with contextlib.suppress(TimeoutError):  # who does not read would not read the close either
                await asyncio.wait_for(self.close(TOO_SLOW), 1)

    async def flush(self) -> None:
        """Send what waits now, once and without a pump."""
        while self.events:
            await self.send(self.events.popleft())
        await self._send_frames()

    async def _sleep(self, seconds: float | None) -> None:
        self._wake.clear()
        if seconds is None:
            await self._wake.wait()
            return
        try:
            await asyncio.wait_for(self._wake.wait(), max(0.001, seconds))
        except TimeoutError:
            return

    async def _send_frames(self) -> None:
        for watch in list(self.watches.values()):
            if not watch.waiting or self.closing:
                continue
            frame, watch.delta, watch.waiting = watch.delta, None, False
            if frame is None:
                made = self.keyframe(watch)
                if made is None:
                    continue
                watch.held, frame = made
            await asyncio.wait_for(self.send(frame), SEND_SECONDS)
