"""An operator is told of a violation and looks for its cause: with the keyboard alone, and on a screen on the wall.

.venv/bin/python -m tests.e2e.trial_operator     # with a demo of its own; one JSON object

The violation is brought about on a host that cannot protect memory, by a request that the person does not see. Time
runs from the moment at which the wall shows it: what must be read at 250 words a minute, 0.3 s a key, and the machine's
own. At the wall the person goes on to the moment, to the page that breaks the rule, to its owner and who maps it; a
screen on the wall has no keys, so there the cause must be readable as it stands.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.wall_speed import django_at, host_planted
from tests.e2e.browser import FLAGS, find
from tests.e2e.stack import PASSWORD, Demo
from tests.e2e.trial import SECONDS_A_KEY, WORDS_A_MINUTE, Person

TARGET = 60
ATTACK = "map VM A's frame into VM B"


def sent(page: Page, url: str, path: str, data: dict[str, Any], method: str = "POST") -> Any:
    """A call of the API from this page's session."""
    token = next(each["value"] for each in page.context.cookies() if "csrf" in each["name"])
    answer = page.request.fetch(path, method=method, data=data, headers={"X-CSRFToken": token, "Referer": url})
    assert answer.ok, answer.text()
    return answer.json() if answer.text() else None


def report(person: Person, where: str) -> dict[str, Any]:
    machine = time.monotonic() - person.begun
    allowed = person.words / WORDS_A_MINUTE * 60 + person.keys * SECONDS_A_KEY
    return {
        "task": f"find the cause {where}",
        "actions": len(person.acts),
        "keys": person.keys,
        "words_read": person.words,
        "machine_seconds": round(machine, 1),
        "seconds": round(machine + allowed, 1),
        "target_seconds": TARGET,
        "within_target": machine + allowed <= TARGET,
        "ends": person.ends,
    }


def entered(browser: Any, url: str, width: int) -> Person:
    person = Person(browser, url, width)
    person.page.goto("/sign-in/")
    person.page.get_by_label("Name").fill("olga")
    person.page.get_by_label("Password", exact=True).fill(PASSWORD)
    person.page.get_by_role("button", name="Sign in").click()
    person.page.wait_for_url("**/operator/**")
    return person


def at_the_wall(person: Person, url: str, host: str, vm: str) -> dict[str, Any]:
    page = person.page
    page.goto("/operator/wall/")
    page.locator("#wall[data-state=live]").wait_for()
    sent(page, url, f"/api/hosts/{host}/acts", {"kind": "drill", "vm": vm, "attack": "A03"})
    page.locator(".alert-line", has_text="break a rule").first.wait_for()
    person.begin()
    person.read(".alert-strip .alert-line:first-of-type > a")
    person.skip()
    person.goes("See the moment", "", "**/operator/host/**op=**")
    canvas = page.locator("[data-view=ownership-map] canvas").first
    canvas.wait_for()
    person.read(".page-header h1")
    page.locator(".map-view h2 ~ *, .map-view header", has_text="1 violation").first.wait_for()  # the moment is there
    person.skip()
    person.tab_to("Next violation")
    person.act("Enter", "go to the page that breaks the rule")
    rings = page.locator(".map-view dl div", has_text="Violation").filter(has_text="yes").first
    rings.wait_for()
    facts = rings.locator("xpath=ancestor::dl")
    person.words += len(facts.inner_text().split())
    person.ends = " ".join(facts.inner_text().split())[:400]
    return report(person, "at the wall")


def on_a_screen(person: Person, url: str, host: str, vm: str) -> dict[str, Any]:
    page = person.page
    sent(page, url, "/api/playlists/hall", {"panels": ["wall"], "rotate_seconds": 60}, "PUT")
    page.goto("/kiosk/hall/")
    page.locator("#wall[data-state=live]").wait_for()
    sent(page, url, f"/api/hosts/{host}/acts", {"kind": "drill", "vm": vm, "attack": "A03"})
    line = page.locator(".alert-line", has_text=ATTACK).first
    line.wait_for()
    person.begin()
    person.read(".alert-strip .alert-line:first-of-type > a", "[data-state=violation]")
    person.ends = line.locator("a").first.inner_text()
    return report(person, "on a screen")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vpms-cause-") as made:
        run_dir = Path(made)
        os.environ["DEMO_PASSWORD"] = PASSWORD
        django_at(run_dir)
        from webapp.ops.management.commands.demo import prepare

        prepare()
        host, _, vm = host_planted()
        demo = Demo(run_dir, HSVM_SLOWER="1")
        try:
            demo.wait_ready(600)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find(), args=FLAGS)
                rows = [
                    at_the_wall(entered(browser, demo.url, 1280), demo.url, host, vm),
                    on_a_screen(entered(browser, demo.url, 1920), demo.url, host, vm),
                ]
                browser.close()
        finally:
            demo.stop()
    print(json.dumps({"tries": rows}, indent=2))
    print(json.dumps([row["within_target"] for row in rows]), file=sys.stderr)


if __name__ == "__main__":
    main()
