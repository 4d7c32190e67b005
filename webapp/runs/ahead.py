"""A moment of a run and what its next operation, or step, is going to do: for questions before it is shown.

Both sides are made by the engine, played again; a tenant's are totals of the VMs that this view may see, and no more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from webapp.runs import engine, history
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR
from webapp.runs.streams import source


class OwnStep(NamedTuple):
    """A step of a run for one VM of the view: its frames before and after, and what it did in the step."""

    vm: str
    frames: tuple[int, int]
    accesses: int
    misses: int
    references: int


class Ahead(NamedTuple):
    """The moment in words and rows (what, value), and the turn that follows; None: nothing does, or nothing to see."""

    says: str
    rows: Sequence[tuple[str, str]]
    turn: engine.Turn | OwnStep | None


def ahead(run: Run, *, view: str, at: int) -> Ahead:
    """What may be known at operation (for tenants: step) `at`, and the turn after it. BadInput as `history` has it."""
    return _operation(run, at) if view == OPERATOR else _step(run, view, at)


def _operation(run: Run, at: int) -> Ahead:
    before = history.at_op(run, at)
    facts = engine.facts_of(before.looker.machine)
    names = {vm.handle: vm.spec.name for vm in before.looker.vms}
    running = ", ".join(f"{core}: {names.get(vm, 'a guest')}" for core, (vm, _vcpu) in sorted(facts.cores.items()))
    rows = [
        ("Runs on core", running or "nobody"),
        ("TLB entries in use", f"{len(facts.ways):,}"),
        ("STALE", f"{facts.stale:,}"),
    ]
    says = history.doing(before.looker)
    if at >= run.op:
        return Ahead(says, rows, None)
    after = history.at_op(run, at + 1)
    event = after.looker.doing()
    if event is None:
        return Ahead(says, rows, None)
    op = {
        "op": event["kind"],
        **{name: event[name] for name in ("vm", "gpn", "mfn", "core") if event[name] is not None},
    }
    result = {"status": event["status"], **({"check": event["check"]} if event["check"] else {})}
    names |= {vm.handle: vm.spec.name for vm in after.looker.vms}
    saved = facts.cores.get(op.get("core", -1)) if op["op"] == "context_save" and event["status"] == "OK" else None
    turn = engine.between(
        facts,
        engine.facts_of(after.looker.machine),
        op,
        result,
        number=at + 1,
        total=run.op,
        architecture=str(before.looker.machine.architecture),
        phase="",
        names=names,
        context=engine.context_answer(after.looker.machine, saved),
        saved=saved,
    )
    return Ahead(says, rows, turn)


def _step(run: Run, view: str, at: int) -> Ahead:
    before = _own(run, view, at)
    rows = [(name, f"{row['frames']:,}") for name, row in before.items()]
    if at >= run.seq:
        return Ahead("", rows, None)
    after = _own(run, view, at + 1)
    both = sorted(before.keys() & after.keys())
    if not both:
        return Ahead("", rows, None)
    name = both[at % len(both)]
    old, new = before[name], after[name]
    did = {what: new[what] - old[what] for what in ("l1", "l2", "miss", "references")}
    frames = (old["frames"], new["frames"])
    return Ahead("", rows, OwnStep(name, frames, did["l1"] + did["l2"] + did["miss"], did["miss"], did["references"]))


def _own(run: Run, view: str, at: int) -> dict[str, dict[str, Any]]:
    """Frames and totals of the view's VMs after a step, by name."""
    state = history.at_step(run, at).looker.state()
    visible = source.picture(run.pk, state).visible(view) or frozenset()
    totals = {row["slot"]: row for row in state.counters["vms"]}
    return {
        row["name"]: {**totals[row["slot"]], "frames": int((state.owners == row["slot"]).sum())}
        for row in state.vms
        if row["slot"] in visible and row["slot"] in totals
    }
