"""Writes about people: accounts, and the delay that grows with failed sign-ins."""

from __future__ import annotations

import datetime as dt
import hashlib

from django.db import transaction
from django.utils import timezone

from webapp.accounts.models import Attempts, User
from webapp.audit import services as audit

FREE_FAILURES = 5  # so many failures cost nothing; each further one doubles the delay
LONGEST_DELAY = 60  # seconds: long enough against guessing, too short to lock anybody out
FORGOTTEN_AFTER = dt.timedelta(minutes=15)


@transaction.atomic
def user_create(*, by: User | None, username: str, password: str, full_name: str = "") -> User:
    """A new account that can sign in with this password and has no role yet."""
    user = User.objects.create_user(username=username, password=password, first_name=full_name)
    audit.record(by=by, type="account.created", subject=f"user:{username}", data={})
    return user


@transaction.atomic
def password_set(*, by: User | None, user: User, password: str) -> None:
    """From now on only this password opens the account; sessions opened with the old one end."""
    user.set_password(password)
    user.save(update_fields=["password"])
    audit.record(by=by, type="account.password", subject=f"user:{user.username}", data={})


def attempts_key(*, username: str, address: str) -> str:
    """The row under which failures of this account from this address are counted."""
    return hashlib.sha256(f"{username.strip().casefold()}\0{address}".encode()).hexdigest()


def sign_in_delay(*, key: str) -> int:
    """Whole seconds until the next try is looked at; 0 when it may come now."""
    row = Attempts.objects.filter(pk=key).first()
    if row is None:
        return 0
    left = (row.blocked_until - timezone.now()).total_seconds()
    return max(0, int(left + 0.999))


@transaction.atomic
def sign_in_failed(*, key: str) -> int:
    """Count one more failure. The seconds that this account and address must now wait are returned."""
    now = timezone.now()
    Attempts.objects.filter(last_at__lt=now - FORGOTTEN_AFTER).delete()
    row, _ = Attempts.objects.select_for_update().get_or_create(pk=key, defaults={"blocked_until": now, "last_at": now})
    row.failures += 1
    extra = row.failures - FREE_FAILURES
    delay = min(LONGEST_DELAY, 2**extra) if extra > 0 else 0
    row.blocked_until = now + dt.timedelta(seconds=delay)
    row.last_at = now
    row.save()
    return delay


def sign_in_succeeded(*, key: str) -> None:
    """A right password forgets the failures before it."""
    Attempts.objects.filter(pk=key).delete()
