"""The view `conflict` of a lesson: who wants what, where it clashes, what the solver settles, and what a lie would get.

Rules and solver are those that tenants meet. A block names its parties' wishes in short, or brings whole documents of
the policy language. Pure: the same block gives the same answer, so each is computed once in a process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from webapp.agreements import wording
from webapp.courses import wishes
from webapp.courses.wishes import HOST, LIMITS, NAME, NOW
from webapp.errors import BadInput, Fault
from webapp.strictjson import canonical
from webapp.vpms import documents
from webapp.vpms.conflicts import at_create, at_start, joint_finding
from webapp.vpms.cores import minimal_core
from webapp.vpms.documents import Policy
from webapp.vpms.findings import TITLES, status_of
from webapp.vpms.reduction import Outcome, Problem
from webapp.vpms.shapes import Anything, Array, Faults, Integer, Object, OneOf, Text
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

MOST_PARTIES: Final = 5
PARTY: Final = Object({"name": NAME}, {"wishes": Anything(), "least": Integer(0, 1000), "policy": Anything()})
LIE: Final = Object({"party": NAME}, {"wishes": Anything(), "least": Integer(0, 1000), "policy": Anything()})
BLOCK: Final = Object(
    {"view": OneOf(["conflict"]), "parties": Array(PARTY, least=2, most=MOST_PARTIES)},
    {"title": Text(), "host": Anything(), "misreport": LIE},
)


@dataclass(frozen=True)
class Conflict:
    """A block that was read. `text`: its documents in canonical form, all that the answer depends on."""

    title: str
    text: bytes


def read(block: Mapping[str, Any]) -> Conflict:
    """The view in this block; BadInput names every fault by its path in the block."""
    faults: Faults = []
    BLOCK.check(dict(block), "$", faults)
    if faults:
        raise BadInput(faults)
    policies = [_document(party, party["name"], f"$.parties[{n}]", faults) for n, party in enumerate(block["parties"])]
    names = [party["name"] for party in block["parties"]]
    for number, name in enumerate(names):
        if name in names[:number]:
            faults.append(Fault(f"$.parties[{number}].name", f"{name} is the name of two parties"))
    lie = block.get("misreport")
    told: dict[str, Any] | None = None
    if lie is not None:
        if lie["party"] not in names:
            faults.append(Fault("$.misreport.party", f"{lie['party']} is none of the parties {', '.join(names)}"))
        told = _document(lie, lie["party"], "$.misreport", faults)
    _believed(documents.read_host, block.get("host", HOST), "$.host", faults)
    if faults:
        raise BadInput(faults)
    host = block.get("host") or _plain_host([*policies, *([told] if told else [])])
    whole = {"host": host, "policies": policies, "told": told}
    return Conflict(str(block.get("title", "")), canonical(whole))


def render(definition: Conflict) -> dict[str, Any]:
    """What the template shows. Nobody may change it: it is kept and shared."""
    return {"title": definition.title, **_computed(definition.text)}


record = render  # nothing in it needs a server


def _plain_host(policies: list[dict[str, Any]]) -> Mapping[str, Any]:
    """The host where a block names none."""
    if any(policy.get("rules") for policy in policies):
        return HOST
    return wishes.host_for({setting for policy in policies for setting in policy["switches"]})


def _document(given: Mapping[str, Any], name: str, path: str, faults: Faults) -> Any:
    """A party's policy document: its own, or the one that its short wishes stand for."""
    if ("policy" in given) == ("wishes" in given):
        faults.append(Fault(path, "must have either wishes or policy"))
        return None
    before = len(faults)
    if "wishes" in given:
        document = wishes.document(given["wishes"], name, given.get("least", 0), f"{path}.wishes", faults)
        part = f"{path}.wishes"
    else:
        document, part = given["policy"], f"{path}.policy"
    if len(faults) == before:
        policy = _believed(documents.read_policy, document, part, faults)
        if policy is not None and policy.vm != name:
            faults.append(Fault(f"{part}.vm", f"must be {name}, the name of its party"))
    return document


def _believed(reader: Any, document: Any, path: str, faults: Faults) -> Any:
    """What a reader of the policy language makes of a document; its faults are kept with their place in the block."""
    try:
        return reader(document)
    except BadInput as refused:
        faults += [Fault(path + fault.path.removeprefix("$"), fault.reason) for fault in refused.faults]
        return None


@lru_cache(maxsize=256)
def _computed(text: bytes) -> dict[str, Any]:
    given = json.loads(text)
    host = documents.read_host(given["host"])
    policies = [documents.read_policy(document) for document in given["policies"]]
    situation = Situation(policies, host, NOW)
    outcome = Problem(situation).solve(LIMITS)
    clashes = _clashes(situation, outcome)
    shown = {
        "parties": [{"name": vm, "least": situation.reservation(vm) // 1000} for vm in situation.vms],
        "wishes": _wishes(situation),
        **clashes,
        **_settled(situation, outcome, clashes["conflicts"]),
        "misreport": None,
    }
    if given["told"]:
        shown["misreport"] = _misreport(situation, outcome, documents.read_policy(given["told"]))
    return shown


def _wishes(situation: Situation) -> list[dict[str, Any]]:
    """One row for each setting that anybody cares about, one cell for each party."""
    cared = [s for s in SWITCHES if any(s in policy.switches for policy in situation.policies)]
    return [
        {
            "switch": switch,
            "label": SWITCHES[switch].label,
            "shared": situation.host.is_shared(switch),
            "cells": [{"party": p.vm, **_wish(p, switch)} for p in situation.policies],
        }
        for switch in cared
    ]


def _wish(policy: Policy, switch: str) -> dict[str, Any]:
    """What one party says of one setting: its best, what it refuses, and how many of its 1000 points it gives."""
    wish = policy.switches.get(switch)
    if wish is None:
        return {"wants": "", "refuses": "", "points": 0}
    numbers = {name: score for name, score in wish["values"].items() if score != "veto"}
    best = [name for name, score in numbers.items() if score == max(numbers.values())]
    return {
        "wants": wording.any_of(switch, best),
        "refuses": wording.any_of(switch, set(wish["values"]) - set(numbers)),
        "points": wish["weight"],
    }


def _clashes(situation: Situation, outcome: Outcome) -> dict[str, Any]:
    """What a start check finds. Of wishes that only together cannot be met, the core alone is looked for."""
    found = [finding.explained(situation) for finding in (*at_create(situation), *at_start(situation))]
    if outcome.status == "no_agreement" and not any(finding.severity == "hard" for finding in found):
        core, _ = minimal_core(situation, lambda less: Problem(less).feasible(LIMITS), situation.demands(), [])
        found.append(joint_finding(core, []))
    rows = sorted((finding.as_dict(situation) for finding in found), key=lambda row: (row["code"], row["parties"]))
    status = status_of(rows)
    return {
        "status": status,
        "status_words": wording.STATUS_WORDS[status],
        "tone": wording.STATUS_TONES[status],
        "conflicts": [
            {
                "code": row["code"],
                "title": TITLES[row["code"]],
                "severity": row["severity"],
                "severity_words": wording.SEVERITY_WORDS[row["severity"]],
                "tone": wording.SEVERITY_TONES[row["severity"]],
                "text": row["text"],
                "parties": ", ".join(row["parties"]),
                "why": wording.core_sentence(row["core"], row["background"]) if row["core"] else "",
            }
            for row in rows
        ],
    }


def _settled(situation: Situation, outcome: Outcome, conflicts: list[dict[str, Any]]) -> dict[str, Any]:
    """The settlement and what each party has of it; without one, why not."""
    if outcome.assignment is None:
        why = " ".join(row["why"] for row in conflicts if row["severity"] == "hard")
        if outcome.status == "unknown":
            why = "The solver found no settlement within its limit."
        return {"settled": False, "why": why, "values": [], "totals": []}
    solution = outcome.solution
    return {
        "settled": True,
        "why": "",
        "values": [_value_row(situation, outcome.assignment, row) for row in _wishes(situation)],
        "totals": [
            {
                "party": party,
                "points": points // 1000,
                "most": most // 1000,
                "least": situation.reservation(party) // 1000,
                "gives_up": most // 1000 - points // 1000,
                "gain": _share(points, most, situation.reservation(party)),
            }
            for party, points, most in zip(outcome.parties, solution.utilities, solution.ideals, strict=True)
        ],
    }


def _share(points: int, most: int, least: int) -> str:
    """How far the points are on the way from the least to the most."""
    return wording.percent(10**6 * (points - least) // (most - least)) if most > least else "nothing to gain here"


def _value_row(situation: Situation, assignment: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    switch = row["switch"]
    cells = []
    for policy in situation.policies:
        view = situation.view(policy.vm, assignment) or {}
        wish = policy.switches.get(switch)
        cells.append(
            {
                "party": policy.vm,
                "value": wording.value_label(switch, view[switch]),
                "points": situation.score(policy.vm, switch, view[switch]) // 1000,
                "of": wish["weight"] if wish else 0,
            }
        )
    shared = wording.value_label(switch, assignment["host"][switch]) if row["shared"] else ""
    return {"label": row["label"], "value": shared, "cells": cells}


def _misreport(true: Situation, honest: Outcome, told: Policy) -> dict[str, Any]:
    """What the liar has of both settlements, judged by its true wishes; and what the lie does to the others."""
    liar = told.vm
    others = [policy for policy in true.policies if policy.vm != liar]
    lying = Situation([*others, told], true.host, NOW)
    before, after = honest.assignment, Problem(lying).solve(LIMITS).assignment
    rows: list[dict[str, Any]] = []
    for party in true.vms:
        was, now = (_true_points(true, party, assignment) for assignment in (before, after))
        rows.append({"party": party, "liar": party == liar, "honest": was, "lying": now, "change": _change(was, now)})
    mine = next(row for row in rows if row["liar"])
    breaks = after is not None and not true.keeps_own_terms(liar, true.view(liar, after) or {})
    outcome, words = _verdict(mine["honest"], mine["lying"], breaks)
    return {
        "party": liar,
        "least": lying.reservation(liar) // 1000,
        "told": [{**row, "cell": next(c for c in row["cells"] if c["party"] == liar)} for row in _wishes(lying)],
        "settled": after is not None,
        "rows": rows,
        "changed": _changed(true, before, after),
        "outcome": outcome,
        "words": words,
        "tone": {"gains": "warning", "loses": "violation", "ruins": "violation"}.get(outcome, "neutral"),
    }


def _true_points(true: Situation, party: str, assignment: Mapping[str, Any] | None) -> int | None:
    """Points of 1000 by the party's true wishes; None without a settlement."""
    view = None if assignment is None else true.view(party, assignment)
    return None if view is None else true.utility(party, view) // 1000


def _change(was: int | None, now: int | None) -> int:
    return (now or 0) - (was or 0)


def _verdict(was: int | None, now: int | None, breaks: bool) -> tuple[str, str]:
    if was is not None and now is None:
        return "ruins", "The lie destroyed the settlement: there is none, and the liar has nothing."
    if breaks:
        return "loses", "The lie broke a must of the liar's own."
    change = _change(was, now)
    if change > 0:
        return "gains", f"By its true wishes the liar gains {change} points."
    if change < 0:
        return "loses", f"By its true wishes the liar loses {-change} points."
    return "same", "By its true wishes the liar has exactly what it would have had anyway."


def _changed(
    true: Situation, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """The settings of the whole host that the lie moved, among those that anybody cares about."""
    if before is None or after is None:
        return []
    return [
        {
            "label": row["label"],
            "was": wording.value_label(row["switch"], before["host"][row["switch"]]),
            "becomes": wording.value_label(row["switch"], after["host"][row["switch"]]),
        }
        for row in _wishes(true)
        if row["shared"] and before["host"][row["switch"]] != after["host"][row["switch"]]
    ]
