"""Pages of the attack lab: editor, goals, hints and history; one attempt; the replay of a practice run."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from webapp.courses import lab, lab_pages, selectors
from webapp.courses.kinds import Kind, Shipped
from webapp.courses.models import Item, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import signed_in_required


def page(request: HttpRequest, item: Item, member: Member) -> HttpResponse:
    return render(request, "courses/lab.html", lab_pages.context(item, member))


KIND: Final = Kind(
    name=lab.KIND,
    label=gettext_lazy("Attack lab"),
    says=gettext_lazy("Students write an attack as data; it is executed, and each goal is graded with a reason."),
    read=lab.read,
    page=page,
    blank=lab.BLANK,
    tries=True,
    grade=lab.kind_grade,
    files=lab.kind_files,
    hints=lab.kind_hints,
    shipped=lambda language: [Shipped(name, lab.read(text).title, text) for name, text in lab.shipped(language)],
    points=10,
)


@require_POST
@signed_in_required
def act(request: HttpRequest, pk: int) -> HttpResponse:
    """Check, save, run or hand in the file of the form. What is refused stands in the editor as it was typed."""
    user: Any = request.user
    item, member = selectors.item_get(user=user, pk=pk)
    text = request.POST.get("text", "").replace("\r\n", "\n")
    wanted = request.POST.get("act", "")
    try:
        return _done(user, item, member, text, wanted, request)
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        context = lab_pages.context(item, member) | {"text": text, "seed": request.POST.get("seed", "")[:20]}
        faults = refused.faults if isinstance(refused, BadInput) else [Fault("$.whole", refused.message)]
        context["faults"] = {fault.path.removeprefix("$."): fault.reason for fault in faults}
        return render(request, "courses/lab.html", context, status=refused.http_status)


def _done(user: Any, item: Item, member: Member, text: str, wanted: str, request: HttpRequest) -> HttpResponse:
    if wanted == "check":
        lab.draft_save(by=user, item=item, member=member, text=text)
        lab.attempt_check(item=item, text=text)
        messages.success(request, _("The file can be run."))
    elif wanted in ("run", "hand_in"):
        graded = wanted == "hand_in"
        seed = 0 if graded else _seed(request.POST.get("seed", "0"))
        lab.attempt_make(by=user, item=item, member=member, text=text, graded=graded, seed=seed)
        if graded:
            messages.success(request, _("Handed in. It is graded in a moment; your best result stands."))
        return redirect(f"{reverse('course-item', args=[item.pk])}#attempts")
    elif wanted == "starter":
        lab.draft_save(by=user, item=item, member=member, text=lab.task_of(item).starter)
        messages.success(request, _("The editor begins again with the task's own file."))
    else:
        lab.draft_save(by=user, item=item, member=member, text=text)
        messages.success(request, _("Saved."))
    return redirect("course-item", item.pk)


def _seed(text: str) -> int:
    text = text.strip() or "0"
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 18 else -1


@require_POST
@signed_in_required
def hint(request: HttpRequest, pk: int) -> HttpResponse:
    """Take the next hint; the button says its cost."""
    user: Any = request.user
    item, member = selectors.item_get(user=user, pk=pk)
    number, cost = (_seed(request.POST.get(name, "")) for name in ("number", "cost"))
    lab.hint_take(by=user, item=item, member=member, number=number, cost=cost)
    return redirect(f"{reverse('course-item', args=[item.pk])}#hints")


@require_GET
@signed_in_required
def task_file(request: HttpRequest, pk: int) -> HttpResponse:
    """The task for the command line: without hidden tests and hints."""
    item, _member = selectors.item_get(user=request.user, pk=pk)
    answer = HttpResponse(lab.students_copy(item), content_type="application/yaml; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="task.yaml"'
    return answer


@require_GET
@signed_in_required
def attempt(request: HttpRequest, pk: int) -> HttpResponse:
    """One attempt: its file, the goals with points and reasons."""
    found, member = lab.attempt_get(user=request.user, pk=pk)
    context = {
        "item": found.item,
        "row": found,
        "own": found.member_id == member.pk,
        "attempt": lab_pages.whole(found),
        "topic": lab.topic(found.item_id, found.member_id),
        "number": lab.work_of(item=found.item, member=found.member).number,
    }
    return render(request, "courses/attempt.html", context)


@require_GET
@signed_in_required
def replay(request: HttpRequest, pk: int, architecture: str) -> HttpResponse:
    """A practice run step by step, with what each step changed."""
    found, _member = lab.attempt_get(user=request.user, pk=pk)
    film = lab_pages.film_of(found, architecture)
    context = {"item": found.item, "row": found, **lab_pages.scene_of(film, request.GET.get("step", ""))}
    context["column"] = next(each for each in lab_pages.columns_of(found) if each["name"] == architecture)
    context["others"] = [each for each in lab_pages.columns_of(found) if each["name"] != architecture]
    return render(request, "courses/lab_replay.html", context)
