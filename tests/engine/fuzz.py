"""Fuzzing of the parsers: built-in files, changed at random from a seed, are read or refused by the parser's own error.

    python -m tests.engine.fuzz --inputs 200000 --seed 1

Each parser runs in a child process with bounded memory; an input that takes longer than the limit ends the child. One
JSON line with the figures is printed; exit 1 if any input crashed, hung, or raised anything but the parser's error.
A finding names parser, seed and number: `--parser attack --first NUMBER --inputs 1` replays it.
"""

import argparse
import gc
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .fuzzparsers import PARSERS

SHARES = {"attack": 0.25, "scenario": 0.1, "trace": 0.25, "lackey": 0.1, "snapshot": 0.3}  # of all inputs
SECONDS = 5.0  # of processor time for one input
MEGABYTES = 512  # of address space beyond what the child has at its start
CHILD = ("-m", "tests.engine.fuzz")
ROOT = Path(__file__).resolve().parent.parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each parser")
    parser.add_argument("--parser", choices=tuple(PARSERS), help="only this one")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        print(json.dumps(fuzz(args.parser, seed=args.seed, first=args.first, inputs=args.inputs, at=args.child)))
        return 0
    report = run(inputs=args.inputs, seed=args.seed, first=args.first, only=args.parser)
    print(json.dumps(report))
    return 1 if report["findings"] else 0


def run(*, inputs: int, seed: int, first: int = 0, only: str | None = None) -> dict[str, Any]:
    """Fuzz all parsers, or one, each in a child process; the figures and findings together."""
    figures: dict[str, Any] = {}
    findings: list[Any] = []
    for name in PARSERS if only is None else (only,):
        count = inputs if only else round(inputs * SHARES[name])
        result = _child(name, seed=seed, first=first, inputs=count)
        findings += result.pop("findings")
        figures[name] = result
    return {
        "fuzz": "parsers",
        "seed": seed,
        "inputs": sum(row["inputs"] for row in figures.values()),
        "refused": sum(row["refused"] for row in figures.values()),
        "parsers": figures,
        "findings": findings,
    }


def _child(name: str, *, seed: int, first: int, inputs: int) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile() as at:
        words = ["--parser", name, "--seed", seed, "--first", first, "--inputs", inputs, "--child", at.name]
        command = [sys.executable, *CHILD, *map(str, words)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
        number = struct.unpack("<q", at.read(8).ljust(8, b"\xff"))[0]
    ended = -done.returncode
    reason = (
        "took too long" if ended == signal.SIGPROF else f"ended the process ({done.returncode}): {done.stderr[-500:]}"
    )
    return {"inputs": max(number - first, 0), "refused": 0, "findings": [_finding(name, seed, number, reason)]}


def _finding(name: str, seed: int, number: int, reason: str) -> dict[str, Any]:
    return {"parser": name, "seed": seed, "number": number, "reason": reason}


# In the child


def fuzz(name: str, *, seed: int, first: int, inputs: int, at: Path) -> dict[str, Any]:
    """Give `inputs` changed files to one parser. `at` holds the number of the input that is being read."""
    parser = PARSERS[name]
    samples = parser.samples()
    _bound_memory()
    gc.collect()
    gc.freeze()
    before = _resident()
    findings, refused, longest = [], 0, 0.0
    began = time.process_time()
    place = os.open(at, os.O_WRONLY)
    for number in range(first, first + inputs):
        if number % 64 == 0:
            gc.collect()  # a machine and its ports refer to each other
        data = parser.change(random.Random(f"{seed} {name} {number}"), samples)
        os.pwrite(place, struct.pack("<q", number), 0)
        start = time.process_time()
        reason = _read(parser.read, parser.error, data)
        longest = max(longest, time.process_time() - start)
        if reason == REFUSED:
            refused += 1
        elif reason:
            findings.append(_finding(name, seed, number, reason))
            if len(findings) >= 20:
                inputs = number + 1 - first
                break
    return {
        "inputs": inputs,
        "refused": refused,
        "accepted": inputs - refused - len(findings),
        "seconds": round(time.process_time() - began, 1),
        "longest_ms": round(longest * 1e3, 1),
        "grown_mb": round((_resident() - before) / 1024, 1),
        "findings": findings,
    }


REFUSED = "refused"


def _read(read: Callable[[bytes], object], error: type[Exception], data: bytes) -> str:
    """Nothing if the input was read, `REFUSED`, or what went wrong. A hang ends the process: C has no other end."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        read(data)
    except error as refusal:
        reason = (
            REFUSED if str(refusal) and len(str(refusal)) < 1_000 else f"an error of {len(str(refusal))} characters"
        )
    except BaseException as wrong:  # whatever it is, it is a finding
        reason = f"{type(wrong).__name__}: {str(wrong)[:300]}"
    else:
        reason = ""
    signal.setitimer(signal.ITIMER_PROF, 0)
    return reason


def _bound_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (MEGABYTES << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _resident() -> int:
    """The most memory that the process has had, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
