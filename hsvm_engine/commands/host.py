"""`hsvm apply` and `hsvm walk`: operations on a fresh machine, and one look at its tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from hsvm_engine.commands.common import DONE, add_json, command, print_json, read_machine, read_operations

MACHINE_EXAMPLE = """\
echo '{"frames": 8192, "hypervisor_frames": 1024, "protected_frames": 1024}' > machine.json
"""
OPERATIONS_EXAMPLE = """\
echo '{"op": "create_vm", "vcpus": 1}' > ops.jsonl
echo '{"op": "page_map", "vm": 65537, "gpn": 0, "mfn": 4096, "perm": "rw", "size": 1}' >> ops.jsonl
"""
RUN_EXAMPLE = """\
echo '{"op": "context_restore", "vm": 65537, "vcpu": 0, "core": 0}' >> ops.jsonl
"""
COLUMNS = ("order", "stage", "guest level", "nested level", "frame", "offset", "entry", "perm", "shortcut")


def add_commands(subparsers: Any) -> None:
    parser = command(
        subparsers,
        "apply",
        "apply operations to a fresh machine, one JSON result a line",
        _apply,
        MACHINE_EXAMPLE + OPERATIONS_EXAMPLE + "hsvm apply --machine machine.json ops.jsonl --dump",
    )
    _add_host(parser)
    parser.add_argument("--dump", action="store_true", help="print the machine's state after the last operation")
    parser.add_argument("--digest", action="store_true", help="print its digest after the last operation")
    add_json(parser, "JSON lines, as in any case")
    parser = command(
        subparsers,
        "walk",
        "apply operations, then show every memory reference of one page walk",
        _walk,
        MACHINE_EXAMPLE + OPERATIONS_EXAMPLE + RUN_EXAMPLE + "hsvm walk --machine machine.json ops.jsonl --gva 0x10",
    )
    _add_host(parser)
    parser.add_argument("--core", type=int, default=0, metavar="N", help="core on which the guest runs (0)")
    parser.add_argument(
        "--gva", type=_address, required=True, metavar="X", help="guest-virtual address, 0x... or decimal"
    )
    add_json(parser, "print one JSON object instead of the table")


def _add_host(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machine", type=Path, required=True, metavar="M.json", help="arguments of the machine")
    parser.add_argument("operations", type=Path, metavar="OPS.jsonl", help="one operation a line, as JSON")


def _address(text: str) -> int:
    return int(text, 0)


def _apply(args: argparse.Namespace) -> int:
    machine = read_machine(args.machine)
    for _, op in read_operations(args.operations):
        print_json(machine.apply(op))
    if args.dump:
        print_json({"dump": machine.dump()})
    if args.digest:
        print_json({"digest": machine.digest()})
    return DONE


def _walk(args: argparse.Namespace) -> int:
    machine = read_machine(args.machine)
    if not 0 <= args.core < machine.cores:
        raise ValueError(f"--core {args.core}: the machine has the cores 0 to {machine.cores - 1}")
    if not 0 <= args.gva < 1 << 48:
        raise ValueError("--gva: must be below 2^48")
    done = 0
    refused: list[dict[str, Any]] = []
    for line, op in read_operations(args.operations):
        result = machine.apply(op)
        done += 1
        if result["status"] != "OK":
            refused.append({"line": line, "op": op, "status": result["status"]})
    walk = machine.walk(args.core, args.gva)
    if args.json:
        print_json({"core": args.core, "gva": args.gva, **walk, "operations": done, "refused": refused})
    else:
        print(_heading(args, dict(walk)))
        for row in refused:
            print(f"operation in line {row['line']} was answered with {row['status']}")
        print(_table(list(walk["references"])))
    return DONE


def _heading(args: argparse.Namespace, walk: dict[str, Any]) -> str:
    if walk["status"] == "OK":
        end = f"guest-physical {walk['gpa']:#x} in frame {walk['mfn']}"
    elif walk["status"] == "E_STATE":
        end = "E_STATE, no guest runs there"
    else:
        end = str(walk["status"])
    return f"core {args.core}, guest-virtual {args.gva:#x}: {end}; {len(walk['references'])} references"


def _table(references: list[Any]) -> str:
    """The references in order; level 0 is the guest's own entry (nested) or the page itself (guest)."""
    rows: list[tuple[str, ...]] = [COLUMNS] if references else []
    for row in references:
        rows.append(
            (
                *(str(row[name]) for name in ("order", "stage", "guest_level", "nested_level", "mfn")),
                f"{row['offset']:#x}",
                str(row["entry"]),
                row["perm"] or "-",
                "page-walk cache" if row["skipped"] else "",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))] if rows else []
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
