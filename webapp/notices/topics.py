"""The topic `notices/<person>`: says that the person's notices changed; it tells none."""

from __future__ import annotations

from typing import Any

from webapp.live import topics
from webapp.notices.models import Reader


def authorise(user: Any, ident: str) -> str | None:
    """Only the person itself."""
    return ident if getattr(user, "is_authenticated", False) and ident == str(user.pk) else None


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    version = Reader.objects.filter(user_id=int(ident)).values_list("version", flat=True).first() or 0
    if last is not None and version <= last:
        return []
    return [{"topic": f"notices/{ident}", "kind": "keyframe", "seq": version, "base": version, "op": 0, "data": {}}]


def register() -> None:
    topics.register("notices", authorise=authorise, messages=messages)
