"""How many sockets a person and an organisation have open, in all web processes of the site together.

Each open socket has a place in a sorted set of Redis, one of its person and one of its organisation, with the time at
which the place ends by itself. The web process renews its sockets' places as long as it lives, so those of one that
died are free after LEASE_SECONDS. Taking a place is one script: of any number of sockets that open at once exactly
those get in for whom there is room. While Redis is away each process counts its own sockets, so that there may be as
many as allowed in each; they are told to Redis when it is back, and nobody is put out.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from itertools import count
from typing import Any, Final, NamedTuple

import redis.asyncio
from django.conf import settings
from redis.exceptions import RedisError

LEASE_SECONDS: Final = 15
RENEW_SECONDS: Final = 4

# KEYS: the sets. ARGV: the lease, the place, and of each set how many it may hold (0: any number). Answers 0, or which
# set has no room. The server's own clock counts: those of several machines need not agree.
ENTER: Final = """
local now = tonumber(redis.call('TIME')[1])
for i, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local most = tonumber(ARGV[i + 2])
  if most > 0 and redis.call('ZCARD', key) >= most then return i end
end
for i, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[1], ARGV[2])
  redis.call('EXPIRE', key, ARGV[1] * 2)
end
return 0
"""
# KEYS: the set. ARGV: the lease, then the places that go on.
RENEW: Final = """
local now = tonumber(redis.call('TIME')[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[1] * 2)
return 0
"""


class Kind(NamedTuple):
    """One way of counting sockets: by what, and the setting that says how many there may be."""

    whose: str  # also what the page is told when there is no room: closed.ts knows it
    most: str


PERSON, ORGANISATION = Kind("person", "PERSON_SOCKETS"), Kind("organisation", "TENANT_SOCKETS")


def key_of(kind: Kind, ident: int | str) -> str:
    return f"sockets:{kind.whose}:{ident}"


class Full(Exception):
    """There is no room for one more socket of this kind."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.told = f"{kind.whose} {getattr(settings, kind.most)}"


def kinds_of(user: Any) -> dict[str, Kind]:
    """The sets in which a socket of this person has a place: its own, and that of the organisation it acts for now."""
    if not user.is_authenticated:
        return {}
    slug = next(iter(user.tenant_slugs), None)
    own = {key_of(PERSON, user.pk): PERSON}
    return own if slug is None else {**own, key_of(ORGANISATION, slug): ORGANISATION}


class Places:
    """The places of one web process."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, ...]] = {}  # place -> its sets
        self._opening: dict[str, tuple[str, ...]] = {}  # the same while Redis is asked
        self._name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._numbers = count()

    async def enter(self, client: redis.asyncio.Redis | None, kinds: dict[str, Kind]) -> str:
        """A place in each of these sets, or in none and Full."""
        place, keys = f"{self._name}-{next(self._numbers)}", tuple(kinds)
        most = [int(getattr(settings, kind.most)) for kind in kinds.values()]
        full = self._full(keys, most)  # whatever Redis knows: those here are open
        self._opening[place] = keys
        try:
            if keys and not full and client is not None:
                full = int(await client.eval(ENTER, len(keys), *keys, LEASE_SECONDS, place, *most))  # type: ignore[misc]
        except (RedisError, OSError):
            pass
        finally:
            self._opening.pop(place)
        if full:
            raise Full(kinds[keys[full - 1]])
        self.held[place] = keys
        return place

    def _full(self, keys: Sequence[str], most: Sequence[int]) -> int:
        """Which set is full of this process's own sockets alone, from 1; 0: none."""
        for number, (key, limit) in enumerate(zip(keys, most, strict=True), 1):
            if limit and sum(key in sets for sets in (*self.held.values(), *self._opening.values())) >= limit:
                return number
        return 0

    async def leave(self, client: redis.asyncio.Redis | None, place: str) -> None:
        """The place is free for somebody else at once; where Redis is away, when its time is over."""
        keys = self.held.pop(place, ())
        if not keys or client is None:
            return
        try:
            pipe = client.pipeline(transaction=False)
            for key in keys:
                pipe.zrem(key, place)
            await pipe.execute()
        except (RedisError, OSError):
            pass

    async def renew(self, client: redis.asyncio.Redis) -> None:
        """All places of this process go on for another lease; one that Redis has lost is there again."""
        by_key: dict[str, list[str]] = {}
        for place, keys in self.held.items():
            for key in keys:
                by_key.setdefault(key, []).append(place)
        try:
            pipe = client.pipeline(transaction=False)
            for key, places in by_key.items():
                pipe.eval(RENEW, 1, key, LEASE_SECONDS, *places)
            await pipe.execute()
        except (RedisError, OSError):
            pass
