"""The product tried as a new user would, with the keyboard alone: how long, and how many actions.

.venv/bin/python -m tests.e2e.trial                              # with a demo of its own; one JSON object
.venv/bin/python -m tests.e2e.trial --at http://127.0.0.1:8000   # with a fresh demo that runs, DEMO_PASSWORD as it has

A wide and a narrow window (1280 and 320 px); in each, a tenant protects a new VM, sign-in included, and a tenant who is
signed in answers the negotiation that waits. Nothing is pointed at or clicked by script: Tab goes to each control, keys
act on it. Counted apart are the presses of Tab and the actions (a text typed, a choice made, a button pressed). The
time is the machine's own, plus an allowance for a person: 250 words a minute for the parts that must be read (named
below; what is there for who asks further is not counted) and 0.3 s a key.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.browser import FLAGS, find
from tests.e2e.pictures import site
from tests.e2e.stack import PASSWORD

WORDS_A_MINUTE, SECONDS_A_KEY = 250, 0.3
TARGETS = {"protect a VM": 180, "answer a negotiation": 60}
PROPOSAL = (  # what must be read of a room before one can answer: the rest is there for who asks further
    ".page-header h1",
    "#room > .panel:nth-of-type(1)",
    "#contested tbody th",  # the contested settings, what is proposed for each, what one gives up
    "#contested tbody [data-label='Proposal']",
    "#contested tbody [data-label='You give up, of your wishes']",
    "#answer > p",
    "#answer form:first-of-type",
)
FURTHEST = 120  # presses of Tab until a control counts as out of reach

# What has the focus now: its kind, and what a screen reader would call it.
FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return {kind: "", name: ""};
  const words = (at.getAttribute("aria-label") || (at.labels && at.labels[0] && at.labels[0].innerText)
    || at.innerText || "").replace(/\\s+/g, " ").trim();
  return {kind: at.type || at.localName, name: words, group: at.name || "", visible: at.getClientRects().length > 0};
}"""


class Person:
    """Somebody at a keyboard. Every press is counted; what is read on the way is counted in words."""

    def __init__(self, browser: Browser, url: str, width: int) -> None:
        context = browser.new_context(base_url=url, viewport={"width": width, "height": 800}, reduced_motion="reduce")
        context.set_default_timeout(60_000)
        self.page: Page = context.new_page()
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self.tabs = self.keys = self.words = 0
        self.acts: list[str] = []
        self.ends = ""
        self.begun = time.monotonic()

    def read(self, *places: str) -> None:
        """Read all the words that stand there now."""
        for place in places:
            for text in self.page.locator(place).all_inner_texts():
                self.words += len(text.split())

    def press(self, key: str) -> None:
        self.keys += 1
        self.page.keyboard.press(key)

    def focused(self) -> dict[str, Any]:
        return dict(self.page.evaluate(FOCUSED))

    def tab_to(self, name: str, kind: str = "") -> None:
        """Press Tab until the control with this name has the focus; none is pressed if it has it already."""
        for _ in range(FURTHEST):
            at = self.focused()
            if at["name"].startswith(name) and kind in at["kind"]:
                return
            self.tabs += 1
            self.press("Tab")
        raise AssertionError(f"{FURTHEST} presses of Tab do not reach {name!r} on {self.page.url}")

    def skip(self) -> None:
        """Over the frame of the page, by its first link."""
        self.tab_to("Skip to the content")
        self.act("Enter", "skip to the content")

    def write(self, text: str, what: str) -> None:
        self.keys += len(text)
        self.page.keyboard.type(text)
        self.acts.append(f"type {what}")

    def act(self, key: str, what: str) -> None:
        self.press(key)
        self.acts.append(what)

    def goes(self, name: str, kind: str, to: str) -> None:
        """Press the control with this name; the page that follows has this address."""
        self.tab_to(name, kind)
        with self.page.expect_navigation(url=to):
            self.act("Enter", f"press {self.focused()['name']!r}")

    def enter(self, who: str) -> None:
        self.page.goto("/sign-in/")
        self.read("main h1", "main label", "main .actions")
        self.tab_to("Name")
        self.write(who, "the name")
        self.tab_to("Password")
        self.write(os.environ.get("DEMO_PASSWORD", PASSWORD), "the password")
        self.act("Enter", "sign in")
        self.page.wait_for_url("**/tenant/")

    def report(self, task: str, width: int) -> dict[str, Any]:
        machine = time.monotonic() - self.begun
        allowed = self.words / WORDS_A_MINUTE * 60 + self.keys * SECONDS_A_KEY
        return {
            "task": task,
            "width_px": width,
            "actions": len(self.acts),
            "tab_presses": self.tabs,
            "keys": self.keys,
            "words_read": self.words,
            "machine_seconds": round(machine, 1),
            "person_seconds": round(allowed, 1),
            "seconds": round(machine + allowed, 1),
            "target_seconds": TARGETS[task],
            "within_target": machine + allowed <= TARGETS[task],
            "ends": self.ends,
            "steps": self.acts,
        }


def protect(person: Person, vm: str) -> None:
    """Sign in, declare a VM from a profile, read what follows from its wishes, start it, read what its row says.

    The page proposes a host on which it can start at once, and that is what one takes who knows no host. Elsewhere
    neighbours answer first, and that is their own time. It ends when the row says that it runs, protected.
    """
    page = person.page
    person.enter("alice")
    person.read(".page-header")
    person.goes("Declare a VM", "", "**/tenant/vm/new/")
    person.read("main")
    person.tab_to("Name")
    person.write(vm, "the VM's name")
    person.tab_to("", "radio")
    person.act("ArrowDown", "choose the profile of balanced wishes")
    person.goes("Declare this VM", "submit", f"**/tenant/vm/{vm}/**")
    page.locator("[data-part=consequences][aria-busy=false], [data-part=consequences]:not([aria-busy])").wait_for()
    person.read(".page-header", "main aside")
    person.skip()
    person.goes(f"Start {vm}", "submit", "**/tenant/")
    person.read(".page-messages")
    row = page.locator(".table tbody tr").filter(has_text=vm)
    row.wait_for()
    row.locator("[data-col=state] .status", has_text="running").wait_for()
    row.locator("[data-col=protection]", has_text="H-SVM on").wait_for()
    person.words += len(row.inner_text().split())
    person.ends = (
        f"{row.locator('[data-col=state] .status').inner_text()}: {row.locator('[data-col=protection]').inner_text()}"
    )


def clear(browser: Browser, url: str, vm: str) -> None:
    """Stop the VM of the try before, so that the next one finds the demo as fresh as that did. Not counted."""
    person = Person(browser, url, 1280)
    person.enter("alice")
    row = person.page.locator(".table tbody tr").filter(has_text=vm)
    row.get_by_role("button", name=f"Stop {vm}").click()
    row.locator("[data-col=state] .status", has_text="stopped").wait_for()
    person.page.context.close()


def answer(person: Person, who: str) -> None:
    """From the page of one's VMs, signed in: open the proposal that waits, read what it asks of one, accept it."""
    page = person.page
    person.enter(who)
    person.begin()
    person.read(".notice:has(a[href*='/tenant/negotiation/'])")
    person.skip()
    person.goes("Read the proposal and answer", "", "**/tenant/negotiation/**")
    person.read(*PROPOSAL)
    person.skip()
    person.goes("To your answer", "", "**#answer")
    person.tab_to("Accept this proposal", "submit")
    person.act("Enter", "accept the proposal")
    page.locator(".status").get_by_text("accepted", exact=False).first.wait_for()
    person.ends = "accepted"


def tried(browser: Browser, url: str) -> Iterator[dict[str, Any]]:
    """The negotiation first: nobody starts on its host while it is open. Both parties are asked, so each tries once."""
    tries = [
        ("answer a negotiation", 1280, lambda person: answer(person, "bob")),
        ("answer a negotiation", 320, lambda person: answer(person, "alice")),
        ("protect a VM", 1280, lambda person: protect(person, "a-wide")),
        ("protect a VM", 320, lambda person: protect(person, "a-narrow")),
    ]
    for task, width, does in tries:
        person = Person(browser, url, width)
        does(person)
        row = person.report(task, width)
        print(json.dumps({key: row[key] for key in row if key != "steps"}), file=sys.stderr)
        yield row
        person.page.context.close()
        if task == "protect a VM":
            clear(browser, url, vm="a-wide" if width == 1280 else "a-narrow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", default="", help="address of a demo that runs")
    with site(parser.parse_args().at) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
        rows = list(tried(browser, url))
        browser.close()
    print(json.dumps({"words_a_minute": WORDS_A_MINUTE, "seconds_a_key": SECONDS_A_KEY, "tries": rows}, indent=2))


if __name__ == "__main__":
    main()
