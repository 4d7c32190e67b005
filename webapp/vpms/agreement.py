"""Agreements: an in-toto Statement in canonical JSON, in a DSSE envelope signed by every party with Ed25519."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.vpms.documents import Host, Policy
from webapp.vpms.formats import OPERATOR, PREDICATE
from webapp.vpms.shapes import Array, Faults, Matching, Object, OneOf
from webapp.vpms.vocabulary import DECLARED_ONLY

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "urn:vpms:agreement:v1"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
LONGEST: Final = timedelta(days=90)
TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
_HEX: Final = Matching("^[0-9a-f]{64}$", "64 lower-case hex digits")
_TEXT: Final = Matching("^.*$", "a string")
_BASE64: Final = Matching("^[A-Za-z0-9+/]*={0,2}$", "base64")
_ENVELOPE: Final = Object(
    {
        "payload": _BASE64,
        "payloadType": Matching("^.{1,200}$", "a media type"),
        "signatures": Array(Object({"keyid": _TEXT, "sig": _TEXT})),
    }
)
_SUBJECT: Final = Object({"name": Matching("^(policy|host):.{1,63}$", "a subject"), "digest": Object({"sha256": _HEX})})
_STATEMENT: Final = Object(
    {
        "_type": OneOf([STATEMENT_TYPE]),
        "subject": Array(_SUBJECT),
        "predicateType": OneOf([PREDICATE_TYPE]),
        "predicate": PREDICATE,
    }
)


def statement(
    *,
    assignment: Mapping[str, Any],
    certificate: Mapping[str, Any],
    policies: Iterable[Policy],
    host: Host,
    keys: Mapping[str, str],
    agreement: str,
    version: int,
    previous: str | None,
    not_before: str,
) -> dict[str, Any]:
    """What the parties sign. `keys` holds each party's public key in base64, the operator's included.

    The terms end with the earliest policy, at the latest after 90 days.
    """
    given = sorted(policies, key=lambda policy: policy.vm)
    latest = datetime.strptime(not_before, TIME_FORMAT) + LONGEST
    ends = [latest.strftime(TIME_FORMAT), *(policy.not_after for policy in given if policy.not_after)]
    parties = [
        {
            "id": policy.vm,
            "tenant": policy.tenant,
            "policy_sha256": policy.sha256,
            "policy_version": policy.version,
            "key": keys[policy.vm],
        }
        for policy in given
    ]
    operator = {"tenant": None, "policy_sha256": None, "policy_version": None, "key": keys[OPERATOR]}
    parties.append({"id": OPERATOR, **operator})
    subjects = {f"policy:{policy.vm}": policy.sha256 for policy in given} | {f"host:{host.host}": host.sha256}
    lacking = any(row.get("memory_protection") in ("snp_tdx", "sev") for row in assignment["vms"].values())
    lacking = lacking or assignment["host"].get("memory_protection") in ("snp_tdx", "sev")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "format": "vpms-agreement/1",
            "agreement": agreement,
            "version": version,
            "previous": previous,
            "host": host.host,
            "parties": sorted(parties, key=lambda row: str(row["id"])),
            "assignment": {"host": dict(assignment["host"]), "vms": {k: dict(v) for k, v in assignment["vms"].items()}},
            "not_enforced": sorted(DECLARED_ONLY | ({"memory_protection"} if lacking else set())),
            "notBefore": not_before,
            "notAfter": min(ends),
            "certificate_sha256": strictjson.digest(certificate),
        },
    }


def payload_of(signed: Mapping[str, Any]) -> bytes:
    """The bytes that are signed: the canonical form of the statement."""
    return strictjson.canonical(signed)


def payload_digest(payload: bytes) -> str:
    """Names this version of the agreement; the next version's `previous`."""
    return hashlib.sha256(payload).hexdigest()


def public_key(seed: bytes) -> str:
    """The raw public key of a private seed, in base64."""
    return base64.b64encode(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()).decode()


def key_id(key: str) -> str:
    """The name of a public key in signatures; of what is no key, a name that no key has."""
    return hashlib.sha256(_plain_base64(key) or b"").hexdigest()


def sign(payload: bytes, seed: bytes) -> dict[str, str]:
    """One party's signature over the payload."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    signature = private.sign(_encoded(payload, PAYLOAD_TYPE))
    name = hashlib.sha256(private.public_key().public_bytes_raw()).hexdigest()
    return {"keyid": name, "sig": base64.b64encode(signature).decode()}


def is_signed(payload: bytes, signature: Mapping[str, str], key: str) -> bool:
    """Is this the key's signature over the payload?"""
    given = [signature.get("sig", "")] if signature.get("keyid") == key_id(key) else []
    return _signed_by(key, _encoded(payload, PAYLOAD_TYPE), given)


def envelope(payload: bytes, signatures: Iterable[Mapping[str, str]]) -> dict[str, Any]:
    """The DSSE envelope: payload and one signature for each party."""
    rows = sorted((dict(row) for row in signatures), key=lambda row: (row["keyid"], row["sig"]))
    return {"payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD_TYPE, "signatures": rows}


def predicate_of(source: bytes | str | Mapping[str, Any]) -> dict[str, Any]:
    """The terms in an envelope, not verified."""
    opened = _opened(source)
    if opened.faults:
        raise BadInput(opened.faults)
    return dict(opened.statement["predicate"])


def verify(
    source: bytes | str | Mapping[str, Any],
    *,
    now: str,
    keys: Mapping[str, str] | None = None,
    policies: Sequence[Policy] = (),
) -> dict[str, Any]:
    """Whether every party has signed exactly these terms and they are in their time; reason is the first that applies.

    With `keys` (party -> base64 public key) it is also checked who the parties are. What cannot be decoded at all is
    BadInput, and so is a statement of another form if it bears every signature; a changed one does not, and gets its
    reason (`agreement` and `version` are then null if they cannot be read).
    """
    opened = _opened(source)
    signed = opened.statement
    parties = _signers(signed)
    signatures: dict[str, list[str]] = {}
    for row in opened.envelope["signatures"]:
        signatures.setdefault(row["keyid"], []).append(row["sig"])
    message = _encoded(opened.payload, opened.envelope["payloadType"])
    good = {party: _signed_by(key, message, signatures.get(key_id(key), ())) for party, key in parties.items()}
    reason = _form_reason(opened, parties, good, keys)
    if reason is None and opened.faults:
        raise BadInput([Fault(f"$.payload{fault.path[1:]}", fault.reason) for fault in opened.faults])
    predicate = _part(signed, "predicate")
    reason = (
        reason
        or _digest_reason(signed, policies)
        or ("not_yet_valid" if now < predicate["notBefore"] else None)
        or ("expired" if now >= predicate["notAfter"] else None)
        or "ok"
    )
    known = {fault.path for fault in opened.faults}
    return {
        "kind": "agreement",
        "valid": reason == "ok",
        "reason": reason,
        "identity": "unchecked" if keys is None else "checked",
        "agreement": None if "$.predicate.agreement" in known else predicate.get("agreement"),
        "version": None if "$.predicate.version" in known else predicate.get("version"),
        "expired": "$.predicate.notAfter" not in known and now >= predicate.get("notAfter", now + "~"),
        "signatures": [{"party": party, "ok": good[party]} for party in sorted(good)],
    }


def _part(value: Any, name: str) -> Mapping[str, Any]:
    """A member that is an object; empty if there is none."""
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}


def _signers(signed: Any) -> dict[str, str]:
    """Party -> key, as far as the statement can be read."""
    rows = _part(signed, "predicate").get("parties")
    named = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return {row["id"]: str(row.get("key")) for row in named if isinstance(row.get("id"), str)}


def _form_reason(
    opened: _Opened, parties: Mapping[str, str], good: Mapping[str, bool], keys: Mapping[str, str] | None
) -> str | None:
    given, signed = opened.envelope, opened.statement
    if not opened.canonical or not (opened.faults or _in_order(signed)):
        return "not_canonical"
    if opened.faults and not parties:
        return None
    wanted = Counter(key_id(key) for key in parties.values())
    found = Counter(row["keyid"] for row in given["signatures"])
    if wanted - found or OPERATOR not in parties:
        return "missing_signature"
    if keys is not None and any(keys.get(party) != key for party, key in parties.items()):
        return "unknown_key"
    if found - wanted or not all(good.values()) or given["payloadType"] != PAYLOAD_TYPE:
        return "bad_signature"
    return None


def _in_order(signed: Mapping[str, Any]) -> bool:
    """Subjects and parties sorted, each once."""
    names = [row["name"] for row in signed["subject"]]
    ids = [row["id"] for row in signed["predicate"]["parties"]]
    return names == sorted(set(names)) and ids == sorted(set(ids))


def _digest_reason(signed: Mapping[str, Any], policies: Sequence[Policy]) -> str | None:
    predicate = signed["predicate"]
    agreed = {row["id"]: row["policy_sha256"] for row in predicate["parties"] if row["policy_sha256"] is not None}
    subjects = {row["name"]: row["digest"]["sha256"] for row in signed["subject"]}
    of_policies = {
        name.removeprefix("policy:"): value for name, value in subjects.items() if name.startswith("policy:")
    }
    if of_policies != agreed or f"host:{predicate['host']}" not in subjects:
        return "digest_mismatch"
    if any(agreed.get(policy.vm) != policy.sha256 for policy in policies):
        return "digest_mismatch"
    return None


def _signed_by(key: str, message: bytes, signatures: Sequence[str]) -> bool:
    """Every one of these signatures, which name this key, is good, and there is one."""
    raw = _plain_base64(key)
    if raw is None or len(raw) != 32:
        return False
    public = Ed25519PublicKey.from_public_bytes(raw)
    for signature in signatures:
        try:
            public.verify(_plain_base64(signature) or b"", message)
        except InvalidSignature:
            return False
    return bool(signatures)


def _encoded(payload: bytes, payload_type: str) -> bytes:
    """DSSE pre-authentication encoding."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


class _Opened(NamedTuple):
    """An envelope and what is in it; `faults`: what keeps the payload from being a statement of this form."""

    envelope: Mapping[str, Any]
    payload: bytes
    statement: Any
    canonical: bool
    faults: Faults


def _opened(source: bytes | str | Mapping[str, Any]) -> _Opened:
    if isinstance(source, bytes | str):
        source = strictjson.load(source, max_depth=16, max_string=strictjson.MIB)
    faults: Faults = []
    _ENVELOPE.check(source, "$", faults)
    if faults:
        raise BadInput(faults)
    assert isinstance(source, Mapping)
    payload = _plain_base64(source["payload"])
    if payload is None:
        raise BadInput([Fault("$.payload", "must be base64")])
    try:
        signed, faults = strictjson.parse(payload, max_depth=16)
    except BadInput as refused:
        raise BadInput([Fault("$.payload", fault.reason) for fault in refused.faults]) from None
    canonical = not faults and payload == strictjson.canonical(signed)
    if not faults:
        _STATEMENT.check(signed, "$", faults)
    return _Opened(source, payload, signed, canonical, faults)


def _plain_base64(text: str) -> bytes | None:
    """The bytes of canonical base64; so no two texts mean the same bytes. None: it is not."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None
