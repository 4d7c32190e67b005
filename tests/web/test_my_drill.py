"""Run with my policy: what terms mean for the engine, executed, and seen by the VM's own tenant only."""

from __future__ import annotations

import json

import pytest

from hsvm_engine.attackfile import builtin
from hsvm_engine.interpreter import run_attack
from tests.conftest import HOST, Cast
from tests.web.screen import text_of
from webapp.classroom import mine
from webapp.classroom.selectors import DRILL

pytestmark = pytest.mark.django_db


def test_guarded_memory_is_the_hsvm_row_really_executed(cast: Cast) -> None:
    found = mine.drill_of(user=cast.alice, vm=cast.a_db)
    assert (found["source"], found["memory"], found["row"]) == ("wished", "hsvm", "hsvm")
    assert [row["attack"] for row in found["rows"]] == list(DRILL)
    for row in found["rows"]:
        verdict = run_attack(builtin(row["attack"]), "hsvm")
        assert (row["word"], row["digest"]) == (verdict.outcome.replace("_", " "), verdict.digest or "")
    assert {row["attack"] for row in found["rows"] if not row["decides"]} == {"A22", "A25"}


def test_on_a_host_without_hsvm_the_same_wishes_cannot_help(cast: Cast) -> None:
    host = cast.a_db.placement.host
    host.document = json.dumps({**HOST, "capabilities": {**HOST["capabilities"], "memory_protection": ["none"]}})
    host.save()
    found = mine.drill_of(user=cast.alice, vm=cast.a_db)
    assert (found["row"], found["guarded_anyway"]) == ("nested", False)
    assert {row["word"] for row in found["rows"]} == {"SUCCEEDED", "NOT APPLICABLE"}


def test_who_agreed_to_no_protection_is_told_that_nothing_holds_the_host_to_it(
    cast: Cast, client, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, _ = mine._terms(cast.bob, cast.b_web, cast.h1)
    signed = {"b-web": {**(view or {}), "memory_protection": "none"}}
    monkeypatch.setattr(mine.agreed, "values_in_force", lambda *, host: signed)
    client.force_login(cast.bob)
    found = mine.drill_of(user=cast.bob, vm=cast.b_web)
    assert (found["source"], found["row"], found["guarded_anyway"]) == ("agreed", "nested", True)
    page = text_of(client.get("/tenant/vm/b-web/drill/"))
    assert (
        "your terms do not hold it to that" in page and "Memory protection decides: with hsvm it reads BLOCKED" in page
    )


def test_only_its_own_tenant_sees_it(cast: Cast, client) -> None:
    path = "/tenant/vm/a-db/drill/"
    assert client.get(path).status_code == 302
    client.force_login(cast.alice)
    page = text_of(client.get(path))
    assert "The drill: 12 of 25 attacks" in page and "it changes no answer" in page
    client.force_login(cast.bob)
    assert client.get(path).status_code == 404
    for other in (cast.olga, cast.ines):
        client.force_login(other)
        assert client.get(path).status_code == 403


def test_without_a_place_there_is_nothing_to_run(cast: Cast, client) -> None:
    cast.a_db.placement.delete()
    client.force_login(cast.alice)
    assert "is on no host yet" in text_of(client.get("/tenant/vm/a-db/drill/"))
