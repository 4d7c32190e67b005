"""The text of an item and the versions that it had: checked, saved, compared, brought back.

A text is saved whole or not at all, and only over the version that the teacher had before the eyes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import transaction
from django.db.models import QuerySet

from webapp.audit import services as audit
from webapp.courses import kinds, selectors
from webapp.courses.models import Item, ItemVersion
from webapp.errors import BadInput, Fault, VpmsError
from webapp.tenants import quotas

if TYPE_CHECKING:
    from webapp.accounts.models import User

KEPT: Final = 100  # versions of one item, the newest
MOST_LINES: Final = 400  # of a comparison
AROUND: Final = 2  # unchanged lines beside each change
PLACE: Final = re.compile(r"line (\d+), column (\d+)")
KEYS: Final = re.compile(r"^key: (\S+)$", re.MULTILINE)
FREE_KEY: Final = "question-1"  # in a block: stands for the first key that is free


class Place(NamedTuple):
    """One fault of a text, where it stands."""

    line: int
    column: int
    reason: str


def places(faults: Sequence[Fault]) -> list[Place]:
    """Faults with line and column; what is wrong with the whole stands at its beginning."""
    found = []
    for fault in faults:
        at = PLACE.fullmatch(fault.path) or PLACE.match(fault.reason)
        reason = fault.reason.partition(": ")[2] if at and at.string == fault.reason else fault.reason
        found.append(Place(int(at[1]), int(at[2]), reason) if at else Place(1, 1, reason))
    return found


def checked(kind: str, text: str) -> list[Place]:
    """What is wrong with the text as one of this kind; nothing: it can be saved."""
    try:
        kinds.read(kind, cleaned(text))
    except BadInput as refused:
        return places(refused.faults)
    return []


def cleaned(text: str) -> str:
    """As forms send it, with the line ends that all texts have."""
    return text.replace("\r\n", "\n")


def text_put(*, by: User, item: Item, text: str, seen: int | None) -> Item:
    """The text is this from now on, as a new version. BadInput for a faulty one; 412 with both differences where the
    version `seen` (None: not told) is no longer the newest. The same text once more changes nothing."""
    selectors.must_change(user=by, course=item.course)
    text = cleaned(text)
    kinds.read(item.kind, text)  # before anything is locked: the views of a lesson are executed
    with transaction.atomic():
        row = Item.objects.select_for_update().get(pk=item.pk)
        if row.text == text:
            return row
        if seen is not None and seen != row.version:
            raise _stale(row, text, seen)
        ItemVersion.objects.get_or_create(item=row, version=row.version, defaults={"text": row.text})
        row.text, row.version = text, row.version + 1
        row.save(update_fields=["text", "version"])
        ItemVersion.objects.create(item=row, version=row.version, text=text, by=by)
        old = ItemVersion.objects.filter(item=row).values_list("pk", flat=True)[KEPT:]
        ItemVersion.objects.filter(pk__in=list(old)).delete()
        quotas.expect_stored(by=by, path="$.text")
        told = {"item": row.pk, "version": row.version}
        audit.record(by=by, type="course.item", subject=f"course:{row.course_id}", data=told)
    return row


def _stale(row: Item, text: str, seen: int) -> VpmsError:
    before = ItemVersion.objects.filter(item=row, version=seen).first()
    data = {
        "version": row.version,
        "changed": differences(before.text, row.text) if before else [],
        "changes": differences(row.text, text),
    }
    message = f"Version {row.version} was saved meanwhile, and you had read another. Nothing was saved."
    return VpmsError("stale", 412, data, message)


def versions_of(item: Item) -> QuerySet[ItemVersion]:
    """The versions that are kept, newest first, without their texts."""
    return ItemVersion.objects.filter(item=item).select_related("by").defer("text")


def version_get(*, user: User, item: Item, version: int) -> ItemVersion:
    """A version of an item that the person teaches; 404."""
    selectors.must_teach(user=user, course=item.course)
    found = ItemVersion.objects.filter(item=item, version=version).select_related("by").first()
    if found is None:
        raise selectors.missing()
    return found


def differences(before: str, after: str) -> list[dict[str, Any]]:
    """What differs between two texts, line by line: {"what": "out", "in", "same" or "gap", "line", "text"}. The number
    of a line is that in the text in which it stands, after the change where it stands in both."""
    old, new = before.split("\n"), after.split("\n")
    rows: list[dict[str, Any]] = []
    for group in difflib.SequenceMatcher(None, old, new, autojunk=len(old) > 2000).get_grouped_opcodes(AROUND):
        if rows:
            rows.append({"what": "gap", "line": group[0][3] + 1, "text": ""})
        for tag, a, b, c, d in group:
            if tag == "equal":
                rows += [{"what": "same", "line": n + 1, "text": new[n]} for n in range(c, d)]
                continue
            rows += [{"what": "out", "line": n + 1, "text": old[n]} for n in range(a, b)]
            rows += [{"what": "in", "line": n + 1, "text": new[n]} for n in range(c, d)]
    return rows[:MOST_LINES]


def placed(kind: str, name: str, text: str) -> str:
    """The text with a block of its kind at its end; BadInput for a name that is none."""
    block = next((each for each in kinds.kind_of(kind).blocks if each.name == name), None)
    if block is None:
        raise BadInput([Fault("$.block", f"{name[:32]!r} is nothing that can be placed in a text of this kind")])
    stem, taken = FREE_KEY.rstrip("1"), set(KEYS.findall(text))
    key = next(key for key in (stem + str(n) for n in range(1, 1000)) if key not in taken)
    return text.rstrip("\n") + "\n\n" + block.text.replace(FREE_KEY, key)
