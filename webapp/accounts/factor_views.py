"""One's second factors: add an app or a key, make recovery codes, take a factor away."""

from __future__ import annotations

from typing import Any

from allauth.mfa.totp.internal.auth import clear_totp_secret
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.accounts import entering, factors
from webapp.accounts.account_views import page
from webapp.errors import VpmsError
from webapp.roles import signed_in_required


@signed_in_required
@require_GET
def factors_list(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    return page(request, "account-factors", "accounts/factors.html", {"has": factors.of(user=user)})


def added(request: HttpRequest, codes: list[str] | None, words: str) -> HttpResponse:
    """Back to the list, or first the recovery codes, which are shown this once."""
    messages.success(request, words)
    if codes is None:
        return redirect("account-factors")
    return page(request, "account-factors", "accounts/recovery.html", {"codes": codes})


@never_cache
@entering.fresh_required
@require_http_methods(["GET", "HEAD", "POST"])
def app(request: HttpRequest) -> HttpResponse:
    """Connect an authenticator app: scan or type the secret, then show that it works by a code."""
    user: Any = request.user
    if not entering.is_fresh(request):
        return entering.ask_again(request)
    secret, fault = factors.app_secret(), ""
    if request.method == "POST":
        try:
            codes = factors.app_add(user=user, secret=secret, code=request.POST.get("code", ""))
        except VpmsError as refused:
            fault = refused.message.partition(": ")[2]
        else:
            clear_totp_secret(request)
            return added(request, codes, _("Your app is connected. From now on signing in takes one of its codes."))
    groups = " ".join(secret[i : i + 4] for i in range(0, len(secret), 4))
    context = {"qr": factors.qr(user=user, secret=secret), "secret": groups, "fault": fault}
    return page(request, "account-factors", "accounts/factor_app.html", context, status=422 if fault else 200)


@never_cache
@entering.fresh_required
@require_http_methods(["GET", "HEAD", "POST"])
def key(request: HttpRequest) -> HttpResponse:
    """Register a security key or passkey as second factor; the browser asks the key."""
    user: Any = request.user
    if not entering.is_fresh(request):
        return entering.ask_again(request)
    fault = ""
    if request.method == "POST":
        name, answer = request.POST.get("name", ""), request.POST.get("credential", "")
        try:
            codes = factors.key_add(user=user, name=name, answer=answer)
        except VpmsError as refused:
            fault = refused.message.partition(": ")[2] or refused.message
        else:
            return added(request, codes, _("The key is registered. From now on it is asked for at the sign-in."))
    context = {
        "key_options": factors.key_options(user=user, signing_in=False),
        "fault": fault,
        "name": request.POST.get("name", ""),
        "by_number": request.get_host().partition(":")[0].replace(".", "").isdecimal(),
        "by_name": f"{request.scheme}://localhost:{request.get_port()}{request.path}",
    }
    return page(request, "account-factors", "accounts/factor_key.html", context, status=422 if fault else 200)


@never_cache
@entering.fresh_required
@require_POST
def recovery(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    codes = factors.recovery_renew(user=user)
    return added(request, codes, _("These are new recovery codes; the old ones open nothing any more."))


@require_POST
@signed_in_required
def remove(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    factors.factor_get(user=user, pk=pk)
    if not entering.is_fresh(request):
        return entering.ask_again(request)
    factors.remove(user=user, pk=pk)
    messages.success(request, _("The second factor is removed."))
    return redirect("account-factors")
