"""Results and logs in plain sentences: what clashes, why, what a proposal gives and takes, and what can still be done.

Everything told is in the document given; nothing is computed again and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from webapp import strictjson
from webapp.errors import BadInput, Fault
from webapp.vpms import auditlog
from webapp.vpms.findings import NAMES, STATUS_TEXTS, TITLES
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.logwords import sentence
from webapp.vpms.shapes import Anything, Array, Boolean, ById, Faults, Nullable, Number, Object, OneOf, Shape, Text
from webapp.vpms.vocabulary import FACTS, SWITCHES

LARGEST: Final = 64 * strictjson.MIB
_TEXTS: Final = Array(Text(), most=strictjson.MAX_INTEGER)
_STEP: Final = Object({"step": Text(), "consent": _TEXTS})
_CONFLICT: Final = Object(
    {
        "code": OneOf(list(NAMES)),
        "name": Text(),
        "class": Text(),
        "trigger": Text(),
        "severity": OneOf(["hard", "negotiable", "possible", "advice"]),
        "parties": _TEXTS,
        "switch": Nullable(OneOf(list(SWITCHES))),
        "values": ById(_TEXTS),
        "core": _TEXTS,
        "background": _TEXTS,
        "text": Text(),
    }
)
_EVENT: Final = Object(
    {"kind": Text(), "decision": Text(), "code": Nullable(OneOf(list(NAMES))), "value_in_force": Nullable(Text())}
)
_AGAINST: Final = Object(
    {"at": Text(), "host": Text(), "host_sha256": Text(), "policies": ById(Text()), "trigger": Text()}
)
CHECK: Final = Object(
    {
        "status": OneOf(list(STATUS_TEXTS)),
        "conflicts": Array(_CONFLICT, most=strictjson.MAX_INTEGER),
        "checked_against": _AGAINST,
        "not_checked": _TEXTS,
        "event": Nullable(_EVENT),
    }
)
_POINTS: Final = ById(Number())
_BOUND: Final = Object(
    {
        "proven": Boolean(),
        "stage": Nullable(Number()),
        "min_gain_upper": Number(),
        "nash_upper": Nullable(Number()),
        "gap": Number(),
        "nodes": Number(),
    }
)
_ASSIGNMENT: Final = Object({"host": ById(Text()), "vms": ById(ById(Text()))})
NEGOTIATION: Final = Object(
    {
        "status": OneOf(["agreed", "needs_human", "no_agreement", "unknown"]),
        "assignment": Nullable(_ASSIGNMENT),
        "utilities": _POINTS,
        "reservations": _POINTS,
        "ideals": _POINTS,
        "gains": _POINTS,
        "gains_exact": ById(Text()),
        "min_gain": Nullable(Number()),
        "nash": Nullable(Number()),
        "bound": Nullable(_BOUND),
        "rounds": Number(),
        "contested": _TEXTS,
        "human": _TEXTS,
        "certificate": Anything(),
        "core": _TEXTS,
        "background": _TEXTS,
        "fallback": Array(_STEP),
    }
)
STATUS_WORDS: Final[Mapping[str, str]] = {
    "agreed": "Agreed: every delegate accepts this proposal.",
    "needs_human": "Proposed: the settings below are acceptable by the rules, but people must still answer.",
    "no_agreement": "No agreement: no settings keep everybody's demands. Whoever runs now keeps everything as it is.",
    "unknown": "Not decided: the time was over before a settlement was found. That is no proof that there is none.",
}
SEVERITY_WORDS: Final[Mapping[str, str]] = {
    "hard": "cannot hold on this host",
    "negotiable": "can be negotiated",
    "possible": "only if it happens",
    "advice": "nothing is blocked",
}
STEP_WORDS: Final[Mapping[str, str]] = {
    "relocate_requester": "Start the newcomer on another host",
    "migrate_willing": "Move a running VM that is willing to another host",
    "another_time": "Try again at another time",
    "edit_preference": "A party of the clash changes a wish of its own",
    "dedicated_host": "Take a host of one's own at the posted price",
    "refuse_action": "Leave everything as it is; only the new action is refused",
}
DECISION_WORDS: Final[Mapping[str, str]] = {
    "allow": "is allowed",
    "deny": "is denied and has no effect",
    "ask": "waits for the consent of the owner; without it, it is denied",
    "advice": "blocks nothing; the owners are told",
    "breach": "could not be refused: it breaks what is in force",
}
UNCHECKED_WORDS: Final[Mapping[str, str]] = {
    "vms_not_given": "VMs that were not given",
    "other_hosts": "other hosts",
    "future_events": "what may happen later",
    "declared_only_switches": "switches that the machine cannot observe",
    "joint_feasibility": "whether all demands can hold together (the time was over)",
    "start_rules": "what shows only when VMs stand beside each other",
    "run_rules": "what only running reveals",
}


def explain(data: bytes) -> str:
    """The plain text of a result of `check` or `negotiate`, of a negotiation's record, or of an audit log.

    BadInput for anything else.
    """
    if auditlog.looks_like_log(data):
        return _text(_log(data))
    document = strictjson.load(
        data, max_bytes=LARGEST, max_depth=16, max_array=None, max_string=strictjson.MIB, decimals=True
    )
    given = document if isinstance(document, dict) else {}
    if "checked_against" in given:
        return _text(_check(_shaped(CHECK, given)))
    if "gains_exact" in given:
        return _text(_negotiation(_shaped(NEGOTIATION, given)))
    if given.get("format") == "vpms-negotiation/1":
        return _text(_record(given))
    raise BadInput([Fault("$", "is no result of check or negotiate, no record of a negotiation and no audit log")])


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"


def _shaped(shape: Shape, given: Mapping[str, Any]) -> Mapping[str, Any]:
    faults: Faults = []
    shape.check(given, "$", faults)
    if faults:
        raise BadInput(faults)
    return given


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`"""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def who(party: str) -> str:
    return "the operator" if party == OPERATOR else party


def _name(party: str) -> str:
    """At the start of a sentence; ids keep their letters."""
    return "The operator" if party == OPERATOR else party


def label(switch: str) -> str:
    return SWITCHES[switch].label if switch in SWITCHES else switch


def value_label(switch: str, value: str) -> str:
    known = SWITCHES[switch].values if switch in SWITCHES else ()
    return next((row.label for row in known if row.name == value), value)


def demand_words(demand: str) -> str:
    """A demand of a core as a clause about its owner."""
    kind, _, rest = demand.partition(":")
    party, _, name = rest.partition(":")
    words = {
        VETO: f"{who(party)} refuses some choices for “{label(name)}”",
        "rule": f"{who(party)} has set rule {name} of its own policy",
        "reservation": f"{who(party)} accepts no less than its minimum",
        "label": f"{who(party)} refuses neighbours that show “{name}”",
        "class": f"{who(party)} belongs to the conflict class “{name}”",
    }
    return words.get(kind, demand)


def background_words(name: str) -> str:
    """Something that is nobody's demand and stands behind a clash."""
    kind, _, rest = name.partition(":")
    words = {
        "law": f"the law that binds the operator limits “{label(rest)}”",
        "capability": f"this host cannot do everything for “{label(rest)}”",
        "offer": f"the operator does not offer everything for “{label(rest)}”",
        "capacity": f"this host has only so much of {rest.replace('_mib', ' memory').replace('_', ' ')}",
        "population": "who is on the host",
        "departed": "who has just left the host",
        "validity": "a policy is outside its validity",
    }
    fact = next((fact for fact in FACTS if fact.name == name), None)
    if fact is not None:
        then = listed(
            [value_label(fact.then_switch, v) for v in SWITCHES[fact.then_switch].names if v in fact.then_values]
        )
        given = listed([value_label(fact.switch, v) for v in SWITCHES[fact.switch].names if v in fact.values])
        return f"“{label(fact.switch)}: {given}” leaves only “{label(fact.then_switch)}: {then}” ({name})"
    return words.get(kind, name)


def _core(core: Sequence[str], background: Sequence[str]) -> Iterator[str]:
    """The smallest set that cannot hold together, and why."""
    if len(core) == 1:
        yield f"   This cannot be met: {demand_words(core[0])}."
    elif core:
        yield "   These cannot all be met; if any one of them were dropped, the others could:"
        yield from (f"   - {demand_words(demand)};" for demand in core)
    elif background:
        yield "   No wish is needed for this; the circumstances alone exclude it."
    if background:
        yield f"   The reason behind it: {listed([background_words(name) for name in background])}."


def _check(result: Mapping[str, Any]) -> Iterator[str]:
    against, rows = result["checked_against"], result["conflicts"]
    yield f"{STATUS_TEXTS[result['status']]}."
    checked = f"{listed(sorted(against['policies']))} on host {against['host']}"
    yield f"Checked: {checked}, at {against['trigger']}, {against['at']}."
    event = result["event"]
    if event is not None:
        yield ""
        yield f"The event {event['kind']} {DECISION_WORDS.get(event['decision'], event['decision'])}."
        if event["value_in_force"] is not None:
            yield f"In force is: {event['value_in_force']}."
    for number, row in enumerate(rows, start=1):
        yield ""
        parties = f": {listed([who(party) for party in row['parties']])}" if row["parties"] else ""
        yield f"{number}. {TITLES[row['code']]} ({row['code']}, {SEVERITY_WORDS[row['severity']]}){parties}."
        yield f"   {row['text']}"
        for party, values in row["values"].items():
            wish = listed([value_label(row["switch"] or "", value) for value in values])
            yield f"   {_name(party)} {'offers' if party == OPERATOR else 'would like'}: {wish or 'nothing possible'}."
        yield from _core(row["core"], row["background"])
    if not rows:
        yield "Nothing was found."
    yield ""
    yield f"Not checked: {listed([UNCHECKED_WORDS.get(name, name) for name in result['not_checked']])}."


def _issue(name: str, assignment: Mapping[str, Any]) -> str:
    """`Sharing a core, for the whole host: never`"""
    place, _, switch = name.partition("/")
    values = assignment["host"] if place == "host" else assignment["vms"].get(place, {})
    where = "for the whole host" if place == "host" else f"for {place}"
    return f"{label(switch)}, {where}: {value_label(switch, values.get(switch, 'not said'))}"


def _negotiation(result: Mapping[str, Any]) -> Iterator[str]:
    yield STATUS_WORDS[result["status"]]
    if result["assignment"] is not None:
        yield from _proposal(result)
    if result["status"] == "no_agreement":
        yield ""
        yield "Why:"
        yield from _core(result["core"], result["background"])
    if result["fallback"]:
        yield ""
        yield "What can still be done:"
        for number, step in enumerate(result["fallback"], start=1):
            consent = listed([who(party) for party in step["consent"]]) or "nobody; this is always safe"
            yield f"{number}. {STEP_WORDS.get(step['step'], step['step'])}. Needs the consent of: {consent}."


def _proposal(result: Mapping[str, Any]) -> Iterator[str]:
    assignment = result["assignment"]
    yield ""
    if result["contested"]:
        yield "Not everybody gets what it likes best here; the proposal says:"
        yield from (f"- {_issue(name, assignment)}." for name in result["contested"])
    else:
        yield "Everybody gets what it likes best."
    yield ""
    for party, points in result["utilities"].items():
        ideal, least = result["ideals"].get(party, points), result["reservations"].get(party, 0)
        gives = f"gives up {_points(ideal - points)} points" if ideal > points else "gives up nothing"
        keeps = f"keeps {_percent(result['gains'].get(party, 1))} of what there is to gain above that least"
        yield (
            f"{_name(party)} gets {_points(points)} points; the most it could get here is {_points(ideal)}, the least "
            f"it accepts {_points(least)}. So it {gives} and {keeps}."
        )
    if result["human"]:
        yield ""
        yield f"A person must answer for: {listed([who(party) for party in result['human']])}."
    bound = result["bound"]
    if bound is not None:
        yield ""
        if bound["proven"]:
            yield "It is proven that no settlement is better for whoever gets least, and that none which is as good for"
            yield "that party is better for all together."
        else:
            yield "The search was cut off: a better settlement may exist."


def _points(thousandths: float) -> str:
    """Points of 1000, from the million of the figures."""
    return f"{thousandths / 1000:.3f}".rstrip("0").rstrip(".")


def _percent(gain: float) -> str:
    return f"{gain * 100:.0f} %"


def _log(data: bytes) -> Iterator[str]:
    """The log entry by entry, as far as its chain holds; the rounds of a negotiation have headings."""
    verdict = auditlog.verify_log(data)
    count, bad = verdict["entries"], verdict["first_bad"]
    whole = count if bad is None else bad
    if bad is None:
        yield f"The log holds together: {count} {'entry' if count == 1 else 'entries'}, each bound to the one before."
    else:
        yield f"The log was changed: entry {bad} is not what followed. What stands before it is told, nothing after it."
    rounds: dict[str, Any] = {}
    for line in data.split(b"\n")[:whole]:
        entry = strictjson.load(line, max_depth=16, max_array=None, max_string=strictjson.MIB)
        details = entry["data"] if isinstance(entry["data"], dict) else {"data": entry["data"]}
        number = details.get("round")
        if number and rounds.get(entry["subject"]) != number:
            rounds[entry["subject"]] = number
            yield f"-- {entry['subject']}, round {number}"
        told = sentence(entry["type"], details)
        if told is None:
            listed = "; ".join(f"{name}: {_plain(value)}" for name, value in details.items() if name != "round")
            told = f"{entry['type']}" + (f" ({listed})" if listed else "")
        yield f"{entry['seq']}. {entry['at']} {entry['actor']}, {entry['subject']}: {told}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "nothing"
    words = {True: "yes", False: "no", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _record(state: Mapping[str, Any]) -> Iterator[str]:
    """The record of one negotiation, round by round."""
    try:
        yield from list(_rounds(state))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise BadInput([Fault("$", "is not the record of a negotiation as `vpms-negotiation/1` has it")]) from None


def _rounds(state: Mapping[str, Any]) -> Iterator[str]:
    yield f"Negotiation {state['negotiation']} on host {state['host']['host']}, asked for by {who(state['requester'])}."
    early = [message for message in state["messages"] if not message.get("k")]
    yield from (_message(message) for message in early if message["type"] not in LATE)
    for proposal in state["proposals"]:
        k = proposal["k"]
        yield ""
        yield f"Round {k}, {proposal['at']}: the mediator proposes"
        yield from (f"- {_issue(name, proposal['assignment'])}." for name in proposal["contested"])
        for party, points in proposal["utilities"].items():
            gain = _percent(proposal["gains"][party])
            yield f"  {who(party)} gets {_points(points)} points, {gain} of what there is to gain."
        yield from (_message(message) for message in state["messages"] if message.get("k") == k)
        if k == state["round"]:
            for party, answer in sorted(state["answers"].items()):
                yield f"{answer['at']} {who(party)}: accepted, by {answer['by']}."
    yield ""
    yield from (_message(message) for message in early if message["type"] in LATE)
    yield f"Now: {state['state']}" + (f" ({state['reason']})." if state["reason"] else ".")
    yield from _core(state["core"], state["background"])
    for step in state["fallback"]:
        consent = listed([who(party) for party in step["consent"]]) or "nobody"
        yield f"Open: {STEP_WORDS.get(step['step'], step['step'])}. Needs the consent of: {consent}."


LATE: Final = ("sign", "withdraw", "enforced", "superseded", "breach", "keep")
_MESSAGE_WORDS: Final[Mapping[str, str]] = {
    "check": "checked the wishes",
    "invite": "invited all parties",
    "commit": "committed to its wishes",
    "reveal": "revealed them to the mediator",
    "accept": "accepted",
    "human_ok": "approved in person",
    "reject": "rejected",
    "counter": "rejected with a suggestion",
    "sign": "signed",
    "withdraw": "withdrew",
    "enforced": "put the terms in force",
    "superseded": "put later terms in their place",
    "breach": "recorded a breach",
    "keep": "chose to go on",
}


def _message(message: Mapping[str, Any]) -> str:
    reason = f": {_reason(message['reason'])}" if message.get("reason") else ""
    person = f", by {message['user']}" if message.get("user") else ""
    did = _MESSAGE_WORDS.get(message["type"], message["type"])
    return f"{message['at']} {who(message['sender'])} {did}{person}{reason}."


def _reason(reason: Mapping[str, Any]) -> str:
    if "veto" in reason:
        veto = reason["veto"]
        return f"never “{label(veto['switch'])}: {value_label(veto['switch'], veto['value'])}”"
    return f"at least {reason['floor']} points" if "floor" in reason else "for good"
