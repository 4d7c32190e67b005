"""/metrics and the logs: who reads them, that every figure is there and bounded, and what never stands in a line."""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Cast
from webapp import logs, tally
from webapp.celery import app
from webapp.ops import figures, services
from webapp.ops.keeper import relay
from webapp.ops.models import Figure, Heartbeat
from webapp.runs.models import Run
from webapp.runs.services import vm_start

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "webapp" / "ops" / "grafana.json").read_text())
BOUNDED = {"engine", "state", "host", "kind", "process", "code", "route", "status", "le"}


@pytest.fixture(autouse=True)
def nothing_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    tally.take()
    monkeypatch.setattr(tally, "_levels", {})  # of sockets that other tests of this process had


def samples() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = figures.text().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_only_this_machine_and_who_has_the_token_read_them(cast: Cast, settings: Any) -> None:
    settings.METRICS_TOKEN = "t" * 40
    elsewhere = {"REMOTE_ADDR": "203.0.113.5"}
    right = {"HTTP_AUTHORIZATION": "Bearer " + "t" * 40}
    assert Client().get("/metrics").status_code == 200
    assert Client().get("/metrics", **elsewhere, **right).status_code == 200
    for other in ({}, {"HTTP_AUTHORIZATION": "Bearer " + "u" * 40}, {"HTTP_AUTHORIZATION": "Bearer "}):
        assert Client().get("/metrics", **elsewhere, **other).status_code == 404
    assert Client().get("/metrics", HTTP_X_FORWARDED_FOR="203.0.113.5").status_code == 404
    settings.METRICS_TOKEN = ""  # none is set: an empty one opens nothing
    assert Client().get("/metrics", **elsewhere, HTTP_AUTHORIZATION="Bearer ").status_code == 404


def test_every_series_of_the_dashboard_exists_and_every_series_is_on_it(cast: Cast) -> None:
    told = {name for family in text_string_to_metric_families(figures.text().decode()) for name in [family.name]}
    known = {name.removesuffix("_total") for name in figures.SERIES}
    assert told == known
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    named = {name for expr in asked for name in re.findall(r"\bvpms_\w+", expr)}
    plain = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert plain == set(figures.SERIES)
    for expr in asked:  # and a panel asks for no label that its series does not have
        for labels in re.findall(r"by \(([\w, ]+)\)", expr):
            assert set(labels.split(", ")) <= BOUNDED


def test_the_document_for_operators_names_every_series() -> None:
    named = set(re.findall(r"`(vpms_\w+)`", (ROOT / "docs" / "operators" / "metrics.md").read_text()))
    assert named == set(figures.SERIES)


def test_labels_are_bounded_and_name_no_tenant_person_run_or_address(cast: Cast) -> None:
    client = Client()
    client.force_login(cast.alice)
    for path in ("/tenant/", "/tenant/vm/a-db/", "/tenant/vm/a-db/nothing-of-the-kind/", "/invitation/a-secret-token/"):
        client.get(path)
    vm_start(by=cast.alice, vm=cast.a_db)
    figures.tell()
    text = figures.text().decode()
    for name, labels in samples():
        assert {label for label, _ in labels} <= BOUNDED, name
    assert 'route="invitation"' in text and 'status="4xx"' in text
    for word in ("alpha", "a-db", "alice", "a-secret-token", "/tenant"):
        assert word not in text


def test_counts_of_all_processes_are_one_and_levels_of_gone_ones_vanish() -> None:
    for process in ("1@a", "2@b"):
        Figure.objects.create(key='["vpms_sockets",{}]', process=process, value=3, at=timezone.now())
    tally.count("vpms_resyncs_total", 2, kind="replay")
    figures.tell()
    tally.count("vpms_resyncs_total", kind="replay")
    tally.observe("vpms_slice_seconds", 0.3)
    figures.tell()
    found = samples()
    assert found["vpms_resyncs_total", (("kind", "replay"),)] == 3 and found["vpms_sockets", ()] == 6
    assert found["vpms_slice_seconds_bucket", (("le", "0.25"),)] == 0
    assert found["vpms_slice_seconds_bucket", (("le", "0.5"),)] == found["vpms_slice_seconds_count", ()] == 1
    Figure.objects.filter(process="1@a").update(at=timezone.now() - figures.LEVELS_FOR * 2)
    assert samples()["vpms_sockets", ()] == 3


def test_workers_and_hosts_that_are_gone_leave_no_series(cast: Cast) -> None:
    services.heartbeat(name="worker:7@here")
    run = Run.objects.create(host=cast.h1, scenario={}, engine_version="2", wrong=2)
    found = samples()
    assert found["vpms_processes", (("kind", "worker"),)] == 1
    assert found["vpms_host_violations", (("host", "h1"),)] == found["vpms_violations", ()] == 2
    Heartbeat.objects.update(at=timezone.now() - figures.SHOWN_FOR * 2)
    Run.objects.filter(pk=run.pk).update(state=Run.State.CANCELLED)
    cast.a_db.placement.delete()
    cast.b_web.placement.delete()
    text = figures.text().decode()
    assert 'vpms_processes{kind="worker"} 0.0' in text and "worker:7@here" not in text and 'host="h1"' not in text


def test_work_that_waits_too_long_makes_the_site_not_ready(cast: Cast, settings: Any) -> None:
    negotiation = vm_start(by=cast.alice, vm=cast.a_db)
    assert services.readiness()["queue"]
    waited = dt.timedelta(seconds=settings.QUEUE_SECONDS + 1)
    type(negotiation).objects.filter(pk=negotiation.pk).update(due_at=timezone.now() - waited, lease_until=None)
    assert not services.readiness()["queue"]
    assert samples()["vpms_queue_age_seconds", (("kind", "negotiation"),)] > settings.QUEUE_SECONDS


def test_the_request_is_named_in_the_answer_the_job_and_the_task(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.force_login(cast.alice)
    answer = client.post("/tenant/vm/a-db/start/")
    ident = answer["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{16}", ident)
    assert Client().get("/healthz", HTTP_X_REQUEST_ID="mine")["X-Request-ID"] != "mine"
    negotiation = cast.a_db.requests.get()
    assert negotiation.request_id == ident and logs.request_id() == ""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda name, args, **more: sent.append({"name": name, **more}))
    relay(timezone.now())
    assert {"request_id": ident} in [message["headers"] for message in sent]


def test_a_task_logs_under_the_request_that_led_to_it() -> None:
    heard: list[dict[str, Any]] = []

    @app.task(name="tests.listening")
    def listening() -> None:
        heard.append(dict(logs.get_contextvars()))

    listening.apply(headers={"request_id": "0123456789abcdef"})
    assert heard[0]["request_id"] == "0123456789abcdef" and heard[0]["task"] == "listening" and heard[0]["worker"]
    assert logs.request_id() == ""


PROGRAM = """
import logging, django
django.setup()
from webapp import logs
log = logging.getLogger("webapp.somewhere")
with logs.bound(request_id="r1", user=7), logs.working(run=3, slice=4):
    log.warning("Cookie: __Host-session=s3cr3t; password=s3cr3t %s", {"token": "s3cr3t", "a": {"content": b"s3cr3t"}})
    log.info('{"secret": "s3cr3t"} Authorization: Bearer s3cr3t vpms_s3cr3ts3cr3ts3cr3ts3cr3t\\nsecond line')
    try:
        raise ValueError("authorization=s3cr3t")
    except ValueError:
        log.exception("it broke")
"""


def test_a_line_is_json_names_what_it_is_about_and_holds_no_secret(tmp_path: Path) -> None:
    environment = {
        "DJANGO_SETTINGS_MODULE": "webapp.settings", "HSVM_RUN_DIR": str(tmp_path), "HSVM_TLS": "0",
        "HSVM_LOG_JSON": "1", "PATH": "/usr/bin:/bin",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 3  # CR and LF begin no line of their own
    for line in lines:
        assert (line["request_id"], line["user"], line["run"], line["slice"]) == ("r1", 7, 3, 4)
        assert "s3cr3t" not in json.dumps(line) and line["logger"] == "webapp.somewhere" and line["timestamp"]
    assert "ValueError" in lines[2]["exception"]


def test_values_under_names_that_are_denied_are_removed() -> None:
    event = {
        "password": "x",
        "csrf_token": "x",
        "cookie": "x",
        "page_bytes": b"x",
        "nested": {"answers": [1]},
        "run": 3,
    }
    cleaned = logs.scrub(None, "info", event)
    assert cleaned["run"] == 3 and cleaned["nested"] == {"answers": logs.REMOVED}
    assert all(cleaned[name] == logs.REMOVED for name in ("password", "csrf_token", "cookie", "page_bytes"))


def test_a_long_path_is_searched_for_secrets_once_and_cut() -> None:
    """The search began anew at every letter: a path of 20,000 letters took a minute of the processor."""
    for text in ("x" * 200_000, "password" * 25_000, "token-" * 30_000, "a-b_c" * 40_000):
        assert len(logs.clean(text)) <= logs.LONGEST + 1
    assert logs.clean("my_password: abc") == f"my_password: {logs.REMOVED}"
    assert logs.clean("x-token-id='abc'") == f"x-token-id='{logs.REMOVED}'"
    assert "geheim" not in logs.clean("a" * (logs.LONGEST - 20) + " csrftoken=geheim" + "b" * logs.LONGEST)


def test_no_line_of_django_tells_an_address(caplog: pytest.LogCaptureFixture) -> None:
    caplog.handler.addFilter(logs.Careful())
    client = Client(enforce_csrf_checks=True)
    with caplog.at_level(logging.DEBUG):
        client.post("/invitation/a-secret-token/")
        client.get("/password/new/MQ/a-secret-token/")
    assert caplog.records and "a-secret-token" not in caplog.text
