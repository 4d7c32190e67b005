"""Small invented runs for tests of the wire: no machine behind them, every number chosen."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np

from hsvm_engine.step import FIRST_VM, WAY, Geometry, Step, Ways
from hsvm_engine.wire import COUNTS, FRAME, KEYFRAME, State

GEOMETRY = Geometry(cores=1, l1_sets=2, l1_ways=2, l2_sets=2, l2_ways=3)
FRAMES = 64


def vm(slot: int, name: str) -> dict[str, Any]:
    letter = chr(ord("A") + slot - FIRST_VM)
    return {"slot": slot, "byte": slot, "letter": letter, "name": name, "handle": (1 << 16) + slot}


def way(index: int, slot: int, vpn: int = 0x10, mfn: int = 20, state: int = 0) -> tuple[int, ...]:
    return (index, 1, 2, slot, vpn, mfn, 1, 3, 5, state)


def ways(*rows: tuple[int, ...]) -> Ways:
    return np.array(sorted(rows), WAY)


def counts(factor: int) -> dict[str, int]:
    return {name: factor * (i + 1) for i, name in enumerate(COUNTS)}


def counter_rows(vms: list[dict[str, Any]]) -> dict[str, Any]:
    rows = [{"slot": row["slot"], **counts(10 * row["slot"])} for row in vms]
    return {**{name: sum(row[name] for row in rows) for name in COUNTS}, "vms": rows}


def state(vms: list[dict[str, Any]], frames: dict[int, int], *filled: tuple[int, ...], number: int = 7) -> State:
    """A host of 64 frames: 8 of the hypervisor, 8 of H-SVM, the rest free but for `frames` (frame -> slot)."""
    owners = np.zeros(FRAMES, np.uint16)
    owners[:8], owners[-8:] = 1, 2
    for mfn, slot in frames.items():
        owners[mfn] = slot
    tlb = np.zeros(GEOMETRY.total, WAY)
    tlb["index"] = range(GEOMETRY.total)
    for row in filled:
        tlb[row[0]] = row
    none = np.empty(0, np.uint32)
    return State(GEOMETRY, number, 1_000, owners, tlb, none, counter_rows(vms), vms)


def step(number: int, vms: list[dict[str, Any]], frames: dict[int, int], tlb: Ways | None = None, **more: Any) -> Step:
    changed = np.array(sorted(frames), np.uint32)
    return Step(
        number=number,
        op=1_000 + number,
        changed=changed,
        owner=np.array([frames[int(mfn)] for mfn in changed], np.uint16),
        tlb=ways() if tlb is None else tlb,
        counters=counter_rows(vms),
        vms=vms,
        **more,
    )


def read_map(frame: bytes) -> dict[str, Any]:
    """What a map frame says, read by the rules of the format alone."""
    magic, version, kind, run, seq, base, op, length, checksum = FRAME.unpack_from(frame)
    body = frame[FRAME.size :]
    assert (magic, version, length, checksum) == (0x5648, 1, len(body), zlib.crc32(body))
    shown = {"kind": "keyframe" if kind == KEYFRAME else "delta", "run": run, "seq": seq, "base": base, "op": op}
    count = struct.unpack_from("<I", body)[0]
    if kind == KEYFRAME:
        head = json.loads(body[4 : 4 + count])
        violations, at = _numbers(body, 4 + count)
        cells = list(zlib.decompress(body[at:]))
        assert len(cells) == head["frames"]
        return {**shown, **head, "violations": violations, "cells": cells}
    rows = [list(struct.unpack_from("<IB", body, 4 + 5 * row)) for row in range(count)]
    violations, at = _numbers(body, 4 + 5 * count)
    assert at == len(body)
    return {**shown, "rows": rows, "violations": violations}


def _numbers(body: bytes, at: int) -> tuple[list[int], int]:
    count = struct.unpack_from("<I", body, at)[0]
    return list(struct.unpack_from(f"<{count}I", body, at + 4)), at + 4 + 4 * count
