"""The compact binary form of a memory trace: written in one piece, read block by block, every byte checked.

Version 1, little endian:

    magic 8s "HSVMTRCE" | version u32 | length of meta u32 | references u64 | blocks u32 | checksum u32
    meta: a JSON object in UTF-8 (how the trace was made); the checksum is the CRC-32 of all before it, and of meta
    per block:  references u32 | length u32 | CRC-32 of body u32 | body

A body is zlib data of three columns: one kind byte per reference (0 read, 1 write, 2 fetch); the fetch addresses; the
other addresses. Addresses are differences to the one before in the same column (the first to 0), zigzag, as LEB128.
Every block but the last holds BLOCK references and can be read without the others.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Addresses = npt.NDArray[np.uint64]
Kinds = npt.NDArray[np.uint8]

READ, WRITE, FETCH = 0, 1, 2
MAGIC = b"HSVMTRCE"
VERSION = 1
HEADER = struct.Struct("<8sIIQII")
BLOCK_HEADER = struct.Struct("<III")
BLOCK = 65_536
MAX_META = 65_536
MAX_REFERENCES = 1 << 28
MAX_DIFFERENCE_BYTES = 7  # zigzag differences of 48-bit addresses have 49 bits
ADDRESS_BITS = 48
SUFFIX = ".hsvmtrace"
FOLDER = Path(__file__).parent / "traces"


class TraceError(ValueError):
    """The input is not a whole, undamaged trace; says where and why."""

    def __init__(self, source: str, place: str, reason: str) -> None:
        super().__init__(f"{source}: {place}: {reason}")
        self.source, self.place, self.reason = source, place, reason


@dataclass(frozen=True)
class Trace:
    """The references of one program run, in order; `digest` is the SHA-256 of both columns."""

    addresses: Addresses
    kinds: Kinds
    meta: dict[str, Any]
    digest: str

    def __len__(self) -> int:
        return len(self.kinds)


# --- columns <-> bytes ---------------------------------------------------------------------------------------------


def _pack(addresses: Addresses) -> bytes:
    differences = addresses.astype(np.int64)
    differences[1:] -= differences[:-1].copy()
    zigzag = ((differences << 1) ^ (differences >> 63)).astype(np.uint64)
    sizes = np.ones(len(zigzag), np.int64)
    for byte in range(1, MAX_DIFFERENCE_BYTES):
        sizes += zigzag >= np.uint64(1 << (7 * byte))
    ends = np.cumsum(sizes)
    packed = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    for byte in range(MAX_DIFFERENCE_BYTES):
        rows = sizes > byte
        low = (zigzag[rows] >> np.uint64(7 * byte)).astype(np.uint8) & np.uint8(127)
        more = (sizes[rows] > byte + 1).astype(np.uint8) << np.uint8(7)
        packed[(ends - sizes)[rows] + byte] = low | more
    return packed.tobytes()


def _unpack(packed: npt.NDArray[np.uint8], count: int) -> tuple[Addresses, int]:
    """The first `count` addresses of a column and how many bytes they took. ValueError names what is wrong."""
    ends = np.flatnonzero(packed < 128)[:count]
    if len(ends) < count:
        raise ValueError("an address column ends too early")
    if count == 0:
        return np.empty(0, np.uint64), 0
    starts = np.concatenate((np.zeros(1, ends.dtype), ends[:-1] + 1))
    sizes = ends - starts + 1
    longest = int(sizes.max())
    if longest > MAX_DIFFERENCE_BYTES:
        raise ValueError("an address difference is too long")
    zigzag = np.zeros(count, np.uint64)
    for byte in range(longest):
        rows = sizes > byte
        zigzag[rows] |= (packed[starts[rows] + byte] & np.uint8(127)).astype(np.uint64) << np.uint64(7 * byte)
    differences = (zigzag >> np.uint64(1)).astype(np.int64) ^ -(zigzag & np.uint64(1)).astype(np.int64)
    addresses = np.cumsum(differences)
    if int(addresses.min()) < 0 or int(addresses.max()) >= 1 << ADDRESS_BITS:
        raise ValueError(f"an address has more than {ADDRESS_BITS} bits")
    return addresses.astype(np.uint64), int(ends[-1]) + 1


def _encode_block(addresses: Addresses, kinds: Kinds) -> bytes:
    fetch = kinds == FETCH
    body = zlib.compress(kinds.tobytes() + _pack(addresses[fetch]) + _pack(addresses[~fetch]), 9)
    return BLOCK_HEADER.pack(len(kinds), len(body), zlib.crc32(body)) + body


def _decode_block(body: bytes, count: int) -> tuple[Addresses, Kinds]:
    limit = count * (1 + MAX_DIFFERENCE_BYTES)
    inflater = zlib.decompressobj()
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise ValueError(f"the compressed data is damaged ({error})") from None
    if len(plain) > limit or inflater.unconsumed_tail:
        raise ValueError("the block inflates to more than its references can need")
    if not inflater.eof or inflater.unused_data:
        raise ValueError("the compressed data does not end where the block ends")
    columns = np.frombuffer(plain, np.uint8)
    kinds = columns[:count].copy()
    if len(kinds) < count or (count and int(kinds.max()) > FETCH):
        raise ValueError("the kinds are not those of a trace")
    fetch = kinds == FETCH
    rest = columns[count:]
    addresses = np.empty(count, np.uint64)
    addresses[fetch], used = _unpack(rest, int(fetch.sum()))
    addresses[~fetch], more = _unpack(rest[used:], int((~fetch).sum()))
    if used + more != len(rest):
        raise ValueError("the block holds more than its references")
    return addresses, kinds


# --- the binary form -----------------------------------------------------------------------------------------------


def write_trace(path: Path, references: Iterable[tuple[Addresses, Kinds]], meta: dict[str, Any]) -> int:
    """Write a trace file in one piece or not at all; returns the number of references."""
    text = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode()
    if len(text) > MAX_META:
        raise ValueError(f"meta has {len(text)} bytes, at most {MAX_META} are allowed")
    count = blocks = 0
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(bytes(HEADER.size) + text)
            for addresses, kinds in _regroup(references):
                out.write(_encode_block(addresses, kinds))
                count, blocks = count + len(kinds), blocks + 1
            start = HEADER.pack(MAGIC, VERSION, len(text), count, blocks, 0)[:-4]
            out.seek(0)
            out.write(start + struct.pack("<I", zlib.crc32(start + text)))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return count


def _regroup(references: Iterable[tuple[Addresses, Kinds]]) -> Iterator[tuple[Addresses, Kinds]]:
    addresses, kinds = np.empty(0, np.uint64), np.empty(0, np.uint8)
    for more_addresses, more_kinds in references:
        addresses, kinds = np.concatenate((addresses, more_addresses)), np.concatenate((kinds, more_kinds))
        while len(kinds) >= BLOCK:
            yield addresses[:BLOCK], kinds[:BLOCK]
            addresses, kinds = addresses[BLOCK:], kinds[BLOCK:]
    if len(kinds):
        yield addresses, kinds


class TraceReader:
    """Reads a binary trace block by block; holds one block in memory and believes no length it has not checked."""

    def __init__(self, file: IO[bytes], source: str) -> None:
        self._file, self._source, self._at = file, source, 0
        start = self._take(HEADER.size, "the header")
        magic, version, meta_length, self.references, self.blocks, checksum = HEADER.unpack(start)
        if magic != MAGIC:
            raise self._error(0, "not a binary trace (the magic bytes are missing)")
        if version != VERSION:
            raise self._error(8, f"version {version} is not known, only {VERSION}")
        if meta_length > MAX_META:
            raise self._error(12, f"{meta_length} bytes of meta, at most {MAX_META} are allowed")
        if not 1 <= self.references <= MAX_REFERENCES:
            raise self._error(16, f"{self.references} references, 1 to {MAX_REFERENCES} are allowed")
        if self.blocks != -(-self.references // BLOCK):
            raise self._error(24, f"{self.blocks} blocks do not hold {self.references} references")
        text = self._take(meta_length, "meta")
        if zlib.crc32(start[:-4] + text) != checksum:
            raise self._error(28, "the header's checksum is wrong")
        try:
            self.meta = json.loads(text)
        except (ValueError, RecursionError):
            raise self._error(HEADER.size, "meta is not JSON") from None
        if not isinstance(self.meta, dict):
            raise self._error(HEADER.size, "meta is not a JSON object")

    def __iter__(self) -> Iterator[tuple[Addresses, Kinds]]:
        left = self.references
        for number in range(1, self.blocks + 1):
            what, place = f"block {number} of {self.blocks}", self._at
            count, length, checksum = BLOCK_HEADER.unpack(self._take(BLOCK_HEADER.size, what))
            if count != min(left, BLOCK):
                raise self._error(place, f"{what} has {count} references instead of {min(left, BLOCK)}")
            if length > count * (1 + MAX_DIFFERENCE_BYTES) + 1_024:
                raise self._error(place + 4, f"{what} claims {length} bytes")
            body = self._take(length, what)
            if zlib.crc32(body) != checksum:
                raise self._error(place + 8, f"the checksum of {what} is wrong")
            try:
                block = _decode_block(body, count)
            except ValueError as error:
                raise self._error(place + BLOCK_HEADER.size, f"{what}: {error}") from None
            left -= count
            yield block
        if self._file.read(1):
            raise self._error(self._at, "bytes after the last block")

    def _take(self, length: int, what: str) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise self._error(self._at + len(data), f"the file ends inside {what}")
        self._at += length
        return data

    def _error(self, at: int, reason: str) -> TraceError:
        return TraceError(self._source, f"byte {at}", reason)


def load_trace(path: Path) -> Trace:
    """The whole trace in memory, read-only; TraceError if a single byte of the file is wrong."""
    with path.open("rb") as file:
        reader = TraceReader(file, path.name)
        addresses, kinds = zip(*reader, strict=True)  # room is made for what was read, not for what the header claims
    return make_trace(np.concatenate(addresses), np.concatenate(kinds), reader.meta)


def make_trace(addresses: Addresses, kinds: Kinds, meta: dict[str, Any] | None = None) -> Trace:
    """A trace of two columns of equal length, which nobody may change afterwards."""
    addresses, kinds = np.ascontiguousarray(addresses, "<u8"), np.ascontiguousarray(kinds, np.uint8)
    if len(addresses) != len(kinds) or not len(kinds):
        raise ValueError("a trace has as many kinds as addresses, and at least one")
    addresses.flags.writeable = kinds.flags.writeable = False
    digest = hashlib.sha256(addresses.tobytes() + kinds.tobytes()).hexdigest()
    return Trace(addresses, kinds, meta or {}, digest)


def builtin_traces() -> list[str]:
    """Names of the traces that come with the engine, sorted."""
    return sorted(path.name.removesuffix(SUFFIX) for path in FOLDER.glob(f"*{SUFFIX}"))


@functools.cache
def builtin_trace(name: str) -> Trace:
    """A trace that comes with the engine, loaded once per process. A name is never a path."""
    if name not in builtin_traces():
        raise ValueError(f"no trace is named {name!r}, only {', '.join(builtin_traces())}")
    return load_trace(FOLDER / f"{name}{SUFFIX}")
