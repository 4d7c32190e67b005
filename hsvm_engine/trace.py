"""Memory traces of real programs: recording with Valgrind, import of its text, and what is in a trace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from hsvm_engine.tracefile import (
    ADDRESS_BITS,
    BLOCK,
    FETCH,
    MAGIC,
    MAX_REFERENCES,
    READ,
    VERSION,
    WRITE,
    Addresses,
    Kinds,
    TraceError,
    TraceReader,
    write_trace,
)

MAX_LINE = 4_096
PAGE = 4_096
MAX_PAGES = 1 << 20  # different pages that are counted

Watch = Callable[[int], None]

_LINE = re.compile(rb"(I |[ ][LSM]) ([0-9a-f]{1,16}),([0-9]{1,4})")
_KINDS = {b"I ": (FETCH,), b" L": (READ,), b" S": (WRITE,), b" M": (READ, WRITE)}
_REMARKS = (b"==", b"--", b"**")


def read_lackey(
    file: IO[bytes], source: str, *, skip: int = 0, limit: int | None = None
) -> Iterator[tuple[Addresses, Kinds]]:
    """References of Valgrind lackey's text (`--trace-mem=yes`), streamed; M is a read and a write.

    An access that runs over a page border counts once on each page. A text that starts with Valgrind's banner must
    also end with its summary, or it was cut off (unless `limit` was reached before).
    """
    limit = MAX_REFERENCES if limit is None else limit
    addresses, kinds = array("Q"), array("B")
    number = seen = given = 0
    banner = False
    closing = True
    while line := file.readline(MAX_LINE):
        number += 1
        if not line.endswith(b"\n"):
            reason = "the line is too long for a trace" if len(line) == MAX_LINE else "the text ends inside a line"
            raise TraceError(source, f"line {number}", reason)
        match = _LINE.fullmatch(line, 0, len(line) - 1)
        if match is None:
            if line[:2] in _REMARKS:
                banner, closing = banner or seen == 0, True
                continue
            raise TraceError(source, f"line {number}", "neither a reference nor a remark of Valgrind's lackey")
        closing = False
        kind, text, size = match.groups()
        address, length = int(text, 16), int(size)
        if address + length > 1 << ADDRESS_BITS:
            raise TraceError(source, f"line {number}", f"an address has more than {ADDRESS_BITS} bits")
        places = (address,) if address % PAGE + length <= PAGE else (address, (address // PAGE + 1) * PAGE)
        for code in _KINDS[kind]:
            for place in places:
                seen += 1
                if seen > skip:
                    addresses.append(place)
                    kinds.append(code)
        if len(kinds) >= min(BLOCK, limit - given):
            take = limit - given
            yield np.array(addresses, np.uint64)[:take], np.array(kinds, np.uint8)[:take]
            given += min(len(kinds), take)
            addresses, kinds = array("Q"), array("B")
            if given >= limit:
                return
    if banner and not closing:
        raise TraceError(source, f"line {number}", "the text ends without Valgrind's summary: it was cut off")
    if len(kinds):
        yield np.array(addresses, np.uint64), np.array(kinds, np.uint8)
    elif not given:
        reason = f"no reference after the first {skip}" if seen else "no reference in it"
        raise TraceError(source, f"line {max(number, 1)}", reason)


def record(
    program: list[str], output: Path, *, skip: int = 0, limit: int | None = None, watch: Watch | None = None
) -> int:
    """Run a program under Valgrind's lackey and write its references; its own input and output stay its own.

    `watch` is called with the number of references kept so far.
    """
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise TraceError("valgrind", "PATH", "not found; install it to record, or import a text recorded elsewhere")
    if shutil.which(program[0]) is None:
        raise TraceError(program[0], "PATH", "no such program")
    version = subprocess.run([valgrind, "--version"], capture_output=True, text=True).stdout.strip()
    if not version:
        raise TraceError(valgrind, "PATH", "does not tell its version: is it Valgrind?")
    meta = {"program": [Path(program[0]).name, *program[1:]], "recorder": version, "skip": skip}
    reading, writing = os.pipe()
    options = ["--tool=lackey", "--trace-mem=yes", "--basic-counts=no", f"--log-fd={writing}"]
    child = subprocess.Popen([valgrind, *options, *program], pass_fds=[writing], stdout=sys.stderr)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=1 << 20) as text:
            references = read_lackey(text, program[0], skip=skip, limit=limit)
            return write_trace(output, _told(references, watch), meta)
    finally:
        child.kill()  # past the limit nobody reads its trace any more
        child.wait()


def import_trace(
    source: Path, output: Path, *, skip: int = 0, limit: int | None = None, watch: Watch | None = None
) -> int:
    """Write a binary trace from Valgrind lackey's text or another binary trace; returns the number of references.

    `watch` is called with the bytes of the source that were read so far.
    """
    with source.open("rb") as file:
        binary = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not binary:
            meta = {"imported": source.name, "skip": skip}
            references = read_lackey(file, str(source), skip=skip, limit=limit)
        else:
            reader = TraceReader(file, str(source))
            meta, references = {**reader.meta, "skip": skip}, _cut(reader, skip, limit)
        return write_trace(output, _told(references, watch, file.tell), meta)


def _told(
    references: Iterable[tuple[Addresses, Kinds]], watch: Watch | None, done: Callable[[], int] | None = None
) -> Iterator[tuple[Addresses, Kinds]]:
    """The same references; `watch` hears what `done` says, or how many references went by."""
    count = 0
    for addresses, kinds in references:
        count += len(kinds)
        if watch is not None:
            watch(count if done is None else done())
        yield addresses, kinds


def _cut(blocks: Iterable[tuple[Addresses, Kinds]], skip: int, limit: int | None) -> Iterator[tuple[Addresses, Kinds]]:
    at, end = 0, MAX_REFERENCES if limit is None else skip + limit
    for addresses, kinds in blocks:
        part = slice(min(max(skip - at, 0), len(kinds)), max(min(end - at, len(kinds)), 0))
        yield addresses[part], kinds[part]
        at += len(kinds)
    if at <= skip:
        raise TraceError("trace", f"reference {at}", f"nothing is left after the first {skip}")


def info(path: Path) -> dict[str, Any]:
    """What is in a trace file, every block read and checked. `pages` is None if there are more than `MAX_PAGES`."""
    with path.open("rb") as file:
        reader = TraceReader(file, str(path))
        counts = np.zeros(3, np.int64)
        pages: Addresses | None = np.empty(0, np.uint64)
        for addresses, kinds in reader:
            counts += np.bincount(kinds, minlength=3)
            if pages is not None:
                pages = np.union1d(pages, addresses // np.uint64(PAGE))
                pages = pages if len(pages) <= MAX_PAGES else None
    names = ("reads", "writes", "fetches")
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "version": VERSION,
        "references": reader.references,
        **dict(zip(names, counts.tolist(), strict=True)),
        "pages": None if pages is None else len(pages),
        "meta": reader.meta,
    }
