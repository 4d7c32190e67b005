"""The topic `negotiation/<id>`: says that a room changed, so that the page fetches itself again; it tells no wish."""

from __future__ import annotations

from typing import Any

from webapp.agreements.models import Negotiation
from webapp.live import topics


def authorise(user: Any, ident: str) -> str | None:
    """Parties and operators may watch; the message is the same for all."""
    if not getattr(user, "is_authenticated", False) or not ident.isdecimal() or len(ident) > 15:
        return None
    return "room" if Negotiation.objects.visible_to(user).filter(pk=int(ident)).exists() else None


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """The newest state, if it is newer than `last`."""
    fields = ("state", "round", "version", "deadline_at")
    row = Negotiation.objects.filter(pk=int(ident)).values(*fields).first()
    if row is None or (last is not None and row["version"] <= last):
        return []
    deadline = row["deadline_at"].isoformat() if row["deadline_at"] else None
    data = {"state": row["state"], "round": row["round"], "version": row["version"], "deadline": deadline}
    return [
        {
            "topic": f"negotiation/{ident}",
            "kind": "keyframe",
            "seq": row["version"],
            "base": row["version"],
            "op": 0,
            "data": data,
        }
    ]


def register() -> None:
    topics.register("negotiation", authorise=authorise, messages=messages)
