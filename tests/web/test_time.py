"""The past of a run over HTTP: any operation, the next of something, marks; and what of it tenants may see."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.faults.conftest import start_run
from webapp.notices.models import Alert
from webapp.runs import engine, history, selectors, services
from webapp.runs.engine import wire
from webapp.runs.models import Act, Checkpoint, Event, Run
from webapp.runs.picture import OPERATOR
from webapp.runs.streams import source

pytestmark = pytest.mark.django_db
RATE = 8_000  # accesses a second and VM: 2,000 in a slice


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"
    engine._hot.clear()


@pytest.fixture
def run(cast: Any) -> Run:
    """Six slices of two VMs, with an attack at the beginning of the fourth; checkpoints after both."""
    made = start_run(cast, rate=RATE)
    for number in range(6):
        if number == 3:
            Act.objects.create(run=made, vm=cast.b_web, kind="drill", slice_no=3, data={"attack": "A03"})
        play(made, number)
    return Run.objects.get()


def play(run: Run, number: int) -> None:
    Run.objects.filter(pk=run.pk).update(due_at=timezone.now())
    services.run_slice(run_id=run.pk, slice_no=number)
    assert Run.objects.get(pk=run.pk).slice_no == number + 1


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def records(body: bytes) -> list[Any]:
    found, at = [], 0
    while at < len(body):
        _, kind, length = struct.unpack_from("<IBI", body, at)
        payload = body[at + 9 : at + 9 + length]
        found.append(payload if kind else json.loads(payload))
        at += 9 + length
    return found


def moment(client: Client, run: Run, **asked: Any) -> list[Any]:
    answer = client.get(f"/runs/{run.pk}/moment/", asked)
    assert answer.status_code == 200, answer.content
    return records(answer.content)


def test_any_operation_is_shown_as_the_engine_had_it(run: Run, cast: Any) -> None:
    """Beside one player that is played from the beginning and stops at every operation asked for, in order."""
    client = client_of(cast.olga)
    assert Checkpoint.objects.count() >= 2
    for op in random.Random(3).sample(range(run.op + 1), 12):
        looker = engine.looker_at(run=run.pk, scenario=run.scenario, checkpoint=None)
        orders = services.orders_of(run=run, first=0, below=run.slice_no)
        any(
            engine.look_until(looker, engine.plan_of(rate=RATE, length=None, slice_no=n), orders.get(n, []), op)
            for n in range(run.slice_no)
        )
        head, frame, tlb, counters, log = moment(client, run, op=op)
        assert (head["type"], head["at"], head["newest"]) == ("moment", op, run.op)
        state = looker.state()
        assert frame == wire.map_keyframe(state, run.pk)
        assert tlb == json.loads(wire.tlb_keyframe(state, run.pk))
        assert counters == json.loads(source.picture(run.pk, state).keyframe(run.pk, "counters", OPERATOR))
        assert [event["op"] for event in log["data"]["events"]] == [e.op for e in Event.objects.filter(op__lte=op)]


def test_a_tenant_names_steps_and_sees_its_own_pages_alone(run: Run, cast: Any) -> None:
    alice, olga = client_of(cast.alice), client_of(cast.olga)
    view = selectors.view_of(user=cast.alice, run_id=str(run.pk))
    assert view is not None
    head, frame, counters, log = moment(alice, run, step=4)
    assert (head["unit"], head["at"], head["newest"], head["says"]) == ("step", 4, run.seq, "")
    state = history.at_step(run, 4).looker.state()
    assert frame == source.picture(run.pk, state).keyframe(run.pk, "map", view)
    assert [vm["name"] for vm in counters["data"]["vms"]] == ["a-db"]
    assert all(event["op"] is None for event in log["data"]["events"])
    assert moment(olga, run, step=4)[0]["at"] > 4  # an operator is told the operation
    assert alice.get(f"/runs/{run.pk}/moment/", {"op": 100}).status_code == 422
    for path in ("find/?what=miss&op=5", "frame/3/"):
        assert alice.get(f"/runs/{run.pk}/{path}").status_code == 404
    for path in ("moment/?step=1", "marks/", "find/?what=miss&op=5", "frame/3/"):
        assert client_of(cast.ines).get(f"/runs/{run.pk}/{path}").status_code == 404
        assert olga.get(f"/runs/{run.pk + 1}/{path}").status_code == 404


def test_the_steps_of_a_tenants_past_are_those_that_were_sent(run: Run, cast: Any) -> None:
    for number in range(run.seq + 1):
        looker = history.at_step(run, number).looker
        assert looker.number == number
    assert looker.digest() == services.player_of(run).digest()


def test_run_to_the_next_and_last_of_something(run: Run, cast: Any) -> None:
    client = client_of(cast.olga)

    def find(what: str, op: int, direction: str = "next") -> int | None:
        answer = client.get(f"/runs/{run.pk}/find/", {"what": what, "op": op, "direction": direction})
        assert answer.status_code == 200, answer.content
        found: int | None = answer.json()["op"]
        return found

    looker = engine.looker_at(run=run.pk, scenario=run.scenario, checkpoint=None)
    switches = [
        event["op"] for event in history._journal(run, looker, None, run.op) if event["kind"] == "context_restore"
    ]
    misses = history._misses(run, None, first=0, until=run.op, most=1 << 30)
    assert len(switches) > 10 and len(misses) > 50
    for op in random.Random(1).sample(range(run.op), 6):
        for what, all_of_them in (("switch", switches), ("miss", misses)):
            assert find(what, op) == next((each for each in all_of_them if each > op), None)
            assert find(what, op, "last") == next((each for each in reversed(all_of_them) if each < op), None)
    denied = Event.objects.exclude(check_name="").get()
    assert (find("denied", 0), find("denied", denied.op), find("denied", run.op, "last")) == (
        denied.op,
        None,
        denied.op,
    )
    assert find("violation", 0) is None
    assert moment(client, run, op=denied.op)[0]["says"].endswith(".")


def test_what_is_no_moment_is_refused_with_what_is_possible(run: Run, cast: Any) -> None:
    client = client_of(cast.olga)
    for asked, words in (
        ({"op": run.op + 1}, "has not happened"),
        ({"op": "-1"}, "whole number"),
        ({"op": "1e3"}, "whole number"),
        ({}, "whole number"),
        ({"op": 5, "parts": "map,secrets"}, "must be of map, tlb, counters, log"),
    ):
        answer = client.get(f"/runs/{run.pk}/moment/", asked, headers={"accept": "application/json"})
        assert answer.status_code == 422
        assert words in answer.content.decode()
    assert client.get(f"/runs/{run.pk}/find/", {"op": 5, "what": "peace"}).status_code == 422
    assert client.get(f"/runs/{run.pk}/frame/16384/").status_code == 422
    Run.objects.update(oldest_op=500, oldest_seq=1)
    assert "the oldest is 500" in client.get(f"/runs/{run.pk}/moment/", {"op": 499}).content.decode()
    Run.objects.update(engine_version="1")
    assert client.get(f"/runs/{run.pk}/find/", {"op": 900, "what": "miss"}).status_code == 409
    assert client.get(f"/runs/{run.pk}/moment/", {"op": 900}).status_code == 409


def test_a_mark_keeps_its_moment_after_the_past_around_it_is_gone(
    run: Run, cast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "CHECKPOINTS_KEPT", 2)
    olga, alice = client_of(cast.olga), client_of(cast.alice)
    at = Checkpoint.objects.order_by("slice_no")[0].op + 700
    before = moment(olga, run, op=at)
    assert olga.post(f"/runs/{run.pk}/mark/", {"at": at, "text": " the odd burst "}).status_code == 201
    assert alice.post(f"/runs/{run.pk}/mark/", {"at": 2, "text": "mine"}).status_code == 201
    Run.objects.update(rate=None)
    for number in range(6, 9):
        play(run, number)
    run = Run.objects.get()
    assert run.oldest_op > at
    Run.objects.update(rate=RATE)
    assert moment(olga, run, op=at)[1] == before[1]
    assert olga.get(f"/runs/{run.pk}/moment/", {"op": at + 1}).status_code == 422
    shown = olga.get(f"/runs/{run.pk}/marks/").json()
    assert [row["text"] for row in shown["marks"] if row["kind"] == "mark"] == ["the odd burst"]
    assert (shown["unit"], shown["oldest"], shown["newest"]) == ("op", run.oldest_op, run.op)
    mine = alice.get(f"/runs/{run.pk}/marks/").json()["marks"]
    assert [(row["text"], row["at"]) for row in mine] == [("mine", 2)]
    assert olga.post(f"/runs/{run.pk}/mark/{mine[0]['id']}/delete/").status_code == 404
    assert alice.post(f"/runs/{run.pk}/mark/{mine[0]['id']}/delete/").status_code == 204
    assert alice.post(f"/runs/{run.pk}/mark/", {"at": 2, "text": "x" * 121}).status_code == 422


def test_a_frame_is_told_as_the_ownership_table_and_the_journal_have_it(run: Run, cast: Any) -> None:
    looker = history.at_op(run, run.op).looker
    vm = looker.vms[0]
    gpn, mfn, _, perm = looker.machine.dump()["leaves"][vm.handle][5]
    told = client_of(cast.olga).get(f"/runs/{run.pk}/frame/{mfn}/").json()
    assert (told["owner"], told["maps"]) == (vm.spec.name, [{"vm": vm.spec.name, "gpn": gpn, "perm": perm}])
    assert not told["protected"]
    last = looker.machine.frames - 1
    assert client_of(cast.olga).get(f"/runs/{run.pk}/frame/{last}/").json()["owner"] == "hsvm"


def test_pages_that_break_a_rule_are_an_event_of_the_log(cast: Any) -> None:
    """On unprotected hosts an attack leaves a page that one owns and another maps; it is cleared up a step later."""
    run = start_run(cast, rate=RATE)
    run.scenario["machine"] |= {"architecture": "nested", "protected_frames": 0}
    run.save()
    Act.objects.create(run=run, vm=cast.b_web, kind="drill", slice_no=1, data={"attack": "A03"})
    for number in range(4):
        play(run, number)
    run.refresh_from_db()
    event = Event.objects.get(kind="violation")
    assert len(history.at_op(run, event.op).looker.state().violations) > 0
    assert history.find(run, op=0, what="violation", forward=True) == event.op
    assert Event.objects.filter(title="No page breaks a rule of ownership any more").exists()
    assert run.wrong == 0
    alert = Alert.objects.get()  # told to operators with the moment, and over as soon as it was cleared up
    assert (alert.code, alert.host, alert.state, alert.told) == ("rule.broken.after", "h1", "resolved", True)
    assert alert.link == f"/operator/host/h1/?run={run.pk}&op={event.op}" and alert.has_moment
    assert alert.text.endswith("after an attack drill: A03 map VM A's frame into VM B.")
