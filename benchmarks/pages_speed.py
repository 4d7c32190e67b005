"""Every page on the big platform of `manage.py demo --scale large`: prints one JSON object.

- `pages`: for each address and role the p95 of the server's time for a whole request in this process (`p95_ms`: wall
  clock, `cpu_ms`: median of the processor's time, which a busy machine does not change) and its database queries.
- `p50_ms`, `p95_ms`, `p95_cpu_ms`: of all requests; `slowest`: five pages by the processor's time;
  `most_queries`: the largest number that a page needs.
- `fcp_ms`: first contentful paint of the main pages in a real Chromium, from a real web process on loopback; the
  median of three loads of each.

The data are made anew in a directory of their own, or are those of the run directory that HSVM_RUN_DIR names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MAIN = {"alice": ("/tenant/", "/tenant/conflicts/", "/tenant/agreements/", "/tenant/audit/"),
        "olga": ("/operator/", "/operator/conflicts/", "/operator/agreements/", "/operator/audit/")}  # fmt: skip


def addresses() -> list[tuple[str, str]]:
    """(person, address) of every page that answers to a GET, with real objects in the places of its route."""
    from django.urls import URLPattern, URLResolver, get_resolver

    def walk(resolver: Any, prefix: str = "") -> Iterator[str]:
        for entry in resolver.url_patterns:
            route = prefix + str(entry.pattern)
            if isinstance(entry, URLResolver):
                yield from walk(entry, route)
            elif isinstance(entry, URLPattern):
                yield "/" + route

    found = []
    for route in sorted(set(walk(get_resolver()))):
        if "lines" in route or "sign-out" in route or "docs" in route:
            continue  # whole logs to take away are streamed
        for person in ("alice", "olga", "ines"):
            path = filled(route, person)
            if path is not None:
                found.append((person, path))
    return found


def filled(route: str, person: str) -> str | None:
    """The route with things in it that the person may see; None if there are none."""
    from webapp.accounts.models import User
    from webapp.agreements.models import Negotiation
    from webapp.agreements.papers import agreements_of
    from webapp.agreements.selectors import negotiations_of
    from webapp.classroom.models import Cell
    from webapp.fleet.models import Host
    from webapp.runs.selectors import runs_of
    from webapp.tenants.models import VirtualMachine

    if "<" not in route:
        return route
    user = User.objects.get(username=person)
    vm = VirtualMachine.objects.visible_to(user).filter(seats__isnull=False).first()
    rooms = negotiations_of(user=user)
    first = {
        "negotiation": rooms.filter(state=Negotiation.State.PROPOSED).first() or rooms.first(),
        "agreement": agreements_of(user=user).first(),
        "run": runs_of(user=user).first(),
        "cell": Cell.objects.first(),
    }
    name = vm.name if vm and "host" not in route else vm.placement.host.name if vm else ""
    if not vm and "host" in route:
        name = Host.objects.filter(negotiations__isnull=False).first().name  # type: ignore[union-attr]
    kind = next((kind for kind in first if kind in route), "")
    row = first.get(kind)
    values = {"name": name, "pk": row.pk if row else None, "version": 1, "kind": "policy"}
    wanted = re.findall(r"<(?:\w+:)?(\w+)>", route)
    if any(not values.get(word) for word in wanted):
        return None
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: str(values[match[1]]), route).replace("^", "").replace("$", "")


def measured(rounds: int) -> dict[str, Any]:
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from webapp.accounts.models import User

    clients = {}
    for person in ("alice", "olga", "ines"):
        clients[person] = Client(HTTP_HOST="127.0.0.1")
        clients[person].force_login(User.objects.get(username=person))
    pages, everything, worked = [], [], []
    for person, path in addresses():
        client = clients[person]
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(path)
        asked = len(queries)  # now: the next request begins the list anew
        if answer.status_code != 200 or answer.streaming:
            continue
        walls, cpus = [], []
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            client.get(path)
            walls.append((time.perf_counter() - wall) * 1000)
            cpus.append((time.process_time() - cpu) * 1000)
        everything += walls
        worked += cpus
        pages.append({
            "page": path, "person": person, "queries": asked, "p95_ms": p95(walls),
            "cpu_ms": round(statistics.median(cpus), 1), "bytes": len(answer.content),
        })  # fmt: skip
    slowest = sorted(pages, key=lambda row: -row["cpu_ms"])[:5]
    return {
        "pages": pages,
        "p50_ms": round(statistics.median(everything), 1),
        "p95_ms": p95(everything),
        "p95_cpu_ms": p95(worked),
        "slowest": [[row["person"], row["page"], row["p95_ms"], row["cpu_ms"]] for row in slowest],
        "most_queries": max(row["queries"] for row in pages),
    }


def p95(values: list[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 1)


@contextmanager
def served(run_dir: Path) -> Iterator[str]:
    """A web process with the demo's options on these data, without broker and workers: pages need none."""
    from tests.e2e.stack import free_port

    port = free_port()
    env = {**os.environ, "HSVM_PORT": str(port), "HSVM_BIND": "127.0.0.1"}
    command = [sys.executable, "-m", "uvicorn", "webapp.asgi:application", "--host", "127.0.0.1", "--port", str(port),
               "--loop", "uvloop", "--log-level", "warning", "--no-access-log"]  # fmt: skip
    with (run_dir / "web.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def painted(base: str) -> dict[str, float]:
    """Median first contentful paint of the main pages."""
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore
    from playwright.sync_api import sync_playwright

    from tests.e2e.browser import FLAGS, find
    from webapp.accounts.models import User

    cookies = {}
    for person in MAIN:
        user = User.objects.get(username=person)
        session = SessionStore()
        session[SESSION_KEY] = str(user.pk)
        session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        cookies[person] = session.session_key
    found: dict[str, float] = {}
    script = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        for person, paths in MAIN.items():
            context = browser.new_context()
            cookie = {"name": settings.SESSION_COOKIE_NAME, "value": cookies[person], "url": base}
            context.add_cookies([cookie])  # type: ignore[list-item]
            for path in ("/", *paths):
                times = []
                for _ in range(3):
                    page = context.new_page()
                    page.goto(base + path)
                    # Asked again and again: a function that the page itself would wait for is an eval to its CSP.
                    while (at := page.evaluate(script)) is None:
                        page.wait_for_timeout(20)
                    times.append(at)
                    page.close()
                found[path] = round(statistics.median(times), 1)
        browser.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-browser", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        os.environ.setdefault("HSVM_RUN_DIR", made)
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
        os.environ["HSVM_TLS"] = "0"
        os.environ.setdefault("HSVM_LOG", "ERROR")
        import django

        django.setup()
        from django.conf import settings
        from django.core.management import call_command

        from webapp.ops import scale, story

        call_command("migrate", verbosity=0, interactive=False)
        began = time.monotonic()
        scale.load()
        loaded = time.monotonic() - began
        story.prepare(dict.fromkeys(story.PEOPLE, "correct horse battery staple"))
        scale.welcome(story.User.objects.get(username="alice"))
        report = {"bench": "pages_speed", "load_s": round(loaded, 1)}
        if not given.no_browser:  # first: the rest takes minutes
            with served(settings.RUN_DIR) as base:
                report["fcp_ms"] = painted(base)
        report |= measured(given.rounds)
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
