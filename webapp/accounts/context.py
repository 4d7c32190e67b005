"""What every page's frame needs: the theme and the roles that the person has."""

from __future__ import annotations

from django.http import HttpRequest

from webapp.roles import role_names

THEMES = ("system", "light", "dark", "projector")


def frame(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme", "system")
    return {
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES,
        "roles": role_names(getattr(request, "user", None)),
    }
