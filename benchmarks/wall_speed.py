"""The operator's wall in a real Chromium on the real product: prints one JSON object.

- `first_paint_ms`, `server_ms`: the wall of `manage.py demo --scale fleet` (5,000 hosts, 100,000 VMs, an eighth of the
  fleet measured anew each second): first contentful paint, the median of five loads, and the p95 of the server's time
  for the whole page (`server_cpu_ms`: the median of the processor's, which a busy machine does not change).
- `cell_update_p95_ms`: from the measurement of a cell of that fleet to the frame in which the page shows it; `cells`.
- `violation_to_wall_p95_ms`: planted violations on a normal demo, `violations` of them (50): an attack drill on a host
  that cannot protect memory, seen by the page in a cell that turns. Counted from the beginning of the slice in which
  the engine did it, which is earlier than the violation itself; `violation_to_wall_max_ms`.

Milliseconds are of the wall clock, one machine. Parts by name: `python -m benchmarks.wall_speed fleet violations=5`.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WALL = "/operator/wall/"
LOADS, CELLS, ROUNDS = 5, 300, 30
# The page's own note of when it painted a cell, by the server's clock, beside the time of the measurement.
WATCH_CELLS = """() => {
  window.updates = [];
  new MutationObserver((all) => {
    for (const {target} of all) updates.push(Number(target.dataset.paintedAt) - Number(target.dataset.at));
  }).observe(document.querySelector('#wall'), {subtree: true, attributes: true, attributeFilter: ['data-painted-at']});
}"""
WATCH_HOST = """(host) => {
  window.turned = [];
  let before = '';
  const look = () => {
    const now = document.querySelector(`tr[data-host="${host}"] td[data-check="ownership"]`)?.dataset.state ?? '';
    if (now === 'violation' && before !== now) requestAnimationFrame(() => turned.push(Date.now()));
    before = now;
  };
  new MutationObserver(look).observe(document.querySelector('#wall'),
    {subtree: true, childList: true, attributes: true, attributeFilter: ['data-state']});
}"""


def p95(values: list[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(0.95 * len(values)))], 1)


def django_at(run_dir: Path) -> None:
    """This process reads the demo's own database."""
    os.environ.update(HSVM_RUN_DIR=str(run_dir), HSVM_TLS="0", DJANGO_SETTINGS_MODULE="webapp.settings")
    os.environ.setdefault("HSVM_LOG", "ERROR")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    import django

    django.setup()


@contextlib.contextmanager
def looked_at(demo: Any) -> Iterator[Any]:
    """A page of the operator's in a browser of its own."""
    from playwright.sync_api import sync_playwright

    from tests.e2e.browser import FLAGS, find
    from tests.e2e.stack import PASSWORD

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        context = browser.new_context(base_url=demo.url)
        context.set_default_timeout(120_000)
        page = context.new_page()
        page.goto("/sign-in/")
        page.get_by_label("Name").fill("olga")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/sign-in/" not in url)
        yield page
        browser.close()


def fleet(run_dir: Path) -> dict[str, Any]:
    from tests.e2e.stack import Demo

    class Fleet(Demo):
        more = ("--scale", "fleet")

    demo = Fleet(run_dir, HSVM_SLOWER="1")
    try:
        demo.wait_ready(1200)
        found = {**shown(demo), **served()}
    finally:
        demo.stop()
    return found


def shown(demo: Any) -> dict[str, Any]:
    script = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
    with looked_at(demo) as page:
        paints = []
        for _ in range(LOADS):
            page.goto(WALL)
            page.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
            paints.append(page.evaluate(script))
        page.wait_for_function("() => document.querySelector('#wall').dataset.state === 'live'")
        page.evaluate(WATCH_CELLS)
        page.wait_for_function(f"() => updates.length >= {CELLS}", timeout=300_000)
        updates = page.evaluate("() => updates")
    return {
        "first_paint_ms": round(statistics.median(paints), 1),
        "cell_update_p95_ms": p95(updates),
        "cells": len(updates),
    }


def served() -> dict[str, Any]:
    """The server's share, in this process, which is set up as a web process is."""
    from django.test import Client

    import webapp.asgi  # noqa: F401  what it loads is no garbage, and is never looked through again
    from webapp.accounts.models import User
    from webapp.fleet.models import Host
    from webapp.tenants.models import VirtualMachine

    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(User.objects.get(username="olga"))
    client.get(WALL)
    walls, cpus = [], []
    for _ in range(ROUNDS):
        wall, cpu = time.perf_counter(), time.process_time()
        assert client.get(WALL).status_code == 200
        walls.append((time.perf_counter() - wall) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
    counts = {"hosts": Host.objects.count(), "vms": VirtualMachine.objects.count()}
    return {"server_ms": p95(walls), "server_cpu_ms": round(statistics.median(cpus), 1), **counts}


# -- violations


def host_planted() -> tuple[str, int, str]:
    """A host that cannot protect memory, with one VM on it that runs; its name, its number, the VM's name."""
    from django.utils import timezone

    from webapp.accounts.models import User
    from webapp.fleet.services import host_create, placement_set
    from webapp.ops.story import host_document
    from webapp.runs import engine
    from webapp.runs.models import Act, Run
    from webapp.runs.services import DEMO_RATE
    from webapp.tenants.models import Tenant, VirtualMachine
    from webapp.tenants.services import vm_create

    people = {user.username: user for user in User.objects.all()}
    document = host_document("n1")
    document["capabilities"] = {**document["capabilities"], "memory_protection": ["none"]}
    host = host_create(by=people["olga"], document=document)
    vm = vm_create(by=people["bob"], tenant=Tenant.objects.get(slug="beta"), name="b-open", trace="gzip")
    placement_set(by=people["bob"], vm=vm, host=host)
    run = Run.objects.create(
        host=host,
        scenario=engine.scenario_of(document=document, seed=7),
        engine_version=engine.ENGINE_VERSION,
        rate=DEMO_RATE,
        due_at=timezone.now(),
    )
    size = {"vcpus": 1, "memory_mib": 8}
    spec = engine.spec_of(name=vm.name, size=size, trace="gzip", core=0, seed=1, balloon="none")
    Act.objects.create(run=run, vm=vm, kind="start_vm", slice_no=0, data={"spec": spec})
    VirtualMachine.objects.filter(pk=vm.pk).update(state=VirtualMachine.State.STARTING)
    return host.name, host.pk, vm.name


def violations(run_dir: Path, count: int) -> dict[str, Any]:
    from tests.e2e.stack import Demo
    from webapp.ops.management.commands.demo import prepare

    os.environ["DEMO_PASSWORD"] = "correct horse battery staple"
    prepare()
    name, pk, vm = host_planted()
    demo = Demo(
        run_dir, HSVM_SLOWER="1", HSVM_CHECK_SECONDS="1"
    )  # a cell stays for an interval: else a round takes 5 s
    try:
        demo.wait_ready(600)
        delays = list(told(demo, name, pk, vm, count))
    finally:
        demo.stop()
    return {
        "violation_to_wall_p95_ms": p95(delays),
        "violation_to_wall_max_ms": round(max(delays), 1),
        "violations": len(delays),
    }


def told(demo: Any, name: str, pk: int, vm: str, count: int) -> Iterator[float]:
    """Milliseconds from the slice in which each violation was brought about to the frame that shows it."""
    from webapp.runs.models import Delay

    cell = f'tr[data-host="{pk}"] td[data-check="ownership"]'
    with looked_at(demo) as page:
        page.goto(WALL)
        page.wait_for_selector(f'{cell}[data-state="ok"]')
        page.evaluate(WATCH_HOST, pk)
        for number in range(count):
            page.wait_for_selector(f'{cell}:not([data-state="violation"])')
            seen = page.context.cookies()
            token = next(each["value"] for each in seen if "csrf" in each["name"])
            asked = page.request.post(
                f"/api/hosts/{name}/acts",
                data={"kind": "drill", "vm": vm, "attack": "A03"},
                headers={"X-CSRFToken": token, "Referer": demo.url},
            )
            assert asked.ok, asked.text()
            page.wait_for_function(f"() => turned.length > {number}", timeout=60_000)
            at = page.evaluate(f"() => turned[{number}]")
            row = Delay.objects.filter(kind="detect").order_by("-id")[0]
            yield at - (row.at.timestamp() * 1000 - row.ms)


def main() -> int:
    parts = dict(part.partition("=")[::2] for part in sys.argv[1:]) or {"fleet": "", "violations": ""}
    found: dict[str, Any] = {}
    for part, number in parts.items():
        # Each in a process of its own: Django knows one database.
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with tempfile.TemporaryDirectory() as made:
                run_dir = Path(os.environ.get("HSVM_RUN_DIR") or made)
                django_at(run_dir)
                result = fleet(run_dir) if part == "fleet" else violations(run_dir, int(number or 50))
            os.write(write, json.dumps(result).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        if not text:
            return 1
        found |= json.loads(text)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
