"""Items of kind `predict`: steps drawn by a seed from attacks and columns, a question before each; marks with reasons.

A student has one graded seed, told to nobody, and practises with as many others as they like. The format is told in
docs/course-formats.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from django.db import transaction
from django.utils.translation import gettext as _

from webapp.classroom import services as table
from webapp.courses import predict_kinds as kinds
from webapp.courses import predicting, services
from webapp.courses.kinds import Earned, Shipped
from webapp.courses.models import Item, Member, Prediction
from webapp.courses.predict_sources import RoundSource, drawn
from webapp.courses.predicting import MOST_SEED, Round
from webapp.courses.texts import Text
from webapp.errors import Fault
from webapp.vpms.shapes import Array, Integer, Object, OneOf, Shape
from webapp.vpms.shapes import Text as Words

KIND: Final = "predict"
SCHEMA: Final = "hsvm/predict-1"
SHIPPED: Final = Path(__file__).parent / "predicts"
MOST_QUESTIONS: Final = 20
MOST_ATTACKS: Final = 6


class _Seed:
    """`own`, or a number that is the same for everybody."""

    number = Integer(0, MOST_SEED)

    def check(self, value: Any, path: str, faults: list[Any]) -> None:
        if value != "own":
            self.number.check(value, path, faults)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"const": "own"}, self.number.schema()]}


SHAPE: Final[Shape] = Object(
    {
        "schema": OneOf([SCHEMA]),
        "title": Words(1, 120),
        "attacks": Array(OneOf(list(table.ATTACKS)), least=1, most=MOST_ATTACKS, different=True),
        "columns": Array(OneOf(list(table.COLUMNS)), least=1, most=len(table.COLUMNS), different=True),
        "questions": Integer(1, MOST_QUESTIONS),
        "seed": _Seed(),
    },
    {"says": Words(0, 2000), "kinds": Array(OneOf(list(kinds.TURNS)), most=len(kinds.TURNS), different=True)},
)


@dataclass(frozen=True)
class Definition:
    """What is asked of whom; `seed` None: each student has one of their own."""

    title: str
    says: str
    attacks: tuple[str, ...]
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    questions: int
    seed: int | None

    @property
    def draws(self) -> str:
        """Of what decides the questions: answers to others do not count for them."""
        told = repr((self.attacks, self.columns, self.kinds, self.questions, self.seed))
        return hashlib.sha256(told.encode()).hexdigest()[:12]


@lru_cache(maxsize=64)
def read(text: str) -> Definition:
    """The definition in a text; BadInput with the line and column of each fault."""
    source = Text(text)
    value = source.check(SHAPE)
    seed = None if value["seed"] == "own" else value["seed"]
    lists = (tuple(value["attacks"]), tuple(value["columns"]), tuple(value.get("kinds", ())))
    found = Definition(value["title"], value.get("says", ""), *lists, value["questions"], seed)
    there = len(drawn(found.attacks, found.columns, found.kinds, found.questions, 0))
    if there < found.questions:
        reason = f"is more than these attacks, columns and kinds have; there are {there}"
        raise source.refused([Fault("$.questions", reason)])
    return found


def shipped(language: str) -> list[Shipped]:
    """In the language, or in English."""
    found = []
    for path in sorted(SHIPPED.glob("*.en.yaml")):
        name = path.name.removesuffix(".en.yaml")
        own = SHIPPED / f"{name}.{language.split('-')[0]}.yaml"
        text = (own if own.is_file() else path).read_text(encoding="utf-8")
        found.append(Shipped(name, read(text).title, text))
    return found


# -- rounds


def round_of(item: Item, member: Member, seed: int | None, definition: Definition | None = None) -> Round:
    """A round of the item: with this seed, or without one the graded round of this student."""
    found = definition or read(item.text)
    graded = seed is None
    drawn_by = seed if seed is not None else found.seed
    if drawn_by is None:
        drawn_by = services.graded_seed(item, member)
    source = RoundSource(
        item=item.pk,
        draws=found.draws,
        attacks=found.attacks,
        columns=found.columns,
        asked=found.kinds,
        count=found.questions,
        seed=drawn_by,
        name=item.title,
    )
    return Round(member.user, source, drawn_by, item, member, graded)


def is_graded(item: Item, member: Member) -> bool:
    """Whether the person has a round that counts here."""
    return not member.teaches and item.points > 0


@transaction.atomic
def answer(found: Round, *, step: int, choice: str) -> Prediction:
    """Keep the answer; of a graded round the mark follows at once."""
    row = predicting.answer(found, step=step, choice=choice)
    if found.graded and found.item is not None and found.member is not None:
        earned = earned_of(found)
        services.mark_put(item=found.item, member=found.member, earned=earned.points, reasons=earned.reasons)
    return row


def earned_of(found: Round) -> Earned:
    """Each question is worth the same; a passed one earns nothing."""
    assert found.item is not None
    steps = found.source.steps
    each = round(found.item.points / max(1, len(steps)), 4)
    reasons = []
    for step in steps:
        row = found.answers.get(step)
        right = row is not None and row.right
        says = _("right") if right else _("not right") if row and row.choice else _("passed") if row else _("open")
        if row is not None and row.belief:
            says = f"{says}: {kinds.belief_said(row.belief)}"
        reasons.append({"name": str(step), "points": each if right else 0.0, "of": each, "says": says})
    whole = found.item.points * sum(bool(row["points"]) for row in reasons) / max(1, len(steps))
    return Earned(round(whole, 4), reasons)


def grade(item: Item, definition: Definition, member: Member) -> Earned | None:
    """What the member's graded answers are worth by this definition; None: nothing was answered to its questions."""
    found = round_of(item, member, None, definition)
    return earned_of(found) if found.answers else None
