"""Builds the Cython modules in place: one shared utility module, runtime dispatch instead of -march=native.

Variants by environment, each for a tree of its own: HSVM_COVERAGE=1 counts the lines that run, HSVM_CHECKS=1 with the
core's own assertions, HSVM_SANITIZE=1 under ASan and UBSan, HSVM_QUICK=1 without optimisation.
"""

import os
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent
SHARED = "hsvm_engine._shared"
COVERAGE, CHECKS, SANITIZE, QUICK = (
    os.environ.get(name) == "1" for name in ("HSVM_COVERAGE", "HSVM_CHECKS", "HSVM_SANITIZE", "HSVM_QUICK")
)
DIRECTIVES: dict[str, object] = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}
MACROS = [("HSVM_CHECKS", "1")] * CHECKS
WATCHED = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"] * SANITIZE + ["--coverage"] * COVERAGE
# Generated C compares Python-sized with 32-bit counters everywhere: that warning says nothing about our code.
LEVEL = "-O0" if COVERAGE or QUICK else "-O1" if SANITIZE else "-O3"
DEBUG = ["-g1", "-fno-omit-frame-pointer"] if SANITIZE else ["-g0"]
FLAGS = [LEVEL, "-fno-strict-aliasing", "-Wno-sign-compare", *DEBUG, *WATCHED]


def extension(path: Path) -> Extension:
    name = ".".join(path.relative_to(HERE).with_suffix("").parts)
    return Extension(
        name,
        [str(path.relative_to(HERE))],
        extra_compile_args=FLAGS,
        extra_link_args=WATCHED,
        define_macros=MACROS,
        depends=[str(p.relative_to(HERE)) for p in (*path.parent.glob("*.h"), *path.parent.glob("*.pxd"))],
    )


def shared_module() -> Extension:
    """Typed-memoryview support is compiled once here instead of once in every module (3 times less C)."""
    source = HERE / "hsvm_engine" / "_shared.c"
    subprocess.run(
        [sys.executable, "-m", "cython", f"--generate-shared={source.relative_to(HERE)}"], check=True, cwd=HERE
    )
    return Extension(SHARED, [str(source.relative_to(HERE))], extra_compile_args=FLAGS, extra_link_args=WATCHED)


def extensions() -> list[Extension]:
    core = sorted((HERE / "hsvm_engine" / "core").glob("*.pyx"))
    solver = sorted((HERE / "webapp" / "solver").glob("*.pyx"))
    modules = cythonize(
        [extension(path) for path in core],
        nthreads=2,
        compiler_directives=DIRECTIVES,
        shared_utility_qualified_name=SHARED,
        language_level=3,
    )
    # The solver imports nothing of ours, so it does not use the engine's shared module.
    alone = cythonize([extension(path) for path in solver], compiler_directives=DIRECTIVES, language_level=3)
    return [shared_module(), *modules, *alone]


setup(ext_modules=extensions(), options={"build_ext": {"parallel": 2}})
