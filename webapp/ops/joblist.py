"""All work of the site in one list: each kind of job is one row of a table, and says what an operator may do with it.

Percent, rate and time left are told only where a total is known; time left is a range, between what the newest stretch
and what everything that is kept of it promise.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from webapp.agreements.models import Negotiation, Rung
from webapp.agreements.selectors import history_of
from webapp.agreements.wording import CHIPS, RUNGS
from webapp.classroom import services as classroom
from webapp.classroom.models import Cell, Drill
from webapp.errors import VpmsError
from webapp.jobs import Job
from webapp.notices import outgoing, retries
from webapp.notices.models import Delivery, Mail
from webapp.ops import services
from webapp.roles import may
from webapp.runs import engine, overview
from webapp.runs import services as runs
from webapp.runs.models import Checkpoint, Run
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from webapp.accounts.models import User

OPEN_SHOWN: Final = 100  # of each kind
FINISHED_SHOWN: Final = 200  # of all
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
)  # fmt: skip
KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _ROWS}


# -- the list


def jobs_open(*, user: User, kind: str = "", heard: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """What is under way: first what a worker holds, then what waits its turn in that order, then what waits for time or
    people. `heard`: the workers, where they are asked for already."""
    _expect(user)
    workers = {row["name"]: row for row in (services.workers() if heard is None else heard)}
    chosen = [KINDS[kind]] if kind in KINDS else list(KINDS.values())
    found = [(each, job) for each in chosen for job in each.rows().filter(each.open).order_by("pk")[:OPEN_SHOWN]]
    now = timezone.now()
    line = sorted((job.due_at, each.name, job.pk) for each, job in found if is_due(job, now) and not is_held(job, now))
    place = {(name, pk): number for number, (_due, name, pk) in enumerate(line, start=1)}
    rows = [shown(each, job, user, workers, place.get((each.name, job.pk))) for each, job in found]
    return sorted(rows, key=lambda row: (not row["held"], row["position"] or 1 << 30))


def jobs_finished(*, user: User, kind: str = "") -> list[dict[str, Any]]:
    """What is over, the newest first, with its outcome."""
    _expect(user)
    found = []
    for each in [KINDS[kind]] if kind in KINDS else KINDS.values():
        rows = each.rows().exclude(each.open).order_by(F(each.ended).desc(nulls_last=True), "-pk")[:FINISHED_SHOWN]
        found += [shown(each, job, user, {}, None) for job in rows]
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    return sorted(found, key=lambda row: row["ended"] or oldest, reverse=True)[:FINISHED_SHOWN]


def job_get(*, user: User, kind: str, pk: int) -> tuple[Kind, Any]:
    _expect(user)
    job = KINDS[kind].rows().filter(pk=pk).first() if kind in KINDS else None
    if job is None:
        raise missing()
    return KINDS[kind], job


def job_shown(*, user: User, kind: str, pk: int) -> dict[str, Any]:
    """One job with the end of its log."""
    each, job = job_get(user=user, kind=kind, pk=pk)
    workers = {row["name"]: row for row in services.workers()}
    now = timezone.now()
    place = None
    if is_due(job, now) and not is_held(job, now):
        place = next((row["position"] for row in jobs_open(user=user) if row["id"] == f"{kind}-{pk}"), None)
    tail = [{"at": at, "text": text} for at, text in each.tail(job, user) if text]
    return {**shown(each, job, user, workers, place), "log": tail}


def job_act(*, by: User, kind: str, pk: int, act: str) -> Any:
    """Pause, resume, cancel or try a job again, where its kind and its state allow that; else refused with 409."""
    each, job = job_get(user=by, kind=kind, pk=pk)
    if act not in each.acts(job, by):
        raise VpmsError("not_possible", 409, message=_("This is not possible in the state that it is in now."))
    each.act[act](by, job)
    return job


def _expect(user: User) -> None:
    if not user.sees_site:
        raise missing()


def is_due(job: Job, now: dt.datetime) -> bool:
    return job.due_at is not None and job.due_at <= now


def is_held(job: Job, now: dt.datetime) -> bool:
    return job.lease_until is not None and job.lease_until >= now


def shown(kind: Kind, job: Any, user: Any, workers: Mapping[str, Any], position: int | None) -> dict[str, Any]:
    """A job as the list and the API tell it."""
    now = timezone.now()
    stage, look = kind.stage(job)
    held = is_held(job, now)
    if held and not workers.get(job.worker, {"known": False})["known"]:
        stage, look = "Unknown: nothing is heard of its worker", "unknown"
    elif kind.name == "run" and not held and is_due(job, now - services.UNKNOWN_AFTER):
        stage, look = "Unknown: no worker takes it up", "unknown"
    about = kind.about(job)
    changes = may(user, "act")
    return {
        "kind": kind,
        "pk": job.pk,
        "id": f"{kind.name}-{job.pk}",
        "title": kind.title(job),
        "state": job.state,
        "stage": stage,
        "look": look,
        "percent": about.get("percent"),
        "rate": about.get("rate", ""),
        "left": time_left(*about["left"]) if "left" in about else "",
        "host": kind.host(job),
        "held": held,
        "worker": job.worker,
        "position": position,
        "attempts": job.attempts,
        "began": getattr(job, kind.began),
        "ended": getattr(job, kind.ended),
        "next": job.due_at if job.due_at is not None and job.due_at > now else None,
        "acts": [(name, BUTTONS[name]) for name in kind.acts(job, user)] if changes else [],
    }


def time_left(least: float, most: float) -> str:
    """`2 to 5 min`: the units of the longer time."""
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if most >= 2 * size or size == 1:
            low, high = int(least // size), max(1, round(most / size + 0.5))
            return f"{low} to {high} {unit}"
    raise AssertionError
