"""The gate: what an operator may ask of a running VM, said before, refused or really carried out, and told after."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from django.test import Client

from tests.conftest import HOST
from tests.web.test_runs import both, client_of, no_redis, running, slices, vm  # noqa: F401  fixtures
from webapp.agreements.models import Conflict, Negotiation
from webapp.audit.models import Audience, Entry
from webapp.errors import BadInput
from webapp.fleet.services import host_create
from webapp.notices.models import Notice
from webapp.runs import acts, engine, history, services
from webapp.runs.models import Act, Event, Run

pytestmark = pytest.mark.django_db
ASKED: dict[str, dict[str, Any]] = {
    "page_merge": {"other": "b-web", "pages": 12},
    "swap_out": {"pages": 8},
    "core_dump": {"form": "sealed"},
    "snapshot": {"form": "sealed"},
    "introspect": {"reader": "operator", "pages": 4},
}


def agree(cast: Any, **values: str) -> None:
    """The agreement in force says so, of both VMs."""
    agreement = cast.h1.agreements.get(in_force=True)
    envelope = json.loads(agreement.envelope)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assignment = statement["predicate"]["assignment"]
    for view in assignment["vms"].values():
        view |= values
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    cast.h1.agreements.filter(pk=agreement.pk).update(envelope=json.dumps(envelope))


def ask(cast: Any, run: Run, kind: str, name: str = "a-db", **data: Any) -> Act:
    return services.act_request(by=cast.olga, run=run, kind=kind, vm=vm(name), data=data)


def test_each_forbidden_act_is_refused_recorded_and_told(both: Run, cast: Any) -> None:  # noqa: F811
    agree(cast, page_sharing="off", swap="never", core_dump="never", snapshot="never", introspection="none")
    for kind, data in ASKED.items():
        act = ask(cast, both, kind, **data)
        slices(both, 2)
        act.refresh_from_db()
        assert (act.state, act.result["status"]) == ("refused", "DENIED"), kind
        assert act.result["digest_before"] == act.result["digest_after"]
        event = Event.objects.filter(kind="denied", vm__name="a-db").latest("id")
        assert event.check_name == f"agreement: {act.data['switch']}" and "The agreement says" in event.title
        assert Conflict.objects.filter(code=act.data["code"], switch=act.data["switch"], vms__name="a-db").exists()
        assert Entry.objects.filter(type=f"act.{kind}").exists()
        assert Notice.objects.filter(user=cast.alice, event__code=f"refused.{kind}").exists()
    told = {row.event.code for row in Notice.objects.filter(user=cast.bob) if row.event.kind == "breach"}
    assert told == {"refused.page_merge"}  # of the other acts nothing was asked of b-web
    conduct = client_of(cast.alice).get("/tenant/conduct/").content.decode()
    for switch in ("page_sharing", "swap", "core_dump", "snapshot", "introspection"):
        assert f"agreement: {switch}" in conduct


def test_neither_owner_of_a_merge_learns_the_other(both: Run, cast: Any) -> None:  # noqa: F811
    agree(cast, page_sharing="off")
    ask(cast, both, "page_merge", other="b-web", pages=4)
    slices(both, 2)
    agree(cast, page_sharing="on", memory_protection="none")
    ask(cast, both, "page_merge", other="b-web", pages=4)
    slices(both, 2)
    for person, own, other in ((cast.alice, "a-db", "b-web"), (cast.bob, "b-web", "a-db")):
        client = client_of(person)
        events = client.get(f"/api/runs/{both.pk}/events").json()["items"]
        assert len([event for event in events if "merge" in json.dumps(event) or "apart" in event["title"]]) >= 2
        conflicts = client.get("/api/conflicts").json()
        lines = [Entry.objects.get(pk=row.entry_id).line for row in Audience.objects.filter(tenant=vm(own).tenant.slug)]
        acts_told = [line for line in lines if '"act.' in line or '"conflict"' in line]
        assert other not in json.dumps([events, conflicts]) and not any(other in line for line in acts_told)


@pytest.fixture
def allowed(both: Run, cast: Any) -> Run:  # noqa: F811
    agree(
        cast, page_sharing="on", memory_protection="none", swap="encrypted", core_dump="encrypted",
        snapshot="encrypted", introspection="full", balloon="on",
    )  # fmt: skip
    return both


def test_each_allowed_act_is_carried_out_and_played_again_it_is_the_same(allowed: Run, cast: Any) -> None:
    found = {}
    for kind, data in {**ASKED, "swap_in": {"pages": 4}}.items():
        act = ask(cast, allowed, kind, **data)
        slices(allowed, 2)
        act.refresh_from_db()
        assert (act.state, act.result["status"]) == ("done", "OK"), kind
        found[kind] = act.result
        run = Run.objects.get()
        assert history.at_op(run, run.op).looker.digest() == services.player_of(run).digest(), kind
    assert found["page_merge"]["merged"] == 12 and found["swap_out"]["sealed"]
    assert found["core_dump"]["digest"] and not found["core_dump"]["secret"]
    assert found["introspect"]["secret"] and found["introspect"]["pages"] == 4
    run = slices(allowed, 2)
    assert run.figures["a-db"]["mapped"] == run.figures["a-db"]["owned"]  # a merged page is no wrong one
    assert run.figures["b-web"]["mapped"] == run.figures["b-web"]["owned"]
    live = services.player_of(run).digest()
    run.checkpoints.all().delete()
    engine._hot.clear()
    assert services.player_of(run).digest() == live  # from the very beginning, by scenario and acts alone
    page = client_of(cast.olga).get("/operator/host/h1/").content.decode()
    assert "12 of 12 compared pages were merged" in page and found["core_dump"]["digest"] in page
    after = client_of(cast.olga).get("/api/hosts/h1/acts").json()["items"]
    assert {row["kind"]: row["words"] for row in after}["introspect"] == "4 pages were read"
    assert Event.objects.filter(kind="allowed", vm__name="b-web").count() == 1


def test_a_new_agreement_that_forbids_it_parts_merged_pages_and_brings_swapped_ones_back(
    allowed: Run, cast: Any
) -> None:
    ask(cast, allowed, "page_merge", other="b-web", pages=4)
    ask(cast, allowed, "swap_out", pages=8)
    slices(allowed, 2)
    assert services.player_of(Run.objects.get()).machine.dump()["merged"]
    raw = ask(cast, allowed, "core_dump", form="raw")
    agree(cast, page_sharing="off", swap="never")
    Act.objects.create(run=allowed, kind="agreement", data=services._terms(host=cast.h1, agreement=""))
    player = services.player_of(slices(allowed, 2))
    assert player.machine.dump()["merged"] == [] and not player.images
    raw.refresh_from_db()  # only sealed ones were agreed
    assert raw.result["status"] == "DENIED" and raw.data["value_in_force"] == "encrypted"


def test_every_act_says_before_whether_it_is_allowed_and_why(both: Run, cast: Any) -> None:  # noqa: F811
    agree(cast, core_dump="encrypted", swap="never")
    page = client_of(cast.olga).get("/operator/host/h1/?vm=b-web").content.decode()
    for kind in acts.KINDS.values():
        if kind.name != "migrate":
            assert str(kind.button) % {"vm": "b-web"} in page
    assert "Choose where b-web would move" in page
    version = cast.h1.agreements.get(in_force=True).version
    assert f"“Swapping out: never” in version {version} of the host&#x27;s agreement" in page
    told = client_of(cast.olga).get("/api/hosts/h1").json()["guests"]
    dumps = {row["option"]: row for row in told[1]["acts"] if row["kind"] == "core_dump"}
    assert (dumps["raw"]["decision"], dumps["sealed"]["decision"]) == ("deny", "allow")
    assert (dumps["raw"]["switch"], dumps["raw"]["value"]) == ("core_dump", "encrypted")
    form = {"kind": "swap_out", "vm": "b-web", "pages": "4"}
    answer = client_of(cast.olga).post("/operator/host/h1/act/", form)
    assert answer.status_code == 302 and answer["Location"].endswith("?vm=b-web#acts")


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("page_merge", {"other": "a-db", "pages": 1}, "$.other"),
    ("page_merge", {"other": "c-gone", "pages": 1}, "$.other"),
    ("core_dump", {}, "$.form"),
    ("core_dump", {"form": "copied"}, "$.form"),
    ("introspect", {"reader": "operator", "pages": 0}, "$.pages"),
    ("migrate", {"host": "h1"}, "$.host"),
    ("swap_out", {"pages": 4, "form": "raw"}, "$.form"),
]


def test_what_cannot_be_asked_is_refused_by_its_field(both: Run, cast: Any) -> None:  # noqa: F811
    for kind, data, path in BAD:
        with pytest.raises(BadInput) as refused:
            ask(cast, both, kind, **data)
        assert refused.value.faults[0].path == path and not Act.objects.filter(kind=kind).exists()
    bare = acts.Facts(seals=False, proven=False, hosts={}, others=[])
    with pytest.raises(BadInput):  # a machine that cannot seal makes no sealed image
        acts.check(acts.KINDS["core_dump"], {"form": "sealed"}, bare)
    with pytest.raises(BadInput):  # nor has a host that proves nothing a probe that counts
        acts.check(acts.KINDS["introspect"], {"reader": "probe", "pages": 1}, bare)


@pytest.fixture
def moving(both: Run, cast: Any) -> Act:  # noqa: F811
    host_create(by=cast.olga, document={**HOST, "host": "h2"})
    agree(cast, live_migration="same_zone_attested")
    act = ask(cast, both, "migrate", "b-web", host="h2")
    slices(both, 2)
    act.refresh_from_db()
    assert (act.state, act.slice_no) == ("pending", None)
    return act


def test_a_move_is_the_owners_to_decide(moving: Act, cast: Any) -> None:
    bob = client_of(cast.bob)
    assert "asks whether b-web would move to h2" in bob.get("/tenant/").content.decode()
    [asked] = bob.get("/api/asked").json()["items"]
    assert (asked["kind"], asked["to"], asked["pages"]) == ("migrate", "h2", None)
    assert not Conflict.objects.filter(code="C22").exists()  # nothing in the agreement speaks against it
    assert bob.post(f"/tenant/asked/{moving.pk}/", {"answer": "agree"}).status_code == 302
    moving.refresh_from_db()
    begun = Negotiation.objects.get(pk=moving.result["negotiation"])
    assert (begun.moves, begun.host.name, begun.home.name) == (True, "h2", "h1")
    assert moving.state == "done" and vm("b-web").state == "running"


def test_a_move_that_its_owner_refuses_changes_nothing(moving: Act, cast: Any) -> None:
    client_of(cast.bob).post(f"/tenant/asked/{moving.pk}/", {"answer": "refuse"})
    slices(moving.run, 2)
    moving.refresh_from_db()
    assert (moving.state, moving.result["status"]) == ("refused", "DENIED")
    assert "its owner did not agree" in Event.objects.get(kind="denied").title.lower()
    assert not Negotiation.objects.filter(moves=True).exists()


def test_a_move_that_the_agreement_forbids_is_refused_at_once(both: Run, cast: Any) -> None:  # noqa: F811
    host_create(by=cast.olga, document={**HOST, "host": "h2"})
    agree(cast, live_migration="never")
    page = client_of(cast.olga).get("/operator/host/h1/move/b-web/").content.decode()
    assert "forbidden" in page and "Ask whether b-web moves to h2" in page
    act = ask(cast, both, "migrate", "b-web", host="h2")
    slices(both, 2)
    act.refresh_from_db()
    assert act.result["status"] == "DENIED" and Conflict.objects.filter(code="C22").exists()


def test_only_operators_see_where_a_vm_might_move(both: Run, cast: Any) -> None:  # noqa: F811
    assert client_of(cast.alice).get("/operator/host/h1/move/a-db/").status_code == 403
    assert client_of(cast.olga).get("/operator/host/h1/move/nobody/").status_code == 404
    assert client_of(cast.alice).get("/api/hosts/h1/acts").status_code == 404
    assert Client().get("/operator/host/h1/move/a-db/").status_code == 302
