"""The pages of one's own account: profile, password, sign-ins, data."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts import entering, oidc, selectors, services, sessions
from webapp.errors import BadInput
from webapp.roles import signed_in_required
from webapp.typed import typed_for


def page(request: HttpRequest, here: str, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """A page of the account, with the navigation of all of them beside it."""
    return render(request, template, {"here": here, **context}, status=status)


def by_field(refused: BadInput) -> dict[str, str]:
    """The faults by the name of their field."""
    return {fault.path.removeprefix("$."): fault.reason for fault in reversed(refused.faults)}


@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """Who one is here: names, address, roles. A new address counts when the link sent to it was followed."""
    user: Any = request.user
    typed: Any = request.POST if request.method == "POST" else typed_for(request) or {}
    full_name, email = typed.get("full_name", user.first_name), typed.get("email", user.email).strip()
    language = typed.get("language", user.language or get_language())
    faults: dict[str, str] = {}
    if request.method == "POST":
        if email != user.email and not entering.is_fresh(request):
            return entering.ask_again(request)
        try:
            services.language_check(language)
            services.name_set(user=user, full_name=full_name)
            services.language_set(user=user, language=language)
            if email != user.email:
                services.email_ask(user=user, email=email)
                told = _("A link was sent to %(email)s. Follow it to make that your address.") % {"email": email}
                messages.info(request, told)
            else:
                messages.success(request, _("Your profile is saved."))
        except BadInput as refused:
            faults = by_field(refused)
        else:
            return redirect("account")
    context = {
        "full_name": full_name,
        "email": email,
        "language": language,
        "faults": faults,
        "own_roles": selectors.roles_shown(user=user),
        "elsewhere": oidc.connections(user=user),
        "providers": oidc.providers(),
    }
    return page(request, "account", "accounts/profile.html", context, status=422 if faults else 200)


@never_cache
@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def email_confirm(request: HttpRequest, sealed: str) -> HttpResponse:
    """The link from the mail: one press makes the address count. A GET changes nothing; mail readers open links."""
    user: Any = request.user
    if request.method != "POST":
        context = {"email": services.email_of(user=user, sealed=sealed)}
        return page(request, "account", "accounts/email_confirm.html", context)
    email = services.email_set(user=user, sealed=sealed)
    messages.success(request, _("%(email)s is your e-mail address now.") % {"email": email})
    return redirect("account")


@never_cache
@sensitive_post_parameters()
@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def password(request: HttpRequest) -> HttpResponse:
    """A new password; every other sign-in ends with the old one."""
    user: Any = request.user
    faults: dict[str, str] = {}
    if request.method == "POST":
        new, again = request.POST.get("password", ""), request.POST.get("password-again", "")
        wrong = entry_fault(request, user)
        try:
            if wrong:
                faults = {"current": wrong}
            else:
                services.password_check(new, again=again, user=user)
        except BadInput as refused:
            faults = by_field(refused)
        if not faults:
            services.password_set(by=user, user=user, password=new, keep=request.session.session_key)
            update_session_auth_hash(request, user)
            sessions.moved(request, user)
            messages.success(request, _("Your new password stands. Every other sign-in of yours has ended."))
            return redirect("account-password")
    context = {"faults": faults, "with_password": user.has_usable_password()}
    return page(request, "account-password", "accounts/password.html", context, status=422 if faults else 200)


def entry_fault(request: HttpRequest, user: Any) -> str:
    """Why the old password does not open the change; counted like a failed sign-in."""
    if not user.has_usable_password():
        return "" if entering.is_fresh(request) else _("Sign in anew first, then set a password.")
    return entering.password_fault(request, user, request.POST.get("password-current", ""))


@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def sessions_page(request: HttpRequest) -> HttpResponse:
    """Where one is signed in; end one sign-in, or all but this one."""
    user: Any = request.user
    own = request.session.session_key
    if request.method == "POST":
        number = request.POST.get("end", "")
        if number.isascii() and number.isdecimal() and len(number) < 16:
            count = services.sessions_end(user=user, pk=int(number))
        else:
            count = services.sessions_end(user=user, but=own)
        told = ngettext(
            "%d sign-in has ended; its open pages close.", "%d sign-ins have ended; their open pages close.", count
        )
        messages.success(request, told % count)
        return redirect("account-sessions")
    rows = [selectors.session_shown(row, own=own) for row in sessions.live_of(user=user)]
    context = {
        "rows": rows,
        "others": any(not row["this"] for row in rows),
        "hours": [span // 3600 for span in sessions.limits_of(user)],
    }
    return page(request, "account-sessions", "accounts/sessions.html", context)


@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def data(request: HttpRequest) -> HttpResponse:
    """What is kept about oneself, to take away; and the way to delete it."""
    user: Any = request.user
    if request.method == "POST":
        answer = JsonResponse(selectors.own_data(user=user), json_dumps_params={"indent": 1, "ensure_ascii": False})
        answer["Content-Disposition"] = 'attachment; filename="my-data.json"'
        return answer
    return page(request, "account-data", "accounts/data.html", {})


@require_POST
@entering.fresh_required
def elsewhere_part(request: HttpRequest) -> HttpResponse:
    """Part the account from another provider's sign-in."""
    user: Any = request.user
    oidc.part(user=user, provider=request.POST.get("provider", ""))
    messages.success(request, _("That sign-in no longer opens your account."))
    return redirect("account")
