"""The newest frames by a plain request, for pages whose websocket is refused on the way (interface.md 3, rule 4)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest

from webapp.live import consumers, rights
from webapp.live.hub import hub
from webapp.live.mailbox import Socket
from webapp.live.records import record
from webapp.live.topics import Frame


async def newest(request: HttpRequest) -> HttpResponse:
    """What a socket would be sent first for each `t=topic` or `t=topic:last`: same rights, same bytes, as records."""
    asked = [text.partition(":") for text in request.GET.getlist("t")]
    if not 0 < len(asked) <= consumers.MOST_TOPICS or any(
        len(name) > 128 or (colon and not (last.isdecimal() and last.isascii() and len(last) < 16))
        for name, colon, last in asked
    ):
        return HttpResponseBadRequest("t=topic or t=topic:number, at most 32 times")
    user: Any = await request.auser()
    sent: list[Frame] = []

    async def send(frame: Frame) -> None:
        sent.append(frame)

    async def close(code: int) -> None:
        return None

    session = request.session.session_key
    if user.is_authenticated:
        user.act_for(await request.session.aget(rights.ORGANISATION))
    claim = rights.claim_of(user, session) if user.is_authenticated and session else None
    socket = Socket(user=user, claim=claim, send=send, close=close, keyframe=hub().keyframe)
    hub().start()
    try:
        for name, _, last in asked:
            await hub().subscribe(socket, name, int(last) if last else None)
        await socket.flush()
    finally:
        hub().detach(socket)
    answer = HttpResponse(b"".join(map(record, sent)), content_type="application/octet-stream")
    answer["Cache-Control"] = "no-store"
    return answer
