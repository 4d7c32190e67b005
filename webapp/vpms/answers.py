"""Plain answers to a policy document and back: the form of the eight questions and its document are the same thing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import product
from typing import Any

from webapp.errors import BadInput, Fault
from webapp.strictjson import member
from webapp.vpms.vocabulary import ORDER, PROFILES, QUESTIONS, STRENGTHS, Switch, switches_of

Answers = Mapping[str, Mapping[str, str]]
Offers = Mapping[str, Sequence[str]]


def check_answers(answers: Any) -> None:
    """Every question, answer and strength exists and at least one is a must or a prefer; otherwise BadInput."""
    faults: list[Fault] = []
    if not isinstance(answers, Mapping):
        raise BadInput([Fault("$", "must be an object of answers")])
    for name, given in answers.items():
        path = member("$", str(name))
        question = QUESTIONS.get(name)
        if question is None:
            faults.append(Fault(path, f"is not one of the questions {', '.join(QUESTIONS)}"))
        elif not isinstance(given, Mapping):
            faults.append(Fault(path, "must be an object with answer and strength"))
        else:
            strength = given.get("strength")
            if strength not in STRENGTHS:
                faults.append(Fault(f"{path}.strength", f"must be one of {', '.join(STRENGTHS)}"))
            known = [answer.name for answer in question.answers]
            if given.get("answer") not in known and (strength != "dont_mind" or given.get("answer") is not None):
                faults.append(Fault(f"{path}.answer", f"must be one of {', '.join(known)}"))
    if not faults and not any(STRENGTHS[given["strength"]] for given in answers.values()):
        faults.append(Fault("$", "at least one question must be answered with must or prefer"))
    if faults:
        raise BadInput(faults)


def document_from_answers(
    answers: Answers,
    *,
    vm: str,
    tenant: str,
    version: int,
    size: Mapping[str, int],
    delegate: Mapping[str, Any],
    disagreement: Mapping[str, Any] | None = None,
    offers: Offers | None = None,
    trust_class: str = "default",
    labels: Mapping[str, Sequence[str]] | None = None,
    maintenance: Sequence[Sequence[int]] | None = None,
    validity: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """The policy document that these answers stand for on a host with these offers (documents.offered_values).

    Without `disagreement` the VM does not start unless a third of what it wishes for is kept.
    """
    check_answers(answers)
    document: dict[str, Any] = {
        "format": "vpms-policy/1",
        "vm": vm,
        "tenant": tenant,
        "version": version,
        "size": dict(size),
        "trustClass": trust_class,
        "labels": {key: list((labels or {}).get(key, ())) for key in ("conflictClass", "exhibits", "refuses")},
        "switches": _wishes(answers, offers or {}),
        "rules": [],
        "disagreement": dict(disagreement or {"kind": "do-not-start", "utility": 333, "budget": 0}),
        "delegate": dict(delegate),
        "validity": dict(validity or {"notBefore": None, "notAfter": None}),
    }
    if maintenance is not None:
        document["maintenance"] = [list(window) for window in maintenance]
    return document


def answers_from_document(
    document: Mapping[str, Any], offers: Offers | None = None
) -> dict[str, dict[str, str]] | None:
    """The answers that give exactly this document's wishes, or None if no answers can (the advanced form then opens).

    With the same offers, document_from_answers of the result has the same switches again.
    """
    wishes = document.get("switches", {})
    if document.get("rules") or any(wish.get("approval", "auto") != "auto" for wish in wishes.values()):
        return None
    plain = {name: {"weight": wish["weight"], "values": dict(wish["values"])} for name, wish in wishes.items()}
    return _answers(plain, offers or {}, ORDER)


def _answers(plain: Mapping[str, Any], offers: Offers, among: Collection[str]) -> dict[str, dict[str, str]] | None:
    candidates = [_candidates(question, plain, offers, among) for question in QUESTIONS]
    if not all(candidates):
        return None
    for choice in product(*candidates):
        answers = {question: given for question, given in zip(QUESTIONS, choice, strict=True) if given is not None}
        if answers and _wishes(answers, offers, among) == plain:
            return answers
    return None


def operator_wishes(answers: Answers, shared: Collection[str], offers: Offers) -> dict[str, Any]:
    """The wishes that these answers stand for as an operator has them: of the settings that are one for the whole host.
    None for answers that touch none of these."""
    check_answers(answers)
    return _wishes(answers, offers, shared)


def operator_answers(wishes: Mapping[str, Any], shared: Collection[str], offers: Offers) -> dict[str, Any] | None:
    """The answers that give exactly these wishes of an operator, or None if no answers can."""
    plain = {name: {"weight": wish["weight"], "values": dict(wish["values"])} for name, wish in wishes.items()}
    return _answers(plain, offers, shared) if plain else {}


def nearest_profile(answers: Answers) -> tuple[str, int]:
    """The profile that these answers differ least from, and in how many questions ("Confidential + 2 changes")."""

    def differing(profile: Answers) -> int:
        return sum(_effective(answers.get(name)) != _effective(profile.get(name)) for name in QUESTIONS)

    best = min(PROFILES, key=lambda profile: differing(profile.answers))
    return best.name, differing(best.answers)


def _effective(given: Mapping[str, str] | None) -> tuple[str, str] | None:
    if given is None or not STRENGTHS[given["strength"]]:
        return None
    return given["answer"], given["strength"]


def _candidates(
    question: str, wishes: Mapping[str, Any], offers: Offers, among: Collection[str]
) -> list[dict[str, str] | None]:
    """The answers to one question that agree with the document except for the weights, strictest and firmest first."""
    switches = [switch for switch in switches_of(question) if switch.name in among]
    mentioned = [switch for switch in switches if switch.name in wishes]
    if not mentioned:
        return [None]
    if len(mentioned) < len(switches):
        return []
    found: list[dict[str, str] | None] = []
    for index, answer in enumerate(QUESTIONS[question].answers):
        for strength in ("must", "prefer"):
            scores = (scores_of(switch, _chosen(switch, index, offers), strength) for switch in switches)
            if all(wishes[switch.name]["values"] == score for switch, score in zip(switches, scores, strict=True)):
                found.append({"answer": answer.name, "strength": strength})
    return found


def _wishes(answers: Answers, offers: Offers, among: Collection[str] = ORDER) -> dict[str, Any]:
    rows: list[tuple[Switch, int, str]] = []
    for name, given in answers.items():
        if STRENGTHS[given["strength"]]:
            index = [answer.name for answer in QUESTIONS[name].answers].index(given["answer"])
            rows += [(switch, index, given["strength"]) for switch in switches_of(name) if switch.name in among]
    if not rows:
        return {}
    rows.sort(key=lambda row: ORDER[row[0].name])
    weights = largest_remainder(1000, [STRENGTHS[strength] for _, _, strength in rows])
    return {
        switch.name: {"weight": weight, "values": scores_of(switch, _chosen(switch, index, offers), strength)}
        for (switch, index, strength), weight in zip(rows, weights, strict=True)
    }


def _chosen(switch: Switch, answer: int, offers: Offers) -> str:
    """The value that an answer stands for; if the host cannot do it, the next stricter one, else the next laxer."""
    wanted = switch.names.index(switch.answers[answer])
    offered = offers.get(switch.name, switch.unless_said or switch.names)
    possible = [index for index, name in enumerate(switch.names) if name in offered]
    stricter = [index for index in possible if index <= wanted]
    return switch.names[max(stricter) if stricter else min(possible)]


def scores_of(switch: Switch, chosen: str, strength: str) -> dict[str, int | str]:
    """1000 for the chosen value, less by distance for the others; a must vetoes the laxer ones."""
    at, greatest = switch.names.index(chosen), len(switch.names) - 1
    return {
        name: "veto" if strength == "must" and index > at else 1000 * (greatest - abs(index - at)) // greatest
        for index, name in enumerate(switch.names)
    }


def largest_remainder(total: int, shares: Sequence[int]) -> list[int]:
    """`total` points in proportion to `shares`, exactly; left-over points go to the largest remainders, in order."""
    whole = sum(shares)
    parts = [total * share // whole for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: (-(total * shares[index] % whole), index))
    for index in by_remainder[: total - sum(parts)]:
        parts[index] += 1
    return parts
