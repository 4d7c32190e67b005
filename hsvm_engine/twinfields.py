"""What makes an operation's fields right (rank 1 of engine.md section 4), for the slow twin: one rule per field."""

from collections.abc import Callable
from typing import Any

from hsvm_engine.operations import OPERATIONS, REGISTER_NAMES

PAGE = 4096
U64 = (1 << 64) - 1
SWAP_MAGIC, SWAP_LENGTH = b"HSVMSWAP", 4141
EXPORT_MAGIC = b"TWINEXPT"
MOST_PARTNERS = 1024
_PERMS = ("r", "rw", "rx", "rwx")
_LIMITS = {
    "vm": (0, U64),
    "other_vm": (0, U64),
    "vcpus": (1, 64),
    "vcpu": (0, 63),
    "gpn": (0, (1 << 36) - 1),
    "other_gpn": (0, (1 << 36) - 1),
    "pages": (1, None),
    "offset": (0, PAGE - 1),
    "length": (1, PAGE),
    "gpa": (0, (1 << 48) - 1),
    "gva": (0, (1 << 48) - 1),
    "device": (0, 65535),
    "vector": (0, 255),
    "after": (1, 1 << 32),
}
Rule = Callable[[Any], bool]


class FieldRules:
    """The rules of one host: numbers of frames and cores are limits too."""

    def __init__(self, frames: int, cores: int) -> None:
        self.frames = frames
        rules: dict[str, Rule] = {
            **{key: _between(low, high) for key, (low, high) in _LIMITS.items()},
            "mfn": _between(0, frames - 1),
            "core": _between(0, cores - 1),
            "size": lambda value: _integer(value) and value in (1, 512),
            "perm": lambda value: type(value) is str and value in _PERMS,
            "kind": lambda value: type(value) is str and value in ("r", "w", "x"),
            "data": lambda value: _hex(value) and len(value) <= 2 * PAGE,
            "image": _hex,
            "target": lambda value: _hex(value) and len(value) == 32,
            "registers": _registers,
            "with": _partners,
        }
        self._rules = {name: {key: rules[key] for key in each.fields} for name, each in OPERATIONS.items()}

    def check(self, op: object) -> dict[str, Any] | None:
        """The fields with bytes for hex, or None if any is missing, unknown, or of the wrong type, range or form."""
        if type(op) is not dict or type(name := op.get("op")) is not str:
            return None
        rules = self._rules.get(name)
        if rules is None or len(op) != len(rules) + 1:
            return None
        for key, rule in rules.items():
            if key not in op or not rule(op[key]):
                return None
        fields = dict(op)
        for key in ("data", "image"):
            if key in fields:
                fields[key] = bytes.fromhex(fields[key])
        if "with" in fields:
            fields["partners"] = fields.pop("with")
        return fields if self._together(name, fields) else None

    def _together(self, name: str, fields: dict[str, Any]) -> bool:
        """The rules that need more than one field, or the operation's name."""
        length = fields.get("length", len(fields.get("data", b"")))
        match name:
            case "page_map" if fields["size"] == 512:
                return not (fields["gpn"] % 512 or fields["mfn"] % 512) and fields["mfn"] + 512 <= self.frames
            case "hv_read" | "hv_write":
                return bool(fields["offset"] + length <= PAGE)
            case "dma_read" | "dma_write":
                return bool(fields["mfn"] * PAGE + fields["offset"] + length <= self.frames * PAGE)
            case "guest_read" | "guest_write":
                return bool(fields["gpa"] + length <= 1 << 48)
            case "guest_map" | "guest_unmap":
                return bool(fields["gva"] % PAGE == 0)
            case "guest_share":
                return fields["perm"] in ("r", "rw")
            case "swap_in":
                return len(fields["image"]) == SWAP_LENGTH and bool(fields["image"].startswith(SWAP_MAGIC))
            case "import_vm":
                return _exported(fields["image"])
        return True


def _integer(value: object) -> bool:
    return type(value) is int  # plain values only: neither booleans nor other kinds of integers


def _between(low: int, high: int | None) -> Rule:
    return lambda value: _integer(value) and low <= value and (high is None or value <= high)


def _hex(value: object) -> bool:
    """Whether these are the digits that the bytes are written with, and no others; at least one byte."""
    try:
        return type(value) is str and value != "" and bytes.fromhex(value).hex() == value
    except ValueError:
        return False


def _registers(value: object) -> bool:
    if type(value) is not dict or not all(type(key) is str and key in REGISTER_NAMES for key in value):
        return False
    return all(_integer(number) and 0 <= number <= U64 for number in value.values())


def _partners(value: object) -> bool:
    if type(value) is list:
        return len(value) <= MOST_PARTNERS and all(_integer(handle) and 0 <= handle <= U64 for handle in value)
    return type(value) is str and value in ("none", "any")


def _exported(image: bytes) -> bool:
    return image.startswith(EXPORT_MAGIC) and len(image) == 32 + int.from_bytes(image[8:16], "little")
