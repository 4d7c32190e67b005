"""The attack lab: practice and hand-in, points with reasons, hints, limits; and that nothing leaks."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from django.test import Client
from django.utils import timezone
from django.utils.html import escape

from tests.web.lab import MODELS, Class, make_class, work_all
from webapp import jobs
from webapp.courses import lab, services
from webapp.courses.models import Attempt, LabWork, Mark
from webapp.errors import BadInput, VpmsError

pytestmark = pytest.mark.django_db


@pytest.fixture
def room(db: None) -> Class:
    return make_class()


def signed_in(user: Any) -> Client:
    client = Client()
    client.force_login(user)
    return client


def make(room: Class, text: str | None = None, **more: Any) -> Attempt:
    wanted = {"by": room.stu, "item": room.item, "member": room.member, **more}
    return lab.attempt_make(text=room.solution if text is None else text, **wanted)


def test_practice_and_hand_in_on_the_page_lead_to_points_with_reasons_and_a_mark(room: Class) -> None:
    client, page = signed_in(room.stu), f"/learn/items/{room.item.pk}/"
    shown = client.get(page).content.decode()
    assert "Read all 16 bytes on nested paging." in shown and "1 hidden test" in shown and "mfn: 512" in shown
    told = client.post(f"{page}lab/", {"text": room.solution.replace("\n", "\r\n"), "seed": "5", "act": "run"})
    assert told.status_code == 302 and told["Location"] == f"{page}#attempts"
    assert "Waiting for a worker" in client.get(page).content.decode()
    assert work_all() == 1
    shown = client.get(page).content.decode()
    assert "10 of 10 points" in shown and "practice with seed 5" in shown and not Mark.objects.exists()
    assert "On nested 16 of the bytes 0 to 15 of the secret" in shown and "Step through it on hsvm" in shown
    client.post(f"{page}lab/", {"text": room.solution, "act": "hand_in"})
    work_all()
    mark = Mark.objects.get()
    assert (mark.earned, mark.points, mark.member) == (20, 20, room.member)
    assert [row["of"] for row in mark.reasons] == [4, 8, 4, 2, 2] and mark.reasons[-1]["name"] == "Hidden test 1"
    assert "Your best result so far counts 20" in client.get(page).content.decode()


def test_page_api_and_command_line_give_the_same_grade(room: Class) -> None:
    from hsvm_engine.goals import grade, grade_text
    from hsvm_engine.labtask import read_answer, read_task

    client = signed_in(room.stu)
    text = room.solution.replace("length: 16", "length: 9")
    made = client.post(
        f"/api/items/{room.item.pk}/lab/attempts", json.dumps({"text": text, "seed": 11}), "application/json"
    )
    assert made.status_code == 202
    work_all()
    by_api = client.get(f"/api/attempts/{made.json()['id']}").json()
    task = read_task(room.item.text)
    assert by_api["result"] == json.loads(grade_text(grade(task, read_answer(task, text), 11)))
    page = client.get(f"/learn/attempts/{made.json()['id']}/").content.decode()
    for row in by_api["result"]["goals"]:
        assert escape(row["says"]) in page
    assert f"{by_api['points']:g} of 10 points" in page
    copy = client.get(f"/learn/items/{room.item.pk}/lab/task.yaml").content.decode()
    students = read_task(copy)
    assert grade(students, read_answer(students, text), 11)["goals"] == by_api["result"]["goals"]


def test_a_faulty_file_is_refused_beside_the_editor_and_kept_as_it_was_typed(room: Class) -> None:
    client, page = signed_in(room.stu), f"/learn/items/{room.item.pk}/"
    faulty = room.solution.replace("hv_read", "hv_peek")
    for act in ("run", "hand_in", "check"):
        told = client.post(f"{page}lab/", {"text": faulty, "act": act, "seed": "1"})
        assert told.status_code == 422 and "unknown operation hv_peek" in told.content.decode()
        assert "op: hv_peek" in told.content.decode() and 'aria-invalid="true"' in told.content.decode()
    assert not Attempt.objects.exists()
    told = client.post(f"{page}lab/", {"text": room.solution, "act": "run", "seed": "-3"})
    assert told.status_code == 422 and 'id="lab-seed-fault"' in told.content.decode()
    found = client.post(f"/api/items/{room.item.pk}/lab/check", json.dumps({"text": faulty}), "application/json").json()
    assert found == {
        "ok": False,
        "faults": [{"line": 29, "column": 9, "reason": "unknown operation hv_peek"}],
        "outline": [],
    }
    found = client.post(
        f"/api/items/{room.item.pk}/lab/check", json.dumps({"text": room.solution}), "application/json"
    ).json()
    assert found["ok"] and [row["op"] for row in found["outline"]][-2:] == ["guest_write", "hv_read"]


def test_a_draft_survives_however_faulty_it_is(room: Class) -> None:
    client = signed_in(room.stu)
    address = f"/api/items/{room.item.pk}/lab/draft"
    assert client.put(address, json.dumps({"text": "half a fi"}), "application/json").status_code == 200
    assert "half a fi" in client.get(f"/learn/items/{room.item.pk}/").content.decode()
    assert client.get(f"/api/items/{room.item.pk}/lab").json()["draft"] == "half a fi"
    assert "half a fi" not in signed_in(room.mia).get(f"/learn/items/{room.item.pk}/").content.decode()
    with pytest.raises(BadInput):
        lab.draft_save(by=room.stu, item=room.item, member=room.member, text="x" * (64 * 1024 + 1))


def test_a_hint_costs_what_was_told_and_only_from_then_on(room: Class) -> None:
    client, page = signed_in(room.stu), f"/learn/items/{room.item.pk}/"
    assert "0x800 is 2048" not in client.get(page).content.decode()
    make(room, text=room.solution.replace("length: 16", "length: 8"), graded=True)
    work_all()
    assert Mark.objects.get().points == 16
    with pytest.raises(BadInput, match="costs 10 percent"):
        lab.hint_take(by=room.stu, item=room.item, member=room.member, number=1, cost=0)
    with pytest.raises(BadInput, match="not the next one"):
        lab.hint_take(by=room.stu, item=room.item, member=room.member, number=2, cost=30)
    client.post(f"{page}lab/hints/", {"number": "1", "cost": "10"})
    client.post(f"{page}lab/hints/", {"number": "1", "cost": "10"})
    shown = client.get(page).content.decode()
    assert "0x800 is 2048" in shown and "Read 16 bytes at offset" not in shown and "cost 10 % so far" in shown
    assert Mark.objects.get().points == 16
    make(room, graded=True)
    work_all()
    mark = Mark.objects.get()
    assert mark.points == 18 and mark.reasons[-1]["points"] == -2
    assert LabWork.objects.get(member=room.member).hints == 1


def test_a_student_has_few_attempts_waiting_and_the_same_file_waits_once(room: Class) -> None:
    made = {make(room, seed=seed).pk for seed in range(5)}
    assert make(room, seed=3).pk in made and Attempt.objects.count() == 5
    with pytest.raises(VpmsError, match="wait already") as refused:
        make(room, seed=9)
    assert refused.value.code == "too_many" and refused.value.http_status == 409
    told = signed_in(room.stu).post(f"/learn/items/{room.item.pk}/lab/", {"text": room.solution, "act": "hand_in"})
    assert told.status_code == 409 and "wait already" in told.content.decode()
    make(room, by=room.mia, member=room.other)
    work_all()
    assert make(room, seed=9).state == Attempt.State.WAITING


def test_of_practice_only_the_newest_are_kept_and_all_that_was_handed_in(room: Class, monkeypatch: Any) -> None:
    monkeypatch.setattr(lab, "PRACTICE_KEPT", 3)
    make(room, graded=True)
    for seed in range(6):
        make(room, seed=seed)
        work_all()
    make(room, seed=9)
    assert sorted(Attempt.objects.values_list("seed", flat=True), key=str) == [3, 4, 5, 9, None]


def test_a_message_that_comes_twice_or_late_changes_nothing(room: Class) -> None:
    made = make(room, graded=True)
    lab.attempt_work(attempt_id=made.pk)
    before = Attempt.objects.values().get()
    lab.attempt_work(attempt_id=made.pk)
    assert Attempt.objects.values().get() == before and Mark.objects.count() == 1


def test_a_student_has_one_worker_at_a_time(room: Class) -> None:
    first, second = make(room, seed=1), make(room, seed=2)
    token = jobs.claim(Attempt, first.pk)
    assert token is not None
    Attempt.objects.filter(pk=second.pk).update(enqueued_at=timezone.now())
    lab.attempt_work(attempt_id=second.pk)
    second.refresh_from_db()
    assert second.state == Attempt.State.WAITING and second.attempts == 0
    lab._keep(Attempt.objects.select_related("item", "member").get(pk=first.pk), token, {"points": 0})
    second.refresh_from_db()
    assert second.enqueued_at is None  # the keeper sends it again at once
    lab.attempt_work(attempt_id=second.pk)
    second.refresh_from_db()
    assert second.state == Attempt.State.DONE


def test_a_faulty_task_is_refused_with_its_place(room: Class) -> None:
    with pytest.raises(BadInput) as refused:
        services.item_add(by=room.ines, course=room.course, kind="attack", title="x", text="schema: hsvm/lab-1\nx: 1\n")
    assert refused.value.faults[0] == ("line 2, column 1", "unknown key x in the task")


def test_an_attempt_that_is_given_up_says_so_and_counts_nothing(room: Class) -> None:
    made = make(room, graded=True)
    lab.attempt_failed(made.pk, reason="It was tried three times and never got on")
    assert "never got on" in signed_in(room.stu).get(f"/learn/attempts/{made.pk}/").content.decode()
    assert not Mark.objects.exists() and lab.kind_grade(room.item, lab.task_of(room.item), room.member) is None


def test_a_changed_task_regrades_what_was_handed_in_last_without_storing_anything(room: Class) -> None:
    make(room, graded=True)
    work_all()
    same = lab.kind_grade(room.item, lab.task_of(room.item), room.member)
    assert same is not None and same.points == 20
    harder = lab.read(room.item.text.replace("operations: 2", "operations: 1").replace("read: 0\n", "read: 3\n"))
    assert lab.kind_grade(room.item, harder, room.member).points == 20  # type: ignore[union-attr]
    other = lab.read(room.item.text.replace("blocked: hv_access_check", "blocked: owner_check"))
    found = lab.kind_grade(room.item, other, room.member)
    assert found is not None and found.points == 16
    closed = lab.read(room.item.text.replace("gpa: 2048", "gpa: 1024"))
    found = lab.kind_grade(room.item, closed, room.member)
    assert found is not None and found.points == 0 and "given by this task" in found.reasons[-1]["says"]
    assert Mark.objects.get().points == 20


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_shipped_task_can_be_solved_in_a_course(name: str, language: str) -> None:
    room = make_class(name, text=dict(lab.shipped(language))[name])
    make(room, graded=True)
    work_all()
    assert Mark.objects.get().points == 20
    client = signed_in(room.stu)
    assert client.get(f"/learn/items/{room.item.pk}/").status_code == 200


def test_a_shipped_task_is_the_same_task_in_every_language() -> None:
    english, german = dict(lab.shipped("en")), dict(lab.shipped("de"))
    assert english.keys() == german.keys() == MODELS.keys() and lab.shipped("fr") == lab.shipped("en")
    for name, text in english.items():
        one, two = bare(yaml.safe_load(text)), bare(yaml.safe_load(german[name]))
        assert one == two and text != german[name]


def bare(value: Any) -> Any:
    """A task without the words that people read."""
    if isinstance(value, dict):
        words = ("title", "says", "message")
        return {
            key: bare(yaml.safe_load(part)) if key == "starter" else bare(part)
            for key, part in value.items()
            if key not in words
        }
    return [bare(part) for part in value] if isinstance(value, list) else value


def test_a_practice_run_is_stepped_through_with_what_each_step_changed(room: Class) -> None:
    made = make(room, seed=4)
    work_all()
    client = signed_in(room.stu)
    page = client.get(f"/learn/attempts/{made.pk}/replay/nested/?step=2").content.decode()
    assert "page_map" in page and "free → VM A (victim)" in page and 'data-view="replay"' in page
    film = client.get(f"/api/attempts/{made.pk}/replay/hsvm").json()
    assert film["total"] == 5 and film["seed"] == 4
    for missing in ("shadow", "no-such"):
        assert client.get(f"/learn/attempts/{made.pk}/replay/{missing}/").status_code == 404
        assert client.get(f"/api/attempts/{made.pk}/replay/{missing}").status_code == 404


# -- leaks


def everything_told(client: Client, room: Class, attempts: list[int]) -> str:
    """All that a member is answered about the lab: pages, API, files, and the export of their own data."""
    item = room.item.pk
    paths = [
        f"/learn/items/{item}/",
        f"/learn/items/{item}/lab/task.yaml",
        f"/api/items/{item}/lab",
        f"/api/items/{item}/lab/attempts",
        "/api/account/data",
        "/account/data/",
    ]
    for pk in attempts:
        paths += [f"/learn/attempts/{pk}/", f"/api/attempts/{pk}"]
        paths += [f"/learn/attempts/{pk}/replay/nested/", f"/api/attempts/{pk}/replay/nested"]
    return "\n".join(client.get(path).content.decode() for path in paths)


def test_hidden_tests_the_graded_seed_and_its_traces_are_told_to_no_student(room: Class) -> None:
    from hsvm_engine.interpreter import secret_of

    made = [make(room, graded=True).pk, make(room, seed=2).pk]
    broken = make(room, text=room.solution.replace("$frame\n    offset: 2048", "7\n    offset: 0"), graded=True)
    work_all()
    seed = services.graded_seed(room.item, room.member)
    secret = secret_of(seed).hex()
    for user in (room.stu, room.ines):  # not even the teacher
        told = everything_told(signed_in(user), room, [*made, broken.pk])
        assert str(seed) not in told and f"{seed:x}" not in told and str(room.member.seed) not in told
        assert not any(secret[at : at + 8] in told for at in range(0, 24, 2))
    told = everything_told(signed_in(room.stu), room, [*made, broken.pk])
    assert "page_unmap" not in told and "swap_out" not in told  # the hidden test
    client = signed_in(room.stu)
    for pk in (made[0], broken.pk):
        assert client.get(f"/learn/attempts/{pk}/replay/nested/").status_code == 404
        assert client.get(f"/api/attempts/{pk}/replay/nested").status_code == 404
        assert client.get(f"/api/attempts/{pk}").json()["seed"] is None
        assert "columns" not in client.get(f"/api/attempts/{pk}").json()["result"]
    assert seed not in Attempt.objects.values_list("seed", flat=True)


def test_a_student_finds_nothing_of_another_students_attempts(room: Class) -> None:
    made = make(room, seed=2)
    work_all()
    mia, stranger = signed_in(room.mia), signed_in(make_stranger())
    for client in (mia, stranger):
        for path in ("/learn/attempts/{}/", "/api/attempts/{}", "/learn/attempts/{}/replay/nested/"):
            assert client.get(path.format(made.pk)).status_code == 404
            assert client.get(path.format(987654)).status_code == 404
    assert mia.get(f"/api/items/{room.item.pk}/lab/attempts").json()["items"] == []
    item = room.item.pk
    for path in (f"/learn/items/{item}/", f"/api/items/{item}/lab", f"/api/items/{item}/lab/attempts"):
        assert stranger.get(path).status_code == 404
    body = json.dumps({"text": room.solution})
    assert stranger.post(f"/api/items/{item}/lab/attempts", body, "application/json").status_code == 404
    assert stranger.put(f"/api/items/{item}/lab/draft", body, "application/json").status_code == 404
    teacher = signed_in(room.ines)
    assert "By stu." in teacher.get(f"/learn/attempts/{made.pk}/").content.decode()


def make_stranger() -> Any:
    from webapp.accounts.models import User

    return User.objects.create(username="xeno")


def test_a_hidden_item_and_one_of_another_kind_have_no_lab(room: Class, client: Client) -> None:
    room.item.shown = False
    room.item.save()
    assert signed_in(room.stu).get(f"/api/items/{room.item.pk}/lab").status_code == 404
    room.item.shown, room.item.kind = True, "other"
    room.item.save()
    assert signed_in(room.stu).get(f"/api/items/{room.item.pk}/lab").status_code == 404
    assert signed_in(room.stu).post(f"/learn/items/{room.item.pk}/lab/", {"act": "save"}).status_code == 404


def test_the_topic_of_a_lab_is_for_its_member_alone(room: Class) -> None:
    from webapp.courses import live
    from webapp.live.topics import find

    ident = f"{room.item.pk}-{room.member.pk}"
    found = find(f"lab/{ident}")
    assert found is not None and found.topic.authorise(room.stu, ident) == str(room.member.pk)
    for other in (room.mia, room.ines, make_stranger()):
        assert found.topic.authorise(other, ident) is None
    for hostile in ("", "-", "1", f"{room.item.pk}-{room.other.pk}", "9" * 40 + "-1", "a-b", f"{room.item.pk}-"):
        assert found.topic.authorise(room.stu, hostile) is None
    make(room, seed=1)
    work_all()
    [message] = live.messages(ident, str(room.member.pk), None)
    assert message["data"] == {} and message["seq"] == 2
    assert live.messages(ident, str(room.member.pk), 2) == []


def test_the_file_of_a_body_may_have_lines_and_nothing_else_may() -> None:
    from webapp import strictjson

    text = "a:\n\tb\r\n"
    body = json.dumps({"text": text, "graded": True})
    assert strictjson.load(body, file="text") == {"text": text, "graded": True}
    for wrong in (
        {"text": "a\0b"},
        {"text": "x" * (256 * 1024 + 1)},
        {"text": "a", "more": "a\nb"},
        {"in": {"text": "\n"}},
    ):
        with pytest.raises(BadInput):
            strictjson.load(json.dumps(wrong), file="text")
    with pytest.raises(BadInput):
        strictjson.load('{"text": "a", "text": "b"}', file="text")


# -- files that are much alike

OWN = """  - op: page_map
    vm: $attacker
    gpn: 7
    mfn: $frame
    perm: r
    size: 1
  - op: hv_read_context
    vm: $victim
    vcpu: 0
    as: {name}
  - op: context_save
    core: 0
"""


def test_a_copied_file_is_flagged_however_it_is_dressed_and_two_of_ones_own_are_not() -> None:
    from webapp.courses.lab_similarity import alike, flagged

    starter = lab.read(dict(lab.shipped())["three-refusals"]).starter
    first = starter + OWN.format(name="seen_there")
    copied = "# mine\n" + first.replace("seen_there", "loot").replace("id: my-attack", "id: other").replace(
        "perm: r\n", "perm:   r\n"
    )
    other = (
        starter
        + "  - repeat: 3\n    steps:\n      - op: claim\n        mfn: 77\n      - op: release\n        mfn: 78\n"
    )
    [pair] = alike({1: first, 2: copied, 3: other}, starter=starter)
    assert (pair.one, pair.other) == (1, 2) and pair.share >= 0.95
    assert flagged({1: first, 2: copied, 3: other}, starter=starter) == [1, 2]
    assert alike({1: starter, 2: starter}, starter=starter) == []


def test_what_was_handed_in_last_is_compared(room: Class) -> None:
    for user, member in ((room.stu, room.member), (room.mia, room.other)):
        make(room, by=user, member=member, graded=True)
        work_all()
    assert lab.alike_of(room.item) == []  # the one obvious line differs from the starter too little to say anything
