"""The only JSON loader for foreign input, and the one canonical form (RFC 8785) that digests are made of.

Python's own loader accepts NaN, 1e400, duplicate keys, lone surrogates and nesting that ends in a RecursionError.
Here size, encoding and depth are checked before parsing; everything else is reported with its JSON path.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Final

from webapp.errors import MAX_FAULTS, BadInput, Fault

MIB: Final = 1 << 20
MAX_INTEGER: Final = (1 << 53) - 1
MAX_STRING: Final = 1000
MAX_ARRAY: Final = 256

MAX_FILE: Final = 256 * 1024  # characters of a file that stands in a string

_LAYOUT: Final = dict.fromkeys(map(ord, "\t\n\r"), " ")
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True)
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class _Refused:
    """Stands in the parsed tree where a number was that no document may hold; the walk turns it into a fault."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


class _Repeated(dict[str, Any]):
    """An object of the parsed tree in which keys were given more than once."""

    keys_repeated: tuple[str, ...] = ()


def member(path: str, key: str) -> str:
    """The JSON path of a member: `$.a.b`, or `$['x-y']` for names that are not identifiers."""
    if _IDENTIFIER.match(key):
        return f"{path}.{key}"
    shown = key if len(key) <= 64 else key[:64] + "…"
    shown = _FORBIDDEN.sub(_escape, shown.replace("\\", "\\\\").replace("'", "\\'"))
    return f"{path}['{shown}']"


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def load(
    data: bytes | str,
    *,
    max_bytes: int = MIB,
    max_depth: int = 8,
    max_array: int | None = MAX_ARRAY,
    max_string: int = MAX_STRING,
    decimals: bool = False,
    file: str = "",
) -> Any:
    """The decoded value of a JSON text that keeps every common rule; otherwise BadInput and nothing else.

    `decimals` allows finite numbers with a point: results have them, documents never. `file`: the member of the whole
    that holds a file's text, which has lines and may be as long as MAX_FILE.
    """
    value, faults = parse(
        data,
        max_bytes=max_bytes,
        max_depth=max_depth,
        max_array=max_array,
        max_string=max_string,
        decimals=decimals,
        file=file,
    )
    if faults:
        raise BadInput(faults)
    return value


def parse(
    data: bytes | str,
    *,
    max_bytes: int = MIB,
    max_depth: int = 8,
    max_array: int | None = MAX_ARRAY,
    max_string: int = MAX_STRING,
    decimals: bool = False,
    file: str = "",
) -> tuple[Any, list[Fault]]:
    """(value, faults): for readers that name further faults beside those of the common rules.

    Size, encoding, depth and syntax are refused at once. Where a number was that no document may hold, the value
    holds something that is of no JSON type.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else bytes(data)
    if len(raw) > max_bytes:
        raise BadInput([Fault("$", f"is {len(raw)} bytes long; at most {max_bytes} are allowed")])
    if raw.startswith(b"\xef\xbb\xbf"):
        raise BadInput([Fault("$", "starts with a byte order mark; plain UTF-8 is expected")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput([Fault("$", f"is not UTF-8 (byte {error.start})")]) from None
    _check_depth(raw, max_depth)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_float=_decimal if decimals else _no_decimal,
            parse_int=_integer,
            parse_constant=lambda shown: _Refused(f"{shown} is not a number"),
        )
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno} column {error.colno}: {error.msg}"
        raise BadInput([Fault("$", reason)]) from None
    faults: list[Fault] = []
    limits = (max_depth, max_array, max_string)
    lines = value.pop(file) if file and isinstance(value, dict) and isinstance(value.get(file), str) else None
    if not _plain(value, 0, limits):
        _walk(value, "$", 0, limits, faults)
    if lines is not None:
        value[file] = lines
        wrong = _text_fault(lines.translate(_LAYOUT), MAX_FILE)
        faults += [Fault(member("$", file), wrong)] if wrong else []
    return value, faults


def check(value: Any, *, max_depth: int = 8, max_array: int | None = MAX_ARRAY, max_string: int = MAX_STRING) -> None:
    """Every common rule holds in this decoded value, whoever built it; otherwise BadInput with path and reason."""
    limits = max_depth, max_array, max_string
    if _plain(value, 0, limits):
        return
    faults: list[Fault] = []
    _walk(value, "$", 0, limits, faults)
    if faults:
        raise BadInput(faults)


def canonical(value: Any) -> bytes:
    """The RFC 8785 form: keys by UTF-16 code units, no space, shortest escapes. Integers only, as everywhere here."""
    text = _ENCODER.encode(value)
    if not text.isascii():  # only then can the order of UTF-16 units differ from that of code points
        text = json.dumps(_ordered(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, lower-case hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=lambda name: name.encode("utf-16-be"))}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


def _check_depth(raw: bytes, max_depth: int) -> None:
    depth = 0
    for bracket in _STRINGS.sub(b"", raw).translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > max_depth:
                raise BadInput([Fault("$", f"is nested deeper than {max_depth} levels")])
        else:
            depth -= 1


class _Decimal(float):
    """A number with a point where such are allowed."""


def _decimal(shown: str) -> Any:
    number = _Decimal(shown)
    return number if math.isfinite(number) else _Refused(f"{shown[:40]} is too large")


def _no_decimal(shown: str) -> Any:
    return _Refused("must be an integer without point or exponent")


def _integer(shown: str) -> Any:
    if shown == "-0":
        return _Refused("-0 is not allowed")
    if len(shown) > 17 or abs(int(shown)) > MAX_INTEGER:
        return _Refused(f"must lie within ±{MAX_INTEGER}")
    return int(shown)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) == len(pairs):
        return built
    seen: set[str] = set()
    repeated = []
    for key, _ in pairs:
        if key in seen and key not in repeated:
            repeated.append(key)
        seen.add(key)
    marked = _Repeated(built)
    marked.keys_repeated = tuple(repeated)
    return marked


def _text_fault(text: str, longest: int) -> str | None:
    if len(text) > longest:
        return f"has {len(text)} characters; at most {longest} are allowed"
    found = _FORBIDDEN.search(text)
    if found is None:
        return None
    kind = "a lone surrogate" if found[0] >= "\ud800" else "a control character"
    return f"contains {kind} (U+{ord(found[0]):04X})"


def _plain(value: Any, depth: int, limits: tuple[int, int | None, int]) -> bool:
    """Is everything plainly in order? False only says that `_walk` must look closer, which makes paths as it goes."""
    kind = type(value)
    if kind is str:
        return bool(len(value) <= limits[2] and value.isascii() and value.isprintable())
    if kind is int:
        return bool(abs(value) <= MAX_INTEGER)
    if kind is dict:
        return depth < limits[0] and all(
            type(key) is str and _plain(key, depth, limits) and _plain(item, depth + 1, limits)
            for key, item in value.items()
        )
    if kind is list:
        fits = depth < limits[0] and (limits[1] is None or len(value) <= limits[1])
        return fits and all(_plain(item, depth + 1, limits) for item in value)
    return value is None or kind is bool


def _walk(value: Any, path: str, depth: int, limits: tuple[int, int | None, int], faults: list[Fault]) -> None:
    max_depth, max_array, max_string = limits
    if len(faults) >= MAX_FAULTS:
        return
    if isinstance(value, str):
        reason = _text_fault(value, max_string)
        if reason:
            faults.append(Fault(path, reason))
    elif isinstance(value, _Refused):
        faults.append(Fault(path, value.reason))
    elif isinstance(value, dict | list) and depth >= max_depth:
        faults.append(Fault("$", f"is nested deeper than {max_depth} levels"))
    elif isinstance(value, dict):
        for key in value.keys_repeated if isinstance(value, _Repeated) else ():
            faults.append(Fault(member(path, key), "this key is given more than once"))
        for key, item in value.items():
            if not isinstance(key, str):
                faults.append(Fault(path, "has a key that is not a string"))
                continue
            reason = _text_fault(key, max_string)
            if reason:
                faults.append(Fault(member(path, key), f"the key {reason}"))
            _walk(item, member(path, key), depth + 1, limits, faults)
    elif isinstance(value, list):
        if max_array is not None and len(value) > max_array:
            faults.append(Fault(path, f"has {len(value)} items; at most {max_array} are allowed"))
            return
        for index, item in enumerate(value):
            _walk(item, f"{path}[{index}]", depth + 1, limits, faults)
    elif isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MAX_INTEGER:
            faults.append(Fault(path, f"must lie within ±{MAX_INTEGER}"))
    elif value is not None and not isinstance(value, bool | _Decimal):
        number = isinstance(value, float)
        faults.append(Fault(path, "must be an integer without point or exponent" if number else "is no value of JSON"))
