"""Our own keys: made here, sealed at rest, published as JWKS, replaced by the operator without a gap."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from webapp.audit import services as audit
from webapp.lti.models import SigningKey
from webapp.roles import must

if TYPE_CHECKING:
    from webapp.accounts.models import User

BITS: Final = 2048
PUBLISHED_AFTER: Final = dt.timedelta(days=30)  # so long platforms may still check with a key that signs no more
SECONDS: Final = 60
NONCE_BYTES: Final = 12


def _label(kid: str) -> bytes:
    return b"lti:" + kid.encode()


def _make() -> SigningKey:
    private = rsa.generate_private_key(public_exponent=65537, key_size=BITS)
    kid, nonce = secrets.token_hex(8), os.urandom(NONCE_BYTES)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private.public_key()))
    return SigningKey.objects.create(
        kid=kid,
        sealed=nonce + AESGCM(settings.SEAL_KEY).encrypt(nonce, pem, _label(kid)),
        public={name: public[name] for name in ("kty", "n", "e")} | {"kid": kid, "alg": "RS256", "use": "sig"},
    )


@transaction.atomic
def signing_key() -> SigningKey:
    """The key that signs now; the first is made when it is first needed."""
    held = SigningKey.objects.filter(retired_at__isnull=True).first()
    return held or _make()


@transaction.atomic
def rotate(*, by: User, seen: str = "") -> SigningKey:
    """A new key signs from now on. `seen`: the key that the operator saw; if another signs already, nothing happens."""
    must(by, "act", tenant=None)
    held = SigningKey.objects.select_for_update().filter(retired_at__isnull=True).first()
    if held is not None and held.kid != seen:
        return held
    SigningKey.objects.filter(retired_at__isnull=True).update(retired_at=timezone.now())
    made = _make()
    audit.record(by=by, type="lti.key", subject=f"lti:{made.kid}", data={"kid": made.kid})
    return made


def published() -> list[dict[str, Any]]:
    """The public keys with which anything that is still good was signed."""
    late = timezone.now() - PUBLISHED_AFTER
    rows = SigningKey.objects.filter(Q(retired_at__isnull=True) | Q(retired_at__gt=late))
    return [row.public for row in rows]


def signed(claims: dict[str, Any]) -> str:
    """The claims as a token of ours that lasts a minute."""
    key = signing_key()
    sealed, now = bytes(key.sealed), int(time.time())
    pem = AESGCM(settings.SEAL_KEY).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _label(key.kid))
    whole = {**claims, "iat": now, "exp": now + SECONDS, "jti": secrets.token_urlsafe(16)}
    return jwt.encode(whole, pem, algorithm="RS256", headers={"kid": key.kid})
