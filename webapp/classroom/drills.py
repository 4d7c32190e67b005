"""Drills for operators: the twelve attacks held on demand and again and again, with history.

A drill executes the attacks on the machine that a host has (or on an architecture) and compares each with the drill
before and with the attack table. It attacks no running VM. A plan always has its next drill waiting as a row, so it
survives whatever is killed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from webapp import jobs
from webapp.audit import services as audit
from webapp.classroom import drill_selectors as selectors
from webapp.classroom.models import Drill, DrillResult, DrillSchedule
from webapp.classroom.selectors import DRILL
from webapp.classroom.services import COLUMNS, SEED, execute, file_digest
from webapp.classroom.wording import OUTCOMES
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of
from webapp.live import publish
from webapp.notices import alerts
from webapp.roles import must
from webapp.runs.engine import ENGINE_VERSION, scenario_of

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOST_HOURS: Final = 24 * 30
MOST_SCHEDULES: Final = 500
GONE: Final = gettext_noop("There is no such host any more.")
RETIRED: Final = gettext_noop("The host is retired.")


# -- what operators ask


def _may(by: User) -> None:
    if not by.sees_site:
        raise selectors.missing()
    must(by, "act", tenant=None)


def _target_checked(host: str, architecture: str) -> None:
    """Exactly one of both, and there is such a one now."""
    if bool(host) == bool(architecture):
        raise BadInput([Fault("$.host", _("must be named, or an architecture, and not both"))])
    if architecture and architecture not in COLUMNS:
        raise BadInput([Fault("$.architecture", _("must be one of %(names)s") % {"names": ", ".join(COLUMNS)})])
    if host:
        lacking = machine_of(host)[1]
        if lacking == GONE:
            raise BadInput([Fault("$.host", _("there is no host of this name"))])
        if lacking:
            raise BadInput([Fault("$.host", _("is retired; no drill is held on it any more"))])


def machine_of(host: str) -> tuple[str, str]:
    """The architecture of the host's machine, and why there is none if there is none."""
    row = Host.objects.filter(name=host).first()
    if row is None:
        return "", GONE
    if getattr(row, "retired_at", None) is not None:
        return "", RETIRED
    return scenario_of(document=document_of(row), seed=row.pk)["machine"]["architecture"], ""


@transaction.atomic
def drill_now(*, by: User, host: str = "", architecture: str = "") -> Drill:
    """Hold the drill as soon as a worker is free. While one that somebody asked for waits, it is that one."""
    _may(by)
    _target_checked(host, architecture)
    waiting = Drill.objects.filter(host=host, schedule__isnull=True, state=Drill.State.WAITING)
    found = waiting.filter(**({} if host else {"architecture": architecture})).first()
    if found is not None:
        return found
    row = Drill.objects.create(host=host, architecture=architecture, by=by, seed=SEED, due_at=timezone.now())
    _record(by, "wanted", row.target, f"drill:{row.pk}")
    publish.wake_keeper()
    return row


def _times_checked(every_hours: int | None, weekday: int, hour: int) -> None:
    faults = []
    if every_hours is not None and not 1 <= every_hours <= MOST_HOURS:
        faults.append(Fault("$.every_hours", _("must be a whole number from 1 to %(most)d") % {"most": MOST_HOURS}))
    if not 0 <= weekday <= 6:
        faults.append(Fault("$.weekday", _("must be a whole number from 0, Monday, to 6")))
    if not 0 <= hour <= 23:
        faults.append(Fault("$.hour", _("must be a whole number from 0 to 23")))
    if faults:
        raise BadInput(faults)


@transaction.atomic
def schedule_make(
    *, by: User, host: str = "", architecture: str = "", every_hours: int | None = None, weekday: int = 0, hour: int = 0
) -> DrillSchedule:
    """Plan the drills of a target: every so many hours, beginning now, or once a week at an hour."""
    _may(by)
    _target_checked(host, architecture)
    _times_checked(every_hours, weekday, hour)
    if DrillSchedule.objects.filter(host=host, architecture=architecture).exists():
        raise BadInput([Fault("$.host", _("has a plan already; change that one"))])
    if DrillSchedule.objects.count() >= MOST_SCHEDULES:
        raise VpmsError("too_many", 409, message=_("There are too many plans; remove one first."))
    row = DrillSchedule.objects.create(
        host=host, architecture=architecture, every_hours=every_hours, weekday=weekday, hour=hour, made_by=by
    )
    now = timezone.now()
    _plan(row, now if every_hours else next_due(row, now))
    _record(by, "planned", row.target, f"schedule:{row.pk}", every=every_text(row))
    return row


@transaction.atomic
def schedule_change(
    *, by: User, schedule: DrillSchedule, every_hours: int | None, weekday: int, hour: int, active: bool
) -> DrillSchedule:
    """Other times, switched on or off. A plan of a host that is gone cannot be switched on."""
    row = _locked(by, schedule)
    _times_checked(every_hours, weekday, hour)
    if active:
        _target_checked(row.host, row.architecture)
        row.reason = ""
    row.every_hours, row.weekday, row.hour, row.active = every_hours, weekday, hour, active
    row.save(update_fields=["every_hours", "weekday", "hour", "active", "reason"])
    row.drills.filter(state=Drill.State.WAITING).delete()
    if active:
        _plan(row, next_due(row, timezone.now()))
        alerts.resolve(key=f"plan:{row.pk}")
    words = {"every": every_text(row), "active": "on" if active else "off"}
    _record(by, "changed", row.target, f"schedule:{row.pk}", **words)
    return row


@transaction.atomic
def schedule_delete(*, by: User, schedule: DrillSchedule) -> None:
    """No more drills by this plan; the history stays."""
    row = _locked(by, schedule)
    _record(by, "unplanned", row.target, f"schedule:{row.pk}")
    row.drills.filter(state=Drill.State.WAITING).delete()
    alerts.resolve(key=f"plan:{row.pk}")
    row.delete()


def _locked(by: User, schedule: DrillSchedule) -> DrillSchedule:
    _may(by)
    row = DrillSchedule.objects.select_for_update().filter(pk=schedule.pk).first()
    if row is None:
        raise selectors.missing()
    return row


def next_due(row: DrillSchedule, now: dt.datetime) -> dt.datetime:
    """The next time after now. What was missed while nothing ran is not made up for."""
    if row.every_hours:
        return now + dt.timedelta(hours=row.every_hours)
    due = now.replace(hour=row.hour, minute=0, second=0, microsecond=0)
    due += dt.timedelta(days=(row.weekday - due.weekday()) % 7)
    return due if due > now else due + dt.timedelta(days=7)


def every_text(row: DrillSchedule) -> str:
    """For the record, in English."""
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    if row.every_hours:
        return "every hour" if row.every_hours == 1 else f"every {row.every_hours} hours"
    return f"every {days[row.weekday]} at {row.hour:02d}:00 UTC"


def _plan(row: DrillSchedule, due: dt.datetime) -> None:
    Drill.objects.create(schedule=row, host=row.host, architecture=row.architecture, seed=SEED, due_at=due)
    publish.wake_keeper()


# -- the worker's side


def drill_hold(*, drill_id: int) -> None:
    """Execute the attacks once and keep what was observed. A repeated message changes nothing."""
    token = jobs.claim(Drill, drill_id, state=Drill.State.WAITING)
    if token is None:
        return
    drill = Drill.objects.select_related("schedule").get(pk=drill_id)
    architecture, lacking = machine_of(drill.host) if drill.host else (drill.architecture, "")
    if lacking:
        _not_held(drill, lacking)
        return
    with jobs.kept(Drill, drill_id, token):
        verdicts = {
            attack: execute(attack=attack, architecture=architecture, skip="", seed=drill.seed) for attack in DRILL
        }
    _keep(drill, token, architecture, verdicts)


@transaction.atomic
def _keep(drill: Drill, token: str, architecture: str, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    """Results, comparison, alert, the plan's next drill: all or nothing, and nothing where the lease was lost."""
    last = selectors.drill_before(drill)
    results = [_result(drill, attack, verdict) for attack, verdict in verdicts.items()]
    told = _compare(results, last, architecture)
    blocked = sum(row.outcome == "BLOCKED" for row in results)
    kept = jobs.commit(
        Drill,
        drill.pk,
        token,
        due_at=None,
        state=Drill.State.DONE,
        architecture=architecture,
        held_at=timezone.now(),
        engine_version=ENGINE_VERSION,
        blocked=blocked,
        differs=sum(row.differs for row in results),
    )
    if not kept:
        return
    DrillResult.objects.bulk_create(results)
    _alarm(drill, told, results, last)
    _go_on(drill)
    _record(drill.by, "held", drill.target, f"drill:{drill.pk}", blocked=blocked, attacks=len(results))
    publish.changed("fleet")


def _result(drill: Drill, attack: str, verdict: Mapping[str, Any]) -> DrillResult:
    return DrillResult(
        drill=drill,
        attack=attack,
        outcome=verdict["outcome"],
        check_name=verdict["check"] or "",
        digest=verdict["digest"] or "",
        file_digest=file_digest(attack),
    )


def _compare(results: list[DrillResult], last: Drill | None, architecture: str) -> list[tuple[DrillResult, str]]:
    """Mark what differs from the drill before or from the table; each with the digest that it should have."""
    before = {row.attack: row for row in last.results.all()} if last else {}
    same_machine = last is not None and (last.engine_version, last.architecture) == (ENGINE_VERSION, architecture)
    cells = selectors.cells_now(architecture)
    told = []
    for row in results:
        was, cell = before.get(row.attack), cells.get(row.attack)
        row.before = was.outcome if was else ""
        row.expected = cell.outcome if cell else ""
        digests = [cell.digest] if cell else []
        if was is not None and same_machine and was.file_digest == row.file_digest:
            digests.append(was.digest)
        others = [digest for digest in digests if digest != row.digest]
        row.differs = bool(others) or any(word and word != row.outcome for word in (row.before, row.expected))
        if row.differs:
            told.append((row, others[0] if others else ""))
    return told


def key_of(drill: Drill) -> str:
    return f"drill:{'host' if drill.host else 'architecture'}:{drill.target}"


def _alarm(drill: Drill, told: list[tuple[DrillResult, str]], results: list[DrillResult], last: Drill | None) -> None:
    """One alert of a target names the first attack that differs. It ends when everything is as it was before it."""
    lasting = selectors.alert_of(key_of(drill))
    reference = lasting.data.get("reference") if lasting else (last.pk if last else None)
    if told:
        row, other = told[0]
        changed = any(word and word != row.outcome for word in (row.before, row.expected))
        words = {
            "target": drill.target,
            "attack": row.attack,
            "now": _word(row.outcome),
            "before": _word(row.before),
            "cell": _word(row.expected),
            "digest": row.digest[:12],
            "other": other[:12],
            "reference": reference,
            **({"host": drill.host} if drill.host else {}),
        }
        link = f"/operator/drills/{drill.pk}/"
        alerts.raise_("drill.differs" if changed else "drill.digest", key=key_of(drill), link=link, **words)
    elif lasting is not None and {row.attack: row.outcome for row in results} == selectors.outcomes_of(reference):
        alerts.resolve(key=key_of(drill))


def _word(outcome: str) -> str:
    return OUTCOMES[outcome].word if outcome in OUTCOMES else "–"


def _go_on(drill: Drill) -> None:
    """The plan's next drill waits."""
    plan = DrillSchedule.objects.filter(pk=drill.schedule_id, active=True).first() if drill.schedule_id else None
    if plan is not None and not plan.drills.filter(state=Drill.State.WAITING).exists():
        _plan(plan, next_due(plan, timezone.now()))


@transaction.atomic
def _not_held(drill: Drill, lacking: str) -> None:
    """The host is gone: nothing is executed, the plan is paused and says why."""
    _failed(drill.pk, lacking)
    plan = drill.schedule
    if plan is not None:
        DrillSchedule.objects.filter(pk=plan.pk).update(active=False, reason=lacking)
        _record(None, "paused", drill.target, f"schedule:{plan.pk}", reason=lacking)
        alerts.raise_("drill.paused", key=f"plan:{plan.pk}", link="/operator/drills/", host=drill.host)
    publish.changed("fleet")


def _failed(pk: int, reason: str) -> None:
    Drill.objects.filter(pk=pk).update(
        state=Drill.State.FAILED,
        due_at=None,
        lease_token="",
        lease_until=None,
        held_at=timezone.now(),
        reason=reason[:200],
    )


@transaction.atomic
def drill_failed(drill_id: int, *, reason: str) -> None:
    """Workers died of it three times: it is given up, the plan goes on with its next one."""
    drill = Drill.objects.get(pk=drill_id)
    _failed(drill_id, reason)
    host = {"host": drill.host} if drill.host else {}
    link = f"/operator/drills/{drill.pk}/"
    alerts.raise_("drill.failed", key=f"{key_of(drill)}:failed", link=link, target=drill.target, **host)
    _go_on(drill)
    publish.changed("fleet")


def _record(by: User | None, act: str, target: str, subject: str, **data: Any) -> None:
    audit.record(by=by, type=f"drill.{act}", subject=subject, data={"target": target, **data})
