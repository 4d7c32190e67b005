"""Predictions by API: a question before each step of an attack, a walk or a run; what a course gets wrong."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Router, Schema
from pydantic import ConfigDict

from webapp.courses import predict_item, predicting, selectors
from webapp.courses.predict_sources import source_of
from webapp.courses.predicting import Round
from webapp.rest.paging import Strict

router = Router(tags=["lessons"])
Seed = Annotated[int, Field(ge=0, le=predicting.MOST_SEED)]
Step = Annotated[int, Field(ge=0, lt=2**53)]
Name = Annotated[str, Field(max_length=63)]
Kind = Literal["cell", "walk", "run"]


class PredictChoiceOut(Schema):
    name: str
    text: str


class PredictAskedOut(Schema):
    key: str
    text: str
    choices: list[PredictChoiceOut]


class PredictToldOut(PredictAskedOut):
    step: int
    choice: str = Field(description="What you chose; empty: you went on without an answer.")
    right: bool
    answer: str = Field(description="The name of the right choice.")
    why: str
    belief: str = Field(description="What somebody believes who answers so; empty for a right answer.")


class PredictScoreOut(Schema):
    right: int
    answered: int
    passed: int


class PredictMissOut(Schema):
    text: str
    count: int


class PredictRoundOut(Schema):
    title: str
    seed: int | None = Field(description="null: a graded round; its seed is told to nobody.")
    step: int | None = Field(description="The step that is asked about; null: there is none left.")
    steps: int = Field(description="How many have a question; 0: of a run, without end.")
    does: str = Field(description="What is about to be done.")
    asked: PredictAskedOut | None = Field(description="null: there is nothing to ask about this step, or none is left.")
    told: PredictToldOut | None = Field(description="Your last answer, with what is right and why.")
    score: PredictScoreOut
    misses: list[PredictMissOut]


class PredictAnswerIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"step": 1, "choice": "ok"}]})
    step: Step
    choice: Name = Field("", description="Empty: go on without an answer.")


class BeliefOut(Schema):
    name: str
    text: str
    count: int
    people: int


class PredictKindOut(Schema):
    name: str
    label: str
    asked: int
    right: int
    passed: int


class ClassMistakeOut(Schema):
    question: str
    choice: str
    belief: str
    count: int


class LessonMistakeOut(ClassMistakeOut):
    lesson: str


class MistakesOut(Schema):
    beliefs: list[BeliefOut]
    kinds: list[PredictKindOut]
    lessons: list[LessonMistakeOut]
    classes: list[ClassMistakeOut]


def shown(found: Round) -> dict[str, Any]:
    """What the page tells of the round, and no more."""
    page = predicting.page_of(found)
    return {
        "title": page["source"].title,
        "seed": None if found.graded else found.seed,
        "step": page["step"],
        "steps": page["total"],
        "does": page["does"],
        "asked": _choices(page["asked"]),
        "told": _choices(page["told"]),
        "score": page["score"],
        "misses": [{"text": text, "count": count} for text, count in page["misses"]],
    }


def _choices(asked: dict[str, Any] | None) -> dict[str, Any] | None:
    return asked and {**asked, "choices": [{"name": row["name"], "text": row["text"]} for row in asked["rows"]]}


def _round(request: HttpRequest, kind: str, name: str, seed: int | None, at: int | None) -> Round:
    user: Any = request.user
    source = source_of(user=user, kind=kind, name=name, at=at)
    return Round(user, source, predicting.newest_seed(user=user, key=source.key) if seed is None else seed)


@router.get("/predictions/{source}/{name}", response=PredictRoundOut)
def prediction_get(
    request: HttpRequest, source: Kind, name: Name, seed: Seed | None = None, at: Step | None = None
) -> Any:
    """The next question about a cell of the attack table, a walk, or a run at moment `at`; and what your last answer
    was worth. Without a seed: that of your last round."""
    return shown(_round(request, source, name, seed, at))


@router.post("/predictions/{source}/{name}", response=PredictRoundOut)
def prediction_answer(
    request: HttpRequest,
    source: Kind,
    name: Name,
    body: PredictAnswerIn,
    seed: Seed | None = None,
    at: Step | None = None,
) -> Any:
    """Answer the question, or go on without; the first answer stands. Of a run, ask on with the next moment."""
    found = _round(request, source, name, seed, at)
    predicting.answer(found, step=body.step, choice=body.choice)
    if found.source.follows_cursor:
        found = _round(request, source, name, found.seed, body.step)
    return shown(found)


def of_item(request: HttpRequest, pk: int, seed: int | None) -> Round:
    """The round of an item: the graded one for who has it, where no seed is named."""
    item, member = selectors.item_get(user=request.user, pk=pk)
    if item.kind != predict_item.KIND:
        raise selectors.missing()
    if seed is None and not predict_item.is_graded(item, member):
        seed = predicting.newest_seed(user=member.user, key=predict_item.round_of(item, member, 0).source.key)
    return predict_item.round_of(item, member, seed)


@router.get("/courses/items/{int:pk}/predictions", response=PredictRoundOut)
def prediction_item_get(request: HttpRequest, pk: int, seed: Seed | None = None) -> Any:
    """The next question of an item of a course. Without a seed: your graded round, if you have one; its seed is told to
    nobody."""
    return shown(of_item(request, pk, seed))


@router.post("/courses/items/{int:pk}/predictions", response=PredictRoundOut)
def prediction_item_answer(request: HttpRequest, pk: int, body: PredictAnswerIn, seed: Seed | None = None) -> Any:
    """Answer it, or go on without; the first answer stands. In the graded round the mark follows."""
    found = of_item(request, pk, seed)
    predict_item.answer(found, step=body.step, choice=body.choice)
    return shown(found)


@router.get("/courses/{int:course_id}/mistakes", response=MistakesOut)
def mistake_list(request: HttpRequest, course_id: Annotated[int, Field(ge=1, lt=2**53)]) -> Any:
    """What the students of a course get wrong, counted; nobody is named. Its teachers only."""
    return predicting.mistakes_of(course=predicting.taught(user=request.user, pk=course_id))
