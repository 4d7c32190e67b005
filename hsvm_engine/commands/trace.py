"""`hsvm trace record|import|info`: memory traces of real programs."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from hsvm_engine.commands.common import DONE, Progress, add_json, command
from hsvm_engine.trace import import_trace, info, record
from hsvm_engine.tracefile import FOLDER, MAX_REFERENCES, SUFFIX, builtin_traces

LACKEY_EXAMPLE = "printf ' L 1ffeffe7e,8\\n S 1ffeffe80,4\\n' > lackey.txt\n"


def add_commands(subparsers: Any) -> None:
    group = command(subparsers, "trace", "record, import and inspect memory traces", None, "hsvm trace info gzip")
    actions = group.add_subparsers(dest="action", required=True, metavar="ACTION")
    recording = command(
        actions,
        "record",
        "run a program under Valgrind and keep its memory references",
        _record,
        "hsvm trace record --limit 100000 -o true.hsvmtrace -- true",
    )
    recording.add_argument("-o", "--output", type=Path, default=Path(f"program{SUFFIX}"), metavar="FILE")
    recording.add_argument("program", nargs="+", metavar="PROGRAM", help="after --: the program and its arguments")
    importing = command(
        actions,
        "import",
        "convert Valgrind lackey's text, or check and copy a binary trace",
        _import,
        LACKEY_EXAMPLE + "hsvm trace import lackey.txt -o program.hsvmtrace",
    )
    importing.add_argument("file", type=Path, metavar="FILE")
    importing.add_argument("-o", "--output", type=Path, default=None, metavar="FILE", help=f"else FILE with {SUFFIX}")
    for parser in (recording, importing):
        parser.add_argument("--skip", type=_count, default=0, metavar="N", help="references to leave out at the start")
        parser.add_argument(
            "--limit", type=partial(_count, least=1), default=None, metavar="N", help="references to keep at most"
        )
    inspecting = command(
        actions, "info", "check a binary trace and count what is in it", _info, "hsvm trace info sqlite3 --text"
    )
    inspecting.add_argument("file", metavar="FILE|NAME", help=f"a file, or one of {', '.join(builtin_traces())}")
    for parser in (recording, importing, inspecting):
        form = parser.add_mutually_exclusive_group()
        add_json(form, "print one JSON object, as in any case but --text")
        form.add_argument("--text", action="store_true", help="print a line for people about each figure")


def _count(text: str, least: int = 0) -> int:
    value = int(text)
    if not least <= value <= MAX_REFERENCES:
        raise argparse.ArgumentTypeError(f"must be {least} to {MAX_REFERENCES}")
    return value


def _record(args: argparse.Namespace) -> int:
    with Progress("references", args.limit) as progress:
        record(args.program, args.output, skip=args.skip, limit=args.limit, watch=progress.show)
    return _tell(args, args.output)


def _import(args: argparse.Namespace) -> int:
    output = args.output or args.file.with_suffix(SUFFIX)
    with Progress("bytes", args.file.stat().st_size) as progress:
        import_trace(args.file, output, skip=args.skip, limit=args.limit, watch=progress.show)
    return _tell(args, output)


def _info(args: argparse.Namespace) -> int:
    return _tell(args, FOLDER / f"{args.file}{SUFFIX}" if args.file in builtin_traces() else Path(args.file))


def _tell(args: argparse.Namespace, path: Path) -> int:
    result = info(path)
    if args.text:
        for name, value in result.items():
            print(f"{name:10}  {value:,}" if isinstance(value, int) else f"{name:10}  {_plain(value)}")
    else:
        print(json.dumps(result, sort_keys=True))
    return DONE


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
