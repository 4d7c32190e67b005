"""An alert reaches an open page without a reload, and is answered there by keyboard alone, on a small screen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import serious


@pytest.mark.long
def test_an_alert_comes_to_every_open_page_of_an_operator_and_is_acknowledged_by_keyboard(
    sign_in: Callable[..., Page],
) -> None:
    watching, small = sign_in("olga"), sign_in("olga", viewport={"width": 320, "height": 700})
    watching.goto("/operator/drills/")
    expect(watching.locator(".live-chip")).to_have_attribute("data-state", "live", timeout=60_000)
    badge = watching.locator("#alert-badge")
    expect(badge).to_have_attribute("role", "status")  # what comes is read out, and moves no focus
    expect(badge).not_to_contain_text("This is a test of the alerts")
    small.goto("/operator/alerts/")
    small.get_by_role("button", name="Raise a test alert").press("Enter")
    expect(small.get_by_text("A test alert was raised")).to_be_visible(timeout=60_000)
    expect(badge).to_contain_text("This is a test of the alerts", timeout=60_000)
    small.get_by_text("Silence, hand over, resolve").press("Enter")
    small.get_by_label("Note").fill("It arrives.")
    small.get_by_label("Note").press("Enter")
    expect(small.get_by_text("The alert is acknowledged.")).to_be_visible(timeout=60_000)
    expect(badge).not_to_contain_text("This is a test of the alerts", timeout=60_000)
    small.goto("/operator/alerts/?kind=test")
    expect(small.get_by_text("It arrives.")).to_be_visible(timeout=60_000)
    assert small.evaluate("document.documentElement.scrollWidth") <= 320
    assert not serious(small)
    assert not serious(watching)
