"""A policy game in a browser: two play it to the end without reloading, by keyboard; without script; in each theme."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import serious
from tests.e2e.stack import PASSWORD, ROOT, Demo, inherited

MAKE = """
import django; django.setup()
from tests.web.policy import make_lab
from webapp.courses import policy_play
lab = make_lab()
for user in lab.people.values():
    user.set_password(%r); user.save()
policy_play.game_open(by=lab.ines, item=lab.item)
print(lab.item.pk)
"""


@pytest.fixture(scope="module")
def item(demo: Demo) -> int:
    environment = {**inherited(demo.run_dir), "HSVM_TLS": "0", "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", MAKE % PASSWORD]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return int(made.stdout.split()[-1])


def press(page: Page, name: str) -> None:
    """A button by the keyboard."""
    page.get_by_role("button", name=name, exact=True).first.focus()
    page.keyboard.press("Enter")


@pytest.mark.long
def test_two_play_to_the_end_and_nobody_reloads(item: int, sign_in: Callable[..., Page]) -> None:
    teacher, stu, mia = sign_in("ines"), sign_in("stu"), sign_in("mia", viewport={"width": 320, "height": 900})
    for page in (teacher, stu, mia):
        page.goto(f"/learn/items/{item}/")
    press(stu, "Take a seat")
    press(mia, "Take a seat")
    expect(teacher.locator("#desk")).to_contain_text("2 students have a seat.")
    press(teacher, "Begin")
    for page in (stu, mia):
        expect(page.get_by_role("button", name="Say this")).to_be_visible()
        assert serious(page) == []
        press(page, "Say this")
    for page in (stu, mia):
        expect(page.locator("#round")).to_contain_text("Proposal in round 1 of 5")
        page.reload()  # and who does reload loses nothing
        expect(page.locator("#round")).to_contain_text("Proposal in round 1 of 5")
        press(page, "Accept")
    for page in (stu, mia):
        expect(page.locator("#round")).to_contain_text("You have an agreement.")
        page.get_by_role("link", name="See what everybody wanted").click()
        expect(page.locator("h1")).to_contain_text("table 1")
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    expect(teacher.locator("#desk")).to_contain_text("1 of 1 tables agreed.")
    assert serious(teacher) == []
    assert re.search(r"70\d|500", stu.locator("main").inner_text())
