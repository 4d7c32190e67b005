"""What one party, or the operator, may see of a negotiation. Pages and API show nothing else of its state.

A party sees pseudonyms, contested settings of its own view, the proposed values, its own figures, others' gains in
whole percent and what each gives up there. Weights, scores, floors and uncontested settings of others are never in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from webapp.errors import VpmsError
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.protocol import ROUNDS, State, next_deadline, situation_of
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

VALUES_SHOWN: Final = ("COMMITTED", "PROPOSED", "ACCEPTED_ALL", "SIGNED", "ENFORCED", "BREACHED", "SUPERSEDED")
ACCEPTED: Final = ("ACCEPTED_ALL", "SIGNED", "ENFORCED", "BREACHED", "SUPERSEDED")


def party_view(state: State, vm: str, now: str, sent: Mapping[str, bool] | None = None) -> dict[str, Any]:
    """Everything that the owner of this VM may see, and nothing of anybody else's that is not contested.

    `sent`: answers to this proposal that have come but were not taken up yet, True for accept.
    """
    if vm not in state["policies"]:
        raise VpmsError("not_a_party", 403, {"sender": vm})
    situation = situation_of(state, now)
    result = state["result"]
    view: dict[str, Any] = {
        **_header(state, situation),
        "you": vm,
        "pseudonym": state["pseudonyms"][vm],
        "requester": vm == state["requester"],
        **_answered(state, vm, sent or {}),
        "needs_person": result is not None and vm in result["human"],
        "deadline": state["deadlines"].get(vm) or state["deadline"],
        "at_deadline": at_deadline(state, vm),
        "others": [
            {"who": state["pseudonyms"].get(party, party), **_answered(state, party, sent or {})}
            for party in [*_others(state, vm), *_operator(state)]
        ],
        "contested": _contested(state, situation, vm),
        "view": None,
        "changes": [],
        "figures": None,
        "core": [],
        "background": [],
        "certificate": None,
        "fallback": _steps(state),
        "gains_so_far": _gains_so_far(state, vm),
    }
    if state["core"]:
        view["core"] = [_demand(name, vm) for name in state["core"]]
        view["background"] = list(state["background"])
    if result is not None:
        view["view"] = situation.view(vm, result["assignment"])
        view["changes"] = _changes(situation, vm, view["view"], {row["switch"] for row in view["contested"]})
        view["figures"] = _figures(state, vm)
        view["certificate"] = _cut(result["certificate"], vm, result["contested"])
    return view


def operator_view(state: State, now: str, sent: Mapping[str, bool] | None = None) -> dict[str, Any]:
    """What the operator sees as mediator: who has answered, and the assignment that it must enforce."""
    result = state["result"]
    return {
        **_header(state, situation_of(state, now)),
        "requester": state["requester"],
        "deadline": next_deadline(state),
        "parties": [
            {
                "party": party,
                "pseudonym": state["pseudonyms"].get(party, party),
                **_answered(state, party, sent or {}),
                "deadline": state["deadlines"].get(party),
            }
            for party in [*sorted(state["policies"]), *_operator(state)]
        ],
        "contested": list(result["contested"]) if result else _detected(state),
        "assignment": result["assignment"] if result else None,
        "gains": {state["pseudonyms"].get(p, p): _percent(g) for p, g in result["gains_exact"].items()}
        if result
        else {},
        "search": result["certificate"]["search"] if result else None,
        "core": [_demand(name, OPERATOR) for name in state["core"]],
        "background": list(state["background"]),
        "fallback": [dict(step) for step in state["fallback"]],
    }


def disclosed(view: Mapping[str, Any]) -> list[str]:
    """Names of what a view discloses of others, for the log of disclosures."""
    found = [row["issue"] for row in view["contested"] if row.get("others_want")]
    if view["figures"]:
        found += [f"gain:{who}" for who in view["figures"]["others_gain"]]
    return found + [f"core:{row['kind']}" for row in view["core"] if not row["yours"]]


def at_deadline(state: State, vm: str) -> str:
    """What happens if this party says nothing, as a sentence."""
    if state["state"] != "PROPOSED" or vm in state["answers"]:
        return ""
    delegate = state["policies"][vm]["delegate"]
    if delegate.get("onTimeout") == "accept-if-above-floor":
        return f"If you do not answer, your delegate accepts if you keep at least {delegate['floor']} of 1000 points."
    if vm == state["requester"]:
        return f"If you do not answer, that counts as no: {vm} stays stopped, and nobody who runs is touched."
    return f"If you do not answer, that counts as no: the newcomer stays stopped, and {vm} stays as it is."


def _header(state: State, situation: Situation) -> dict[str, Any]:
    return {
        "negotiation": state["negotiation"],
        "host": situation.host.host,
        "state": state["state"],
        "round": state["round"],
        "rounds": ROUNDS,
        "reason": state["reason"],
        "history": [{"round": row["k"], "at": row["at"]} for row in state["proposals"]],
    }


def _others(state: State, vm: str) -> list[str]:
    """The other parties in the order of their pseudonyms, which says nothing about them."""
    return sorted((p for p in state["policies"] if p != vm), key=lambda p: int(state["pseudonyms"][p][2:]))


def _operator(state: State) -> list[str]:
    """The operator, where it takes part with preferences of its own."""
    return [OPERATOR] if state["result"] is not None and OPERATOR in state["result"]["gains_exact"] else []


def _answered(state: State, party: str, sent: Mapping[str, bool]) -> dict[str, Any]:
    """What the party said to the newest proposal, and whether its delegate did so for it."""
    given = state["answers"].get(party)
    said = ""
    if party in sent:
        said = "accepted" if sent[party] else "rejected"
    elif given is not None or state["state"] in ACCEPTED:
        said = "accepted"
    elif state["state"] == "PROPOSED":
        said = "waiting"
    by = given["by"] if given is not None and party not in sent else ""
    return {"answer": said, "by_delegate": by in ("delegate", "delegate at timeout")}


def _steps(state: State) -> list[str]:
    """What can still be done, without those whose consent it needs: they would be the owners of the core."""
    return list(dict.fromkeys(step["step"] for step in state["fallback"]))


def _changes(situation: Situation, vm: str, view: Mapping[str, str], contested: set[str]) -> list[dict[str, str]]:
    """Settings of the party's own view that nobody contests and that are otherwise than in force now."""
    current = situation.current_view(vm) or {}
    return [
        {"switch": name, "was": was, "becomes": view[name]}
        for name, was in current.items()
        if name not in contested and was != view[name]
    ]


def _detected(state: State) -> list[str]:
    """Before the first proposal only the names of the shared switches in conflict are known."""
    rows = (state["check"] or {}).get("conflicts", [])
    names = {row["switch"] for row in rows if row["switch"] and OPERATOR not in row["parties"]}
    return [f"host/{name}" for name in SWITCHES if name in names]


def _contested(state: State, situation: Situation, vm: str) -> list[dict[str, Any]]:
    """Contested settings in this party's view: shared ones, and its own."""
    result = state["result"]
    names = result["contested"] if result else _detected(state)
    rows = []
    for name in names:
        place, switch = name.split("/")
        if place in ("host", vm):
            rows.append(_row(state, situation, vm, place, switch))
    return rows


def _row(state: State, situation: Situation, vm: str, place: str, switch: str) -> dict[str, Any]:
    result, wish = state["result"], situation.wishes(vm).get(switch)
    mine = situation.best_possible(vm, switch)
    row: dict[str, Any] = {
        "issue": f"{place}/{switch}",
        "switch": switch,
        "label": SWITCHES[switch].label,
        "shared": place == "host",
        "you_want": list(mine) if _strength(wish) != "dont_mind" else [],
        "strength": _strength(wish),
        "proposal": None,
        "you_give_up": 0,
        "others_want": [],
        "they_give_up": [],
    }
    value = None
    if result:
        where = result["assignment"]["host"] if place == "host" else result["assignment"]["vms"][vm]
        value = row["proposal"] = where[switch]
        best = max((situation.score(vm, switch, v) for v in mine), default=0)
        row["you_give_up"] = best - situation.score(vm, switch, value)
    if place == "host" and (result is not None or state["state"] in VALUES_SHOWN):
        for party in _others(state, vm):
            theirs, wanted = situation.wishes(party).get(switch), situation.best_possible(party, switch)
            if _strength(theirs) != "dont_mind":
                row["others_want"].append({"who": state["pseudonyms"][party], "values": list(wanted)})
                if value is not None and value not in wanted:
                    row["they_give_up"].append(state["pseudonyms"][party])
    return row


def _strength(wish: Mapping[str, Any] | None) -> str:
    if wish is None or (not wish["weight"] and VETO not in wish["values"].values()):
        return "dont_mind"
    return "must" if VETO in wish["values"].values() else "prefer"


def _percent(gain: str) -> int:
    return math.floor(Fraction(gain) * 100 + Fraction(1, 2))


def _figures(state: State, vm: str) -> dict[str, Any]:
    """The party's own figures exactly; of the others only gains, in whole percent."""
    result = state["result"]
    gains = result["gains_exact"]
    return {
        "utility": result["utilities"][vm],
        "reservation": result["reservations"][vm],
        "ideal": result["ideals"][vm],
        "gain": gains[vm],
        "gain_percent": _percent(gains[vm]),
        "kept_percent": result["utilities"][vm] * 100 // result["ideals"][vm] if result["ideals"][vm] else 100,
        "others_gain": {
            state["pseudonyms"].get(party, party): _percent(gains[party])
            for party in [*_others(state, vm), *_operator(state)]
        },
        "proven": bool(result["bound"] and result["bound"]["proven"]),
    }


def _gains_so_far(state: State, vm: str) -> list[dict[str, Any]]:
    """Between two parties: what each proposal so far gave to either, in whole percent, as it was told to both when that
    proposal was on the table. More parties have no picture of it."""
    others = [*_others(state, vm), *_operator(state)]
    if len(others) != 1:
        return []
    return [
        {"k": row["k"], "you": _percent(str(row["gains"][vm])), "other": _percent(str(row["gains"][others[0]]))}
        for row in state["proposals"]
    ]


def _demand(name: str, vm: str) -> dict[str, Any]:
    """A demand of the core without its owner, unless it is the reader's own."""
    kind, owner, *place = name.split(":", 2)
    mine = owner == vm
    shown = place[0] if place and (mine or kind == "veto") else None
    return {"kind": kind, "switch": shown if kind == "veto" else None, "what": shown if mine else None, "yours": mine}


def _cut(certificate: Mapping[str, Any], vm: str, contested: list[str]) -> dict[str, Any]:
    """A party's part: its own row, the domains of contested shared issues and of its own, bound and search."""
    domains = {
        name: values
        for name, values in certificate["domains"].items()
        if name.startswith(f"{vm}/") or (name in contested and name.startswith("host/"))
    }
    many = len(certificate["parties"]) >= 4 and certificate["table"] is not None
    return {
        "format": certificate["format"],
        "policy_sha256": certificate["policies"][vm],
        "party": certificate["parties"][vm],
        "domains": domains,
        "lambda_bound": certificate["lambda_bound"],
        "search": certificate["search"],
        "table": {name: certificate["table"][name] for name in domains if name.startswith("host/")} if many else None,
    }
