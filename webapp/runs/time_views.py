"""What the timeline asks for: moments of a run, the next of something, marks, and what is known of one frame."""

from __future__ import annotations

import threading
from typing import Any, Final

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault
from webapp.live.records import record
from webapp.roles import may_change, read_only
from webapp.runs import engine, history, selectors
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR
from webapp.tenants.selectors import missing

PARTS: Final = ("map", "tlb", "counters", "log")
LARGEST: Final = 1 << 53


def _watched(request: HttpRequest, pk: int) -> tuple[Run, str]:
    """The run, and what of it this person sees; to everybody else it is missing."""
    user: Any = request.user
    view = selectors.view_of(user=user, run_id=str(pk))
    if view is None:
        raise missing()
    return selectors.run_get(user=user, pk=pk), view


def _number(request: HttpRequest, name: str) -> int:
    text = request.GET.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or int(text) >= LARGEST:
        raise BadInput([Fault(f"$.{name}", "must be a whole number")])
    return int(text)


def _moment(request: HttpRequest, run: Run, view: str) -> history.Moment:
    """The moment that the address names: an operation for operators, a step for everybody."""
    if view == OPERATOR and "op" in request.GET:
        return history.at_op(run, _number(request, "op"))
    return history.at_step(run, _number(request, "step"))


@require_GET
def moment(request: HttpRequest, pk: int) -> HttpResponse:
    """One moment as records: first what it is, then a whole frame of each part that is asked for and may be seen."""
    run, view = _watched(request, pk)
    asked = request.GET.get("parts", ",".join(PARTS)).split(",")
    wrong = [name for name in asked if name not in PARTS]
    if wrong:
        raise BadInput([Fault("$.parts", f"must be of {', '.join(PARTS)}")])
    parts = [name for name in PARTS if name in asked and (name != "tlb" or view == OPERATOR)]
    frames = history.frames(_moment(request, run, view), view=view, parts=parts)
    answer = HttpResponse(b"".join(map(record, frames)), content_type="application/octet-stream")
    answer["Cache-Control"] = "private, no-store"
    return answer


@require_GET
def find(request: HttpRequest, pk: int) -> HttpResponse:
    """The nearest operation at which something happened: `what` of history.WHAT, `direction` next or last."""
    run, view = _watched(request, pk)
    if view != OPERATOR:
        raise missing()
    what, direction = request.GET.get("what", ""), request.GET.get("direction", "next")
    if what not in history.WHAT or direction not in ("next", "last"):
        raise BadInput([Fault("$.what", f"must be one of {', '.join(history.WHAT)}, next or last")])
    found = history.find(run, op=_number(request, "op"), what=what, forward=direction == "next")
    return JsonResponse({"op": found})


@require_GET
def frame(request: HttpRequest, pk: int, mfn: int) -> HttpResponse:
    """What is known of one frame now, or at `op`: owner, leaves, translations, last operations. Operators only."""
    run, view = _watched(request, pk)
    if view != OPERATOR:
        raise missing()
    at = history.at_op(run, _number(request, "op") if "op" in request.GET else run.op)
    return JsonResponse(history.frame_facts(at, mfn))


@require_GET
def marks(request: HttpRequest, pk: int) -> HttpResponse:
    """The marks of this view, and how far the run can be looked at."""
    run, view = _watched(request, pk)
    threading.Thread(target=engine.warm, daemon=True).start()  # a timeline is being opened: moments are asked for next
    operator = view == OPERATOR
    oldest, newest = (run.oldest_op, run.op) if operator else (run.oldest_seq, run.seq)
    found = {"oldest": oldest, "newest": newest, "unit": "op" if operator else "step", "state": run.state}
    return JsonResponse({**found, "marks": history.marks(run, view=view)})


def _changing(request: HttpRequest, pk: int) -> tuple[Run, str]:
    """The same for what changes something: auditors are refused."""
    run, view = _watched(request, pk)
    if not may_change(request.user, "operator" if view == OPERATOR else "tenant"):
        raise read_only()
    return run, view


@require_POST
def mark(request: HttpRequest, pk: int) -> HttpResponse:
    """Name a moment (`op` or `step`, `text`)."""
    run, view = _changing(request, pk)
    named = request.POST.get("at", "")
    if not named.isascii() or not named.isdecimal() or len(named) > 16:
        raise BadInput([Fault("$.at", "must be a whole number")])
    at = history.at_op(run, int(named)) if view == OPERATOR else history.at_step(run, int(named))
    with transaction.atomic():
        made = history.mark(run=run, view=view, by=request.user, moment=at, text=request.POST.get("text", ""))
        audit.record(by=request.user, type="run.mark", subject=f"run:{run.pk}", data={"mark": made.pk})  # type: ignore[arg-type]
    return JsonResponse({"id": made.pk}, status=201)


@require_POST
def unmark(request: HttpRequest, pk: int, mark_id: int) -> HttpResponse:
    """Take a mark of this view away."""
    run, view = _changing(request, pk)
    gone, _ = run.marks.filter(pk=mark_id, view=view).delete()
    if not gone:
        raise missing()
    return HttpResponse(status=204)
