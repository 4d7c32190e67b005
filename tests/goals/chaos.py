"""Chaos: processes are killed, Redis is lost, ways are bad; nothing is lost, nothing is done twice, views come back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil

from benchmarks._viewers import Client, digest_of
from tests.e2e.stack import ROOT, free_port, inherited
from tests.goals import stack
from tests.goals.stack import FaultProxy, Place, Site, answers, effects, ping, until, within

RESUMED_SECONDS, RIGHT_SECONDS = 15.0, 10.0


# -- K1


def kills(place: Place) -> dict[str, Any]:
    """10 kills of a pool process, 5 of the whole worker, 5 of the web process, while all runs are under way."""
    place.django()
    from webapp.runs.models import Run

    runs = place.count(60, 6)
    prepared(place, runs)
    expected = undisturbed(place)
    plan = ["pool"] * place.count(10, 2) + ["worker"] * place.count(5, 1) + ["web"] * place.count(5, 1)
    place.random.shuffle(plan)
    resumed: dict[str, list[float]] = {"pool": [], "worker": [], "web": []}
    late = 0
    with place.site(HSVM_SLOWER="1") as site:
        all_due()
        until(lambda: Run.objects.filter(slice_no__gte=1).count() >= runs // 2, 120, "the first slices")
        for kind in plan:
            found = killed(place, site, kind)
            late += found is None
            resumed[kind].append(RESUMED_SECONDS if found is None else found)
        at_last_kill = Run.objects.filter(state=Run.State.RUNNING).count()
        over = within(lambda: not Run.objects.filter(state=Run.State.RUNNING).exists(), 150)
    got, left = effects(), stack.workers_left()
    once = len(set(left)) == len(left) <= plan.count("worker")  # each that was killed, and no other
    differ = {name: differing(expected[name], got[name]) for name in expected if expected[name] != got[name]}
    lost = sum(row[1] != Run.State.DONE for row in got["runs"])
    same = sum(a == b for a, b in zip(expected["runs"], got["runs"], strict=True))
    return {
        "ok": over is not None and not lost and not differ and not late and once and at_last_kill > 0 and got["chain"],
        "runs": runs,
        "kills": len(plan),
        "running_at_last_kill": at_last_kill,
        "lost": lost,
        "same_digest_slices_accesses": same,
        "events": len(got["events"]),
        "audit_entries": len(got["audit"]),
        "workers_left": len(left),
        "differ": differ,
        "resumed_max_s": {kind: round(max(times), 1) for kind, times in resumed.items() if times},
        "late": late,
    }


def prepared(place: Place, runs: int) -> None:
    """Runs that are not due yet, with drills on their way."""
    from django.db import connections

    _, made = stack.many_hosts(runs)
    for number, (host, vm) in enumerate(made):
        stack.run_on(host, vm, seed=place.seed * 1000 + number, slices=stack.LENGTH_SLICES)
    connections.close_all()


def all_due() -> None:
    from django.utils import timezone

    from webapp.runs.models import Run

    Run.objects.update(due_at=timezone.now())


def undisturbed(place: Place) -> dict[str, Any]:
    """What the same runs come to when nothing happens to them: on a copy of the database, by one process alone."""
    twin = place.folder / "twin"
    shutil.copytree(place.run_dir, twin, ignore=shutil.ignore_patterns("*.sock"))
    if place.postgres:
        from django.db import connection

        connection.close()
        connection.close_pool()  # a template must be nobody's
        place.postgres.psql("CREATE DATABASE twin TEMPLATE vpms")
    environment = {**inherited(twin), "HSVM_REDIS": f"unix://{twin / 'none.sock'}", "HSVM_LOG": "CRITICAL"}
    environment |= place.database("twin")
    command = [sys.executable, "-m", "tests.goals.stack", "--port", str(place.port)]
    subprocess.run([*command, "--undisturbed"], cwd=ROOT, env=environment, check=True, timeout=200)
    return on_other_database("twin" if place.postgres else str(twin / "vpms.sqlite3"), effects)


def on_other_database(name: str, ask: Callable[[], Any]) -> Any:
    """Ask the database of this name, or in this file."""
    from django.db import connection

    def use(name: str) -> None:
        connection.close()
        if connection.vendor == "postgresql":
            connection.close_pool()
        connection.settings_dict["NAME"] = name

    own = connection.settings_dict["NAME"]
    use(name)
    try:
        return ask()
    finally:
        use(own)


def killed(place: Place, site: Site, kind: str) -> float | None:
    """Seconds after the kill until everything that was interrupted went on; None: not in time."""
    from webapp.runs.models import Run

    time.sleep(place.random.uniform(0.5, 1.5))
    if kind == "web":
        gone = site.pid_of("web")
        site.kill("web")
        return within(lambda: site.pid_of("web") not in (None, gone) and answers(site), RESUMED_SECONDS)
    leased = Run.objects.filter(state=Run.State.RUNNING, lease_until__isnull=False)
    until(lambda: site.pool() and leased.exists(), 60, "a slice under way")
    if kind == "pool":
        with contextlib.suppress(psutil.Error):
            place.random.choice(site.pool()).kill()
    else:
        site.kill("worker")
    struck = dict(leased.values_list("pk", "slice_no"))

    def went_on() -> bool:
        now = Run.objects.filter(pk__in=struck).values_list("pk", "slice_no", "state")
        return all(slice_no > struck[pk] or state != Run.State.RUNNING for pk, slice_no, state in now)

    return within(went_on, RESUMED_SECONDS)


def differing(expected: Any, got: Any) -> list[Any]:
    """The first rows that are only on one side."""
    if not isinstance(expected, list):
        return [expected, got]
    here, there = (Counter(json.dumps(row) for row in rows) for rows in (expected, got))
    return [[json.loads(row) for row in side][:3] for side in (here - there, there - here)]


# -- K2, K3: Redis and the ways to it


class Watchers:
    """Protocol clients in a thread; each notes when it came to which step, and the digest of what it then showed."""

    def __init__(self, port: int, origin: str, sessions: list[str], topics: list[str]) -> None:
        self.clients = [
            Watcher({"port": port, "path": "/ws/", "origin": origin, "topic": topic, "sessions": sessions}, number)
            for number, topic in enumerate(topics)
        ]
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        tasks = [self._loop.create_task(client.live()) for client in self.clients]
        self._loop.run_until_complete(asyncio.gather(*tasks))


class Watcher(Client):
    def __init__(self, asked: dict[str, Any], number: int) -> None:
        super().__init__(asked, number)
        self.run = int(asked["topic"].split("/")[1])
        self.shown: list[tuple[int, float, str]] = []

    def take(self, frame: bytes) -> bool:
        before = self.seq
        taken = super().take(frame)
        if taken and self.seq != before:
            assert self.seq is not None
            self.shown.append((self.seq, time.monotonic(), digest_of(self.seq, bytes(self.cells))))
        return taken


def redis_away(place: Place) -> dict[str, Any]:
    acts = ["kill"] * place.count(5, 1) + ["reset"] * place.count(5, 1)
    place.random.shuffle(acts)
    return watched_under(place, acts)


def redis_wiped(place: Place) -> dict[str, Any]:
    return watched_under(place, ["flush"] * place.count(5, 2))


def watched_under(place: Place, acts: list[str]) -> dict[str, Any]:
    """Runs that are watched while this happens to Redis and to the ways, one after the other."""
    place.django()
    from webapp.runs.models import Run

    runs = place.count(6, 3)
    cast, made = stack.many_hosts(runs)
    slices = 12 + 9 * len(acts)
    rows = [stack.run_on(h, vm, seed=place.seed * 1000 + n, slices=slices) for n, (h, vm) in enumerate(made)]
    sessions = [stack.session_of(cast.olga) for _ in range(2)]
    redis_way = FaultProxy(place.run_dir / "way.sock", place.run_dir / "valkey.sock")
    web_way = FaultProxy(free_port(), place.port)
    back: list[float | None] = []
    went: list[float | None] = []
    with place.site(HSVM_SLOWER="4", GOAL_REDIS_WAY=str(place.run_dir / "way.sock")) as site:
        all_due()
        until(lambda: Run.objects.filter(slice_no__gte=1).count() == runs, 60, "the first slices")
        topics = [f"run/{run.pk}/map" for run in rows for _ in range(2)]
        watchers = Watchers(int(str(web_way.listen)), site.url, sessions, topics)
        until(lambda: all(client.shown for client in watchers.clients), 30, "the first frames")
        for act in acts:
            time.sleep(place.random.uniform(1, 2))
            disturb(place, site, act, redis_way, web_way)
            heads = dict(Run.objects.values_list("pk", "seq"))
            back.append(within(lambda heads=heads: caught_up(watchers, heads, news=1), RIGHT_SECONDS))
            went.append(within(lambda heads=heads: all_on(heads), RESUMED_SECONDS))
        over = within(lambda: not Run.objects.filter(state=Run.State.RUNNING).exists(), 120)
        heads = dict(Run.objects.values_list("pk", "seq"))
        at_end = within(lambda: caught_up(watchers, heads), RIGHT_SECONDS)
        reconnects = sum(client.drops for client in watchers.clients)
    wrong, shown = wrongly_shown(watchers, rows)
    lost = Run.objects.exclude(state=Run.State.DONE).count()
    return {
        "ok": None not in [*back, *went, over, at_end] and not lost and not wrong,
        "runs": runs,
        "acts": {act: acts.count(act) for act in sorted(set(acts))},
        "lost": lost,
        "clients": len(watchers.clients),
        "right_again_max_s": worst(back),
        "runs_on_max_s": worst(went),
        "missed": [act for act, *took in zip(acts, back, went, strict=True) if None in took],
        "pictures_compared": shown,
        "wrong_pictures": wrong,
        "final_digests": at_end is not None,
        "reconnects": reconnects,
    }


def worst(times: list[float | None]) -> float | None:
    """The longest; None: one did not happen in time."""
    return None if None in times else round(max(t for t in times if t is not None), 1)


def disturb(place: Place, site: Site, act: str, redis_way: FaultProxy, web_way: FaultProxy) -> None:
    """Do it, and wait until Redis is there again."""
    import redis

    if act == "kill":
        gone = site.pid_of("valkey")
        site.kill("valkey")
        until(lambda: site.pid_of("valkey") not in (None, gone) and ping(place.redis_url), 30, "the return of Redis")
    elif act == "reset":
        redis_way.reset()
        web_way.reset()
    elif act == "flush":
        redis.Redis.from_url(place.redis_url).flushall()
    else:
        redis_way.mode = web_way.mode = act
        time.sleep(6)
        redis_way.mode = web_way.mode = "pass"


def caught_up(watchers: Watchers, heads: dict[int, int], *, news: int = 0) -> bool:
    """Whether every client shows the step that its run stood at, or so many steps more."""
    return all((client.seq or 0) >= heads[client.run] + news for client in watchers.clients)


def all_on(heads: dict[int, int]) -> bool:
    """Whether every run has done a slice since, or is over."""
    from webapp.runs.models import Run

    return all(seq > heads[pk] or state != Run.State.RUNNING for pk, seq, state in
               Run.objects.values_list("pk", "seq", "state"))  # fmt: skip


def wrongly_shown(watchers: Watchers, rows: list[Any]) -> tuple[int, int]:
    """How many pictures are not what the engine has at that step, of all that were shown. It plays the runs anew."""
    from hsvm_engine import wire
    from webapp.runs import engine, services
    from webapp.runs.models import Run

    wrong = shown = 0
    for row in rows:
        run = Run.objects.get(pk=row.pk)
        player = engine.Player(engine.Scenario(**run.scenario), traces=engine.UPLOADS)
        orders = services.orders_of(run=run, first=0, below=run.slice_no)
        truth = {}
        for number in range(run.slice_no):
            plan = engine.plan_of(rate=run.rate, length=run.length, slice_no=number)
            for step in engine.play(player, plan, orders.get(number, []), engine.Outcome(0, 0)):
                state = wire.State.from_player(player)
                truth[step.number] = digest_of(step.number, wire._bytes_of(state.vms, None)[state.owners].tobytes())
        for client in watchers.clients:
            if client.run == run.pk:
                shown += len(client.shown)
                wrong += sum(truth.get(seq) != digest for seq, _, digest in client.shown)
        wrong += player.digest() != run.digest
    return wrong, shown
