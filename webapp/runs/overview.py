"""What the pages of VMs and hosts show, put together from rows and from the engine's newest picture."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Count, Exists, Max, OuterRef, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from webapp.agreements import selectors as agreed
from webapp.agreements.models import Agreement, Conflict, Message, Negotiation, Seat
from webapp.agreements.wording import CHIPS
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.runs import selectors
from webapp.runs.models import Event, Run
from webapp.runs.picture import OPERATOR, RunPicture
from webapp.runs.streams import source
from webapp.tenants.models import VirtualMachine, VmQuerySet
from webapp.tenants.selectors import vms_of

if TYPE_CHECKING:
    from webapp.accounts.models import User

STALE_SECONDS: Final = 15  # a sign of life older than this reads "unknown", never healthy
REFUSALS_SHOWN: Final = 5
EVENTS_SHOWN: Final = 50
TLB_SHOWN: Final = 12
WAITING: Final = 20
LOOKS: Final = "abcdefg"
FIXED: Final = {"free": "free", "hypervisor": "hypervisor", "hsvm": "H-SVM", "other": "other"}
S = VirtualMachine.State

STATES: Final = {  # of a VM: words and look of the status
    S.STOPPED: ("Stopped", "neutral"),
    S.HELD: ("Held: an agreement is being sought", "warning"),
    S.STARTING: ("Starting", "progress"),
    S.RUNNING: ("Running", "ok"),
    S.STOPPING: ("Stopping", "progress"),
}
RUN_STATES: Final = {
    Run.State.RUNNING: ("Running", "ok"),
    Run.State.PAUSED: ("Paused", "warning"),
    Run.State.DONE: ("Done", "neutral"),
    Run.State.CANCELLED: ("Cancelled", "neutral"),
    Run.State.FAILED: ("Failed", "violation"),
}
OUTCOME_LOOKS: Final = {
    "BLOCKED": "blocked",
    "DETECTED": "detected",
    "SUCCEEDED": "succeeded",
    "OUT_OF_SCOPE": "out-of-scope",
    "NOT_APPLICABLE": "not-applicable",
    "ERROR": "error",
}


def ago(at: dt.datetime) -> str:
    """`4 s ago`, `12 min ago`, `3 h ago`."""
    seconds = max(0, int((timezone.now() - at).total_seconds()))
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


# -- a tenant's VMs


def vms_told(*, user: User) -> VmQuerySet:
    """The person's VMs with `open_conflicts`, the number of conflicts that are open about each."""
    told = Conflict.vms.through.objects.filter(virtualmachine=OuterRef("pk"), conflict__closed_at__isnull=True)
    count = told.order_by().values("virtualmachine").annotate(count=Count("pk")).values("count")
    return vms_of(user=user).annotate(open_conflicts=Coalesce(Subquery(count), 0))


def my_vms(*, user: User, vms: Iterable[VirtualMachine]) -> list[dict[str, Any]]:
    """The table of these VMs of `vms_told`, with the protection that is really in force and its evidence. Its queries
    are as many for one VM as for a hundred."""
    given = list(vms)
    bound = {
        (seat.vm_id, seat.negotiation.host_id): seat.negotiation.agreement
        for seat in Seat.objects.filter(vm__in=given, negotiation__agreement__in_force=True)
        .select_related("negotiation__agreement")
        .defer("negotiation__protocol")
    }
    running = [vm for vm in given if vm.state in (S.RUNNING, S.STOPPING) and hasattr(vm, "placement")]
    protections = _protections(user, running, bound) if running else {}
    idle = {"protection": "Nothing runs, so nothing is in force", "evidence": [], "checked": ""}
    rows = []
    for vm in given:
        host = vm.placement.host if hasattr(vm, "placement") else None
        agreement = bound.get((vm.pk, host.pk)) if host else None
        words, look = STATES[S(vm.state)]
        rows.append(
            {
                "vm": vm,
                "host": host,
                "state": words,
                "look": look,
                "agreement": agreement,
                "conflicts": vm.open_conflicts,  # type: ignore[attr-defined]  # of vms_told
                "may_start": vm.state == S.STOPPED and host is not None,
                "may_stop": vm.state == S.RUNNING,
                **protections.get(vm.pk, idle),
            }
        )
    return rows


def _protections(
    user: User, placed: list[VirtualMachine], bound: dict[tuple[int, int], Agreement]
) -> dict[int, dict[str, Any]]:
    """For each VM that runs, a statement with evidence: what protects it now, how many pages are its own, how its
    drills ended."""
    runs = selectors.newest_runs(runs=selectors.runs_of(user=user), hosts=[vm.placement.host_id for vm in placed])
    values: dict[str, dict[str, str]] = {}
    for vm in placed:
        agreement = bound.get((vm.pk, vm.placement.host_id))
        if agreement is not None and vm.name not in values:
            values |= agreed.values_of(agreement)
    drills: dict[int, list[dict[str, Any]]] = defaultdict(list)
    told = Event.objects.visible_to(user).filter(vm__in=placed, run__in=runs.values(), kind="drill").order_by()
    for row in told.values("vm", "outcome").annotate(count=Count("id"), last=Max("at")):
        drills[row["vm"]].append(row)
    return {
        vm.pk: _protection(vm, runs.get(vm.placement.host_id), values.get(vm.name, {}), drills[vm.pk]) for vm in placed
    }


def _protection(
    vm: VirtualMachine, run: Run | None, values: dict[str, str], drills: list[dict[str, Any]]
) -> dict[str, Any]:
    hardware = run is not None and run.scenario["machine"]["architecture"] == "hsvm"
    wanted = values.get("memory_protection", "none")
    protection = (
        f"H-SVM on{'' if wanted == 'hsvm' else ' (the host protects every VM)'}" if hardware else "None: nested paging"
    )
    evidence, checked = [], ""
    figures = run.figures.get(vm.name) if run else None
    if figures:
        evidence.append(f"{figures['owned']:,} of {plural(figures['mapped'], 'page')} owned by {vm.name}")
    if drills:
        counts = Counter({row["outcome"]: row["count"] for row in drills})
        told = [f"{counts['BLOCKED']} blocked", f"{counts['SUCCEEDED']} succeeded"]
        told += [
            f"{n} {word.lower().replace('_', ' ')}"
            for word, n in counts.items()
            if word not in ("BLOCKED", "SUCCEEDED")
        ]
        checked = ago(max(row["last"] for row in drills))
        evidence.append(f"attack drills: {', '.join(told)}, the last {checked}")
    else:
        evidence.append("no attack drill was held against it yet")
    return {"protection": protection, "evidence": evidence, "checked": checked}


def waiting_for(*, user: User) -> list[dict[str, Any]]:
    """Negotiations in which a proposal waits for this person's answer, soonest deadline first, at most WAITING."""
    given = Message.objects.filter(
        negotiation=OuterRef("negotiation"), vm=OuterRef("vm"), round=OuterRef("negotiation__round")
    )
    seats = Seat.objects.filter(vm__tenant__slug__in=user.tenant_slugs, negotiation__state=Negotiation.State.PROPOSED)
    open_ones = seats.filter(~Exists(given)).select_related("vm", "negotiation__host")
    found: dict[int, dict[str, Any]] = {}
    for seat in open_ones.order_by("negotiation__deadline_at", "id")[:WAITING]:
        if seat.vm.name not in seat.negotiation.protocol.get("answers", {}):  # else its delegate has answered
            waits = found.setdefault(seat.negotiation_id, {"negotiation": seat.negotiation, "vms": []})
            waits["vms"].append(seat.vm)
    return list(found.values())


def negotiations_shown(*, user: User, most: int = 20) -> list[dict[str, Any]]:
    """The newest negotiations with the word and look of their state."""
    rows = agreed.negotiations_of(user=user).defer("protocol").order_by("-id")[:most]
    return [
        {
            "negotiation": row,
            "word": CHIPS[Negotiation.State(row.state)][0],
            "look": CHIPS[Negotiation.State(row.state)][1],
        }
        for row in rows
    ]


def refusals(*, user: User) -> list[Event]:
    """What was refused about the person's VMs, newest first."""
    found = Event.objects.visible_to(user).filter(kind="denied").select_related("vm", "run__host").order_by("-id")
    return list(found[:REFUSALS_SHOWN])


def asked_shown(*, user: User) -> list[dict[str, Any]]:
    """What the operator asks of the person's VMs: how much, and until when an answer counts."""
    return [
        {"act": act, "pages": act.data["pages"], "until": dt.datetime.fromisoformat(act.data["ask_until"])}
        for act in selectors.asked_of(user=user)
    ]


# -- hosts


def hosts_shown(*, hosts: Iterable[Host] | None = None) -> list[dict[str, Any]]:
    """The operator's table of these hosts, or of all. A host whose run gave no sign of life is unknown, not healthy.
    Its queries are as many for one host as for a hundred."""
    given = list(Host.objects.all() if hosts is None else hosts)
    runs = selectors.newest_runs(runs=Run.objects.all(), hosts=[host.pk for host in given])
    agreements = {row.host_id: row for row in Agreement.objects.filter(host__in=given, in_force=True).defer("envelope")}
    conflicts = agreed.open_conflicts_by_host(hosts=given)
    vms: dict[int, Counter[str]] = defaultdict(Counter)
    counted = VirtualMachine.objects.filter(placement__host__in=given).order_by()
    for pk, state, count in counted.values_list("placement__host", "state").annotate(count=Count("id")):
        vms[pk][state] = count
    rows = []
    for host in given:
        run, here = runs.get(host.pk), vms[host.pk]
        rows.append(
            {
                "host": host,
                "run": run,
                **_life(run),
                "memory_mib": document_of(host)["capacity"]["memory_mib"],
                "running": here[S.RUNNING],
                "others": sum(here.values()) - here[S.RUNNING],
                "agreement": agreements.get(host.pk),
                "conflicts": conflicts.get(host.pk, 0),
                "wrong": sum(row["mapped"] - row["owned"] for row in run.figures.values()) if run else 0,
            }
        )
    return rows


def _life(run: Run | None) -> dict[str, str]:
    """State in words and the age of the newest sign of life."""
    if run is None:
        return {"state": "Idle", "look": "neutral", "age": "no VM has run here yet"}
    words, look = RUN_STATES[Run.State(run.state)]
    at = run.heard_at or run.started_at  # type: ignore[attr-defined]  # of selectors.newest_runs
    if run.state == Run.State.RUNNING and (timezone.now() - at).total_seconds() > STALE_SECONDS:
        return {"state": "Unknown", "look": "unknown", "age": f"last heard of {ago(at)}"}
    return {"state": words, "look": look, "age": ago(at)}


def vms_on(*, host: Host, values: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """The VMs that run on the host, each with what its agreement (`values` in force) answers to a reclaim."""
    running = VirtualMachine.objects.filter(placement__host=host).exclude(state=S.STOPPED).select_related("tenant")
    told = {
        "on": "The agreement allows it: the guest gives spare pages back.",
        "ask": "The owner is asked first; nothing happens without a yes within five minutes.",
        "none": "The agreement forbids it: it will be refused and both sides are told.",
    }
    rows = []
    for vm in running.order_by("name"):
        words, look = STATES[S(vm.state)]
        balloon = values.get(vm.name, {}).get("balloon", "none")
        rows.append({"vm": vm, "state": words, "look": look, "balloon": balloon, "reclaim_words": told[balloon]})
    return rows


# -- the newest picture of a run, for pages without script


def picture_now(*, run: Run, view: str) -> dict[str, Any]:
    """Owners, counters and TLB of the run at page load, as the view may see them; empty while nothing is known."""
    newest = run.checkpoints.defer("sealed", "picture").first()
    picture = source.stored(run.pk)
    if picture is None or newest is None:
        return {}
    counters = json.loads(picture.keyframe(run.pk, "counters", view))
    data = counters["data"]
    letters = {vm["name"]: vm["letter"] for vm in data["vms"]}
    total = sum(data["owners"].values()) or 1
    owners = [
        {
            "look": look_of(name, letters),
            "letter": letters.get(name, ""),
            "name": FIXED.get(name, name),
            "frames": f"{count:,}",
            "share": f"{100 * count / total:.1f} %",
        }
        for name, count in data["owners"].items()
    ]
    vms = [{**vm, "look": look_of(vm["name"], letters)} for vm in data["vms"]]
    shown = {
        "owners": owners,
        "frames": f"{total:,}",
        "seq": counters["seq"],
        "at": newest.made_at,
        "counters": data,
        "vms": vms,
    }
    return {**shown, **_tlb_now(picture, run, letters)} if view == OPERATOR else shown


def look_of(name: str, letters: dict[str, str]) -> str:
    """The class of an owner's colour: by its letter, so that map, TLB and tables agree."""
    if name in FIXED:
        return name
    letter = letters.get(name, "").lower()
    return letter if letter and letter in LOOKS else "other"


def _tlb_now(picture: RunPicture, run: Run, letters: dict[str, str]) -> dict[str, Any]:
    data = json.loads(picture.keyframe(run.pk, "tlb", OPERATOR))["data"]
    names = {row["byte"]: row["name"] for row in picture.state.vms}
    rows = []
    for index, vpn, byte, size, perm, age, state, *_ in data["entries"][:TLB_SHOWN]:
        core, level, tlb_set, way = picture.state.geometry.place(index)
        owner = names.get(byte, "other")
        rows.append(
            {
                "core": core, "level": level, "set": tlb_set, "way": way, "vpn": vpn,
                "look": look_of(owner, letters), "letter": letters.get(owner, ""), "owner": owner,
                "size": "2 MiB" if size == 512 else "4 KiB", "perm": perm, "age": age, "state": state,
            }
        )  # fmt: skip
    stale = sum(entry[6] == "STALE" for entry in data["entries"])
    return {"entries": rows, "used": len(data["entries"]), "stale": stale}


def events_shown(*, user: User, run: Run) -> list[dict[str, Any]]:
    """The newest events of the run that concern the person, newest first, as the log's partial wants them."""
    return [
        {
            **selectors.event_shown(event, number=event.number, view=OPERATOR if user.is_operator else ""),
            "at": event.at,
            "outcome_class": OUTCOME_LOOKS.get(event.outcome, ""),
        }
        for event in selectors.events_of(user=user, run=run)[:EVENTS_SHOWN]
    ]
