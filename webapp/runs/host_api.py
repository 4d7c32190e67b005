"""Hosts by API: their documents and versions, changes of the platform, their end, capacity, and maintenance."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.agreements import hosting, maintenance
from webapp.agreements.models import Consent, Maintenance
from webapp.errors import VpmsError
from webapp.fleet import services as fleet
from webapp.fleet.changes import changes
from webapp.fleet.models import Host, HostVersion
from webapp.fleet.selectors import document_of, site_host, version_get, versions_of
from webapp.rest.document import body_of_kind
from webapp.rest.doors import reader
from webapp.rest.etags import etag, seen_in
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs import capacity
from webapp.runs.api import operator, person
from webapp.runs.api import router as hosts

router = Router(tags=["hosts"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
Version = Annotated[int, Field(ge=1, lt=2**31)]
Switch = Annotated[str, Field(max_length=32)]


class HostSavedOut(Schema):
    name: str
    version: int
    sha256: str


class HostVersionOut(Schema):
    version: int
    kind: str
    reason: str
    sha256: str
    saved_at: dt.datetime
    by: str


class HostChangeOut(Schema):
    setting: str
    now: str
    then: str


class BrokenOut(Schema):
    setting: str
    switch: str
    text: str
    vms: list[str]


class ContradictedOut(Schema):
    agreement: str
    version: int
    id: int
    digest: str
    broken: list[BrokenOut]


class HostPreviewOut(Schema):
    changes: list[HostChangeOut]
    refused: str | None = Field(description="The code of what would be answered to saving it now; null: it is saved.")
    agreements: list[ContradictedOut]


class ValueIn(Strict):
    switch: Switch
    value: Switch


class FactIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"reason": "New firmware", "lost": [{"switch": "mitigations", "value": "full"}]}]
        },
    )
    reason: Annotated[str, Field(max_length=400)]
    attested: bool | None = None
    lost: Annotated[list[ValueIn], Field(max_length=128)] = []
    gained: Annotated[list[ValueIn], Field(max_length=128)] = []


class FactOut(Schema):
    changes: list[HostChangeOut]
    agreements: list[ContradictedOut]


class ResourceOut(Schema):
    name: str
    there: int
    promised: int
    used: int | None
    free: int


class GuestRoomOut(Schema):
    vm: str
    tenant: str
    state: str
    memory_mib: int
    used_mib: int | None
    holds: dict[str, int]


class HostRoomOut(Schema):
    name: str
    running: int
    placed: int
    memory_mib: int
    promised_mib: int
    used_mib: int | None
    free_mib: int


class HostCapacityOut(HostRoomOut):
    resources: list[ResourceOut]
    guests: list[GuestRoomOut]


class MaintenanceIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"start": "2030-01-07T22:00", "end": "2030-01-07T23:00", "reason": "A new power supply"}]
        },
    )
    start: Annotated[str, Field(max_length=40)]
    end: Annotated[str, Field(max_length=40)]
    reason: Annotated[str, Field(max_length=400)]


class AskedVmOut(Schema):
    vm: str
    tenant: str
    answer: str
    is_here: bool


class MaintenanceOut(Schema):
    id: int
    host: str
    start: dt.datetime
    end: dt.datetime
    reason: str
    state: str
    asked: list[AskedVmOut]


class OfferIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"vm": "their-vm"}]})
    vm: Annotated[str, Field(max_length=63)]


class QuestionedOut(Schema):
    id: int
    vm: str
    host: str
    start: dt.datetime
    end: dt.datetime
    reason: str
    state: str
    answer: str
    auto: bool


class AgreesIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"agrees": True}]})
    agrees: bool


# -- documents


def saved(host: Host, response: HttpResponse) -> dict[str, Any]:
    response["ETag"] = etag(host.version, host.sha256)
    return {"name": host.name, "version": host.version, "sha256": host.sha256}


@hosts.post("/hosts", response={201: HostSavedOut}, openapi_extra=body_of_kind("host"))
def host_add(request: HttpRequest) -> Any:
    """Register a host by its vpms-host/1 document. It is read strictly and refused whole, or stored whole. Operators
    only."""
    host = fleet.host_register(by=operator(request), document=request.body)
    return Status(201, {"name": host.name, "version": host.version, "sha256": host.sha256})


@router.get("/hosts/{name}/document", response=dict[str, Any])
def host_document_get(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """The newest document of a host as it was given. Its ETag goes into If-Match when you save. Operators only."""
    host = site_host(user=person(request), name=name)
    response["ETag"] = etag(host.version, host.sha256)
    return document_of(host)


@router.put("/hosts/{name}/document", response=HostSavedOut, openapi_extra=body_of_kind("host"))
def host_document_put(request: HttpRequest, name: str, response: HttpResponse) -> Any:
    """Save a vpms-host/1 document as the next version. Where an agreement in force would not hold under it, it is
    refused with `contradicts_agreements` and the list of them. With If-Match it is refused with 412 where somebody else
    saved a version after the one that you had read. Operators only."""
    user = operator(request)
    host = site_host(user=user, name=name)
    seen = seen_in(request, newest=host.version)
    return saved(hosting.host_edit(by=user, host=host, document=request.body, seen=seen), response)


@router.post("/hosts/{name}/document/check", response=HostPreviewOut, auth=reader, openapi_extra=body_of_kind("host"))
def host_document_check(request: HttpRequest, name: str) -> Any:
    """What a document would change, and what would be answered to saving it. Nothing is saved. Operators only."""
    host = site_host(user=operator(request), name=name)
    parsed = fleet.host_read(request.body, host=host)
    rows = [row._asdict() for row in changes(document_of(host), parsed.document)]
    try:
        hosting.expect_possible(host, parsed)
    except VpmsError as refused:
        return {"changes": rows, "refused": refused.code, "agreements": refused.data.get("agreements", [])}
    return {"changes": rows, "refused": None, "agreements": []}


def host_version_shown(row: HostVersion) -> dict[str, Any]:
    return {
        "version": row.version,
        "kind": row.kind,
        "reason": row.reason,
        "sha256": row.sha256,
        "saved_at": row.created_at,
        "by": row.created_by.username if row.created_by else "",
    }


@router.get("/hosts/{name}/documents", response=Listed[HostVersionOut])
def host_version_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """The versions of a host's document, newest first. Operators only."""
    user = person(request)
    host = site_host(user=user, name=name)
    return pages(request, versions_of(user=user, host=host), paging, by="-version", shown=host_version_shown)


@router.get("/hosts/{name}/documents/{int:version}", response=dict[str, Any])
def host_version(request: HttpRequest, name: str, version: Version) -> Any:
    """One version: the document as it was given. Operators only."""
    user = person(request)
    return document_of(version_get(user=user, host=site_host(user=user, name=name), version=version))


@router.post("/hosts/{name}/documents/{int:version}/restore", response=HostSavedOut)
def host_restore(request: HttpRequest, name: str, version: Version, response: HttpResponse) -> Any:
    """Save an old version again under the next number: history only grows. Refused as saving is. Operators only."""
    user = operator(request)
    host = site_host(user=user, name=name)
    old = version_get(user=user, host=host, version=version)
    seen = seen_in(request, newest=host.version)
    return saved(hosting.host_edit(by=user, host=host, document=old.document.encode(), seen=seen), response)


def fact_given(given: FactIn) -> dict[str, Any]:
    return {
        "attested": given.attested,
        "lost": [(row.switch, row.value) for row in given.lost],
        "gained": [(row.switch, row.value) for row in given.gained],
    }


def fact_shown(before: dict[str, Any], fact: hosting.Fact) -> dict[str, Any]:
    rows = [row._asdict() for row in changes(before, fact.document)]
    return {"changes": rows, "agreements": fact.agreements}


@router.post("/hosts/{name}/platform", response=FactOut)
def fact_report(request: HttpRequest, name: str, given: FactIn) -> Any:
    """Report what has happened to the machine: values that it lost or gained, whether it is attested. It is never
    refused because of what is agreed: what no longer holds becomes a conflict, its owners are told, and nothing is
    stopped. Operators only."""
    user = operator(request)
    host = site_host(user=user, name=name)
    before = document_of(host)
    return fact_shown(before, hosting.fact_report(by=user, host=host, reason=given.reason, **fact_given(given)))


@router.post("/hosts/{name}/platform/check", response=FactOut, auth=reader)
def fact_check(request: HttpRequest, name: str, given: FactIn) -> Any:
    """What such a report would come to. Nothing is stored and nobody is told. Operators only."""
    host = site_host(user=operator(request), name=name)
    return fact_shown(document_of(host), hosting.fact_read(host=host, **fact_given(given)))


@router.post("/hosts/{name}/retire", response={204: None})
def host_retire(request: HttpRequest, name: str) -> Any:
    """The empty host takes no VM any more; its history stays. 409 with the list while VMs live there. Operators
    only."""
    user = operator(request)
    hosting.host_retire(by=user, host=site_host(user=user, name=name))
    return Status(204, None)


# -- capacity


def room_shown(room: capacity.Room) -> dict[str, Any]:
    return {
        "name": room.host.name,
        "running": room.running,
        "placed": len(room.guests),
        "memory_mib": room.limit_mib,
        "promised_mib": room.promised_mib,
        "used_mib": room.used_mib,
        "free_mib": room.free_mib,
    }


@router.get("/capacity", response=Listed[HostRoomOut])
def capacity_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Every host in service: memory that can be promised, is promised, is used, and is left. Operators only."""
    operator(request)
    rows = Host.objects.filter(retired_at__isnull=True)

    def shown(several: list[Host]) -> list[dict[str, Any]]:
        return [room_shown(room) for room in capacity.rooms(several)]

    return pages(request, rows, paging, by="name", shown_together=shown)


@router.get("/capacity/places", response=Listed[HostRoomOut])
def room_list(
    request: HttpRequest,
    paging: Query[Paging],
    mib: Annotated[int, Field(ge=1, le=capacity.LARGEST_MIB, json_schema_extra={"example": 64})],
) -> Any:
    """Hosts with so many MiB left to promise, at most twenty. Other wishes are checked at a start. Operators only."""
    rows = capacity.places_for(user=operator(request), mib=mib)
    return pages(request, [room_shown(room) for room in rows], paging, by="name")


@router.get("/hosts/{name}/capacity", response=HostCapacityOut)
def host_capacity_get(request: HttpRequest, name: str) -> Any:
    """What one host has, what is promised and used, and which VM holds what. Operators only."""
    user = operator(request)
    room = capacity.room_of(user=user, host=site_host(user=user, name=name))
    return {
        **room_shown(room),
        "resources": [{key: row[key] for key in ResourceOut.model_fields} for row in room.rows],
        "guests": [
            {
                "vm": guest.vm.name,
                "tenant": guest.vm.tenant.slug,
                "state": guest.vm.state,
                "memory_mib": guest.memory_mib,
                "used_mib": guest.used_mib,
                "holds": guest.holds,
            }
            for guest in room.guests
        ],
    }


# -- maintenance


def maintenance_shown(row: Maintenance) -> dict[str, Any]:
    asked = maintenance.who_is_asked(row) if row.state in Maintenance.OPEN else []
    return {
        "id": row.pk,
        "host": row.host.name,
        "start": row.start,
        "end": row.end,
        "reason": row.reason,
        "state": row.state,
        "asked": [
            {
                "vm": each["vm"].name,
                "tenant": each["vm"].tenant.slug,
                "answer": each["consent"].state if each["consent"] else "not_asked",
                "is_here": each["is_here"],
            }
            for each in asked
        ],
    }


@router.get("/hosts/{name}/maintenance", response=Listed[MaintenanceOut])
def maintenance_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """What is and was planned for a host, newest first, with the answers of those who are there. Operators only."""
    user = operator(request)
    rows = maintenance.maintenances_of(user=user, host=site_host(user=user, name=name)).select_related("host")
    return pages(request, rows, paging, by="-id", shown=maintenance_shown)


@router.post("/hosts/{name}/maintenance", response={201: MaintenanceOut})
def maintenance_plan(request: HttpRequest, name: str, given: MaintenanceIn) -> Any:
    """Plan a time for work on the host, in UTC; the owners of all VMs there are asked. Operators only."""
    user = operator(request)
    made = maintenance.plan(
        by=user,
        host=site_host(user=user, name=name),
        start=maintenance.moment_read(given.start, "$.start"),
        end=maintenance.moment_read(given.end, "$.end"),
        reason=given.reason,
    )
    return Status(201, maintenance_shown(made))


@router.post("/maintenance/{int:number}/act/{what}", response=MaintenanceOut)
def maintenance_act(
    request: HttpRequest,
    number: Number,
    what: Annotated[Literal["ask", "begin", "end", "cancel"], Field(json_schema_extra={"example": "begin"})],
) -> Any:
    """Ask those who came since, begin (409 `consent_missing` with the names while anybody there has not agreed), end,
    or call off. Operators only."""
    user = operator(request)
    row = maintenance.maintenance_get(user=user, pk=number)
    acts = {"begin": maintenance.begin, "end": maintenance.end, "cancel": maintenance.cancel}
    if what == "ask":
        maintenance.ask_newcomers(by=user, maintenance=row)
    else:
        acts[what](by=user, maintenance=row)
    return maintenance_shown(maintenance.maintenance_get(user=user, pk=number))


@router.post("/maintenance/{int:number}/offer", response=MaintenanceOut)
def maintenance_offer(request: HttpRequest, number: Number, given: OfferIn) -> Any:
    """Offer a VM whose owner has not agreed to move it to another host; the owner chooses. Operators only."""
    user = operator(request)
    row = maintenance.maintenance_get(user=user, pk=number)
    maintenance.move_offered(by=user, maintenance=row, vm=given.vm)
    return maintenance_shown(row)


def questioned_shown(row: Consent) -> dict[str, Any]:
    planned = row.maintenance
    return {
        "id": row.pk,
        "vm": row.vm.name,
        "host": planned.host.name,
        "start": planned.start,
        "end": planned.end,
        "reason": planned.reason,
        "state": planned.state,
        "answer": row.state,
        "auto": row.auto,
    }


@router.get("/maintenance", response=Listed[QuestionedOut])
def consent_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Planned maintenance of the hosts of your VMs, with your answer for each VM."""
    return pages(request, maintenance.questions_to(user=person(request)), paging, by="id", shown=questioned_shown)


@router.post("/maintenance/answers/{int:number}", response=QuestionedOut)
def consent_answer(request: HttpRequest, number: Number, given: AgreesIn) -> Any:
    """Agree to a maintenance for a VM of yours, or do not. Until it begins the answer can be changed."""
    user = person(request)
    consent = maintenance.consent_get(user=user, pk=number)
    maintenance.answer(by=user, consent=consent, agrees=given.agrees)
    return questioned_shown(maintenance.consent_get(user=user, pk=number))
