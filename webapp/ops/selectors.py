"""How far a person is with the first steps: read from what really happened, in one question to the database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db.models import Exists, F, Q

from webapp.accounts.models import User
from webapp.agreements.models import Message
from webapp.classroom.models import Cell
from webapp.ops.tour import FIRST_STEPS, TOURS, Item
from webapp.runs.acts import KINDS
from webapp.runs.models import Act, Mark, Run
from webapp.tenants.models import Policy

if TYPE_CHECKING:
    from collections.abc import Mapping

DEEDS: Final = (*KINDS, "drill")  # acts of an operator


@dataclass(frozen=True)
class Steps:
    area: str
    items: list[tuple[Item, bool]]
    stop: int  # the stop of the tour to go on at
    tour: list[dict[str, str]]

    @property
    def done(self) -> int:
        return sum(done for _, done in self.items)


def evidence(*, user: User, area: str) -> Mapping[str, Any]:
    """Each first step of the area that leaves something behind, as the question whether it did."""
    if area == "tenant":
        mine = Q(vm__tenant__slug__in=user.tenant_slugs)
        return {
            "wishes": Exists(Policy.objects.filter(mine)),
            "start": Exists(Act.objects.filter(mine, kind="start_vm")),
            "answer": Exists(Message.objects.filter(mine)),
        }
    if area == "operator":
        return {
            "run": Exists(Run.objects.all()),
            "act": Exists(Act.objects.filter(by=user, kind__in=DEEDS)),
            "mark": Exists(Mark.objects.filter(by=user)),
        }
    return {
        "table": Exists(Cell.objects.filter(state=Cell.State.DONE)),
        "what-if": Exists(Cell.objects.exclude(skip="")),
    }


def first_steps(*, user: User, area: str) -> Steps | None:
    """The first steps of this area; None once the person put them away."""
    asked = {f"done_{name.replace('-', '_')}": found for name, found in evidence(user=user, area=area).items()}
    kept = {"kept_hidden": F("guide__hidden"), "kept_opened": F("guide__opened"), "kept_stops": F("guide__stops")}
    row: Mapping[str, Any] = User.objects.filter(pk=user.pk).values(**asked, **kept).get()
    if area in (row["kept_hidden"] or []):
        return None
    opened = row["kept_opened"] or []
    items = [
        (item, item.name in opened if item.looked else bool(row[f"done_{item.name.replace('-', '_')}"]))
        for item in FIRST_STEPS[area]
    ]
    tour = [{"at": stop.at, "title": str(stop.title), "says": str(stop.says)} for stop in TOURS[area]]
    return Steps(area, items, (row["kept_stops"] or {}).get(area, 0), tour)
