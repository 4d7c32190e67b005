"""Reads of drills: for operators and auditors of the site; to everybody else there are none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db.models import Exists, OuterRef, QuerySet, Subquery

from webapp.classroom.models import Cell, Drill, DrillResult, DrillSchedule
from webapp.classroom.services import file_digest
from webapp.classroom.wording import OUTCOMES
from webapp.fleet.models import Host
from webapp.notices.models import Alert
from webapp.runs.engine import ENGINE_VERSION
from webapp.tenants.selectors import missing as missing

if TYPE_CHECKING:
    from webapp.accounts.models import User

HOSTS_OFFERED: Final = 500


class Wanted(NamedTuple):
    """What is looked for in the history; what is empty does not narrow it."""

    target: str = ""
    outcome: str = ""
    differs: bool = False


def schedules_of(*, user: User) -> QuerySet[DrillSchedule]:
    """The plans, each with `due`, when its next drill is, and `waiting` while one is due or under way."""
    if not user.sees_site:
        return DrillSchedule.objects.none()
    waiting = Drill.objects.filter(schedule=OuterRef("pk"), state=Drill.State.WAITING).values("due_at")
    return DrillSchedule.objects.select_related("made_by").annotate(due=Subquery(waiting[:1]))


def schedule_get(*, user: User, pk: int) -> DrillSchedule:
    found = schedules_of(user=user).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise missing()
    return found


def drills_of(*, user: User) -> QuerySet[Drill]:
    """The drills that were held, newest first, and those that people asked for and that wait."""
    found = Drill.objects.select_related("by", "schedule")
    if not user.sees_site:
        return found.none()
    return found.exclude(state=Drill.State.WAITING, schedule__isnull=False).order_by("-id")


def drills_wanted(*, user: User, wanted: Wanted) -> QuerySet[Drill]:
    found = drills_of(user=user)
    if wanted.target:
        found = found.filter(host=wanted.target) | found.filter(host="", architecture=wanted.target)
    if wanted.differs:
        found = found.filter(differs__gt=0)
    if wanted.outcome in OUTCOMES:
        found = found.filter(Exists(DrillResult.objects.filter(drill=OuterRef("pk"), outcome=wanted.outcome)))
    return found


def drill_get(*, user: User, pk: int) -> Drill:
    found = drills_of(user=user).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise missing()
    return found


def drill_before(drill: Drill) -> Drill | None:
    """The newest drill of the same target that was held before this one."""
    held = Drill.objects.filter(state=Drill.State.DONE).exclude(pk=drill.pk).order_by("-held_at", "-id")
    if drill.held_at is not None:
        held = held.filter(held_at__lt=drill.held_at)
    same = held.filter(host=drill.host) if drill.host else held.filter(host="", architecture=drill.architecture)
    return same.prefetch_related("results").first()


def outcomes_of(drill: Any) -> dict[str, str]:
    """How each attack of a drill ended; None: of no drill."""
    return dict(DrillResult.objects.filter(drill=drill).values_list("attack", "outcome")) if drill else {}


def cells_now(architecture: str) -> dict[str, Cell]:
    """The table's column of this architecture, as far as it was executed by this engine from the files of now."""
    cells = Cell.objects.filter(
        architecture=architecture, skip="", state=Cell.State.DONE, engine_version=ENGINE_VERSION
    ).defer("verdict")
    return {cell.attack: cell for cell in cells if cell.file_digest == file_digest(cell.attack)}


def alert_of(key: str) -> Alert | None:
    """The alert of this key that is not over."""
    return Alert.objects.filter(key=key).exclude(state=Alert.State.RESOLVED).first()


def hosts_named() -> list[str]:
    """The hosts on which a drill can be held."""
    found = Host.objects.order_by("name")
    if any(field.name == "retired_at" for field in Host._meta.fields):
        found = found.filter(retired_at__isnull=True)
    return list(found.values_list("name", flat=True)[:HOSTS_OFFERED])
