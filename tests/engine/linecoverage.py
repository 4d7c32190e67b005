"""Measures which lines of the Cython sources the engine's tests run, in a tree of its own built with line tracing.

make coverage, or python -m tests.engine.linecoverage [pytest arguments]. Prints the lines that were missed and one JSON
line; exit 1 if less than 90 percent was run.
"""

from __future__ import annotations

import json
import sys

from .othertree import build, copied, python

WANTED = 90.0
SETTINGS = """\
[run]
plugins = Cython.Coverage
include = hsvm_engine/core/*
data_file = .coverage-engine
[report]
include = hsvm_engine/core/*.pyx
show_missing = true
"""
# Every line is an event here: what repeats a million times, and what starts programs, is left to the other builds.
LEFT_OUT = [
    *("test_model.py", "test_twin.py", "test_fuzz.py", "test_bad_input.py", "test_attacks.py", "test_skip.py"),
    *("test_cli.py", "test_cli_host.py", "test_cli_process.py", "test_tutorial.py", "test_play.py", "test_wire.py"),
]
TESTS = ["tests/engine", *(f"--ignore=tests/engine/{name}" for name in LEFT_OUT)]


def main() -> int:
    with copied("coverage") as tree:
        build(tree, HSVM_CYTHON_TRACE="1")
        (tree / "coverage.ini").write_text(SETTINGS)
        run = ["-m", "coverage", "run", "--rcfile=coverage.ini", "-m", "pytest", "-p", "no:cacheprovider"]
        tests = python(tree, *run, *(sys.argv[1:] or TESTS))
        python(tree, "-m", "coverage", "report", "--rcfile=coverage.ini")
        python(tree, "-m", "coverage", "json", "--rcfile=coverage.ini", "-o", "coverage.json", quiet=True)
        totals = json.loads((tree / "coverage.json").read_text())["totals"]
    percent = round(totals["percent_covered"], 2)
    print(json.dumps({"bench": "line_coverage", "percent": percent, "lines": totals["num_statements"]}))
    return 1 if tests.returncode or percent < WANTED else 0


if __name__ == "__main__":
    sys.exit(main())
