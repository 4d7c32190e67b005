"""The live views' budgets, measured in a real Chromium on the real path: prints one JSON object.

Real are the web process (uvicorn with the demo's options), valkey, the hub, the socket and the page; steps are
published by this process (benchmarks/_live.py), so no engine competes for the processor. What each figure is:

- `keyframe_bytes`, `first_paint_ms`: a synthetic map of 16,777,216 pages (benchmarks/map_size.py); from the page's
  request to the frame in which the map stands on the screen; the slowest of three page loads, of which the first has
  the web process read the map for the first time.
- `frame_p95_ms`: 120 wheel, drag and key events on that map. Counted from Chromium's trace is all that the page's main
  thread does from one such event to the next: handlers, script, style, layout, paint, commit, garbage collection.
  What raster threads do beside it is not.
- `event_to_pixel_p95_ms`, `event_to_pixel_50_p95_ms`: steps of the real engine on the demo's map, 10 a second, from
  the moment of publication to the first painted frame that has them; alone, and beside 49 clients.
- `scrub_ms`: p95 of 40 jumps to random operations of a run of 1,000,000, from the dock's "go to" to the map painted.
- `reconnect_ms`, `missed`, `doubled`: ten forced drops under a browser and ten protocol clients. The longest time from
  the first try that can succeed to the painted head; numbers that are missing after the last resync, a wrong digest
  counting as one, and numbers that came twice.
- `sockets_400_lost`, `sockets_400_p95_ms`, `web_rss_mb`: 400 protocol clients, 5 steps a second of 400 pages (2 kB) in
  a fresh web process; clients whose state differs from the server's in the end, delay of each step to each client, and
  the process's largest resident size (MiB).
- `delta_1000_bytes`: one message that changes 1,000 pages, as a client receives it. `js_gzip_kb`: all that is shipped.
- `fanout_ratio`: 200 steps of 2 kB are published as fast as they can be, to 50 viewers; steps that reached viewers, a
  second, over the same for a plain group broadcast (benchmarks/_plain.py). A frame that merges several steps delivers
  each of them: that is what the path is for. The counts of frames go to stderr.

Milliseconds are of the wall clock, one machine. Parts of it by name: `python -m benchmarks.live_speed big reconnect`.
"""

from __future__ import annotations

import asyncio
import bisect
import gzip
import json
import os
import random
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks._live import ROOT, Proxy, Run, Stack, Viewers, stack, with_vms
from benchmarks._viewers import HEADER
from benchmarks.map_size import BIG, VMS, synthetic_owners
from hsvm_engine import wire
from hsvm_engine.play import Player
from hsvm_engine.scenarios import demo
from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import free_port

KEYS = [
    "keyframe_bytes", "first_paint_ms", "frame_p95_ms", "event_to_pixel_p95_ms",
    "event_to_pixel_50_p95_ms", "scrub_ms", "reconnect_ms", "missed",
    "doubled", "sockets_400_lost", "sockets_400_p95_ms", "web_rss_mb",
    "delta_1000_bytes", "js_gzip_kb", "fanout_ratio",
]  # fmt: skip
STEPS, PAGES_OF_2KB, DROPS, BROADCASTS, JUMPS = 80, 400, 10, 200, 40
MAP = '[data-view="ownership-map"]'
# Notes when the page asks for the map, tries to connect, and has a step on the screen: the message channel's task
# follows the frame in which the view changed its number.
WATCH = """
  window.bench = {subscribed: 0, keyframe: 0, tries: [], painted: [], steps: []};
  const Plain = window.WebSocket;
  window.WebSocket = class extends Plain {
    constructor(...given) {
      bench.tries.push(Date.now());
      super(...given);
      this.addEventListener('message', ({data}) => {
        if (!(data instanceof ArrayBuffer)) return;
        const head = new DataView(data), keyframe = head.getUint8(3) === 1;
        if (keyframe) bench.keyframe ||= data.byteLength;
        bench.steps.push([keyframe, head.getUint32(12, true), head.getUint32(8, true)]);
      });
    }
    send(text) {
      if (text.includes('"subscribe"') && text.includes('/map"')) bench.subscribed ||= Date.now();
      super.send(text);
    }
  };
  new MutationObserver((rows) => {
    for (const {target} of rows) {
      if (target.dataset.view !== 'ownership-map') continue;
      const seq = Number(target.dataset.seq), channel = new MessageChannel();
      channel.port1.onmessage = () => bench.painted.push([seq, Date.now()]);
      channel.port2.postMessage(0);
    }
  }).observe(document, {subtree: true, attributes: true, attributeFilter: ['data-seq']});
"""
# From the dock's "go to" to the frame in which the map shows that operation.
JUMP = """async (op) => {
  const field = document.querySelector('[data-view=timeline] input[type=number]');
  const map = document.querySelector('[data-view=ownership-map]');
  const begun = performance.now();
  field.value = String(op);
  field.form.requestSubmit();
  while (Number(map.dataset.op) !== op) {
    if (performance.now() > begun + 10000) return null;
    await new Promise(requestAnimationFrame);
  }
  await new Promise((done) => setTimeout(done));
  return performance.now() - begun;
}"""
MAIN_THREAD = {
    "EventDispatch", "FireAnimationFrame", "FunctionCall", "RunMicrotasks", "TimerFire", "HitTest", "ParseHTML",
    "UpdateLayoutTree", "Layout", "PrePaint", "Paint", "Layerize", "Commit", "UpdateLayer", "MinorGC", "MajorGC",
}  # fmt: skip
INPUT = {"wheel", "keydown", "pointermove", "pointerdown"}


def p95(values: list[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * 0.95))], 1)


def open_page(browser: Browser, made: Stack, host: str, url: str = "") -> Page:
    """The host's page, watched, as an operator who is signed in."""
    context = browser.new_context(base_url=url or made.url, viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "session", "value": made.sessions[0], "url": made.url}])
    context.add_init_script(WATCH)
    page = context.new_page()
    page.goto(f"/operator/host/{host}/")
    return page


def at_step(page: Page, seq: int, seconds: float = 20) -> None:
    page.wait_for_function(f"() => bench.painted.at(-1)?.[0] >= {seq}", timeout=1000 * seconds)


def delays(sent: dict[int, float], seen: list[tuple[int, float]]) -> list[float]:
    """Milliseconds from each step's publication until it, or a later one that holds it, was seen."""
    numbers = [seq for seq, _ in seen]
    found = []
    for seq, at in sent.items():
        place = bisect.bisect_left(numbers, seq)
        if place < len(seen):
            found.append(1000 * (seen[place][1] - at))
    return found


# --- the full map


def big(browser: Browser, made: Stack) -> dict[str, Any]:
    run = made.run("big", with_vms(Player(demo()).state(), synthetic_owners(BIG), VMS))
    paints, size = [], 0
    for _ in range(3):
        page = open_page(browser, made, run.host)
        at_step(page, 1, 60)
        noted = page.evaluate("bench")
        paints.append(noted["painted"][0][1] - noted["subscribed"])
        size = noted["keyframe"]
        if len(paints) < 3:
            page.context.close()
    costs = frame_costs(browser, page)
    page.context.close()
    note(f"first paints {paints} ms; {len(costs)} frames, median {sorted(costs)[len(costs) // 2]:.1f} ms")
    return {"keyframe_bytes": size, "first_paint_ms": max(paints), "frame_p95_ms": p95(costs)}


def frame_costs(browser: Browser, page: Page) -> list[float]:
    """Milliseconds of the main thread for each input event that led to a frame."""
    box = page.locator(f"{MAP} canvas").first.bounding_box()
    assert box is not None
    page.wait_for_timeout(1500)  # tables are filled a second after the first frame
    x, y = box["x"] + box["width"] / 2, min(box["y"] + box["height"] / 2, 800)
    page.mouse.move(x, y)
    browser.start_tracing(page=page, categories=["devtools.timeline"])
    for turn in range(4):
        for _ in range(10):
            act(page, lambda: page.mouse.wheel(0, -240))
        page.mouse.down()
        for step in range(10):
            act(page, partial(page.mouse.move, x + 9 * step * (-1) ** turn, y + 5 * step))
        page.mouse.up()
        for _ in range(10):
            act(page, lambda: page.mouse.wheel(0, 240))
    return costs_of(json.loads(browser.stop_tracing())["traceEvents"])


def act(page: Page, act_now: Callable[[], object]) -> None:
    act_now()
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def costs_of(events: list[dict[str, Any]]) -> list[float]:
    frames: dict[tuple[int, int], int] = {}
    for event in events:
        if event["name"] == "FireAnimationFrame":
            key = (event["pid"], event["tid"])
            frames[key] = frames.get(key, 0) + 1
    thread = max(frames, key=lambda key: frames[key])
    mine = [e for e in events if (e["pid"], e["tid"]) == thread and e.get("ph") == "X" and e["name"] in MAIN_THREAD]
    costs: list[float] = []
    painted, until = False, 0.0
    for event in sorted(mine, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] < until:
            continue  # inside one that is counted
        until = event["ts"] + event["dur"]
        begins = event["name"] == "EventDispatch" and event["args"]["data"]["type"] in INPUT
        if begins and (painted or not costs):
            costs.append(0.0)
            painted = False
        if costs:
            costs[-1] += event["dur"] / 1000
            painted |= event["name"] == "FireAnimationFrame"
    return costs


# --- delay


def event_to_pixel(browser: Browser, made: Stack) -> dict[str, Any]:
    player = Player(demo())
    run = made.run("steps", player.state())
    page = open_page(browser, made, run.host)
    at_step(page, run.state.number)
    alone = steps_seen(page, run, player)
    others = made.viewers(49, run.topic)
    beside = steps_seen(page, run, player)
    others.end(run.state.number, 5)
    page.context.close()
    return {"event_to_pixel_p95_ms": p95(alone), "event_to_pixel_50_p95_ms": p95(beside)}


def steps_seen(page: Page, run: Run, player: Player) -> list[float]:
    run.sent.clear()
    at = time.monotonic()
    for _ in range(STEPS):
        run.publish(player.step(5_000))
        at += 0.1
        page.wait_for_timeout(max(1.0, 1000 * (at - time.monotonic())))
    at_step(page, run.state.number)
    return delays(run.sent, [(seq, ms / 1000) for seq, ms in page.evaluate("bench.painted")])


# --- forced drops


def reconnect(browser: Browser, made: Stack) -> dict[str, Any]:
    run = made.run("drops", demo_map())
    proxy = Proxy(made.proxy_port, made.port)
    page = open_page(browser, made, run.host, made.proxy_url)
    at_step(page, run.state.number)
    clients = made.viewers(10, run.topic, port=made.proxy_port)
    times = []
    for _ in range(DROPS):
        run.steps(3, 20, PAGES_OF_2KB)
        proxy.drop()
        run.steps(7, 10, PAGES_OF_2KB)
        opened = 1000 * time.time()
        proxy.open()
        at_step(page, run.state.number)
        noted = page.evaluate("bench")
        first = min(at for at in noted["tries"] if at >= opened - 1)
        times.append(noted["painted"][-1][1] - first)
    rows = clients.end(run.state.number)
    noted = page.evaluate("bench")
    painted = [seq for seq, _ in noted["painted"]]  # the same number again is a redrawing
    doubled = sum(row["doubled"] for row in rows) + came_twice(noted["steps"])
    doubled += sum(later < earlier for earlier, later in zip(painted, painted[1:], strict=False))
    missed = sum(run.state.number - (row["seq"] or 0) for row in rows)
    missed += sum(row["digest"] != run.digest() for row in rows) + (not painted_right(page, run))
    page.context.close()
    note(f"reconnected in {times} ms; clients reconnected {sum(row['drops'] for row in rows)} times")
    return {"reconnect_ms": max(times), "missed": missed, "doubled": doubled}


def came_twice(steps: list[tuple[bool, int, int]]) -> int:
    """Frames of the map that repeat what the browser had already; a keyframe may, because it replaces all."""
    doubled, held = 0, 0
    for keyframe, base, seq in steps:
        doubled += not keyframe and (seq <= held or base < held)
        held = seq if keyframe else max(held, seq)
    return doubled


def painted_right(page: Page, run: Run) -> bool:
    """Whether each owner's pages have one colour of their own on the canvas, page by page."""
    from tests.e2e.test_story import READ_CELLS

    shown = page.eval_on_selector(MAP, READ_CELLS)
    pairs = set(zip(run.state.owners.tolist(), shown["hex"], strict=True))
    return bool(shown["seq"] == run.state.number) and all(
        len({pair[side] for pair in pairs}) == len(pairs) for side in (0, 1)
    )


def demo_map() -> wire.State:
    small = Player(demo()).state()
    return with_vms(small, small.owners.copy(), 3)


# --- many sockets


def sockets(browser: Browser, made: Stack) -> dict[str, Any]:
    run = made.run("many", demo_map())
    one = made.viewers(1, run.topic)
    run.change(1_000)
    (row,) = one.end(run.state.number)
    size = row["arrived"][-1][2]
    made.start_web()
    clients = made.viewers(400, run.topic)
    run.sent.clear()
    largest = Largest(made)
    run.steps(40, 5, PAGES_OF_2KB)
    rows = clients.end(run.state.number)
    resident = largest.end()
    late = [ms for row in rows for ms in delays(run.sent, [(seq, at) for seq, at, _ in row["arrived"]])]
    lost = sum(row["digest"] != run.digest() for row in rows)
    return {
        "sockets_400_lost": lost,
        "sockets_400_p95_ms": p95(late),
        "web_rss_mb": round(resident / 2**20, 1),
        "delta_1000_bytes": size,
    }


class Largest:
    """The largest resident size of the web process while this lives."""

    def __init__(self, made: Stack) -> None:
        self._web, self._over = made.web, threading.Event()
        self._size = int(self._web.memory_info().rss)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.25):
            self._size = max(self._size, self._web.memory_info().rss)

    def end(self) -> int:
        self._over.set()
        self._thread.join()
        return self._size


# --- fan-out beside a plain broadcast


def fanout(browser: Browser, made: Stack) -> dict[str, Any]:
    run = made.run("fanout", demo_map())
    viewers = made.viewers(50, run.topic)
    run.sent.clear()
    for _ in range(BROADCASTS):
        run.change(PAGES_OF_2KB)
    ours = rate(viewers, min(run.sent.values()), run.state.number, BROADCASTS)
    plain = plain_rate(made)
    note(f"a second: {ours:.0f} steps to viewers by the hub, {plain:.0f} by a plain broadcast")
    return {"fanout_ratio": round(ours / plain, 1)}


def rate(viewers: Viewers, began: float, last: int, count: int) -> float:
    rows = viewers.end(last, 40)
    note(f"{len(rows)} viewers got {sum(len(row['arrived']) for row in rows)} frames for {count} steps each")
    got: int = sum(row["seq"] - (last - count) for row in rows)  # steps, of which a frame may hold several
    return got / (float(max(row["arrived"][-1][1] for row in rows)) - began)


def plain_rate(made: Stack) -> float:
    from channels_redis.pubsub import RedisPubSubChannelLayer  # type: ignore[import-untyped]

    port = free_port()
    web = next(child for child in made.supervisor.children if child.name == "web")
    command = [
        {"webapp.asgi:application": "benchmarks._plain:application", str(made.port): str(port)}.get(word, word)
        for word in web.command
    ]
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    with (made.folder / "plain.log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        viewers = made.viewers(50, "", "/", port)
        body = bytes(4 + 5 * PAGES_OF_2KB + 4)

        async def broadcast() -> float:
            layer = RedisPubSubChannelLayer(hosts=[{"address": os.environ["HSVM_REDIS"], "socket_timeout": None}])
            began = time.time()
            for seq in range(1, BROADCASTS + 1):
                head = HEADER.pack(0x5648, 1, 2, 1, seq, seq - 1, 0, len(body), zlib.crc32(body))
                await layer.group_send("bench", {"type": "frame", "data": head + body})
            return began

        began: list[float] = []
        sender = threading.Thread(target=lambda: began.append(asyncio.run(broadcast())))
        sender.start()
        sender.join()
        return rate(viewers, began[0], BROADCASTS, BROADCASTS)
    finally:
        server.terminate()
        server.wait(20)


# --- the timeline


def scrub(browser: Browser, made: Stack) -> dict[str, Any]:
    """Jumps to 40 random operations of a run of 1,000,000 at the demo's pace, typed into the dock."""
    from tests.conftest import make_cast
    from tests.faults.conftest import run_to_end, start_run
    from webapp.runs import services

    row = run_to_end(start_run(make_cast(), length=500_000, rate=services.DEMO_RATE))
    page = open_page(browser, made, row.host.name)
    page.wait_for_selector('[data-view="timeline"][aria-busy="false"]')
    times = []
    for op in random.Random(1).sample(range(row.op), JUMPS):
        taken = page.evaluate(JUMP, op)
        if taken is None:
            raise SystemExit(f"the timeline did not go to operation {op}")
        times.append(taken)
    note(f"scrub: median {sorted(times)[JUMPS // 2]:.0f} ms")
    page.context.close()
    return {"scrub_ms": p95(times)}


# --- what is shipped


def shipped(browser: Browser, made: Stack) -> dict[str, Any]:
    files = (ROOT / "webapp" / "static" / "live").glob("*.js")
    return {"js_gzip_kb": round(sum(len(gzip.compress(path.read_bytes(), 6)) for path in files) / 1000, 1)}


PARTS = (big, event_to_pixel, scrub, reconnect, sockets, fanout, shipped)


def note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def main() -> None:
    wanted = sys.argv[1:]
    figures: dict[str, Any] = dict.fromkeys(KEYS)
    with stack() as made, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        for part in PARTS:
            if not wanted or part.__name__ in wanted:
                begun = time.monotonic()
                figures |= part(browser, made)
                note(f"{part.__name__}: {time.monotonic() - begun:.0f} s")
        browser.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
