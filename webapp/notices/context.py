"""The bell in the frame of every page: how many notices are unread, asked only where it is shown."""

from __future__ import annotations

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from webapp.notices import selectors


def bell(request: HttpRequest) -> dict[str, object]:
    user = getattr(request, "user", None)
    if user is None:
        return {}
    return {"bell": SimpleLazyObject(lambda: selectors.bell_of(user=user))}
