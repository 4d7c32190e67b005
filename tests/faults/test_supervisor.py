"""The demo's supervisor: who dies is started again, and nothing is ever left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from webapp.ops import demo, supervisor
from webapp.ops.supervisor import Child, GaveUp, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


def child(tmp_path: Path, script: str, name: str = "child") -> Child:
    return Child(name, ["/bin/sh", "-c", script], tmp_path / f"{name}.log", dict(os.environ))


def test_a_dead_child_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_FIRST", 0.05)
    one = child(tmp_path, "echo started; sleep 60")
    watched = Supervisor([one])
    watched.start("child")
    assert one.process is not None
    first = one.process.pid
    os.kill(first, signal.SIGKILL)

    def again() -> bool:
        watched.watch()
        return one.process is not None and one.process.pid != first and one.process.poll() is None

    until(again)
    watched.stop()
    assert not psutil.pid_exists(one.process.pid)


def test_a_child_that_dies_again_and_again_ends_everything_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "BACK_OFF_FIRST", 0.01)
    monkeypatch.setattr(supervisor, "BACK_OFF_LAST", 0.02)
    watched = Supervisor([child(tmp_path, "echo the disk is full >&2; exit 3", "web")])
    watched.start("web")
    with pytest.raises(GaveUp, match=r"web ended 6 times(.|\n)*the disk is full"):
        until(lambda: bool(watched.watch()))


def test_stopping_takes_grandchildren_along_even_if_they_do_not_listen(tmp_path: Path) -> None:
    deaf = child(tmp_path, "trap '' TERM; sleep 61 & echo $! > kid; trap - TERM; wait", "deaf")
    deaf.command = ["/bin/sh", "-c", f"cd {tmp_path}; {deaf.command[2]}"]
    watched = Supervisor([deaf])
    watched.start("deaf")
    until(lambda: (tmp_path / "kid").exists() and (tmp_path / "kid").read_text().strip() != "")
    kid = int((tmp_path / "kid").read_text())
    watched.stop()
    until(lambda: not psutil.pid_exists(kid) or psutil.Process(kid).status() == psutil.STATUS_ZOMBIE)


def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, time; from webapp.ops.supervisor import Child, Supervisor;"
        f"c = Child('c', ['sleep', '62'], pathlib.Path({str(tmp_path / 'log')!r}), dict(os.environ));"
        "s = Supervisor([c]); s.start('c'); print(c.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.kill()
    parent.wait()
    until(lambda: not psutil.pid_exists(pid))


def test_a_taken_port_is_named_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(demo.NotReady, match=f"port {port} is taken; choose another with PORT=NUMBER"):
            demo.preflight(port)
    with pytest.raises(demo.NotReady, match="port 99999 does not exist"):
        demo.preflight(99_999)


def test_a_run_directory_serves_one_demo_at_a_time(tmp_path: Path) -> None:
    held = demo.lock(tmp_path)
    with pytest.raises(demo.NotReady, match="another demo runs in"):
        demo.lock(tmp_path)
    held.close()
    demo.lock(tmp_path).close()


def test_a_socket_path_that_is_too_long_falls_back_to_a_short_private_one(tmp_path: Path) -> None:
    assert demo.socket_path(tmp_path) == tmp_path / "valkey.sock"
    short = demo.socket_path(tmp_path / ("x" * 100))
    assert len(os.fsencode(short)) <= demo.LONGEST_SOCKET
    assert short.parent.stat().st_mode & 0o777 == 0o700
    short.parent.rmdir()
