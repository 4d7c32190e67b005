"""Drills for operators: held now and by plan, compared with the drill before and the table, never lost, never on a host
that is gone."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from tests.conftest import HOST, Cast
from webapp.audit.models import Entry
from webapp.classroom import drill_selectors as selectors
from webapp.classroom import drills, services
from webapp.classroom.models import Cell, Drill, DrillResult, DrillSchedule
from webapp.classroom.selectors import DRILL
from webapp.errors import BadInput
from webapp.fleet.models import Host
from webapp.notices.models import Alert
from webapp.ops import keeper
from webapp.runs.engine import ENGINE_VERSION

pytestmark = pytest.mark.django_db
HOUR = dt.timedelta(hours=1)
KIND: dict[str, Any] = {"content_type": "application/json"}


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"


@pytest.fixture
def olga(cast: Cast) -> Client:
    client = Client()
    client.force_login(cast.olga)
    return client


def held(cast: Cast, **target: str) -> Drill:
    row = drills.drill_now(by=cast.olga, **target)
    drills.drill_hold(drill_id=row.pk)
    return Drill.objects.get(pk=row.pk)


def unprotected(host: Host) -> None:
    """Its firmware lost the protection of memory."""
    document = {**HOST, "capabilities": {**HOST["capabilities"], "memory_protection": ["none"]}}
    Host.objects.filter(pk=host.pk).update(document=json.dumps(document))


def cells_of(architecture: str, **changes: Any) -> None:
    """The table's column, executed."""
    for attack in DRILL:
        verdict = services.execute(attack=attack, architecture=architecture, skip="", seed=services.SEED)
        values = {"outcome": verdict["outcome"], "digest": verdict["digest"] or "", "state": Cell.State.DONE}
        values |= {"file_digest": services.file_digest(attack), "engine_version": ENGINE_VERSION, **changes}
        Cell.objects.create(attack=attack, architecture=architecture, **values)


def test_a_drill_of_a_host_is_executed_on_the_machine_that_it_has(cast: Cast) -> None:
    row = held(cast, host="h1")
    assert (row.state, row.architecture, row.engine_version, row.differs) == ("done", "hsvm", ENGINE_VERSION, 0)
    assert [each.attack for each in row.results.all()] == list(DRILL)
    assert row.blocked == sum(each.outcome == "BLOCKED" for each in row.results.all()) >= 10
    assert not Alert.objects.exists()
    drills.drill_hold(drill_id=row.pk)  # a message that came twice
    assert DrillResult.objects.count() == len(DRILL)
    assert Entry.objects.filter(type="drill.held", subject=f"drill:{row.pk}").count() == 1


def test_the_same_drill_again_ends_the_same_and_raises_nothing(cast: Cast) -> None:
    cells_of("hsvm")
    first, second = held(cast, architecture="hsvm"), held(cast, architecture="hsvm")
    assert [row.digest for row in first.results.all()] == [row.digest for row in second.results.all()]
    assert second.differs == 0 and {row.before for row in second.results.all()} <= {"BLOCKED", "OUT_OF_SCOPE"}
    assert all(row.expected == row.outcome for row in second.results.all()) and not Alert.objects.exists()


def test_a_host_that_lost_its_protection_is_an_alert_that_names_both_and_ends_with_it(cast: Cast) -> None:
    cells_of("nested")
    first = held(cast, host="h1")
    unprotected(cast.h1)
    second = held(cast, host="h1")
    row = Alert.objects.get()
    assert second.architecture == "nested" and second.differs >= 8
    assert row.host == "h1" and row.link == f"/operator/drills/{second.pk}/" and row.data["reference"] == first.pk
    assert "reads SUCCEEDED; the drill before reads BLOCKED, the attack table SUCCEEDED" in row.text
    held(cast, host="h1")  # as the last one, but not as it was
    row.refresh_from_db()
    assert row.state == "open" and row.count == 1
    Host.objects.filter(pk=cast.h1.pk).update(document=json.dumps(HOST))
    assert held(cast, host="h1").differs >= 8
    row.refresh_from_db()
    assert row.count == 2  # changed once more
    held(cast, host="h1")
    row.refresh_from_db()
    assert row.state == "resolved" and row.resolved_by is None


def test_another_outcome_than_the_table_has_is_an_alert(cast: Cast) -> None:
    cells_of("hsvm")
    Cell.objects.filter(attack="A09").update(outcome="SUCCEEDED")
    assert held(cast, architecture="hsvm").differs == 1
    assert "A09 reads BLOCKED; the drill before reads –, the attack table SUCCEEDED" in Alert.objects.get().text


def test_the_same_outcome_with_another_digest_is_an_alert_only_for_the_same_engine_and_file(cast: Cast) -> None:
    first = held(cast, architecture="hsvm")
    first.results.filter(attack="A09").update(digest="f" * 64)
    Drill.objects.filter(pk=first.pk).update(engine_version="0.0.1")
    second = held(cast, architecture="hsvm")
    assert second.differs == 0  # another engine may take another way
    second.results.filter(attack="A09").update(digest="f" * 64)
    assert held(cast, architecture="hsvm").differs == 1
    assert "something else (digest " in Alert.objects.get().text and "before ffffffffffff" in Alert.objects.get().text


def test_a_table_of_another_engine_is_no_expectation(cast: Cast) -> None:
    cells_of("hsvm", outcome="SUCCEEDED", engine_version="0.0.1")
    row = held(cast, architecture="hsvm")
    assert row.differs == 0 and {each.expected for each in row.results.all()} == {""}


# -- plans


def test_a_plan_has_its_next_drill_waiting_and_begins_now(cast: Cast) -> None:
    plan = drills.schedule_make(by=cast.olga, host="h1", every_hours=6)
    drill = plan.drills.get()
    assert drill.due_at is not None and drill.due_at <= timezone.now()
    due = {row["pk"] for kind, row in keeper.due(timezone.now()) if kind.model is Drill}
    assert due == {drill.pk}
    drills.drill_hold(drill_id=drill.pk)
    following = plan.drills.get(state="waiting")
    assert following.due_at is not None and following.due_at > timezone.now() + 5 * HOUR
    assert not any(kind.model is Drill for kind, _ in keeper.due(timezone.now()))


def test_a_worker_that_is_killed_in_the_middle_costs_an_attempt_and_no_drill(cast: Cast) -> None:
    from webapp import jobs

    plan = drills.schedule_make(by=cast.olga, architecture="hsvm", every_hours=6)
    drill = plan.drills.get()
    for _ in range(jobs.MAX_ATTEMPTS):
        assert jobs.claim(Drill, drill.pk)  # and never heard of again
        Drill.objects.filter(pk=drill.pk).update(lease_until=timezone.now() - HOUR)
    keeper.reap(timezone.now())
    drill.refresh_from_db()
    assert drill.state == "failed" and Alert.objects.get().code == "drill.failed"
    assert plan.drills.filter(state="waiting").count() == 1  # the plan goes on


def test_a_weekly_plan_comes_on_its_day_at_its_hour(cast: Cast) -> None:
    plan = DrillSchedule(weekday=4, hour=6)
    friday = dt.datetime(2026, 11, 27, 6, 0, tzinfo=dt.UTC)
    assert drills.next_due(plan, friday - HOUR) == friday
    assert drills.next_due(plan, friday) == friday + dt.timedelta(days=7)
    assert drills.next_due(plan, friday + 20 * HOUR) == friday + dt.timedelta(days=7)
    drills.schedule_make(by=cast.olga, architecture="nested", weekday=4, hour=6)
    due = Drill.objects.get().due_at
    assert due is not None and (due.weekday(), due.hour, due.minute) == (4, 6, 0) and due > timezone.now()


def test_a_plan_of_a_host_that_is_gone_is_paused_with_its_reason(cast: Cast, olga: Client) -> None:
    from webapp.fleet.services import host_create

    host_create(by=cast.olga, document={**HOST, "host": "h9"})
    plan = drills.schedule_make(by=cast.olga, host="h9", every_hours=6)
    Host.objects.filter(name="h9").delete()
    drills.drill_hold(drill_id=plan.drills.get().pk)
    plan.refresh_from_db()
    assert not plan.active and plan.reason == "There is no such host any more."
    assert plan.drills.get().state == "failed" and not DrillResult.objects.exists()
    row = Alert.objects.get()
    assert row.code == "drill.paused" and row.host == "h9" and row.state == "open"
    page = olga.get("/operator/drills/").content.decode()
    assert "There is no such host any more." in page and "Paused" in page
    on = olga.post(f"/operator/drills/plans/{plan.pk}/", {"act": "on"})
    assert on.status_code == 422 and "there is no host of this name" in on.content.decode()
    host_create(by=cast.olga, document={**HOST, "host": "h9"})
    assert olga.post(f"/operator/drills/plans/{plan.pk}/", {"act": "on"}).status_code == 302
    plan.refresh_from_db(), row.refresh_from_db()
    assert plan.active and plan.reason == "" and row.state == "resolved"
    assert plan.drills.filter(state="waiting").count() == 1


def test_a_plan_can_be_changed_switched_off_and_removed_and_its_history_stays(cast: Cast, olga: Client) -> None:
    plan = drills.schedule_make(by=cast.olga, architecture="hsvm", every_hours=6)
    drills.drill_hold(drill_id=plan.drills.get().pk)
    act = f"/operator/drills/plans/{plan.pk}/"
    assert olga.post(act, {"act": "off"}).status_code == 302 and not plan.drills.filter(state="waiting").exists()
    assert olga.post(act, {"act": "keep", "how": "hours", "every_hours": "0"}).status_code == 422
    olga.post(act, {"act": "on"})
    olga.post(act, {"act": "keep", "how": "weekly", "weekday": "1", "hour": "5"})
    plan.refresh_from_db()
    assert (plan.every_hours, plan.weekday, plan.hour, plan.active) == (None, 1, 5, True)
    assert plan.drills.filter(state="waiting").count() == 1
    assert olga.post(act, {"act": "remove"}).status_code == 302
    assert not DrillSchedule.objects.exists() and Drill.objects.get().state == "done"
    kinds = list(Entry.objects.filter(subject=f"schedule:{plan.pk}").order_by("seq").values_list("type", flat=True))
    assert kinds == ["drill.planned", "drill.changed", "drill.changed", "drill.changed", "drill.unplanned"]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"host": "no-such", "every_hours": 1}, "$.host"),
        ({"architecture": "no-such", "every_hours": 1}, "$.architecture"),
        ({"host": "h1", "architecture": "hsvm"}, "$.host"),
        ({}, "$.host"),
        ({"host": "h1", "every_hours": 0}, "$.every_hours"),
        ({"host": "h1", "every_hours": 721}, "$.every_hours"),
        ({"host": "h1", "weekday": 7}, "$.weekday"),
        ({"host": "h1", "hour": 24}, "$.hour"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_whole(cast: Cast, olga: Client, given: Any, path: str) -> None:
    answer = olga.post("/api/drills/schedules", given, **KIND)
    assert answer.status_code == 422 and answer.json()["faults"][0]["path"] == path
    with pytest.raises(BadInput):
        drills.schedule_make(by=cast.olga, **given)
    assert not DrillSchedule.objects.exists() and not Drill.objects.exists()


# -- pages and API


def test_the_page_holds_plans_and_compares(cast: Cast, olga: Client) -> None:
    assert olga.post("/operator/drills/", {"act": "now", "target": "host:h1"}).status_code == 302
    again = drills.drill_now(by=cast.olga, host="h1")
    assert Drill.objects.get().pk == again.pk  # asked twice it is one
    drills.drill_hold(drill_id=again.pk)
    plan = {"act": "plan", "target": "architecture:nested", "how": "hours", "every_hours": "12"}
    assert olga.post("/operator/drills/", plan).status_code == 302
    assert "has a plan already" in olga.post("/operator/drills/", plan).content.decode()
    gone = olga.post("/operator/drills/", {"act": "now", "target": "host:h9"})
    assert gone.status_code == 422 and "there is no host of this name" in gone.content.decode()
    unprotected(cast.h1)
    second = held(cast, host="h1")
    page = olga.get("/operator/drills/").content.decode()
    assert f'href="/operator/drills/{second.pk}/"' in page and "every 12 hours" in page
    one = olga.get(f"/operator/drills/{second.pk}/").content.decode()
    assert "SUCCEEDED" in one and f"/operator/drills/{again.pk}/" in one and "not as before" in one
    assert f"/operator/drills/{second.pk}/" not in olga.get("/operator/drills/", {"target": "hsvm"}).content.decode()
    assert len(selectors.drills_wanted(user=cast.olga, wanted=selectors.Wanted(differs=True))) == 1
    assert len(selectors.drills_wanted(user=cast.olga, wanted=selectors.Wanted(outcome="SUCCEEDED"))) == 1


def test_drills_are_for_operators(cast: Cast) -> None:
    row = held(cast, host="h1")
    for person in (cast.alice, cast.ines):
        client = Client()
        client.force_login(person)
        assert (
            client.get("/operator/drills/").status_code == client.get(f"/operator/drills/{row.pk}/").status_code == 403
        )
        assert client.get("/api/drills").status_code == client.get(f"/api/drills/{row.pk}").status_code == 404
        assert client.post("/api/drills", {"host": "h1"}, **KIND).status_code in (403, 404)


def test_every_act_can_be_done_by_the_api(cast: Cast, olga: Client) -> None:
    plan = olga.post("/api/drills/schedules", {"architecture": "hsvm", "every_hours": 4}, **KIND).json()
    assert plan["next_at"] and olga.get("/api/drills/schedules").json()["items"] == [plan]
    path = f"/api/drills/schedules/{plan['id']}"
    assert olga.put(path, {"active": False, "weekday": 2, "hour": 3}, **KIND).json()["next_at"] is None
    asked = olga.post("/api/drills", {"host": "h1"}, **KIND)
    assert asked.status_code == 202 and asked.json()["state"] == "waiting"
    drills.drill_hold(drill_id=asked.json()["id"])
    shown = olga.get(f"/api/drills/{asked.json()['id']}").json()
    assert shown["by"] == "olga" and len(shown["results"]) == len(DRILL) and shown["before"] is None
    assert olga.get("/api/drills", {"target": "h1"}).json()["items"][0]["blocked"] == shown["blocked"]
    assert olga.delete(path).status_code == 204
