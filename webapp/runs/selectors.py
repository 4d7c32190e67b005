"""Reads of runs: every door takes the person who looks, or the view that was derived from that person."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Max, OuterRef, Q, Subquery

from webapp.audit.models import Audience, Entry
from webapp.fleet.models import Host
from webapp.runs import acts
from webapp.runs.models import Act, Checkpoint, Event, EventQuerySet, Run, RunQuerySet
from webapp.runs.picture import OPERATOR, TENANT, view_of_tenants
from webapp.tenants.models import VirtualMachine
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

LOG_AT_ONCE: Final = 200


def runs_of(*, user: User) -> RunQuerySet:
    """The runs that the person may watch, newest first."""
    return Run.objects.visible_to(user).select_related("host")


def run_get(*, user: User, pk: int) -> Run:
    """One of them; a foreign one is as missing as one that does not exist."""
    run = runs_of(user=user).filter(pk=pk).first()
    if run is None:
        raise missing()
    return run


def newest_run(*, user: User, host: Host) -> Run | None:
    """The host's newest run that the person may watch: the live one, if there is one."""
    return runs_of(user=user).filter(host=host).first()


def newest_runs(*, runs: RunQuerySet, hosts: Sequence[int]) -> dict[int, Run]:
    """The newest of these runs on each host, with `heard_at`, the time of its newest checkpoint."""
    newest = runs.filter(host__in=hosts).order_by().values("host").annotate(newest=Max("id")).values("newest")
    checkpoints = Checkpoint.objects.filter(run=OuterRef("pk")).order_by("-slice_no").values("made_at")
    found = Run.objects.filter(pk__in=newest)
    return {run.host_id: run for run in found.annotate(heard_at=Subquery(checkpoints[:1]))}


def view_of(*, user: Any, run_id: str) -> str | None:
    """What of the run this person sees: everything, or the VMs of their tenants; None: there is nothing to see."""
    if not user.is_authenticated or not run_id.isdecimal() or len(run_id) > 18:
        return None
    if not runs_of(user=user).filter(pk=int(run_id)).exists():
        return None
    return view_for(user)


def view_for(user: User) -> str:
    """What this person sees of a run in which there is something to see."""
    return OPERATOR if user.sees_site else view_of_tenants(user.tenant_slugs)


def tenants_on(*, runs: Sequence[int]) -> dict[str, str]:
    """Whose VM is whose, for every VM that is or was to be on the hosts of these runs."""
    rows = VirtualMachine.objects.filter(placement__host__runs__in=runs).values_list("name", "tenant__slug")
    acts = Act.objects.filter(run__in=runs, kind="start_vm").values_list("vm__name", "vm__tenant__slug")
    return {**dict(acts), **dict(rows)}


def slots_of(*, run: int) -> dict[str, frozenset[int]]:
    """The slots that each tenant's VMs have or had in the run."""
    found: dict[str, set[int]] = defaultdict(set)
    acts = Act.objects.filter(run=run, kind="start_vm", state=Act.State.DONE).values_list("vm__tenant__slug", "result")
    for slug, result in acts:
        found[slug].add(result["slot"])
    return {slug: frozenset(slots) for slug, slots in found.items()}


def events_of(*, user: User, run: Run) -> EventQuerySet:
    """What happened in the run and concerns the person, newest first."""
    return Event.objects.visible_to(user).filter(run=run).select_related("vm").order_by("-number")


def log_of(*, run_id: int, view: str, after: int, until_op: int | None = None) -> list[dict[str, Any]]:
    """The view's events after number `after`, oldest first, at most the newest 200; those up to an operation.

    A tenant's events are numbered among themselves: the numbers of a run would count what happens to others.
    """
    events = Event.objects.filter(run=run_id).select_related("vm").order_by("number")
    if until_op is not None:
        events = events.filter(op__lte=until_op)
    if view != OPERATOR:
        events = events.filter(vm__tenant__slug__in=view.removeprefix(TENANT).split(","))
    if view == OPERATOR:
        newest = list(events.filter(number__gt=after).order_by("-number")[:LOG_AT_ONCE])
        return [event_shown(event, number=event.number, view=view) for event in reversed(newest)]
    first = max(after, events.count() - LOG_AT_ONCE)
    return [event_shown(event, number=first + at, view=view) for at, event in enumerate(events[first:], start=1)]


def event_shown(event: Event, *, number: int, view: str) -> dict[str, Any]:
    """An event as pages and sockets show it. The machine's operation number counts what every VM does, so it is for
    the operator alone."""
    return {
        "number": number,
        "op": event.op if view == OPERATOR else None,
        "at": event.at.isoformat(),
        "kind": event.kind,
        "vm": event.vm.name if event.vm else "",
        "title": event.title,
        "outcome": event.outcome,
        "check": event.check_name,
        "detail": event.detail,
    }


def moved_for(*, tenant: str | None) -> int:
    """A number that rises whenever something is recorded that this tenant (None: the operator) may read."""
    newest: int | None
    if tenant is None:
        newest = Entry.objects.aggregate(at=Max("seq"))["at"]
    else:
        newest = Audience.objects.filter(tenant=tenant).aggregate(at=Max("entry"))["at"]
    return 0 if newest is None else newest + 1


def drills_of(*, user: User, vm: VirtualMachine) -> QuerySet[Event]:
    """The attack drills held against the VM, newest first."""
    return Event.objects.visible_to(user).filter(vm=vm, kind="drill").order_by("-id")


def waiting_acts(*, run: Run) -> QuerySet[Act]:
    """What was asked of the run and not yet taken up."""
    return Act.objects.filter(run=run, state=Act.State.PENDING).select_related("vm").order_by("id")


def acts_of(*, run: Run) -> QuerySet[Act]:
    """What operators asked of the run's VMs, newest first, with everything that was not yet taken up."""
    asked = Q(state=Act.State.PENDING) | Q(kind__in=list(acts.KINDS))
    return Act.objects.filter(asked, run=run).select_related("vm", "by").order_by("-id")


def vm_on(*, user: User, host: Host, name: str) -> VirtualMachine:
    """A VM on the host, for the operator of hosts; to others it is missing."""
    found = VirtualMachine.objects.select_related("placement", "tenant").filter(name=name, placement__host=host).first()
    if found is None or not user.sees_site:
        raise missing()
    return found


def picture_stored(*, run: int) -> bytes | None:
    """The public picture in the run's newest checkpoint."""
    newest = Checkpoint.objects.filter(run=run).values_list("picture", flat=True).first()
    return bytes(newest) if newest is not None else None


def asked_of(*, user: User) -> QuerySet[Act]:
    """What operators ask of the person's VMs and nobody has answered yet, oldest first."""
    own = VirtualMachine.objects.visible_to(user).values("pk")
    acts = Act.objects.filter(vm__in=own, state=Act.State.PENDING, slice_no__isnull=True, data__has_key="ask_until")
    return acts.exclude(data__has_key="consent").select_related("vm__tenant", "run__host").order_by("id")


def asked_get(*, user: User, pk: int) -> Act:
    """One act on a VM of the person; a foreign one is as missing as one that does not exist."""
    own = VirtualMachine.objects.visible_to(user).values("pk")
    found = Act.objects.filter(pk=pk, vm__in=own).select_related("vm__tenant").first()
    if found is None or "ask_until" not in found.data:
        raise missing()
    return found
