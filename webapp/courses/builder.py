"""What a teacher builds a course from: settings of items, removing them, and the course itself as one thing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone

from webapp.audit import services as audit
from webapp.courses import deadlines, kinds, selectors, services
from webapp.courses.models import Attempt, Course, Item, ItemVersion, LabWork, LessonAnswer, Mark, Member
from webapp.errors import BadInput, Fault, VpmsError
from webapp.strictjson import digest
from webapp.tenants import quotas

if TYPE_CHECKING:
    from webapp.accounts.models import User

MOST_POINTS: Final = 1000
MOST_TRIES: Final = 100
MOST_DAYS: Final = 3700  # by which dates are shifted
TWICE: Final = dt.timedelta(minutes=1)  # the same copy asked for again within this is the same copy
TIMES: Final = ("visible_from", "due_at", "accepted_until")
SETTINGS: Final = ("title", "points", "late", "late_percent", "tries", *TIMES)


# -- settings of an item


def settings_of(item: Item) -> dict[str, Any]:
    return {name: getattr(item, name) for name in SETTINGS}


def settings_digest(item: Item) -> str:
    """For the ETag: the times as text."""
    return digest({name: str(value) for name, value in settings_of(item).items()})


def settings_checked(item: Item, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with these in the place of the item's own; BadInput names each that cannot be."""
    faults: list[Fault] = []
    wanted = {**settings_of(item), **given}
    try:
        wanted["title"] = services.line("title", str(wanted["title"]), most=120)
    except BadInput as refused:
        faults += refused.faults
    for name, most in (("points", MOST_POINTS), ("late_percent", 100), ("tries", MOST_TRIES)):
        if not isinstance(wanted[name], int) or not 0 <= wanted[name] <= most:
            faults.append(Fault(f"$.{name}", f"must be a whole number from 0 to {most}"))
    if wanted["late"] not in Item.Late.values:
        faults.append(Fault("$.late", f"must be one of {', '.join(Item.Late.values)}"))
    elif not faults and wanted["late"] == Item.Late.DAILY and not wanted["late_percent"]:
        faults.append(Fault("$.late_percent", "is missing: how much is lost for each day"))
    if wanted["tries"] and not kinds.kind_of(item.kind).tries:
        faults.append(Fault("$.tries", "must be 0: of this kind nothing is handed in"))
    due = wanted["due_at"]
    if due and wanted["visible_from"] and wanted["visible_from"] >= due:
        faults.append(Fault("$.visible_from", "must be before it is due"))
    if due and wanted["accepted_until"] and wanted["accepted_until"] < due:
        faults.append(Fault("$.accepted_until", "must not be before it is due"))
    if faults:
        raise BadInput(faults)
    return wanted


@transaction.atomic
def settings_put(*, by: User, item: Item, given: Mapping[str, Any], seen: int | None) -> tuple[Item, int]:
    """Settings that are given change; marks are counted anew by them. The item, and how many marks changed. 412 where
    others changed settings since the version `seen` (None: not told)."""
    selectors.must_change(user=by, course=item.course)
    row = Item.objects.select_for_update().select_related("course").get(pk=item.pk)
    wanted = settings_checked(row, given)
    before = settings_of(row)
    changed = {name: value for name, value in wanted.items() if value != before[name]}
    if not changed:
        return row, 0
    if not wanted["points"] and Mark.objects.filter(item=row).exists():
        raise BadInput([Fault("$.points", "must be above 0: students have marks on it")])
    if seen is not None and seen != row.settings_version:
        rows = [{"setting": name, "now": str(before[name]), "then": str(value)} for name, value in changed.items()]
        message = "Settings were changed meanwhile, and you had read others. Nothing was saved."
        raise VpmsError("stale", 412, {"version": row.settings_version, "changed": [], "changes": rows}, message)
    for name, value in changed.items():
        setattr(row, name, value)
    row.settings_version += 1
    row.save(update_fields=[*changed, "settings_version"])
    told = {"item": row.pk, "settings": sorted(changed)}
    audit.record(by=by, type="course.item", subject=f"course:{row.course_id}", data=told)
    counts = {"points", "due_at", "late", "late_percent", "accepted_until"}
    return row, services.marks_recount(row, points_before=before["points"]) if counts & changed.keys() else 0


# -- new, and gone


def blank_add(*, by: User, course: Course, kind: str) -> Item:
    """A blank item of this kind at the end. One that is still as it was made is given again, not a second one."""
    row = kinds.kind_of(kind)
    untouched = Item.objects.filter(course=course, kind=kind, text=row.blank, version=1, settings_version=1)
    found = untouched.filter(shown=False).order_by("-pk").first()
    if found is not None and selectors.must_change(user=by, course=course):
        return found
    return services.item_add(by=by, course=course, kind=kind, title=f"{row.label}", text=row.blank, points=row.points)


def goes_with(item: Item) -> dict[str, int]:
    """What is deleted with an item, counted; of answers and attempts those of students."""
    students = Member.objects.filter(course=item.course_id, role=Member.Role.STUDENT)
    return {
        "marks": Mark.objects.filter(item=item).count(),
        "attempts": Attempt.objects.filter(item=item, member__in=students).count(),
        "drafts": LabWork.objects.filter(item=item, member__in=students).exclude(text="").count(),
        "answers": LessonAnswer.objects.filter(item=item, user__in=students.values("user")).count(),
        "versions": ItemVersion.objects.filter(item=item).count(),
    }


@transaction.atomic
def item_delete(*, by: User, item: Item, with_work: bool = False) -> dict[str, int]:
    """The item goes, with all that belongs to it; what went. Where students have worked on it only `with_work`."""
    selectors.must_change(user=by, course=item.course)
    Item.objects.select_for_update().get(pk=item.pk)
    gone = goes_with(item)
    worked = any(gone[name] for name in ("marks", "attempts", "drafts", "answers"))
    if worked and not with_work:
        raise VpmsError("has_work", 409, gone, "Students have worked on it. Say that their work may go with it.")
    number = item.pk
    item.delete()
    for place, pk in enumerate(Item.objects.filter(course=item.course_id).values_list("pk", flat=True), 1):
        Item.objects.filter(pk=pk).exclude(place=place).update(place=place)
    audit.record(by=by, type="course.item_deleted", subject=f"course:{item.course_id}", data={"item": number, **gone})
    return gone


# -- the course


def course_digest(course: Course) -> str:
    return digest({"title": course.title, "summary": course.summary, "archived": str(course.archived_at)})


@transaction.atomic
def course_put(*, by: User, course: Course, title: str, summary: str, seen: int | None) -> Course:
    """Another title and summary; 412 where others changed them since the version `seen` (None: not told)."""
    selectors.must_change(user=by, course=course)
    row = Course.objects.select_for_update().get(pk=course.pk)
    title, summary = services.line("title", title, most=120), services.line("summary", summary, most=500)
    before = {"title": row.title, "summary": row.summary}
    changed = {name: value for name, value in (("title", title), ("summary", summary)) if value != before[name]}
    if not changed:
        return row
    if seen is not None and seen != row.version:
        rows = [{"setting": name, "now": before[name], "then": value} for name, value in changed.items()]
        message = "The course was changed meanwhile, and you had read it as it was before. Nothing was saved."
        raise VpmsError("stale", 412, {"version": row.version, "changed": [], "changes": rows}, message)
    row.title, row.summary, row.version = title, summary, row.version + 1
    row.save(update_fields=["title", "summary", "version"])
    audit.record(by=by, type="course.renamed", subject=f"course:{row.pk}", data={})
    return row


@transaction.atomic
def course_archive(*, by: User, course: Course, archived: bool) -> Course:
    """From now on the course is read and nothing in it changes, or it goes on. An open class is ended first."""
    selectors.must_teach(user=by, course=course)
    row = Course.objects.select_for_update().get(pk=course.pk)
    if (row.archived_at is not None) == archived:
        return row
    if archived and row.sessions.filter(ended_at__isnull=True).exists():
        raise VpmsError("not_possible", 409, message="A class of this course is open. End it first.")
    row.archived_at = timezone.now() if archived else None
    row.version += 1
    row.save(update_fields=["archived_at", "version"])
    what = "course.archived" if archived else "course.brought_back"
    audit.record(by=by, type=what, subject=f"course:{row.pk}", data={})
    return row


@transaction.atomic
def course_copy(*, by: User, course: Course, title: str, days: int) -> Course:
    """A new course with the same items, their dates shifted by so many days at the same time of day; without students,
    marks, sessions and earlier versions. The person is its one teacher. Asked for twice in a row it is made once."""
    selectors.must_teach(user=by, course=course)
    if not -MOST_DAYS <= days <= MOST_DAYS:
        raise BadInput([Fault("$.days", f"must be a whole number from -{MOST_DAYS} to {MOST_DAYS}")])
    title = services.line("title", title, most=120)
    Course.objects.select_for_update().get(pk=course.pk)
    twin = Course.objects.filter(copied_from=course, title=title, members__user=by, version=1)
    found = twin.filter(made_at__gte=timezone.now() - TWICE).first()
    if found is not None:
        return found
    made = services.course_create(by=by, title=title, summary=course.summary)
    Course.objects.filter(pk=made.pk).update(copied_from=course)
    for item in Item.objects.filter(course=course):
        kept = {name: getattr(item, name) for name in (*SETTINGS, "kind", "text", "place", "shown")}
        kept |= {name: deadlines.shifted(kept[name], days) for name in TIMES if kept[name]}
        copy = Item.objects.create(course=made, **kept)
        ItemVersion.objects.create(item=copy, version=1, text=copy.text, by=by)
    quotas.expect_stored(by=by, path="$.title")
    made.copied_from = course
    return made
