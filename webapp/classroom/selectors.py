"""Reads of the attack table. It is public: an attack file and its outcome hold nothing of any tenant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from django.db.models import QuerySet

from webapp.classroom.models import Cell
from webapp.classroom.wording import ARCHITECTURES, EVIDENCE, OUTCOMES, PROGRESS, column_label, column_name
from webapp.errors import VpmsError
from webapp.runs.engine import ENGINE_VERSION

DRILL: Final = ("A03", "A01", "A09", "A10", "A11", "A13", "A14", "A22", "A08", "A23", "A15", "A25")
"""The twelve of the drill, in the order of the table's first rows."""


def cells() -> QuerySet[Cell]:
    """The cells of the architectures."""
    return columns_all().filter(skip="")


def columns_all() -> QuerySet[Cell]:
    """The cells of the architectures and of the what-if columns."""
    return Cell.objects.defer("verdict")


def cell_get(*, pk: int) -> Cell:
    found = Cell.objects.filter(pk=pk).first()
    if found is None:
        raise VpmsError("not_found", 404, message="There is no such cell in the table.")
    return found


def shown(cell: Cell, *, title: str = "", files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A cell as pages, API and socket show it.

    A result of another engine, or (`files`: attack -> digest of its file now) of another file, is stale: its old word
    stays visible.
    """
    done = cell.state in (Cell.State.DONE, Cell.State.FAILED)
    outcome = OUTCOMES.get(cell.outcome)
    other_file = files is not None and cell.file_digest != files.get(cell.attack)
    stale = cell.state == Cell.State.DONE and (cell.engine_version != ENGINE_VERSION or other_file)
    look = OUTCOMES["STALE"] if stale else outcome
    letter, meaning = EVIDENCE.get(cell.evidence, ("", ""))
    return {
        "id": cell.pk,
        "attack": cell.attack,
        "title": title,
        "architecture": column_name(cell.architecture, cell.skip),
        "state": "done" if done else cell.state,
        "outcome": cell.outcome if done else "",
        "word": (look.word if look else "ERROR") if done else PROGRESS[cell.state],
        "old_word": outcome.word if stale and outcome else "",
        "look": (look.look if look else "error") if done else cell.state,
        "evidence": letter if done and not cell.skip else "",
        "evidence_meaning": meaning if not cell.skip else "",
        "check": cell.check_name if done else "",
        "seed": cell.seed,
        "digest": cell.digest if done else "",
        "engine": cell.engine_version if done else "",
        "duration_ms": cell.duration_ms if done else None,
        "ops": cell.ops if done else 0,
        "url": f"/teach/cell/{cell.pk}/",
    }


def table(*, titles: Mapping[str, str], files: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The whole table: columns, one row per attack, totals by outcome word and column, and the newest change.

    The twelve of the drill come first; the columns of what-ifs last.
    """
    found = list(columns_all())
    present = {(cell.architecture, cell.skip) for cell in found}
    order = list(ARCHITECTURES)
    columns = sorted(present, key=lambda column: (column[1] != "", order.index(column[0]), column[1]))
    at = {(cell.attack, cell.architecture, cell.skip): cell for cell in found}
    attacks = sorted({cell.attack for cell in found})
    attacks.sort(key=lambda attack: DRILL.index(attack) if attack in DRILL else len(DRILL))
    faces = {key: shown(cell, title=titles.get(cell.attack, ""), files=files) for key, cell in at.items()}
    rows = [
        {
            "attack": attack,
            "title": titles.get(attack, ""),
            "drill": attack in DRILL,
            "cells": [faces.get((attack, *column)) for column in columns],
        }
        for attack in attacks
    ]
    totals = {column: Counter(face["word"] for key, face in faces.items() if key[1:] == column) for column in columns}
    words = [outcome.word for outcome in OUTCOMES.values()] + list(PROGRESS.values())
    always = words[: len(OUTCOMES) - 1]  # all but STALE RESULT
    used = [word for word in words if word in always or any(totals[column][word] for column in columns)]
    return {
        "columns": [
            {"name": column_name(*column), "label": column_label(*column), "what_if": bool(column[1])}
            for column in columns
        ],
        "rows": rows,
        "totals": [{"word": word, "counts": [totals[column][word] for column in columns]} for word in used],
        "number": max((cell.number for cell in found), default=0),
        "running": any(cell.state in PROGRESS for cell in found),
    }


def changed_since(number: int) -> list[Cell]:
    """The cells that changed after this number, in the order of their changes."""
    return list(columns_all().filter(number__gt=number).order_by("number"))
