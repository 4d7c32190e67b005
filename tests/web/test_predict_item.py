"""Predictions as items of a course, and at the time cursor of a run: graded once, seeds untold, views kept apart."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.conftest import Cast
from tests.web.test_predict import as_, right_of
from tests.web.test_time import no_redis, run  # noqa: F401  # fixtures
from webapp.courses import classes, predict_item, predict_views, predicting, services
from webapp.courses import predict_kinds as kinds
from webapp.courses.models import Item, Mark, Member, Prediction
from webapp.courses.predict_sources import run_source
from webapp.courses.predicting import Round
from webapp.errors import BadInput
from webapp.runs.models import Run
from webapp.runs.picture import OPERATOR

pytestmark = pytest.mark.django_db
TEXT = predict_item.shipped("en")[-1].text.replace("questions: 10", "questions: 4")


@pytest.fixture
def item(cast: Cast) -> Item:
    made = services.course_create(by=cast.ines, title="Isolation")
    for user in (cast.alice, cast.bob):
        services.member_add(course=made, user=user, nickname=user.username)
    return services.item_add(
        by=cast.ines, course=made, kind="predict", title="Predict", text=TEXT, points=8, shown=True
    )


def member(item: Item, user: Any) -> Member:
    return Member.objects.get(course=item.course, user=user)


def graded(item: Item, user: Any) -> Round:
    return predict_item.round_of(item, member(item, user), None)


# -- the language


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("questions: 4", "questions: 0"), "questions must lie between 1 and 20"),
        (("questions: 4", "questions: 4\nquestions: 5"), "'questions' is given twice"),
        (("- A03", "- A99"), "attacks[0] must be one of A01"),
        (("- nested", "- paper"), "columns[0] must be one of nested"),
        (("seed: own", "seed: -1"), "seed must lie between 0 and"),
        (("- owner", "- colour"), "kinds[1] must be one of answer"),
        (("title:", "titel:"), "titel is not a field of this document"),
        (("seed: own", "seed: &a own"), "anchors and tags are not allowed"),
    ],
)
def test_a_faulty_definition_is_refused_at_its_place(change: tuple[str, str], said: str) -> None:
    assert change[0] in TEXT
    with pytest.raises(BadInput) as refused:
        predict_item.read(TEXT.replace(*change))
    assert any(said in fault.reason and fault.path.startswith("line ") for fault in refused.value.faults), [
        *refused.value.faults
    ]


def test_more_questions_than_there_are_steps_are_refused() -> None:
    text = TEXT.replace("  - A13\n  - A23\n", "").replace("  - hsvm\n", "").replace("  - answer\n  - owner\n", "")
    with pytest.raises(BadInput) as refused:
        predict_item.read(text.replace("questions: 4", "questions: 20"))
    assert "is more than these attacks, columns and kinds have; there are" in refused.value.faults[0].reason


@pytest.mark.parametrize("language", ["en", "de"])
def test_what_is_shipped_can_be_read_and_asks_what_it_says(language: str, cast: Cast, item: Item) -> None:
    for each in predict_item.shipped(language):
        definition = predict_item.read(each.text)
        assert definition.title == each.title
        found = predict_item.round_of(item, member(item, cast.alice), 5, definition)
        for step in found.source.steps:
            question = found.source.question(step, 5)
            assert question is not None and question.key.partition("-")[0] in definition.kinds
    assert [each.title for each in predict_item.shipped("de")] != [each.title for each in predict_item.shipped("en")]


# -- graded once


def test_a_student_answers_the_graded_round_and_gets_the_points_with_reasons(cast: Cast, item: Item) -> None:
    client = as_(cast.alice)
    for number in range(4):
        found = graded(item, cast.alice)
        question = found.source.question(found.next, found.seed)  # type: ignore[arg-type]
        assert question is not None
        wrong = next(choice for choice in question.choices if choice.name != question.right)
        choice = right_of(found) if number else wrong.name
        client.post(f"/learn/items/{item.pk}/predict/", {"step": found.next, "choice": choice})
        if not number:
            belief = kinds.belief_said(wrong.misconception)
    mark = Mark.objects.get()
    assert (mark.member.user, mark.points, len(mark.reasons)) == (cast.alice, 6.0, 4)
    assert mark.reasons[0]["says"] == f"not right: {belief}" and mark.reasons[1]["says"] == "right"
    page = client.get(f"/learn/items/{item.pk}/").content.decode()
    assert "That was the last step" in page and "You have 6 of 8 points." in page
    again = predict_item.grade(item, predict_item.read(item.text), member(item, cast.alice))
    assert again is not None and again.points == 6.0
    other = predict_item.read(TEXT.replace("questions: 4", "questions: 5"))
    assert predict_item.grade(item, other, member(item, cast.alice)) is None  # nothing was answered to its questions


def test_the_first_graded_answer_stands_and_practice_never_counts(cast: Cast, item: Item) -> None:
    client, at = as_(cast.alice), f"/learn/items/{item.pk}/predict/"
    right = right_of(graded(item, cast.alice))
    client.post(at, {"step": 1, "pass": "1"})
    client.post(at, {"step": 1, "choice": right})
    assert Prediction.objects.get().choice == "" and Mark.objects.get().points == 0
    for seed in (1, 2):
        found = predict_item.round_of(item, member(item, cast.alice), seed)
        client.post(f"{at}?seed={seed}", {"step": 1, "choice": right_of(found)})
    assert Mark.objects.get().points == 0 and Prediction.objects.filter(graded=False, right=True).count() == 2


def test_no_seed_that_is_graded_is_told_and_each_student_has_another(cast: Cast, item: Item) -> None:
    seeds = {user.username: services.graded_seed(item, member(item, user)) for user in (cast.alice, cast.bob)}
    assert len(set(seeds.values())) == 2
    client = as_(cast.alice)
    told = ""
    for step in range(1, 5):
        for at in (f"/learn/items/{item.pk}/", f"/api/courses/items/{item.pk}/predictions"):
            answer = client.get(at)
            assert answer.status_code == 200
            told += answer.content.decode() + client.get(at, headers={"X-Part": "predict"}).content.decode()
        client.post(f"/learn/items/{item.pk}/predict/", {"step": step, "pass": "1"})
    for at in (f"/learn/items/{item.pk}/", f"/api/courses/items/{item.pk}/predictions"):
        told += client.get(at).content.decode()
    for seed in seeds.values():
        assert all(str(seed + more) not in told for more in (-1, 0, 1))
    assert client.get(f"/api/courses/items/{item.pk}/predictions").json()["seed"] is None
    assert not Prediction.objects.filter(seed__in=seeds.values()).exists()


def test_nothing_of_the_graded_round_is_told_before_its_answer(cast: Cast, item: Item) -> None:
    client = as_(cast.alice)
    page = client.get(f"/learn/items/{item.pk}/").content.decode()
    asked = client.get(f"/api/courses/items/{item.pk}/predictions").json()
    assert "data-right" not in page and "Why:" not in page and asked["told"] is None
    found = graded(item, cast.alice)
    execution, number = found.source.places[0]  # type: ignore[attr-defined]
    assert f"Step {number} of" in page  # what is about to be done
    assert f"Step {number} of" not in page.replace(found.source.does(1), "")
    question = found.source.question(1, found.seed)
    assert question is not None and question.why not in page


def test_others_find_nothing_and_teachers_leave_no_mark(cast: Cast, item: Item) -> None:
    assert as_(cast.olga).get(f"/learn/items/{item.pk}/").status_code == 404
    assert as_(cast.olga).get(f"/api/courses/items/{item.pk}/predictions").status_code == 404
    assert as_(cast.olga).post(f"/learn/items/{item.pk}/predict/", {"step": 1, "pass": "1"}).status_code == 404
    assert as_(cast.ines).post(f"/learn/items/{item.pk}/predict/", {"step": 1, "pass": "1"}).status_code == 302
    assert not Mark.objects.exists() and Prediction.objects.get().graded is False


def test_a_guest_of_a_class_answers(cast: Cast, item: Item) -> None:
    session = classes.class_open(by=cast.ines, course=item.course)
    seat, _word = classes.seat_take(session=session, user=None, nickname="Ada")
    client = as_(seat.member.user)
    assert client.get(f"/learn/items/{item.pk}/").status_code == 200
    client.post(f"/learn/items/{item.pk}/predict/", {"step": 1, "pass": "1"})
    assert Mark.objects.get().member == seat.member
    assert client.get(f"/api/courses/items/{item.pk}/predictions").json()["step"] == 2
    assert client.get("/learn/predict/walk/nested/").status_code == 200
    assert client.get("/api/predictions/walk/nested").status_code == 200


def test_the_kind_is_in_the_table(cast: Cast, item: Item) -> None:
    assert predict_views.KIND.read(predict_views.KIND.blank).questions == 10
    made = services.shipped_add(by=cast.ines, course=item.course, kind="predict", name="hit-or-miss", language="de")
    assert made.title.startswith("Treffer") and made.points == 10


# -- a run


def test_an_operator_is_asked_about_the_next_operation(cast: Cast, run: Run) -> None:  # noqa: F811
    """Answers are compared with the journal of the moment after, which another path makes."""
    from webapp.runs import history

    client, seen = as_(cast.olga), set()
    for at in (*range(run.op - 12, run.op), 1, 2, 5, 700, 1500):
        found = Round(cast.olga, run_source(run, OPERATOR, at), at)
        question = found.source.question(at + 1, at)
        if question is None:
            continue
        kind = question.key.partition("-")[0]
        seen.add(kind)
        event = history.at_op(run, at + 1).looker.doing()
        assert event is not None
        if kind == "answer":
            assert question.right == ("ok" if event["status"] == "OK" else event["check"] or event["status"])
        if kind == "hit":
            assert (event["filled"] > 0) == (question.right != "l1")
    assert {"answer"} < seen, seen
    page = client.get(f"/learn/predict/run/{run.pk}/?at=5&seed=1").content.decode()
    assert "After operation 5" in page and "Operation 6:" in page and "Operation 7" not in page
    sent = client.post(f"/learn/predict/run/{run.pk}/answer/?at=5&seed=1", {"step": 6, "pass": "1"}, follow=True)
    assert "After operation 6" in sent.content.decode() and "no answer" in sent.content.decode()


def test_a_tenant_is_asked_about_its_own_vms_only(cast: Cast, run: Run) -> None:  # noqa: F811
    for user, own, foreign in ((cast.alice, "a-db", "b-web"), (cast.bob, "b-web", "a-db")):
        client = as_(user)
        for at in range(6):
            page = client.get(f"/learn/predict/run/{run.pk}/?at={at}&seed=3").content.decode()
            told = client.get(f"/api/predictions/run/{run.pk}?at={at}&seed=3").content.decode()
            assert foreign not in page + told and "peration" not in told and (own in page or at == 0)
            client.post(f"/learn/predict/run/{run.pk}/answer/?at={at}&seed=3", {"step": at + 1, "pass": "1"})
        assert Prediction.objects.filter(user=user, source=f"run:{run.pk}:step", kind__startswith="own-").exists()
    far = as_(cast.alice).get(f"/learn/predict/run/{run.pk}/?at={run.op}")
    assert far.status_code == 422  # an operation is no step of a tenant
    assert as_(cast.ines).get(f"/learn/predict/run/{run.pk}/").status_code in (200, 404)


def test_the_next_steps_totals_are_in_nothing_before_the_answer(cast: Cast, run: Run) -> None:  # noqa: F811
    from webapp.runs import ahead, selectors

    view = selectors.view_for(cast.alice)
    for at in range(1, 5):
        turn = ahead.ahead(run, view=view, at=at).turn
        assert isinstance(turn, ahead.OwnStep)
        page = as_(cast.alice).get(f"/learn/predict/run/{run.pk}/?at={at}&seed={at}").content.decode()
        assert f"{turn.misses:,} of them" not in page and "Why:" not in page
        as_(cast.alice).post(f"/learn/predict/run/{run.pk}/answer/?at={at}&seed={at}", {"step": at + 1, "pass": "1"})
        told = as_(cast.alice).get(f"/learn/predict/run/{run.pk}/?at={at + 1}&seed={at}").content.decode()
        assert "Why:" in told


def test_a_stranger_finds_no_run(cast: Cast, run: Run) -> None:  # noqa: F811
    from webapp.accounts.models import User

    stranger = User.objects.create(username="stranger")
    for path in (f"/learn/predict/run/{run.pk}/", f"/api/predictions/run/{run.pk}"):
        assert as_(stranger).get(path).status_code == 404
    assert Client().get(f"/learn/predict/run/{run.pk}/").status_code == 302
    assert predicting.newest_seed(user=stranger, key="x") == 1
