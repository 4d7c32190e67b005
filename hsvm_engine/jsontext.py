"""The engine's only loader of foreign JSON: what Python's json lets pass in silence is refused with its place."""

import json
import re
from typing import Any

MAX_DEPTH = 8
# Possessive, so that an unterminated string is passed once: the scan stays linear.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]|-?\d{21,}|-?\d++[eE.][-+.eE\d]*|NaN|-?Infinity|\n', re.DOTALL)


class TextError(ValueError):
    """A text that is refused: where it stands and why."""

    def __init__(self, file: str, line: int, column: int, reason: str) -> None:
        super().__init__(f"{file}: line {line} column {column}: {reason}")
        self.file, self.line, self.column, self.reason = file, line, column, reason


class _Duplicate(ValueError):
    pass


def load_json(text: str, *, file: str, first_line: int = 1, max_depth: int = MAX_DEPTH) -> Any:
    """Read one JSON value strictly: no NaN, floats, duplicate keys, lone surrogates or deep nesting.

    Cost is linear in the text. Every refusal is a `TextError` with its place, counted from `first_line`.
    """
    _scan(text, file, first_line, max_depth)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
        json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise TextError(file, first_line + error.lineno - 1, error.colno, error.msg) from None
    except _Duplicate as error:
        line, column = last_key(text, str(error))
        raise TextError(file, first_line + line - 1, column, f"duplicate key {error}") from None
    except UnicodeEncodeError:
        raise TextError(file, first_line, 1, "a lone surrogate in a string") from None
    return value


def _scan(text: str, file: str, first_line: int, max_depth: int) -> None:
    """Refuse depth, non-integers and huge integers before the parser sees them: it would recurse or accept them."""
    depth, line, start = 0, first_line, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        column = match.start() - start + 1
        if token == "\n":
            line, start = line + 1, match.end()
        elif token in "[{":
            depth += 1
            if depth > max_depth:
                raise TextError(file, line, column, f"nested deeper than {max_depth}")
        elif token in "]}":
            depth -= 1
        elif token[0] == '"':
            continue
        elif token.lstrip("-").isdigit():
            raise TextError(file, line, column, "an integer of more than 20 digits")
        else:
            raise TextError(file, line, column, f"{token[:32]} is not an integer")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Duplicate(json.dumps(key[:64]))
            seen.add(key)
    return value


def last_key(text: str, key: str) -> tuple[int, int]:
    """Line and column of the last place where `key`, in quotes, stands as a key; (1, 1) if it is spelt otherwise."""
    places = [match.start() for match in re.finditer(re.escape(key) + r"\s*:", text)]
    if not places:
        return 1, 1
    line = text.count("\n", 0, places[-1]) + 1
    return line, places[-1] - (text.rfind("\n", 0, places[-1]) + 1) + 1
