"""Notices, choices and webhooks by API: everything that the pages do."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.notices import selectors, services
from webapp.notices.models import Delivery, Endpoint, Notice
from webapp.rest.doors import manager
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["notices"])
Number = Annotated[int, Field(ge=0, le=2**53)]
Kinds = Annotated[list[Annotated[str, Field(max_length=16)]], Field(max_length=50)]


class NoticeOut(Schema):
    id: int
    at: dt.datetime
    organisation: str
    kind: str
    severity: str
    code: str
    subject: str
    text: str
    link: str
    read_at: dt.datetime | None


class UnreadOut(Schema):
    unread: int


class ReadIn(Strict):
    """Without both: all."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"ids": [5]}]})
    ids: Annotated[list[Number], Field(max_length=services.MOST_AT_ONCE)] | None = None
    upto: Number | None = None


class ReadOut(Schema):
    read: int


class ModesIn(Schema):
    page: str
    mail: str


class ChoicesIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"choices": {"vm": {"page": "now", "mail": "digest"}}, "hour": 7}]},
    )
    choices: Annotated[dict[str, ModesIn], Field(max_length=50)]
    every: Annotated[str, Field(max_length=16)] = "daily"
    hour: int = 7
    weekday: int = 0


class ChoicesOut(Schema):
    choices: dict[str, ModesIn]
    every: str
    hour: int
    weekday: int


class EndpointIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"organisation": "my-clinic", "url": "https://example.org/vpms", "kinds": ["deadline"]}]
        },
    )
    organisation: Annotated[str, Field(max_length=63)]
    url: Annotated[str, Field(max_length=500)]
    kinds: Kinds


class EndpointChangeIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"kinds": ["breach"], "active": True}]})
    kinds: Kinds
    active: bool


class RotationIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"rotation": 1}]})
    rotation: Number


class EndpointOut(Schema):
    id: int
    organisation: str
    url: str
    kinds: list[str]
    active: bool
    failures: int
    rotation: int
    both_secrets_until: dt.datetime | None


class SecretOut(EndpointOut):
    secret: str | None = Field(description="Told this once. In a repeat of the call it is null.")


class AttemptOut(Schema):
    at: dt.datetime
    status: int | None
    error: str


class DeliveryOut(Schema):
    id: uuid.UUID
    state: str
    test: bool
    code: str
    made_at: dt.datetime
    next_try_at: dt.datetime | None
    tries: list[AttemptOut]


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def notice_shown(notice: Notice) -> dict[str, Any]:
    event = notice.event
    return {
        "id": notice.pk,
        "at": event.at,
        "organisation": event.tenant,
        "kind": event.kind,
        "severity": event.severity,
        "code": event.code,
        "subject": event.subject,
        "text": event.text,
        "link": event.link,
        "read_at": notice.read_at,
    }


def endpoint_shown(row: Endpoint, secret: str = "") -> dict[str, Any]:
    told = {
        "id": row.pk,
        "organisation": row.tenant,
        "url": row.url,
        "kinds": row.kinds,
        "active": row.active,
        "failures": row.failures,
        "rotation": row.rotation,
        "both_secrets_until": row.before_until,
    }
    return {**told, "secret": secret} if secret else told


def delivery_shown(row: Delivery) -> dict[str, Any]:
    return {
        "id": row.uid,
        "state": row.state,
        "test": row.event is None,
        "code": row.event.code if row.event else "test",
        "made_at": row.made_at,
        "next_try_at": row.due_at,
        "tries": [{"at": each.at, "status": each.status, "error": each.error} for each in row.attempts_made.all()],
    }


@router.get("/notices", response=Listed[NoticeOut])
def notice_list(
    request: HttpRequest, paging: Query[Paging], kind: Annotated[str, Field(max_length=16)] = "", unread: bool = False
) -> Any:
    """Your notices, newest first; those of one kind, or the unread ones."""
    found = selectors.notices_of(user=person(request), kind=kind, unread=unread)
    return pages(request, found, paging, by="-id", shown=notice_shown)


@router.get("/notices/unread", response=UnreadOut)
def unread_get(request: HttpRequest) -> Any:
    """How many unread notices the bell counts."""
    return {"unread": selectors.bell_of(user=person(request))["unread"]}


@router.post("/notices/read", response=ReadOut)
def notice_read(request: HttpRequest, body: ReadIn) -> Any:
    """Mark these as read, or all up to a number, or all. Others' notices are not touched by their numbers."""
    return {"read": services.notices_read(by=person(request), ids=body.ids, upto=body.upto)}


@router.get("/notices/choices", response=ChoicesOut)
def choice_list(request: HttpRequest) -> Any:
    """What you are told on the page and by e-mail (`now`, `digest`, `off`), and when the digest comes."""
    reader = selectors.reader_of(user=person(request))
    choices = selectors.choices_of(user=person(request))
    return {"choices": choices, "every": reader.every, "hour": reader.hour, "weekday": reader.weekday}


@router.put("/notices/choices", response=ChoicesOut)
def choice_put(request: HttpRequest, body: ChoicesIn) -> Any:
    """Change the named kinds and the time of the digest (UTC); kinds that are not named stay."""
    choices = {kind: {"page": row.page, "mail": row.mail} for kind, row in body.choices.items()}
    services.choices_set(by=person(request), choices=choices, every=body.every, hour=body.hour, weekday=body.weekday)
    return choice_list(request)


@router.get("/webhooks", response=Listed[EndpointOut])
def endpoint_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The webhooks of the organisations that you own, newest first."""
    return pages(request, selectors.endpoints_of(user=person(request)), paging, by="-id", shown=endpoint_shown)


@router.post("/webhooks", response={201: SecretOut}, auth=manager)
def endpoint_post(request: HttpRequest, body: EndpointIn) -> Any:
    """A new webhook. Its secret is in this answer and never again. /api/schemas/webhook.json says what is sent. Scope
    manage."""
    row, secret = services.endpoint_create(by=person(request), tenant=body.organisation, url=body.url, kinds=body.kinds)
    request.told_once = "secret"  # type: ignore[attr-defined]
    return Status(201, endpoint_shown(row, secret))


@router.put("/webhooks/{int:pk}", response=EndpointOut)
def endpoint_put(request: HttpRequest, pk: int, body: EndpointChangeIn) -> Any:
    """What it is told, and whether it is switched on."""
    row = selectors.endpoint_get(user=person(request), pk=pk)
    row = services.endpoint_change(by=person(request), endpoint=row, kinds=body.kinds, active=body.active)
    return endpoint_shown(row)


@router.delete("/webhooks/{int:pk}", response={204: None})
def endpoint_delete(request: HttpRequest, pk: int) -> Any:
    """Nothing is sent there any more."""
    services.endpoint_delete(by=person(request), endpoint=selectors.endpoint_get(user=person(request), pk=pk))
    return Status(204, None)


@router.post("/webhooks/{int:pk}/secret", response=SecretOut, auth=manager)
def endpoint_secret(request: HttpRequest, pk: int, body: RotationIn) -> Any:
    """A new secret; for a day the one before signs too. `rotation` is the one that you see now. Scope manage."""
    row = selectors.endpoint_get(user=person(request), pk=pk)
    row, secret = services.endpoint_rotate(by=person(request), endpoint=row, rotation=body.rotation)
    request.told_once = "secret"  # type: ignore[attr-defined]
    return endpoint_shown(row, secret)


@router.post("/webhooks/{int:pk}/test", response={202: DeliveryOut})
def endpoint_test(request: HttpRequest, pk: int) -> Any:
    """Send a test; its delivery stands in the list of deliveries."""
    row = selectors.endpoint_get(user=person(request), pk=pk)
    return Status(202, delivery_shown(services.endpoint_test(by=person(request), endpoint=row)))


@router.get("/webhooks/{int:pk}/deliveries", response=Listed[DeliveryOut])
def delivery_list(request: HttpRequest, pk: int, paging: Query[Paging]) -> Any:
    """The deliveries with every try, newest first."""
    row = selectors.endpoint_get(user=person(request), pk=pk)
    return pages(request, selectors.deliveries_all(endpoint=row), paging, by="-id", shown=delivery_shown)
