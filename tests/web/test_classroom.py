"""The attack table is filled by executing, can be read by everybody, and run again by teachers only."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from django.test import Client

from hsvm_engine.attackfile import builtin
from hsvm_engine.interpreter import run_attack
from webapp.classroom import live, selectors, services
from webapp.classroom.models import Cell
from webapp.classroom.wording import worded

pytestmark = pytest.mark.django_db


executed_once = cache(services.execute)  # an execution depends on its arguments only


@pytest.fixture
def table(cast: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "execute", executed_once)
    services.table_prepare()
    for cell in Cell.objects.all():
        services.cell_run(cell_id=cell.pk)


ALL_COLUMNS = len(services.COLUMNS) + len(services.WHAT_IFS)


def base(attack: str, architecture: str) -> Cell:
    return Cell.objects.get(attack=attack, architecture=architecture, skip="")


def client_of(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_every_cell_is_the_result_of_an_execution(table: None) -> None:
    cells = {(cell.attack, cell.architecture): cell for cell in selectors.cells()}
    assert len(cells) == len(services.ATTACKS) * len(services.COLUMNS)
    for (attack, architecture), cell in cells.items():
        verdict = run_attack(builtin(attack), architecture)
        assert (cell.outcome, cell.digest, cell.check_name) == (
            verdict.outcome,
            verdict.digest or "",
            verdict.check or "",
        )
    assert cells["A01", "nested"].outcome == "SUCCEEDED"
    assert (cells["A01", "hsvm"].outcome, cells["A01", "hsvm"].check_name) == ("BLOCKED", "hv_access_check")


def test_a_skipped_check_flips_its_cell(cast: Any) -> None:
    with_check = services.execute(attack="A03", architecture="hsvm", skip="", seed=0)
    without = services.execute(attack="A03", architecture="hsvm", skip="owner_check", seed=0)
    assert (with_check["outcome"], without["outcome"]) == ("BLOCKED", "SUCCEEDED")


def test_a_repeated_message_executes_nothing(table: None) -> None:
    cell = Cell.objects.first()
    assert cell is not None
    services.cell_run(cell_id=cell.pk)
    assert Cell.objects.get(pk=cell.pk).number == cell.number


def test_anybody_reads_the_table_and_the_deciding_step(table: None) -> None:
    page = Client().get("/learn/").content.decode()
    assert "SUCCEEDED" in page and "BLOCKED" in page and "Run all again" not in page
    cell = base("A03", "hsvm")
    steps = Client().get(f"/teach/cell/{cell.pk}/").content.decode()
    for words in ("owner_check", "decided", "E_OWNER", "Page map", cell.digest):
        assert words in steps


def test_totals_name_every_word_and_add_up(table: None) -> None:
    totals = {row["word"]: row["counts"] for row in selectors.table(titles={})["totals"]}
    assert {"BLOCKED", "SUCCEEDED", "OUT OF SCOPE", "NOT APPLICABLE", "ERROR"} <= totals.keys()
    assert [sum(counts) for counts in zip(*totals.values(), strict=True)] == [len(services.ATTACKS)] * ALL_COLUMNS
    assert totals["NOT APPLICABLE"] == [2, 2, 0, 0, 0, 0] and totals["OUT OF SCOPE"] == [0, 0, 2, 2, 2, 2]


def test_the_verdict_is_a_file(table: None) -> None:
    cell = base("A01", "nested")
    answer = Client().get(f"/teach/cell/{cell.pk}/verdict.json")
    assert answer["Content-Disposition"] == 'attachment; filename="A01-nested.json"'
    assert answer.json()["outcome"] == "SUCCEEDED"
    assert Client().get(f"/api/matrix/{cell.pk}").json()["steps"]


@pytest.mark.parametrize(("who", "status"), [("ines", 302), ("alice", 403), ("olga", 403)])
def test_only_teachers_run_it_again(table: None, cast: Any, who: str, status: int) -> None:
    client = client_of(getattr(cast, who))
    assert client.post("/teach/run/").status_code == status
    assert client.get("/teach/").status_code == (200 if who == "ines" else 403)
    queued = Cell.objects.filter(state="queued").count()
    assert queued == (len(services.ATTACKS) * ALL_COLUMNS if who == "ines" else 0)


def test_the_topic_tells_what_changed_since(table: None, cast: Any) -> None:
    [everything] = live.messages("", "public", None)
    assert everything["kind"] == "keyframe" and len(everything["data"]["cells"]) == len(services.ATTACKS) * ALL_COLUMNS
    assert live.messages("", "public", everything["seq"]) == []
    services.cells_run_again(by=cast.ines, cells=[base("A09", "hsvm").pk])
    [change] = live.messages("", "public", everything["seq"])
    assert [(cell["attack"], cell["state"]) for cell in change["data"]["cells"]] == [("A09", "queued")]


def test_a_result_of_another_engine_is_stale_and_keeps_its_old_word(table: None) -> None:
    Cell.objects.filter(attack="A01", architecture="hsvm", skip="").update(engine_version="0")
    shown = selectors.shown(base("A01", "hsvm"))
    assert (shown["word"], shown["old_word"]) == ("STALE RESULT", "BLOCKED")


def test_a_cell_that_is_given_up_reads_error_and_never_blocked(table: None) -> None:
    cell = base("A01", "hsvm")
    services.cell_failed(cell.pk, reason="It was tried three times and never got on")
    assert selectors.shown(Cell.objects.get(pk=cell.pk))["word"] == "ERROR"


def test_a_missing_cell_is_404(table: None) -> None:
    assert Client().get("/teach/cell/999/").status_code == 404
    assert Client().get("/api/matrix/999").status_code == 404


def test_the_victims_own_steps_in_the_middle_of_an_attack_are_marked(table: None) -> None:
    cell = base("A12", "nested")
    page = Client().get(f"/teach/cell/{cell.pk}/").content.decode()
    assert page.count('<span class="chip">the victim</span>') == 1


def test_a_declared_cell_gives_its_reason_and_no_steps(table: None) -> None:
    cell = base("A25", "hsvm")
    page = Client().get(f"/teach/cell/{cell.pk}/").content.decode()
    assert "OUT OF SCOPE" in page and "The paper excludes attacks on the hardware" in page
    assert 'id="step-' not in page
    assert selectors.shown(cell)["word"] == "OUT OF SCOPE"


def test_long_bytes_are_shortened_for_people() -> None:
    assert worded("ab" * 64) == "ab" * 64
    assert worded("ab" * 4096) == "ab" * 32 + "... (8192 digits)"
