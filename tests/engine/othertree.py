"""A copy of the project in a directory of its own, built in another way, so that the normal build stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "node_modules", "build", "*.so", "*.egg-info", "__pycache__", "live")


class BuildError(Exception):
    """The compiler or Cython refused; the text is the end of what they said."""


@contextlib.contextmanager
def copied(name: str) -> Iterator[Path]:
    """A fresh copy of the sources without anything built; removed at the end."""
    with tempfile.TemporaryDirectory(prefix=f"hsvm-{name}-") as place:
        tree = Path(place) / name
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
        for generated in (*(tree / "hsvm_engine").glob("*.c"), *(tree / "hsvm_engine" / "core").glob("*.c")):
            generated.unlink()
        yield tree


def build(tree: Path, **variant: str) -> None:
    """Build what is out of date in a tree, in the variant of setup.py that the environment names."""
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "-j2"]
    done = subprocess.run(command, cwd=tree, env=os.environ | variant, capture_output=True, text=True)
    if done.returncode:
        raise BuildError((done.stdout + done.stderr)[-3000:])


def python(
    tree: Path, *arguments: str, quiet: bool = False, timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter on a tree; with `quiet` the output is kept instead of shown."""
    inside = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=tree, env=inside, capture_output=quiet, text=True, check=False, timeout=timeout)
