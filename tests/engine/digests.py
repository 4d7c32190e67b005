"""Prints what fixed random runs end with, one line a row: every build and process must print the same.

python -m tests.engine.digests
"""

import hashlib
import json

from hsvm_engine import ARCHITECTURES

from .randomrun import Player, RandomRun, host

STEPS = 2000


def ends(architecture: str) -> dict[str, str]:
    """Digests at the end of one run: of the state, of all results, of all images and of the snapshot."""
    player = Player(host(architecture, seed=11))
    run = RandomRun(player, 5)
    results = [run.step()[1] for _ in range(STEPS)]
    player.machine.check_invariants()
    parts = {
        "results": json.dumps(results, sort_keys=True).encode(),
        "images": "".join(player.images).encode(),
        "snapshot": player.machine.snapshot(),
    }
    return {"state": player.machine.digest()} | {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}


if __name__ == "__main__":
    for architecture in ARCHITECTURES:
        print(json.dumps({"architecture": architecture, **ends(architecture)}))
