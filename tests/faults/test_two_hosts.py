"""docs/operators/several-machines.md, done as it stands: three machines with a run directory each, and with a network
each where this process may make one. Then a run is played on the machine of the workers."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.manual import DOCS, ROOT

PAGE = DOCS / "several-machines.md"
BLOCK = re.compile(r"^## \d\. ([^\n]*)$|^```sh\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
NETWORK = f"10.77.{os.getpid() % 250}"
RUN_TO_ITS_END = """
import time, django; django.setup()
from tests.conftest import make_cast
from tests.faults.conftest import start_run
from webapp.runs.models import Run
run = start_run(make_cast(), length=3_000_000)
end = time.monotonic() + 240
while Run.objects.get(pk=run.pk).state == "running" and time.monotonic() < end: time.sleep(0.2)
run = Run.objects.get(pk=run.pk)
print(run.state, run.worker, run.digest)
"""


def blocks() -> list[tuple[str, str]]:
    """Machine and commands of every block of the page, in its order."""
    found, machine = [], ""
    for heading, commands in BLOCK.findall(PAGE.read_text()):
        machine = {"Is it whole?": "web"}.get(heading, heading) if heading else machine
        if commands:
            found.append((machine, commands))
    return found


class Machine:
    """One of the page's machines: its directories, its network if it has one, what its shell knows, what it started."""

    def __init__(self, name: str, place: Path, network: str, known: dict[str, str]) -> None:
        self.name, self.network = name, network
        self.place = place / name
        self.place.mkdir()
        self.known = {**known, "ETC": str(self.place / "etc"), "HSVM_RUN_DIR": str(self.place / "run")}
        self.state = self.place / "state"
        self.state.touch()

    def shell(self, commands: str) -> tuple[int, str]:
        """Exit code and output, as typed there. What the page exports and is known here stays; what goes on in the
        background goes on."""
        known = tuple(f"export {name}=" for name in self.known)
        lines = [line for line in commands.splitlines() if not line.startswith(known)]
        kept = [f"jobs -p >> {self.place}/pids", f"export -p > {self.state}"]
        script = "\n".join([f". {self.state}", "set -e", *lines, *kept])
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HSVM_", "DJANGO_", "TEST_"))}
        way = ["ip", "netns", "exec", self.network] if self.network else []
        out = self.place / "out"  # a file: who goes on in the background would hold a pipe open
        with (self.place / "log").open("a") as log, out.open("w") as told:
            done = subprocess.run(
                [*way, "bash", "-c", script], cwd=ROOT, env={**clean, **self.known}, stdin=subprocess.DEVNULL,
                stdout=told, stderr=log, timeout=900, check=False,
            )  # fmt: skip
        return done.returncode, out.read_text()

    def told(self) -> str:
        return (self.place / "log").read_text()[-3000:]

    def stop(self) -> None:
        pids = (
            [int(word) for word in (self.place / "pids").read_text().split()] if (self.place / "pids").exists() else []
        )
        for how in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, how)
            if how == signal.SIGTERM:
                subprocess.run(["sleep", "3"], check=False)


def ip(*words: str) -> bool:
    return subprocess.run(["ip", *words], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def networks(*names: str) -> Iterator[dict[str, str]]:
    """A network namespace for each machine, all on one bridge whose address is that of `data`; none if we may not."""
    bridge, made = f"vpb{os.getpid()}"[:15], {name: f"vpms-{os.getpid()}-{name}" for name in names}
    able = os.geteuid() == 0 and shutil.which("ip") is not None and ip("link", "add", bridge, "type", "bridge")
    if not able:
        yield dict.fromkeys(names, "")
        return
    try:
        assert ip("addr", "add", f"{NETWORK}.1/24", "dev", bridge) and ip("link", "set", bridge, "up")
        for number, name in enumerate(names):
            here, there = f"vp{os.getpid()}{number}"[-15:], f"vq{os.getpid()}{number}"[-15:]
            inside = ["-n", made[name]]
            assert ip("netns", "add", made[name]) and ip("link", "add", here, "type", "veth", "peer", "name", there)
            assert ip("link", "set", here, "master", bridge, "up") and ip("link", "set", there, "netns", made[name])
            assert ip(*inside, "addr", "add", f"{NETWORK}.{number + 2}/24", "dev", there)
            assert ip(*inside, "link", "set", there, "up") and ip(*inside, "link", "set", "lo", "up")
        yield made
    finally:
        for name in names:
            ip("netns", "del", made[name])
        ip("link", "del", bridge)


@pytest.mark.long
def test_the_walk_through_of_several_machines_ends_at_a_site_that_plays_runs() -> None:
    try:
        servers.redis_binary(), servers.postgres_binaries()
    except servers.Missing as reason:
        pytest.skip(str(reason))
    with servers.place("vp2-") as place, networks("web", "work") as spaces, contextlib.ExitStack() as ends:
        address = f"{NETWORK}.1" if spaces["web"] else "127.0.0.1"
        database = servers.Postgres(place / "pg", address=address, networks=[f"{NETWORK}.0/24"])
        ends.callback(database.stop)
        redis = servers.Redis(place / "redis", address=address)
        ends.callback(redis.stop)
        known = {
            "ADMIN": database.url, "REDIS": redis.url.replace("redis://:", "redis://default:"), "DATA": address,
            "DATABASE_PORT": str(database.port), "REDIS_PORT": str(redis.port), "WORD": "a-long-random-password-1",
            "PATH": f"{database.binaries}:{os.environ['PATH']}",
        }  # fmt: skip
        machines = {name: Machine(name, place, spaces.get(name, ""), known) for name in ("data", "web", "work")}
        for machine in machines.values():
            ends.callback(machine.stop)
        seen = []
        for name, commands in blocks():
            if name == "work" and "work" not in seen:  # what the page says in words
                shutil.copytree(machines["web"].place / "etc", machines["work"].place / "etc")
                for path in (machines["work"].place / "etc").glob("vpms.env"):
                    path.write_text(
                        path.read_text().replace(machines["web"].known["ETC"], machines["work"].known["ETC"])
                    )
            code, out = machines[name].shell(commands)
            assert code == 0, (
                name,
                commands,
                out[-2000:],
                {each: machine.told() for each, machine in machines.items()},
            )
            seen.append(name)
        assert seen == ["data", "web", "web", "work", "web"]
        play = f"DJANGO_SETTINGS_MODULE=webapp.settings {sys.executable} -c '{RUN_TO_ITS_END}'"
        code, out = machines["web"].shell(play)
        assert code == 0, machines["web"].told()
        state, worker, digest = out.split()[-3:]
        assert state == "done" and len(digest) == 64, (out, machines["work"].told())
        own = (machines["work"].place / "pids").read_text().split()
        assert worker.removeprefix("worker:").partition("@")[0] in own  # it was played where the workers are
        for name in ("web", "work"):  # the truth is in the database, and no machine made keys of its own
            kept = {path.name for path in (machines[name].place / "run").iterdir()}
            assert not any("sqlite" in each or each.endswith(".key") for each in kept), kept
