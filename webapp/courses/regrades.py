"""Grade again: after a text or its hidden tests were corrected, what everybody would have, before anything is changed.

A worker grades what was handed in by the text as it is now, one student after the other; each row is written with the
lease that the worker holds, so one that dies leaves what is done and doubles nothing. No mark changes until the whole
is applied as one act, and only while the marks are those that the worker saw.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, Max
from django.utils import timezone

from webapp import jobs
from webapp.audit import services as audit
from webapp.courses import adjustments, deadlines, kinds, selectors, services
from webapp.courses.models import Attempt, Item, Mark, Member, Regrade, RegradeRow
from webapp.errors import BadInput, VpmsError
from webapp.live import publish

if TYPE_CHECKING:
    from webapp.accounts.models import User

SLICE_SECONDS: Final = 2.0  # then the next in the queue has its turn
NAMED: Final = 10  # students that a refusal names
CHANGED: Final = "The text was changed meanwhile. Begin again to grade by the one that it has now"
State = Regrade.State
NONE: Final = Mark(item_version=0)  # stands where there is no mark


def regrade_get(*, teacher: Member, pk: int) -> Regrade:
    """A regrade of the teacher's course; 404 for everything else."""
    found = Regrade.objects.select_related("item", "by").filter(pk=pk, item__course=teacher.course).first()
    if found is None:
        raise selectors.missing()
    found.item.course = teacher.course
    return found


@transaction.atomic
def regrade_start(*, by: User, item: Item) -> Regrade:
    """Everybody's work on the item is graded by its present text, to look at. One that is open for this text already is
    that one; one that is open for an older text is discarded."""
    teacher = selectors.must_change(user=by, course=item.course)
    item = Item.objects.select_for_update().select_related("course").get(pk=item.pk)
    if kinds.kind_of(item.kind).grade is None or not item.points:
        raise VpmsError("not_possible", 409, message="Nothing of this item can be graded again.")
    held = Regrade.objects.select_for_update().filter(item=item, state__in=Regrade.OPEN).first()
    if held is not None and held.item_version == item.version:
        return held
    if held is not None:
        _end(held, State.DISCARDED, reason=CHANGED)
    students = Member.objects.filter(course=item.course, role=Member.Role.STUDENT)
    made = Regrade.objects.create(
        item=item, by=teacher, item_version=item.version, total=students.count(), due_at=timezone.now()
    )
    RegradeRow.objects.bulk_create([RegradeRow(regrade=made, member=member) for member in students])
    _record(by, made, "begun")
    _changed(made)
    publish.wake_keeper()
    return made


@transaction.atomic
def regrade_cancel(*, by: User, regrade: Regrade) -> Regrade:
    """The worker stops at the next student; nothing of it can be applied any more."""
    return _left(by, regrade, State.RUNNING, State.CANCELLED)


@transaction.atomic
def regrade_discard(*, by: User, regrade: Regrade) -> Regrade:
    """The marks stay as they are."""
    return _left(by, regrade, State.READY, State.DISCARDED)


def _left(by: User, regrade: Regrade, before: Regrade.State, after: Regrade.State) -> Regrade:
    row = _locked(by, regrade)
    if row.state == after:
        return row
    _expect(row, before)
    _end(row, after)
    _record(by, row, str(after))
    return row


def _locked(by: User, regrade: Regrade) -> Regrade:
    selectors.must_change(user=by, course=regrade.item.course)
    row = Regrade.objects.select_for_update().get(pk=regrade.pk)
    row.item = regrade.item
    return row


def _expect(row: Regrade, state: Regrade.State) -> None:
    if row.state != state:
        raise VpmsError("not_possible", 409, message="This is not possible in the state that it is in now.")


def _end(row: Regrade, state: Regrade.State, **changes: Any) -> None:
    row.state, row.ended_at = state, timezone.now()
    Regrade.objects.filter(pk=row.pk).update(
        state=state, ended_at=row.ended_at, due_at=None, lease_token="", lease_until=None, **changes
    )
    _changed(row)


def _record(by: User | None, row: Regrade, what: str, **told: Any) -> None:
    data = {"item": row.item_id, "regrade": row.pk, "what": what, **told}
    audit.record(by=by, type="course.regrade", subject=f"course:{row.item.course_id}", data=data)


# -- the worker's side


def regrade_work(*, regrade_id: int) -> None:
    """Grade a few students' work. A repeated or late message changes nothing."""
    token = jobs.claim(Regrade, regrade_id, state=State.RUNNING)
    if token is None:
        return
    regrade = Regrade.objects.select_related("item__course").get(pk=regrade_id)
    if regrade.item.version != regrade.item_version:
        _finish(regrade, token, state=State.FAILED, reason=CHANGED)
        return
    try:
        definition = kinds.read(regrade.item.kind, regrade.item.text)
    except BadInput as faulty:
        _finish(regrade, token, state=State.FAILED, reason=faulty.message[:400])
        return
    end = time.monotonic() + SLICE_SECONDS
    with jobs.kept(Regrade, regrade_id, token):
        for row in regrade.rows.filter(done=False).select_related("member__user"):
            if not _row(regrade, token, row, definition):
                return  # cancelled, or the lease was lost
            if time.monotonic() > end:
                break
    if regrade.rows.filter(done=False).exists():
        jobs.commit(Regrade, regrade_id, token, due_at=timezone.now())
        publish.wake_keeper()
    else:
        _finish(regrade, token, state=State.READY)


def _finish(regrade: Regrade, token: str, **changes: Any) -> None:
    if jobs.commit(Regrade, regrade.pk, token, due_at=None, ended_at=timezone.now(), **changes):
        _changed(regrade)


def _row(regrade: Regrade, token: str, row: RegradeRow, definition: Any) -> bool:
    """Grade one student's work and keep what it came to, if the lease is still ours: row and count, or neither."""
    item, member = regrade.item, row.member
    grade: Any = kinds.kind_of(item.kind).grade
    was = snapshot(item, member)  # before the work is read: what comes meanwhile is seen when it is applied
    earned = grade(item, definition, member)
    now = None
    if earned is not None:
        at = earned.at or (dt.datetime.fromisoformat(was["at"]) if was["at"] else timezone.now())
        days = deadlines.days_late(item, at)
        late = deadlines.late_reason(item, earned.points, days, at)
        now = {
            "earned": earned.points,
            "points": deadlines.counted(item, earned.points, days, at),
            "reasons": [*map(dict, earned.reasons), *([late] if late else [])],
            "days_late": days,
            "at": at.isoformat(),
        }
    with transaction.atomic():
        ours = Regrade.objects.filter(pk=regrade.pk, lease_token=token, state=State.RUNNING)
        if not ours.update(done=F("done") + 1, attempts=0):
            return False
        row.was, row.now, row.done = was, now, True
        row.changes = now is not None and now["points"] != was["work"]
        row.save(update_fields=["was", "now", "done", "changes"])
    _changed(regrade)
    return True


def snapshot(item: Item, member: Member, mark: Mark | None = None, newest: int | None = None) -> dict[str, Any]:
    """What a student has now: `points` that count (null: no mark), `work` what the work itself counts, and the number
    of the newest work that was graded."""
    if mark is None:
        mark = Mark.objects.filter(item=item, member=member).first()
    if newest is None:
        newest = _newest(item, member=member).get(member.pk, 0)
    work = mark if mark is not None and mark.item_version else None
    return {
        "points": mark.points if mark else None,
        "work": services.by_work(work) if work else None,
        "by_hand": mark is not None and mark.computed is not None,
        "earned": work.earned if work else None,
        "reasons": work.reasons if work else [],
        "days_late": work.days_late if work else 0,
        "version": work.item_version if work else None,
        "at": work.handed_in_at.isoformat() if work else "",
        "newest": newest,
    }


def _newest(item: Item, **which: Any) -> dict[int, int]:
    graded = Attempt.objects.filter(item=item, graded=True, state=Attempt.State.DONE, **which).order_by()
    return dict(graded.values_list("member").annotate(newest=Max("pk")))


def regrade_failed(regrade_id: int, *, reason: str) -> None:
    """Workers died of it three times at the same student: it is given up, and says so. No mark was changed."""
    row = Regrade.objects.get(pk=regrade_id)
    _end(row, State.FAILED, reason=reason[:400], attempts=0)


# -- to apply it


@transaction.atomic
def regrade_apply(*, by: User, regrade: Regrade) -> Regrade:
    """Every mark becomes what was shown, as one act; the students whose points change are told. Refused whole, with
    names, where a mark or the work behind it is another than the worker saw."""
    row = _locked(by, regrade)
    if row.state == State.APPLIED:
        return row
    _expect(row, State.READY)
    item = Item.objects.select_for_update().select_related("course").get(pk=row.item_id)
    if item.version != row.item_version:
        raise VpmsError("outdated", 409, message=f"{CHANGED}.")
    rows = list(row.rows.select_related("member__user"))
    marks = {mark.member_id: mark for mark in Mark.objects.select_for_update().filter(item=item)}
    _expect_unmoved(item, rows, marks)
    changed = [each for each in rows if each.now is not None and _write(item, each, marks.get(each.member_id))]
    _end(row, State.APPLIED)
    _record(by, row, "applied", changed=len(changed))
    for each in changed:
        adjustments.tell(item, each.member, "mark.regraded", f"{row.pk}", each.now["points"])  # type: ignore[index]
        services.marked(item, each.member)
    return row


def _expect_unmoved(item: Item, rows: list[RegradeRow], marks: dict[int, Mark]) -> None:
    newest = _newest(item)
    moved = [
        each.member.nickname
        for each in rows
        if snapshot(item, each.member, marks.get(each.member_id) or NONE, newest.get(each.member_id, 0)) != each.was
    ]
    if moved:
        told = ", ".join(moved[:NAMED]) + (f" and {len(moved) - NAMED} others" if len(moved) > NAMED else "")
        raise VpmsError(
            "marks_changed",
            409,
            message=f"Meanwhile something was changed for {told}. Nothing was applied; begin again.",
        )


def _write(item: Item, row: RegradeRow, mark: Mark | None) -> bool:
    """The mark as the row says; whether what counts is another now."""
    now: Any = row.now
    by_hand = mark is not None and mark.computed is not None
    fields = {
        "earned": now["earned"],
        "computed" if by_hand else "points": now["points"],
        "reasons": now["reasons"],
        "days_late": now["days_late"],
        "handed_in_at": dt.datetime.fromisoformat(now["at"]),
        "item_version": item.version,
    }
    Mark.objects.update_or_create(item=item, member=row.member, defaults=fields)
    return row.changes and not by_hand


# -- to look at it


def topic(pk: int) -> str:
    return f"regrade/{pk}"


def _changed(regrade: Regrade) -> None:
    publish.changed(topic(regrade.pk))


def number(regrade: Regrade) -> int:
    """Rises with everything that happens to it: the topic's sequence number."""
    past = {State.RUNNING: regrade.done, State.READY: regrade.total + 1}
    return past.get(State(regrade.state), regrade.total + 2)


def shown(regrade: Regrade) -> dict[str, Any]:
    """What would change, the largest loss first, and how many stay as they are."""
    rows = [_row_shown(row) for row in regrade.rows.select_related("member__user") if row.done]
    changes = sorted((row for row in rows if row["changes"]), key=lambda row: (row["by"], row["member"].nickname))
    return {
        "changes": changes,
        "same": sum(1 for row in rows if not row["changes"] and row["now"] is not None),
        "none": sum(1 for row in rows if row["now"] is None),
        "percent": 100 if not regrade.total else int(100 * regrade.done / regrade.total),
    }


def _row_shown(row: RegradeRow) -> dict[str, Any]:
    was, now = row.was or {}, row.now
    points = now["points"] if now else None
    return {
        "member": row.member,
        "changes": row.changes,
        "was": was.get("work"),
        "now": points,
        "by": (points or 0.0) - (was.get("work") or 0.0),
        "by_hand": was.get("by_hand", False),
        "counts": was.get("points") if was.get("by_hand") else points,
        "why": list(differences(was, now)) if now and row.changes else [],
    }


def differences(was: dict[str, Any], now: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The predicates that count another number of points, each with the sentence of now; lateness is one of them."""
    before = {row["name"]: row for row in was.get("reasons", [])}
    after = {row["name"]: row for row in now["reasons"]}
    for name in [*after, *(name for name in before if name not in after)]:
        one, other = before.get(name), after.get(name)
        if (one or {}).get("points") != (other or {}).get("points"):
            says = other["says"] if other else "It is not asked any more."
            yield {
                "name": name, "was": one["points"] if one else None, "now": other["points"] if other else None,
                "says": says,
            }  # fmt: skip
