"""Steps as bytes for the stream, and the frames that each viewer gets, made from one state per run.

A frame is made for a *view*: the operator's (`visible` is None) sees everything; a tenant's sees the VMs in `visible`
(their slots in the run, those of stopped VMs included) and one grey value for all else. In a tenant's frames every
number is made from its own VMs alone: bytes and letters are counted among them, `op` counts their references.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hsvm_engine.step import FIRST_VM, STATES, WAY, Frames, Geometry, Slots, Step, Ways, permission

if TYPE_CHECKING:
    from hsvm_engine.play import Player

Visible = frozenset[int] | None

STEP_MAGIC, STATE_MAGIC = b"HSVS", b"HSVK"
ENVELOPE = struct.Struct("<4sHHIII")  # magic, version, reserved, bytes of the body plain, packed, CRC-32 of the packed
ENVELOPE_VERSION = 1
MAX_BODY = 1 << 30

FRAME = struct.Struct("<HBBIIIQII")  # magic, version, kind, run, seq, base, op, length, CRC-32 of the body
FRAME_MAGIC, FRAME_VERSION = 0x5648, 1
KEYFRAME, DELTA = 1, 2
OTHER = 254
DELTA_ROW = np.dtype([("mfn", "<u4"), ("byte", "u1")])
FIXED = (("free", 0), ("hypervisor", 1), ("hsvm", 2))
AT_ONCE = 1 << 16
COUNTS = ("references", "l1", "l2", "miss", "faults")


class WireError(ValueError):
    """Bytes that are not a whole, undamaged message of this version; says why."""


# --- steps and states as bytes -------------------------------------------------------------------------------------


def encode(step: Step) -> bytes:
    """A step as bytes; equal steps give equal bytes."""
    head = {
        "number": step.number,
        "op": step.op,
        "counters": step.counters,
        "events": step.events,
        "vms": step.vms,
    }
    columns = (step.changed.astype("<u4"), step.owner.astype("<u2"), step.tlb, step.violations.astype("<u4"))
    return seal(STEP_MAGIC, head, columns)


def decode(data: bytes) -> Step:
    """The step that `encode` was given, or WireError."""
    head, columns = unseal(STEP_MAGIC, data, ("<u4", "<u2", WAY, "<u4"))
    changed, owner, tlb, violations = columns
    if len(changed) != len(owner):
        raise WireError("as many owners as frames were expected")
    try:
        return Step(changed=changed, owner=owner, tlb=tlb, violations=violations, **head)
    except TypeError as error:
        raise WireError(f"fields of a step: {error}") from None


def seal(magic: bytes, head: dict[str, Any], columns: tuple[npt.NDArray[Any], ...]) -> bytes:
    """A JSON object and columns as one versioned, compressed and checksummed piece of bytes."""
    text = json.dumps(head, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    parts = [text, *(np.ascontiguousarray(column).tobytes() for column in columns)]
    plain = b"".join(struct.pack("<I", len(part)) + part for part in parts)
    packed = zlib.compress(plain, 1)
    return ENVELOPE.pack(magic, ENVELOPE_VERSION, 0, len(plain), len(packed), zlib.crc32(packed)) + packed


def unseal(
    magic: bytes, data: bytes, types: tuple[npt.DTypeLike, ...]
) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
    """What `seal` was given, columns of the types given here, or WireError."""
    if len(data) < ENVELOPE.size:
        raise WireError("shorter than its header")
    found, version, _, length, packed_length, checksum = ENVELOPE.unpack_from(data)
    packed = data[ENVELOPE.size :]
    if found != magic:
        raise WireError("the magic bytes are those of something else")
    if version != ENVELOPE_VERSION:
        raise WireError(f"version {version} is not known, only {ENVELOPE_VERSION}")
    if len(packed) != packed_length or zlib.crc32(packed) != checksum:
        raise WireError("the body is damaged")
    if length > MAX_BODY:
        raise WireError("the body is too long")
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(packed, length + 1)
    except zlib.error as error:
        raise WireError(f"the body does not inflate: {error}") from None
    if len(plain) != length or not inflater.eof:
        raise WireError("the body inflates to another length")
    parts = _split(plain, 1 + len(types))
    try:
        head = json.loads(parts[0])
        columns = [np.frombuffer(part, kind) for part, kind in zip(parts[1:], types, strict=True)]
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body cannot be read: {error}") from None
    if not isinstance(head, dict):
        raise WireError("the head is not an object")
    return head, columns


def _split(plain: bytes, count: int) -> list[bytes]:
    parts, at = [], 0
    for _ in range(count):
        length = int.from_bytes(plain[at : at + 4], "little")
        parts.append(plain[at + 4 : at + 4 + length])
        at += 4 + length
    if at != len(plain):
        raise WireError("the parts of the body do not fill it")
    return parts


# --- state and change ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """What lies between two states of a run: where they differ, and what stood there in the earlier one."""

    base: int
    seq: int
    frames: Frames
    owners: Slots  # before
    ways: Ways  # before
    vms: list[dict[str, Any]]  # before

    def then(self, later: Change) -> Change:
        """Both changes as one. The later one must begin where this one ends."""
        if later.base != self.seq:
            raise ValueError(f"a change from {later.base} does not follow one to {self.seq}")
        frames, first = np.unique(np.concatenate((self.frames, later.frames)), return_index=True)
        owners = np.concatenate((self.owners, later.owners))[first]
        ways = np.concatenate((self.ways, later.ways))
        _, first = np.unique(ways["index"], return_index=True)
        return Change(self.base, later.seq, frames, owners, ways[first], self.vms)


@dataclass
class State:
    """A run as onlookers know it: the newest owners, TLBs, counters and VMs. Changes only by `apply`."""

    geometry: Geometry
    number: int
    op: int
    owners: Slots
    tlb: Ways
    violations: Frames
    counters: dict[str, Any]
    vms: list[dict[str, Any]]

    @staticmethod
    def from_player(player: Player) -> State:
        """The state after the player's last step; commands given since then come with the next one."""
        return player.state()

    def apply(self, step: Step) -> Change:
        """Go on by the next step. A step that does not follow is refused with ValueError and changes nothing."""
        if step.number != self.number + 1:
            raise ValueError(f"step {step.number} does not follow {self.number}")
        if len(step.changed) and int(step.changed[-1]) >= len(self.owners):
            raise ValueError(f"step {step.number} names a frame that the host does not have")
        ways = step.tlb["index"].astype(np.uint32)
        if len(ways) and int(ways[-1]) >= len(self.tlb):
            raise ValueError(f"step {step.number} names a way that the TLBs do not have")
        owners = self.owners[step.changed]
        change = Change(self.number, step.number, step.changed, owners, self.tlb[ways], self.vms)
        self.owners[step.changed] = step.owner
        self.tlb[ways] = step.tlb
        self.number, self.op, self.violations = step.number, step.op, step.violations
        self.counters, self.vms = step.counters, step.vms
        return change

    def to_bytes(self) -> bytes:
        """The whole state as bytes, for the newest keyframe of a run."""
        head = {
            "geometry": self.geometry.to_dict(),
            "number": self.number,
            "op": self.op,
            "counters": self.counters,
            "vms": self.vms,
        }
        return seal(STATE_MAGIC, head, (self.owners.astype("<u2"), self.tlb, self.violations.astype("<u4")))

    @staticmethod
    def from_bytes(data: bytes) -> State:
        """The state that `to_bytes` gave, or WireError."""
        head, (owners, tlb, violations) = unseal(STATE_MAGIC, data, ("<u2", WAY, "<u4"))
        try:
            geometry = Geometry.from_dict(head.pop("geometry"))
            state = State(geometry=geometry, owners=owners.copy(), tlb=tlb.copy(), violations=violations, **head)
        except (KeyError, TypeError) as error:
            raise WireError(f"fields of a state: {error}") from None
        if len(tlb) != geometry.total:
            raise WireError("the TLB does not have the size of its geometry")
        return state


# --- frames --------------------------------------------------------------------------------------------------------


def _runs(cells: bytes) -> bytes:
    """Deflated as runs of one owner, which is what a map is made of: faster and smaller than a search for patterns."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    return packer.compress(cells) + packer.flush()


def map_keyframe(state: State, run: int, visible: Visible = None) -> bytes:
    """The whole ownership map of a view."""
    owners = {"frames": len(state.owners), "owners": _rows(state.vms, visible)}
    text = json.dumps(owners, separators=(",", ":"), ensure_ascii=False).encode()
    cells = _looked_up(_bytes_of(state.vms, visible), state.owners)
    body = struct.pack("<I", len(text)) + text + _violations(state, visible) + _runs(cells.tobytes())
    return _frame(KEYFRAME, run, state.number, state.number, _op(state, visible), body)


def map_delta(state: State, run: int, change: Change, visible: Visible = None) -> bytes | None:
    """What changed in a view's map; None if the owners themselves changed, which takes a keyframe."""
    _ends_at(state, change)
    if _rows(state.vms, visible) != _rows(change.vms, visible):
        return None
    table = _bytes_of(state.vms, visible)
    before = _bytes_of(change.vms, visible)[change.owners]
    after = table[state.owners[change.frames]]
    differs = before != after
    rows = np.empty(int(differs.sum()), DELTA_ROW)
    rows["mfn"], rows["byte"] = change.frames[differs], after[differs]
    body = struct.pack("<I", len(rows)) + rows.tobytes() + _violations(state, visible)
    return _frame(DELTA, run, state.number, change.base, _op(state, visible), body)


def tlb_keyframe(state: State, run: int, visible: Visible = None) -> str:
    """Every filled way that a view may see."""
    ways = _aged(state.tlb, visible)
    return _text(state, run, "tlb", state.number, _entries(state, ways[_shown(ways, visible)], visible), visible)


def tlb_delta(state: State, run: int, change: Change, visible: Visible = None) -> str:
    """The ways of a view that changed; a row with only its index is now empty, or no longer the viewer's."""
    _ends_at(state, change)
    index = change.ways["index"]
    before, after = _aged(change.ways, visible), _aged(state.tlb[index], visible)
    was, shown = _shown(before, visible), _shown(after, visible)
    data = _entries(state, after[shown & (before != after)], visible)
    data["entries"] += [[emptied] for emptied in index[was & ~shown].tolist()]
    data["entries"].sort(key=lambda entry: entry[0])
    return _text(state, run, "tlb", change.base, data, visible, kind="delta")


def counters(state: State, run: int, visible: Visible = None) -> str:
    """The counters of a view: the machine's for the operator, sums over their own VMs for tenants."""
    frames = _pages(state.owners)
    by_slot = {row["slot"]: row for row in state.counters["vms"]}
    table = _bytes_of(state.vms, visible)
    vms = [
        {
            "name": row["name"],
            "letter": row["letter"],
            "byte": int(table[row["slot"]]),
            "frames": int(frames[row["slot"]]) if row["slot"] < len(frames) else 0,
            **{name: by_slot[row["slot"]][name] for name in COUNTS},
        }
        for row in _own(state.vms, visible)
    ]
    owners = {row["name"]: row["frames"] for row in vms}
    if visible is None:
        totals = {name: state.counters[name] for name in COUNTS}
        owners = {**{name: int(frames[slot]) for name, slot in FIXED}, **owners}
    else:
        totals = {name: sum(row[name] for row in vms) for name in COUNTS}
        owners["other"] = len(state.owners) - sum(owners.values())
    data = {**totals, "op": _op(state, visible), "vms": vms, "owners": owners}
    return _text(state, run, "counters", state.number, data, visible)


def _looked_up(table: npt.NDArray[np.uint8], owners: Slots) -> npt.NDArray[np.uint8]:
    """`table[owners]`, a part at a time: what numpy makes of 16.7 million owners to index with them fits no cache."""
    found = np.empty(len(owners), table.dtype)
    for at in range(0, len(owners), AT_ONCE):
        np.take(table, owners[at : at + AT_ONCE], out=found[at : at + AT_ONCE], mode="clip")
    return found


def _pages(owners: Slots) -> npt.NDArray[np.int64]:
    """How many frames each slot has. Owners come in runs, so runs are counted and not frames."""
    starts = np.flatnonzero(np.concatenate(([True], owners[1:] != owners[:-1])))
    lengths = np.diff(starts, append=len(owners))
    return np.bincount(owners[starts], weights=lengths, minlength=FIRST_VM).astype(np.int64)


def _own(vms: list[dict[str, Any]], visible: Visible) -> list[dict[str, Any]]:
    """The live VMs of a view, with the letters of that view: letters and bytes count only what the viewer may know."""
    if visible is None:
        return vms
    rank = {slot: number for number, slot in enumerate(sorted(visible))}
    return [{**row, "letter": letter(rank[row["slot"]])} for row in vms if row["slot"] in rank]


def letter(rank: int) -> str:
    """A for the first VM of a view, and so on; after Z it begins again."""
    return chr(ord("A") + rank % 26)


def _rows(vms: list[dict[str, Any]], visible: Visible) -> list[dict[str, Any]]:
    table = _bytes_of(vms, visible)
    rows = [{"byte": byte, "owner": name, "name": name, "letter": ""} for name, byte in FIXED if visible is None]
    for row in _own(vms, visible):
        owner = f"vm:{row['handle'] if visible is None else row['name']}"  # a handle counts the host's VMs
        rows.append({"byte": int(table[row["slot"]]), "owner": owner, "name": row["name"], "letter": row["letter"]})
    if visible is not None:
        rows.append({"byte": OTHER, "owner": "other", "name": "other", "letter": ""})
    return rows


def _bytes_of(vms: list[dict[str, Any]], visible: Visible) -> npt.NDArray[np.uint8]:
    """The owner byte of every slot in a view."""
    table = np.full(1 << 16, OTHER, np.uint8)
    if visible is None:
        table[:FIRST_VM] = range(FIRST_VM)
        for row in vms:
            table[row["slot"]] = row["byte"]
    else:
        for rank, slot in enumerate(sorted(visible)):
            table[slot] = FIRST_VM + rank % (OTHER - FIRST_VM)
    return table


def _violations(state: State, visible: Visible) -> bytes:
    found = state.violations
    if visible is not None:
        found = found[np.isin(state.owners[found], sorted(visible))]
    return struct.pack("<I", len(found)) + found.astype("<u4").tobytes()


def _op(state: State, visible: Visible) -> int:
    if visible is None:
        return state.op
    return sum(row["references"] for row in state.counters["vms"] if row["slot"] in visible)


def _aged(ways: Ways, visible: Visible) -> Ways:
    """The ways as a view may see them: an age counts the evictions of a set by everybody, so tenants see 0."""
    if visible is None:
        return ways
    ways = ways.copy()
    ways["age"] = 0
    return ways


def _shown(ways: Ways, visible: Visible) -> npt.NDArray[np.bool_]:
    filled: npt.NDArray[np.bool_] = ways["valid"] == 1
    return filled if visible is None else filled & np.isin(ways["slot"], sorted(visible))


def _entries(state: State, ways: Ways, visible: Visible) -> dict[str, Any]:
    bytes_of = _bytes_of(state.vms, visible)[ways["slot"]].tolist()
    names = ("index", "vpn", "size", "perm", "age", "state", "dim", "mfn")
    columns = [ways[name].tolist() for name in names]
    entries = [
        [index, hex(vpn), byte, size, permission(perm), age, STATES[condition], dim, mfn]
        for byte, index, vpn, size, perm, age, condition, dim, mfn in zip(bytes_of, *columns, strict=True)
    ]
    return {"geometry": state.geometry.to_dict(), "entries": entries}


def _ends_at(state: State, change: Change) -> None:
    if change.seq != state.number:
        raise ValueError(f"a change to {change.seq} does not end at the state's {state.number}")


def _frame(kind: int, run: int, seq: int, base: int, op: int, body: bytes) -> bytes:
    head = FRAME.pack(FRAME_MAGIC, FRAME_VERSION, kind, run, seq, base, op, len(body), zlib.crc32(body))
    return head + body


def _text(
    state: State, run: int, topic: str, base: int, data: dict[str, Any], visible: Visible, kind: str = "keyframe"
) -> str:
    message = {
        "topic": f"run/{run}/{topic}",
        "kind": kind,
        "seq": state.number,
        "base": base,
        "op": _op(state, visible),
        "data": data,
    }
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
