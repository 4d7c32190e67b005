"""Reads lab tasks: what a student's attack shall reach, by which means, and what each part of it is worth.

YAML in block style, `schema: hsvm/lab-1`, read as strictly as attack files: unknown keys, wrong words and numbers out
of range are refused with line and column. A task holds no code: its goals are predicates over an execution (goals.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import yaml

from hsvm_engine.architectures import ARCHITECTURES, CHECKS
from hsvm_engine.attackfile import (
    MAX_CORES,
    MAX_FRAMES,
    MAX_OPERATIONS,
    Attack,
    OperationStep,
    RepeatStep,
    Step,
    TurnStep,
    read_attack,
)
from hsvm_engine.attacktext import AttackFileError, NodeReader
from hsvm_engine.observer import SECRET_BYTES
from hsvm_engine.operations import OPERATIONS, PORTS

SCHEMA: Final = "hsvm/lab-1"
FREE, GIVEN = "free", "given"
MOST_GOALS, MOST_HINTS, MOST_POINTS, MOST_NAMES = 32, 8, 1000, 16
OUTCOMES: Final = ("SUCCEEDED", "BLOCKED", "DETECTED")
BYTES = re.compile(r"(0|[1-9][0-9]?)(?:-(0|[1-9][0-9]?))?")
FIXED: Final = ("setup", "victim", "after")  # phases that a given setup keeps as they are
CUT: Final = ("hidden", "hints")  # what a student's copy of a task does not have


@dataclass(frozen=True)
class Goal:
    """One predicate over the execution: `kind` is a row of KINDS, `of` its value. `message`: of a hidden test, all that
    a student is told when it fails."""

    kind: str
    of: Any
    column: str
    points: int
    says: str
    message: str = ""


@dataclass(frozen=True)
class Hint:
    """`cost`: percent of the points, for whatever is handed in after it was taken."""

    says: str
    cost: int


@dataclass(frozen=True)
class Task:
    """One lab task. `ports` None: the student chooses. `given`: setup, victim, after and machine stay as they are."""

    title: str
    says: str
    ports: frozenset[str] | None
    given: bool
    columns: tuple[str, ...]
    starter: str
    start: Attack
    goals: tuple[Goal, ...]
    hidden: tuple[Goal, ...] = ()
    hints: tuple[Hint, ...] = ()
    limits: dict[str, int] = field(default_factory=dict)

    @property
    def points(self) -> int:
        return sum(goal.points for goal in (*self.goals, *self.hidden))


LIMITS: Final = {"steps": (500, MAX_OPERATIONS), "frames": (16_384, MAX_FRAMES), "cores": (4, MAX_CORES)}
"""What a student's file may ask for: where the task says nothing, and the most that a task may allow."""


def read_task(text: str | bytes, file: str = "task") -> Task:
    """Read one task or raise `AttackFileError` with place and reason. Linear in the text, at most 64 KiB."""
    return _Reader(file).read(text)


def public_text(text: str) -> str:
    """The task as a student may have it: without hidden tests and hints. For a text that `read_task` takes."""
    reader = NodeReader("task")
    node: Any = reader.compose(reader.decode(text))
    starts = [(key.start_mark.line, key.value) for key, _ in node.value]
    lines = text.splitlines(keepends=True)
    ends = [line for line, _ in starts[1:]] + [len(lines)]
    cut = [(line, end) for (line, name), end in zip(starts, ends, strict=True) if name in CUT]
    return "".join(line for number, line in enumerate(lines) if not any(a <= number < b for a, b in cut))


class _Reader(NodeReader):
    """The language over the nodes: what each key may hold."""

    def read(self, text: str | bytes) -> Task:
        self.source = self.decode(text)
        node = self.compose(self.source)
        if self.json:
            raise self.error(node, "a task is written as YAML in block style")
        top = self.keys(node, "the task", "schema title says port setup columns starter goals", "hidden hints limits")
        self.word(top["schema"], "schema", (SCHEMA,))
        columns = self.columns(top["columns"])
        task = Task(
            title=self.text(top["title"], "title", 120),
            says=self.text(top["says"], "says", 4000),
            ports=self.ports(top["port"]),
            given=self.word(top["setup"], "setup", (FREE, GIVEN)) == GIVEN,
            columns=columns,
            starter=self.text(top["starter"], "starter", 32_000),
            start=self.start(top["starter"]),
            goals=self.goals(top["goals"], "goals", columns),
            hidden=self.goals(top["hidden"], "hidden", tuple(ARCHITECTURES)) if "hidden" in top else (),
            hints=self.hints(top["hints"]) if "hints" in top else (),
            limits=self.limits(top.get("limits")),
        )
        try:
            check_attack(task, task.start, "task")
        except AttackFileError as wrong:
            raise self.error(top["starter"], f"the starter breaks the task's own rules: {wrong.reason}") from None
        return task

    def columns(self, node: yaml.Node) -> tuple[str, ...]:
        found = [self.word(each, "a column", tuple(ARCHITECTURES)) for each in self.sequence(node, "columns")]
        if len(set(found)) < len(found):
            raise self.error(node, "a column is named twice")
        return tuple(found)

    def ports(self, node: yaml.Node) -> frozenset[str] | None:
        if isinstance(node, yaml.SequenceNode):
            return frozenset(self.word(each, "port", PORTS) for each in self.sequence(node, "port"))
        word = self.word(node, "port", (FREE, *PORTS))
        return None if word == FREE else frozenset((word,))

    def start(self, node: yaml.Node) -> Attack:
        """The starter as an attack; its faults are told with their place in the task."""
        if not isinstance(node, yaml.ScalarNode) or node.style != "|":
            raise self.error(node, "the starter is an attack file in a literal block: starter: |")
        try:
            return read_attack(node.value, self.file)
        except AttackFileError as wrong:
            first = node.start_mark.line + 1
            line = (self.source.splitlines() + [""] * 2)[first]
            indent = len(line) - len(line.lstrip(" "))
            raise AttackFileError(self.file, first + wrong.line, indent + wrong.column, wrong.reason) from None

    def goals(self, node: yaml.Node, what: str, columns: tuple[str, ...]) -> tuple[Goal, ...]:
        rows = self.sequence(node, what)
        if len(rows) > MOST_GOALS:
            raise self.error(rows[MOST_GOALS], f"more than {MOST_GOALS} {what}")
        return tuple(self.goal(each, columns, hidden=what == "hidden") for each in rows)

    def goal(self, node: yaml.Node, columns: tuple[str, ...], *, hidden: bool) -> Goal:
        told = "message" if hidden else "says"
        found = self.keys(node, "a goal", f"points {told}", f"on {' '.join(KINDS)}")
        kinds = [name for name in KINDS if name in found]
        if len(kinds) != 1:
            raise self.error(node, f"a goal has exactly one of {', '.join(KINDS)}")
        kind = kinds[0]
        if KINDS[kind].on and "on" not in found:
            raise self.error(node, f"{kind} needs a column: on")
        if "on" in found and not KINDS[kind].on:
            raise self.error(found["on"], f"{kind} is about the file and has no column")
        return Goal(
            kind=kind,
            of=KINDS[kind].read(self, found[kind]),
            column=self.word(found["on"], "on", columns) if "on" in found else "",
            points=self.integer(found["points"], "points", 1, MOST_POINTS),
            says="" if hidden else self.text(found["says"], "says", 300),
            message=self.text(found["message"], "message", 300) if hidden else "",
        )

    def hints(self, node: yaml.Node) -> tuple[Hint, ...]:
        rows = self.sequence(node, "hints")
        if len(rows) > MOST_HINTS:
            raise self.error(rows[MOST_HINTS], f"more than {MOST_HINTS} hints")
        found = []
        for each in rows:
            parts = self.keys(each, "a hint", "says cost")
            found.append(Hint(self.text(parts["says"], "says", 1000), self.integer(parts["cost"], "cost", 0, 100)))
            if sum(hint.cost for hint in found) > 100:
                raise self.error(parts["cost"], "all hints together cost more than 100 percent")
        return tuple(found)

    def limits(self, node: yaml.Node | None) -> dict[str, int]:
        given = self.keys(node, "limits", "", " ".join(LIMITS)) if node is not None else {}
        return {
            name: self.integer(given[name], name, 1, most) if name in given else usual
            for name, (usual, most) in LIMITS.items()
        }

    # values of predicates

    def bytes_of(self, node: yaml.Node) -> tuple[int, int]:
        """The first and the last byte of the secret that are to be read."""
        text = self.text(node, "read", 8)
        match = BYTES.fullmatch(text)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < SECRET_BYTES:
            raise self.error(node, f"read is the number of a byte from 0 to {SECRET_BYTES - 1}, or two as 0-15")
        return first, last

    def operations(self, node: yaml.Node) -> tuple[str, ...]:
        rows = self.sequence(node, "not_used") if isinstance(node, yaml.SequenceNode) else [node]
        if len(rows) > MOST_NAMES:
            raise self.error(rows[MOST_NAMES], f"more than {MOST_NAMES} operations")
        return tuple(self.word(each, "an operation", tuple(OPERATIONS)) for each in rows)


@dataclass(frozen=True)
class Kind:
    """How the value of one kind of predicate is read, and whether it is about one column."""

    read: Callable[[_Reader, yaml.Node], Any]
    on: bool


KINDS: Final[dict[str, Kind]] = {
    "read": Kind(_Reader.bytes_of, on=True),
    "blocked": Kind(lambda reader, node: reader.word(node, "blocked", CHECKS), on=True),
    "outcome": Kind(lambda reader, node: reader.word(node, "outcome", OUTCOMES), on=True),
    "operations": Kind(lambda reader, node: reader.integer(node, "operations", 1, MAX_OPERATIONS), on=False),
    "not_used": Kind(_Reader.operations, on=False),
}


# -- a student's file beside the task


def read_answer(task: Task, text: str | bytes, file: str = "attack") -> Attack:
    """A student's attack file, if the task allows it; else `AttackFileError` with the place in the file."""
    attack = read_attack(text, file)
    check_attack(task, attack, file)
    return attack


def check_attack(task: Task, attack: Attack, file: str) -> None:
    """Refuse ports that are not given, a changed setup, declared outcomes, and more than the task's limits."""

    def refuse(line: int, reason: str) -> AttackFileError:
        return AttackFileError(file, line, 1, reason)

    if attack.declared:
        raise refuse(attack.declared_line, "an outcome is observed here: declared is for the built-in attacks")
    if task.ports is not None and not attack.ports <= task.ports:
        names = ", ".join(sorted(task.ports))
        raise refuse(
            attack.port_line, f"this task gives only {names}, not {', '.join(sorted(attack.ports - task.ports))}"
        )
    for name, most in task.limits.items():
        if name != "steps" and attack.machine.get(name, 0) > most:
            raise refuse(attack.machine_line, f"this task allows at most {most:,} {name}")
    count = 0
    for phase in attack.phases.values():
        for step in phase:
            count += cost_of(step)
            if count > task.limits["steps"]:
                raise refuse(step.line, f"more than {task.limits['steps']:,} executed steps, the most of this task")
    if task.given:
        _same_setup(task.start, attack, refuse)


def cost_of(step: Step) -> int:
    """How many steps a step of the file is when it is executed."""
    if isinstance(step, RepeatStep):
        return step.count * sum(map(cost_of, step.steps))
    return sum(map(cost_of, step.steps)) if isinstance(step, TurnStep) else 1


def _same_setup(start: Attack, attack: Attack, refuse: Callable[[int, str], AttackFileError]) -> None:
    if attack.machine != start.machine:
        raise refuse(attack.machine_line, "the machine of this task is given: leave it as in the starter")
    for name, value in start.let.names.items():
        if attack.let.names.get(name) != value:
            raise refuse(max(1, attack.let.line), f"let {name} belongs to the given setup: leave it as in the starter")
    for phase in FIXED:
        given, found = (list(map(_unplaced, each.phases[phase])) for each in (start, attack))
        if given == found:
            continue
        steps = attack.phases[phase]
        differs = next((i for i, pair in enumerate(zip(given, found, strict=False)) if pair[0] != pair[1]), len(steps))
        line = steps[min(differs, len(steps) - 1)].line if steps else 1
        raise refuse(line, f"{phase} is given by this task: leave it as in the starter")


def _unplaced(step: Step) -> Step:
    """The step without its lines, to compare."""
    if isinstance(step, RepeatStep | TurnStep):
        return replace(step, steps=tuple(map(_unplaced, step.steps)), line=0)
    return replace(step, line=0)


def used(steps: tuple[Step, ...]) -> list[tuple[str, int]]:
    """The attacker's own operations in the order of the file, each with how often it is executed. The victim's turns
    are the victim's."""
    found: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, OperationStep):
            found.append((step.op, 1))
        elif isinstance(step, RepeatStep):
            found += [(op, times * step.count) for op, times in used(step.steps)]
    return found
