"""How alike the attack files of a task are: a flag for a teacher to look, never a verdict.

A file becomes its tokens: comments, layout and the names that a student chose are taken away, so that renaming and
reordering of blanks hides nothing. Two files are compared by the runs of tokens that they share.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Final, NamedTuple

LENGTH: Final = 5  # tokens of one run
FLAGGED: Final = 0.8  # of the smaller file's own runs
FEWEST: Final = 20  # runs beside the starter's: of less there are few ways to write it
_COMMENT: Final = re.compile(r"(?:^|\s)#.*$", re.MULTILINE)
_SAID: Final = re.compile(r"^(?:id|title|says|paper):.*(?:\n[ \t]+.*)*$", re.MULTILINE)
_TOKEN: Final = re.compile(r"\$?[A-Za-z_][\w.-]*|0x[0-9a-f]+|-?\d+|:")
_KEPT: Final = {"victim", "attacker"}

Shingles = frozenset[tuple[str, ...]]


class Alike(NamedTuple):
    """Two students whose files share so much of the smaller one, from 0 to 1."""

    one: int
    other: int
    share: float


def shingles(text: str) -> Shingles:
    """The runs of tokens of a file, without what only looks different."""
    text = _SAID.sub("", _COMMENT.sub("", text))
    names = set(re.findall(r"\bas:[ \t]*(\w+)", text)) | _let_names(text)
    names -= _KEPT
    tokens = []
    for token in _TOKEN.findall(text):
        name = token.lstrip("$").partition(".")[0]
        tokens.append(token.replace(name, "name", 1) if name in names else token)
    return frozenset(tuple(tokens[i : i + LENGTH]) for i in range(max(1, len(tokens) - LENGTH + 1)))


def _let_names(text: str) -> set[str]:
    """What `let` sets, at the top of the file or in a step."""
    found: set[str] = set()
    for block in re.findall(r"^( *(?:- )?)let:[ \t]*\n((?:\1[ ]{2,}.*\n?)*)", text, re.MULTILINE):
        found.update(re.findall(r"^\s+(\w+):", block[1], re.MULTILINE))
    return found


def alike(files: Mapping[int, str], *, starter: str = "", least: float = FLAGGED) -> list[Alike]:
    """The pairs of files, by whose they are, that share at least so much beside the starter; the most alike first."""
    return _pairs(_own(files, starter), combinations(sorted(files), 2), least)


def alike_to(one: int, files: Mapping[int, str], *, starter: str = "", least: float = FLAGGED) -> list[Alike]:
    """The same, of the pairs with this one."""
    others = [(one, other) for other in sorted(files) if other != one] if one in files else []
    return _pairs(_own(files, starter), others, least)


def _own(files: Mapping[int, str], starter: str) -> dict[int, Shingles]:
    given = shingles(starter) if starter else frozenset()
    return {whose: shingles(text) - given for whose, text in files.items()}


def _pairs(own: Mapping[int, Shingles], pairs: Iterable[tuple[int, int]], least: float) -> list[Alike]:
    found = [
        Alike(one, other, round(len(own[one] & own[other]) / smaller, 3))
        for one, other in pairs
        if (smaller := min(len(own[one]), len(own[other]))) >= FEWEST
    ]
    return sorted((pair for pair in found if pair.share >= least), key=lambda pair: (-pair.share, pair.one, pair.other))


def flagged(files: Mapping[int, str], *, starter: str = "") -> Iterable[int]:
    """Whose files are like another's."""
    return sorted({whose for pair in alike(files, starter=starter) for whose in (pair.one, pair.other)})
