"""One watched run in this process: its newest picture, who watches, and the frames made of it once per view."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from webapp.live.mailbox import Socket, Watch
from webapp.live.topics import Frame, Head, Picture, Source

REPLAY_AT_MOST: Final = 200


class Feed:
    """Applies the entries of a run's stream in order and offers each change to its sockets, one frame a view."""

    def __init__(self, run: int, source: Source) -> None:
        self.run = run
        self.source = source
        self.picture: Picture | None = None
        self.state = ""
        self.sockets: set[Socket] = set()
        self.lock = asyncio.Lock()  # one reader at a time
        self._recent: deque[tuple[int, Any]] = deque(maxlen=REPLAY_AT_MOST)
        self._frames: dict[tuple[str, str, int | None], Frame | None] = {}

    @property
    def seq(self) -> int:
        return self.picture.seq if self.picture is not None else 0

    def replace(self, picture: Picture) -> None:
        """Take a newer whole picture; every watcher gets a keyframe next."""
        before, self.picture = self.picture, picture
        self._recent.clear()
        self._frames.clear()
        if before is None or picture.seq != before.seq:
            self._offer(base=-1, touched=[])

    def advance(self, entries: Sequence[tuple[int, bytes]]) -> bool:
        """Apply entries that follow. False: there is a gap, a whole picture is needed; what came before was applied."""
        if self.picture is None:
            return False
        base, touched = self.picture.seq, []
        complete = True
        for seq, entry in entries:
            if seq <= self.picture.seq:
                continue  # applied twice, a message changes nothing
            if seq != self.picture.seq + 1:
                complete = False
                break
            touched.append(self.picture.apply(entry))
            self._recent.append((seq, touched[-1]))
        if touched:
            self._frames.clear()
            self._offer(base=base, touched=touched)
        return complete

    def _offer(self, *, base: int, touched: Sequence[Any]) -> None:
        for socket in self.sockets:
            for watch in socket.watches.values():
                if self.watches(watch):
                    delta = self._delta(watch, base, touched) if watch.held == base and not watch.waiting else None
                    socket.offer(watch, base=base, seq=self.seq, delta=delta)

    def _delta(self, watch: Watch, base: int, touched: Sequence[Any]) -> Frame | None:
        key = (watch.found.topic.part, watch.view, base)
        if key not in self._frames:
            assert self.picture is not None
            self._frames[key] = self.picture.delta(self.run, key[0], key[1], base, touched)
        return self._frames[key]

    def keyframe(self, watch: Watch) -> tuple[int, Frame] | None:
        """The whole picture for this view, made once per step."""
        if self.picture is None:
            return None
        key = (watch.found.topic.part, watch.view, None)
        frame = self._frames.get(key)
        if frame is None:
            frame = self._frames[key] = self.picture.keyframe(self.run, key[0], key[1])
        return self.seq, frame

    def replay(self, watch: Watch, last: int) -> Frame | None:
        """The one frame that leads from `last` to now, if everything between is still known."""
        missed = [touched for seq, touched in self._recent if seq > last]
        if self.picture is None or not missed or len(missed) != self.seq - last:
            return None
        return self.picture.delta(self.run, watch.found.topic.part, watch.view, last, missed)

    def watches(self, watch: Watch) -> bool:
        return watch.found.topic.source is not None and watch.found.ident == str(self.run)

    def told(self, head: Head) -> None:
        """Pass on the run's state when it changed. It comes from the committed row, never from frames."""
        if head.state == self.state:
            return
        first, self.state = not self.state, head.state
        if first:
            return
        for socket in self.sockets:
            for watch in socket.watches.values():
                if self.watches(watch):
                    socket.tell({"type": "state", "topic": watch.name, "state": head.state})
