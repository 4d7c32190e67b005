"""Admission: so many requests at once and no more, each with a thread and a connection; the others wait in order.

Without it, who sends requests and leaves has them all worked on at the same time: two thousand of them kept a site from
answering for forty seconds.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

OUT_OF_TURN: Final = "/healthz"
GONE: Final = {"type": "http.disconnect"}


def admitted(app: Any, at_once: int) -> Any:
    """The ASGI application, begun only when the whole body is there and it is this request's turn.

    A slow body thus takes nobody's turn. A turn ends when the answer's body begins, so neither does who reads slowly;
    who left while waiting is told to the application as gone, before any work is done. Whether the process lives is
    answered out of turn: whoever asks would otherwise end one that works its line off.
    """
    turns = asyncio.Semaphore(at_once)

    async def wrapped(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope.get("path") == OUT_OF_TURN:
            await app(scope, receive, send)
            return
        turn = Turn(turns, receive)

        async def answered(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":  # only now a streamed answer's list is read
                turn.end()
            await send(message)

        try:
            await app(scope, turn.receive, answered)
        finally:
            turn.end()
            if turn.leaving is not None:
                turn.leaving.cancel()

    return wrapped


class Turn:
    """One request's. Invariant: `held` is true exactly while it has taken one of the turns."""

    def __init__(self, turns: asyncio.Semaphore, receive: Any) -> None:
        self.turns, self.incoming, self.held = turns, receive, False
        self.leaving: asyncio.Task[dict[str, Any]] | None = None  # hears that the client has left

    async def receive(self) -> dict[str, Any]:
        if self.leaving is not None:
            return await asyncio.shield(self.leaving)
        message: dict[str, Any] = await self.incoming()
        if message["type"] != "http.request" or message.get("more_body", False):
            return message
        self.leaving = asyncio.ensure_future(self.incoming())
        return message if await self.came() else GONE

    async def came(self) -> bool:
        """Whether the turn has come; False if the client left before."""
        assert self.leaving is not None
        taking = asyncio.ensure_future(self.turns.acquire())
        try:
            await asyncio.wait((taking, self.leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.held = taking.done() and not taking.cancelled() and taking.exception() is None
            taking.cancel()
        if self.leaving.done():
            self.end()
        return self.held

    def end(self) -> None:
        if self.held:
            self.held = False
            self.turns.release()
