"""The people of an organisation and of the site, the way in by invitation, and leaving."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts import entering
from webapp.accounts.account_views import by_field, page
from webapp.errors import BadInput, VpmsError
from webapp.live.rights import ORGANISATION
from webapp.roles import may, operator_required, role_required, signed_in_required, tenant_required
from webapp.tenants import people, quotas, selectors
from webapp.tenants.models import Membership, Tenant
from webapp.typed import typed_for

R = Membership.Role


def number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def people_page(
    request: HttpRequest, tenant: Tenant | None, *, faults: dict[str, str] | None = None, status: int = 200
) -> HttpResponse:
    user: Any = request.user
    governs = may(user, "govern", tenant=tenant.slug if tenant else None)
    typed: Any = request.POST if request.method == "POST" else typed_for(request) or {}
    context = {
        "area": "tenant" if tenant else "operator",
        "tenant": tenant,
        "members": people.members_of(user=user, tenant=tenant),
        "invitations": people.invitations_of(user=user, tenant=tenant),
        "offered": [(role, R(role).label) for role in people.roles_for(tenant)],
        "choices": selectors.organisations_all(user=user) if tenant is None and governs else [],
        "governs": governs,
        "without_factor": people.without_factor(user=user, tenant=tenant) if tenant else 0,
        "quotas": quotas.levels(tenant=tenant) if tenant else [],
        "typed": typed,
        "chosen": typed.get("role", R.MEMBER if tenant else R.STUDENT),  # never the mightiest by itself
        "faults": faults or {},
    }
    return render(request, "tenants/people.html", context, status=status)


def invited(request: HttpRequest, tenant: Tenant | None) -> HttpResponse:
    """The page, or after its form one more invitation."""
    if request.method != "POST":
        return people_page(request, tenant)
    user: Any = request.user
    email, role = request.POST.get("email", "").strip(), request.POST.get("role", "")
    to = tenant
    if tenant is None and role.startswith("owner:"):
        to = selectors.organisations_all(user=user).filter(slug=role.removeprefix("owner:")).first()
        role = R.OWNER
    try:
        people.invite(by=user, tenant=to, email=email, role=role)
    except BadInput as refused:
        return people_page(request, tenant, faults=by_field(refused), status=422)
    messages.success(request, _("%(email)s is invited. The link in the mail works once.") % {"email": email})
    return redirect("people" if tenant else "site-people")


@role_required("tenant")
@require_http_methods(["GET", "HEAD", "POST"])
def tenant_people(request: HttpRequest) -> HttpResponse:
    """Who belongs to the organisation. Everybody in it may read that; owners invite."""
    user: Any = request.user
    return entering.fresh_required(invited)(request, selectors.active_of(user=user))


@operator_required
@require_http_methods(["GET", "HEAD", "POST"])
def site_people(request: HttpRequest) -> HttpResponse:
    return entering.fresh_required(invited)(request, None)


def changed(request: HttpRequest, tenant: Tenant | None) -> HttpResponse:
    """A role changed, a person removed, an invitation withdrawn, a second factor demanded or not."""
    user: Any = request.user
    post, back = request.POST, redirect("people" if tenant else "site-people")
    act, pk = post.get("act", ""), number(post.get("pk", ""))
    if act == "role":
        member = people.role_change(by=user, tenant=tenant, pk=pk, role=post.get("role", ""))
        told = _("%(person)s has the role %(role)s now.")
        messages.success(request, told % {"person": member.user.username, "role": member.get_role_display()})
    elif act == "remove":
        person = people.member_remove(by=user, tenant=tenant, pk=pk)
        messages.success(request, _("%(person)s no longer has that role here.") % {"person": person.username})
    elif act == "revoke":
        people.invitation_revoke(by=user, pk=pk)
        messages.success(request, _("The invitation is withdrawn; its link opens nothing any more."))
    elif act == "factor" and tenant is not None:
        try:
            row = people.factor_demand(by=user, tenant=tenant, required=post.get("required") == "1")
        except VpmsError as refused:
            messages.warning(request, refused.message)
        else:
            told = _("%(name)s is open only to people with a second factor now.")
            free = _("%(name)s no longer demands a second factor of its people.")
            messages.success(request, (told if row.factor_required else free) % {"name": row.name})
    else:
        raise selectors.missing()
    return back


@tenant_required
@require_POST
def tenant_people_change(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    return entering.fresh_required(changed)(request, selectors.active_of(user=user))


@operator_required
@require_POST
def site_people_change(request: HttpRequest) -> HttpResponse:
    return entering.fresh_required(changed)(request, None)


# -- in by invitation


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, token: str) -> HttpResponse:
    """What the link of an invitation opens: join with the account that is signed in, or make one."""
    user: Any = request.user
    row = people.invitation_by(token)
    if row is None:
        return render(request, "tenants/invitation.html", {"row": None}, status=404)
    faults: dict[str, str] = {}
    post = request.POST
    if request.method == "POST" and user.is_authenticated:
        people.invitation_accept(by=user, token=token)
        user.forget_roles()
        if row.tenant:
            request.session[ORGANISATION] = row.tenant.slug
        messages.success(request, _("Welcome. You have the role %(role)s now.") % {"role": row.get_role_display()})
        return redirect("home")
    if request.method == "POST":
        try:
            made = people.join(
                token=token,
                username=post.get("username", "").strip(),
                full_name=post.get("full_name", ""),
                password=post.get("password", ""),
                again=post.get("again", ""),
            )
        except BadInput as refused:
            faults = by_field(refused)
        else:
            messages.success(request, _("Welcome. Your account is %(name)s.") % {"name": made.username})
            return entering.enter(request, made, next="/home/")
    context = {"row": row, "token": token, "typed": post, "faults": faults}
    return render(request, "tenants/invitation.html", context, status=422 if faults else 200)


# -- leaving


@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def account_delete(request: HttpRequest) -> HttpResponse:
    """Delete one's account: the name typed, and whoever changes nothing keeps everything."""
    user: Any = request.user
    fault = ""
    if request.method == "POST":
        if not entering.is_fresh(request):
            return entering.ask_again(request)
        if request.POST.get("name", "") != user.username:
            fault = _("Type the name exactly as it stands above. Nothing was changed.")
        else:
            try:
                people.account_delete(user=user)
            except VpmsError as refused:
                fault = refused.message
            else:
                logout(request)
                messages.info(request, _("Your account is deleted."))
                return redirect("landing")
    context = {"fault": fault}
    return page(request, "account-data", "tenants/account_delete.html", context, status=409 if fault else 200)


@operator_required
@require_POST
def organisation_new(request: HttpRequest) -> HttpResponse:
    """Register an organisation; its first owner is invited next."""
    user: Any = request.user
    try:
        tenant = people.organisation_create(
            by=user, slug=request.POST.get("slug", ""), name=request.POST.get("name", "")
        )
    except BadInput as refused:
        return people_page(request, None, faults=by_field(refused), status=422)
    messages.success(request, _("%(name)s is registered. Invite its first owner.") % {"name": tenant.name})
    return redirect("site-people")
