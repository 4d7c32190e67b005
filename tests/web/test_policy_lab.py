"""A policy game with people: seats, rounds, reloads, double posts, deadlines, marks; no seat sees what is another's."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from django.utils import timezone

from tests.web.policy import Lab, make_lab, seated, work_all
from webapp.courses import classes, policy_game, policy_live, policy_play, policy_table
from webapp.courses.models import Mark, PolicyAnswer, PolicyClaim, PolicyGame, PolicySeat, PolicyTable
from webapp.errors import VpmsError

pytestmark = pytest.mark.django_db
Phase = PolicyTable.Phase


@pytest.fixture
def lab(db: None) -> Lab:
    return make_lab()


def truth(seat: PolicySeat) -> dict[str, Any]:
    return policy_table.truth(policy_game.read(seat.game.text), seat.tenant)


def form(seat: PolicySeat, **more: Any) -> dict[str, Any]:
    """The claim form as the page sends it, filled in with the truth."""
    claim = truth(seat)
    fields = {f"value-{s}": w["value"] for s, w in claim["wishes"].items()}
    fields |= {f"weight-{s}": w["weight"] for s, w in claim["wishes"].items()}
    fields |= {f"must-{s}": "1" for s, w in claim["wishes"].items() if w["strength"] == "must"}
    return {**fields, "declaration": 1, "least": claim["least"], "silent": "accept", **more}


def by_tenant(lab: Lab, seats: dict[str, PolicySeat], name: str) -> Any:
    return lab.client(seats[name].member.nickname.removeprefix("nick-"))  # type: ignore[union-attr]


def declared(seats: dict[str, PolicySeat], **other: dict[str, Any]) -> PolicyTable:
    for name, seat in seats.items():
        policy_play.claim_put(seat=seat, declaration=1, claim={**truth(seat), **other.get(name.replace("-", "_"), {})})
    work_all()
    return PolicyTable.objects.get()


def accepted(seats: dict[str, PolicySeat]) -> PolicyTable:
    for seat in seats.values():
        policy_play.answer_put(seat=seat, declaration=1, proposal=1, answer={"answer": "accept"})
    work_all()
    return PolicyTable.objects.get()


# -- a whole game


def test_a_game_is_played_on_the_pages_from_the_first_seat_to_the_reveal_and_the_marks(lab: Lab) -> None:
    ines, stu, mia = (lab.client(name) for name in ("ines", "stu", "mia"))
    page = f"/learn/items/{lab.item.pk}/"
    assert "No game is open yet" in stu.get(page).content.decode()
    assert ines.post(f"{page}game/", {"act": "open"}).status_code == 302
    for client in (stu, mia, stu):
        assert client.post(f"{page}game/", {"act": "seat"})["Location"] == page
    game = PolicyGame.objects.get()
    assert game.seats.filter(member__isnull=False).count() == 2 and game.tables.count() == 1
    assert ines.post(f"/learn/games/{game.pk}/act/", {"act": "begin"}).status_code == 302
    seats = {seat.tenant: seat for seat in game.seats.select_related("member", "table", "game")}
    for name, seat in seats.items():
        client = by_tenant(lab, seats, name)
        shown = client.get(page).content.decode()
        assert f"You are {name}" in shown and "Say what you want" in shown
        assert client.post(f"/learn/tables/{seat.table_id}/claim/", form(seat)).status_code == 302
        assert "Your claim is in" in client.get(page).content.decode()
    work_all()
    for name, seat in seats.items():
        client = by_tenant(lab, seats, name)
        assert "Proposal in round 1 of 5" in client.get(page).content.decode()
        told = client.post(
            f"/learn/tables/{seat.table_id}/answer/", {"answer": "accept", "declaration": 1, "proposal": 1}
        )
        assert told.status_code == 302
    work_all()
    table = PolicyTable.objects.get()
    assert table.phase == Phase.OVER and PolicyGame.objects.get().state == "over"
    shown = stu.get(f"/learn/tables/{table.pk}/").content.decode()
    for words in (
        "Agreed in round 1 of 5",
        "700",
        "500",
        "nick-mia",
        "nick-stu",
        "+300",
        "Found by solving, 103 times",
    ):
        assert words in shown, words
    assert "See what everybody wanted" in stu.get(page).content.decode()
    marks = {mark.member.nickname: mark for mark in Mark.objects.all()}
    assert len(marks) == 2 and all(mark.points == 10 for mark in marks.values())
    says = marks["nick-stu"].reasons[0]["says"]
    assert "of 1000 points of your true wishes" in says and "That is 100 percent" in says
    assert "1 of 1 tables agreed" in ines.get(page).content.decode()


def test_a_lie_that_pays_is_shown_and_the_mark_follows_the_true_wishes(lab: Lab) -> None:
    seats = seated(lab)
    lie = {"smt": ("shared", 1), "mitigations": ("off", 1), "page_sharing": ("on", 8)}
    wishes = {s: {"value": v, "strength": "prefer", "weight": w} for s, (v, w) in lie.items()}
    declared(seats, b_web={"wishes": wishes})
    table = accepted(seats)
    rows = {row["name"]: row for row in table.result["tenants"]}
    assert rows["b-web"]["change"] == 150 and rows["a-db"]["change"] == -200
    marks = {seat.tenant: Mark.objects.get(member=seat.member).points for seat in seats.values()}
    assert marks == {"a-db": round(10 * 500 / 700, 4), "b-web": 10}
    for name, seat in seats.items():
        earned = policy_play.kind_grade(lab.item, policy_play.definition(lab.item), seat.member)  # type: ignore[arg-type]
        assert earned is not None and earned.points == marks[name]
    harder = policy_game.read(lab.item.text.replace("points: share", "points: kept"))
    earned = policy_play.kind_grade(lab.item, harder, seats["a-db"].member)  # type: ignore[arg-type]
    assert earned is not None and earned.points == 5  # 500 of 1000 points: a regrade goes by the new rule


# -- reloads and double posts


def test_what_is_posted_twice_is_done_once_and_the_first_stands(lab: Lab) -> None:
    seats = seated(lab)
    seat = seats["a-db"]
    client, at = by_tenant(lab, seats, "a-db"), f"/learn/tables/{seat.table_id}/"
    for least in (0, 400):
        assert client.post(f"{at}claim/", form(seat, least=least)).status_code == 302
    assert PolicyClaim.objects.get().claim["least"] == 0
    policy_play.claim_put(seat=seats["b-web"], declaration=1, claim=truth(seats["b-web"]))
    work_all()
    post = {"declaration": 1, "proposal": 1}
    for answer in ({"answer": "accept"}, {"answer": "object", "reason": "final"}):
        assert client.post(f"{at}answer/", {**post, **answer}).status_code == 302
    assert PolicyAnswer.objects.get().answer["answer"] == "accept"
    work_all()
    assert PolicyTable.objects.get().protocol["state"] == "PROPOSED"
    before = PolicyTable.objects.values("protocol", "phase", "used").get()
    policy_play.table_work(table_id=seat.table_id)
    assert PolicyTable.objects.values("protocol", "phase", "used").get() == before
    lab.client("ines").post(f"/learn/items/{lab.item.pk}/game/", {"act": "open"})
    lab.client("ines").post(f"/learn/games/{seat.game_id}/act/", {"act": "begin"})
    assert PolicyGame.objects.count() == 1 and PolicyTable.objects.values("protocol", "phase", "used").get() == before


def test_closing_a_round_twice_closes_one(lab: Lab) -> None:
    seats = seated(lab)
    table = next(iter(seats.values())).table
    post = {"act": "close", "round": f"{table.pk}:1.0"}
    for _ in range(2):
        lab.client("ines").post(f"/learn/games/{table.game_id}/act/", post)
        work_all()
    table.refresh_from_db()
    assert (table.phase, table.declaration, table.protocol["round"]) == (Phase.ANSWERING, 1, 1)
    lab.client("ines").post(f"/learn/games/{table.game_id}/act/", {**post, "round": f"{table.pk}:1.1"})
    work_all()
    table.refresh_from_db()
    assert table.phase == Phase.OVER and table.result["settled"]  # both had said: my delegate accepts


def test_what_comes_while_a_step_is_computed_is_not_lost(lab: Lab, monkeypatch: Any) -> None:
    seats = seated(lab)
    policy_play.claim_put(seat=seats["a-db"], declaration=1, claim=truth(seats["a-db"]))
    step, late = policy_play._step, [seats["b-web"]]

    def slow(table: PolicyTable, now: Any) -> Any:
        found = step(table, now)
        while late:
            seat = late.pop()
            policy_play.claim_put(seat=seat, declaration=1, claim=truth(seat))
        return found

    monkeypatch.setattr(policy_play, "_step", slow)
    work_all()
    table = PolicyTable.objects.get()
    assert table.phase == Phase.ANSWERING and table.attempts == 0 and table.lease_token == ""


# -- time


def test_who_says_nothing_in_time_stands_by_the_truth_and_then_by_the_claims_word_on_silence(lab: Lab) -> None:
    seats = seated(lab)
    policy_play.claim_put(seat=seats["a-db"], declaration=1, claim={**truth(seats["a-db"]), "silent": "reject"})
    assert work_all() and PolicyTable.objects.get().phase == Phase.DECLARING
    PolicyTable.objects.update(deadline_at=timezone.now(), due_at=timezone.now())
    work_all()
    table = PolicyTable.objects.get()
    assert table.phase == Phase.ANSWERING and table.used == 1
    assert table.deadline_at and dt.timedelta(minutes=2) < table.deadline_at - timezone.now() <= dt.timedelta(minutes=3)
    later = timezone.now() + dt.timedelta(minutes=4)
    step = policy_play._answered(table, policy_game.read(table.game.text), later)
    assert step.changes["phase"] == Phase.DECLARING and step.changes["ending"] == "silence"
    assert step.changes["declaration"] == 2


def test_claims_that_clash_are_said_anew_and_the_last_round_ends_it(lab: Lab) -> None:
    seats = seated(lab)
    greedy = {**truth(seats["b-web"]), "least": 1000}
    for declaration in range(1, 6):
        for name, seat in seats.items():
            claim = greedy if name == "b-web" else truth(seat)
            policy_play.claim_put(seat=seat, declaration=declaration, claim=claim)
        shown = work_all() and by_tenant(lab, seats, "a-db").get(f"/learn/items/{lab.item.pk}/").content.decode()
        if declaration < 5:
            assert "Say anew what you want" in shown and "cannot be met together" in shown
            assert "Page sharing" in shown and "1 demand of others belongs to it" in shown
    table = PolicyTable.objects.get()
    assert (table.phase, table.ending, table.used) == (Phase.OVER, "clash", 5)
    assert not table.result["settled"] and Mark.objects.count() == 2


def test_an_objection_leads_to_the_next_proposal_and_a_late_answer_is_told(lab: Lab) -> None:
    seats = seated(lab)
    declared(seats)
    post = {"declaration": 1, "proposal": 1}
    client = by_tenant(lab, seats, "b-web")
    at = f"/learn/tables/{seats['b-web'].table_id}/answer/"
    counter = {"reason": "veto:mitigations", "suggest-mitigations": "default", "suggest-smt": "off"}
    assert client.post(at, {**post, "answer": "object", **counter}).status_code == 302
    by_tenant(lab, seats, "a-db").post(at, {**post, "answer": "accept"})
    work_all()
    table = PolicyTable.objects.get()
    assert table.used == 2 and table.protocol["result"]["assignment"]["host"]["mitigations"] == "default"
    assert "it was not counted" in by_tenant(lab, seats, "a-db").get(f"/learn/items/{lab.item.pk}/").content.decode()
    assert client.post(at, {**post, "answer": "accept"}).status_code == 302  # the first answer of then stands
    stale = by_tenant(lab, seats, "a-db").post(at, {**post, "proposal": 7, "answer": "accept"})
    assert stale.status_code == 409 and "This round is over" in stale.content.decode()


def test_an_objection_in_the_last_round_ends_the_game(lab: Lab) -> None:
    seats = seated(lab)
    declared(seats)
    PolicyTable.objects.update(used=5)
    answer = {"answer": "reject", "reason": "veto:mitigations"}
    policy_play.answer_put(seat=seats["b-web"], declaration=1, proposal=1, answer=answer)
    work_all()
    table = PolicyTable.objects.get()
    assert (table.phase, table.ending, table.result["settled"]) == (Phase.OVER, "rounds", False)


def test_a_game_that_is_ended_is_counted_as_it_stands(lab: Lab) -> None:
    seats = seated(lab)
    declared(seats)
    lab.client("ines").post(f"/learn/games/{seats['a-db'].game_id}/act/", {"act": "end"})
    work_all()
    table = PolicyTable.objects.get()
    assert (table.phase, table.ending) == (Phase.OVER, "ended") and not table.result["settled"]
    with pytest.raises(VpmsError) as refused:
        policy_play.seat_take(game=table.game, member=lab.members["zoe"])
    assert refused.value.code == "game_over"


# -- seats


def test_tables_fill_up_and_empty_seats_are_the_bots(lab: Lab) -> None:
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    for name in ("stu", "mia", "zoe"):
        policy_play.seat_take(game=game, member=lab.members[name])
    assert [table.seats.filter(member__isnull=False).count() for table in game.tables.all()] == [2, 1]
    policy_play.game_begin(by=lab.ines, game=game)
    shown = lab.client("zoe").get(f"/learn/items/{lab.item.pk}/").content.decode()
    assert "played by the solver-bot, honestly" in shown
    seat = PolicySeat.objects.select_related("game", "table").get(member=lab.members["zoe"])
    policy_play.claim_put(seat=seat, declaration=1, claim=truth(seat))
    work_all()
    seat.table.refresh_from_db()
    assert seat.table.phase == Phase.ANSWERING


def test_who_comes_late_gets_a_free_seat_while_they_declare_and_a_table_of_their_own_after_that(lab: Lab) -> None:
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    first = policy_play.seat_take(game=game, member=lab.members["stu"])
    policy_play.game_begin(by=lab.ines, game=game)
    second = policy_play.seat_take(game=game, member=lab.members["mia"])
    assert second.table_id == first.table_id and second.tenant != first.tenant
    for seat in (first, second):
        policy_play.claim_put(seat=seat, declaration=1, claim=truth(seat))
    work_all()
    third = policy_play.seat_take(game=game, member=lab.members["zoe"])
    third.table.refresh_from_db()
    assert third.table.number == 2 and third.table.phase == Phase.DECLARING
    work_all()
    assert PolicyTable.objects.get(number=2).phase == Phase.DECLARING


def test_a_game_without_players_is_played_by_the_bot_and_shows_the_teacher_what_it_comes_to(lab: Lab) -> None:
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    policy_play.game_begin(by=lab.ines, game=game)
    work_all()
    table = PolicyTable.objects.get()
    assert table.result["settled"] and [row["change"] for row in table.result["tenants"]] == [0, 0]
    assert "told the truth" in lab.client("ines").get(f"/learn/tables/{table.pk}/").content.decode()


def test_guests_of_a_class_are_given_seats_and_play(lab: Lab) -> None:
    session = classes.class_open(by=lab.ines, course=lab.course)
    from django.test import Client

    guests = []
    for name in ("Ada", "Bo"):
        client = Client()
        client.post("/join/", {"code": session.code, "nickname": name})
        guests.append(client)
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    session.refresh_from_db()
    assert session.cursor == {"kind": "item", "item": lab.item.pk}
    assert "Open it" in guests[0].get(f"/learn/class/{session.code}/").content.decode()
    lab.client("ines").post(f"/learn/games/{game.pk}/act/", {"act": "seat-all"})
    assert game.seats.filter(member__isnull=False).count() == 2  # not those who are in the course only
    policy_play.game_begin(by=lab.ines, game=game)
    assert "Say what you want" in guests[1].get(f"/learn/items/{lab.item.pk}/").content.decode()
    assert guests[1].get(f"/api/items/{lab.item.pk}/game").status_code == 200


def test_the_teacher_does_not_play_and_students_do_not_lead(lab: Lab) -> None:
    seats = seated(lab)
    game, table = seats["a-db"].game_id, seats["a-db"].table_id
    assert lab.client("ines").post(f"/learn/items/{lab.item.pk}/game/", {"act": "seat"}).status_code == 403
    assert lab.client("stu").post(f"/learn/items/{lab.item.pk}/game/", {"act": "open"}).status_code == 403
    for act in ("begin", "close", "end", "seat-all"):
        assert lab.client("stu").post(f"/learn/games/{game}/act/", {"act": act}).status_code == 403
    assert lab.client("stu").get(f"/learn/games/{game}/wall/").status_code == 403
    for path in (f"/learn/tables/{table}/", f"/api/tables/{table}"):
        assert lab.client("zoe").get(path).status_code == 404
    for act in ("claim", "answer"):
        assert lab.client("zoe").post(f"/learn/tables/{table}/{act}/").status_code == 404
        assert lab.client("ines").post(f"/learn/tables/{table}/{act}/").status_code == 404


# -- what is refused


def test_what_cannot_be_taken_is_told_and_what_was_typed_is_kept(lab: Lab) -> None:
    seats = seated(lab)
    client, at = by_tenant(lab, seats, "a-db"), f"/learn/tables/{seats['a-db'].table_id}/"
    bad = form(seats["a-db"], least="many", **{"weight-smt": "heavy"})
    told = client.post(f"{at}claim/", bad)
    shown = told.content.decode()
    assert told.status_code == 422 and 'value="heavy"' in shown and 'value="many"' in shown
    assert "least must" in shown.replace("</strong>", "") or "least" in shown
    assert not PolicyClaim.objects.exists()
    declared(seats)
    told = client.post(f"{at}answer/", {"answer": "object", "declaration": 1, "proposal": 1})
    assert told.status_code == 422 and "choose what stands in the way" in told.content.decode()
    assert not PolicyAnswer.objects.exists()


def test_a_failed_table_counts_for_nothing_and_says_so(lab: Lab) -> None:
    seats = seated(lab)
    policy_play.table_failed(seats["a-db"].table_id, reason="three times")
    shown = by_tenant(lab, seats, "a-db").get(f"/learn/items/{lab.item.pk}/").content.decode()
    assert "Something went wrong at this table" in shown and PolicyGame.objects.get().state == "over"
    assert not Mark.objects.exists()


# -- leaks


CANARIES = {"a-db": ("CANARY-ALPHA", 313, 287), "b-web": ("CANARY-BETA", 511, 189)}
SECRET = """schema: hsvm/policy-1
title: Canaries
says: Public words.
settings: [smt, mitigations, pmu]
tenants:
  - name: a-db
    says: CANARY-ALPHA
    least: 137
    wishes:
      smt: {value: "off", strength: prefer, weight: 313}
      mitigations: {value: full, strength: prefer, weight: 287}
      pmu: {value: "off", strength: prefer, weight: 400}
  - name: b-web
    says: CANARY-BETA
    least: 151
    wishes:
      smt: {value: shared, strength: prefer, weight: 511}
      mitigations: {value: "off", strength: prefer, weight: 189}
      pmu: {value: "on", strength: must, weight: 300}
  - name: c-job
    says: CANARY-GAMMA
    wishes:
      smt: {value: core_scheduling, strength: prefer, weight: 223}
      mitigations: {value: default, strength: prefer, weight: 777}
rounds: 3
minutes: 3
"""


def told_to(lab: Lab, client: Any, seat: PolicySeat) -> str:
    """All that a player can get: pages, API, sockets, the course, its items, the list of tables."""
    game, member = seat.game, seat.member
    assert member is not None
    paths = [
        f"/learn/items/{lab.item.pk}/",
        f"/learn/tables/{seat.table_id}/",
        f"/api/items/{lab.item.pk}/game",
        f"/api/tables/{seat.table_id}",
        f"/learn/courses/{lab.course.pk}/",
        f"/api/courses/{lab.course.pk}/items",
        f"/learn/games/{game.pk}/wall/",
        f"/api/games/{game.pk}",
        f"/learn/items/{lab.item.pk}/export/",
        f"/api/items/{lab.item.pk}/lab",
        "/account/data/",
    ]
    ident = f"{lab.item.pk}-{member.pk}"
    live = [policy_live.messages(ident, "", None), policy_live.round_messages(ident, "", None)]
    return " ".join([*(client.get(path).content.decode() for path in paths), json.dumps(live)])


def test_no_seat_sees_anothers_wishes_or_claims_before_the_reveal(db: None) -> None:
    lab = make_lab(text=SECRET)
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    seats = {}
    for name in ("stu", "mia", "zoe"):
        seat = policy_play.seat_take(game=game, member=lab.members[name])
        seats[seat.tenant] = PolicySeat.objects.select_related("game", "table", "member").get(pk=seat.pk)
    words = {"a-db": "ALPHA", "b-web": "BETA", "c-job": "GAMMA"}
    weights = {"a-db": ("313", "287", "137"), "b-web": ("511", "189", "151"), "c-job": ("223", "777")}
    claimed = {"a-db": "617", "b-web": "719", "c-job": "823"}

    def look(when: str) -> None:
        for name, seat in seats.items():
            text = told_to(lab, by_tenant(lab, seats, name), seat)
            assert f"CANARY-{words[name]}" in text
            for other in set(seats) - {name}:
                assert f"CANARY-{words[other]}" not in text, (when, name, other)
                for number in (*weights[other], claimed[other]):
                    assert not re.search(rf"(?<![\w.-]){number}(?![\w-])", text), (when, name, other, number)

    look("seated")
    policy_play.game_begin(by=lab.ines, game=game)
    look("declaring")
    for name, seat in seats.items():
        claim = truth(seat)
        claim["wishes"]["smt"]["weight"] = int(claimed[name])
        policy_play.claim_put(seat=seat, declaration=1, claim=claim)
        look(f"after {name}")
    work_all()
    assert PolicyTable.objects.get().phase == Phase.ANSWERING
    look("answering")
    for seat in seats.values():
        policy_play.answer_put(seat=seat, declaration=1, proposal=1, answer={"answer": "accept"})
        look("answered")
    work_all()
    assert PolicyTable.objects.get().phase == Phase.OVER
    text = told_to(lab, by_tenant(lab, seats, "a-db"), seats["a-db"])
    assert "511" in text and "777" in text  # now all is told


def test_a_table_that_is_done_first_learns_nothing_before_the_others_are(lab: Lab) -> None:
    game = policy_play.game_open(by=lab.ines, item=lab.item)
    for name in ("stu", "mia", "zoe"):
        policy_play.seat_take(game=game, member=lab.members[name])
    policy_play.game_begin(by=lab.ines, game=game)
    first = game.tables.get(number=1)
    for seat in PolicySeat.objects.filter(table=first).select_related("game", "table"):
        policy_play.claim_put(seat=seat, declaration=1, claim=truth(seat))
    work_all()
    for seat in PolicySeat.objects.filter(table=first).select_related("game", "table"):
        policy_play.answer_put(seat=seat, declaration=1, proposal=1, answer={"answer": "accept"})
    work_all()
    first.refresh_from_db()
    assert first.phase == Phase.OVER and PolicyGame.objects.get().ended_at is None
    shown = lab.client("stu").get(f"/learn/items/{lab.item.pk}/").content.decode()
    assert "others still play the same wishes" in shown and "of 1000 points of your true wishes" in shown
    assert lab.client("stu").get(f"/learn/tables/{first.pk}/").status_code == 302
    assert lab.client("stu").get(f"/api/tables/{first.pk}").json()["reveal"] is None
    assert lab.client("ines").get(f"/learn/tables/{first.pk}/").status_code == 200
    policy_play.game_end(by=lab.ines, game=game)
    assert lab.client("stu").get(f"/learn/tables/{first.pk}/").status_code == 200


def test_desk_and_wall_show_nobodys_wishes_while_the_game_goes_on(lab: Lab) -> None:
    seats = seated(lab)
    declared(seats)
    game = seats["a-db"].game_id
    ines = lab.client("ines")
    for path in (f"/learn/items/{lab.item.pk}/", f"/learn/games/{game}/wall/", f"/api/games/{game}"):
        text = ines.get(path).content.decode()
        assert "You are careful" not in text and "You want speed" not in text and "500" not in text, path
