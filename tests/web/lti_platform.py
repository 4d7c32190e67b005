"""A small LTI 1.3 platform as a process of its own: keys, tokens checked by our JWKS, launches, and a gradebook.

    python -m tests.web.lti_platform TOOL_JWKS_FILE

prints its address. What a test wants of a launch is asked for at /launch; /state tells what it was told.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT, DEPLOYMENT = "vpms-tool", "d-1"
CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"
AGS = "https://purl.imsglobal.org/spec/lti-ags/"
ROLE = "http://purl.imsglobal.org/vocab/lis/v2/membership#"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


class Platform:
    def __init__(self, tool_keys: Path) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tool_keys = tool_keys
        self.scores: list[dict[str, Any]] = []
        self.newest: dict[str, str] = {}
        self.fails = 0  # so many scores are refused
        self.tokens = 0
        self.url = ""

    def keys(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**key, "kid": "k1", "alg": "RS256", "use": "sig"}]}

    def launch(self, asked: dict[str, str]) -> dict[str, Any]:
        """A signed launch; `spoil` makes it hostile."""
        spoil, now = asked.get("spoil", ""), int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url, "aud": CLIENT, "sub": asked.get("sub", "s-1"), "iat": now, "exp": now + 60,
            "nonce": asked["nonce"], "given_name": asked.get("name", "Ada"), "email": asked.get("email", "a@b.example"),
            CLAIM + "deployment_id": DEPLOYMENT, CLAIM + "version": "1.3.0",
            CLAIM + "message_type": asked.get("type", "LtiResourceLinkRequest"),
            CLAIM + "target_link_uri": asked["target"],
            CLAIM + "roles": [ROLE + asked.get("role", "Learner")],
            CLAIM + "context": {"id": asked.get("context", "c-1"), "title": "Isolation"},
            CLAIM + "resource_link": {"id": "r-1"},
            CLAIM + "custom": {"item": asked.get("item", "")},
            AGS + "claim/endpoint": {"scope": [AGS + "scope/score"], "lineitem": f"{self.url}/line/1?type=3"},
            "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings": {
                "deep_link_return_url": asked.get("back", f"{self.url}/back"), "data": "opaque",
            },
        }  # fmt: skip
        claims |= {
            "audience": {"aud": "another"},
            "azp": {"aud": [CLIENT, "another"], "azp": "another"},
            "issuer": {"iss": "https://elsewhere.example"},
            "expired": {"iat": now - 7200, "exp": now - 3600},
            "ancient": {"iat": now - 7200},
            "deployment": {CLAIM + "deployment_id": "d-2"},
            "version": {CLAIM + "version": "1.1"},
            "type": {CLAIM + "message_type": "LtiSubmissionReviewRequest"},
            "target": {CLAIM + "target_link_uri": "https://elsewhere.example/lti/launch/"},
            "nonce": {"nonce": "another"},
            "context": {CLAIM + "context": {}},
        }.get(spoil, {})
        for name in {"no_sub": ["sub"], "no_exp": ["exp"], "no_nonce": ["nonce"]}.get(spoil, []):
            del claims[name]
        if spoil == "none":
            return {"id_token": jwt.encode(claims, None, algorithm="none", headers={"kid": "k1"})}
        if spoil == "hmac":  # signed with the public key as if it were a secret
            head, body = (_part(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "k1"}, claims))
            public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            seal = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
            return {"id_token": f"{head}.{body}.{_part(seal)}"}
        key = self.other if spoil == "key" else self.key
        return {
            "id_token": jwt.encode(claims, key, algorithm="RS256", headers={"kid": "k9" if spoil == "kid" else "k1"})
        }

    def token(self, sent: dict[str, str]) -> tuple[dict[str, Any], int]:
        """A token for scores, to whoever signs with a key that the tool publishes."""
        published = {row["kid"]: row for row in json.loads(self.tool_keys.read_text())["keys"]}
        assertion = sent.get("client_assertion", "")
        try:
            row = published[jwt.get_unverified_header(assertion)["kid"]]
            told = jwt.decode(
                assertion, jwt.PyJWK(row).key, algorithms=["RS256"], audience=f"{self.url}/token", issuer=CLIENT,
                options={"require": ["exp", "iat", "jti", "sub"]},
            )  # fmt: skip
        except (jwt.InvalidTokenError, KeyError) as wrong:
            return {"error": str(wrong)}, 401
        if told["sub"] != CLIENT or sent.get("scope") != AGS + "scope/score":
            return {"error": "invalid_scope"}, 400
        self.tokens += 1
        return {"access_token": f"t-{self.tokens}", "token_type": "Bearer", "expires_in": 3600}, 200

    def score(self, body: dict[str, Any], token: str) -> tuple[dict[str, Any], int]:
        if not token.startswith("Bearer t-"):
            return {}, 401
        if self.fails:
            self.fails -= 1
            return {}, 503
        if self.newest.get(body["userId"], "") >= body["timestamp"]:
            return {"error": "not newer"}, 409
        self.newest[body["userId"]] = body["timestamp"]
        self.scores.append(body)
        return {}, 200


def handler_of(platform: Platform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def answer(self, told: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if parts.path == "/keys":
                self.answer(platform.keys())
            elif parts.path == "/launch":
                self.answer(platform.launch(asked))
            elif parts.path == "/fail":
                platform.fails = int(asked["times"])
                self.answer({})
            elif parts.path == "/forget":
                platform.scores, platform.newest, platform.fails = [], {}, 0
                self.answer({})
            elif parts.path == "/state":
                self.answer({"scores": platform.scores, "tokens": platform.tokens})
            else:
                self.answer({}, 404)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"])).decode()
            path = urlsplit(self.path)
            if path.path == "/token":
                self.answer(*platform.token({name: values[0] for name, values in parse_qs(content).items()}))
            elif path.path == "/line/1/scores" and path.query == "type=3":
                self.answer(*platform.score(json.loads(content), self.headers.get("Authorization", "")))
            else:
                self.answer({}, 302)

    return Handler


def main() -> None:
    platform = Platform(Path(sys.argv[1]))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(platform))
    platform.url = f"http://127.0.0.1:{server.server_port}"
    print(platform.url, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
