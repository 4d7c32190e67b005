"""Checks of wishes against hosts, computed by the policy language; nothing is stored here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypedDict

from django.utils import timezone

from webapp.agreements import wording
from webapp.fleet.models import Host
from webapp.fleet.selectors import document_of as host_document
from webapp.tenants.models import Policy
from webapp.vpms import conflicts, documents
from webapp.vpms.findings import TITLES
from webapp.vpms.vocabulary import SWITCHES

SHOWN_DIGITS = 12
BLOCKING = ("hard", "negotiable")


class Shown(TypedDict):
    """A check as a page shows it."""

    status: str
    words: str
    tone: str
    findings: list[dict[str, str]]
    against: str
    not_checked: str


def policy_time(at: dt.datetime) -> str:
    """A moment in the form of the documents."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def offers_of(*, host: Host | None, size: dict[str, Any]) -> dict[str, list[str]]:
    """What each switch can be on the host for a VM of this size: what plain answers mean there."""
    if host is None:
        return {}
    return documents.offered_values(documents.read_host(host.document), size)


def create_check(*, host: Host, policy: Policy) -> dict[str, Any]:
    """What these wishes have against themselves, the platform and the operator, without any neighbour."""
    alone = documents.read_host({**host_document(host), "running": [], "agreement": None})
    wishes = documents.read_policy(policy.document)
    return conflicts.check([wishes], alone, now=policy_time(timezone.now()), trigger="create")


def finding_words(conflict: dict[str, Any]) -> str:
    """The text of a finding with the plain label in place of the switch's name."""
    switch, text = conflict["switch"], str(conflict["text"])
    return text.replace(switch, f"“{SWITCHES[switch].label}”") if switch else text


def status_words(result: dict[str, Any]) -> str:
    """The honest status, with the number where only running can tell."""
    words = wording.STATUS_WORDS[result["status"]]
    possible = sum(conflict["severity"] == "possible" for conflict in result["conflicts"])
    return f"{words}: {possible}" if result["status"] == "possible_when_running" else words


def shown(result: dict[str, Any], *, names: Sequence[str]) -> Shown:
    """The check for a page; `names` are the VMs that may be named there."""
    against = result["checked_against"]
    policies = [f"the wishes for {name} (digest {against['policies'][name][:SHOWN_DIGITS]})" for name in names]
    others = len(against["policies"]) - len(names)
    neighbours = [f"{others} neighbours" if others > 1 else "1 neighbour"] if others else []
    at = against["at"].replace("T", " ").removesuffix("Z")
    host = f"host {against['host']} (digest {against['host_sha256'][:SHOWN_DIGITS]})"
    return {
        "status": result["status"],
        "words": status_words(result),
        "tone": wording.STATUS_TONES[result["status"]],
        "findings": [
            {
                "code": conflict["code"],
                "title": TITLES[conflict["code"]],
                "severity_words": wording.SEVERITY_WORDS[conflict["severity"]],
                "tone": wording.SEVERITY_TONES[conflict["severity"]],
                "text": finding_words(conflict),
            }
            for conflict in result["conflicts"]
        ],
        "against": f"{wording.joined([*policies, *neighbours, host])} at {at} UTC",
        "not_checked": wording.joined(wording.NOT_CHECKED_WORDS.get(item, item) for item in result["not_checked"]),
    }
