"""Who may do what, decided in one place for pages, API and services; and the doors of role areas.

Stands beside the apps, not in one: the log's pages need it too, and they lie below the accounts. Objects inside an area
have their own check besides (visible_to): a foreign thing is as missing as one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from webapp import typed
from webapp.errors import VpmsError

View = Callable[..., HttpResponseBase]
SAFE: Final = ("GET", "HEAD", "OPTIONS", "TRACE")

# What each role opens. `see` reads, `act` changes what is declared and agreed, `govern` says who belongs here.
IN_ORGANISATION: Final = {
    "see": {"owner", "member", "auditor"},
    "act": {"owner", "member"},
    "govern": {"owner"},
}
ON_SITE: Final = {
    "see": {"operator", "auditor"},
    "act": {"operator"},
    "govern": {"operator"},
    "teach": {"teacher"},
}


def may(user: Any, act: str, *, tenant: str | None = None) -> bool:
    """Whether the person may do this to things of the tenant; without a tenant: to things of the site itself."""
    table = ON_SITE if tenant is None else IN_ORGANISATION
    return bool(user.roles_in(tenant) & table.get(act, set()))


def read_only() -> VpmsError:
    """The sentence for people who may look and not touch."""
    return VpmsError(
        "read_only", 403, message=_("Your role here is to read: you may look at everything, not change it.")
    )


def must(user: Any, act: str, *, tenant: str | None) -> None:
    """Refuse the person who may see things of the tenant and may not do this to them."""
    if not may(user, act, tenant=tenant):
        raise read_only()


def may_change(user: Any, area: str) -> bool:
    """Whether any button of this area is for the person to press."""
    if not getattr(user, "is_authenticated", False):
        return False
    if area == "tenant":
        return any(may(user, "act", tenant=slug) for slug in user.tenant_slugs)
    return may(user, "teach" if area == "teacher" else "act")


def only_reads(user: Any) -> bool:
    """The person has a role, and none with which anything may be changed: auditors."""
    return bool(user.roles) and not any(may_change(user, area) for area in ("tenant", "operator", "teacher"))


def role_names(user: Any) -> list[str]:
    """The areas that this person may enter, in the order of the top bar; none without signing in."""
    if not getattr(user, "is_authenticated", False):
        return []
    areas = (("tenant", bool(user.tenant_slugs)), ("operator", may(user, "see")), ("teacher", user.is_teacher))
    return [name for name, allowed in areas if allowed] or ["student"]


def sign_in_first(request: HttpRequest) -> HttpResponseBase:
    """To the sign-in page and back; what was typed into a form comes along."""
    if request.method == "POST":
        return typed.sign_in_page(request)
    return redirect_to_login(request.get_full_path(), settings.LOGIN_URL, REDIRECT_FIELD_NAME)


def signed_in_required(view: View) -> View:
    """For everybody who is signed in, whatever the role."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return view(request, *args, **kwargs) if request.user.is_authenticated else sign_in_first(request)

    return guarded


def role_required(role: str, *, reads: bool = False) -> Callable[[View], View]:
    """Anonymous people are sent to the sign-in page, people without the role get the 403 page, people who may only
    look are refused with a sentence whatever would change something. `reads`: this view changes nothing by any method.
    """

    def door(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            user: Any = request.user
            if not user.is_authenticated:
                return sign_in_first(request)
            if role not in role_names(user):
                if role in user.waiting_areas:
                    messages.warning(request, _("Your role here needs a second factor. Set one up, then go on."))
                    return redirect("account-factors")
                raise PermissionDenied
            if request.method not in SAFE and not reads and not may_change(user, role):
                raise read_only()
            return view(request, *args, **kwargs)

        return guarded

    return door


tenant_required = role_required("tenant")
operator_required = role_required("operator")
teacher_required = role_required("teacher")
