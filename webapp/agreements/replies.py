"""What a person answers to a proposal, in the protocol's form: a reason that excludes it, and what is suggested.

Everything is judged by what its author may know: its own wishes, the proposal, and the values that nobody rules out.
Whether the others could live with a suggestion is not told before it is sent, or it could be used to feel them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from webapp.agreements.wording import percent, switch_label, switch_of, value_label
from webapp.errors import BadInput, Fault
from webapp.strictjson import member
from webapp.vpms import protocol
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import FACTS, SWITCHES

MILLION: Final = 1_000_000
NO_REASON: Final = "is missing: choose what stands in the way"
Protocol = dict[str, Any]
Suggestion = dict[str, str]


def reason_of(text: str, state: Protocol, vm: str) -> dict[str, Any]:
    """The protocol's form of `final`, `more`, `veto:<switch>` or `floor:<points>`; BadInput for anything else."""
    kind, _, rest = text.partition(":")
    result = state["result"] or {"utilities": {}, "contested": [], "assignment": {"host": {}, "vms": {}}}
    points = int(result["utilities"].get(vm, 0))
    if text == "final":
        return {"final": True}
    if text == "more" and points < MILLION:
        return {"floor": points // 1000 + 1}
    if kind == "floor":
        return {"floor": floor_of(rest, points)}
    if kind == "veto" and {f"host/{rest}", f"{vm}/{rest}"} & set(result["contested"]):
        return {"veto": {"switch": rest, "value": view_of(result["assignment"], vm)[rest]}}
    if kind == "veto":
        raise BadInput([Fault("$.reason", "names no contested setting; choose one of those that the proposal lists")])
    raise BadInput([Fault("$.reason", NO_REASON)])


def floor_of(text: str, points: int) -> int:
    """The minimum in points of 1000: above what the proposal keeps, or the rejection would exclude nothing."""
    if text.isascii() and text.isdecimal() and len(text) <= 4 and points < 1000 * int(text) <= MILLION:
        return int(text)
    least = points // 1000 + 1
    if least > 1000:
        raise BadInput([Fault("$.minimum", "is not possible: this proposal keeps everything that you wish")])
    reason = f"must lie between {least / 10:g} % and 100 %: this proposal keeps {percent(points)} already"
    raise BadInput([Fault("$.minimum", reason)])


def per_mille(text: str) -> str:
    """`62.5` or `62,5` percent as `625`; what is no percentage with at most one decimal comes back as it is."""
    whole, point, rest = text.strip().replace(",", ".").removesuffix("%").strip().partition(".")
    digits = whole + (rest if point else "0")
    good = whole.isascii() and whole.isdecimal() and len(whole) <= 3 and (not point or len(rest) == 1)
    return str(int(digits)) if good and digits.isascii() and digits.isdecimal() else text[:20]


def view_of(assignment: Mapping[str, Any], vm: str) -> dict[str, str]:
    return {**assignment["host"], **assignment["vms"].get(vm, {})}


def choices_of(state: Protocol, vm: str) -> dict[str, list[str]]:
    """For each contested issue in the VM's view: the values that no must, rule or limit of the host excludes."""
    result = state["result"]
    if result is None:
        return {}
    domains = result["certificate"]["domains"]
    return {name: list(domains[name]) for name in result["contested"] if name.partition("/")[0] in ("host", vm)}


def suggestion_of(given: Mapping[str, str], reason: str, state: Protocol, vm: str, now: str) -> dict[str, str]:
    """The changes `{issue: value}` that a counter asks for; BadInput names each that cannot be asked for, and why.

    `given` is by switch. What stays as proposed is left out. A counter is a rejection too, so it must hold what it
    rejects: not the value it vetoes, nor less than the minimum it names.
    """
    choices = {switch_of(name): (name, values) for name, values in choices_of(state, vm).items()}
    before = view_of(state["result"]["assignment"], vm)
    faults = [fault for switch, value in given.items() if (fault := _value_fault(switch, value, choices))]
    if faults:
        raise BadInput(faults)
    changes = {choices[switch][0]: value for switch, value in given.items() if value != before[switch]}
    if reason == "final":
        faults = [Fault("$.reason", "is a no to any settlement; then nothing can be suggested")]
    elif not changes:
        faults = [Fault("$.suggestion", "changes nothing: choose another value for at least one contested setting")]
    else:
        faults = _own_faults(changes, reason_of(reason, state, vm), state, vm, now)
    if faults:
        raise BadInput(faults)
    return changes


def _value_fault(switch: str, value: str, choices: Mapping[str, tuple[str, list[str]]]) -> Fault | None:
    path = member("$.suggestion", switch)
    if switch not in choices:
        return Fault(path, "is not contested here; a counter changes contested settings only")
    if value not in SWITCHES[switch].names:
        return Fault(path, f"is not a value of “{switch_label(switch)}”")
    if value not in choices[switch][1]:
        return Fault(path, f"cannot be “{value_label(switch, value)}”: somebody's must or the host rules it out")
    return None


def _own_faults(changes: Suggestion, reason: Mapping[str, Any], state: Protocol, vm: str, now: str) -> list[Fault]:
    situation = protocol.situation_of(state, now)
    view = suggested_view(changes, state, vm)
    faults = []
    veto, floor = reason.get("veto"), int(reason.get("floor", 0))
    if veto is not None and view[veto["switch"]] == veto["value"]:
        path = member("$.suggestion", veto["switch"])
        faults.append(Fault(path, "is as proposed, and that is what you reject"))
    kept = situation.utility(vm, view)
    least = max(1000 * floor, situation.reservation(vm))
    if kept < least:
        faults.append(Fault("$.suggestion", f"keeps {percent(kept)} of your wishes; your minimum is {percent(least)}"))
    return faults + fact_faults(situation, view, vm)


def fact_faults(situation: Situation, view: Mapping[str, str], vm: str) -> list[Fault]:
    """What the platform cannot do together, and what the party's own rules tie together, inside its own view."""
    told = [
        f"cannot hold: with “{switch_label(fact.switch)}: {value_label(fact.switch, view[fact.switch])}” there is no "
        f"“{switch_label(fact.then_switch)}: {value_label(fact.then_switch, view[fact.then_switch])}” on this platform"
        for fact in FACTS
        if view[fact.switch] in fact.values and view[fact.then_switch] not in fact.then_values
    ]
    told += [
        f"breaks your own rule that ties “{switch_label(rule.when)}” to “{switch_label(rule.then)}”"
        for rule in situation.rules(vm)
        if view[rule.when] in rule.when_in and view[rule.then] not in rule.then_in
    ]
    return [Fault("$.suggestion", words) for words in told]


def suggested_view(changes: Suggestion, state: Protocol, vm: str) -> dict[str, str]:
    return {**view_of(state["result"]["assignment"], vm), **{switch_of(name): value for name, value in changes.items()}}


def kept_points(changes: Suggestion, state: Protocol, vm: str, now: str) -> int:
    """How many of a million points of the party's own wishes the suggestion would keep."""
    return protocol.situation_of(state, now).utility(vm, suggested_view(changes, state, vm))
