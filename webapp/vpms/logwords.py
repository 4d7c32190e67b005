"""What happened, in plain words: one sentence for each type of entry, made from its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from webapp.vpms.findings import TITLES
from webapp.vpms.vocabulary import SWITCHES

SENTENCES = {
    "account.created": "An account was made.",
    "account.password": "A password was changed.",
    "account.email": "An e-mail address was changed.",
    "account.factor_added": "A second factor was added to an account.",
    "account.factor_removed": "A second factor was removed from an account.",
    "account.recovery_codes": "New recovery codes were made for an account.",
    "account.sessions_ended": "Sign-ins were ended by their owner.",
    "account.connected": "An account was connected with the sign-in of another provider.",
    "account.disconnected": "An account was parted from the sign-in of another provider.",
    "account.deleted": "An account was deleted; its name was replaced.",
    "token.made": "An API token was made: {name}, scope {scope}.",
    "token.revoked": "An API token was revoked: {name}.",
    "tenant.created": "The tenant was registered.",
    "tenant.deleted": "The organisation was deleted; its name was replaced.",
    "role.given": "{person} was given the role {role}.",
    "role.taken": "The role {role} was taken from {person}.",
    "invitation.sent": "Somebody was invited with the role {role}.",
    "invitation.accepted": "{person} accepted the invitation with the role {role}.",
    "invitation.revoked": "An invitation with the role {role} was withdrawn.",
    "vm.created": "The VM was declared.",
    "vm.deleted": "The VM was deleted; its wishes were emptied.",
    "workload.uploaded": "The workload trace {name} was uploaded: {references} references.",
    "workload.deleted": "The workload trace {name} was deleted.",
    "vm.placed": "The VM was placed on host {host}.",
    "policy.version": "Version {version} of the wishes was saved.",
    "goal.waived": "Goal {number} was given up by its owner; no wish was changed by that.",
    "goal.resumed": "Goal {number} was taken up again by its owner; no wish was changed by that.",
    "host.created": "The host was registered.",
    "check": "The wishes were checked: {words}.",
    "negotiation.opened": "A negotiation began on host {host}.",
    "negotiation.answer": "{vm} {answer} proposal {round}.",
    "negotiation.party": "{party} {answer} proposal {round}.",
    "negotiation.bound": "{vm}: automatic acceptance within bounds was {act} (proposal {round}).",
    "negotiation.message": "A message of the protocol: {kind}.",
    "negotiation.reminder": "Reminder: proposal {round} waits for an answer from {to}.",
    "negotiation.ended": "The negotiation ended without agreement: {reason}",
    "ladder.chosen": "After no agreement a step was chosen for {vm}: {what}.",
    "ladder.answer": "The owner {answer} that {vm} moves to host {host}.",
    "agreement.signed": "Version {version} of the agreement was signed by all parties.",
    "agreement.in_force": "Version {version} of the agreement is in force.",
    "key.replaced": "The signing key was replaced; the new one begins {new:.12}.",
    "conflict": "{title}: {text}",
    "webhook.created": "A webhook to {host} was added.",
    "webhook.changed": "The webhook to {host} was changed; it is switched {active}.",
    "webhook.rotated": "The secret of the webhook to {host} was replaced.",
    "webhook.removed": "The webhook to {host} was removed.",
    "webhook.off": "The webhook to {host} was switched off after {count} failed tries.",
    "vm.starting": "The VM is being started on host {host} under the agreement.",
    "vm.stop": "The VM was asked to stop.",
    "vm.stopped": "The VM was stopped on host {host}: {reason}",
    "vm.moving": "The VM leaves its host to start on host {host}, as its owner agreed.",
    "vm.running": "The VM runs on host {host}.",
    "act.reclaim": "The operator of host {host} asked for {pages} pages of memory.",
    "act.page_merge": "The operator of host {host} asked to merge pages of the VM with those of a neighbour.",
    "act.swap_out": "The operator of host {host} asked to swap out {pages} pages.",
    "act.swap_in": "The operator of host {host} asked to bring {pages} swapped pages back.",
    "act.core_dump": "The operator of host {host} asked for a memory dump ({form}).",
    "act.snapshot": "The operator of host {host} asked for a snapshot ({form}).",
    "act.introspect": "The operator of host {host} asked to read {pages} pages ({reader}).",
    "act.migrate": "The operator asked that the VM moves to host {host}.",
    "act.move_answer": "The owner {answer} to move to host {host}.",
    "act.answer": "The owner {answer} to give {pages} pages of memory back.",
    "act.drill": "The operator of host {host} held attack drill {attack} against the VM.",
    "run.pause": "The run of host {host} was asked to pause.",
    "run.resume": "The run of host {host} goes on.",
    "run.cancel": "The run of host {host} was asked to end.",
    "run.paused": "The run of host {host} paused after operation {op}.",
    "worker.left": "{name} gave no sign of life for a minute and left the list; the last was at {last} UTC.",
    "job.cancelled": "The operator cancelled the {kind}.",
    "job.again": "The operator had the {kind} tried again.",
    "run.mark": "A moment of the run was marked.",
    "run.failed": "The run of host {host} was given up: {reason}",
    "matrix.run": "{cells} cells of the attack table were queued for a new execution.",
    "matrix.what_if": "A column was added to the attack table: {architecture} with {skip} switched off.",
}
# States of the protocol as a reader of the log meets them.
STATES = {
    "DRAFT": "The start waits its turn.",
    "DETECTED": "Wishes clash. Everyone concerned is invited; only the new start is held.",
    "INVITED": "Everyone concerned was invited.",
    "COMMITTED": "Everyone has sealed the wishes that count.",
    "PROPOSED": "Proposal {round} is on the table.",
    "ACCEPTED_ALL": "Everyone accepted proposal {round}.",
    "SIGNED": "Proposal {round} was accepted and signed by all.",
    "ENFORCED": "The agreement is in force.",
    "SUPERSEDED": "The agreement was replaced by a newer one.",
    "BREACHED": "Something happened against the agreement.",
    "NO_AGREEMENT": "There is no agreement.",
    "WITHDRAWN": "The start was withdrawn.",
}


def settings_named(what: str) -> str:
    """Names of settings by their labels; other words as they are."""
    return ", ".join(SWITCHES[name].label if name in SWITCHES else name for name in what.split(", "))


def sentence(type: str, data: Mapping[str, Any]) -> str | None:
    """The sentence of this type of entry; None where there is none, or the entry tells less than its sentence needs."""
    try:
        if type == "negotiation.state":
            return STATES[data["state"]].format(**data)
        if type == "disclosure":
            return f"Shown to {data['to']}: {settings_named(data['what'])}."
        if type == "conflict":
            return SENTENCES[type].format(title=TITLES[data["code"]], **data)
        return SENTENCES[type].format(**data)
    except (KeyError, IndexError, AttributeError, TypeError, ValueError):
        return None


def title(type: str) -> str:
    """The name of a type of entry, for lists and where there is no sentence."""
    return type.replace(".", " ").replace("_", " ")
