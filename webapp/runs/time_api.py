"""The timeline by API: moments of a run, the next of something, one frame, and marks."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.audit import services as audit
from webapp.errors import BadInput, Fault
from webapp.live.records import record
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs import history, selectors
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR
from webapp.tenants.selectors import missing

router = Router(tags=["runs"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
At = Annotated[int, Field(ge=0, lt=2**53)]
PARTS: Final = ("map", "tlb", "counters", "log")
RECORDS: Final[dict[str, Any]] = {
    "responses": {
        200: {
            "description": "Records of 9 bytes of head and a body, as /api/live.schema.json describes them.",
            "content": {"application/octet-stream": {"schema": {"type": "string", "contentEncoding": "binary"}}},
        }
    }
}


class MarkOut(Schema):
    place: str = Field(description="The order of the list.")
    id: int | None = Field(description="null: an event of the log, which cannot be deleted")
    at: int
    kind: str
    text: str


class ReachOut(Schema):
    oldest: int
    newest: int
    unit: Literal["op", "step"]
    state: str


class MarkIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"at": 120, "text": "before the drill"}]})
    at: At
    text: Annotated[str, Field(min_length=1, max_length=120)]


class MarkMadeOut(Schema):
    id: int


class FoundOut(Schema):
    op: int | None


def watched(request: HttpRequest, run_id: int) -> tuple[Run, str]:
    """The run, and what of it this person sees; to everybody else it is missing."""
    user: Any = request.user
    view = selectors.view_of(user=user, run_id=str(run_id))
    if view is None:
        raise missing()
    return selectors.run_get(user=user, pk=run_id), view


def as_operator(request: HttpRequest, run_id: int) -> Run:
    run, view = watched(request, run_id)
    if view != OPERATOR:
        raise missing()
    return run


@router.get("/runs/{int:run_id}/moment", openapi_extra=RECORDS)
def moment_get(
    request: HttpRequest,
    run_id: Number,
    op: At | None = None,
    step: At | None = None,
    parts: Annotated[str, Field(max_length=40)] = ",".join(PARTS),
) -> Any:
    """One moment as binary records: what it is, and each part that you ask for and may see. Operators name an operation
    (`op`) or a step, everybody else a step."""
    run, view = watched(request, run_id)
    asked = parts.split(",")
    if any(name not in PARTS for name in asked):
        raise BadInput([Fault("$.parts", f"must be of {', '.join(PARTS)}")])
    wanted = [name for name in PARTS if name in asked and (name != "tlb" or view == OPERATOR)]
    frames = history.frames(moment_at(run, view, op=op, step=step), view=view, parts=wanted)
    return HttpResponse(b"".join(map(record, frames)), content_type="application/octet-stream")


def moment_at(run: Run, view: str, *, op: int | None, step: int | None) -> history.Moment:
    if view == OPERATOR and op is not None:
        return history.at_op(run, op)
    if step is None:
        raise BadInput([Fault("$.step", "must be a whole number")])
    return history.at_step(run, step)


@router.get("/runs/{int:run_id}/find", response=FoundOut)
def find_get(
    request: HttpRequest,
    run_id: Number,
    op: At,
    what: Literal[history.WHAT],  # type: ignore[valid-type]
    direction: Literal["next", "last"] = "next",
) -> Any:
    """The nearest operation after or before `op` at which something happened; null: not within what is looked through.
    Operators only."""
    run = as_operator(request, run_id)
    return {"op": history.find(run, op=op, what=what, forward=direction == "next")}


@router.get("/runs/{int:run_id}/frames/{int:mfn}", response=dict[str, Any])
def frame_get(request: HttpRequest, run_id: Number, mfn: At, op: At | None = None) -> Any:
    """What is known of one frame now, or at `op`: owner, leaves, translations, last operations. Operators only."""
    run = as_operator(request, run_id)
    return history.frame_facts(history.at_op(run, run.op if op is None else op), mfn)


@router.get("/runs/{int:run_id}/reach", response=ReachOut)
def reach_get(request: HttpRequest, run_id: Number) -> Any:
    """How far back the run can be looked at, in operations for operators and in steps for everybody else."""
    run, view = watched(request, run_id)
    operator = view == OPERATOR
    oldest, newest = (run.oldest_op, run.op) if operator else (run.oldest_seq, run.seq)
    return {"oldest": oldest, "newest": newest, "unit": "op" if operator else "step", "state": run.state}


@router.get("/runs/{int:run_id}/marks", response=Listed[MarkOut])
def mark_list(request: HttpRequest, run_id: Number, paging: Query[Paging]) -> Any:
    """The moments that were named, and for operators the events of the log, by their place in the run."""
    run, view = watched(request, run_id)
    rows = [
        {"place": f"{row['at']:016}-{row['id'] or 0:012}-{row['kind']}-{row['text']}", **row}
        for row in history.marks(run, view=view)
    ]
    return pages(request, rows, paging, by="place")


@router.post("/runs/{int:run_id}/marks", response={201: MarkMadeOut})
def mark_make(request: HttpRequest, run_id: Number, given: MarkIn) -> Any:
    """Name a moment: an operation for operators, a step for everybody else."""
    run, view = watched(request, run_id)
    user: Any = request.user
    operator = view == OPERATOR
    moment = moment_at(run, view, op=given.at if operator else None, step=None if operator else given.at)
    with transaction.atomic():
        made = history.mark(run=run, view=view, by=user, moment=moment, text=given.text)
        audit.record(by=user, type="run.mark", subject=f"run:{run.pk}", data={"mark": made.pk})
    return Status(201, {"id": made.pk})


@router.delete("/runs/{int:run_id}/marks/{int:number}", response={204: None})
def mark_delete(request: HttpRequest, run_id: Number, number: Number) -> Any:
    """Take a mark of your view away."""
    run, view = watched(request, run_id)
    gone, _ = run.marks.filter(pk=number, view=view).delete()
    if not gone:
        raise missing()
    return Status(204, None)
