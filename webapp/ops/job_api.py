"""Jobs and workers by API, for operators: the same list as the page."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from webapp.ops import joblist, services
from webapp.rest.paging import Listed, Paging, pages
from webapp.tenants.selectors import missing

router = Router(tags=["jobs"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
KindName = Literal[
    "run", "negotiation", "step", "cell", "drill", "mail", "delivery", "attempt", "regrade", "table", "grade-return"
]


class JobOut(Schema):
    id: str
    kind: str
    number: int
    title: str
    state: str
    stage: str
    percent: int | None
    rate: str
    left: str
    host: str
    held: bool
    worker: str
    position: int | None
    attempts: int
    began: dt.datetime | None
    ended: dt.datetime | None
    next: dt.datetime | None
    acts: list[str]


class LineOut(Schema):
    at: dt.datetime | None
    text: str


class JobDetailOut(JobOut):
    log: list[LineOut]


class WorkerOut(Schema):
    name: str
    kind: str
    at: dt.datetime
    seconds: int
    known: bool


def person(request: HttpRequest) -> Any:
    return request.user


def shown(row: dict[str, Any]) -> dict[str, Any]:
    acts = [name for name, _ in row["acts"]]
    return {**row, "kind": row["kind"].name, "number": row["pk"], "acts": acts}


@router.get("/jobs", response=Listed[JobOut])
def job_list(request: HttpRequest, paging: Query[Paging], finished: bool = False, job: KindName | None = None) -> Any:
    """All work under way, or with `finished` the last 200 jobs that are over; `job` names one kind. Operators only."""
    listed = joblist.jobs_finished if finished else joblist.jobs_open
    rows = [shown(row) for row in listed(user=person(request), kind=job or "")]
    return pages(request, rows, paging, by="id")


@router.get("/jobs/{job}/{int:number}", response=JobDetailOut)
def job_get(request: HttpRequest, job: str, number: Number) -> Any:
    """One job with the end of its log. Operators only."""
    return shown(joblist.job_shown(user=person(request), kind=job, pk=number))


@router.post("/jobs/{job}/{int:number}/{act}", response=JobDetailOut)
def job_act(request: HttpRequest, job: str, number: Number, act: str) -> Any:
    """Pause, resume, cancel a job, or try it again: what `acts` of the job names. 409: not possible now. Operators
    only."""
    user = person(request)
    joblist.job_act(by=user, kind=job, pk=number, act=act)
    return shown(joblist.job_shown(user=user, kind=job, pk=number))


@router.get("/workers", response=Listed[WorkerOut])
def worker_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The processes that do the work, with the age of their last sign of life. Operators only."""
    if not person(request).sees_site:
        raise missing()
    return pages(request, services.workers(), paging, by="name")
