"""Lessons: read strictly, opened question by question, answered once, marked, copied, exported; nothing leaks."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from django.test import Client

from tests.conftest import Cast
from webapp.courses import lessons, reading, services
from webapp.courses.models import Item, LessonAnswer, Mark, Member
from webapp.errors import BadInput

pytestmark = pytest.mark.django_db
LESSON = lessons.BLANK.replace("## First section", "## First section\n\nBefore the question.").replace(
    "```view", "After the question: 24.\n\n```view"
)
WHY = "Each of the guest"  # of the answer
AFTER = "After the question"


@pytest.fixture
def course(cast: Cast) -> Item:
    """A course of ines with one shown lesson worth 10 points; alice and bob are students."""
    made = services.course_create(by=cast.ines, title="Isolation")
    item = services.item_add(
        by=cast.ines, course=made, kind="lesson", title="Walks", text=LESSON, points=10, shown=True
    )
    for user in (cast.alice, cast.bob):
        services.member_add(course=made, user=user, nickname=user.username)
    return item


def as_(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def faults(text: str) -> list[str]:
    with pytest.raises(BadInput) as refused:
        lessons.read(text)
    return [f"{fault.path}: {fault.reason}" for fault in refused.value.faults]


# -- the language


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("minutes: 10", "minutes: x"), "line 5, column 10: minutes must be an integer"),
        (("language: en", "colour: red"), "line 7, column 9: colour is not a field of this document"),
        (('title: "My', 'title: &a "My'), "line 4, column 8: anchors and tags are not allowed"),
        (("minutes: 10", "minutes: 10\nminutes: 11"), "line 6, column 1: 'minutes' is given twice"),
        (("case: nested", "case: nesting"), "case must be one of nested, huge"),
        (("step: 24", "step: 25"), "step must be from 0 to 24"),
        (("right: b", "right: z"), "right must be the name of a choice"),
        (("view: walk", "view: film"), "view must be one of walk, replay, matrix, conflict"),
        (("Before the question.", "![a](https://a.example/a.png)"), "line 11, column 1: pictures are not allowed"),
        (("Before the question.", "[a](http://a.example/)"), "a link must lead to a page of this site"),
        (("Before the question.", "[a](//a.example/)"), "a link must lead to a page of this site"),
    ],
)
def test_a_faulty_lesson_is_refused_at_its_line_and_column(change: tuple[str, str], said: str) -> None:
    changed = LESSON.replace(*change)
    assert changed != LESSON
    assert any(said in fault and fault.startswith("line ") for fault in faults(changed)), faults(changed)


def test_html_in_a_lesson_is_text() -> None:
    found = lessons.read(LESSON.replace("Before the question.", "<script>alert(1)</script> **b**"))
    html = "".join(part.html for section in found.sections for part in section.parts)
    assert "<script" not in html and "&lt;script&gt;" in html and "<strong>b</strong>" in html


def test_damaged_lessons_are_refused_and_nothing_else() -> None:
    source = random.Random(8)
    texts = [texts["en"] for texts in lessons.shipped().values()]
    wild = ["", "\x00", "`", "```view\n", "{", ": ", "&x ", "\t", "---\n", "9" * 30]
    for _ in range(300):
        text = source.choice(texts)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(len(text))
            text = text[:at] + source.choice(wild) + text[at + source.randint(0, 9) :]
        try:
            lessons.read(text)
        except BadInput as refused:
            assert all(fault.path.startswith("line ") for fault in refused.faults)


def test_the_shipped_lessons_are_read_in_their_order() -> None:
    assert len(lessons.shipped()) == 10
    assert all("en" in texts for texts in lessons.shipped().values())


# -- what is held back


def everything(client: Client, item: Item) -> str:
    """All that a person can ask about the lesson: page, parts, API, export, with answers asked for too."""
    at = f"/learn/items/{item.pk}/"
    answers = [
        client.get(at),
        client.get(f"{at}?v1=24"),
        client.get(f"{at}export/?answers=1"),
        client.get(f"/api/courses/items/{item.pk}/lesson"),
        client.get(f"/api/courses/items/{item.pk}/export?answers=true"),
    ]
    assert all(answer.status_code == 200 for answer in answers)
    parts = [client.get(at, headers={"X-Part": part}) for part in ("view-1", "question-first")]
    return "".join(answer.content.decode() for answer in [*answers, *parts])


def test_nothing_tells_the_answer_before_it_is_given(cast: Cast, course: Item) -> None:
    client = as_(cast.alice)
    told = everything(client, course)
    assert "Before the question." in told and "How many references" in told
    assert (
        WHY not in told
        and AFTER not in told
        and "cost nothing" not in told
        and '"right":"b"' not in told.replace(" ", "")
    )
    client.post(f"/learn/items/{course.pk}/answer/", {"question": "first", "choice": "a"})
    told = everything(client, course)
    assert WHY in told and AFTER in told and 'id="view-1"' in told
    assert WHY not in everything(as_(cast.bob), course)  # what alice has opened is open to her alone


def test_who_teaches_sees_all_and_what_the_class_believes(cast: Cast, course: Item) -> None:
    as_(cast.alice).post(f"/learn/items/{course.pk}/answer/", {"question": "first", "choice": "a"})
    page = as_(cast.ines).get(f"/learn/items/{course.pk}/").content.decode()
    assert WHY in page and "1 student" in page and "cost nothing" in page
    assert "alice" not in page.replace('"topbar-person"', "")


def test_passing_opens_the_section_and_earns_nothing(cast: Cast, course: Item) -> None:
    client = as_(cast.alice)
    client.post(f"/learn/items/{course.pk}/answer/", {"question": "first", "pass": "1"})
    assert AFTER in client.get(f"/learn/items/{course.pk}/").content.decode()
    assert Mark.objects.get(item=course).points == 0


def test_the_first_answer_stands_and_is_marked(cast: Cast, course: Item) -> None:
    client = as_(cast.alice)
    for choice in ("b", "a"):
        client.post(f"/learn/items/{course.pk}/answer/", {"question": "first", "choice": choice})
    row = LessonAnswer.objects.get()
    mark = Mark.objects.get(item=course)
    assert (row.choice, row.right, mark.points, mark.reasons[0]["says"]) == ("b", True, 10, "right")
    member = Member.objects.get(user=cast.alice)
    changed = lessons.read(LESSON.replace("right: b", "right: a"))
    earned = reading.grade(course, changed, member)
    assert earned is not None and earned.points == 0  # a regrade by another definition
    assert reading.grade(course, changed, Member.objects.get(user=cast.bob)) is None


@pytest.mark.parametrize(("question", "choice", "status"), [("nothing", "a", 404), ("first", "z", 422)])
def test_an_answer_to_no_question_is_refused(cast: Cast, course: Item, question: str, choice: str, status: int) -> None:
    client = as_(cast.alice)
    answer = client.post(
        f"/api/courses/items/{course.pk}/answers",
        {"question": question, "choice": choice},
        content_type="application/json",
    )
    assert answer.status_code == status and not LessonAnswer.objects.exists()


def test_a_question_that_is_held_back_cannot_be_answered(cast: Cast, course: Item) -> None:
    second = LESSON.split("```question")[1].split("```")[0].replace("key: first", "key: second")
    Item.objects.filter(pk=course.pk).update(text=f"{LESSON}\n```question{second}```\n")
    client, at = as_(cast.alice), f"/learn/items/{course.pk}/answer/"
    assert client.post(at, {"question": "second", "choice": "b"}).status_code == 404
    client.post(at, {"question": "first", "choice": "b"})
    assert client.post(at, {"question": "second", "choice": "b"}).status_code == 302


def test_strangers_and_hidden_lessons_are_missing(cast: Cast, course: Item) -> None:
    paths = [
        f"/learn/items/{course.pk}/",
        f"/learn/items/{course.pk}/export/",
        f"/api/courses/items/{course.pk}/lesson",
    ]
    assert {as_(cast.olga).get(path).status_code for path in paths} == {404}
    Item.objects.update(shown=False)
    assert {as_(cast.alice).get(path).status_code for path in paths} == {404}
    assert (
        as_(cast.alice).post(f"/learn/items/{course.pk}/answer/", {"question": "first", "choice": "b"}).status_code
        == 404
    )


# -- shipped lessons


def test_a_view_stands_at_its_step_whatever_the_others_do(cast: Cast) -> None:
    client = as_(cast.ines)
    page = client.get("/learn/lessons/stale-tlb-entries/?v1=2").content.decode()
    figure = re.search(r'<figure [^>]*id="view-2".*?</figure>', page, re.DOTALL)
    assert figure and "v1=2&amp;v2=" in figure[0]
    part = client.get("/learn/lessons/stale-tlb-entries/?v1=3", headers={"X-Part": "view-1"}).content.decode()
    assert "<html" not in part and 'id="view-1"' in part and "step 3 of" in part
    assert client.get("/learn/lessons/stale-tlb-entries/?v1=99999&v2=x&v77=3").status_code == 200


def test_a_step_carries_nothing_of_later_steps(cast: Cast) -> None:
    """The secret of A01 is read at step 5: at step 4 no byte of the answer is there."""
    client = as_(cast.ines)
    at = "/learn/lessons/compromised-hypervisor/"
    late, early = (client.get(f"{at}?v1={n}", headers={"X-Part": "view-1"}).content.decode() for n in (5, 4))
    assert "SUCCEEDED" in late and "SUCCEEDED" not in early and "hv_access_check" not in early


def test_progress_in_the_list_and_answers_by_account(cast: Cast) -> None:
    client = as_(cast.bob)
    lesson = reading.of_shipped(user=cast.bob, name="two-translations", language="de").lesson
    key = next(iter(lesson.questions))
    answer = client.post(
        "/api/lessons/two-translations/answers", {"question": key, "choice": ""}, content_type="application/json"
    )
    assert answer.status_code == 200 and answer.json()["answered"] == 1
    assert "1 of 5 questions" in client.get("/learn/lessons/").content.decode()
    assert "1 of 5 questions" not in as_(cast.alice).get("/learn/lessons/").content.decode()


def test_a_teacher_copies_a_lesson_and_a_student_cannot(cast: Cast) -> None:
    assert as_(cast.bob).post("/learn/lessons/two-translations/copy/", {"course": "new"}).status_code == 403
    answer = as_(cast.ines).post("/learn/lessons/two-translations/copy/", {"course": "new"})
    item = Item.objects.get()
    assert answer["Location"] == f"/learn/items/{item.pk}/" and not item.shown
    assert item.text == lessons.shipped()["two-translations"]["en"]
    assert as_(cast.ines).get(answer["Location"]).status_code == 200


def test_the_export_is_one_page_that_asks_for_nothing(cast: Cast) -> None:
    page = as_(cast.ines).get("/learn/lessons/stale-tlb-entries/export/?answers=1").content.decode()
    assert not re.search(r'(src|href)="(?!#|/|https://)', page) and "<link" not in page and "csrf" not in page
    assert page.count("<figure") >= 3 and "data-step=" in page and "<script src" not in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert (
        "data-right"
        not in as_(cast.bob)
        .get("/learn/lessons/stale-tlb-entries/export/?answers=1")
        .content.decode()
        .split("<body>")[1]
    )
