"""The TLB grid in a browser, on a recording made here: a planted stale entry from the engine to its cell."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

import pytest
from playwright.sync_api import Page

from hsvm_engine.wire import State, counters, decode, encode, map_keyframe, tlb_delta, tlb_keyframe
from tests.e2e.test_pages import SETTLED
from tests.engine.test_play import player, small
from tests.engine.test_tlb_rules import plant

RUN = 1  # in the demo's recording that is the unprotected host
TLB = '[data-view="tlb"]'
# What stands in a cell in every state of it: of each the first. axe looks at the whole page elsewhere, and takes long.
WORDS = [
    "td.tlb-ok .tlb-tag",
    "td.tlb-ok .tlb-fields",
    "td.tlb-dim .tlb-tag",
    "td.tlb-dim .owner",
    "td.tlb-stale .tlb-fields",
]
WORDS += [
    "td.tlb-stale .owner",
    "td.tlb-pinned .tlb-mark",
    "td.tlb-pinned .tlb-fields",
    ".tlb-grid tbody th",
    ".tlb-state",
]
CONTRASTS = """selectors => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g)
      .map(part => (part / 255 <= 0.03928 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ground = node => {
    const colour = getComputedStyle(node).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' ? ground(node.parentElement) : colour;
  };
  return Object.fromEntries(selectors.map(selector => {
    const node = document.querySelector(selector);
    const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
    return [selector, Math.max(a, b) / Math.min(a, b)];
  }));
}"""
PULSES = """() => {
  window.pulses = [];
  const animate = Element.prototype.animate;
  Element.prototype.animate = function (...all) {
    window.pulses.push(performance.now());
    return animate.apply(this, all);
  };
}"""


class Story(NamedTuple):
    recording: bytes
    stale: list[int]  # places of the first core's entries that are STALE at the end, as its cells are counted
    total: int


@pytest.fixture(scope="module")
def story() -> Story:
    """Three moments: a run, the run a little later, and the same with an unmap that nobody flushed."""
    p = player(small("nested"))
    p.step(2_000)
    known = State.from_player(p)
    records: list[tuple[int, bytes | str]] = [
        (0, map_keyframe(known, RUN)),
        (0, counters(known, RUN)),
        (0, tlb_keyframe(known, RUN)),
    ]
    for at, accesses in ((1_000, 60), (2_000, 1)):
        index = plant(p) if at == 2_000 else 0
        change = known.apply(decode(encode(p.step(accesses))))
        records += [(at, tlb_delta(known, RUN, change)), (at, counters(known, RUN))]
    stale = [int(row["index"]) for row in known.tlb if row["state"] == 1]
    assert index in stale
    assert index < known.geometry.per_core, "the first VM runs on the first core"
    raw = b""
    for at, message in records:
        payload = message if isinstance(message, bytes) else message.encode()
        raw += struct.pack("<IBI", at, isinstance(message, bytes), len(payload)) + payload
    return Story(raw, [each for each in stale if each < known.geometry.per_core], len(stale))


def opened(sign_in: Callable[..., Page], story: Story, motion: str) -> Page:
    page = sign_in(None, reduced_motion=motion)
    page.route("**/demo/recording", lambda route: route.fulfill(body=story.recording))
    page.goto("/demo/")
    page.get_by_role("button", name="Step forward").wait_for()
    return page


def test_a_planted_stale_entry_is_marked_found_by_keys_and_explained(
    sign_in: Callable[..., Page], story: Story
) -> None:
    page = opened(sign_in, story, "reduce")
    page.evaluate(PULSES)
    forward, title = page.get_by_role("button", name="Step forward"), page.locator(f"{TLB} h2")
    forward.click()
    page.wait_for_selector(f"{TLB} td.tlb-ok")
    assert (title.inner_text(), page.get_by_role("button", name="Next STALE").is_disabled()) == ("TLB", True)

    # arrows, Enter, Escape: a grid that has one stop of the Tab key
    cell = page.locator(f"{TLB} td[tabindex='0']").first
    cell.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp", "ArrowRight"):
        page.keyboard.press(key)
    assert page.evaluate("() => document.activeElement.ariaLabel").startswith("core 0, level 1, set 0, way 1: ")
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="The chosen entry")
    page.wait_for_function("() => document.querySelector('.tlb-entry')?.innerText.includes('What would flush this?')")
    assert "nothing is shot down" in panel.inner_text()  # the recording's first host is `nested`
    page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    page.keyboard.press(".")
    page.wait_for_function(
        "() => document.querySelectorAll('.tlb-changes li').length > 0"
    )  # in words instead of pulses

    page.keyboard.press(".")
    page.wait_for_function(f"() => document.querySelector('{TLB} h2')?.innerText === 'TLB: {story.total} STALE'")
    marked = f"() => [...document.querySelectorAll('{TLB} td')].map(td => td.innerText.includes('STALE'))"
    assert [i for i, stale in enumerate(page.evaluate(marked)) if stale] == story.stale
    page.get_by_role("button", name="Next STALE").press("Enter")
    at = "() => [...document.querySelectorAll('td.tlb-cell')].indexOf(document.activeElement)"
    assert page.evaluate(at) == story.stale[0]
    assert "A walk made now would answer otherwise" in panel.inner_text()

    # the filter never hides it; the pin is found, and said when nobody holds the page
    page.get_by_label("VM to show").select_option(label="Only b-web (B)")
    page.wait_for_selector(f"{TLB} td.tlb-dim")
    assert page.locator(f"{TLB} td.tlb-stale:not(.tlb-dim)").count() == len(story.stale)
    tag = page.locator(f"{TLB} td.tlb-stale .tlb-tag").first.inner_text()
    page.get_by_label("Number to pin, in hex").fill(tag)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"{TLB} td.tlb-stale.tlb-pinned")
    colours_and_width(page)
    page.get_by_label("Number to pin, in hex").fill("0xfffffffff")
    page.keyboard.press("Enter")
    page.get_by_text("Page 0xfffffffff: no core holds it.").wait_for()
    page.locator(TLB).get_by_role("button", name="Table", exact=True).press("Enter")
    page.wait_for_function(
        "() => document.querySelector('.tlb-view .long-table tbody tr')?.innerText.includes('STALE')"
    )

    page.locator(f"{TLB} h2").click()
    page.keyboard.press(",")
    page.wait_for_function(f"() => document.querySelector('{TLB} h2')?.innerText === 'TLB'")
    assert page.evaluate("() => window.pulses.length") == 0
    # the counters know what comes after: the reading can be moved there by keys
    reading = page.get_by_label("Reading of the chart")
    reading.press("End")
    assert "(now)" not in (reading.get_attribute("aria-valuetext") or "(now)")
    reading.press("ArrowLeft")
    assert "(now)" in (reading.get_attribute("aria-valuetext") or "")


def colours_and_width(page: Page) -> None:
    for theme in ("light", "dark", "projector"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_function(SETTLED, polling=100)
        worst = page.evaluate(CONTRASTS, WORDS)
        assert min(worst.values()) >= 4.5, (theme, worst)
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320")
    page.set_viewport_size({"width": 1280, "height": 720})


def test_changes_flash_less_than_three_times_a_second(sign_in: Callable[..., Page], story: Story) -> None:
    page = opened(sign_in, story, "no-preference")
    page.get_by_role("button", name="Play again").wait_for()
    page.locator('[data-view="tlb"] [role="grid"]').first.scroll_into_view_if_needed()
    page.wait_for_timeout(200)
    page.evaluate(PULSES)
    page.keyboard.press(",")
    for _ in range(5):
        for key in (",", "."):
            page.keyboard.press(key)
            page.wait_for_timeout(60)
    page.wait_for_timeout(500)
    times = sorted(page.evaluate("() => window.pulses"))
    flashes = [at for before, at in zip([-1_000.0, *times], times, strict=False) if at - before > 50]
    assert len(flashes) >= 2
    assert all(later - first >= 1_000 for first, later in zip(flashes, flashes[3:], strict=False))
