"""What happened, in plain words: one sentence for each type of entry, made from its data."""

from __future__ import annotations

from typing import Any

SENTENCES = {
    "account.created": "An account was made.",
    "account.password": "A password was changed.",
    "tenant.created": "The tenant was registered.",
    "role.given": "{person} was given the role {role}.",
    "vm.created": "The VM was declared.",
    "vm.placed": "The VM was placed on host {host}.",
    "policy.version": "Version {version} of the wishes was saved.",
    "host.created": "The host was registered.",
    "check": "The wishes were checked: {words}.",
    "negotiation.opened": "A negotiation began on host {host}.",
    "negotiation.state": "The negotiation is now {state}.",
    "negotiation.answer": "{vm} {answer} proposal {round}.",
    "negotiation.party": "{party} {answer} proposal {round}.",
    "negotiation.message": "A message of the protocol: {kind}.",
    "negotiation.ended": "The negotiation ended without agreement: {reason}",
    "agreement.signed": "Version {version} of the agreement was signed by all parties.",
    "agreement.in_force": "Version {version} of the agreement is in force.",
    "conflict": "{code} {name}: {text}",
    "disclosure": "Shown to {to}: {what}.",
}


def sentence(type: str, data: dict[str, Any]) -> str:
    """The sentence of this type, or the type itself where an entry tells less than its sentence needs."""
    try:
        return SENTENCES[type].format(**data)
    except (KeyError, IndexError):
        return type.replace(".", " ").replace("_", " ")
