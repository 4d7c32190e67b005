"""Words of the attack table: each outcome, architecture and evidence letter is named here once."""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Outcome(NamedTuple):
    word: str
    look: str  # class of the stylesheet
    meaning: str


OUTCOMES: Final = {
    "BLOCKED": Outcome("BLOCKED", "blocked", "every attacking step was refused or harmless"),
    "DETECTED": Outcome("DETECTED", "detected", "the VM was stopped before its victim used the damage"),
    "SUCCEEDED": Outcome("SUCCEEDED", "succeeded", "the engine observed the harm"),
    "OUT_OF_SCOPE": Outcome("OUT OF SCOPE", "out-of-scope", "excluded by the threat model; not a pass"),
    "NOT_APPLICABLE": Outcome("NOT APPLICABLE", "not-applicable", "the thing attacked does not exist there"),
    "ERROR": Outcome("ERROR", "error", "the run failed; never counted as BLOCKED"),
    "STALE": Outcome("STALE RESULT", "stale", "engine or attack file changed since; the old word no longer counts"),
}
PROGRESS: Final = {"queued": "queued", "running": "running"}
ARCHITECTURES: Final = {
    "nested": "unprotected nested paging",
    "shadow": "shadow paging",
    "hsvm": "H-SVM, microcode",
    "hsvm-smm": "SMM prototype",
}
LITERAL: Final = "literal"  # beside the names of checks: the strict rule is off, the paper's words alone are kept
LETTERS: Final = 128  # of a value that is shown
EVIDENCE: Final = {
    "stated": ("", "stated in the paper"),
    "derived": ("d", "derived from the text of the paper"),
    "own": ("o", "our own rule where the paper is silent"),
    "modelled": ("m", "modelled by us"),
}
TURN: Final = "turn"  # the engine's word for a step of the victim in the middle of the attack
PHASES: Final = {
    "setup": "Setup",
    "victim": "The victim",
    "attacker": "The attacker",
    "after": "The victim again",
}


def column_name(architecture: str, skip: str) -> str:
    """The name of a column: an architecture, or one with something switched off."""
    if not skip:
        return architecture
    return f"{architecture} {LITERAL} rule" if skip == LITERAL else f"{architecture} without {skip}"


def column_label(architecture: str, skip: str) -> str:
    if not skip:
        return ARCHITECTURES[architecture]
    return "what if: only the paper's own words" if skip == LITERAL else "what if: this check is off"


def worded(value: Any) -> str:
    """A value of an operation for people: frames and addresses in hex, everything else as it is."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return hex(value) if value > 9 else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {worded(part)}" for name, part in value.items())
    text = str(value)
    return text if len(text) <= LETTERS else f"{text[: LETTERS // 2]}... ({len(text)} digits)"
