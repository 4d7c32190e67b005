"""How fast run_trace translates, beside a plain C loop of the same structure: one JSON object, both sides interleaved.

The C side gets the machine's own tables, byte for byte, and after each trace its counts must equal the machine's, or
nothing is printed. Times are those of the thread, so that other work on the computer weighs on both sides alike.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import statistics
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsvm_engine import Machine
from hsvm_engine.tracefile import builtin_trace

SOURCE = Path(__file__).with_name("reference.c")
REFERENCES = 1 << 20  # distinct places in the buffers: small repeated batches flatter the branch predictor
ROUNDS = 15
PAGES = 1 << 18  # of the guest: 1 GiB
PROGRAMS = ("sqlite3", "gzip")
COUNTS = ("l1", "l2", "miss", "references")
U64, U8 = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint8)
Column = npt.NDArray[Any]


def library(folder: Path) -> ctypes.CDLL:
    """The reference as a shared library, built by the compiler and with the optimisation of the extensions."""
    built = folder / "reference.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    subprocess.run([*compiler, "-O3", "-shared", "-fPIC", "-o", str(built), str(SOURCE)], check=True)
    loaded = ctypes.CDLL(str(built))
    loaded.reference_open.restype = ctypes.c_void_p
    loaded.reference_open.argtypes = [U64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64]
    loaded.reference_close.argtypes = [ctypes.c_void_p]
    loaded.reference_run.restype = ctypes.c_uint64
    loaded.reference_run.argtypes = [ctypes.c_void_p, U64, U8, ctypes.c_uint64, ctypes.c_int]
    loaded.reference_counts.argtypes = [ctypes.c_void_p, U64]
    return loaded


def host(places: Column, pages: int) -> Machine:
    """A guest on core 0 whose own table maps the page numbers `places`; guest page i lies in a scattered frame.

    Architecture `nested`: its tables can be read out.
    """
    spare = 1024  # zero pages for the guest's tables
    first = 4096
    machine = Machine(first + pages + spare, first, 0, architecture="nested")
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    for gpn in range(pages + spare):
        perm = "rwx" if gpn < pages else "rw"
        mfn = first + ((gpn * 40503) % pages if gpn < pages else gpn)
        machine.apply({"op": "page_map", "vm": vm, "gpn": gpn, "mfn": mfn, "perm": perm, "size": 1})
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    for gpn, page in enumerate(places.tolist()):
        edit = {"op": "guest_map", "core": 0, "gva": page << 12, "gpn": gpn, "perm": "rwx"}
        if machine.apply(edit)["status"] != "OK":
            raise SystemExit(f"trace_speed: page {page} cannot be mapped")
    return machine


def memory_of(machine: Machine) -> Column:
    """Every frame's words, as the C side walks them."""
    memory = np.zeros(machine.frames * 512, dtype=np.uint64)
    for mfn in machine.dump()["nonzero"]:
        data = bytes.fromhex(machine.hypervisor.hv_read(mfn=mfn, offset=0, length=4096)["data"])
        memory[mfn * 512 : mfn * 512 + 512] = np.frombuffer(data, dtype="<u8")
    return memory


class Sides:
    """The machine and the reference over the same tables, asked in turn."""

    def __init__(self, loaded: ctypes.CDLL, machine: Machine) -> None:
        self.loaded, self.machine = loaded, machine
        self.memory = memory_of(machine)
        cr3 = machine.guest.guest_registers(core=0)["registers"]["cr3"]
        root = machine.walk(0, 0)["references"][0]["mfn"]
        self.reference = loaded.reference_open(self.memory.ctypes.data_as(U64), machine.frames, root, cr3)
        self.before = dict.fromkeys(COUNTS, 0)

    def close(self) -> None:
        self.loaded.reference_close(self.reference)

    def run(self, addresses: Any, kinds: Any, ahead: bool) -> tuple[float, float]:
        """Seconds of the machine and of the reference; SystemExit if they differ in a single count."""
        at, kind = addresses.ctypes.data_as(U64), kinds.ctypes.data_as(U8)
        begun = time.thread_time()
        result: dict[str, Any] = dict(self.machine.run_trace(0, addresses, kinds))
        middle = time.thread_time()
        done = self.loaded.reference_run(self.reference, at, kind, len(kinds), ahead)
        seconds = middle - begun, time.thread_time() - middle
        counts = (ctypes.c_uint64 * len(COUNTS))()
        self.loaded.reference_counts(self.reference, counts)
        after = dict(zip(COUNTS, counts, strict=True))
        theirs = {name: after[name] - self.before[name] for name in COUNTS}
        self.before = after
        if done != len(kinds) or result["done"] != done or any(result[name] != theirs[name] for name in COUNTS):
            raise SystemExit(f"trace_speed: machine and reference differ: {result} {done} {theirs}")
        return seconds


def patterns() -> dict[str, Column]:
    """Page numbers: within the first level, within the second, uniform and Zipf over the guest's 1 GiB."""
    source = np.random.default_rng(2026)
    zipf = source.permutation(PAGES)[np.minimum(source.zipf(1.2, REFERENCES) - 1, PAGES - 1)]
    return {
        "l1": source.integers(0, 56, REFERENCES),
        "l2": source.integers(0, 1400, REFERENCES),
        "random": source.integers(0, PAGES, REFERENCES),
        "zipf": zipf,
    }


def median_and_spread(name: str, values: list[float], digits: int) -> dict[str, Any]:
    return {
        name: round(statistics.median(values), digits),
        f"{name}_spread": [round(min(values), digits), round(max(values), digits)],
    }


def measure(name: str, references: int, rounds: int, once: Callable[[], tuple[float, float]]) -> dict[str, Any]:
    """`once` gives both sides' seconds for all references; the first round only warms up."""
    once()
    pairs = [once() for _ in range(rounds)]
    rates = median_and_spread(name, [references / mine / 1e6 for mine, _ in pairs], 1)
    return {
        **median_and_spread(f"{name}_ratio", [theirs / mine for mine, theirs in pairs], 2),
        "m_refs_per_s": {name: rates[name]},
        "m_refs_per_s_spread": {name: rates[f"{name}_spread"]},
    }


def synthetic(loaded: ctypes.CDLL, rounds: int) -> list[dict[str, Any]]:
    sides = Sides(loaded, host(np.arange(PAGES), PAGES))
    kinds = (np.random.default_rng(1).random(REFERENCES) < 0.3).astype(np.uint8)
    parts = []
    for name, pages in patterns().items():
        addresses = pages.astype(np.uint64) << np.uint64(12) | np.uint64(64)

        def once(addresses: Column = addresses, ahead: bool = name in ("random", "zipf")) -> tuple[float, float]:
            return sides.run(addresses, kinds, ahead)

        parts.append(measure(name, REFERENCES, rounds, once))
    sides.close()
    return parts


def programs(loaded: ctypes.CDLL, rounds: int) -> dict[str, Any]:
    """The recorded programs, one after the other, each in a host where all its pages are mapped."""
    traces = [builtin_trace(name) for name in PROGRAMS]
    sides = []
    for trace in traces:
        places = np.unique(trace.addresses >> np.uint64(12))
        sides.append(Sides(loaded, host(places, len(places))))

    def once() -> tuple[float, float]:
        runs = [each.run(trace.addresses, trace.kinds, False) for each, trace in zip(sides, traces, strict=True)]
        return sum(mine for mine, _ in runs), sum(theirs for _, theirs in runs)

    part = measure("program", sum(len(trace) for trace in traces), rounds, once)
    for each in sides:
        each.close()
    return part


def figures(rounds: int = ROUNDS) -> dict[str, Any]:
    """`NAME_ratio` (speed of the machine over that of the C loop) and `m_refs_per_s`, with their spreads."""
    report: dict[str, Any] = {"m_refs_per_s": {}, "m_refs_per_s_spread": {}}
    with tempfile.TemporaryDirectory() as folder:
        loaded = library(Path(folder))
        for part in [*synthetic(loaded, rounds), programs(loaded, rounds)]:
            for key, value in part.items():
                report[key] = report[key] | value if isinstance(value, dict) else value
    return report


def main() -> int:
    report = figures()
    print(json.dumps({"bench": "trace_speed", "references": REFERENCES, "rounds": ROUNDS, **report}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
