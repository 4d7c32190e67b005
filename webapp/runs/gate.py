"""The one gate in front of the engine: every act of the operator is answered here before it has any effect.

The answer is given when an act is bound to a slice and is stored with it, so that a slice done again does the same.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

from webapp.agreements import selectors as agreed
from webapp.agreements import services as agreements
from webapp.audit import services as audit
from webapp.live import publish
from webapp.notices.services import tell as tell_people
from webapp.runs import alarms
from webapp.runs.models import Act, Event, Run
from webapp.tenants.models import VirtualMachine
from webapp.vpms import enforcement
from webapp.vpms.vocabulary import SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User
    from webapp.runs.engine import Outcome

S = VirtualMachine.State

ASK_SECONDS: Final = 300  # so long an owner has for an answer

# What the engine's events are called in the log.
KINDS: Final = {
    "start": "started",
    "stop": "stopped",
    "balloon": "allowed",
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
    if act.kind == "reclaim" and act.vm is not None:
        act.data = {**act.data, **_answer(act, run)}
        if act.data["decision"] == "ask":
            _ask(act, run)
    if act.data.get("decision") != "ask":
        act.slice_no = slice_no
    act.save(update_fields=["slice_no", "data"])


def _ask(act: Act, run: Run) -> None:
    """Put the question to the owner once; take the answer, or silence until the deadline, as the decision."""
    assert act.vm is not None
    consent, now = act.data.get("consent"), timezone.now()
    if consent is not None:
        act.data["decision"] = "allow" if consent else "deny"
    elif "ask_until" not in act.data:
        act.data["ask_until"] = (now + dt.timedelta(seconds=ASK_SECONDS)).isoformat()
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
    pages = act.data["pages"]
    return "1 page" if pages == 1 else f"{pages:,} pages"


def _answer(act: Act, run: Run) -> dict[str, Any]:
    assert act.vm is not None
    agreement = agreed.agreement_in_force(host=run.host)
    values = agreed.values_in_force(host=run.host)
    event = {"kind": "reclaim", "vm": act.vm.name, "pages": act.data["pages"]}
    # Without an agreement the strictest value of every switch is in force.
    view = values.get(act.vm.name) or {name: switch.names[0] for name, switch in SWITCHES.items()}
    decision = enforcement.decide(event=event, values={act.vm.name: view})
    return {
        "event": event,
        "decision": decision.decision,
        "code": decision.code,
        "switch": decision.switch,
        "value_in_force": decision.value_in_force,
        "agreement": agreement.digest if agreement else "",
    }


def tell(*, run: Run, outcome: Outcome) -> bool:
    """Store what the slice's acts came to: results, states of VMs, events, conflicts. Inside the slice's transaction.

    True: no VM lives on the host any more.
    """
    acts = {act.pk: act for act in Act.objects.filter(pk__in=outcome.results).select_related("vm__tenant", "by")}
    events: list[Event] = []
    for pk, result in outcome.results.items():
        events += _told(run, outcome, acts[pk], result)
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
        return [_denied(run, act, vm, result)]
    if refused:
        title = f"{WORDS[act.kind]} of {vm.name} was not possible"
        detail = {"reason": result.get("reason", "")}
        return [Event(run=run, op=outcome.op, kind="note", vm=vm, title=title, outcome="REFUSED", detail=detail)]
    return []


def _denied(run: Run, act: Act, vm: VirtualMachine, result: dict[str, Any]) -> Event:
    """A request against the agreement: nothing was done, the owner and the operator are told, with the evidence."""
    data = act.data
    pages = _pages(act)
    terms = _terms(data["switch"], data["value_in_force"])
    title = f"{vm.name} was asked for {pages} and keeps them. The agreement says {terms}"
    evidence = {  # not the machine's operation number: it counts the neighbours' doings, and the owner reads this
        "event": data["event"],
        "value_in_force": data["value_in_force"],
        "digest_before": result["digest_before"],
        "digest_after": result["digest_after"],
        "agreement": data["agreement"],
    }
    if "ask_until" not in data:  # else the question was the conflict, and this is its answer
        _refusal_recorded(run, act, vm, terms, evidence)
    return Event(
        run=run, op=result["op"], kind="denied", vm=vm, title=title, outcome="REFUSED",
        check_name=f"agreement: {data['switch']}", detail=evidence,
    )  # fmt: skip


def _refusal_recorded(run: Run, act: Act, vm: VirtualMachine, terms: str, evidence: dict[str, Any]) -> None:
    conflict = agreements.conflict_record(
        host=run.host,
        vms=[vm],
        code=act.data["code"],
        severity="hard",
        switch=act.data["switch"],
        text=(
            f"The operator asked {vm.name} for {_pages(act)} of memory. The agreement in force says {terms}, "
            "so the request was refused and nothing changed."
        ),
        evidence=evidence,
    )
    # The same refusal once more is the same open conflict: its people are told once.
    told("refused", vm, key=f"conflict:{conflict.pk}", link="/tenant/conflicts/", pages=act.data["pages"])


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
