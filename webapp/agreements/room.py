"""What one party may see of a negotiation, in plain words: contested settings only, others by pseudonym.

What may be seen is decided by webapp.vpms.disclosure alone; here it gets words and an order.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.utils import timezone

from webapp.agreements import options, wording
from webapp.agreements.models import Message, Negotiation, Seat
from webapp.agreements.replies import MILLION, choices_of, kept_points, view_of
from webapp.agreements.wording import any_of, switch_help, switch_label, switch_of, value_label
from webapp.vpms import disclosure, protocol
from webapp.vpms.agreement import TIME_FORMAT
from webapp.vpms.formats import OPERATOR

State = Negotiation.State


def left_words(until: dt.datetime, now: dt.datetime) -> str:
    """`1 h 5 min`, `4 min 10 s`, `12 s`; never negative."""
    seconds = max(0, int((until - now).total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


SCATTER_LEFT, SCATTER_TOP = 48, 12  # of the picture's field, which is 200 wide and high


@dataclass
class Room:
    """The room as one party sees it; without `vm` as the mediator sees it."""

    negotiation: Negotiation
    seats: list[Seat]
    messages: list[Message]
    vm: str | None
    own_vms: list[str] = field(default_factory=list)

    @cached_property
    def now(self) -> dt.datetime:
        return timezone.now()

    @cached_property
    def seen(self) -> dict[str, Any] | None:
        """What the viewer may know of the contents; None while nothing was put to the policy language."""
        state, now = self.negotiation.protocol, self.now.astimezone(dt.UTC).strftime(TIME_FORMAT)
        if not state:
            return None
        sent = {row.vm.name: row.accept for row in self.messages if row.round == self.negotiation.round}
        if self.vm is None:
            return disclosure.operator_view(state, now, sent)
        return disclosure.party_view(state, self.vm, now, sent)

    @property
    def proposed(self) -> dict[str, Any] | None:
        """What is seen, once there is a proposal."""
        made = self.seen is not None and (self.seen["view"] if self.vm else self.seen["assignment"]) is not None
        return self.seen if made else None

    def called(self, pseudonym: str) -> str:
        """How a party is called here: the viewer's own VMs by name, others by pseudonym."""
        own = {seat.pseudonym: seat.vm.name for seat in self.seats if seat.vm.name in self.own_vms}
        if pseudonym == OPERATOR:
            return "the operator"
        if pseudonym not in own:
            return pseudonym
        return "you" if own[pseudonym] == self.vm else f"{own[pseudonym]} (yours)"

    @property
    def pseudonym(self) -> str:
        return next((seat.pseudonym for seat in self.seats if seat.vm.name == self.vm), "a number")

    # -- where it stands

    @property
    def chip(self) -> str:
        if self.negotiation.state == State.PROPOSED and self.after_counter:
            return wording.COUNTERED.capitalize()
        if self.negotiation.state == State.NO_AGREEMENT and "silence counts" in self.negotiation.reason:
            return "Expired"
        return wording.CHIPS[State(self.negotiation.state)][0]

    @property
    def tone(self) -> str:
        return wording.CHIPS[State(self.negotiation.state)][1]

    @property
    def sentence(self) -> str:
        told = wording.SENTENCES[State(self.negotiation.state)]
        gone = "" if self.negotiation.protocol or self.negotiation.state == State.DRAFT else wording.EMPTIED
        return " ".join(part for part in (told, self.negotiation.reason, gone) if part)

    @property
    def deadline(self) -> dt.datetime | None:
        return self.negotiation.deadline_at if self.negotiation.state == State.PROPOSED else None

    @property
    def left(self) -> str:
        return left_words(self.deadline, self.now) if self.deadline else ""

    @property
    def at_deadline(self) -> str:
        """What happens if nobody does anything, said before it happens."""
        mine = self.vm == self.negotiation.requester.name
        stays = "stays where it runs" if self.negotiation.moves else "stays stopped"
        wants = "the VM that wants to move here" if self.negotiation.moves else "the VM that wants to start"
        who = f"{self.vm if mine else wants} {stays}"
        return (
            f"What happens then: an answer that is missing counts as a no, {who}, and nothing changes for VMs that run."
        )

    @property
    def after_counter(self) -> bool:
        """Whether the proposal on the table follows a counter."""
        sent = self.negotiation.protocol.get("messages", [])
        return any(row["type"] == "counter" and row.get("k") == self.negotiation.round - 1 for row in sent)

    @property
    def is_suggestion(self) -> bool:
        """Whether the proposal is what a party suggested, not what the solver found best."""
        result = self.negotiation.protocol.get("result")
        return result is not None and result["bound"] is None

    @property
    def count(self) -> str:
        """`Proposal 2 of at most 5`, once there is one."""
        return f"Proposal {self.negotiation.round} of at most {protocol.ROUNDS}" if self.proposed else ""

    # -- what is proposed

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Contested settings; the mediator sees the shared ones and what is proposed, but nobody's wish."""
        if self.proposed is None:
            return []
        if self.vm:
            return [self.row(seen) for seen in self.proposed["contested"]]
        values = self.proposed["assignment"]["host"]
        names = [switch_of(issue) for issue in self.proposed["contested"] if issue.startswith("host/")]
        return [{**self.words(name, values[name]), "others": [], "they_give": []} for name in names]

    def words(self, switch: str, value: str) -> dict[str, Any]:
        told = {"issue": switch, "label": switch_label(switch), "help": switch_help(switch)}
        return {**told, "value": value, "proposal": value_label(switch, value)}

    def row(self, seen: dict[str, Any]) -> dict[str, Any]:
        """One contested setting, with what the viewer wants and what this proposal costs it in shares of its wishes."""
        switch, lost, strength = seen["switch"], seen["you_give_up"], seen["strength"]
        others = [{"who": want["who"], "words": any_of(switch, want["values"])} for want in seen["others_want"]]
        mind = strength != "dont_mind"
        best = any_of(switch, seen["you_want"])
        return {
            **self.words(switch, seen["proposal"]),
            "others": [{**want, "who": self.called(want["who"])} for want in others],
            "they_give": [
                {"who": self.called(want["who"]), "words": f"does not get “{want['words']}”"}
                for want in others
                if want["who"] in seen["they_give_up"]
            ],
            "you_want": best if mind else "no preference",
            "strength": strength if mind else "",
            "you_give": f"“{best}”: {lost / 10_000:.1f} %" if lost else "nothing",
        }

    @property
    def changes(self) -> list[dict[str, str]]:
        """What else would become different for a VM that runs: settings of its own view that nobody contests."""
        return [
            {
                "label": switch_label(row["switch"]),
                "was": value_label(row["switch"], row["was"]),
                "becomes": value_label(row["switch"], row["becomes"]),
            }
            for row in (self.proposed["changes"] if self.proposed and self.vm else [])
        ]

    @property
    def proposal(self) -> dict[str, str]:
        """The proposed values of the rows, by switch."""
        return {row["issue"]: row["value"] for row in self.rows}

    # -- who gains what and has answered what

    @property
    def gains(self) -> dict[str, int]:
        """Whole percent by pseudonym."""
        if self.proposed is None:
            return {}
        if self.vm is None:
            return dict(self.proposed["gains"])
        figures = self.proposed["figures"]
        return {self.proposed["pseudonym"]: figures["gain_percent"], **figures["others_gain"]}

    @property
    def parties(self) -> list[dict[str, Any]]:
        if self.proposed is None:
            return []
        if self.vm is None:
            answers = {row["pseudonym"]: row for row in self.proposed["parties"]}
        else:
            answers = {self.proposed["pseudonym"]: self.proposed}
            answers |= {row["who"]: row for row in self.proposed["others"]}
        order = sorted(self.gains, key=lambda who: (self.called(who) != "you", self.called(who)))
        return [
            {"who": self.called(who), "percent": self.gains[who], **self.answer_words(answers[who])} for who in order
        ]

    def answer_words(self, seen: dict[str, Any]) -> dict[str, str]:
        if seen["answer"] == "rejected":
            return {"answer": wording.ANSWER_WORDS[False], "tone": "violation"}
        if seen["answer"] == "accepted":
            by = " (by its delegate)" if seen["by_delegate"] else ""
            return {"answer": f"{wording.ANSWER_WORDS[True]}{by}", "tone": "ok"}
        if self.negotiation.state == State.PROPOSED:
            return {"answer": f"waiting for an answer {self.since}", "tone": "progress"}
        return {"answer": "no answer", "tone": "neutral"}

    @property
    def since(self) -> str:
        """How long everybody has had time to answer, and whether the silent were reminded."""
        state = self.negotiation.protocol
        reminded = "; a reminder was sent" if self.negotiation.reminded == state["round"] else ""
        made = protocol.moment(state["proposals"][-1]["at"])
        return f"for {left_words(self.now, made)}{reminded}"

    @property
    def my_answer(self) -> str:
        if self.vm is None or self.proposed is None:
            return ""
        answer = self.answer_words(self.proposed)["answer"]
        own = next((row for row in self.messages if self.of_now(row) and row.vm.name == self.vm), None)
        if own is None:
            return f"You {answer}" if answer.startswith("accepted") else ""
        said = wording.COUNTERED if own.suggestion else wording.ANSWER_WORDS[own.accept]
        return f"You {said}: {own.by.get_username()} said so for {self.vm} to proposal {own.round}"

    def of_now(self, message: Message) -> bool:
        return message.round == self.negotiation.round

    @property
    def earlier_answers(self) -> list[str]:
        """What the viewer's own people said no to in this negotiation: it holds to the end."""
        told = []
        for row in self.messages:
            if row.vm.name == self.vm and not row.accept:
                told.append(f"Proposal {row.round}: {self.no_words(row)}")
        return told

    def no_words(self, message: Message) -> str:
        """A rejection as its author's people read it again."""
        kind, _, rest = message.reason.partition(":")
        proposals = {proposal["k"]: proposal for proposal in self.negotiation.protocol.get("proposals", [])}
        words = "no settlement was wanted"
        if kind == "veto" and self.vm and message.round in proposals:
            value = view_of(proposals[message.round]["assignment"], self.vm)[rest]
            words = f"“{switch_label(rest)}: {value_label(rest, value)}” cannot be accepted"
        elif kind in ("floor", "more"):
            words = f"at least {int(rest) / 10:g} % of the wishes are to be kept" if rest else "it kept too little"
        wanted = [f"{switch_label(issue)}: {value_label(issue, value)}" for issue, value in message.suggestion.items()]
        more = f"; suggested instead: {wording.joined(wanted)}" if wanted else ""
        return f"{message.by.get_username()} rejected it, because {words}{more}."

    @property
    def my_tone(self) -> str:
        return self.answer_words(self.proposed)["tone"] if self.proposed and self.my_answer else ""

    @property
    def can_answer(self) -> bool:
        return self.vm is not None and self.negotiation.state == State.PROPOSED and not self.my_answer

    @property
    def can_withdraw(self) -> bool:
        """The requester may give up its start until the agreement is signed."""
        return self.vm == self.negotiation.requester.name and self.negotiation.state in protocol.OPEN

    @property
    def vetoes(self) -> list[tuple[str, str]]:
        """The proposed values that can be rejected, as the form offers them."""
        return [(f"veto:{row['issue']}", f"I cannot accept “{row['label']}: {row['proposal']}”") for row in self.rows]

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """What can stand in the way of this proposal, as a program names it."""
        more = [("more", "It keeps too little of what I wish")] if self.points < MILLION else []
        return [*self.vetoes, *more, ("final", "I want no settlement: end this negotiation")]

    @property
    def last_round(self) -> bool:
        return self.negotiation.round >= protocol.ROUNDS

    @property
    def kept(self) -> str:
        return wording.percent(self.points)

    @property
    def least_minimum(self) -> str:
        """The smallest minimum in percent that still rejects this proposal; empty where nothing is left to ask for."""
        return f"{(self.points // 1000 + 1) / 10:g}" if self.points < MILLION else ""

    @property
    def newcomer_stays(self) -> str:
        """What becomes of the VM that asked, without an agreement."""
        return "the VM that would move stays where it runs" if self.negotiation.moves else "the new VM stays stopped"

    @property
    def after_no(self) -> str:
        """What a rejection leads to, said before the button is pressed."""
        stays = f"Then {self.newcomer_stays}, and every VM that runs keeps what it has."
        if self.last_round:
            return f"This is the last proposal: a no ends the negotiation without agreement. {stays}"
        return (
            f"Another settlement without it is sought and put to everybody as proposal {self.next_round}. If there is "
            f"none, the negotiation ends without agreement. {stays}"
        )

    @cached_property
    def choices(self) -> list[dict[str, Any]]:
        """Contested settings with more than one value that nobody rules out: what a counter can change."""
        if self.vm is None or self.proposed is None or self.last_round:
            return []
        allowed = {switch_of(name): row for name, row in choices_of(self.negotiation.protocol, self.vm).items()}
        return [
            {**row, "values": [(value, value_label(row["issue"], value)) for value in allowed.get(row["issue"], [])]}
            for row in self.rows
            if len(allowed.get(row["issue"], [])) > 1
        ]

    @cached_property
    def options(self) -> list[dict[str, Any]]:
        """The proposal, then up to five other settlements, each with what it keeps of the viewer's own wishes and how
        many of the disclosed wishes of others it meets. Empty where there is nothing else to weigh."""
        if self.vm is None or self.proposed is None:
            return []
        state = self.negotiation.protocol
        situation = protocol.situation_of(state, self.now.astimezone(dt.UTC).strftime(TIME_FORMAT))
        view = view_of(state["result"]["assignment"], self.vm)
        choices = {switch_of(name): values for name, values in choices_of(state, self.vm).items()}
        wants = options.wants_of(self.proposed["contested"], choices)
        now = options.option({name: view[name] for name in choices}, view, wants, situation, self.vm)
        others = options.alternatives(view, choices, wants, situation, self.vm)
        return [self.option_words(row, now, wants) for row in (now, *others)] if others else []

    def option_words(self, row: options.Option, now: options.Option, wants: options.Wants) -> dict[str, Any]:
        changes = {name: value for name, value in row.values.items() if value != now.values[name]}
        return {
            "changes": [f"{switch_label(name)}: {value_label(name, value)}" for name, value in changes.items()],
            "suggestion": changes,
            "query": urlencode({f"suggest-{name}": value for name, value in changes.items()}),
            "kept": wording.percent(row.kept),
            "percent": row.kept // 10_000,
            "others": [
                {"who": self.called(who), "met": met, "of": len(rows)}
                for (who, rows), met in zip(sorted(wants.items()), row.met, strict=True)
            ],
        }

    @property
    def bound(self) -> dict[str, Any] | None:
        """What the viewer's people let be accepted for them in this negotiation; nobody else reads it."""
        return self.negotiation.protocol.get("bounds", {}).get(self.vm) if self.vm else None

    @property
    def bound_percent(self) -> str:
        return f"{self.bound['floor'] / 10:g}" if self.bound else ""

    @property
    def can_bound(self) -> bool:
        return self.vm is not None and self.negotiation.state == State.PROPOSED

    @property
    def points(self) -> int:
        return int(self.proposed["figures"]["utility"]) if self.proposed and self.vm else 0

    def preview(self, changes: dict[str, str]) -> dict[str, Any]:
        """A counter in words before it is sent: what it changes, and what it keeps of the viewer's own wishes."""
        assert self.vm is not None
        state, now = self.negotiation.protocol, self.now.astimezone(dt.UTC).strftime(TIME_FORMAT)
        before = view_of(state["result"]["assignment"], self.vm)
        rows = [
            {
                "label": switch_label(issue),
                "was": value_label(issue, before[switch_of(issue)]),
                "becomes": value_label(issue, value),
            }
            for issue, value in changes.items()
        ]
        return {"rows": rows, "kept": wording.percent(kept_points(changes, state, self.vm, now))}

    @property
    def left_over(self) -> str:
        return f"It keeps {self.kept} of all that you wish for {self.vm}."

    @property
    def next_round(self) -> int:
        return self.negotiation.round + 1

    @property
    def rounds(self) -> int:
        return protocol.ROUNDS

    @property
    def scatter(self) -> dict[str, Any] | None:
        """Both gains of each proposal so far as points of a picture, for two parties. Only what the solver found best
        is the fair point; where a party suggested the newest proposal, none is marked."""
        rows = self.proposed["gains_so_far"] if self.proposed and self.vm else []
        if not rows:
            return None
        other = next(who for who in self.gains if self.called(who) != "you")
        points = [
            {
                **row,
                "x": SCATTER_LEFT + 2 * row["you"],
                "y": SCATTER_TOP + 200 - 2 * row["other"],
                "newest": row is rows[-1],
            }
            for row in rows
        ]
        return {"points": points, "other": self.called(other), "fair": not self.is_suggestion}

    # -- why

    @property
    def why(self) -> list[str]:
        if self.proposed is None or not self.rows:
            return []
        worst = min(self.gains.values())
        if self.is_suggestion:
            return [
                "A party suggested this in its counter. It keeps every must, every minimum, the facts of the platform "
                "and the host's limits, so it was put to everybody as it is; a better one may exist.",
                f"The party that gains least gets {worst} % of what was possible for it.",
                *self.own_row,
            ]
        told = [
            "All settlements were compared that keep every must, every minimum, the facts of the platform and the "
            "host's limits. Among them this is the one in which the party that gains least gains most: "
            f"{worst} % of what was possible for it.",
            "Where several were equal in that, the product of everyone's gains decided, and then the stricter setting.",
        ]
        bound = self.proposed["certificate"]["search"] if self.vm else self.proposed["search"]
        steps = f"{bound['nodes']:,} steps of the search"
        if bound["proven"]:
            told.append(f"It is proven that no better one exists ({steps}).")
        else:
            told.append(f"The search was cut off after {steps}; a better one may exist.")
        return told + self.own_row

    @property
    def own_row(self) -> list[str]:
        if self.vm is None or self.proposed is None:
            return []
        mine = self.proposed["certificate"]["party"]
        return [
            f"Your own row, to recheck: at least {mine['d']:,}, at best {mine['ideal']:,}, this proposal "
            f"{mine['u']:,} of 1,000,000 points."
        ]

    @property
    def ladder(self) -> list[str]:
        """What can still be done after no agreement; each only with the consent of those concerned."""
        if self.negotiation.state != State.NO_AGREEMENT or self.seen is None:
            return []
        names = self.seen["fallback"] if self.vm else [step["step"] for step in self.seen["fallback"]]
        return [wording.LADDER[name] for name in dict.fromkeys(names) if name in wording.LADDER]

    @property
    def own_part(self) -> list[str]:
        """The viewer's own wishes among the demands that could not hold together."""
        if self.vm is None or self.negotiation.state != State.NO_AGREEMENT or self.seen is None:
            return []
        return [row["switch"] for row in self.seen["core"] if row["yours"] and row["switch"]]

    @property
    def honesty(self) -> str:
        return wording.HONESTY
