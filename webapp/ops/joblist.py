"""All work of the site in one list, whatever kind it is of (`jobkinds.py`).

Percent, rate and time left are told only where a total is known; time left is a range, between what the newest stretch
and what everything that is kept of it promise.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

from django.db.models import Exists, F
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import User
from webapp.errors import VpmsError
from webapp.jobs import Job
from webapp.ops import services
from webapp.ops.jobkinds import BUTTONS, KINDS, Kind
from webapp.roles import may, must
from webapp.tenants.selectors import missing

OPEN_SHOWN: Final = 100  # of each kind
FINISHED_SHOWN: Final = 200  # of all


def jobs_open(*, user: User, kind: str = "", heard: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """What is under way: first what a worker holds, then what waits its turn in that order, then what waits for time or
    people. `heard`: the workers, where they are asked for already."""
    _expect(user)
    workers = {row["name"]: row for row in (services.workers() if heard is None else heard)}
    found = [
        (each, job)
        for each in _with_rows(user, kind, over=False)
        for job in each.rows().filter(each.open).order_by("pk")[:OPEN_SHOWN]
    ]
    now = timezone.now()
    line = sorted((job.due_at, each.name, job.pk) for each, job in found if is_due(job, now) and not is_held(job, now))
    place = {(name, pk): number for number, (_due, name, pk) in enumerate(line, start=1)}
    rows = [shown(each, job, user, workers, place.get((each.name, job.pk))) for each, job in found]
    return sorted(rows, key=lambda row: (not row["held"], row["position"] or 1 << 30))


def jobs_finished(*, user: User, kind: str = "") -> list[dict[str, Any]]:
    """What is over, the newest first, with its outcome."""
    _expect(user)
    found = []
    for each in _with_rows(user, kind, over=True):
        rows = each.rows().exclude(each.open).order_by(F(each.ended).desc(nulls_last=True), "-pk")[:FINISHED_SHOWN]
        found += [shown(each, job, user, {}, None) for job in rows]
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    return sorted(found, key=lambda row: row["ended"] or oldest, reverse=True)[:FINISHED_SHOWN]


def _with_rows(user: User, kind: str, *, over: bool) -> list[Kind]:
    """The kinds of which anything is open, or over: one question for all, because most of them have nothing."""
    if kind in KINDS:
        return [KINDS[kind]]
    kinds = list(KINDS.values())
    any_of = [Exists(each.rows().exclude(each.open) if over else each.rows().filter(each.open)) for each in kinds]
    has = User.objects.filter(pk=user.pk).values_list(*any_of).get()
    return [each for each, some in zip(kinds, has, strict=True) if some]


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
    must(by, "act", tenant=None)  # here, for every kind: an auditor of the site sees the list and changes nothing
    if act not in each.acts(job, by):
        raise VpmsError("not_possible", 409, message=_("This is not possible in the state that it is in now."))
    each.act[act](by, job)
    return job


def _expect(user: User) -> None:
    if not user.sees_site:
        raise missing()


def value_of(job: Job, path: str) -> Any:
    """What stands in a column, or in one of a row that it belongs to (`game__opened_at`)."""
    return reduce(getattr, path.split("__"), job)


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
        "state": getattr(job, kind.state),
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
        "began": value_of(job, kind.began),
        "ended": value_of(job, kind.ended),
        "next": job.due_at if job.due_at is not None and job.due_at > now else None,
        "acts": [(name, BUTTONS[name]) for name in kind.acts(job, user)] if changes else [],
    }


def time_left(least: float, most: float) -> str:
    """`2–5 min`: the units of the longer time, in every language."""
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if most >= 2 * size or size == 1:
            low, high = int(least // size), max(1, round(most / size + 0.5))
            return f"{low}–{high} {unit}"
    raise AssertionError
