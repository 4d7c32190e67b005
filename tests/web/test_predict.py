"""Predictions: answers read off the engine and checked against others that know, no step told before its answer."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import pytest
from django.test import Client

from hsvm_engine.attackfile import builtin
from hsvm_engine.core.machine import Machine
from hsvm_engine.randomops import for_machine, for_twin, pair, visible
from hsvm_engine.randomstream import RandomOperations
from hsvm_engine.replay import record
from hsvm_engine.turns import between, context_answer, facts_of
from tests.conftest import Cast
from tests.web.test_replay import QUICK, executed
from webapp.classroom import services as table
from webapp.classroom import walk
from webapp.classroom.models import Cell
from webapp.classroom.replay import Execution, turns_of
from webapp.courses import predict_kinds as kinds
from webapp.courses import predicting, services
from webapp.courses.models import Prediction
from webapp.courses.predict_sources import CellSource, WalkSource
from webapp.courses.predicting import Round

pytestmark = pytest.mark.django_db


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


# -- the questions


def asked_of(turn: Any) -> dict[str, kinds.Asked]:
    """What each kind asks of a turn."""
    return {name: asked for name, kind in kinds.TURNS.items() if (asked := kind.ask(turn)) is not None}


def checked(asked: kinds.Asked) -> None:
    """One right answer, without a belief; every wrong one has one that the table knows."""
    assert len(asked.choices) >= 2 and asked.right in asked.choices and asked.text and asked.why
    for name, (text, belief) in asked.choices.items():
        assert text and (belief == "") == (name == asked.right) and (not belief or belief in kinds.BELIEFS), asked


@pytest.mark.parametrize("attack", QUICK)
def test_the_right_answers_of_every_attack_and_column_are_what_another_recording_shows(attack: str) -> None:
    """The states that the replay of the table records are made by other code than the turns."""
    seen = Counter[str]()
    for column in table.COLUMNS:
        if column in table.declared(attack):
            continue
        film = record(builtin(attack), column)
        states = {state.number: state for state in film.states}
        for number, turn in turns_of(Execution(attack, column)).items():
            before, after, done = states[number - 1], states[number], film.verdict.steps[number - 1]
            for name, asked in asked_of(turn).items():
                checked(asked)
                seen[name] += 1
                if name == "answer":
                    status, check = done.result["status"], done.result.get("check")
                    assert asked.right == ("ok" if status == "OK" else check or status)
                elif name == "owner" and turn.frame in after.frames:
                    assert asked.right == after.frames[turn.frame].owner
                elif name == "holds" and turn.frame in after.frames:
                    assert (asked.right == "bytes") == after.frames[turn.frame].holds_bytes
                elif name == "hit":
                    grew = len(after.tlb) > len(before.tlb)
                    assert not grew or asked.right == "miss"  # what was known fills nothing at both levels
                elif name == "flush":
                    gone, stale = (
                        set(before.tlb) - set(after.tlb),
                        [sum(e.stale for e in s.tlb) for s in (before, after)],
                    )
                    assert asked.right == ("stale" if stale[1] > stale[0] else asked.right)
                    assert asked.right != "same" or stale[1] <= stale[0]
                    assert asked.right != "gone" or gone
    assert seen["answer"]


@pytest.mark.parametrize("column", table.COLUMNS)
def test_the_right_answers_of_random_steps_are_those_of_the_slow_twin(column: str) -> None:
    """The twin does each step in plain Python; hits, references and the TLB are looked up on a copy of the machine."""
    machine, twin = pair(column)
    source, seen = RandomOperations(twin, 8), Counter[str]()
    before = facts_of(machine)
    for number in range(1, 400):
        op = source.next()
        copy = Machine.restore(machine.snapshot()) if number % 4 == 0 else None
        mine, other = machine.apply(for_machine(op)), twin.apply(for_twin(op))
        source.learn(op, mine, other)
        after = facts_of(machine)
        if not isinstance(op, dict) or mine["status"] == "E_INPUT":
            before = after
            continue
        saved = before.cores.get(op.get("core", -1)) if op["op"] == "context_save" and mine["status"] == "OK" else None
        more = {"context": context_answer(machine, saved), "saved": saved, "names": {vm: "x" for vm, _ in _vms(twin)}}
        turn = between(
            before, after, for_machine(op), mine, number=number, total=0, architecture=column, phase="x", **more
        )
        dump = twin.dump()
        for name, asked in asked_of(turn).items():
            checked(asked)
            seen[name] += 1
            if name == "answer":
                assert (asked.right == "ok") == (other["status"] == "OK")
            elif name == "owner":
                assert asked.right == _owner(dump, turn.frame)
            elif name == "holds" and turn.frame in visible({"nonzero": [turn.frame]}, twin)["nonzero"]:
                assert (asked.right == "bytes") == (turn.frame in dump["nonzero"])
            elif name in ("hit", "references", "flush") and copy is not None:
                _same_on_a_copy(copy, for_machine(op), name, asked.right)
                copy = None
        before = after
    assert {"answer", "owner", "holds", "hit", "references", "flush", "registers"} <= set(seen), seen


def _vms(twin: Any) -> list[Any]:
    return [tuple(row) for row in twin.dump()["vms"]]


def _owner(dump: dict[str, Any], frame: Any) -> str:
    return next(str(owner) for first, count, owner in dump["owners"] if first <= frame < first + count)


def _same_on_a_copy(copy: Machine, op: Any, name: str, right: str) -> None:
    counts, held = copy.counters(), {tuple(row) for row in copy.tlb().tolist() if row[4]}
    copy.apply(op)
    now = copy.counters()
    if name == "hit":
        assert [level for level in ("l1", "l2", "miss") if now[level] > counts[level]] == [right]
    elif name == "references":
        assert now["references"] - counts["references"] == int(right)
    elif right == "gone":
        assert len([row for row in copy.tlb().tolist() if row[4]]) < len(held) or now["shot"] >= counts["shot"]


def test_the_same_seed_asks_the_same_and_another_asks_otherwise() -> None:
    turns = turns_of(Execution("A08", "hsvm"))

    def all_of(seed: int) -> list[Any]:
        return [kinds.question_of(kinds.TURNS, turn, number=n, seed=seed) for n, turn in turns.items()]

    assert all_of(3) == all_of(3)
    assert len({tuple(question.key for question in all_of(seed) if question) for seed in range(8)}) > 4


@pytest.mark.parametrize("case", list(walk.CASES))
def test_questions_of_a_walk_are_answered_by_its_references(case: str) -> None:
    source, rows, seen = WalkSource(case), walk.walk_of(case)["references"], Counter[str]()
    for step in source.steps:
        row = rows[step - 1]
        for seed in range(12):
            question = source.question(step, seed)
            assert question is not None
            kind = question.key.partition("-")[0]
            seen[kind] += 1
            expected = {
                "next": f"{row['guest_level']}-{row['nested_level']}",
                "saved": "saved" if row["skipped"] else "made",
                "end": "fault" if row["fault"] else "found" if step == len(rows) else "on",
                "bits": row["bits"],
            }
            assert question.right == expected[kind]
            beliefs = [choice.misconception for choice in question.choices if choice.name != question.right]
            assert beliefs and all(belief in kinds.BELIEFS for belief in beliefs), question
    assert {"next", "end", "bits"} <= set(seen) and (case != "cached" or seen["saved"])


# -- a round on a page


@pytest.fixture
def cell() -> Cell:
    return executed("A03", "hsvm")


def right_of(found: Round) -> str:
    question = found.source.question(found.next, found.seed)  # type: ignore[arg-type]
    assert question is not None
    return question.right


def everything(client: Client, cell: Cell, seed: int = 1) -> str:
    """All that can be asked about the round before its answer."""
    at = f"/learn/predict/cell/{cell.pk}/?seed={seed}"
    answers = [
        client.get(at),
        client.get(at, headers={"X-Part": "predict"}),
        client.get(f"/api/predictions/cell/{cell.pk}?seed={seed}"),
    ]
    assert all(answer.status_code == 200 for answer in answers)
    return "".join(answer.content.decode() for answer in answers)


def test_nothing_tells_a_step_before_it_is_answered(cast: Cast, cell: Cell) -> None:
    """Until the deciding step is answered, neither its check nor the outcome nor a later step is in anything sent."""
    client = as_(cast.alice)
    film = turns_of(Execution("A03", "hsvm"))
    refused = next(number for number, turn in film.items() if turn.result.get("check"))
    for step in range(1, len(film) + 1):
        told = everything(client, cell)
        for word in ("BLOCKED", cell.digest, "DENY", "E_OWNER"):
            assert (word in told) == (step > refused and word in ("DENY", "E_OWNER")), (step, word)
        assert f"Step {step} of" not in re.sub(r'class="mono predict-does">[^<]*<|"does": "[^"]*"', "", told)
        assert '"right"' not in told.replace('"score": {"right"', "") or step > 1
        found = Round(cast.alice, CellSource(cell), 1)
        assert found.next == step
        sent = client.post(
            f"/learn/predict/cell/{cell.pk}/answer/?seed=1", {"step": step, "choice": right_of(found)}, follow=True
        )
        assert f"Step {step} of" in sent.content.decode()
    assert "That was the last step" in everything(client, cell)


def test_the_right_choice_is_not_marked_before_the_answer_and_is_after(cast: Cast, cell: Cell) -> None:
    client = as_(cast.alice)
    before = client.get(f"/learn/predict/cell/{cell.pk}/?seed=4").content.decode()
    assert "data-right" not in before and "Why:" not in before and "believes" not in before
    asked = client.get(f"/api/predictions/cell/{cell.pk}?seed=4").json()
    assert asked["told"] is None and set(asked["asked"]) == {"key", "text", "choices"}
    found = Round(cast.alice, CellSource(cell), 4)
    question = found.source.question(found.next, 4)  # type: ignore[arg-type]
    assert question is not None
    wrong = next(choice for choice in question.choices if choice.name != question.right)
    told = client.post(
        f"/api/predictions/cell/{cell.pk}?seed=4",
        {"step": found.next, "choice": wrong.name},
        content_type="application/json",
    ).json()
    assert (
        told["told"]["answer"] == question.right and not told["told"]["right"] and told["told"]["why"] == question.why
    )
    assert told["told"]["belief"] == kinds.belief_said(wrong.misconception) and told["score"]["answered"] == 1
    assert told["misses"] == [{"text": kinds.belief_said(wrong.misconception), "count": 1}]
    after = client.get(f"/learn/predict/cell/{cell.pk}/?seed=4").content.decode()
    assert "data-right" in after and "Who answers so believes:" in after


def test_the_first_answer_stands_and_steps_go_in_order(cast: Cast, cell: Cell) -> None:
    client, at = as_(cast.alice), f"/learn/predict/cell/{cell.pk}/answer/?seed=1"
    right = right_of(Round(cast.alice, CellSource(cell), 1))
    for choice in (right, "", right):
        client.post(at, {"step": 1, "choice": choice, **({} if choice else {"pass": "1"})})
    row = Prediction.objects.get()
    assert row.choice == right and row.right and row.belief == ""
    later = client.post(f"/api/predictions/cell/{cell.pk}?seed=1", {"step": 5}, content_type="application/json")
    assert later.status_code == 409 and later.json()["code"] == "invalid_transition"
    wild = client.post(
        f"/api/predictions/cell/{cell.pk}?seed=1", {"step": 2, "choice": "zz"}, content_type="application/json"
    )
    assert wild.status_code == 422 and Prediction.objects.count() == 1


def test_passing_is_marked_and_a_phase_is_passed_at_once(cast: Cast, cell: Cell) -> None:
    client, at = as_(cast.alice), f"/learn/predict/cell/{cell.pk}/answer/?seed=1"
    page = client.post(at, {"step": 1, "pass": "1"}, follow=True).content.decode()
    assert "no answer" in page and "Gone on without an answer: 1." in page
    assert "Pass all of: Setup" in page
    client.post(at, {"step": 2, "pass": "phase"})
    turns = turns_of(Execution("A03", "hsvm"))
    setup = [number for number, turn in turns.items() if turn.phase == "setup"]
    assert sorted(Prediction.objects.values_list("step", flat=True)) == setup
    assert not Prediction.objects.exclude(choice="").exists() and not Prediction.objects.filter(right=True).exists()
    assert Round(cast.alice, CellSource(cell), 1).next == max(setup) + 1


def test_an_empty_form_says_so_and_keeps_nothing(cast: Cast, cell: Cell) -> None:
    page = as_(cast.alice).post(f"/learn/predict/cell/{cell.pk}/answer/?seed=1", {"step": 1}, follow=True)
    assert "Choose an answer, or go on without one." in page.content.decode() and not Prediction.objects.exists()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("cell/999999/", 404),
        ("cell/x/", 404),
        ("walk/none/", 404),
        ("film/1/", 404),
        ("run/1/", 404),
        ("walk/nested/?seed=-1", 422),
        ("walk/nested/?seed=99999999999999999999", 422),
        ("walk/nested/?at=x", 422),
    ],
)
def test_what_is_not_there_is_missing_and_what_is_no_number_is_refused(cast: Cast, path: str, status: int) -> None:
    assert as_(cast.alice).get(f"/learn/predict/{path}").status_code == status


def test_answers_are_ones_own(cast: Cast, cell: Cell) -> None:
    alice, bob = as_(cast.alice), as_(cast.bob)
    alice.post(f"/learn/predict/cell/{cell.pk}/answer/?seed=1", {"step": 1, "pass": "1"})
    assert "Gone on without" not in bob.get(f"/learn/predict/cell/{cell.pk}/?seed=1").content.decode()
    assert Round(cast.bob, CellSource(cell), 1).next == 1 and Round(cast.alice, CellSource(cell), 1).next == 2
    assert Client().get(f"/learn/predict/cell/{cell.pk}/").status_code == 302
    assert Client().get(f"/api/predictions/cell/{cell.pk}").status_code == 401


def test_what_is_kept_of_a_person_is_bounded(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "KEPT", 5)
    for seed in range(1, 9):
        predicting.answer(Round(cast.alice, WalkSource("plain"), seed), step=1, choice="")
    assert sorted(Prediction.objects.values_list("seed", flat=True)) == [4, 5, 6, 7, 8]


def test_the_walk_is_drawn_until_now_only(cast: Cast) -> None:
    client = as_(cast.alice)
    page = client.get("/learn/predict/walk/guest-fault/?seed=2").content.decode()
    assert "Reference 1 of" not in page and page.count('class="walk-ref"') == 0 and page.count(">?</text>") == 25
    assert "not present" not in page and "never" not in page
    client.post("/learn/predict/walk/guest-fault/answer/?seed=2", {"step": 1, "pass": "1"})
    page = client.get("/learn/predict/walk/guest-fault/?seed=2").content.decode()
    assert page.count('class="walk-ref"') == 1


# -- what people get wrong


def test_a_teacher_sees_counts_and_nobody_else_does(cast: Cast) -> None:
    course = services.course_create(by=cast.ines, title="Isolation")
    item = services.item_add(by=cast.ines, course=course, kind="attack", title="x", text=_lab(), shown=True)
    for user in (cast.alice, cast.bob):
        services.member_add(course=course, user=user, nickname=f"nick-{user.username}")
    for user, n in ((cast.alice, 2), (cast.bob, 1), (cast.ines, 4)):
        for step in range(n):
            what = {"kind": "owner", "choice": "free", "right": False, "belief": "free-at-once"}
            Prediction.objects.create(user=user, item=item, source="item:1:1", seed=1, step=step, **what)
    found = predicting.mistakes_of(course=course)
    assert found["beliefs"] == [
        {"name": "free-at-once", "text": kinds.belief_said("free-at-once"), "count": 3, "people": 2}
    ]
    assert [(row["name"], row["asked"], row["right"], row["passed"]) for row in found["kinds"]] == [("owner", 3, 0, 0)]
    page = as_(cast.ines).get(f"/learn/courses/{course.pk}/mistakes/").content.decode()
    assert kinds.belief_said("free-at-once") in page and "nick-alice" not in page and "alice" not in page
    told = as_(cast.ines).get(f"/api/courses/{course.pk}/mistakes").json()
    assert told["beliefs"][0]["people"] == 2 and "alice" not in str(told)
    for user, status in ((cast.alice, 403), (cast.olga, 404)):
        for path in (f"/learn/courses/{course.pk}/mistakes/", f"/api/courses/{course.pk}/mistakes"):
            assert as_(user).get(path).status_code == status


def _lab() -> str:
    from webapp.courses import kinds as rows

    return rows.kind_of("attack").blank


def test_practice_outside_a_course_is_in_nobodys_count(cast: Cast, cell: Cell) -> None:
    course = services.course_create(by=cast.ines, title="Isolation")
    services.member_add(course=course, user=cast.alice, nickname="a")
    predicting.answer(Round(cast.alice, CellSource(cell), 1), step=1, choice="")
    assert predicting.mistakes_of(course=course)["kinds"] == []
