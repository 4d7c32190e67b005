"""Secrets of webhooks: kept sealed at rest, opened only to sign."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

NONCE_BYTES = 12
SIGNATURE = "VPMS-Signature"


def fresh_secret() -> str:
    return "whsec_" + secrets.token_urlsafe(32)


def _label(tenant: str) -> bytes:
    """What the seal is bound to: a secret moved to another organisation does not open."""
    return b"webhook:" + tenant.encode()


def seal(secret: str, *, tenant: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(settings.SEAL_KEY).encrypt(nonce, secret.encode(), _label(tenant))


def unseal(sealed: bytes, *, tenant: str) -> str:
    """The secret. It is never logged or stored, and sent never."""
    return AESGCM(settings.SEAL_KEY).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _label(tenant)).decode()


def signature(body: bytes, *, at: int, keys: list[str]) -> str:
    """The header's value: the time in seconds, and for each secret the HMAC-SHA256 in hex of `<time>.<body>`."""
    message = str(at).encode() + b"." + body
    made = [hmac.new(key.encode(), message, hashlib.sha256).hexdigest() for key in keys]
    return ",".join([f"t={at}", *(f"v1={each}" for each in made)])
