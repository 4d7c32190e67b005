"""Run and watch by API: start and stop of VMs, hosts, runs, their events, and the operator's acts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.fleet.selectors import host_get
from webapp.runs import overview, selectors, services
from webapp.runs.models import Act, Run
from webapp.strictjson import load
from webapp.tenants.selectors import missing, vm_get

router = Router(tags=["runs"])
MOST_BYTES = 4096
NEWEST = 200


class NegotiationOut(Schema):
    negotiation: int
    state: str
    reason: str


class HostOut(Schema):
    name: str
    state: str
    age: str
    running: int
    wrong_pages: int
    open_conflicts: int
    run: int | None


class RunOut(Schema):
    id: int
    host: str
    state: str
    reason: str
    engine: str
    started_at: dt.datetime
    ended_at: dt.datetime | None


class EventOut(Schema):
    number: int
    op: int | None
    at: str
    kind: str
    vm: str
    title: str
    outcome: str
    check: str
    detail: dict[str, Any]


class ActOut(Schema):
    id: int
    kind: str
    vm: str
    state: str
    result: dict[str, Any]


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def operator(request: HttpRequest) -> Any:
    """The signed-in operator; to everybody else hosts and acts are missing."""
    user = person(request)
    if not user.sees_site:
        raise missing()
    return user


def body_of(request: HttpRequest) -> dict[str, Any]:
    """The request's object, read strictly."""
    found = load(request.body, max_bytes=MOST_BYTES)
    return found if isinstance(found, dict) else {}


def run_shown(run: Run) -> dict[str, Any]:
    """What everybody who may watch the run may know of it; numbers that count others' doings are left out."""
    fields = ("id", "state", "reason", "started_at", "ended_at")
    return {"host": run.host.name, "engine": run.engine_version, **{name: getattr(run, name) for name in fields}}


def act_shown(act: Act) -> dict[str, Any]:
    return {
        "id": act.pk,
        "kind": act.kind,
        "vm": act.vm.name if act.vm else "",
        "state": act.state,
        "result": act.result,
    }


@router.post("/vms/{name}/start", response=NegotiationOut)
def vm_start(request: HttpRequest, name: str) -> Any:
    """Ask for the start of a VM of yours. A negotiation decides; its state says what comes next."""
    user = person(request)
    negotiation = services.vm_start(by=user, vm=vm_get(user=user, name=name))
    return {"negotiation": negotiation.pk, "state": negotiation.state, "reason": negotiation.reason}


@router.post("/vms/{name}/stop", response={204: None})
def vm_stop(request: HttpRequest, name: str) -> Any:
    """Stop a running VM of yours. Its pages are wiped."""
    user = person(request)
    services.vm_stop(by=user, vm=vm_get(user=user, name=name))
    return 204, None


@router.get("/hosts", response=list[HostOut])
def host_list(request: HttpRequest) -> Any:
    """Every host with its state and the age of what is known. Operators only."""
    operator(request)
    return [
        {
            "name": row["host"].name,
            "state": row["state"],
            "age": row["age"],
            "running": row["running"],
            "wrong_pages": row["wrong"],
            "open_conflicts": row["conflicts"],
            "run": row["run"].pk if row["run"] else None,
        }
        for row in overview.hosts_shown()
    ]


@router.post("/hosts/{name}/acts", response=ActOut)
def act_request(request: HttpRequest, name: str) -> Any:
    """Ask a running VM for memory (`{"kind": "reclaim", "vm", "pages"}`) or hold a drill (`{"kind": "drill", "vm",
    "attack"}`). The gate answers when the host's next slice takes it up. Operators only."""
    user = operator(request)
    host = host_get(user=user, name=name)
    run = selectors.newest_run(user=user, host=host)
    if run is None:
        raise missing()
    asked = body_of(request)
    vm = selectors.vm_on(user=user, host=host, name=str(asked.get("vm", "")))
    data = {key: value for key, value in asked.items() if key not in ("kind", "vm")}
    return act_shown(services.act_request(by=user, run=run, kind=str(asked.get("kind", "")), vm=vm, data=data))


@router.post("/hosts/{name}/run/{wanted}", response=RunOut)
def run_want(request: HttpRequest, name: str, wanted: str) -> Any:
    """Pause, resume or cancel the host's run. Operators only."""
    user = operator(request)
    run = selectors.newest_run(user=user, host=host_get(user=user, name=name))
    if run is None:
        raise missing()
    services.run_want(by=user, run=run, wanted=wanted)
    return run_shown(selectors.run_get(user=user, pk=run.pk))


@router.get("/runs", response=list[RunOut])
def run_list(request: HttpRequest) -> Any:
    """The runs that you may watch, newest first."""
    return [run_shown(run) for run in selectors.runs_of(user=person(request))[:NEWEST]]


@router.get("/runs/{run_id}", response=RunOut)
def run_get(request: HttpRequest, run_id: int) -> Any:
    """One run."""
    return run_shown(selectors.run_get(user=person(request), pk=run_id))


@router.get("/runs/{run_id}/events", response=list[EventOut])
def event_list(request: HttpRequest, run_id: int, after: int = 0) -> Any:
    """What happened in the run and concerns you, oldest first, after the event of that number."""
    user = person(request)
    run = selectors.run_get(user=user, pk=run_id)
    view = selectors.view_of(user=user, run_id=str(run.pk))
    return selectors.log_of(run_id=run.pk, view=view or "", after=max(0, after))
