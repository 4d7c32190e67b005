"""What every page's frame needs: the theme and the roles that the person has."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from webapp.roles import may_change, role_names

THEMES = ("system", "light", "dark", "projector")


def frame(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme", "system")
    user: Any = getattr(request, "user", None)
    return {
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES,
        "roles": role_names(user),
        # Whether buttons that change something are for this person: what one may not press is not shown.
        "may_change": may_change(user, "operator" if request.path.startswith("/operator/") else "tenant"),
        "organisations": user.organisations if user is not None and user.is_authenticated else [],
        "organisation": next(iter(user.tenant_slugs), "") if user is not None and user.is_authenticated else "",
    }
