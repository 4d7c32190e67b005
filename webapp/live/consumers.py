"""The one websocket of a page: what a client may say, and how it is told that it may not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any, Final

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from webapp import tally
from webapp.errors import VpmsError
from webapp.live import places, rights
from webapp.live.hub import hub
from webapp.live.mailbox import NOT_UNDERSTOOD, RIGHTS, TOO_MANY, TOO_SLOW, Socket
from webapp.live.topics import Frame
from webapp.strictjson import load

TOO_BIG: Final = 1009
MOST_BYTES: Final = 65_536
MOST_PER_SECOND: Final = 20
MOST_TOPICS: Final = 32
FIELDS: Final = {
    "subscribe": {"type", "topic", "last"},
    "unsubscribe": {"type", "topic"},
    "rate": {"type", "hz"},
    "ping": {"type"},
}


def abortable(app: Any) -> Any:
    """Lets the consumer drop a peer that does not read: closing politely would wait for it. Under uvicorn only."""

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        transport = getattr(getattr(send, "__self__", None), "transport", None)
        await app({**scope, "vpms.abort": getattr(transport, "abort", lambda: None)}, receive, send)

    return wrapped


def from_origins(app: Any, origins: Sequence[str]) -> Any:
    """Refuses the handshake of every page that is not exactly of these origins (scheme, host, port), or names none."""
    allowed = {origin.encode("latin-1") for origin in origins}

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        named = [value for name, value in scope.get("headers", []) if name == b"origin"]
        if len(named) == 1 and named[0] in allowed:
            await app(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": RIGHTS})

    return wrapped


class LiveConsumer(AsyncWebsocketConsumer):
    """Accepts a socket only with a cookie of this site. Without a signed-in session it may watch public topics only."""

    channel_layer_alias = "none"  # frames go directly from the hub to the socket; nothing is sent through a layer

    socket: Socket | None = None
    pump: asyncio.Task[None] | None = None
    place = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:  # in whatever way it ended
            await hub().leave(self.place)

    async def connect(self) -> None:
        cookies = self.scope.get("cookies", {})
        if settings.SESSION_COOKIE_NAME not in cookies and settings.CSRF_COOKIE_NAME not in cookies:
            await self.close()  # before accept: the handshake is answered with 403
            return
        user: Any = self.scope["user"]
        session: Any = self.scope["session"]
        if user.is_authenticated:
            user.act_for(session.get(rights.ORGANISATION))
        kinds = await database_sync_to_async(places.kinds_of)(user)
        try:
            self.place = await hub().enter(kinds)
        except places.Full as full:  # accepted first: a page that is refused the handshake is not told why
            tally.count("vpms_quota_refused_total", kind="sockets")
            await self.accept()
            await self.close(code=TOO_MANY, reason=full.told)
            return
        self.times: list[float] = []
        self.socket = Socket(
            user=user,
            claim=rights.claim_of(user, session.session_key) if user.is_authenticated else None,
            send=self._send_frame,
            close=self._close,
            keyframe=hub().keyframe,
        )
        await self.accept()
        hub().attach(self.socket)
        self.pump = asyncio.create_task(self.socket.pump())

    async def disconnect(self, code: int) -> None:
        if self.socket is not None:
            hub().detach(self.socket)
        if self.pump is not None:
            self.pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.pump

    async def _send_frame(self, frame: Frame) -> None:
        if isinstance(frame, bytes):
            await self.send(bytes_data=frame)
        else:
            await self.send(text_data=frame)

    async def _close(self, code: int) -> None:
        if code == TOO_SLOW:
            abort: Any = self.scope.get("vpms.abort")
            if abort is not None:
                abort()
        await self.close(code=code)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Do what the message asks; a message that is not understood closes the socket and changes nothing else."""
        socket = self.socket
        if socket is None or socket.closing:
            return
        now = time.monotonic()
        self.times = [t for t in self.times if t > now - 1] + [now]
        if len(self.times) > MOST_PER_SECOND:
            socket.end(TOO_MANY)
        elif text_data is None:
            socket.end(NOT_UNDERSTOOD)
        elif len(text_data.encode("utf-8", "surrogatepass")) > MOST_BYTES:
            socket.end(TOO_BIG)
        else:
            message = understood(text_data)
            if message is None:
                socket.end(NOT_UNDERSTOOD)
            else:
                await self._act(socket, message)

    async def _act(self, socket: Socket, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribe":
                if len(socket.watches) >= MOST_TOPICS and message["topic"] not in socket.watches:
                    socket.end(TOO_MANY)
                else:
                    await hub().subscribe(socket, message["topic"], message.get("last"))
            case "unsubscribe":
                hub().unsubscribe(socket, message["topic"])
            case "rate":
                socket.pace(message["hz"])
            case _:
                socket.tell({"type": "pong"})


def understood(text: str) -> dict[str, Any] | None:
    """The message, if it is one of the known types with exactly its fields; else None."""
    try:
        message = load(text, max_bytes=MOST_BYTES, max_depth=8)
    except VpmsError:
        return None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return None
    fields = FIELDS.get(message["type"])
    if fields is None or not message.keys() <= fields or not fields - {"last"} <= message.keys():
        return None
    topic, last, hz = message.get("topic", ""), message.get("last"), message.get("hz", 1)
    if not isinstance(topic, str) or len(topic) > 128:
        return None
    if last is not None and (not isinstance(last, int) or isinstance(last, bool) or last < 0):
        return None
    return message if hz in (1, 20) and not isinstance(hz, bool) else None
