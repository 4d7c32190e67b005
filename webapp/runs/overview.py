"""What the pages of VMs and hosts show, put together from rows and from the engine's newest picture."""

from __future__ import annotations

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db.models import Count, Exists, FilteredRelation, Max, Min, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from webapp.agreements import selectors as agreed
from webapp.agreements.models import Agreement, Conflict, Consent, Message, Negotiation, Seat
from webapp.agreements.wording import CHIPS
from webapp.audit.models import Entry
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.fleet.selectors import hosts_of as hosts_of_site
from webapp.runs import acts, gate, selectors
from webapp.runs.engine import wire
from webapp.runs.models import Act, Event, Run
from webapp.runs.picture import OPERATOR, RunPicture, whole
from webapp.runs.streams import source
from webapp.tenants.models import Policy, VirtualMachine, VmQuerySet
from webapp.tenants.selectors import missing, vms_of

if TYPE_CHECKING:
    from django.db.models import QuerySet

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
WANTED_STATES: Final = {"pause": "Pausing", "cancel": "Stopping"}
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
    if seconds >= 3600:
        return _("%(number)d h ago") % {"number": seconds // 3600}
    if seconds >= 60:
        return _("%(number)d min ago") % {"number": seconds // 60}
    return _("%(number)d s ago") % {"number": seconds}


# -- a tenant's VMs


class Facts(NamedTuple):
    """What the rows of the table need beside what with_facts brought: the number of queries does not grow with them."""

    values: dict[int, dict[str, dict[str, str]]]  # by host, by VM: the value of each switch in force
    versions: dict[str, int]  # by VM: the version of its wishes that the agreement in force was made with
    drills: dict[int, list[dict[str, Any]]]  # by VM, in the newest run: how often each outcome, the last when
    negotiations: dict[int, Negotiation]  # by VM: the newest that it asked for


def with_facts(*, user: User, vms: VmQuerySet) -> VmQuerySet:
    """The VMs with the agreement in force on their host (`terms`), the newest run there that the person may watch, the
    number of open conflicts, the newest negotiation that it asked for, when the wishes were last saved, and whether a
    maintenance of its host waits for an answer."""
    runs = selectors.runs_of(user=user).filter(host=OuterRef("placement__host")).order_by("-pk")
    through: Any = Conflict.vms.through._default_manager
    open_ones = through.filter(virtualmachine=OuterRef("pk"), conflict__closed_at__isnull=True).order_by()
    asked = Negotiation.objects.filter(requester=OuterRef("pk")).order_by("-pk")
    saved = Policy.objects.filter(vm=OuterRef("pk")).order_by("-created_at")
    found: Any = vms.annotate(
        terms=FilteredRelation("placement__host__agreements", condition=Q(placement__host__agreements__in_force=True)),
        run=Subquery(runs.values("pk")[:1]),
        run_figures=Subquery(runs.values("figures")[:1]),
        run_machine=Subquery(runs.values("scenario__machine__architecture")[:1]),
        open_conflicts=Coalesce(
            Subquery(open_ones.values("virtualmachine").annotate(count=Count("pk")).values("count")), 0
        ),
        newest=Subquery(asked.values("pk")[:1]),
        saved_at=Subquery(saved.values("created_at")[:1]),
        maintenance=Exists(
            Consent.objects.filter(vm=OuterRef("pk"), maintenance__state="planned", state=Consent.State.ASKED)
        ),
    )
    rows: VmQuerySet = found.select_related("tenant", "placement__host", "terms")
    return rows


def my_vms(
    *, user: User, vms: Iterable[Any] | None = None, negotiations: Iterable[Negotiation] | None = None
) -> list[dict[str, Any]]:
    """The table of the person's VMs (or of these of them, which with_facts gave), with the protection that is really
    in force; `negotiations` if they were read already."""
    rows: list[Any] = list(with_facts(user=user, vms=vms_of(user=user)) if vms is None else vms)
    facts = _facts(user, rows, negotiations_about(user=user, vms=rows) if negotiations is None else negotiations)
    return [_vm_row(vm, facts) for vm in rows]


def negotiations_about(*, user: User, vms: Iterable[Any], most: int = 0) -> list[Negotiation]:
    """The newest negotiations that each of these VMs asked for and the `most` newest of all, newest first."""
    visible = agreed.negotiations_of(user=user).order_by("-id")
    wanted = Q(pk__in=[vm.newest for vm in vms if vm.newest])
    if most:
        wanted |= Q(pk__in=visible.values("pk")[:most])
    return list(visible.filter(wanted).defer("protocol"))


def _facts(user: User, vms: list[Any], negotiations: Iterable[Negotiation]) -> Facts:
    own = [vm.pk for vm in vms]
    values: dict[int, dict[str, dict[str, str]]] = {}
    versions: dict[str, int] = {}
    for vm in vms:
        vm.terms = getattr(vm, "terms", None)  # the join leaves the name out where it finds nothing
        if vm.terms:
            vm.terms.host = vm.placement.host
    for host, agreement in {vm.terms.host_id: vm.terms for vm in vms if vm.terms}.items():
        predicate = agreed.predicate_of(agreement)
        assignment = predicate["assignment"]
        values[host] = {name: {**assignment["host"], **view} for name, view in assignment["vms"].items()}
        versions |= {row["id"]: row["policy_version"] for row in predicate["parties"] if row["policy_version"]}
    runs = {vm.run for vm in vms if vm.run}
    held = Event.objects.visible_to(user).filter(vm__in=own, kind="drill", run__in=runs).order_by()
    drills: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in held.values("vm", "outcome").annotate(count=Count("pk"), last=Max("at")):
        drills[row["vm"]].append({**row})
    newest: dict[int, Negotiation] = {}
    for negotiation in negotiations:  # newest first
        newest.setdefault(negotiation.requester_id, negotiation)
    return Facts(values, versions, drills, newest)


def _vm_row(vm: Any, facts: Facts) -> dict[str, Any]:
    host = vm.placement.host if hasattr(vm, "placement") else None
    words, look = STATES[S(vm.state)]
    view = facts.values.get(host.pk if host else 0, {}).get(vm.name)
    newest = facts.negotiations.get(vm.pk)
    # wishes are checked when they are saved, and again at each start and move
    checks = [at for at in (vm.saved_at, newest.created_at if newest else None) if at]
    return {
        "vm": vm,
        "host": host,
        "state": words,
        "look": look,
        "progress": progress_of(vm, newest),
        "agreement": vm.terms if view is not None else None,
        "agreed_version": facts.versions.get(vm.name) if view is not None else None,
        "conflicts": vm.open_conflicts,
        "maintenance": vm.maintenance,
        "last_check": ago(max(checks)) if checks and host else "",
        "may_start": vm.state == S.STOPPED and host is not None,
        "may_stop": vm.state == S.RUNNING,
        **_protection(vm, host, view or {}, facts.drills.get(vm.pk, [])),
    }


def progress_of(vm: VirtualMachine, newest: Negotiation | None) -> dict[str, Any] | None:
    """How far a start or a move has come, by the rows that decide it, so that it survives everything."""
    if newest is None or newest.state not in (*Negotiation.OPEN, Negotiation.State.ENFORCED):
        return None
    moves = newest.moves and vm.state in (S.RUNNING, S.STOPPING) and newest.state in Negotiation.OPEN
    if not moves and vm.state not in (S.HELD, S.STARTING):
        return None
    at = 0 if newest.state == Negotiation.State.DRAFT else 1
    at = 2 if vm.state == S.STARTING or newest.state == Negotiation.State.SIGNED else at
    steps = [_("Checking"), _("Negotiating"), _("Moving") if moves else _("Starting")]
    says = {
        Negotiation.State.DRAFT: _("It waits its turn behind another start on this host."),
        Negotiation.State.PROPOSED: _("A proposal waits for answers."),
    }.get(Negotiation.State(newest.state), "")
    return {
        "steps": [
            (word, "done" if number < at else "now" if number == at else "todo") for number, word in enumerate(steps)
        ],
        "says": says,
        "until": newest.deadline_at if newest.state == Negotiation.State.PROPOSED else None,
        "negotiation": newest,
        "to": newest.host if moves else None,
    }


def _protection(vm: Any, host: Host | None, view: dict[str, str], drills: list[dict[str, Any]]) -> dict[str, Any]:
    """A statement with evidence: what protects the VM now, how many pages are its own, how its drills ended."""
    if vm.state not in (S.RUNNING, S.STOPPING) or host is None:
        return {"protection": _("Nothing runs, so nothing is in force"), "evidence": [], "checked": "", "drilled": ""}
    hardware = vm.run_machine == "hsvm"
    wanted = view.get("memory_protection", "none")
    protection = _("None: nested paging")
    if hardware:
        protection = _("H-SVM on") if wanted == "hsvm" else _("H-SVM on (the host protects every VM)")
    evidence, checked = [], ""
    figures = (vm.run_figures or {}).get(vm.name)
    if figures:
        told = {"owned": f"{figures['owned']:,}", "pages": f"{figures['mapped']:,}", "vm": vm.name}
        evidence.append(
            ngettext(
                "%(owned)s of %(pages)s page owned by %(vm)s",
                "%(owned)s of %(pages)s pages owned by %(vm)s",
                figures["mapped"],
            )
            % told
        )
    if drills:
        counts = {row["outcome"]: row["count"] for row in drills}
        words = [f"{counts.get('BLOCKED', 0)} {_('blocked')}", f"{counts.get('SUCCEEDED', 0)} {_('succeeded')}"]
        words += [
            f"{count} {outcome.lower().replace('_', ' ')}"
            for outcome, count in counts.items()
            if outcome not in ("BLOCKED", "SUCCEEDED")
        ]
        checked = ago(max(row["last"] for row in drills))
        evidence.append(
            _("attack drills: %(outcomes)s, the last %(ago)s") % {"outcomes": ", ".join(words), "ago": checked}
        )
    else:
        evidence.append(_("no attack drill was held against it yet"))
    return {
        "protection": protection,
        "evidence": evidence,
        "checked": checked,
        "drilled": "hsvm" if hardware else "nested",  # the machine on which the whole drill shows what it withstands
    }


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


def negotiations_shown(*, negotiations: Iterable[Negotiation]) -> list[dict[str, Any]]:
    """Negotiations with the word and look of their state."""
    return [
        {
            "negotiation": row,
            "word": CHIPS[Negotiation.State(row.state)][0],
            "look": CHIPS[Negotiation.State(row.state)][1],
        }
        for row in negotiations
    ]


def refusals(*, user: User) -> list[Event]:
    """What was refused about the person's VMs, newest first."""
    found = Event.objects.visible_to(user).filter(kind="denied").select_related("vm", "run__host").order_by("-id")
    return list(found[:REFUSALS_SHOWN])


ACTORS: Final = {  # who did what a kind of event tells; nobody else acts on a running VM of somebody else here
    "denied": gettext_lazy("the operator of the host"),
    "drill": gettext_lazy("an attack drill, in the part of a hypervisor that was taken over"),
}


def conduct_of(*, user: User) -> list[dict[str, Any]]:
    """Acts against each VM of the person that were refused or tried in a drill: what, by which check, how often, when
    last. Only the person's own VMs, and only the role of who acted: neighbours stay pseudonyms of the agreement."""
    rows = (
        Event.objects.filter(vm__in=vms_of(user=user).values("pk"), kind__in=list(ACTORS))
        .order_by()
        .values("vm__name", "kind", "outcome", "check_name", "run__host__name")
        .annotate(count=Count("pk"), first=Min("at"), last=Max("at"))
        .order_by("-last")
    )
    return [
        {
            **row,
            "vm": row["vm__name"],
            "host": row["run__host__name"],
            "who": ACTORS[row["kind"]],
            "look": OUTCOME_LOOKS.get(row["outcome"], "blocked"),
            "word": row["outcome"].replace("_", " ") or "REFUSED",
            "means": _meaning(row["kind"], row["outcome"]),
        }
        for row in rows
    ]


def _meaning(kind: str, outcome: str) -> str:
    """What a line of conduct means for the owner, in one sentence."""
    if kind == "denied":
        return _("Somebody asked for what your agreement forbids. It was refused before anything changed.")
    return {
        "BLOCKED": _("The attack was really tried and stopped by the check."),
        "DETECTED": _("The attack was noticed, not prevented: look at the event and ask the operator."),
        "SUCCEEDED": _("The attack reached its aim: nothing that is in force protects from it."),
    }.get(outcome, _("The drill says nothing about your protection here."))


def asked_shown(*, user: User) -> list[dict[str, Any]]:
    """What the operator asks of the person's VMs: how much or where to, and until when an answer counts."""
    return [
        {
            "act": act,
            "pages": act.data.get("pages"),
            "to": act.data.get("host", ""),
            "until": dt.datetime.fromisoformat(act.data["ask_until"]),
        }
        for act in selectors.asked_of(user=user)
    ]


# -- hosts


def hosts_of(*, hosts: QuerySet[Host]) -> QuerySet[Host]:
    """The hosts with what hosts_shown counts about each: open conflicts, VMs that run, and all others."""

    def count(rows: QuerySet[Any], by: str) -> Coalesce:
        counted = rows.filter(**{by: OuterRef("pk")}).order_by().values(by).annotate(count=Count("pk"))
        return Coalesce(Subquery(counted.values("count")), 0)

    here = VirtualMachine.objects.all()
    return hosts.annotate(
        open_conflicts=count(Conflict.objects.filter(closed_at__isnull=True), "host"),
        running=count(here.filter(state=S.RUNNING), "placement__host"),
        others=count(here.exclude(state=S.RUNNING), "placement__host"),
    )


def host_watched(*, user: User, name: str) -> Any:
    """A host for its operator, with what hosts_of counts, the agreement in force (`terms`) and `moved`, as
    selectors.moved_for gives it: read at once with the host, so what comes later has the page fetched anew."""
    newest = Entry.objects.order_by("-seq").values("seq")
    hosts: QuerySet[Any] = hosts_of(hosts=hosts_of_site(user=user)).annotate(
        terms=FilteredRelation("agreements", condition=Q(agreements__in_force=True)),
        moved=Coalesce(Subquery(newest[:1]) + 1, 0),
    )
    host = hosts.select_related("terms").filter(name=name).first()
    if host is None:
        raise missing()
    host.terms = getattr(host, "terms", None)  # the join leaves the name out where it finds nothing
    return host


def hosts_shown(*, hosts: Iterable[Any] | None = None) -> list[dict[str, Any]]:
    """The operator's table of these hosts of hosts_of, or of all in service. A host whose run gave no sign of life is
    unknown, not healthy. Its queries are as many for one host as for a hundred."""
    given = list(hosts_of(hosts=Host.objects.filter(retired_at__isnull=True)) if hosts is None else hosts)
    runs = selectors.newest_runs(runs=Run.objects.all(), hosts=[host.pk for host in given])
    agreements = {row.host_id: row for row in Agreement.objects.filter(host__in=given, in_force=True).defer("envelope")}
    return [host_row(host, runs.get(host.pk), agreements.get(host.pk)) for host in given]


def host_row(host: Any, run: Run | None, agreement: Agreement | None) -> dict[str, Any]:
    return {
        "host": host,
        "run": run,
        **_life(run),
        "memory_mib": document_of(host)["capacity"]["memory_mib"],
        "running": host.running,
        "others": host.others,
        "agreement": agreement,
        "conflicts": host.open_conflicts,
        "wrong": sum(row["mapped"] - row["owned"] for row in run.figures.values()) if run else 0,
    }


def _life(run: Run | None) -> dict[str, str]:
    """State in words and the age of the newest sign of life."""
    if run is None:
        return {"state": "Idle", "look": "neutral", "age": "no VM has run here yet"}
    words, look = run_state(run)
    at = run.heard_at or run.started_at  # type: ignore[attr-defined]  # of selectors.newest_runs
    if run.state == Run.State.RUNNING and (timezone.now() - at).total_seconds() > STALE_SECONDS:
        return {"state": "Unknown", "look": "unknown", "age": f"last heard of {ago(at)}"}
    return {"state": words, "look": look, "age": ago(at)}


def run_state(run: Run) -> tuple[str, str]:
    """The state in a word, and its look. What was asked for and waits for the next slice is told as it is."""
    if run.state == Run.State.RUNNING and run.wanted:
        return WANTED_STATES[run.wanted], "progress"
    return RUN_STATES[Run.State(run.state)]


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


def acts_before(
    *, run: Run, host: Host, agreement: Agreement | None, vms: list[VirtualMachine], vm: str, hosts: Iterable[Host] = ()
) -> list[dict[str, Any]]:
    """Each act that may be asked of the VM, with what can be chosen and what the agreement in force answers to each
    choice. `vms` are those that run on the host; without `hosts` the move is left to a page of its own."""
    terms = gate.terms_of(host=host, agreement=agreement, vms=vms)
    facts = gate.facts_of(run=run, host=host, vm=vm, hosts=hosts, others=[each.name for each in vms])
    return [
        _act_row(kind, vm, facts, terms, agreement) for kind in acts.KINDS.values() if kind.name != "migrate" or hosts
    ]


def _act_row(
    kind: acts.Kind, vm: str, facts: acts.Facts, terms: gate.Terms, agreement: Agreement | None
) -> dict[str, Any]:
    chosen = acts.options(kind, facts)
    answers = []
    for value, label in chosen["values"].items() if chosen else [("", "")]:
        data = {"pages": 1, **({chosen["field"]: value} if chosen else {})}
        answered = gate.answer(kind=kind, vm=vm, data=data, facts=facts, terms=terms)
        words = gate.words_before(answered, version=agreement.version if agreement else None)
        decision = answered["decision"]
        facts_told = {name: answered[name] for name in ("decision", "code", "switch", "value_in_force")}
        answers.append(
            {
                "value": value,
                "label": label,
                "word": DECISION_WORDS[decision][0],
                "look": DECISION_WORDS[decision][1],
                **facts_told,
                "words": words,
            }
        )
    return {
        "kind": kind,
        "button": str(kind.button) % {"vm": vm},
        "field": chosen["field"] if chosen else "",
        "pages": "pages" in kind.fields,
        "answers": answers,
        "alike": len({each["words"] for each in answers}) == 1,
    }


def move_before(
    *, run: Run, host: Host, agreement: Agreement | None, vms: list[VirtualMachine], vm: str
) -> dict[str, Any]:
    """What the agreement answers to a move to a near host that proves what it runs: a no to that is a no to all."""
    nearest = {"nearest": {**document_of(host), "attested": True}}
    terms = gate.terms_of(host=host, agreement=agreement, vms=vms)
    facts = gate.facts_of(run=run, host=host, vm=vm)._replace(hosts=nearest)
    answer: dict[str, Any] = _act_row(acts.KINDS["migrate"], vm, facts, terms, agreement)["answers"][0]
    return answer


DECISION_WORDS: Final = {
    "allow": ("allowed", "ok"),
    "ask": ("the owner is asked", "warning"),
    "deny": ("forbidden", "violation"),
}


def acts_after(*, acts_done: Iterable[Act]) -> list[dict[str, Any]]:
    """What was asked of the run's VMs and what came of it, newest first."""
    return [_act_after(act) for act in acts_done if act.kind in acts.KINDS]


def _act_after(act: Act) -> dict[str, Any]:
    kind, result = acts.KINDS[act.kind], act.result
    if act.state == Act.State.PENDING:
        word, look = ("Waits for the owner", "warning") if "ask_until" in act.data else ("Not yet taken up", "progress")
    elif result.get("status") == "OK":
        word, look = "Done", "ok"
    elif result.get("status") == "DENIED":
        word, look = "Refused by the agreement", "violation"
    else:
        word, look = "Not possible", "warning"
    return {
        "act": act,
        "kind": kind,
        "with": act.data.get("other") or act.data.get("host") or "",
        "word": word,
        "look": look,
        "says": acts.came_to(act.kind, result) or result.get("reason", ""),
        "facts": acts.observed(result),
    }


# -- the newest picture of a run, for pages without script


def picture_now(*, run: Run, view: str) -> dict[str, Any]:
    """Owners, counters and TLB of the run at page load, as the view may see them; empty while nothing is known."""
    newest = run.checkpoints.defer("sealed").first()
    if newest is None:
        return {}
    stored = bytes(newest.picture)
    # an operator sees all of it, so nobody need be asked whose VM is whose
    picture = whole(wire.State.from_bytes(stored)) if view == OPERATOR else source.open(run.pk, stored)
    counters = json.loads(picture.keyframe(run.pk, "counters", view))
    data = counters["data"]
    letters = {vm["name"]: vm["letter"] for vm in data["vms"]}
    total = sum(data["owners"].values()) or 1
    owners = [
        {
            "look": look_of(name, letters),
            "letter": letters.get(name, ""),
            "name": FIXED.get(name, name),
            "frames": count,
            "share": f"{100 * count / total:.1f} %",
        }
        for name, count in data["owners"].items()
    ]
    vms = [{**vm, "look": look_of(vm["name"], letters)} for vm in data["vms"]]
    shown = {
        "owners": owners,
        "frames": total,
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
    for index, vpn, byte, size, perm, age, state, *_rest in data["entries"][:TLB_SHOWN]:
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
            **selectors.event_shown(event, number=event.number, view=OPERATOR if user.sees_site else ""),
            "at": event.at,
            "outcome_class": OUTCOME_LOOKS.get(event.outcome, ""),
        }
        for event in selectors.events_of(user=user, run=run)[:EVENTS_SHOWN]
    ]
