"""The replay: really executed again, check or harm in words, what-ifs that flip, where two machines first part."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client

from hsvm_engine.attackfile import builtin
from hsvm_engine.interpreter import run_attack
from tests.web.screen import text_of
from webapp.classroom import replay, scenes, selectors, services
from webapp.classroom.models import Cell
from webapp.classroom.replay import Execution

pytestmark = pytest.mark.django_db
LONG = ("A16", "A17", "A24")
QUICK = [attack for attack in services.ATTACKS if attack not in LONG]


def executed(attack: str, architecture: str, skip: str = "") -> Cell:
    """One cell of the table, executed."""
    cell = Cell.objects.create(attack=attack, architecture=architecture, skip=skip, due_at="2026-01-01T00:00:00Z")
    services.cell_run(cell_id=cell.pk)
    return Cell.objects.get(pk=cell.pk)


@pytest.mark.parametrize("attack", services.ATTACKS)
def test_the_replay_ends_in_the_digest_of_the_cell(attack: str) -> None:
    for architecture in services.COLUMNS:
        film = replay.film_of(Execution(attack, architecture))
        verdict = run_attack(builtin(attack), architecture)
        assert film["digest"] == (verdict.digest or "")
        assert film["total"] == len(verdict.steps)
        by_number = {step["n"]: step for step in film["steps"] if step["n"]}
        for number, step in by_number.items():
            assert (step["op"], step["status"]) == (
                verdict.steps[number - 1].op["op"],
                verdict.steps[number - 1].result["status"],
            )
        assert not film["deciding"] or film["deciding"] in by_number


@pytest.mark.parametrize("attack", QUICK)
def test_every_blocked_cell_names_its_check_with_inputs_or_the_experiment(attack: str) -> None:
    for architecture in services.COLUMNS:
        why = replay.why_of(Execution(attack, architecture))
        word = replay.film_of(Execution(attack, architecture))["word"]
        if word == "BLOCKED":
            assert why["check"] and why["inputs"] and why["paper"]
            assert bool(why["comparison"]) != bool(why["experiment"])
            assert not why["comparison"] or (why["comparison"].endswith("→ DENY") and "?" not in why["comparison"])
        if word == "SUCCEEDED":
            assert why["harm"] and why["stopped"] and not why["check"]


def test_the_comparison_is_said_with_its_values() -> None:
    why = replay.why_of(Execution("A03", "hsvm"))
    assert why["comparison"] == (
        "owner[0x1000] = VM A (victim), requester = hypervisor for VM B (attacker), need free → DENY"
    )
    experiment = replay.why_of(Execution("A13", "hsvm"))
    assert experiment["check"] == "zero_on_release" and "found by experiment" in experiment["experiment"]


def test_a_success_says_where_a_check_could_have_stopped_it() -> None:
    assert "At step 7. Run on hsvm, it is answered E_OWNER" in replay.why_of(Execution("A03", "nested"))["stopped"]
    assert "At step 5: run on hsvm, tlb_shootdown acts there" in replay.why_of(Execution("A14", "nested"))["stopped"]
    assert replay.why_of(Execution("A18", "nested"))["stopped"].startswith("Nowhere: run on hsvm it succeeds too")
    assert "OUT OF SCOPE" in replay.why_of(Execution("A25", "nested"))["stopped"]


@pytest.mark.parametrize("attack", ["A03", "A05", "A08", "A11", "A13", "A14", "A19"])
def test_turning_the_deciding_check_off_flips_the_cell_and_is_the_same_each_time(attack: str) -> None:
    check = replay.summary_of(Execution(attack, "hsvm")).check
    without = Execution(attack, "hsvm", check)
    once, again = without.run(), without.run()
    assert (once.outcome, once.digest) == (again.outcome, again.digest)
    assert once.outcome == "SUCCEEDED" and once.digest == replay.film_of(without)["digest"]


def test_columns_of_what_ifs_are_executed_and_executed_again_alike(cast: Any) -> None:
    cell = executed("A03", "hsvm", "owner_check")
    literal = executed("A04", "hsvm", "literal")
    assert (cell.outcome, literal.outcome) == ("SUCCEEDED", "SUCCEEDED")
    services.cells_run_again(by=cast.ines, cells=[cell.pk])
    services.cell_run(cell_id=cell.pk)
    assert Cell.objects.get(pk=cell.pk).digest == cell.digest
    assert selectors.shown(cell)["architecture"] == "hsvm without owner_check"
    assert selectors.shown(literal)["architecture"] == "hsvm literal rule"


@pytest.mark.parametrize("other", ["nested", "hsvm-smm"])
@pytest.mark.parametrize("attack", QUICK)
def test_the_divergence_is_that_of_a_dumb_comparison(attack: str, other: str) -> None:
    one, two = run_attack(builtin(attack), "hsvm"), run_attack(builtin(attack), other)
    found, _ = replay.compared(Execution(attack, "hsvm"), Execution(attack, other))
    dumb = 0
    for left, right in zip(one.steps, two.steps, strict=False):
        same = left.result["status"] == right.result["status"]
        for name in ("data", "registers", "released", "freed", "hit"):
            same = same and left.result.get(name) == right.result.get(name)
        if not same:
            dumb = left.number
            break
    assert found.answer == dumb
    if dumb and one.steps[dumb - 1].result["status"] != two.steps[dumb - 1].result["status"]:
        assert found.answer_says == (
            f"Step {dumb}: hsvm answered {one.steps[dumb - 1].result['status']}, "
            f"{other} answered {two.steps[dumb - 1].result['status']}."
        )
    assert not found.state or not found.answer or found.first == min(found.state, found.answer)


def test_a_machine_is_like_itself() -> None:
    for attack in ("A03", "A14"):
        found, _ = replay.compared(Execution(attack, "hsvm"), Execution(attack, "hsvm", "dma_check"))
        assert (found.answer, found.state) == (0, 0)


def test_a_link_opens_its_step_without_script() -> None:
    cell = executed("A03", "nested")
    page = text_of(Client().get(f"/teach/cell/{cell.pk}/?step=7"))
    assert "Step 7 of 8, the attacker: page_map" in page
    assert "VM A (victim) → VM B (attacker)" in page
    assert "The harm" in page and "The victim's secret" in page
    assert "Nothing is done yet" in text_of(Client().get(f"/teach/cell/{cell.pk}/?step=0"))
    assert "This step decided." in text_of(Client().get(f"/teach/cell/{cell.pk}/"))  # opens there without a step


@pytest.mark.parametrize("step", ["9", "-1", "x", "%C2%B2", "999999"])
def test_a_wrong_step_is_refused_with_what_and_why(step: str) -> None:
    cell = executed("A03", "hsvm")
    answer = Client().get(f"/teach/cell/{cell.pk}/?step={step}")
    assert answer.status_code == 422 and "it has steps 0 to 8" in answer.content.decode()


def test_a_long_replay_shows_its_beginning_and_the_steps_before_the_deciding_one() -> None:
    cell = executed("A24", "nested")
    page = Client().get(f"/teach/cell/{cell.pk}/").content.decode()
    shown = [int(number) for number in re.findall(r'id="step-(\d+)"', page)]
    decided = cell.verdict["step"]["number"]
    assert shown[: replay.HEAD] == list(range(1, replay.HEAD + 1))
    assert set(range(decided - replay.TAIL + 1, decided + 1)) <= set(shown)
    left_out = sum(int(number) for number in re.findall(r"(\d+) steps more", page))
    assert len(shown) + left_out == len(cell.verdict["steps"])
    assert page.count("decided</span>") == 1 and len(page) < 250_000


def test_a_script_gets_what_the_page_shows() -> None:
    cell = executed("A14", "nested")
    page = Client().get(f"/teach/cell/{cell.pk}/?step=6").content.decode()
    film = json.loads(re.findall(r'id="film-0" type="application/json">(.*?)</script>', page)[0])
    step = next(step for step in film["steps"] if step["n"] == 6)
    assert [film["rows"][row]["mark"] for row in step["tlb"]] == ["stale"]
    assert "STALE" in text_of(page) and step["says"] in text_of(page)


def test_a_cell_of_another_engine_says_that_its_replay_ends_differently() -> None:
    cell = executed("A03", "hsvm")
    Cell.objects.filter(pk=cell.pk).update(engine_version="0", digest="0" * 64)
    page = text_of(Client().get(f"/teach/cell/{cell.pk}/"))
    assert "STALE RESULT" in page and "before: BLOCKED" in page and "ends differently" in page


def test_another_attack_file_makes_a_result_stale() -> None:
    cell = executed("A03", "hsvm")
    files = services.files()
    assert selectors.shown(cell, files=files)["word"] == "BLOCKED"
    assert selectors.shown(cell, files={**files, "A03": "other"})["word"] == "STALE RESULT"


def test_two_machines_stand_side_by_side_at_the_first_divergence() -> None:
    cell = executed("A03", "hsvm")
    page = text_of(Client().get(f"/teach/cell/{cell.pk}/compare/?without=owner_check"))
    assert "Step 7: hsvm answered E_OWNER, hsvm without owner_check answered OK." in page
    assert "Step 7, page_map: hsvm answered E_OWNER by owner_check" in page and "first divergence" in page
    page = text_of(Client().get(f"/teach/cell/{cell.pk}/compare/?with=nested&step=8"))
    assert "Step 8 of 8" in page and "F_NOT_PRESENT" in page


@pytest.mark.parametrize("query", ["", "with=x", "with=hsvm", "without=zero_on_release", "without=%00", "with=nested2"])
def test_what_is_not_offered_cannot_be_asked_for(query: str) -> None:
    """A visitor can ask for few executions only: those of the columns and of the deciding check."""
    cell = executed("A03", "hsvm")
    assert Client().get(f"/teach/cell/{cell.pk}/compare/?{query}").status_code == 404


def test_where_nothing_was_run_nothing_can_be_laid_beside_it() -> None:
    cell = executed("A25", "hsvm")
    assert scenes.others(cell) == []
    assert Client().get(f"/teach/cell/{cell.pk}/compare/?with=nested").status_code == 404


def test_a_check_without_a_switch_says_so() -> None:
    cell = executed("A10", "hsvm")
    page = text_of(Client().get(f"/teach/cell/{cell.pk}/"))
    assert "The engine has no switch for npt_root_protection" in page and "Turn this check off" not in page
    assert scenes.switch(executed("A04", "hsvm")) == {"check": "slot_check", "query": "without=literal"}


@pytest.mark.parametrize(("who", "status"), [("ines", 302), ("alice", 403), ("olga", 403)])
def test_only_teachers_add_a_column(cast: Any, who: str, status: int) -> None:
    client = Client()
    client.force_login(getattr(cast, who))
    answer = client.post("/teach/what-if/", {"architecture": "hsvm", "skip": "dma_check"})
    assert answer.status_code == status
    assert Cell.objects.filter(skip="dma_check").count() == (len(services.ATTACKS) if who == "ines" else 0)
    if who == "ines":
        assert client.post("/teach/what-if/", {"architecture": "hsvm", "skip": "no"}).status_code == 422
        assert client.post("/teach/what-if/", {"architecture": "nested", "skip": "dma_check"}).status_code == 422


def test_the_drills_rows_come_first_in_their_order(cast: Any) -> None:
    services.table_prepare()
    table = selectors.table(titles={})
    assert [row["attack"] for row in table["rows"][:12]] == list(selectors.DRILL)
    assert [row["attack"] for row in table["rows"][12:]] == sorted(set(services.ATTACKS) - set(selectors.DRILL))
    assert [column["name"] for column in table["columns"]] == [
        "nested", "shadow", "hsvm", "hsvm-smm", "hsvm literal rule", "hsvm without owner_check",
    ]  # fmt: skip
