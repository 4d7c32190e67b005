"""What can still be done after a negotiation ended without agreement: each step by its button, none without consent.

A step only ever begins something that asks everybody concerned: a negotiation on another host, a question to a
neighbour, a start at another time. The VM that wanted to start is stopped meanwhile, and nobody who runs is touched.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webapp.agreements import services, steps, telling, wording
from webapp.agreements.inputs import inputs_of
from webapp.agreements.models import Negotiation, Rung
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host, Placement
from webapp.fleet.selectors import document_of
from webapp.fleet.services import placement_set
from webapp.live import publish
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import expect_own
from webapp.vpms import conflicts, documents
from webapp.vpms.instance import Limits
from webapp.vpms.vocabulary import SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User

STEPS: Final = ("relocate_requester", "migrate_willing", "another_time", "dedicated_host", "refuse_action")
MINUTES: Final = {10: "10 minutes", 60: "1 hour", 360: "6 hours", 1440: "24 hours"}
CHECK_SECONDS: Final = 0.5  # of the solver, for each host that is looked at
MOST_HOSTS: Final = 8
Vm = VirtualMachine.State


# -- what is open


def is_open(negotiation: Negotiation) -> bool:
    """Whether a step can be chosen: it ended without agreement, and its VM has not begun anything else since."""
    vm = negotiation.requester
    newest = Negotiation.objects.filter(requester=vm).order_by("-id").values_list("pk", flat=True).first()
    stopped = VirtualMachine.objects.filter(pk=vm.pk, state=Vm.STOPPED).exists()
    return negotiation.state == Negotiation.State.NO_AGREEMENT and newest == negotiation.pk and stopped


def other_hosts(*, vm: VirtualMachine, away_from: Host) -> list[Host]:
    """Hosts whose start check with this VM finds nothing that cannot be settled. Its neighbours there are asked."""
    found = []
    for host in Host.objects.filter(retired_at__isnull=True).exclude(pk=away_from.pk).order_by("name")[:MOST_HOSTS]:
        taken = Placement.objects.filter(host=host, alone=True).exclude(vm=vm).exclude(vm__state=Vm.STOPPED)
        if not taken.exists() and may_start(vm, host):
            found.append(host)
    return found


def may_start(vm: VirtualMachine, host: Host) -> bool:
    """The start check on the host as it is now, without a hard conflict."""
    try:
        given = inputs_of(host=host, requester=vm)
        policies = [documents.read_policy(policy) for policy in given.policies.values()]
        there, limits = documents.read_host(given.host), Limits(CHECK_SECONDS)
        result = conflicts.check(policies, there, now=steps.now_text(), limits=limits)
    except VpmsError:  # wishes that do not exist, or that this host cannot read
        return False
    return result["status"] != "conflict_unresolvable"


def empty_hosts(hosts: list[Host]) -> list[Host]:
    """Those on which nobody runs or is about to."""
    busy = set(Placement.objects.exclude(vm__state=Vm.STOPPED).values_list("host_id", flat=True))
    return [host for host in hosts if host.pk not in busy]


def price_of(host: Host, name: str) -> int | None:
    """The operator's posted price for `relocate` or `dedicated_host`; None: not offered."""
    price = document_of(host)["operator"].get("prices", {}).get(name)
    return int(price) if price is not None else None


def budget_of(negotiation: Negotiation) -> int:
    """What the requester's wishes say it may cost at most."""
    policy = (negotiation.protocol or {}).get("policies", {}).get(negotiation.requester.name)
    return int(documents.read_policy(policy).disagreement["budget"]) if policy else 0


def alone_price(negotiation: Negotiation) -> int | None:
    """The posted price of a host of its own, if it is offered and within the requester's budget."""
    price = price_of(negotiation.host, "dedicated_host")
    return price if price is not None and price <= budget_of(negotiation) else None


def willing(negotiation: Negotiation) -> list[tuple[VirtualMachine, Host]]:
    """Running VMs whose demands stand in the way and whose wishes let them be moved, each with a host for it."""
    named = [
        vm
        for step in (negotiation.protocol or {}).get("fallback", [])
        if step["step"] == "migrate_willing"
        for vm in step["consent"]
    ]
    found = []
    for vm in VirtualMachine.objects.filter(name__in=named, state=Vm.RUNNING, placement__host=negotiation.host):
        hosts = other_hosts(vm=vm, away_from=negotiation.host)
        if hosts:
            found.append((vm, hosts[0]))
    return found


def questions_to(user: User) -> list[Rung]:
    """What the person is asked: whether one of its running VMs would move."""
    asked = Rung.objects.filter(state=Rung.State.ASKED, vm__tenant__slug__in=user.tenant_slugs)
    return list(asked.select_related("vm__placement__host", "host", "negotiation"))


def steps_shown(negotiation: Negotiation) -> list[dict[str, Any]]:
    """The steps for the one who wanted to start: what each begins, whose consent it needs, and what can be chosen."""
    if not is_open(negotiation):
        return []
    vm = negotiation.requester
    hosts = other_hosts(vm=vm, away_from=negotiation.host)
    price, empty = alone_price(negotiation), empty_hosts(hosts)
    found = [{"step": "relocate_requester", "hosts": [_priced(host) for host in hosts]}] if hosts else []
    if willing(negotiation):
        found.append({"step": "migrate_willing"})
    found.append({"step": "another_time", "times": _times()})
    found.append(
        {
            "step": "edit_preference",
            "switches": [wording.switch_of_form(name) for name in own_part(negotiation, vm.name)],
        }
    )
    if price is not None and empty:
        found.append({"step": "dedicated_host", "hosts": [(host.name, host.name) for host in empty], "price": price})
    found.append({"step": "refuse_action"})
    return [{**row, **wording.RUNGS[row["step"]]} for row in found]


def _priced(host: Host) -> tuple[str, str]:
    price = price_of(host, "relocate") or 0
    return host.name, f"{host.name} (moving there costs {price})" if price else host.name


def _times() -> list[tuple[int, str]]:
    now = timezone.now()
    return [
        (count, f"{now + dt.timedelta(minutes=count):%Y-%m-%d %H:%M} UTC, in {words}")
        for count, words in MINUTES.items()
    ]


def own_part(negotiation: Negotiation, vm: str) -> list[str]:
    """The VM's own wishes that stand in the way: its part of the demands that cannot hold together, else what it
    contests."""
    state = negotiation.protocol or {}
    core = [name.split(":", 2) for name in state.get("core", [])]
    mine = [parts[2] for parts in core if parts[0] == "veto" and parts[1] == vm]
    result = state.get("result")
    contested = [name.partition("/") for name in result["contested"]] if result else []
    named = set(mine) if core else {switch for place, _, switch in contested if place in ("host", vm)}
    wished = state.get("policies", {}).get(vm, {}).get("switches", {})
    return [name for name in SWITCHES if name in named and name in wished]


def under_way(negotiation: Negotiation) -> list[str]:
    """What became of the steps that were chosen, as the one who chose reads it."""
    told = []
    for rung in negotiation.rungs.select_related("host", "next__host"):
        words = wording.rung_words(rung)
        if words not in told:  # several neighbours may be asked; who they are is not told, nor how many
            told.append(words)
    return told


# -- what is chosen


@transaction.atomic
def choose(*, by: User, negotiation: Negotiation, step: str, host: str = "", minutes: str = "") -> Rung:
    """One step for the VM that wanted to start, by its own people. Refused with 409 where it is not open any more."""
    row = (
        Negotiation.objects.select_for_update(of=("self",))
        .select_related("host", "requester__tenant")
        .get(pk=negotiation.pk)
    )
    expect_own(by=by, tenant=row.requester.tenant.slug)
    if step not in STEPS:
        raise BadInput([Fault("$.step", f"must be one of {', '.join(STEPS)}")])
    if not is_open(row):
        raise VpmsError("not_open", 409, message="This is over: something else was begun for the VM since.")
    if row.rungs.filter(state__in=Rung.OPEN).exists() and step != "refuse_action":
        raise VpmsError("not_open", 409, message="Another step is under way; end it first.")
    rung = {
        "relocate_requester": _relocate,
        "dedicated_host": _alone,
        "migrate_willing": _ask,
        "another_time": _later,
        "refuse_action": _leave,
    }[step](by, row, host if step != "another_time" else minutes)
    data = {"step": step, "what": wording.RUNGS[step]["title"].lower(), "vm": row.requester.name}
    steps.record(row, type="ladder.chosen", data=data, audience=[row.requester.tenant.slug], by=by)
    steps.tell(row, [row.requester.tenant.slug])
    return rung


def _rung(by: User, row: Negotiation, step: str, state: str, **more: Any) -> Rung:
    return Rung.objects.create(negotiation=row, step=step, by=by, state=state, **{"vm": row.requester, **more})


def _host_named(name: str, offered: list[Host]) -> Host:
    found = next((host for host in offered if host.name == name), None)
    if found is None:
        raise BadInput([Fault("$.host", "is not among the hosts that can be tried now; look at the list again")])
    return found


def _relocate(by: User, row: Negotiation, name: str) -> Rung:
    host = _host_named(name, other_hosts(vm=row.requester, away_from=row.host))
    return _go(by, row, "relocate_requester", host, alone=False)


def _alone(by: User, row: Negotiation, name: str) -> Rung:
    if alone_price(row) is None:
        raise VpmsError("too_dear", 409, message="A host of its own is not offered within the budget of these wishes.")
    host = _host_named(name, empty_hosts(other_hosts(vm=row.requester, away_from=row.host)))
    return _go(by, row, "dedicated_host", host, alone=True)


def _go(by: User, row: Negotiation, step: str, host: Host, *, alone: bool) -> Rung:
    """The VM is placed on the other host and its start is negotiated there; back home if that comes to nothing."""
    vm = VirtualMachine.objects.select_related("placement__host").get(pk=row.requester_id)
    home = vm.placement.host
    placement_set(by=by, vm=vm, host=host, alone=alone)
    begun = services.start_request(by=by, vm=vm, home=home)
    return _rung(by, row, step, Rung.State.DONE, host=host, next=begun)


def _ask(by: User, row: Negotiation, name: str) -> Rung:
    """Each willing neighbour's owner is asked. Who that is the one who asks does not learn."""
    asked = willing(row)
    if not asked:
        raise VpmsError("nobody_willing", 409, message="No neighbour that stands in the way can be moved just now.")
    until = timezone.now() + dt.timedelta(seconds=settings.NEGOTIATION_DEADLINE_SECONDS)
    rungs = []
    for vm, host in asked:
        rungs.append(_rung(by, row, "migrate_willing", Rung.State.ASKED, vm=vm, host=host, due_at=until))
        telling.move_asked(rungs[-1])
        publish.changed(f"tenant/{vm.tenant.slug}")
    return rungs[0]


def _later(by: User, row: Negotiation, minutes: str) -> Rung:
    wait = next((count for count in MINUTES if str(count) == minutes), None)
    if wait is None:
        raise BadInput([Fault("$.minutes", f"must be one of {', '.join(map(str, MINUTES))}")])
    at = timezone.now() + dt.timedelta(minutes=wait)
    return _rung(by, row, "another_time", Rung.State.WAITING, due_at=at)


def _leave(by: User, row: Negotiation, _: str) -> Rung:
    """Only this start is refused. What was under way is ended with it."""
    row.rungs.filter(state=Rung.State.ASKED).update(state=Rung.State.CANCELLED, due_at=None)
    row.rungs.filter(state=Rung.State.WAITING).update(state=Rung.State.CANCELLED, due_at=None)
    return _rung(by, row, "refuse_action", Rung.State.DONE)


@transaction.atomic
def move_answer(*, by: User, rung: Rung, consent: bool) -> Rung:
    """The owner's answer to whether its running VM would move. A yes begins the negotiation at the other host, where
    everybody is asked as at any start; a no changes nothing. Given twice, or too late, it is refused with 409."""
    row = (
        Rung.objects.select_for_update(of=("self",)).select_related("vm__tenant", "host", "negotiation").get(pk=rung.pk)
    )
    expect_own(by=by, tenant=row.vm.tenant.slug)
    if row.state != Rung.State.ASKED:
        raise VpmsError("already_answered", 409, message="This was answered already, or its time is over.")
    data = {"vm": row.vm.name, "answer": "agreed" if consent else "refused", "host": row.host.name if row.host else ""}
    steps.record(row.negotiation, type="ladder.answer", data=data, audience=[row.vm.tenant.slug], by=by)
    telling.move_answered(row, consent=consent)
    if not consent:
        _close(row, Rung.State.REFUSED, "The neighbour stays where it is.")
        return row
    assert row.host is not None
    row.next = services.move_request(by=by, vm=row.vm, host=row.host)
    row.state, row.due_at, row.enqueued_at = Rung.State.WAITING, None, None
    if row.next.state == Negotiation.State.NO_AGREEMENT:
        row.state, row.reason = Rung.State.REFUSED, steps.MOVE_FAILED
    row.save()
    for other in row.negotiation.rungs.filter(state=Rung.State.ASKED):
        _close(other, Rung.State.CANCELLED, "")
    _told(row)
    return row


def _close(row: Rung, state: str, reason: str) -> None:
    Rung.objects.filter(pk=row.pk).update(state=state, reason=reason, due_at=None, enqueued_at=None)
    row.state = state
    _told(row)


def _told(row: Rung) -> None:
    steps.tell(row.negotiation, [row.negotiation.requester.tenant.slug, row.vm.tenant.slug])


# -- what follows


@transaction.atomic
def due(*, rung_id: int) -> None:
    """Its time has come. A question without an answer is a no; a start that waited is tried again, if it still can."""
    row = (
        Rung.objects.select_for_update(of=("self",))
        .select_related("vm__tenant", "negotiation__requester")
        .get(pk=rung_id)
    )
    if row.state == Rung.State.ASKED:
        _close(row, Rung.State.REFUSED, "There was no answer in time; silence counts as a no.")
    if row.state != Rung.State.WAITING:
        return
    if not is_open(row.negotiation):
        _close(row, Rung.State.CANCELLED, "Something else was begun for the VM meanwhile.")
        return
    try:
        with transaction.atomic():
            begun = services.start_request(by=row.by, vm=row.negotiation.requester)
    except VpmsError as refused:
        _close(row, Rung.State.REFUSED, f"The start was not tried again: {refused.message}")
        return
    changes: dict[str, Any] = {"next": begun} if row.next_id is None else {}
    Rung.objects.filter(pk=row.pk).update(state=Rung.State.DONE, due_at=None, **changes)
    _told(row)


@transaction.atomic
def moved(*, negotiation: Negotiation) -> None:
    """The neighbour has left: the start that waited for it is due."""
    waiting = Rung.objects.filter(next=negotiation, state=Rung.State.WAITING)
    waiting.update(due_at=timezone.now(), enqueued_at=None)


@transaction.atomic
def give_up(*, rung_id: int, reason: str) -> None:
    row = (
        Rung.objects.select_for_update(of=("self",))
        .select_related("vm__tenant", "negotiation__requester")
        .get(pk=rung_id)
    )
    if row.state in Rung.OPEN:
        _close(row, Rung.State.REFUSED, f"{reason}.")
