"""`manage.py demo`: the whole product in the foreground, on loopback, with its story under way."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections

from webapp.accounts.models import User
from webapp.ops import demo, fleet_scale, scale, story
from webapp.ops.supervisor import GaveUp, Supervisor

READY_SECONDS = 120


class Interrupted(Exception):
    """SIGINT or SIGTERM came."""


class Command(BaseCommand):
    help = "Run the demo: database, queue, keeper, worker and web site, with people, hosts and VMs already at work."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--pid-file", type=Path, help="holds the process id; the demo ends when the file goes")
        parser.add_argument(
            "--scale",
            choices=("small", "large", "fleet"),
            default="small",
            help="large: beside the story 200 organisations, 5,000 VMs and 100,000 entries of the log, loaded once; "
            "fleet: 5,000 hosts and 100,000 VMs for the wall, whose checks the demo writes itself",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.demo(options["port"], options["pid_file"], size=options["scale"])
        except demo.NotReady as reason:
            print(f"demo: {reason}", file=sys.stderr)
            sys.exit(2)

    def demo(self, port: int, pid_file: Path | None, *, size: str) -> None:
        def interrupted(*_: Any) -> None:
            raise Interrupted

        held = demo.lock(settings.RUN_DIR)
        demo.preflight(port)
        signal.signal(signal.SIGINT, interrupted)
        signal.signal(signal.SIGTERM, interrupted)
        sock = demo.socket_path(settings.RUN_DIR)
        if pid_file is not None:
            pid_file.write_text(f"{os.getpid()}\n")
        supervisor: Supervisor | None = None
        try:
            supervisor = Supervisor(demo.children(port, sock))
            supervisor.start("valkey")
            settings.REDIS_URL = f"unix://{sock}"
            settings.MFA_REQUIRED = os.environ.get("HSVM_MFA") == "1"  # as on the site that it starts, without TLS
            passwords = prepare(size=size)
            supervisor.start("keeper", "worker", "web")
            wait_ready(supervisor, port)
            greet(port, passwords)
            while pid_file is None or pid_file.exists():
                supervisor.watch()
                time.sleep(0.2)
            print("stopping", flush=True)
        except Interrupted:
            print("stopping", flush=True)
        except GaveUp as reason:
            print(f"demo: {reason}", file=sys.stderr, flush=True)
            sys.exit(1)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if supervisor is not None:
                supervisor.stop()
            if sock.parent != settings.RUN_DIR:
                shutil.rmtree(sock.parent, ignore_errors=True)
            if pid_file is not None:
                pid_file.unlink(missing_ok=True)
            held.close()


def prepare(*, size: str = "small") -> dict[str, str]:
    """The database at its newest migration, the cast and the story in it; the passwords of the cast. What was loaded
    once stays, whatever the demo is started with later."""
    call_command("migrate", verbosity=0, interactive=False)
    given = os.environ.get("DEMO_PASSWORD", "")
    passwords = {name: given or secrets.token_urlsafe(12) for name in story.PEOPLE}
    try:
        if size == "large" and scale.load():
            print("the big platform is loaded", flush=True)
        if size == "fleet" and fleet_scale.load():
            print("the fleet is loaded; no engine plays it, its checks are the demo's own", flush=True)
        story.prepare(passwords)
        if size == "large":
            scale.welcome(User.objects.get(username="alice"))
    finally:
        connections.close_all()
    return passwords


def wait_ready(supervisor: Supervisor, port: int) -> None:
    """Until /readyz answers 200; GaveUp with what is known if it does not within two minutes."""
    end = time.monotonic() + READY_SECONDS
    answer = "no answer"
    while time.monotonic() < end:
        supervisor.watch()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except urllib.error.HTTPError as refused:
            answer = refused.read().decode(errors="replace").strip()
        except OSError:
            pass
        time.sleep(0.2)
    tails = "\n".join(f"--- {child.name}\n{child.tail()}" for child in supervisor.children)
    raise GaveUp(f"the site was not ready within {READY_SECONDS} s ({answer}).\n{tails}")


def greet(port: int, passwords: dict[str, str]) -> None:
    """One line with the address, then who can sign in. Fresh passwords are shown once and stored nowhere."""
    print(f"ready http://127.0.0.1:{port}", flush=True)
    if os.environ.get("DEMO_PASSWORD"):
        print("sign in as " + ", ".join(passwords) + " with the password from DEMO_PASSWORD")
    else:
        for name, password in passwords.items():
            print(f"  {name:<6} {password}   {story.PEOPLE[name]}")
    if os.environ.get("HSVM_MAIL", "file:") == "file:":
        print(f"e-mails are written as files to {settings.RUN_DIR / 'mail'}")
    with contextlib.suppress(OSError):
        sys.stdout.flush()
