"""The one gate in front of the engine: every act of the operator is answered here before it has any effect.

The answer is given when an act is bound to a slice and is stored with it, so that a slice done again does the same.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.utils import timezone

from webapp.agreements import selectors as agreed
from webapp.agreements import services as agreements
from webapp.audit import services as audit
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.live import publish
from webapp.notices.services import tell as tell_people
from webapp.runs import acts, alarms, engine
from webapp.runs.models import Act, Event, Run
from webapp.tenants.models import VirtualMachine
from webapp.vpms import enforcement
from webapp.vpms.vocabulary import SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.agreements.models import Agreement
    from webapp.runs.engine import Outcome

S = VirtualMachine.State

ASK_SECONDS: Final = 300  # so long an owner has for an answer

# What the engine's events are called in the log.
KINDS: Final = {
    "start": "started",
    "stop": "stopped",
    "balloon": "allowed",
    "merge": "allowed",
    "swap": "allowed",
    "dump": "allowed",
    "snapshot": "allowed",
    "introspect": "allowed",
    "process": "note",
    "memory": "note",
    "crash": "note",
    "drill": "drill",
    "violation": "violation",
}
WORDS: Final = {"start_vm": "The start", "stop_vm": "The stop", "reclaim": "The reclaim", "drill": "The drill"}


def bind(*, act: Act, run: Run, slice_no: int) -> None:
    """Give the act to a slice, with the gate's answer in it. Inside the transaction of the slice before.

    Where the owner is to be asked the act waits, without effect, for the answer; silence is a no.
    """
    if act.kind in acts.KINDS and act.vm is not None:
        act.data = {**act.data, **_answered(act, run)}
        if act.data["decision"] == "ask":
            _ask(act, run)
    if act.data.get("decision") != "ask":
        act.slice_no = slice_no
    act.save(update_fields=["slice_no", "data"])


def facts_of(*, run: Run, host: Host, vm: str, hosts: Iterable[Host] = (), others: Iterable[str] = ()) -> acts.Facts:
    """What the machine and the hosts say to an act on this VM."""
    return acts.Facts(
        seals=engine.seals(machine=run.scenario["machine"]),
        proven=bool(document_of(host)["attested"]),
        hosts={each.name: document_of(each) for each in hosts if each.pk != host.pk},
        others=sorted(name for name in others if name != vm),
    )


def facts_for(*, run: Run, vm: str, data: Mapping[str, Any]) -> acts.Facts:
    """The same, of no more than what was asked for."""
    hosts = Host.objects.filter(name=str(data["host"])[:63]) if "host" in data else ()
    there = VirtualMachine.objects.filter(placement__host=run.host_id, state=S.RUNNING) if "other" in data else ()
    return facts_of(run=run, host=run.host, vm=vm, hosts=hosts, others=[row.name for row in there])


def answer(*, kind: acts.Kind, vm: str, data: Mapping[str, Any], facts: acts.Facts, terms: Terms) -> dict[str, Any]:
    """What the agreement in force answers to this act, before it has any effect."""
    event = kind.event(vm, data, facts) if kind.event is not None else None
    if event is None:
        told = {"event": {"kind": kind.name, "vm": vm}, "decision": "allow", "code": None, "switch": None}
        return {**told, "value_in_force": None, "agreement": terms.digest}
    # Without an agreement the strictest value of every switch is in force.
    strictest = {name: switch.names[0] for name, switch in SWITCHES.items()}
    views = {name: terms.values.get(name) or strictest for name in (vm, event.get("other")) if name}
    decision = enforcement.decide(event=event, values=views, tenants=terms.owners, zone=terms.zone)
    asks = kind.owner_decides and decision.decision == "allow"
    return {
        "event": event,
        "decision": "ask" if asks else decision.decision,
        "code": decision.code,
        "switch": decision.switch,
        "value_in_force": decision.value_in_force,
        "agreement": terms.digest,
    }


class Terms(NamedTuple):
    """What is in force on a host."""

    values: Mapping[str, Mapping[str, str]]
    digest: str
    owners: Mapping[str, str]  # VM -> tenant
    zone: str


def terms_of(*, host: Host, agreement: Agreement | None, vms: Iterable[VirtualMachine]) -> Terms:
    values = agreed.values_of(agreement) if agreement else {}
    owners = {vm.name: vm.tenant.slug for vm in vms}
    return Terms(values, agreement.digest if agreement else "", owners, document_of(host)["zone"])


def _answered(act: Act, run: Run) -> dict[str, Any]:
    assert act.vm is not None
    kind, agreement = acts.KINDS[act.kind], agreed.agreement_in_force(host=run.host)
    facts = facts_for(run=run, vm=act.vm.name, data=act.data)
    terms = terms_of(host=run.host, agreement=agreement, vms=_concerned(act))
    return answer(kind=kind, vm=act.vm.name, data=act.data, facts=facts, terms=terms)


def _concerned(act: Act) -> list[VirtualMachine]:
    """The VM that is asked, and the one with which it would share."""
    names = [act.vm.name if act.vm else "", act.data.get("other", "")]
    found = VirtualMachine.objects.filter(name__in=names).select_related("tenant")
    return sorted(found, key=lambda vm: names.index(vm.name))


def words_before(answered: Mapping[str, Any], *, version: int | None) -> str:
    """What a button says before it is pressed: allowed or not, by which setting of which agreement."""
    if answered["switch"] is None:
        return "It needs nobody's consent: the VM gets back what is its own."
    terms = _terms(answered["switch"], answered["value_in_force"])
    by = (
        f"{terms} in version {version} of the host's agreement"
        if version
        else f"{terms}, the strictest value, as no agreement is in force"
    )
    if answered["decision"] == "allow":
        return f"The agreement allows it: {by}."
    if answered["decision"] == "ask":
        return f"The owner is asked first; nothing happens without a yes within five minutes: {by}."
    return f"The agreement forbids it: {by}. It will be refused, and both sides are told."


def _ask(act: Act, run: Run) -> None:
    """Put the question to the owner once; take the answer, or silence until the deadline, as the decision."""
    assert act.vm is not None
    consent, now, kind = act.data.get("consent"), timezone.now(), acts.KINDS[act.kind]
    if consent is not None:
        act.data["decision"] = "allow" if consent else "deny"
    elif "ask_until" not in act.data:
        act.data["ask_until"] = (now + dt.timedelta(seconds=ASK_SECONDS)).isoformat()
        if kind.owner_decides:  # nothing in the agreement speaks against it, so it is no conflict
            told("asked.migrate", act.vm, key=f"act:{act.pk}", link="/tenant/", host=act.data["host"])
            return
        terms = _terms(act.data["switch"], act.data["value_in_force"])
        agreements.conflict_record(
            host=run.host,
            vms=[act.vm],
            code=act.data["code"],
            severity="negotiable",
            switch=act.data["switch"],
            text=(
                f"The operator asks {act.vm.name} for {_pages(act)} of memory. The agreement in force says {terms}, "
                "so nothing happens until the owner answers; no answer is a no."
            ),
            evidence={name: act.data[name] for name in ("event", "value_in_force", "agreement")},
        )
        told("asked", act.vm, key=f"act:{act.pk}", link="/tenant/", pages=act.data["pages"])
    elif now >= dt.datetime.fromisoformat(act.data["ask_until"]):
        act.data["decision"] = "deny"


def _pages(act: Act) -> str:
    return acts.pages_in_words(act.data["pages"])


def tell(*, run: Run, outcome: Outcome) -> bool:
    """Store what the slice's acts came to: results, states of VMs, events, conflicts. Inside the slice's transaction.

    True: no VM lives on the host any more.
    """
    done = {act.pk: act for act in Act.objects.filter(pk__in=outcome.results).select_related("vm__tenant", "by")}
    events: list[Event] = []
    for pk, result in outcome.results.items():
        events += _told(run, outcome, done[pk], result)
    events += [_happened(run, event) for event in outcome.events]
    last = run.events.order_by("-number").first()
    for number, event in enumerate(events, start=last.number + 1 if last else 1):
        event.number = number
    Event.objects.bulk_create(events)
    if events:
        publish.changed(f"run/{run.pk}/log")
    alarms.raised(run=run, events=events, mended=any(event["kind"] == "mended" for event in outcome.events))
    _settle_deleted(run, outcome)
    return not outcome.living


def _told(run: Run, outcome: Outcome, act: Act, result: dict[str, Any]) -> list[Event]:
    """The act's row and what follows from its result; the events that the engine does not tell by itself."""
    refused = result["status"] != "OK"
    act.state = Act.State.REFUSED if refused else Act.State.DONE
    act.result = result
    act.save(update_fields=["state", "result"])
    vm = act.vm
    if vm is None:
        return []
    if act.kind == "start_vm":
        _become(vm, S.STOPPED if refused else S.RUNNING, run=run, reason=result.get("reason", ""))
        told("vm.no_start" if refused else "vm.running", vm, key=f"act:{act.pk}", host=run.host.name)
    elif act.kind == "stop_vm":
        reason = "it moves to another host, as its owner agreed." if "move" in act.data else "it was asked to."
        _become(vm, S.STOPPED, run=run, reason=reason)
        told("vm.stopped", vm, key=f"act:{act.pk}", by=act.by, host=run.host.name)
    if result["status"] == "DENIED":
        return [_denied(run, act, each, result) for each in _concerned(act)]
    if refused:
        title = f"{WORDS.get(act.kind, 'What the operator asked')} of {vm.name} was not possible"
        detail = {"reason": result.get("reason", "")}
        return [Event(run=run, op=outcome.op, kind="note", vm=vm, title=title, outcome="REFUSED", detail=detail)]
    return []


def _denied(run: Run, act: Act, vm: VirtualMachine, result: dict[str, Any]) -> Event:
    """A request against the agreement: nothing was done, the owner and the operator are told, with the evidence.
    `vm` is whose owner reads it: a neighbour that the request concerned is not named to it."""
    data, kind = act.data, acts.KINDS[act.kind]
    asked = "ask_until" in data
    by = _by_terms(data)
    if asked and kind.owner_decides:
        by = "Its owner did not agree"
    title = f"{acts.filled(kind.refused, vm.name, data)} {by}"
    event = {**data["event"], "vm": vm.name}
    if "other" in event:
        event["other"] = "a neighbour"
    evidence = {  # not the machine's operation number: it counts the neighbours' doings, and the owner reads this
        "event": event,
        "value_in_force": data["value_in_force"],
        "digest_before": result["digest_before"],
        "digest_after": result["digest_after"],
        "agreement": data["agreement"],
    }
    if not asked:  # else the question was the conflict, and this is its answer
        _refusal_recorded(run, act, vm, evidence)
    return Event(
        run=run, op=result["op"], kind="denied", vm=vm, title=title[:200], outcome="REFUSED",
        check_name=f"agreement: {data['switch']}", detail=evidence,
    )  # fmt: skip


def _by_terms(data: Mapping[str, Any]) -> str:
    terms = _terms(data["switch"], data["value_in_force"])
    if data["agreement"]:
        return f"The agreement says {terms}"
    return f"No agreement is in force, so the strictest value holds: {terms}"


def _refusal_recorded(run: Run, act: Act, vm: VirtualMachine, evidence: dict[str, Any]) -> None:
    tried = acts.filled(acts.KINDS[act.kind].tried, vm.name, act.data).removesuffix(".")
    conflict = agreements.conflict_record(
        host=run.host,
        vms=[vm],
        code=act.data["code"],
        severity="hard",
        switch=act.data["switch"],
        text=f"{tried}. {_by_terms(act.data)}, so the request was refused and nothing changed.",
        evidence=evidence,
    )
    # The same refusal once more is the same open conflict: its people are told once.
    code = "refused" if act.kind == "reclaim" else f"refused.{act.kind}"
    more = {"pages": act.data["pages"]} if act.kind == "reclaim" else {}
    told(code, vm, key=f"conflict:{conflict.pk}", link="/tenant/conflicts/", **more)


def told(code: str, vm: VirtualMachine, *, key: str, link: str = "", by: User | None = None, **data: Any) -> None:
    """A notice about the VM to its own people."""
    where = link or f"/tenant/vm/{vm.name}/"
    slug = vm.tenant.slug
    tell_people(code, tenant=slug, key=f"{key}:{vm.name}", subject=vm.name, link=where, by=by, vm=vm.name, **data)


def _terms(switch: str, value: str) -> str:
    """A setting of the agreement in the words of the questions."""
    found = SWITCHES[switch]
    label = next(each.label for each in found.values if each.name == value)
    return f"“{found.label}: {label.lower()}”"


def _happened(run: Run, event: dict[str, Any]) -> Event:
    """An event of the engine as a row."""
    vm = VirtualMachine.objects.filter(name=event["vm"], placement__host=run.host).first()
    kind = KINDS.get(event["kind"], "note")
    if kind == "allowed" and event["outcome"] != "OK":
        kind = "denied"
    detail = event["detail"]
    return Event(
        run=run, op=event["op"], kind=kind, vm=vm, title=event["title"][:200], outcome=event["outcome"],
        check_name=event["check"] or "", detail=detail,
    )  # fmt: skip


def _settle_deleted(run: Run, outcome: Outcome) -> None:
    """A VM that an attack deleted runs no more."""
    gone = VirtualMachine.objects.filter(placement__host=run.host, state=S.RUNNING).exclude(name__in=outcome.living)
    for vm in gone.select_related("tenant"):
        _become(vm, S.STOPPED, run=run, reason="it was deleted by an attack.")
        told("vm.stopped", vm, key=f"run:{run.pk}:{outcome.op}", host=run.host.name)


def _become(vm: VirtualMachine, state: str, *, run: Run, reason: str) -> None:
    """The VM's state changes, in the log and on the pages that show it."""
    VirtualMachine.objects.filter(pk=vm.pk).update(state=state)
    data = {"host": run.host.name, "run": run.pk, **({"reason": reason} if reason else {})}
    audit.record(by=None, type=f"vm.{state}", subject=f"vm:{vm.name}", data=data, audience=[vm.tenant.slug])
    publish.changed(f"tenant/{vm.tenant.slug}")
    publish.changed("fleet")
