"""The pages of one's account, in the order of their navigation: one row for each (name of the address, words)."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

PAGES: list[tuple[str, Promise]] = [
    ("account", _("Profile")),
    ("account-password", _("Password")),
    ("account-factors", _("Second factor")),
    ("account-sessions", _("Sign-ins")),
    ("tokens", _("API tokens")),
    ("notice-choices", _("Notifications")),
    ("shares", _("What I have shared")),
    ("account-data", _("Your data")),
]
