"""The kinds of notices, the words of each, and the defaults of the choices. Plain data, rendered when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from webapp.saying import say

NOW, DIGEST, OFF = "now", "digest", "off"


class Kind(NamedTuple):
    label: Promise
    says: Promise
    page: str
    mail: str


# In the order in which pages and digests show them.
KINDS: Final = {
    "deadline": Kind(_("Deadlines"), _("An answer is due soon, or its time is over."), NOW, NOW),
    "breach": Kind(_("Breaches and refusals"), _("Something was asked or done against an agreement."), NOW, NOW),
    "proposal": Kind(_("Questions to you"), _("A proposal or a question waits for your answer."), NOW, NOW),
    "conflict": Kind(_("Conflicts"), _("A check found wishes that clash."), NOW, DIGEST),
    "answer": Kind(_("Answers of others"), _("Another party answered."), NOW, DIGEST),
    "agreement": Kind(_("Agreements"), _("An agreement was made, replaced, or not found."), NOW, DIGEST),
    "vm": Kind(_("Starts and stops"), _("A VM of yours runs, was stopped or moves."), NOW, DIGEST),
    "run": Kind(_("Runs given up"), _("The run of a host ended by a fault."), NOW, DIGEST),
    "webhook": Kind(_("Webhooks"), _("A webhook was switched off because it failed too often."), NOW, DIGEST),
    "mark": Kind(_("Marks"), _("What your work in a course counts was changed."), NOW, DIGEST),
    "alert": Kind(_("Alerts"), _("A host, or the service itself, needs an operator."), NOW, NOW),
}
FOR_OPERATORS: Final = ("alert",)
PERSONAL: Final = ("mark",)  # told to one person: no organisation's program hears of it
PAGE_WORDS: Final = {NOW: _("Counted"), DIGEST: _("Listed"), OFF: _("Off")}
MAIL_WORDS: Final = {NOW: _("At once"), DIGEST: _("In the digest"), OFF: _("Off")}
TONES: Final = {"info": "neutral", "warning": "warning", "serious": "violation"}
DELIVERY_WORDS: Final = {"waiting": _("Waiting"), "delivered": _("Delivered"), "failed": _("Given up")}
WEEKDAYS: Final = (
    _("Monday"), _("Tuesday"), _("Wednesday"), _("Thursday"), _("Friday"), _("Saturday"), _("Sunday"),
)  # fmt: skip


class Word(NamedTuple):
    kind: str
    severity: str  # info, warning or serious
    text: Any  # a lazy text with %(name)s places, filled from the event's data


WORDS: Final = {
    "conflict.found": Word(
        "conflict",
        "warning",
        ngettext_lazy(
            "The check of %(vm)s found %(count)d conflict.", "The check of %(vm)s found %(count)d conflicts.", "count"
        ),
    ),
    "asked": Word(
        "proposal",
        "warning",
        ngettext_lazy(
            "The operator asks %(vm)s for %(pages)d page of memory. Nothing happens before you answer, "
            "and no answer counts as no.",
            "The operator asks %(vm)s for %(pages)d pages of memory. Nothing happens before you answer, "
            "and no answer counts as no.",
            "pages",
        ),
    ),
    "refused": Word(
        "breach",
        "warning",
        ngettext_lazy(
            "The operator asked %(vm)s for %(pages)d page of memory against the agreement. "
            "The request was refused and nothing changed.",
            "The operator asked %(vm)s for %(pages)d pages of memory against the agreement. "
            "The request was refused and nothing changed.",
            "pages",
        ),
    ),
    "refused.page_merge": Word(
        "breach",
        "warning",
        _(
            "The operator asked to merge pages of %(vm)s with those of a neighbour, against the agreement. "
            "The request was refused and nothing changed."
        ),
    ),
    "refused.swap_out": Word(
        "breach",
        "warning",
        _(
            "The operator asked to swap out pages of %(vm)s, against the agreement. "
            "The request was refused and nothing changed."
        ),
    ),
    "refused.core_dump": Word(
        "breach",
        "warning",
        _(
            "The operator asked for a dump of the memory of %(vm)s, against the agreement. "
            "The request was refused and nothing was read."
        ),
    ),
    "refused.snapshot": Word(
        "breach",
        "warning",
        _(
            "The operator asked for a snapshot of %(vm)s, against the agreement. "
            "The request was refused and nothing was read."
        ),
    ),
    "refused.introspect": Word(
        "breach",
        "warning",
        _(
            "The operator asked to read pages of %(vm)s, against the agreement. "
            "The request was refused and nothing was read."
        ),
    ),
    "refused.migrate": Word(
        "breach",
        "warning",
        _(
            "The operator asked that %(vm)s moves to another host, against the agreement. "
            "The request was refused and the VM stays where it is."
        ),
    ),
    "asked.migrate": Word(
        "proposal",
        "warning",
        _(
            "The operator asks whether %(vm)s would move to host %(host)s. Nothing happens before you answer, "
            "and no answer counts as no."
        ),
    ),
    "rule.broken": Word("alert", "serious", _("Pages on host %(host)s break a rule of ownership.")),
    "rule.broken.after": Word(
        "alert",
        "serious",
        _("Pages on host %(host)s break a rule of ownership, after an attack drill: %(attack)s."),
    ),
    "proposal": Word(
        "proposal",
        "warning",
        _("Proposal %(round)d of negotiation %(number)d waits for your answer for %(vm)s, until %(until)s UTC."),
    ),
    "move.asked": Word(
        "proposal",
        "warning",
        _(
            "Would %(vm)s move to host %(host)s, to make room for a start? Nothing happens before you answer, "
            "and no answer counts as no."
        ),
    ),
    "move.agreed": Word("answer", "info", _("A neighbour agreed to move, so that %(vm)s can start.")),
    "move.refused": Word("answer", "info", _("A neighbour was asked to move for %(vm)s and stays where it is.")),
    "answer.accepted": Word(
        "answer", "info", _("%(party)s accepted proposal %(round)d of negotiation %(number)d, which concerns %(vm)s.")
    ),
    "answer.rejected": Word(
        "answer", "info", _("%(party)s rejected proposal %(round)d of negotiation %(number)d, which concerns %(vm)s.")
    ),
    "answer.countered": Word(
        "answer", "info", _("%(party)s countered proposal %(round)d of negotiation %(number)d, which concerns %(vm)s.")
    ),
    "deadline.soon": Word(
        "deadline",
        "warning",
        _("Half the time is over: your answer for %(vm)s to proposal %(round)d is due by %(until)s UTC."),
    ),
    "deadline.passed": Word(
        "deadline", "warning", _("The time to answer proposal %(round)d for %(vm)s is over; no answer came from you.")
    ),
    "agreement.made": Word(
        "agreement", "info", _("Version %(version)d of the agreement of host %(host)s is in force for %(vm)s.")
    ),
    "agreement.replaced": Word(
        "agreement",
        "info",
        _("Version %(version)d of the agreement of host %(host)s is in force for %(vm)s; it replaces the one before."),
    ),
    "agreement.left": Word(
        "agreement", "info", _("The agreement of host %(host)s in which %(vm)s took part was replaced without it.")
    ),
    "ended": Word("agreement", "warning", _("Negotiation %(number)d, which concerns %(vm)s, ended without agreement.")),
    "withdrawn": Word(
        "agreement", "info", _("Negotiation %(number)d, which concerns %(vm)s, was ended: the start was withdrawn.")
    ),
    "vm.running": Word("vm", "info", _("%(vm)s runs on host %(host)s.")),
    "vm.stopped": Word("vm", "warning", _("%(vm)s was stopped on host %(host)s.")),
    "vm.moving": Word("vm", "info", _("%(vm)s leaves its host to start on host %(host)s, as its owner agreed.")),
    "vm.no_start": Word("vm", "warning", _("The start of %(vm)s on host %(host)s was not possible.")),
    "run.lost": Word("run", "serious", _("The run of host %(host)s was given up, and %(vm)s was stopped with it.")),
    "platform.lost": Word(
        "breach",
        "serious",
        _(
            "The platform of host %(host)s changed, and “%(setting)s” no longer holds for %(vm)s as agreed. "
            "It runs on; you decide what follows."
        ),
    ),
    "platform.back": Word(
        "breach", "info", _("“%(setting)s” holds again for %(vm)s on host %(host)s, as it is agreed.")
    ),
    "maintenance.asked": Word(
        "proposal",
        "warning",
        _(
            "Host %(host)s is to be maintained from %(start)s to %(end)s UTC. Do you agree, for %(vm)s? "
            "It does not begin without your yes."
        ),
    ),
    "maintenance.agreed": Word(
        "answer", "info", _("%(vm)s agrees to the maintenance of host %(host)s from %(start)s UTC.")
    ),
    "maintenance.refused": Word(
        "answer", "warning", _("%(vm)s refuses the maintenance of host %(host)s from %(start)s UTC.")
    ),
    "maintenance.begun": Word(
        "vm",
        "info",
        _("The maintenance of host %(host)s, where %(vm)s is, has begun. It lasts until %(end)s UTC at most."),
    ),
    "maintenance.ended": Word("vm", "info", _("The maintenance of host %(host)s, where %(vm)s is, has ended.")),
    "maintenance.cancelled": Word(
        "vm", "info", _("The maintenance of host %(host)s from %(start)s UTC was called off. %(vm)s is not touched.")
    ),
    "maintenance.move": Word(
        "proposal",
        "info",
        _("For the maintenance of host %(host)s the operator offers to move %(vm)s to another host. You choose."),
    ),
    "run.failed": Word("alert", "serious", _("The run of host %(host)s was given up. Its VMs were stopped.")),
    "act.denied": Word(
        "alert",
        "warning",
        _("%(count)d requests of operators on host %(host)s were refused by its agreement within ten minutes."),
    ),
    "drill.differs": Word(
        "alert",
        "serious",
        _(
            "The drill of %(target)s came out differently: %(attack)s reads %(now)s; the drill before reads "
            "%(before)s, the attack table %(cell)s."
        ),
    ),
    "drill.digest": Word(
        "alert",
        "serious",
        _(
            "The drill of %(target)s came out differently: %(attack)s reads %(now)s as before, but the machine did "
            "something else (digest %(digest)s, before %(other)s)."
        ),
    ),
    "drill.failed": Word(
        "alert", "warning", _("The drill of %(target)s could not be held: it was tried three times and never got on.")
    ),
    "drill.paused": Word(
        "alert",
        "warning",
        _("The schedule of drills on host %(host)s is paused: there is no such host any more, or it is retired."),
    ),
    "record.broken": Word(
        "alert",
        "serious",
        _("The record is not whole: entry %(entry)d was changed, is missing or stands in the wrong place."),
    ),
    "agreement.breached": Word(
        "alert", "serious", _("Something happened on host %(host)s against the agreement in force.")
    ),
    "worker.silent": Word("alert", "serious", _("No worker gives a sign of life. Runs, answers and mails wait.")),
    "keeper.back": Word(
        "alert", "warning", _("The keeper was silent for %(seconds)d seconds. Whatever fell due meanwhile waited.")
    ),
    "queue.stuck": Word(
        "alert", "warning", _("Work has been due for more than %(seconds)d seconds and nobody took it up.")
    ),
    "webhook.dead": Word(
        "alert", "warning", _("The webhook to %(receiver)s was switched off after %(count)d failed tries.")
    ),
    "mark.set": Word(
        "mark",
        "info",
        _("A teacher of %(course)s set your points for %(item)s to %(points)s. The reason is on the page."),
    ),
    "mark.unset": Word(
        "mark", "info", _("Your points for %(item)s in %(course)s count by your work again: %(points)s.")
    ),
    "mark.regraded": Word(
        "mark",
        "info",
        _("The tests of %(item)s in %(course)s were corrected and your work was graded again: %(points)s points."),
    ),
    "alert.test": Word("alert", "info", _("This is a test of the alerts. Nothing has happened.")),
    "webhook.off": Word(
        "webhook",
        "warning",
        ngettext_lazy(
            "The webhook to %(host)s was switched off after %(count)d failed try.",
            "The webhook to %(host)s was switched off after %(count)d failed tries.",
            "count",
        ),
    ),
}


def text_of(code: str, data: Mapping[str, Any]) -> str:
    """The sentence of an event in the language that is active now."""
    filled = {**data, "attack": say(data["attack"])} if "attack" in data else dict(data)
    return str(WORDS[code].text % filled)


def kind_label(kind: str) -> str:
    return str(KINDS[kind].label)


def delivery_label(state: str) -> str:
    return str(DELIVERY_WORDS[state])


def kinds_for(tenant: str) -> dict[str, Kind]:
    """What may be told about an organisation; empty: the kinds of the operators."""
    rows = {name: kind for name, kind in KINDS.items() if name not in PERSONAL}
    return {name: kind for name, kind in rows.items() if (name in FOR_OPERATORS) == (not tenant)}


def kinds_of(user: Any) -> list[str]:
    """What the person may be told of."""
    return [name for name in KINDS if name not in FOR_OPERATORS or user.is_operator]


def severity_label(severity: str) -> str:
    return str({"info": _("For information"), "warning": _("Look at it"), "serious": _("Serious")}[severity])
