"""Second factors: codes of an authenticator app, security keys, and recovery codes. Kept by django-allauth's models.

A code opens once: the counter of the last one is kept in the row, for all processes alike. A key's answer counts only
when it was given to exactly this origin.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any, Final

from allauth.mfa.adapter import DefaultMFAAdapter, get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal import auth as totp
from allauth.mfa.utils import decrypt, encrypt
from allauth.mfa.webauthn.internal import auth as webauthn
from cryptography.fernet import Fernet
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish

T = Authenticator.Type
MOST_KEYS: Final = 10
LONGEST_NAME: Final = 60


class SiteAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Seals the secrets of factors at rest; a site with a name of its own."""

    def _box(self) -> Fernet:
        return Fernet(base64.urlsafe_b64encode(hashlib.sha256(b"second factors" + settings.SEAL_KEY).digest()))

    def encrypt(self, text: str) -> str:
        return self._box().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return self._box().decrypt(encrypted_text.encode()).decode()

    def _get_site_name(self) -> str:
        return "VPMS"

    def _get_user_identifier(self, user: Any) -> str:
        name: str = user.get_username()
        return name


def of(*, user: User) -> dict[str, Any]:
    """The person's factors as the page shows them."""
    rows = list(Authenticator.objects.filter(user=user).order_by("pk"))
    recovery = next((row for row in rows if row.type == T.RECOVERY_CODES), None)
    return {
        "app": next((row for row in rows if row.type == T.TOTP), None),
        "keys": [row for row in rows if row.type == T.WEBAUTHN],
        "recovery": len(RecoveryCodes(recovery).get_unused_codes()) if recovery else None,
    }


def _changed(*, user: User, type: str, kind: str) -> None:
    """Rights may hang on having a factor: open pages look again."""
    User.objects.filter(pk=user.pk).update(rights_version=F("rights_version") + 1)
    user.forget_roles()
    publish.rights_changed(user=user.pk)
    audit.record(by=user, type=type, subject=f"user:{user.alias}", data={"kind": kind})


def _recovery_make(user: User) -> list[str]:
    Authenticator.objects.filter(user=user, type=T.RECOVERY_CODES).delete()
    codes: list[str] = RecoveryCodes.activate(user).generate_codes()
    return codes


# -- codes of an app


def app_secret() -> str:
    """The secret that is being set up in this session."""
    return str(totp.get_totp_secret())


def qr(*, user: User, secret: str) -> str:
    """The QR code of the secret as a data address of an SVG."""
    adapter = get_adapter()
    svg = adapter.build_totp_svg(adapter.build_totp_url(user, secret))
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def counter_of(secret: str, code: str, *, after: int) -> int | None:
    """The counter for which this code is right, if it is a later one than any that was used."""
    typed = "".join(code.split())
    for counter in totp.yield_hotp_counters_from_time():
        if counter > after and totp.format_hotp_value(totp.hotp_value(secret, counter)) == typed:
            return int(counter)
    return None


@transaction.atomic
def app_add(*, user: User, secret: str, code: str) -> list[str] | None:
    """From now on codes of this app are asked for. The first recovery codes are returned; None: there were some."""
    counter = counter_of(secret, code, after=0)
    if counter is None:
        raise BadInput([Fault("$.code", _("This is not the code that the app shows now. Wait for the next one."))])
    Authenticator.objects.filter(user=user, type=T.TOTP).delete()
    Authenticator.objects.create(user=user, type=T.TOTP, data={"secret": encrypt(secret), "last": counter})
    had = Authenticator.objects.filter(user=user, type=T.RECOVERY_CODES).exists()
    _changed(user=user, type="account.factor_added", kind="app")
    return None if had else _recovery_make(user)


@transaction.atomic
def code_fits(*, user: User, code: str) -> bool:
    """Whether this is a code of the person's app, or a recovery code, that was never used; it is used up now."""
    rows = Authenticator.objects.select_for_update().filter(user=user, type__in=(T.TOTP, T.RECOVERY_CODES))
    for row in rows.order_by("-type"):
        if row.type == T.TOTP:
            counter = counter_of(decrypt(row.data["secret"]), code, after=row.data.get("last", 0))
            fits = counter is not None
            row.data["last"] = counter if fits else row.data.get("last", 0)
        else:
            fits = RecoveryCodes(row).validate_code("".join(code.split()))
        if fits:
            row.last_used_at = timezone.now()
            # Of recovery codes allauth has written down itself which one is used up.
            row.save(update_fields=["data", "last_used_at"] if row.type == T.TOTP else ["last_used_at"])
            return True
    return False


# -- security keys


def _answer_of(text: str) -> dict[str, Any]:
    """The browser's answer, given to exactly one of our origins."""
    refused = BadInput([Fault("$.credential", _("The security key's answer was not understood. Try again."))])
    try:
        credential = json.loads(text)
        client = credential["response"]["clientDataJSON"]
        origin = json.loads(base64.urlsafe_b64decode(client + "=" * (-len(client) % 4)))["origin"]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise refused from None
    if origin not in settings.ORIGINS:
        raise BadInput([Fault("$.credential", _("The security key answered another site. Nothing was changed."))])
    found: dict[str, Any] = credential
    return found


def key_options(*, user: User, signing_in: bool) -> str:
    """What the browser asks a key for, as JSON; the challenge is kept in the session."""
    options = webauthn.begin_authentication(user) if signing_in else webauthn.begin_registration(user, False)
    return json.dumps(options, default=dict)


@transaction.atomic
def key_add(*, user: User, name: str, answer: str) -> list[str] | None:
    """The key opens the account as second factor from now on; returns like `app_add`."""
    name = name.strip()
    if not 0 < len(name) <= LONGEST_NAME:
        raise BadInput([Fault("$.name", _("Give the key a name of 1 to %d characters.") % LONGEST_NAME)])
    if Authenticator.objects.filter(user=user, type=T.WEBAUTHN).count() >= MOST_KEYS:
        raise VpmsError("too_many", 409, message=_("You have %d keys; remove one first.") % MOST_KEYS)
    credential = _answer_of(answer)
    try:
        webauthn.complete_registration(credential)
    except (ValidationError, ValueError, TypeError, KeyError) as error:
        message = _("The security key was not added: its answer does not fit. Try again.")
        raise BadInput([Fault("$.credential", message)]) from error
    webauthn.WebAuthn.add(user, name, credential)
    had = Authenticator.objects.filter(user=user, type=T.RECOVERY_CODES).exists()
    _changed(user=user, type="account.factor_added", kind="key")
    return None if had else _recovery_make(user)


def key_fits(*, user: User, answer: str) -> bool:
    """Whether one of the person's keys has signed this session's challenge for this site."""
    try:
        row = webauthn.complete_authentication(user, _answer_of(answer))
    except (ValidationError, ValueError, TypeError, KeyError, BadInput):
        return False
    row.record_usage()
    return True


# -- less again


@transaction.atomic
def recovery_renew(*, user: User) -> list[str]:
    """Fresh recovery codes; the old ones open nothing any more."""
    if not user.has_factor:
        raise VpmsError("no_factor", 409, message=_("Recovery codes stand in for a second factor; set one up first."))
    codes = _recovery_make(user)
    _changed(user=user, type="account.recovery_codes", kind="recovery")
    return codes


def factor_get(*, user: User, pk: int) -> Authenticator:
    """The person's own factor of this number; others' are missing."""
    row = Authenticator.objects.filter(user=user, type__in=(T.TOTP, T.WEBAUTHN), pk=pk).first()
    if row is None:
        raise VpmsError("not_found", 404, message=_("There is nothing here that you may see."))
    return row


@transaction.atomic
def remove(*, user: User, pk: int) -> None:
    """This factor opens nothing any more. With the last one its recovery codes go too; where a role needs a factor the
    last one stays."""
    row = factor_get(user=user, pk=pk)
    last = Authenticator.objects.filter(user=user, type__in=(T.TOTP, T.WEBAUTHN)).count() == 1
    if last and user.needs_factor:
        message = _("Your role needs a second factor, and this is your last one. Add another first.")
        raise VpmsError("last_factor", 409, message=message)
    kind = "app" if row.type == T.TOTP else "key"
    row.delete()
    if last:
        Authenticator.objects.filter(user=user).delete()
    _changed(user=user, type="account.factor_removed", kind=kind)
