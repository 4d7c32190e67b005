"""A security key in software: makes a key pair for a site and signs challenges, as WebAuthn says."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Key:
    def __init__(self, site: str) -> None:
        self.site, self.count = hashlib.sha256(site.encode()).digest(), 0
        self.ident, self.private = secrets.token_bytes(16), ec.generate_private_key(ec.SECP256R1())

    def _client(self, kind: str, options: str, origin: str) -> bytes:
        challenge = json.loads(options)["publicKey"]["challenge"]
        return json.dumps({"type": f"webauthn.{kind}", "challenge": challenge, "origin": origin}).encode()

    def _answer(self, response: dict[str, bytes]) -> dict[str, Any]:
        parts = {name: text(value) for name, value in response.items()}
        ident = text(self.ident)
        return {"id": ident, "rawId": ident, "type": "public-key", "response": parts, "clientExtensionResults": {}}

    def create(self, options: str, origin: str) -> dict[str, Any]:
        public = cbor.encode(dict(ES256.from_cryptography_key(self.private.public_key())))
        said = self.site + b"\x41" + bytes(4) + bytes(16) + len(self.ident).to_bytes(2, "big") + self.ident + public
        attested = cbor.encode({"fmt": "none", "attStmt": {}, "authData": said})
        client = self._client("create", options, origin)
        return self._answer({"clientDataJSON": client, "attestationObject": attested})

    def get(self, options: str, origin: str) -> dict[str, Any]:
        self.count += 1
        said = self.site + b"\x01" + self.count.to_bytes(4, "big")
        client = self._client("get", options, origin)
        signature = self.private.sign(said + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer({"clientDataJSON": client, "authenticatorData": said, "signature": signature})
