"""The typed API: what is public is documented, and what the stubs promise is what the compiled modules have."""

import ast
import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import hsvm_engine
from hsvm_engine import Machine

PACKAGE = Path(hsvm_engine.__file__).parent
ROOT = PACKAGE.parent
CORE = PACKAGE / "core"
PLAIN = {"__init__", "frames", "cores", "hypervisor", "guest", "device", "physical"}  # their type says all
DATA = ("*.yaml", "*.json", "*.md", "*.sql", "*.hsvmtrace", "*.pyi", "*.pxd", "*.h", "py.typed")


def stub(name: str) -> ast.Module:
    return ast.parse((CORE / f"{name}.pyi").read_text())


def class_stub(module: str, name: str) -> ast.ClassDef:
    return next(node for node in stub(module).body if isinstance(node, ast.ClassDef) and node.name == name)


def machine_stub() -> ast.ClassDef:
    return class_stub("machine", "Machine")


def functions() -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in machine_stub().body if isinstance(node, ast.FunctionDef)}


def is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(item, ast.Name) and item.id == "property" for item in node.decorator_list)


def parameters(node: ast.FunctionDef) -> list[str]:
    return [arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if arg.arg != "self"]


@pytest.mark.parametrize("name", hsvm_engine.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    value: Any = getattr(hsvm_engine, name)
    if isinstance(value, type) and value.__module__.startswith("hsvm_engine.core."):
        text = ast.get_docstring(class_stub(value.__module__.rpartition(".")[2], name))
    else:
        text = value.__doc__ if isinstance(value, type) else sys.modules["hsvm_engine.architectures"].__doc__
    assert text
    assert len(text.splitlines()[0]) > 10
    assert text.splitlines()[0].rstrip().endswith((".", ")"))


def test_the_stub_of_the_machine_has_the_names_of_the_compiled_one() -> None:
    fields = {node.target.id for node in machine_stub().body if isinstance(node, ast.AnnAssign)}  # type: ignore[union-attr]
    promised = fields | {name for name in functions() if not name.startswith("_")}
    assert promised == {name for name in dir(Machine) if not name.startswith("_")}


@pytest.mark.parametrize("name", [name for name, node in functions().items() if not is_property(node)])
def test_a_method_of_the_machine_has_the_parameters_of_its_stub(name: str) -> None:
    compiled = [word for word in inspect.signature(getattr(Machine, name)).parameters if word != "self"]
    if name == "__init__":  # a compiled class tells its signature by its methods only
        compiled = compiled if compiled != ["args", "kwargs"] else parameters(functions()[name])
    assert compiled == parameters(functions()[name])


@pytest.mark.parametrize("name", [name for name in functions() if name not in PLAIN])
def test_every_method_of_the_machine_is_documented(name: str) -> None:
    assert ast.get_docstring(functions()[name])


@pytest.mark.parametrize("path", sorted(CORE.glob("*.pyi")), ids=lambda path: path.stem)
def test_a_stub_promises_nothing_that_the_compiled_module_lacks(path: Path) -> None:
    module = importlib.import_module(f"hsvm_engine.core.{path.stem}")
    for node in stub(path.stem).body:
        names = []
        if isinstance(node, ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            assert hasattr(module, name), name
            if isinstance(node, ast.FunctionDef):
                assert list(inspect.signature(getattr(module, name)).parameters) == parameters(node)


def test_every_compiled_module_that_python_imports_has_a_stub() -> None:
    wanted = set()
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hsvm_engine.core."):
                wanted.add(str(node.module).rpartition(".")[2])
    assert {"machine", "types"} <= wanted
    assert wanted <= {path.stem for path in CORE.glob("*.pyi")}


def test_a_program_that_uses_the_api_passes_the_strict_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np\n"
        "from hsvm_engine import Machine, Owner, Status\n"
        "host = Machine(1024, 16, 16, architecture='hsvm')\n"
        "vm: int = host.hypervisor.create_vm(vcpus=1)['vm']\n"
        "status = Status[host.hypervisor.page_map(vm=vm, gpn=0, mfn=100, perm='rw')['status']]\n"
        "free: int = int((host.ownership() == Owner.FREE).sum())\n"
        "done: int = host.run_trace(0, np.zeros(1, np.uint64), np.zeros(1, np.uint8))['done']\n"
        "orders: list[int] = [row['order'] for row in host.walk(0, 0)['references']]\n"
        "Machine('many', 16, 16)  # expect an error here\n"
    )
    environment = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run([*command, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout
    assert 'Argument 1 to "Machine"' in errors[0]


def test_all_that_is_not_code_is_shipped() -> None:
    """What a wheel takes is what the patterns of pyproject.toml find."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["hsvm_engine"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *(f"hsvm_engine/**{end}" for end in DATA)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    files = [ROOT / name for name in listing.stdout.splitlines()] if listing.returncode == 0 else []
    needed = {path for path in files or [p for end in DATA for p in PACKAGE.rglob(end)] if path.is_file()}
    assert needed
    assert needed <= shipped
