"""The page of all components in every theme, and the tour, the tips and the keys by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.e2e.conftest import serious

INSIDE = """() => [...document.querySelectorAll('.sheet > figure')]
  .filter(figure => figure.scrollWidth > figure.clientWidth + 1)
  .map(figure => figure.innerText.slice(0, 60))"""


def test_every_component_is_sound_in_every_theme_and_fits_320_px(sign_in: Callable[..., Page]) -> None:
    page = sign_in(None, reduced_motion="reduce")
    pictures = set()
    page.goto("/styleguide/")
    for theme in ("light", "dark", "projector"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        bad = serious(page, *([] if theme == "light" else ["color-contrast"]))
        assert not bad, f"{theme}: " + "; ".join(bad)
        pictures.add(page.screenshot())
    assert len(pictures) == 3
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320", polling=100)
    assert page.evaluate(INSIDE) == []
    page.goto("/help/")
    assert not serious(page)
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320", polling=100)


def test_tour_tips_and_keys_by_keyboard_alone(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga", reduced_motion="reduce")
    page.goto("/operator/")
    assert page.locator(".tour").count() == 0  # never uninvited
    page.locator("[data-part=tour-begin]").focus()
    page.keyboard.press("Enter")
    box, title = page.locator(".tour"), page.locator("#tour-title")
    title.wait_for()
    assert not serious(page)
    first = title.inner_text()
    page.keyboard.press("ArrowRight")
    assert first == "The operator's pages"
    expect(title).not_to_have_text(first)
    assert page.evaluate("() => document.querySelector('.tour-target').textContent") in ("h1", "h2")
    for _ in range(3):  # next, back, end
        page.keyboard.press("Tab")
    with page.expect_response("**/guide/"):  # where it was left is kept
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.matches('.tour-target')")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
    expect(box).to_have_count(0)
    page.reload()
    page.get_by_role("link", name="Go on with the tour").press("Enter")
    expect(title).to_have_text("One host, live")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Escape")
    expect(box).to_have_count(0)
    expect(page.locator("[data-part=tour-begin]")).to_be_focused()

    page.locator("button.term").first.press("Enter")
    page.get_by_text("A page that somebody reaches who does not own it").wait_for()
    page.keyboard.press("Escape")
    keys = page.locator("dialog[data-part=keys]")
    page.keyboard.press("?")
    keys.wait_for()
    keys.get_by_label("Single keys act on this device").press("Space")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(keys).to_be_hidden()
    page.reload()
    page.keyboard.press("?")
    expect(keys).to_be_hidden()
    page.evaluate("() => localStorage.clear()")
