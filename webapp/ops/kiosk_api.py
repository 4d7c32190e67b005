"""Playlists of the screens on the wall, by API. Operators only."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.ops import kiosk
from webapp.ops.models import Playlist
from webapp.rest.paging import Listed, Paging, Strict, pages
from webapp.runs.api import operator

router = Router(tags=["runs"])


class PlaylistOut(Schema):
    name: str
    panels: list[str]
    rotate_seconds: int


class PlaylistPutOut(PlaylistOut):
    token: str = Field(description="With which its screens are left; of a new playlist, and only this once.")


class ScreenTokenOut(Schema):
    token: str


class PlaylistIn(Strict):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"panels": ["wall", "matrix"], "rotate_seconds": 20}]},
    )
    panels: Annotated[list[Annotated[str, Field(max_length=80)]], Field(min_length=1, max_length=kiosk.MOST_PANELS)]
    rotate_seconds: Annotated[int, Field(ge=kiosk.FASTEST, le=kiosk.SLOWEST)] = 20


def shown(row: Playlist) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("name", "panels", "rotate_seconds")}


@router.get("/playlists", response=Listed[PlaylistOut])
def playlist_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """What screens on the wall show in turn. Operators only."""
    return pages(request, kiosk.playlists_of(user=operator(request)), paging, by="name", shown=shown)


@router.put("/playlists/{name}", response=PlaylistPutOut)
def playlist_put(request: HttpRequest, name: str, given: PlaylistIn) -> Any:
    """Make a playlist or change it. Operators only."""
    row, token = kiosk.playlist_put(
        by=operator(request), name=name, panels=given.panels, rotate_seconds=given.rotate_seconds
    )
    return {**shown(row), "token": token}


@router.post("/playlists/{name}/token", response=ScreenTokenOut)
def playlist_token(request: HttpRequest, name: str) -> Any:
    """A new token with which its screens are left; the old one opens nothing any more. Operators only."""
    user = operator(request)
    return {"token": kiosk.playlist_token(by=user, playlist=kiosk.playlist_get(user=user, name=name))}


@router.delete("/playlists/{name}", response={204: None})
def playlist_delete(request: HttpRequest, name: str) -> Any:
    """Away with the playlist; a screen that is locked to it is signed out. Operators only."""
    user = operator(request)
    kiosk.playlist_delete(by=user, playlist=kiosk.playlist_get(user=user, name=name))
    return Status(204, None)
