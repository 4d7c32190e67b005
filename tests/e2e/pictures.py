"""Takes the pictures of docs/how-to.md anew, from the demo as it really runs.

.venv/bin/python -m tests.e2e.pictures              # all, with a demo of its own
.venv/bin/python -m tests.e2e.pictures room table   # these
.venv/bin/python -m tests.e2e.pictures --at http://127.0.0.1:8000    # of a demo that runs, DEMO_PASSWORD as it has
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import PASSWORD, ROOT, running

PLACE = ROOT / "docs" / "how-to"
WIDTH, COLOURS, LARGEST = 1120, 96, 150_000


class Shot(NamedTuple):
    """One picture: who looks, what brings the page to it, and how high the window is that is photographed."""

    who: str | None
    bring: Callable[[Page], None]
    height: int = 760


def questions(page: Page) -> None:
    page.goto("/tenant/vm/a-db/")
    page.locator(".question").first.scroll_into_view_if_needed()
    page.mouse.wheel(0, page.locator(".question").first.bounding_box()["y"] - 160)  # type: ignore[index]


def in_force(page: Page) -> None:
    page.goto("/tenant/")
    page.locator(".page table").first.wait_for()


def room(page: Page) -> None:
    page.goto("/tenant/")
    waiting = page.get_by_role("link", name="Read the proposal and answer")
    if waiting.count() == 0:  # the story goes on: an answered one shows the same
        page.locator("a[href^='/tenant/negotiation/']").first.click()
    else:
        waiting.first.click()
    page.wait_for_url("**/tenant/negotiation/**")


def record(page: Page) -> None:
    page.goto("/tenant/audit/")
    page.get_by_role("button", name="Verify chain").click()
    page.get_by_text("The chain is whole").wait_for()


def papers(page: Page) -> None:
    page.goto("/tenant/agreements/")


def table(page: Page) -> None:
    page.goto("/learn/")
    page.wait_for_function(
        "() => document.querySelectorAll('.matrix td .outcome-blocked').length > 20", timeout=120_000
    )
    page.locator(".matrix").scroll_into_view_if_needed()
    page.mouse.wheel(0, page.locator(".matrix").bounding_box()["y"] - 110)  # type: ignore[index]


def replay(page: Page) -> None:
    table(page)
    page.locator('td[data-attack="A03"][data-architecture="hsvm"] a').click()
    page.get_by_role("link", name="Run to the deciding step").click()


def host(page: Page) -> None:
    page.goto("/operator/host/h2/")
    page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')


def teach(page: Page) -> None:
    page.goto("/teach/")
    page.get_by_role("heading", name="What if a check were missing?").wait_for()
    page.get_by_role("heading", name="What if a check were missing?").scroll_into_view_if_needed()


def walk(page: Page) -> None:
    page.goto("/learn/walk/?case=nested&step=7")


def words(page: Page) -> None:
    page.goto("/learn/")
    page.get_by_role("button", name="hypervisor").first.click()


SHOTS: dict[str, Shot] = {
    "questions": Shot("alice", questions),
    "in-force": Shot("alice", in_force),
    "room": Shot("alice", room, 900),
    "record": Shot("alice", record),
    "papers": Shot("alice", papers, 520),
    "table": Shot(None, table),
    "replay": Shot(None, replay, 860),
    "host": Shot("olga", host, 900),
    "teach": Shot("ines", teach),
    "walk": Shot(None, walk),
    "words": Shot(None, words, 480),
}


def small(png: bytes) -> bytes:
    """The picture with a palette of its own colours: screens have few."""
    colours = COLOURS
    while True:
        out = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").quantize(colours).save(out, "PNG", optimize=True)
        if out.tell() <= LARGEST or colours <= 8:
            return out.getvalue()
        colours //= 2


def sign_in(browser: Browser, url: str, who: str | None, height: int) -> Page:
    page = browser.new_page(base_url=url, viewport={"width": WIDTH, "height": height}, reduced_motion="reduce")
    if who:
        page.goto("/sign-in/")
        page.get_by_label("Name").fill(who)
        page.get_by_label("Password", exact=True).fill(os.environ.get("DEMO_PASSWORD", PASSWORD))
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda there: "/sign-in/" not in there)
    return page


def take(url: str, names: list[str]) -> None:
    PLACE.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        for name in names:
            shot = SHOTS[name]
            page = sign_in(browser, url, shot.who, shot.height)
            shot.bring(page)
            page.wait_for_timeout(500)  # colours change by a short transition, a map paints
            png = small(page.screenshot())
            (PLACE / f"{name}.png").write_bytes(png)
            print(f"docs/how-to/{name}.png {len(png):,} bytes")
            page.close()
        browser.close()


@contextlib.contextmanager
def site(at: str) -> Iterator[str]:
    if at:
        yield at
        return
    with tempfile.TemporaryDirectory(prefix="vpms-pictures-") as place, running(Path(place)) as demo:
        yield demo.url


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SHOTS, []], help="which pictures; all if none is named")
    parser.add_argument("--at", default="", help="address of a demo that runs")
    asked = parser.parse_args()
    with site(asked.at) as url:
        take(url, asked.names or list(SHOTS))


if __name__ == "__main__":
    main()
