"""The negotiation as a pure state machine: a JSON state, a message and the server's time give a new state.

The mediator asks for consent and never decides for a party. Silence is a reject unless the owner wrote a floor. Every
reject excludes the proposal it answers and holds to the end, so at most K rounds are needed. What a state does not
allow is refused with `invalid_transition`, an answer to an earlier proposal with `outdated`; both change nothing.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from webapp import strictjson
from webapp.errors import VpmsError
from webapp.vpms import agreement
from webapp.vpms.conflicts import check
from webapp.vpms.documents import Policy, read_host, read_policy
from webapp.vpms.formats import OPERATOR, VETO
from webapp.vpms.instance import Limits
from webapp.vpms.negotiation import describe, keeps_all_terms, outcome_of, within_bounds
from webapp.vpms.reduction import Problem
from webapp.vpms.shapes import Faults, Time, is_integer
from webapp.vpms.situation import Situation
from webapp.vpms.vocabulary import SWITCHES

State = dict[str, Any]
Message = Mapping[str, Any]
MEDIATOR: Final = "mediator"
ROUNDS: Final = 5
SIGNING_S: Final = 3600
LONGEST_S: Final = 604800
OPEN: Final = ("DRAFT", "DETECTED", "INVITED", "COMMITTED", "PROPOSED", "ACCEPTED_ALL")
_NONCE: Final = re.compile("[0-9a-f]{64}")
ENDED: Final = ("NO_AGREEMENT", "WITHDRAWN", "SUPERSEDED")


def draft(
    *,
    negotiation: str,
    requester: str,
    host: Mapping[str, Any],
    policies: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    agreement_id: str,
    version: int = 1,
    previous: str | None = None,
    pseudonym_seed: str,
    seconds: float = 10.0,
) -> State:
    """A new negotiation about one host. `keys` are the public keys of all parties, the operator's included.

    `pseudonym_seed` is fresh chance drawn by the caller; `seconds` limits each search of the solver.
    """
    read = [read_policy(policy) for policy in policies]
    read_host(host)
    vms = sorted(policy.vm for policy in read)
    if requester not in {*vms, OPERATOR}:
        raise VpmsError("not_a_party", 422, {"party": requester})
    drawn = sorted(vms, key=lambda vm: hashlib.sha256(f"{pseudonym_seed}:{vm}".encode()).hexdigest())
    return {
        "format": "vpms-negotiation/1",
        "negotiation": negotiation,
        "state": "DRAFT",
        "round": 0,
        "requester": requester,
        "host": dict(host),
        "policies": {policy.vm: dict(policy.document) for policy in read},
        "keys": dict(keys),
        "agreement": {"agreement": agreement_id, "version": version, "previous": previous},
        "pseudonyms": {vm: f"T-{number}" for number, vm in enumerate(drawn, start=1)},
        "seconds": seconds,
        "check": None,
        "commits": {},
        "reveals": [],
        "proposals": [],
        "result": None,
        "answers": {},
        "approvals": {},
        "bounds": {},
        "rejections": {},
        "deadline": None,
        "deadlines": {},
        "statement": None,
        "payload_sha256": None,
        "signatures": {},
        "envelope": None,
        "reason": None,
        "core": [],
        "background": [],
        "fallback": [],
        "messages": [],
    }


def apply_message(state: State, message: Message, now: str) -> State:
    """The state after this message; the given state is not touched. Deadlines that have passed are applied first.

    Messages: {"type", "sender", ...}. Raises VpmsError and changes nothing if the message is not allowed now.
    """
    kind, sender = str(message.get("type")), str(message.get("sender"))
    new = expire(state, now)
    rule = _RULES.get((new["state"], kind)) or _ANYWHERE.get(kind)
    if rule is None or (kind == "withdraw" and new["state"] not in OPEN):
        raise VpmsError("invalid_transition", 409, {"state": new["state"], "message": kind})
    allowed = {MEDIATOR} if kind in _MEDIATORS else set(_parties(new)) | {OPERATOR}
    if sender not in allowed:
        raise VpmsError("not_a_party", 403, {"sender": sender})
    if kind in _ABOUT_A_PROPOSAL and not is_integer(message.get("k")):
        raise VpmsError("bad_message", 422, {"field": "k"}, "an answer names the proposal that it is about")
    if "k" in message and message["k"] != new["round"]:
        raise VpmsError("outdated", 409, {"k": new["round"]}, "the proposal has changed since it was opened")
    rule(new, message, now)
    noted = {key: message[key] for key in ("type", "sender", "k", "reason", "user") if key in message}
    new["messages"].append({**noted, "at": now})
    return new


def expire(state: State, now: str) -> State:
    """The state after the server's clock has reached `now`: what deadlines decide, and nothing else."""
    new = copy.deepcopy(state)
    if new["state"] in ("INVITED", "COMMITTED", "ACCEPTED_ALL") and new["deadline"] and now >= new["deadline"]:
        missing = {"ACCEPTED_ALL": "a signature"}.get(new["state"], "a commitment")
        _end(new, f"deadline: {missing} was missing")
    elif new["state"] == "PROPOSED":
        for party in sorted(new["deadlines"]):
            if new["state"] == "PROPOSED" and party not in new["answers"] and now >= new["deadlines"][party]:
                _silence(new, party, now)
        _settle(new, now)
    return new


def mediate(state: State, now: str, nonces: Mapping[str, str], *, deadline_s: int = 3600) -> State:
    """From a draft to its first proposal, or its end, for parties whose policies are registered here.

    The registered policies are committed and revealed for their owners with these nonces (64 hex digits for each VM).
    """
    new = apply_message(state, {"type": "check", "sender": MEDIATOR}, now)
    if new["state"] != "DETECTED":
        return new
    new = apply_message(new, {"type": "invite", "sender": MEDIATOR, "deadline": later(now, deadline_s)}, now)
    for vm, policy in sorted(new["policies"].items()):
        new = apply_message(new, {"type": "commit", "sender": vm, "digest": commitment(policy, nonces[vm])}, now)
    for vm, policy in sorted(state["policies"].items()):
        new = apply_message(new, {"type": "reveal", "sender": vm, "policy": policy, "nonce": nonces[vm]}, now)
    return new


def commitment(policy: Mapping[str, Any], nonce: str) -> str:
    """What binds a party to a policy version before anyone has seen it."""
    return hashlib.sha256(strictjson.canonical(policy) + bytes.fromhex(nonce)).hexdigest()


def next_deadline(state: State) -> str | None:
    """When `expire` should be called next; None if nothing waits for the clock."""
    if state["state"] == "PROPOSED":
        return min((at for party, at in state["deadlines"].items() if party not in state["answers"]), default=None)
    return state["deadline"] if state["state"] in ("INVITED", "COMMITTED", "ACCEPTED_ALL") else None


def moment(text: str) -> datetime:
    """The time, in UTC, that this text of the protocol means."""
    return datetime.strptime(text, agreement.TIME_FORMAT).replace(tzinfo=UTC)


def later(now: str, seconds: int) -> str:
    return (moment(now) + timedelta(seconds=seconds)).strftime(agreement.TIME_FORMAT)


def situation_of(state: State, now: str) -> Situation:
    """The wishes that count in this negotiation: the policies, and what was rejected in it."""
    policies = [
        _with_rejections(read_policy(doc), state["rejections"].get(vm)) for vm, doc in state["policies"].items()
    ]
    return Situation(policies, read_host(state["host"]), now)


def _with_rejections(policy: Policy, rejected: Mapping[str, Any] | None) -> Policy:
    """The policy with the vetoes and the floor of this negotiation; its document and digest stay as they are."""
    if rejected is None:
        return policy
    switches = copy.deepcopy(dict(policy.switches))
    for switch, values in rejected["vetoes"].items():
        wish = switches.setdefault(switch, {"weight": 0, "values": dict.fromkeys(SWITCHES[switch].names, 0)})
        wish["values"].update(dict.fromkeys(values, VETO))
    least = max(int(policy.disagreement["utility"]), int(rejected["floor"]))
    return replace(policy, switches=switches, disagreement={**policy.disagreement, "utility": least})


def _parties(state: State) -> list[str]:
    operator = [OPERATOR] if (state["host"]["operator"].get("preferences")) is not None else []
    return sorted([*state["policies"], *operator])


def _party(state: State, message: Message) -> str:
    """The VM that sent the message."""
    sender = str(message["sender"])
    if sender not in state["policies"]:
        raise VpmsError("not_a_party", 403, {"sender": sender})
    return sender


def _text(message: Message, field: str) -> str:
    value = message.get(field)
    if not isinstance(value, str):
        raise VpmsError("bad_message", 422, {"field": field}, f"the message needs {field}")
    return value


def _end(state: State, reason: str) -> None:
    state.update(state="NO_AGREEMENT", reason=reason, deadline=None, deadlines={})


def _check(state: State, message: Message, now: str) -> None:
    """Nothing in the way: propose at once. Negotiable: invite. Unresolvable: the core says why."""
    situation = situation_of(state, now)
    found = check(situation.policies, situation.host, now=now, limits=Limits(state["seconds"]))
    state["check"] = found
    if found["status"] == "conflict_negotiable":
        state["state"] = "DETECTED"
    elif found["status"] == "conflict_unresolvable":
        hard = next(row for row in found["conflicts"] if row["severity"] == "hard")
        problem = Problem(situation)
        result = describe(problem, problem.solve(Limits(state["seconds"])), Limits(state["seconds"]))
        state["core"], state["background"] = result["core"] or hard["core"], result["background"] or hard["background"]
        state["fallback"] = result["fallback"]
        _end(state, f"conflict: {hard['code']} {hard['text']}")
    else:
        _solve(state, now)


def _invite(state: State, message: Message, now: str) -> None:
    deadline = _text(message, "deadline")
    faults: Faults = []
    Time().check(deadline, "deadline", faults)
    if faults or not now < deadline <= later(now, LONGEST_S):
        raise VpmsError("bad_message", 422, {"field": "deadline"}, "a deadline is a time within the next seven days")
    state.update(state="INVITED", deadline=deadline)


def _commit(state: State, message: Message, now: str) -> None:
    party, digest = _party(state, message), _text(message, "digest")
    if not _NONCE.fullmatch(digest):
        raise VpmsError("bad_message", 422, {"field": "digest"}, "a commitment is 64 hex digits")
    if state["commits"].get(party, digest) != digest:
        raise VpmsError("already_committed", 409, {"party": party}, "a commitment cannot be changed")
    state["commits"][party] = digest
    if set(state["commits"]) >= set(state["policies"]):
        state["state"] = "COMMITTED"


def _reveal(state: State, message: Message, now: str) -> None:
    vm, policy, nonce = _party(state, message), message.get("policy"), _text(message, "nonce")
    if not isinstance(policy, Mapping) or not _NONCE.fullmatch(nonce):
        raise VpmsError("bad_message", 422, message="a reveal needs the policy and 64 hex digits of nonce")
    read, registered = read_policy(policy), state["policies"][vm]
    if (read.vm, read.tenant) != (vm, registered["tenant"]) or commitment(policy, nonce) != state["commits"][vm]:
        _end(state, f"reveal: {state['pseudonyms'][vm]} revealed something else than it had committed to")
        return
    state["policies"][vm] = dict(policy)
    state["reveals"] = sorted({*state["reveals"], vm})
    if state["reveals"] == sorted(state["policies"]):
        _solve(state, now)


def _solve(state: State, now: str, suggestion: Mapping[str, Any] | None = None) -> None:
    """The next proposal: a party's suggestion if all can keep their terms with it, otherwise the best outcome."""
    problem, limits = Problem(situation_of(state, now)), Limits(state["seconds"])
    outcome = problem.solve(limits)
    if suggestion is not None and outcome.assignment is not None and keeps_all_terms(problem, suggestion):
        outcome = outcome_of(problem, suggestion, outcome.solution)
    result = describe(problem, outcome, limits)
    if outcome.assignment is None:
        unknown = outcome.status == "unknown"
        state.update(core=result["core"], background=result["background"], fallback=result["fallback"])
        _end(
            state,
            "time: no settlement was found in the time given" if unknown else "core: no settlement keeps all terms",
        )
        return
    state["round"] += 1
    row = {"k": state["round"], "at": now, "assignment": result["assignment"], "contested": result["contested"]}
    state["proposals"].append({**row, "utilities": result["utilities"], "gains": result["gains"]})
    state.update(state="PROPOSED", result=result, answers={}, approvals={}, deadline=None, deadlines={})
    _accept_within_bounds(state, now)
    for party in _parties(state):
        if party in state["answers"]:
            continue
        if party in result["human"]:
            state["deadlines"][party] = later(now, int(_delegate(state, party).get("deadline_s", 86400)))
        else:
            state["answers"][party] = {"answer": "accept", "by": "delegate", "at": now}
    _settle(state, now)


def _delegate(state: State, party: str) -> Mapping[str, Any]:
    return dict(state["policies"][party]["delegate"])


def _silence(state: State, party: str, now: str) -> None:
    """Silence is a reject, unless the owner wrote a floor and the proposal is above it."""
    delegate, utility = _delegate(state, party), state["result"]["utilities"][party]
    least = max(state["result"]["reservations"][party], 1000 * int(delegate.get("floor", 1001)))
    if delegate.get("onTimeout") == "accept-if-above-floor" and utility >= least:
        state["answers"][party] = {"answer": "accept", "by": "delegate at timeout", "at": now}
    else:
        _end(state, f"deadline: {state['pseudonyms'][party]} did not answer in time")


def _settle(state: State, now: str) -> None:
    """When all have accepted the same proposal, its terms are written down to be signed."""
    if state["state"] != "PROPOSED" or set(state["answers"]) < set(_parties(state)):
        return
    situation = situation_of(state, now)
    terms = agreement.statement(
        assignment=state["result"]["assignment"],
        certificate=state["result"]["certificate"],
        policies=situation.policies,
        host=situation.host,
        keys=state["keys"],
        agreement=state["agreement"]["agreement"],
        version=state["agreement"]["version"],
        previous=state["agreement"]["previous"],
        not_before=now,
    )
    digest = agreement.payload_digest(agreement.payload_of(terms))
    state.update(
        state="ACCEPTED_ALL", statement=terms, payload_sha256=digest, deadline=later(now, SIGNING_S), deadlines={}
    )


def _accept(state: State, message: Message, now: str) -> None:
    """A party accepts proposal k. Where a person is needed, the person is named here or in a `human_ok` before."""
    party = message["sender"]
    if party not in _parties(state):
        raise VpmsError("not_a_party", 403, {"sender": party})
    if state["answers"].get(party, {}).get("answer") == "accept":
        return
    person = message.get("user") or state["approvals"].get(party)
    if not isinstance(person, str) or not person:
        raise VpmsError("needs_person", 409, {"party": party}, "a person must answer this proposal")
    state["answers"][party] = {"answer": "accept", "by": person, "at": now}
    _settle(state, now)


def _bound(state: State, message: Message, now: str) -> None:
    """From now on the party's delegate accepts every proposal of this negotiation that keeps its musts and this floor;
    without a floor its owner is asked again. What was accepted before stays accepted."""
    party, floor = _party(state, message), message.get("floor")
    bounds = state.setdefault("bounds", {})
    if floor is None:
        bounds.pop(party, None)
        return
    if not isinstance(floor, int) or not is_integer(floor) or not 0 <= floor <= 1000:
        raise VpmsError("bad_message", 422, {"field": "floor"}, "a floor is a whole number from 0 to 1000")
    bounds[party] = {"floor": floor, "user": _text(message, "user")}
    _accept_within_bounds(state, now)
    _settle(state, now)


def _accept_within_bounds(state: State, now: str) -> None:
    """The delegates that were given a floor for this negotiation answer in place of their owners."""
    bounds = state.get("bounds", {})
    situation = situation_of(state, now) if bounds else None
    for party in sorted(bounds):
        if situation is None or party in state["answers"] or party not in state["result"]["human"]:
            continue
        if within_bounds(situation, party, state["result"]["assignment"], bounds[party]["floor"]):
            state["answers"][party] = {"answer": "accept", "by": "delegate", "at": now, "bound": True}


def _human_ok(state: State, message: Message, now: str) -> None:
    """A named person approves exactly this proposal; it never covers the next one."""
    if not isinstance(message.get("user"), str) or not message["user"]:
        raise VpmsError("needs_person", 422, message="the approving person must be named")
    state["approvals"][_party(state, message)] = message["user"]


def _reject(state: State, message: Message, now: str) -> None:
    """A reject excludes this proposal for good, by a veto, a floor or finally; then the next round, if there is one."""
    party, reason = _party(state, message), message.get("reason")
    if not isinstance(reason, Mapping) or len(reason) != 1:
        raise VpmsError("reason_missing", 422, message="a reject needs one reason: veto, floor or final")
    if reason.get("final") is True and message["type"] == "reject":
        _end(state, f"reject: {state['pseudonyms'][party]} rejected the proposal for good")
        return
    _exclude(state, party, reason)
    if state["round"] >= ROUNDS:
        _end(state, f"rounds: no agreement after {ROUNDS} proposals")
        return
    _solve(state, now, _suggestion(state, message))


def _exclude(state: State, party: str, reason: Mapping[str, Any]) -> None:
    row = state["rejections"].setdefault(party, {"vetoes": {}, "floor": 0})
    assignment = state["result"]["assignment"]
    view = {**assignment["host"], **assignment["vms"].get(party, {})}
    veto, floor = reason.get("veto"), reason.get("floor")
    if (
        isinstance(veto, Mapping)
        and set(veto) == {"switch", "value"}
        and view.get(str(veto["switch"])) == veto["value"]
    ):
        row["vetoes"].setdefault(veto["switch"], []).append(veto["value"])
    elif (
        isinstance(floor, int)
        and is_integer(floor)
        and 0 <= floor <= 1000
        and 1000 * floor > state["result"]["utilities"][party]
    ):
        row["floor"] = max(row["floor"], floor)
    else:
        raise VpmsError(
            "excludes_nothing", 422, message="a reject must exclude the proposal: a value in it, or its points"
        )


def _suggestion(state: State, message: Message) -> dict[str, Any] | None:
    """The proposal with a counter's changes {issue: value}, which may lie in contested issues only."""
    if message["type"] != "counter":
        return None
    wanted: dict[str, Any] = copy.deepcopy(state["result"]["assignment"])
    changes = message.get("assignment")
    if not isinstance(changes, Mapping):
        raise VpmsError("bad_message", 422, {"field": "assignment"}, "a counter suggests values of contested settings")
    for name, value in changes.items():
        place, _, switch = str(name).partition("/")
        if name not in state["result"]["contested"] or place not in ("host", message["sender"]):
            raise VpmsError(
                "not_contested", 422, {"issue": name}, "only contested settings of your view can be countered"
            )
        (wanted["host"] if place == "host" else wanted["vms"][place])[switch] = str(value)
    return wanted


def _sign(state: State, message: Message, now: str) -> None:
    """One party's signature over the terms; with the last one the envelope is complete."""
    party = message["sender"]
    if message.get("digest") != state["payload_sha256"]:
        raise VpmsError("digest_mismatch", 409, {"digest": state["payload_sha256"]})
    payload = agreement.payload_of(state["statement"])
    signature = message.get("signature")
    if not isinstance(signature, Mapping) or not agreement.is_signed(payload, signature, state["keys"][party]):
        raise VpmsError("bad_signature", 422, {"party": party})
    state["signatures"][party] = {key: str(signature[key]) for key in ("keyid", "sig")}
    if set(state["signatures"]) >= {*state["policies"], OPERATOR}:
        state["envelope"] = agreement.envelope(payload, state["signatures"].values())
        state.update(state="SIGNED", deadline=None)


def _withdraw(state: State, message: Message, now: str) -> None:
    if message["sender"] == state["requester"]:
        state.update(state="WITHDRAWN", reason="withdrawn by the requester", deadline=None, deadlines={})
    else:
        _end(state, "withdrawn by a party")


def _to(name: str) -> Callable[[State, Message, str], None]:
    def move(state: State, message: Message, now: str) -> None:
        state["state"] = name

    return move


def _breach(state: State, message: Message, now: str) -> None:
    event, evidence = message.get("event"), message.get("evidence")
    if not isinstance(event, Mapping) or not isinstance(evidence, Mapping):
        raise VpmsError("bad_message", 422, message="a breach names the event and its evidence")
    state.update(state="BREACHED", breach={"event": dict(event), "evidence": dict(evidence), "at": now})


def _keep(state: State, message: Message, now: str) -> None:
    """The owner whose terms were broken goes on under them; nobody chooses that for another."""
    concerned = state["breach"]["event"].get("vm", message["sender"])
    if _party(state, message) != concerned:
        raise VpmsError("not_a_party", 403, {"sender": message["sender"]})
    state["state"] = "ENFORCED"


_RULES: Final[Mapping[tuple[str, str], Callable[[State, Message, str], None]]] = {
    ("DRAFT", "check"): _check,
    ("DETECTED", "invite"): _invite,
    ("INVITED", "commit"): _commit,
    ("COMMITTED", "reveal"): _reveal,
    ("PROPOSED", "accept"): _accept,
    ("PROPOSED", "human_ok"): _human_ok,
    ("PROPOSED", "bound"): _bound,
    ("PROPOSED", "reject"): _reject,
    ("PROPOSED", "counter"): _reject,
    ("ACCEPTED_ALL", "sign"): _sign,
    ("SIGNED", "enforced"): _to("ENFORCED"),
    ("ENFORCED", "superseded"): _to("SUPERSEDED"),
    ("BREACHED", "superseded"): _to("SUPERSEDED"),
    ("ENFORCED", "breach"): _breach,
    ("BREACHED", "keep"): _keep,
}
_ANYWHERE: Final[Mapping[str, Callable[[State, Message, str], None]]] = {"withdraw": _withdraw}
_ABOUT_A_PROPOSAL: Final = frozenset(("accept", "human_ok", "reject", "counter"))
_MEDIATORS: Final = frozenset(("check", "invite", "enforced", "superseded", "breach"))
