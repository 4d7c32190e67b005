"""YAML that strangers write, read strictly: plain values, and each fault with the line and column that it stands at.

No tags, anchors or aliases (so nothing grows), no key twice, limits on size and depth before anything is built.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from webapp.errors import BadInput, Fault
from webapp.strictjson import MAX_INTEGER, member
from webapp.vpms.shapes import Shape, in_document_order

MAX_DEPTH: Final = 12
MAX_NODES: Final = 5000
INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,15})")
WORDS: Final = {"true": True, "false": False, "null": None, "~": None, "": None}
LAST_STEP: Final = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_]*|\['(?:[^'\\]|\\.)*'\]|\[\d+\])\Z")
Place = tuple[int, int]


def at(line: int, column: int, reason: str) -> BadInput:
    return BadInput([Fault(where((line, column)), reason)])


def where(place: Place) -> str:
    return f"line {place[0]}, column {place[1]}"


class _Composer(yaml.SafeLoader):
    """Composes nodes and refuses, before it descends, whatever could grow or run."""

    def __init__(self, text: str, first: int) -> None:
        super().__init__(text)
        self.first, self.depth, self.nodes = first, 0, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        self.nodes += 1
        refused = (
            "aliases are not allowed"
            if isinstance(event, yaml.AliasEvent)
            else "anchors and tags are not allowed"
            if event.anchor is not None or event.tag is not None
            else f"there are more than {MAX_NODES} values"
            if self.nodes > MAX_NODES
            else f"is nested deeper than {MAX_DEPTH}"
            if self.depth >= MAX_DEPTH
            else ""
        )
        if refused:
            raise at(event.start_mark.line + self.first, event.start_mark.column + 1, refused)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class Text:
    """One YAML text; `first` is the number of its first line in the file that it stands in."""

    def __init__(self, text: str, *, first: int = 1) -> None:
        self.first = first
        self.places: dict[str, Place] = {}
        try:
            node = _Composer(text, first).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + first, mark.column + 1) if mark else (first, 1)
            raise at(line, column, error.problem or "is not YAML") from None
        except yaml.reader.ReaderError as error:
            head = text[: error.position]
            column = error.position - (head.rfind("\n") + 1) + 1
            raise at(head.count("\n") + first, column, "holds a character that is not allowed") from None
        if node is None:
            raise at(first, 1, "is empty")
        self.value = self._plain(node, "$")

    def _plain(self, node: yaml.Node, path: str) -> Any:
        self.places[path] = place = (node.start_mark.line + self.first, node.start_mark.column + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(each, f"{path}[{n}]") for n, each in enumerate(node.value)]
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise at(*place, "a key must be a word")
            if key.value in found:
                raise at(key.start_mark.line + self.first, key.start_mark.column + 1, f"{key.value!r} is given twice")
            found[key.value] = self._plain(value, member(path, key.value))
            self.places[f"{path}|{key.value}"] = (key.start_mark.line + self.first, key.start_mark.column + 1)
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        if node.style is not None:  # quoted, or a block of text
            return node.value
        if node.value in WORDS:
            return WORDS[node.value]
        if INTEGER.fullmatch(node.value) and abs(int(node.value)) <= MAX_INTEGER:
            return int(node.value)
        return node.value

    def check(self, shape: Shape) -> Any:
        """The value, if it has the shape; else BadInput with the place of every fault."""
        faults: list[Fault] = []
        shape.check(self.value, "$", faults)
        if faults:
            raise self.refused(in_document_order(self.value, faults))
        return self.value

    def refused(self, faults: list[Fault]) -> BadInput:
        """Faults by path as faults by line and column; the name of the member stays in the sentence."""
        return BadInput([Fault(where(self._place(fault.path)), _named(fault)) for fault in faults])

    def _place(self, path: str) -> Place:
        while path not in self.places and path != "$":
            path = LAST_STEP.sub("", path) if LAST_STEP.search(path) else "$"
        return self.places.get(path, (self.first, 1))


def _named(fault: Fault) -> str:
    name = fault.path.removeprefix("$").removeprefix(".")
    return f"{name} {fault.reason}" if name else fault.reason
