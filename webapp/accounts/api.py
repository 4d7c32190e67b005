"""Who calls: the person's profile, sign-ins, own data and API tokens.

What opens the account (password, second factors, e-mail address, its end) is changed on the pages only: a token that
is lost must not take the account with it.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.conf import settings
from django.http import HttpRequest
from ninja import Field, Query, Router, Status
from ninja import Schema as Shape
from pydantic import ConfigDict

from webapp.accounts import selectors, services, sessions, tokens
from webapp.accounts.models import ApiToken
from webapp.errors import VpmsError
from webapp.rest.doors import governor, manager, oneself
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.roles import role_names

router = Router(tags=["account"])
Number = Annotated[int, Field(ge=1, lt=2**63)]
Scope = Literal["read", "write", "manage"]


class AccountOut(Shape):
    username: str
    full_name: str
    email: str
    language: str = Field(description="Of mails to you.")
    roles: list[str]
    organisations: list[str]
    token: int | None = Field(description="The number of the token that this call carries; null with a session.")
    scope: Scope


class ProfileIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"full_name": "Dana Reed"}]})
    full_name: Annotated[str, Field(max_length=120)]
    language: Annotated[str, Field(max_length=16, description="Of mails to you. Left out: as it is.")] = ""


class SignInOut(Shape):
    id: int
    where: str
    address: str | None
    since: dt.datetime
    seen_at: dt.datetime | None
    this: bool = Field(description="The session that this call carries.")


class EndedOut(Shape):
    ended: int


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
        "full_name": user.first_name,
        "email": user.email,
        "language": user.language or settings.LANGUAGE_CODE,
        "roles": role_names(user),
        "organisations": user.tenant_slugs,
        "token": token.pk if token else None,
        "scope": token.scope if token else "manage",
    }


@router.put("/account", response=AccountOut, auth=oneself)
def account_put(request: HttpRequest, given: ProfileIn) -> Any:
    """Change the name that is shown beside your account's name, and the language of mails to you. Scope manage, of a
    token for all your organisations."""
    user = person(request)
    if given.language:
        services.language_set(user=user, language=given.language)
    services.name_set(user=user, full_name=given.full_name)
    return account_get(request)


@router.get("/account/data", response=dict[str, Any], auth=oneself)
def data_get(request: HttpRequest) -> Any:
    """Everything that is kept about you as a person, to take away. Scope manage, of a token for all your
    organisations."""
    return selectors.own_data(user=person(request))


@router.get("/account/sessions", response=Listed[SignInOut], auth=oneself)
def session_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Where you are signed in, newest first. Scope manage, of a token for all your organisations."""
    own = request.session.session_key if getattr(request, "token", None) is None else None
    shown = [selectors.session_shown(row, own=own) for row in sessions.live_of(user=person(request))]
    rows = [{**row, "id": row["pk"], "seen_at": row["seen"]} for row in shown]
    return pages(request, rows, paging, by="-id")


@router.delete("/account/sessions", response=EndedOut, auth=oneself)
def session_end_others(request: HttpRequest) -> Any:
    """End every sign-in of yours but the one that this call carries. Tokens stay. Scope manage, of a token for all
    your organisations."""
    own = request.session.session_key if getattr(request, "token", None) is None else None
    return {"ended": services.sessions_end(user=person(request), but=own)}


@router.delete("/account/sessions/{int:number}", response={204: None}, auth=oneself)
def session_end(request: HttpRequest, number: Number) -> Any:
    """End one sign-in of yours; its open pages close. Scope manage, of a token for all your organisations."""
    if not services.sessions_end(user=person(request), pk=number):
        raise VpmsError("not_found", 404, message="There is nothing here that you may see.")
    return Status(204, None)


@router.get("/account/tokens", response=Listed[TokenOut])
def token_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """Your tokens that are not revoked, newest first. Their secrets are kept nowhere."""
    return pages(request, tokens.tokens_of(user=person(request)), paging, by="-id", shown=token_shown)


@router.post("/account/tokens", response={201: TokenMadeOut}, auth=governor)
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
