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
    "account.closed": "An account was closed by support.",
    "account.opened": "An account was opened again by support.",
    "account.factors_removed": "Support removed the second factors of an account.",
    "account.signed_out": "Support ended the sign-ins of an account.",
    "account.support": "An account was allowed to the pages of support.",
    "account.deleted": "An account was deleted; its name was replaced.",
    "token.made": "An API token was made: {name}, scope {scope}.",
    "token.revoked": "An API token was revoked: {name}.",
    "site.pruned": "Rows past the time for which the site keeps them were removed.",
    "tenant.created": "The tenant was registered.",
    "tenant.deleted": "The organisation was deleted; its name was replaced.",
    "tenant.factor_required": "The organisation demands a second factor of all its people.",
    "tenant.factor_free": "The organisation no longer demands a second factor of its people.",
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
    "host.edit": "Version {version} of the host's document was saved.",
    "host.fact": "The platform of the host changed: {reason}",
    "host.retired": "The host was retired.",
    "maintenance.planned": "Maintenance was planned from {start} to {end}: {reason}",
    "maintenance.answer": "The owner {answer} to the maintenance of host {host} from {start}.",
    "maintenance.begun": "The maintenance of {start} began.",
    "maintenance.ended": "The maintenance of {start} ended.",
    "maintenance.cancelled": "The maintenance of {start} was called off.",
    "maintenance.move_offered": "The operator offered a move to another host for the maintenance of host {host}.",
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
    "act.answer": "The owner {answer} to give {pages} pages of memory back.",
    "act.drill": "The operator of host {host} held attack drill {attack} against the VM.",
    "run.pause": "The run of host {host} was asked to pause.",
    "run.resume": "The run of host {host} goes on.",
    "run.cancel": "The run of host {host} was asked to end.",
    "run.paused": "The run of host {host} paused after operation {op}.",
    "run.mark": "A moment of the run was marked.",
    "run.failed": "The run of host {host} was given up: {reason}",
    "alert.raised": "An alert was raised: {words}",
    "alert.acknowledged": "The alert was acknowledged.",
    "alert.handed_over": "The alert was handed over to {person}.",
    "alert.silenced": "The alert was silenced until {until}: {reason}",
    "alert.silence_lifted": "The silence of the alert was lifted.",
    "alert.resolved": "The alert is over.",
    "alert.tested": "An operator tested the alerts.",
    "drill.planned": "Drills of {target} were planned: {every}.",
    "drill.changed": "The plan of drills of {target} was changed: {every}; it is switched {active}.",
    "drill.unplanned": "The plan of drills of {target} was removed.",
    "drill.paused": "The plan of drills of {target} was paused: {reason}",
    "drill.wanted": "A drill of {target} was asked for.",
    "drill.held": "A drill of {target} was held: {blocked} of {attacks} attacks blocked.",
    "matrix.run": "{cells} cells of the attack table were queued for a new execution.",
    "matrix.what_if": "A column was added to the attack table: {architecture} with {skip} switched off.",
}
# The kinds of entries, as lists and filters call them.
KIND_WORDS = {
    "account.created": "Account made",
    "account.password": "Password changed",
    "account.email": "E-mail address changed",
    "account.factor_added": "Second factor added",
    "account.factor_removed": "Second factor removed",
    "account.recovery_codes": "Recovery codes made",
    "account.sessions_ended": "Sign-ins ended",
    "account.connected": "Provider connected",
    "account.disconnected": "Provider parted",
    "account.deleted": "Account deleted",
    "token.made": "API token made",
    "token.revoked": "API token revoked",
    "tenant.created": "Organisation registered",
    "tenant.deleted": "Organisation deleted",
    "tenant.factor_required": "Second factor demanded",
    "tenant.factor_free": "Second factor no longer demanded",
    "role.given": "Role given",
    "role.taken": "Role taken",
    "invitation.sent": "Invitation sent",
    "invitation.accepted": "Invitation accepted",
    "invitation.revoked": "Invitation withdrawn",
    "vm.created": "VM declared",
    "vm.deleted": "VM deleted",
    "vm.placed": "VM placed",
    "vm.starting": "VM is started",
    "vm.running": "VM runs",
    "vm.stop": "Stop asked for",
    "vm.stopped": "VM stopped",
    "vm.moving": "VM moves",
    "workload.uploaded": "Workload uploaded",
    "workload.deleted": "Workload deleted",
    "policy.version": "Wishes saved",
    "goal.waived": "Goal given up",
    "goal.resumed": "Goal taken up again",
    "host.created": "Host registered",
    "check": "Check of wishes",
    "conflict": "Conflict",
    "negotiation.opened": "Negotiation begun",
    "negotiation.state": "Negotiation moved on",
    "negotiation.answer": "Own answer",
    "negotiation.party": "Answer of a party",
    "negotiation.bound": "Automatic acceptance",
    "negotiation.message": "Message of the protocol",
    "negotiation.reminder": "Reminder",
    "negotiation.ended": "Negotiation ended",
    "ladder.chosen": "Step after no agreement",
    "ladder.answer": "Answer to a move",
    "agreement.signed": "Agreement signed",
    "agreement.in_force": "Agreement in force",
    "key.replaced": "Signing key replaced",
    "disclosure": "Disclosure",
    "webhook.created": "Webhook added",
    "webhook.changed": "Webhook changed",
    "webhook.rotated": "Webhook secret replaced",
    "webhook.removed": "Webhook removed",
    "webhook.off": "Webhook switched off",
    "act.reclaim": "Memory asked for",
    "act.answer": "Answer to a request for memory",
    "act.drill": "Attack drill",
    "run.pause": "Pause of a run asked for",
    "run.resume": "Run goes on",
    "run.cancel": "End of a run asked for",
    "run.paused": "Run paused",
    "run.mark": "Moment marked",
    "run.failed": "Run given up",
    "matrix.run": "Attack table run",
    "matrix.what_if": "Column of the attack table added",
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
    return KIND_WORDS.get(type) or type.replace(".", " ").replace("_", " ")
