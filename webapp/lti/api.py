"""LTI by API: grades on their way back, for teachers; platforms and keys, for operators."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Router, Schema
from pydantic import ConfigDict

from webapp.courses import gradebook
from webapp.lti import keys, returns, selectors
from webapp.lti.models import Return
from webapp.rest.paging import Strict

router = Router(tags=["lti"])
Number = Annotated[int, Field(ge=1, lt=2**53)]


class ReturnOut(Schema):
    id: int
    item: int
    member: int
    nickname: str
    platform: str = Field(description="Its issuer.")
    state: str = Field(description="idle, waiting, sent or failed")
    tries: int
    points: float | None = Field(description="What the platform has; null: nothing yet.")
    sent_at: dt.datetime | None
    error: str


class ReturnsOut(Schema):
    returns: list[ReturnOut]
    platforms: list[str]


class PlatformOut(Schema):
    name: str
    issuer: str
    client_id: str
    deployments: list[str]
    teachers: bool


class SigningKeyOut(Schema):
    kid: str
    made_at: dt.datetime
    retired_at: dt.datetime | None


class LtiOut(Schema):
    platforms: list[PlatformOut]
    addresses: dict[str, str] = Field(description="What is registered at a platform: login, launch, keys.")
    keys: list[SigningKeyOut]


class KeyRotateIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seen": "0f3c9d526f0e4b1e"}]})
    seen: Annotated[str, Field(max_length=32, description="The key that signs now; another by now: nothing happens.")]


def shown(row: Return) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("state", "tries", "sent_at", "error")}
    told = {"id": row.pk, "item": row.item_id, "member": row.member_id, "nickname": row.member.nickname}
    return {**told, **plain, "platform": row.issuer, "points": row.sent_points}


@router.get("/courses/{int:pk}/returns", response=ReturnsOut)
def lti_return_list(request: HttpRequest, pk: Number) -> Any:
    """Of each student who came from a platform, whether it has the points. For the course's teachers."""
    course = gradebook.teacher_of(user=request.user, pk=pk).course
    rows = [shown(row) for row in selectors.returns_of(course=course)[:500]]
    return {"returns": rows, "platforms": selectors.contexts_of(course)}


@router.post("/courses/{int:pk}/returns/{int:number}", response=ReturnOut)
def lti_return_again(request: HttpRequest, pk: Number, number: Number) -> Any:
    """Send points again that were given up."""
    course = gradebook.teacher_of(user=request.user, pk=pk).course
    person: Any = request.user
    return shown(returns.again(by=person, row=selectors.return_get(course=course, pk=number)))


def _operator(request: HttpRequest) -> Any:
    person: Any = request.user
    if not person.sees_site:
        raise selectors.missing()
    return person


@router.get("/lti", response=LtiOut)
def lti_get(request: HttpRequest) -> Any:
    """The platforms that the settings name, what to register there, and our keys. For operators."""
    _operator(request)
    told = selectors.operator_shown()
    platforms = [
        {name: getattr(row, name) for name in ("name", "issuer", "client_id", "teachers")}
        | {"deployments": list(row.deployments)}
        for row in told["platforms"]
    ]
    return {"platforms": platforms, "addresses": told["addresses"], "keys": told["keys"]}


@router.post("/lti/keys", response=SigningKeyOut)
def lti_key_rotate(request: HttpRequest, body: KeyRotateIn) -> Any:
    """A new key signs from now on; the one before is published for 30 more days. For operators."""
    return keys.rotate(by=_operator(request), seen=body.seen)
