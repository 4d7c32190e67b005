"""Reads attack files: YAML in block style or JSON, one schema, nothing but the language of engine.md section 8.

Each scalar is converted by the type of its field, so `no` stays a word and every refusal has its line and column. A
file that passes runs at most `MAX_OPERATIONS` steps. The same language as a JSON Schema: attackschema.py.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

from hsvm_engine.attackscope import TURN, Scope
from hsvm_engine.attacktext import MAX_BYTES, AttackFileError, NodeReader
from hsvm_engine.operations import HEX, INT, OPERATIONS, PARTNERS, PORTS, REGISTER_NAMES, REGISTERS

__all__ = ["AttackFileError", "attacks", "builtin", "builtin_ids", "load_attack", "read_attack"]

BUILTIN = Path(__file__).parent / "attacks"
MAX_OPERATIONS = 10_000
MAX_FRAMES = 1 << 20
MAX_CORES = 16
PHASES = ("setup", "victim", "attacker", "after")
STEPS = ("op", "let", "repeat", "victim", "note")
OUTCOMES = ("SUCCEEDED", "BLOCKED", "DETECTED", "OUT_OF_SCOPE", "NOT_APPLICABLE", "ERROR")
EVIDENCE = ("stated", "derived", "own", "modelled")
EVERYBODY = ("none", "any")  # words that `with` takes beside a list of handles
MAX_HEX = 8192  # digits of one page; an image may be as long as the file
ARCHITECTURE_WORD = re.compile(r"[a-z][a-z0-9-]{0,31}")
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
REFERENCE = re.compile(r"\$([a-z][a-z0-9_]{0,31})(?:\.([a-z][a-z0-9_]{0,31}))?")


@dataclass(frozen=True)
class Reference:
    """`$name` or `$name.field`: the value of an earlier result or `let`."""

    name: str
    field: str | None = None

    def __str__(self) -> str:
        return f"${self.name}" + (f".{self.field}" if self.field else "")


Scalar = int | str | Reference
Value = Scalar | dict[str, Scalar] | tuple[Scalar, ...]


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


@dataclass(frozen=True)
class TurnStep:
    """The hypervisor lets the victim's guest go on: `steps` are the victim's own, in the middle of the attack."""

    steps: tuple["Step", ...]
    line: int


@dataclass(frozen=True)
class NoteStep:
    """The attacker writes down a value that it was given."""

    value: Reference
    line: int


Step = OperationStep | LetStep | RepeatStep | TurnStep | NoteStep


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
    port_line: int = field(default=1, compare=False)
    declared_line: int = field(default=1, compare=False)

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


class _Reader(NodeReader):
    """The language over the nodes: what each key and step may hold."""

    def read(self, text: str | bytes) -> Attack:
        node = self.compose(self.decode(text))
        return self.attack(self.mapping(node, "the file"), node)

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
                raise self.error(top["setup"], "the setup must bind victim: create_vm … as: victim")
        attack_id = self.match(top["id"], "id", ID)
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
            port_line=top["port"].start_mark.line + 1,
            declared_line=top["declared"].start_mark.line if "declared" in top else 1,
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
                raise self.error(item, f"more than {MAX_OPERATIONS} executed operations")
            steps.append(step)
        return tuple(steps), total

    def step(self, node: yaml.Node, phase: str, granted: frozenset[str], scope: Scope, fuel: int) -> tuple[Step, int]:
        found = self.mapping(node, "a step")
        kind = next((key for key in STEPS if key in found), "")
        line = node.start_mark.line + 1
        match kind:
            case "op":
                return self.operation(node, found, phase, granted, scope), 1
            case "let" if phase == TURN:  # it could put the victim's bytes under a name of the attacker's
                raise self.error(node, "a let step cannot stand in the victim's turn")
            case "let":
                self.keys(node, "a let step", "let")
                return self.let(found["let"], scope, phase), 1
            case "repeat":
                return self.repeat(node, found, phase, granted, scope, fuel)
            case "victim" | "note" if phase != "attacker":
                raise self.error(node, f"a {kind} step belongs to the attacker's phase")
            case "victim":
                self.keys(node, "a victim step", "victim")
                steps, cost = self.steps(found["victim"], TURN, frozenset(("guest",)), scope, fuel)
                return TurnStep(steps, line), cost
            case "note":
                self.keys(node, "a note step", "note")
                return NoteStep(self.note(found["note"], scope), line), 1
        raise self.error(node, f"a step needs one of {', '.join(STEPS)}")

    def repeat(
        self,
        node: yaml.Node,
        found: dict[str, yaml.Node],
        phase: str,
        granted: frozenset[str],
        scope: Scope,
        fuel: int,
    ) -> tuple[RepeatStep, int]:
        count = self.integer(found["repeat"], "repeat", 1, 10**9)
        if count > fuel:
            raise self.error(found["repeat"], f"more than {MAX_OPERATIONS} executed operations")
        self.keys(node, "a repeat step", "repeat steps")
        steps, cost = self.steps(found["steps"], phase, granted, scope, fuel // count)
        return RepeatStep(count, steps, node.start_mark.line + 1), count * cost

    def note(self, node: yaml.Node, scope: Scope) -> Reference:
        if not isinstance(node, yaml.ScalarNode) or not node.value.startswith("$"):
            raise self.error(node, "a note is of $name or $name.field")
        reference = self.reference(node, "note", None, scope, "attacker")
        if scope.names[reference.name].op == "let":
            raise self.error(node, f"a note is of a result that the attacker was given; {reference} is set by let")
        if scope.kind(reference.name, reference.field) == REGISTERS:
            raise self.error(node, "a note is of one value")
        return reference

    def operation(
        self, node: yaml.Node, found: dict[str, yaml.Node], phase: str, granted: frozenset[str], scope: Scope
    ) -> OperationStep:
        op = self.text(found["op"], "op")
        known = OPERATIONS.get(op)
        if known is None:
            raise self.error(found["op"], f"unknown operation {op[:64]}")
        if known.port not in granted:
            whose = "a guest does not have" if phase == TURN else "this attack is not granted"
            raise self.error(found["op"], f"{op} belongs to the {known.port} port, which {whose}")
        self.keys(node, op, " ".join(("op", *known.fields)), "as")
        fields: dict[str, Value] = {
            name: self.field(found[name], f"{op}.{name}", kind, scope, phase) for name, kind in known.fields.items()
        }
        bind = None
        if "as" in found:
            bind = self.match(found["as"], "as", NAME)
            problem = scope.bind_result(bind, op, phase)
            if problem:
                raise self.error(found["as"], problem)
        return OperationStep(op, fields, bind, node.start_mark.line + 1)

    def field(self, node: yaml.Node, what: str, kind: str, scope: Scope, phase: str) -> Value:
        if kind == REGISTERS:
            return self.registers(node, scope, phase)
        if kind == PARTNERS:
            return self.partners(node, what, scope, phase)
        return self.scalar(node, what, kind, scope, phase)

    def partners(self, node: yaml.Node, what: str, scope: Scope, phase: str) -> Value:
        if isinstance(node, yaml.ScalarNode):
            return self.word(node, what, EVERYBODY)
        return tuple(self.scalar(item, what, INT, scope, phase) for item in self.sequence(node, what))

    def registers(self, node: yaml.Node, scope: Scope, phase: str) -> Value:
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, "registers", REGISTERS, scope, phase)
        found = self.keys(node, "registers", "", " ".join(REGISTER_NAMES))
        return {name: self.scalar(value, name, INT, scope, phase) for name, value in found.items()}

    def scalar(self, node: yaml.Node, what: str, kind: str, scope: Scope, phase: str) -> Scalar:
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"{what} must be one value")
        if node.value.startswith("$"):
            return self.reference(node, what, kind, scope, phase)
        if kind == INT:
            value = self.maybe_integer(node)
            if value is None:
                raise self.error(node, f"{what} must be an integer, not {node.value[:64]!r}")
            return value
        if kind == REGISTERS:
            raise self.error(node, f"{what} must be a mapping of registers")
        text = self.text(node, what, MAX_BYTES if what.endswith(".image") else MAX_HEX)
        if kind == HEX and not re.fullmatch(r"(?:[0-9a-f]{2})+", text):
            raise self.error(node, f"{what} must be bytes in lower-case hex")
        return text

    def reference(self, node: yaml.ScalarNode, what: str, kind: str | None, scope: Scope, phase: str) -> Reference:
        match = REFERENCE.fullmatch(node.value)
        if match is None or (self.json and node.style is None):
            raise self.error(node, f"{what}: {node.value[:64]} is not $name or $name.field")
        problem = scope.refusal(match[1], match[2], kind, phase)
        if problem:
            raise self.error(node, f"{what}: {problem}")
        return Reference(match[1], match[2])

    def let(self, node: yaml.Node, scope: Scope, phase: str) -> LetStep:
        names: dict[str, Scalar] = {}
        for key, value in self.mapping(node, "let").items():
            if not NAME.fullmatch(key):
                raise self.error(node, f"{key[:64]} is not a name")
            if not isinstance(value, yaml.ScalarNode):
                raise self.error(value, f"let {key} must be one value")
            if value.value.startswith("$"):
                names[key] = self.reference(value, f"let {key}", None, scope, phase)
            else:
                number = self.maybe_integer(value)
                names[key] = self.text(value, f"let {key}", MAX_BYTES) if number is None else number
            problem = scope.bind_let(key, names[key], phase)
            if problem:
                raise self.error(value, problem)
        return LetStep(names, node.start_mark.line + 1)
