"""Starting, watching and acting on running VMs: what people may do, and what they are told."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from webapp.agreements.models import Conflict, Negotiation
from webapp.audit.models import Entry
from webapp.errors import VpmsError
from webapp.ops import story
from webapp.runs import engine, services
from webapp.runs.models import Act, Event, Run
from webapp.runs.picture import OPERATOR
from webapp.runs.selectors import moved_for
from webapp.runs.streams import authorise_run, authorise_tlb, log_messages, source
from webapp.tenants.models import VirtualMachine

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    """Everything here works without Redis: the database is the truth."""
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def vm(name: str) -> VirtualMachine:
    return VirtualMachine.objects.select_related("placement__host", "tenant").get(name=name)


def slices(run: Run, count: int) -> Run:
    for _ in range(count):
        run = Run.objects.get(pk=run.pk)
        Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
        services.run_slice(run_id=run.pk, slice_no=run.slice_no)
    return Run.objects.get(pk=run.pk)


@pytest.fixture
def running(cast: Any) -> Run:
    """a-db runs alone on h1, under the agreement that its start made."""
    services.vm_start(by=cast.alice, vm=vm("a-db"))
    story.drain()
    return Run.objects.get()


@pytest.fixture
def both(running: Run, cast: Any) -> Run:
    """b-web runs there too: both owners have accepted."""
    services.vm_start(by=cast.bob, vm=vm("b-web"))
    story.drain()
    story._all_accept("h1")
    assert vm("b-web").state == "running"
    return Run.objects.get()


def test_a_start_makes_run_agreement_and_vm_in_one_go(running: Run, cast: Any) -> None:
    assert vm("a-db").state == "running"
    assert Negotiation.objects.get().state == "ENFORCED"
    assert cast.h1.agreements.get().in_force
    assert running.figures["a-db"]["mapped"] == running.figures["a-db"]["owned"] > 0
    spec = Act.objects.get(kind="start_vm").data["spec"]
    assert (spec["vm_pages"], spec["balloon"]) == (8 * 256, "none")


def test_a_clash_holds_only_the_newcomer(running: Run, cast: Any) -> None:
    page = client_of(cast.bob).post("/tenant/vm/b-web/start/", follow=True)
    story.drain()
    assert vm("b-web").state == "held" and vm("a-db").state == "running"
    assert "clashes with a neighbour" in page.content.decode()
    assert "A proposal waits for you" in client_of(cast.bob).get("/tenant/").content.decode()
    again = client_of(cast.bob).post("/tenant/vm/b-web/start/")
    assert again.status_code == 409


def test_both_accept_and_the_newcomer_starts_on_the_same_run(both: Run) -> None:
    assert Run.objects.count() == 1
    assert set(both.figures) == {"a-db"} or set(slices(both, 25).figures) == {"a-db", "b-web"}
    started = Event.objects.filter(kind="started").values_list("vm__name", flat=True)
    assert set(started) == {"a-db", "b-web"}


def test_a_tenant_reads_no_number_that_counts_the_neighbours_doings(both: Run, cast: Any) -> None:
    services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("a-db"), data={"pages": 64})
    slices(both, 2)
    for person in (cast.alice, cast.bob):
        told = client_of(person).get(f"/api/runs/{both.pk}/events").json()["items"]
        assert told and all(event["op"] is None and "op" not in event["detail"] for event in told)
    ops = [str(op) for op in Event.objects.filter(op__gt=999).values_list("op", flat=True)]
    assert ops
    for path in ("/tenant/", "/tenant/vm/a-db/memory/", "/tenant/conflicts/", "/tenant/audit/", "/tenant/audit/lines/"):
        page = client_of(cast.alice).get(path)
        text = (b"".join(page.streaming_content) if page.streaming else page.content).decode()
        assert not any(re.search(rf"\b{op}\b", text) for op in ops), path
    assert all(event["op"] for event in client_of(cast.olga).get(f"/api/runs/{both.pk}/events").json()["items"])


def test_the_same_refusal_twice_is_one_open_conflict_and_two_entries_of_the_log(both: Run, cast: Any) -> None:
    for _ in range(2):
        services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("a-db"), data={"pages": 64})
        slices(both, 2)
    conflict = Conflict.objects.get(code="C19", kind="dynamic")
    newest = Event.objects.filter(kind="denied").latest("id")
    assert conflict.evidence["digest_after"] == newest.detail["digest_after"]
    assert Entry.objects.filter(type="conflict", line__contains='"code":"C19"').count() == 2


def test_a_reclaim_against_the_agreement_is_refused_with_evidence(both: Run, cast: Any) -> None:
    owned = dict(both.figures)
    act = services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("a-db"), data={"pages": 64})
    slices(both, 2)
    act.refresh_from_db()
    assert (act.state, act.result["status"]) == ("refused", "DENIED")
    conflict = Conflict.objects.get(code="C19", kind="dynamic")
    evidence = conflict.evidence
    assert evidence["digest_before"] == evidence["digest_after"] != ""
    assert evidence["event"] == {"kind": "reclaim", "vm": "a-db", "pages": 64}
    assert (evidence["value_in_force"], conflict.severity) == ("none", "hard")
    assert evidence["agreement"] == cast.h1.agreements.get(in_force=True).digest
    assert owned.keys() <= both.figures.keys()
    told = client_of(cast.alice).get("/tenant/").content.decode()
    assert "keeps them" in told and evidence["digest_after"][:12] in told
    assert "asked a-db for 64 pages" in client_of(cast.olga).get("/operator/host/h1/").content.decode()
    assert "a-db was asked" not in client_of(cast.bob).get("/tenant/").content.decode()


def test_a_reclaim_that_was_agreed_moves_pages(both: Run, cast: Any) -> None:
    slices(both, 2)
    act = services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("b-web"), data={"pages": 8})
    slices(both, 2)
    act.refresh_from_db()
    assert act.state == "done" and 0 < act.result["released"] <= 8
    assert Event.objects.filter(kind="allowed", vm__name="b-web").exists()


@pytest.fixture
def asking(both: Run, cast: Any) -> Act:
    """b-web's agreement says that it wants to be asked, and the operator asks."""
    agreement = cast.h1.agreements.get(in_force=True)
    envelope = json.loads(agreement.envelope)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["assignment"]["vms"]["b-web"]["balloon"] = "ask"
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    cast.h1.agreements.filter(pk=agreement.pk).update(envelope=json.dumps(envelope))
    act = services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("b-web"), data={"pages": 8})
    slices(both, 2)
    act.refresh_from_db()
    assert (act.state, act.slice_no) == ("pending", None)
    return act


@pytest.mark.parametrize(("answer", "state"), [("agree", "done"), ("refuse", "refused")])
def test_where_the_owner_is_asked_nothing_happens_before_the_answer(
    asking: Act, cast: Any, answer: str, state: str
) -> None:
    assert Conflict.objects.get(code="C19").severity == "negotiable"
    assert "asks b-web for 8 pages" in client_of(cast.bob).get("/tenant/").content.decode()
    assert client_of(cast.alice).post(f"/tenant/asked/{asking.pk}/", {"answer": "agree"}).status_code == 404
    assert client_of(cast.bob).post(f"/tenant/asked/{asking.pk}/", {"answer": answer}).status_code == 302
    assert client_of(cast.bob).post(f"/tenant/asked/{asking.pk}/", {"answer": answer}).status_code == 409
    slices(asking.run, 2)
    asking.refresh_from_db()
    assert asking.state == state
    assert Conflict.objects.filter(code="C19").count() == 1


def test_silence_is_a_no_at_the_deadline(asking: Act) -> None:
    asking.data["ask_until"] = timezone.now().isoformat()
    asking.save()
    slices(asking.run, 2)
    asking.refresh_from_db()
    assert (asking.state, asking.result["status"]) == ("refused", "DENIED")


def test_without_an_agreement_the_strictest_value_is_in_force(cast: Any, both: Run) -> None:
    cast.h1.agreements.all().update(in_force=False)
    services.act_request(by=cast.olga, run=both, kind="reclaim", vm=vm("b-web"), data={"pages": 8})
    slices(both, 2)
    assert Conflict.objects.get(code="C19").evidence["value_in_force"] == "none"


def test_a_drill_on_the_living_host_is_blocked_by_the_named_check(both: Run, cast: Any) -> None:
    for attack in services.DRILLS:
        services.act_request(by=cast.olga, run=both, kind="drill", vm=vm("a-db"), data={"attack": attack})
    slices(both, 3)
    drills = Event.objects.filter(kind="drill")
    assert {event.outcome for event in drills} == {"BLOCKED"} and drills.count() == len(services.DRILLS)
    assert drills.get(title__startswith="A01").check_name == "hv_access_check"
    assert vm("a-db").state == "running"
    page = client_of(cast.alice).get("/tenant/").content.decode()
    assert f"attack drills: {len(services.DRILLS)} blocked, 0 succeeded" in page


def test_a_stopped_vm_leaves_the_host_and_the_last_one_ends_the_run(both: Run, cast: Any) -> None:
    assert client_of(cast.bob).post("/tenant/vm/b-web/stop/").status_code == 302
    slices(both, 2)
    assert vm("b-web").state == "stopped" and vm("a-db").state == "running"
    services.vm_stop(by=cast.alice, vm=vm("a-db"))
    run = slices(both, 2)
    assert (run.state, vm("a-db").state) == ("done", "stopped")
    services.vm_start(by=cast.alice, vm=vm("a-db"))
    story.drain()
    assert Run.objects.count() == 2 and vm("a-db").state == "running"


@pytest.mark.parametrize("who", ["alice", "bob", "ines"])
def test_only_operators_act_on_hosts(both: Run, cast: Any, who: str) -> None:
    user = getattr(cast, who)
    client = client_of(user)
    assert client.get("/operator/").status_code == 403
    assert client.post("/operator/host/h1/act/", {"kind": "drill", "vm": "a-db", "attack": "A01"}).status_code == 403
    assert client.post("/operator/host/h1/run/", {"wanted": "pause"}).status_code == 403
    body = json.dumps({"kind": "drill", "vm": "a-db", "attack": "A01"})
    assert client.post("/api/hosts/h1/acts", body, content_type="application/json").status_code == 404
    assert client.get("/api/hosts").status_code == 404
    with pytest.raises(VpmsError):
        services.act_request(by=user, run=both, kind="drill", vm=vm("a-db"), data={"attack": "A01"})


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ({"kind": "reclaim", "pages": 0}, "$.pages"),
        ({"kind": "reclaim", "pages": True}, "$.pages"),
        ({"kind": "reclaim"}, "$.pages"),
        ({"kind": "reclaim", "pages": 1, "attack": "A01"}, "$.attack"),
        ({"kind": "drill", "attack": "A99"}, "$.attack"),
        ({"kind": "drill", "attack": ["A01"]}, "$.attack"),
        ({"kind": "format_disk"}, "$.kind"),
    ],
)
def test_a_bad_act_is_refused_with_field_and_reason(both: Run, cast: Any, asked: dict[str, Any], path: str) -> None:
    answer = client_of(cast.olga).post(
        "/api/hosts/h1/acts", json.dumps({"vm": "a-db", **asked}), content_type="application/json"
    )
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == path
    assert not Act.objects.exclude(kind__in=("start_vm", "agreement")).exists()


def test_anonymous_people_are_sent_to_the_sign_in(db: None) -> None:
    for path in ("/tenant/", "/operator/", "/operator/host/h1/", "/tenant/vm/a-db/memory/"):
        answer = Client().get(path)
        assert answer.status_code == 302 and answer["Location"].startswith("/sign-in/")
    assert Client().get("/api/runs").status_code == 401


def test_a_foreign_vm_or_run_is_as_missing_as_none(running: Run, cast: Any) -> None:
    bob = client_of(cast.bob)
    for path in ("/tenant/vm/a-db/memory/", "/tenant/vm/nobody/memory/"):
        assert bob.get(path).status_code == 404
    for path in ("/tenant/vm/a-db/stop/", "/tenant/vm/a-db/start/"):
        assert bob.post(path).status_code == 404
    mine, none = bob.get(f"/api/runs/{running.pk}"), bob.get("/api/runs/999")
    assert (mine.status_code, mine.content) == (none.status_code, none.content) == (404, none.content)
    assert authorise_run(cast.bob, str(running.pk)) is None
    assert authorise_run(cast.ines, str(running.pk)) is None


def test_a_tenants_pictures_hold_nothing_of_the_others(both: Run, cast: Any) -> None:
    slices(both, 2)
    view = authorise_run(cast.bob, str(both.pk))
    assert view == "tenant:beta" and authorise_run(cast.olga, str(both.pk)) == OPERATOR
    assert authorise_tlb(cast.bob, str(both.pk)) is None
    picture = source.load(both.pk)
    assert picture is not None
    shown = [picture.keyframe(both.pk, part, view) for part in ("map", "counters")]
    said = b"".join(frame if isinstance(frame, bytes) else frame.encode() for frame in shown)
    log = json.dumps(log_messages(str(both.pk), view, None))
    assert b"b-web" in said and b"a-db" not in said and b"alpha" not in said
    assert "b-web" in log and "a-db" not in log
    assert [event["number"] for event in json.loads(log)[0]["data"]["events"]][0] == 1


def test_the_log_says_only_what_is_newer(both: Run) -> None:
    [first] = log_messages(str(both.pk), OPERATOR, None)
    assert first["kind"] == "keyframe"
    assert log_messages(str(both.pk), OPERATOR, first["seq"]) == []
    [rest] = log_messages(str(both.pk), OPERATOR, 1)
    assert (rest["kind"], rest["base"], rest["data"]["events"][0]["number"]) == ("delta", 1, 2)


def test_pages_work_without_script(both: Run, cast: Any) -> None:
    page = client_of(cast.olga).get("/operator/host/h1/").content.decode()
    for words in ("Pages by owner", "b-web started", "The agreement forbids it"):
        assert words in page
    assert "&quot;shoots&quot;: true, &quot;lru&quot;: false, &quot;flush&quot;: &quot;" in page  # of the TLB
    assert "a-db" in client_of(cast.alice).get("/tenant/vm/a-db/memory/").content.decode()


def test_a_page_says_which_state_it_shows_so_that_no_later_change_is_missed(running: Run, cast: Any) -> None:
    """The worker may pause the run between the page's making and the first word on its socket."""
    client = client_of(cast.olga)
    for path, parts in (("/operator/host/h1/", 4), ("/operator/", 1)):
        shown = re.findall(r'data-refresh="fleet" data-seq="(\d+)"', client.get(path).content.decode())
        assert len(shown) == parts and set(shown) == {str(moved_for(tenant=None))}
    services.run_want(by=cast.olga, run=running, wanted="pause")
    slices(running, 1)
    assert Run.objects.get().state == "paused" and moved_for(tenant=None) > int(shown[0])


def test_an_old_sign_of_life_reads_unknown(running: Run, cast: Any) -> None:
    import datetime as dt

    running.checkpoints.update(made_at=timezone.now() - dt.timedelta(seconds=60))
    assert "Unknown" in client_of(cast.olga).get("/operator/").content.decode()


@pytest.mark.parametrize("path", ["/tenant/", "/operator/"])
def test_list_pages_ask_a_bounded_number_of_questions(
    both: Run, cast: Any, path: str, django_assert_max_num_queries: Any
) -> None:
    client = client_of(cast.olga if path == "/operator/" else cast.alice)
    with django_assert_max_num_queries(60):
        client.get(path)
