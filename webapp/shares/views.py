"""Pages of links: making one, what one has shared, and what a link opens."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import sign_in_first, signed_in_required
from webapp.shares import pictures, services, things
from webapp.shares.models import Share
from webapp.tenants import quotas

MOST_FIELD = 64


def asked_of(given: Any) -> dict[str, str]:
    names = {field for thing in things.THINGS.values() for field in thing.fields}
    return {name: given[name][:MOST_FIELD] for name in sorted(names) if given.get(name)}


@require_http_methods(["GET", "POST"])
@signed_in_required
def new(request: HttpRequest) -> HttpResponse:
    """What would be shown, and to whom; the button makes the link."""
    user: Any = request.user
    services.person_checked(user)
    given = request.POST if request.method == "POST" else request.GET
    kind, asked = given.get("kind", "")[:MOST_FIELD], asked_of(given)
    if kind not in things.THINGS:
        raise BadInput([Fault("$.kind", f"must be one of {', '.join(things.THINGS)}")])
    faults: list[Fault] = []
    typed = {"name": given.get("name", "")[:200], "days": given.get("days", "30"), "public": given.get("public") == "1"}
    if request.method == "POST":
        try:
            days = int(typed["days"]) if typed["days"].isascii() and typed["days"].isdecimal() else -1
            made = services.share_make(
                by=user, kind=kind, asked=asked, name=typed["name"], days=days, public=typed["public"]
            )
        except BadInput as refused:
            faults = refused.faults
        else:
            messages.success(request, _("The link is made. Copy it below."))
            return redirect(f"/shared/#share-{made.pk}")
    context = {
        "kind": kind,
        "asked": asked,
        "typed": typed,
        "days": services.DAYS,
        "public_allowed": settings.SHARES_PUBLIC,
        "faults": {fault.path.removeprefix("$."): fault.reason for fault in faults},
        "other": [fault for fault in faults if fault.path not in ("$.name", "$.days", "$.public")],
    }
    return render(request, "shares/new.html", context, status=422 if faults else 200)


@require_GET
@signed_in_required
def mine(request: HttpRequest) -> HttpResponse:
    """What the person has shared, each with its link and a button to revoke it."""
    user: Any = request.user
    rows = [
        {"share": row, "address": request.build_absolute_uri(services.path_of(row))}
        for row in Share.objects.visible_to(user).defer("frames")
    ]
    return render(request, "shares/mine.html", {"rows": rows, "quotas": quotas.own_levels(user=user)})


@require_POST
@signed_in_required
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    services.share_revoke(by=user, pk=pk)
    messages.success(request, _("Revoked. The link opens nothing any more."))
    return redirect("shares")


def _opened(request: HttpRequest, ref: str) -> Share:
    return services.share_opened(ref=ref, user=request.user, address=request.META.get("REMOTE_ADDR", ""))


@require_GET
def opened(request: HttpRequest, ref: str) -> HttpResponse:
    """What the link shows, to look at; people without an account are asked to sign in unless the maker let them."""
    try:
        share = _opened(request, ref)
    except VpmsError as refused:
        if refused.http_status != 401:
            raise
        return sign_in_first(request)  # type: ignore[return-value]
    context = {"share": share, "shown": share.shown, "ref": ref, "label": pictures.label_of(share.shown)}
    context["tables"] = [
        {**table, "rows": [list(zip(table["heads"], row, strict=False)) for row in table["rows"]]}
        for table in share.shown["tables"]
    ]
    context["engine_of"] = {"engine_version": share.shown["facts"].get("engine", "")}
    answer = render(request, "shares/share.html", context)
    answer["Cache-Control"], answer["X-Robots-Tag"] = "private, no-store", "noindex"
    answer["Referrer-Policy"] = "no-referrer"
    return answer


@require_GET
def picture(request: HttpRequest, ref: str) -> HttpResponse:
    """The same as a drawing."""
    share = _opened(request, ref)
    answer = HttpResponse(pictures.drawn(share.shown, pictures.label_of(share.shown)), content_type="image/svg+xml")
    answer["Cache-Control"] = "private, no-store"
    if request.GET.get("save"):
        answer["Content-Disposition"] = f'attachment; filename="shared-{share.kind}-{share.pk}.svg"'
    return answer


@require_GET
def frames(request: HttpRequest, ref: str) -> HttpResponse:
    """The messages of a moment of a run, as they were when the link was made."""
    share = _opened(request, ref)
    if share.kind != "moment":
        raise services.missing()
    answer = HttpResponse(bytes(share.frames), content_type="application/octet-stream")
    answer["Cache-Control"] = "private, no-store"
    return answer
