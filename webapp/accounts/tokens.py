"""API tokens: made, found again by their secret, revoked; and the counts of calls and the answers kept for repeats."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import ApiToken, CallCount, User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError

if TYPE_CHECKING:
    from django.db.models import QuerySet

PREFIX: Final = "vpms_"
MOST: Final = 20  # that count at one time, of one person
DAYS: Final = (1, 7, 30, 90, 365)
SCOPES: Final = ("read", "write", "manage")  # each includes the ones before it
USED_EVERY: Final = dt.timedelta(minutes=1)  # how exactly the last use is kept


def tokens_of(*, user: User) -> QuerySet[ApiToken]:
    """The person's tokens that are not revoked, newest first; those past their end too."""
    return ApiToken.objects.filter(user=user, revoked_at__isnull=True).order_by("-id")


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@transaction.atomic
def token_make(
    *, by: User, name: str, scope: str, days: int, tenant: str = "", through: ApiToken | None = None
) -> tuple[ApiToken, str]:
    """The new token and its secret, which is told this once. Made by way of another token it reaches no further and
    lasts no longer than that one."""
    until = timezone.now() + dt.timedelta(days=days)
    faults = []
    name = name.strip()
    if not 1 <= len(name) <= 80 or not name.isprintable():
        faults.append(Fault("$.name", _("must have 1 to 80 characters")))
    if scope not in SCOPES:
        faults.append(Fault("$.scope", _("must be one of %(scopes)s") % {"scopes": ", ".join(SCOPES)}))
    if not 1 <= days <= max(DAYS):
        faults.append(Fault("$.days", _("must be from 1 to %(most)s") % {"most": max(DAYS)}))
    if tenant and tenant not in by.tenant_slugs:
        faults.append(Fault("$.tenant", _("is not an organisation that you act for")))
    if through is not None and not faults:
        if SCOPES.index(scope) > SCOPES.index(through.scope):
            faults.append(Fault("$.scope", _("must not reach further than the token that makes it")))
        if through.tenant and tenant != through.tenant:
            faults.append(Fault("$.tenant", _("must be that of the token that makes it")))
        if until > through.expires_at:
            faults.append(Fault("$.days", _("must not last longer than the token that makes it")))
    if faults:
        raise BadInput(faults)
    User.objects.select_for_update().get(pk=by.pk)  # two at once must not both be the last that is allowed
    if tokens_of(user=by).filter(expires_at__gt=timezone.now()).count() >= MOST:
        message = _("You have %(most)s tokens already; revoke one first.") % {"most": MOST}
        raise VpmsError("too_many_tokens", 409, message=message)
    secret = PREFIX + secrets.token_urlsafe(32)
    token = ApiToken.objects.create(
        user=by,
        name=name,
        sha256=digest_of(secret),
        hint=secret[:9],
        scope=scope,
        tenant=tenant,
        expires_at=until,
    )
    _record(by, "token.made", token)
    return token, secret


@transaction.atomic
def token_revoke(*, by: User, token_id: int) -> None:
    """From now on it opens nothing. A foreign one is as missing as one that does not exist; twice is once."""
    token = ApiToken.objects.select_for_update().filter(pk=token_id, user=by).first()
    if token is None:
        raise VpmsError("not_found", 404, message="There is nothing here that you may see.")
    if token.revoked_at is None:
        ApiToken.objects.filter(pk=token.pk).update(revoked_at=timezone.now())
        _record(by, "token.revoked", token)


def _record(by: User, type: str, token: ApiToken) -> None:
    data = {"name": token.name, "scope": token.scope, "organisation": token.tenant or None, "number": token.pk}
    audience = [token.tenant] if token.tenant else by.tenant_slugs
    audit.record(by=by, type=type, subject=f"user:{by.alias}", data=data, audience=audience)


def token_found(*, secret: str) -> ApiToken | None:
    """The token with this secret, if it counts now. Its person acts only for its organisation, if it has one."""
    now = timezone.now()
    token = ApiToken.objects.select_related("user").filter(sha256=digest_of(secret)).first()
    if token is None or token.revoked_at is not None or token.expires_at <= now or not token.user.is_active:
        return None
    unused = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - USED_EVERY)
    if token.last_used_at is None or token.last_used_at < now - USED_EVERY:
        ApiToken.objects.filter(unused, pk=token.pk).update(last_used_at=now)
    if token.tenant:
        token.user.act_only_for(token.tenant)
    return token


class Count(NamedTuple):
    allowed: bool
    remaining: int
    reset: int  # seconds until the count begins anew


def call_counted(*, key: str, most: int) -> Count:
    """One more call in this minute, if there is room for it."""
    now = int(time.time())
    minute, reset = now // 60, 60 - now % 60
    rows = CallCount.objects.filter(pk=key)
    while True:
        counted = rows.filter(minute=minute, count__lt=most).update(count=F("count") + 1)
        counted = counted or rows.filter(minute__lt=minute).update(minute=minute, count=1)
        if counted:
            used = rows.values_list("count", flat=True).first() or most
            return Count(True, max(0, most - used), reset)
        if rows.filter(minute__gte=minute, count__gte=most).exists():
            return Count(False, 0, reset)
        try:
            with transaction.atomic():
                CallCount.objects.create(key=key, minute=minute, count=1)
            return Count(True, most - 1, reset)
        except IntegrityError:
            continue
