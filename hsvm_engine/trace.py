"""Memory traces of real programs: recording with Valgrind, import of its text, and the commands for both."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
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
    SUFFIX,
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


def record(program: list[str], output: Path, *, skip: int = 0, limit: int | None = None) -> int:
    """Run a program under Valgrind's lackey and write its references; its own input and output stay its own."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise TraceError("valgrind", "PATH", "not found; install it to record, or import a text recorded elsewhere")
    if shutil.which(program[0]) is None:
        raise TraceError(program[0], "PATH", "no such program")
    version = subprocess.run([valgrind, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    meta = {"program": [Path(program[0]).name, *program[1:]], "recorder": version, "skip": skip}
    reading, writing = os.pipe()
    options = ["--tool=lackey", "--trace-mem=yes", "--basic-counts=no", f"--log-fd={writing}"]
    child = subprocess.Popen([valgrind, *options, *program], pass_fds=[writing], stdout=sys.stderr)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb", buffering=1 << 20) as text:
            return write_trace(output, read_lackey(text, program[0], skip=skip, limit=limit), meta)
    finally:
        child.kill()  # past the limit nobody reads its trace any more
        child.wait()


# --- command line --------------------------------------------------------------------------------------------------


def _import(source: Path, output: Path, *, skip: int, limit: int | None) -> int:
    with source.open("rb") as file:
        binary = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        if not binary:
            meta = {"imported": source.name, "skip": skip}
            return write_trace(output, read_lackey(file, str(source), skip=skip, limit=limit), meta)
        reader = TraceReader(file, str(source))
        return write_trace(output, _cut(reader, skip, limit), {**reader.meta, "skip": skip})


def _cut(blocks: Iterable[tuple[Addresses, Kinds]], skip: int, limit: int | None) -> Iterator[tuple[Addresses, Kinds]]:
    at, end = 0, MAX_REFERENCES if limit is None else skip + limit
    for addresses, kinds in blocks:
        part = slice(min(max(skip - at, 0), len(kinds)), max(min(end - at, len(kinds)), 0))
        yield addresses[part], kinds[part]
        at += len(kinds)
    if at <= skip:
        raise TraceError("trace", f"reference {at}", f"nothing is left after the first {skip}")


def info(path: Path) -> dict[str, Any]:
    """What is in a trace file, every block read and checked."""
    with path.open("rb") as file:
        reader = TraceReader(file, str(path))
        counts = np.zeros(3, np.int64)
        pages: set[int] = set()
        for addresses, kinds in reader:
            counts += np.bincount(kinds, minlength=3)
            pages.update(np.unique(addresses // np.uint64(PAGE)).tolist())
    names = ("reads", "writes", "fetches")
    return {
        "file": path.name,
        "bytes": path.stat().st_size,
        "version": VERSION,
        "references": reader.references,
        **dict(zip(names, counts.tolist(), strict=True)),
        "pages": len(pages),
        "meta": reader.meta,
    }


def _count(text: str, least: int = 0) -> int:
    value = int(text)
    if not least <= value <= MAX_REFERENCES:
        raise argparse.ArgumentTypeError(f"must be {least} to {MAX_REFERENCES}")
    return value


def _run(args: argparse.Namespace) -> int:
    """Exit 0 with one JSON object on standard output, or 2 with one line on standard error."""
    try:
        if args.action == "info":
            result = info(args.file)
        else:
            if args.action == "record":
                record(args.program, args.output, skip=args.skip, limit=args.limit)
            else:
                args.output = args.output or args.file.with_suffix(SUFFIX)
                _import(args.file, args.output, skip=args.skip, limit=args.limit)
            result = info(args.output)
    except TraceError as error:
        print(f"hsvm: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"hsvm: {error.filename or 'trace'}: {error.strerror}", file=sys.stderr)
        return 2
    print(json.dumps(result, sort_keys=True))
    return 0


def add_commands(subparsers: Any) -> None:
    """Add `trace record|import|info`; each sets `run`: parsed arguments -> exit code."""
    actions = subparsers.add_parser("trace", help="record, import and inspect memory traces").add_subparsers(
        dest="action", required=True
    )
    recording = actions.add_parser("record", help="run a program under Valgrind and keep its memory references")
    recording.add_argument("-o", "--output", type=Path, default=Path(f"program{SUFFIX}"))
    recording.add_argument("program", nargs="+", metavar="PROGRAM", help="after --: the program and its arguments")
    importing = actions.add_parser("import", help="convert Valgrind lackey's text, or check and copy a binary trace")
    importing.add_argument("file", type=Path)
    importing.add_argument("-o", "--output", type=Path, default=None)
    for parser in (recording, importing):
        parser.add_argument("--skip", type=_count, default=0, help="references to leave out at the start")
        parser.add_argument("--limit", type=partial(_count, least=1), default=None, help="references to keep at most")
    actions.add_parser("info", help="check a binary trace and count what is in it").add_argument("file", type=Path)
    for parser in actions.choices.values():
        parser.set_defaults(run=_run)
