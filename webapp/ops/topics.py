"""The topic `jobs`: says that the list of jobs is worth another look; it tells none."""

from __future__ import annotations

import time
from typing import Any

from webapp.live import topics
from webapp.ops.services import BEAT_SECONDS


def authorise(user: Any, ident: str) -> str | None:
    """Those who read what operators read."""
    return "operator" if user.is_authenticated and user.sees_site else None


def beat() -> int:
    """Rises with every sign of life of the keeper: what jobs come to is told as often."""
    return int(time.time() / BEAT_SECONDS)


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    now = beat()
    if last is not None and now <= last:
        return []
    return [{"topic": "jobs", "kind": "keyframe", "seq": now, "base": now, "op": 0, "data": {}}]


def register() -> None:
    topics.register("jobs!", authorise=authorise, messages=messages)
