"""A person predicts: what is open, what was answered and told, the score; and what many people got wrong.

The first answer to a step stands, and an empty one passes it. Who is asked again with another seed is asked otherwise.
Everybody's rows are their own; who teaches a course sees counts of its items and never who.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, Q
from django.utils.translation import gettext as _

from webapp.classroom.wording import PHASES
from webapp.courses import lessons, selectors
from webapp.courses import predict_kinds as kinds
from webapp.courses.models import Course, Item, LessonAnswer, Member, Prediction, ToldQuestion
from webapp.courses.predict_sources import Source
from webapp.courses.questions import Question
from webapp.errors import BadInput, Fault, VpmsError

MOST_SEED: Final = (1 << 53) - 1
KEPT: Final = 2000  # answers of one person that are not graded; the oldest go
NEWEST: Final = 200  # of a run that is followed: answers of this round that are counted


@dataclass
class Round:
    """One person before one source with one seed."""

    user: Any
    source: Source
    seed: int
    item: Item | None = None
    member: Member | None = None
    graded: bool = False

    @cached_property
    def answers(self) -> dict[int, Prediction]:
        rows = Prediction.objects.filter(user=self.user, **self.of).order_by("-id")[:NEWEST]
        return {row.step: row for row in rows}

    @property
    def of(self) -> dict[str, Any]:
        return {"source": self.source.key, "graded": self.graded, "seed": 0 if self.graded else self.seed}

    @cached_property
    def next(self) -> int | None:
        """The step that is asked about; None: there is none left."""
        if self.source.follows_cursor:
            return self.source.steps[0] if self.source.steps else None
        last = max(self.answers, default=0)
        return next((step for step in self.source.steps if step > last), None)

    @property
    def told(self) -> Prediction | None:
        """The answer that is explained now: the one before the step that is asked about."""
        if not self.answers:
            return None
        if self.source.follows_cursor:
            return self.answers.get((self.next or 0) - 1)
        return self.answers[max(self.answers)]

    def forget(self) -> None:
        for name in ("answers", "next"):
            self.__dict__.pop(name, None)


def newest_seed(*, user: Any, key: str) -> int:
    """The seed with which the person last practised here; 1 for who has not."""
    row = Prediction.objects.filter(user=user, source=key, graded=False).order_by("-id").only("seed").first()
    return row.seed if row else 1


def score_of(found: Round) -> dict[str, int]:
    rows = found.answers.values()
    passed = sum(not row.choice for row in rows)
    return {"right": sum(row.right for row in rows), "answered": len(rows) - passed, "passed": passed}


def question_shown(question: Question, row: Prediction | None) -> dict[str, Any]:
    """The question; with the right answer, the reason and the belief behind a wrong one only once it is answered."""
    rows = [
        {
            "name": each.name,
            "text": each.text,
            "chosen": row is not None and row.choice == each.name,
            "right": row is not None and each.name == question.right,
        }
        for each in question.choices
    ]
    shown: dict[str, Any] = {"key": question.key, "text": question.text, "rows": rows, "told": row is not None}
    if row is not None:
        shown |= {"right": row.right, "passed": not row.choice, "why": question.why, "step": row.step}
        shown |= {"belief": kinds.belief_said(row.belief), "choice": row.choice, "answer": question.right}
    return shown


def page_of(found: Round) -> dict[str, Any]:
    """All that a page, its part or the API may tell of a round now."""
    source, step, row = found.source, found.next, found.told
    told = source.question(row.step, found.seed) if row is not None else None
    asked = source.question(step, found.seed) if step is not None else None
    phase = source.phase(step) if step is not None else ""
    many = phase and sum(source.phase(each) == phase for each in source.steps) > 1
    total = 0 if source.follows_cursor else len(source.steps)
    return {
        "round": found,
        "source": source,
        "told": question_shown(told, row) if told is not None else None,
        "asked": question_shown(asked, None) if asked is not None else None,
        "does": source.does(step) if step is not None else "",
        "step": step,
        "phase": PHASES[phase] if many else "",
        "total": total,
        "done": len(found.answers) if total else 0,
        "score": score_of(found),
        "state": source.before(step),
        "misses": misses_of(found),
    }


def misses_of(found: Round) -> list[tuple[str, int]]:
    """The person's own: what wrong answers of this round tell of, most frequent first."""
    counted = Counter(row.belief for row in found.answers.values() if row.belief)
    return [(kinds.belief_said(name), count) for name, count in counted.most_common()]


@transaction.atomic
def answer(found: Round, *, step: int, choice: str) -> Prediction:
    """Keep the answer to the step that is asked about; an empty choice passes. A repeated post gets the first back."""
    held = found.answers.get(step)
    if held is not None:
        return held
    if step != found.next:
        raise VpmsError("invalid_transition", 409, message=_("This step is not asked about now; reload the page."))
    question = found.source.question(step, found.seed)
    by_name = {each.name: each for each in question.choices} if question else {}
    if choice and choice not in by_name:
        raise BadInput([Fault("$.choice", _("is no choice of this question"))])
    right = question is not None and choice == question.right
    row, _made = Prediction.objects.get_or_create(
        user=found.user,
        step=step,
        **found.of,
        defaults={
            "item": found.item,
            "kind": question.key.rpartition("-")[0] if question else "",
            "choice": choice,
            "right": right,
            "belief": by_name[choice].misconception if choice else "",
        },
    )
    if not found.graded:
        _prune(found.user)
    found.forget()
    return row


@transaction.atomic
def pass_phase(found: Round) -> None:
    """Pass every step of the phase that is asked about; each is marked as passed."""
    first, source = found.next, found.source
    phase = source.phase(first) if first is not None else ""
    if first is None or not phase:
        return
    rows = []
    for step in source.steps:
        if step >= first and source.phase(step) != phase:
            break
        if step >= first:
            question = source.question(step, found.seed)
            kind = question.key.rpartition("-")[0] if question else ""
            rows.append(Prediction(user=found.user, item=found.item, step=step, kind=kind, right=False, **found.of))
    Prediction.objects.bulk_create(rows, ignore_conflicts=True)
    _prune(found.user)
    found.forget()


def _prune(user: Any) -> None:
    kept = Prediction.objects.filter(user=user, graded=False).order_by("-id")
    edge = kept.values_list("pk", flat=True)[KEPT : KEPT + 1].first()
    if edge is not None:
        Prediction.objects.filter(user=user, graded=False, pk__lte=edge).delete()


# -- what people get wrong


def mistakes_of(*, course: Course) -> dict[str, Any]:
    """Counts over the students of a course: by belief, by kind of question, and of lessons by question. Never who."""
    students = Member.objects.filter(course=course, role=Member.Role.STUDENT).values("user")
    mine = Prediction.objects.filter(item__course=course, user__in=students).order_by()
    beliefs = mine.exclude(belief="").values_list("belief").annotate(n=Count("id"), who=Count("user", distinct=True))
    labels = kinds.labels()
    by_kind = mine.values_list("kind").annotate(
        n=Count("id"), right=Count("id", filter=Q(right=True)), passed=Count("id", filter=Q(choice=""))
    )
    return {
        "beliefs": [
            {"name": name, "text": kinds.belief_said(name), "count": count, "people": people}
            for name, count, people in sorted(beliefs, key=lambda row: (-row[1], row[0]))
        ],
        "kinds": [
            {"name": name, "label": str(labels.get(name, name)), "asked": n, "right": right, "passed": passed}
            for name, n, right, passed in sorted(by_kind, key=lambda row: (row[2] / row[1], row[0]))
        ],
        "lessons": lesson_mistakes(course, students),
        "classes": class_mistakes(course),
    }


def lesson_mistakes(course: Course, students: Any) -> list[dict[str, Any]]:
    """Wrong answers in the lessons of the course, by the belief that the lesson names with the choice."""
    rows = LessonAnswer.objects.filter(item__course=course, user__in=students, right=False).exclude(choice="")
    counted = rows.order_by().values_list("item", "key", "choice").annotate(n=Count("id"))
    items = {item.pk: item for item in Item.objects.filter(course=course, kind="lesson")}
    found = []
    for pk, key, choice, count in counted:
        lesson = lessons.known(items[pk].text)
        question = lesson.questions.get(key)
        chosen = next((each for each in question.choices if each.name == choice), None) if question else None
        if question is not None and chosen is not None:
            about = {"lesson": lesson.title, "question": question.text, "choice": chosen.text}
            found.append({**about, "belief": chosen.misconception, "count": count})
    return sorted(found, key=lambda row: (-row["count"], row["question"], row["choice"]))


def class_mistakes(course: Course) -> list[dict[str, Any]]:
    """Wrong answers to questions that were put to a class, over all classes of the course."""
    counted: Counter[tuple[str, str, str]] = Counter()
    for text, wrong in ToldQuestion.objects.filter(session__course=course).values_list("text", "wrong"):
        counted.update({(text, each["text"], each["misconception"]): each["count"] for each in wrong})
    rows = sorted(counted.items(), key=lambda row: (-row[1], row[0]))
    return [
        {"question": question, "choice": choice, "belief": belief, "count": count}
        for (question, choice, belief), count in rows
    ]


def taught(*, user: Any, pk: int) -> Course:
    """The course, for its teachers; to others it is missing, to its students refused."""
    course = selectors.course_get(user=user, pk=pk)
    selectors.must_teach(user=user, course=course)
    return course


def seed_of(text: str) -> int | None:
    """A seed as typed; None: none was. BadInput for what is none."""
    text = text.strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or int(text) > MOST_SEED:
        raise BadInput([Fault("$.seed", f"must be a whole number from 0 to {MOST_SEED:,}")])
    return int(text)
