"""Four minutes at half load: what grows, and what the logs say."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import psutil

from tests.goals import stack
from tests.goals.load import MB
from tests.goals.stack import MARKS, Place, Site

PAGES: Final = ("/", "/home/", "/tenant/", "/tenant/vm/a-db/", "/tenant/audit/", "/tenant/agreements/", "/api/vms",
                "/api/hosts", "/guide/", "/operator/", "/healthz", "/readyz")  # fmt: skip
VIEWERS, PAGES_A_SECOND, SLOPE_MB, MORE_DESCRIPTORS = 100, 3, 1.0, 5


class Story(Site):
    """`manage.py demo` with its story, whose parts are found by name."""

    command = ("manage.py", "demo")


def soak(place: Place) -> dict[str, Any]:
    """100 viewers of a run at its own four steps a second, three pages a second, the demo's story going on."""
    from benchmarks._live import Viewers

    demo = Story(place.run_dir, place.port, HSVM_SLOWER="1", HSVM_API_CALLS_PER_MINUTE="0")
    seconds = place.count(240, 40)
    try:
        demo.wait_ready()
        place.django()
        from webapp.accounts.models import User
        from webapp.runs.models import Run

        people = [User.objects.get(username=name) for name in ("olga", "alice")]
        sessions = [stack.session_of(user) for user in people]
        run = Run.objects.filter(state="running").order_by("pk")[0].pk
        viewers = Viewers(demo.port, place.count(VIEWERS, 10), f"run/{run}/map", sessions[:1], "/ws/", demo.url)
        over = threading.Event()
        answered: list[int] = []
        reading = threading.Thread(target=read_pages, args=(demo, sessions, over, answered), daemon=True)
        reading.start()
        rows = sampled(demo, seconds)
        over.set()
        reading.join(30)
        shown = viewers.end(10**9, 0.1)
    finally:
        demo.stop()
    found = {name: growth(each, seconds) for name, each in rows.items() if name != "keeper"}
    errors = errors_in(demo.run_dir / "logs")
    bad = [status for status in answered if status >= 500]
    steady = all(
        row["mb_per_min"] <= SLOPE_MB and row["descriptors"] <= MORE_DESCRIPTORS and row["threads"] <= 2
        for row in found.values()
    )
    return {
        "ok": steady and not errors and not bad and len(answered) > seconds,
        "seconds": seconds,
        "parts": found,
        "viewers": len(shown),
        "frames": sum(len(row["arrived"]) for row in shown),
        "viewers_cut": sum(row["drops"] for row in shown),
        "pages": len(answered),
        "pages_failed": len(bad),
        "errors": len(errors),
        "error_lines": errors[:5],
    }


def read_pages(demo: Site, sessions: list[str], over: threading.Event, answered: list[int]) -> None:
    """Pages in turn, as operator and as tenant, until it is over."""
    number = 0
    while not over.wait(1 / PAGES_A_SECOND):
        asked = urllib.request.Request(demo.url + PAGES[number % len(PAGES)])
        asked.add_header("Cookie", f"session={sessions[number % len(sessions)]}")
        number += 1
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                answer.read()
                answered.append(answer.status)
        except urllib.error.HTTPError as refused:
            answered.append(refused.code)
        except OSError:
            answered.append(599)


Row = tuple[float, float, int, int]  # seconds, megabytes, descriptors, threads


def sampled(demo: Site, seconds: float) -> dict[str, list[Row]]:
    """Every two seconds what each part has: the worker with its pool."""
    rows: dict[str, list[Row]] = {name: [] for name in MARKS}
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        for name, part in rows.items():
            with contextlib.suppress(psutil.Error, stack.Missed):
                main = demo.process_of(name)
                family = [main, *main.children(recursive=True)]
                memory = sum(process.memory_info().rss for process in family) / MB
                part.append((now, memory, sum(p.num_fds() for p in family), sum(p.num_threads() for p in family)))
        time.sleep(2)
    return rows


def growth(rows: list[Row], seconds: float) -> dict[str, float]:
    """After the first quarter: the slope of memory by least squares, and how descriptors and threads rose from the
    median of its first third to that of its last."""
    later = [row for row in rows if row[0] >= seconds / 4]
    mean_t = sum(row[0] for row in later) / len(later)
    mean_m = sum(row[1] for row in later) / len(later)
    spread = sum((row[0] - mean_t) ** 2 for row in later)
    slope = sum((row[0] - mean_t) * (row[1] - mean_m) for row in later) / spread
    third = max(1, len(later) // 3)

    def rise(column: int) -> int:
        ends = [sorted(row[column] for row in part) for part in (later[:third], later[-third:])]
        return int(ends[1][len(ends[1]) // 2] - ends[0][len(ends[0]) // 2])

    return {
        "mb": round(later[-1][1], 1),
        "mb_per_min": round(slope * 60, 2),
        "descriptors": rise(2),
        "threads": rise(3),
    }


def errors_in(folder: Path) -> list[str]:
    """Lines of the processes' logs that tell of an error."""
    found = []
    for log in sorted(folder.glob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if re.search(r"\[(error|critical) *\]|Traceback|^ERROR|Exception", line):
                found.append(f"{log.stem}: {line[:200]}")
    return found
