"""A counter, a no and another host, by the buttons of a browser without script; a neighbour watches with script."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.conftest import PATIENCE, enter, serious
from tests.e2e.stack import Demo, running

TRIES = 240  # of half a second: what is right comes in a few, and a busy machine gets its time


def person(chromium: Browser, demo: Demo, name: str, *, script: bool) -> Page:
    context = chromium.new_context(base_url=demo.url, java_script_enabled=script)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    enter(page, name)
    return page


def text(page: Page) -> str:
    return page.locator("main").inner_text()


def sees(page: Page, words: str, path: str = "") -> None:
    """The page comes to say this; without script it is fetched again and again."""
    for _ in range(TRIES):
        if path:
            page.goto(path)
        if words in text(page):
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{words!r} not in {text(page)[:2000]}")


def runs_on(page: Page, vm: str, host: str) -> None:
    """The owner's list comes to say that the VM runs on this host."""
    row = ""
    for _ in range(TRIES):
        page.goto("/tenant/")
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=vm, exact=True)).inner_text()
        if "Running" in row and f"on {host}" in row:
            return
        page.wait_for_timeout(500)
    raise AssertionError(f"{vm}: {row}")


@pytest.mark.long
def test_a_counter_then_a_no_then_a_start_on_another_host(chromium: Browser, told: Path, tmp_path: Path) -> None:
    with running(shutil.copytree(told, tmp_path / "run")) as demo:
        bob, alice = person(chromium, demo, "bob", script=False), person(chromium, demo, "alice", script=True)
        bob.goto("/tenant/")
        bob.get_by_role("link", name="Read the proposal and answer").first.click()
        room = bob.url
        bob.get_by_label("I cannot accept “Performance counters").check()
        bob.get_by_label("Performance counters", exact=True).select_option(label="Yes")
        bob.get_by_role("button", name="Look at my counter").click()
        assert "Your counter, not sent yet." in text(bob)
        alice.goto(room)
        assert "Proposal 1 of at most 5" in text(alice)
        alice.get_by_label("Two threads on one core", exact=True).select_option(index=1)
        alice.locator("h1").click()
        bob.get_by_role("button", name="Send this counter").click()
        sees(alice, "This has changed meanwhile.")  # what she has begun to choose is not pulled away
        assert alice.get_by_label("Two threads on one core", exact=True).input_value() != ""
        alice.get_by_role("button", name="Show the new state").click()
        sees(alice, "Proposal 2 of at most 5")
        assert "Countered" in text(alice)
        assert_accessible(alice)
        alice.get_by_label("I want no settlement").focus()
        alice.keyboard.press("Space")
        alice.get_by_role("button", name="Reject this proposal").focus()
        alice.keyboard.press("Enter")
        sees(bob, "What you can do now for b-web", room)
        alice.goto(room)
        assert "What you can do now" not in text(alice)
        runs_on(bob, "b-shop", "h2")  # only VMs that run there are asked
        runs_on(alice, "a-mail", "h2")
        bob.goto(room)
        bob.get_by_role("button", name="Try the other host").click()
        assert "about host h2" in text(bob)
        there = bob.url.partition("?")[0]
        for page, vm in ((bob, "b-web"), (bob, "b-shop"), (alice, "a-mail")):
            sees(page, "Accept this proposal", f"{there}?vm={vm}")
            page.get_by_role("button", name="Accept this proposal").click()
        runs_on(bob, "b-web", "h2")
        runs_on(alice, "a-db", "h1")


def assert_accessible(page: Page) -> None:
    assert serious(page) == []
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320")
    page.set_viewport_size({"width": 1280, "height": 900})
