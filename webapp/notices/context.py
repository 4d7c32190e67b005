"""The bell and the badge in the frame of every page, and the strip of open alerts: asked only where they are shown."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from webapp.notices import alert_selectors, selectors


def bell(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)
    if user is None:
        return {}
    return {
        "bell": SimpleLazyObject(lambda: selectors.bell_of(user=user)),
        "alert_strip": SimpleLazyObject(lambda: alert_selectors.strip_of(user=user)),
    }
