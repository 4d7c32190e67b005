"""Nobody sees by page or API what is another tenant's, beyond what a negotiation discloses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests.conftest import CAREFUL, Cast, wishes

pytestmark = pytest.mark.django_db
OURS = ("accounts", "audit", "tenants", "fleet", "agreements", "api")
SECRETS = ("a-db", "alpha", "Alpha Clinic", "alice")  # what bob must never read, in any answer to any request


def patterns(resolver: Any = None, prefix: str = "") -> list[tuple[str, URLPattern]]:
    """Every route of the site, as pattern text and pattern."""
    found: list[tuple[str, URLPattern]] = []
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            found += patterns(entry, route)
        else:
            found.append((route, entry))
    return found


def module_of(pattern: URLPattern) -> str:
    return getattr(pattern.callback, "__module__", "")


def our_routes() -> list[str]:
    routes = []
    for route, pattern in patterns():
        view = module_of(pattern)
        if route.startswith("api/") or any(view.startswith(f"webapp.{app}.") for app in OURS):
            routes.append("/" + route)
    return sorted(set(routes))


def filled(route: str, values: dict[str, str]) -> str:
    for part, value in values.items():
        route = route.replace(part, value)
    return route.replace("$", "").replace("^", "")


def foreign(cast: Cast, negotiation: int) -> dict[str, str]:
    return {
        "<str:name>": "a-db",
        "<name>": "a-db",
        "<int:version>": "1",
        "<int:pk>": str(negotiation),
        "<int:number>": str(negotiation),
    }


def body_of(answer: Any) -> str:
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return content.decode(errors="replace")


@pytest.fixture
def alone(cast: Cast) -> int:
    """A negotiation in which only alice takes part."""
    from webapp.agreements.services import start_request

    return start_request(by=cast.alice, vm=cast.a_db).pk


def test_the_walk_meets_every_kind_of_page_and_route() -> None:
    routes = our_routes()
    for expected in ("/tenant/vm/<str:name>/", "/tenant/negotiation/<int:pk>/", "/tenant/audit/", "/operator/audit/"):
        assert expected in routes
    assert len([route for route in routes if route.startswith("/api/")]) >= 12


@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_no_route_answers_bob_with_anything_of_alices(cast: Cast, client, alone: int, method: str) -> None:
    client.force_login(cast.bob)
    document = json.dumps(wishes(CAREFUL, vm="a-db", tenant="alpha", version=2))
    for route in our_routes():
        if "sign-out" in route:
            continue
        path = filled(route, foreign(cast, alone))
        assert "<" not in path, f"the walk cannot fill {route}"
        payload = {"data": document, "content_type": "application/json"} if method in {"put", "post"} else {}
        answer = getattr(client, method)(path, **payload)
        told = body_of(answer)
        if "<" in route:
            assert answer.status_code in {403, 404, 405}, (method, path, answer.status_code)
        for secret in SECRETS:
            # The address that bob typed may come back to him, nothing else.
            assert secret not in told.replace(path, ""), (method, path, secret)
    cast.a_db.refresh_from_db()
    assert cast.a_db.policies.count() == 1 and cast.a_db.placement.host_id == cast.h1.pk


@pytest.mark.parametrize(
    ("route", "missing", "theirs"),
    [
        ("/tenant/vm/{}/", "no-such", "a-db"),
        ("/api/vms/{}", "no-such", "a-db"),
        ("/api/vms/{}/policy", "no-such", "a-db"),
        ("/api/vms/{}/policies", "no-such", "a-db"),
        ("/tenant/negotiation/{}/", "987654", "#"),
        ("/api/negotiations/{}", "987654", "#"),
    ],
)
def test_a_foreign_thing_is_answered_exactly_like_a_missing_one(
    cast: Cast, client, alone: int, route: str, missing: str, theirs: str
) -> None:
    client.force_login(cast.bob)
    theirs = str(alone) if theirs == "#" else theirs
    foreign_answer, missing_answer = client.get(route.format(theirs)), client.get(route.format(missing))
    assert foreign_answer.status_code == missing_answer.status_code == 404
    assert body_of(foreign_answer).replace(theirs, "") == body_of(missing_answer).replace(missing, "")


def test_nobody_reads_the_api_without_signing_in(cast: Cast, client, alone: int) -> None:
    for route in our_routes():
        if route.startswith("/api/") and "openapi" not in route and "schema" not in route and "root" not in route:
            path = filled(route, foreign(cast, alone))
            answers = [getattr(client, method)(path) for method in ("get", "post", "put")]
            allowed = [answer for answer in answers if answer.status_code != 405]
            for answer in allowed:
                assert answer.status_code == 401 and answer.json()["code"] == "not_signed_in", path


def test_unsafe_api_requests_need_the_csrf_token(cast: Cast) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.alice)
    document = json.dumps(wishes(CAREFUL, vm="a-db", tenant="alpha", version=2))
    assert client.put("/api/vms/a-db/policy", document, content_type="application/json").status_code == 403
    assert cast.a_db.policies.count() == 1


def test_alice_does_reach_her_own_things(cast: Cast, client, alone: int) -> None:
    """The walk above would pass if every route were broken; this one would not."""
    client.force_login(cast.alice)
    for path in ("/tenant/vm/a-db/", f"/tenant/negotiation/{alone}/", "/tenant/audit/", "/tenant/conflicts/"):
        assert client.get(path).status_code == 200, path
    for path in ("/api/vms", "/api/vms/a-db", "/api/vms/a-db/policy", f"/api/negotiations/{alone}", "/api/audit"):
        assert "a-db" in body_of(client.get(path)), path
