"""The topics `notices/<person>` and `alerts`: they say that something changed; what, the pages fetch."""

from __future__ import annotations

from typing import Any

from webapp.live import topics
from webapp.notices.models import Reader, Watch


def authorise(user: Any, ident: str) -> str | None:
    """Only the person itself."""
    return ident if getattr(user, "is_authenticated", False) and ident == str(user.pk) else None


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    version = Reader.objects.filter(user_id=int(ident)).values_list("version", flat=True).first() or 0
    if last is not None and version <= last:
        return []
    return [{"topic": f"notices/{ident}", "kind": "keyframe", "seq": version, "base": version, "op": 0, "data": {}}]


def authorise_alerts(user: Any, ident: str) -> str | None:
    """Operators and auditors of the site."""
    return "operator" if getattr(user, "is_authenticated", False) and user.sees_site else None


def alert_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    number = Watch.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    if last is not None and number <= last:
        return []
    return [{"topic": "alerts", "kind": "keyframe", "seq": number, "base": number, "op": 0, "data": {}}]


def register() -> None:
    topics.register("alerts!", authorise=authorise_alerts, messages=alert_messages)
    topics.register("notices", authorise=authorise, messages=messages)
