"""What commands share: parsers with an example, printed JSON, progress, and the reading of machines and operations."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.core.machine import Machine
from hsvm_engine.jsontext import TextError, last_key, load_json

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
MACHINE_FIELDS = (
    *("frames", "hypervisor_frames", "protected_frames", "cores"),
    *("architecture", "seed", "options", "tlb", "costs"),
)
MAX_DOCUMENT = 1 << 20  # bytes of a machine or scenario file
MAX_LINE = 1 << 23  # bytes of one operation; the largest image in it has about 1,000 pages
WAIT = 0.1  # seconds between two rewritings of the progress line


# Parsers


def command(
    subparsers: Any, name: str, purpose: str, run: Callable[[argparse.Namespace], int] | None, example: str
) -> argparse.ArgumentParser:
    """A parser with one sentence of purpose and an example that can be typed as it stands."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog="example:\n" + "\n".join(f"  {line}" for line in example.splitlines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if run is not None:
        parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse._ActionsContainer, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=what)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the machine and of the secret (0)")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="switch off one check")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="one option of the machine")


def add_architectures(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--architecture",
        action="extend",
        nargs="+",
        choices=tuple(ARCHITECTURES),
        metavar="NAME",
        help=f"only these rows, of {', '.join(ARCHITECTURES)}",
    )


def machine_options(args: argparse.Namespace) -> dict[str, Any]:
    """`--option` and `--skip` as the machine's options: a value is an integer, a JSON object or list, or a word."""
    options: dict[str, Any] = {}
    for text in args.option:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--option {text}: write KEY=VALUE")
        if key in options:
            raise ValueError(f"--option {key}: given twice")
        options[key] = _option(key, value)
    if args.skip:
        if "skip" in options:
            raise ValueError("--option skip: given twice, as --skip too")
        options["skip"] = args.skip
    return options


def _option(key: str, value: str) -> Any:
    if value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return load_json(value, file=f"--option {key}") if value[:1] in ("{", "[") else value


# Output


def print_json(value: object) -> None:
    print(json.dumps(value, separators=(",", ":")))


class Progress:
    """One line on standard error that is rewritten while work goes on, and only if that is a terminal."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total = what, total
        self._shown = bool(sys.stderr and sys.stderr.isatty())
        self._next = 0.0

    def __enter__(self) -> Progress:
        return self

    def show(self, done: int) -> None:
        """Say how much is done, of how much if that is known."""
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + WAIT
            rest = "" if self.total is None else f" of {self.total:,}"
            sys.stderr.write(f"\r\x1b[K{self.what}: {done:,}{rest}")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self._shown and self._next:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# Input


def read_text(path: Path, limit: int = MAX_DOCUMENT) -> str:
    """A whole UTF-8 file of at most `limit` bytes, or a refusal with its place."""
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        line, column = _place(raw, limit)
        raise TextError(str(path), line, column, f"longer than {limit} bytes")
    return _decode(raw, str(path), 1)


def _decode(raw: bytes, file: str, first_line: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line, column = _place(raw, error.start)
        raise TextError(file, first_line + line - 1, column, "not UTF-8") from None


def _place(raw: bytes, at: int) -> tuple[int, int]:
    return raw.count(b"\n", 0, at) + 1, at - (raw.rfind(b"\n", 0, at) + 1) + 1


def read_machine(path: Path) -> Machine:
    """The machine that a JSON file describes; what is wrong with it is told with the place of its key."""
    text = read_text(path)
    value = load_json(text, file=str(path))
    if not isinstance(value, dict):
        raise TextError(str(path), 1, 1, "a machine must be an object")
    for name in value:
        if name not in MACHINE_FIELDS:
            raise TextError(str(path), *last_key(text, json.dumps(name)), f"unknown field {json.dumps(name)}")
    try:
        return Machine(**value)
    except (TypeError, ValueError) as error:
        name = str(error).partition(":")[0].partition(",")[0].rpartition(".")[2]
        raise TextError(str(path), *last_key(text, json.dumps(name)), str(error)) from None


def read_operations(path: Path) -> Iterator[tuple[int, Any]]:
    """Every operation of a file with its line, once all lines are known to be good; holds one line at a time."""
    with path.open("rb") as file:
        if file.seekable():
            for _ in _lines(file, str(path)):
                pass
            file.seek(0)
            yield from _lines(file, str(path))
            return
        with tempfile.TemporaryFile() as copy:  # a pipe is read once
            for _ in _lines(file, str(path), copy):
                pass
            copy.seek(0)
            yield from _lines(copy, str(path))


def _lines(file: IO[bytes], name: str, copy: IO[bytes] | None = None) -> Iterator[tuple[int, Any]]:
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if copy is not None:
            copy.write(line)
        if len(line) > MAX_LINE:
            raise TextError(name, number, MAX_LINE + 1, f"a line of more than {MAX_LINE} bytes")
        if line.strip():
            yield number, load_json(_decode(line, name, number), file=name, first_line=number)
