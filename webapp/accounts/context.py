"""What every page's frame needs: the theme and the roles that the person has."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from webapp.roles import role_names

THEMES = {
    "system": _("Theme: system"),
    "light": _("Theme: light"),
    "dark": _("Theme: dark"),
    "projector": _("Theme: projector"),
}


def frame(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme", "system")
    return {
        "theme": theme if theme in THEMES else "system",
        "themes": THEMES.items(),
        "roles": role_names(getattr(request, "user", None)),
    }
