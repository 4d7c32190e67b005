"""Drills: a built-in or student's attack carried out in a running host, against the secret of a living guest.

An attack file's setup makes its own victim on an empty machine. Here the victim lives already, so its setup is done in
the spirit of the file: the second guest and its pages are made, the guest page 0 of the victim takes the place of the
victim's page, and everybody is put on the core that the file names. The attacker's own steps run unchanged. An attack
that cannot be meant so (it scripts what the victim does, or needs more of it than its first page) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hsvm_engine.attackfile import Attack, LetStep, OperationStep, Reference, RepeatStep, Step, TurnStep, Value
from hsvm_engine.interpreter import Verdict, drill
from hsvm_engine.operations import OPERATIONS

if TYPE_CHECKING:
    from hsvm_engine.core.machine import Machine

NUMBER_SHIFT, NUMBER_MASK = 12, (1 << 40) - 1  # where a table entry holds its frame number

SETUP_OPS = ("create_vm", "page_map", "page_unmap", "context_restore")  # beside what guests do
VICTIM_OPS = ("guest_write", "guest_set_registers")
ONE_PAGE = "it needs more pages of the victim than the first"


class DrillError(ValueError):
    """The drill cannot be held on this host; says why. Nothing was attacked."""


def refusal(attack: Attack, architecture: str, hypervisor_frames: int) -> str | None:
    """Why this attack cannot be held as a drill on a host, or None. Nothing is touched."""
    if architecture in attack.declared:
        outcome, reason = attack.declared[architecture]
        return f"{outcome.replace('_', ' ')} on {architecture}: {reason}"
    for step in _flat(attack.phases["setup"]):
        if isinstance(step, OperationStep) and step.op not in SETUP_OPS and OPERATIONS[step.op].port != "guest":
            return f"line {step.line}: its setup needs {step.op}, which a drill does not do on a running host"
    for step in _flat(attack.phases["victim"]):
        if isinstance(step, OperationStep) and step.op not in VICTIM_OPS:
            return (
                f"line {step.line}: the victim would have to do {step.op}, and a living guest follows its own program"
            )
    for step in _flat(attack.phases["attacker"]):
        misplaced = _out_of_place(step, attack.let, hypervisor_frames)
        if misplaced:
            return f"line {step.line}: {misplaced}"
    for step in _flat(attack.phases["after"]):
        if isinstance(step, OperationStep) and _number(step.fields.get("gpa", 0), attack.let) >> NUMBER_SHIFT:
            return f"line {step.line}: {ONE_PAGE}"
    return None


def _flat(steps: tuple[Step, ...]) -> Iterator[Step]:
    """The steps as they stand in the file, those of a `repeat` once."""
    for step in steps:
        if isinstance(step, RepeatStep):
            yield from _flat(step.steps)
        else:
            yield step


def _out_of_place(step: Step, let: LetStep, hypervisor_frames: int) -> str | None:
    """Why this step means nothing in a running host, or None."""
    if isinstance(step, TurnStep):
        return "it scripts what the victim does meanwhile, and a living guest follows its own program"
    if not isinstance(step, OperationStep):
        return None
    mfn = step.fields.get("mfn", 0)
    meant = isinstance(mfn, Reference) and mfn.name in ("frame", "second_frame")
    if not meant and _number(mfn, let) >= hypervisor_frames:
        return f"frame {_number(mfn, let)} is meant on its own machine only"
    if step.fields.get("vm") == Reference("victim") and _number(step.fields.get("gpn", 0), let):
        return ONE_PAGE
    return None


def _number(value: Value, let: LetStep) -> int:
    """The number that the file itself has for a field; 0 for the result of another step."""
    found = let.names.get(value.name) if isinstance(value, Reference) else value
    return found if isinstance(found, int) else 0


class Stage:
    """One attack set up against one living VM; DrillError, and nothing done, if it cannot be a drill."""

    def __init__(
        self,
        machine: Machine,
        attack: Attack,
        *,
        victim: int,
        secret: bytes,
        free_frame: Callable[[int], int | None],
        rewrite_secret: Callable[[int], None],
    ) -> None:
        reason = refusal(attack, machine.architecture, machine.config["hypervisor_frames"])
        if reason:
            raise DrillError(reason)
        self.machine, self.attack, self.victim, self.secret = machine, attack, victim, secret
        self._free_frame, self._rewrite_secret = free_frame, rewrite_secret
        self.handles: dict[str, int] = {"victim": victim}
        self.names: dict[str, int | str] = {}

    def run(self) -> Verdict:
        """Hold the drill. Afterwards no vcpu is on a core; all else is as the attack left it, its guests included."""
        self._bind(self._frame_of_page_0())
        try:
            for step in self.attack.phases["setup"]:
                if isinstance(step, OperationStep):
                    self._set_up(step)
            self._act_as_victim()
            bindings = {**self.names, **self.handles}
            return drill(self.machine, self.attack, bindings, secret=self.secret, written={0: self.secret}, after=True)
        finally:
            for core, _, _ in self.machine.dump()["cores"]:
                self.machine.hypervisor.context_save(core=core)

    def _frame_of_page_0(self) -> int:
        for gpn, mfn, _, _ in self._leaves():
            if gpn == 0:
                return int(mfn)
        raise DrillError("the victim's page 0 is not mapped")

    def _leaves(self) -> list[list[Any]]:
        leaves: list[list[Any]] = self.machine.dump()["leaves"].get(self.victim, [])
        return leaves

    def _bind(self, frame: int) -> None:
        """Give the file's names their meaning on this host: the frame, and table entries that show it."""
        written = self.attack.let.names.get("frame")
        others = (mfn for gpn, mfn, _, perm in self._leaves() if gpn and perm == "rwx")
        for name, value in self.attack.let.names.items():
            if name == "frame":
                self.names[name] = frame
            elif name == "second_frame":
                self.names[name] = next(others, frame)
            elif isinstance(value, str) and isinstance(written, int) and _frame_in(value) == written:
                self.names[name] = _with_frame(value, frame)
            elif isinstance(value, int | str):
                self.names[name] = value

    def _set_up(self, step: OperationStep) -> None:
        if step.op == "create_vm":
            if step.bind and step.bind not in self.handles:
                self.handles[step.bind] = self._must(step.op, step, vcpus=step.fields["vcpus"])["vm"]
            return
        fields = {name: self._value(value) for name, value in step.fields.items()}
        of_victim = fields.get("vm") == self.victim
        if step.op == "page_map" and fields["mfn"] != self.names.get("frame"):
            if of_victim:
                return  # the victim has pages of its own
            fields["mfn"] = self._free_frame(fields["vm"])
            if fields["mfn"] is None:
                raise DrillError("the host has no free frame for the attacker")
        elif step.op == "page_map" and of_victim:
            if any(leaf[0] == 0 for leaf in self._leaves()):
                return
            fields["perm"] = "rwx"
        elif step.op == "page_map":  # the frame is the attacker's first: the victim gives it up and gets it later
            self._must("page_unmap", step, vm=self.victim, gpn=0)
        self._must(step.op, step, **fields)

    def _act_as_victim(self) -> None:
        cores = [core for core, handle, _ in self.machine.dump()["cores"] if handle == self.victim]
        if not cores:
            raise DrillError("the attack's setup never runs the victim")
        self._rewrite_secret(cores[0])
        for step in self.attack.phases["victim"]:
            if isinstance(step, OperationStep) and step.op == "guest_set_registers":
                self._must(step.op, step, **{name: self._value(value) for name, value in step.fields.items()})

    def _value(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: self._value(part) for name, part in value.items()}
        if not isinstance(value, Reference):
            return value
        if value.name == "secret":
            if value.field is None:
                return self.secret.hex()
            return int.from_bytes(self.secret[:8] if value.field == "low" else self.secret[8:], "little")
        found: Mapping[str, int | str] = {**self.names, **self.handles}
        if value.name not in found or value.field is not None:
            raise DrillError(f"{value} has no meaning in a running host")
        return found[value.name]

    def _must(self, op: str, step: OperationStep, **fields: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.machine.apply({"op": op, **fields})
        if result["status"] != "OK":
            raise DrillError(f"line {step.line}: {op} was answered with {result['status']}")
        return result


def _frame_in(entry: str) -> int | None:
    """The frame number in a table entry written as 8 hex bytes."""
    return int.from_bytes(bytes.fromhex(entry), "little") >> NUMBER_SHIFT & NUMBER_MASK if len(entry) == 16 else None


def _with_frame(entry: str, frame: int) -> str:
    flags = int.from_bytes(bytes.fromhex(entry), "little") & ~(NUMBER_MASK << NUMBER_SHIFT)
    return (flags | frame << NUMBER_SHIFT).to_bytes(8, "little").hex()
