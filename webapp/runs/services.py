"""Run: VMs start under an agreement, hosts are played in slices, the operator's acts pass the gate first."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from webapp import jobs, logs, tally
from webapp.agreements import ladder
from webapp.agreements import selectors as agreed
from webapp.agreements import services as agreements
from webapp.agreements.models import Negotiation, Rung
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.fleet.services import place
from webapp.live import publish
from webapp.roles import must
from webapp.runs import acts, affinity, alarms, engine, gate, wall
from webapp.runs.models import Act, Checkpoint, Event, Run
from webapp.strictjson import member
from webapp.tenants import quotas
from webapp.tenants.models import Tenant, VirtualMachine
from webapp.tenants.selectors import expect_own, missing
from webapp.vpms import documents, enforcement

if TYPE_CHECKING:
    from webapp.accounts.models import User

log = logging.getLogger(__name__)

DEMO_RATE: Final = 100_000  # accesses a second of a host's run: slow enough to watch
CHECKPOINT_SECONDS: Final = 2
CHECKPOINT_OPS: Final = 150_000  # whichever comes first: to look at a moment is to play at most so much again
CHECKPOINTS_KEPT: Final = 800  # how far back a run that goes on can be looked at: ten minutes
CHECKPOINT_BYTES: Final = 48 << 20  # of one run
KEYFRAME_STEPS: Final = 32
RETRY_SECONDS: Final = 1
OTHER_ENGINE_SECONDS: Final = 45  # below settings.QUEUE_SECONDS: nothing else need notice
# Attacks that may be tried on a living VM: none of them ends with the victim deleted, as A13 does.
DRILLS: Final = {name: engine.attack_title(name) for name in ("A01", "A02", "A03", "A09", "A10", "A11", "A14")}
S = VirtualMachine.State


# -- what people ask


@transaction.atomic
def vm_start(*, by: User, vm: VirtualMachine) -> Negotiation:
    """The VM wants to run: the start check is made and a negotiation decides. Nobody who runs already is touched."""
    negotiation = agreements.start_request(by=by, vm=vm)
    publish.wake_keeper()
    return negotiation


@transaction.atomic
def vm_stop(*, by: User, vm: VirtualMachine) -> None:
    """The running VM is deleted on its host, its frames wiped; all others keep their agreement."""
    expect_own(by=by, tenant=vm.tenant.slug)
    stopping = VirtualMachine.objects.filter(pk=vm.pk, state=S.RUNNING).update(state=S.STOPPING)
    if not stopping:
        raise VpmsError("not_running", 409, message=f"{vm.name} is not running; only a running VM can be stopped.")
    run = live_run(host=vm.placement.host)
    if run is None:
        VirtualMachine.objects.filter(pk=vm.pk).update(state=S.STOPPED)
    else:
        Act.objects.create(run=run, vm=vm, kind="stop_vm", by=by)
    _record(by=by, type="vm.stop", vm=vm, data={})


def _operator(by: User) -> None:
    """Hosts and runs are for operators to change; auditors of the site read them; for all others they are missing."""
    if not by.sees_site:
        raise missing()
    must(by, "act", tenant=None)


@transaction.atomic
def act_request(*, by: User, run: Run, kind: str, vm: VirtualMachine, data: dict[str, Any]) -> Act:
    """Put an operator's act to the run. The gate answers when the next slice takes it up, before any effect."""
    _operator(by)
    if vm.placement.host_id != run.host_id or vm.state != S.RUNNING:
        raise VpmsError("not_running", 409, message=f"{vm.name} does not run on {run.host.name} now.")
    _check_act(run, kind, vm, data)
    quotas.expect("acts", tenant_id=vm.tenant_id)
    act = Act.objects.create(run=run, vm=vm, kind=kind, data=data, by=by)
    concerned = VirtualMachine.objects.filter(name__in=[vm.name, data.get("other", "")]).select_related("tenant")
    told = {name: value for name, value in data.items() if name != "other"}  # a neighbour is not named to an owner
    for each in concerned:
        _record(by=by, type=f"act.{kind}", vm=each, data={"host": run.host.name, **told})
    return act


@transaction.atomic
def act_answer(*, by: User, act: Act, consent: bool) -> None:
    """The owner's answer to what the operator asks of a VM. Given twice, or too late, it is refused with 409. A yes to
    a move begins the negotiation at the other host, as if the owner had wished it."""
    row = Act.objects.select_for_update(of=("self",)).select_related("vm__tenant").get(pk=act.pk)
    if row.state != Act.State.PENDING or row.slice_no is not None or "consent" in row.data:
        raise VpmsError("already_answered", 409, message="This was answered already, or its time is over.")
    assert row.vm is not None
    expect_own(by=by, tenant=row.vm.tenant.slug)
    row.data["consent"] = consent
    if consent and row.kind == "migrate":
        target = Host.objects.get(name=row.data["host"])
        begun = agreements.move_request(by=by, vm=row.vm, host=target)
        row.state, row.result = Act.State.DONE, {"status": "OK", "negotiation": begun.pk}
        publish.wake_keeper()
    row.save(update_fields=["data", "state", "result"])
    answer = "agreed" if consent else "refused"
    type = "act.move_answer" if row.kind == "migrate" else "act.answer"
    _record(by=by, type=type, vm=row.vm, data={"answer": answer, **row.data["event"], "host": row.data.get("host", "")})


def _check_act(run: Run, kind: str, vm: VirtualMachine, data: dict[str, Any]) -> None:
    if kind in acts.KINDS:
        acts.check(acts.KINDS[kind], data, gate.facts_for(run=run, vm=vm.name, data=data))
    elif kind == "drill":
        unknown = [Fault(member("$", name), "is not a field of this act") for name in data if name != "attack"]
        if unknown:
            raise BadInput(unknown)
        if not isinstance(data.get("attack"), str) or data["attack"] not in DRILLS:
            raise BadInput([Fault("$.attack", f"must be one of {', '.join(DRILLS)}")])
    else:
        raise BadInput([Fault("$.kind", f"must be one of {', '.join(acts.KINDS)}, drill")])


@transaction.atomic
def run_want(*, by: User, run: Run, wanted: str) -> None:
    """Pause, resume or cancel. Pausing and cancelling take effect at the start of the next slice."""
    _operator(by)
    if wanted == "resume":
        changed = Run.objects.filter(pk=run.pk, state=Run.State.PAUSED).update(
            state=Run.State.RUNNING, wanted="", due_at=timezone.now(), enqueued_at=None
        )
    elif wanted in ("pause", "cancel"):
        changed = Run.objects.filter(pk=run.pk, state=Run.State.RUNNING).update(wanted=wanted)
        if wanted == "cancel" and Run.objects.filter(pk=run.pk, state=Run.State.PAUSED).exists():
            _end(run, state=Run.State.CANCELLED, reason="Cancelled by the operator.")
            changed = 1
    else:
        raise BadInput([Fault("$.wanted", "must be pause, resume or cancel")])
    if not changed:
        raise VpmsError("not_possible", 409, message=f"The run is {run.state}; {wanted} is not possible now.")
    data = {"host": run.host.name, "op": run.op}
    audit.record(by=by, type=f"run.{wanted}", subject=f"run:{run.pk}", data=data)
    publish.changed(f"run/{run.pk}")
    publish.wake_keeper()


def screens_seen(*, by: User, ms: list[int]) -> None:
    """Delays from a measurement to an operator's screen, as its page tells them."""
    wall.screens_seen(by=by, ms=ms)


# -- negotiation


def negotiation_work(*, negotiation_id: int) -> None:
    """Take one due step of a negotiation. When all have signed, the agreement is in force and the VM starts."""
    token = jobs.claim(Negotiation, negotiation_id, shape__lte=jobs.SHAPE)
    if token is None:
        return
    with jobs.kept(Negotiation, negotiation_id, token):
        negotiation = agreements.negotiation_advance(negotiation_id=negotiation_id)
    if negotiation.state == Negotiation.State.SIGNED:
        _start_agreed(negotiation)
    jobs.release(Negotiation, negotiation_id, token)
    publish.wake_keeper()


@transaction.atomic
def _start_agreed(negotiation: Negotiation) -> None:
    """Agreement in force, act to start the VM, state of both: all or nothing."""
    row = Negotiation.objects.select_for_update().get(pk=negotiation.pk)
    if row.state != Negotiation.State.SIGNED:
        return
    vm = VirtualMachine.objects.select_related("tenant", "placement").get(pk=row.requester_id)
    if row.moves and not _left_home(row, vm):
        return
    agreement = agreements.agreement_put_in_force(negotiation=row)
    run, slice_no = _run_for(row.host, tenant=vm.tenant)
    terms = _terms(host=row.host, agreement=agreement.digest)
    Act.objects.create(run=run, kind="agreement", slice_no=slice_no, data=terms)
    spec = _spec(run=run, vm=vm, host=row.host)
    Act.objects.create(
        run=run, vm=vm, kind="start_vm", slice_no=slice_no, data={"spec": spec, "agreement": agreement.digest}
    )
    VirtualMachine.objects.filter(pk=vm.pk).update(state=S.STARTING, memory_mib=engine.mib_of(spec))
    _record(by=None, type="vm.starting", vm=vm, data={"host": row.host.name, "agreement": agreement.digest})
    ladder.moved(negotiation=row)


def _left_home(row: Negotiation, vm: VirtualMachine) -> bool:
    """Whether a VM that moves is gone from its old host, and may start on the new one. While it runs it is asked to
    stop there; if its owner has stopped it otherwise, nothing is moved and the new host's agreement never binds."""
    asked = Act.objects.filter(vm=vm, kind="stop_vm", data__move=row.pk)
    if vm.state == S.RUNNING and not asked.exists():
        run = live_run(host=vm.placement.host)
        if run is not None:
            VirtualMachine.objects.filter(pk=vm.pk).update(state=S.STOPPING)
            Act.objects.create(run=run, vm=vm, kind="stop_vm", by=row.requested_by, data={"move": row.pk})
            _record(by=None, type="vm.moving", vm=vm, data={"host": row.host.name})
            gate.told("vm.moving", vm, key=f"negotiation:{row.pk}", host=row.host.name)
    elif vm.state == S.STOPPED and asked.exists():
        place(by=None, vm=vm, host=row.host)
        return True
    elif vm.state == S.STOPPED:
        agreements.negotiation_give_up(negotiation_id=row.pk, reason=f"{vm.name} was stopped before it could move.")
        return False
    later = timezone.now() + dt.timedelta(seconds=RETRY_SECONDS)
    Negotiation.objects.filter(pk=row.pk).update(due_at=later, enqueued_at=None, attempts=0)
    return False


def rung_work(*, rung_id: int) -> None:
    """A step of the ladder whose time has come: a start is tried again, a question that got no answer is over."""
    token = jobs.claim(Rung, rung_id)
    if token is None:
        return
    ladder.due(rung_id=rung_id)
    jobs.release(Rung, rung_id, token)
    publish.wake_keeper()


def rung_failed(rung_id: int, *, reason: str) -> None:
    """Give a step of the ladder up; nothing was changed by it."""
    ladder.give_up(rung_id=rung_id, reason=reason)


def _run_for(host: Host, *, tenant: Tenant) -> tuple[Run, int | None]:
    """The host's live run, or a new one in the tenant's name; and the slice that takes an act up (None: the next that
    is not yet bound)."""
    run = live_run(host=host)
    if run is not None:
        return run, None
    now = timezone.now()
    alarms.begun(host=host.name)
    run = Run.objects.create(
        host=host,
        tenant=tenant,
        scenario=engine.scenario_of(document=document_of(host), seed=host.pk),
        engine_version=engine.ENGINE_VERSION,
        rate=DEMO_RATE,
        due_at=now,
    )
    return run, 0


def _terms(*, host: Host, agreement: str, values: dict[str, dict[str, str]] | None = None) -> dict[str, Any]:
    values = agreed.values_in_force(host=host) if values is None else values
    options = enforcement.scenario_options(values, documents.read_host(host.document))
    return engine.terms_of(values, flush=options["flush"], agreement=agreement)


def tlb_facts(*, run: Run, host: Host, values: dict[str, dict[str, str]]) -> dict[str, Any]:
    """What decides how long a TLB entry lasts on the run's machine, under these values in force on its host."""
    terms = _terms(host=host, agreement="", values=values)
    return engine.tlb_facts(machine=run.scenario["machine"], flush=terms["flush"])


def _spec(*, run: Run, vm: VirtualMachine, host: Host) -> dict[str, Any]:
    """The VM as the engine starts it: its size, its program, the core with the fewest VMs, and what it agreed to."""
    cores: list[int] = [0] * run.scenario["machine"]["cores"]
    for act in Act.objects.filter(run=run, kind="start_vm", vm__state__in=(S.STARTING, S.RUNNING)):
        cores[act.data["spec"]["core"]] += 1
    values = agreed.values_in_force(host=host).get(vm.name, {})
    return engine.spec_of(
        name=vm.name,
        size=agreements.size_of(vm=vm),
        trace=vm.trace,
        core=cores.index(min(cores)),
        seed=vm.pk,
        balloon=values.get("balloon", "none"),
    )


def live_run(*, host: Host) -> Run | None:
    """The run of the host that is running or paused; there is at most one."""
    return Run.objects.filter(host=host, state__in=(Run.State.RUNNING, Run.State.PAUSED)).first()


# -- slices


def run_slice(*, run_id: int, slice_no: int) -> None:
    """Do one slice once: the one that the message names, or another that waits and costs less here (`affinity`). A
    repeated or late message changes nothing that was done: who finds nothing to claim does nothing."""
    named = affinity.Slice(run_id, slice_no)
    for each in affinity.in_turn(named):
        ours = {"state": Run.State.RUNNING, "slice_no": each.number, "shape__lte": jobs.SHAPE}
        token = jobs.claim(Run, each.run, engine_version=engine.ENGINE_VERSION, **ours)
        if token is not None:
            run = Run.objects.select_related("host").get(pk=each.run)
            with logs.working(run=run.pk, slice=each.number, request_id=run.request_id):
                _claimed(run, token, named)
            return
        if each == named:
            _of_another_engine(run_id, ours)


def _claimed(run: Run, token: str, named: affinity.Slice) -> None:
    if run.wanted:
        affinity.played(named, run)
        _settle(run, token)
        return
    began = time.perf_counter()
    try:
        with jobs.kept(Run, run.pk, token):  # a slice on a busy machine is slow, not lost
            affinity.played(named, run)
            _slice(run, token)
    except Exception:
        log.exception("slice %d of run %d failed", run.slice_no, run.pk)
        engine.forget(run=run.pk)
        again = timezone.now() + dt.timedelta(seconds=RETRY_SECONDS)
        jobs.release(Run, run.pk, token, due_at=again)
    seconds = time.perf_counter() - began
    tally.observe("vpms_slice_seconds", seconds)
    log.info("slice", extra={"ms": round(seconds * 1000, 1)})


def _of_another_engine(run_id: int, ours: dict[str, Any]) -> None:
    """A run of another engine is left for a worker that has it, as long as there may be one: while a release is rolled
    out both are at work. When none takes it up for OTHER_ENGINE_SECONDS it ends, and says why."""
    run = (
        Run.objects.select_related("host")
        .filter(pk=run_id, **ours)
        .exclude(engine_version=engine.ENGINE_VERSION)
        .first()
    )
    if run is None:
        return
    lonely = run.due_at is not None and timezone.now() - run.due_at > dt.timedelta(seconds=OTHER_ENGINE_SECONDS)
    if not (lonely or run.wanted == "cancel"):
        return
    token = jobs.claim(Run, run_id, engine_version=run.engine_version, **ours)
    if token is None:
        return
    if run.wanted == "cancel":
        _settle(run, token)
    else:
        run_failed(run_id, reason=f"It was begun by engine {run.engine_version}; this is {engine.ENGINE_VERSION}")


def _slice(run: Run, token: str) -> None:
    began = timezone.now()
    player = player_of(run)
    plan = engine.plan_of(rate=run.rate, length=run.length, slice_no=run.slice_no)
    orders = orders_of(run=run, first=run.slice_no, below=run.slice_no + 1).get(run.slice_no, [])
    outcome = engine.Outcome(run.seq, run.op, wrong=run.wrong)
    for step in engine.play(player, plan, orders, outcome):
        publish.step(run=run.pk, seq=step.number, entry=engine.entry_of(step))
        if step.number % KEYFRAME_STEPS == 1:
            publish.keyframe(run=run.pk, seq=step.number, state=engine.state_of(player))
    accesses = run.accesses + plan.total
    done = run.length is not None and accesses >= run.length
    newest = run.checkpoints.defer("sealed", "picture").first()
    stored = None
    old = newest is None or began - newest.made_at >= dt.timedelta(seconds=CHECKPOINT_SECONDS)
    old = old or (newest is not None and outcome.op - newest.op >= CHECKPOINT_OPS)
    if done or old or orders:  # after acts too, so that pages show what came of them
        stored = engine.Stored.of(player, run=run.pk, slice_no=run.slice_no + 1)
    sights = wall.measured(run=run, player=player, wrong=outcome.wrong, began=began)
    if slice_commit(
        run=run, token=token, outcome=outcome, accesses=accesses, done=done, stored=stored, began=began, sights=sights
    ):
        engine.keep_hot(run=run.pk, slice_no=run.slice_no + 1, player=player)


@transaction.atomic
def slice_commit(
    *,
    run: Run,
    token: str,
    outcome: engine.Outcome,
    accesses: int,
    done: bool,
    stored: engine.Stored | None,
    began: dt.datetime,
    sights: Mapping[str, engine.Sight],
) -> bool:
    """Keep what the slice did, all or nothing. False: the lease was lost, and nothing of it is kept."""
    changes: dict[str, Any] = {"slice_no": run.slice_no + 1, "seq": outcome.seq, "op": outcome.op, "accesses": accesses}
    changes["wrong"] = outcome.wrong
    if stored is not None:
        changes["digest"] = stored.digest
        changes["figures"] = stored.figures
    if not jobs.commit(Run, run.pk, token, due_at=_next_due(run, began), **changes):
        return False
    if stored is not None:
        _keep_checkpoint(run, slice_no=run.slice_no + 1, seq=outcome.seq, op=outcome.op, stored=stored)
    ending = gate.tell(run=run, outcome=outcome)
    wall.keep(run=run, sights=sights, events=outcome.events, began=began)
    pending = Act.objects.filter(run=run, state=Act.State.PENDING)
    waiting = pending.filter(slice_no__isnull=True).select_for_update(of=("self",))
    for act in waiting.select_related("vm__tenant"):
        gate.bind(act=act, run=run, slice_no=run.slice_no + 1)
    if done or (ending and not pending.exclude(data__has_key="ask_until").exists()):
        _end(run, state=Run.State.DONE, reason="" if done else "No VM is left on the host.")
    return True


def _next_due(run: Run, began: dt.datetime) -> dt.datetime:
    """A paced run's slices begin at even times, a late one is not made up for; any other goes on at once."""
    if not run.rate:
        return timezone.now()
    planned = (run.due_at or began) + dt.timedelta(seconds=settings.SLOWER / engine.SLICES_A_SECOND)
    return max(planned, began)


def _keep_checkpoint(run: Run, *, slice_no: int, seq: int, op: int, stored: engine.Stored) -> None:
    Checkpoint.objects.create(
        run=run,
        slice_no=slice_no,
        seq=seq,
        op=op,
        digest=stored.digest,
        sealed=stored.sealed,
        picture=stored.picture,
    )
    most = max(2, min(CHECKPOINTS_KEPT, CHECKPOINT_BYTES // len(stored.sealed)))
    last = run.checkpoints.values_list("slice_no", "op", "seq")[most - 1 : most]
    if last:
        marked = run.marks.values_list("slice_no", flat=True)  # a moment that somebody marked stays
        gone, _ = run.checkpoints.filter(slice_no__lt=last[0][0]).exclude(slice_no__in=list(marked)).delete()
        if gone:
            Run.objects.filter(pk=run.pk).update(oldest_op=last[0][1], oldest_seq=last[0][2])


def player_of(run: Run) -> engine.Player:
    """The run's player as it stands before its next slice."""
    newest = run.checkpoints.filter(slice_no__lte=run.slice_no).first()
    return engine.player_at(
        run=run.pk,
        slice_no=run.slice_no,
        scenario=run.scenario,
        rate=run.rate,
        length=run.length,
        checkpoint=(newest.slice_no, bytes(newest.sealed)) if newest else None,
        orders=lambda first, below: orders_of(run=run, first=first, below=below),
    )


def orders_of(*, run: Run, first: int, below: int) -> dict[int, list[engine.Order]]:
    """The acts bound to these slices, in the order in which they were asked."""
    found: dict[int, list[engine.Order]] = {}
    acts = Act.objects.filter(run=run, slice_no__gte=first, slice_no__lt=below).select_related("vm").order_by("id")
    for act in acts:
        order = engine.Order(act.pk, act.kind, act.vm.name if act.vm else "", act.data)
        found.setdefault(act.slice_no or 0, []).append(order)
    return found


def state_at_head(*, run_id: int) -> engine.wire.State | None:
    """The picture of the run after its last committed slice, made again by the engine from the newest checkpoint."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None or run.engine_version != engine.ENGINE_VERSION:
        return None
    return engine.wire.State.from_player(player_of(run))


@transaction.atomic
def _settle(run: Run, token: str) -> None:
    """Do what was wanted of the run before its next slice."""
    if run.wanted == "pause":
        _checkpoint_now(run)
        jobs.commit(Run, run.pk, token, due_at=None, state=Run.State.PAUSED, wanted="")
        audit.record(by=None, type="run.paused", subject=f"run:{run.pk}", data={"host": run.host.name, "op": run.op})
        publish.changed(f"run/{run.pk}")
        publish.changed("fleet")
    elif jobs.renew(Run, run.pk, token):
        _end(run, state=Run.State.CANCELLED, reason="Cancelled by the operator.")


def _checkpoint_now(run: Run) -> None:
    """Where the run pauses it can be taken up from, by any worker."""
    if run.checkpoints.filter(slice_no=run.slice_no).exists():
        return
    player = player_of(run)
    stored = engine.Stored.of(player, run=run.pk, slice_no=run.slice_no)
    engine.keep_hot(run=run.pk, slice_no=run.slice_no, player=player)
    _keep_checkpoint(run, slice_no=run.slice_no, seq=run.seq, op=run.op, stored=stored)
    Run.objects.filter(pk=run.pk).update(digest=stored.digest, figures=stored.figures)


def _end(run: Run, *, state: str, reason: str) -> None:
    """The run is over; whatever still ran on it has stopped with it. Inside the caller's transaction."""
    Run.objects.filter(pk=run.pk).update(
        state=state, reason=reason, wanted="", due_at=None, lease_token="", lease_until=None, ended_at=timezone.now()
    )
    Act.objects.filter(run=run, state=Act.State.PENDING).update(
        state=Act.State.REFUSED, result={"reason": "The run ended."}
    )
    lost = VirtualMachine.objects.filter(
        placement__host=run.host, state__in=(S.STARTING, S.RUNNING, S.STOPPING)
    ).select_related("tenant")
    for vm in lost:
        _record(by=None, type="vm.stopped", vm=vm, data={"host": run.host.name, "reason": reason or "The run is done."})
        code = "run.lost" if state == Run.State.FAILED else "vm.stopped"
        gate.told(code, vm, key=f"run:{run.pk}:end", host=run.host.name)
    lost.update(state=S.STOPPED)
    wall.rest(host=run.host)
    engine.forget(run=run.pk)
    alarms.ended(run=run, failed=state == Run.State.FAILED)
    transaction.on_commit(lambda: publish.ended(run=run.pk))
    publish.changed(f"run/{run.pk}")


@transaction.atomic
def run_failed(run_id: int, *, reason: str) -> None:
    """Give a run up. Its VMs are stopped and everybody concerned can read why."""
    run = Run.objects.select_related("host").get(pk=run_id)
    if run.state == Run.State.RUNNING:
        number = (run.events.last().number if run.events.exists() else 0) + 1  # type: ignore[union-attr]
        Event.objects.create(
            run=run, number=number, op=run.op, kind="breach", title="The run was given up", detail={"reason": reason}
        )
        audit.record(
            by=None, type="run.failed", subject=f"run:{run.pk}", data={"host": run.host.name, "reason": reason}
        )
        _end(run, state=Run.State.FAILED, reason=reason)
        publish.changed(f"run/{run.pk}/log")


@transaction.atomic
def negotiation_failed(negotiation_id: int, *, reason: str) -> None:
    """Give a negotiation up: no agreement, the VM that wanted to start stays stopped, nobody else is touched."""
    agreements.negotiation_give_up(negotiation_id=negotiation_id, reason=reason)


def _record(*, by: User | None, type: str, vm: VirtualMachine, data: dict[str, Any]) -> None:
    slug = vm.tenant.slug
    audit.record(by=by, type=type, subject=f"vm:{vm.name}", data=data, audience=[slug])
    publish.changed(f"tenant/{slug}")
    publish.changed("fleet")
