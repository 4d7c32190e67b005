"""Writes about people: accounts, passwords, addresses, and the delay that grows with failed sign-ins."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Final

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.translation import gettext as _

from webapp import tally
from webapp.accounts import sessions
from webapp.accounts.models import Attempts, User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish

log = logging.getLogger(__name__)

FREE_FAILURES = 5  # so many failures cost nothing; each further one doubles the delay
LONGEST_DELAY = 60  # seconds: long enough against guessing, too short to lock anybody out
FORGOTTEN_AFTER = dt.timedelta(minutes=15)
LONGEST_PASSWORD: Final = 128
EMAIL_SALT: Final = "accounts.email"
EMAIL_SECONDS: Final = 24 * 3600


@transaction.atomic
def user_create(*, by: User | None, username: str, password: str, full_name: str = "", email: str = "") -> User:
    """A new account that can sign in with this password and has no role yet."""
    user = User.objects.create_user(username=username, password=password, first_name=full_name, email=email)
    audit.record(by=by, type="account.created", subject=f"user:{user.alias}", data={})
    return user


def account_make(
    *,
    by: User | None,
    email: str,
    username: str,
    full_name: str,
    password: str,
    again: str,
    also: Sequence[Callable[[], object]] = (),
) -> User:
    """An account for who was invited to this address, or BadInput with all faults at once, those of `also` as well."""
    faults: list[Fault] = []
    checks: tuple[Callable[[], object], ...] = (
        lambda: name_check(username),
        lambda: password_check(password, again=again, user=User(username=username, email=email)),
        *also,
    )
    for check in checks:
        try:
            check()
        except BadInput as refused:
            faults += refused.faults
    if faults:
        raise BadInput(faults)
    return user_create(by=by, username=username, password=password, full_name=full_name.strip()[:120], email=email)


def name_check(username: str) -> None:
    """A free name that can be typed at the sign-in; else BadInput."""
    reason = ""
    try:
        User.username_validator(username)
    except ValidationError:
        reason = _("Use letters, digits and @ . + - _ only.")
    if not 1 <= len(username) <= 60:
        reason = _("Use 1 to 60 characters.")
    elif not reason and User.objects.filter(username__iexact=username).exists():
        reason = _("This name is taken; choose another.")
    if reason:
        raise BadInput([Fault("$.username", reason)])


def password_check(password: str, *, again: str | None = None, user: User | None = None) -> None:
    """Long enough, none of the commonest, typed twice alike; else BadInput. Compared as typed, nothing is cut off."""
    reasons = []
    if len(password) > LONGEST_PASSWORD:
        reasons.append(_("It is longer than %d characters.") % LONGEST_PASSWORD)
    else:
        try:
            validate_password(password, user)
        except ValidationError as refused:
            reasons += refused.messages
    if again is not None and again != password:
        reasons.append(_("The two passwords are not the same."))
    if reasons:
        raise BadInput([Fault("$.password", reason) for reason in reasons])


@transaction.atomic
def password_set(*, by: User | None, user: User, password: str, keep: str | None = None) -> None:
    """From now on only this password opens the account; all sign-ins end, except the session with the key `keep`."""
    user.set_password(password)
    user.save(update_fields=["password"])
    sessions.end(user=user, but=keep)
    audit.record(by=by, type="account.password", subject=f"user:{user.alias}", data={})


def link(name: str, *args: str) -> str:
    """The full address of a page of this site, for mails. From the settings: a request's host could be forged."""
    return settings.ORIGINS[0] + reverse(name, args=args)


def mail(*, to: str, subject: str, text: str) -> None:
    """Send a mail. A mail server that is away is written down and breaks nothing else."""
    try:
        send_mail(subject, text, settings.DEFAULT_FROM_EMAIL, [to])
    except OSError as error:
        log.warning("a mail could not be sent: %s", type(error).__name__)


def reset_send(*, email: str) -> None:
    """Mail everybody with this address a link for a new password. Unknown addresses get nothing; whoever asked cannot
    tell, because this runs after the answer was given."""
    for user in User.objects.filter(email__iexact=email, is_active=True).exclude(email=""):
        token = default_token_generator.make_token(user)
        address = link("password-new", urlsafe_base64_encode(force_bytes(user.pk)), token)
        with mails_in(user):
            lines = [
                _("Somebody, probably you, asked for a new password for %(name)s.") % {"name": user.get_username()},
                _("Choose one within an hour by this link; it works once:"),
                address,
                _("If it was not you, do nothing: the old password stays as it is."),
            ]
            mail(to=user.email, subject=_("A new password"), text="\n\n".join(lines))


def reset_user(*, uid: str, token: str) -> User | None:
    """Whose password this link may set, if it is still good."""
    try:
        pk = int(urlsafe_base64_decode(uid).decode())
    except (ValueError, OverflowError):
        return None
    user = User.objects.filter(pk=pk, is_active=True).first() if 0 < pk < 1 << 62 else None
    return user if user is not None and default_token_generator.check_token(user, token) else None


def mails_in(user: User) -> translation.override:
    """Mails to the person are written in its own language, whoever's request or worker makes them."""
    return translation.override(user.language or translation.get_language() or settings.LANGUAGE_CODE)


def language_check(language: str) -> None:
    if language not in dict(settings.LANGUAGES):
        reason = _("must be one of %(known)s") % {"known": ", ".join(dict(settings.LANGUAGES))}
        raise BadInput([Fault("$.language", reason)])


def language_set(*, user: User, language: str) -> None:
    """Mails and digests come in this language from now on."""
    language_check(language)
    if user.language != language:
        user.language = language
        user.save(update_fields=["language"])


@transaction.atomic
def name_set(*, user: User, full_name: str) -> None:
    """The name that is shown beside the account's name."""
    if len(full_name) > 120 or any(ord(letter) < 32 for letter in full_name):
        raise BadInput([Fault("$.full_name", _("Use at most 120 characters on one line."))])
    user.first_name = full_name.strip()
    user.save(update_fields=["first_name"])


def email_ask(*, user: User, email: str) -> None:
    """Mail a link to the new address; only whoever reads it there makes it the account's address."""
    try:
        validate_email(email)
    except ValidationError:
        raise BadInput([Fault("$.email", _("This is not an e-mail address."))]) from None
    told = signing.dumps({"user": user.pk, "email": email, "before": user.email}, salt=EMAIL_SALT)
    with mails_in(user):
        lines = [
            _("Make this the e-mail address of %(name)s by this link, within a day:") % {"name": user.get_username()},
            link("email-confirm", told),
            _("If you did not ask for it, do nothing."),
        ]
        mail(to=email, subject=_("Confirm your e-mail address"), text="\n\n".join(lines))


def email_of(*, user: User, sealed: str) -> str:
    """The address that the link carries; refused when the link is not this person's, too old, or used."""
    try:
        told = signing.loads(sealed, salt=EMAIL_SALT, max_age=EMAIL_SECONDS)
    except signing.BadSignature:
        told = {}
    if told.get("user") != user.pk or told.get("before") != user.email:
        raise VpmsError("link_over", 404, message=_("This link is not good any more."))
    return str(told["email"])


@transaction.atomic
def email_set(*, user: User, sealed: str) -> str:
    """The address that the link carries is the account's from now on."""
    user.email = email_of(user=user, sealed=sealed)
    user.save(update_fields=["email"])
    audit.record(by=user, type="account.email", subject=f"user:{user.alias}", data={})
    return user.email


@transaction.atomic
def sessions_end(*, user: User, pk: int | None = None, but: str | None = None) -> int:
    """End one sign-in of the person, or all others than this one."""
    count = sessions.end(user=user, pk=pk, but=but)
    if count:
        audit.record(by=user, type="account.sessions_ended", subject=f"user:{user.alias}", data={"sign_ins": count})
    return count


def rights_moved(*, user: User) -> None:
    """Open pages of this person look again at once what they may show."""
    User.objects.filter(pk=user.pk).update(rights_version=F("rights_version") + 1)
    user.forget_roles()
    publish.rights_changed(user=user.pk)


# -- failed tries


def attempts_key(*, username: str, address: str) -> str:
    """The row under which failures of this account from this address are counted."""
    return hashlib.sha256(f"{username.strip().casefold()}\0{address}".encode()).hexdigest()


def sign_in_delay(*, key: str) -> int:
    """Whole seconds until the next try is looked at; 0 when it may come now."""
    row = Attempts.objects.filter(pk=key).first()
    if row is None:
        return 0
    left = (row.blocked_until - timezone.now()).total_seconds()
    if left > 0:
        tally.count("vpms_sign_ins_held_back_total")
    return max(0, int(left + 0.999))


@transaction.atomic
def sign_in_failed(*, key: str) -> int:
    """Count one more failure. The seconds that this account and address must now wait are returned."""
    now = timezone.now()
    tally.count("vpms_sign_ins_failed_total")
    Attempts.objects.filter(last_at__lt=now - FORGOTTEN_AFTER).delete()
    row, _created = Attempts.objects.select_for_update().get_or_create(
        pk=key, defaults={"blocked_until": now, "last_at": now}
    )
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
