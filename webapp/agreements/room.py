"""What one party may see of a negotiation, in plain words: contested settings only, others by pseudonym.

Weights, scores, minimums and uncontested settings of others never leave this module.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils import timezone

from webapp.agreements import wording
from webapp.agreements.models import Message, Negotiation, Seat
from webapp.agreements.wording import any_of, switch_help, switch_label, switch_of, value_label
from webapp.vpms import protocol
from webapp.vpms.formats import OPERATOR
from webapp.vpms.situation import Situation

State = Negotiation.State
MILLION = 1_000_000


def percent(part: float) -> int:
    """A share as whole percent."""
    return round(100 * part)


def left_words(until: dt.datetime, now: dt.datetime) -> str:
    """`1 h 5 min`, `4 min 10 s`, `12 s`; never negative."""
    seconds = max(0, int((until - now).total_seconds()))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    if hours >= 48:
        return f"{hours // 24} days"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


@dataclass
class Room:
    """The room as one party sees it; without `vm` as the mediator sees it."""

    negotiation: Negotiation
    seats: list[Seat]
    messages: list[Message]
    vm: str | None
    own_vms: list[str] = field(default_factory=list)

    @cached_property
    def state(self) -> dict[str, Any]:
        return dict(self.negotiation.protocol)

    @cached_property
    def now(self) -> dt.datetime:
        return timezone.now()

    @cached_property
    def situation(self) -> Situation:
        return protocol.situation_of(self.state, self.state["check"]["checked_against"]["at"])

    @property
    def names(self) -> dict[str, str]:
        """How each party is called here: the viewer's own VMs by name, others by pseudonym."""
        called = {seat.vm.name: seat.pseudonym for seat in self.seats} | {OPERATOR: "the operator"}
        if self.vm is not None:
            called |= {name: f"{name} (yours)" for name in self.own_vms} | {self.vm: "you"}
        return called

    @property
    def pseudonym(self) -> str:
        return next((seat.pseudonym for seat in self.seats if seat.vm.name == self.vm), "a number")

    # -- where it stands

    @property
    def chip(self) -> str:
        if self.negotiation.state == State.NO_AGREEMENT and "silence counts" in self.negotiation.reason:
            return "Expired"
        return wording.CHIPS[State(self.negotiation.state)][0]

    @property
    def tone(self) -> str:
        return wording.CHIPS[State(self.negotiation.state)][1]

    @property
    def sentence(self) -> str:
        told = wording.SENTENCES[State(self.negotiation.state)]
        return f"{told} {self.negotiation.reason}".rstrip()

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
        who = f"{self.vm} stays stopped" if mine else "the VM that wants to start stays stopped"
        return (
            f"What happens then: an answer that is missing counts as a no, {who}, and nothing changes for VMs that run."
        )

    # -- what is proposed

    @property
    def result(self) -> dict[str, Any] | None:
        return self.state.get("result") if self.state else None

    @property
    def view(self) -> dict[str, str]:
        """The proposed values that concern the viewer (the mediator: the shared ones)."""
        if self.result is None:
            return {}
        assignment = self.result["assignment"]
        return {**assignment["host"], **(assignment["vms"].get(self.vm, {}) if self.vm else {})}

    @property
    def issues(self) -> list[str]:
        """Contested settings that the viewer may see: shared ones and its own."""
        if self.result is None:
            return []
        mine = {"host", self.vm} if self.vm else {"host"}
        return [issue for issue in self.result["contested"] if issue.partition("/")[0] in mine]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.row(issue) for issue in self.issues]

    def row(self, issue: str) -> dict[str, Any]:
        switch = switch_of(issue)
        value = self.view[switch]
        others = [
            party
            for party in self.situation.parties
            if issue.startswith("host/") and party != self.vm and switch in self.situation.wishes(party)
        ]
        wants = {party: self.situation.best_possible(party, switch) for party in others}
        shown: dict[str, Any] = {
            "issue": switch,
            "label": switch_label(switch),
            "help": switch_help(switch),
            "value": value,
            "proposal": value_label(switch, value),
            "others": [{"who": self.names[party], "words": any_of(switch, wants[party])} for party in others],
            "they_give": [
                {"who": self.names[party], "words": f"does not get “{any_of(switch, wants[party])}”"}
                for party in others
                if value not in wants[party]
            ],
        }
        return {**shown, **(self.own_part(switch, value) if self.vm else {})}

    def own_part(self, switch: str, value: str) -> dict[str, str]:
        """What the viewer wants and what this proposal costs it, in shares of its own wishes."""
        assert self.vm is not None
        if switch not in self.situation.wishes(self.vm):
            return {"you_want": "no preference", "strength": "", "you_give": "nothing"}
        best = self.situation.best_possible(self.vm, switch)
        strength = "must" if self.situation.vetoed(self.vm, switch) else "prefer"
        lost = 0
        if best and value not in best:
            lost = self.situation.score(self.vm, switch, best[0]) - self.situation.score(self.vm, switch, value)
        give = f"“{any_of(switch, best)}”: {lost / 10_000:.1f} % of your wishes" if lost else "nothing"
        return {"you_want": any_of(switch, best), "strength": strength, "you_give": give}

    @property
    def changes(self) -> list[dict[str, str]]:
        """What else would become different for a VM that runs: settings of its own view that nobody contests."""
        current = self.situation.current_view(self.vm) if self.vm and self.result else None
        shown = {switch_of(issue) for issue in self.issues}
        return [
            {"label": switch_label(s), "was": value_label(s, current[s]), "becomes": value_label(s, self.view[s])}
            for s in current or {}
            if s not in shown and current and current[s] != self.view[s]
        ]

    @property
    def proposal(self) -> dict[str, str]:
        """The proposed values of the rows, by switch."""
        return {row["issue"]: row["value"] for row in self.rows}

    # -- who gains what and has answered what

    @property
    def parties(self) -> list[dict[str, Any]]:
        if self.result is None:
            return []
        gains = self.result["gains"]
        order = sorted(gains, key=lambda party: (party != self.vm, self.names[party]))
        return [
            {"who": self.names[party], "percent": percent(gains[party]), **self.answer_of(party)} for party in order
        ]

    def answer_of(self, party: str) -> dict[str, str]:
        sent = next((m for m in self.messages if m.vm.name == party and m.round == self.negotiation.round), None)
        taken = self.state["answers"].get(party)
        if sent is not None:
            return {"answer": wording.ANSWER_WORDS[sent.accept], "tone": "ok" if sent.accept else "violation"}
        if taken is not None:
            by = "" if taken["by"] not in ("delegate", "delegate at timeout") else " (by its delegate)"
            return {"answer": f"accepted{by}", "tone": "ok"}
        if self.negotiation.state == State.PROPOSED:
            return {"answer": "waiting for an answer", "tone": "progress"}
        return {"answer": "no answer", "tone": "neutral"}

    @property
    def my_answer(self) -> str:
        if self.vm is None or self.result is None:
            return ""
        answer = self.answer_of(self.vm)["answer"]
        return f"You {answer}" if answer.startswith(("accepted", "rejected")) else ""

    @property
    def my_tone(self) -> str:
        return self.answer_of(self.vm)["tone"] if self.vm and self.my_answer else ""

    @property
    def can_answer(self) -> bool:
        return self.vm is not None and self.negotiation.state == State.PROPOSED and not self.my_answer

    @property
    def can_withdraw(self) -> bool:
        """The requester may give up its start until the agreement is signed."""
        return self.vm == self.negotiation.requester.name and self.negotiation.state in protocol.OPEN

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """What can stand in the way of this proposal, as the form offers it."""
        named = [(f"veto:{row['issue']}", f"I cannot accept “{row['label']}: {row['proposal']}”") for row in self.rows]
        more = [("more", "It keeps too little of what I wish")] if self.points < MILLION else []
        return [*named, *more, ("final", "I want no settlement: end this negotiation")]

    @property
    def points(self) -> int:
        return int(self.result["utilities"].get(self.vm, 0)) if self.result and self.vm else 0

    @property
    def left_over(self) -> str:
        return f"This proposal keeps {self.points / 10_000:.1f} % of all that you wish for {self.vm}."

    @property
    def next_round(self) -> int:
        return self.negotiation.round + 1

    @property
    def rounds(self) -> int:
        return protocol.ROUNDS

    # -- why

    @property
    def why(self) -> list[str]:
        if self.result is None or not self.rows:
            return []
        worst = percent(self.result["min_gain"] or 0)
        told = [
            "All settlements were compared that keep every must, every minimum, the facts of the platform and the "
            "host's limits. Among them this is the one in which the party that gains least gains most: "
            f"{worst} % of what was possible for it.",
            "Where several were equal in that, the product of everyone's gains decided, and then the stricter setting.",
        ]
        bound = self.result["bound"] or {}
        steps = f"{bound.get('nodes', 0):,} steps of the search"
        if bound.get("proven"):
            told.append(f"It is proven that no better one exists ({steps}).")
        else:
            told.append(f"The search was cut off after {steps}; a better one may exist.")
        if self.vm and self.result["certificate"]:
            mine = self.result["certificate"]["parties"][self.vm]
            told.append(
                f"Your own row, to recheck: at least {mine['d']:,}, at best {mine['ideal']:,}, this proposal "
                f"{mine['u']:,} of 1,000,000 points."
            )
        return told

    @property
    def ladder(self) -> list[str]:
        """What can still be done after no agreement; each only with the consent of those concerned."""
        if self.negotiation.state != State.NO_AGREEMENT or not self.state:
            return []
        names = dict.fromkeys(step["step"] for step in self.state["fallback"])
        return [wording.LADDER[name] for name in names if name in wording.LADDER]

    @property
    def honesty(self) -> str:
        return wording.HONESTY
