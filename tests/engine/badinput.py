"""Gives nasty values to everything that takes a value; in a process of its own it also tells how much memory grew.

python -m tests.engine.badinput
"""

import json
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hsvm_engine import ARCHITECTURES, Machine, Status
from hsvm_engine.attackfile import AttackFileError, read_attack
from hsvm_engine.operations import OPERATIONS
from hsvm_engine.scenarios import Scenario, VmSpec
from hsvm_engine.tracefile import TraceError, load_trace

from .nasty import Key, Raises, values

SHAPE: dict[str, Any] = {"frames": 1024, "hypervisor_frames": 128, "protected_frames": 64}
CONSTRUCTOR = (*SHAPE, "cores", "architecture", "seed", "options", "tlb", "costs")
DEEP = {
    "options": ("skip", "page_map_rule", "fault", "smi_period", "platform_key", "machine_id", "lru"),
    "tlb": ("l1", "l2"),
    "costs": ("map", "smi"),
}
SECONDS = 2.0  # of processor time for one call
Finding = tuple[str, str]  # what was done, what came of it


def machine_of(architecture: str = "hsvm") -> tuple[Machine, int]:
    """A small host with a guest on core 0 that has four pages, one shared, one swapped out."""
    protected = SHAPE["protected_frames"] if ARCHITECTURES[architecture].protected_region else 0
    machine = Machine(**{**SHAPE, "protected_frames": protected}, cores=2, architecture=architecture)
    vm = int(machine.apply({"op": "create_vm", "vcpus": 2})["vm"])
    for gpn in range(5):
        machine.apply({"op": "page_map", "vm": vm, "gpn": gpn, "mfn": 300 + gpn, "perm": "rw", "size": 1})
    machine.apply({"op": "context_restore", "vm": vm, "vcpu": 0, "core": 0})
    machine.apply({"op": "guest_share", "core": 0, "gpn": 2, "perm": "r"})
    machine.apply({"op": "swap_out", "vm": vm, "gpn": 3})
    return machine, vm


def right_fields(name: str, vm: int) -> dict[str, Any]:
    """Fields that reach as far into the operation as they can."""
    known: dict[str, Any] = {
        **{"vm": vm, "other_vm": vm, "vcpus": 1, "vcpu": 0, "core": 0, "gpn": 1, "other_gpn": 4, "mfn": 310},
        **{"perm": "rw", "size": 1, "pages": 1, "offset": 0, "length": 8, "data": "00ff", "gpa": 0, "gva": 0x1000},
        **{"kind": "r", "device": 0, "registers": {}, "image": "00" * 4141, "target": "00" * 16, "with": "none"},
        **{"vector": 32, "after": 1 << 32},
    }
    return {"op": name, **{field: known[field] for field in OPERATIONS[name].fields}}


def operations(vm: int, nasty: list[Any]) -> Iterator[tuple[str, Any]]:
    """Operations with one nasty value in them, each with a label."""
    for value in nasty:
        yield "the operation itself", value
        yield "op", {"op": value}
        for name in OPERATIONS:
            for field in OPERATIONS[name].fields:
                yield f"{name}.{field} = {type(value).__name__}", {**right_fields(name, vm), field: value}
    for key in (Key("op"), 1, None, ("op",), b"op"):
        yield "a key", {key: "claim"}
    for key in (Key("vm"), Key("opcode"), 1, None, ("op",), b"op"):
        yield "a key beside", {**right_fields("claim", vm), key: 1}


def timed(call: Callable[[Any], Any], value: Any) -> Any:
    """The call's result, or TimeoutError after `SECONDS`."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        return call(value)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _too_long(*_: object) -> None:
    raise TimeoutError


def apply_findings(machine: Machine, vm: int, nasty: list[Any]) -> Iterator[Finding]:
    """What `apply` does wrong: raise, answer with no status, or change the machine while it refuses."""
    before = machine.digest()
    for what, op in operations(vm, nasty):
        try:
            status = timed(machine.apply, op)["status"]
        except BaseException as error:
            yield f"apply: {what}", f"raised {type(error).__name__}"
            continue
        if status not in Status.__members__:
            yield f"apply: {what}", f"answered {status!r}"
        after = machine.digest()
        if after != before and status != "OK" and not status.startswith("F_"):
            yield f"apply: {what}", f"answered {status} and changed the machine"
        before = after


def value_findings(what: str, name: str, call: Callable[[Any], object], nasty: list[Any]) -> Iterator[Finding]:
    """What is not accepted must be a ValueError that begins with the argument's name and is short enough to read."""
    for value in nasty:
        try:
            timed(call, value)
        except ValueError as error:
            if not str(error).startswith(name) or len(str(error)) > 1_000:
                yield f"{what} = {type(value).__name__}", f"said {str(error)[:60]!r}"
        except BaseException as error:
            yield f"{what} = {type(value).__name__}", f"raised {type(error).__name__}"


def constructor_findings(nasty: list[Any]) -> Iterator[Finding]:
    for name in CONSTRUCTOR:
        yield from value_findings(f"Machine: {name}", name, lambda v, n=name: Machine(**{**SHAPE, n: v}), nasty)  # type: ignore[misc]
    for name, keys in DEEP.items():
        for key in keys:
            call = lambda v, n=name, k=key: Machine(**{**SHAPE, n: {k: v}})  # noqa: E731
            yield from value_findings(f"Machine: {name}.{key}", name, call, nasty)
    for level in ("l1", "l2"):
        for key in ("sets", "ways"):
            call = lambda v, l=level, k=key: Machine(**SHAPE, tlb={l: {k: v}})  # noqa: E731, E741
            yield from value_findings(f"Machine: tlb.{level}.{key}", "tlb", call, nasty)
    for key in ("step", "nth"):
        call = lambda v, k=key: Machine(**SHAPE, options={"fault": {"step": 1, "nth": 1, k: v}})  # noqa: E731
        yield from value_findings(f"Machine: options.fault.{key}", "options", call, nasty)


def method_findings(machine: Machine, vm: int, nasty: list[Any]) -> Iterator[Finding]:
    addresses, kinds = np.zeros(4, np.uint64), np.zeros(4, np.uint8)
    before = machine.digest()
    for value in nasty:
        for what, call in (
            ("walk: core", lambda v: machine.walk(v, 0)),
            ("walk: gva", lambda v: machine.walk(0, v)),
            ("run_trace: core", lambda v: machine.run_trace(v, addresses[:0], kinds[:0])),
        ):
            try:
                status = timed(call, value)["status"]
                if status not in Status.__members__:
                    yield f"{what} = {type(value).__name__}", f"answered {status!r}"
            except BaseException as error:
                yield f"{what} = {type(value).__name__}", f"raised {type(error).__name__}"
    named: tuple[tuple[str, str, Callable[[Any], object]], ...] = (
        ("run_trace", "addresses", lambda v: machine.run_trace(0, v, kinds)),
        ("run_trace", "", lambda v: machine.run_trace(0, addresses, v)),
        ("run_trace", "limit", lambda v: None if v is None else machine.run_trace(0, addresses[:0], kinds[:0], v)),
        ("dirty", "since_op", machine.dirty),
        ("events", "since_op", machine.events),
        ("tlb", "core", lambda v: None if v is None else machine.tlb(v)),
        ("slot_of", "handle", machine.slot_of),
        ("handle_of", "slot", machine.handle_of),
        ("restore", "snapshot", Machine.restore),
        ("diff", "since_op", machine.diff),
        ("diff", "until_op", lambda v: machine.diff(machine.op, v)),
        ("step_back", "to_op", machine.step_back),
        ("dominant", "width", lambda v: machine.dominant(v, 1)),
        ("dominant", "height", lambda v: machine.dominant(1, v)),
        ("run_batch", "op", lambda v: machine.run_batch(v, {})),
        ("run_batch", "columns", lambda v: machine.run_batch("page_unmap", v)),
        ("run_batch: vm", "columns", lambda v: machine.run_batch("page_unmap", {"vm": v, "gpn": addresses[:0]})),
        ("run_batch: gpn", "columns", lambda v: machine.run_batch("page_unmap", {"vm": vm, "gpn": v})),
        ("run_batch", "images", lambda v: machine.run_batch("swap_out", {"vm": vm, "gpn": addresses}, v)),
    )
    for what, name, call in named:
        yield from value_findings(f"{what}: {name}", name, call, nasty)
    if machine.digest() != before:
        yield "the methods that take a value", "changed the machine"


def reader_findings(nasty: list[Any]) -> Iterator[Finding]:
    texts = [value for value in nasty if type(value) in (str, bytes)]
    for text in texts:
        try:
            timed(read_attack, text)
        except AttackFileError:
            continue
        except BaseException as error:
            yield "read_attack", f"raised {type(error).__name__}"
        else:
            yield "read_attack", "accepted it"
    yield from value_findings("Scenario.from_json", "", Scenario.from_json, nasty)
    for field in ("machine", "vms", "seed", "quantum", "flush", "rate", "agreement", "attacks"):
        call = lambda v, f=field: Scenario(**{"machine": SHAPE, f: v})  # noqa: E731
        yield from value_findings(f"Scenario: {field}", field, call, nasty)
    for field in (*SHAPE, "cores", "architecture", "options", "tlb", "costs"):
        call = lambda v, f=field: Scenario(machine={**SHAPE, f: v})  # noqa: E731
        yield from value_findings(f"Scenario: machine.{field}", "machine", call, nasty)
    good = {"name": "a", "vm_pages": 256, "trace": "gzip"}
    for field in (*good, "vcpus", "core", "seed", "balloon"):
        call = lambda v, f=field: VmSpec(**{**good, f: v})  # noqa: E731
        yield from value_findings(f"VmSpec: {field}", field, call, nasty)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nasty.hsvmtrace"
        for data in (text for text in texts if isinstance(text, bytes)):
            path.write_bytes(data)
            try:
                timed(load_trace, path)
            except TraceError:
                continue
            except BaseException as error:
                yield "load_trace", f"raised {type(error).__name__}"


def findings(nasty: list[Any]) -> Iterator[Finding]:
    for architecture in ARCHITECTURES:
        machine, vm = machine_of(architecture)
        yield from apply_findings(machine, vm, nasty)
        yield from method_findings(machine, vm, nasty)
        machine.check_invariants()
    yield from constructor_findings(nasty)
    yield from reader_findings(nasty)


def main() -> int:
    signal.signal(signal.SIGPROF, _too_long)
    nasty = [*values(), Raises]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = list(findings(nasty))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"grown_mb": round(grown, 1), "findings": found}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
