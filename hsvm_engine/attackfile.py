"""Reads attack files: YAML in block style or JSON, one schema, nothing but the language of engine.md section 8.

The text is composed to PyYAML's node tree and each scalar is converted by the type of its field, so `no` stays a
word and every refusal has its line and column. Nothing is built by tags, nothing is evaluated, and a file that passes
runs at most `MAX_OPERATIONS` steps.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from hsvm_engine.attackscope import Scope
from hsvm_engine.jsontext import MAX_DEPTH, TextError, load_json
from hsvm_engine.operations import HEX, INT, OPERATIONS, PORTS, REGISTER_NAMES, REGISTERS

BUILTIN = Path(__file__).parent / "attacks"
MAX_BYTES = 64 * 1024
MAX_OPERATIONS = 10_000
MAX_FRAMES = 1 << 20
MAX_CORES = 16
PHASES = ("setup", "victim", "attacker", "after")
OUTCOMES = ("SUCCEEDED", "BLOCKED", "DETECTED", "OUT_OF_SCOPE", "NOT_APPLICABLE", "ERROR")
EVIDENCE = ("stated", "derived", "own", "modelled")
ARCHITECTURE_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,19}|0x[0-9a-f]{1,16}")
_REFERENCE = re.compile(r"\$([a-z][a-z0-9_]{0,31})(?:\.([a-z][a-z0-9_]{0,31}))?")


class AttackFileError(TextError):
    """An attack file that is refused, with file, line, column and reason."""


@dataclass(frozen=True)
class Reference:
    """`$name` or `$name.field`: the value of an earlier result or `let`."""

    name: str
    field: str | None = None

    def __str__(self) -> str:
        return f"${self.name}" + (f".{self.field}" if self.field else "")


Scalar = int | str | Reference
Value = Scalar | dict[str, Scalar]


@dataclass(frozen=True)
class OperationStep:
    """One operation with its fields; `bind` names the result; `line` is where it stands in the file."""

    op: str
    fields: dict[str, Value]
    bind: str | None
    line: int


@dataclass(frozen=True)
class LetStep:
    names: dict[str, Scalar]
    line: int


@dataclass(frozen=True)
class RepeatStep:
    count: int
    steps: tuple["Step", ...]
    line: int


Step = OperationStep | LetStep | RepeatStep


@dataclass(frozen=True)
class Attack:
    """One attack as its file states it. Every name it uses is bound, every operation is of a granted port."""

    id: str
    title: str
    says: str
    paper: str
    ports: frozenset[str]
    machine: dict[str, int]
    machine_line: int
    let: LetStep
    phases: dict[str, tuple[Step, ...]]
    evidence: dict[str, str] = field(default_factory=dict)
    declared: dict[str, tuple[str, str]] = field(default_factory=dict)
    expect: dict[str, str] = field(default_factory=dict)

    def expected(self, architecture: str) -> str | None:
        return self.expect.get(architecture, self.expect.get("*"))


def read_attack(text: str | bytes, file: str = "attack") -> Attack:
    """Read one attack file or raise `AttackFileError` with place and reason. Linear in the text, at most 64 KiB."""
    return _Reader(file).read(text)


def load_attack(name: str | Path) -> Attack:
    """The built-in attack of that id, or the file at that path."""
    if str(name) in builtin_ids():
        return builtin(str(name))
    path = Path(name)
    with path.open("rb") as stream:
        return read_attack(stream.read(MAX_BYTES + 1), str(name))


@cache
def builtin_ids() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in BUILTIN.glob("*.yaml")))


@cache
def builtin(attack_id: str) -> Attack:
    return read_attack((BUILTIN / f"{attack_id}.yaml").read_bytes(), f"{attack_id}.yaml")


def attacks() -> dict[str, Attack]:
    """Every built-in attack by its id, in the order of the ids."""
    return {attack_id: builtin(attack_id) for attack_id in builtin_ids()}


class _Composer(yaml.SafeLoader):
    """Composes nodes and refuses, before it descends, whatever the language does not have."""

    def __init__(self, text: str, file: str, flow: bool) -> None:
        super().__init__(text)
        self.file, self.flow, self.depth = file, flow, 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        refusal = self._refusal(event)
        if refusal:
            raise _at(event, self.file, refusal)
        self.depth += not isinstance(event, yaml.ScalarEvent)
        if self.depth > MAX_DEPTH:
            raise _at(event, self.file, f"nested deeper than {MAX_DEPTH}")
        node = super().compose_node(parent, index)
        self.depth -= not isinstance(event, yaml.ScalarEvent)
        return node

    def _refusal(self, event: Any) -> str | None:
        if isinstance(event, yaml.AliasEvent):
            return "aliases are not allowed"
        if event.anchor is not None:
            return "anchors are not allowed"
        if event.tag is not None:
            return "tags are not allowed"
        if not self.flow and getattr(event, "flow_style", False):
            return "flow style is not allowed: write a block, or the whole file in JSON"
        return None


def _at(node: Any, file: str, reason: str) -> AttackFileError:
    mark = node.start_mark
    return AttackFileError(file, mark.line + 1, mark.column + 1, reason)


class _Reader:
    """One reading of one file. Methods take a node and return its value or raise at the node's place."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.json = False

    # text to nodes

    def read(self, text: str | bytes) -> Attack:
        node = self.compose(self.decode(text))
        return self.attack(self.mapping(node, "the file"), node)

    def decode(self, text: str | bytes) -> str:
        raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        if len(raw) > MAX_BYTES:
            head = raw[:MAX_BYTES]
            column = MAX_BYTES - (head.rfind(b"\n") + 1) + 1
            raise AttackFileError(self.file, head.count(b"\n") + 1, column, f"longer than {MAX_BYTES} bytes")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            head = raw[: error.start]
            column = error.start - (head.rfind(b"\n") + 1) + 1
            raise AttackFileError(self.file, head.count(b"\n") + 1, column, "not UTF-8") from None

    def compose(self, text: str) -> yaml.Node:
        self.json = text.lstrip()[:1] in ("{", "[")
        if self.json:
            try:
                load_json(text, file=self.file)
            except TextError as error:
                raise AttackFileError(error.file, error.line, error.column, error.reason) from None
            text = text.replace("\t", " ")  # only between tokens: the strict parser allows no tab in a string
        try:
            node: yaml.Node | None = _Composer(text, self.file, self.json).get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            raise AttackFileError(self.file, line, column, error.problem or "not YAML") from None
        except yaml.reader.ReaderError as error:
            head = text[: error.position]
            column = error.position - (head.rfind("\n") + 1) + 1
            reason = f"character {error.character!r} is not allowed"
            raise AttackFileError(self.file, head.count("\n") + 1, column, reason) from None
        if node is None:
            raise AttackFileError(self.file, 1, 1, "the file is empty")
        return node

    # nodes to plain values

    def mapping(self, node: yaml.Node, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            raise _at(node, self.file, f"{what} must be a mapping")
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _at(key, self.file, "a key must be a word")
            if key.value == "<<":
                raise _at(key, self.file, "merge keys are not allowed")
            if key.value in found:
                raise _at(key, self.file, f"duplicate key {key.value[:64]}")
            found[key.value] = value
        return found

    def keys(self, node: yaml.Node, what: str, required: str, optional: str = "") -> dict[str, yaml.Node]:
        found = self.mapping(node, what)
        allowed = (*required.split(), *optional.split())
        for key, _ in node.value:
            if key.value not in allowed:
                raise _at(key, self.file, f"unknown key {key.value[:64]} in {what}")
        for name in required.split():
            if name not in found:
                raise _at(node, self.file, f"{what} needs the field {name}")
        return found

    def sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise _at(node, self.file, f"{what} must be a list with at least one entry")
        return list(node.value)

    def text(self, node: yaml.Node, what: str, limit: int = 2000) -> str:
        if not isinstance(node, yaml.ScalarNode) or (self.json and node.style is None):
            raise _at(node, self.file, f"{what} must be text")
        if not 0 < len(node.value) <= limit:
            raise _at(node, self.file, f"{what} must have 1 to {limit} characters")
        return str(node.value)

    def word(self, node: yaml.Node, what: str, allowed: tuple[str, ...]) -> str:
        value = self.text(node, what)
        if value not in allowed:
            raise _at(node, self.file, f"{what} is one of {', '.join(allowed)}, not {value[:64]}")
        return value

    def match(self, node: yaml.Node, what: str, pattern: re.Pattern[str]) -> str:
        value = self.text(node, what)
        if not pattern.fullmatch(value):
            raise _at(node, self.file, f"{what} must look like {pattern.pattern}, not {value[:64]}")
        return value

    def integer(self, node: yaml.Node, what: str, low: int, high: int) -> int:
        value = self.maybe_integer(node)
        if value is None or not low <= value <= high:
            raise _at(node, self.file, f"{what} must be an integer from {low} to {high}")
        return value

    def maybe_integer(self, node: yaml.Node) -> int | None:
        """The integer that a plain scalar spells; a quoted one is text."""
        if isinstance(node, yaml.ScalarNode) and node.style is None and _INTEGER.fullmatch(node.value):
            return int(node.value, 0)
        return None

    # the language

    def attack(self, top: dict[str, yaml.Node], node: yaml.Node) -> Attack:
        self.keys(
            node,
            "the file",
            "schema id says port setup attacker",
            "title paper machine let victim after evidence declared expect",
        )
        self.integer(top["schema"], "schema", 1, 1)
        ports = self.ports(top["port"])
        scope = Scope()
        let = LetStep({}, 0)
        if "let" in top:
            let = self.let(top["let"], scope, "setup")
        phases: dict[str, tuple[Step, ...]] = dict.fromkeys(PHASES, ())
        fuel = MAX_OPERATIONS
        for phase in PHASES:
            if phase in top:
                granted = ports if phase == "attacker" else frozenset(PORTS)
                phases[phase], cost = self.steps(top[phase], phase, granted, scope, fuel)
                fuel -= cost
            if phase == "setup" and not scope.is_vm("victim"):
                raise _at(top["setup"], self.file, "the setup must bind victim: create_vm … as: victim")
        attack_id = self.match(top["id"], "id", _ID)
        says = self.text(top["says"], "says")
        return Attack(
            id=attack_id,
            title=self.text(top["title"], "title", 200) if "title" in top else attack_id,
            says=says,
            paper=self.text(top["paper"], "paper", 200) if "paper" in top else "",
            ports=ports,
            machine=self.machine(top.get("machine")),
            machine_line=top["machine"].start_mark.line + 1 if "machine" in top else 1,
            let=let,
            phases=phases,
            evidence=self.cells(top.get("evidence"), "evidence", EVIDENCE),
            declared=dict(self.declared(top.get("declared"))),
            expect=self.expect(top.get("expect")),
        )

    def ports(self, node: yaml.Node) -> frozenset[str]:
        nodes = self.sequence(node, "port") if isinstance(node, yaml.SequenceNode) else [node]
        return frozenset(self.word(item, "port", PORTS) for item in nodes)

    def machine(self, node: yaml.Node | None) -> dict[str, int]:
        if node is None:
            return {}
        found = self.keys(node, "machine", "", "frames hypervisor_frames protected_frames cores seed")
        high = {"cores": MAX_CORES, "seed": (1 << 64) - 1}
        return {name: self.integer(value, name, 0, high.get(name, MAX_FRAMES)) for name, value in found.items()}

    def cells(self, node: yaml.Node | None, what: str, allowed: tuple[str, ...]) -> dict[str, str]:
        if node is None:
            return {}
        return {self.row(key): self.word(value, what, allowed) for key, value in self.rows(node, what)}

    def rows(self, node: yaml.Node, what: str) -> list[tuple[yaml.Node, yaml.Node]]:
        self.mapping(node, what)
        return list(node.value)

    def row(self, key: yaml.Node) -> str:
        return self.match(key, "an architecture", ARCHITECTURE_WORD)

    def declared(self, node: yaml.Node | None) -> Iterator[tuple[str, tuple[str, str]]]:
        for key, value in self.rows(node, "declared") if node is not None else ():
            found = self.keys(value, "a declared cell", "outcome reason")
            outcome = self.word(found["outcome"], "a declared outcome", ("OUT_OF_SCOPE", "NOT_APPLICABLE"))
            yield self.row(key), (outcome, self.text(found["reason"], "reason"))

    def expect(self, node: yaml.Node | None) -> dict[str, str]:
        if isinstance(node, yaml.ScalarNode):
            return {"*": self.word(node, "expect", OUTCOMES)}
        return self.cells(node, "expect", OUTCOMES)

    # steps

    def steps(
        self, node: yaml.Node, phase: str, granted: frozenset[str], scope: Scope, fuel: int
    ) -> tuple[tuple[Step, ...], int]:
        """The steps of a list and how many will be executed; the step that crosses `fuel` is refused."""
        steps: list[Step] = []
        total = 0
        for item in self.sequence(node, phase):
            step, cost = self.step(item, phase, granted, scope, fuel - total)
            total += cost
            if total > fuel:
                raise _at(item, self.file, f"more than {MAX_OPERATIONS} executed operations")
            steps.append(step)
        return tuple(steps), total

    def step(self, node: yaml.Node, phase: str, granted: frozenset[str], scope: Scope, fuel: int) -> tuple[Step, int]:
        found = self.mapping(node, "a step")
        line = node.start_mark.line + 1
        if "let" in found:
            self.keys(node, "a let step", "let")
            return self.let(found["let"], scope, phase), 1
        if "repeat" not in found:
            return self.operation(node, found, phase, granted, scope), 1
        count = self.integer(found["repeat"], "repeat", 1, 10**9)
        if count > fuel:
            raise _at(found["repeat"], self.file, f"more than {MAX_OPERATIONS} executed operations")
        self.keys(node, "a repeat step", "repeat steps")
        steps, cost = self.steps(found["steps"], phase, granted, scope, fuel // count)
        return RepeatStep(count, steps, line), count * cost

    def operation(
        self, node: yaml.Node, found: dict[str, yaml.Node], phase: str, granted: frozenset[str], scope: Scope
    ) -> OperationStep:
        if "op" not in found:
            raise _at(node, self.file, "a step needs op, let or repeat")
        op = self.text(found["op"], "op")
        known = OPERATIONS.get(op)
        if known is None:
            raise _at(found["op"], self.file, f"unknown operation {op[:64]}")
        if known.port not in granted:
            reason = f"{op} belongs to the {known.port} port, which this attack is not granted"
            raise _at(found["op"], self.file, reason)
        self.keys(node, op, " ".join(("op", *known.fields)), "as")
        fields: dict[str, Value] = {
            name: self.registers(found[name], scope, phase)
            if kind == REGISTERS
            else self.scalar(found[name], f"{op}.{name}", kind, scope, phase)
            for name, kind in known.fields.items()
        }
        bind = None
        if "as" in found:
            bind = self.match(found["as"], "as", _NAME)
            problem = scope.bind_result(bind, op, phase)
            if problem:
                raise _at(found["as"], self.file, problem)
        return OperationStep(op, fields, bind, node.start_mark.line + 1)

    def registers(self, node: yaml.Node, scope: Scope, phase: str) -> Value:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, "registers", REGISTERS, scope, phase)
        found = self.keys(node, "registers", "", " ".join(REGISTER_NAMES))
        return {name: self.scalar(value, name, INT, scope, phase) for name, value in found.items()}

    def scalar(self, node: yaml.Node, what: str, kind: str, scope: Scope, phase: str) -> Scalar:
        if not isinstance(node, yaml.ScalarNode):
            raise _at(node, self.file, f"{what} must be one value")
        if node.value.startswith("$"):
            return self.reference(node, what, kind, scope, phase)
        if kind == INT:
            value = self.maybe_integer(node)
            if value is None:
                raise _at(node, self.file, f"{what} must be an integer, not {node.value[:64]!r}")
            return value
        if kind == REGISTERS:
            raise _at(node, self.file, f"{what} must be a mapping of registers")
        text = self.text(node, what, 8192)
        if kind == HEX and not re.fullmatch(r"(?:[0-9a-f]{2})+", text):
            raise _at(node, self.file, f"{what} must be bytes in lower-case hex")
        return text

    def reference(self, node: yaml.ScalarNode, what: str, kind: str | None, scope: Scope, phase: str) -> Reference:
        match = _REFERENCE.fullmatch(node.value)
        if match is None or (self.json and node.style is None):
            raise _at(node, self.file, f"{what}: {node.value[:64]} is not $name or $name.field")
        problem = scope.refusal(match[1], match[2], kind, phase)
        if problem:
            raise _at(node, self.file, f"{what}: {problem}")
        return Reference(match[1], match[2])

    def let(self, node: yaml.Node, scope: Scope, phase: str) -> LetStep:
        names: dict[str, Scalar] = {}
        for key, value in self.mapping(node, "let").items():
            if not _NAME.fullmatch(key):
                raise _at(node, self.file, f"{key[:64]} is not a name")
            if not isinstance(value, yaml.ScalarNode):
                raise _at(value, self.file, f"let {key} must be one value")
            if value.value.startswith("$"):
                names[key] = self.reference(value, f"let {key}", None, scope, phase)
            else:
                number = self.maybe_integer(value)
                names[key] = self.text(value, f"let {key}", 8192) if number is None else number
            problem = scope.bind_let(key, names[key], phase)
            if problem:
                raise _at(value, self.file, problem)
        return LetStep(names, node.start_mark.line + 1)
