"""How fast a Player runs the recorded traces, and what a step and a save weigh. Prints one JSON object."""

from __future__ import annotations

import json
import statistics
import sys
import time

from hsvm_engine.play import Player
from hsvm_engine.scenarios import demo
from hsvm_engine.tracefile import builtin_trace
from hsvm_engine.wire import encode

ACCESSES = (5_000, 50_000, 500_000)  # of each VM in one step
SECONDS = 1.5
SAVES = 10


def run(accesses: int) -> dict[str, float]:
    """References a second with steps of this size, encoding included, over at least one whole loop of each trace."""
    player = Player(demo())
    sizes, spent, encoding = [], 0.0, 0.0
    while spent < SECONDS:
        start = time.perf_counter()
        step = player.step(accesses)
        between = time.perf_counter()
        sizes.append(len(encode(step)))
        spent += between - start
        encoding += time.perf_counter() - between
    references = step.counters["references"]
    return {
        "accesses_per_step": accesses,
        "references": references,
        "refs_per_s": round(references / spent),
        "ms_per_step": round(1_000 * spent / len(sizes), 3),
        "ms_per_encode": round(1_000 * encoding / len(sizes), 3),
        "bytes_per_step_median": round(statistics.median(sizes)),
        "bytes_per_step_max": max(sizes),
    }


def saving() -> dict[str, float]:
    """Milliseconds to save and to load the demo's player in mid-run, and bytes of a save."""
    player = Player(demo())
    for _ in range(20):
        player.step(100_000)
    saves, loads = [], []
    for _ in range(SAVES):
        start = time.perf_counter()
        data = player.save()
        between = time.perf_counter()
        Player.load(data)
        saves.append(between - start)
        loads.append(time.perf_counter() - between)
    return {
        "save_ms": round(1_000 * statistics.median(saves), 2),
        "load_ms": round(1_000 * statistics.median(loads), 2),
        "save_bytes": len(data),
    }


def main() -> int:
    for name in ("sqlite3", "gzip"):
        builtin_trace(name)  # loaded before the clock runs
    print(json.dumps({"bench": "player_speed", "steps": [run(accesses) for accesses in ACCESSES], **saving()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
