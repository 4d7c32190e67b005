"""`hsvm bench`: every speed and weight that engine.md section 11 asks of the engine, as one JSON object.

A ratio is the machine's speed over that of the same work without a machine, both sides in turn in one run. Nothing is
judged: the table for people, on standard error, only puts each figure beside its target.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import _host, _pages, trace_speed
from benchmarks._figures import Figures, compiler

TARGETS: dict[str, tuple[str, float]] = {
    "l1_ratio": (">=", 0.9),
    "l2_ratio": (">=", 0.9),
    "program_ratio": (">=", 0.9),
    "random_ratio": (">=", 0.7),
    "zipf_ratio": (">=", 0.7),
    "map_ratio": (">=", 0.5),
    "unmap_ratio": (">=", 0.5),
    "unmap_zero_ratio": (">=", 0.8),
    "swap_ratio": (">=", 0.85),
    "dirty_us": ("<=", 20),
    "dominant_ms": ("<=", 6),
    "open_s": ("<=", 0.5),
    "bytes_per_frame": ("<=", 16),
    "call_us": ("<=", 1),
}
"""Section 11 and section 2; issue 3 names the keys."""

BIG, SMALL = 1 << 24, 1 << 16  # frames: 64 GiB, 256 MiB


def computer() -> Figures:
    made = subprocess.run([*compiler(), "--version"], capture_output=True, text=True).stdout.splitlines()
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "compiler": made[0] if made else " ".join(compiler()),
    }


def measure(quick: bool) -> Figures:
    """All figures. `quick`: small and few, to see that everything runs; the figures then say nothing."""
    rounds, scale = (2, 16) if quick else (9, 1)
    with tempfile.TemporaryDirectory() as folder:
        c = _pages.reference(Path(folder))
        return {
            **trace_speed.figures(rounds),
            **_pages.tables(c, (1 << 16) // scale, rounds),
            **_pages.zeroing(c, (1 << 15) // scale, rounds),
            **_pages.swap((1 << 12) // scale, rounds),
            **_host.figures(BIG // scale, SMALL, rounds),
        }


def table(report: Figures) -> str:
    lines = [f"{'figure':18}{'here':>9}  {'target':10}"]
    for name, (relation, target) in TARGETS.items():
        reached = report[name] >= target if relation == ">=" else report[name] <= target
        low, high = report[f"{name}_spread"]
        words = "reached" if reached else "missed"
        lines.append(f"{name:18}{report[name]:9}  {relation} {target:<7} {words:8} {low} to {high}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="hsvm bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the JSON object only")
    parser.add_argument("--quick", action="store_true", help="small and few: shows that it runs, measures nothing")
    args = parser.parse_args()
    begun = time.perf_counter()
    report = {"bench": "hsvm", **computer(), "quick": args.quick, **measure(args.quick)}
    report["seconds"] = round(time.perf_counter() - begun, 1)
    if not args.json or sys.stderr.isatty():
        print(table(report), file=sys.stderr)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
