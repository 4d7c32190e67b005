"""The kinds of items that a course can hold: one row a kind.

A kind reads its own language (`read` refuses a faulty text whole, with line and column where the language has lines)
and shows its own page. All else of a course (builder, bundles, gradebook, due dates) knows kinds by these rows alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise

from webapp.errors import BadInput, Fault

if TYPE_CHECKING:
    from webapp.courses.models import Item, Member

LONGEST_TEXT: Final = 256 * 1024  # bytes of one definition


@dataclass(frozen=True)
class Earned:
    """What a piece of work is worth by a definition: points before lateness, and why, one sentence a predicate."""

    points: float
    reasons: Sequence[Mapping[str, Any]]  # {"name", "points", "of", "says"}
    at: dt.datetime | None = None  # when the work was handed in; None: its mark knows


@dataclass(frozen=True)
class Shipped:
    """Something of a kind that comes with the product: a teacher copies it into a course."""

    name: str
    title: str
    text: str


@dataclass(frozen=True)
class Block:
    """A piece that a teacher puts into a text where the cursor stands. Valid as it is; `question-1` in it is taken for
    the first key that is free."""

    name: str
    label: str | Promise
    text: str


@dataclass(frozen=True)
class Kind:
    """One kind of item.

    `read(text)`: the definition; BadInput for a faulty one. `page(request, item, member)`: the item as this member
    sees it (a GET). `blank`: the text that a new item begins with. `grade(item, definition, member)`: what the
    member's stored work is worth by this definition, without storing anything; None: there is no work. For marks
    and for the preview of a regrade alike.
    """

    name: str
    label: str | Promise
    says: str | Promise  # one sentence for the teacher who chooses
    read: Callable[[str], Any]
    page: Callable[[HttpRequest, Item, Member], HttpResponse]
    blank: str = ""
    grade: Callable[[Item, Any, Member], Earned | None] | None = None
    files: Callable[[Item], tuple[Mapping[int, str], str]] | None = None
    hints: Callable[[Item, Member], Sequence[Mapping[str, Any]]] | None = None  # {"number", "cost", "says"}
    shipped: Callable[[str], Sequence[Shipped]] = lambda _language: ()  # in the language, where there is one
    points: int = 0  # of a new item
    language: str = "yaml"  # of its texts, for the editor: yaml or markdown
    blocks: Sequence[Block] = ()
    tries: bool = False  # work is handed in, and how often may be limited


_kinds: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    """Called once for each kind from the app's ready()."""
    _kinds[kind.name] = kind


def kinds() -> Sequence[Kind]:
    return tuple(_kinds.values())


def kind_of(name: str) -> Kind:
    if name not in _kinds:
        raise BadInput([Fault("$.kind", f"{name[:32]!r} is no kind of item; there are {', '.join(_kinds)}")])
    return _kinds[name]


def read(kind: str, text: str) -> Any:
    """The definition in a text, or BadInput: too long, or what its kind refuses."""
    if len(text.encode()) > LONGEST_TEXT:
        raise BadInput([Fault("$.text", f"is longer than {LONGEST_TEXT // 1024} KiB")])
    return kind_of(kind).read(text)
