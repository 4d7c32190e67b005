"""What can be stepped through with a question before each step: an attack of the table, a walk, a run, an item's round.

A source gives for a step the question, what is about to be done, and what may be shown before it: pages and the API are
made from that alone, so neither can tell a step before it was answered or passed.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol

from django.utils.translation import gettext as _

from webapp.classroom import replay, scenes, services, walk
from webapp.classroom import selectors as table
from webapp.classroom.models import Cell
from webapp.classroom.replay import Execution
from webapp.classroom.wording import PHASES
from webapp.courses import predict_kinds as kinds
from webapp.courses.questions import Question
from webapp.errors import BadInput, Fault
from webapp.runs import ahead
from webapp.runs import selectors as runs
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR
from webapp.saying import say
from webapp.tenants.selectors import missing


class Source(Protocol):
    """`key` names it in a stored answer; `steps` are those that have a question, ascending; `back` leads to the page
    without questions. `follows_cursor`: the next step is the one after the time cursor, else the first that was not
    answered."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def back(self) -> str: ...
    @property
    def template(self) -> str: ...
    @property
    def follows_cursor(self) -> bool: ...
    @property
    def steps(self) -> Sequence[int]: ...

    def question(self, step: int, seed: int) -> Question | None: ...

    def does(self, step: int) -> str:
        """What is about to be done."""

    def before(self, step: int | None) -> dict[str, Any]:
        """What may be shown before this step was answered; None: all is over."""

    def phase(self, step: int) -> str:
        """Steps of the same phase can be passed together; "" for none."""


# -- an attack


def film_until(execution: Execution, step: int | None) -> dict[str, Any]:
    """The film as if it ended before this step: nothing of a later one, nor how the attack ends."""
    film = replay.film_of(execution)
    steps = [each for each in film["steps"] if step is None or each["n"] < step]
    scene = scenes.scene({**film, "steps": steps}, len(steps) - 1)
    return {"scene": scene, "film": {"left_out": film["left_out"], "total": film["total"]}}


@dataclass(frozen=True)
class CellSource:
    """One executed cell of the attack table; public."""

    cell: Cell
    template: ClassVar = "courses/_predict_film.html"
    follows_cursor: ClassVar = False

    @property
    def execution(self) -> Execution:
        return scenes.execution_of(self.cell)

    @property
    def turns(self) -> dict[int, replay.Turn]:
        return replay.turns_of(self.execution)

    @property
    def key(self) -> str:
        return f"cell:{self.cell.pk}"

    @property
    def title(self) -> str:
        name = replay.film_of(self.execution)["title"]
        return f"{self.cell.attack} {say(name)}, {say(self.execution.name)}"

    @property
    def back(self) -> str:
        return f"/teach/cell/{self.cell.pk}/"

    @property
    def steps(self) -> Sequence[int]:
        return [number for number, turn in self.turns.items() if turn.done]

    def question(self, step: int, seed: int) -> Question | None:
        return kinds.question_of(kinds.TURNS, self.turns[step], number=step, seed=seed)

    def does(self, step: int) -> str:
        return told_step(self.turns[step])

    def before(self, step: int | None) -> dict[str, Any]:
        return film_until(self.execution, step)

    def phase(self, step: int) -> str:
        phase = self.turns[step].phase
        return phase if phase in PHASES else ""


def told_step(turn: replay.Turn) -> str:
    """`Step 7 of 8: page_map vm=VM B (attacker), …`."""
    names = {"n": turn.number, "total": turn.total, "what": kinds.said_op(turn)}
    return _("Step %(n)s of %(total)s: %(what)s") % names


# -- a walk


@dataclass(frozen=True)
class WalkSource:
    """One case of the nested walk; public."""

    case: str
    template: ClassVar = "courses/_predict_walk.html"
    follows_cursor: ClassVar = False

    @property
    def walk(self) -> dict[str, Any]:
        return walk.walk_of(self.case)

    @property
    def key(self) -> str:
        return f"walk:{self.case}"

    @property
    def title(self) -> str:
        return say(self.walk["title"])

    @property
    def back(self) -> str:
        return f"/learn/walk/?case={self.case}"

    @property
    def steps(self) -> Sequence[int]:
        return range(1, len(self.walk["references"]) + 1)

    def question(self, step: int, seed: int) -> Question | None:
        rows = self.walk["references"]
        cached = bool(walk.CASES[self.case].cache)
        turn = kinds.WalkTurn(rows[: step - 1], rows[step - 1], step == len(rows), cached)
        return kinds.question_of(kinds.WALKS, turn, number=step, seed=seed)

    def does(self, step: int) -> str:
        return _("Reference %(n)s is next.") % {"n": step}

    def before(self, step: int | None) -> dict[str, Any]:
        walked = self.walk
        seen = walked["references"][: step - 1 if step is not None else None]
        shown = {"title": walked["title"], "about": walked["about"], "references": seen, "status": ""}
        return {
            "walk": shown,
            "grid": walk.grid({"references": seen}),
            "step": len(seen),
            "veiled": step is not None,
            "address": hex(walked["gva"]),
            "says": seen[-1]["says"] if seen else walk.START,
        }

    def phase(self, step: int) -> str:
        return ""


# -- a run


@dataclass
class RunSource:
    """A run at a time cursor: operators are asked about the next operation, tenants about the next step."""

    run: Run
    view: str
    at: int
    known: dict[int, ahead.Ahead] = field(default_factory=dict)  # moments of this request: each takes the engine's time
    template: ClassVar = "courses/_predict_run.html"
    follows_cursor: ClassVar = True

    @property
    def unit(self) -> str:
        return "op" if self.view == OPERATOR else "step"

    @property
    def key(self) -> str:
        return f"run:{self.run.pk}:{self.unit}"

    @property
    def title(self) -> str:
        return _("Run %(run)s of host %(host)s") % {"run": self.run.pk, "host": self.run.host.name}

    @property
    def back(self) -> str:
        at = f"?run={self.run.pk}&{self.unit}={self.at}"
        return f"/operator/host/{self.run.host.name}/{at}" if self.view == OPERATOR else "/tenant/"

    @property
    def steps(self) -> Sequence[int]:
        return range(self.at + 1, (self.run.op if self.view == OPERATOR else self.run.seq) + 1)

    def _ahead(self, at: int) -> ahead.Ahead:
        if at not in self.known:
            self.known[at] = ahead.ahead(self.run, view=self.view, at=at)
        return self.known[at]

    def question(self, step: int, seed: int) -> Question | None:
        turn = self._ahead(step - 1).turn
        rows = kinds.TURNS if self.view == OPERATOR else kinds.OWN
        return kinds.question_of(rows, turn, number=step, seed=seed) if turn is not None else None

    def does(self, step: int) -> str:
        turn = self._ahead(step - 1).turn
        if isinstance(turn, replay.Turn):
            return _("Operation %(n)s: %(what)s") % {"n": f"{step:,}", "what": kinds.said_op(turn)}
        words = _("Operation %(n)s is next.") if self.view == OPERATOR else _("Step %(n)s is next.")
        return words % {"n": f"{step:,}"}

    def before(self, step: int | None) -> dict[str, Any]:
        found = self._ahead(self.at)
        return {"unit": self.unit, "at": self.at, "says": found.says, "rows": found.rows, "run": self.run}

    def phase(self, step: int) -> str:
        return ""


# -- which there are


def source_of(*, user: Any, kind: str, name: str, at: int | None = None) -> Source:
    """The source with this name, if the person may see it; to others it is missing. `at`: the time cursor of a run."""
    if kind == "walk" and name in walk.CASES:
        return WalkSource(name)
    if kind == "cell" and _number(name):
        cell = table.cell_get(pk=int(name))
        if cell.state == Cell.State.DONE and replay.film_of(scenes.execution_of(cell))["steps"]:
            return CellSource(cell)
    if kind == "run" and _number(name):
        view = runs.view_of(user=user, run_id=name)
        if view is not None:
            return run_source(runs.run_get(user=user, pk=int(name)), view, at)
    raise missing()


def _number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 18


def run_source(run: Run, view: str, at: int | None) -> RunSource:
    """BadInput for a moment that is none."""
    oldest, newest = (run.oldest_op, run.op) if view == OPERATOR else (run.oldest_seq, run.seq)
    at = oldest if at is None else at
    if not oldest <= at <= newest:
        raise BadInput([Fault("$.at", f"is no moment that is kept; there are {oldest:,} to {newest:,}")])
    return RunSource(run, view, at)


# -- a round of an item


@lru_cache(maxsize=256)
def drawn(
    attacks: tuple[str, ...], columns: tuple[str, ...], asked: tuple[str, ...], count: int, seed: int
) -> list[tuple[Execution, int]]:
    """The steps of a round: executions in an order of chance, the steps of each in their own."""
    draw = random.Random(f"{seed}/places")
    own = int.from_bytes(hashlib.sha256(f"{seed}/execution".encode()).digest()[:6], "big")
    pairs = [(attack, column) for attack in attacks for column in columns if column not in services.declared(attack)]
    draw.shuffle(pairs)
    rows = kinds.kinds_of(kinds.TURNS, asked)
    open_ = []
    for attack, column in pairs[:count]:
        execution = Execution(attack, column, "", own)
        turns = replay.turns_of(execution)
        steps = [n for n, turn in turns.items() if any(kind.ask(turn) is not None for kind in rows.values())]
        draw.shuffle(steps)
        open_.append((execution, steps))
    found: list[tuple[int, int]] = []
    while len(found) < count and any(steps for _execution, steps in open_):
        for place, (_execution, steps) in enumerate(open_):
            if steps and len(found) < count:
                found.append((place, steps.pop()))
    return [(open_[place][0], step) for place, step in sorted(found)]


@dataclass(frozen=True)
class RoundSource:
    """So many steps drawn by a seed from the attacks and columns of an item, one question each."""

    item: int
    draws: str
    attacks: tuple[str, ...]
    columns: tuple[str, ...]
    asked: tuple[str, ...]
    count: int
    seed: int
    name: str
    template: ClassVar = "courses/_predict_film.html"
    follows_cursor: ClassVar = False

    @property
    def key(self) -> str:
        return f"item:{self.item}:{self.draws}"

    @property
    def title(self) -> str:
        return self.name

    @property
    def back(self) -> str:
        return f"/learn/items/{self.item}/"

    @property
    def places(self) -> list[tuple[Execution, int]]:
        return drawn(self.attacks, self.columns, self.asked, self.count, self.seed)

    @property
    def steps(self) -> Sequence[int]:
        return range(1, len(self.places) + 1)

    def _turn(self, step: int) -> replay.Turn:
        execution, number = self.places[step - 1]
        return replay.turns_of(execution)[number]

    def question(self, step: int, seed: int) -> Question | None:
        rows = kinds.kinds_of(kinds.TURNS, self.asked)
        return kinds.question_of(rows, self._turn(step), number=step, seed=self.seed)

    def does(self, step: int) -> str:
        execution, _number = self.places[step - 1]
        return f"{execution.attack}, {execution.architecture}. {told_step(self._turn(step))}"

    def before(self, step: int | None) -> dict[str, Any]:
        if not self.places:
            return {}
        if step is None:
            execution, number = self.places[-1]
            return film_until(execution, number + 1)
        return film_until(*self.places[step - 1])

    def phase(self, step: int) -> str:
        return ""
