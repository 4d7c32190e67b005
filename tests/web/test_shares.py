"""Links to moments: made by who may see it, frozen, opened by whom the maker chose, gone when revoked."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import Cast
from tests.web.lab import make_class, work_all
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.classroom import services as table
from webapp.classroom.models import Cell
from webapp.courses import classes, lab
from webapp.courses.models import Attempt, Item
from webapp.errors import VpmsError
from webapp.ops import story
from webapp.runs import engine
from webapp.runs import services as runs
from webapp.runs.models import Run
from webapp.shares import services, things
from webapp.shares.models import Share
from webapp.tenants.models import Membership
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db
WALK = {"kind": "walk", "case": "nested", "step": "7"}


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def made(user: Any, **given: Any) -> Share:
    kind = given.pop("kind", "walk")
    more = {name: given.pop(name) for name in ("name", "days", "public") if name in given}
    return services.share_make(by=user, kind=kind, asked=given or {"case": "nested", "step": "7"}, **more)


def opened(share: Share, user: Any = None) -> Any:
    return (as_(user) if user else Client()).get(services.path_of(share))


@pytest.fixture
def cell(db: Any) -> Cell:
    table.table_prepare()
    cell = Cell.objects.get(attack="A03", architecture="hsvm", skip="")
    table.cell_run(cell_id=cell.pk)
    return Cell.objects.get(pk=cell.pk)


@pytest.fixture
def run(cast: Cast) -> Run:
    """a-db of alpha and b-web of beta run on one host."""
    engine._hot.clear()
    for user, vm in ((cast.alice, cast.a_db), (cast.bob, cast.b_web)):
        runs.vm_start(by=user, vm=vm)
        story.drain()
        story._all_accept("h1")
        story.drain()
    return Run.objects.get()


# -- making and opening


def test_a_link_is_made_on_its_page_listed_opened_and_revoked(cast: Cast) -> None:
    client = as_(cast.bob)
    page = client.get("/shared/new/", WALK).content.decode()
    assert "one step of a page walk" in page and not Share.objects.exists()  # to look at the form makes nothing
    answer = client.post("/shared/new/", {**WALK, "name": "For Monday", "days": "7"})
    share = Share.objects.get()
    assert answer["Location"] == f"/shared/#share-{share.pk}"
    assert dt.timedelta(days=6) < share.ends_at - timezone.now() < dt.timedelta(days=7)
    mine = client.get("/shared/").content.decode()
    address = re.search(r'readonly value="http://testserver(/s/[^"]+)"', mine)
    assert address and address[1] == services.path_of(share) and "For Monday" in mine
    page = as_(cast.alice).get(address[1]).content.decode()
    assert "For Monday" in page and "Reference 7 of 24" in page and "Reference 8 of 24" not in page
    assert "<form" not in page.split("<main")[1].split("</main")[0]  # to look and nothing else
    svg = as_(cast.alice).get(address[1] + "picture.svg")
    assert svg["Content-Type"] == "image/svg+xml" and b"Reference 7 of 24" in svg.content and b"engine" in svg.content
    assert as_(cast.alice).post(f"/shared/{share.pk}/revoke/").status_code == 404
    assert client.post(f"/shared/{share.pk}/revoke/").status_code == 302
    for path in (address[1], address[1] + "picture.svg", address[1] + "frames"):
        assert client.get(path).status_code == 404 and as_(cast.alice).get(path).status_code == 404
    assert client.post(f"/shared/{share.pk}/revoke/").status_code == 404


def test_a_link_opens_without_an_account_only_if_maker_and_operator_say_so(cast: Cast, settings: Any) -> None:
    closed = made(cast.bob)
    assert opened(closed).status_code == 302 and "/sign-in/" in opened(closed)["Location"]
    with pytest.raises(VpmsError, match="operator"):
        made(cast.bob, public=True)
    settings.SHARES_PUBLIC = True
    public = made(cast.bob, public=True)
    assert opened(public).status_code == 200 and opened(closed).status_code == 302
    assert Client().get(services.path_of(closed) + "picture.svg").status_code == 401
    guest, _word = classes.seat_take(
        session=classes.class_of_lesson(by=cast.ines, name="two-translations", language="en"), user=None, nickname="G"
    )
    assert opened(public, guest.member.user).status_code == 200
    assert opened(closed, guest.member.user).status_code == 302
    assert as_(guest.member.user).get("/shared/new/", WALK).status_code == 403
    settings.SHARES_PUBLIC = False
    assert opened(public).status_code == 302 and opened(public, cast.alice).status_code == 200


def test_an_address_that_was_guessed_changed_or_is_over_opens_nothing(cast: Cast) -> None:
    share = made(cast.bob, days=1)
    ref = services.ref_of(share)
    other = services.ref_of(made(cast.bob))
    client = as_(cast.alice)
    for wrong in (f"{share.pk}-{'0' * 40}", f"{share.pk}", other.split("-")[0] + "-" + ref.split("-")[1], "x" * 50):
        assert client.get(f"/s/{wrong}/").status_code == 404, wrong
    Share.objects.filter(pk=share.pk).update(ends_at=timezone.now())
    assert client.get(f"/s/{ref}/").status_code == 404
    assert "over" in as_(cast.bob).get("/shared/").content.decode()
    statuses = [client.get(f"/s/{share.pk}-{'1' * 40}/").status_code for _ in range(services.GUESSES_A_MINUTE + 40)]
    assert 429 in statuses


def test_a_link_falls_with_its_makers_account(cast: Cast) -> None:
    from webapp.tenants import people

    share = made(cast.alice)
    User.objects.filter(pk=cast.alice.pk).update(is_active=False)
    assert opened(share, cast.bob).status_code == 404
    User.objects.filter(pk=cast.alice.pk).update(is_active=True)
    assert opened(share, cast.bob).status_code == 200
    assert as_(cast.alice).get("/api/account/data").json()["shares"][0]["about"] == {"case": "nested", "step": 7}
    Membership.objects.filter(user=cast.alice).delete()
    people.account_delete(user=User.objects.get(pk=cast.alice.pk))
    assert not Share.objects.exists() and opened(share, cast.bob).status_code == 404


def test_links_are_bounded_in_number_and_pace(cast: Cast) -> None:
    Share.objects.bulk_create(
        Share(maker=cast.bob, kind="walk", about={}, shown={"title": "x"}, nonce="n") for _ in range(services.MOST)
    )
    with pytest.raises(VpmsError, match="Revoke one first"):
        made(cast.bob)
    with pytest.raises(VpmsError, match="Wait a minute"):
        for _ in range(2 * services.MADE_A_MINUTE + 2):
            made(cast.alice)


@pytest.mark.parametrize(
    "given",
    [{"kind": "shell"}, {"case": "none", "step": "1"}, {"case": "nested", "step": "-1"}, {"case": "nested"}]
    + [{"days": 3}, {"name": "x" * 121}, {"kind": "replay", "cell": "x"}, {"kind": "moment", "run": "1"}],
)
def test_what_is_no_moment_makes_no_link(cast: Cast, given: dict[str, Any]) -> None:
    with pytest.raises(VpmsError):
        made(cast.alice, **given)
    assert not Share.objects.exists()


# -- what is frozen


def test_a_replay_and_the_matrix_stay_as_they_were(cast: Cast, cell: Cell) -> None:
    replay = made(cast.bob, kind="replay", cell=str(cell.pk), step="2")
    matrix = made(cast.bob, kind="matrix", case="x")
    before = [opened(share, cast.alice).content.decode().split("<main")[1] for share in (replay, matrix)]
    assert "A03 on hsvm" in before[0] and "Owner" in before[0]
    assert "BLOCKED" in before[1] and "no letter: stated in the paper" in before[1]
    svg = as_(cast.alice).get(services.path_of(matrix) + "picture.svg").content.decode()
    assert "BLOCKED" in svg and "no letter" in svg and "#dcefe3" in svg
    Cell.objects.all().delete()
    assert [opened(share, cast.alice).content.decode().split("<main")[1] for share in (replay, matrix)] == before


def test_an_attempt_is_ones_own_and_shows_no_points_and_no_seed_of_what_was_handed_in(cast: Cast) -> None:
    room = make_class()
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    work_all()
    attempt = Attempt.objects.get()
    for user in (room.mia, room.ines, cast.bob):  # not even who teaches it
        with pytest.raises(VpmsError, match="nothing here"):
            made(user, kind="attempt", attempt=str(attempt.pk))
    share = made(room.stu, kind="attempt", attempt=str(attempt.pk))
    told = json.dumps(share.shown) + opened(share, room.mia).content.decode().split("<main")[1]
    assert "offset: 2048" in told and "seed" not in json.dumps(share.shown["facts"])
    for word in ("points", "idden", str(room.member.seed)):
        assert word not in told.replace(room.solution, ""), word
    Attempt.objects.all().delete()
    assert "offset: 2048" in opened(share, room.mia).content.decode()


def test_a_task_that_still_counts_is_not_given_away(cast: Cast) -> None:
    room = make_class()
    lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, seed=4)
    work_all()
    attempt = str(Attempt.objects.get().pk)
    Item.objects.update(due_at=timezone.now() + dt.timedelta(days=1))
    with pytest.raises(VpmsError, match="once it is due"):
        made(room.stu, kind="attempt", attempt=attempt)
    Item.objects.update(due_at=timezone.now() - dt.timedelta(days=1))
    assert "SUCCEEDED" in opened(made(room.stu, kind="attempt", attempt=attempt), room.mia).content.decode()


def test_a_tenants_moment_stays_a_tenants_view_whoever_opens_it(cast: Cast, run: Run) -> None:
    mine = made(cast.alice, kind="moment", run=str(run.pk), step=str(run.seq))
    whole = made(cast.olga, kind="moment", run=str(run.pk), op=str(run.op))
    assert "b-web" in json.dumps(whole.shown) and "b-web" in bytes(whole.frames).decode("latin-1")
    for user in (cast.alice, cast.bob, cast.olga):
        page = opened(mine, user).content.decode().split("<main")[1]
        frames = as_(user).get(services.path_of(mine) + "frames").content
        for secret in ("b-web", "beta", "bob"):
            assert secret not in page and secret.encode() not in frames, (user, secret)
        assert b"run/%d/tlb" % run.pk not in frames and 'data-view="tlb"' not in page
    with pytest.raises(VpmsError):  # operation numbers count what neighbours do
        made(cast.alice, kind="moment", run=str(run.pk), op=str(run.op))
    stranger = User.objects.create(username="sam")
    with pytest.raises(VpmsError, match="nothing here"):
        made(stranger, kind="moment", run=str(run.pk), step="1")
    assert [entry.type for entry in Entry.objects.filter(type__startswith="share.")] == ["share.made"] * 2


def test_a_moment_stays_when_its_run_is_gone_and_falls_with_the_makers_role(cast: Cast, run: Run) -> None:
    share = made(cast.alice, kind="moment", run=str(run.pk), step=str(run.seq))
    frames = as_(cast.bob).get(services.path_of(share) + "frames").content
    run.checkpoints.all().delete()
    assert as_(cast.bob).get(services.path_of(share) + "frames").content == frames
    Membership.objects.filter(user=cast.alice).delete()
    assert opened(share, cast.bob).status_code == 404
    membership_add(by=None, user=User.objects.get(pk=cast.alice.pk), role="member", tenant=cast.alpha)
    assert opened(share, cast.bob).status_code == 200
    services.share_revoke(by=cast.alice, pk=share.pk)
    assert Entry.objects.filter(type="share.revoked").count() == 1


def test_who_only_reads_shares_nothing(cast: Cast) -> None:
    nora = User.objects.create(username="nora")
    membership_add(by=None, user=nora, role="auditor", tenant=cast.alpha)
    client = as_(nora)
    assert client.post("/shared/new/", WALK).status_code == 403
    assert (
        client.post("/api/shares", json.dumps({"kind": "matrix"}), content_type="application/json").status_code == 403
    )
    assert "Share this step" not in client.get("/learn/walk/").content.decode()
    assert "Share this step" in as_(cast.alice).get("/learn/walk/").content.decode()
    assert "Share this step" not in Client().get("/learn/walk/").content.decode()


def test_the_same_by_api(cast: Cast) -> None:
    client = as_(cast.bob)

    def post(**body: Any) -> Any:
        return client.post("/api/shares", json.dumps(body), content_type="application/json")

    answer = post(kind="walk", case="nested", step=3, name="Three", days=0)
    assert answer.status_code == 201 and answer.json()["ends_at"] is None
    ref = answer.json()["path"].split("/")[2]
    assert client.get("/api/shares").json()["items"][0]["name"] == "Three"
    assert as_(cast.alice).get("/api/shares").json()["items"] == []
    shown = as_(cast.alice).get(f"/api/shared/{ref}").json()
    assert shown["name"] == "Three" and len(shown["shown"]["tables"][0]["rows"]) == 3
    assert Client().get(f"/api/shared/{ref}").status_code == 401
    assert as_(cast.alice).delete(f"/api/shares/{answer.json()['id']}").status_code == 404
    assert client.delete(f"/api/shares/{answer.json()['id']}").status_code == 204
    assert client.get(f"/api/shared/{ref}").status_code == 404
    assert post(kind="walk", case="nested", step=3, extra=1).status_code == 422
    assert set(things.THINGS) == {"walk", "strip", "replay", "matrix", "attempt", "moment"}
