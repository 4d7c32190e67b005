"""Reads of the attack table. It is public: an attack file and its outcome hold nothing of any tenant."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import QuerySet

from webapp.classroom.models import Cell
from webapp.classroom.wording import ARCHITECTURES, EVIDENCE, OUTCOMES, PHASES, PROGRESS, TURN
from webapp.errors import VpmsError
from webapp.runs.engine import ENGINE_VERSION

HEAD, TAIL = 60, 40  # steps of a long phase that a page shows: the first, and the last before the deciding one
LONGEST = 128  # letters of a value


def cells() -> QuerySet[Cell]:
    return Cell.objects.filter(skip="").defer("verdict")


def cell_get(*, pk: int) -> Cell:
    found = Cell.objects.filter(pk=pk).first()
    if found is None:
        raise VpmsError("not_found", 404, message="There is no such cell in the table.")
    return found


def shown(cell: Cell, *, title: str = "") -> dict[str, Any]:
    """A cell as pages, API and socket show it. A result of another engine is stale: its old word stays visible."""
    done = cell.state in (Cell.State.DONE, Cell.State.FAILED)
    outcome = OUTCOMES.get(cell.outcome)
    stale = done and cell.state == Cell.State.DONE and cell.engine_version != ENGINE_VERSION
    look = OUTCOMES["STALE"] if stale else outcome
    letter, meaning = EVIDENCE.get(cell.evidence, ("", ""))
    return {
        "id": cell.pk,
        "attack": cell.attack,
        "title": title,
        "architecture": cell.architecture,
        "state": "done" if done else cell.state,
        "outcome": cell.outcome if done else "",
        "word": (look.word if look else "ERROR") if done else PROGRESS[cell.state],
        "old_word": outcome.word if stale and outcome else "",
        "look": (look.look if look else "error") if done else cell.state,
        "evidence": letter if done else "",
        "evidence_meaning": meaning,
        "check": cell.check_name if done else "",
        "seed": cell.seed,
        "digest": cell.digest if done else "",
        "url": f"/teach/cell/{cell.pk}/",
    }


def table(*, titles: dict[str, str]) -> dict[str, Any]:
    """The whole table: columns, one row per attack, totals by outcome word and column, and the newest change."""
    found = list(cells())
    columns = [name for name in ARCHITECTURES if any(cell.architecture == name for cell in found)]
    rows = []
    for attack in sorted({cell.attack for cell in found}):
        by_column = {cell.architecture: cell for cell in found if cell.attack == attack}
        title = titles.get(attack, "")
        row = [shown(by_column[name], title=title) if name in by_column else None for name in columns]
        rows.append({"attack": attack, "title": title, "cells": row})
    totals = {name: Counter(shown(cell)["word"] for cell in found if cell.architecture == name) for name in columns}
    words = [outcome.word for outcome in OUTCOMES.values()] + list(PROGRESS.values())
    always = [
        OUTCOMES[name].word for name in ("BLOCKED", "DETECTED", "SUCCEEDED", "OUT_OF_SCOPE", "NOT_APPLICABLE", "ERROR")
    ]
    used = [word for word in words if word in always or any(totals[name][word] for name in columns)]
    return {
        "columns": [{"name": name, "label": ARCHITECTURES[name]} for name in columns],
        "rows": rows,
        "totals": [{"word": word, "counts": [totals[name][word] for name in columns]} for word in used],
        "number": max((cell.number for cell in found), default=0),
        "running": any(cell.state in PROGRESS for cell in found),
    }


def changed_since(number: int) -> list[Cell]:
    """The cells that changed after this number, in the order of their changes."""
    return list(cells().filter(number__gt=number).order_by("number"))


def replay_of(cell: Cell) -> dict[str, Any]:
    """The executed steps by phase with the deciding one marked, and the check that decided, with its inputs."""
    verdict = cell.verdict
    deciding = (verdict.get("step") or {}).get("number")
    phases = []
    for phase, label in PHASES.items():
        whose = (phase, TURN) if phase == "attacker" else (phase,)
        steps = [step for step in verdict.get("steps", []) if step["phase"] in whose]
        if steps:
            phases.append({"label": label, **abridged([_step_shown(step, deciding) for step in steps])})
    return {
        "phases": phases,
        "says": verdict.get("says", ""),
        "reason": verdict.get("reason", ""),
        "paper": verdict.get("paper", ""),
        "check": verdict.get("check") or "",
        "inputs": [(name, worded(value)) for name, value in (verdict.get("inputs") or {}).items()],
        "deciding": deciding,
    }


def abridged(steps: list[dict[str, Any]]) -> dict[str, Any]:
    """A long list as its beginning and its last steps up to the deciding one, and how many are left out."""
    if len(steps) <= HEAD + TAIL:
        return {"first": steps, "left_out": 0, "last": []}
    end = next((place for place, step in enumerate(steps, 1) if step["deciding"]), len(steps))
    last = steps[max(HEAD, end - TAIL) : end]
    return {"first": steps[:HEAD], "left_out": len(steps) - HEAD - len(last), "last": last}


def _step_shown(step: dict[str, Any], deciding: int | None) -> dict[str, Any]:
    result = step["result"]
    return {
        "number": step["number"],
        "line": step["line"],
        "op": step["op"]["op"],
        "victims": step["phase"] == TURN,
        "fields": [(name, worded(value)) for name, value in step["op"].items() if name != "op"],
        "status": result["status"],
        "result": [(n, worded(v)) for n, v in result.items() if n not in ("status", "check", "inputs")],
        "check": result.get("check", ""),
        "deciding": step["number"] == deciding,
    }


def worded(value: Any) -> str:
    """A value of an operation for people: frames and addresses in hex, everything else as it is."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return hex(value) if value > 9 else str(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {worded(part)}" for name, part in value.items())
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}... ({len(text)} digits)"
