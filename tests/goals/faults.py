"""Bad ways between the processes, a full disk, and a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import psutil

from tests.goals import stack
from tests.goals.chaos import RESUMED_SECONDS, all_due, all_on, prepared, undisturbed, watched_under
from tests.goals.probes import UNLIMITED, exchange, request
from tests.goals.stack import Place, answers, effects, until, within

FULL_BYTES: Final = 4096  # no file of a process on a full disk grows past this


def bad_ways(place: Place) -> dict[str, Any]:
    """Delay, loss, half-open and slow ways to Redis and between the site and its viewers, six seconds each."""
    return watched_under(place, ["delay", "drop", "half-open", "slow"])


# -- full disk


def full_disk(place: Place) -> dict[str, Any]:
    """The worker and then the web process can write no file: clear refusals, nothing half done, and they recover."""
    place.django()
    from tests.conftest import CAREFUL, wishes
    from webapp.runs.models import Run
    from webapp.tenants.models import VirtualMachine

    prepared(place, place.count(6, 3))
    expected = undisturbed(place)
    vm = VirtualMachine.objects.get(name="a-db")
    from webapp.accounts.models import User

    session = stack.session_of(User.objects.get(username="alice"))
    document = json.dumps(wishes(CAREFUL, vm="a-db", tenant="alpha", version=2)).encode()
    put = request("PUT", "/api/vms/a-db/policy", cookie=session, body=document, If_Match="*")
    with place.site(**{**UNLIMITED, "HSVM_SLOWER": "4"}) as site:
        all_due()
        until(lambda: Run.objects.filter(slice_no__gte=2).exists(), 60, "the first slices")
        worker = [site.process_of("worker"), *site.pool()]
        with no_room(worker):
            time.sleep(8)
        heads = dict(Run.objects.values_list("pk", "seq"))
        on = within(lambda: all_on(heads), RESUMED_SECONDS)
        with no_room([site.process_of("web")]):
            refused = asyncio.run(exchange(site.port, put, ends=False, seconds=30))
            read = asyncio.run(exchange(site.port, request("GET", "/api/vms", cookie=session), ends=False, seconds=30))
        half = vm.policies.count() - 1
        taken = asyncio.run(exchange(site.port, put, ends=False, seconds=30))
        over = within(lambda: not Run.objects.filter(state=Run.State.RUNNING).exists(), 120)
        alive = answers(site)
    got = effects()
    same = got["runs"] == expected["runs"] and got["events"] == expected["events"] and got["acts"] == expected["acts"]
    clear = refused.status == 503 and b'"code"' in refused.body
    return {
        "ok": on is not None and over is not None and same and got["chain"] and clear and half == 0 and alive
        and taken.status < 300,
        "runs": len(got["runs"]), "runs_on_s": on and round(on, 1), "same_effects": same, "chain": got["chain"],
        "write_refused": refused.status, "told": refused.body[:200].decode(errors="replace"), "read": read.status,
        "half_done": half, "write_after": taken.status, "alive": alive,
    }  # fmt: skip


@contextlib.contextmanager
def no_room(processes: list[psutil.Process]) -> Any:
    """Files of these processes can not grow, as on a full disk."""
    try:
        for process in processes:
            process.rlimit(psutil.RLIMIT_FSIZE, (FULL_BYTES, psutil.RLIM_INFINITY))
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))


# -- the clock


def clock_jumps(place: Place) -> dict[str, Any]:
    """The wall clock of all processes goes forward an hour, back two, and forward again, while runs are under way."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        return {"ok": False, "error": "a C compiler is needed for the clock"}
    place.django()
    from webapp.runs.models import Run

    library, clock = place.folder / "clock.so", place.folder / "clock"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True, timeout=60)
    clock.write_bytes(bytes(8))
    prepared(place, place.count(6, 3))
    expected = undisturbed(place)
    on: dict[str, float | None] = {}
    with place.site(HSVM_SLOWER="8", LD_PRELOAD=str(library), GOAL_CLOCK=str(clock)) as site:
        all_due()
        until(lambda: Run.objects.filter(slice_no__gte=2).exists(), 60, "the first slices")
        for name, seconds in (("forward 1 h", 3600), ("back 2 h", -3600), ("forward 1 h again", 0)):
            with clock.open("r+b") as file:
                file.write(seconds.to_bytes(8, "little", signed=True))
            heads = dict(Run.objects.values_list("pk", "seq"))
            on[name] = within(lambda heads=heads: all_on(heads), RESUMED_SECONDS)
            time.sleep(2)
        over = within(lambda: not Run.objects.filter(state=Run.State.RUNNING).exists(), 120)
        alive = answers(site)
    got = effects()
    differ = [name for name in expected if expected[name] != got[name]]
    return {
        "ok": None not in on.values() and over is not None and not differ and alive,
        "runs": len(got["runs"]),
        "by": "a library of our own (clock.c); libfaketime is not needed",
        "on_s": {name: took and round(took, 1) for name, took in on.items()},
        "differ": differ,
        "alive": alive,
    }
