"""Pages of lessons: the list, one lesson (shipped, or an item of a course), its answers, its copy and its export.

The page's script asks for one part at a time by the header X-Part (`view-3`, `question-first`): the same view answers
with that part alone, made by the same rules as the whole page.
"""

from __future__ import annotations

import re
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from webapp.courses import kinds, lessons, reading, selectors
from webapp.courses.lesson_export import exported
from webapp.courses.models import Item, Member
from webapp.courses.reading import Reading
from webapp.roles import only_reads, read_only, signed_in_required

STEP: Final = re.compile(r"v([1-9][0-9]?)")


def steps_of(request: HttpRequest) -> dict[int, int]:
    """`?v1=5&v3=0`: where the views stand; what is no such thing says nothing."""
    found = {}
    for name, text in request.GET.items():
        number = STEP.fullmatch(name)
        if number and text.isascii() and text.isdecimal() and len(text) < 7:
            found[int(number[1])] = int(text)
    return found


@require_GET
@signed_in_required
def lesson_list(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    return render(request, "courses/lessons.html", {"lessons": reading.listed(user, get_language() or "en")})


@require_GET
@signed_in_required
def shipped(request: HttpRequest, name: str) -> HttpResponse:
    found = shipped_reading(request, name)
    mine = selectors.courses_of(user=request.user).filter(members__role=Member.Role.TEACHER)
    return page(request, found, courses=mine if found.teaches else ())


def shipped_reading(request: HttpRequest, name: str) -> Reading:
    return reading.of_shipped(user=request.user, name=name, language=get_language() or "en")


def item_page(request: HttpRequest, item: Item, member: Member) -> HttpResponse:
    return page(request, reading.of_item(item=item, member=member))


def page(request: HttpRequest, found: Reading, **more: Any) -> HttpResponse:
    context = {**reading.page_of(found, steps_of(request)), **addresses(found), **more}
    wanted = request.headers.get("X-Part", "")
    if not wanted:
        return render(request, "courses/lesson.html", context)
    for section in context["sections"]:
        for part in section["parts"]:
            if "view" in part and wanted == f"view-{part['view']['number']}":
                return render(request, "courses/_view.html", {**context, "view": part["view"]})
            if "question" in part and wanted == f"question-{part['question']['key']}":
                return render(request, "courses/_question.html", {**context, "question": part["question"]})
    raise selectors.missing()


def addresses(found: Reading) -> dict[str, Any]:
    if found.item:
        names = ("course-item", "lesson-item-answer", "lesson-item-export")
        at, answer, export = (reverse(name, args=[found.item.pk]) for name in names)
    else:
        names = ("lesson", "lesson-answer", "lesson-export")
        at, answer, export = (reverse(name, args=[found.lesson.id]) for name in names)
    return {"at": at, "answer_at": answer, "export_at": export}


@require_POST
@signed_in_required
def shipped_answer(request: HttpRequest, name: str) -> HttpResponse:
    return answered(request, shipped_reading(request, name))


@require_POST
@signed_in_required
def item_answer(request: HttpRequest, pk: int) -> HttpResponse:
    return answered(request, reading.of_pk(user=request.user, pk=pk))


def answered(request: HttpRequest, found: Reading) -> HttpResponse:
    """Back to the question, which now tells what is right; the steps of the views stay in the address."""
    if only_reads(request.user):
        raise read_only()
    key, choice = request.POST.get("question", ""), request.POST.get("choice", "")
    if not choice and "pass" not in request.POST:
        messages.warning(request, _("Choose an answer, or read on without one."))
    else:
        reading.answer(found, key=key, choice=choice)
    steps = {f"v{number}": step for number, step in steps_of(request).items()}
    query = "&".join(f"{name}={step}" for name, step in steps.items())
    return redirect(f"{addresses(found)['at']}{'?' if query else ''}{query}#question-{key[:63]}")


@require_POST
@signed_in_required
def shipped_copy(request: HttpRequest, name: str) -> HttpResponse:
    """A lesson becomes an item of one of the teacher's courses, or of a new one: from then on its text is theirs."""
    user: Any = request.user
    if only_reads(user):
        raise read_only()
    found = shipped_reading(request, name)
    item = reading.copied(user, found, request.POST.get("course", ""))
    messages.success(request, _("The lesson is in your course. Students see it once you show it."))
    return redirect("course-item", item.pk)


@require_GET
@signed_in_required
def shipped_export(request: HttpRequest, name: str) -> HttpResponse:
    return export(request, shipped_reading(request, name))


@require_GET
@signed_in_required
def item_export(request: HttpRequest, pk: int) -> HttpResponse:
    return export(request, reading.of_pk(user=request.user, pk=pk))


def export(request: HttpRequest, found: Reading) -> HttpResponse:
    """One page that opens without a server; `?answers=1` with the answers, for who may see them."""
    body = exported(found, answers=request.GET.get("answers") == "1" and found.teaches)
    answer = HttpResponse(body, content_type="text/html; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="lesson-{found.lesson.id}.html"'
    return answer


BLOCKS: Final = (
    ("walk", gettext_lazy("Place a walk")),
    ("replay", gettext_lazy("Place a replay")),
    ("matrix", gettext_lazy("Place a matrix")),
    ("conflict", gettext_lazy("Place a conflict")),
    ("question", gettext_lazy("Place a question")),
)
KIND: Final = kinds.Kind(
    name="lesson",
    label=gettext_lazy("Lesson"),
    says=gettext_lazy("Text with views that the engine executes, and questions."),
    read=lessons.read,
    page=item_page,
    blank=lessons.BLANK,
    grade=reading.grade,
    shipped=reading.shipped_in,
    language="markdown",
    blocks=[kinds.Block(name, label, (lessons.BLOCKS / f"{name}.md").read_text()) for name, label in BLOCKS],
)
