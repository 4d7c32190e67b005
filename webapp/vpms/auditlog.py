"""The exported audit log: JSON Lines in canonical form, each entry carrying the hash of the one before it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from webapp import strictjson
from webapp.errors import BadInput, Fault

GENESIS: Final = "0" * 64
TOGETHER: Final = 500  # lines that are read at once while all is well
# A number that may be a fraction, after a name and, where there are lists, after a comma or a bracket.
_FRACTION: Final = re.compile(rb":-?[0-9]+[.eE]")
_FRACTION_IN_LIST: Final = re.compile(rb"[,\[]-?[0-9]+[.eE]")
# Control characters past ASCII, and those of which UTF-16, by which RFC 8785 sorts, makes two units.
_RARE: Final = re.compile(rb"\xc2[\x80-\x9f]|[\xf0-\xff]")
_OPTIONS: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER  # integers as everywhere here: within 53 bits
FIELDS: Final = frozenset(("seq", "at", "type", "actor", "subject", "data", "prev", "hash"))

_NAMES: Final = tuple(f'"{name}":'.encode() for name in FIELDS)


def looks_like_log(data: bytes) -> bool:
    """Does some line name most members of an entry? So a log is known whichever of its entries is damaged."""
    return any(sum(name in line for name in _NAMES) > len(FIELDS) // 2 for line in io.BytesIO(data))


def verify_log(data: bytes, *, head: str | None = None, keys: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Every change, removal, insertion and reordering is found at the first bad entry, a removed tail by `head`.

    With `keys` the signatures of checkpoints are checked too. BadInput if it does not begin like a log.
    """
    if not looks_like_log(data):
        raise BadInput([Fault("$", "is neither an envelope nor an audit log")])
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    previous, known = GENESIS, {hashlib.sha256(base64.b64decode(k)).hexdigest(): k for k in (keys or {}).values()}
    for start in range(0, len(lines), TOGETHER):
        several = lines[start : start + TOGETHER]
        quick = entries_plain(several, start, previous)
        for number, line in enumerate(several, start):
            entry = _entry(line, number, previous) if quick is None else quick[number - start]
            if entry is None or (keys is not None and not _checkpoint_holds(entry, known)):
                return _verdict("chain_broken", len(lines), number, previous)
            previous = entry["hash"]
    if head is not None and head != previous:
        return _verdict("truncated", len(lines), None, previous)
    return _verdict("ok", len(lines), None, previous)


def _verdict(reason: str, entries: int, first_bad: int | None, head: str) -> dict[str, Any]:
    return {
        "kind": "log",
        "valid": reason == "ok",
        "reason": reason,
        "entries": entries,
        "first_bad": first_bad,
        "head": head,
    }


def _loaded(line: bytes) -> Any:
    try:
        return strictjson.load(line, max_depth=16, max_array=None, max_string=strictjson.MIB)
    except BadInput:
        return None


def _entry(line: bytes, number: int, previous: str) -> dict[str, Any] | None:
    """The entry in this line, if it is canonical, in its place and hashed right."""
    entry = _loaded(line)
    if not isinstance(entry, dict) or set(entry) != FIELDS or strictjson.canonical(entry) != line:
        return None
    body = {key: value for key, value in entry.items() if key != "hash"}
    right = (entry["seq"], entry["prev"], entry["hash"]) == (number, previous, strictjson.digest(body))
    return entry if right else None


def entries_plain(lines: Sequence[bytes], first: int, previous: str) -> list[dict[str, Any]] | None:
    """The entries of these lines if plainly all are right; None: read them with care, one by one, to find out.

    Lines that are each one JSON value and together equal their sorted, shortest form are canonical. The hash of an
    entry is over its own line without the hash, which stands right before the members that are known here.
    """
    joined = b",".join(lines)
    lists = joined.count(b"[")
    # Where every line opens its own brace and its data's, and few more are opened, none opens more than 16.
    several = joined.count(b"{") + lists > 2 * len(lines) + 14
    if several and any(line.count(b"{") + line.count(b"[") > 16 for line in lines):
        return None
    if max(map(len, lines)) > strictjson.MIB:
        return None
    if b"\\" in joined or b"\x7f" in joined or _FRACTION.search(joined):
        return None  # escapes, a control character or a fraction: for the careful reader
    if not joined.isascii() and _RARE.search(joined):
        return None
    if lists and _FRACTION_IN_LIST.search(joined):
        return None
    try:
        entries = [orjson.loads(line) for line in lines]
        if orjson.dumps(entries, option=_OPTIONS) != b"[%s]" % joined:
            return None
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    for number, (line, entry) in enumerate(zip(lines, entries, strict=True), first):
        if not isinstance(entry, dict) or entry.keys() != FIELDS or not isinstance(entry["data"], dict):
            return None
        known = f',"prev":"{previous}","seq":{number},"subject":'.encode()
        before, found, after = line.partition(f',"hash":"{entry["hash"]}"'.encode() + known)
        right = found and known not in after
        if not right or hashlib.sha256(before + known + after).hexdigest() != entry["hash"]:
            return None
        previous = entry["hash"]
    return entries


def _checkpoint_holds(entry: Mapping[str, Any], known: Mapping[str, str]) -> bool:
    """A checkpoint names the hash before it and carries a good signature over its 32 bytes by a known key."""
    if entry["type"] != "checkpoint":
        return True
    data = entry["data"]
    try:
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(known[data["keyid"]]))
        public.verify(base64.b64decode(data["sig"], validate=True), bytes.fromhex(data["head"]))
    except (KeyError, TypeError, ValueError, InvalidSignature, binascii.Error):
        return False
    return bool(data["head"] == entry["prev"])
