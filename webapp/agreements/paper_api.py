"""Signed agreements and keys by API, as the pages list them and as the files that can be checked elsewhere."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from webapp.agreements import papers
from webapp.rest.doors import manager
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.tenants.selectors import missing, tenants_of
from webapp.vpms import agreement as language

router = Router(tags=["papers"])
Number = Annotated[int, Field(ge=1, lt=2**63)]


class AgreementOut(Schema):
    id: int
    name: str
    version: int
    host: str
    in_force: bool
    digest: str
    own: list[str] = Field(description="Your VMs among the parties.")
    parties: int
    signed: bool = Field(description="Every signature was checked now and holds.")
    until: str
    whole: bool = Field(description="You may read the whole envelope; else your part of it.")
    created_at: dt.datetime


class KeyOut(Schema):
    id: int
    whose: str
    public: str
    keyid: str
    created_at: dt.datetime
    retired_at: dt.datetime | None


class KeyIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tenant": "my-org"}]})
    tenant: Annotated[str, Field(max_length=63)] | None = Field(
        description="The organisation whose key is replaced; null: the operator's."
    )


class KeyIdOut(Schema):
    public: str
    keyid: str
    created_at: dt.datetime


def person(request: HttpRequest) -> Any:
    """The signed-in user; the API lets nobody else in."""
    return request.user


def agreement_shown(row: dict[str, Any]) -> dict[str, Any]:
    agreement = row["agreement"]
    return {
        "id": agreement.pk,
        "name": agreement.agreement,
        "host": agreement.host.name,
        **{field: getattr(agreement, field) for field in ("version", "in_force", "digest", "created_at")},
        **{field: row[field] for field in ("own", "parties", "signed", "until", "whole")},
    }


@router.get("/agreements", response=Listed[AgreementOut])
def agreement_list(request: HttpRequest, paging: Query[Paging], in_force: bool = False) -> Any:
    """Agreements to which you are a party (operators: all), newest first, each verified now."""
    user = person(request)
    found = papers.agreements_of(user=user)
    found = found.filter(in_force=True) if in_force else found
    return pages(
        request, found, paging, by="-id", shown=lambda row: agreement_shown(papers.row_shown(user=user, agreement=row))
    )


@router.get("/agreements/{int:number}", response=dict[str, Any])
def agreement_get(request: HttpRequest, number: Number) -> Any:
    """The envelope, byte for byte what was signed, or your part of it."""
    user = person(request)
    return papers.paper_of(user=user, agreement=papers.agreement_get(user=user, pk=number))


@router.get("/keys", response=Listed[KeyOut])
def key_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The public keys of your organisations and of the operator, with the retired ones, newest first."""
    rows = [
        {
            "whose": row["whose"],
            "keyid": row["keyid"],
            **{field: getattr(row["key"], field) for field in ("id", "public", "created_at", "retired_at")},
        }
        for row in papers.keys_of(user=person(request))
    ]
    return pages(request, rows, paging, by="-id")


@router.get("/keys/file", response=dict[str, str])
def key_file(request: HttpRequest, agreement: Annotated[int, Field(ge=1, lt=2**63)] | None = None) -> Any:
    """Party and public key, for `vpms verify --keys`: those in use now, or when the agreement was made."""
    user = person(request)
    of = papers.agreement_get(user=user, pk=agreement) if agreement is not None else None
    return papers.key_file(user=user, agreement=of)


@router.post("/keys/replace", response=KeyIdOut, auth=manager)
def key_replace(request: HttpRequest, given: KeyIn) -> Any:
    """A new signing key from now on; what the old one signed stays valid. 409 while a negotiation needs the old one.
    Scope manage."""
    user = person(request)
    tenant = None
    if given.tenant is not None:
        tenant = tenants_of(user=user).filter(slug=given.tenant).first()
        if tenant is None:
            raise missing()
    key = papers.key_rotate(by=user, tenant=tenant)
    return {"public": key.public, "keyid": language.key_id(key.public), "created_at": key.created_at}
