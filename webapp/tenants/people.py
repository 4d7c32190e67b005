"""Who belongs to an organisation or to the site: invitations, roles, and how people and organisations leave.

What is deleted and what stays. The log is a chain of seals and an agreement is signed: neither can be changed without
breaking the proof that it is. So names never enter them: a person stands there by its alias (accounts.User.alias), an
organisation by its short id. Deleting a person empties the one row that says whose alias that is; deleting an
organisation empties its name, its people and the text of its wishes. The short id stays taken, because whoever was
given it anew would read the log of those who had it before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts import services as accounts
from webapp.accounts import sessions
from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import may
from webapp.tenants.models import OF_SITE, OF_TENANT, Invitation, Membership, Policy, Tenant, VirtualMachine
from webapp.tenants.selectors import missing
from webapp.tenants.services import membership_add, tenant_create

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.models import QuerySet

leaving_refused: list[Callable[[User], str]] = []  # what other apps have against deleting an account, in words; or ""

MOST_OPEN: Final = 100  # open invitations of one organisation
OWNER: Final = Membership.Role.OWNER


def expect_governs(*, by: User, tenant: Tenant | None) -> None:
    """Go on for owners of the organisation, and for operators where it is the site."""
    slug = tenant.slug if tenant else None
    if not may(by, "see", tenant=slug):
        raise missing()
    if not may(by, "govern", tenant=slug):
        message = (
            _("Only an owner decides who belongs to the organisation.")
            if tenant
            else _("Only an operator decides who has a role on this site.")
        )
        raise VpmsError("read_only", 403, message=message)


def roles_for(tenant: Tenant | None) -> list[str]:
    return OF_TENANT if tenant else OF_SITE


def audience(tenant: Tenant | None) -> list[str]:
    return [tenant.slug] if tenant else []


@transaction.atomic
def factor_demand(*, by: User, tenant: Tenant, required: bool) -> Tenant:
    """From now on the organisation is open to people with a second factor only, or to all its people again. For owners
    who have one themselves; twice is once. Nobody loses a role: it sleeps until the person has set a factor up."""
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    expect_governs(by=by, tenant=row)
    if row.factor_required == required:
        return row
    if required and not by.has_factor:
        message = _("Set up a second factor for yourself first; else this would shut you out.")
        raise VpmsError("no_factor", 409, message=message)
    row.factor_required = required
    row.save(update_fields=["factor_required"])
    what = "tenant.factor_required" if required else "tenant.factor_free"
    audit.record(by=by, type=what, subject=f"tenant:{row.slug}", data={}, audience=[row.slug])
    for person in User.objects.filter(memberships__tenant=row).distinct():
        accounts.rights_moved(user=person)
    return row


# -- reads


def members_of(*, user: User, tenant: Tenant | None) -> QuerySet[Membership]:
    """Who has a role there; for people who may see it."""
    if not may(user, "see", tenant=tenant.slug if tenant else None):
        raise missing()
    return Membership.objects.filter(tenant=tenant).select_related("user").order_by("user__username", "role")


def without_factor(*, user: User, tenant: Tenant) -> int:
    """How many people of the organisation have no second factor yet; for its owners, else 0."""
    if not may(user, "govern", tenant=tenant.slug):
        return 0
    have = Authenticator.objects.filter(type__in=(Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN))
    people = User.objects.filter(memberships__tenant=tenant).exclude(pk__in=have.values("user_id"))
    return people.distinct().count()


def invitations_of(*, user: User, tenant: Tenant | None) -> QuerySet[Invitation]:
    """The invitations that are open, newest first; for those who may send some. Operators also see the invitations of
    owners, which are theirs to send."""
    if not may(user, "govern", tenant=tenant.slug if tenant else None):
        return Invitation.objects.none()
    found = Invitation.objects.filter(closed_at__isnull=True, expires_at__gt=timezone.now()).select_related("tenant")
    return found.filter(tenant=tenant) if tenant else found.filter(by=user) | found.filter(tenant__isnull=True)


def invitation_by(token: str) -> Invitation | None:
    """The open invitation that this link belongs to."""
    row = Invitation.objects.select_related("tenant", "by").filter(token=digest(token), closed_at__isnull=True).first()
    return row if row is not None and row.expires_at > timezone.now() else None


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# -- invitations


@transaction.atomic
def invite(*, by: User, tenant: Tenant | None, email: str, role: str) -> Invitation:
    """Offer a role by mail. An operator may invite an organisation's first owner as well; all else is its owners'."""
    if not (tenant is not None and role == OWNER and may(by, "govern")):
        expect_governs(by=by, tenant=tenant)
    faults = []
    try:
        validate_email(email)
    except ValidationError:
        faults.append(Fault("$.email", _("This is not an e-mail address.")))
    if role not in roles_for(tenant):
        faults.append(Fault("$.role", _("Choose one of the roles.")))
    if tenant is not None and tenant.deleted_at is not None:
        faults.append(Fault("$.tenant", _("This organisation was deleted.")))
    if faults:
        raise BadInput(faults)
    opened = Invitation.objects.filter(tenant=tenant, closed_at__isnull=True, expires_at__gt=timezone.now())
    if opened.count() >= MOST_OPEN:
        raise VpmsError("too_many", 429, message=_("%d invitations are open; withdraw some first.") % MOST_OPEN)
    token = secrets.token_urlsafe(32)
    row = Invitation.objects.create(
        token=digest(token),
        email=email,
        tenant=tenant,
        role=role,
        by=by,
        expires_at=timezone.now() + dt.timedelta(days=settings.INVITATION_DAYS),
    )
    _record(by, "invitation.sent", row)
    reader = User.objects.filter(email__iexact=email, is_active=True).first() or by
    with accounts.mails_in(reader):
        where = tenant.name if tenant else _("this site")
        lines = [
            _("%(by)s invites you to %(where)s on VPMS, with the role %(role)s.")
            % {"by": by.first_name or by.username, "where": where, "role": row.get_role_display()},
            _("Accept within %d days by this link; it works once:") % settings.INVITATION_DAYS,
            accounts.link("invitation", token),
            _("If you do not know what this is about, do nothing."),
        ]
        subject, text = _("You are invited to VPMS"), "\n\n".join(lines)
    transaction.on_commit(lambda: accounts.mail(to=email, subject=subject, text=text))
    return row


def _record(by: User, type: str, row: Invitation, **more: Any) -> None:
    """No address: the log keeps what happened for good, a mail address must be able to go."""
    where = f"tenant:{row.tenant.slug}" if row.tenant else "site"
    audit.record(
        by=by,
        type=type,
        subject=where,
        data={"invitation": row.pk, "role": row.role, **more},
        audience=audience(row.tenant),
    )


@transaction.atomic
def invitation_revoke(*, by: User, pk: int) -> Invitation:
    """The link opens nothing any more."""
    row = Invitation.objects.select_for_update().filter(pk=pk, closed_at__isnull=True).first()
    if row is None or not (row.by_id == by.pk or may(by, "see", tenant=row.tenant.slug if row.tenant else None)):
        raise missing()
    if not (row.by_id == by.pk and may(by, "govern")):
        expect_governs(by=by, tenant=row.tenant)
    row.closed_at = timezone.now()
    row.email = ""
    row.save(update_fields=["closed_at", "email"])
    _record(by, "invitation.revoked", row)
    return row


@transaction.atomic
def invitation_accept(*, by: User, token: str) -> Invitation:
    """The person has the role from now on; the link is used up. Of two who follow it at once one is refused."""
    row = invitation_by(token)
    if row is None or not Invitation.objects.filter(pk=row.pk, closed_at__isnull=True).update(
        closed_at=timezone.now(), accepted_by=by, email=""
    ):
        raise VpmsError("invitation_over", 410, message=_("This invitation was used, withdrawn or is too old."))
    membership_add(by=row.by, user=by, role=row.role, tenant=row.tenant)
    _record(by, "invitation.accepted", row, person=by.alias)
    return row


@transaction.atomic
def join(*, token: str, username: str, full_name: str, password: str, again: str) -> User:
    """An account for the invited person, with the invitation's address and role, all or nothing."""
    row = invitation_by(token)
    if row is None:
        raise VpmsError("invitation_over", 410, message=_("This invitation was used, withdrawn or is too old."))
    user = accounts.account_make(
        by=row.by, email=row.email, username=username, full_name=full_name, password=password, again=again
    )
    invitation_accept(by=user, token=token)
    return user


# -- roles


def member_get(*, by: User, tenant: Tenant | None, pk: int) -> Membership:
    row = Membership.objects.select_for_update(of=("self",)).filter(pk=pk, tenant=tenant).select_related("user").first()
    if row is None:
        raise missing()
    expect_governs(by=by, tenant=tenant)
    return row


def _expect_another(row: Membership) -> None:
    """An organisation keeps an owner, the site an operator: else nobody could let anybody in."""
    if row.role not in (OWNER, Membership.Role.OPERATOR):
        return
    others = Membership.objects.filter(tenant=row.tenant, role=row.role, user__is_active=True).exclude(user=row.user)
    if not others.exists():
        kind = row.get_role_display()
        message = _("This is the last %(role)s. Give somebody else that role first.") % {"role": kind}
        raise VpmsError("last_one", 409, message=message)


def _taken(by: User, row: Membership) -> None:
    person, tenant, role = row.user, row.tenant, row.role
    row.delete()
    accounts.rights_moved(user=person)
    audit.record(
        by=by,
        type="role.taken",
        subject=f"user:{person.alias}",
        data={"person": person.alias, "role": role, "tenant": tenant.slug if tenant else None},
        audience=audience(tenant),
    )


@transaction.atomic
def role_change(*, by: User, tenant: Tenant | None, pk: int, role: str) -> Membership:
    """Another role in the place of this one. Open pages of the person follow within seconds."""
    row = member_get(by=by, tenant=tenant, pk=pk)
    if role not in roles_for(tenant):
        raise BadInput([Fault("$.role", _("Choose one of the roles."))])
    if role == row.role:
        return row
    _expect_another(row)
    person = row.user
    _taken(by, row)
    return membership_add(by=by, user=person, role=role, tenant=tenant)


@transaction.atomic
def member_remove(*, by: User, tenant: Tenant | None, pk: int) -> User:
    """The person no longer belongs here by this role."""
    row = member_get(by=by, tenant=tenant, pk=pk)
    _expect_another(row)
    person = row.user
    _taken(by, row)
    return person


@transaction.atomic
def organisation_create(*, by: User, slug: str, name: str) -> Tenant:
    """An organisation without people yet, registered by an operator."""
    expect_governs(by=by, tenant=None)
    name = name.strip()
    if not 0 < len(name) <= 120:
        raise BadInput([Fault("$.name", _("Give it a name of 1 to 120 characters."))])
    return tenant_create(by=by, slug=slug.strip(), name=name)


# -- leaving

on_deleted: list[Callable[[User], None]] = []  # what other apps keep about the person goes, in the same transaction


@transaction.atomic
def account_delete(*, user: User) -> None:
    """The account opens nothing any more and nobody reads its name any more, also not in what was recorded before.

    Refused while the person is the last owner of an organisation or the last operator.
    """
    roles = list(Membership.objects.select_for_update(of=("self",)).filter(user=user).select_related("tenant", "user"))
    for row in roles:
        try:
            _expect_another(row)
        except VpmsError:
            if row.tenant is None:
                raise
            message = _("You are the last owner of %(name)s. Give somebody else that role, or delete it first.")
            raise VpmsError("last_one", 409, message=message % {"name": row.tenant.name}) from None
    for refused in leaving_refused:
        if reason := refused(user):
            raise VpmsError("last_one", 409, message=reason)
    for row in roles:
        _taken(user, row)
    Invitation.objects.filter(by=user, closed_at__isnull=True).update(closed_at=timezone.now(), email="")
    audit.record(by=user, type="account.deleted", subject=f"user:{user.alias}", data={})
    Authenticator.objects.filter(user=user).delete()
    SocialAccount.objects.filter(user=user).delete()
    user.api_tokens.all().delete()
    for forget in on_deleted:
        forget(user)
    for kept in (user.notices, user.mails, user.notice_choices):
        kept.all().delete()
    sessions.end(user=user)
    user.username, user.first_name, user.last_name, user.email = user.alias, "", "", ""
    user.language = ""
    user.is_active, user.deleted_at = False, timezone.now()
    user.set_unusable_password()
    user.save()


def organisation_refusals(*, tenant: Tenant) -> list[str]:
    """Why the organisation cannot be deleted now, in words."""
    moving = tenant.vms.exclude(state=VirtualMachine.State.STOPPED).order_by("name")
    return [
        _("%(vm)s is %(state)s. Stop it first; its pages are wiped before anybody else can have them.")
        % {"vm": vm.name, "state": vm.get_state_display().lower()}
        for vm in moving
    ]


@transaction.atomic
def organisation_delete(*, by: User, tenant: Tenant, more: Sequence[str] = ()) -> None:
    """The organisation has no people, no name and no wishes any more. Only by an owner, only while every VM of it is
    stopped, and nothing `more` stands against it. Agreements that it signed stay with the others who signed them,
    under its short id; what negotiations hold is emptied by webapp.agreements.leaving, which calls this."""
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    expect_governs(by=by, tenant=row)
    list(row.vms.select_for_update())
    refusals = [*more, *(reason for reason in organisation_refusals(tenant=row) if reason not in more)]
    if refusals:
        raise VpmsError("still_running", 409, message=" ".join(refusals))
    audit.record(by=by, type="tenant.deleted", subject=f"tenant:{row.slug}", data={}, audience=[row.slug])
    members = list(User.objects.filter(memberships__tenant=row).distinct())
    row.memberships.all().delete()
    row.invitations.filter(closed_at__isnull=True).update(closed_at=timezone.now(), email="")
    for vm in row.vms.all():
        if hasattr(vm, "placement"):
            vm.placement.delete()
    Policy.objects.filter(vm__tenant=row).update(document="{}")
    row.name, row.deleted_at = _("deleted organisation"), timezone.now()
    row.save(update_fields=["name", "deleted_at"])
    for person in members:
        accounts.rights_moved(user=person)
