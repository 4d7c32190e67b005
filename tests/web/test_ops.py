"""The site's own pages: health, readiness, the recorded story, and what is shown when something fails."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from webapp.ops import story
from webapp.runs import recording
from webapp.vpms import documents

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def apart(settings: Any, tmp_path: Any) -> None:
    settings.RUN_DIR = tmp_path
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"


def test_health_touches_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_readiness_names_what_fails_to_insiders_only() -> None:
    answer = Client().get("/readyz")
    assert answer.status_code == 503
    assert {"keeper", "worker", "redis", "hub"} <= set(answer.json()["failing"])
    assert Client().get("/readyz", REMOTE_ADDR="203.0.113.5").json() == {"ready": False}
    assert Client().get("/readyz", HTTP_X_FORWARDED_FOR="203.0.113.5").json() == {"ready": False}


def test_pages_that_need_nobody_to_sign_in() -> None:
    for path in ("/", "/demo/", "/learn/"):
        assert Client().get(path).status_code == 200


def test_the_schemas_of_documents_are_served_as_the_command_line_prints_them() -> None:
    for kind in documents.SCHEMAS:
        assert Client().get(f"/api/schemas/{kind}.json").json() == documents.json_schema(kind)
    assert Client().get("/api/schemas/nonsense.json").status_code == 404


def test_the_schema_of_the_socket_is_served() -> None:
    schema = Client().get("/api/live.schema.json").json()
    assert {"fromClient", "fromServer", "binary"} <= schema["$defs"].keys()


@pytest.mark.parametrize("path", ["/nothing/", "/teach/cell/7/", "/api/nothing"])
def test_what_is_missing_is_said_in_plain_words(path: str) -> None:
    answer = Client().get(path)
    assert answer.status_code == 404
    assert "nothing here that you may see" in answer.content.decode() or "no such cell" in answer.content.decode()


def test_a_form_without_its_token_is_refused_with_a_reason() -> None:
    answer = Client(enforce_csrf_checks=True).post("/teach/run/")
    assert answer.status_code == 403 and "This form was too old" in answer.content.decode()


def test_the_story_is_recorded_by_the_engine_and_settled_by_the_solver() -> None:
    assert Client().get("/demo/recording").status_code == 404
    recording.make(settlement=story.settlement())
    told = " ".join(line.text for line in recording.story())
    for words in (
        "SUCCEEDED",
        "b-web's secret in clear",
        "BLOCKED by the owner check",
        "belongs to b-web",
        "a-db keeps",
    ):
        assert words in told
    answer = Client().get("/demo/recording")
    data, at, before, kinds = answer.content, 0, 0, set()
    while at < len(data):
        ms, kind, length = recording.RECORD.unpack_from(data, at)
        payload = data[at + recording.RECORD.size :][:length]
        at += recording.RECORD.size + length
        assert ms >= before and kind in (0, 1)
        before = ms
        if kind == 1:
            assert payload[:2] == b"\x48\x56"
        else:
            message = json.loads(payload)
            kinds.add(message.get("type") or message["topic"])
    assert at == len(data) and 80_000 <= before <= 100_000
    assert {"caption", "mark", "run/1/tlb", "run/1/counters", "run/1/log", "run/2/log"} <= kinds
    page = Client().get("/demo/").content.decode()
    assert told.split()[0] in page
    assert "&quot;architecture&quot;: &quot;nested&quot;, &quot;shoots&quot;: false" in page  # what flushes an entry


def test_the_secret_that_the_story_shows_is_the_one_that_the_guest_wrote() -> None:
    from hsvm_engine.guestos import secret_of

    recording.make(settlement=["one"])
    secret = secret_of("b-web", len("b-web") ^ 2013).hex()
    assert any(secret in line.text for line in recording.story())
