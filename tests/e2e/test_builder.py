"""A course from nothing in a browser, by keyboard: filled, mended, dated, put in order, tried, copied, taken away."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.e2e.conftest import serious

KINDS = ("lesson", "attack", "policy", "predict")


def press(where: Locator) -> None:
    """A button or link by the keyboard."""
    where.focus()
    where.page.keyboard.press("Enter")


def titles(page: Page) -> list[str]:
    return page.locator(".course-item > div:first-child > a").all_inner_texts()


def add(page: Page, kind: str, *, blank: bool = False) -> None:
    page.locator(f"#add-{kind}").focus()
    if blank:
        page.keyboard.press("End")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")


@pytest.fixture(scope="module")
def built(chromium: Browser) -> Iterator[dict[str, str]]:
    """Where the course of the first test stands, for those that follow."""
    yield {}


def test_an_empty_course_is_filled_and_a_faulty_text_is_mended_by_keyboard(
    sign_in: Callable[..., Page], built: dict[str, str]
) -> None:
    page = sign_in("ines", viewport={"width": 1280, "height": 900})
    page.goto("/learn/courses/")
    page.get_by_label("Title").focus()
    page.keyboard.type("Built by keys")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The course holds nothing yet.")).to_be_visible()
    built["course"] = page.url
    for number, kind in enumerate(KINDS[1:], 1):
        add(page, kind)
        expect(page.locator(".course-item")).to_have_count(number)
    add(page, "lesson", blank=True)
    expect(page.locator("form[data-view=item-editor][data-state=editor]")).to_be_visible()
    assert not serious(page)
    text, area = page.locator("[data-part=text]"), page.get_by_role("textbox", name="Text")
    before = text.input_value()
    area.focus()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text("\nA sentence of my own.\n\n```question\nkey: first\n")
    faults = page.locator("[data-part=faults]")
    expect(faults).to_contain_text(re.compile(r"Line \d+, column \d+: "))
    expect(page.locator(".cm-lintRange-error").first).to_be_visible()
    typed = text.input_value()
    page.keyboard.press("Control+s")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was saved. What you typed is still here.")
    expect(faults).to_contain_text(re.compile(r"Line \d+, column \d+: "))
    assert text.input_value() == typed != before
    page.goto(page.url)  # and a page that is opened anew finds it too
    expect(page.locator("form[data-view=item-editor][data-state=editor]")).to_be_visible()
    assert text.input_value() == typed
    area.focus()
    page.keyboard.press("Control+End")
    for _ in range(3):
        page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Delete")
    expect(faults).to_have_text("")
    assert "A sentence of my own." in text.input_value()
    page.keyboard.press("Tab")  # out of the editor
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("Version 2 is saved.")


def test_times_order_and_what_a_student_sees_by_keyboard(sign_in: Callable[..., Page], built: dict[str, str]) -> None:
    page = sign_in("ines", viewport={"width": 1280, "height": 900})
    page.goto(built["course"])
    lab = titles(page)[0]
    press(page.get_by_role("link", name=f"Settings : {lab}"))
    page.get_by_label("Due", exact=True).fill("2027-01-15T18:00")
    page.get_by_label("Accepted until").fill("2027-01-10T18:00")
    page.locator("input[name=late]:checked").focus()
    while page.locator("input[name=late]:checked").get_attribute("value") != "daily":
        page.keyboard.press("ArrowDown")
    page.get_by_label("Percent lost for each day begun").fill("10")
    page.keyboard.press("Enter")
    fault = page.locator("#accepted_until-fault")
    expect(fault).to_contain_text("ust not be before it is due")
    assert page.get_by_label("Percent lost for each day begun").input_value() == "10"
    assert not serious(page)
    page.get_by_label("Accepted until").fill("2027-01-20T18:00")
    page.keyboard.press("Enter")
    expect(page.locator(".course-item").first).to_contain_text("10 percent of its points")
    order = titles(page)
    press(page.get_by_role("button", name=f"Down : {lab}"))
    page.wait_for_function("title => document.querySelectorAll('.course-item')[1].innerText.includes(title)", arg=lab)
    assert titles(page) == [order[1], lab, *order[2:]]
    page.keyboard.press("Tab")  # goes on where the item now stands, not from the top
    assert lab in page.evaluate("() => document.activeElement.closest('.course-item')?.innerText ?? ''")
    for title in order[:3]:
        press(page.get_by_role("button", name=f"Show it to students : {title}"))
        expect(page.get_by_role("button", name=f"Hide : {title}")).to_be_visible()
    press(page.get_by_role("button", name="See it as a student"))
    expect(page.get_by_role("form", name="Preview")).to_contain_text("as a student does")
    assert titles(page) == [order[1], lab, order[2]] and not page.get_by_role("button", name="Hide").count()
    assert not serious(page)
    press(page.get_by_role("button", name="End the preview"))
    expect(page.get_by_role("button", name="Open a class")).to_be_visible()


def test_it_is_duplicated_and_taken_away(sign_in: Callable[..., Page], built: dict[str, str], tmp_path: Path) -> None:
    page = sign_in("ines", viewport={"width": 320, "height": 700})
    page.goto(built["course"])
    order = titles(page)
    press(page.get_by_role("navigation", name="Built by keys").get_by_role("link", name="Settings"))
    page.get_by_label("Title of the copy").fill("Built by keys, again")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Built by keys, again")
    assert titles(page) == order and page.url != built["course"]
    expect(page.locator(".course-item").nth(1)).to_contain_text("2028-01-14")  # 52 weeks later
    with page.expect_download() as download:
        press(page.get_by_role("link", name="Take the course away (.zip)"))
    download.value.save_as(tmp_path / "course.zip")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "course.zip").read_bytes())) as archive:
        assert len(archive.namelist()) == 1 + len(order) and archive.testzip() is None
    assert page.evaluate("() => document.documentElement.scrollWidth") == 320
