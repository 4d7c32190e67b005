"""A security key in a real browser: registered, asked for at the sign-in, removed. Keys need a site with a name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from tests.e2e.conftest import serious
from tests.e2e.stack import PASSWORD, Demo

KEY = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
}


def password_given(page: Page, site: str) -> None:
    page.goto(f"{site}/sign-in/")
    page.get_by_label("Name").fill("nora")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.long
def test_a_key_is_registered_and_asked_for_at_the_next_sign_in(demo: Demo, sign_in: Callable[..., Page]) -> None:
    page, site = sign_in(None), f"http://localhost:{demo.port}"
    tools = page.context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    tools.send("WebAuthn.addVirtualAuthenticator", {"options": KEY})
    password_given(page, site)
    page.wait_for_url("**/tenant/")
    page.goto(f"{site}/account/second-factor/key/")
    page.get_by_label("Name of the key").fill("blue key")
    page.get_by_role("button", name="Register this key").press("Enter")
    page.get_by_text("Keep these codes").wait_for()
    page.get_by_role("button", name="Sign out").click()
    password_given(page, site)
    key = page.get_by_role("button", name="Use my security key")
    key.wait_for()
    assert not serious(page)
    key.press("Enter")
    page.wait_for_url("**/tenant/")
    page.goto(f"{site}/account/second-factor/")
    page.get_by_role("button", name="Remove blue key").click()
    page.get_by_text("The second factor is removed.").wait_for()
