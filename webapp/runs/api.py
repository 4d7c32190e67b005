"""Run and watch by API: start and stop of VMs, hosts, runs, their events, and the operator's acts."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.agreements import selectors as agreed
from webapp.fleet.models import Host
from webapp.fleet.selectors import host_get, hosts_of, hosts_open
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs import acts, overview, selectors, services
from webapp.runs.models import Act, Run
from webapp.strictjson import load
from webapp.tenants.selectors import missing, vm_get

router = Router(tags=["runs"])
MOST_BYTES = 4096
HOSTS_OFFERED = 50
Number = Annotated[int, Field(ge=1, lt=2**63)]
ACT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["kind", "vm"],
                    "additionalProperties": False,
                    "properties": {
                        "kind": {"enum": [*acts.KINDS, "drill"]},
                        "vm": {"type": "string", "maxLength": 63},
                        "pages": {"type": "integer", "minimum": 1, "maximum": acts.MOST_PAGES},
                        "other": {"type": "string", "maxLength": 63},
                        "form": {"enum": list(acts.FORMS)},
                        "reader": {"enum": list(acts.READERS)},
                        "host": {"type": "string", "maxLength": 63},
                        "attack": {"enum": list(services.DRILLS)},
                    },
                },
                "examples": {
                    "reclaim": {"value": {"kind": "reclaim", "vm": "their-vm", "pages": 64}},
                    "dump": {"value": {"kind": "core_dump", "vm": "their-vm", "form": "sealed"}},
                    "move": {"value": {"kind": "migrate", "vm": "their-vm", "host": "h2"}},
                    "drill": {"value": {"kind": "drill", "vm": "their-vm", "attack": "A01"}},
                },
            }
        },
    }
}


class StartOut(Schema):
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


class BeforeOut(Schema):
    """What the agreement in force answers to an act on a VM; `option` is the value of the field that is a choice."""

    kind: str
    option: str
    decision: str
    code: str | None
    switch: str | None
    value: str | None
    words: str


class GuestOut(Schema):
    name: str
    state: str
    acts: list[BeforeOut]
    reclaim: str
    reclaim_words: str


class AttackOut(Schema):
    attack: str
    title: str


class AskedActOut(Schema):
    id: int
    kind: str
    vm: str


class HostDetailOut(HostOut):
    memory_mib: int
    agreement: int | None
    guests: list[GuestOut]
    drills: list[AttackOut]
    asked: list[AskedActOut]


class HostNameOut(Schema):
    name: str


class ProtectionOut(Schema):
    vm: str
    state: str
    protection: str
    evidence: list[str]
    checked: str
    agreement: int | None
    open_conflicts: int
    may_start: bool
    may_stop: bool


class WaitingOut(Schema):
    negotiation: int
    vms: list[str]
    round: int
    deadline_at: dt.datetime | None


class AskedOut(Schema):
    id: int
    kind: str
    vm: str
    host: str
    pages: int | None
    to: str
    until: dt.datetime


class ConsentIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"consent": True}]})
    consent: bool


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


class AfterOut(ActOut):
    asked: dict[str, Any]
    asked_at: dt.datetime
    decision: str
    switch: str
    value: str
    words: str


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


@router.post("/vms/{name}/start", response=StartOut)
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
    return Status(204, None)


@router.get("/protection", response=Listed[ProtectionOut])
def protection_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Your VMs with the protection that is really in force, and its evidence."""
    rows = [
        {
            "vm": row["vm"].name,
            "agreement": row["agreement"].pk if row["agreement"] else None,
            "open_conflicts": row["conflicts"],
            "state": row["vm"].state,
            **{field: row[field] for field in ("protection", "evidence", "checked", "may_start", "may_stop")},
        }
        for row in overview.my_vms(user=person(request))
    ]
    return pages(request, rows, paging, by="vm")


@router.get("/waiting", response=Listed[WaitingOut])
def waiting_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Negotiations in which a proposal waits for your answer."""
    rows = [
        {
            "negotiation": row["negotiation"].pk,
            "vms": [vm.name for vm in row["vms"]],
            "round": row["negotiation"].round,
            "deadline_at": row["negotiation"].deadline_at,
        }
        for row in overview.waiting_for(user=person(request))
    ]
    return pages(request, rows, paging, by="negotiation")


@router.get("/asked", response=Listed[AskedOut])
def asked_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """What operators ask of your VMs and nobody has answered yet: how many pages or to which host, and until when an
    answer counts."""
    rows = [
        {
            "id": row["act"].pk,
            "kind": row["act"].kind,
            "vm": row["act"].vm.name,
            "host": row["act"].run.host.name,
            "pages": row["pages"],
            "to": row["to"],
            "until": row["until"],
        }
        for row in overview.asked_shown(user=person(request))
    ]
    return pages(request, rows, paging, by="id")


@router.post("/asked/{int:number}", response={204: None})
def asked_answer(request: HttpRequest, number: Number, given: ConsentIn) -> Any:
    """Agree to what the operator asks of a VM of yours, or refuse it. 409: answered already, or too late."""
    user = person(request)
    services.act_answer(by=user, act=selectors.asked_get(user=user, pk=number), consent=given.consent)
    return Status(204, None)


@router.get("/host-names", response=Listed[HostNameOut])
def host_name_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The hosts on which you may place a VM."""
    return pages(request, hosts_open(user=person(request)), paging, by="name", shown=lambda host: {"name": host.name})


def host_shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": row["host"].name,
        "state": row["state"],
        "age": row["age"],
        "running": row["running"],
        "wrong_pages": row["wrong"],
        "open_conflicts": row["conflicts"],
        "run": row["run"].pk if row["run"] else None,
    }


@router.get("/hosts", response=Listed[HostOut])
def host_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Every host with its state and the age of what is known. Operators only."""
    operator(request)
    return pages(request, [host_shown(row) for row in overview.hosts_shown()], paging, by="name")


@router.get("/hosts/{name}", response=HostDetailOut)
def host_detail(request: HttpRequest, name: str) -> Any:
    """One host: who runs there, what the agreement in force answers to each act on each VM, the drills, and what is
    asked of it. Operators only."""
    user = operator(request)
    rows = overview.hosts_shown(hosts=overview.hosts_of(hosts=hosts_of(user=user).filter(name=name)))
    if not rows:
        raise missing()
    row, host = rows[0], rows[0]["host"]
    agreement = agreed.agreement_in_force(host=host)
    hosts = list(hosts_open(user=user).exclude(pk=host.pk).order_by("name")[:HOSTS_OFFERED])
    asked = selectors.waiting_acts(run=row["run"]) if row["run"] else ()
    guests = overview.vms_on(host=host, values=agreed.values_of(agreement) if agreement else {})
    return {
        **host_shown(row),
        "memory_mib": row["memory_mib"],
        "agreement": agreement.pk if agreement else None,
        "guests": [
            {
                "name": guest["vm"].name,
                "state": guest["vm"].state,
                "reclaim": guest["balloon"],
                "reclaim_words": guest["reclaim_words"],
                "acts": before_shown(row["run"], host, agreement, guests, guest["vm"].name, hosts),
            }
            for guest in guests
        ],
        "drills": [{"attack": attack, "title": title} for attack, title in services.DRILLS.items()],
        "asked": [{"id": act.pk, "kind": act.kind, "vm": act.vm.name if act.vm else ""} for act in asked],
    }


def before_shown(
    run: Run | None, host: Host, agreement: Any, guests: list[dict[str, Any]], vm: str, hosts: list[Host]
) -> list[dict[str, Any]]:
    """What may be asked of this VM, with the gate's answer to each choice; nothing while no run goes on."""
    if run is None:
        return []
    vms = [guest["vm"] for guest in guests]
    rows = overview.acts_before(run=run, host=host, agreement=agreement, vms=vms, vm=vm, hosts=hosts)
    return [
        {
            "kind": row["kind"].name,
            "option": each["value"],
            "value": each["value_in_force"],
            **{name: each[name] for name in ("decision", "code", "switch", "words")},
        }
        for row in rows
        for each in row["answers"]
    ]


@router.get("/hosts/{name}/acts", response=Listed[AfterOut])
def act_list(request: HttpRequest, name: str, paging: Query[Paging]) -> Any:
    """What was asked of the VMs of the host's newest run and what came of it, newest first. Operators only."""
    user = operator(request)
    run = selectors.newest_run(user=user, host=host_get(user=user, name=name))
    found = selectors.acts_of(run=run).filter(kind__in=list(acts.KINDS)) if run else Act.objects.none()
    return pages(request, found, paging, by="-id", shown=after_shown)


def after_shown(act: Act) -> dict[str, Any]:
    [row] = overview.acts_after(acts_done=[act])
    return {
        **act_shown(act),
        "asked": {name: act.data[name] for name in acts.KINDS[act.kind].fields if name in act.data},
        "asked_at": act.asked_at,
        "decision": act.data.get("decision", ""),
        "switch": act.data.get("switch") or "",
        "value": act.data.get("value_in_force") or "",
        "words": row["says"] or row["word"],
    }


@router.post("/hosts/{name}/acts", response=ActOut, openapi_extra=ACT_BODY)
def act_request(request: HttpRequest, name: str) -> Any:
    """Ask something of a running VM, or hold a drill. Beside `vm` each kind takes its own fields: `pages` (reclaim,
    swap_out, swap_in), `other` and `pages` (page_merge), `form` (core_dump, snapshot), `reader` and `pages`
    (introspect), `host` (migrate), `attack` (drill). The gate answers when the host's next slice takes it up. Operators
    only."""
    user = operator(request)
    host = host_get(user=user, name=name)
    run = selectors.newest_run(user=user, host=host)
    if run is None:
        raise missing()
    given = body_of(request)
    vm = selectors.vm_on(user=user, host=host, name=str(given.get("vm", "")))
    data = {key: value for key, value in given.items() if key not in ("kind", "vm")}
    return act_shown(services.act_request(by=user, run=run, kind=str(given.get("kind", "")), vm=vm, data=data))


@router.post("/hosts/{name}/run/{wanted}", response=RunOut)
def run_want(request: HttpRequest, name: str, wanted: str) -> Any:
    """Pause, resume or cancel the host's run. Operators only."""
    user = operator(request)
    run = selectors.newest_run(user=user, host=host_get(user=user, name=name))
    if run is None:
        raise missing()
    services.run_want(by=user, run=run, wanted=wanted)
    return run_shown(selectors.run_get(user=user, pk=run.pk))


@router.get("/runs", response=Listed[RunOut])
def run_list(
    request: HttpRequest,
    paging: Query[Paging],
    host: Annotated[str, Field(max_length=63)] = "",
    state: Annotated[str, Field(max_length=16)] = "",
) -> Any:
    """The runs that you may watch, newest first."""
    found = selectors.runs_of(user=person(request))
    found = found.filter(host__name=host) if host else found
    found = found.filter(state=state) if state else found
    return pages(request, found, paging, by="-id", shown=run_shown)


@router.get("/runs/{int:run_id}", response=RunOut)
def run_get(request: HttpRequest, run_id: Number) -> Any:
    """One run."""
    return run_shown(selectors.run_get(user=person(request), pk=run_id))


@router.get("/runs/{int:run_id}/events", response=Listed[EventOut])
def event_list(
    request: HttpRequest, run_id: Number, paging: Query[Paging], after: Annotated[int, Field(ge=0, lt=2**53)] = 0
) -> Any:
    """What happened in the run and concerns you, oldest first, after the event of that number; the newest 200."""
    user = person(request)
    run = selectors.run_get(user=user, pk=run_id)
    view = selectors.view_of(user=user, run_id=str(run.pk))
    rows = selectors.log_of(run_id=run.pk, view=view or "", after=after)
    return pages(request, rows, paging, by="number")


@router.get("/runs/{int:run_id}/picture", response=dict[str, Any])
def picture_get(request: HttpRequest, run_id: Number) -> Any:
    """Owners, counters and (operators) the TLB as of the newest checkpoint; empty while nothing is known."""
    user = person(request)
    run = selectors.run_get(user=user, pk=run_id)
    view = selectors.view_of(user=user, run_id=str(run.pk))
    return overview.picture_now(run=run, view=view or "")
