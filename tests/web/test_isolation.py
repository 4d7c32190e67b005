"""Nobody sees by page or API what is another tenant's, beyond what a negotiation discloses."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests.conftest import CAREFUL, Cast, wishes

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parent.parent.parent
PUBLIC = (  # told to everybody
    "/api/openapi.json",
    "/api/live.schema.json",
    "/api/schemas/",
    "/api/matrix",
    "/api/walks",
    "/api/docs",
    "/api/errors",
)
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


def our_routes() -> list[str]:
    return sorted({"/" + route for route, _ in patterns()})


def filled(route: str, negotiation: int) -> str:
    """The route with things of alice's in its places."""
    values = {"name": "a-db", "pk": negotiation, "number": negotiation, "version": 1, "wanted": "pause"}

    def value(found: re.Match[str]) -> str:
        return str(values.get(found[2], 1 if found[1] == "int:" else "a-db"))

    plain = re.sub(r"\(\?P<\w+>(\w+)[^)]*\)", r"\1", route)  # of a choice the first
    return re.sub(r"<(\w+:)?(\w+)>", value, plain).replace("$", "").replace("^", "")


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
        path = filled(route, alone)
        payload = {"data": document, "content_type": "application/json"} if method in {"put", "post"} else {}
        answer = getattr(client, method)(path, **payload)
        told = body_of(answer)
        if "<" in route and not route.startswith(PUBLIC):
            assert answer.status_code in {403, 404, 405, 422}, (method, path, answer.status_code)
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
    told, otherwise = (
        re.sub(r'csrfmiddlewaretoken" value="\w+', "", body_of(answer)).replace(route.format(name), "")
        for answer, name in ((foreign_answer, theirs), (missing_answer, missing))
    )
    assert told == otherwise


def test_nobody_reads_the_api_without_signing_in(cast: Cast, client, alone: int) -> None:
    for route in our_routes():
        if route.startswith("/api/") and route != "/api/" and not route.startswith(PUBLIC):
            path = filled(route, alone)
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


HOSTILE = (
    "99999999999999999999999999",
    "9" * 400,
    "0",
    "%00",
    "..%2f..%2f",
    "%f0%9f%92%a9",
    "a" * 3000,
    "'--",
    "%0d%0aX",
)


@pytest.mark.parametrize("who", ["alice", "olga"])
@pytest.mark.long
def test_hostile_ids_are_never_a_failure_of_the_site(cast: Cast, client, who: str) -> None:
    client.force_login(getattr(cast, who))
    client.raise_request_exception = False
    for route in our_routes():
        for text in HOSTILE if "<" in route else ():
            path = re.sub(r"<(\w+:)?(\w+)>", lambda found, text=text: text, route)
            for method in ("get", "post"):
                answer = getattr(client, method)(path)
                assert answer.status_code != 500, (method, path[:200])


SPOILED = ("type=%00", "subject=%F0%9F%92%A9&before=x", "before=9999999999999999999", "before=-1", "show=%00", "vm=%00")
TOGETHER = ("type=%00&vm=%00&before=-1", "subject=%F0%9F%92%A9&before=x", "show=%00&before=9999999999999999999")


@pytest.mark.parametrize(
    "query", [*TOGETHER, *(pytest.param(query, marks=pytest.mark.long) for query in SPOILED if query not in TOGETHER)]
)
def test_hostile_queries_are_never_a_failure_of_the_site(cast: Cast, client, alone: int, query: str) -> None:
    client.force_login(cast.alice)
    client.raise_request_exception = False
    for route in our_routes():
        answer = client.get(filled(route, alone) + "?" + query)
        assert answer.status_code != 500, (route, query)


def field_names() -> list[str]:
    """The name of every field of every form, as templates and views have it."""
    found = set()
    for path in (ROOT / "webapp").rglob("*"):
        if path.suffix == ".html":
            found |= set(re.findall(r'\bname="([\w-]+)"', path.read_text()))
        elif path.suffix == ".py":
            found |= set(re.findall(r'POST(?:\.get|\.getlist)?[(\[]"([\w-]+)"', path.read_text()))
    return sorted(found)


TYPED = ("", "1", "on", "a-db", "h1", "alpha", "alice", "2026-01-01", "2027-01-01T10:00", "00:11", "memory_protection")
UNFIT = ("\0", "a\0b", "a" * 3000, "-1", "9" * 30, "\U0001f4a9", "{}", "[]", "\ud800", "\n", "1e400")


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("who", ["alice", "olga", "ines"])
@pytest.mark.long
def test_hostile_forms_are_never_a_failure_of_the_site(cast: Cast, client, alone: int, who: str, seed: int) -> None:
    """What fits and what does not, together, so that every field is once the only one at fault."""
    chance, names = random.Random(f"{who} {seed}"), field_names()
    assert len(names) > 100
    client.raise_request_exception = False
    for route in our_routes():
        if "sign-out" in route or route.startswith("/api/"):
            continue
        client.force_login(getattr(cast, who))
        unfit = chance.random() / 4
        typed = {name: chance.choice(UNFIT if chance.random() < unfit else TYPED) for name in names}
        body = "&".join(f"{name}={quote(text, errors='surrogatepass')}" for name, text in typed.items())
        answer = client.post(filled(route, alone), body, content_type="application/x-www-form-urlencoded")
        assert answer.status_code != 500, (route, typed)
