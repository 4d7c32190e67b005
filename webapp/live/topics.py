"""What can be watched: topics that apps register, each with its own permission check.

live knows no model and no engine. A JSON topic is a callback that answers "what is newer than `last` in this view".
A stream topic is a picture of a run that the hub keeps up to date from the run's stream; the picture itself is an
object that runs gives. The server derives every name; a client can only ask for a topic that is registered here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}(?:/[A-Za-z0-9_.-]{1,63}){0,3}\Z")

Authorise = Callable[[Any, str], str | None]  # (user, ident) -> the user's view, or None: no such topic for this user
Messages = Callable[[str, str, int | None], list[dict[str, Any]]]  # (ident, view, last) -> messages newer than last
Frame = str | bytes


class Head(NamedTuple):
    """Where a run stands in the database."""

    seq: int
    state: str


class Picture(Protocol):
    """The newest full state of one run, kept by the hub."""

    @property
    def seq(self) -> int: ...

    def apply(self, entry: bytes) -> Any:
        """Take one stream entry (seq + 1); what it touched, for `delta`. ValueError: the entry does not follow."""

    def keyframe(self, run: int, part: str, view: str) -> Frame: ...

    def delta(self, run: int, part: str, view: str, base: int, touched: Sequence[Any]) -> Frame | None:
        """The frame that leads from `base` to now; None: only a keyframe can tell it."""


class Source(Protocol):
    """How the hub gets pictures of runs."""

    def heads(self, runs: Sequence[int]) -> dict[int, Head]: ...

    def open(self, run: int, state: bytes) -> Picture:
        """The picture from a keyframe that the publisher stored. ValueError: damaged, or of another version."""

    def load(self, run: int) -> Picture | None:
        """The picture from the database: the last checkpoint, replayed to the head."""


@dataclass(frozen=True)
class Topic:
    """One kind of topic. Exactly one of `messages` (JSON topic) and `source` (a part of a run's picture) is set."""

    pattern: re.Pattern[str]
    authorise: Authorise
    messages: Messages | None = None
    source: Source | None = None
    part: str = ""


class Found(NamedTuple):
    topic: Topic
    ident: str


_topics: dict[str, Topic] = {}
_ONE: Final = "([A-Za-z0-9_.-]{1,63})"


def _pattern(prefix: str) -> re.Pattern[str]:
    """`negotiation` stands for negotiation/<ident>, `run/{}/log` for run/<ident>/log, `matrix!` for itself alone."""
    if prefix.endswith("!"):
        return re.compile(re.escape(prefix[:-1]) + r"()\Z")
    text = prefix if "{}" in prefix else prefix + "/{}"
    return re.compile(_ONE.join(re.escape(piece) for piece in text.split("{}")) + r"\Z")


def register(prefix: str, *, authorise: Authorise, messages: Messages) -> None:
    """Let people watch a JSON topic. Called once from an app's ready()."""
    _topics[prefix] = Topic(_pattern(prefix), authorise, messages=messages)


def register_stream(prefix: str, *, part: str, authorise: Authorise, source: Source) -> None:
    """Let people watch one part of a run's picture."""
    _topics[prefix] = Topic(_pattern(prefix), authorise, source=source, part=part)


def find(name: str) -> Found | None:
    """The topic of that name and its ident, or None."""
    if not NAME.match(name):
        return None
    for topic in _topics.values():
        match = topic.pattern.match(name)
        if match:
            return Found(topic, match[1])
    return None
