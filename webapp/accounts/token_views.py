"""The page of a person's API tokens: make one, see its secret once, revoke it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts import entering, tokens
from webapp.accounts.models import ApiToken
from webapp.errors import BadInput, VpmsError
from webapp.roles import signed_in_required
from webapp.typed import typed_for


@never_cache
@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def token_page(request: HttpRequest) -> HttpResponse:
    """The secret of a new token is in the answer to the form that made it, and nowhere else."""
    user: Any = request.user
    if request.POST.get("scope") == ApiToken.Scope.MANAGE and not entering.is_fresh(request):
        return entering.ask_again(request)  # it says who belongs where: a session left open must not make one
    typed: Any = request.POST if request.method == "POST" else typed_for(request) or {}
    context: dict[str, Any] = {"typed": typed}
    status = 200
    if request.method == "POST":
        days = typed.get("days", "")
        try:
            made, secret = tokens.token_make(
                by=user,
                name=typed.get("name", ""),
                scope=typed.get("scope", ""),
                days=int(days) if days.isascii() and days.isdecimal() and len(days) < 5 else 0,
                tenant=typed.get("tenant", ""),
            )
            context |= {"made": made, "secret": secret, "typed": {}}
        except BadInput as refused:
            status = refused.http_status
            context["faults"] = {fault.path.removeprefix("$."): fault.reason for fault in refused.faults}
        except VpmsError as refused:
            status = refused.http_status
            context["refused"] = refused.message
    context |= {
        "tokens": tokens.tokens_of(user=user),
        "scopes": ApiToken.Scope.choices,
        "days": tokens.DAYS,
        "organisations": user.tenant_slugs,
        "now": timezone.now(),
    }
    return render(request, "accounts/tokens.html", context, status=status)


@signed_in_required
@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    tokens.token_revoke(by=user, token_id=pk)
    messages.success(request, _("The token is revoked. It opens nothing from now on."))
    return redirect("tokens")
