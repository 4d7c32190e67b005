"""Runs attack files through their ports, with fuel, and reports the outcome that was observed.

A verdict names the step that decided, the check that refused with its inputs, and the paper's section. Where no step
was refused and the attack still came to nothing, the deciding check is found by experiment: the attack runs again on
fresh machines with one check switched off at a time, and the one without which it succeeds is the one that held.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hsvm_engine.architectures import ARCHITECTURES, SKIPPABLE
from hsvm_engine.attackfile import (
    MAX_OPERATIONS,
    PHASES,
    Attack,
    LetStep,
    NoteStep,
    OperationStep,
    Reference,
    RepeatStep,
    Scalar,
    Step,
    TurnStep,
    Value,
)
from hsvm_engine.attackscope import TURN
from hsvm_engine.core.machine import Machine
from hsvm_engine.observer import SECRET_BYTES, Observer
from hsvm_engine.operations import OPERATIONS

DEFAULT_MACHINE = {"frames": 8192, "hypervisor_frames": 1024, "protected_frames": 1024, "cores": 1}
SKIPPED, NOTED = "SKIPPED", "NOTED"
SHOWN = 2 << 20  # hex digits that a replay keeps
SHOWN_OF_IMAGE = 32  # hex digits that a replay keeps of an image: its header
HELD = 16 << 20  # hex digits that the results with a name may have together
EXITS = ("E_STATE", "F_TAMPERED")  # beside nested faults: the timer ended the run, or the engine stopped the VM
U64 = (1 << 64) - 1


class AttackError(Exception):
    """The attack could not be carried out as written: its outcome is ERROR, never BLOCKED."""


class _Unbound(Exception):
    """A step needs a result that an earlier, refused step did not give."""


@dataclass(frozen=True)
class _Bound:
    """The fields of a named result, and the status that it came with."""

    status: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Done:
    """One executed step: number in the order of execution, phase, line in the file, operation as applied, result.

    The phase is one of PHASES, or "turn" for the victim's own steps in the middle of the attack.
    """

    number: int
    phase: str
    line: int
    op: dict[str, Any]
    result: dict[str, Any]


Watch = Callable[[Machine, Done | None, str | None], None]
"""Called before the first step (None) and after each with the name that its result got; leaves the machine as it is."""


@dataclass(frozen=True)
class Verdict:
    """What was observed, and the step, check, inputs and section that explain it."""

    attack: str
    title: str
    architecture: str
    outcome: str
    reason: str
    evidence: str | None
    paper: str
    check: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    step: Done | None = None
    seed: int = 0
    digest: str | None = None
    says: str = ""
    steps: tuple[Done, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def secret_of(seed: int) -> bytes:
    """The victim's 16 secret bytes: random to every reader of the file, the same for the same seed."""
    return hashlib.sha256(b"the victim's secret %d" % seed).digest()[:SECRET_BYTES]


def boot(attack: Attack, architecture: str, *, seed: int, options: Mapping[str, Any]) -> Machine:
    """A fresh machine as the file asks for it; ValueError names what is wrong with it."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is one of {', '.join(ARCHITECTURES)}, not {architecture}")
    shape: dict[str, Any] = {**DEFAULT_MACHINE, "seed": seed, **attack.machine}
    if not ARCHITECTURES[architecture].protected_region:
        shape["protected_frames"] = 0
    return Machine(**shape, architecture=architecture, options=dict(options))


def run_attack(
    attack: Attack,
    architecture: str,
    *,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Verdict:
    """Run every phase on a fresh machine and report what was observed. The same arguments give the same verdict."""
    options = dict(options or {})
    if architecture in attack.declared:
        outcome, reason = attack.declared[architecture]
        return Verdict(outcome=outcome, reason=reason, **_heading(attack, architecture, seed))
    machine = boot(attack, architecture, seed=seed, options=options)
    run = Run(attack, machine, secret_of(seed), watch=watch)
    verdict = run.verdict(architecture, seed, PHASES)
    if verdict.outcome == "BLOCKED" and verdict.check is None:
        verdict = _by_experiment(verdict, attack, architecture, seed, options)
    return verdict


def drill(
    machine: Machine,
    attack: Attack,
    bindings: Mapping[str, int | str],
    *,
    secret: bytes,
    written: Mapping[int, bytes] | None = None,
    after: bool = False,
) -> Verdict:
    """Run only the attacker's phase (and, with `after`, the victim's last look) against a living machine.

    `bindings` rebinds the file's `let` names and gives the handles (`victim`) that its setup would have made. `written`
    says what the victim has at which guest-physical addresses, for the last look. The machine stays as it was left.
    """
    run = Run(attack, machine, secret, bindings)
    run.observer.expect_memory(written or {})
    phases = ("attacker", "after") if after else ("attacker",)
    return run.verdict(machine.architecture, 0, phases, digest=False)


class Run:
    """One execution of an attack against one machine."""

    def __init__(
        self,
        attack: Attack,
        machine: Machine,
        secret: bytes,
        bindings: Mapping[str, int | str] | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.attack, self.machine, self.watch = attack, machine, watch
        bindings = bindings or {}
        victim = bindings.get("victim")
        cores = {core: (handle, vcpu) for core, handle, vcpu in machine.dump()["cores"]}
        self.observer = Observer(victim if isinstance(victim, int) else None, secret, cores)
        self.names: dict[str, Any] = {}
        self.held = 0  # hex digits under names
        self._let(attack.let)
        self.names.update(bindings)
        self.done: list[Done] = []
        self.shown = SHOWN  # how many more hex digits the replay keeps
        self.found: tuple[str, str, Done] | None = None  # outcome, reason, deciding step: the first one stands

    def verdict(self, architecture: str, seed: int, phases: tuple[str, ...], *, digest: bool = True) -> Verdict:
        heading = _heading(self.attack, architecture, seed)
        if self.watch:
            self.watch(self.machine, None, None)
        try:
            for phase in phases:
                for step, whose in _unroll(self.attack.phases[phase], phase):
                    self._step(step, whose)
        except AttackError as error:
            last = self.done[-1] if self.done else None
            return Verdict(outcome="ERROR", reason=str(error), step=last, steps=tuple(self.done), **heading)
        heading.update(steps=tuple(self.done), digest=self.machine.digest() if digest else None)
        if self.found:
            outcome, reason, decided = self.found
            return Verdict(outcome=outcome, reason=reason, step=decided, inputs=dict(decided.op), **heading)
        return _blocked(self.done, heading)

    # one step

    def _step(self, step: Step, phase: str) -> None:
        if isinstance(step, LetStep):
            self._let(step)
            return
        if len(self.done) >= MAX_OPERATIONS:
            raise AttackError(f"out of fuel after {MAX_OPERATIONS} operations")
        assert isinstance(step, OperationStep | NoteStep)
        try:
            if isinstance(step, NoteStep):
                self._note(step, self._scalar(step.value), phase)
            else:
                fields = {name: self._value(value) for name, value in step.fields.items()}
                self._operate(step, {"op": step.op, **fields}, phase)
        except _Unbound as missing:
            self._skip(step, str(missing), phase)

    def _skip(self, step: OperationStep | NoteStep, missing: str, phase: str) -> None:
        """Pass over what needs a result that is not there; its own name then stands for nothing either."""
        if phase in ("setup", "victim"):
            raise AttackError(f"line {step.line}: {missing}")
        if isinstance(step, OperationStep) and step.bind:
            self._bind(step.bind, None)
        op = {"op": step.op if isinstance(step, OperationStep) else "note"}
        self._watched(self._record(phase, step.line, op, {"status": SKIPPED, "reason": missing}))

    def _note(self, step: NoteStep, value: int | str, phase: str) -> None:
        done = self._record(phase, step.line, {"op": "note", "value": value}, {"status": NOTED})
        self._watched(done)
        self._settle("SUCCEEDED", self.observer.note(value), done)

    def _operate(self, step: OperationStep, op: dict[str, Any], phase: str) -> None:
        self._fair(step, op, phase)
        before = self._pages_of_victim() if self._balloons_victim(op) else set()
        result = self.machine.apply(op)
        done = self._record(phase, step.line, op, result)
        if before:
            self.observer.given_up(before - self._pages_of_victim())
        if step.bind:
            self._bind(step.bind, self._exit(result) if phase == TURN else _results(result))
            if step.bind == "victim" and result["status"] == "OK":
                self.observer.handles = {result["vm"]}
        if result["status"] == "OK" and Reference("secret", "page") in _references(step):
            self.observer.next_bit()
        self._watched(done, step.bind)
        self._observe(done, op, result, phase)

    def _record(self, phase: str, line: int, op: dict[str, Any], result: dict[str, Any]) -> Done:
        done = Done(len(self.done) + 1, phase, line, self._kept(op), self._kept(result))
        self.done.append(done)
        return done

    def _watched(self, done: Done, bind: str | None = None) -> None:
        if self.watch:
            self.watch(self.machine, done, bind)

    def _kept(self, fields: dict[str, Any]) -> dict[str, Any]:
        """What the replay keeps: the header of an image, and bytes until those of a long attack fill their budget."""
        if "image" in fields:
            image = fields["image"]
            return {**fields, "image": f"{image[:SHOWN_OF_IMAGE]}... ({len(image) // 2} bytes)"}
        self.shown -= len(fields.get("data", ""))
        return fields if self.shown > 0 or "data" not in fields else {**fields, "data": ""}

    def _bind(self, name: str, value: Any) -> None:
        """Give a name its value, None for no value."""
        self.held += _size(value) - _size(self.names.pop(name, None))
        if self.held > HELD:
            raise AttackError(f"the results that the attack keeps have more than {HELD // 2:,} bytes")
        if value is not None:
            self.names[name] = value

    def _exit(self, result: Mapping[str, Any]) -> _Bound:
        """What the hardware hands to the hypervisor after an operation of the victim: of a nested fault kind and page.

        Never the data. What the guest sorts out by itself, a fault in its own table for one, is no exit.
        """
        status = result["status"]
        if status.startswith("F_"):
            gpn = self.machine.events(self.machine.op - 1)[-1]["gpn"]
            if gpn is not None:
                return _Bound(status, {"status": status, "gpn": gpn})
        return _Bound(status, {"status": status if status in EXITS else "OK"})

    def _fair(self, step: OperationStep, op: Mapping[str, Any], phase: str) -> None:
        """Refuse what would let a file fake an outcome: speaking as the victim, or handing its secret to another."""
        guest = OPERATIONS[step.op].port == "guest"
        victims = guest and self.observer.runs_victim(op["core"])
        if phase == "attacker" and victims:
            raise AttackError(f"line {step.line}: core {op['core']} runs the victim, whom an attacker cannot speak for")
        if phase == TURN:
            if not victims and op["core"] in self.observer.cores:
                raise AttackError(f"line {step.line}: core {op['core']} runs another guest than the victim")
            return  # on an empty core the victim gets nowhere
        uses = any(reference.name == "secret" for reference in _references(step))
        if phase != "attacker" and not victims and (uses or _holds_secret(op, self.observer.secret)):
            raise AttackError(f"line {step.line}: only the victim itself can use its secret")

    def _observe(self, done: Done, op: dict[str, Any], result: dict[str, Any], phase: str) -> None:
        self.observer.any_step(op, result)
        if phase in ("setup", "victim") and result["status"] != "OK":
            raise AttackError(f"line {done.line}: {op['op']} of the {phase} answered {result['status']}")
        victims = OPERATIONS[op["op"]].port == "guest" and self.observer.runs_victim(op["core"])
        if result["status"] == "F_TAMPERED":
            whose = "the victim" if victims else "the guest whose table was changed"
            self._settle("DETECTED", f"the engine stopped {whose} before anybody could use what was changed", done)
        if phase == "attacker":
            self._settle("SUCCEEDED", self.observer.attacker_step(op, result), done)
        elif victims:
            self._settle("SUCCEEDED", self.observer.victim_step(op, result), done)
        if phase == TURN:
            self._settle("SUCCEEDED", self.observer.victim_turn(result), done)

    def _settle(self, outcome: str, finding: str | None, done: Done) -> None:
        """The first finding stands."""
        if finding and self.found is None:
            self.found = outcome, finding, done

    def _balloons_victim(self, op: Mapping[str, Any]) -> bool:
        return op["op"] == "balloon" and op["vm"] in self.observer.handles

    def _pages_of_victim(self) -> set[int]:
        leaves = self.machine.dump()["leaves"]
        own = [leaf for handle in self.observer.handles for leaf in leaves.get(handle, [])]
        return {gpn + i for gpn, _mfn, size, _perm in own for i in range(size)}

    # values

    def _let(self, step: LetStep) -> None:
        for name, value in step.names.items():
            try:
                self._bind(name, self._scalar(value))
            except _Unbound:
                self._bind(name, None)

    def _value(self, value: Value) -> Any:
        if isinstance(value, dict):
            return {name: self._scalar(part) for name, part in value.items()}
        if isinstance(value, tuple):
            return [self._scalar(part) for part in value]
        return self._scalar(value)

    def _scalar(self, value: Scalar) -> Any:
        if not isinstance(value, Reference):
            return value
        if value.name == "secret":
            return self.observer.part_of_secret(value.field)
        if value.name not in self.names:
            raise _Unbound(f"{value} is not bound")
        found = self.names[value.name]
        if not isinstance(found, _Bound):
            return found
        chosen = value.field or (next(iter(found.fields)) if len(found.fields) == 1 else "")
        if chosen not in found.fields:
            raise _Unbound(f"{value} has no value: that step answered {found.status}")
        return found.fields[chosen]


def _size(value: Any) -> int:
    """Hex digits and letters that a named value holds."""
    parts = value.fields.values() if isinstance(value, _Bound) else (value,)
    return sum(len(part) for part in parts if isinstance(part, str))


def _results(result: Mapping[str, Any]) -> _Bound:
    own = {name: value for name, value in result.items() if name not in ("status", "check", "inputs")}
    return _Bound(result["status"], own)


def _references(step: OperationStep) -> Iterator[Reference]:
    """Every `$name` in the fields of a step."""
    for value in step.fields.values():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        yield from (part for part in parts if isinstance(part, Reference))


def _heading(attack: Attack, architecture: str, seed: int) -> dict[str, Any]:
    return {
        "attack": attack.id,
        "title": attack.title,
        "says": attack.says,
        "architecture": architecture,
        "evidence": attack.evidence.get(architecture),
        "paper": attack.paper,
        "seed": seed,
    }


def _unroll(steps: tuple[Step, ...], phase: str) -> Iterator[tuple[Step, str]]:
    """The steps in the order of execution, each with the phase that it belongs to."""
    for step in steps:
        if isinstance(step, RepeatStep):
            for _ in range(step.count):
                yield from _unroll(step.steps, phase)
        elif isinstance(step, TurnStep):
            yield from _unroll(step.steps, TURN)
        else:
            yield step, phase


def _holds_secret(op: Mapping[str, Any], secret: bytes) -> bool:
    """Whether the bytes or registers that this operation stores hold a telling part of the secret."""
    registers = op.get("registers", {})
    given = bytes.fromhex(op.get("data", ""))
    given += b"".join((value & U64).to_bytes(8, "little") for value in registers.values())
    return any(secret[i : i + 4] in given for i in range(0, len(secret), 4))


def _blocked(done: list[Done], heading: dict[str, Any]) -> Verdict:
    """Every attacking step was refused or harmless: the first one that a protection check refused explains it."""
    for step in done:
        if step.phase == "attacker" and step.result.get("check"):
            check, inputs = step.result["check"], step.result.get("inputs", {})
            reason = f"{step.op['op']} was refused with {step.result['status']} by {check}"
            return Verdict(outcome="BLOCKED", reason=reason, check=check, inputs=inputs, step=step, **heading)
    return Verdict(outcome="BLOCKED", reason="no attacking step did any harm", **heading)


def _by_experiment(
    verdict: Verdict, attack: Attack, architecture: str, seed: int, options: Mapping[str, Any]
) -> Verdict:
    """Name the check without which the harmless step would have succeeded."""
    already = list(options.get("skip", ()))
    made = ARCHITECTURES[architecture].checks()
    for check in SKIPPABLE:
        if check in already or check not in made:  # without what is not there the attack ends as it did
            continue
        machine = boot(attack, architecture, seed=seed, options={**options, "skip": [*already, check]})
        without = Run(attack, machine, secret_of(seed)).verdict(architecture, seed, PHASES, digest=False)
        if without.outcome == "SUCCEEDED" and without.step is not None:
            step = verdict.steps[without.step.number - 1]
            reason = f"{step.op['op']} came to nothing: without {check} {without.reason}"
            shown = {name: value for name, value in step.op.items() if name not in ("data", "image")}
            return replace(verdict, reason=reason, check=check, step=step, inputs=shown)
    return verdict
