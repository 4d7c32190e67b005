"""Each kind of job on the operator's list is one row of a table, and says what an operator may do with it.

Of a student's work the list tells which item it is of and how far it got: neither who handed it in, nor what it says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from webapp.agreements.models import Negotiation, Rung
from webapp.agreements.selectors import history_of
from webapp.agreements.wording import CHIPS, RUNGS
from webapp.classroom import services as classroom
from webapp.classroom.models import Cell, Drill
from webapp.courses import lab
from webapp.courses.models import Attempt, PolicyTable, Regrade
from webapp.lti import returns
from webapp.lti.models import Return
from webapp.notices import outgoing, retries
from webapp.notices.models import Delivery, Mail
from webapp.runs import engine, overview
from webapp.runs import services as runs
from webapp.runs.models import Checkpoint, Run

TAIL: Final = 20

STAGES: Final[Mapping[str, tuple[str, str]]] = {
    "asked": ("The owner is asked", "warning"),
    "waiting": ("Waits", "progress"),
    "queued": ("Waits", "progress"),
    "sending": ("Being sent", "progress"),
    "running": ("Running", "progress"),
    "done": ("Done", "ok"),
    "sent": ("Sent", "ok"),
    "delivered": ("Delivered", "ok"),
    "failed": ("Given up", "violation"),
    "unsure": ("Sent, the answer was lost", "warning"),
    "dropped": ("Not sent", "neutral"),
    "refused": ("Came to nothing", "neutral"),
    "cancelled": ("Cancelled", "neutral"),
    "ready": ("The teacher decides", "warning"),
    "applied": ("Done", "ok"),
    "discarded": ("Discarded", "neutral"),
    "declaring": ("The players are asked", "warning"),
    "answering": ("The players are asked", "warning"),
    "counting": ("Being counted up", "progress"),
    "over": ("Done", "ok"),
}
BUTTONS: Final[Mapping[str, Promise]] = {
    "pause": gettext_lazy("Pause"),
    "resume": gettext_lazy("Go on"),
    "cancel": gettext_lazy("Cancel"),
    "again": gettext_lazy("Try again"),
}


@dataclass(frozen=True)
class Kind:
    """One kind of job: which rows are open, what each is called, where it is, and what may be done with it."""

    name: str
    label: Promise
    rows: Callable[[], QuerySet[Any]]
    open: Q
    began: str
    ended: str  # the column by which finished ones are ordered
    title: Callable[[Any], str]
    stage: Callable[[Any], tuple[str, str]]
    host: Callable[[Any], str] = lambda job: ""
    about: Callable[[Any], dict[str, Any]] = lambda job: {}  # percent, rate, left, where they are known
    acts: Callable[[Any, Any], list[str]] = lambda job, user: []
    act: Mapping[str, Callable[[Any, Any], None]] = field(default_factory=dict)
    tail: Callable[[Any, Any], list[tuple[Any, str]]] = lambda job, user: []
    state: str = "state"  # the column


# -- runs


def _runs() -> QuerySet[Any]:
    """Runs with where they stood at their newest checkpoint, a few before it, and at the oldest that is kept."""
    newest = Checkpoint.objects.filter(run=OuterRef("pk")).order_by("-slice_no")
    oldest = Checkpoint.objects.filter(run=OuterRef("pk")).order_by("slice_no")
    return Run.objects.select_related("host").annotate(
        new_at=Subquery(newest.values("made_at")[:1]),
        new_slice=Subquery(newest.values("slice_no")[:1]),
        near_at=Subquery(newest.values("made_at")[4:5]),
        near_slice=Subquery(newest.values("slice_no")[4:5]),
        old_at=Subquery(oldest.values("made_at")[:1]),
        old_slice=Subquery(oldest.values("slice_no")[:1]),
    )


def _run_about(run: Any) -> dict[str, Any]:
    """How fast it was lately and over all that is kept of it, and what both promise for what is left."""
    found: dict[str, Any] = {}
    if run.length:
        found["percent"] = min(100, 100 * run.accesses // run.length)
    if run.state != Run.State.RUNNING or run.wanted:
        return found
    a_slice = engine.plan_of(rate=run.rate, length=None, slice_no=0).total
    rates = []
    for at, slice_no in ((run.near_at, run.near_slice), (run.old_at, run.old_slice)):
        if at is not None and run.new_at is not None and run.new_at > at:
            rates.append((run.new_slice - slice_no) * a_slice / (run.new_at - at).total_seconds())
    if rates:
        found["rate"] = f"{round(rates[0]):,} accesses a second"
    if run.length and rates and min(rates) > 0:
        left = max(0, run.length - run.accesses)
        found["left"] = left / max(rates), left / min(rates)
    return found


def _run_acts(run: Run, user: Any) -> list[str]:
    if run.state == Run.State.PAUSED:
        return ["resume", "cancel"]
    if run.state != Run.State.RUNNING or run.wanted == "cancel":
        return []
    return ["cancel"] if run.wanted else ["pause", "cancel"]


def _run_tail(run: Run, user: Any) -> list[tuple[Any, str]]:
    events = run.events.select_related("vm").order_by("-number")[:TAIL]
    told = [(event.at, f"{event.title}{f': {event.outcome}' if event.outcome else ''}") for event in events]
    return [*([(run.ended_at, run.reason)] if run.reason else []), *told]


def _want(wanted: str) -> Callable[[Any, Any], None]:
    return lambda by, job: runs.run_want(by=by, run=job, wanted=wanted)


# -- the other kinds


def _until(job: Any, at: dt.datetime | None) -> dict[str, Any]:
    seconds = (at - timezone.now()).total_seconds() if at is not None else 0
    return {"left": (0.0, seconds)} if seconds > 0 else {}


def _negotiation_stage(row: Negotiation) -> tuple[str, str]:
    word, look = CHIPS[Negotiation.State(row.state)]
    return word, "progress" if look == "accent" else look


def _negotiation_tail(row: Negotiation, user: Any) -> list[tuple[Any, str]]:
    return [(each["at"], each["words"]) for each in reversed(history_of(user=user, negotiation=row))][:TAIL]


def _cell_tail(cell: Cell, user: Any) -> list[tuple[Any, str]]:
    if cell.ran_at is None:
        return []
    took = f", {cell.duration_ms:,.0f} ms" if cell.duration_ms is not None else ""
    return [(cell.ran_at, f"{cell.outcome.replace('_', ' ')}{took}")]


def _delivery_tail(row: Delivery, user: Any) -> list[tuple[Any, str]]:
    """What each try came to. The address beyond its host may be a secret of the receiver's, and is not told."""
    tries = row.attempts_made.order_by("-id")[:TAIL]
    return [(each.at, each.error or f"It was taken with status {each.status}.") for each in tries]


def _message_acts(job: Any, user: Any) -> list[str]:
    if job.state == "waiting" and job.lease_until is None:
        return ["cancel"]
    return ["again"] if job.state == "failed" else []


MESSAGE_ACTS: Final[Mapping[str, Callable[[Any, Any], None]]] = {
    "cancel": lambda by, job: retries.cancel(by=by, job=job),
    "again": lambda by, job: retries.again(by=by, job=job),
}


def _return_acts(row: Return, user: Any) -> list[str]:
    return ["again"] if row.state == Return.State.FAILED else []


def _cell_again(by: Any, job: Cell) -> None:
    classroom.cells_run_again(by=by, cells=[job.pk])


_ROWS: Final = (
    Kind(
        "run", gettext_lazy("Run of a host"), _runs, Q(state__in=("running", "paused")), "started_at", "ended_at",
        lambda run: f"Run {run.pk} of {run.host.name}", overview.run_state, lambda run: str(run.host.name),
        _run_about, _run_acts, {wanted: _want(wanted) for wanted in ("pause", "resume", "cancel")}, _run_tail,
    ),
    Kind(
        "negotiation", gettext_lazy("Negotiation"),
        lambda: Negotiation.objects.select_related("host", "requester").defer("protocol"),
        Q(state__in=Negotiation.OPEN), "created_at", "ended_at",
        lambda row: f"Start of {row.requester.name} on {row.host.name}",
        _negotiation_stage, lambda row: str(row.host.name),
        lambda row: _until(row, row.deadline_at if row.state == Negotiation.State.PROPOSED else None),
        tail=_negotiation_tail,
    ),
    Kind(
        "step", gettext_lazy("Step after no agreement"),
        lambda: Rung.objects.select_related("host", "vm", "negotiation__requester"),
        Q(state__in=Rung.OPEN), "made_at", "made_at",
        lambda row: f"{RUNGS[row.step]['title']}: {row.negotiation.requester.name}",
        lambda row: STAGES[row.state], lambda row: row.host.name if row.host else "",
        lambda row: _until(row, row.due_at),
        tail=lambda row, user: [(row.made_at, row.reason)] if row.reason else [],
    ),
    Kind(
        "cell", gettext_lazy("Cell of the attack table"), lambda: Cell.objects.defer("verdict"),
        Q(state__in=("queued", "running")), "ran_at", "ran_at",
        lambda cell: f"{cell.attack} on {cell.architecture}{f' without {cell.skip}' if cell.skip else ''}",
        lambda cell: STAGES[cell.state],
        acts=lambda cell, user: ["again"] if user.is_teacher and cell.state in ("done", "failed") else [],
        act={"again": _cell_again}, tail=_cell_tail,
    ),
    Kind(
        "drill", gettext_lazy("Attack drill"), lambda: Drill.objects.all(), Q(state="waiting"), "asked_at", "held_at",
        lambda drill: f"Drill of {drill.target}", lambda drill: STAGES[drill.state],
        lambda drill: str(drill.host), lambda drill: _until(drill, drill.due_at),
        tail=lambda drill, user: [(drill.held_at or drill.asked_at, drill.reason)] if drill.reason else [],
    ),
    Kind(
        "mail", gettext_lazy("Mail"), lambda: Mail.objects.select_related("user"),
        Q(state__in=("waiting", "sending")), "made_at", "done_at",
        lambda mail: f"Digest to {mail.user.alias}" if mail.digest else f"Message to {mail.user.alias}",
        lambda mail: STAGES[mail.state], acts=_message_acts, act=MESSAGE_ACTS,
        tail=lambda mail, user: [(mail.done_at or mail.made_at, mail.error)] if mail.error else [],
    ),
    Kind(
        "delivery", gettext_lazy("Webhook"), lambda: Delivery.objects.select_related("endpoint"),
        Q(state="waiting"), "made_at", "done_at",
        lambda row: f"Delivery to {outgoing.host_of(row.endpoint.url)}", lambda row: STAGES[row.state],
        acts=_message_acts, act=MESSAGE_ACTS, tail=_delivery_tail,
    ),
    Kind(
        "attempt", gettext_lazy("Attempt at a lab"),
        lambda: Attempt.objects.select_related("item").defer("text", "result", "item__text"),
        Q(state="waiting"), "made_at", "done_at",
        lambda row: f"Attempt {row.pk} at {row.item.title}", lambda row: STAGES[row.state],
        acts=lambda row, user: ["again"] if row.state == Attempt.State.FAILED else [],
        act={"again": lambda by, job: lab.attempt_again(by=by, attempt=job)},
        tail=lambda row, user: [(row.done_at or row.made_at, row.reason)] if row.reason else [],
    ),
    Kind(
        "regrade", gettext_lazy("Regrade"), lambda: Regrade.objects.select_related("item").defer("item__text"),
        Q(state__in=Regrade.OPEN), "made_at", "ended_at",
        lambda row: f"Regrade of {row.item.title}", lambda row: STAGES[row.state],
        about=lambda row: {"percent": 100 * row.done // row.total} if row.total else {},
        tail=lambda row, user: [(row.ended_at or row.made_at, row.reason)] if row.reason else [],
    ),
    Kind(
        "table", gettext_lazy("Table of a policy game"),
        lambda: PolicyTable.objects.select_related("game__item").defer("protocol", "result", "game__item__text"),
        ~Q(phase="over"), "game__opened_at", "game__ended_at",
        lambda row: f"Table {row.number} of {row.game.item.title}", lambda row: STAGES[row.phase],
        about=lambda row: _until(row, row.deadline_at), state="phase",
    ),
    Kind(
        "grade-return", gettext_lazy("Grade for a platform"),
        lambda: Return.objects.exclude(state="idle").select_related("item").defer("item__text"),
        Q(state="waiting"), "changed_at", "sent_at",
        lambda row: f"Points at {row.item.title} to {outgoing.host_of(row.issuer)}", lambda row: STAGES[row.state],
        acts=_return_acts, act={"again": lambda by, job: returns.again(by=by, row=job)},
        tail=lambda row, user: [(row.sent_at or row.changed_at, row.error)] if row.error else [],
    ),
)  # fmt: skip
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _ROWS}
