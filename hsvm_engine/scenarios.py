"""Scenarios: everything that decides a run, in frozen dataclasses with one strict JSON form."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.jsontext import load_json

FORMAT = "hsvm-scenario/1"
PAGES_PER_MIB = 256
MIN_PAGES, MAX_PAGES = 256, 1 << 20
MAX_VMS = 64
MAX_QUANTUM = 1 << 24
MAX_SEED = (1 << 63) - 1
MAX_TEXT = 1 << 20
MAX_ATTACKS = 1_000
MAX_STEP = 1 << 32
BALLOON = ("none", "on")
FLUSH = ("always", "on_change", "tagged")
MACHINE_FIELDS = {"frames", "hypervisor_frames", "protected_frames", "cores", "architecture", "options", "tlb", "costs"}
REQUIRED_MACHINE_FIELDS = {"frames", "hypervisor_frames", "protected_frames"}

_Spec = TypeVar("_Spec")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ATTACK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_DIGEST = re.compile(r"(?:[0-9a-f]{64})?")


class ScenarioError(ValueError):
    """A scenario that is refused: the JSON path of the field and why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


@dataclass(frozen=True, kw_only=True)
class VmSpec:
    """A VM of `vm_pages` guest pages whose only program is a recorded trace, run again and again."""

    name: str
    vm_pages: int
    trace: str
    vcpus: int = 1
    core: int = 0
    seed: int = 0
    balloon: str = "none"  # "on": the guest has a balloon driver and gives memory back when a process ends
    image: str = ""  # the kernel that the guest boots: those of the same hold equal pages; "": one of its own

    def __post_init__(self) -> None:
        _word("name", self.name, _NAME)
        _integer("vm_pages", self.vm_pages, MIN_PAGES, MAX_PAGES)
        _word("trace", self.trace, _NAME)
        _integer("vcpus", self.vcpus, 1, 64)
        _integer("core", self.core, 0, 255)
        _integer("seed", self.seed, 0, MAX_SEED)
        _choice("balloon", self.balloon, BALLOON)
        if self.image != "":
            _word("image", self.image, _NAME)


@dataclass(frozen=True, kw_only=True)
class AttackSpec:
    """A built-in attack that is carried out against a living VM before a step is played; steps count from 1."""

    step: int
    attack: str
    victim: str  # name of a VM of the scenario

    def __post_init__(self) -> None:
        _integer("step", self.step, 1, MAX_STEP)
        _word("attack", self.attack, _ATTACK)
        _word("victim", self.victim, _NAME)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One host and the VMs that are on it from the first moment; the same scenario gives the same run, bit for bit."""

    machine: dict[str, Any]
    vms: tuple[VmSpec, ...] = ()
    seed: int = 0
    quantum: int = 1_000  # accesses of one vcpu between two world switches
    flush: str = "tagged"  # TLB entries of a VM that leaves a core: dropped always, only when another comes, or kept
    rate: int = 0  # accesses a second to aim at for people who watch; 0: as fast as it goes
    agreement: str = field(default="")  # digest of the agreement that the run executes, if there is one
    attacks: tuple[AttackSpec, ...] = ()  # `hsvm play` carries them out; the player itself waits to be told

    def __post_init__(self) -> None:
        _machine(self.machine)
        if type(self.vms) is not tuple or not all(type(vm) is VmSpec for vm in self.vms):
            raise ScenarioError("vms", "must be VMs")
        if len(self.vms) > MAX_VMS:
            raise ScenarioError("vms", f"at most {MAX_VMS}")
        for number, vm in enumerate(self.vms):
            if vm.name in {other.name for other in self.vms[:number]}:
                raise ScenarioError(f"vms[{number}].name", f"{vm.name} is taken")
            if vm.core >= self.machine.get("cores", 1):
                raise ScenarioError(f"vms[{number}].core", "the machine has no such core")
        _integer("seed", self.seed, 0, MAX_SEED)
        _integer("quantum", self.quantum, 1, MAX_QUANTUM)
        _choice("flush", self.flush, FLUSH)
        _integer("rate", self.rate, 0, MAX_SEED)
        _word("agreement", self.agreement, _DIGEST)
        self._check_attacks()

    def _check_attacks(self) -> None:
        if type(self.attacks) is not tuple or not all(type(item) is AttackSpec for item in self.attacks):
            raise ScenarioError("attacks", "must be attacks")
        if len(self.attacks) > MAX_ATTACKS:
            raise ScenarioError("attacks", f"at most {MAX_ATTACKS}")
        for number, item in enumerate(self.attacks):
            if item.victim not in {vm.name for vm in self.vms}:
                raise ScenarioError(f"attacks[{number}].victim", f"no VM is named {item.victim}")

    def to_json(self) -> str:
        """The canonical text: equal scenarios give equal bytes. What is empty of attacks and images is left out."""
        value = {"format": FORMAT, **asdict(self)}
        for vm in value["vms"]:
            if not vm["image"]:
                del vm["image"]
        if not self.attacks:
            del value["attacks"]
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str, *, file: str = "scenario") -> Scenario:
        """The scenario of a text, or a ValueError with place and reason; nothing unknown or doubled passes."""
        if type(text) is not str:
            raise ScenarioError("$", "must be text")
        if len(text) > MAX_TEXT:
            raise ScenarioError("$", f"more than {MAX_TEXT} characters")
        value = _object("$", load_json(text, file=file))
        if value.pop("format", None) != FORMAT:
            raise ScenarioError("format", f"must be {FORMAT}")
        vms = _each("vms", value.pop("vms", []), VmSpec)
        attacks = _each("attacks", value.pop("attacks", []), AttackSpec)
        return Scenario(vms=vms, attacks=attacks, **_known(value, Scenario, "vms", "attacks"))


def _each(name: str, value: Any, kind: type[_Spec]) -> tuple[_Spec, ...]:
    """The entries of a list, each of one kind; what is wrong is told with its place in the list."""
    if type(value) is not list:
        raise ScenarioError(name, "must be a list")
    items = []
    for number, item in enumerate(value):
        try:
            items.append(kind(**_known(_object(name, item), kind)))
        except ScenarioError as error:
            raise ScenarioError(f"{name}[{number}].{error.path}", error.reason) from None
    return tuple(items)


REQUIRED: dict[type, set[str]] = {
    VmSpec: {"name", "vm_pages", "trace"},
    AttackSpec: {"step", "attack", "victim"},
    Scenario: {"machine"},
}


def _machine(machine: Any) -> None:
    for name in _object("machine", machine):
        if name not in MACHINE_FIELDS:
            raise ScenarioError(f"machine.{name[:64]}", "unknown field")
    for name in sorted(REQUIRED_MACHINE_FIELDS - set(machine)):
        raise ScenarioError(f"machine.{name}", "missing")
    for name in ("frames", "hypervisor_frames", "protected_frames", "cores"):
        if name in machine:
            _integer(f"machine.{name}", machine[name], 0, 1 << 28)
    if type(machine.get("architecture", "hsvm")) is not str:
        raise ScenarioError("machine.architecture", "must be a string")
    for name in ("options", "tlb", "costs"):
        _object(f"machine.{name}", machine.get(name, {}))


def _object(path: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise ScenarioError(path, "must be an object")
    return dict(value)


def _known(value: dict[str, Any], kind: type, *elsewhere: str) -> dict[str, Any]:
    names = {item.name for item in fields(kind)} - set(elsewhere)
    for name in value:
        if name not in names:
            raise ScenarioError(name[:64], "unknown field")
    for name in sorted(REQUIRED[kind] - set(value)):
        raise ScenarioError(name, "missing")
    return value


# Exact types: a subclass may answer as it likes when it is compared.


def _integer(path: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int:
        raise ScenarioError(path, "must be an integer")
    if not least <= value <= most:
        raise ScenarioError(path, f"must be {least} to {most}")


def _word(path: str, value: Any, pattern: re.Pattern[str]) -> None:
    if type(value) is not str:
        raise ScenarioError(path, "must be a string")
    if pattern.fullmatch(value) is None:
        raise ScenarioError(path, f"must match {pattern.pattern}")


def _choice(path: str, value: Any, allowed: tuple[str, ...]) -> None:
    if type(value) is not str or value not in allowed:
        raise ScenarioError(path, f"must be one of {', '.join(allowed)}")


def demo(architecture: str = "hsvm") -> Scenario:
    """The demo's host: 64 MiB, two cores, one VM that runs sqlite3 and one that runs gzip."""
    return Scenario(
        machine={
            "frames": 64 * PAGES_PER_MIB,
            "hypervisor_frames": 1_024,
            "protected_frames": 1_024 if ARCHITECTURES[architecture].protected_region else 0,
            "cores": 2,
            "architecture": architecture,
        },
        vms=(
            VmSpec(name="a-db", vm_pages=16 * PAGES_PER_MIB, trace="sqlite3", core=0, seed=11, balloon="on"),
            VmSpec(name="b-web", vm_pages=8 * PAGES_PER_MIB, trace="gzip", core=1, seed=12),
        ),
        seed=2013,
    )


SCENARIOS = {"demo": demo(), "demo-nested": demo("nested")}
