"""What makes an operation's fields right (rank 1 of engine.md section 4), for the slow twin: one rule per field."""

import re
from collections.abc import Callable
from typing import Any

from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES

PAGE = 4096
U64 = (1 << 64) - 1
_HEX = re.compile(r"(?:[0-9a-f]{2}){1,4096}")
_PERMS = ("r", "rw", "rx", "rwx")
_PLAIN = {
    "vm": (0, U64),
    "vcpus": (1, 64),
    "vcpu": (0, 63),
    "gpn": (0, (1 << 36) - 1),
    "pages": (1, 1 << 200),  # the contract knows no most
    "offset": (0, PAGE - 1),
    "length": (1, PAGE),
    "gpa": (0, (1 << 48) - 1),
    "gva": (0, (1 << 48) - 1),
    "device": (0, 65535),
}


def check_fields(op: object, *, frames: int, cores: int) -> dict[str, Any] | None:
    """The fields with bytes for hex, or None if any is missing, unknown, or of the wrong type, range or alignment."""
    if not isinstance(op, dict) or not isinstance(op.get("op"), str) or op["op"] not in OPERATIONS:
        return None
    name = op["op"]
    if set(op) != {"op", *OPERATIONS[name].fields}:
        return None
    rules = _rules(name, frames, cores)
    if not all(rules[key](value) for key, value in op.items() if key != "op"):
        return None
    fields = dict(op)
    if "data" in fields:
        fields["data"] = bytes.fromhex(fields["data"])
    return fields if _together(name, fields, frames) else None


def _rules(name: str, frames: int, cores: int) -> dict[str, Callable[[Any], bool]]:
    rules: dict[str, Callable[[Any], bool]] = {key: _between(*limits) for key, limits in _PLAIN.items()}
    rules["mfn"] = _between(0, frames - 1)
    rules["core"] = _between(0, cores - 1)
    rules["size"] = lambda value: _integer(value) and value in (1, 512)
    rules["perm"] = lambda value: isinstance(value, str) and value in _PERMS
    rules["kind"] = lambda value: isinstance(value, str) and value in ("r", "w", "x")
    rules["data"] = lambda value: isinstance(value, str) and _HEX.fullmatch(value) is not None
    rules["registers"] = _registers
    return rules


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _between(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: _integer(value) and low <= value <= high


def _registers(value: object) -> bool:
    known = isinstance(value, dict) and all(key in REGISTER_NAMES for key in value)
    return known and all(_integer(number) and 0 <= number <= U64 for number in value.values())  # type: ignore[attr-defined]


def _together(name: str, fields: dict[str, Any], frames: int) -> bool:
    """The rules that need more than one field."""
    length = fields.get("length", len(fields.get("data", b"")))
    if name == "page_map" and fields["size"] == 512:
        return not (fields["gpn"] % 512 or fields["mfn"] % 512) and fields["mfn"] + 512 <= frames
    if name in ("hv_read", "hv_write"):
        return bool(fields["offset"] + length <= PAGE)
    if name in ("dma_read", "dma_write"):
        return bool(fields["mfn"] * PAGE + fields["offset"] + length <= frames * PAGE)
    if name in ("guest_read", "guest_write"):
        return bool(fields["gpa"] + length <= 1 << 48)
    if name in ("guest_map", "guest_unmap"):
        return bool(fields["gva"] % PAGE == 0)
    return True
