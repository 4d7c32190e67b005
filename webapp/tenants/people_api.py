"""Who belongs to an organisation or to the site, by API. A role is given by invitation only, so no person is enlisted.

Operations that change this need the scope manage; with a session, whose person has just been asked who it is.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.errors import BadInput, Fault
from webapp.rest.doors import governor, manager
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants import people, quotas, selectors
from webapp.tenants.models import OF_SITE, OF_TENANT, Invitation, Membership, Tenant

router = Router(tags=["people"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
Email = Annotated[str, Field(max_length=254)]
InTenant = Literal[*OF_TENANT]  # type: ignore[valid-type]
OnSite = Literal[*OF_SITE]  # type: ignore[valid-type]


class OrganisationOut(Schema):
    slug: str
    name: str
    roles: list[str] = Field(description="What you are there.")
    factor_required: bool = Field(description="Only people with a second factor can work there.")


class OrganisationIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"slug": "gamma", "name": "Gamma Archive"}]}
    )
    slug: Annotated[str, Field(max_length=63)]
    name: Annotated[str, Field(max_length=120)]


class FactorIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"required": False}]})
    required: bool


class QuotaOut(Schema):
    name: str
    says: str
    used: int | None = Field(description="Of the same as `most`; null where each thing is measured by itself.")
    most: int | None = Field(description="null: there is no limit.")


class QuotasOut(Schema):
    organisation: str | None = Field(description="null: you belong to none.")
    quotas: list[QuotaOut] = Field(description="Of the organisation.")
    own: list[QuotaOut] = Field(description="Of you alone.")


class MemberOut(Schema):
    id: int
    username: str
    full_name: str
    role: str


class RoleIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "auditor"}]})
    role: InTenant


class SiteRoleIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "teacher"}]})
    role: OnSite


class InvitationOut(Schema):
    id: int
    email: str
    role: str
    organisation: str | None
    sent_at: dt.datetime
    expires_at: dt.datetime


class InvitationIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "new@example.org", "role": "member"}]}
    )
    email: Email
    role: InTenant


class SiteInvitationIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "new@example.org", "role": "student"}]}
    )
    email: Email
    role: OnSite | Literal["owner"]
    organisation: Annotated[str, Field(max_length=63, description="Of an owner: whose; else left out.")] = ""


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def named(user: Any, name: str) -> Tenant:
    """One of the person's own; every other is missing."""
    found = selectors.tenants_of(user=user).filter(slug=name).first()
    if found is None:
        raise selectors.missing()
    return found


def organisation_shown(user: Any, tenant: Tenant) -> dict[str, Any]:
    told = {"slug": tenant.slug, "name": tenant.name, "roles": sorted(user.roles_in(tenant.slug))}
    return {**told, "factor_required": tenant.factor_required}


def member_shown(row: Membership) -> dict[str, Any]:
    return {"id": row.pk, "username": row.user.username, "full_name": row.user.first_name, "role": row.role}


def invitation_shown(row: Invitation) -> dict[str, Any]:
    where = row.tenant.slug if row.tenant else None
    told = {"id": row.pk, "email": row.email, "role": row.role, "organisation": where}
    return {**told, "sent_at": row.created_at, "expires_at": row.expires_at}


def invitation_withdrawn(user: Any, tenant: Tenant | None, number: int) -> Status:
    people.expect_governs(by=user, tenant=tenant)
    if not people.invitations_of(user=user, tenant=tenant).filter(pk=number).exists():
        raise selectors.missing()
    people.invitation_revoke(by=user, pk=number)
    return Status(204, None)


# -- organisations


@router.get("/organisations", response=Listed[OrganisationOut])
def organisation_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The organisations that you act for, as far as the token of this call reaches."""
    user = person(request)
    found = selectors.tenants_of(user=user)
    return pages(request, found, paging, by="slug", shown=lambda row: organisation_shown(user, row))


@router.get("/quota", response=QuotasOut)
def quota_get(request: HttpRequest, organisation: Annotated[str, Field(max_length=63)] = "") -> Any:
    """What your organisation and you may have at once, and have: VMs, memory in MiB, storage in bytes. People of
    several organisations name one."""
    user = person(request)
    tenant = named(user, organisation) if organisation else selectors.tenants_of(user=user).first()
    return {
        "organisation": tenant.slug if tenant else None,
        "quotas": [row._asdict() for row in quotas.levels(tenant=tenant)] if tenant else [],
        "own": [row._asdict() for row in quotas.own_levels(user=user)],
    }


@router.put("/organisations/{name}/second-factor", response=OrganisationOut, auth=governor)
def factor_demand(request: HttpRequest, name: str, given: FactorIn) -> Any:
    """Demand a second factor of everybody in the organisation, or no longer. For owners who have one: whoever has none
    finds nothing of it before setting one up, by page, API or socket. Scope manage."""
    user = person(request)
    row = people.factor_demand(by=user, tenant=named(user, name), required=given.required)
    return organisation_shown(user, row)


@router.get("/organisations/{name}/members", response=Listed[MemberOut])
def member_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """Who belongs to an organisation of yours, by role: a person with two roles stands there twice."""
    user = person(request)
    found = people.members_of(user=user, tenant=named(user, name))
    return pages(request, found, paging, by="id", shown=member_shown)


@router.put("/organisations/{name}/members/{int:number}", response=MemberOut, auth=governor)
def member_put(request: HttpRequest, name: str, number: Number, given: RoleIn) -> Any:
    """Give the person another role in the place of this one. For owners. The answer has a new number. Scope manage."""
    user = person(request)
    return member_shown(people.role_change(by=user, tenant=named(user, name), pk=number, role=given.role))


@router.delete("/organisations/{name}/members/{int:number}", response={204: None}, auth=governor)
def member_delete(request: HttpRequest, name: str, number: Number) -> Any:
    """The person no longer belongs to the organisation by this role. For owners; an owner remains. Scope manage."""
    user = person(request)
    people.member_remove(by=user, tenant=named(user, name), pk=number)
    return Status(204, None)


@router.get("/organisations/{name}/invitations", response=Listed[InvitationOut], auth=manager)
def invitation_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """The open invitations of an organisation, newest first. For owners. Scope manage."""
    user = person(request)
    tenant = named(user, name)
    people.expect_governs(by=user, tenant=tenant)
    found = people.invitations_of(user=user, tenant=tenant)
    return pages(request, found, paging, by="-id", shown=invitation_shown)


@router.post("/organisations/{name}/invitations", response={201: InvitationOut}, auth=governor)
def invitation_send(request: HttpRequest, name: str, given: InvitationIn) -> Any:
    """Offer a role by mail. The link in it is told to nobody else and works once. For owners. Scope manage."""
    user = person(request)
    row = people.invite(by=user, tenant=named(user, name), email=given.email, role=given.role)
    return Status(201, invitation_shown(row))


@router.delete("/organisations/{name}/invitations/{int:number}", response={204: None}, auth=governor)
def invitation_delete(request: HttpRequest, name: str, number: Number) -> Any:
    """Withdraw an invitation: its link opens nothing any more. For owners. Scope manage."""
    user = person(request)
    return invitation_withdrawn(user, named(user, name), number)


# -- the site


@router.get("/site/organisations", response=Listed[OrganisationOut])
def site_organisation_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Every organisation that is registered. For operators."""
    user = person(request)
    people.expect_governs(by=user, tenant=None)
    found = selectors.organisations_all(user=user)
    return pages(request, found, paging, by="slug", shown=lambda row: organisation_shown(user, row))


@router.post("/site/organisations", response={201: OrganisationOut}, auth=manager)
def organisation_make(request: HttpRequest, given: OrganisationIn) -> Any:
    """Register an organisation; then invite its first owner. For operators. Scope manage."""
    user = person(request)
    row = people.organisation_create(by=user, slug=given.slug, name=given.name)
    return Status(201, organisation_shown(user, row))


@router.get("/site/members", response=Listed[MemberOut])
def site_member_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Who has a role on the site itself. For operators, and auditors of the site."""
    found = people.members_of(user=person(request), tenant=None)
    return pages(request, found, paging, by="id", shown=member_shown)


@router.put("/site/members/{int:number}", response=MemberOut, auth=governor)
def site_member_put(request: HttpRequest, number: Number, given: SiteRoleIn) -> Any:
    """Give the person another role in the place of this one. For operators. The answer has a new number. Scope
    manage."""
    return member_shown(people.role_change(by=person(request), tenant=None, pk=number, role=given.role))


@router.delete("/site/members/{int:number}", response={204: None}, auth=governor)
def site_member_delete(request: HttpRequest, number: Number) -> Any:
    """The person no longer has this role on the site. For operators; one remains. Scope manage."""
    people.member_remove(by=person(request), tenant=None, pk=number)
    return Status(204, None)


@router.get("/site/invitations", response=Listed[InvitationOut], auth=manager)
def site_invitation_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The open invitations to the site, and those of owners that you sent, newest first. For operators. Scope
    manage."""
    user = person(request)
    people.expect_governs(by=user, tenant=None)
    return pages(request, people.invitations_of(user=user, tenant=None), paging, by="-id", shown=invitation_shown)


@router.post("/site/invitations", response={201: InvitationOut}, auth=governor)
def site_invitation_send(request: HttpRequest, given: SiteInvitationIn) -> Any:
    """Offer a role on the site, or that of an organisation's owner, by mail. For operators. Scope manage."""
    user = person(request)
    people.expect_governs(by=user, tenant=None)
    tenant = None
    if given.organisation:
        tenant = selectors.organisations_all(user=user).filter(slug=given.organisation).first()
        if tenant is None:
            raise selectors.missing()
        if given.role != Membership.Role.OWNER:
            raise BadInput([Fault("$.role", _("Only an organisation's owner is invited from here."))])
    return Status(201, invitation_shown(people.invite(by=user, tenant=tenant, email=given.email, role=given.role)))


@router.delete("/site/invitations/{int:number}", response={204: None}, auth=governor)
def site_invitation_delete(request: HttpRequest, number: Number) -> Any:
    """Withdraw an invitation: its link opens nothing any more. For operators. Scope manage."""
    return invitation_withdrawn(person(request), None, number)
