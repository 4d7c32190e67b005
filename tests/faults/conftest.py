"""Runs on a real engine with the private valkey, and a full worker that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from tests.live.conftest import Valkey, valkey, valkey_server  # noqa: F401  fixtures
from webapp.ops.supervisor import die_with_parent
from webapp.runs import engine
from webapp.runs.models import Act, Run
from webapp.tenants.models import VirtualMachine

ROOT = Path(__file__).resolve().parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PORT = free_port()


@pytest.fixture(autouse=True)
def cold() -> Iterator[None]:
    """No player of an earlier test is hot."""
    engine._hot.clear()
    yield
    engine._hot.clear()


def start_run(cast: Any, *, length: int | None = None, rate: int | None = None, balloon: str = "on") -> Run:
    """A run of a-db and b-web as their agreed start makes it: acts bound to the first slice, due now."""
    run = Run.objects.create(
        host=cast.h1,
        scenario={
            "machine": {
                "frames": 16_384,
                "hypervisor_frames": 1024,
                "protected_frames": 1024,
                "cores": 2,
                "architecture": "hsvm",
            },
            "seed": 7,
        },
        engine_version=engine.ENGINE_VERSION,
        rate=rate,
        length=length,
        due_at=timezone.now(),
    )
    for core, (vm, trace) in enumerate(((cast.a_db, "sqlite3"), (cast.b_web, "gzip"))):
        spec = engine.spec_of(
            name=vm.name, size={"vcpus": 1, "memory_mib": 8}, trace=trace, core=core, seed=core, balloon=balloon
        )
        Act.objects.create(run=run, vm=vm, kind="start_vm", slice_no=0, data={"spec": spec})
        VirtualMachine.objects.filter(pk=vm.pk).update(state=VirtualMachine.State.STARTING)
    return run


def run_to_end(run: Run) -> Run:
    """Do the slices of the run in this process, as a worker would that gets every message once and in order."""
    from webapp.runs import services

    for _ in range(200):
        run.refresh_from_db()
        if run.state != Run.State.RUNNING:
            return run
        Run.objects.filter(pk=run.pk).update(due_at=timezone.now())  # nobody waits for the pace
        services.run_slice(run_id=run.pk, slice_no=run.slice_no)
    raise AssertionError("the run did not end")


class Stack:
    """A real keeper and a real worker on this test's database and valkey."""

    def __init__(self, server: Valkey, directory: Path) -> None:
        name = connection.settings_dict["NAME"]
        self.environment = {
            **os.environ,
            "HSVM_TLS": "0",
            "HSVM_REDIS": server.url,
            "HSVM_PORT": str(PORT),
            "HSVM_TEST_DATABASE": str(name),
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "PYTHONPATH": str(ROOT) + os.pathsep + os.environ.get("PYTHONPATH", ""),
        }
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        commands = {
            "web": [sys.executable, "-m", "tests.faults.serve", str(PORT)],
            "keeper": [sys.executable, "manage.py", "keeper"],
            "worker": [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "webapp",
                "worker",
                "-c",
                "2",
                "--without-mingle",
                "--without-gossip",
            ],
        }
        with (self.directory / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                commands[name],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),  # also when the tests themselves are killed
            )

    def kill(self, name: str) -> None:
        """kill -9, the whole tree, as a crash of the machine's part would."""
        process = self.processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def watch(self) -> bool:
        """Start again what ended by itself, as the product's supervisor and systemd do. A worker does when its broker
        goes in the middle of a read: kombu's channel has no connection then, which Celery holds for unrecoverable."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.start(name)
        return True

    def stop(self) -> None:
        for name in list(self.processes):
            process = self.processes[name]
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            self.kill(name)

    def log(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.directory.glob("*.log"))

    def until(self, true: Callable[[], bool], seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)


@pytest.fixture
def stack(valkey: Valkey, tmp_path: Path) -> Iterator[Stack]:  # noqa: F811
    made = Stack(valkey, tmp_path)
    yield made
    made.stop()
