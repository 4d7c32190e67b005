"""The ownership map in a real browser: by keyboard alone, at 320 px, in every theme, and what it gives away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

MAP = '[data-view="ownership-map"]'
# Every colour of the canvas with how often it is there.
COLOURS = """root => {
  const canvas = root.querySelector('canvas');
  const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return new Set(pixels).size;
}"""

# Whether the canvas has no colour at all.
GREY = """() => document.querySelector('.map-canvas').getContext('2d').getImageData(0, 0, 200, 200).data
  .every((value, i, all) => i % 4 === 3 || value === all[i - i % 4])"""


def open_map(page: Page, host: str = "h2") -> Any:
    page.goto(f"/operator/host/{host}/")
    page.wait_for_selector(f'{MAP}[data-state="live"]')
    return page.locator(MAP)


def told(root: Any, name: str, value: str) -> None:
    expect(root).to_have_attribute(f"data-{name}", value)


def test_the_map_is_worked_by_keyboard_alone(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga")
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    root = open_map(page)
    page.locator(".map-stage").focus()
    keys = page.keyboard
    for key in ("ArrowRight", "ArrowDown"):
        keys.press(key)
    cursor = root.locator(".map-cursor")
    expect(cursor).to_contain_text("0x81")
    keys.press("+")
    told(root, "zoom", "2")
    keys.press("d")
    expect(root).not_to_have_attribute("data-column", "0")
    keys.press("0")
    told(root, "zoom", "1")
    told(root, "column", "0")

    # To a page by its number, then from extent to extent and back.
    keys.press("g")
    keys.type("0x100")
    keys.press("Enter")
    expect(cursor).to_contain_text("0x100")
    keys.press("]")
    expect(cursor).not_to_contain_text("0x100 (")
    keys.press("[")
    keys.press("i")
    expect(root).not_to_have_attribute("data-isolated", "")
    expect(root.locator('.legend-owner[aria-pressed="true"]')).to_have_count(1)
    keys.press("i")
    told(root, "isolated", "")

    keys.press("x")
    expect(root).to_contain_text("Nothing is marked as A yet")
    keys.press("m")
    keys.press("x")
    expect(root).to_contain_text("A compared with B")
    expect(root).to_contain_text("pages differ")
    keys.press("x")
    expect(root.get_by_role("heading", name="A compared with B")).to_be_hidden()

    # The same frame under the cursor in both orders, and the arrow keys go on from there.
    page.get_by_role("button", name="Hilbert order").focus()
    keys.press("Enter")
    told(root, "order", "hilbert")
    keys.press("Tab")
    keys.press("ArrowDown")
    told(root, "overlay", "age")
    expect(root).to_contain_text("When each page last changed its owner")
    root.locator("summary", has_text="Select pages").focus()
    for key in ("Enter", "Tab", "0x10", "Tab", "0x1f", "Enter"):
        keys.type(key) if key.startswith("0x") else keys.press(key)
    expect(root.locator(".map-words")).to_contain_text("16 pages (64 KiB), 0x10 to 0x1f")
    assert not said


def test_what_the_map_gives_away_is_what_it_shows(sign_in: Callable[..., Page], tmp_path: Path) -> None:
    page = sign_in("olga")
    root = open_map(page)
    page.get_by_text("Select pages").click()
    page.get_by_label("From page").fill("0x7e")
    page.get_by_label("to page").fill("0x81")
    page.get_by_role("button", name="Select", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV of these pages").click()
    rows = Path(download.value.path()).read_text().splitlines()
    assert rows[0].startswith('"Simulation. Selection') and rows[1] == "page,address,owner"
    assert [row.split(",")[:2] for row in rows[2:]] == [[f"{n:#x}", f"{n * 4096:#x}"] for n in range(0x7E, 0x82)]
    root.get_by_text("Take away").click()
    with page.expect_download() as download:
        root.get_by_role("button", name="JSON").click()
    data = json.loads(Path(download.value.path()).read_text())
    pages = int(root.get_attribute("data-pages") or 0)
    assert data["simulation"] is True and data["data"]["pages"] == pages
    assert sum(length for _, length, _ in data["data"]["extents"]) == pages
    assert sum(owner["pages"] for owner in data["data"]["owners"]) == pages
    with page.expect_download() as download:
        root.get_by_role("button", name="PNG 1x").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_the_map_stays_readable_at_320_pixels_in_every_theme_and_in_black_on_white(
    sign_in: Callable[..., Page],
) -> None:
    page = sign_in("olga", viewport={"width": 320, "height": 800})
    root = open_map(page)
    root.get_by_role("button", name="Table", exact=True).click()
    page.get_by_text("Lengths of extents").click()
    for theme in ("light", "dark", "projector"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_function("() => document.documentElement.scrollWidth <= 320")
        assert root.evaluate(COLOURS) >= 4, theme
    expect(root.locator(".map-table caption", has_text="Extents")).to_be_visible()
    page.get_by_role("button", name="Black on white").click()
    page.wait_for_function(GREY)
