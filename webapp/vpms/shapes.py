"""Shapes of documents: one description gives the strict check, fault by fault, and the JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from webapp.errors import Fault
from webapp.strictjson import member

ID_PATTERN: Final = "^[a-z0-9][a-z0-9._-]{0,62}$"
TIME_PATTERN: Final = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
Faults = list[Fault]


class Shape(Protocol):
    def check(self, value: Any, path: str, faults: Faults) -> None:
        """Append a fault for everything in `value` that the shape does not allow."""

    def schema(self) -> dict[str, Any]:
        """The same as JSON Schema (draft 2020-12)."""


_LAST_STEP: Final = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_]*|\['(?:[^'\\]|\\.)*'\]|\[\d+\])\Z")


def in_document_order(document: Any, faults: Faults) -> Faults:
    """The faults as a reader of the document meets them; a missing member stands at the end of its object."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}

    def walk(value: Any, path: str) -> None:
        first[path] = len(first)
        if isinstance(value, dict):
            for key, item in value.items():
                walk(item, member(path, str(key)))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                walk(item, f"{path}[{index}]")
        last[path] = len(first)

    def place(fault: Fault) -> tuple[int, int]:
        if fault.path in first:
            return first[fault.path], 0
        return last.get(_LAST_STEP.sub("", fault.path), len(first)) - 1, 1

    walk(document, "$")
    return sorted(faults, key=place)


def is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Integer:
    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not is_integer(value):
            faults.append(Fault(path, "must be an integer"))
        elif not self.low <= value <= self.high:
            faults.append(Fault(path, f"must lie between {self.low} and {self.high}"))

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


class Boolean:
    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, bool):
            faults.append(Fault(path, "must be true or false"))

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class OneOf:
    """One of the listed strings."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, str) or value not in self.names:
            names = ", ".join(self.names)
            faults.append(Fault(path, f"must be one of {names}" if len(self.names) > 1 else f"must be {names}"))

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.names)} if len(self.names) > 1 else {"const": self.names[0]}


class Matching:
    """A string that matches a pattern and is not `never`; `what` names it in the fault."""

    def __init__(self, pattern: str, what: str, never: str | None = None) -> None:
        self.pattern, self.what, self.never = pattern, what, never
        self._match = re.compile(pattern.removesuffix("$") + r"\Z").match

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, str) or not self._match(value):
            faults.append(Fault(path, f"must be {self.what}"))
        elif value == self.never:
            faults.append(Fault(path, f"must not be {self.never}"))

    def schema(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": "string", "pattern": self.pattern}
        return shape if self.never is None else {**shape, "not": {"const": self.never}}


class Time(Matching):
    """A time `YYYY-MM-DDTHH:MM:SSZ` of the calendar; such strings compare like the times they name."""

    def __init__(self) -> None:
        super().__init__(TIME_PATTERN, "a time like 2026-01-31T12:00:00Z")

    def check(self, value: Any, path: str, faults: Faults) -> None:
        before = len(faults)
        super().check(value, path, faults)
        if len(faults) == before:
            try:
                datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ")
            except ValueError:
                faults.append(Fault(path, f"must be {self.what}"))


class Nullable:
    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if value is not None:
            self.shape.check(value, path, faults)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "null"}, self.shape.schema()]}


class Array:
    """A list; `different` forbids an item given twice; `most` None: any number."""

    def __init__(self, item: Shape, *, most: int | None = 256, least: int = 0, different: bool = False) -> None:
        self.item, self.most, self.least, self.different = item, most, least, different

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, list):
            faults.append(Fault(path, "must be an array"))
            return
        if self.most is not None and len(value) > self.most:
            faults.append(Fault(path, f"must have at most {self.most} items"))
            return
        if len(value) < self.least:
            faults.append(Fault(path, "must not be empty" if self.least == 1 else f"must have {self.least} items"))
        for index, item in enumerate(value):
            self.item.check(item, f"{path}[{index}]", faults)
            if self.different and item in value[:index]:
                faults.append(Fault(f"{path}[{index}]", "is given twice"))

    def schema(self) -> dict[str, Any]:
        shape: dict[str, Any] = {"type": "array", "items": self.item.schema()}
        if self.most is not None:
            shape["maxItems"] = self.most
        if self.least:
            shape["minItems"] = self.least
        if self.different:
            shape["uniqueItems"] = True
        return shape


class Object:
    """An object with exactly these members; those in `optional` may be absent.

    `needs` has rows (member, values, other): if the member has one of the values, the other must be there.
    """

    def __init__(
        self,
        required: Mapping[str, Shape],
        optional: Mapping[str, Shape] | None = None,
        *,
        least: int = 0,
        unknown: str = "is not a field of this document",
        needs: Sequence[tuple[str, Sequence[str], str]] = (),
    ) -> None:
        self.required, self.optional, self.least, self.unknown = required, optional or {}, least, unknown
        self.needs = tuple(needs)

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, dict):
            faults.append(Fault(path, "must be an object"))
            return
        if len(value) < self.least:
            faults.append(Fault(path, "must not be empty"))
        for key, item in value.items():
            shape = self.required.get(key) or self.optional.get(key)
            if shape is None:
                faults.append(Fault(member(path, key), self.unknown))
            else:
                shape.check(item, member(path, key), faults)
        for key in self.required:
            if key not in value:
                faults.append(Fault(member(path, key), "is missing"))
        lacking = {other: None for key, values, other in self.needs if value.get(key) in values and other not in value}
        faults += [Fault(member(path, other), "is missing") for other in lacking]

    def schema(self) -> dict[str, Any]:
        members = {**self.required, **self.optional}
        shape: dict[str, Any] = {
            "type": "object",
            "properties": {key: item.schema() for key, item in members.items()},
            "required": list(self.required),
            "additionalProperties": False,
        }
        if self.least:
            shape["minProperties"] = self.least
        if self.needs:
            shape["allOf"] = [
                {
                    "if": {"properties": {key: {"enum": list(values)}}, "required": [key]},
                    "then": {"required": [other]},
                }
                for key, values, other in self.needs
            ]
        return shape


class ByName:
    """An object whose keys all match one pattern and whose members all have one shape."""

    def __init__(self, item: Shape, pattern: str = "^[a-z0-9_]{1,63}$", what: str = "a name") -> None:
        self.item = item
        self._id = Matching(pattern, what)

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, dict):
            faults.append(Fault(path, "must be an object"))
            return
        for key, item in value.items():
            self._id.check(key, member(path, key), faults)
            self.item.check(item, member(path, key), faults)

    def schema(self) -> dict[str, Any]:
        return {"type": "object", "propertyNames": self._id.schema(), "additionalProperties": self.item.schema()}


class ById(ByName):
    """An object whose keys are ids."""

    def __init__(self, item: Shape) -> None:
        super().__init__(item, ID_PATTERN, "an id")


class ByIssue(ByName):
    """An object whose keys are issues: `host/<switch>` or `<vm>/<switch>`."""

    def __init__(self, item: Shape) -> None:
        super().__init__(item, "^[a-z0-9][a-z0-9._-]{0,62}/[a-z_]{1,40}$", "an issue like host/smt")


class Text:
    """A string of so many characters."""

    def __init__(self, least: int = 0, most: int | None = None) -> None:
        self.least, self.most = least, most

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, str):
            faults.append(Fault(path, "must be a string"))
        elif len(value) < self.least or (self.most is not None and len(value) > self.most):
            faults.append(Fault(path, f"must have {self.least} to {self.most} characters"))

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": self.least} | ({} if self.most is None else {"maxLength": self.most})


class Number:
    """Any number; results have decimals, documents only integers."""

    def check(self, value: Any, path: str, faults: Faults) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            faults.append(Fault(path, "must be a number"))

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


class Anything:
    def check(self, value: Any, path: str, faults: Faults) -> None:
        """Nothing is wrong with any value."""

    def schema(self) -> dict[str, Any]:
        return {}
