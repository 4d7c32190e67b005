"""Signing keys of the parties. The private seed is kept sealed; it is opened only to sign."""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from webapp.agreements.models import SigningKey
from webapp.tenants.models import Tenant
from webapp.vpms.agreement import public_key

NONCE_BYTES = 12


def label(tenant: Tenant | None) -> bytes:
    """What the seal is bound to: a sealed seed moved to another party does not open."""
    return b"signing-key:" + (tenant.slug.encode() if tenant else b"\0operator")


def key_of(tenant: Tenant | None) -> SigningKey:
    """The party's key in use, made on first use; the operator's for None."""
    found = SigningKey.objects.filter(tenant=tenant, retired_at__isnull=True).first()
    return found or key_make(tenant)


def key_make(tenant: Tenant | None) -> SigningKey:
    seed = os.urandom(32)
    nonce = os.urandom(NONCE_BYTES)
    return SigningKey.objects.create(
        tenant=tenant,
        public=public_key(seed),
        sealed_seed=nonce + AESGCM(settings.SEAL_KEY).encrypt(nonce, seed, label(tenant)),
    )


def seed_of(key: SigningKey) -> bytes:
    """The private seed, unsealed. It is never logged, stored or sent."""
    sealed = bytes(key.sealed_seed)
    return AESGCM(settings.SEAL_KEY).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], label(key.tenant))
