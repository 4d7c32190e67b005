"""The operator's list of all work: where it stands, who holds it, and what may be done about it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from tests.web.lab import make_class
from tests.web.test_runs import client_of, no_redis, running, slices  # noqa: F401  fixtures
from webapp.accounts.models import User
from webapp.audit.models import Entry
from webapp.classroom.models import Cell
from webapp.courses import lab, regrades
from webapp.courses.models import Member, PolicyGame, PolicyTable, Regrade
from webapp.errors import VpmsError
from webapp.jobs import claim, worker_name
from webapp.lti.models import Return
from webapp.notices.models import Delivery, Endpoint, Mail
from webapp.ops import joblist, services
from webapp.ops.models import Heartbeat
from webapp.runs import engine
from webapp.runs import services as runs
from webapp.runs.models import Run
from webapp.tenants.services import membership_add

pytestmark = pytest.mark.django_db


def row_of(user: User, kind: str, pk: int) -> dict[str, Any]:
    return joblist.job_shown(user=user, kind=kind, pk=pk)


def test_a_run_is_listed_with_its_host_its_worker_and_its_log(running: Run, cast: Any) -> None:  # noqa: F811
    services.heartbeat(name=worker_name())
    Heartbeat.objects.update(at=timezone.now() + dt.timedelta(hours=1))  # however slow this test is
    Run.objects.filter(pk=running.pk).update(due_at=timezone.now())
    assert row_of(cast.olga, "run", running.pk)["position"] == 1
    assert claim(Run, running.pk)
    page = client_of(cast.olga).get("/operator/jobs/").content.decode()
    for words in (f"Run {running.pk} of h1", worker_name(), "Running", "Pause"):
        assert words in page
    one = client_of(cast.olga).get(f"/operator/jobs/run/{running.pk}/").content.decode()
    assert "a-db started" in one and "/operator/host/h1/" in one
    [told] = [row for row in client_of(cast.olga).get("/api/jobs").json()["items"] if row["kind"] == "run"]
    assert (told["held"], told["worker"], told["acts"]) == (True, worker_name(), ["pause", "cancel"])
    Heartbeat.objects.update(at=timezone.now() - services.UNKNOWN_AFTER - dt.timedelta(seconds=1))
    assert row_of(cast.olga, "run", running.pk)["look"] == "unknown"


def test_a_paused_run_keeps_a_checkpoint_there_and_goes_on_from_it(running: Run, cast: Any) -> None:  # noqa: F811
    run = slices(running, 3)
    client = client_of(cast.olga)
    assert client.post(f"/operator/jobs/run/{run.pk}/act/", {"act": "pause"}).status_code == 302
    assert row_of(cast.olga, "run", run.pk)["stage"] == "Pausing"
    run = slices(run, 1)
    kept = run.checkpoints.first()
    assert run.state == "paused" and kept is not None
    assert (kept.slice_no, kept.op, kept.digest) == (run.slice_no, run.op, runs.player_of(run).digest())
    engine._hot.clear()
    page = client.post(f"/operator/jobs/run/{run.pk}/act/", {"act": "resume"}, follow=True).content.decode()
    assert f"goes on after operation {run.op:,}" in page
    assert slices(run, 2).op > run.op


def test_a_cancelled_run_says_stopping_and_then_moves_no_more(running: Run, cast: Any) -> None:  # noqa: F811
    joblist.job_act(by=cast.olga, kind="run", pk=running.pk, act="cancel")
    row = row_of(cast.olga, "run", running.pk)
    assert (row["stage"], row["acts"]) == ("Stopping", [])
    run = slices(running, 1)
    seen = row_of(cast.olga, "run", run.pk)
    assert run.state == "cancelled" and seen["log"][0]["text"] == "Cancelled by the operator."
    slices(run, 2)
    again = row_of(cast.olga, "run", run.pk)
    assert {name: again[name] for name in ("percent", "rate", "left", "position")} == {
        "percent": None, "rate": "", "left": "", "position": None,
    }  # fmt: skip
    assert Run.objects.get().op == run.op
    finished = client_of(cast.olga).get("/operator/jobs/?show=finished").content.decode()
    assert f"Run {run.pk} of h1" in finished and "Cancelled" in finished
    with pytest.raises(VpmsError, match="not possible"):
        joblist.job_act(by=cast.olga, kind="run", pk=run.pk, act="resume")


def test_time_left_is_a_range_where_a_total_is_known(running: Run, cast: Any) -> None:  # noqa: F811
    run = slices(running, 8)
    for number, kept in enumerate(reversed(run.checkpoints.all())):
        run.checkpoints.filter(pk=kept.pk).update(made_at=timezone.now() - dt.timedelta(seconds=60 - number))
    Run.objects.filter(pk=run.pk).update(length=run.accesses * 4)
    row = row_of(cast.olga, "run", run.pk)
    assert row["percent"] == 25
    if run.checkpoints.count() > 1:
        assert row["rate"] and "–" in row["left"]
    assert joblist.time_left(130, 290) == "2–5 min" and joblist.time_left(0, 1) == "0–2 s"


def test_a_message_that_was_given_up_is_tried_again_and_one_that_waits_is_cancelled(cast: Any) -> None:
    endpoint = Endpoint.objects.create(tenant="alpha", url="https://hooks.example/secret-path", sealed_secret=b"")
    failed = Delivery.objects.create(endpoint=endpoint, state="failed", tries=6, done_at=timezone.now())
    unsure = Mail.objects.create(user=cast.alice, state="unsure", done_at=timezone.now())
    waiting = Mail.objects.create(user=cast.alice, due_at=timezone.now() + dt.timedelta(minutes=5))
    client = client_of(cast.olga)
    assert (
        client.post(f"/api/jobs/delivery/{failed.pk}/again", content_type="application/json").json()["state"]
        == "waiting"
    )
    failed.refresh_from_db()
    assert failed.tries == 0 and failed.due_at is not None
    assert (
        client.post(f"/api/jobs/mail/{waiting.pk}/cancel", content_type="application/json").json()["stage"]
        == "Not sent"
    )
    for path in (f"mail/{unsure.pk}/again", f"mail/{waiting.pk}/cancel", f"delivery/{failed.pk}/pause"):
        answer = client.post(f"/api/jobs/{path}", content_type="application/json")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_possible"), path
    page = client.get(f"/operator/jobs/delivery/{failed.pk}/").content.decode()
    assert "hooks.example" in page and "secret-path" not in page
    assert Entry.objects.filter(type__in=("job.again", "job.cancelled")).count() == 2


def test_a_cell_is_run_again_by_those_who_teach(cast: Any) -> None:
    cell = Cell.objects.create(attack="A01", architecture="nested", state="done", outcome="SUCCEEDED")
    assert row_of(cast.olga, "cell", cell.pk)["acts"] == []
    with pytest.raises(VpmsError):
        joblist.job_act(by=cast.olga, kind="cell", pk=cell.pk, act="again")


def test_jobs_are_for_operators(running: Run, cast: Any) -> None:  # noqa: F811
    for person in (cast.alice, cast.ines):
        client = client_of(person)
        assert client.get("/operator/jobs/").status_code == 403
        assert client.post(f"/operator/jobs/run/{running.pk}/act/", {"act": "cancel"}).status_code == 403
        for path in ("/api/jobs", "/api/workers", f"/api/jobs/run/{running.pk}"):
            assert client.get(path).status_code == 404, path
        assert client.post(f"/api/jobs/run/{running.pk}/cancel", content_type="application/json").status_code == 404
    assert client_of(cast.olga).get("/operator/jobs/run/999/").status_code == 404
    assert client_of(cast.olga).get("/operator/jobs/thing/1/").status_code == 404


def test_a_silent_worker_turns_unknown_and_then_leaves_with_an_entry_in_the_log(cast: Any) -> None:
    services.heartbeat(name="worker:7@here")
    services.heartbeat(name="web:ready")
    Heartbeat.objects.update(at=timezone.now() + dt.timedelta(hours=1))
    assert [row["known"] for row in services.workers()] == [True]
    Heartbeat.objects.update(at=timezone.now() - dt.timedelta(seconds=7))
    page = client_of(cast.olga).get("/operator/jobs/").content.decode()
    assert "worker:7@here" in page and 'status-unknown">unknown' in page
    Heartbeat.objects.update(at=timezone.now() - dt.timedelta(seconds=61))
    assert services.workers() == []
    for _ in range(2):
        services.heartbeat(name="keeper:1@here")
    [entry] = Entry.objects.filter(type="worker.left")
    assert '"worker:7@here"' in entry.line


def test_work_of_a_course_is_listed_without_whose_it_is_and_given_up_grades_are_tried_again(cast: Any) -> None:
    room = make_class()
    Member.objects.filter(pk=room.member.pk).update(nickname="zora-quill")
    teacher = Member.objects.get(course=room.course, user=room.ines)
    handed_in = lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, graded=True)
    lab.attempt_failed(handed_in.pk, reason="It was tried three times and never got on")
    practice = lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution)
    regrade = regrades.regrade_start(by=room.ines, item=room.item)
    Regrade.objects.filter(pk=regrade.pk).update(total=4, done=1)
    game = PolicyGame.objects.create(item=room.item, opened_by=teacher)
    table = PolicyTable.objects.create(game=game, number=2, phase="answering")
    way = {"issuer": "https://campus.example/path", "client_id": "c", "subject": "s", "line_item": "l"}
    grade = Return.objects.create(**way, item=room.item, member=room.member, state="failed", error="It did not answer.")
    client = client_of(cast.olga)
    under_way = client.get("/operator/jobs/").content.decode()
    for words in (f"Attempt {practice.pk} at", "Regrade of", "Table 2 of", "The players are asked"):
        assert words in under_way, words
    finished = client.get("/operator/jobs/?show=finished").content.decode()
    assert f"Attempt {handed_in.pk} at" in finished and "to campus.example" in finished
    assert row_of(cast.olga, "regrade", regrade.pk)["percent"] == 25
    assert row_of(cast.olga, "table", table.pk)["state"] == "answering"
    pages = [under_way, finished] + [
        client.get(f"/operator/jobs/{kind}/{pk}/").content.decode()
        for kind, pk in (("attempt", handed_in.pk), ("attempt", practice.pk), ("grade-return", grade.pk))
    ]
    for page in pages:
        for secret in ("zora-quill", room.stu.alias, "campus.example/path", "steps:"):
            assert secret not in page, secret
    reads = User.objects.create(username="site-auditor")
    membership_add(by=None, user=reads, role="auditor")
    for kind, pk in (("attempt", handed_in.pk), ("grade-return", grade.pk)):
        refused = client_of(reads).post(f"/api/jobs/{kind}/{pk}/again", content_type="application/json")
        assert refused.status_code == 403, refused.content
        with pytest.raises(VpmsError):  # nor by any other way
            joblist.job_act(by=reads, kind=kind, pk=pk, act="again")
        for status in (200, 409):  # twice changes nothing
            answer = client.post(f"/api/jobs/{kind}/{pk}/again", content_type="application/json")
            assert answer.status_code == status, answer.content
    handed_in.refresh_from_db()
    assert (handed_in.state, handed_in.reason, handed_in.attempts) == ("waiting", "", 0) and handed_in.due_at
