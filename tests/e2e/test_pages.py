"""Every page, looked at by a machine: axe, 320 px, no script, keyboard, nothing in the browser's console."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.e2e.conftest import serious
from tests.e2e.stack import Demo

Settled = Callable[[str | None, bool], BrowserContext]
PAGES = [
    (None, "/"),
    (None, "/demo/"),
    (None, "/learn/"),
    (None, "/learn/walk/?case=cached&step=5"),
    (None, "{A14 nested}?step=6"),
    (None, "{A03 hsvm}compare/?without=owner_check"),
    (None, "/sign-in/"),
    (None, "/api/docs?q=notices"),
    ("alice", "/tenant/"),
    ("alice", "/tenant/vm/new/"),
    ("alice", "/tenant/vm/a-db/"),
    ("alice", "/tenant/vm/a-db/memory/"),
    ("alice", "/tenant/vm/a-db/?tab=yaml"),
    ("alice", "/tenant/vm/a-db/drill/"),
    ("alice", "/tenant/host/h1/goals/"),
    ("alice", "/tenant/agreements/"),
    ("alice", "/tenant/audit/"),
    ("alice", "/tenant/people/"),
    ("alice", "/tenant/conduct/"),
    ("alice", "/tenant/vm/a-db/move/"),
    ("alice", "/notices/"),
    ("alice", "/account/sessions/"),
    ("alice", "/account/tokens/"),
    ("alice", "/account/notifications/"),
    ("alice", "/account/second-factor/app/"),
    ("olga", "/operator/"),
    ("olga", "/operator/wall/"),
    ("olga", "/operator/screens/"),
    ("olga", "/operator/host/h2/"),
    ("olga", "/operator/host/h2/goals/"),
    ("olga", "/operator/agreements/"),
    ("olga", "/operator/audit/"),
    ("ines", "/teach/"),
]
NAMES = [path for _, path in PAGES]
CLASSROOM = [  # in one theme: their colours are those of the pages above; the story's course is the first
    ("ines", "/learn/courses/"),
    ("ines", "/learn/courses/1/"),
    ("ines", "/learn/courses/1/settings/"),
    ("ines", "/learn/courses/1/members/"),
    ("ines", "/learn/courses/1/grades/"),
    ("ines", "/learn/courses/1/mistakes/"),
    ("ines", "/learn/courses/bundle/"),
    ("ines", "/learn/items/3/edit/"),
    ("ines", "/learn/items/3/settings/"),
    ("ines", "/learn/items/3/delete/"),
    ("ines", "/learn/class/{code}/desk/"),
    ("ines", "/learn/class/{code}/wall/"),
    ("sven", "/join/{code}/"),
    ("sven", "/learn/courses/1/"),
    ("sven", "/learn/courses/1/grades/mine/"),
    ("sven", "/learn/items/3/"),
    ("sven", "/learn/predict/walk/cached/"),
    ("sven", "/shared/"),
    ("sven", "/shared/new/?kind=walk&case=nested&step=7"),
]
COLOURS = ["color-contrast"]  # a theme changes colours and nothing else
ALIKE = "tbody tr:nth-child(n+9) { display: none }"  # the further rows of a table repeat the first; axe takes seconds
CUT = """() => [...document.querySelectorAll("main :is(button, a.button, h1, h2, th, label, .status)")]
  .filter(at => at.scrollWidth > at.clientWidth + 2 && at.clientWidth > 1 && getComputedStyle(at).display !== "inline")
  .map(at => at.outerHTML.slice(0, 120))"""  # words that do not fit where they stand
SETTLED = "() => document.getAnimations().every(running => !(running instanceof CSSTransition))"


@pytest.fixture
def there(demo: Demo) -> Callable[[str], str]:
    """The address of a page: `{A14 nested}` stands for that cell of the table, executed."""

    def address(path: str) -> str:
        named = re.match(r"\{(\S+) (\S+)\}", path)
        while named:
            attack, architecture = named.groups()
            query = f"?attack={attack}&architecture={architecture}"
            (found,) = json.loads(demo.get(f"/api/matrix{query}")[1])["items"]
            if found["state"] == "done":
                return found["url"] + path[named.end() :]
            time.sleep(0.5)
        return path

    return address


@pytest.mark.parametrize(("who", "path"), PAGES, ids=NAMES)
def test_a_page_has_no_serious_fault_in_any_theme_and_fits_320_px(
    settled: Settled, there: Callable[[str], str], who: str | None, path: str
) -> None:
    page = settled(who, True).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(there(path))
    page.evaluate("rule => document.styleSheets[0].insertRule(rule)", ALIKE)
    for theme, rules in (("light", []), ("dark", COLOURS), ("projector", COLOURS)):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_timeout(50)
        page.wait_for_function(SETTLED, polling=100)  # colours change by a short transition
        bad = serious(page, *rules)
        assert not bad, f"{path} {theme}: " + "; ".join(bad)
    page.evaluate("() => document.styleSheets[0].deleteRule(0)")
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320", polling=100)
    assert not said
    page.close()


@pytest.mark.parametrize(("who", "path"), PAGES, ids=NAMES)
def test_a_page_says_its_piece_without_script(
    settled: Settled, there: Callable[[str], str], who: str | None, path: str
) -> None:
    page = settled(who, False).new_page()
    page.goto(there(path))
    assert len(page.locator("main").inner_text()) > 120
    page.close()


@pytest.fixture(scope="module")
def code(settled: Settled) -> str:
    """Of the class that is open in the story."""
    page = settled("ines", True).new_page()
    page.goto("/learn/courses/1/")
    desk = page.get_by_role("link", name=re.compile("^Desk of class")).get_attribute("href") or ""
    page.close()
    return desk.split("/")[3]


@pytest.mark.parametrize(("who", "path"), CLASSROOM, ids=[f"{who} {path}" for who, path in CLASSROOM])
def test_a_page_of_the_classroom_has_no_serious_fault_and_fits_320_px(
    settled: Settled, code: str, who: str, path: str
) -> None:
    page = settled(who, True).new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.set_viewport_size({"width": 320, "height": 700})
    page.goto(path.format(code=code))
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320", polling=100)
    bad = serious(page)
    assert not bad, f"{path}: " + "; ".join(bad)
    cut = page.evaluate(CUT)
    assert not cut and not said, (cut, said)
    page.close()


def test_the_map_is_read_by_keyboard_alone(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga")
    page.goto("/operator/host/h2/")
    root = page.locator('[data-view="ownership-map"]')
    page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')
    root.locator("[tabindex='0'], canvas[tabindex]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('[data-view=ownership-map]')?.innerText.includes('0x81')")


def test_the_past_is_stepped_by_keyboard_and_every_view_shows_that_moment(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga")
    page.goto("/operator/host/h2/")
    page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')
    dock, said = page.locator('[data-view="timeline"]'), page.locator(".timeline-says")
    page.wait_for_selector('[data-view="timeline"][aria-busy="false"]')  # it knows what can be looked at
    page.keyboard.press(",")
    page.wait_for_selector('[data-view="timeline"]:not([data-at="live"])')
    at = int(dock.get_attribute("data-at") or "")
    for view in ("ownership-map", "tlb", "counters"):
        page.wait_for_selector(f'[data-view="{view}"][data-op="{at}"][data-state="recording"]')
    expect(page.locator("[data-part=live-chip]")).to_contain_text(f"Recording (viewing op {at:,}, not now)")
    for key, to in ((",", at - 1), (",", at - 2), (".", at - 1)):
        page.keyboard.press(key)
        page.wait_for_selector(f'[data-view="timeline"][data-at="{to}"]')
    said_there = said.inner_text()
    page.reload()
    page.wait_for_selector(f'[data-view="timeline"][data-at="{at - 1}"]')
    page.wait_for_selector(f'[data-view="tlb"][data-op="{at - 1}"]')
    expect(said).to_have_text(said_there, use_inner_text=True)
    dock.get_by_label("Run to").select_option("denied")
    dock.get_by_role("button", name="Last").click()
    page.wait_for_function(
        "() => document.querySelector('.timeline-says')?.innerText.includes('was found before') || "
        "Number(document.querySelector('[data-view=timeline]')?.dataset.at) < " + str(at - 1)
    )
    dock.get_by_label("Go to operation").fill("1000")
    page.keyboard.press("Enter")
    page.wait_for_selector('[data-view="ownership-map"][data-op="1000"]')
    dock.get_by_role("button", name="Back to live").click()
    page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')


def test_the_walk_is_stepped_by_keyboard_and_its_link_keeps_the_step(sign_in: Callable[..., Page]) -> None:
    page = sign_in(None)
    page.goto("/learn/walk/?case=guest-fault")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "."):
        page.keyboard.press(key)
    expect(page.locator("[data-part=says]")).to_contain_text("Reference 2 of 20")
    expect(page.locator('.walk-ref[data-state="now"]')).to_have_attribute("data-order", "2")
    page.get_by_role("link", name="Skip to the fault").click()
    expect(page.locator("[data-part=says]")).to_contain_text("the walk ends here with a fault")
    page.reload()
    expect(page.locator("tr[aria-current=step]")).to_have_attribute("data-order", "20")
    for theme in ("light", "dark", "projector"):  # axe does not look at the colours of a drawing
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_function(SETTLED, polling=100)
        fills = page.evaluate(
            "() => ['rect', 'text'].map(part => getComputedStyle("
            "document.querySelector(`.walk-ref[data-state=done] ${part}`)).fill)"
        )
        light, dark = sorted(sum(map(int, re.findall("[0-9]+", fill)[:3])) for fill in fills)
        assert dark - light > 300, (theme, fills)
    page.keyboard.press("Home")
    expect(page.locator('.walk-ref[data-state="coming"]')).to_have_count(20)


def test_the_table_and_a_replay_are_walked_by_keyboard_and_the_link_keeps_the_step(
    sign_in: Callable[..., Page], there: Callable[[str], str]
) -> None:
    page = sign_in(None)
    there("{A01 hsvm}")
    page.goto("/learn/")
    page.wait_for_selector('[data-view="attack-matrix"][data-state="live"]')
    first = page.locator('td[data-attack="A03"][data-architecture="nested"] a')
    first.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        page.keyboard.press(key)
    expect(page.locator(".matrix-facts")).to_contain_text("A01 on hsvm: BLOCKED by hv_access_check; seed 0")
    expect(page.locator('table.matrix a[tabindex="0"]')).to_have_count(1)  # one stop for Tab
    page.keyboard.press("Enter")
    page.wait_for_url("**/teach/cell/*/")
    says = page.locator("[data-part=says]")
    expect(says).to_contain_text(re.compile("Step 5 of 5.*F_OWNER", re.S))
    for key in ("Home", ".", ".", ".", ","):
        page.keyboard.press(key)
    expect(says).to_contain_text("Step 2 of 5, setup: page_map")
    expect(page.locator("[data-part=frames]")).to_contain_text("free → VM A (victim)")
    page.reload()
    expect(says).to_contain_text("Step 2 of 5")
    assert page.url.endswith("?step=2")
    page.get_by_role("link", name="Run to the deciding step").press("Enter")
    expect(page.locator(".replay-list [aria-current=step]")).to_have_attribute("id", "step-5")
    expect(page.locator(".replay-compared")).to_contain_text("owner[0x1000] = VM A (victim)")


def test_turning_a_check_off_opens_both_machines_in_lock_step(
    sign_in: Callable[..., Page], there: Callable[[str], str]
) -> None:
    page = sign_in(None, reduced_motion="reduce")
    page.goto(there("{A03 hsvm}"))
    page.get_by_role("link", name="Turn this check off and watch").press("Enter")
    page.wait_for_url("**/compare/**")
    both = page.locator("[data-part=both]")
    expect(both).to_contain_text("hsvm answered E_OWNER by owner_check, hsvm without owner_check answered OK")
    page.keyboard.press(".")
    expect(both).to_contain_text("Step 8, guest_read: hsvm answered F_NOT_PRESENT")
    left, right = (page.locator(f'[data-film="{i}"] [data-part=frames]').inner_text() for i in (0, 1))
    assert "VM B" not in left and "VM B (attacker)" in right
    page.get_by_role("link", name="Run to the first divergence").press("Enter")
    expect(page).to_have_url(re.compile("step=7"))
    expect(page.locator("tr[aria-current=step] .chip")).to_have_text("first divergence")


def test_a_shared_moment_is_drawn_for_who_wants_no_motion(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga", reduced_motion="reduce", viewport={"width": 320, "height": 700})
    page.goto("/shared/new/?kind=moment&run=1&op=1000")
    page.get_by_role("button", name="Make the link").press("Enter")
    page.get_by_role("link", name="Open it").first.press("Enter")
    page.wait_for_selector('[data-view="ownership-map"][data-op="1000"]')
    expect(page.get_by_text("No memory map yet")).to_be_hidden()
    page.wait_for_function("() => document.documentElement.scrollWidth <= 320", polling=100)
    assert not serious(page)


CLOSED = {  # beginnings of the sentences, written again here
    1009: "This page sent a message that is too big",
    4001: "This page fell behind the server",
    4003: "You no longer have access",
    4008: "This device read too slowly",
    4009: "The server did not understand this page",
    4029: "Too many live pages or messages at once",
}
REFUSED = """window.WebSocket = class {
  readyState = 3;
  constructor() { setTimeout(() => this.onclose?.({code: 1006, reason: ""}), 5); }
  send() {}
  close() {}
}"""


def test_each_close_code_puts_its_own_sentence_on_the_page(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga")
    codes: list[int] = []
    page.route_web_socket(re.compile("/ws/$"), lambda socket: socket.close(code=codes[-1]))
    for code, words in CLOSED.items():
        codes.append(code)
        page.goto("/operator/host/h2/")
        page.locator(".notice[data-part=connection]").filter(has_text=words).first.wait_for()


def test_where_websockets_are_refused_the_map_follows_by_requests(sign_in: Callable[..., Page]) -> None:
    page = sign_in("olga")
    page.add_init_script(REFUSED)
    page.goto("/operator/host/h2/")
    page.wait_for_selector('[data-view="ownership-map"][data-state="live"]')
    first = int(page.get_attribute('[data-view="ownership-map"]', "data-seq") or 0)
    page.wait_for_function(f"() => Number(document.querySelector('[data-view=ownership-map]')?.dataset.seq) > {first}")
    expect(page.locator(".notice[data-part=connection]").first).to_contain_text("asks for the newest state every 2 s")


NARROW = [  # the longest words, the widest tables and the dock
    ("alice", ["/tenant/", "/tenant/host/h1/goals/"]),
    ("olga", ["/operator/host/h2/"]),
    ("ines", ["/learn/courses/1/", "/learn/courses/1/members/", "/learn/items/3/settings/"]),
]


def test_german_fits_320_px_and_a_page_from_right_to_left_overflows_nowhere(settled: Settled) -> None:
    for who, paths in NARROW:
        page = settled(who, True).new_page()
        page.goto(paths[0])
        page.locator("form[action='/language/'] button[value=de]").click()
        for path in paths:
            page.goto(path)
            assert page.locator("html").get_attribute("lang") == "de"
            assert page.get_by_role("button", name="Abmelden").is_visible()
            for direction in ("ltr", "rtl"):
                page.evaluate("direction => { document.documentElement.dir = direction }", direction)
                for width in (320, 1280):
                    page.set_viewport_size({"width": width, "height": 700})
                    page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
        page.locator("form[action='/language/'] button[value=en]").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")  # to close a page that is on its way can hang
        page.close()
