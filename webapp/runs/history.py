"""The past of a run: any operation of it, played again by the engine from the checkpoint before it.

Nothing is kept of what pages showed. A run is decided by its scenario and its acts, so a moment that is made again is
the moment that was. An operator names a moment by its operation number; a tenant by the step, because operation numbers
count what the neighbours do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import transaction

from webapp.errors import BadInput, Fault, VpmsError
from webapp.runs import engine, selectors, services
from webapp.runs.models import Checkpoint, Event, Mark, Run
from webapp.runs.picture import OPERATOR, TENANT, whole
from webapp.runs.streams import source
from webapp.tenants import quotas
from webapp.tenants.models import Tenant

AT_ONCE: Final = threading.BoundedSemaphore(2)  # moments that a process makes at a time: each takes a core
WAIT_SECONDS: Final = 5
STRETCHES: Final = 8  # checkpoints to look through for the next or last of something
MOST_MARKS: Final = 50
CANDIDATES: Final = 6  # bursts with TLB fills to look through for a miss
WHAT: Final = ("violation", "denied", "event", "switch", "miss")

# What an operation did, in words; the rest is told by its name. Fields are those of the journal.
DOING: Final = {
    "run_trace": "{vm} runs on core {core}, {amount} accesses since it was last interrupted",
    "context_restore": "World switch: {vm} enters core {core}",
    "context_save": "World switch: the guest leaves core {core}",
    "guest_registers": "The hypervisor looks which page tables {vm} has loaded",
    "page_map": "Page {gpn} of {vm} is mapped to frame {mfn}",
    "page_unmap": "Page {gpn} of {vm} is unmapped",
    "guest_map": "{vm} enters a page into its own page table",
    "guest_unmap": "{vm} takes a page out of its own page table",
    "guest_write": "{vm} writes into its memory",
    "guest_read": "{vm} reads its memory",
    "create_vm": "A VM is created",
    "delete_vm": "{vm} is deleted and its frames are wiped",
    "balloon": "{vm} gives {amount} pages back",
    "swap_out": "Page {gpn} of {vm} leaves memory as an image",
    "swap_in": "Page {gpn} of {vm} comes back into frame {mfn}",
    "merge": "Page {gpn} of {vm} and an equal page of another VM become one",
    "unmerge": "Page {gpn} of {vm} becomes a page of its own again",
    "guest_share": "{vm} lends page {gpn} to the hypervisor",
    "guest_unshare": "{vm} takes page {gpn} back from the hypervisor",
    "guest_mergeable": "{vm} says with whom page {gpn} may be merged",
    "hv_read": "The hypervisor reads frame {mfn}",
    "hv_write": "The hypervisor writes frame {mfn}",
    "hv_flush": "The TLB entries of {vm} on core {core} are dropped",
}


@dataclass
class Moment:
    """A run at one operation."""

    run: Run
    looker: engine.Looker

    @property
    def op(self) -> int:
        return int(self.looker.machine.op)


def at_op(run: Run, op: int) -> Moment:
    """The run after operation `op`. BadInput, with what is possible, where it is not kept or has not happened."""
    checkpoint = _before(run, "op", op)
    with _turn():
        looker = _looker(run, checkpoint)
        if looker.machine.op < op:
            for plan, orders in _slices(run, checkpoint):
                if engine.look_until(looker, plan, orders, op):
                    break
    return Moment(run, looker)


def at_step(run: Run, step: int) -> Moment:
    """The run after its step `step`, which is all that a tenant may name."""
    checkpoint = _before(run, "step", step)
    with _turn():
        looker = _looker(run, checkpoint)
        for plan, orders in _slices(run, checkpoint):
            if looker.number >= step:
                break
            for order in orders:
                engine.carry_out(looker, order)
            for accesses in plan.sizes:
                if looker.number < step:
                    looker.step(accesses)
    return Moment(run, looker)


def _before(run: Run, unit: str, at: int) -> Checkpoint | None:
    """The checkpoint to play from to this operation or step; a marked moment's is kept though all around it is gone."""
    _same_engine(run)
    column = {"op": "op", "step": "seq"}[unit]
    oldest, newest = getattr(run, f"oldest_{column}"), getattr(run, column)
    if not 0 <= at <= newest:
        raise BadInput([Fault(f"$.{unit}", f"run {run.pk} stands at {unit} {newest:,}; {at:,} has not happened")])
    earlier = run.checkpoints.filter(**{f"{column}__lte": at})
    marked = run.marks.filter(**{f"{column}__gte": at}, slice_no__in=earlier.values("slice_no"))
    if at < oldest and not marked.exists():
        raise BadInput([Fault(f"$.{unit}", f"{unit} {at:,} of run {run.pk} is not kept; the oldest is {oldest:,}")])
    return earlier.first()


def _same_engine(run: Run) -> None:
    if run.engine_version != engine.ENGINE_VERSION:
        raise VpmsError(
            "other_engine", 409,
            message=f"Run {run.pk} was played by engine {run.engine_version}; this is {engine.ENGINE_VERSION}, "
            "which might tell another story. Its log is still there.",
        )  # fmt: skip


class _turn:
    """Two moments are made at a time; who comes later waits, but not long."""

    def __enter__(self) -> None:
        if not AT_ONCE.acquire(timeout=WAIT_SECONDS):
            raise VpmsError("busy", 503, message="Too many moments are being looked at now. Try again in a moment.")

    def __exit__(self, *error: object) -> None:
        AT_ONCE.release()


def _looker(run: Run, checkpoint: Checkpoint | None) -> engine.Looker:
    place = (checkpoint.slice_no, bytes(checkpoint.sealed)) if checkpoint is not None else None
    return engine.looker_at(run=run.pk, scenario=run.scenario, checkpoint=place)


def _slices(run: Run, checkpoint: Checkpoint | None) -> Iterator[tuple[engine.Plan, list[engine.Order]]]:
    """What was played from the checkpoint to the run's head."""
    first = checkpoint.slice_no if checkpoint is not None else 0
    orders = services.orders_of(run=run, first=first, below=run.slice_no)
    for number in range(first, run.slice_no):
        yield engine.plan_of(rate=run.rate, length=run.length, slice_no=number), orders.get(number, [])


# -- what pages get


def frames(moment: Moment, *, view: str, parts: Sequence[str]) -> list[str | bytes]:
    """The moment as the messages that a page would have got, for this view: what it is, and each part whole."""
    run, looker = moment.run, moment.looker
    state = looker.state()
    picture = whole(state) if view == OPERATOR else source.picture(run.pk, state)
    told = selectors.log_of(run_id=run.pk, view=view, after=0, until_op=moment.op)
    if view == OPERATOR:
        place = {"at": moment.op, "oldest": run.oldest_op, "newest": run.op, "unit": "op"}
    else:
        place = {"at": looker.number, "oldest": run.oldest_seq, "newest": run.seq, "unit": "step"}
    head = {"type": "moment", "run": run.pk, "says": doing(looker) if view == OPERATOR else "", **place}
    found: list[str | bytes] = [json.dumps(head)]
    found += [picture.keyframe(run.pk, part, view) for part in parts if part in ("map", "tlb", "counters")]
    if "log" in parts:
        number = told[-1]["number"] if told else 0
        log = {"topic": f"run/{run.pk}/log", "kind": "keyframe", "seq": number, "base": 0, "op": moment.op}
        found.append(json.dumps({**log, "data": {"events": told}}))
    return found


def doing(looker: engine.Looker) -> str:
    """One sentence about the operation that the moment ends with."""
    event = looker.doing()
    if event is None:
        return ""
    names = {vm.handle: vm.spec.name for vm in looker.vms}
    words = {
        "vm": names.get(event["vm"], "a guest"),
        "core": event["core"],
        "amount": f"{event['amount']:,}",
        "gpn": _hex(event["gpn"]),
        "mfn": _hex(event["mfn"]),
    }
    told: str = DOING.get(event["kind"], event["kind"].replace("_", " ")).format(**words)
    if event["status"] == "OK":
        return f"{told}."
    by = f" by the {event['check'].replace('_', ' ')}" if event["check"] else ""
    return f"{told}: answered {event['status']}{by}."


def _hex(value: int | None) -> str:
    return hex(value) if value is not None else "?"


def frame_facts(moment: Moment, mfn: int) -> dict[str, Any]:
    """What an operator may know of one frame at the moment. BadInput for a frame that the host does not have."""
    looker = moment.looker
    try:
        seen = looker.frame(mfn)
    except ValueError as error:
        raise BadInput([Fault("$.mfn", str(error))]) from None
    names = {vm.handle: vm.spec.name for vm in looker.vms}
    by_slot = {row["slot"]: row["name"] for row in looker.state().vms}
    by_slot |= {slot: name for name, slot in engine.wire.FIXED}
    held = []
    for row in seen["tlb"]:
        core, level, tlb_set, way = looker.geometry.place(int(row["index"]))
        held.append(
            {"core": core, "level": level, "set": tlb_set, "way": way, "state": engine.STATES[int(row["state"])]}
        )
    operations = [
        {"op": event["op"], "what": f"{event['kind'].replace('_', ' ')} {event['status']}"} for event in seen["events"]
    ]
    return {
        "mfn": mfn,
        "op": moment.op,
        "owner": by_slot.get(seen["owner"], "other"),
        "since_op": seen["events"][0]["op"] if seen["events"] else None,
        "journal_from": int(looker.machine.oldest_op),
        "maps": [{"vm": names.get(handle, "a guest"), "gpn": gpn, "perm": perm} for handle, gpn, perm in seen["maps"]],
        "protected": by_slot.get(seen["owner"]) == "hsvm",
        "cleared": bool(looker.hypervisor.protected),
        "tlb": held,
        "operations": operations,
    }


# -- run to the next of something


def find(run: Run, *, op: int, what: str, forward: bool) -> int | None:
    """The nearest operation after (or before) `op` at which this happened; None: not within what is looked through."""
    if what in ("violation", "denied", "event"):
        return _event(run, op, what, forward)
    _same_engine(run)
    for checkpoint, until in _stretches(run, op, forward):
        with _turn():
            found = (_switch if what == "switch" else _miss)(run, checkpoint, until, op, forward)
        if found is not None:
            return found
    return None


def _event(run: Run, op: int, what: str, forward: bool) -> int | None:
    events = Event.objects.filter(run=run)
    if what == "violation":
        events = events.filter(kind="violation")
    elif what == "denied":
        events = events.exclude(check_name="")
    chosen = events.filter(op__gt=op, op__lte=run.op)
    if not forward:
        chosen = events.filter(op__lt=op, op__gte=run.oldest_op)
    found: int | None = chosen.order_by("op" if forward else "-op").values_list("op", flat=True).first()
    return found


def _stretches(run: Run, op: int, forward: bool) -> list[tuple[Checkpoint | None, int]]:
    """The stretches between checkpoints to look through, nearest first, each with the operation at which it ends."""
    kept = run.checkpoints.filter(op__gte=run.oldest_op).defer("sealed", "picture").order_by("slice_no")
    marks: list[Checkpoint | None] = [*kept] if run.oldest_op else [None, *kept]
    ends = [*(mark.op for mark in marks[1:] if mark is not None), run.op]
    pairs = [(mark, end) for mark, end in zip(marks, ends, strict=True) if (mark.op if mark else 0) < end]
    if forward:
        return [(mark, end) for mark, end in pairs if end > op][:STRETCHES]
    return [(mark, end) for mark, end in reversed(pairs) if (mark.op if mark else 0) < op][:STRETCHES]


def _switch(run: Run, checkpoint: Checkpoint | None, until: int, op: int, forward: bool) -> int | None:
    last = None
    looker = _looker(run, checkpoint)
    for event in _journal(run, looker, checkpoint, until):
        if event["kind"] == "context_restore" and event["status"] == "OK":
            if forward and event["op"] > op:
                return int(event["op"])
            if event["op"] < op:
                last = int(event["op"])
    return None if forward else last


def _journal(run: Run, looker: engine.Looker, checkpoint: Checkpoint | None, until: int) -> Iterator[dict[str, Any]]:
    """The journal of a stretch, step by step, as it is played."""
    at = looker.machine.op
    for plan, orders in _slices(run, checkpoint):
        parts: list[engine.Order | int] = [*orders, *plan.sizes]
        for part in parts:
            if at >= until:
                return
            if isinstance(part, int):
                looker.step_until(part, until)
            else:
                engine.carry_out(looker, part)
            yield from looker.machine.events(at)
            at = looker.machine.op


def _miss(run: Run, checkpoint: Checkpoint | None, until: int, op: int, forward: bool) -> int | None:
    if forward:
        return next(iter(_misses(run, checkpoint, first=op, until=until, most=1)), None)
    bursts = [
        (event["op"] - event["amount"], event["op"])
        for event in _journal(run, _looker(run, checkpoint), checkpoint, min(until, op))
        if event["kind"] == "run_trace" and event["filled"]
    ]
    for start, end in bursts[: -CANDIDATES - 1 : -1]:
        found = _misses(run, checkpoint, first=start, until=min(end, op - 1), most=1 << 30)
        if found:
            return found[-1]
    return None


def _misses(run: Run, checkpoint: Checkpoint | None, *, first: int, until: int, most: int) -> list[int]:
    """The operations of a stretch after `first` and up to `until` that missed, the first `most` of them."""
    looker = _looker(run, checkpoint)
    found: list[int] = []
    for plan, orders in _slices(run, checkpoint):
        for order in orders:
            engine.carry_out(looker, order)
        for accesses in plan.sizes:
            if looker.machine.op >= until or len(found) >= most:
                return found
            found += looker.misses_until(accesses, first, until, most)
    return found


# -- marks


@transaction.atomic
def mark(*, run: Run, view: str, by: Any, moment: Moment, text: str) -> Mark:
    """Name a moment. Its checkpoint is kept as long as the mark, and counts as what its organisation stores. BadInput
    for an empty or long name."""
    text = text.strip()
    if not text or len(text) > 120:
        raise BadInput([Fault("$.text", "must have 1 to 120 characters")])
    slug = "" if view == OPERATOR else view.removeprefix(TENANT).split(",")[0]
    tenant = quotas.lock(Tenant.objects.values_list("pk", flat=True).get(slug=slug)) if slug else None
    if run.marks.filter(view=view).count() >= MOST_MARKS:
        raise BadInput([Fault("$.text", f"this run has {MOST_MARKS} marks already; delete one first")])
    checkpoint = run.checkpoints.filter(op__lte=moment.op).first()
    slice_no = checkpoint.slice_no if checkpoint else 0
    op = moment.op if view == OPERATOR else 0
    seq = moment.looker.number
    size = len(checkpoint.sealed) + len(checkpoint.picture) if checkpoint else 0
    if tenant is not None:
        quotas.expect("storage", tenant_id=tenant.pk, more=size)
    return Mark.objects.create(
        run=run, view=view, op=op, seq=seq, slice_no=slice_no, text=text, by=by, tenant=tenant, size=size
    )


def marks(run: Run, *, view: str) -> list[dict[str, Any]]:
    """The marks of this view and, for operators, the events of the log: what the timeline shows."""
    named = [
        {"id": row.pk, "at": row.op if view == OPERATOR else row.seq, "kind": "mark", "text": row.text}
        for row in run.marks.filter(view=view)
    ]
    if view != OPERATOR:
        return named
    events = Event.objects.filter(run=run, op__gte=run.oldest_op).order_by("-number")[:200]
    told = [
        {"id": None, "at": row.op, "kind": row.kind, "text": f"{row.title} {row.outcome}".strip()} for row in events
    ]
    return [*named, *reversed(told)]
