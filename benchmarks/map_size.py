"""What a map weighs on the wire: keyframes of the demo's and of a 64 GiB host, and a delta. Prints one JSON object.

The owners of the big host are drawn by a seeded generator in extents of 1 to 512 pages for 34 VMs with 2 % holes: no
recorded workload fills 64 GiB, so its figure is synthetic and says so.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time

import numpy as np

from hsvm_engine import wire
from hsvm_engine.play import Player
from hsvm_engine.scenarios import demo

BIG = 16_777_216
VMS = 34
FIRST_VM = 3


def synthetic_owners(frames: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    random = np.random.default_rng(1)
    lengths = random.integers(1, 513, size=frames // 200)
    owners = np.repeat(random.integers(FIRST_VM, FIRST_VM + VMS, size=len(lengths)), lengths)[:frames].astype(np.uint16)
    owners[random.random(len(owners)) < 0.02] = 0
    return owners


def milliseconds(work: object, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        work()  # type: ignore[operator]
        taken.append(1_000 * (time.perf_counter() - begun))
    return round(statistics.median(taken), 1)


def main() -> None:
    player = Player(demo())
    small = wire.State.from_player(player)
    changes = [small.apply(player.step(5_000)) for _ in range(200)]
    changed = sorted(len(change.frames) for change in changes if len(change.frames))
    before = wire.Change(
        base=small.number,
        seq=small.number,
        frames=np.arange(2_000, 3_000, dtype=np.uint32),
        owners=(small.owners[2_000:3_000] == 0).astype(np.uint16),  # another owner than now, on each page
        ways=small.tlb[:0],
        vms=small.vms,
    )
    thousand = wire.map_delta(small, 1, before)
    rows = [{"slot": 3 + i, "byte": 3 + i, "letter": "", "name": f"vm{i}", "handle": 3 + i} for i in range(VMS)]
    big = dataclasses.replace(small, owners=synthetic_owners(BIG), vms=rows)
    figures = {
        "demo_frames": len(small.owners),
        "demo_keyframe_bytes": len(wire.map_keyframe(small, 1)),
        "demo_changed_pages_median": statistics.median(changed),
        "demo_changed_pages_max": changed[-1],
        "delta_bytes_of_1000_pages": len(thousand or b""),
        "big_frames": BIG,
        "big_keyframe_bytes": len(wire.map_keyframe(big, 1)),
        "big_keyframe_ms": milliseconds(lambda: wire.map_keyframe(big, 1)),
        "big_owners": "synthetic",
    }
    print(json.dumps({"bench": "map_size", **figures}))


if __name__ == "__main__":
    main()
