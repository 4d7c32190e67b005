"""What each kind of alert means and what to do about it: the run-books. Plain data, said when it is read.

docs/operators/alerts.md is made of them: `manage.py runbooks > docs/operators/alerts.md`.
"""
# ruff: noqa: E501 - sentences: one, one line

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class Runbook(NamedTuple):
    label: Promise
    means: Promise
    unharmed: Promise
    steps: tuple[Promise, ...]
    ends: Promise
    by_hand: bool = False  # a person may say that it is over; else only the condition itself says so
    quiet: dt.timedelta | None = None  # over when it was not raised again for so long


BY_PERSON: Final = _("It ends when an operator resolves it.")

RUNBOOKS: Final = {
    "violation": Runbook(
        _("Violation"),
        _("A page is mapped by a VM that does not own it, is free and not wiped, or is reached by a stale entry."),
        _("The other pages keep their owners. The owners of the VMs are not told by this alert."),
        (
            _("Follow “See the moment”: the map stands at the operation at which it was found, the page is ringed."),
            _("Press N for the page, Enter for its owner, the VMs that map it and its last operations."),
            _("Step back once: the event before is the cause. Mark the moment, so that it is kept."),
            _("If an act of an operator did it, do not repeat it. If not, pause the host and report the engine's version, seed and operation."),
        ),
        _("It ends by itself when no page of the host breaks a rule any more, or the run ends."),
    ),
    "denied": Runbook(
        _("Refused acts"),
        _("Operators asked again and again for what the agreement of a host forbids."),
        _("Everything: each request was refused before it had any effect, and the owners were told."),
        (
            _("Open the host: its events name each request, the setting that refused it and the owner."),
            _("Find in the record who asked. A program that repeats itself is stopped at its token."),
            _("If the memory is really needed, ask the owners for other terms; do not ask the VM again."),
        ),
        _("It ends by itself after ten quiet minutes, or when an operator resolves it."),
        by_hand=True,
        quiet=dt.timedelta(minutes=10),
    ),
    "run": Runbook(
        _("Run given up"),
        _("The run of a host failed three times without getting on. Its VMs were stopped."),
        _("Other hosts, all agreements and the record. The run can still be looked at up to its last operation."),
        (
            _("Read the reason on the page of the host."),
            _("“Played by another engine” means that the engine was replaced while the run went on: start the VMs again."),
            _("Otherwise look into the log of the workers for the run's number and keep it for a report."),
            _("Tell the owners when they can start their VMs again; they have been told that these were stopped."),
        ),
        _("It ends by itself when a new run of the host begins, or when an operator resolves it."),
        by_hand=True,
    ),
    "drill": Runbook(
        _("Drill"),
        _("An attack of a drill ended otherwise than in the drill before or in the attack table, or the drill could not be held."),
        _("A drill is executed on a machine of its own: no running VM was attacked by it."),
        (
            _("Open the drill and compare it with the one before: which attack, which outcome, which engine."),
            _("If the engine or an attack file was replaced between them, run the attack table again and compare there."),
            _("If the host can do less than before, its document or its firmware changed: look at its capabilities."),
            _("The same engine, the same file and another digest is a fault of the engine: keep both digests for a report."),
            _("A paused schedule names its reason. Correct the host, then switch the schedule on again."),
        ),
        _("It ends by itself when a later drill ends as before again, or when an operator resolves it."),
        by_hand=True,
    ),
    "record": Runbook(
        _("Record broken"),
        _("The chain of the record does not hold: an entry was changed, removed or put in a wrong place after it was written."),
        _("Entries before the named one are proved unchanged."),
        (
            _("Do not write to the database by hand. Take a copy of it as it is, now."),
            _("Verify the chain on the page Record: it names the first entry that is wrong and why."),
            _("Compare with the newest backup: verify_audit on the restored copy says whether it was whole then."),
            _("Tell the tenants whose agreements stand after that entry; they can verify their own papers themselves."),
        ),
        _("It ends by itself when the chain is verified as whole."),
    ),
    "breach": Runbook(
        _("Breach"),
        _("Something happened on a host that its agreement in force forbids, and that could not be refused beforehand."),
        _("The gate goes on refusing what the agreement forbids."),
        (
            _("Open the conflicts of the host: the newest one names the setting, the VMs and the evidence."),
            _("Restore the capability, or let the owners choose: stop, move or sign other terms."),
        ),
        BY_PERSON,
        by_hand=True,
    ),
    "worker": Runbook(
        _("Workers silent"),
        _("No worker gave a sign of life for ten seconds. Runs stand still, answers and mails wait."),
        _("Everything that was decided or stored. Work that was under way is done again, once."),
        (
            _("Look whether the worker processes run, and start them."),
            _("If they run, look whether the broker answers: the check redis of /readyz."),
            _("Look for memory: a worker that is ended by the system leaves no line in its own log."),
        ),
        _("It ends by itself with the next sign of life."),
    ),
    "keeper": Runbook(
        _("Keeper was silent"),
        _("The keeper, which hands out all work and watches for alerts, was away. Alerts of that time may come late."),
        _("Nothing was lost: what fell due waited and is handed out now."),
        (
            _("Look into the log of the keeper for why it ended."),
            _("If it ends again and again, start a second one on another machine: two do no harm."),
        ),
        BY_PERSON,
        by_hand=True,
        quiet=dt.timedelta(hours=24),
    ),
    "queue": Runbook(
        _("Queue stuck"),
        _("Work is due and nobody takes it up, or more falls due than the workers can do."),
        _("Everything that was decided or stored. Work is late, not lost."),
        (
            _("Look whether a worker lives and whether the broker answers."),
            _("If all are busy: pause a host that can wait, or start more workers."),
        ),
        _("It ends by itself when nothing is overdue."),
    ),
    "webhook": Runbook(
        _("Webhook dead"),
        _("A receiver failed so often in a row that its webhook was switched off."),
        _("Notices on the page and mails are not touched by it."),
        (
            _("Open the webhook: its deliveries say what the receiver answered."),
            _("When the receiver works again, switch the webhook on and send a test. What happened meanwhile is not sent later."),
            _("A webhook of an organisation is for its owners to switch on; they have been told."),
        ),
        BY_PERSON,
        by_hand=True,
    ),
    "test": Runbook(
        _("Test"),
        _("An operator tried whether alerts arrive."),
        _("Everything. Nothing has happened."),
        (
            _("Look whether it stands on this page, in your mail and at your webhooks; each is there if you chose it."),
            _("What did not arrive: look at your notifications, and at the deliveries of the webhook."),
        ),
        _("It ends by itself after ten minutes, or when an operator resolves it."),
        by_hand=True,
        quiet=dt.timedelta(minutes=10),
    ),
}  # fmt: skip
KIND_OF: Final = {
    "rule.broken": "violation",
    "rule.broken.after": "violation",
    "act.denied": "denied",
    "run.failed": "run",
    "drill.differs": "drill",
    "drill.digest": "drill",
    "drill.failed": "drill",
    "drill.paused": "drill",
    "record.broken": "record",
    "agreement.breached": "breach",
    "worker.silent": "worker",
    "keeper.back": "keeper",
    "queue.stuck": "queue",
    "webhook.dead": "webhook",
    "alert.test": "test",
}
