"""A question with one right answer: what lessons, predictions and their histograms share.

The right answer and the reasons never leave the server before the person has answered (or passed): `asked` is all that
a page, the API or a socket may carry until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One answer that can be chosen. `misconception` names the belief that leads to a wrong one, for the tally."""

    name: str
    text: str
    misconception: str = ""


@dataclass(frozen=True)
class Question:
    """`key` is unique in its item or execution; `why` is told with the answer."""

    key: str
    text: str
    choices: Sequence[Choice]
    right: str  # the name of a choice
    why: str

    def asked(self) -> Mapping[str, Any]:
        choices = [{"name": choice.name, "text": choice.text} for choice in self.choices]
        return {"key": self.key, "text": self.text, "choices": choices}
