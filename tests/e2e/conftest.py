"""One demo and one browser for each file of browser tests."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import PASSWORD, Demo, prepare, running

PATIENCE = 60_000  # ms that a page may take on a machine with much else to do; what is right comes sooner
expect.set_options(timeout=PATIENCE)


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Marks the browser's tests before others choose by marks, and puts them first after pytest-django has put those of
    the database there: they are one long piece (tests/conftest.py), and short ones fill the end on both sides."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.fspath).startswith(here):
            item.add_marker(pytest.mark.e2e)
    yield
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


def serious(page: Page, *rules: str) -> list[str]:
    """Axe's serious and critical findings on the page as it stands, by all rules or by these alone."""
    if not page.evaluate("() => 'axe' in window"):  # once a page: it is half a megabyte to parse
        page.evaluate(Axe().axe_script)
    options: dict[str, Any] = {"resultTypes": ["violations"]}  # what passes need not be described
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = page.evaluate("options => axe.run(options).then(results => results.violations)", options)
    return [
        f"{row['id']} {[node['target'] for node in row['nodes']][:3]}"
        for row in found
        if row["impact"] in ("serious", "critical")
    ]


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory in which the story is told up to its opening: made once for all processes, copied by each demo.

    That a demo tells it by itself is shown by the longest test of test_process (make test-long).
    """
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent
    ready = base / "told"
    with (base / "told.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the second process waits for the first one's work
        if not ready.exists():
            prepare(base / "telling")
            (base / "telling").rename(ready)
    return ready


# One for all browser tests of a process. It ends with them: it would take half a core from the tests that follow.
@pytest.fixture(scope="package")
def demo(told: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running(shutil.copytree(told, tmp_path_factory.mktemp("demo") / "run")) as started:
        yield started


@pytest.fixture(scope="module")  # its event loop must be gone before the next file's tests use the database
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def cookies() -> dict[str, Any]:
    """What a browser keeps of each person's first sign-in, so that the others need none."""
    return {}


def enter(page: Page, name: str) -> None:
    """Sign in by the page, as a person does."""
    page.goto("/sign-in/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/sign-in/" not in url)


@pytest.fixture
def sign_in(demo: Demo, chromium: Browser, cookies: dict[str, Any]) -> Iterator[Callable[..., Page]]:
    """sign_in("alice") opens a page of its own browser context in which alice is signed in; None stays anonymous."""
    opened: list[BrowserContext] = []

    def open_page(name: str | None, **options: Any) -> Page:
        context = chromium.new_context(base_url=demo.url, storage_state=cookies.get(name or ""), **options)
        context.set_default_timeout(PATIENCE)
        opened.append(context)
        page = context.new_page()
        if name and name not in cookies:
            enter(page, name)
            cookies[name] = context.storage_state()
        return page

    yield open_page
    for context in opened:
        context.close()


@pytest.fixture(scope="module")
def settled(
    demo: Demo, chromium: Browser, cookies: dict[str, Any]
) -> Iterator[Callable[[str | None, bool], BrowserContext]]:
    """settled("alice", script) is one browser context of hers for all pages of a file that are only looked at: its
    scripts and styles are fetched and compiled once."""
    kept: dict[tuple[str | None, bool], BrowserContext] = {}

    def context(name: str | None, script: bool) -> BrowserContext:
        if (name, script) not in kept:
            state = cookies.get(name or "")
            kept[name, script] = chromium.new_context(
                base_url=demo.url, storage_state=state, java_script_enabled=script
            )
            kept[name, script].set_default_timeout(PATIENCE)
            if name and state is None:
                page = kept[name, script].new_page()
                enter(page, name)
                page.close()
                cookies[name] = kept[name, script].storage_state()
        return kept[name, script]

    yield context
    for one in kept.values():
        one.close()
