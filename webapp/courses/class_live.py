"""Topics of a class: `class/<code>` carries the stage to all in it, `class/<code>/desk` tells its teacher to look."""

from __future__ import annotations

from typing import Any

from webapp.courses import class_stage, spotlight
from webapp.courses.models import ClassSession, Member, Seat
from webapp.live.topics import register


def authorise(user: Any, ident: str) -> str | None:
    """Everybody with a seat in the open class, and the teachers of its course."""
    if not getattr(user, "is_authenticated", False):
        return None
    seats = Seat.objects.filter(session__code=ident, session__ended_at__isnull=True, removed_at__isnull=True)
    if seats.filter(member__user=user, member__left_at__isnull=True).exists():
        return "seat"
    return "seat" if authorise_desk(user, ident) else None


def authorise_desk(user: Any, ident: str) -> str | None:
    if not getattr(user, "is_authenticated", False) or not user.is_teacher:
        return None
    teachers = Member.objects.filter(user=user, role=Member.Role.TEACHER, left_at__isnull=True)
    open_ = ClassSession.objects.filter(code=ident, ended_at__isnull=True)
    return "desk" if open_.filter(course__members__in=teachers).exists() else None


def authorise_seat(user: Any, ident: str) -> str | None:
    """Who sits in the open class; the view is the seat, so what is told to one is told to nobody else."""
    if not getattr(user, "is_authenticated", False):
        return None
    seats = Seat.objects.filter(session__code=ident, session__ended_at__isnull=True, removed_at__isnull=True)
    found = seats.filter(member__user=user, member__left_at__isnull=True).values_list("pk", flat=True).first()
    return str(found) if found else None


def newest(ident: str) -> ClassSession | None:
    return ClassSession.objects.select_related("course").filter(code=ident).first()


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    session = newest(ident)
    if session is None or (last is not None and session.version <= last):
        return []
    question = session.question if session.question.get("text") else {}
    data = {
        "html": class_stage.stage_html(session),
        "frozen": session.frozen,
        "over": session.ended_at is not None,
        "spotlight": class_stage.spotlight_shown(session) is not None,
        "question": question.get("number") if question.get("state") == "open" else None,
        "cursor": session.cursor,
    }
    seq = session.version
    return [{"topic": f"class/{ident}", "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": data}]


def desk_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    session = newest(ident)
    seq = session.version + session.desk_version if session else 0
    if session is None or (last is not None and seq <= last):
        return []
    return [{"topic": f"class/{ident}/desk", "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": {}}]


def seat_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """That something was asked of this seat, or is over; what, its page says."""
    seq = spotlight.number_of(int(view))
    if last is not None and seq <= last:
        return []
    return [{"topic": f"class/{ident}/seat", "kind": "keyframe", "seq": seq, "base": seq, "op": 0, "data": {}}]


def register_all() -> None:
    register("class", authorise=authorise, messages=messages)
    register("class/{}/desk", authorise=authorise_desk, messages=desk_messages)
    register("class/{}/seat", authorise=authorise_seat, messages=seat_messages)
