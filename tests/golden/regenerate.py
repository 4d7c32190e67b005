"""Golden bytes of the wire, read by pytest and vitest. `python -m tests.golden.regenerate` writes them anew.

Each `*.bin` is a whole websocket frame; `maps.expected.json` says what it means. Each `*.json` of tlb and counters is a
whole text message. Written once on purpose: a change of these files is a change of the wire and needs a new version.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hsvm_engine.wire import counters, map_delta, map_keyframe, tlb_delta, tlb_keyframe
from tests.engine.wirecases import read_map, state, step, vm, way, ways

FOLDER = Path(__file__).parent
RUN = 5
A, B = vm(3, "a-db"), vm(4, "b-web")
TENANT = frozenset({4})


def golden() -> dict[str, bytes]:
    """Name of each golden file -> its bytes, made from one small invented run."""
    known = state([A, B], {20: 3, 21: 3, 22: 3, 40: 4, 41: 4}, way(0, 3, vpn=0x1A2F3), way(5, 4, vpn=0x7FF, state=1))
    maps = {"map_keyframe.bin": map_keyframe(known, RUN), "map_tenant.bin": map_keyframe(known, RUN, TENANT)}
    texts = {"tlb_keyframe.json": tlb_keyframe(known, RUN), "counters.json": counters(known, RUN)}
    texts["counters_tenant.json"] = counters(known, RUN, TENANT)
    empty = (0,) * 9
    filled = ways((5, *empty), way(9, 3, vpn=0xFFFFFFFFF, state=2))
    change = known.apply(step(8, [A, B], {22: 0, 42: 4}, filled, violations=np.array([20, 41], np.uint32)))
    delta = map_delta(known, RUN, change)
    assert delta is not None
    maps["map_delta.bin"] = delta
    texts["tlb_delta.json"] = tlb_delta(known, RUN, change)
    expected = {name: read_map(frame) for name, frame in sorted(maps.items())}
    texts["maps.expected.json"] = json.dumps(expected, separators=(",", ":"))
    return maps | {name: text.encode() + b"\n" for name, text in texts.items()}


if __name__ == "__main__":
    for name, data in golden().items():
        (FOLDER / name).write_bytes(data)
