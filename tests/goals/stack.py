"""The product on an empty database for a goal: the demo's processes under the demo's supervisor, without its story.

`Place` is where one goal works: a short directory of its own, which Django of this process uses too; with
`--postgres` also a PostgreSQL of its own in it. Faults are put in front of Redis and of the site by `FaultProxy`;
processes are found among the descendants of the site alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from tests import servers
from tests.e2e.stack import Demo, free_port
from webapp import keys

PIECE: Final = 65_536
MARKS: Final = {"worker": "celery", "web": "uvicorn", "keeper": "keeper", "valkey": "valkey-server"}


class Missed(AssertionError):
    """Something that had to happen did not happen in time."""


@dataclass
class Place:
    """Where a goal works, and how much it does: `few` is for trying the kit itself, its figures prove nothing."""

    folder: Path
    seed: int
    few: bool
    port: int = field(default_factory=free_port)
    postgres: servers.Postgres | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.run_dir = self.folder / "run"
        self.run_dir.mkdir(mode=0o700, exist_ok=True)

    def count(self, full: int, few: int) -> int:
        return few if self.few else full

    @property
    def redis_url(self) -> str:
        return f"unix://{self.run_dir / 'valkey.sock'}"

    def database(self, name: str = "vpms") -> dict[str, str]:
        """What processes must be told to find the database of this name; nothing for the file of the run directory."""
        return {"HSVM_DATABASE": self.postgres.url_of(name)} if self.postgres else {}

    def django(self, **more: str) -> None:
        """This process's Django on the place's database, migrated; nothing of it is told to the site's processes."""
        os.environ.update(
            DJANGO_SETTINGS_MODULE="webapp.settings",
            HSVM_RUN_DIR=str(self.run_dir),
            HSVM_TLS="0",
            HSVM_PORT=str(self.port),
            HSVM_REDIS=self.redis_url,
            HSVM_LOG="ERROR",
            HSVM_METRICS_SECONDS="0",
            DJANGO_ALLOW_ASYNC_UNSAFE="1",
            **self.database(),
            **more,
        )
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0, interactive=False)

    @contextlib.contextmanager
    def site(self, **environment: str) -> Iterator[Site]:
        site = Site(self.run_dir, self.port, **self.database(), **environment)
        try:
            site.wait_ready()
            yield site
        finally:
            site.stop()

    @contextlib.contextmanager
    def demo(self, **environment: str) -> Iterator[Demo]:
        """`manage.py demo` with its story."""
        demo = Demo(self.run_dir, self.port, **self.database(), **environment)
        try:
            demo.wait_ready()
            yield demo
        finally:
            demo.stop()


@contextlib.contextmanager
def place(seed: int, few: bool, postgres: bool = False) -> Iterator[Place]:
    with servers.place("goal-") as folder:
        found = Place(folder, seed, few)
        if not postgres:
            yield found
            return
        keys.make(found.run_dir)
        found.postgres = servers.Postgres(folder / "pg")
        try:
            found.postgres.psql("CREATE DATABASE vpms")
            yield found
        finally:
            found.postgres.stop()


class Site(Demo):
    """The site without the story; a dead process is started again by the supervisor of the demo."""

    command = ("-m", "tests.goals.stack")

    def process_of(self, name: str) -> psutil.Process:
        """The process that now does this part: the first that the supervisor started for it."""
        for process in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):
                if MARKS[name] in " ".join(process.cmdline()):
                    return process
        raise Missed(f"no {name} runs")

    def pid_of(self, name: str) -> int | None:
        with contextlib.suppress(psutil.Error, Missed):
            return self.process_of(name).pid
        return None

    def pool(self) -> list[psutil.Process]:
        """The worker's pool processes."""
        with contextlib.suppress(psutil.Error, Missed):
            return [each for each in self.process_of("worker").children() if each.is_running()]
        return []

    def kill(self, name: str) -> None:
        """kill -9 of this part with all that it started."""
        process = self.process_of(name)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                each.kill()

    def tails(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in (self.run_dir / "logs").glob("*"))


def until(true: Callable[[], Any], seconds: float, what: str = "it") -> float:
    """Seconds until this is true; Missed if it is not in time."""
    began = time.monotonic()
    while not true():
        if time.monotonic() > began + seconds:
            raise Missed(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(0.05)
    return time.monotonic() - began


def within(true: Callable[[], Any], seconds: float) -> float | None:
    """The same, and None if it is not in time."""
    with contextlib.suppress(Missed):
        return until(true, seconds)
    return None


def answers(site: Demo, path: str = "/healthz") -> bool:
    try:
        with urllib.request.urlopen(site.url + path, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def ping(url: str) -> bool:
    try:
        return bool(redis.Redis.from_url(url, retry=None, socket_timeout=1).ping())
    except redis.RedisError:
        return False


def session_of(user: Any) -> str:
    """The cookie's value of a fresh sign-in."""
    from django.conf import settings
    from django.test import Client

    client = Client()
    client.force_login(user)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


# -- faults on the way


Address = Path | int  # a unix socket, or a port of loopback


class FaultProxy:
    """A way to a server on which things go wrong. `mode` holds for what is sent from now on, on open ways too:

    pass; delay (0.3 s a piece); drop (what is sent is swallowed, both ways); half-open (what the server says is
    swallowed); slow (4 kB/s). A way that lost a byte stays dead and silent, as when a firewall has forgotten it: nobody
    is told, and only who has a limit of his own notices. `reset()` ends all open ways by a reset.
    """

    DELAY, SLOW = 0.3, 4096

    def __init__(self, listen: Address, target: Address) -> None:
        self.listen, self.target, self.mode = listen, target, "pass"
        self.swallowed = 0  # bytes
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        if not ready.wait(10):
            raise Missed("the fault proxy did not start")

    def _serve(self, ready: threading.Event) -> None:
        async def main() -> None:
            if isinstance(self.listen, Path):
                await asyncio.start_unix_server(self._join, str(self.listen))
            else:
                await asyncio.start_server(self._join, "127.0.0.1", self.listen)
            ready.set()

        self._loop.run_until_complete(main())
        self._loop.run_forever()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.target, Path):
                there, back = await asyncio.open_unix_connection(str(self.target))
            else:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        lost: set[bool] = set()
        ways = [asyncio.create_task(self._copy(reader, back, lost, out=True))]
        ways.append(asyncio.create_task(self._copy(there, writer, lost, out=False)))
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in both:
            end.transport.abort()
        self._open -= both

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: set[bool], *, out: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(PIECE):
                if self.mode == "drop" or (self.mode == "half-open" and not out) or out in lost:
                    lost |= {True, False} if self.mode == "drop" else {out}
                    self.swallowed += len(data)
                    continue
                if self.mode == "delay":
                    await asyncio.sleep(self.DELAY)
                while self.mode == "slow" and data:
                    writer.write(data[: self.SLOW // 10])
                    data = data[self.SLOW // 10 :]
                    await asyncio.sleep(0.1)
                writer.write(data)
                await writer.drain()

    def reset(self) -> int:
        """End every open way; how many there were."""
        ended = len(self._open) // 2

        def cut() -> None:
            for writer in list(self._open):
                writer.transport.abort()

        self._loop.call_soon_threadsafe(cut)
        return ended


# -- a world with many runs


LENGTH_SLICES: Final = 24
ACCESSES: Final = 4_000  # of a slice
FRAMES, REGION, VM_PAGES = 4096, 512, 1024


def many_hosts(count: int) -> tuple[Any, list[tuple[Any, Any]]]:
    """The cast, and so many hosts with one VM each, in turns of alice and bob."""
    from tests.conftest import HOST, QUICK, make_cast, wishes
    from webapp.fleet.services import host_create, placement_set
    from webapp.tenants.services import policy_save, vm_create

    cast = make_cast()
    people = [(cast.alice, cast.alpha), (cast.bob, cast.beta)]
    made = []
    for number in range(count):
        by, tenant = people[number % 2]
        host = host_create(by=cast.olga, document={**HOST, "host": f"k{number:03}"})
        vm = vm_create(by=by, tenant=tenant, name=f"vm{number:03}", trace=("sqlite3", "gzip")[number // 2 % 2])
        policy_save(by=by, vm=vm, document=wishes(QUICK, vm=vm.name, tenant=tenant.slug))
        placement_set(by=by, vm=vm, host=host)
        made.append((host, vm))
    return cast, made


def run_on(host: Any, vm: Any, *, seed: int, slices: int | None, accesses: int = ACCESSES, drills: bool = True) -> Any:
    """A run of this VM that is not due yet: its start, and attack drills on the way, whose events must come once."""
    from webapp.runs import engine
    from webapp.runs.models import Act, Run
    from webapp.tenants.models import VirtualMachine

    machine = {"frames": FRAMES, "hypervisor_frames": REGION, "protected_frames": REGION, "cores": 2}
    run = Run.objects.create(
        host=host,
        scenario={"machine": {**machine, "architecture": "hsvm"}, "seed": seed},
        engine_version=engine.ENGINE_VERSION,
        rate=accesses * engine.SLICES_A_SECOND,
        length=slices and slices * accesses - accesses // 3,
        **({"tenant": vm.tenant} if hasattr(Run, "tenant") else {}),
    )
    size = {"vcpus": 1, "memory_mib": VM_PAGES // engine.PAGES_PER_MIB}
    spec = engine.spec_of(name=vm.name, size=size, trace=vm.trace, core=seed % 2, seed=seed, balloon="on")
    Act.objects.create(run=run, vm=vm, kind="start_vm", slice_no=0, data={"spec": spec})
    for place_, attack in ((5, "A01"), (11, "A02"), (17, "A03")) if drills else ():
        Act.objects.create(run=run, vm=vm, kind="drill", slice_no=place_, data={"attack": attack})
    VirtualMachine.objects.filter(pk=vm.pk).update(state=VirtualMachine.State.STARTING)
    return run


def run_undisturbed() -> None:
    """Do every run of the database in this process, each message once and in order."""
    from django.utils import timezone

    from webapp.runs import engine, services
    from webapp.runs.models import Run

    for run in Run.objects.order_by("pk"):
        while run.state == Run.State.RUNNING:
            Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
            services.run_slice(run_id=run.pk, slice_no=run.slice_no)
            run.refresh_from_db()
        engine._hot.clear()


def effects() -> dict[str, Any]:
    """All that runs have done, in a form in which an effect too many or too few shows. Times are left out, and so is
    what tells of the disturbance itself: alerts, and entries about workers that are gone (`workers_left`)."""
    from webapp.audit.models import Entry
    from webapp.audit.services import verify
    from webapp.notices.models import Notice
    from webapp.runs.models import Act, Event, Run

    runs = Run.objects.order_by("pk").values_list("pk", "state", "slice_no", "accesses", "op", "seq", "digest")
    told = Entry.objects.exclude(type__startswith="alert.").exclude(type="worker.left").values_list("line", flat=True)
    said = [{k: v for k, v in json.loads(line).items() if k in ("type", "actor", "subject", "data")} for line in told]
    events = Event.objects.order_by("run", "number").values_list("run", "number", "op", "kind", "title", "outcome")
    return {
        "runs": [list(row) for row in runs],
        "events": [list(row) for row in events],
        "acts": [list(row) for row in Act.objects.order_by("pk").values_list("pk", "state", "slice_no")],
        "audit": sorted(json.dumps(entry, sort_keys=True) for entry in said),
        "notices": sorted(
            map(list, Notice.objects.exclude(user__username="olga").values_list("user__username", "event__code"))
        ),
        "chain": verify()["valid"],
    }


def workers_left() -> list[str]:
    """The names of the workers of which the log says that they are gone."""
    from webapp.audit.models import Entry

    entries = Entry.objects.filter(type="worker.left").values_list("line", flat=True)
    return [json.loads(line)["data"]["name"] for line in entries]


# -- the processes themselves


def main() -> int:
    """What `manage.py demo` does, on the database as it stands and without the story."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--undisturbed", action="store_true", help="only do all runs in this process")
    args = parser.parse_args()
    os.environ.update(DJANGO_SETTINGS_MODULE="webapp.settings", HSVM_TLS="0", HSVM_PORT=str(args.port))
    import django

    django.setup()
    if args.undisturbed:
        run_undisturbed()
        return 0
    return serve(args.port)


def serve(port: int) -> int:
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from webapp.ops import demo
    from webapp.ops.management.commands.demo import wait_ready
    from webapp.ops.supervisor import GaveUp, Supervisor

    held = demo.lock(settings.RUN_DIR)
    call_command("migrate", verbosity=0, interactive=False)
    connections.close_all()
    sock = settings.RUN_DIR / "valkey.sock"
    supervisor = Supervisor(demo.children(port, sock))
    way = os.environ.get("GOAL_REDIS_WAY")  # a proxy's socket, through which all processes go
    for child in supervisor.children:
        child.command = [word for word in child.command if word != "--story"]
        if way:
            child.environment["HSVM_REDIS"] = f"unix://{way}"
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    signal.signal(signal.SIGINT, lambda *_: over.set())
    try:
        supervisor.start("valkey", "keeper", "worker", "web")
        wait_ready(supervisor, port)
        print(f"ready http://127.0.0.1:{port}", flush=True)
        while not over.wait(0.2):
            supervisor.watch()
    except GaveUp as reason:
        print(reason, file=sys.stderr)
        return 1
    finally:
        supervisor.stop()
        held.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
