"""Pages that ask before they show: an attack of the table, a walk, a run; and what the people of a course get wrong.

The page's script asks for the part alone by the header X-Part; without script the forms work as they stand.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from webapp.courses import predict_item, predicting, selectors
from webapp.courses.kinds import Kind
from webapp.courses.models import Item, Mark, Member
from webapp.courses.predict_sources import source_of
from webapp.courses.predicting import Round
from webapp.errors import BadInput, Fault
from webapp.roles import only_reads, read_only, signed_in_required

PART: Final = "predict"


def round_of(request: HttpRequest, kind: str, name: str) -> Round:
    """The round that the address names: source, seed, and of a run the time cursor `at`."""
    user: Any = request.user
    source = source_of(user=user, kind=kind, name=name, at=_at(request.GET.get("at", "")))
    seed = predicting.seed_of(request.GET.get("seed", ""))
    return Round(user, source, seed if seed is not None else predicting.newest_seed(user=user, key=source.key))


def _at(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 16:
        raise BadInput([Fault("$.at", "must be a whole number")])
    return int(text)


@require_GET
@signed_in_required
def page(request: HttpRequest, kind: str, name: str) -> HttpResponse:
    """One round: what was told last, and the question about the next step; never more than that."""
    found = round_of(request, kind, name)
    context = {**predicting.page_of(found), "answer_at": reverse("predict-answer", args=[kind, name])}
    return shown(request, found, context)


def shown(request: HttpRequest, found: Round, context: dict[str, Any]) -> HttpResponse:
    template = "courses/_predict.html" if request.headers.get("X-Part") == PART else "courses/predict.html"
    # never one more than a graded seed: that would tell it
    last = predicting.newest_seed(user=found.user, key=found.source.key) if found.graded else found.seed
    return render(request, template, {**context, "query": query_of(found), "again": last + 1})


def query_of(found: Round, *, on: bool = False) -> str:
    """`?seed=…` of this round, of a run with its cursor; `on`: one step later."""
    given: dict[str, int] = {} if found.graded else {"seed": found.seed}
    if found.source.follows_cursor and found.next is not None:
        given["at"] = found.next - (0 if on else 1)
    return f"?{urlencode(given)}" if given else ""


@require_POST
@signed_in_required
def answer(request: HttpRequest, kind: str, name: str) -> HttpResponse:
    """Answer or pass; then back to the page, which tells what was right and asks on."""
    found = round_of(request, kind, name)
    query = answered(request, found)
    return redirect(f"{reverse('predict', args=[kind, name])}{query}#predict")


def answered(request: HttpRequest, found: Round) -> str:
    """Take the form; the query of the page to go to."""
    if only_reads(request.user):
        raise read_only()
    step, choice = request.POST.get("step", ""), request.POST.get("choice", "")[:63]
    if not step.isascii() or not step.isdecimal() or len(step) > 16:
        raise BadInput([Fault("$.step", "must be a whole number")])
    passed = request.POST.get("pass", "")
    if not choice and not passed:
        messages.warning(request, _("Choose an answer, or go on without one."))
        return query_of(found)
    on = query_of(found, on=True)
    if passed == "phase":
        predicting.pass_phase(found)
    else:
        predict_item.answer(found, step=int(step), choice="" if passed else choice)
    return on


# -- items


def item_round(request: HttpRequest, item: Item, member: Member) -> Round:
    """The graded round of a student, or practice with the seed of the address; teachers only try it out."""
    seed = predicting.seed_of(request.GET.get("seed", ""))
    if seed is None and not predict_item.is_graded(item, member):
        seed = predicting.newest_seed(user=member.user, key=predict_item.round_of(item, member, 0).source.key)
    return predict_item.round_of(item, member, seed)


def item_page(request: HttpRequest, item: Item, member: Member) -> HttpResponse:
    found = item_round(request, item, member)
    context = {
        **predicting.page_of(found),
        "answer_at": reverse("predict-item-answer", args=[item.pk]),
        "item": item,
        "definition": predict_item.read(item.text),
        "counts": predict_item.is_graded(item, member),
        "mark": Mark.objects.filter(item=item, member=member).first(),
    }
    return shown(request, found, context)


@require_POST
@signed_in_required
def item_answer(request: HttpRequest, pk: int) -> HttpResponse:
    item, member = selectors.item_get(user=request.user, pk=pk)
    if item.kind != predict_item.KIND:
        raise selectors.missing()
    query = answered(request, item_round(request, item, member))
    return redirect(f"{reverse('course-item', args=[pk])}{query}#predict")


KIND: Final = Kind(
    name=predict_item.KIND,
    label=gettext_lazy("Predictions"),
    says=gettext_lazy("Questions before the steps of attacks, drawn by a seed; each answer is read off the engine."),
    read=predict_item.read,
    page=item_page,
    blank=predict_item.shipped("en")[-1].text,
    grade=predict_item.grade,
    shipped=predict_item.shipped,
    points=10,
)


@require_GET
@signed_in_required
def mistakes(request: HttpRequest, pk: int) -> HttpResponse:
    """What the people of a course get wrong, counted; for its teachers."""
    course = predicting.taught(user=request.user, pk=pk)
    return render(request, "courses/mistakes.html", {"course": course, **predicting.mistakes_of(course=course)})
