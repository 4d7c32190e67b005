"""How old is a picture when it is painted: from the worker's publication of a step to the canvas of a real Chromium.

Starts the demo, opens the host page as the operator and pairs each hint that the worker sends with the moment at which
the map says that it painted that step (same clock: one machine). Prints one JSON object; milliseconds.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

import redis
from playwright.sync_api import sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import PASSWORD, running

SECONDS = 20
WATCH = """() => {
  const root = document.querySelector('[data-view="ownership-map"]');
  window.painted = [];
  new MutationObserver(() => window.painted.push([Number(root.dataset.seq), Date.now()]))
    .observe(root, {attributes: true, attributeFilter: ['data-seq']});
  return root.dataset.topic;
}"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="vpms-delay-") as folder,
        running(Path(folder) / "run", HSVM_SLOWER="1") as demo,
    ):
        client = redis.Redis.from_url(f"unix://{demo.run_dir / 'valkey.sock'}", socket_timeout=None)
        hints = client.pubsub(ignore_subscribe_messages=True)
        hints.subscribe("hint")
        with sync_playwright() as playwright:
            page = playwright.chromium.launch(executable_path=find(), args=FLAGS).new_page(base_url=demo.url)
            page.goto("/sign-in/")
            page.get_by_label("Name").fill("olga")
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.goto("/operator/host/h2/")
            page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')
            run = page.evaluate(WATCH).split("/")[1]
            sent: dict[int, float] = {}
            end = time.time() + SECONDS
            while time.time() < end:
                if hint := hints.get_message(timeout=0.2):
                    topic, seq = hint["data"].decode().split()
                    if topic == run:
                        sent[int(seq)] = time.time() * 1000
            painted = page.evaluate("window.painted")
            size = page.evaluate("document.querySelector('[data-view=\"ownership-map\"]').dataset.pages")
    delays = sorted(at - sent[seq] for seq, at in painted if seq in sent)
    print(
        json.dumps(
            {
                "bench": "live_delay",
                "map_frames": int(size),
                "steps_painted": len(delays),
                "steps_sent": len(sent),
                "p50_ms": round(statistics.median(delays), 1),
                "p95_ms": round(delays[int(len(delays) * 0.95)], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
