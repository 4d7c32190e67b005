"""What can be shared: one row a kind, each of which freezes one moment as plain data.

Shown is always the same: {"title", "says": sentences, "facts": {…}, "tables": [{"caption", "heads", "rows"}], "legend",
"code", "grids"}. Words in it are English data and are said in the reader's language where they are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.utils import timezone

from webapp.classroom import replay, scenes, services, walk
from webapp.classroom import selectors as cells
from webapp.classroom.wording import EVIDENCE
from webapp.courses import lab, lab_pages
from webapp.courses.models import Attempt
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live.records import record
from webapp.runs import history
from webapp.runs import selectors as runs
from webapp.runs.engine import ENGINE_VERSION
from webapp.runs.picture import OPERATOR, TENANT
from webapp.tenants.selectors import missing

MOST_FRAMES: Final = 4 << 20  # bytes of a moment's messages
MOST_NUMBER: Final = 1 << 53
PARTS: Final = ("map", "tlb", "counters", "log")


class Frozen(NamedTuple):
    about: dict[str, Any]
    shown: dict[str, Any]
    frames: bytes = b""


@dataclass(frozen=True)
class Thing:
    """A kind. `freeze(user, asked)`: the moment that is asked for; a VpmsError where the person may not see it."""

    name: str
    fields: tuple[str, ...]
    freeze: Callable[[Any, Mapping[str, Any]], Frozen]


def number(asked: Mapping[str, Any], name: str) -> int:
    text = str(asked.get(name, ""))
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) < MOST_NUMBER):
        raise BadInput([Fault(f"$.{name}", "must be a whole number")])
    return int(text)


def _shown(title: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "says": [], "facts": {}, "tables": [], "legend": [], "code": "", "grids": [], **more}


# -- the nested walk


def _walk(asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    walked = walk.walk_of(str(asked.get("case", "")))
    return walked, walked["references"]


def _references(rows: list[dict[str, Any]]) -> dict[str, Any]:
    told = [[str(row["order"]), row["says"], row["entry"], "saved" if row["skipped"] else "read"] for row in rows]
    return {"caption": "References in order", "heads": ["Order", "What", "Entry read", "Made"], "rows": told}


def _walk_step(user: Any, asked: Mapping[str, Any]) -> Frozen:
    walked, rows = _walk(asked)
    at = min(number(asked, "step"), len(rows))
    says = [rows[at - 1]["says"] if at else walk.START, *([walked["result"]] if at == len(rows) else [])]
    facts = {"engine": walked["engine"], "seed": walked["seed"], "step": at}
    grids = walk.strip(walked)[at - 1 : at] if at else []
    shown = _shown(walked["title"], says=says, facts=facts, tables=[_references(rows[:at])], grids=_placed(grids))
    return Frozen({"case": walked["case"], "step": at}, shown)


def _walk_strip(user: Any, asked: Mapping[str, Any]) -> Frozen:
    walked, rows = _walk(asked)
    facts = {"engine": walked["engine"], "seed": walked["seed"]}
    shown = _shown(
        walked["title"],
        says=[walked["result"]],
        facts=facts,
        tables=[_references(rows)],
        grids=_placed(walk.strip(walked)),
        legend=["Broken line: saved by a cache."] if walked["saved"] else [],
    )
    return Frozen({"case": walked["case"]}, shown)


def _placed(grids: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four in a row, from the top left."""
    return [{**grid, "x": 312 * (at % 4), "y": 184 * (at // 4)} for at, grid in enumerate(grids)]


# -- attacks


def _replay(user: Any, asked: Mapping[str, Any]) -> Frozen:
    """One step of a cell of the table, which everybody may see."""
    cell = cells.cell_get(pk=number(asked, "cell"))
    if cell.state != cell.State.DONE:
        raise missing()
    execution = scenes.execution_of(cell)
    film = replay.film_of(execution)
    if not film["steps"]:
        raise missing()
    scene = scenes.scene(film, replay.step_of(film, str(asked.get("step", ""))[:8]))
    step = scene["step"]
    about = {"attack": cell.attack, "column": execution.name, "seed": cell.seed, "step": step["n"]}
    over = not film["deciding"] or step["n"] >= film["deciding"]
    title = f"{cell.attack} on {execution.name}"
    says = [services.titles().get(cell.attack, ""), step["says"], *([f"Outcome: {film['word']}"] if over else [])]
    facts = {"engine": film["engine"], "seed": film["seed"], "step": step["n"], "digest": film["digest"]}
    tables = [
        {
            "caption": table["caption"],
            "heads": list(table["heads"]),
            "rows": [[cell for _label, cell in row["cells"]] for row in table["rows"]],
        }
        for table in scene["tables"]
    ]
    return Frozen(about, _shown(title, says=says, facts=facts, tables=tables))


def _matrix(user: Any, asked: Mapping[str, Any]) -> Frozen:
    """The table of attacks as it stands now, with what its words and letters mean."""
    table = cells.table(titles=services.titles(), files=services.files())
    rows = [
        [f"{row['attack']} {row['title']}"]
        + [f"{cell['word']} {cell['evidence']}".strip() if cell else "" for cell in row["cells"]]
        for row in table["rows"]
    ]
    heads = ["Attack", *[column["name"] for column in table["columns"]]]
    letters = [f"{letter}: {meaning}" for letter, meaning in EVIDENCE.values() if letter]
    legend = [*letters, "no letter: stated in the paper", "OUT OF SCOPE and NOT APPLICABLE are no passes."]
    shown = _shown(
        "Attacks and architectures",
        facts={"engine": ENGINE_VERSION},
        tables=[{"caption": "Attacks and architectures", "heads": heads, "rows": rows}],
        legend=legend,
    )
    return Frozen({}, shown)


def _attempt(user: Any, asked: Mapping[str, Any]) -> Frozen:
    """An attempt of one's own: the file and how it ended. No points, no hidden test, no seed of what was handed in."""
    found, member = lab.attempt_get(user=user, pk=number(asked, "attempt"))
    if found.member_id != member.pk:
        raise missing()
    if found.state != Attempt.State.DONE:
        raise VpmsError("invalid_transition", 409, message="Only what was executed can be shared.")
    item = found.item
    if item.points and item.due_at is not None and item.due_at > timezone.now() and not member.teaches:
        raise VpmsError(
            "invalid_transition", 409, message="This task still counts: an attempt can be shared once it is due."
        )
    columns = [[column["name"], column["word"], column["check"]] for column in lab_pages.columns_of(found)]
    tables = [{"caption": "How it ended", "heads": ["Column", "Outcome", "Check"], "rows": columns}] if columns else []
    facts = {"engine": ENGINE_VERSION, **({"seed": found.seed} if found.seed is not None else {})}
    shown = _shown(found.item.title, facts=facts, tables=tables, code=found.text, says=["An attempt at an attack lab."])
    return Frozen({"attempt": found.pk}, shown)


# -- runs


def _moment(user: Any, asked: Mapping[str, Any]) -> Frozen:
    """A run at one moment, in the view that its maker has of it."""
    pk = number(asked, "run")
    view = runs.view_of(user=user, run_id=str(pk))
    if view is None:
        raise missing()
    run = runs.run_get(user=user, pk=pk)
    operator = view == OPERATOR
    unit = "op" if operator and "op" in asked else "step"
    at = number(asked, unit)
    moment = history.at_op(run, at) if unit == "op" else history.at_step(run, at)
    parts = [part for part in PARTS if part != "tlb" or operator]
    frames = b"".join(map(record, history.frames(moment, view=view, parts=parts)))
    if len(frames) > MOST_FRAMES:
        raise VpmsError("too_big", 413, message="This moment is too large for a link.")
    events = runs.log_of(run_id=run.pk, view=view, after=0, until_op=moment.op)[-50:]
    rows = [[event["vm"], event["title"], event["outcome"], event["check"]] for event in events]
    facts = {"run": run.pk, "engine": run.engine_version, unit: at}
    if operator:
        facts["seed"] = run.scenario["seed"]
    says = [history.doing(moment.looker)] if operator else []
    table = {"caption": "What had happened until then", "heads": ["VM", "What", "Outcome", "Check"], "rows": rows}
    shown = _shown(f"Run {run.pk} of {run.host.name}", says=[*filter(None, says)], facts=facts, tables=[table])
    return Frozen({"run": run.pk, unit: at, "view": view, "parts": parts}, shown, frames)


def still_seen(kind: str, about: Mapping[str, Any], maker: Any) -> bool:
    """Whether the maker may still see what a link shows: a view of a run falls with the role that gave it."""
    if kind != "moment":
        return True
    view = about["view"]
    if view == OPERATOR:
        return bool(maker.sees_site)
    return set(view.removeprefix(TENANT).split(",")) <= set(maker.tenant_slugs)


THINGS: Final = {
    thing.name: thing
    for thing in (
        Thing("walk", ("case", "step"), _walk_step),
        Thing("strip", ("case",), _walk_strip),
        Thing("replay", ("cell", "step"), _replay),
        Thing("matrix", (), _matrix),
        Thing("attempt", ("attempt",), _attempt),
        Thing("moment", ("run", "op", "step"), _moment),
    )
}
