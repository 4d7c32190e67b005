"""Every code that a refusal can carry: its short title, and what to do about it. The page /api/errors shows this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext_lazy as _


class Code(NamedTuple):
    title: Any
    remedy: Any


CODES: Final[Mapping[str, Code]] = {
    "account_gone": Code(_("The account was deleted"), _("Nothing is left of it, and nothing was changed.")),
    "already_answered": Code(
        _("Already answered"), _("Nothing: an answer is stored. Read the negotiation or the question to see which.")
    ),
    "already_committed": Code(
        _("Already committed"),
        _("A sealed wish cannot be changed in this negotiation. Save a version for a later one."),
    ),
    "bad_input": Code(
        _("Something in it cannot be used"),
        _("Mend what the faults name, each with its path, and send it again. Nothing of it was used."),
    ),
    "bad_message": Code(
        _("The message is not complete"), _("Add or mend the field that the answer names, and send it again.")
    ),
    "bad_request": Code(_("Not understood"), _("Compare the request with the operation's description in the docs.")),
    "bad_signature": Code(_("The signature does not fit"), _("Sign the payload whose digest the answer names.")),
    "bad_token": Code(
        _("The token does not count"),
        _("It is unknown, revoked or past its end. Make a new one on the page of your tokens."),
    ),
    "busy": Code(_("Too much at once"), _("Nothing was changed. Send the same request again in a moment.")),
    "cannot_run_there": Code(
        _("The VM cannot run there"),
        _("Choose one of its places that can, or change the wishes that stand against this host."),
    ),
    "check_missing": Code(_("A check is missing"), _("This is a fault of the site. Tell the operator what you did.")),
    "confirm_first": Code(
        _("Confirm first that it is you"),
        _("Give your password or factor again at /account/confirm/ and repeat the call, or use a manage token."),
    ),
    "consent_missing": Code(
        _("Not everybody has agreed"),
        _("Wait for the answers of those whom the refusal names, offer them a move, or choose another time."),
    ),
    "contradicts_agreements": Code(
        _("It contradicts an agreement in force"),
        _("Leave what the agreements name as it is, or wait until those VMs have left. Nothing was saved."),
    ),
    "csrf_failed": Code(
        _("The CSRF token is missing"),
        _("With the session cookie, send the value of the CSRF cookie as X-CSRFToken; or use an API token instead."),
    ),
    "database_away": Code(
        _("Nothing can be stored just now"),
        _("Nothing was changed. Try again after the seconds in Retry-After; if it lasts, tell who runs the site."),
    ),
    "digest_mismatch": Code(
        _("Another agreement"), _("Read the agreement again; its digest is not the one you named.")
    ),
    "excludes_nothing": Code(
        _("The reason does not speak against it"),
        _("Name a setting whose proposed value you refuse, or a minimum above what the proposal gives you."),
    ),
    "forbidden": Code(_("Not yours to do"), _("Ask somebody who has the role that the message names.")),
    "host_in_use": Code(
        _("VMs live on this host"),
        _("Ask the owners of the VMs that the answer names to move them. Nothing was changed."),
    ),
    "host_retired": Code(_("The host was retired"), _("Choose another host. A retired one stays as it is.")),
    "host_taken": Code(_("The host is taken"), _("Choose another host. Nothing was changed on this one.")),
    "in_maintenance": Code(
        _("The host is under maintenance"), _("Start it after the time that the answer names, or on another host.")
    ),
    "in_use": Code(_("It is needed"), _("Nothing was deleted: a VM has run it. Delete what no VM ever had.")),
    "internal": Code(_("A fault of the site"), _("Nothing was changed. Try again; if it stays, tell the operator.")),
    "invalid_transition": Code(
        _("Not possible at this stage"), _("Read the negotiation again and see what can be done in its state.")
    ),
    "invitation_over": Code(
        _("The invitation is over"), _("Ask for another one; this one was used, withdrawn or is too old.")
    ),
    "key_in_use": Code(_("The key is needed"), _("Wait until the open negotiation has ended, then replace the key.")),
    "key_malformed": Code(
        _("The idempotency key cannot be used"), _("Send 1 to 200 visible ASCII characters, for example a UUID.")
    ),
    "key_reused": Code(
        _("The idempotency key was used for another request"),
        _("Take a new key for a new request. Nothing was done now; the first request's effect stands."),
    ),
    "last_factor": Code(_("The last second factor"), _("Your role needs one: add another before you remove this.")),
    "last_one": Code(_("The last of its role"), _("Give somebody else that role first; nothing was changed.")),
    "last_round": Code(_("The last proposal"), _("Accept it or reject it; it cannot be countered any more.")),
    "last_way_in": Code(_("Your only way in"), _("Set a password first, then part the other sign-in.")),
    "link_over": Code(_("The link is over"), _("Ask for a new link.")),
    "locked": Code(
        _("This screen is locked"), _("Leave it with the token of its playlist, then ask again. Nothing was changed.")
    ),
    "moving": Code(_("The VM is being moved"), _("Wait: it starts on the other host by itself.")),
    "needs_person": Code(_("A person must answer"), _("Answer this proposal as a person; no delegate may.")),
    "negotiating": Code(
        _("A start is being negotiated"), _("Send it again when the negotiations that the answer names have ended.")
    ),
    "no_factor": Code(_("No second factor yet"), _("Set up a second factor first.")),
    "no_wishes": Code(_("No wishes yet"), _("Save wishes for the VM first.")),
    "nobody_willing": Code(_("Nobody can be moved"), _("Choose another step.")),
    "not_a_party": Code(_("Not a party"), _("Answer for a VM of yours that takes part.")),
    "alert_over": Code(
        _("The alert is over"), _("Nothing: what raised it is gone. It is raised anew if it comes again.")
    ),
    "still_holds": Code(
        _("What raised the alert still holds"), _("Do what its run-book says; the alert ends by itself.")
    ),
    "not_silenced": Code(_("The alert is not silenced"), _("Nothing: it is told already.")),
    "not_allowed": Code(
        _("Not allowed"), _("Use an account with the role, or a token whose scope reaches as far as this operation.")
    ),
    "not_contested": Code(_("This setting is not contested"), _("Suggest values of contested settings only.")),
    "not_found": Code(
        _("Nothing here that you may see"),
        _("Check the name or number. What is another organisation's is answered like what does not exist."),
    ),
    "not_json": Code(_("The body is not JSON"), _("Send the body as JSON with Content-Type: application/json.")),
    "not_open": Code(_("No longer open"), _("Read the steps again; something else was begun meanwhile.")),
    "not_placed": Code(_("The VM has no host"), _("Place the VM on a host first.")),
    "not_possible": Code(_("Not possible in this state"), _("Read the run again and see its state.")),
    "not_running": Code(_("The VM does not run"), _("Read the VM again; this is possible while it runs.")),
    "not_storable": Code(
        _("It cannot be stored"),
        _("Send shorter texts and smaller numbers, without the character NUL. Nothing was changed."),
    ),
    "not_signed": Code(_("Not signed by all"), _("Wait until every party has signed.")),
    "not_signed_in": Code(
        _("Not signed in"), _("Send an API token as Authorization: Bearer, or the cookies of a session.")
    ),
    "not_stopped": Code(_("The VM is not stopped"), _("Stop the VM first, then try again.")),
    "other_engine": Code(
        _("Played by another engine"), _("The run's log can still be read; its moments cannot be made again.")
    ),
    "outdated": Code(
        _("It has changed since you read it"),
        _("Read it again, look at the difference that the answer tells, and decide anew."),
    ),
    "quota": Code(
        _("No room left"), _("Delete an uploaded program that no VM ever had, or a marked moment, then try again.")
    ),
    "own_account": Code(_("Your own account"), _("Ask another operator to do this; nothing was changed.")),
    "read_only": Code(
        _("You may only read here"), _("Ask somebody whose role lets them change this; nothing was changed.")
    ),
    "reason_missing": Code(_("A reason is missing"), _("Give one reason: veto:SETTING, floor:POINTS or final.")),
    "same_host": Code(_("It is there already"), _("Nothing: the VM is on that host.")),
    "stale": Code(
        _("Somebody else saved a version meanwhile"),
        _("Nothing was saved. Look at what was changed and what yours would change, then send it with the new ETag."),
    ),
    "still_running": Code(_("VMs are not stopped yet"), _("Stop every VM of the organisation first.")),
    "launch_refused": Code(
        _("A launch was refused"), _("Start again from the platform. If it is refused again, tell the operator.")
    ),
    "marks_changed": Code(
        _("Marks were changed meanwhile"), _("Nothing was applied. Begin the regrade again and look at it anew.")
    ),
    "switched_off": Code(_("The webhook is switched off"), _("Switch it on first, then test it.")),
    "too_early": Code(_("It is too early"), _("Send it again at the time that the answer names.")),
    "too_big": Code(_("Too long"), _("Send at most 1 MiB.")),
    "too_dear": Code(_("Not within the budget"), _("Raise the budget in the wishes, or choose another step.")),
    "too_many_acts": Code(
        _("Too many acts wait"), _("Try again when those on VMs of this organisation are done or answered.")
    ),
    "too_many_running": Code(_("Too many VMs run"), _("Stop one of your VMs, then start this one.")),
    "too_much_memory": Code(
        _("Not so much memory for one organisation"),
        _("Stop one of your VMs, or wish for less memory, then try again."),
    ),
    "too_many": Code(_("Too many of these"), _("Remove or withdraw one that is no longer needed, then try again.")),
    "too_many_tries": Code(_("Too many wrong codes"), _("Wait a minute, then ask the teacher for the code again.")),
    "too_late": Code(_("It is too late"), _("Nothing is accepted for a grade any more. Practice goes on.")),
    "no_tries": Code(_("No graded try is left"), _("What counts is the best of what was handed in. Practice goes on.")),
    "has_work": Code(
        _("Students have worked on it"), _("Hide it to keep their work, or say that their work may go with it.")
    ),
    "archived": Code(_("The course is archived"), _("Its teacher can bring it back. Nothing was changed.")),
    "previewing": Code(
        _("The course is seen as by a student"), _("End the preview, then do it as a teacher. Nothing was changed.")
    ),
    "class_held": Code(_("The class is held still"), _("Wait until the teacher lets it go on. Nothing was kept.")),
    "class_over": Code(_("The class is over"), _("Open another class of the course. Nothing was changed.")),
    "game_over": Code(_("The game is over"), _("Open another game of this item. Nothing was changed.")),
    "round_over": Code(
        _("The round is over"), _("Read the table again: another round is open, or none. Nothing was kept.")
    ),
    "too_many_calls": Code(
        _("Too many calls"), _("Wait for the seconds that Retry-After names. Nothing was done by this call.")
    ),
    "too_many_fields": Code(_("Too many fields"), _("Send fewer fields.")),
    "too_many_starts": Code(
        _("Too many VMs wait to start"),
        _("Try again when some of your VMs have started or were given up."),
    ),
    "too_many_tokens": Code(_("Too many tokens"), _("Revoke a token that you no longer need, then make the new one.")),
    "too_many_versions": Code(
        _("Too many versions within an hour"), _("Save the next version of these wishes later. The stored one stays.")
    ),
    "too_many_vms": Code(_("Too many VMs"), _("Delete a VM that is no longer needed, then try again.")),
    "unknown_event": Code(_("An unknown event"), _("Send one of the events that the schema of events names.")),
    "unknown_vm": Code(_("An unknown VM"), _("Name a VM that is under the agreement in force.")),
    "wrong_method": Code(_("Not possible with this method"), _("Use a method that the Allow header names.")),
    "wrong_token": Code(
        _("Not the token of this screen"),
        _("Ask an operator for the token, or for a new one. The screen stays locked."),
    ),
}
