"""Topics of policy games: `policy/<item>-<member>` tells a player that something has changed at their table,
`policy/<item>-<member>/round` that another round is open there, `policy-desk/<item>` tells the teachers. They carry
nothing: whoever is told looks at the page."""

from __future__ import annotations

from typing import Any

from webapp.courses import live, policy_play, selectors
from webapp.courses.models import Item, PolicyGame, PolicySeat
from webapp.errors import VpmsError
from webapp.live.topics import register


def authorise_desk(user: Any, ident: str) -> str | None:
    if not user.is_authenticated or not user.is_teacher or not live.is_number(ident):
        return None
    try:
        member = selectors.item_get(user=user, pk=int(ident))[1]
    except VpmsError:
        return None
    return "desk" if member.teaches else None


def newest(item: str) -> PolicyGame | None:
    return policy_play.newest(item=Item(pk=int(item)))


def _seat(game: PolicyGame | None, member: str) -> PolicySeat | None:
    found = PolicySeat.objects.select_related("table").filter(game=game, member=int(member))
    return found.first() if game else None


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    item, _, member = ident.partition("-")
    game = newest(item)
    seat = _seat(game, member)
    return _told(f"policy/{ident}", policy_play.seen_until(game=game, table=seat.table if seat else None), last)


def round_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    item, _, member = ident.partition("-")
    game = newest(item)
    seat = _seat(game, member)
    now = policy_play.round_until(game=game, table=seat.table if seat else None)
    return _told(f"policy/{ident}/round", now, last)


def desk_messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    return _told(f"policy-desk/{ident}", policy_play.desk_until(game=newest(ident)), last)


def _told(topic: str, now: int, last: int | None) -> list[dict[str, Any]]:
    if last is not None and now <= last:
        return []
    return [{"topic": topic, "kind": "keyframe", "seq": now, "base": now, "op": 0, "data": {}}]


def register_all() -> None:
    register("policy", authorise=live.authorise, messages=messages)
    register("policy/{}/round", authorise=live.authorise, messages=round_messages)
    register("policy-desk", authorise=authorise_desk, messages=desk_messages)
