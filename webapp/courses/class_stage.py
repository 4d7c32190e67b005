"""What a class is shown: one row a kind of place, and the same stage for the page, for its socket and for the desk.

A stage is made once for everybody and holds no word about anybody: what a person chose stands beside it, on their page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _

from webapp.courses import lab_pages, lessons, reading
from webapp.courses.lessons import Lesson, Part
from webapp.courses.models import ClassSession, Course, Item, Spotlight
from webapp.errors import BadInput, Fault
from webapp.vpms.shapes import Array, Integer, Object, Shape, Text

NUMBER: Final = Integer(1, 2**53 - 1)
QUESTION: Final = Object(
    {
        "text": Text(1, 500),
        "choices": Array(
            Object({"name": Text(1, 63), "text": Text(1, 300)}, {"misconception": Text(0, 200)}), least=2, most=6
        ),
    },
    {"key": Text(0, 63), "right": Text(0, 63), "why": Text(0, 1000)},
)


@dataclass(frozen=True)
class Place:
    """A kind of place: the keys of its cursor beside `kind`, and what the stage shows there (None: no such place)."""

    shape: Shape
    shown: Callable[[Course, Mapping[str, Any]], dict[str, Any] | None]


def checked(*, course: Course, cursor: Mapping[str, Any]) -> dict[str, Any]:
    """The cursor, if it names a place of this course; BadInput."""
    row = CURSORS.get(cursor.get("kind")) if isinstance(cursor.get("kind"), str) else None  # type: ignore[arg-type]
    if row is None:
        raise BadInput([Fault("$.kind", f"must be one of {', '.join(CURSORS)}")])
    faults: list[Fault] = []
    row.shape.check(dict(cursor), "$", faults)
    if not faults and row.shown(course, cursor) is None:
        faults.append(Fault("$", _("is no place of this course")))
    if faults:
        raise BadInput(faults)
    return dict(cursor)


def question_checked(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question as it is kept with the class; BadInput."""
    faults: list[Fault] = []
    QUESTION.check(dict(question), "$", faults)
    names = [each["name"] for each in question["choices"]] if not faults else []
    if len(set(names)) < len(names):
        faults.append(Fault("$.choices", _("has a name twice")))
    if question.get("right") and question["right"] not in names and not faults:
        faults.append(Fault("$.right", _("must be the name of a choice")))
    if faults:
        raise BadInput(faults)
    return {"key": "", "right": "", "why": "", **question}


def _item(course: Course, cursor: Mapping[str, Any]) -> Item | None:
    return Item.objects.filter(course=course, pk=cursor["item"]).first()


def _lesson(course: Course, cursor: Mapping[str, Any]) -> tuple[Item, Lesson] | None:
    item = _item(course, cursor)
    return (item, lessons.known(item.text)) if item is not None and item.kind == "lesson" else None


def _item_shown(course: Course, cursor: Mapping[str, Any]) -> dict[str, Any] | None:
    item = _item(course, cursor)
    return {"item": item, "title": item.title, "language": "en"} if item else None


def _section_shown(course: Course, cursor: Mapping[str, Any]) -> dict[str, Any] | None:
    """A section up to its first question: what follows is told by a view, or by the answer."""
    found = _lesson(course, cursor)
    if found is None or cursor["section"] >= len(found[1].sections):
        return None
    item, lesson = found
    section = lesson.sections[cursor["section"]]
    html = []
    for part in section.parts:
        if part.question or part.view:
            break
        html.append(part.html)
    title = section.title or lesson.title
    return {"item": item, "title": title, "html": "".join(html), "language": lesson.language}


def _view_shown(course: Course, cursor: Mapping[str, Any]) -> dict[str, Any] | None:
    found = _lesson(course, cursor)
    part = view_of(found[1], cursor["view"]) if found else None
    if found is None or part is None:
        return None
    numbers = part.view.numbers
    if numbers and cursor["step"] > numbers[-1]:
        return None
    view = {**reading.view_shown(part, {part.number: cursor["step"]}), "buttons": []}
    return {"item": found[0], "title": found[1].title, "view": view, "language": found[1].language}


def view_of(lesson: Lesson, number: int) -> Part | None:
    parts = (part for section in lesson.sections for part in section.parts)
    return next((part for part in parts if part.view and part.number == number), None)


KIND: Final = Text()
CURSORS: Final[Mapping[str, Place]] = {
    "item": Place(Object({"kind": KIND, "item": NUMBER}), _item_shown),
    "section": Place(Object({"kind": KIND, "item": NUMBER, "section": Integer(0, 200)}), _section_shown),
    "view": Place(
        Object({"kind": KIND, "item": NUMBER, "view": Integer(1, 99), "step": Integer(0, 100_000)}), _view_shown
    ),
}


def stage(session: ClassSession) -> dict[str, Any]:
    """What stands on the stage of the class now."""
    cursor = session.cursor
    shown = CURSORS[cursor["kind"]].shown(session.course, cursor) if cursor.get("kind") in CURSORS else None
    return {
        "class_": session,
        "shown": shown,
        "question": question_shown(session),
        "spotlight": spotlight_shown(session),
        "board": session.board_rows if session.board != ClassSession.Board.OFF else None,
        "over": session.ended_at is not None,
    }


def spotlight_shown(session: ClassSession) -> dict[str, Any] | None:
    """The attack that its author agreed to show, and nothing of it before or afterwards."""
    spot = session.spotlight
    if spot is None or spot.state != Spotlight.State.SHOWN or session.ended_at is not None:
        return None
    if spot.seat.removed_at is not None or spot.seat.member.left_at is not None:
        return None
    return {
        "nickname": spot.seat.member.nickname if spot.named else "",
        "title": spot.attempt.item.title,
        "text": spot.attempt.text,
        "columns": lab_pages.columns_of(spot.attempt),
    }


def question_shown(session: ClassSession) -> dict[str, Any] | None:
    """The question as everybody may see it: what is right and who many chose what only once it is told."""
    asked = session.question
    if not asked.get("text"):
        return None
    told = asked["state"] == "told"
    counted = asked.get("counts", {}) if told else {}
    total = sum(counted.values())
    return {
        "number": asked["number"],
        "text": asked["text"],
        "told": told,
        "why": asked["why"] if told else "",
        "total": total,
        "rows": [
            {
                "name": each["name"],
                "text": each["text"],
                "right": told and each["name"] == asked["right"],
                "count": counted.get(each["name"], 0),
                "percent": round(100 * counted.get(each["name"], 0) / total) if total else 0,
            }
            for each in asked["choices"]
        ],
    }


def stage_html(session: ClassSession) -> str:
    """The stage for the sockets: the same for everybody, in the language of what is shown."""
    context = stage(session)
    shown = context["shown"]
    with translation.override(shown["language"] if shown else "en"):
        return render_to_string("courses/_stage.html", context)


def outline(items: Sequence[Item]) -> list[dict[str, Any]]:
    """For the desk: every lesson of the course with its sections, views and questions in order; other items by name."""
    rows = []
    for item in items:
        row: dict[str, Any] = {"item": item, "parts": []}
        if item.kind == "lesson":
            for number, section in enumerate(lessons.known(item.text).sections):
                row["parts"].append({"section": number, "title": section.title or item.title})
                for part in section.parts:
                    if part.view:
                        row["parts"].append(_view_row(part))
                    elif part.question:
                        row["parts"].append({"question": part.question})
        rows.append(row)
    return rows


def _view_row(part: Part) -> dict[str, Any]:
    numbers = part.view.numbers
    first = part.view.definition.get("step", 0) if isinstance(part.view.definition, Mapping) else 0
    return {"view": part.number, "title": part.view.title, "numbers": numbers, "first": first}


def lesson_question(*, course: Course, item: int, key: str) -> dict[str, Any]:
    """A question of a lesson of the course as one to the class; BadInput if there is none."""
    found = _lesson(course, {"item": item})
    question = found[1].questions.get(key) if found else None
    if question is None:
        raise BadInput([Fault("$.key", _("is no question of this lesson"))])
    choices = [{"name": each.name, "text": each.text, "misconception": each.misconception} for each in question.choices]
    return {"key": key, "text": question.text, "choices": choices, "right": question.right, "why": question.why}
