"""Topics of labs and regrades: they say that something has moved, and tell nothing of it."""

from __future__ import annotations

from typing import Any

from webapp.courses import gradebook, regrades, selectors
from webapp.courses.models import LabWork, Regrade
from webapp.errors import VpmsError
from webapp.live.topics import register


def authorise(user: Any, ident: str) -> str | None:
    """Only the member whose attempts they are."""
    item, _, member = ident.partition("-")
    if not user.is_authenticated or not is_number(item) or not is_number(member):
        return None
    try:
        own = selectors.item_get(user=user, pk=int(item))[1]
    except VpmsError:
        return None
    return member if str(own.pk) == member else None


def is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 18


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    item, _, member = ident.partition("-")
    row = LabWork.objects.filter(item=int(item), member=int(member)).only("number").first()
    now = row.number if row else 0
    if last is not None and now <= last:
        return []
    return [{"topic": f"lab/{ident}", "kind": "keyframe", "seq": now, "base": now, "op": 0, "data": {}}]


def regrade_authorise(user: Any, ident: str) -> str | None:
    """Only teachers of its course."""
    if not user.is_authenticated or not is_number(ident):
        return None
    course = Regrade.objects.filter(pk=int(ident)).values_list("item__course", flat=True).first()
    try:
        gradebook.teacher_of(user=user, pk=course or 0)
    except VpmsError:
        return None
    return ident


def regrade_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    row = Regrade.objects.filter(pk=int(ident)).first()
    now = regrades.number(row) if row else 0
    if last is not None and now <= last:
        return []
    return [{"topic": f"regrade/{ident}", "kind": "keyframe", "seq": now, "base": now, "op": 0, "data": {}}]


def register_all() -> None:
    register("regrade", authorise=regrade_authorise, messages=regrade_messages)
    register("lab", authorise=authorise, messages=messages)
