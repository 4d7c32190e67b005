"""Words of the attack table: each outcome, architecture and evidence letter is named here once."""

from __future__ import annotations

from typing import Final, NamedTuple


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
    "STALE": Outcome("STALE RESULT", "stale", "the engine changed since the run; the old word no longer counts"),
}
PROGRESS: Final = {"queued": "queued", "running": "running"}
ARCHITECTURES: Final = {
    "nested": "unprotected nested paging",
    "shadow": "shadow paging",
    "hsvm": "H-SVM, microcode",
    "hsvm-smm": "SMM prototype",
}
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
