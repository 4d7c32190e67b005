"""The files in deploy/ are sound as far as can be told without the engines that run them: they parse, run nothing as
root, hold no secret, and every command, variable and path that they name exists here."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import load_command_class

from webapp import keys, probe
from webapp.ops import demo

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = (ROOT / "webapp" / "settings.py").read_text()
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if "build" in each}
SECRETISH = re.compile(r"(?i)(password|secret|token|key)\s*[=:]\s*['\"]?[A-Za-z0-9+/]{12,}['\"]?\s*$", re.MULTILINE)


def documents() -> list[dict[str, Any]]:
    return [each for path in KUBERNETES for each in yaml.safe_load_all(path.read_text())]


def pods() -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Deployment", "Job")
    return [
        (each["metadata"]["name"], each["spec"]["template"]["spec"]) for each in documents() if each["kind"] in kinds
    ]


def unit(path: Path) -> dict[str, dict[str, list[str]]]:
    """Sections, keys and values of a unit; a line that is none of them is a fault."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
            found[section] = {}
        elif line and not line.startswith(("#", ";")):
            name, equals, value = line.partition("=")
            assert section and equals and re.fullmatch(r"[A-Z][A-Za-z]+", name), f"{path.name}:{number}: {line}"
            found[section].setdefault(name, []).append(value)
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours that a file in deploy/ would run."""
    docker = re.search(r"(?m)^CMD (\[.*\])$", (DEPLOY / "Dockerfile").read_text())
    assert docker
    yield "Dockerfile", yaml.safe_load(docker[1])
    for name, service in OURS.items():
        if "command" in service:
            yield f"compose {name}", service["command"]
        if "healthcheck" in service:
            yield f"compose {name} health", service["healthcheck"]["test"][1:]
    for name, pod in pods():
        yield f"kubernetes {name}", pod["containers"][0]["command"]
    for path in UNITS:
        for line in (
            line for name, lines in unit(path)["Service"].items() if name.startswith("ExecStart") for line in lines
        ):
            words = shlex.split(line)
            assert words[0].startswith("/srv/vpms/.venv/bin/")
            yield path.name, [Path(words[0]).name, *words[1:]]


@pytest.mark.parametrize(("where", "words"), list(commands()))
def test_every_command_exists_and_knows_its_options(where: str, words: list[str]) -> None:
    program, *rest = words
    if program == "python" and rest[0] == "manage.py":
        parser = load_command_class(app_of(rest[1]), rest[1]).create_parser("manage.py", rest[1])
        parser.parse_args(rest[2:])
    elif program == "python":
        assert rest[0] == "-m" and rest[1] == "webapp.probe" and rest[-1] in {"healthz", "readyz"}
    elif program == "celery":
        assert rest[:3] == ["-A", "webapp", "worker"]
        queues = rest[rest.index("-Q") + 1]
        assert queues == "%i" or set(queues.split(",")) <= set(settings.QUEUES)
        assert set(flags(rest)) <= set(flags(demo_command("worker"))) | {"-Q"}
    else:
        assert (program, rest[0]) == ("uvicorn", "webapp.asgi:application")
        place = {"--host", "--port"}
        wanted = flags(demo_command("web"))
        assert {k: v for k, v in flags(rest).items() if k not in place} == {
            k: v for k, v in wanted.items() if k not in place
        }


def app_of(command: str) -> str:
    (path,) = [*ROOT.glob(f"webapp/*/management/commands/{command}.py"), None][:1]
    return f"webapp.{path.parts[-4]}" if path else "django.core"


def demo_command(name: str) -> list[str]:
    (child,) = [child for child in demo.children(8000, Path("/tmp/none.sock")) if child.name == name]
    return list(child.command)[3:]


def flags(words: list[str]) -> dict[str, str]:
    """Options with their values; "" for one without."""
    found, last = {}, ""
    for word in words:
        if word.startswith("-"):
            found[word], last = "", word
        elif last:
            found[last] = word
    return found


def test_the_workers_of_every_file_serve_all_queues_together() -> None:
    for kind in ("compose", "kubernetes"):
        lines = [words for where, words in commands() if where.startswith(kind) and words[0] == "celery"]
        served = {queue for words in lines for queue in words[words.index("-Q") + 1].split(",")}
        assert served == set(settings.QUEUES)


def test_every_variable_is_read_by_the_settings() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    named = set(re.findall(r"\bHSVM_[A-Z_]+[A-Z]", "\n".join(texts)))
    assert named and not {name for name in named if f'"{name}"' not in SETTINGS}


def test_the_examples_settings_are_not_refused(tmp_path: Path) -> None:
    """As they stand, with keys and passwords in the files that they name."""
    keys.make(tmp_path)
    for name in ("database", "broker", "live", "mail"):
        (tmp_path / name).write_text("a-long-password\n")
        (tmp_path / name).chmod(0o600)
    example = dict(
        line.split("=", 1)
        for line in (DEPLOY / "systemd" / "vpms.env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    (config,) = [each["data"] for each in documents() if each["kind"] == "ConfigMap"]
    compose = {k: str(v) for k, v in COMPOSE["x-ours"]["environment"].items()}
    compose |= {"HSVM_HOSTS": "vpms.example.org", "HSVM_ORIGINS": "https://vpms.example.org", "HSVM_WORKER_SLOTS": "4"}
    for variables in (example, config, compose):
        here = {**variables, "HSVM_RUN_DIR": str(tmp_path / "run")}
        for name, value in here.items():
            if name.endswith("_FILE"):
                word = Path(value).name.replace("_key", ".key")
                here[name] = str(tmp_path / (word if word.endswith(".key") else word.split("_")[0].split(".")[0]))
        done = subprocess.run(
            [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
            cwd=ROOT, env=here, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_of_ours_runs_as_root_or_writes_beside_its_run_directory() -> None:
    for service in OURS.values():
        assert service["user"] == "10001:10001" and service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert {mount.partition(":")[0] for mount in service["tmpfs"]} == {"/tmp", "/var/lib/vpms"}
    assert re.search(r"(?m)^USER 10001:10001$", (DEPLOY / "Dockerfile").read_text())
    for _, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            inside = container["securityContext"]
            assert inside["readOnlyRootFilesystem"] is True and inside["allowPrivilegeEscalation"] is False
            assert inside["capabilities"] == {"drop": ["ALL"]}
            writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
            assert writable == {"/tmp", "/var/lib/vpms"}
    for path in UNITS:
        service = unit(path)["Service"]
        assert service["User"] == ["vpms"] and service["ProtectSystem"] == ["strict"]
        assert service["NoNewPrivileges"] == ["yes"] and service["StateDirectory"] == ["vpms"]


def test_no_file_holds_a_secret() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not SECRETISH.findall(path.read_text()), path
    for each in documents():
        assert each["kind"] != "Secret"
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/") and not (DEPLOY / secret["file"]).exists()


def test_web_processes_are_asked_for_their_health() -> None:
    (web,) = [pod for name, pod in pods() if name == "web"]
    container = web["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for name in ("web-1", "web-2"):
        assert COMPOSE["services"][name]["healthcheck"]["test"][1:] == ["python", "-m", "webapp.probe", "healthz"]
    (line,) = unit(DEPLOY / "systemd" / "vpms-web@.service")["Service"]["ExecStartPost"]
    assert line.endswith("-m webapp.probe --wait 60 healthz")


def test_a_roll_out_goes_in_the_order_migrate_keeper_workers_web() -> None:
    order = [name for name, _ in pods()]
    assert order == ["vpms-migrate", "keeper", "worker-slices", "worker-rest", "web"]  # of the files' numbers
    for name, service in OURS.items():
        if name != "migrate":
            assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    for each in documents():
        if each["kind"] == "Deployment":
            assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_what_the_image_takes_along_exists_and_what_it_leaves_out_is_no_source() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.findall(r"make (\w+)", text.replace("gcc libc6-dev make &&", "")) == ["setup"]
    left_out = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert not {"webapp", "hsvm_engine", "frontend", "requirements.lock", "Makefile", ".ci"} & set(left_out)
    assert {".git", ".run", "**/*.key", "deploy/secrets"} <= set(left_out)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_reads_the_units(path: Path, tmp_path: Path) -> None:
    """By systemd's own reader where it is installed, with the commands of this checkout in the place of /srv/vpms."""
    assert set(unit(path)) <= {"Unit", "Service", "Install"}
    if shutil.which("systemd-analyze") is None:
        return
    copy = tmp_path / path.name
    here = path.read_text().replace("/srv/vpms/.venv/bin/", f"{Path(sys.executable).parent}/")
    copy.write_text(here.replace("/srv/vpms/docs", str(ROOT / "docs")))
    (tmp_path / "vpms.target").write_text((DEPLOY / "systemd" / "vpms.target").read_text())
    named = copy if "@" not in path.name else copy.with_name(path.name.replace("@", "@8000"))
    if named != copy:
        copy.rename(named)
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(named)], capture_output=True, text=True, check=False
    )
    wrong = [line for line in told.stderr.splitlines() if path.name.split("@")[0].split(".")[0] in line]
    assert not wrong, told.stderr


@pytest.mark.django_db(transaction=True)
def test_the_probe_asks_this_machines_web_process(live_server: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("HSVM_PORT", live_server.url.rpartition(":")[2])
    monkeypatch.setenv("HSVM_BIND", "127.0.0.1")
    end = time.monotonic() + 60  # the first answer of a process may take long
    while probe.status("healthz") != 200:
        assert time.monotonic() < end
    assert probe.status("readyz") == 503  # nobody works here
    monkeypatch.setenv("HSVM_PORT", "9")
    assert probe.status("healthz") == 0


def test_the_workers_command_needs_no_variable_that_the_examples_do_not_set() -> None:
    """`celery -A webapp worker` as every unit and image calls it: Celery knows Django only by this variable."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HSVM_", "DJANGO_"))}
    code = "import os, webapp.celery; print(os.environ['DJANGO_SETTINGS_MODULE'])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=clean, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "webapp.settings"
