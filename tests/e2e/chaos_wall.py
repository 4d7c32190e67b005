"""kill -9 of a worker, of the web process and of the broker while the wall is open: `make chaos-wall`.

After each the page is photographed as it was, unknown, and recovered; the seconds to both are printed as one JSON
object. The supervisor is stopped while something is dead, else it would have it running again before a cell is old.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from playwright.sync_api import Page, sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.conftest import enter
from tests.e2e.stack import ROOT, Demo

INTERVAL = 2
CELLS = "[...document.querySelectorAll('td[data-check]')]"
UNKNOWN = f"() => {CELLS}.length > 0 && {CELLS}.every((cell) => cell.dataset.state === 'unknown')"
KNOWN = f"() => {CELLS}.length > 0 && {CELLS}.every((cell) => cell.dataset.state !== 'unknown')"
MARKS = {"worker": "celery", "web": "uvicorn", "broker": "valkey"}  # in the command line of each


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".run" / "chaos-wall"
    target.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"unknown_within_s": 3 * INTERVAL}
    with tempfile.TemporaryDirectory() as made:
        demo = Demo(Path(made) / "run", HSVM_SLOWER="1", HSVM_CHECK_SECONDS=str(INTERVAL))
        try:
            demo.wait_ready()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
                page = browser.new_context(base_url=demo.url, viewport={"width": 1280, "height": 900}).new_page()
                page.set_default_timeout(120_000)
                enter(page, "olga")
                page.goto("/operator/wall/")
                page.wait_for_function(KNOWN)
                for name in MARKS:
                    found[name] = killed(demo, page, name, target)
                browser.close()
        finally:
            os.kill(demo.process.pid, signal.SIGCONT)
            demo.stop()
    print(json.dumps(found))
    return 0 if all(found[name]["newest_cell_s"] >= 0 for name in MARKS) else 1


def killed(demo: Demo, page: Page, name: str, target: Path) -> dict[str, float]:
    """Seconds from the kill until the page reads unknown everywhere, and from the restart until nothing does."""
    page.screenshot(path=target / f"{name}-1-before.png")
    os.kill(demo.process.pid, signal.SIGSTOP)
    for process in demo.family():
        if process.pid != demo.process.pid and MARKS[name] in " ".join(process.cmdline()):
            gone(process)
    at = time.monotonic()
    page.wait_for_function(UNKNOWN)
    unknown = time.monotonic() - at
    newest = page.evaluate(f"() => Math.max(...{CELLS}.map((cell) => Number(cell.dataset.at)))")
    page.screenshot(path=target / f"{name}-2-unknown.png")
    os.kill(demo.process.pid, signal.SIGCONT)
    at = time.monotonic()
    page.wait_for_function(KNOWN)
    recovered = time.monotonic() - at
    page.screenshot(path=target / f"{name}-3-recovered.png")
    age = time.time() - newest / 1000
    return {
        "unknown_s": round(unknown, 1),
        "recovered_s": round(recovered, 1),
        "newest_cell_s": round(age - recovered, 1),
    }


def gone(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    raise SystemExit(main())
