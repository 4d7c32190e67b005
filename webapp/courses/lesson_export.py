"""A lesson as one page of HTML that opens from a file: every step recorded, nothing fetched, no engine behind it.

It holds what the reader may see: the export of a student ends, section by section, where the page does.
"""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string

from webapp.courses import reading
from webapp.courses.lessons import Part
from webapp.courses.reading import Reading

MOST_STEPS = 60  # of one view; of a longer one those around the step that the lesson shows


def exported(found: Reading, *, answers: bool) -> str:
    sections = [
        {
            "anchor": section.anchor,
            "title": section.title,
            "held": section.held,
            "parts": [_part(found, part, answers) for part in section.parts],
        }
        for section in reading.opened(found)
    ]
    return render_to_string("courses/export.html", {"lesson": found.lesson, "sections": sections, "answers": answers})


def _part(found: Reading, part: Part, answers: bool) -> dict[str, Any]:
    if part.question:
        shown = reading.question_shown(found, part.question, {})
        told = answers or shown["answer"] is not None
        return {"question": {**shown, "told": told}}
    if not part.view:
        return {"html": part.html}
    begin = part.view.shown()
    steps = _near(part.view.numbers or [begin["step"]], begin["step"])
    return {
        "view": {
            "number": part.number,
            "title": part.view.title,
            "template": part.view.view.template,
            "begin": begin["step"],
            "steps": [{"n": step, "shown": part.view.shown(step)} for step in steps],
        }
    }


def _near(numbers: list[int], begin: int) -> list[int]:
    place = max(0, numbers.index(begin) - MOST_STEPS // 2) if begin in numbers else 0
    return numbers[place : place + MOST_STEPS]
