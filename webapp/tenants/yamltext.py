"""The YAML view of a document: the same values, the same limits and the same faults as the JSON.

Read event by event, so that nothing is built before its depth is known. Anchors, aliases, tags, merges, repeated keys
and further documents are refused; `off`, `no` and `on` are words, not truth values. JSON stays what is stored.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from webapp.errors import MAX_FAULTS, BadInput, Fault
from webapp.strictjson import MAX_INTEGER, member
from webapp.vpms.formats import POLICY

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 8
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FRACTION: Final = re.compile(
    r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z|[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z"
)
_WORDS: Final[dict[str, Any]] = {"": None, "~": None, "null": None, "true": True, "false": False}


def write(document: dict[str, Any]) -> str:
    """The document as YAML in block style, its members in the order given."""
    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1000))


def read(data: bytes) -> dict[str, Any]:
    """The document in this YAML; BadInput with the paths and words that the same mistakes have in JSON."""
    value, _ = read_with_lines(data)
    faults: list[Fault] = []
    if not isinstance(value, dict):
        POLICY.check(value, "$", faults)
    if faults:
        raise BadInput(faults)
    return value


def lines_of(data: bytes) -> dict[str, int]:
    """In which line each path stands, as far as the text can be read; JSON is read by the same rules."""
    try:
        return read_with_lines(data, lenient=True)[1]
    except BadInput:
        return {}


def read_with_lines(data: bytes, *, lenient: bool = False) -> tuple[Any, dict[str, int]]:
    """The value, and the line (from 1) of each path. `lenient`: only syntax and limits are faults."""
    builder = _Builder()
    try:
        for event in yaml.parse(_text(data), Loader=yaml.SafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1} column {mark.column + 1}: " if mark else ""
        raise BadInput([Fault("$", f"{where}{error.problem or 'is no YAML'}")]) from None
    except yaml.YAMLError:
        raise BadInput([Fault("$", "contains a character that YAML does not allow")]) from None
    if builder.faults and not lenient:
        raise BadInput(builder.faults)
    return builder.root, builder.lines


def _text(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise BadInput([Fault("$", f"is {len(data)} bytes long; at most {MAX_BYTES} are allowed")])
    if data.startswith(b"\xef\xbb\xbf"):
        raise BadInput([Fault("$", "starts with a byte order mark; plain UTF-8 is expected")])
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput([Fault("$", f"is not UTF-8 (byte {error.start})")]) from None


class _Builder:
    """Puts the values of a stream of events together. `open` holds the containers that are not closed yet."""

    def __init__(self) -> None:
        self.root: Any = None
        self.documents = 0
        self.open: list[tuple[Any, str]] = []
        self.key: list[str | None] = []  # of each open mapping: the key whose value comes next
        self.lines: dict[str, int] = {}
        self.faults: list[Fault] = []

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1 or event.tags or event.version:
                raise BadInput([Fault("$", "must be one document without directives")])
        elif isinstance(event, yaml.AliasEvent):
            raise BadInput([Fault(self.path(), "is an alias; write the value out")])
        elif isinstance(event, yaml.NodeEvent):
            self.node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self.open.pop()
            self.key.pop()

    def path(self) -> str:
        """Where the next value goes."""
        if not self.open:
            return "$"
        container, path = self.open[-1]
        return f"{path}[{len(container)}]" if isinstance(container, list) else member(path, self.key[-1] or "")

    def node(self, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            raise BadInput([Fault(self.path(), "has an anchor or a tag; plain values are expected")])
        if self.open and isinstance(self.open[-1][0], dict) and self.key[-1] is None:
            self.take_key(event)
            return
        path = self.path()
        self.lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.ScalarEvent):
            self.put(self.scalar(event, path))
            return
        if len(self.open) >= MAX_DEPTH:
            raise BadInput([Fault("$", f"is nested deeper than {MAX_DEPTH} levels")])
        container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        self.put(container)
        self.open.append((container, path))
        self.key.append(None)

    def take_key(self, event: Any) -> None:
        container, path = self.open[-1]
        if not isinstance(event, yaml.ScalarEvent):
            raise BadInput([Fault(path, "has a key that is not a string")])
        if event.value == "<<" and event.style is None:
            raise BadInput([Fault(path, "has a merge key; write the members out")])
        if event.value in container:
            self.fault(member(path, event.value), "this key is given more than once")
        self.key[-1] = event.value
        self.lines.setdefault(self.path(), event.start_mark.line + 1)

    def put(self, value: Any) -> None:
        if not self.open:
            self.root = value
            return
        container = self.open[-1][0]
        if isinstance(container, list):
            container.append(value)
        else:
            container[self.key[-1]] = value
            self.key[-1] = None

    def scalar(self, event: yaml.ScalarEvent, path: str) -> Any:
        """Quoted: a string. Plain: null, true, false, an integer, or a word. Fractions are left to the common rules."""
        text = event.value
        if event.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if text == "-0":
            self.fault(path, "-0 is not allowed")
            return 0
        if _INTEGER.match(text):
            sign = -1 if text.startswith("-") else 1
            return int(text) if len(text) <= 17 else sign * (MAX_INTEGER + 1)
        return 0.5 if _FRACTION.match(text) else text

    def fault(self, path: str, reason: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(path, reason))
