"""Why an attack ended as it did: the check that refused, with its inputs and the comparison in words, or the harm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from hsvm_engine.interpreter import Verdict, secret_of
from webapp.classroom.wording import worded

PLAIN: Final = {"hsvm": "H-SVM"}
COMPARED: Final[Mapping[str, tuple[str, str]]] = {
    "slot_check": ("entry[{vm}, page {gpn}] = present", "an empty entry"),
    "busy_check": ("page {gpn} of {vm} = busy", "a page at rest"),
    "handle_check": ("handle {vm} = no living VM", "a living VM"),
    "context_protection": ("registers[{vm}, vcpu {vcpu}] = kept by H-SVM", "H-SVM"),
    "swap_version": ("version of the image < version recorded for {vm}, page {gpn}", "the newest image"),
    "swap_binding": ("image sealed for another than {vm}, page {gpn}", "its own image"),
    "merge_consent": ("merge of {vm}, page {gpn} = not agreed", "both guests' consent and equal bytes"),
}
"""Checks whose comparison is not that of a frame's owner: what was found, and what the request needs."""


class Elsewhere(NamedTuple):
    """How the same attack ended on the machine that makes every check.

    `step` decided there; at `acted` (0: at none but that) a check that refused nothing took effect.
    """

    column: str
    outcome: str
    check: str
    step: int
    status: str
    reason: str
    acted: int


def explain(verdict: Verdict, names: Mapping[int, str], elsewhere: Elsewhere | None, acted: int) -> dict[str, Any]:
    """What decided. `names`: what the VMs are called; `elsewhere` of a success: where a check could have stopped it.

    `acted`: the step at which a check that refused nothing took effect.
    """
    refused = verdict.step.result.get("check", "") if verdict.step else ""
    inputs = {name: _value(name, value, names) for name, value in verdict.inputs.items() if name != "op"}
    found: dict[str, Any] = {
        "says": verdict.says,
        "reason": verdict.reason,
        "paper": verdict.paper,
        "check": verdict.check or "",
        "inputs": [],
        "comparison": "",
        "experiment": "",
        "acted": acted,
        "harm": [],
        "stopped": "",
    }
    if verdict.outcome == "BLOCKED" and verdict.check:
        found["inputs"] = list(inputs.items())
        if refused:
            found["comparison"] = comparison(verdict.check, inputs)
        else:
            found["experiment"] = (
                f"No step was refused. The check was found by experiment: the attack was run again with each check "
                f"switched off in turn, and without {verdict.check} it SUCCEEDED."
            ) + (f" What the check did shows first at step {acted}." if acted else "")
    elif verdict.outcome == "SUCCEEDED":
        found["harm"] = harm(verdict)
        found["stopped"] = _stopped(elsewhere)
    elif verdict.outcome == "DETECTED":
        found["inputs"] = list(inputs.items())
    return found


def refusal(result: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """The comparison of the check that refused a step, in words; "" where none did."""
    if not result.get("check") or "inputs" not in result:
        return ""
    return comparison(result["check"], {name: _value(name, value, names) for name, value in result["inputs"].items()})


def _value(name: str, value: Any, names: Mapping[int, str]) -> str:
    if name in ("vm", "other_vm") and isinstance(value, int):
        return names.get(value, hex(value))
    if name == "owner" and str(value).startswith("vm:"):
        return names.get(int(str(value)[3:]), str(value))
    return PLAIN.get(str(value), worded(value))


def comparison(check: str, inputs: Mapping[str, str]) -> str:
    """The comparison that the check made, with its values."""
    values = {
        "requester": "unknown",
        "vm": "",
        "gpn": "?",
        "vcpu": "?",
        "mfn": "?",
        "owner": "?",
        "need": "?",
        **inputs,
    }
    if check in COMPARED:
        found, need = COMPARED[check]
        return f"{found}, requester = {{requester}}, need {need} → DENY".format_map(values)
    whose = " for {vm}" if values["vm"] else ""
    return f"owner[{{mfn}}] = {{owner}}, requester = {{requester}}{whose}, need {{need}} → DENY".format_map(values)


def harm(verdict: Verdict) -> list[tuple[str, str]]:
    """The bytes that were read, changed or rebuilt."""
    assert verdict.step is not None
    result, found = verdict.step.result, [("What happened", f"{verdict.reason[:1].upper()}{verdict.reason[1:]}")]
    for name in ("data", "registers", "value"):
        if name in result:
            found.append(("What came out" if name != "registers" else "Registers that came out", _shown(result[name])))
    if "secret" in verdict.reason:
        found.append(("The victim's secret", secret_of(verdict.seed).hex()))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:#x}" for name, part in value.items() if part) or "all zero"
    return worded(value)


def _stopped(there: Elsewhere | None) -> str:
    """The first step at which a check could have stopped it."""
    if there is None:
        return "No check of H-SVM stops this attack: it keeps memory apart, and this is done without reaching into it."
    if there.outcome in ("BLOCKED", "DETECTED") and there.check:
        if there.acted:
            return (
                f"At step {there.acted}: run on {there.column}, {there.check} acts there, "
                f"and step {there.step} comes to nothing."
            )
        if there.status != "OK":
            return f"At step {there.step}. Run on {there.column}, it is answered {there.status} by {there.check}."
        return f"At step {there.step}. Run on {there.column}, it comes to nothing because of {there.check}."
    if there.outcome in ("OUT_OF_SCOPE", "NOT_APPLICABLE"):
        return f"Nowhere: on {there.column} it is {there.outcome.replace('_', ' ')}. {there.reason}."
    reason = there.reason[:1].upper() + there.reason[1:]
    return f"Nowhere: run on {there.column} it succeeds too. {reason}."
