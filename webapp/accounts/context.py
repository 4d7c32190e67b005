"""What every page's frame needs: the theme and the roles that the person has."""

from django.http import HttpRequest

THEMES = ("system", "light", "dark", "projector")


def frame(request: HttpRequest) -> dict[str, object]:
    theme = request.COOKIES.get("theme", "system")
    return {"theme": theme if theme in THEMES else "system", "themes": THEMES}
