"""A person reads a lesson: what is shown at which step, what is held back, what was answered.

Within a section everything after a question is held back until the person has answered it or passed: page, API and
export are all made from `opened`, so none of them can tell an answer before. Who teaches the course sees all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _

from webapp.courses import lessons, selectors, services
from webapp.courses.kinds import Earned, Shipped
from webapp.courses.lessons import Lesson, Part
from webapp.courses.models import Item, LessonAnswer, Member
from webapp.courses.questions import Question
from webapp.errors import BadInput, Fault


@dataclass(frozen=True)
class Reading:
    """One person before one lesson; `member` for a lesson in a course."""

    user: Any
    lesson: Lesson
    item: Item | None = None
    member: Member | None = None

    @property
    def teaches(self) -> bool:
        return self.member.teaches if self.member else bool(self.user.is_teacher)

    @cached_property
    def answers(self) -> dict[str, LessonAnswer]:
        rows = LessonAnswer.objects.filter(user=self.user, **self._of)
        return {row.key: row for row in rows}

    @property
    def _of(self) -> dict[str, Any]:
        return {"item": self.item} if self.item else {"item": None, "lesson": self.lesson.id}

    def forget(self) -> None:
        """Ask anew for the answers."""
        self.__dict__.pop("answers", None)

    @property
    def done(self) -> int:
        return len(self.answers.keys() & self.lesson.questions.keys())


@dataclass(frozen=True)
class Opened:
    """A section as this reader may see it; `held`: something follows the last question."""

    anchor: str
    title: str
    parts: list[Part] = field(default_factory=list)
    held: bool = False


def of_shipped(*, user: Any, name: str, language: str) -> Reading:
    """The shipped lesson in the reader's language, in English where it has no other; 404 for a name that is none."""
    texts = lessons.shipped().get(name)
    if texts is None:
        raise selectors.missing()
    return Reading(user, lessons.known(texts.get(language.split("-")[0], texts["en"])))


def shipped_in(language: str) -> list[Shipped]:
    """The shipped lessons in a language, or in English."""
    found = []
    for name, texts in lessons.shipped().items():
        text = texts.get(language.split("-")[0], texts["en"])
        found.append(Shipped(name, lessons.known(text).title, text))
    return found


def of_item(*, item: Item, member: Member) -> Reading:
    return Reading(member.user, lessons.known(item.text), item, member)


def of_pk(*, user: Any, pk: int) -> Reading:
    """The lesson that is this item of a course; as if there were none for who may not see it, or if it is no lesson."""
    item, member = selectors.item_get(user=user, pk=pk)
    if item.kind != "lesson":
        raise selectors.missing()
    return of_item(item=item, member=member)


def opened(reading: Reading) -> list[Opened]:
    """The lesson as far as the reader has come in each section."""
    found = []
    for section in reading.lesson.sections:
        parts: list[Part] = []
        for part in section.parts:
            parts.append(part)
            asked = part.question
            if asked and asked.key not in reading.answers and not reading.teaches:
                break
        found.append(Opened(section.anchor, section.title, parts, len(parts) < len(section.parts)))
    return found


# -- the shipped lessons


def listed(user: Any, language: str) -> list[dict[str, Any]]:
    """The shipped lessons, and how far the person is in each."""
    done: dict[str, int] = {}
    for name, _key in LessonAnswer.objects.filter(user=user, item=None).values_list("lesson", "key"):
        if name in lessons.shipped():
            done[name] = done.get(name, 0) + 1
    rows = []
    for number, name in enumerate(lessons.shipped(), 1):
        lesson = of_shipped(user=user, name=name, language=language).lesson
        total = len(lesson.questions)
        rows.append({"number": number, "lesson": lesson, "done": min(done.get(name, 0), total), "total": total})
    return rows


@transaction.atomic
def copied(user: Any, found: Reading, course: str) -> Item:
    text = lessons.shipped()[found.lesson.id][found.lesson.language]
    if course.isascii() and course.isdecimal() and len(course) < 18:
        target = selectors.course_get(user=user, pk=int(course))
    else:
        target = services.course_create(by=user, title=found.lesson.title)
    return services.item_add(by=user, course=target, kind="lesson", title=found.lesson.title, text=text)


# -- what a page shows


def page_of(reading: Reading, steps: Mapping[int, int]) -> dict[str, Any]:
    """Context of the lesson's page. `steps`: by the number of a view the step that it stands at."""
    tally = tally_of(reading)
    sections = [
        {
            "anchor": section.anchor,
            "title": section.title,
            "held": section.held,
            "parts": [part_shown(reading, part, steps, tally) for part in section.parts],
        }
        for section in opened(reading)
    ]
    total = len(reading.lesson.questions)
    right = sum(row.right for row in reading.answers.values())
    return {"reading": reading, "lesson": reading.lesson, "sections": sections, "total": total, "right": right}


def part_shown(
    reading: Reading, part: Part, steps: Mapping[int, int], tally: Mapping[str, Counter[str]]
) -> dict[str, Any]:
    if part.question:
        return {"question": question_shown(reading, part.question, tally)}
    if part.view:
        return {"view": view_shown(part, steps)}
    return {"html": part.html}


def view_shown(part: Part, steps: Mapping[int, int]) -> dict[str, Any]:
    """One view at its step, with the queries of its buttons: each keeps where the other views stand."""
    shown = part.view.shown(steps.get(part.number))

    def query(step: int) -> str:
        wanted = {**steps, part.number: step}
        return urlencode({f"v{number}": wanted[number] for number in sorted(wanted)})

    buttons = [
        {"name": name, "label": label, "query": query(shown[name]), "still": shown[name] == shown["step"]}
        for name, label in (("first", _("First")), ("back", _("Back")), ("on", _("Step")), ("last", _("Last")))
        if name in shown
    ]
    steps_of = part.view.numbers
    return {
        "number": part.number,
        "title": part.view.title,
        "template": part.view.view.template,
        "shown": shown,
        "buttons": buttons if len(steps_of) > 1 else [],
        "total": steps_of[-1] if steps_of else 0,
    }


def question_shown(reading: Reading, question: Question, tally: Mapping[str, Counter[str]]) -> dict[str, Any]:
    """The question; with what was answered, what is right and why once it was answered, or for who teaches."""
    row = reading.answers.get(question.key)
    told = row is not None or reading.teaches
    return {
        **question.asked(),
        "answer": row,
        "told": told,
        "right": question.right if told else "",
        "why": question.why if told else "",
        "rows": [
            {
                "name": choice.name,
                "text": choice.text,
                "chosen": row is not None and row.choice == choice.name,
                "right": told and choice.name == question.right,
                "count": tally.get(question.key, Counter())[choice.name],
                "misconception": choice.misconception if reading.teaches else "",
            }
            for choice in question.choices
        ],
        "passed": tally.get(question.key, Counter())[""],
    }


def tally_of(reading: Reading) -> dict[str, Counter[str]]:
    """For who teaches the course: how often each choice was made; an empty name counts those who passed."""
    if reading.item is None or not reading.teaches:
        return {}
    found: dict[str, Counter[str]] = {}
    teachers = Member.objects.filter(course=reading.item.course_id, role=Member.Role.TEACHER)
    rows = LessonAnswer.objects.filter(item=reading.item).exclude(user__in=teachers.values("user")).order_by()
    for key, choice, count in rows.values_list("key", "choice").annotate(count=Count("id")):
        found.setdefault(key, Counter())[choice] = count
    return found


# -- what is answered


@transaction.atomic
def answer(reading: Reading, *, key: str, choice: str) -> LessonAnswer:
    """Keep the answer; an empty choice passes. The first answer stands: a repeated post gets that one back."""
    question = reading.lesson.questions.get(key)
    if question is None or not any(part.question is question for each in opened(reading) for part in each.parts):
        raise selectors.missing()
    if choice and choice not in [each.name for each in question.choices]:
        raise BadInput([Fault("$.choice", _("is no choice of this question"))])
    row, _made = LessonAnswer.objects.get_or_create(
        user=reading.user,
        key=key,
        **({"item": reading.item} if reading.item else {"item": None, "lesson": reading.lesson.id}),
        defaults={"choice": choice, "right": choice == question.right},
    )
    reading.forget()
    counts = reading.item and reading.item.points and reading.item.course.archived_at is None
    if reading.item and reading.member and not reading.teaches and counts:
        earned = earned_of(reading)
        services.mark_put(item=reading.item, member=reading.member, earned=earned.points, reasons=earned.reasons)
    return row


def earned_of(reading: Reading) -> Earned:
    """Points for questions that were right at once, each worth the same; a passed one earns nothing."""
    assert reading.item is not None
    each = reading.item.points / max(1, len(reading.lesson.questions))
    reasons = []
    for key, question in reading.lesson.questions.items():
        row = reading.answers.get(key)
        right = row is not None and row.choice == question.right
        says = _("right") if right else _("not right") if row and row.choice else _("passed") if row else _("open")
        reasons.append({"name": key, "points": round(each, 4) if right else 0.0, "of": round(each, 4), "says": says})
    return Earned(round(sum(row["points"] for row in reasons), 4), reasons)


def grade(item: Item, definition: Lesson, member: Member) -> Earned | None:
    """What the member's answers are worth by this definition; None: nothing was answered."""
    reading = Reading(member.user, definition, item, member)
    return earned_of(reading) if reading.answers else None
