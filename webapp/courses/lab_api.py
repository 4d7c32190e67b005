"""The attack lab by API: the task, the draft, hints, attempts and their replays. Each person has their own."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.courses import lab, lab_pages, selectors
from webapp.courses.models import Attempt
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["labs"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
Text = Annotated[str, Field(max_length=lab.LONGEST_FILE, description="An attack file, YAML in block style or JSON.")]
EXAMPLE = "schema: 1\nid: my-attack\n..."


class LabGoalOut(Schema):
    says: str
    points: int
    column: str = Field(description="Empty: it is about the file itself.")


class LabHintOut(Schema):
    number: int
    cost: int = Field(description="Percent of the points of what is handed in afterwards.")
    taken: bool
    next: bool = Field(description="It is the one that can be taken now.")
    says: str = Field(description="Empty until it is taken.")


class LabOut(Schema):
    title: str
    says: str
    ports: list[str] = Field(description="The ports that the task gives; empty: they are free.")
    setup_given: bool
    columns: list[str]
    limits: dict[str, int]
    starter: str
    points: int
    goals: list[LabGoalOut]
    hidden_tests: int
    hidden_points: int
    hints: list[LabHintOut]
    hints_cost: int
    draft: str = Field(description="The file as it was last left; empty: nothing was kept.")
    draft_at: dt.datetime | None
    task: str = Field(description="The task for `hsvm attack grade --task`, without hidden tests and hints.")


class LabTextIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": EXAMPLE}]})
    text: Text


class LabDraftOut(Schema):
    saved_at: dt.datetime


class LabPlaceOut(Schema):
    line: int
    column: int
    reason: str


class LabStepOut(Schema):
    line: int
    phase: str
    depth: int
    op: str
    fields: str
    bind: str


class LabCheckOut(Schema):
    ok: bool
    faults: list[LabPlaceOut]
    outline: list[LabStepOut] = Field(description="The steps of a file without faults.")


class LabHintIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"number": 1, "cost": 10}]})
    number: Annotated[int, Field(ge=1, le=8)]
    cost: Annotated[int, Field(ge=0, le=100, description="As lab_get tells it: whoever asks knows the cost.")]


class LabAttemptIn(Strict):
    """With `graded` it is handed in; the seed is then the one graded seed, and `seed` is left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"text": EXAMPLE, "seed": 7}]})
    text: Text
    graded: bool = False
    seed: Annotated[int, Field(ge=0, le=lab.MOST_SEED)] = 0


class LabAttemptOut(Schema):
    id: int
    item: int
    graded: bool
    seed: int | None = Field(description="Null: it was handed in; that seed is told to nobody.")
    state: str = Field(description="waiting, done or failed")
    points: float | None
    of: int | None
    hints: int
    digest: str
    made_at: dt.datetime
    done_at: dt.datetime | None
    reason: str


class LabAttemptDetailOut(LabAttemptOut):
    text: str
    result: dict[str, Any] = Field(description="The grade as `hsvm attack grade --json` prints it.")


def _item(request: HttpRequest, pk: int) -> Any:
    return selectors.item_get(user=request.user, pk=pk)


def _shown(attempt: Attempt) -> dict[str, Any]:
    return lab_pages.attempt_shown(attempt)


@router.get("/items/{int:pk}/lab", response=LabOut)
def lab_get(request: HttpRequest, pk: Number) -> Any:
    """The task of a lab as you may see it, your draft, and what the hints cost."""
    item, member = _item(request, pk)
    work = lab.work_of(item=item, member=member)
    told = {"draft": work.text, "draft_at": work.saved_at, "task": lab.students_copy(item)}
    return {**lab_pages.task_shown(item, work), **told}


@router.put("/items/{int:pk}/lab/draft", response=LabDraftOut)
def lab_draft_put(request: HttpRequest, pk: Number, body: LabTextIn) -> Any:
    """Keep your file as it stands, faulty or not."""
    item, member = _item(request, pk)
    person: Any = request.user
    return {"saved_at": lab.draft_save(by=person, item=item, member=member, text=body.text).saved_at}


@router.post("/items/{int:pk}/lab/check", response=LabCheckOut)
def lab_check(request: HttpRequest, pk: Number, body: LabTextIn) -> Any:
    """Read a file as strictly as a run does, without running it: its fault with line and column, else its steps."""
    item, _ = _item(request, pk)
    attack, faults = lab.places(lab.task_of(item), body.text)
    return {
        "ok": not faults,
        "faults": [place._asdict() for place in faults],
        "outline": lab_pages.outline(attack),
    }


@router.post("/items/{int:pk}/lab/hints", response=LabHintOut)
def lab_hint(request: HttpRequest, pk: Number, body: LabHintIn) -> Any:
    """Take the next hint for its cost, or read one that you took again."""
    item, member = _item(request, pk)
    person: Any = request.user
    work = lab.hint_take(by=person, item=item, member=member, number=body.number, cost=body.cost)
    return lab_pages.task_shown(item, work)["hints"][body.number - 1]


@router.get("/items/{int:pk}/lab/attempts", response=Listed[LabAttemptOut])
def lab_attempt_list(request: HttpRequest, pk: Number, paging: Query[Paging]) -> Any:
    """Your own attempts, newest first. Of practice the newest are kept."""
    item, member = _item(request, pk)
    lab.task_of(item)
    return pages(request, lab.attempts_of(item=item, member=member), paging, by="-id", shown=_shown)


@router.post("/items/{int:pk}/lab/attempts", response={202: LabAttemptOut})
def lab_attempt_make(request: HttpRequest, pk: Number, body: LabAttemptIn) -> Any:
    """Run a file with a seed of your own, or hand it in. A worker executes and grades it in a moment."""
    item, member = _item(request, pk)
    person: Any = request.user
    made = lab.attempt_make(by=person, item=item, member=member, **body.dict())
    return Status(202, _shown(made))


@router.get("/attempts/{int:pk}", response=LabAttemptDetailOut)
def lab_attempt_get(request: HttpRequest, pk: Number) -> Any:
    """One attempt with its file, and each goal with points and a reason. Teachers may read those of their students."""
    found, _ = lab.attempt_get(user=request.user, pk=pk)
    return {**_shown(found), "text": found.text, "result": found.result}


@router.get("/attempts/{int:pk}/replay/{architecture}", response=dict[str, Any])
def lab_replay_get(request: HttpRequest, pk: Number, architecture: Annotated[str, Field(max_length=16)]) -> Any:
    """A practice run step by step on one of its columns. Of what was handed in there is none."""
    found, _ = lab.attempt_get(user=request.user, pk=pk)
    return lab_pages.film_of(found, architecture)
