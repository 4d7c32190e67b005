"""What every page's frame needs: the theme and the roles that the person has."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from webapp.accounts.nav import PAGES
from webapp.roles import may_change, only_reads, role_names

THEMES = {
    "system": _("Theme: system"),
    "light": _("Theme: light"),
    "dark": _("Theme: dark"),
    "projector": _("Theme: projector"),
}


def frame(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme", "system")
    user: Any = getattr(request, "user", None)
    return {
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES.items(),
        "roles": role_names(user),
        # Whether buttons that change something are for this person: what one may not press is not shown.
        "may_change": may_change(user, "operator" if request.path.startswith("/operator/") else "tenant"),
        # Whether "Share" stands beside what can be shared: for people with an account who may change things.
        "may_share": bool(user and user.is_authenticated and not user.guest and not only_reads(user)),
        "account_pages": PAGES,
        "organisations": user.organisations if user is not None and user.is_authenticated else [],
        "organisation": next(iter(user.tenant_slugs), "") if user is not None and user.is_authenticated else "",
    }
