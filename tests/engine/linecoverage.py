"""Measures which lines of the Cython sources the engine's tests run, in a tree of its own whose C counts its lines.

make coverage, or python -m tests.engine.linecoverage [pytest arguments]. Cython writes before the C of a statement
which line it is of, and gcov says which lines of C ran; a line ran if any C of it did. Prints the lines of each file
that were missed and one JSON line; exit 1 if less than 90 percent was run.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from .othertree import build, copied, python

WANTED = 90.0
ORIGIN = re.compile(r' */\* "(hsvm_engine/core/\w+\.pyx)":(\d+)$')
ELSEWHERE = re.compile(r' */\* (function exit code|"|#|---|Begin|Implementation of)|^}|^static |^#')
# What starts programs is left to the other builds: they would be counted only if they ended in good order.
LEFT_OUT = ["test_cli_process.py", "test_fuzz.py", "test_tutorial.py", "test_bench.py"]
TESTS = ["tests/engine", *(f"--ignore=tests/engine/{name}" for name in LEFT_OUT)]

Lines = dict[str, dict[int, bool]]  # of each source: whether a line that has C ran


def origins(source: Path) -> dict[int, tuple[str, int]]:
    """For lines of a generated C file that belong to a statement: its source and line."""
    found, here = {}, None
    for number, line in enumerate(source.read_text().splitlines(), 1):
        if match := ORIGIN.match(line):
            here = (match[1], int(match[2]))
        elif ELSEWHERE.match(line):
            here = None
        elif here is not None:
            found[number] = here
    return found


def ran(tree: Path) -> Lines:
    """What the C counted, told by the lines of the sources."""
    lines: Lines = defaultdict(dict)
    for counted in sorted(tree.glob("build/temp*/hsvm_engine/core/*.gcda")):
        told = subprocess.run(["gcov", "-t", "-j", str(counted)], cwd=tree, capture_output=True, text=True, check=True)
        for file in json.loads(told.stdout)["files"]:
            if not file["file"].endswith(f"{counted.stem}.c"):
                continue
            place = origins(tree / "hsvm_engine" / "core" / f"{counted.stem}.c")
            for line in file["lines"]:
                if line["line_number"] in place:
                    source, number = place[line["line_number"]]
                    lines[source][number] = lines[source].get(number, False) or line["count"] > 0
    return lines


def missed(lines: dict[int, bool]) -> str:
    """Lines that did not run, neighbours as a range."""
    ranges: list[list[int]] = []
    for number in sorted(number for number, hit in lines.items() if not hit):
        if ranges and number <= ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def main() -> int:
    with copied("coverage") as tree:
        build(tree, HSVM_COVERAGE="1")
        tests = python(tree, "-m", "pytest", "-p", "no:cacheprovider", *(sys.argv[1:] or TESTS))
        lines = ran(tree)
    total = sum(len(of) for of in lines.values())
    hits = sum(sum(of.values()) for of in lines.values())
    for source, of in sorted(lines.items()):
        print(f"{source:36}{len(of):6}{100 * sum(of.values()) / len(of):7.1f}  {missed(of)}")
    percent = round(100 * hits / max(1, total), 2)
    print(json.dumps({"bench": "line_coverage", "percent": percent, "lines": total}))
    return 1 if tests.returncode or percent < WANTED else 0


if __name__ == "__main__":
    sys.exit(main())
