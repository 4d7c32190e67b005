"""Runs the engine's tests under ASan and UBSan, and compares the digests of the normal, checked and sanitized builds.

make test-asan, or python -m tests.engine.sanitizer [pytest arguments]. Exit 0 if all is clean, else 1.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .othertree import ROOT, build, copied, python

# CPython keeps memory until it ends, so leaks are not asked about; everything else ends the run at once.
ASAN = "detect_leaks=0:abort_on_error=0:exitcode=99:strict_string_checks=1:detect_stack_use_after_return=1"
UBSAN = "print_stacktrace=1:halt_on_error=1"
# What starts programs, fuzzes or measures memory would judge the sanitizers instead.
LEFT_OUT = [
    "test_cli.py",
    "test_cli_host.py",
    "test_cli_process.py",
    "test_fuzz.py",
    "test_bad_input.py",
    "test_model.py",
]
TESTS = ["tests/engine", *(f"--ignore=tests/engine/{name}" for name in LEFT_OUT)]


def runtime(name: str) -> str:
    """Where the compiler keeps a run-time library of its sanitizers."""
    found = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(found.stdout.strip()).resolve())


def environment() -> dict[str, str]:
    preload = f"{runtime('libasan.so')} {runtime('libubsan.so')}"
    # the interpreter's own allocator would hide what happens inside its arenas
    return {"LD_PRELOAD": preload, "ASAN_OPTIONS": ASAN, "UBSAN_OPTIONS": UBSAN, "PYTHONMALLOC": "malloc"}


def digests(tree: Path, **more: str) -> str:
    done = python(tree, "-m", "tests.engine.digests", quiet=True, **more)
    if done.returncode:
        raise SystemExit(f"digests of {tree.name}: {(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def main() -> int:
    normal = digests(ROOT)
    with copied("checked") as tree:
        build(tree, HSVM_CHECKS="1", HSVM_QUICK="1")
        if digests(tree) != normal:
            print("the checked build ends with other digests", file=sys.stderr)
            return 1
    with copied("sanitized") as tree:
        build(tree, HSVM_CHECKS="1", HSVM_SANITIZE="1")
        if digests(tree, **environment()) != normal:
            print("the sanitized build ends with other digests", file=sys.stderr)
            return 1
        arguments = sys.argv[1:] or TESTS
        done = python(tree, "-m", "pytest", "-p", "no:cacheprovider", *arguments, **environment())
    print("three builds, one digest" if done.returncode == 0 else "the sanitized run failed")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
