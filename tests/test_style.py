"""The checkers of the house, as tests: ruff, mypy, cython-lint, and what must never be committed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
TYPED = ["hsvm_engine", "webapp/vpms", "webapp/jobs.py", "webapp/errors.py", "webapp/strictjson.py"]
TYPED_IN_APPS = ["services.py", "selectors.py", "api.py"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{BIN}:/usr/bin:/bin"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, env=environment)


def committed(*patterns: str) -> list[Path]:
    """Files of the checkout that git tracks, or would track; every file below when there is no git."""
    listing = run("git", "ls-files", "-co", "--exclude-standard", *patterns)
    assert listing.returncode == 0, listing.stderr
    return [ROOT / name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["ruff", "format", "--check", "."]], ids=" ".join)
def test_ruff(command: list[str]) -> None:
    result = run(str(BIN / command[0]), *command[1:])
    assert result.returncode == 0, result.stdout + result.stderr


def test_types_are_strict_where_it_matters() -> None:
    files = [str(p.relative_to(ROOT)) for name in TYPED_IN_APPS for p in sorted((ROOT / "webapp").glob(f"*/{name}"))]
    result = run(str(BIN / "mypy"), *TYPED, *files)
    assert result.returncode == 0, result.stdout + result.stderr


def test_cython_style() -> None:
    sources = [str(path) for path in committed("*.pyx", "*.pxd")]
    result = run(str(BIN / "cython-lint"), "--max-line-length=120", *sources)
    assert result.returncode == 0, result.stdout + result.stderr


def test_locks_hold_no_address() -> None:
    for path in committed("*.lock", "frontend/package-lock.json"):
        assert "http:" not in path.read_text() and "https:" not in path.read_text(), path


def test_run_lock_is_part_of_the_development_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-dev.lock")


def test_files_stay_small_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in committed("*.py", "*.pyx", "*.pxd", "*.h", "*.ts", "*.css", "*.html")
        if (lines := len(path.read_text().splitlines())) > 600
    }
    assert not long
