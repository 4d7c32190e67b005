"""A host of 64 GiB: how it opens, what it weighs, what its views and one call cost.

`python -m benchmarks._host open|fill FRAMES ROUNDS` prints its figures from a process that has done nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks._figures import HERE, Figures, batch, figure, seconds
from hsvm_engine import Machine

VMS, LONGEST = 34, 512  # extents of 1 to LONGEST frames, as guests that came and went leave them
CHUNK = 1 << 17
HYPERVISOR = 4096
HOLES = 50  # one frame in so many stays free
CHANGED = 1000


def open_host(frames: int) -> Machine:
    """Protected frames for the ownership table and for a table per 512 frames, and some."""
    return Machine(frames, HYPERVISOR, frames // 256 + frames // 400 + 1024)


def extents(machine: Machine) -> Iterator[dict[str, Any]]:
    """Batches of page_map that fill the host with VMs in extents, each VM's guest pages in order."""
    source = np.random.default_rng(1)
    vms = np.array([machine.hypervisor.create_vm(vcpus=1)["vm"] for _ in range(VMS)], dtype=np.uint64)
    used = np.zeros(VMS, dtype=np.uint64)
    end = machine.frames - machine.config["protected_frames"]
    for first in range(HYPERVISOR, end, CHUNK):
        mfns = np.arange(first, min(first + CHUNK, end), dtype=np.uint64)
        lengths = source.integers(1, LONGEST + 1, len(mfns))
        who = np.repeat(source.integers(0, VMS, len(mfns)), lengths)[: len(mfns)]
        kept = source.integers(0, HOLES, len(mfns)) > 0
        mfns, who = mfns[kept], who[kept]
        gpns = np.empty(len(mfns), dtype=np.uint64)
        for n in range(VMS):
            mine = who == n
            gpns[mine] = used[n] + np.arange(mine.sum(), dtype=np.uint64)
            used[n] += np.uint64(mine.sum())
        yield {"vm": vms[who], "gpn": gpns, "mfn": mfns, "perm": "rw", "size": 1}


def fill(machine: Machine) -> None:
    for columns in extents(machine):
        batch(machine, "page_map", columns)


def resident() -> int:
    """Bytes of this process in memory. (Linux)"""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def opened(frames: int, _: int) -> float:
    begun = time.perf_counter()
    open_host(frames)
    return time.perf_counter() - begun


def filled(frames: int, rounds: int) -> Figures:
    """A host that guests have nearly all frames of, in 4 KiB leaves: what it adds to the process, and its views."""
    warm = Machine(HYPERVISOR + 4096, HYPERVISOR, 1024)  # everything is loaded before the first look
    batch(warm, "claim", {"mfn": np.array([HYPERVISOR], dtype=np.uint64)})
    before = resident()
    machine = open_host(frames)
    fill(machine)
    weight = (resident() - before) / frames
    drawn = [1e3 * seconds(machine.dominant, 1024, 1024) for _ in range(rounds)]
    return {
        **figure("bytes_per_frame", [weight]),
        **dirty("dirty_us", machine, rounds),
        **figure("dominant_ms", drawn),
    }


def in_fresh_process(what: str, frames: int, rounds: int) -> Any:
    command = [sys.executable, "-m", "benchmarks._host", what, str(frames), str(rounds)]
    return json.loads(subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE).stdout)


def microseconds(work: Callable[[], object], rounds: int, times: int) -> list[float]:
    """Medians of many single runs, one a round."""
    medians = []
    for _ in range(rounds):
        taken = np.empty(times, dtype=np.int64)
        for i in range(times):
            begun = time.perf_counter_ns()
            work()
            taken[i] = time.perf_counter_ns() - begun
        medians.append(float(np.median(taken)) / 1e3)
    return medians


def dirty(name: str, machine: Machine, rounds: int) -> Figures:
    """`dirty` after CHANGED frames anywhere on the host changed hands, one operation each."""
    free = np.flatnonzero(machine.ownership() == 0)
    picked = np.random.default_rng(3).choice(free, CHANGED, replace=False).astype(np.uint64)
    before = machine.op
    batch(machine, "claim", {"mfn": picked})
    if machine.dirty(before).tolist() != sorted(picked.tolist()):
        raise SystemExit("dirty: not the frames that changed")
    return figure(name, microseconds(lambda: machine.dirty(before), rounds, 500))


def calls(frames: npt.NDArray[np.uint64], machine: Machine, rounds: int) -> Figures:
    """One call that does something: claim and release of a frame, as a dict and by the port."""
    places = frames.tolist()
    ops = [[{"op": op, "mfn": mfn} for mfn in places] for op in ("claim", "release")]
    apply, port = machine.apply, machine.hypervisor
    whole, typed = [], []
    for _ in range(rounds):
        for work in ops:
            begun = time.thread_time()
            for op in work:
                apply(op)
            whole.append(1e6 * (time.thread_time() - begun) / len(frames))
        for method in (port.claim, port.release):
            begun = time.thread_time()
            for mfn in places:
                method(mfn=mfn)
            typed.append(1e6 * (time.thread_time() - begun) / len(frames))
    return {**figure("call_us", whole), **figure("port_call_us", typed)}


def figures(frames: int, small: int, rounds: int) -> Figures:
    """All of them; a small host beside the big one shows that `dirty` does not grow."""
    little = open_host(small)
    free = np.flatnonzero(little.ownership() == 0)[:10_000].astype(np.uint64)
    return {
        **figure("open_s", [in_fresh_process("open", frames, 1) for _ in range(rounds)], 4),
        **in_fresh_process("fill", frames, rounds),
        **calls(free, little, rounds),
        **dirty("dirty_small_host_us", little, rounds),
    }


if __name__ == "__main__":
    print(json.dumps({"open": opened, "fill": filled}[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))))
