"""The text of an attack file as nodes and plain values, each refusal with its line and column.

YAML in block style or JSON is composed to PyYAML's node tree; nothing is built by tags, nothing is evaluated.
"""

import re
from typing import Any

import yaml

from hsvm_engine.jsontext import MAX_DEPTH, TextError, load_json

MAX_BYTES = 64 * 1024
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}|0x[0-9a-f]{1,16}")


class AttackFileError(TextError):
    """An attack file that is refused, with file, line, column and reason."""


class _Composer(yaml.SafeLoader):
    """Composes nodes and refuses, before it descends, whatever the language does not have."""

    def __init__(self, text: str, file: str, flow: bool) -> None:
        super().__init__(text)
        self.file, self.flow, self.depth = file, flow, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        refusal = self._refusal(event)
        if refusal:
            raise _at(event, self.file, refusal)
        self.depth += not isinstance(event, yaml.ScalarEvent)
        if self.depth > MAX_DEPTH:
            raise _at(event, self.file, f"nested deeper than {MAX_DEPTH}")
        node = super().compose_node(parent, index)
        self.depth -= not isinstance(event, yaml.ScalarEvent)
        return node

    def _refusal(self, event: Any) -> str | None:
        if isinstance(event, yaml.AliasEvent):
            return "aliases are not allowed"
        if event.anchor is not None:
            return "anchors are not allowed"
        if event.tag is not None:
            return "tags are not allowed"
        if not self.flow and getattr(event, "flow_style", False):
            return "flow style is not allowed: write a block, or the whole file in JSON"
        return None


def _at(node: Any, file: str, reason: str) -> AttackFileError:
    mark = node.start_mark
    return AttackFileError(file, mark.line + 1, mark.column + 1, reason)


class NodeReader:
    """One reading of one file. Methods take a node and return its value or raise at the node's place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.json = False

    def error(self, node: yaml.Node, reason: str) -> AttackFileError:
        return _at(node, self.file, reason)

    # text to nodes

    def decode(self, text: str | bytes) -> str:
        text = text[: MAX_BYTES + 1]  # enough to refuse what is longer, without a copy of all of it
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if len(raw) > MAX_BYTES:
            head = raw[:MAX_BYTES]
            column = MAX_BYTES - (head.rfind(b"\n") + 1) + 1
            raise AttackFileError(self.file, head.count(b"\n") + 1, column, f"longer than {MAX_BYTES} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            head = raw[: error.start]
            column = error.start - (head.rfind(b"\n") + 1) + 1
            raise AttackFileError(self.file, head.count(b"\n") + 1, column, "not UTF-8") from None

    def compose(self, text: str) -> yaml.Node:
        self.json = text.lstrip()[:1] in ("{", "[")
        if self.json:
            try:
                load_json(text, file=self.file)
            except TextError as error:
                raise AttackFileError(error.file, error.line, error.column, error.reason) from None
            text = text.replace("\t", " ")  # only between tokens: the strict parser allows no tab in a string
        try:
            node: yaml.Node | None = _Composer(text, self.file, self.json).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise AttackFileError(self.file, line, column, error.problem or "not YAML") from None
        except yaml.reader.ReaderError as error:
            head = text[: error.position]
            column = error.position - (head.rfind("\n") + 1) + 1
            reason = f"character {error.character!r} is not allowed"
            raise AttackFileError(self.file, head.count("\n") + 1, column, reason) from None
        if node is None:
            raise AttackFileError(self.file, 1, 1, "the file is empty")
        return node

    # nodes to plain values

    def mapping(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must be a mapping")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error(key, "a key must be a word")
            if key.value == "<<":
                raise self.error(key, "merge keys are not allowed")
            if key.value in found:
                raise self.error(key, f"duplicate key {key.value[:64]}")
            found[key.value] = value
        return found

    def keys(self, node: yaml.Node, what: str, required: str, optional: str = "") -> dict[str, yaml.Node]:
        found = self.mapping(node, what)
        allowed = (*required.split(), *optional.split())
        for key, _ in node.value:
            if key.value not in allowed:
                raise self.error(key, f"unknown key {key.value[:64]} in {what}")
        for name in required.split():
            if name not in found:
                raise self.error(node, f"{what} needs the field {name}")
        return found

    def sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.error(node, f"{what} must be a list with at least one entry")
        return list(node.value)

    def text(self, node: yaml.Node, what: str, limit: int = 2000) -> str:
        if not isinstance(node, yaml.ScalarNode) or (self.json and node.style is None):
            raise self.error(node, f"{what} must be text")
        if not 0 < len(node.value) <= limit:
            raise self.error(node, f"{what} must have 1 to {limit} characters")
        return str(node.value)

    def word(self, node: yaml.Node, what: str, allowed: tuple[str, ...]) -> str:
        value = self.text(node, what)
        if value not in allowed:
            raise self.error(node, f"{what} is one of {', '.join(allowed)}, not {value[:64]}")
        return value

    def match(self, node: yaml.Node, what: str, pattern: re.Pattern[str]) -> str:
        value = self.text(node, what)
        if not pattern.fullmatch(value):
            raise self.error(node, f"{what} must look like {pattern.pattern}, not {value[:64]}")
        return value

    def integer(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        value = self.maybe_integer(node)
        if value is None or not low <= value <= high:
            raise self.error(node, f"{what} must be an integer from {low} to {high}")
        return value

    def maybe_integer(self, node: yaml.Node) -> int | None:
        """The integer that a plain scalar spells; a quoted one is text."""
        if isinstance(node, yaml.ScalarNode) and node.style is None and _INTEGER.fullmatch(node.value):
            return int(node.value, 0)
        return None
