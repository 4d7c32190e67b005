"""A lesson in a real browser: by keyboard alone, after a reload, and as a file without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import serious

LESSON = "/learn/lessons/stale-tlb-entries/"


def test_a_lesson_is_answered_and_stepped_by_keyboard_and_a_reload_loses_nothing(
    sign_in: Callable[..., Page],
) -> None:
    page = sign_in("bob")
    page.goto(LESSON)
    question = page.locator(".question-asked:has(form)").first
    name = question.get_attribute("id")
    held = page.locator(".lesson-held").count()
    question.locator("input[type=radio]").first.focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(f"#{name} .question-why")).to_be_visible()
    assert page.locator(".lesson-held").count() <= held
    for _ in range(8):
        left = page.get_by_role("button", name="Read on without an answer")
        if page.locator("[data-swap] [data-go=on]").count() or not left.count():
            break
        before = page.locator(".question-why").count()
        left.first.click()
        expect(page.locator(".question-why")).to_have_count(before + 1)
    figure = page.locator("[data-swap]:has([data-go=on])").first
    number = figure.get_attribute("id")
    figure.locator("[data-go=first]").focus()
    page.keyboard.press("Home")
    expect(page.locator(f"#{number} .lesson-at")).to_contain_text("step 0 of")
    page.keyboard.press("ArrowRight")
    expect(page.locator(f"#{number} .lesson-at")).to_contain_text("step 1 of")
    page.reload()
    expect(page.locator(f"#{number} .lesson-at")).to_contain_text("step 1 of")
    expect(page.locator(f"#{name} .question-why")).to_be_visible()
    for theme in ("light", "dark", "projector"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_timeout(300)
        assert not serious(page, *([] if theme == "light" else ["color-contrast"])), theme
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("() => document.documentElement.scrollWidth") == 320


def test_the_exported_lesson_opens_from_a_file_and_steps_without_a_network(
    sign_in: Callable[..., Page], chromium: Browser, tmp_path: Path
) -> None:
    page = sign_in("ines")
    page.goto(LESSON)
    with page.expect_download() as download:
        page.get_by_role("link", name="The same with answers").click()
    file = tmp_path / "lesson.html"
    download.value.save_as(file)
    context = chromium.new_context(offline=True)
    asked: list[str] = []
    alone = context.new_page()
    alone.on("request", lambda request: asked.append(request.url))
    alone.goto(file.as_uri())
    figure = alone.locator("figure:has(.steps)").first
    figure.get_by_role("button", name="First").click()
    expect(figure.locator("[data-step='0']")).to_be_visible()
    figure.get_by_role("button", name="Step", exact=True).click()
    expect(figure.locator("[data-step='1']")).to_be_visible()
    expect(figure.locator("[data-step='0']")).to_be_hidden()
    assert alone.locator("[data-right]").count() >= 4
    assert [url for url in asked if not url.startswith("file:")] == []
    alone.set_viewport_size({"width": 320, "height": 700})
    assert alone.evaluate("() => document.documentElement.scrollWidth") <= 330
    context.close()
