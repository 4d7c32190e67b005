"""The real product as its users start it: `manage.py demo` on a free port with a run directory of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
PASSWORD = "correct horse battery staple"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def inherited(run_dir: Path) -> dict[str, str]:
    """The environment of a demo in this directory: this process's own, without what the tests set for themselves."""
    own = {k: v for k, v in os.environ.items() if not k.startswith("HSVM_") and k != "DJANGO_SETTINGS_MODULE"}
    # At full pace the hosts of two demos take one of two cores from the tests that look at them.
    return {**own, "HSVM_RUN_DIR": str(run_dir), "DEMO_PASSWORD": PASSWORD, "HSVM_SLOWER": "8"}


def prepare(run_dir: Path, **more: str) -> None:
    """Tell the story in this directory as a demo does before it opens."""
    environment = {**inherited(run_dir), "HSVM_TLS": "0", "DJANGO_SETTINGS_MODULE": "webapp.settings", **more}
    told = "import django; django.setup(); from webapp.ops.management.commands.demo import prepare; prepare()"
    subprocess.run([sys.executable, "-c", told], cwd=ROOT, env=environment, check=True, timeout=300)


class Demo:
    """A running demo. `url` answers until stop(); every process it started is a descendant of `process`."""

    command: tuple[str, ...] = ("manage.py", "demo")
    more: tuple[str, ...] = ()  # arguments of the command

    def __init__(self, run_dir: Path, port: int | None = None, **environment: str) -> None:
        self.run_dir, self.port = run_dir, port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = run_dir / "demo.log"
        run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = {**inherited(run_dir), **environment}
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, "--port", str(self.port), *self.more],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(self, seconds: float = 240) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            if f"ready {self.url}" in self.log.read_text():
                return
            time.sleep(0.2)
        raise AssertionError(f"the demo did not get ready:\n{self.log.read_text()[-4000:]}")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()

    def family(self) -> list[psutil.Process]:
        """The supervisor and all its descendants now."""
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def worker_processes(self) -> list[psutil.Process]:
        found = []
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                if "celery" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def stop(self, how: signal.Signals = signal.SIGTERM) -> list[psutil.Process]:
        """Ends the demo and returns what it left behind (nothing, when all is well)."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        _, left = psutil.wait_procs(family, timeout=20)
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return left


@contextlib.contextmanager
def running(run_dir: Path, port: int | None = None, **environment: str) -> Iterator[Demo]:
    demo = Demo(run_dir, port, **environment)
    try:
        demo.wait_ready()
        yield demo
    finally:
        demo.stop()
