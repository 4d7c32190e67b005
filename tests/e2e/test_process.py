"""The demo as a process: it ends without leaving anything, finds its data again, and says what is wrong in one line."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.stack import ROOT, Demo, free_port, running


@pytest.mark.long
def test_the_demo_leaves_no_process_and_finds_its_data_again(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"  # filled by the first demo that runs in it
    with running(run_dir) as first:
        assert len(first.family()) >= 5
        assert first.stop(signal.SIGTERM) == []
    with running(run_dir, port=first.port) as again:
        assert again.get("/readyz")[0] == 200
        assert again.stop(signal.SIGINT) == []


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        demo = Demo(tmp_path / "run", port=taken.getsockname()[1])
        assert demo.process.wait(60) != 0
        said = demo.log.read_text().strip().splitlines()
        assert len(said) == 1 and str(demo.port) in said[0] and "PORT=" in said[0], said
        assert demo.stop() == []


@pytest.mark.long
def test_make_demo_ends_also_when_make_alone_is_signalled(told: Path, tmp_path: Path) -> None:
    """By SIGINT, of which make tells its child nothing; SIGTERM it hands on."""
    port, log, run_dir = free_port(), tmp_path / "log", shutil.copytree(told, tmp_path / "run")
    with log.open("w") as output:
        make = subprocess.Popen(
            ["make", "demo", f"PORT={port}", f"RUN_DIR={run_dir}"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "HSVM_"))},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job inherits it ignored
        )
    try:
        end = time.monotonic() + 300
        while f"ready http://127.0.0.1:{port}" not in log.read_text():
            assert make.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        family = [psutil.Process(make.pid), *psutil.Process(make.pid).children(recursive=True)]
        assert len(family) >= 6
        make.send_signal(signal.SIGINT)
        make.wait(60)
        _, left = psutil.wait_procs(family, timeout=20)
        assert left == []
    finally:  # what is left after a failure would hold the run directory
        with contextlib.suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
