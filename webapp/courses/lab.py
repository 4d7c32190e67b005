"""The attack lab: drafts, hints, and attempts that a worker executes and grades. (interface.md L3)

A student's file is data in the engine's bounded language, so nothing of it can do harm here: it is read strictly, its
steps, frames and cores are limited by the task, and it is executed on machines of its own. Practice takes any seed.
What is handed in runs with the student's one graded seed, and of that run only the goals' sentences are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from hsvm_engine.attackfile import Attack
from hsvm_engine.attacktext import AttackFileError
from hsvm_engine.goals import grade, told
from hsvm_engine.labtask import Task, public_text, read_answer, read_task
from webapp import jobs
from webapp.audit import services as audit
from webapp.courses import deadlines, selectors, services
from webapp.courses.kinds import Earned
from webapp.courses.lab_similarity import Alike, alike
from webapp.courses.models import Attempt, Item, LabWork, Mark, Member
from webapp.courses.texts import at
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish

if TYPE_CHECKING:
    from webapp.accounts.models import User

KIND: Final = "attack"
BLANK: Final = (Path(__file__).parent / "blanks" / "attack.yaml").read_text()
SHIPPED: Final = Path(__file__).parent / "labs"
MOST_WAITING: Final = 5  # attempts of one student that no worker has finished
PRACTICE_KEPT: Final = 50  # practice runs of one student on one task; what was handed in stays
MOST_REGRADED: Final = 20  # files of one student, the newest; and the one that counts now
MOST_SEED: Final = (1 << 53) - 1
LONGEST_FILE: Final = 64 * 1024


class Place(NamedTuple):
    """One fault of a text, where it stands."""

    line: int
    column: int
    reason: str


# -- tasks


def read(text: str) -> Task:
    """The task in a text; BadInput with line and column."""
    try:
        return _task(text)
    except AttackFileError as wrong:
        raise at(wrong.line, wrong.column, wrong.reason) from None


@lru_cache(maxsize=64)
def _task(text: str) -> Task:
    return read_task(text)


def _bad(wrong: AttackFileError) -> BadInput:
    return BadInput([Fault("$.text", f"line {wrong.line}, column {wrong.column}: {wrong.reason}")])


def shipped(language: str = "en") -> Sequence[tuple[str, str]]:
    """Name and text of each task that comes with the product, in the language where there is one."""
    paths = sorted(SHIPPED.glob("*.yaml"))
    own = {path.stem: path for path in SHIPPED.glob(f"{language}/*.yaml")} if language.isalpha() else {}
    return [(path.stem, own.get(path.stem, path).read_text()) for path in paths]


def task_of(item: Item) -> Task:
    """The task of an item of this kind; to everything else a lab is missing."""
    if item.kind != KIND:
        raise selectors.missing()
    return read(item.text)


def students_copy(item: Item) -> str:
    """The task for the command line: without hidden tests and hints."""
    task_of(item)
    return public_text(item.text)


def places(task: Task, text: str) -> tuple[Attack | None, list[Place]]:
    """The attack in a text as the task allows it, or where the text is wrong."""
    try:
        return read_answer(task, text), []
    except AttackFileError as wrong:
        return None, [Place(wrong.line, wrong.column, wrong.reason)]


# -- drafts and hints


def work_of(*, item: Item, member: Member) -> LabWork:
    """What the student has before this lab; an unsaved row where there is nothing yet."""
    return LabWork.objects.filter(item=item, member=member).first() or LabWork(item=item, member=member)


def draft_save(*, by: User, item: Item, member: Member, text: str) -> LabWork:
    """Keep the file as it stands in the editor, faulty or not. Whatever is longer than a file may be is refused."""
    _own(by, member)
    task_of(item)
    if len(text.encode(errors="surrogatepass")) > LONGEST_FILE or "\0" in text:
        raise BadInput([Fault("$.text", "is longer than 64 KiB, or holds what is no text")])
    row, _ = LabWork.objects.update_or_create(
        item=item, member=member, defaults={"text": text, "saved_at": timezone.now()}
    )
    return row


@transaction.atomic
def hint_take(*, by: User, item: Item, member: Member, number: int, cost: int) -> LabWork:
    """Show the next hint, for the cost that was told. Asked for again it costs nothing more; one out of its turn, or
    one whose cost is another meanwhile, is refused."""
    _own(by, member)
    task = task_of(item)
    row, _ = LabWork.objects.select_for_update().get_or_create(item=item, member=member)
    if not 1 <= number <= len(task.hints):
        raise BadInput([Fault("$.number", f"must be the number of a hint, from 1 to {len(task.hints)}")])
    if number > row.hints + 1:
        raise BadInput([Fault("$.number", f"is not the next one: hint {row.hints + 1} comes first")])
    if task.hints[number - 1].cost != cost:
        raise BadInput([Fault("$.cost", f"is another now: this hint costs {task.hints[number - 1].cost} percent")])
    if number == row.hints + 1:
        row.hints = number
        row.save(update_fields=["hints"])
        audit.record(by=by, type="course.hint", subject=f"course:{item.course_id}", data={"item": item.pk})
    return row


def cost_of(task: Task, hints: int) -> int:
    """Percent of the points that so many hints cost."""
    return sum(hint.cost for hint in task.hints[:hints])


def _own(by: User, member: Member) -> None:
    if member.user_id != by.pk:
        raise selectors.missing()


# -- attempts


def attempt_check(*, item: Item, text: str) -> Attack:
    """The attack in a text as the item's task allows it; BadInput with line and column."""
    try:
        return read_answer(task_of(item), text)
    except AttackFileError as wrong:
        raise _bad(wrong) from None


@transaction.atomic
def attempt_make(*, by: User, item: Item, member: Member, text: str, graded: bool = False, seed: int = 0) -> Attempt:
    """Queue a file to be executed: with a seed of the student's own, or handed in. A faulty file is refused with its
    place. The same file that waits already is not queued twice."""
    _own(by, member)
    attempt_check(item=item, text=text)
    if not 0 <= seed <= MOST_SEED:
        raise BadInput([Fault("$.seed", f"must be a whole number from 0 to {MOST_SEED}")])
    Member.objects.select_for_update().get(pk=member.pk)  # two of one student's at once are counted one after the other
    mine = Attempt.objects.filter(member=member)
    waiting = mine.filter(state=Attempt.State.WAITING)
    digest = hashlib.sha256(text.encode()).hexdigest()
    kept_seed = None if graded else seed
    twin = waiting.filter(item=item, digest=digest, graded=graded, seed=kept_seed, item_version=item.version).first()
    if twin is not None:
        return twin
    if graded:
        services.expect_open(item=item, used=tries_used(item=item, member=member), at=timezone.now())
    if waiting.count() >= MOST_WAITING:
        told_most = f"{MOST_WAITING} of your attempts wait already. Send this one when one of them is graded."
        raise VpmsError("too_many", 409, message=told_most)
    row, _ = LabWork.objects.get_or_create(item=item, member=member)
    LabWork.objects.filter(pk=row.pk).update(text=text, saved_at=timezone.now(), number=F("number") + 1)
    made = Attempt.objects.create(
        item=item,
        member=member,
        text=text,
        digest=digest,
        graded=graded,
        seed=kept_seed,
        item_version=item.version,
        hints=row.hints,
        due_at=timezone.now(),
    )
    _forget_old(mine.filter(item=item, graded=False))
    if graded:
        audit.record(by=by, type="course.handed_in", subject=f"course:{item.course_id}", data={"item": item.pk})
    _changed(made)
    publish.wake_keeper()
    return made


def tries_used(*, item: Item, member: Member) -> int:
    """How often the member handed in; what was given up counts as no try."""
    handed_in = Attempt.objects.filter(item=item, member=member, graded=True)
    return handed_in.exclude(state=Attempt.State.FAILED).count()


def _forget_old(practice: Any) -> None:
    old = practice.exclude(state=Attempt.State.WAITING).order_by("-pk").values_list("pk", flat=True)[PRACTICE_KEPT:]
    Attempt.objects.filter(pk__in=list(old)).delete()


def topic(item_id: int, member_id: int) -> str:
    return f"lab/{item_id}-{member_id}"


def _changed(attempt: Attempt) -> None:
    publish.changed(topic(attempt.item_id, attempt.member_id))


def _count(attempt: Attempt) -> None:
    LabWork.objects.filter(item=attempt.item_id, member=attempt.member_id).update(number=F("number") + 1)
    _changed(attempt)


def attempts_of(*, item: Item, member: Member) -> Any:
    """The member's attempts at this item, newest first."""
    return Attempt.objects.filter(item=item, member=member).defer("text")


def attempt_get(*, user: Any, pk: int) -> tuple[Attempt, Member]:
    """An attempt of one's own, or of a student in a course that one teaches; and the person as a member."""
    found = Attempt.objects.select_related("item__course", "member").filter(pk=pk).first()
    if found is None:
        raise selectors.missing()
    item, member = selectors.item_get(user=user, pk=found.item_id)
    if found.member_id != member.pk and not member.teaches:
        raise selectors.missing()
    found.item = item
    return found, member


# -- the worker's side


def attempt_work(*, attempt_id: int) -> None:
    """Execute and grade one attempt and keep what it came to. A repeated or late message changes nothing. A student has
    one worker at a time: whoever hands in what takes long keeps nobody else waiting."""
    busy = Attempt.objects.filter(member__attempts_of=attempt_id, lease_until__gte=timezone.now())
    if busy.exclude(pk=attempt_id).exists():
        return
    token = jobs.claim(Attempt, attempt_id, state=Attempt.State.WAITING)
    if token is None:
        return
    attempt = Attempt.objects.select_related("item", "member").get(pk=attempt_id)
    with jobs.kept(Attempt, attempt_id, token):
        result = graded_now(attempt, task_of(attempt.item))
    _keep(attempt, token, result)


def graded_now(attempt: Attempt, task: Task) -> dict[str, Any]:
    """The grade of an attempt's file by a task; of what was handed in, without whatever its seed shows in. A file that
    the task does not allow (any more) is worth nothing, and the reason is told."""
    seed = services.graded_seed(attempt.item, attempt.member) if attempt.graded else attempt.seed or 0
    try:
        found = grade(task, read_answer(task, attempt.text), seed)
    except AttackFileError as wrong:
        reason = f"line {wrong.line}, column {wrong.column}: {wrong.reason}"
        return {"points": 0, "of": task.points, "goals": [], "hidden": [], "refused": reason}
    return told(found) if attempt.graded else found


@transaction.atomic
def _keep(attempt: Attempt, token: str, result: Mapping[str, Any]) -> None:
    """Result and mark: both, or nothing where the lease was lost."""
    kept = jobs.commit(
        Attempt,
        attempt.pk,
        token,
        due_at=None,
        state=Attempt.State.DONE,
        result=result,
        points=result["points"],
        item_version=attempt.item.version,
        done_at=timezone.now(),
    )
    if not kept:
        return
    if attempt.graded and attempt.item.points and not attempt.member.teaches:
        earned = earned_by(attempt, task_of(attempt.item), result)
        services.mark_put(
            item=attempt.item,
            member=attempt.member,
            earned=earned.points,
            reasons=earned.reasons,
            handed_in_at=attempt.made_at,
        )
    _count(attempt)
    waiting = Attempt.objects.filter(member=attempt.member, state=Attempt.State.WAITING, lease_until__isnull=True)
    waiting.update(enqueued_at=None)  # what was passed over meanwhile
    publish.wake_keeper()  # the next in the queue need not wait for a tick


@transaction.atomic
def attempt_failed(attempt_id: int, *, reason: str) -> None:
    """Workers died of it three times: it is given up, and says so. It counts for nothing."""
    Attempt.objects.filter(pk=attempt_id).update(
        state=Attempt.State.FAILED,
        due_at=None,
        lease_token="",
        lease_until=None,
        attempts=0,
        reason=reason[:400],
        done_at=timezone.now(),
    )
    _count(Attempt.objects.get(pk=attempt_id))


@transaction.atomic
def attempt_again(*, by: User, attempt: Attempt) -> None:
    """One that was given up is executed again from the beginning; the caller has checked who asks."""
    changed = Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.FAILED).update(
        state=Attempt.State.WAITING, reason="", done_at=None, due_at=timezone.now(), enqueued_at=None
    )
    if not changed:
        raise VpmsError("not_possible", 409, message="This is not possible in the state that it is in now.")
    audit.record(by=by, type="job.again", subject=f"attempt:{attempt.pk}", data={"kind": "attempt"})
    _count(attempt)
    publish.wake_keeper()


# -- for teachers


def alike_of(item: Item) -> list[Alike]:
    """Pairs of members whose files, as they handed them in last, are much alike: a reason to look, no verdict."""
    files, starter = kind_files(item)
    return alike(files, starter=starter)


def kind_files(item: Item) -> tuple[dict[int, str], str]:
    """The file that each member handed in last, and the task's own."""
    handed_in = Attempt.objects.filter(item=item, graded=True).order_by("pk").values_list("member_id", "text")
    return dict(handed_in), task_of(item).starter


def kind_hints(item: Item, member: Member) -> list[dict[str, Any]]:
    """The hints that the member took, with what each costs."""
    taken = task_of(item).hints[: work_of(item=item, member=member).hints]
    return [{"number": number, "cost": hint.cost, "says": hint.says} for number, hint in enumerate(taken, 1)]


# -- what it is worth


def earned_by(attempt: Attempt, task: Task, result: Mapping[str, Any]) -> Earned:
    """The item's points for a grade, with a reason for each goal and for what the hints cost."""
    scale = attempt.item.points / task.points
    rows = [*result["goals"], *({**row, "name": f"Hidden test {n}"} for n, row in enumerate(result["hidden"], 1))]
    reasons: list[dict[str, Any]] = [
        {
            "name": row["name"],
            "points": round(row["points"] * scale, 4),
            "of": round(row["of"] * scale, 4),
            "says": row["says"],
        }
        for row in rows
    ]
    if result.get("refused"):
        reasons.append({"name": "The file", "points": 0, "of": 0, "says": f"It is refused: {result['refused']}."})
    points = result["points"] * scale
    percent = cost_of(task, attempt.hints)
    if percent:
        says = f"{percent} percent of the points for the hints that were taken before."
        reasons.append({"name": "Hints", "points": -round(points * percent / 100, 4), "of": 0, "says": says})
    return Earned(round(points * (100 - percent) / 100, 4), reasons)


def kind_grade(item: Item, task: Task, member: Member) -> Earned | None:
    """What of the files that the member handed in counts most by this task, as for marks the best one stands: of the
    newest ones, and of the one that the mark came from. None: nothing was handed in."""
    graded = Attempt.objects.filter(item=item, member=member, graded=True, state=Attempt.State.DONE)
    held = Mark.objects.filter(item=item, member=member).values_list("handed_in_at", flat=True).first()
    found = {row.pk: row for row in (*graded[:MOST_REGRADED], *graded.filter(made_at=held))}
    best: Earned | None = None
    for row in sorted(found.values(), key=lambda row: row.pk):
        row.item, row.member = item, member
        earned = replace(earned_by(row, task, graded_now(row, task)), at=row.made_at)
        if best is None or _counts(item, earned) > _counts(item, best):
            best = earned
    return best


def _counts(item: Item, earned: Earned) -> float:
    at = earned.at or timezone.now()
    return deadlines.counted(item, earned.points, deadlines.days_late(item, at), at)
