"""A frozen moment as a drawing: white ground, plain shapes, every word in it; made anew in the reader's language."""

from __future__ import annotations

from typing import Any, Final

from django.template.loader import render_to_string
from django.utils.translation import gettext as _

from webapp.saying import say

LETTER, CAPITAL = 7.2, 9.4  # the width of one, in pixels
LINE, ROW, MARGIN = 20, 24, 16
LONGEST: Final = 64  # letters of a cell
FILLS: Final = {
    **{"BLOCKED": "#dcefe3", "DETECTED": "#dcefe3", "SUCCEEDED": "#f9dedc", "ERROR": "#fdebc8"},
    **{"OUT OF SCOPE": "#eef1f5", "NOT APPLICABLE": "#eef1f5"},
}
HEAD: Final = "#eef1f5"


def drawn(shown: dict[str, Any], label: str) -> str:
    """The SVG of what a share shows: title, sentences, grids, tables, legend and label, one below the other."""
    lines: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    y, width = MARGIN + LINE, 640.0
    for text, strong in [(shown["title"], True), *((each, False) for each in shown["says"])]:
        for piece in _wrapped(say(text)):
            lines.append({"x": MARGIN, "y": y, "text": piece, "strong": strong})
            y += LINE
    grids = [{**grid, "x": MARGIN + grid["x"], "y": y + grid["y"]} for grid in shown["grids"]]
    if grids:
        y = max(grid["y"] for grid in grids) + 184 + LINE
        width = max(grid["x"] for grid in grids) + 300 + MARGIN
    for table in () if grids else shown["tables"]:
        if table["caption"] != shown["title"]:
            lines.append({"x": MARGIN, "y": y, "text": say(table["caption"]), "strong": True})
        y, wide = _table(table, cells, y + LINE // 2)
        width = max(width, wide)
    for text in shown["legend"]:
        lines.append({"x": MARGIN, "y": y, "text": say(text), "strong": False})
        y += LINE
    lines.append({"x": MARGIN, "y": y + LINE // 2, "text": label, "strong": False})
    longest = max(len(line["text"]) for line in lines)
    size = {"width": round(max(width, longest * LETTER + 2 * MARGIN)), "height": round(y + 2 * LINE)}
    return render_to_string("shares/picture.svg", {"lines": lines, "cells": cells, "grids": grids, **size})


def _wrapped(text: str, most: int = 100) -> list[str]:
    """Lines of at most so many letters."""
    found = [""]
    for word in text.split():
        if len(found[-1]) + len(word) + 1 > most and found[-1]:
            found.append("")
        found[-1] = f"{found[-1]} {word}".strip()
    return found


def _wide(text: str) -> float:
    return sum(CAPITAL if letter.isupper() else LETTER for letter in text)


def _table(table: dict[str, Any], cells: list[dict[str, Any]], top: float) -> tuple[float, float]:
    """Adds the cells of a table; where it ends below and at the right."""
    rows = [[say(str(text))[:LONGEST] for text in row] for row in (table["heads"], *table["rows"])]
    widths = [16 + max(_wide(row[at]) for row in rows if at < len(row)) for at in range(len(table["heads"]))]
    for number, (row, plain) in enumerate(zip(rows, (table["heads"], *table["rows"]), strict=True)):
        x: float = MARGIN
        for at, text in enumerate(row):
            word = next((word for word in FILLS if number and str(plain[at]).startswith(word)), "")
            fill = FILLS.get(word, HEAD if not number else "#ffffff")
            y = top + number * ROW
            cells.append({"x": x, "y": y, "tx": x + 8, "ty": y + 16, "width": widths[at], "fill": fill, "text": text})
            x += widths[at]
    return top + len(rows) * ROW + LINE + LINE // 2, MARGIN * 2 + sum(widths)


def label_of(shown: dict[str, Any]) -> str:
    """`Simulation: engine 3, seed 7, step 12`."""
    words = {"run": _("run"), "engine": _("engine"), "seed": _("seed"), "step": _("step"), "op": _("op")}
    told = [f"{words[name]} {shown['facts'][name]}" for name in words if name in shown["facts"]]
    return _("Simulation: %(facts)s") % {"facts": ", ".join(told)}
