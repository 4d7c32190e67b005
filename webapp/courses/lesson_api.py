"""Lessons by API: the list, one lesson as far as it is open to the person, answers, copies and the export."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from django.utils.translation import get_language
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.courses import reading
from webapp.courses.lesson_export import exported
from webapp.courses.reading import Reading
from webapp.rest.paging import Strict

router = Router(tags=["lessons"])
Name = Annotated[str, Field(max_length=63)]


class LessonRowOut(Schema):
    id: str
    number: int
    title: str
    summary: str
    minutes: int
    language: str
    questions: int
    answered: int


class LessonsOut(Schema):
    items: list[LessonRowOut]


class LessonChoiceOut(Schema):
    name: str
    text: str


class LessonAskedOut(Schema):
    key: str
    text: str
    choices: list[LessonChoiceOut]
    answered: bool
    choice: str = Field("", description="What the person chose; empty: nothing, or passed.")
    right: str = Field("", description="Told once the question was answered or passed.")
    why: str = ""


class LessonViewOut(Schema):
    number: int
    title: str
    step: int = Field(description="The step that the lesson begins with.")
    says: str


class LessonPartOut(Schema):
    """One of the three."""

    html: str = ""
    view: LessonViewOut | None = None
    question: LessonAskedOut | None = None


class LessonSectionOut(Schema):
    anchor: str
    title: str
    held: bool = Field(description="Something follows that opens when the last question is answered or passed.")
    parts: list[LessonPartOut]


class LessonOut(Schema):
    id: str
    title: str
    summary: str
    minutes: int
    language: str
    questions: int
    answered: int
    sections: list[LessonSectionOut]


class LessonAnswerIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"question": "q1", "choice": ""}]})
    question: Name
    choice: Name = Field("", description="Empty: read on without an answer.")


class LessonCopyIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"course": None}]})
    course: Annotated[int, Field(ge=1, lt=2**53)] | None = Field(None, description="null: a new course")


class LessonCopyOut(Schema):
    item: int
    course: int


class LessonFileOut(Schema):
    html: str


def shown(found: Reading) -> dict[str, Any]:
    lesson = found.lesson
    return {
        **{name: getattr(lesson, name) for name in ("id", "title", "summary", "minutes", "language")},
        "questions": len(lesson.questions),
        "answered": found.done,
        "sections": [
            {
                "anchor": section.anchor,
                "title": section.title,
                "held": section.held,
                "parts": [_part(found, part) for part in section.parts],
            }
            for section in reading.opened(found)
        ],
    }


def _part(found: Reading, part: Any) -> dict[str, Any]:
    if part.question:
        asked = reading.question_shown(found, part.question, {})
        row = asked.pop("answer")
        return {"question": {**asked, "answered": row is not None, "choice": row.choice if row else ""}}
    if part.view:
        begin = part.view.shown()
        says = begin.get("says") or " ".join(each["step"]["says"] for each in begin.get("machines", ()))
        return {"view": {"number": part.number, "title": part.view.title, "step": begin["step"], "says": says}}
    return {"html": part.html}


def of_shipped(request: HttpRequest, name: str) -> Reading:
    return reading.of_shipped(user=request.user, name=name, language=get_language() or "en")


def of_item(request: HttpRequest, pk: int) -> Reading:
    return reading.of_pk(user=request.user, pk=pk)


@router.get("/lessons", response=LessonsOut)
def lesson_list(request: HttpRequest) -> Any:
    """The shipped lessons, and how far you are in each."""
    rows = reading.listed(request.user, get_language() or "en")
    plain = ("id", "title", "summary", "minutes", "language")
    return {
        "items": [
            {
                "number": row["number"],
                **{name: getattr(row["lesson"], name) for name in plain},
                "questions": row["total"],
                "answered": row["done"],
            }
            for row in rows
        ]
    }


@router.get("/lessons/{name}", response=LessonOut)
def lesson_get(request: HttpRequest, name: str) -> Any:
    """A shipped lesson as far as it is open to you."""
    return shown(of_shipped(request, name))


@router.post("/lessons/{name}/answers", response=LessonOut)
def lesson_answer(request: HttpRequest, name: str, body: LessonAnswerIn) -> Any:
    """Answer a question of a shipped lesson, or pass; the first answer stands."""
    found = of_shipped(request, name)
    reading.answer(found, key=body.question, choice=body.choice)
    return shown(found)


@router.post("/lessons/{name}/copies", response={201: LessonCopyOut})
def lesson_copy(request: HttpRequest, name: str, body: LessonCopyIn) -> Any:
    """Put the lesson into a course of yours, where its text is yours to change. Teachers only."""
    item = reading.copied(request.user, of_shipped(request, name), str(body.course or "new"))
    return Status(201, {"item": item.pk, "course": item.course_id})


@router.get("/lessons/{name}/export", response=LessonFileOut)
def lesson_export(request: HttpRequest, name: str, answers: bool = False) -> Any:
    """The lesson as one page that opens without a server, as far as it is open to you."""
    found = of_shipped(request, name)
    return {"html": exported(found, answers=answers and found.teaches)}


@router.get("/courses/items/{int:pk}/lesson", response=LessonOut)
def lesson_item_get(request: HttpRequest, pk: int) -> Any:
    """A lesson of a course as far as it is open to you."""
    return shown(of_item(request, pk))


@router.post("/courses/items/{int:pk}/answers", response=LessonOut)
def lesson_item_answer(request: HttpRequest, pk: int, body: LessonAnswerIn) -> Any:
    """Answer a question of a lesson in a course, or pass; the first answer stands and counts for the mark."""
    found = of_item(request, pk)
    reading.answer(found, key=body.question, choice=body.choice)
    return shown(found)


@router.get("/courses/items/{int:pk}/export", response=LessonFileOut)
def lesson_item_export(request: HttpRequest, pk: int, answers: bool = False) -> Any:
    """The same page of a lesson in a course."""
    found = of_item(request, pk)
    return {"html": exported(found, answers=answers and found.teaches)}
