"""One table of a policy game: claims become policies, the product's protocol negotiates, and the end is judged.

Nothing here is a game's own: documents, recognition of conflicts, solver, proposals and rejections are those that
tenants meet (webapp/vpms). A claim is what a player says that it wants; what it truly wants stands in the game's file.
Pure: a state of the protocol goes in, another comes out.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from webapp.agreements import replies
from webapp.courses import policy_game, policy_lies
from webapp.courses.policy_game import Game
from webapp.courses.policy_lies import Assignment
from webapp.errors import BadInput, Fault
from webapp.strictjson import member
from webapp.vpms import agreement, disclosure, protocol
from webapp.vpms.formats import OPERATOR
from webapp.vpms.shapes import Faults, Integer, Object, OneOf, Text
from webapp.vpms.situation import Situation

SOLVER_SECONDS: Final = 3.0
AGREED: Final = "ACCEPTED_ALL"
ENDED: Final = ("NO_AGREEMENT", "WITHDRAWN")
SILENCES: Final = ("accept", "reject")
WISH: Final = Object({"value": Text(1, 40), "strength": OneOf(["must", "prefer"]), "weight": Integer(1, 1000)})
ANSWERS: Final = ("accept", "reject", "counter")
Claim = Mapping[
    str, Any
]  # {"wishes": {setting: {"value", "strength", "weight"}}, "least": int, "silent": one of SILENCES}
Answer = Mapping[str, Any]  # {"answer": one of ANSWERS, "reason": str, "suggestion": {switch: value}}


# -- claims


def truth(game: Game, name: str) -> dict[str, Any]:
    """The claim of a player that says what it wants: what the solver-bot declares, and what the form begins with."""
    tenant = game.tenant(name)
    plain = {"strength": "prefer", "weight": 1}
    return {"wishes": {s: {**plain, **w} for s, w in tenant.wishes.items()}, "least": tenant.least, "silent": "accept"}


def claim_checked(game: Game, given: Claim) -> dict[str, Any]:
    """A claim as it is kept; BadInput names each fault."""
    faults: Faults = []
    said = given.get("wishes")
    if not isinstance(said, Mapping) or not said:
        raise BadInput([Fault("$.wishes", "must name at least one setting that matters to you")])
    for setting, wish in said.items():
        at = member("$.wishes", str(setting))
        if setting not in game.settings:
            faults.append(Fault(at, "is not one of the game's settings"))
            continue
        before = len(faults)
        WISH.check(wish, at, faults)
        if len(faults) == before and wish["value"] not in game.values(setting):
            faults.append(Fault(f"{at}.value", f"must be one of {', '.join(game.values(setting))}"))
    Integer(0, 1000).check(given.get("least"), "$.least", faults)
    OneOf(SILENCES).check(given.get("silent"), "$.silent", faults)
    if faults:
        raise BadInput(faults)
    wanted = {name: dict(said[name]) for name in game.settings if name in said}
    return {"wishes": wanted, "least": given["least"], "silent": given["silent"]}


def document(game: Game, name: str, claim: Claim | None) -> dict[str, Any]:
    """The policy that a seat hands in. Without a claim the solver-bot's: the truth, and a delegate that accepts what
    keeps the least. A person is asked about every proposal; what their silence means they have said before."""
    if claim is None:
        return dict(game.policy(name).document)
    written = dict(game.policy(name, claim["wishes"], claim["least"]).document)
    delegate = {"mode": "human", "deadline_s": 60 * game.minutes}
    if claim["silent"] == "accept":
        delegate |= {"onTimeout": "accept-if-above-floor", "floor": claim["least"]}
    return {**written, "delegate": delegate}


# -- the negotiation


def opened(game: Game, claims: Mapping[str, Claim | None], *, now: str, ident: str, seed: str) -> protocol.State:
    """The protocol from the claims of all seats to its first proposal, or to its end. `seed`: fresh chance."""

    def drawn(what: str) -> str:
        return hashlib.sha256(f"{seed}/{what}".encode()).hexdigest()

    keys = {name: agreement.public_key(bytes.fromhex(drawn(f"key/{name}"))) for name in [*game.names, OPERATOR]}
    state = protocol.draft(
        negotiation=ident,
        requester=OPERATOR,
        host=game.host,
        policies=[document(game, name, claims[name]) for name in game.names],
        keys=keys,
        agreement_id=ident,
        pseudonym_seed=drawn("pseudonyms"),
        seconds=SOLVER_SECONDS,
    )
    return protocol.mediate(state, now, {name: drawn(f"nonce/{name}") for name in game.names})


def answered(state: protocol.State, name: str, answer: Answer, *, k: int, user: str, now: str) -> protocol.State:
    """The state after a player's answer to proposal k; VpmsError where the protocol does not take it."""
    sent: dict[str, Any] = {"type": answer["answer"], "sender": name, "k": k, "user": user}
    if answer["answer"] != "accept":
        sent["reason"] = replies.reason_of(answer["reason"], state, name)
    if answer["answer"] == "counter":
        sent["assignment"] = _issues(state, name, answer["suggestion"])
    return protocol.apply_message(state, sent, now)


def closed(state: protocol.State) -> protocol.State:
    """The state when time is up for all: what silence means is for the protocol to say."""
    last = max((at for party, at in state["deadlines"].items() if party not in state["answers"]), default=None)
    return protocol.expire(state, last) if last else state


def ending(state: protocol.State) -> str:
    """Why there is no agreement: clash, silence, final, rounds or time."""
    kind = str(state["reason"] or "").partition(":")[0]
    return {"core": "clash", "conflict": "clash", "deadline": "silence", "reject": "final"}.get(kind, kind)


# -- what a player may see and answer


def seen(game: Game, state: protocol.State, name: str, now: str) -> dict[str, Any]:
    """The proposal as this seat may see it: what is contested in its own view, its own figures, and the others'
    gains in whole percent. A negotiation discloses more: here no player is told what another wants or rules out."""
    view = disclosure.party_view(state, name, now)
    situation = protocol.situation_of(state, now)
    called = {alias: vm for vm, alias in state["pseudonyms"].items()}
    figures = view["figures"]
    rows = [
        {
            **{key: row[key] for key in ("switch", "label", "shared", "proposal", "you_give_up")},
            "choices": _choices(game, situation, name, row["switch"]) if figures else [],
        }
        for row in view["contested"]
    ]
    mine = [row for row in view["core"] if row["yours"]]
    return {
        "k": view["round"],
        "state": view["state"],
        "rows": rows,
        "view": {switch: view["view"][switch] for switch in game.settings} if view["view"] else {},
        "kept": figures["utility"] if figures else None,
        "gain_percent": figures["gain_percent"] if figures else None,
        "true": game.truth.utility(name, view["view"]) if view["view"] else None,
        "breaks": bool(view["view"]) and not game.truth.keeps_own_terms(name, view["view"]),
        "answer": view["answer"],
        "others": [
            {
                "name": called[row["who"]],
                "answered": row["answer"] in ("accepted", "rejected"),
                "gain_percent": figures["others_gain"][row["who"]] if figures else None,
            }
            for row in view["others"]
        ],
        "core": [{"kind": row["kind"], "what": row["what"]} for row in mine],
        "core_of_others": len(view["core"]) - len(mine),
    }


def _choices(game: Game, situation: Situation, name: str, switch: str) -> list[str]:
    """The values that this player can suggest: what the host offers, less its own musts. Not less those of others."""
    return [value for value in game.values(switch) if value not in situation.vetoed(name, switch)]


def answer_checked(game: Game, state: protocol.State, name: str, given: Answer, now: str) -> dict[str, Any]:
    """An answer as it is kept; BadInput names what is missing or cannot be. Judged by what its author may know."""
    kind, reason = given.get("answer"), str(given.get("reason") or "")
    if kind not in ANSWERS:
        raise BadInput([Fault("$.answer", f"must be one of {', '.join(ANSWERS)}")])
    if kind == "accept":
        return {"answer": "accept", "reason": "", "suggestion": {}}
    excluded = replies.reason_of(reason, state, name)
    said: Mapping[str, Any] = given.get("suggestion") or {}
    if kind == "reject" or not said:
        return {"answer": "reject", "reason": reason, "suggestion": {}}
    return {"answer": "counter", "reason": reason, "suggestion": _suggested(game, state, name, said, excluded, now)}


def _suggested(
    game: Game, state: protocol.State, name: str, said: Mapping[str, Any], excluded: Mapping[str, Any], now: str
) -> dict[str, str]:
    situation = protocol.situation_of(state, now)
    before = replies.view_of(state["result"]["assignment"], name)
    contested = {issue.partition("/")[2] for issue in state["result"]["contested"] if _of_view(issue, name)}
    faults = []
    for switch, value in said.items():
        at = member("$.suggestion", str(switch))
        if switch not in contested:
            faults.append(Fault(at, "is not contested here; a counter changes contested settings only"))
        elif value not in _choices(game, situation, name, switch):
            faults.append(Fault(at, "is no value that the host offers and that you do not rule out yourself"))
    if faults:
        raise BadInput(faults)
    changes = {switch: value for switch, value in said.items() if value != before[switch]}
    view, least = {**before, **changes}, situation.reservation(name)
    veto = excluded.get("veto")
    if excluded.get("final"):
        faults.append(Fault("$.reason", "is a no to any settlement; then nothing can be suggested"))
    elif not changes:
        faults.append(Fault("$.suggestion", "changes nothing: choose another value for at least one contested setting"))
    elif veto is not None and view[veto["switch"]] == veto["value"]:
        faults.append(Fault(member("$.suggestion", veto["switch"]), "is as proposed, and that is what you reject"))
    elif situation.utility(name, view) < max(least, 1000 * int(excluded.get("floor", 0))):
        faults.append(Fault("$.suggestion", "keeps less than the minimum that you name or have declared"))
    faults += replies.fact_faults(situation, view, name)
    if faults:
        raise BadInput(faults)
    return changes


def _of_view(issue: str, name: str) -> bool:
    return issue.partition("/")[0] in ("host", name)


def _issues(state: protocol.State, name: str, suggestion: Mapping[str, str]) -> dict[str, str]:
    """A suggestion by issue, as the protocol takes it."""
    found = {issue.partition("/")[2]: issue for issue in state["result"]["contested"] if _of_view(issue, name)}
    return {found[switch]: value for switch, value in suggestion.items()}


# -- the end


def reveal(text: str, assignment: Assignment | None, claims: Mapping[str, Claim | None]) -> dict[str, Any]:
    """What all are shown when a table is over: theirs beside the solver's settlement on the true wishes, what each has
    of both, what each said, and what each could have had by lying. All of it solved, nothing declared. Points of 1000,
    one decimal. `assignment`: what they agreed; `claims`: the last of each seat, None for the solver-bot's."""
    game = policy_game.read(text)
    lies = {row["tenant"]: row for row in policy_lies.of_text(text)}
    theirs, solvers = assignment, game.solved.assignment
    rows = [_has(game, name, theirs, claims, lies[name]) for name in game.names]
    return {
        "settled": theirs is not None,
        "tenants": rows,
        "settings": [_beside(game, switch, theirs, solvers) for switch in game.settings],
        "said": [_said(game, name, claims[name]) for name in game.names],
        "lowest": {"theirs": min(row["way"] for row in rows), "solver": min(row["solver_way"] for row in rows)},
    }


def _has(
    game: Game, name: str, theirs: Assignment | None, claims: Mapping[str, Claim | None], lie: Mapping[str, Any]
) -> dict[str, Any]:
    has, honest = policy_lies.worth(game, name, theirs), lie["honest"]
    told = {other: {"said": c["wishes"], "least": c["least"]} for other, c in claims.items() if c and other != name}
    alone = policy_lies.settled(game, told)
    best = lie["best"]
    return {
        "name": name,
        "points": _points(has),
        "breaks": policy_lies.breaks_must(game, name, theirs),
        "solver": _points(honest),
        "change": _points(has - honest),
        "least": _points(game.truth.reservation(name)),
        "most": _points(dict(zip(game.solved.parties, game.solved.solution.ideals, strict=True))[name]),
        "way": _way(game, name, has),
        "solver_way": _way(game, name, honest),
        "truthful": _points(policy_lies.worth(game, name, alone.assignment)),
        "lie": {
            **{key: lie[key] for key in policy_lies.COUNTED},
            "gain": _points(best["worth"] - honest) if best else 0.0,
            "best": best and {**best, "worth": _points(best["worth"])},
        },
    }


def _points(worth: int) -> float:
    return round(worth / 1000, 1)


def _way(game: Game, name: str, worth: int) -> int:
    """Whole percent of the way from the least to the most that the tenant could have here."""
    most = dict(zip(game.solved.parties, game.solved.solution.ideals, strict=True))[name]
    least = game.truth.reservation(name)
    return math.floor(100 * Fraction(worth - least, most - least) + Fraction(1, 2)) if most > least else 100


def _beside(game: Game, switch: str, theirs: Assignment | None, solvers: Assignment | None) -> dict[str, Any]:
    shared = game.place.is_shared(switch)

    def values(found: Assignment | None) -> dict[str, str]:
        if found is None:
            return {}
        return {"": found["host"][switch]} if shared else {name: found["vms"][name][switch] for name in game.names}

    return {"switch": switch, "shared": shared, "theirs": values(theirs), "solver": values(solvers)}


def _said(game: Game, name: str, claim: Claim | None) -> dict[str, Any]:
    """What a seat said beside what it wants, a row a setting, weights in points of 1000."""
    honest = truth(game, name)
    told = claim or honest
    rows = []
    true_switches = game.policy(name).switches
    said_switches = game.policy(name, told["wishes"], told["least"]).switches
    for switch in game.settings:
        wants, says = _wish(honest, true_switches, switch), _wish(told, said_switches, switch)
        rows.append({"switch": switch, "wants": wants, "says": says, "differs": wants != says})
    differs = honest["least"] != told["least"] or any(row["differs"] for row in rows)
    return {"name": name, "rows": rows, "least": honest["least"], "said_least": told["least"], "differs": differs}


def _wish(claim: Claim, switches: Mapping[str, Any], switch: str) -> dict[str, Any] | None:
    wish = claim["wishes"].get(switch)
    if wish is None:
        return None
    return {"value": wish["value"], "must": wish["strength"] == "must", "points": switches[switch]["weight"]}
