"""The gradebook: students and graded items of a course as one table, one cell of it, and what a student sees of it.

Every door takes the person who asks. To whoever does not teach the course its gradebook is as missing as one that does
not exist; a student has a page of their own marks.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.db.models import Count
from django.utils import timezone

from webapp.courses import kinds, selectors
from webapp.courses.lab_similarity import alike, alike_to
from webapp.courses.models import Adjustment, Attempt, Course, Item, Mark, Member
from webapp.errors import BadInput, Fault

PAGE: Final = 100  # students at once
SHOWS: Final = ("all", "missing", "late", "adjusted", "outdated", "left")
LARGEST: Final = 1 << 53  # that is the number of anything
MOST_LINES: Final = 2000  # of a file that is compared line by line
TRIES_SHOWN: Final = 12


class Cell(NamedTuple):
    """One student at one item. `state`: marked, missing (due, and nothing there) or open."""

    item: Item
    mark: Mark | None
    tries: int
    state: str

    @property
    def points(self) -> float | None:
        return self.mark.points if self.mark else None

    @property
    def late(self) -> int:
        return self.mark.days_late if self.mark else 0

    @property
    def adjusted(self) -> bool:
        return self.mark is not None and self.mark.computed is not None

    @property
    def outdated(self) -> bool:
        """Marked by a text that the item no longer has."""
        return self.mark is not None and 0 < self.mark.item_version < self.item.version


class Row(NamedTuple):
    member: Member
    cells: Sequence[Cell]
    total: float


class Asked(NamedTuple):
    """What of the book is wanted. `sort`: name, total or item-<number>, `-` before it for the other way round."""

    q: str = ""
    show: str = "all"
    sort: str = "name"
    page: int = 1


def teacher_of(*, user: Any, pk: int) -> Member:
    """The person as a teacher of this course; 404 for everybody else, students of the course too."""
    found = (
        Member.objects.select_related("course").filter(course=pk, user=user, left_at__isnull=True).first()
        if user.pk and pk < LARGEST and user.previewing != pk
        else None
    )
    if found is None or not found.teaches or not user.is_teacher:
        raise selectors.missing()
    return found


def items_of(course: Course) -> list[Item]:
    """What is graded, in the order of the course, without the texts."""
    return list(Item.objects.filter(course=course, points__gt=0).defer("text"))


def asked_of(words: Mapping[str, str], items: Sequence[Item]) -> Asked:
    """The wish in an address; what is not understood in it is a fault, not another order."""
    sorts = {"name", "total", *(f"item-{item.pk}" for item in items)}
    show, sort, page = words.get("show") or "all", words.get("sort") or "name", words.get("page") or "1"
    faults = [] if show in SHOWS else [Fault("$.show", f"must be one of {', '.join(SHOWS)}")]
    if sort.removeprefix("-") not in sorts:
        faults.append(Fault("$.sort", "must be name, total or the name of an item's column"))
    if not (page.isascii() and page.isdecimal() and 0 < len(page) < 6):
        faults.append(Fault("$.page", "must be the number of a page"))
    if faults:
        raise BadInput(faults)
    return Asked(words.get("q", "").strip()[:60], show, sort, max(1, int(page)))


def rows_of(*, course: Course, items: Sequence[Item], asked: Asked) -> list[Row]:
    """The students that are wanted, in the wanted order: three questions to the database, however many there are."""
    members = Member.objects.filter(course=course, role=Member.Role.STUDENT).select_related("user")
    members = members.filter(left_at__isnull=asked.show != "left")
    if asked.q:
        members = members.filter(nickname__icontains=asked.q) | members.filter(
            user__username__icontains=asked.q, user__guest=False
        )
    marks = {(mark.member_id, mark.item_id): mark for mark in Mark.objects.filter(item__in=items).defer("reasons")}
    handed_in = Attempt.objects.filter(item__in=items, graded=True).order_by().values_list("member", "item")
    tries = {(member, item): n for member, item, n in handed_in.annotate(n=Count("pk"))}
    now = timezone.now()
    rows = []
    for member in members.distinct():
        cells = [
            _cell(item, marks.get((member.pk, item.pk)), tries.get((member.pk, item.pk), 0), now) for item in items
        ]
        if asked.show in ("all", "left") or any(_wanted(cell, asked.show) for cell in cells):
            rows.append(Row(member, cells, round(sum(cell.points or 0.0 for cell in cells), 4)))
    return sorted(rows, key=_key(items, asked.sort), reverse=asked.sort.startswith("-"))


def _cell(item: Item, mark: Mark | None, tries: int, now: Any) -> Cell:
    overdue = item.due_at is not None and item.due_at < now
    return Cell(item, mark, tries, "marked" if mark else "missing" if overdue else "open")


def _wanted(cell: Cell, show: str) -> bool:
    return {
        "missing": cell.state == "missing",
        "late": cell.late > 0,
        "adjusted": cell.adjusted,
        "outdated": cell.outdated,
    }[show]


def _key(items: Sequence[Item], sort: str) -> Any:
    name = sort.removeprefix("-")
    if name == "name":
        return lambda row: (row.member.nickname.casefold(), row.member.pk)
    if name == "total":
        return lambda row: (row.total, row.member.pk)
    place = [f"item-{item.pk}" for item in items].index(name)
    return lambda row: (-1.0 if row.cells[place].points is None else row.cells[place].points, row.member.pk)


def account_of(member: Member) -> str:
    """The name of the student's account, for teachers; a guest's says nothing."""
    return "" if member.user.guest else member.user.username


# -- one cell


def cell_of(*, teacher: Member, member_id: int, item_id: int) -> dict[str, Any]:
    """All that a teacher sees of one student at one item."""
    if max(member_id, item_id) >= LARGEST:
        raise selectors.missing()
    item = Item.objects.filter(course=teacher.course, pk=item_id, points__gt=0).first()
    students = Member.objects.filter(course=teacher.course, role=Member.Role.STUDENT)
    member = students.select_related("user").filter(pk=member_id).first()
    if item is None or member is None:
        raise selectors.missing()
    mark = Mark.objects.filter(item=item, member=member).first()
    tried = list(Attempt.objects.filter(item=item, member=member).defer("text", "result"))
    graded = [row for row in tried if row.graded]
    told = _cell(item, mark, len(graded), timezone.now())
    return {
        "item": item,
        "member": member,
        "cell": told,
        "mark": mark,
        **work_of(item, member, mark),
        "tries": graded[:TRIES_SHOWN],
        "tried": len(graded),
        "practised": len(tried) - len(graded),
        "began_at": min((row.made_at for row in tried), default=None),
        "alike": alike_of(item=item, member=member),
    }


def work_of(item: Item, member: Member, mark: Mark | None) -> dict[str, Any]:
    """What teacher and student both see: reasons, hints and what was set by hand."""
    kind = kinds.kind_of(item.kind)
    hints = list(kind.hints(item, member)) if kind.hints else []
    return {
        "reasons": mark.reasons if mark else [],
        "hints": hints,
        "hints_cost": sum(hint["cost"] for hint in hints),
        "adjustments": list(Adjustment.objects.filter(item=item, member=member).select_related("by")[:20]),
    }


# -- whose work is alike


def alike_of(*, item: Item, member: Member | None = None) -> list[dict[str, Any]]:
    """Pairs whose work, as handed in last, is much alike (of one member those with it): a reason to look, no verdict.
    {"one", "other": members, "share", "percent"}."""
    kind = kinds.kind_of(item.kind)
    if kind.files is None:
        return []
    files, starter = kind.files(item)
    students = Member.objects.filter(course=item.course_id, role=Member.Role.STUDENT, pk__in=list(files))
    people = {each.pk: each for each in students}
    files = {pk: text for pk, text in files.items() if pk in people}
    pairs = alike(files, starter=starter) if member is None else alike_to(member.pk, files, starter=starter)
    return [
        {
            "one": people[pair.one],
            "other": people[pair.other],
            "share": pair.share,
            "percent": int(pair.share * 100 + 0.5),
        }
        for pair in pairs
    ]


def beside(*, item: Item, one: Member, other: Member) -> dict[str, Any]:
    """Two students' files line by line: what is the same stands in one row. {"pair", "lines": [{"one", "other",
    "same"}]}; 404 where one of them handed in nothing."""
    kind = kinds.kind_of(item.kind)
    files, starter = kind.files(item) if kind.files else ({}, "")
    if one.pk == other.pk or one.pk not in files or other.pk not in files:
        raise selectors.missing()
    two = {pk: files[pk] for pk in (one.pk, other.pk)}
    pair = alike_to(one.pk, two, starter=starter, least=0.0)
    left, right = (two[pk].splitlines()[:MOST_LINES] for pk in (one.pk, other.pk))
    return {"share": pair[0].share if pair else None, "lines": _aligned(left, right)}


def _aligned(left: list[str], right: list[str]) -> list[dict[str, Any]]:
    one_plain, other_plain = ([" ".join(line.partition(" #")[0].split()) for line in side] for side in (left, right))
    lines: list[dict[str, Any]] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, one_plain, other_plain).get_opcodes():
        for n in range(max(b - a, d - c)):
            one = left[a + n] if a + n < b else None
            other = right[c + n] if c + n < d else None
            lines.append({"one": one, "other": other, "same": tag == "equal"})
    return lines


def students_of(*, teacher: Member, pks: Sequence[int]) -> list[Member]:
    """These students of the course, in this order; 404 if one is none."""
    found = (
        {}
        if max(pks) >= LARGEST
        else {
            each.pk: each
            for each in Member.objects.select_related("user").filter(
                course=teacher.course, role=Member.Role.STUDENT, pk__in=pks
            )
        }
    )
    if set(found) != set(pks):
        raise selectors.missing()
    return [found[pk] for pk in pks]


def item_for(*, teacher: Member, pk: int) -> Item:
    """A graded item of the teacher's course, with its text."""
    found = Item.objects.filter(course=teacher.course, pk=pk).first()
    if found is None:
        raise selectors.missing()
    found.course = teacher.course
    return found


# -- a student's own


def own(*, member: Member) -> list[dict[str, Any]]:
    """Each graded item that is open to the student, with the mark, why, and what a teacher set."""
    items = [item for item in selectors.items_of(member=member) if item.points]
    marks = {mark.item_id: mark for mark in Mark.objects.filter(member=member, item__in=items)}
    set_by_hand: dict[int, list[Adjustment]] = {}
    for row in Adjustment.objects.filter(member=member, item__in=items).select_related("by"):
        set_by_hand.setdefault(row.item_id, []).append(row)
    now = timezone.now()
    rows = []
    for item in items:
        told = _cell(item, marks.get(item.pk), 0, now)
        rows.append({"item": item, "cell": told, "mark": told.mark, "adjustments": set_by_hand.get(item.pk, [])})
    return rows
