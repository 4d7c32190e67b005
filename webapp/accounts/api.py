"""Who calls, and the person's API tokens."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Status
from ninja import Schema as Shape
from pydantic import ConfigDict

from webapp.accounts import tokens
from webapp.accounts.models import ApiToken
from webapp.rest.doors import manager
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.roles import role_names

router = Router(tags=["account"])
Scope = Literal["read", "write", "manage"]


class AccountOut(Shape):
    username: str
    roles: list[str]
    organisations: list[str]
    token: int | None = Field(description="The number of the token that this call carries; null with a session.")
    scope: Scope


class TokenOut(Shape):
    id: int
    name: str
    hint: str
    scope: Scope
    organisation: str
    created_at: dt.datetime
    expires_at: dt.datetime
    last_used_at: dt.datetime | None


class TokenIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "backup of wishes", "scope": "read", "days": 30}]}
    )
    name: Annotated[str, Field(min_length=1, max_length=80)]
    scope: Scope = "read"
    days: Annotated[int, Field(ge=1, le=365)] = 30
    organisation: Annotated[str, Field(max_length=63)] = ""


class TokenMadeOut(TokenOut):
    secret: str | None = Field(description="Told this once. In a repeat of the call it is null.")


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def token_shown(token: ApiToken) -> dict[str, Any]:
    fields = ("id", "name", "hint", "scope", "created_at", "expires_at", "last_used_at")
    return {"organisation": token.tenant, **{field: getattr(token, field) for field in fields}}


@router.get("/account", response=AccountOut)
def account_get(request: HttpRequest) -> Any:
    """Who you are here: your roles and organisations, as far as the token of this call reaches."""
    user, token = person(request), getattr(request, "token", None)
    return {
        "username": user.get_username(),
        "roles": role_names(user),
        "organisations": user.tenant_slugs,
        "token": token.pk if token else None,
        "scope": token.scope if token else "manage",
    }


@router.get("/account/tokens", response=Listed[TokenOut])
def token_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Your tokens that are not revoked, newest first. Their secrets are kept nowhere."""
    return pages(request, tokens.tokens_of(user=person(request)), paging, by="-id", shown=token_shown)


@router.post("/account/tokens", response={201: TokenMadeOut}, auth=manager)
def token_make(request: HttpRequest, given: TokenIn) -> Any:
    """Make a token. Its secret is in this answer and never told again. Scope manage."""
    token, secret = tokens.token_make(
        by=person(request),
        name=given.name,
        scope=given.scope,
        days=given.days,
        tenant=given.organisation,
        through=getattr(request, "token", None),
    )
    request.told_once = "secret"  # type: ignore[attr-defined]
    return Status(201, {**token_shown(token), "secret": secret})


@router.delete("/account/tokens/{int:number}", response={204: None}, auth=manager)
def token_revoke(request: HttpRequest, number: int) -> Any:
    """Revoke a token. It opens nothing from now on; revoking it twice is once. Scope manage."""
    tokens.token_revoke(by=person(request), token_id=number)
    return Status(204, None)
