"""How a figure is made: a C file built as the extensions are, a median with its spread, batches that must succeed."""

from __future__ import annotations

import ctypes
import os
import shlex
import statistics
import subprocess
import sysconfig
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hsvm_engine import Machine

HERE = Path(__file__).resolve().parent
PAGE = 4096
U64, U8 = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint8)
Figures = dict[str, Any]


def compiler() -> list[str]:
    """The command that the extensions are built with."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def library(source: str, folder: Path) -> ctypes.CDLL:
    """A C file of this folder as a shared library, with the optimisation of the extensions."""
    built = folder / Path(source).with_suffix(".so").name
    subprocess.run([*compiler(), "-O3", "-shared", "-fPIC", "-o", str(built), str(HERE / source)], check=True)
    return ctypes.CDLL(str(built))


def figure(name: str, values: Sequence[float], digits: int = 2) -> Figures:
    """The median, and beside it the lowest and the highest."""
    return {
        name: round(statistics.median(values), digits),
        f"{name}_spread": [round(min(values), digits), round(max(values), digits)],
    }


def seconds(work: Callable[..., object], *values: object) -> float:
    """Processor time of the call: what else runs on the computer weighs little on it."""
    begun = time.thread_time()
    work(*values)
    return time.thread_time() - begun


def batch(machine: Machine, op: str, columns: dict[str, Any], images: Any = None) -> None:
    """One batch in which nothing may be refused: a refusal is cheap and would flatter the figure."""
    statuses = machine.run_batch(op, columns, images)
    if statuses.any():
        place = int(np.flatnonzero(statuses)[0])
        raise SystemExit(f"{op}: element {place} has status {statuses[place]}")


def batch_seconds(machine: Machine, op: str, columns: dict[str, Any], images: Any = None) -> float:
    return seconds(batch, machine, op, columns, images)


def map_columns(vm: int, gpns: npt.NDArray[np.uint64], mfns: npt.NDArray[np.uint64]) -> dict[str, Any]:
    return {"vm": vm, "gpn": gpns, "mfn": mfns, "perm": "rw", "size": 1}


def pointer(array: npt.NDArray[np.uint64]) -> Any:
    return array.ctypes.data_as(U64)
