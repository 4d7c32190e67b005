"""Links by API: make, list, revoke, and open what somebody else shared."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.shares import services
from webapp.shares.models import Share

router = Router(tags=["shares"])
At = Annotated[int, Field(ge=0, lt=2**53)]


class ShareIn(Strict):
    """A moment: of a walk (`case`, `step`), its strip (`case`), a replay (`cell`, `step`), the matrix, an attempt of
    your own (`attempt`), or a run (`run` and `step`, for operators also `op`)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "walk", "case": "nested", "step": 7, "days": 30}]}
    )
    kind: Literal["walk", "strip", "replay", "matrix", "attempt", "moment"]
    case: Annotated[str, Field(max_length=32)] = ""
    step: At | None = None
    cell: At | None = None
    attempt: At | None = None
    run: At | None = None
    op: At | None = None
    name: Annotated[str, Field(max_length=120)] = ""
    days: Literal[0, 1, 7, 30, 90, 365] = Field(30, description="0: until it is revoked.")
    public: bool = Field(False, description="Opens without an account, where the operator allows that.")


class ShareOut(Schema):
    id: int
    kind: str
    name: str
    title: str
    path: str = Field(description="Of the link, on this site.")
    public: bool
    made_at: dt.datetime
    ends_at: dt.datetime | None


class SharedOut(Schema):
    kind: str
    name: str
    made_at: dt.datetime
    shown: dict[str, Any] = Field(description="Title, sentences, facts, tables and the rest, as the page shows them.")


def share_shown(row: Share) -> dict[str, Any]:
    plain = {name: getattr(row, name) for name in ("kind", "name", "public", "made_at", "ends_at")}
    return {"id": row.pk, "title": row.shown["title"], "path": services.path_of(row), **plain}


@router.get("/shares", response=Listed[ShareOut])
def share_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """What you have shared, newest first, with what is over."""
    user: Any = request.user
    return pages(request, Share.objects.visible_to(user).defer("frames"), paging, by="-id", shown=share_shown)


@router.post("/shares", response={201: ShareOut})
def share_make(request: HttpRequest, body: ShareIn) -> Any:
    """A link to a moment that you may see, frozen as it is now; to look at and nothing else."""
    user: Any = request.user
    given = body.dict()
    plain = {name: given.pop(name) for name in ("kind", "name", "days", "public")}
    return Status(201, share_shown(services.share_make(by=user, asked=given, **plain)))


@router.delete("/shares/{int:pk}", response={204: None})
def share_revoke(request: HttpRequest, pk: int) -> Any:
    """The link opens nothing any more, and what it showed is gone."""
    user: Any = request.user
    services.share_revoke(by=user, pk=pk)
    return Status(204, None)


@router.get("/shared/{ref}", response=SharedOut)
def share_get(request: HttpRequest, ref: str) -> Any:
    """What somebody shared, by the last part of the link's address."""
    share = services.share_opened(ref=ref, user=request.user, address=request.META.get("REMOTE_ADDR", ""))
    return {"kind": share.kind, "name": share.name, "made_at": share.made_at, "shown": share.shown}
