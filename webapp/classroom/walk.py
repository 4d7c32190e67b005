"""The nested page walk, executed: what the engine's `walk` read for one address, reference by reference, in words.

Nothing here is drawn from a textbook: each case builds a machine, runs a guest on it and asks the engine.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, NamedTuple

from django.template.loader import render_to_string

from hsvm_engine import Machine
from webapp.errors import BadInput, Fault
from webapp.runs.engine import ENGINE_VERSION

SEED: Final = 1
GUEST: Final = 4096  # the first frame that the guest gets
HUGE: Final = 512
PAGES: Final = 16
MAPPED: Final = 0x7010
ROWS: Final = (4, 3, 2, 1, 0)  # guest levels, then the page itself
START: Final = "Nothing is read yet. “Step” makes the first reference."
COLUMNS: Final = (4, 3, 2, 1)  # nested levels


class Case(NamedTuple):
    """One machine and one address. `tables`: the guest has tables of its own."""

    title: str
    about: str
    gva: int = MAPPED
    tables: bool = True
    huge: bool = False
    cache: int = 0


CASES: Final[Mapping[str, Case]] = {
    "nested": Case(
        "Guest and nested tables, four levels each",
        "Every table of the guest lies at a guest address, and each of those must itself be translated.",
    ),
    "huge": Case("A 2 MiB page in the nested table", "The last nested walk ends one level earlier.", huge=True),
    "cached": Case(
        "With page-walk caches",
        "The guest read a neighbouring page just before. What that walk learned need not be read again.",
        cache=8,
    ),
    "plain": Case("A guest without tables of its own", "Its addresses are guest addresses at once.", 0x10, False),
    "guest-fault": Case(
        "A page that the guest has not mapped", "The guest's own last table has no entry: the guest's fault.", 0x9010
    ),
    "nested-fault": Case(
        "A page that the host has not given", "The nested table has no entry: the host's fault.", 0x20010, False
    ),
}


def machine_of(case: Case, architecture: str = "hsvm") -> Machine:
    """The machine of a case, its guest on core 0, whatever the case is about already done."""
    machine = Machine(
        frames=8192,
        hypervisor_frames=1024,
        protected_frames=64 if architecture.startswith("hsvm") else 0,
        architecture=architecture,
        seed=SEED,
        tlb={"walk_cache": {"guest": case.cache, "nested": case.cache}},
    )
    vm = machine.hypervisor.create_vm(vcpus=1)["vm"]
    if case.huge:
        _done(machine.hypervisor.page_map(vm=vm, gpn=0, mfn=GUEST, perm="rw", size=HUGE))
    for gpn in range(HUGE, HUGE + PAGES) if case.huge else range(PAGES):
        _done(machine.hypervisor.page_map(vm=vm, gpn=gpn, mfn=GUEST + gpn, perm="rw"))
    _done(machine.hypervisor.context_restore(vm=vm, vcpu=0, core=0))
    if case.tables:
        for page in range(2):
            _done(machine.guest.guest_map(core=0, gva=(MAPPED & ~0xFFF) + page * 0x1000, gpn=page, perm="rw"))
    if case.cache:
        _done(machine.guest.guest_access(core=0, gva=MAPPED + 0x1000, kind="r"))
    return machine


def _done(answer: Mapping[str, Any]) -> None:
    assert answer["status"] == "OK", answer


@cache  # the same seed, machine and address: the same walk
def walk_of(name: str) -> dict[str, Any]:
    """The walk of a case: status, references with place, words and whether a cache saved them, and what it costs.

    BadInput for a name that is no case.
    """
    if name not in CASES:
        raise BadInput([Fault("$.case", f"{name[:64]!r} is no case; there are {', '.join(CASES)}")])
    case = CASES[name]
    machine = machine_of(case)
    walked = machine.walk(core=0, gva=case.gva)
    total = len(walked["references"])
    references = [_reference(dict(row), case, total, walked["status"]) for row in walked["references"]]
    read = sum(not row["skipped"] for row in references)
    return {
        "case": name,
        "title": case.title,
        "about": case.about,
        "gva": case.gva,
        "status": walked["status"],
        "gpa": walked["gpa"],
        "mfn": walked["mfn"],
        "references": references,
        "read": read,
        "saved": total - read,
        "result": _result(walked, read, total - read),
        "engine": ENGINE_VERSION,
        "seed": SEED,
    }


def _result(walked: Mapping[str, Any], read: int, saved: int) -> str:
    made = "1 reference made" if read == 1 else f"{read} references made"
    made = f"{made}, {saved} saved by caches" if saved else made
    if walked["status"] != "OK":
        return f"{made}. The walk ended with a fault: an entry was not present."
    return f"{made}. The page is frame {walked['mfn']} of the machine; reading it is not counted."


def _reference(row: dict[str, Any], case: Case, total: int, status: str) -> dict[str, Any]:
    level = row["guest_level"]
    nested = row["stage"] == "nested"
    low = 12 + 9 * ((row["nested_level"] if nested else level) - 1)
    row["index"] = row["offset"] // 8
    row["bits"] = f"{low + 8} to {low}"
    row["of"] = "guest address" if nested else "virtual address"
    row["place"] = f"g{level}n{row['nested_level']}" if nested else f"g{level}r"
    row["fault"] = row["entry"].strip("0x") == "" and row["order"] == total and status != "OK"
    row["says"] = f"Reference {row['order']} of {total}: {_sentence(row, level, nested, case)}"
    return row


def _sentence(row: Mapping[str, Any], level: int, nested: bool, case: Case) -> str:
    if nested:
        aim = f"where the guest's level-{level} table lies" if level else "where the page itself lies"
        words = f"to find {aim}, entry {row['index']} of the level-{row['nested_level']} nested table is read"
    else:
        words = f"entry {row['index']} of the guest's own level-{level} table is read"
    if row["skipped"]:
        return f"{words}; not this time, a page-walk cache still knows the answer."
    if row["fault"]:
        return f"{words}. It is not present: the walk ends here with a fault."
    leaf = nested and (row["nested_level"] == 1 or (case.huge and level == 0 and row["nested_level"] == 2))
    return f"{words}." + (" It names a frame: this nested walk is done." if leaf else "")


@cache
def costs() -> list[dict[str, Any]]:
    """How many references one and the same access makes, executed on each way to translate."""
    rows = [
        ("Nested tables (nested)", machine_of(CASES["nested"], "nested"), "4 x 5 + 4: every guest table needs a walk"),
        ("The same under H-SVM (hsvm)", machine_of(CASES["nested"]), "H-SVM checks when a table changes, not here"),
        ("Shadow tables (shadow)", machine_of(CASES["nested"], "shadow"), "one table of the hypervisor's, four levels"),
        ("No tables of the guest's own", machine_of(CASES["plain"]), "as many as a machine without VMs needs"),
    ]
    found = []
    for title, machine, why in rows:
        gva = CASES["plain"].gva if title.startswith("No tables") else MAPPED
        first = machine.guest.guest_access(core=0, gva=gva, kind="r")
        again = machine.guest.guest_access(core=0, gva=gva, kind="r")
        found.append({"title": title, "miss": first["references"], "hit": again["references"], "why": why})
    return found


def step_of(walked: Mapping[str, Any], text: str) -> int:
    """The step in a link, 0 before the first reference; BadInput beyond the walk."""
    most = len(walked["references"])
    if text == "":
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 3 or int(text) > most:
        raise BadInput([Fault("$.step", f"{text[:64]!r} is no step of this walk; it has steps 0 to {most}")])
    return int(text)


def grid(walked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the 5 x 5 drawing: the reference at each place, None where this walk has none."""
    at = {row["place"]: row for row in walked["references"]}
    rows = []
    for number, level in enumerate(ROWS):
        cells = [{"x": 130 + 96 * i, "reference": at.get(f"g{level}n{n}")} for i, n in enumerate(COLUMNS)]
        cells.append({"x": 130 + 96 * 4, "reference": at.get(f"g{level}r"), "data": level == 0})
        name = f"guest level {level}" if level else "the page"
        rows.append({"level": level, "name": name, "y": 44 + 56 * number, "cells": cells})
    return rows


COLUMNS_OF_CSV: Final = (
    "order", "stage", "guest_level", "nested_level", "mfn", "offset", "entry", "perm", "skipped", "says"
)  # fmt: skip


def as_csv(walked: Mapping[str, Any]) -> str:
    text = io.StringIO()
    text.write(f"# simulation, engine {walked['engine']}, seed {walked['seed']}, address {walked['gva']:#x}\r\n")
    rows = csv.DictWriter(text, COLUMNS_OF_CSV, extrasaction="ignore")
    rows.writeheader()
    rows.writerows(walked["references"])
    return text.getvalue()


def as_json(walked: Mapping[str, Any]) -> str:
    return json.dumps({"simulation": True, **walked}, indent=2)


def strip(walked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every step as a grid of cells with a title."""
    rows = walked["references"]
    return [
        {"title": f"{now['order']} of {len(rows)}", "cells": [_strip_cell(row, now["order"]) for row in rows]}
        for now in rows
    ]


def as_strip(walked: Mapping[str, Any]) -> str:
    """A picture of every step, four in a row, for slides: white ground, plain shapes."""
    frames = [
        {"x": 16 + 312 * (number % 4), "y": 64 + 184 * (number // 4), **frame}
        for number, frame in enumerate(strip(walked))
    ]
    height = 64 + 184 * -(-len(frames) // 4)
    context = {"walk": walked, "frames": frames, "height": height, "address": hex(walked["gva"])}
    return render_to_string("classroom/walk_strip.svg", context)


def _strip_cell(row: Mapping[str, Any], now: int) -> dict[str, Any]:
    column = COLUMNS.index(row["nested_level"]) if row["stage"] == "nested" else len(COLUMNS)
    fill, ink = ("#ffffff", "#6b7280") if row["order"] > now else ("#d7e3f7", "#14181f")
    if row["order"] == now:
        fill, ink = "#1f4fbf", "#ffffff"
    text = f"{row['order']}{' !' if row['fault'] else ''}"
    return {
        "x": 12 + 56 * column, "y": 26 + 28 * ROWS.index(row["guest_level"]),
        "fill": fill, "ink": ink, "text": text, "saved": row["skipped"],
    }  # fmt: skip


FILES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {"svg": as_strip, "csv": as_csv, "json": as_json}
TYPES: Final = {"svg": "image/svg+xml", "csv": "text/csv; charset=utf-8", "json": "application/json"}
