"""The pages of notices: the list, the choices, and the webhooks of an organisation. All work without script."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from webapp.errors import BadInput, VpmsError
from webapp.notices import payload, selectors, services, wording
from webapp.notices.models import Endpoint, EndpointQuerySet, Reader
from webapp.roles import operator_required, signed_in_required, tenant_required


def number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


@signed_in_required
@require_safe
def notices(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    kind = request.GET.get("kind", "")
    kind = kind if kind in wording.KINDS else ""
    unread = request.GET.get("unread") == "1"
    page = selectors.page_of(user=user, kind=kind, unread=unread, before=number(request.GET.get("before", "")))
    kinds = [(name, wording.KINDS[name].label) for name in wording.kinds_of(user)]
    owner = any(selectors.owned(user=user))
    context = {"page": page, "kinds": kinds, "kind": kind, "only_unread": unread, "owner": owner}
    return render(request, "notices/notices.html", context)


@signed_in_required
@require_POST
def read(request: HttpRequest) -> HttpResponse:
    """One notice, or all that the page showed; what came since stays unread."""
    user: Any = request.user
    one, upto = number(request.POST.get("notice", "")), number(request.POST.get("upto", ""))
    if one is not None:
        services.notices_read(by=user, ids=[one])
    elif upto is not None:
        count = services.notices_read(by=user, upto=upto)
        told = ngettext("%(count)d notice was marked as read.", "%(count)d notices were marked as read.", count)
        messages.success(request, told % {"count": count})
    back = request.POST.get("back", "")
    ours = back.startswith("/notices/") and url_has_allowed_host_and_scheme(back, {request.get_host()})
    return HttpResponseRedirect(back if ours else "/notices/")


@signed_in_required
@require_safe
@never_cache
def bell(request: HttpRequest) -> HttpResponse:
    """The bell alone, for pages that are open."""
    return render(request, "notices/_bell.html")


@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def choices(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    faults: list[Any] = []
    chosen = selectors.choices_of(user=user)
    reader = selectors.reader_of(user=user)
    when: dict[str, Any] = {"every": reader.every, "hour": reader.hour, "weekday": reader.weekday}
    if request.method == "POST":
        post = request.POST
        chosen = {kind: {name: post.get(f"{kind}.{name}", row[name]) for name in row} for kind, row in chosen.items()}
        numbers = {name: number(post.get(name, "")) for name in ("hour", "weekday")}
        when = {"every": post.get("every", reader.every)}
        when |= {name: -1 if value is None else value for name, value in numbers.items()}
        try:
            services.choices_set(by=user, choices=chosen, **when)
        except BadInput as refused:
            faults = refused.faults
        else:
            messages.success(request, _("Your choices are kept; they hold for what happens from now on."))
            return redirect("notice-choices")
    rows = [
        {"name": name, "label": wording.KINDS[name].label, "says": wording.KINDS[name].says, **row}
        for name, row in chosen.items()
    ]
    context = {
        "rows": rows,
        "page_words": list(wording.PAGE_WORDS.items()),
        "mail_words": list(wording.MAIL_WORDS.items()),
        "when": when,
        "hours": range(24),
        "weekdays": list(enumerate(wording.WEEKDAYS)),
        "everies": Reader.Every,
        "faults": faults,
        "owner": any(selectors.owned(user=user)),
        "folder": getattr(settings, "EMAIL_FILE_PATH", None),
    }
    return render(request, "notices/choices.html", context, status=422 if faults else 200)


# -- webhooks


def kinds_shown(tenant: str, chosen: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "label": kind.label, "says": kind.says, "chosen": name in chosen}
        for name, kind in wording.kinds_for(tenant).items()
    ]


def of_area(rows: EndpointQuerySet, area: str) -> EndpointQuerySet:
    """The endpoints of organisations stand in the tenant's area, those of the platform in the operator's."""
    return rows.exclude(tenant="") if area == "tenant" else rows.filter(tenant="")


def endpoint_in(request: HttpRequest, area: str, pk: int) -> Endpoint:
    user: Any = request.user
    row = selectors.endpoint_get(user=user, pk=pk)
    if bool(row.tenant) != (area == "tenant"):
        raise selectors.missing()
    return row


def listed(request: HttpRequest, area: str) -> HttpResponse:
    """The list, and the form for a new one. The secret stands in the one answer that makes it."""
    user: Any = request.user
    owned = [slug for slug in selectors.owned(user=user) if bool(slug) == (area == "tenant")]
    usual = ["deadline", "breach", "proposal"] if area == "tenant" else list(wording.FOR_OPERATORS)
    typed = {"url": "", "tenant": owned[0] if owned else "", "kinds": usual}
    refused: VpmsError | None = None
    if request.method == "POST":
        kinds = request.POST.getlist("kinds")
        tenant = request.POST.get("tenant", "") if area == "tenant" else ""
        typed = {"url": request.POST.get("url", ""), "tenant": tenant, "kinds": kinds}
        try:
            if tenant not in owned:
                raise selectors.missing()
            row, secret = services.endpoint_create(by=user, tenant=tenant, url=str(typed["url"]), kinds=kinds)
            return shown(request, row, secret=secret)
        except VpmsError as error:
            if error.http_status == 404:
                raise
            refused = error
    faults = {fault.path[2:]: fault.reason for fault in refused.faults} if isinstance(refused, BadInput) else {}
    context = {
        "area": area,
        "endpoints": of_area(selectors.endpoints_of(user=user), area),
        "owned": owned,
        "typed": typed,
        "kinds": kinds_shown("" if area == "operator" else "any", list(typed["kinds"])),
        "faults": faults,
        "reason": refused.message if refused and not faults else "",
        "hosts": [entry for entry in settings.WEBHOOK_HOSTS if "/" not in entry],
    }
    return render(request, "notices/webhooks.html", context, status=refused.http_status if refused else 200)


def shown(
    request: HttpRequest, row: Endpoint, *, secret: str = "", reason: str = "", status: int = 200
) -> HttpResponse:
    context = {
        "area": "tenant" if row.tenant else "operator",
        "endpoint": row,
        "kinds": kinds_shown(row.tenant, row.kinds),
        "deliveries": selectors.deliveries_of(endpoint=row),
        "secret": secret,
        "reason": reason,
    }
    answer = render(request, "notices/webhook.html", context, status=status)
    answer["Cache-Control"] = "no-store"
    return answer


def acted(request: HttpRequest, area: str, pk: int) -> HttpResponse:
    """One of the buttons of a webhook's page."""
    user: Any = request.user
    row = endpoint_in(request, area, pk)
    act = request.POST.get("act", "")
    try:
        if act == "rotate":
            row, secret = services.endpoint_rotate(
                by=user, endpoint=row, rotation=number(request.POST.get("rotation", "")) or 0
            )
            return shown(request, row, secret=secret)
        if act == "test":
            services.endpoint_test(by=user, endpoint=row)
            messages.success(request, _("A test is on its way; its delivery stands below."))
        elif act == "delete":
            services.endpoint_delete(by=user, endpoint=row)
            messages.success(request, _("The webhook is removed; nothing is sent there any more."))
            return redirect("webhooks" if area == "tenant" else "site-webhooks")
        else:
            active = row.active if act == "keep" else act == "on"
            kinds = request.POST.getlist("kinds") if act == "keep" else row.kinds
            services.endpoint_change(by=user, endpoint=row, kinds=kinds, active=active)
            messages.success(request, _("The webhook is kept as you chose."))
    except VpmsError as refused:
        if refused.http_status == 404:
            raise
        row = selectors.endpoint_get(user=user, pk=pk)
        return shown(request, row, reason=refused.message, status=refused.http_status)
    return redirect(row.page)


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def webhooks(request: HttpRequest) -> HttpResponse:
    return listed(request, "tenant")


@operator_required
@require_http_methods(["GET", "HEAD", "POST"])
def site_webhooks(request: HttpRequest) -> HttpResponse:
    return listed(request, "operator")


@tenant_required
@require_safe
def webhook(request: HttpRequest, pk: int) -> HttpResponse:
    return shown(request, endpoint_in(request, "tenant", pk))


@operator_required
@require_safe
def site_webhook(request: HttpRequest, pk: int) -> HttpResponse:
    return shown(request, endpoint_in(request, "operator", pk))


@tenant_required
@require_POST
def webhook_act(request: HttpRequest, pk: int) -> HttpResponse:
    return acted(request, "tenant", pk)


@operator_required
@require_POST
def site_webhook_act(request: HttpRequest, pk: int) -> HttpResponse:
    return acted(request, "operator", pk)


@require_safe
def schema(request: HttpRequest) -> JsonResponse:
    """What a webhook is told, as JSON Schema."""
    return JsonResponse(payload.SCHEMA)
