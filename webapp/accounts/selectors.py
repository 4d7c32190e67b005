"""Reads about oneself: roles, sign-ins, and everything that is kept about a person."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from allauth.mfa.models import Authenticator  # type: ignore[import-untyped]
from allauth.socialaccount.models import SocialAccount  # type: ignore[import-untyped]
from django.utils.translation import gettext as _

from webapp.accounts import sessions
from webapp.audit.selectors import acts_of

if TYPE_CHECKING:
    from allauth.usersessions.models import UserSession  # type: ignore[import-untyped]

    from webapp.accounts.models import User

# What other apps keep about a person, by its name among the person's data; each from its app's ready().
more_of_own: dict[str, Callable[[User], Any]] = {}

BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def agent_words(agent: str) -> str:
    """A browser as its user would call it."""
    browser = next((name for mark, name in BROWSERS if mark in agent), "")
    system = next((name for mark, name in SYSTEMS if mark in agent), "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("an unknown program")


def session_shown(row: UserSession, *, own: str | None) -> dict[str, Any]:
    return {
        "pk": row.pk,
        "where": agent_words(row.user_agent),
        "address": row.ip,
        "since": row.created_at,
        "seen": row.last_seen_at,
        "this": row.session_key == own,
    }


def roles_shown(*, user: User) -> list[dict[str, Any]]:
    """The person's roles, each with its organisation."""
    rows = user.memberships.select_related("tenant").order_by("tenant__name", "role")
    return [
        {"role": row.get_role_display(), "where": row.tenant.name if row.tenant else _("this site")} for row in rows
    ]


def own_data(*, user: User) -> dict[str, Any]:
    """Everything that the site keeps about the person as a person, and what the log says that it did."""
    return {
        "format": "vpms-person/1",
        "name": user.username,
        "full_name": user.first_name,
        "email": user.email,
        "language": user.language,
        "alias": user.alias,
        "joined": user.date_joined.isoformat(),
        "roles": [{"role": row["role"], "where": row["where"]} for row in roles_shown(user=user)],
        "second_factors": [
            {"kind": row.type, "name": str(row), "since": row.created_at.isoformat()}
            for row in Authenticator.objects.filter(user=user).order_by("pk")
        ],
        "connected": [
            {"provider": row.provider, "subject": row.uid, "since": row.date_joined.isoformat()}
            for row in SocialAccount.objects.filter(user=user).order_by("pk")
        ],
        "tokens": [
            {"name": row.name, "scope": row.scope, "since": row.created_at.isoformat()}
            for row in user.api_tokens.order_by("pk")
        ],
        "sign_ins": [
            {"address": row.ip, "program": row.user_agent, "since": row.created_at.isoformat()}
            for row in sessions.live_of(user=user)
        ],
        **{name: told(user) for name, told in more_of_own.items()},
        "acts": acts_of(user=user),
    }
