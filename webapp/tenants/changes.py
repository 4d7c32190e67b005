"""What a document would change against the stored one, setting by setting; nothing that differs is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from webapp.vpms.vocabulary import SWITCHES

MEMBERS: Final = {
    "size": "Size",
    "trustClass": "Trust class",
    "labels": "Labels",
    "rules": "Rules of its own",
    "disagreement": "Without agreement",
    "delegate": "Who answers",
    "maintenance": "Maintenance times",
    "validity": "Valid",
}
UNSAID: Final = "not said"


class Change(NamedTuple):
    setting: str
    now: str
    then: str


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Rows for what differs: the switches in their order, then the other members. The version itself is none."""
    old, new = before["switches"], after["switches"]
    rows = [
        Change(SWITCHES[name].label, wish_words(name, old.get(name)), wish_words(name, new.get(name)))
        for name in SWITCHES
        if old.get(name) != new.get(name)
    ]
    known = {"switches", "version"}
    for name in [*MEMBERS, *sorted({*before, *after} - {*MEMBERS} - known)]:
        if before.get(name) != after.get(name):
            rows.append(Change(MEMBERS.get(name, name), member_words(before, name), member_words(after, name)))
    return rows


def wish_words(switch: str, wish: Mapping[str, Any] | None) -> str:
    """Every choice with its points, and how much the setting weighs."""
    if wish is None:
        return "does not matter"
    points = [(value.label, wish["values"][value.name]) for value in SWITCHES[switch].values]
    told = [f"{label}: {'never accepted' if score == 'veto' else score}" for label, score in points]
    approval = [f"approval: {wish['approval']}"] if "approval" in wish else []
    return "; ".join([*told, f"weight {wish['weight']} of 1000", *approval])


def member_words(document: Mapping[str, Any], name: str) -> str:
    return plain(document[name]) if name in document else UNSAID


def plain(value: Any) -> str:
    """A member's value without the marks of JSON; lists inside are bracketed, so differences show."""
    if isinstance(value, Mapping):
        return "; ".join(f"{key.replace('_', ' ')}: {plain(value[key])}" for key in value)
    if isinstance(value, list):
        return f"({', '.join(plain(item) for item in value)})"
    return "none" if value is None else str(value)
