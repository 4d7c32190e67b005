"""How fast run_trace translates, beside a plain C loop of the same structure: one JSON object, both sides interleaved.

The C side gets the machine's own tables, byte for byte, and its counts must equal the machine's, or nothing is printed.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from hsvm_engine import Machine

SOURCE = Path(__file__).with_name("reference.c")
REFERENCES = 1 << 20  # distinct places in the buffers: small repeated batches flatter the branch predictor
ROUNDS = 9
FRAMES, HYPERVISOR, PAGES = 1 << 17, 1024, 1 << 16
U64, U8 = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint8)


def build(folder: Path) -> ctypes.CDLL:
    """The reference as a shared library, built by the compiler and with the optimisation of the extensions."""
    library = folder / "reference.so"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    subprocess.run([*compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.reference_open.restype = ctypes.c_void_p
    loaded.reference_open.argtypes = [U64, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint64]
    loaded.reference_run.restype = ctypes.c_uint64
    loaded.reference_run.argtypes = [ctypes.c_void_p, U64, U8, ctypes.c_uint64]
    loaded.reference_counts.argtypes = [ctypes.c_void_p, U64]
    return loaded


def host() -> Machine:
    """A guest with 256 MiB, its own table over all of it, on core 0. `nested`: its tables can be read out."""
    machine = Machine(FRAMES, HYPERVISOR, 0, architecture="nested")
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    for gpn in range(PAGES + 512):
        machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=2048 + (gpn * 40503) % PAGES if gpn < PAGES else 2048 + gpn)
    machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0)
    for page in range(PAGES):
        assert machine.guest.guest_map(core=0, gva=page << 12, gpn=page)["status"] == "OK"
    return machine


def memory_of(machine: Machine) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Every frame's words, as the C side walks them."""
    memory = np.zeros(FRAMES * 512, dtype=np.uint64)
    for mfn in machine.dump()["nonzero"]:
        data = bytes.fromhex(machine.hypervisor.hv_read(mfn=mfn, offset=0, length=4096)["data"])
        memory[mfn * 512 : mfn * 512 + 512] = np.frombuffer(data, dtype="<u8")
    return memory


def patterns() -> dict[str, np.ndarray[Any, np.dtype[np.uint64]]]:
    """Page numbers: within the first level, within the second, uniform and Zipf over the guest's 256 MiB."""
    source = np.random.default_rng(2026)
    places = source.permutation(PAGES)
    zipf = places[np.minimum(source.zipf(1.2, REFERENCES) - 1, PAGES - 1)]
    return {
        "l1": source.integers(0, 56, REFERENCES, dtype=np.uint64),
        "l2": source.integers(0, 1400, REFERENCES, dtype=np.uint64),
        "random": source.integers(0, PAGES, REFERENCES, dtype=np.uint64),
        "zipf": zipf.astype(np.uint64),
    }


def measure(machine: Machine, library: ctypes.CDLL, reference: int, pages: np.ndarray[Any, Any]) -> dict[str, float]:
    addresses = (pages << np.uint64(12)) | np.uint64(64)
    kinds = np.zeros(REFERENCES, dtype=np.uint8)
    at, kind = addresses.ctypes.data_as(U64), kinds.ctypes.data_as(U8)
    mine, theirs = [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = machine.run_trace(0, addresses, kinds)
        middle = time.perf_counter()
        done = library.reference_run(reference, at, kind, REFERENCES)
        theirs.append(time.perf_counter() - middle)
        mine.append(middle - start)
        if result["done"] != REFERENCES or done != REFERENCES:
            raise SystemExit(f"a trace stopped: {result}")
    ratios = sorted(b / a for a, b in zip(mine, theirs, strict=True))
    return {
        "m_refs_per_s": round(REFERENCES / statistics.median(mine) / 1e6, 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_low": round(ratios[0], 2),
        "ratio_high": round(ratios[-1], 2),
    }


def main() -> int:
    machine = host()
    memory = memory_of(machine)
    cr3 = machine.guest.guest_registers(core=0)["registers"]["cr3"]
    root = machine.walk(0, 0)["references"][0]["mfn"]
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        reference = library.reference_open(memory.ctypes.data_as(U64), FRAMES, root, cr3)
        report: dict[str, Any] = {"bench": "trace_speed", "references": REFERENCES, "rounds": ROUNDS, "traces": {}}
        for name, pages in patterns().items():
            report["traces"][name] = measure(machine, library, reference, pages)
        counts = (ctypes.c_uint64 * 4)()
        library.reference_counts(reference, counts)
        library.reference_close(ctypes.c_void_p(reference))
    total = machine.counters()
    if [total[key] for key in ("l1", "l2", "miss", "references")] != list(counts):
        print(f"trace_speed: machine and reference differ: {total} {list(counts)}", file=sys.stderr)
        return 1
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
