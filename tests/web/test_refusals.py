"""Requests that no view is made for are refused with the right status and a reason, as a page or in the API's shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import DataError, OperationalError, connection
from django.test import Client

from tests.conftest import Cast
from webapp.tenants.models import Policy


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_the_api_takes_bodies_as_json_only(cast: Cast, client: Any, kind: str) -> None:
    client.force_login(cast.alice)
    document = client.get("/api/vms/a-db/policy").content
    before = Policy.objects.count()
    answer = client.put("/api/vms/a-db/policy", document, content_type=kind)
    assert (answer.status_code, answer.json()["code"]) == (415, "not_json")
    assert kind in answer.json()["message"] and Policy.objects.count() == before


def test_a_wrong_method_is_refused_with_words_and_the_right_ones(cast: Cast, client: Any) -> None:
    client.force_login(cast.alice)
    page, api = client.post("/tenant/"), client.delete("/api/vms")
    assert page.status_code == api.status_code == 405
    assert "POST is not possible here, only GET" in page.content.decode()
    assert api.json()["code"] == "wrong_method" and page["Allow"] == "GET"


def test_a_form_that_is_too_long_or_has_too_many_fields_says_so(cast: Cast, client: Any) -> None:
    client.force_login(cast.alice)
    long = client.post("/tenant/vm/a-db/", {"document": "x" * 1_100_000})
    many = client.post("/tenant/vm/a-db/", {f"f{i}": "1" for i in range(500)})
    assert (long.status_code, many.status_code) == (413, 400)
    assert "longer than 1 MiB" in long.content.decode() and "more than 400 fields" in many.content.decode()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("database or disk is full"), 503, "database_away"),
        # SQLite takes any text; this is what PostgreSQL says of NUL, and of more than a column holds.
        (DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), 422, "not_storable"),
    ],
)
def test_a_database_that_writes_nothing_is_no_failure_of_the_site(
    cast: Cast, client: Any, error: Exception, status: int, code: str
) -> None:
    def refusing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("INSERT INTO", "UPDATE")):
            raise error
        return execute(sql, params, many, context)

    client.force_login(cast.alice)
    document = client.get("/api/vms/a-db/policy").json()
    document["version"] += 1
    before = Policy.objects.count()
    with connection.execute_wrapper(refusing):
        by_api = client.put("/api/vms/a-db/policy", json.dumps(document), content_type="application/json")
        by_page = client.post("/tenant/vm/a-db/start/")
        read = client.get("/tenant/vm/a-db/")
    assert (by_api.status_code, by_api.json()["code"]) == (status, code)
    assert by_api.get("Retry-After") == ("5" if status == 503 else None)
    assert by_page.status_code == status and "Nothing was changed" in by_page.content.decode()
    assert read.status_code == 200 and Policy.objects.count() == before


@pytest.mark.parametrize("path", ["/tenant/host/%00/goals/", "/operator/host/a%00/", "/api/vms/%00"])
def test_a_path_with_nul_leads_nowhere(cast: Cast, client: Any, path: str) -> None:
    def as_postgresql(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if any(isinstance(value, str) and "\0" in value for value in params or ()):
            raise DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
        return execute(sql, params, many, context)

    client.force_login(cast.olga if "operator" in path else cast.alice)
    with connection.execute_wrapper(as_postgresql):
        answer = client.get(path)
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("application/problem+json" if path.startswith("/api/") else "text/html")


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(("path", "status"), [("/nothing/here/", 404), ("/learn/courses/%00/", 404)])
def test_a_body_that_cannot_be_read_makes_no_failure_of_a_page_that_is_missing(
    cast: Cast, kind: str, path: str, status: int
) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["csrf"] = "c" * 32
    headers = {"X-CSRFToken": "c" * 32}
    for body in (b"", b"\xff\xfe", b"a=1&a=2&" * 300):
        assert client.generic("POST", path, body, content_type=kind, headers=headers).status_code == status
