"""The bell and the choices in a real browser: live without a reload, and by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.e2e.conftest import serious


def test_the_bell_follows_what_another_page_does(sign_in: Callable[..., Page]) -> None:
    watching, other = sign_in("alice"), sign_in("alice")
    watching.goto("/notices/")
    expect(watching.get_by_text(re.compile(r"^Notices: \d+ unread$"))).to_have_count(1)
    expect(watching.locator(".live-chip")).to_have_attribute("data-state", "live")
    other.goto("/notices/")
    other.get_by_role("button", name="Mark all as read").press("Enter")
    expect(other.get_by_text(re.compile(r"notices? (was|were) marked as read"))).to_be_visible(timeout=60_000)
    expect(watching.get_by_text("read", exact=True).first).to_be_visible(timeout=60_000)
    assert not serious(watching)


def test_choices_are_made_by_keyboard_at_320_px(sign_in: Callable[..., Page]) -> None:
    page = sign_in("bob", viewport={"width": 320, "height": 700})
    page.goto("/account/notifications/")
    group = page.get_by_role("radiogroup", name="Starts and stops: by e-mail")
    group.get_by_role("radio", name="Digest").focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Keep these choices").press("Enter")
    expect(page.get_by_text("Your choices are kept")).to_be_visible(timeout=60_000)
    page.goto("/account/notifications/")
    expect(group.get_by_role("radio", name="Off")).to_be_checked()
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert not serious(page)
