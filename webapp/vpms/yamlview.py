"""The YAML view of a document: the same values as its JSON, in block form for people; never another format.

A plain word means what JSON would mean by it (true, false, null, an integer) and is text otherwise, so `off` is the
text "off" here. Anchors, aliases, tags and several documents are refused, because JSON has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.strictjson import member

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_WORDS: Final[Mapping[str, Any]] = {"null": None, "": None, "true": True, "false": False}
_TOO_LARGE: Final = strictjson.MAX_INTEGER + 1  # the common rules refuse these two with path and reason
_NO_INTEGER: Final = 0.5


class _Dumper(yaml.SafeDumper):
    """Quotes text that looks like a number of JSON; PyYAML does so only for those of YAML 1.1."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> Any:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="'" if _NUMBER.fullmatch(data) else None)


_Dumper.add_representer(str, _Dumper.text)


def to_yaml(document: Mapping[str, Any]) -> str:
    """The document in block form, members in their order; what a reader could take for another value is quoted."""
    form = {"sort_keys": False, "default_flow_style": False, "allow_unicode": True, "width": 10**6}
    return str(yaml.dump(document, Dumper=_Dumper, **form))  # type: ignore[call-overload]


def from_yaml(text: str, *, max_bytes: int = 64 << 10, max_depth: int = 8) -> tuple[Any, dict[str, int]]:
    """(document, line of each path, from 1) of this text; BadInput for anything that JSON could not say.

    The document has passed the common rules and is read on like one that came as JSON.
    """
    if len(text.encode("utf-8", "surrogatepass")) > max_bytes:
        raise BadInput([Fault("$", f"is longer than {max_bytes} bytes")])
    try:
        document, lines = _built(text, max_depth)
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput([Fault("$", _where(error))]) from None
    strictjson.check(document, max_depth=max_depth)
    return document, lines


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error).split("\n")[0][:200]
    return f"line {mark.line + 1} column {mark.column + 1}: {what}" if mark else f"is not YAML: {what}"


def _fault(event: Any, what: str) -> BadInput:
    mark: Any = event.start_mark
    return BadInput([Fault("$", f"line {mark.line + 1} column {mark.column + 1}: {what}")])


class _Open:
    """A list or object that is being read, and the key that waits for its value."""

    def __init__(self, value: Any, path: str) -> None:
        self.value, self.path = value, path
        self.key: str | None = None


def _built(text: str, max_depth: int) -> tuple[Any, dict[str, int]]:
    """The value of the only document, built from events, so that no nesting costs more than its depth."""
    stack: list[_Open] = []
    lines: dict[str, int] = {}
    result: list[Any] = []
    event: Any
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _fault(event, "anchors and aliases are not used here")
        if isinstance(event, yaml.NodeEvent) and getattr(event, "tag", None) not in (None, "!"):
            raise _fault(event, "tags are not used here")
        if isinstance(event, yaml.DocumentStartEvent) and result:
            raise _fault(event, "only one document is expected")
        if isinstance(event, yaml.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, yaml.ScalarEvent):
            _put(stack, result, lines, event, _scalar(event))
        elif isinstance(event, yaml.CollectionStartEvent):
            value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            if len(stack) >= max_depth:
                raise BadInput([Fault("$", f"is nested deeper than {max_depth} levels")])
            stack.append(_Open(value, _put(stack, result, lines, event, value)))
    if not result:
        raise BadInput([Fault("$", "is empty")])
    return result[0], lines


def _put(stack: list[_Open], result: list[Any], lines: dict[str, int], event: Any, value: Any) -> str:
    """Put a value where it belongs; its path."""
    if not stack:
        result.append(value)
        path = "$"
    elif isinstance(stack[-1].value, list):
        path = f"{stack[-1].path}[{len(stack[-1].value)}]"
        stack[-1].value.append(value)
    elif stack[-1].key is None:
        _key(stack[-1], event, lines)
        return ""
    else:
        path = member(stack[-1].path, stack[-1].key)
        stack[-1].value[stack[-1].key] = value
        stack[-1].key = None
    lines.setdefault(path, event.start_mark.line + 1)
    return path


def _key(place: _Open, event: Any, lines: dict[str, int]) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise _fault(event, "a name must be a word")
    name = str(event.value)
    if name in place.value:
        raise BadInput([Fault(member(place.path, name), "this key is given more than once")])
    place.key = name
    mark: Any = event.start_mark
    lines[member(place.path, name)] = mark.line + 1


def _scalar(event: Any) -> Any:
    text = str(event.value)
    if not event.implicit[0]:  # quoted, or a block of text
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= 17 else _TOO_LARGE
    return _NO_INTEGER if _NUMBER.fullmatch(text) else text
