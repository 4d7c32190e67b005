"""Alerts by API: the list and every act of its rows. Operators only; auditors of the site may read."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils import translation
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.notices import alert_selectors as selectors
from webapp.notices import alerts as services
from webapp.notices.models import Alert
from webapp.notices.runbooks import RUNBOOKS
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["alerts"])
Short = Annotated[str, Field(max_length=400)]


class AlertOut(Schema):
    id: int
    kind: str
    severity: str
    host: str
    code: str
    text: str
    link: str = Field(description="The moment or the place at which it happened.")
    runbook: str
    state: str
    count: int
    raised_at: dt.datetime
    last_at: dt.datetime
    owner: str
    acknowledged_by: str
    acknowledged_at: dt.datetime | None
    note: str
    silenced_until: dt.datetime | None
    silenced_by: str
    silence_reason: str
    resolved_at: dt.datetime | None
    resolved_by: str = Field(description="Empty: it ended by itself.")


class NoteIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "I look into it."}]})
    note: Short = ""


class SilenceIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"until": "2026-11-30T08:00:00Z", "reason": "Firmware is being replaced."}]},
    )
    until: dt.datetime = Field(description="At most 30 days ahead; without a zone it is UTC.")
    reason: Short


class OwnerIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"person": "olga"}]})
    person: Annotated[str, Field(max_length=150)]


class RunbookOut(Schema):
    kind: str
    label: str
    means: str
    unharmed: str
    steps: list[str]
    ends: str
    by_hand: bool


class AskedAlerts(Schema):
    state: Literal[selectors.NARROWED_TO] = "current"  # type: ignore[valid-type]
    host: Annotated[str, Field(max_length=63)] = ""
    kind: Annotated[str, Field(max_length=16)] = ""
    severity: Annotated[str, Field(max_length=12)] = ""
    owner: Annotated[str, Field(max_length=150)] = ""


def operator(request: HttpRequest) -> Any:
    """The signed-in operator; to everybody else alerts are missing."""
    user: Any = request.user
    if not user.sees_site:
        raise selectors.missing()
    return user


def named(person: Any) -> str:
    return person.username if person else ""


def alert_shown(row: Alert) -> dict[str, Any]:
    plain = ("kind", "severity", "host", "code", "text", "link", "state", "count", "raised_at", "last_at", "note")
    told = {name: getattr(row, name) for name in plain}
    people = ("owner", "acknowledged_by", "silenced_by", "resolved_by")
    times = ("acknowledged_at", "silenced_until", "silence_reason", "resolved_at")
    told |= {name: named(getattr(row, name)) for name in people} | {name: getattr(row, name) for name in times}
    return {"id": row.pk, "runbook": f"/operator/alerts/runbooks/#{row.kind}", **told}


@router.get("/alerts", response=Listed[AlertOut])
def alert_list(request: HttpRequest, paging: Query[Paging], asked: Query[AskedAlerts]) -> Any:
    """The alerts that are not over, newest first, or those of one state, host, kind, severity or owner."""
    wanted = selectors.Wanted(**asked.dict())
    found = selectors.alerts_wanted(user=operator(request), wanted=wanted)
    return pages(request, found, paging, by="-id", shown=alert_shown)


@router.get("/alerts/runbooks", response=Listed[RunbookOut])
def runbook_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """What each kind of alert means and what to do about it."""
    operator(request)
    with translation.override("en"):
        rows = [
            {
                "kind": kind,
                **{name: str(getattr(book, name)) for name in ("label", "means", "unharmed", "ends")},
                "steps": [str(step) for step in book.steps],
                "by_hand": book.by_hand,
            }
            for kind, book in RUNBOOKS.items()
        ]
    return pages(request, rows, paging, by="kind")


@router.post("/alerts/test", response={201: AlertOut})
def alert_try(request: HttpRequest) -> Any:
    """Raise an alert that means nothing: it goes the whole way, by page, mail and webhook."""
    row = services.test(by=operator(request))
    return Status(201, alert_shown(row))


@router.get("/alerts/{int:pk}", response=AlertOut)
def alert_get(request: HttpRequest, pk: int) -> Any:
    """One alert."""
    return alert_shown(selectors.alert_get(user=operator(request), pk=pk))


def again(request: HttpRequest, row: Alert) -> dict[str, Any]:
    return alert_shown(selectors.alert_get(user=operator(request), pk=row.pk))


@router.post("/alerts/{int:pk}/acknowledge", response=AlertOut)
def alert_acknowledge(request: HttpRequest, pk: int, body: NoteIn) -> Any:
    """You have seen it, and take it on unless somebody has it already."""
    row = selectors.alert_get(user=operator(request), pk=pk)
    return again(request, services.acknowledge(by=operator(request), alert=row, note=body.note))


@router.put("/alerts/{int:pk}/owner", response=AlertOut)
def alert_hand_over(request: HttpRequest, pk: int, body: OwnerIn) -> Any:
    """From now on this operator sees to it."""
    row = selectors.alert_get(user=operator(request), pk=pk)
    return again(request, services.hand_over(by=operator(request), alert=row, person=body.person))


@router.put("/alerts/{int:pk}/silence", response=AlertOut)
def alert_silence(request: HttpRequest, pk: int, body: SilenceIn) -> Any:
    """Nothing is sent of it until then; it stays in the list. A silence has an end, at most 30 days ahead."""
    row = selectors.alert_get(user=operator(request), pk=pk)
    until = body.until if body.until.tzinfo else body.until.replace(tzinfo=dt.UTC)
    return again(request, services.silence(by=operator(request), alert=row, until=until, reason=body.reason))


@router.delete("/alerts/{int:pk}/silence", response=AlertOut)
def alert_lift(request: HttpRequest, pk: int) -> Any:
    """The silence ends now; what it kept back is told."""
    row = selectors.alert_get(user=operator(request), pk=pk)
    return again(request, services.lift(by=operator(request), alert=row))


@router.post("/alerts/{int:pk}/resolve", response=AlertOut)
def alert_resolve(request: HttpRequest, pk: int, body: NoteIn) -> Any:
    """It is over. Refused for what still holds and can only end by itself."""
    row = selectors.alert_get(user=operator(request), pk=pk)
    return again(request, services.resolve_by_hand(by=operator(request), alert=row, note=body.note))
