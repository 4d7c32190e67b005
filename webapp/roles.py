"""Doors of role areas: signed in at all, and with the role; objects inside have their own check (visible_to).

Stands beside the apps, not in one: the log's pages need it too, and they lie below the accounts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

View = Callable[..., HttpResponseBase]


def role_names(user: Any) -> list[str]:
    """The areas that this person may enter, in the order of the top bar; none without signing in."""
    if not getattr(user, "is_authenticated", False):
        return []
    areas = (("tenant", bool(user.tenant_slugs)), ("operator", user.is_operator), ("teacher", user.is_teacher))
    return [name for name, allowed in areas if allowed] or ["student"]


def role_required(role: str) -> Callable[[View], View]:
    """Anonymous people are sent to the sign-in page, people without the role get the 403 page."""

    def door(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if role not in role_names(request.user):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return login_required(guarded)

    return door


tenant_required = role_required("tenant")
operator_required = role_required("operator")
teacher_required = role_required("teacher")
