"""`hsvm bench`: speed and weight of this engine on this computer, beside C loops that the bench builds.

What is measured lies in `benchmarks/` beside the package in a checkout; an installed package does not carry it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hsvm_engine.commands.common import add_json, command

CHECKOUT = Path(__file__).resolve().parents[2]


def add_commands(subparsers: Any) -> None:
    parser = command(
        subparsers,
        "bench",
        "measure speed and memory on this computer, beside plain C loops that do the same",
        _bench,
        "hsvm bench --json",
    )
    add_json(parser, "print the JSON object only, without the table for people on standard error")
    parser.add_argument("--quick", action="store_true", help="small and few: shows that it runs, measures nothing")


def _bench(args: argparse.Namespace) -> int:
    """Run the bench of this checkout in a process of its own, so that nothing else weighs on it."""
    if not (CHECKOUT / "benchmarks" / "engine_speed.py").is_file():
        raise ValueError("bench: there is no folder benchmarks/ beside the package; run it from a checkout")
    words = [sys.executable, "-m", "benchmarks.engine_speed"]
    words += [f"--{name}" for name in ("json", "quick") if getattr(args, name)]
    # numpy's linear algebra is not used: its threads would only disturb the clock
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=CHECKOUT, env=environment).returncode
