"""Plants faults in the engine, one at a time, and sees whether the tests notice: each must be killed.

make mutants, or python -m tests.engine.mutants [name ...]. Prints one JSON line; exit 1 if a fault survives, 2 if one
cannot be planted because the sources have moved on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .faults import FAULTS, Fault
from .othertree import BuildError, build, copied, python

# Quick and sharp first: a run ends at the first test that fails.
TESTS = [
    f"tests/engine/test_{name}.py"
    for name in (
        *(
            "twin_rules",
            "lifetimes",
            "ownership_states",
            "priority",
            "frames",
            "paging",
            "tlb",
            "context",
            "sealing",
            "journal",
        ),
        *("machine_arguments", "snapshot", "noninterference", "model"),
    )
]
PATIENCE = 900.0  # seconds for one run of the tests; a fault that makes the engine hang is noticed too


class Unplantable(Exception):
    """The text to be replaced is not in the file, or is there more than once."""


def plant(fault: Fault, tree: Path) -> None:
    path = tree / "hsvm_engine" / "core" / fault.file
    text = path.read_text()
    if (times := text.count(fault.old)) != 1:
        raise Unplantable(f"{fault.name}: the text to replace is {times} times in {fault.file}")
    path.write_text(text.replace(fault.old, fault.new))


def survives(fault: Fault | None, built: Path) -> bool:
    """Whether all tests pass with the fault, in a copy of a tree that is built already."""
    tree = built.with_name(fault.name.replace(" ", "-") if fault else "none")
    shutil.copytree(built, tree)
    try:
        if fault:
            plant(fault, tree)
            build(tree, HSVM_QUICK="1")
        done = python(tree, "-m", "pytest", "-x", "-p", "no:cacheprovider", *TESTS, quiet=True, timeout=PATIENCE)
        if fault is None and done.returncode:
            print(done.stdout[-3000:], file=sys.stderr)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        shutil.rmtree(tree)


def judge(fault: Fault, built: Path) -> str:
    """What became of a fault; told on standard error at once, since all of them take a while."""
    try:
        verdict = "survived" if survives(fault, built) else "killed"
    except (Unplantable, BuildError) as error:
        verdict = f"not planted: {error}"
    print(f"{fault.name}: {verdict}", file=sys.stderr, flush=True)
    return verdict


def main() -> int:
    chosen = [fault for fault in FAULTS if not sys.argv[1:] or fault.name in sys.argv[1:]]
    with copied("mutants") as tree:
        build(tree, HSVM_QUICK="1")
        if not survives(None, tree):
            print("the tests fail without any fault", file=sys.stderr)
            return 2
        with ThreadPoolExecutor(os.cpu_count()) as workers:
            verdicts = dict(zip(chosen, workers.map(lambda fault: judge(fault, tree), chosen), strict=True))
    survived = [fault.name for fault, verdict in verdicts.items() if verdict == "survived"]
    lost = [fault.name for fault, verdict in verdicts.items() if verdict.startswith("not planted")]
    killed = len(chosen) - len(survived) - len(lost)
    print(json.dumps({"bench": "mutants", "killed": killed, "survived": survived, "not_planted": lost}))
    return 2 if lost or not chosen else 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
