"""What pages and API show of a policy game: to a player, to the teacher at the desk, to all when it is over.

Before the game is over a player is shown the public part of the file, its own part of it, and what
`policy_table.seen` lets it see of the proposal. Nothing of another's wishes or claims is put into a context.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final

from django.utils import timezone

from webapp.agreements.checks import policy_time
from webapp.agreements.room import left_words
from webapp.agreements.wording import switch_help, switch_label, value_label
from webapp.courses import policy_game, policy_play, policy_table
from webapp.courses.models import (
    Item,
    Mark,
    Member,
    PolicyAnswer,
    PolicyClaim,
    PolicyGame,
    PolicySeat,
    PolicyTable,
)
from webapp.courses.policy_game import Game
from webapp.vpms.vocabulary import SWITCHES

Phase = PolicyTable.Phase
TABLES_LISTED: Final = 12  # of earlier games of a player


def context(item: Item, member: Member) -> dict[str, Any]:
    """The page of an item of this kind, for a teacher of its course or for a student."""
    game = policy_play.newest(item=item)
    whole = {"item": item, "member": member, "game": game, "about": about(item)}
    if member.teaches:
        return {**whole, "desk": desk(game), "topic": policy_play.desk_topic(item.pk)} | {
            "seq": policy_play.desk_until(game=game)
        }
    seats = list(policy_play.seats_of(item=item, member=member)[: TABLES_LISTED + 1])
    seat = seats.pop(0) if game and seats and seats[0].game_id == game.pk else None
    table = seat.table if seat else None
    return {
        **whole,
        "seat": player(game, seat) if game and seat else None,
        "topic": policy_play.topic(item.pk, member.pk),
        "seq": policy_play.seen_until(game=game, table=table),
        "round_seq": policy_play.round_until(game=game, table=table),
        "best": Mark.objects.filter(item=item, member=member).first(),
        "earlier": [{"table": row.table_id, "tenant": row.tenant} for row in seats],
    }


def about(item: Item) -> dict[str, Any]:
    """What everybody reads of a game before it is played."""
    game = policy_play.definition(item)
    return {
        "title": game.title,
        "says": game.says,
        "settings": [{"switch": s, "label": switch_label(s), "help": switch_help(s)} for s in game.settings],
        "tenants": game.names,
        "rounds": game.rounds,
        "minutes": game.minutes,
        "points": game.points,
        "whole": policy_game.WHOLE[game.points],
    }


# -- a player


def player(row: PolicyGame, seat: PolicySeat) -> dict[str, Any]:
    """All that a player sees at the table while the game goes on."""
    game, table = policy_game.read(row.text), seat.table
    tenant, now = game.tenant(seat.tenant), timezone.now()
    claims = list(PolicyClaim.objects.filter(seat__table=table).order_by("declaration"))
    answers = list(PolicyAnswer.objects.filter(seat__table=table, declaration=table.declaration).order_by("proposal"))
    mine = next((row for row in reversed(claims) if row.seat_id == seat.pk), None)
    answered = next((row for row in reversed(answers) if row.seat_id == seat.pk), None)
    current = mine if mine and mine.declaration == table.declaration else None
    proposal = proposed(game, table, seat.tenant, now)
    k = proposal["k"] if proposal else 0
    spoken = {row.seat_id for row in claims if row.declaration == table.declaration}
    if table.phase == Phase.ANSWERING:
        spoken = {row.seat_id for row in answers if row.proposal == k}
    return {
        "table": table.pk,
        "number": table.number,
        "tenant": seat.tenant,
        "says": tenant.says,
        "wishes": wishes_shown(game, policy_table.truth(game, seat.tenant), seat.tenant),
        "least": tenant.least,
        "phase": table.phase,
        "phase_words": Phase(table.phase).label,
        "declaration": table.declaration,
        "used": table.used,
        "rounds": game.rounds,
        "deadline": table.deadline_at,
        "left": left_words(table.deadline_at, now) if table.deadline_at else "",
        "others": others(table, seat, spoken),
        "claim": current.claim if current else None,
        "claim_shown": wishes_shown(game, current.claim, seat.tenant) if current else [],
        "form": claim_form(game, seat.tenant, mine.claim if mine else policy_table.truth(game, seat.tenant)),
        "proposal": proposal,
        "answer": answered.answer if answered and answered.proposal == k and k else None,
        "late": bool(answered and answered.handled and not answered.taken and answered.proposal == k - 1),
        "ending": table.ending,
        "clash": clash(game, table, seat.tenant, now) if table.ending == "clash" else None,
        "has": own_end(game, table, seat.tenant),
        "revealed": row.ended_at is not None and bool(table.result),
    }


def wishes_shown(game: Game, claim: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """One's own wishes in words, with their points of 1000."""
    switches = game.policy(name, claim["wishes"], claim["least"]).switches
    return [
        {
            "switch": switch,
            "label": switch_label(switch),
            "value": value_label(switch, wish["value"]),
            "must": wish["strength"] == "must",
            "points": switches[switch]["weight"],
        }
        for switch, wish in claim["wishes"].items()
    ]


def claim_form(game: Game, name: str, claim: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a claim, filled in with what was said last, or with the truth."""
    rows = []
    for switch in game.settings:
        said = claim["wishes"].get(switch, {"value": "", "strength": "prefer", "weight": ""})
        values = [{"name": v, "label": value_label(switch, v)} for v in game.values(switch)]
        rows.append(
            {"switch": switch, "label": switch_label(switch), "help": switch_help(switch), "values": values, **said}
        )
    return {"rows": rows, "least": claim["least"], "silent": claim["silent"]}


def others(table: PolicyTable, seat: PolicySeat, spoken: set[int]) -> list[dict[str, Any]]:
    """Who else sits there, who plays, and whether they have said something in this round; never what."""
    rows = PolicySeat.objects.filter(table=table).exclude(pk=seat.pk).order_by("tenant")
    return [{"name": row.tenant, "bot": row.member_id is None, "done": row.pk in spoken} for row in rows]


def proposed(game: Game, table: PolicyTable, name: str, now: dt.datetime) -> dict[str, Any] | None:
    """The proposal that is on the table, in words."""
    if table.phase != Phase.ANSWERING:
        return None
    seen = policy_table.seen(game, table.protocol, name, policy_time(now))
    for row in seen["rows"]:
        row["value"] = value_label(row["switch"], row["proposal"])
        row["lost"] = row["you_give_up"] / 1000
        row["choices"] = [{"name": v, "label": value_label(row["switch"], v)} for v in row["choices"]]
    seen["rows"].sort(key=lambda row: -row["you_give_up"])  # what costs the player most stands first
    shown = [(switch_label(switch), value_label(switch, value)) for switch, value in seen["view"].items()]
    contested = {row["label"] for row in seen["rows"]}
    return {
        **seen,
        "true_points": seen["true"] / 1000,
        "kept_points": seen["kept"] / 1000,
        "settled": [{"label": label, "value": value} for label, value in shown if label not in contested],
        "least_minimum": f"{(seen['kept'] // 1000 + 1) / 10:g}" if seen["kept"] < 10**6 else "",
        "last": table.used >= game.rounds,
    }


def clash(game: Game, table: PolicyTable, name: str, now: dt.datetime) -> dict[str, Any]:
    """One's own part of why the claims cannot be met together, and how many demands of others belong to it."""
    seen = policy_table.seen(game, table.protocol, name, policy_time(now))
    own = [switch_label(row["what"]) if row["kind"] == "veto" else "" for row in seen["core"]]
    return {"musts": [label for label in own if label], "least": "" in own, "others": seen["core_of_others"]}


def own_end(game: Game, table: PolicyTable, name: str) -> dict[str, Any] | None:
    """What a player itself has of the end, told before the rest is revealed."""
    row = next((row for row in table.result.get("tenants", ()) if row["name"] == name), None)
    return {"points": row["points"], "breaks": row["breaks"], "settled": table.result["settled"]} if row else None


# -- the desk


def desk(row: PolicyGame | None) -> dict[str, Any] | None:
    """The teacher's view: every table, who sits there, and who has spoken in this round; nobody's claim."""
    if row is None:
        return None
    game, now = policy_game.read(row.text), timezone.now()
    tables = list(row.tables.all())
    claims = set(PolicyClaim.objects.filter(seat__game=row).values_list("seat", "declaration"))
    answers = set(PolicyAnswer.objects.filter(seat__game=row).values_list("seat", "declaration", "proposal"))
    seats: dict[int, list[PolicySeat]] = {}
    for seat in PolicySeat.objects.filter(game=row).select_related("member"):
        seats.setdefault(seat.table_id, []).append(seat)
    shown = []
    for table in tables:
        k = table.protocol.get("round", 0)
        people = [
            {
                "tenant": seat.tenant,
                "nickname": seat.member.nickname if seat.member else "",
                "done": (seat.pk, table.declaration, k) in answers
                if table.phase == Phase.ANSWERING
                else (seat.pk, table.declaration) in claims,
            }
            for seat in seats.get(table.pk, [])
        ]
        shown.append(table_row(game, table, people, now))
    over = row.ended_at is not None
    return {
        "game": row.pk,
        "state": row.state,
        "state_words": row.get_state_display(),
        "title": game.title,
        "rounds": game.rounds,
        "minutes": game.minutes,
        "players": sum(1 for each in shown for seat in each["seats"] if seat["nickname"]),
        "tables": shown,
        "open": [table for table in shown if table["marker"]],
        "over": over,
        "summary": summary(game, [table for table in tables if table.result]) if over else None,
    }


def table_row(game: Game, table: PolicyTable, people: list[dict[str, Any]], now: dt.datetime) -> dict[str, Any]:
    moving = table.phase in (Phase.DECLARING, Phase.ANSWERING)
    return {
        "id": table.pk,
        "number": table.number,
        "phase": table.phase,
        "phase_words": Phase(table.phase).label,
        "used": table.used,
        "seats": people,
        "said": sum(1 for each in people if each["done"] and each["nickname"]),
        "players": sum(1 for each in people if each["nickname"]),
        "marker": policy_play.marker(table) if moving else "",
        "left": left_words(table.deadline_at, now) if moving and table.deadline_at else "",
        "until": table.deadline_at if moving else None,
        "settled": bool(table.result.get("settled")),
        "has_result": bool(table.result),
        "ending": table.ending,
    }


def summary(game: Game, tables: list[PolicyTable]) -> dict[str, Any] | None:
    """All tables beside the solver: what each tenant had on average, and what the best lie would have brought."""
    if not tables:
        return None
    rows = []
    for place, name in enumerate(game.names):
        found = [table.result["tenants"][place] for table in tables]
        mean = sum(row["points"] for row in found) / len(found)
        rows.append(
            {
                "name": name,
                "mean": round(mean, 1),
                "solver": found[0]["solver"],
                "change": round(mean - found[0]["solver"], 1),
                "above": sum(1 for row in found if row["change"] > 0),
                "lie": lie_shown(found[0]["lie"]),
            }
        )
    return {"tenants": rows, "tables": len(tables), "settled": sum(1 for t in tables if t.result["settled"])}


# -- the end


def revealed(row: PolicyGame, table: PolicyTable) -> dict[str, Any] | None:
    """What is shown of a table when the game is over: everything, to everybody who sat there, and to the teacher."""
    result = table.result
    if not result:
        return None
    game = policy_game.read(row.text)
    seats = PolicySeat.objects.filter(table=table).select_related("member")
    players = {seat.tenant: seat.member.nickname if seat.member else "" for seat in seats}
    return {
        "settled": result["settled"],
        "ending": table.ending,
        "used": table.used,
        "rounds": game.rounds,
        "lowest": result["lowest"],
        "names": game.names,
        "tenants": [
            {**row, "player": players.get(row["name"], ""), "lie": lie_shown(row["lie"])} for row in result["tenants"]
        ],
        "settings": [beside(game, row) for row in result["settings"]],
        "said": [said_shown(row, players) for row in result["said"]],
        "tried": sum(row["lie"]["tried"] for row in result["tenants"]),
    }


def beside(game: Game, row: Mapping[str, Any]) -> dict[str, Any]:
    def words(values: Mapping[str, str]) -> list[dict[str, str]]:
        return [{"name": name, "value": value_label(row["switch"], value)} for name, value in values.items()]

    same = bool(row["theirs"]) and row["theirs"] == row["solver"]
    return {
        "label": switch_label(row["switch"]),
        "shared": row["shared"],
        "theirs": words(row["theirs"]),
        "solver": words(row["solver"]),
        "same": same,
    }


def said_shown(row: Mapping[str, Any], players: Mapping[str, str]) -> dict[str, Any]:
    def words(switch: str, wish: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return {**wish, "value": value_label(switch, wish["value"])} if wish else None

    rows = [
        {
            "label": switch_label(each["switch"]),
            "wants": words(each["switch"], each["wants"]),
            "says": words(each["switch"], each["says"]),
            "differs": each["differs"],
        }
        for each in row["rows"]
    ]
    return {**row, "player": players.get(row["name"], ""), "rows": rows}


def lie_shown(lie: Mapping[str, Any]) -> dict[str, Any]:
    """A misreport in words: which setting, or that only the least was raised or lowered."""
    best = lie["best"]
    if not best:
        return {**lie, "best": None}
    switch = best["setting"]
    named = {"label": switch_label(switch) if switch in SWITCHES else "", "words": ""}
    if switch and best["value"]:
        named["words"] = value_label(switch, best["value"])
    return {**lie, "best": {**best, **named, "must": best["strength"] == "must"}}
