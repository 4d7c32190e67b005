"""The attack lab in a browser: type, see the fault, run, step, take a hint, hand in; by keyboard; without script."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import serious
from tests.e2e.stack import PASSWORD, ROOT, Demo, inherited

MAKE = """
import django; django.setup()
from tests.web.lab import make_class
room = make_class("read-the-secret")
for user in (room.stu, room.mia):
    user.set_password(%r); user.save()
print(room.item.pk)
"""


@pytest.fixture(scope="module")
def item(demo: Demo) -> int:
    environment = {**inherited(demo.run_dir), "HSVM_TLS": "0", "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), environment.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", MAKE % PASSWORD]
    made = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return int(made.stdout.split()[-1])


def editor(page: Page) -> Any:
    return page.get_by_role("textbox", name="Attack file")


def replace(page: Page, old: str, new: str) -> None:
    """Write over the first place of `old` in the editor, by keys: its line is typed anew."""
    text = str(page.locator("[data-part=text]").input_value())
    line = text[: text.index(old)].count("\n")
    whole = text.split("\n")[line].replace(old, new)
    editor(page).focus()
    page.keyboard.press("Control+Home")
    for _ in range(line):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+End")
    page.keyboard.press("Delete")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+Home")
    page.keyboard.insert_text(whole)
    expect(page.locator("[data-part=text]")).to_have_value(text.replace(old, new, 1))


def test_an_attack_is_typed_mended_run_stepped_through_and_handed_in_by_keyboard(
    item: int, sign_in: Callable[..., Page]
) -> None:
    page = sign_in("stu", viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console", lambda line: problems.append(line.text) if line.type == "error" and "Content" in line.text else None
    )
    page.goto(f"/learn/items/{item}/")
    expect(page.locator("form[data-view=lab][data-state=editor]")).to_be_visible()
    assert not serious(page)
    replace(page, "op: hv_read", "op: hv_rea")
    expect(page.locator("[data-part=fault]")).to_contain_text("unknown operation hv_rea")
    expect(page.locator(".cm-lintRange-error").first).to_be_visible()
    replace(page, "op: hv_rea", "op: hv_read")
    expect(page.locator("[data-part=fault]")).to_have_text("")
    replace(page, "mfn: 512", "mfn: $frame")
    replace(page, "offset: 0", "offset: 2044")
    page.get_by_role("button", name="Run it for practice").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#attempts")).to_contain_text("12 of the bytes 0 to 15 of the secret came out", timeout=30_000)
    assert page.locator("#attempts").get_by_text("of 10 points").first.is_visible()
    replace(page, "offset: 2044", "offset: 2048")
    expect(page.locator("[data-part=saved]")).to_have_text("Saved")
    page.reload()
    expect(page.locator("[data-part=text]")).to_have_value(re.compile("offset: 2048"))
    expect(page.locator("form[data-view=lab][data-state=editor]")).to_be_visible()
    page.get_by_text("Costs 10 % of the points: ask for it").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Show hint 1 for 10 %").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#hints")).to_contain_text("0x800 is 2048")
    page.get_by_role("button", name="Hand in").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#attempts")).to_contain_text("10 of 10 points", timeout=30_000)
    expect(page.locator("#attempts")).to_contain_text("handed in")
    page.reload()
    expect(page.get_by_text("Your best result so far counts 18")).to_be_visible()
    assert not serious(page)
    page.locator("#attempts table a").nth(1).press(
        "Enter"
    )  # the practice run before; of what was handed in there is none
    page.get_by_role("link", name="Step through it on nested").press("Enter")
    expect(page.locator("[data-view=replay]")).to_be_visible()
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press(".")
    expect(page.locator("[data-part=says]")).to_contain_text("page_map")
    assert not serious(page) and problems == []


def test_the_completion_knows_the_language(item: int, sign_in: Callable[..., Page]) -> None:
    page = sign_in("mia")
    page.goto(f"/learn/items/{item}/")
    expect(page.locator("form[data-view=lab][data-state=editor]")).to_be_visible()
    editor(page).focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("  - op: cla")
    expect(page.locator(".cm-tooltip-autocomplete li").first).to_have_text(re.compile("^claim"))
    page.wait_for_timeout(150)  # the list takes no key in its first moment
    page.keyboard.press("Enter")
    expect(page.locator("[data-part=text]")).to_have_value(re.compile(r"- op: claim\n\s+mfn: $"))


def test_everything_goes_without_script(item: int, sign_in: Callable[..., Page]) -> None:
    page = sign_in("mia", java_script_enabled=False)
    page.goto(f"/learn/items/{item}/")
    page.get_by_text("Begin again, or use the command line").click()
    page.get_by_role("button", name="Put the task's own file in the editor").click()
    area = page.get_by_label("Attack file")
    text = area.input_value()
    assert "claim" not in text
    area.fill(text.replace("hv_read", "hv_peek"))
    page.get_by_role("button", name="Run it for practice").click()
    expect(page.locator("#lab-fault")).to_contain_text("unknown operation hv_peek")
    assert "hv_peek" in page.get_by_label("Attack file").input_value()
    page.get_by_label("Attack file").fill(text.replace("mfn: 512", "mfn: $frame").replace("offset: 0", "offset: 2048"))
    page.get_by_role("button", name="Run it for practice").click()
    for _ in range(40):
        if page.get_by_text("of 10 points").count():
            break
        page.wait_for_timeout(500)
        page.reload()
    expect(page.get_by_text("10 of 10 points").first).to_be_visible()


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_and_reads_in_each_theme(item: int, sign_in: Callable[..., Page], width: int, theme: str) -> None:
    page = sign_in("stu", viewport={"width": width, "height": 800}, color_scheme=theme)
    page.goto(f"/learn/items/{item}/")
    expect(page.locator("form[data-view=lab][data-state=editor]")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert not serious(page)
