"""What support staff may do to accounts: close and open them, and help somebody who lost a factor. All of it is in the
log. They never learn or set a password, and see no secret."""

from __future__ import annotations

from allauth.mfa.models import Authenticator
from django.db import transaction
from django.utils.translation import gettext as _

from webapp.accounts import services, sessions
from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.errors import VpmsError


def _row(*, by: User | None, user: User) -> User:
    """The account, locked. Nobody does this to himself, and a deleted account is left alone."""
    row = User.objects.select_for_update().get(pk=user.pk)
    if by is not None and row.pk == by.pk:
        raise VpmsError("own_account", 409, message=_("This is your own account. Another operator must do it."))
    if row.deleted_at is not None:
        raise VpmsError(
            "account_gone", 409, message=_("This account was deleted by its person; nothing is left of it.")
        )
    return row


@transaction.atomic
def account_close(*, by: User, user: User) -> bool:
    """The account opens nothing until it is opened again; its sign-ins and open pages end. False: it was closed."""
    row = _row(by=by, user=user)
    if not row.is_active:
        return False
    row.is_active = False
    row.save(update_fields=["is_active"])
    sessions.end(user=row)
    services.rights_moved(user=row)
    audit.record(by=by, type="account.closed", subject=f"user:{row.alias}", data={})
    return True


@transaction.atomic
def account_open(*, by: User, user: User) -> bool:
    """The account can sign in again. False: it was open."""
    row = _row(by=by, user=user)
    if row.is_active:
        return False
    row.is_active = True
    row.save(update_fields=["is_active"])
    audit.record(by=by, type="account.opened", subject=f"user:{row.alias}", data={})
    return True


@transaction.atomic
def factors_remove(*, by: User, user: User) -> int:
    """The person's second factors and recovery codes are gone, and all sign-ins end: the password opens the account,
    and roles that need a factor sleep until the person has set one up. How many there were is returned."""
    row = _row(by=by, user=user)
    count, _rows = Authenticator.objects.filter(user=row).delete()
    if count:
        sessions.end(user=row)
        services.rights_moved(user=row)
        audit.record(by=by, type="account.factors_removed", subject=f"user:{row.alias}", data={"factors": count})
    return int(count)


@transaction.atomic
def signed_out(*, by: User, user: User) -> int:
    """All sign-ins of the person end now."""
    row = _row(by=by, user=user)
    count = sessions.end(user=row)
    if count:
        audit.record(by=by, type="account.signed_out", subject=f"user:{row.alias}", data={"sign_ins": count})
    return count


@transaction.atomic
def admin_allow(*, by: User | None, user: User) -> None:
    """The person may open /admin/ as long as it is an operator too."""
    User.objects.filter(pk=user.pk).update(is_staff=True)
    audit.record(by=by, type="account.support", subject=f"user:{user.alias}", data={})
