"""The table as a live topic, open to everybody."""

from __future__ import annotations

from typing import Any

from webapp.classroom import selectors, services
from webapp.live.topics import register

PUBLIC = "public"
UNSENT = ("id", "look", "evidence_meaning")  # what a page has and the socket's reader does not need


def authorise(user: Any, ident: str) -> str | None:
    return PUBLIC


def messages(ident: str, view: str, last: int | None) -> list[dict[str, Any]]:
    """The cells that changed after `last`, all of them for a first look."""
    cells = selectors.changed_since(last or 0)
    if not cells:
        return []
    titles, files = services.titles(), services.files()
    shown = [selectors.shown(cell, title=titles.get(cell.attack, ""), files=files) for cell in cells]
    shown = [{name: value for name, value in cell.items() if name not in UNSENT} for cell in shown]
    kind, seq = ("keyframe" if last is None else "delta"), cells[-1].number
    return [{"topic": "matrix", "kind": kind, "seq": seq, "base": last or seq, "op": 0, "data": {"cells": shown}}]


def register_all() -> None:
    register("matrix!", authorise=authorise, messages=messages)
