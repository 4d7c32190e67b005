"""What this process counts: for /metrics. Counting is a step in memory; every few seconds a thread adds what came
together to the database (webapp.ops.figures), where the counts of all processes and all machines are one.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from typing import Final

Key = tuple[str, tuple[tuple[str, str], ...]]  # the name of a series, and its labels sorted

# The upper ends of the buckets of every histogram, in seconds.
BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

on_first: Callable[[], None] | None = None  # called once in each process, when something is first counted

_lock = threading.Lock()
_counts: dict[Key, float] = defaultdict(float)
_levels: dict[Key, float] = {}
_begun = False


def count(name: str, by: float = 1, **labels: str) -> None:
    """So many more of this."""
    with _lock:
        _counts[name, tuple(sorted(labels.items()))] += by
    _begin()


def observe(name: str, seconds: float) -> None:
    """One more that took so long."""
    at = bisect_left(BUCKETS, seconds)
    end = "+Inf" if at == len(BUCKETS) else str(BUCKETS[at])
    with _lock:
        _counts[f"{name}_bucket", (("le", end),)] += 1
        _counts[f"{name}_sum", ()] += seconds
    _begin()


def level(name: str, value: float) -> None:
    """So many are there now, in this process."""
    with _lock:
        _levels[name, ()] = value
    _begin()


def take() -> tuple[dict[Key, float], dict[Key, float]]:
    """What was counted since this was last called, and how things stand."""
    with _lock:
        taken = dict(_counts)
        _counts.clear()
        return taken, dict(_levels)


def give_back(counts: dict[Key, float]) -> None:
    """They could not be told; the next time they are."""
    with _lock:
        for key, value in counts.items():
            _counts[key] += value


def _begin() -> None:
    global _begun
    if not _begun:
        _begun = True
        if on_first is not None:
            on_first()


def _forget() -> None:
    """In a forked process: what the parent counted, the parent tells."""
    global _lock, _begun
    _lock, _begun = threading.Lock(), False
    _counts.clear()
    _levels.clear()


os.register_at_fork(after_in_child=_forget)
