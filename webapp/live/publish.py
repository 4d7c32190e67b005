"""The only writer: streams of runs, hints, wake-ups. Redis makes the picture fast and is never the truth.

Every function here survives Redis being away: it answers False (or does nothing) and the readers' floor, the
database, covers what was lost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import redis
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

from webapp import tally

log = logging.getLogger(__name__)

STREAM_ENTRIES: Final = 512
STREAM_BYTES: Final = 8 << 20  # one run must not starve the broker
AFTER_END_SECONDS: Final = 3600
REST_SECONDS: Final = 0.5  # after a failure nothing is tried for so long: a worker must not wait for a dead Redis

HINT = "hint"  # "<run> <seq>"
TOPIC = "topic"  # the name of a JSON topic that changed
CONTROL = "control"  # "user <id>": look at this user's sockets again now
WAKE = "wake"  # the keeper has work


class _Writer:
    """One lazily opened client, shared by the threads of a process; after a fork the pool opens its own connections."""

    def __init__(self) -> None:
        self.url = ""
        self.client: redis.Redis | None = None
        self.resting_until = 0.0

    def run(self, command: Callable[[redis.Redis], Any]) -> Any:
        """The command's answer, or None while Redis is away. A refusal by the server is raised (ResponseError)."""
        if time.monotonic() < self.resting_until:
            return None
        if self.client is None or self.url != settings.REDIS_URL:
            self.url = settings.REDIS_URL
            self.client = redis.Redis.from_url(
                self.url, socket_timeout=2, socket_connect_timeout=1, retry=Retry(NoBackoff(), 1)
            )
        try:
            return command(self.client)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self.resting_until = time.monotonic() + REST_SECONDS
            log.warning("Redis is away, nothing is published for now: %s", type(error).__name__)
            return None


_writer = _Writer()


def stream_key(run: int) -> str:
    return f"run:{run}"


def keyframe_key(run: int) -> str:
    return f"run:{run}:key"


def step(*, run: int, seq: int, entry: bytes) -> bool:
    """Put the step `seq` of a run on its stream, once: a worker that repeats it is refused, and that is success too.

    False: not published (Redis away or full). The next keyframe or the database covers it.
    """
    most = max(16, min(STREAM_ENTRIES, STREAM_BYTES // max(1, len(entry))))

    def command(client: redis.Redis) -> bool:
        pipe = client.pipeline(transaction=False)
        pipe.xadd(stream_key(run), {"f": entry}, id=f"{seq}-0", maxlen=most, approximate=True)
        pipe.publish(HINT, f"{run} {seq}")
        added, _ = pipe.execute(raise_on_error=False)
        if isinstance(added, redis.ResponseError) and "equal or smaller" not in str(added):
            log.warning("the stream of run %d refused step %d: %s", run, seq, added)
            return False
        return True

    published = bool(_writer.run(command))
    if published:
        tally.count("vpms_frames_published_total")
    return published


def keyframe(*, run: int, seq: int, state: bytes) -> bool:
    """Store the whole picture at step `seq`, so that no reader need ask the database; never an older over a newer."""

    def command(client: redis.Redis) -> bool:
        known = client.hget(keyframe_key(run), "seq")
        if known is None or int(known) < seq:
            try:
                client.hset(keyframe_key(run), mapping={"seq": seq, "state": state})
            except redis.ResponseError as error:  # memory full: the database covers it
                log.warning("the keyframe of run %d at step %d was refused: %s", run, seq, error)
                return False
        return True

    return bool(_writer.run(command))


def ended(*, run: int) -> None:
    """Let the run's stream and keyframe go an hour after its end."""

    def command(client: redis.Redis) -> bool:
        client.expire(stream_key(run), AFTER_END_SECONDS)
        client.expire(keyframe_key(run), AFTER_END_SECONDS)
        return True

    _writer.run(command)


def _publish(channel: str, message: str) -> None:
    _writer.run(lambda client: client.publish(channel, message))


def changed(topic: str) -> None:
    """Tell every page that shows `topic` to look again, once the transaction under way is committed."""
    transaction.on_commit(partial(_publish, TOPIC, topic), robust=True)


def wake_keeper() -> None:
    """Tell the keeper that a row is due, after commit. A hint: its tick is the promise."""
    transaction.on_commit(partial(_publish, WAKE, "1"), robust=True)


def rights_changed(*, user: int) -> None:
    """Have the sockets of this user checked at once, after commit (the sweep would do it within 3 s)."""
    transaction.on_commit(partial(_publish, CONTROL, f"user {user}"), robust=True)


def places_taken(key: str) -> int | None:
    """How many sockets have a place in this set now (webapp/live/places.py); None while Redis is away."""
    found = _writer.run(lambda client: client.zcount(key, client.time()[0], "+inf"))  # type: ignore[index]
    return None if found is None else int(found)


def reachable() -> bool:
    """Whether Redis answers a ping now."""
    _writer.resting_until = 0.0
    try:
        return bool(_writer.run(lambda client: client.ping()))
    except redis.ResponseError:  # e.g. still loading
        return False
