"""Screens on the wall: playlists, panels that follow one another without script too, and a session that stays there."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from tests.web.test_runs import client_of, running  # noqa: F401  a fixture
from webapp.audit.models import Entry
from webapp.ops import kiosk
from webapp.ops.models import Playlist
from webapp.runs import engine
from webapp.runs.models import Run

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()


def playlist(cast: Any, panels: list[str]) -> str:
    """The token of the playlist `hall`."""
    return kiosk.playlist_put(by=cast.olga, name="hall", panels=panels, rotate_seconds=20)[1]


def test_an_operator_makes_changes_and_deletes_playlists_and_the_token_is_shown_once(cast: Any) -> None:
    client = client_of(cast.olga)
    made = client.post("/operator/screens/", {"name": "hall", "panels": "wall, map:h1", "rotate": "30"})
    [token] = re.findall(r"<code class=\"mono\">(\w{16})</code>", made.content.decode())
    row = Playlist.objects.get()
    assert (row.panels, row.rotate_seconds) == (["wall", "map:h1"], 30) and token not in row.token_digest
    assert token not in client.get("/operator/screens/").content.decode()
    client.post("/operator/screens/", {"name": "hall", "panels": "matrix", "rotate": "5"})
    row.refresh_from_db()
    assert row.panels == ["matrix"] and row.token_digest == Playlist.objects.get().token_digest
    for typed, said in (
        ({"name": "No Name", "panels": "wall", "rotate": "20"}, "small letters"),
        ({"name": "b", "panels": "map:h9", "rotate": "20"}, "the name of a host"),
        ({"name": "b", "panels": "", "rotate": "20"}, "must be 1 to 12"),
        ({"name": "b", "panels": "wall", "rotate": "0"}, "must be from 5 to 3600"),
    ):
        refused = client.post("/operator/screens/", typed)
        assert refused.status_code == 422 and said in refused.content.decode()
    assert client.put(
        "/api/playlists/door", {"panels": ["wall"], "rotate_seconds": 10}, content_type="application/json"
    ).json()["token"]
    assert [each["name"] for each in client.get("/api/playlists").json()["items"]] == ["door", "hall"]
    before = row.token_digest
    assert client.post("/operator/screens/hall/", {"act": "token"}).status_code == 200
    row.refresh_from_db()
    assert row.token_digest != before
    client.post("/operator/screens/hall/", {"act": "delete"})
    assert client.delete("/api/playlists/door").status_code == 204 and not Playlist.objects.exists()
    told = Entry.objects.filter(type__startswith="playlist.").values_list("type", "actor")
    assert len(told) == 6 and {actor for _, actor in told} == {cast.olga.alias}


def test_panels_follow_one_another_without_script_and_the_address_may_choose_others(
    cast: Any,
    running: Run,  # noqa: F811
) -> None:
    playlist(cast, ["wall", "map:h1", "matrix"])
    client = client_of(cast.olga)
    at, seen = "", []
    for _ in range(4):
        page = client.get(f"/kiosk/hall/{at}").content.decode()
        [(seconds, at)] = re.findall(r'http-equiv="refresh" content="(\d+);url=([^"]+)"', page)
        seen.append(re.findall(r"<h1>([^<]+)</h1>", page)[0])
        assert seconds == "20" and 'data-part="clock"' in page and 'data-part="live-chip"' in page
        assert "topbar" not in page and 'class="rail"' not in page
        assert "a-db" not in page and "alpha" not in page, "names of VMs are nothing for passers-by"
    assert seen == ["Wall", "Memory of h1", "Attacks and architectures", "Wall"]
    page = client.get("/kiosk/hall/?theme=dark&rotate=7s&panels=matrix,wall").content.decode()
    assert 'data-theme="dark"' in page and 'content="7;url=?theme=dark' in page and "1 of 2" in page
    for wrong in ("theme=pink", "rotate=1s", "rotate=soon", "panels=map:h7", "panels=secrets"):
        assert client.get(f"/kiosk/hall/?{wrong}").status_code == 422
    assert client.get("/kiosk/no-such/").status_code == 404
    assert client_of(cast.alice).get("/kiosk/hall/").status_code == 403
    assert Client().get("/kiosk/hall/").status_code == 302


def test_a_locked_session_opens_nothing_but_its_screen_until_the_token_is_given(cast: Any) -> None:
    token = playlist(cast, ["wall"])
    client = client_of(cast.olga)
    assert client.post("/kiosk/hall/lock/")["Location"] == "/kiosk/hall/"
    for path in ("/operator/", "/operator/audit/", "/account/", "/kiosk/other/", "/tenant/", "/"):
        assert client.get(path)["Location"] == "/kiosk/hall/", path
    for path in ("/sign-out/", "/operator/host/h1/run/", "/theme/", "/operator/screens/hall/"):
        assert client.post(path).status_code == 403, path
    answer = client.get("/api/hosts")
    assert (answer.status_code, answer.json()["code"]) == (403, "locked")
    page = client.get("/kiosk/hall/").content.decode()
    assert "data-locked" in page and token not in page
    client.post("/kiosk/hall/leave/", {"token": "0" * 16})
    assert "It stays locked" in client.get("/kiosk/hall/").content.decode()
    assert client.get("/operator/")["Location"] == "/kiosk/hall/"
    assert client.post("/kiosk/hall/leave/", {"token": f" {token} "})["Location"] == "/operator/wall/"
    assert client.get("/operator/").status_code == 200
    assert list(Entry.objects.filter(type__startswith="kiosk.").order_by("seq").values_list("type", flat=True)) == [
        "kiosk.locked",
        "kiosk.left",
    ]


def test_a_screen_whose_playlist_was_deleted_is_signed_out(cast: Any) -> None:
    playlist(cast, ["wall"])
    client = client_of(cast.olga)
    client.post("/kiosk/hall/lock/")
    Playlist.objects.all().delete()
    assert client.get("/operator/", follow=True).redirect_chain[-1][0].startswith("/sign-in/")
    assert client.get("/operator/")["Location"].startswith("/sign-in/")
