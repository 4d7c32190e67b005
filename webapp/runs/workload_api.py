"""Programs that a tenant uploaded, acts on several VMs at once, and what was tried against one's own, by API."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.errors import BadInput, Fault
from webapp.rest.document import body_of_file
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs import bulk, overview, workloads
from webapp.tenants.forms import profile_named
from webapp.tenants.models import Workload
from webapp.tenants.selectors import missing, tenants_of, vm_get, workloads_of

router = Router(tags=["workloads"])
runs = Router(tags=["runs"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
Name = Annotated[str, Field(max_length=63)]


class WorkloadOut(Schema):
    id: int
    name: str = Field(description="What a VM is declared with, as its `trace`.")
    title: str
    organisation: str
    size: int
    sha256: str
    references: int
    created_at: dt.datetime


class BulkIn(Strict):
    """`profile` is for the act profile alone."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"act": "start", "vms": ["my-vm"]}]})
    act: Literal["start", "stop", "delete", "profile"]
    vms: Annotated[list[Name], Field(min_length=1, max_length=bulk.MOST_VMS)]
    profile: Name = ""


class BulkRowOut(Schema):
    vm: str
    good: bool
    code: str = Field(description="Of a refusal, as at /api/errors; else empty.")
    says: str


class BulkOut(Schema):
    results: list[BulkRowOut]


class ConductOut(Schema):
    id: str
    vm: str
    host: str
    kind: str
    who: str = Field(description="Only the role: neighbours stay pseudonyms of the agreement.")
    outcome: str
    check: str
    count: int
    first: dt.datetime
    last: dt.datetime
    means: str


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def workload_shown(row: Workload) -> dict[str, Any]:
    fields = ("id", "name", "title", "size", "sha256", "references", "created_at")
    return {"organisation": row.tenant.slug, **{field: getattr(row, field) for field in fields}}


@router.get("/workloads", response=Listed[WorkloadOut])
def workload_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The recorded programs that your organisations uploaded, newest first."""
    return pages(request, workloads_of(user=person(request)), paging, by="-id", shown=workload_shown)


@router.post(
    "/workloads",
    response={201: WorkloadOut},
    openapi_extra=body_of_file("A recorded program (.hsvmtrace), at most 5 MiB."),
)
def workload_upload(
    request: HttpRequest,
    title: Annotated[str, Field(max_length=workloads.MOST_TITLE)] = "",
    organisation: Annotated[str, Field(max_length=63)] = "",
) -> Any:
    """Upload a recorded program. The file is the body itself, with Content-Type: application/octet-stream; it is read
    strictly and kept under a name of ours. The same file once more is the same program. People of several organisations
    name one."""
    user = person(request)
    found = tenants_of(user=user)
    tenant = found.filter(slug=organisation).first() if organisation else found.first()
    if tenant is None:
        raise missing()
    if not organisation and found.count() > 1:
        raise BadInput([Fault("$.organisation", "must name one of your organisations")])
    return Status(201, workload_shown(workloads.workload_add(by=user, tenant=tenant, title=title, data=request.body)))


@router.delete("/workloads/{int:number}", response={204: None})
def workload_delete(request: HttpRequest, number: Number) -> Any:
    """Delete a program that no VM ever had: what was run must be able to be played again."""
    workloads.workload_delete(by=person(request), pk=number)
    return Status(204, None)


@runs.post("/vm-acts", response=BulkOut)
def vms_act(request: HttpRequest, given: BulkIn) -> Any:
    """Start, stop or delete several VMs of yours, or give them a profile, with a result for each. One that is refused
    does not keep the others; a VM that is not yours refuses the whole call."""
    user = person(request)
    if (given.act == "profile") != bool(given.profile) or (given.profile and profile_named(given.profile) is None):
        raise BadInput([Fault("$.profile", "must be one of the profiles with the act profile, else left out")])
    vms = [vm_get(user=user, name=name) for name in dict.fromkeys(given.vms)]
    return {"results": bulk.done(by=user, vms=vms, act=given.act, profile=given.profile)}


@runs.get("/conduct", response=Listed[ConductOut])
def conduct_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Acts against your VMs that were refused, or tried in a drill: what, by which check, how often, when last."""
    rows = [
        {
            **row,
            "id": " ".join([row["vm"], row["host"], row["kind"], row["outcome"], row["check_name"]]).strip(),
            "who": str(row["who"]),
            "check": row["check_name"],
        }
        for row in overview.conduct_of(user=person(request))
    ]
    return pages(request, rows, paging, by="id")
