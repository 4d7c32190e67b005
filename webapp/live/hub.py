"""The only reader: one task per web process keeps the newest state of every watched run and fills the mailboxes.

A hint says that something is new; what is new is read from the stream, once for all sockets. A lost hint costs
latency, never data: every 5 s the database is asked where each watched run stands.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import redis.asyncio
from django.conf import settings
from django.db import close_old_connections
from redis.exceptions import RedisError

from webapp import tally
from webapp.live import publish, rights
from webapp.live.feed import Feed
from webapp.live.mailbox import RIGHTS, Socket, Watch
from webapp.live.places import RENEW_SECONDS, Kind, Places
from webapp.live.topics import Found, Frame, Source, find

log = logging.getLogger(__name__)
T = TypeVar("T")

FLOOR_SECONDS: Final = 5.0
ASK_SECONDS: Final = 3  # of silence, then Redis is asked whether it is still there; after as many again it is not
SWEEP_SECONDS: Final = 3.0
READ_AT_ONCE: Final = 256
RETRY_FIRST, RETRY_LAST = 0.5, 15.0

# Blocking callbacks (ORM, and the engine when a picture is rebuilt) run here, never in the event loop.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live")


async def aside(work: Callable[..., T], *args: Any) -> T:
    """The result of blocking work done in a thread of its own, with fresh database connections."""

    def run() -> T:
        close_old_connections()
        try:
            return work(*args)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_threads, run)


class Hub:
    """All sockets of one event loop."""

    def __init__(self) -> None:
        self.sockets: set[Socket] = set()
        self.feeds: dict[int, Feed] = {}
        self.connected = False
        self._tasks: list[asyncio.Task[None]] = []
        self._client: redis.asyncio.Redis | None = None
        self._again: set[int] = set()
        self._pending: set[asyncio.Task[Any]] = set()
        self._places = Places()

    # -- life

    def start(self) -> None:
        """Begin reading; asked twice it changes nothing."""
        if not self._tasks:
            # Reads answer at once or fail; only the listener below waits without a limit.
            self._client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=5)
            self._tasks = [
                asyncio.create_task(work()) for work in (self._listen, self._floor, self._sweep, self._renew)
            ]

    async def stop(self) -> None:
        tasks, self._tasks = [*self._tasks, *self._pending], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        self.connected = False

    async def enter(self, kinds: dict[str, Kind]) -> str:
        """A place for one more socket that counts in these sets, or places.Full."""
        self.start()
        return await self._places.enter(self._client, kinds)

    async def leave(self, place: str) -> None:
        await self._places.leave(self._client, place)

    def attach(self, socket: Socket) -> None:
        self.start()
        self.sockets.add(socket)
        tally.level("vpms_sockets", len(self.sockets))

    def detach(self, socket: Socket) -> None:
        """Forget the socket; a run that nobody watches any more is dropped."""
        self.sockets.discard(socket)
        tally.level("vpms_sockets", len(self.sockets))
        for run, feed in list(self.feeds.items()):
            feed.sockets.discard(socket)
            if not feed.sockets:
                self.feeds.pop(run)

    def keyframe(self, watch: Watch) -> tuple[int, Frame] | None:
        feed = self._feed_of(watch)
        return feed.keyframe(watch) if feed else None

    def _feed_of(self, watch: Watch) -> Feed | None:
        return self.feeds.get(int(watch.found.ident)) if watch.found.topic.source is not None else None

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    # -- subscribing

    async def subscribe(self, socket: Socket, name: str, last: int | None) -> None:
        """Answer current, replay or snapshot, and keep the topic up to date from then on; or say that it is denied."""
        found = find(name)
        view = await aside(found.topic.authorise, socket.user, found.ident) if found else None
        if found is None or view is None:
            anonymous = not socket.user.is_authenticated
            reason = "Sign in to watch this." if anonymous else "There is no such view, or you have no access to it."
            socket.tell({"type": "denied", "topic": name, "reason": reason})
            return
        watch = Watch(name, found, view)
        if found.topic.source is None:
            await self._json_first(socket, watch, last)
        else:
            await self._stream_first(socket, watch, last, found.topic.source)

    def unsubscribe(self, socket: Socket, name: str) -> None:
        gone = socket.watches.pop(name, None)
        if gone is None:
            return
        feed = self._feed_of(gone)
        if feed is not None and not any(feed.watches(watch) for watch in socket.watches.values()):
            feed.sockets.discard(socket)
            if not feed.sockets:
                self.feeds.pop(feed.run)

    async def _json_first(self, socket: Socket, watch: Watch, last: int | None) -> None:
        messages = await self._messages(watch.found, watch.view, last)
        socket.watches[watch.name] = watch
        if last is not None and not messages:
            watch.held = last
            socket.tell({"type": "current", "topic": watch.name, "seq": last})
            return
        watch.held = last
        if last is None:
            socket.tell({"type": "snapshot", "topic": watch.name})
        else:
            socket.tell({"type": "replay", "topic": watch.name, "from": last + 1, "to": messages[-1]["seq"]})
        self._pass_on(socket, watch, messages)

    async def _stream_first(self, socket: Socket, watch: Watch, last: int | None, source: Source) -> None:
        if not watch.found.ident.isdecimal() or len(watch.found.ident) > 18:
            socket.tell({"type": "denied", "topic": watch.name, "reason": "There is no such run."})
            return
        run = int(watch.found.ident)
        feed = self.feeds.setdefault(run, Feed(run, source))
        feed.sockets.add(socket)  # before any await: detaching an other socket must not drop the feed meanwhile
        await self._read(feed)
        if feed.picture is None:
            socket.watches[watch.name] = watch  # the picture comes as soon as there is one
            socket.tell({"type": "snapshot", "topic": watch.name})
            return
        # No await from here on: the answer, the frame and the subscription are of one moment.
        socket.watches[watch.name] = watch
        if last is not None and last == feed.seq:
            watch.held = last
            socket.tell({"type": "current", "topic": watch.name, "seq": last})
            return
        frame = feed.replay(watch, last) if last is not None else None
        if frame is None:
            socket.tell({"type": "snapshot", "topic": watch.name})
            socket.offer(watch, base=-1, seq=feed.seq, delta=None)
        else:
            socket.tell({"type": "replay", "topic": watch.name, "from": (last or 0) + 1, "to": feed.seq})
            watch.held = last
            socket.offer(watch, base=last or 0, seq=feed.seq, delta=frame)

    # -- runs

    async def _entries(self, run: int, after: int, *, count: int) -> list[tuple[int, bytes]]:
        """The stream's entries after `after`, oldest first; none while Redis is away."""
        assert self._client is not None
        try:
            rows: Any = await self._client.xrange(publish.stream_key(run), min=f"({after}-0", max="+", count=count)
        except (RedisError, OSError):
            return []
        return [(int(ident.split(b"-")[0]), fields[b"f"]) for ident, fields in rows]

    async def _read(self, feed: Feed) -> None:
        """Bring the feed to the stream's head. Where the stream does not follow, take a whole picture instead."""
        async with feed.lock:
            if feed.picture is None:
                await self._whole(feed)
            while True:
                entries = await self._entries(feed.run, feed.seq, count=READ_AT_ONCE)
                if not entries:
                    return
                try:
                    follows = feed.advance(entries)
                except ValueError as error:
                    log.warning("the stream of run %d holds an entry that cannot be applied: %s", feed.run, error)
                    follows = False
                if not follows and not await self._whole(feed):
                    return

    async def _whole(self, feed: Feed) -> bool:
        """Take the newest whole picture there is, from Redis or rebuilt from the database. False: none is newer."""
        before = feed.seq if feed.picture is not None else -1
        assert self._client is not None
        try:
            state = await self._client.hget(publish.keyframe_key(feed.run), "state")
            picture = await aside(feed.source.open, feed.run, state) if state else None
        except (RedisError, OSError, ValueError):
            picture = None
        if picture is None or picture.seq <= before:
            picture = await aside(feed.source.load, feed.run)
        if picture is None or picture.seq <= before:
            return False
        feed.replace(picture)
        return True

    async def _heads(self, feeds: Iterable[Feed]) -> None:
        """Compare watched runs with the database: the floor under lost hints, and the source of their states."""
        by_source: dict[int, list[Feed]] = defaultdict(list)
        for feed in feeds:
            by_source[id(feed.source)].append(feed)
        for group in by_source.values():
            heads = await aside(group[0].source.heads, [feed.run for feed in group])
            for feed in group:
                head = heads.get(feed.run)
                if head is None:
                    continue
                feed.told(head)
                if head.seq > feed.seq:
                    await self._read(feed)
                if head.seq > feed.seq:  # the stream does not have it (Redis was wiped)
                    async with feed.lock:
                        await self._whole(feed)

    # -- JSON topics

    async def _messages(self, found: Found, view: str, last: int | None) -> list[dict[str, Any]]:
        assert found.topic.messages is not None
        return await aside(found.topic.messages, found.ident, view, last)

    def _pass_on(self, socket: Socket, watch: Watch, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            if watch.held is None or message["seq"] > watch.held:
                watch.held = message["seq"]
                socket.tell(message)

    async def _look_again(self, names: set[str] | None) -> None:
        """Send what is newer in these JSON topics (None: all that are watched), asked once per view and position. A
        name that ends in / stands for every topic below it."""
        groups: dict[tuple[str, str, int | None], list[tuple[Socket, Watch]]] = defaultdict(list)
        for socket in self.sockets:
            for watch in socket.watches.values():
                if watch.found.topic.messages is not None and (names is None or _meant(watch.name, names)):
                    groups[watch.name, watch.view, watch.held].append((socket, watch))
        for (_, view, held), members in groups.items():
            messages = await self._messages(members[0][1].found, view, held)
            for socket, watch in members:
                if socket.watches.get(watch.name) is watch:
                    self._pass_on(socket, watch, messages)

    # -- the four tasks

    async def _listen(self) -> None:
        """Hold the one pub/sub connection. After each reconnect everything watched is read again before hints count."""
        wait = RETRY_FIRST
        while True:
            client = redis.asyncio.Redis.from_url(settings.REDIS_URL, socket_timeout=None)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(publish.HINT, publish.TOPIC, publish.CONTROL)
                    for feed in list(self.feeds.values()):
                        await self._read(feed)
                    await self._look_again(None)
                    self.connected, wait = True, RETRY_FIRST
                    tally.level("vpms_hub_connected", 1)
                    silent = 0
                    while silent < 2:
                        message = await pubsub.get_message(timeout=ASK_SECONDS)
                        silent = silent + 1 if message is None else 0
                        if message is None:
                            await pubsub.ping()
                        elif message["type"] == "message":
                            self._hinted(message["channel"].decode(), message["data"].decode())
                    raise redis.ConnectionError("the way to Redis is dead")
            except (RedisError, OSError) as error:
                if self.connected:
                    log.warning("the hub lost Redis: %s", type(error).__name__)
            except Exception:  # a defect must not blind every page of the process
                log.exception("the hub's listener failed")
            finally:
                self.connected = False
                tally.level("vpms_hub_connected", 0)
                await client.aclose()
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(RETRY_LAST, wait * 2)

    def _hinted(self, channel: str, text: str) -> None:
        if channel == publish.HINT:
            run = int(text.split()[0])
            if run in self.feeds and run not in self._again:
                self._again.add(run)  # hints that come while one is waiting to be followed add nothing
                self._spawn(self._follow(run))
        elif channel == publish.TOPIC:
            self._spawn(self._guard(self._topic_changed(text)))
        elif channel == publish.CONTROL:
            self._spawn(self._guard(self._check(only=int(text.split()[1]))))

    async def _follow(self, run: int) -> None:
        came = time.monotonic()
        self._again.discard(run)
        feed = self.feeds.get(run)
        if feed is not None:
            await self._guard(self._read(feed))
            tally.observe("vpms_hub_lag_seconds", time.monotonic() - came)

    async def _topic_changed(self, name: str) -> None:
        kind, _, ident = name.partition("/")
        if kind == "run" and ident.isdecimal():  # the run's row changed its state
            await self._heads([self.feeds[int(ident)]] if int(ident) in self.feeds else [])
        await self._look_again({name})

    async def _guard(self, work: Any) -> None:
        try:
            await work
        except Exception:  # one topic's defect must not stop the others; the floor tries again
            log.exception("the hub could not follow a hint")

    async def _floor(self) -> None:
        while True:
            await asyncio.sleep(FLOOR_SECONDS)
            await self._guard(self._heads(list(self.feeds.values())))
            await self._guard(self._look_again(None))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._guard(self._check())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            assert self._client is not None
            await self._guard(self._places.renew(self._client))

    async def _check(self, only: int | None = None) -> None:
        """Close the sockets of people whose rights fell, and end topics that are no longer theirs."""
        sockets = [s for s in self.sockets if s.claim is not None and only in (None, s.claim.user)]
        held = await aside(rights.upheld, [s.claim for s in sockets]) if sockets else {}
        views: dict[tuple[int, str], str | None] = {}  # by person as it stands in its session
        for socket in sockets:
            if socket.claim not in held:
                socket.tell({"type": "gone", "topic": "*", "reason": "You no longer have access."})
                socket.end(RIGHTS)
                continue
            socket.user = held[socket.claim]
            for watch in list(socket.watches.values()):
                key = (id(socket.user), watch.name)
                if key not in views:
                    views[key] = await aside(watch.found.topic.authorise, socket.user, watch.found.ident)
                if views[key] != watch.view:
                    self.unsubscribe(socket, watch.name)
                    socket.tell({"type": "gone", "topic": watch.name, "reason": "You no longer have access."})


def _meant(name: str, names: set[str]) -> bool:
    return name in names or f"{name.partition('/')[0]}/" in names


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = weakref.WeakKeyDictionary()


def hub() -> Hub:
    """The hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())


async def lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Start the hub with the server and stop it before the server ends."""
    assert (await receive())["type"] == "lifespan.startup"
    hub().start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await hub().stop()
    await send({"type": "lifespan.shutdown.complete"})


def connected() -> bool:
    """Whether a hub of this process is following hints."""
    return any(one.connected for one in list(_hubs.values()))
