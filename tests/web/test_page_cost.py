"""What a page asks of the database: a pinned number of queries, the same for few rows and for many, twelve at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.web.lab import make_class, work_all
from tests.web.policy import make_lab
from tests.web.policy import work_all as work_tables
from webapp.accounts.models import User
from webapp.courses import class_stage, classes, joining, lab, policy_game, policy_play, policy_table, regrades
from webapp.courses.models import PolicySeat
from webapp.courses.services import member_add
from webapp.shares.services import ref_of, share_make

pytestmark = pytest.mark.django_db
MOST = 12
FEW = {"tenants": 3, "people": 4, "hosts": 1, "vms": 10, "records": 120, "negotiations": 1}
MANY = {"tenants": 4, "people": 6, "hosts": 3, "vms": 48, "records": 300, "negotiations": 3}
# Page, who looks (an owner of an organisation, or the operator), and the queries that it may need. Each page needs four
# to begin with: session, person, roles and the bell (the API has no bell); the home pages one more: the first steps.
PINNED: list[tuple[str, str, int]] = [
    # beside the five: VMs with all that one row has of them, drills, negotiations, answers that are waited for,
    # refusals, requests for memory, moves that are asked about
    ("/tenant/", "owner", 12),
    ("/tenant/?state=stopped", "owner", 12),
    ("/tenant/conduct/", "owner", 5),
    ("/tenant/workloads/", "owner", 7),
    ("/tenant/webhooks/", "owner", 7),
    ("/tenant/people/", "owner", 9),
    ("/tenant/vm/{vm}/move/", "owner", 8),
    ("/notices/", "owner", 6),
    ("/notices/", "operator", 6),
    ("/account/", "owner", 6),
    ("/account/second-factor/", "owner", 5),
    ("/account/sessions/", "owner", 5),
    ("/account/data/", "owner", 4),
    ("/account/tokens/", "owner", 5),
    ("/account/notifications/", "owner", 7),
    ("/help/", "owner", 5),
    ("/operator/people/", "operator", 7),
    ("/tenant/conflicts/", "owner", 6),
    ("/tenant/conflicts/?show=all", "owner", 6),
    ("/tenant/agreements/", "owner", 8),
    ("/tenant/agreements/{paper}/", "owner", 4),
    ("/tenant/keys/", "owner", 5),
    ("/tenant/audit/", "owner", 7),
    ("/tenant/audit/?type=check", "owner", 6),
    ("/tenant/vm/new/", "owner", 8),
    ("/tenant/vm/{vm}/", "owner", 7),
    ("/tenant/vm/{vm}/memory/", "owner", 9),
    ("/tenant/vm/{vm}/drill/", "owner", 6),
    ("/tenant/host/{host}/goals/", "owner", 11),
    ("/tenant/negotiation/{room}/", "owner", 8),
    ("/operator/", "operator", 12),
    # beside the four: what changed last, all hosts, which are bad, their cells, delays, what ended, alerts
    ("/operator/wall/", "operator", 11),
    # the same, with the playlist in place of the bell
    ("/kiosk/hall/", "operator", 12),
    ("/operator/screens/", "operator", 5),
    ("/operator/conflicts/", "operator", 6),
    ("/operator/conflicts/?show=all", "operator", 6),
    ("/operator/agreements/", "operator", 6),
    ("/operator/keys/", "operator", 5),
    ("/operator/audit/", "operator", 7),
    # beside the four: alerts with their people, hosts and operators for the filters
    ("/operator/alerts/", "operator", 7),
    ("/operator/alerts/?state=all&group=host", "operator", 7),
    ("/operator/alerts/{alert}/", "operator", 8),
    ("/operator/alerts/strip/", "operator", 5),
    ("/operator/alerts/badge/", "operator", 4),
    ("/operator/webhooks/", "operator", 7),
    ("/operator/drills/", "operator", 8),
    ("/operator/drills/{drill}/", "operator", 8),
    # beside the four: the host with its counts and its agreement, its newest run, guests, conflicts, their VMs, the
    # newest checkpoint, events, and what was asked
    ("/operator/host/{host}/", "operator", 12),
    ("/operator/host/{host}/goals/", "operator", 9),
    ("/operator/hosts/new/", "operator", 4),
    ("/operator/host/{host}/document/", "operator", 6),
    ("/operator/host/{host}/platform/", "operator", 5),
    ("/operator/host/{host}/retire/", "operator", 6),
    ("/operator/host/{host}/maintenance/", "operator", 6),
    ("/operator/host/{host}/capacity/", "operator", 8),
    ("/operator/capacity/", "operator", 8),
    ("/tenant/maintenance/", "owner", 5),
    ("/operator/host/{host}/move/{vm}/", "operator", 8),
    ("/operator/negotiation/{room}/", "operator", 8),
    # beside the four: the item and the person as a member of its course, what is in the editor, attempts, the mark
    ("/learn/items/{item}/", "student", 9),
    ("/learn/attempts/{attempt}/", "student", 8),
    ("/learn/attempts/{attempt}/replay/nested/", "student", 7),
    ("/api/items/{item}/lab", "student", 5),
    ("/api/items/{item}/lab/attempts", "student", 5),
    ("/learn/lessons/", "student", 5),
    ("/learn/lessons/stale-tlb-entries/", "student", 5),
    ("/learn/items/{lesson}/", "student", 8),
    ("/learn/courses/", "student", 5),
    ("/learn/courses/bundle/", "teacher", 4),
    ("/shared/", "owner", 6),
    ("/shared/new/?kind=matrix", "owner", 4),
    ("/s/{ref}/", "owner", 5),
    ("/learn/courses/{course}/", "student", 10),
    ("/learn/courses/{course}/", "teacher", 10),
    # beside the four: the teacher with the course, items, students, marks, tries
    ("/learn/courses/{book}/grades/", "teacher", 9),
    ("/learn/courses/{book}/grades/{member}/{item}/", "teacher", 12),
    ("/learn/courses/{book}/alike/{item}/", "teacher", 7),
    ("/learn/courses/{book}/regrade/{item}/", "teacher", 8),
    ("/learn/courses/{book}/regrades/{regrade}/", "teacher", 7),
    ("/learn/courses/{book}/returns/", "teacher", 7),
    ("/operator/lti/", "operator", 5),
    ("/learn/courses/{book}/grades/mine/", "student", 9),
    ("/api/courses/{book}/grades", "teacher", 8),
    ("/api/courses/{book}/grades/document", "teacher", 10),
    # beside the four: item, course and person, the newest game, the seat with its table, claims, answers, who else
    # sits there, and the mark
    ("/learn/items/{policy}/", "student", 12),
    ("/learn/items/{policy}/", "teacher", 11),
    ("/learn/tables/{table}/", "student", 9),
    ("/learn/games/{game}/wall/", "teacher", 12),
    ("/api/items/{policy}/game", "student", 9),
    ("/api/tables/{seat}", "student", 10),
    ("/api/tables/{table}", "student", 10),
    ("/api/games/{game}", "teacher", 11),
    ("/learn/courses/{course}/settings/", "teacher", 6),
    ("/learn/courses/{course}/members/", "teacher", 9),
    ("/learn/courses/{course}/leave/", "student", 6),
    ("/learn/enter/{token}/", "student", 6),
    ("/api/courses/{course}/members", "teacher", 6),
    ("/api/courses/{course}/invitations", "teacher", 6),
    ("/learn/items/{lesson}/edit/", "teacher", 9),
    ("/learn/items/{lesson}/versions/1/", "teacher", 9),
    ("/learn/items/{lesson}/settings/", "teacher", 7),
    ("/learn/items/{item}/delete/", "teacher", 12),
    ("/api/items/{lesson}/settings", "teacher", 6),
    ("/api/items/{lesson}/versions", "teacher", 7),
    ("/learn/class/{code}/", "student", 11),
    ("/learn/class/{code}/desk/", "teacher", 11),
    ("/learn/class/{code}/wall/", "teacher", 9),
    ("/learn/courses/{course}/mistakes/", "teacher", 11),
    ("/learn/predict/cell/{cell}/?seed=1", "student", 6),
    ("/learn/predict/walk/nested/", "student", 6),
    ("/api/predictions/walk/nested", "student", 4),
    ("/learn/items/{predictions}/", "student", 10),
    ("/api/courses/items/{predictions}/predictions", "student", 6),
    ("/api/courses/{course}/items", "student", 7),
    ("/api/lessons", "student", 3),
    # beside the four: one for each kind of jobs of which there are any, and the workers
    ("/operator/jobs/", "operator", 10),
    ("/operator/jobs/?show=finished", "operator", 12),
    ("/api/jobs", "operator", 9),
    ("/api/vms", "owner", 4),
    ("/api/vms/{vm}", "owner", 4),
    ("/api/vms/{vm}/policies", "owner", 5),
    ("/api/conflicts", "owner", 6),
    ("/api/negotiations", "owner", 4),
    ("/api/runs", "owner", 4),
    ("/api/audit", "owner", 5),
    ("/api/account/tokens", "owner", 3),
    ("/api/notices", "owner", 4),
    ("/api/webhooks", "owner", 4),
    ("/api/protection", "owner", 6),
    ("/api/waiting", "owner", 4),
    ("/api/asked", "owner", 4),
    ("/api/hosts", "operator", 6),
    ("/api/hosts/{host}", "operator", 10),
    ("/api/hosts/{host}/goals", "operator", 8),
    ("/api/wall", "operator", 6),
    ("/api/levels", "operator", 5),
    ("/api/hosts/{host}/acts", "operator", 6),
    ("/api/playlists", "operator", 4),
    ("/api/runs", "operator", 4),
    ("/api/audit", "operator", 5),
    ("/api/conflicts", "operator", 6),
    ("/api/negotiations", "operator", 4),
    ("/api/alerts", "operator", 4),
    ("/api/drills", "operator", 4),
]


@pytest.fixture(scope="module")
def counted(django_db_setup: None, django_db_blocker: Any) -> Iterator[dict[str, dict[tuple[str, str], int]]]:
    """The queries of every page on a small and on a larger platform, both loaded as the demo loads the big one."""
    with django_db_blocker.unblock():
        found = {"few": queries_of(FEW, warm=True), "many": queries_of(MANY, warm=False)}
    yield found


def queries_of(size: dict[str, int], *, warm: bool) -> dict[tuple[str, str], int]:
    """`warm`: every page is fetched once before it counts, so that what a process reads once has been read."""
    from webapp.accounts.models import User
    from webapp.agreements.models import Negotiation, Seat
    from webapp.agreements.papers import agreements_of
    from webapp.agreements.selectors import negotiations_of
    from webapp.ops import scale
    from webapp.ops.models import Playlist

    with transaction.atomic():
        scale.load(scale.Size(**size))
        Playlist.objects.create(name="hall", panels=["wall"], token_digest="")
        seat = Seat.objects.filter(negotiation__agreement__isnull=False).select_related("vm__placement__host")[0]
        vm = seat.vm
        owner = User.objects.get(memberships__tenant=vm.tenant_id, memberships__role="owner")
        people = {"owner": owner, "operator": User.objects.get(username=scale.OPERATOR)}
        rooms = negotiations_of(user=owner)
        room = rooms.filter(state=Negotiation.State.PROPOSED).first() or rooms[0]
        names = {
            "vm": vm.name,
            "host": vm.placement.host.name,
            "room": room.pk,
            "paper": agreements_of(user=owner)[0].pk,
            **learning(size["hosts"]),
            **predicting_rows(size["hosts"]),
            **alarming(size["hosts"], User.objects.get(username=scale.OPERATOR)),
        }
        people["student"], people["teacher"] = (User.objects.get(username=name) for name in ("stu", "ines"))
        clients = {who: Client() for who in people}
        for who, client in clients.items():
            client.force_login(people[who])
        found = {}
        for path, who, _ in PINNED:
            if warm or path.endswith("/wall/") or path == "/api/wall":  # a host's document is read once a process
                clients[who].get(path.format(**names))
            with CaptureQueriesContext(connection) as queries:
                answer = clients[who].get(path.format(**names))
            assert answer.status_code == 200, path
            found[path, who] = len(queries)
        transaction.set_rollback(True)
    return found


def learning(hosts: int) -> dict[str, int]:
    """A lab with attempts, the more the more hosts there are."""
    room = make_class()
    for seed in range(2 * hosts):
        made = lab.attempt_make(by=room.stu, item=room.item, member=room.member, text=room.solution, seed=seed)
        work_all()
    session = classes.class_of_lesson(by=room.ines, name="two-translations", language="en")
    classes.seat_take(session=session, user=room.stu, nickname="stu")
    for number in range(4 * hosts):
        seat, _word = classes.seat_take(session=session, user=None, nickname=f"guest {number}")
    lesson = session.course.items.get()
    for _ in range(hosts):
        _row, token = joining.link_make(by=room.ines, course=session.course, role="student", days=3)
    ask = class_stage.lesson_question(course=session.course, item=lesson.pk, key="guess-count")
    classes.ask(by=room.ines, session=session, question=ask)
    classes.answer(seat=seat, choice="a")
    shared = share_make(by=room.stu, kind="walk", asked={"case": "nested", "step": "7"})
    learns = {"ref": ref_of(shared), "lesson": lesson.pk, "course": session.course_id, "code": session.code}
    learns["token"] = token
    regrade = regrades.regrade_start(by=room.ines, item=room.item).pk
    regrades.regrade_work(regrade_id=regrade)
    book = {"regrade": regrade, "book": room.course.pk, "member": room.member.pk}
    return {"item": room.item.pk, "attempt": made.pk, **book, **learns, **settling(hosts)}


def settling(hosts: int) -> dict[str, int]:
    """A policy game, with the more tables the more hosts there are: one answers, the others declare; and one that is
    over."""
    room = make_lab()
    game = policy_play.game_open(by=room.ines, item=room.item)
    seat = policy_play.seat_take(game=game, member=room.members["stu"])
    for number in range(4 * hosts):
        user = User.objects.create(username=f"player-{number}")
        member = member_add(course=room.course, user=user, nickname=f"player {number}")
        policy_play.seat_take(game=game, member=member)
    policy_play.game_begin(by=room.ines, game=game)
    for each in PolicySeat.objects.filter(table=seat.table, member__isnull=False).select_related("game", "table"):
        claim = policy_table.truth(policy_game.read(game.text), each.tenant)
        policy_play.claim_put(seat=each, declaration=1, claim=claim)
    work_tables()
    over = make_lab()
    ended = policy_play.game_open(by=over.ines, item=over.item)
    last = policy_play.seat_take(game=ended, member=over.members["stu"])
    policy_play.game_begin(by=over.ines, game=ended)
    policy_play.game_end(by=over.ines, game=ended)
    work_tables()
    return {"policy": room.item.pk, "seat": seat.table_id, "table": last.table_id, "game": game.pk}


def predicting_rows(hosts: int) -> dict[str, int]:
    """A cell of the attack table of which stu has predicted steps, the more the more hosts there are."""
    from tests.web.test_replay import executed
    from webapp.accounts.models import User
    from webapp.courses import predict_item, predicting, services
    from webapp.courses.predict_sources import CellSource

    cell = executed("A03", "hsvm")
    for _ in range(hosts):
        found = predicting.Round(User.objects.get(username="stu"), CellSource(cell), 1)
        predicting.answer(found, step=found.next or 0, choice="")
    ines, stu = (User.objects.get(username=name) for name in ("ines", "stu"))
    course = services.course_create(by=ines, title="Predictions")
    services.member_add(course=course, user=stu, nickname="stu")
    made = services.shipped_add(by=ines, course=course, kind="predict", name="page-owner", language="en")
    services.item_shown(by=ines, item=made, shown=True)
    for number in range(hosts):
        predict_item.answer(predict_item.round_of(made, course.members.get(user=stu), None), step=number + 1, choice="")
    return {"cell": cell.pk, "predictions": made.pk}


def alarming(hosts: int, operator: Any) -> dict[str, int]:
    """Alerts and drills, the more the more hosts there are."""
    from webapp.classroom import drills
    from webapp.notices import alerts

    for number in range(2 * hosts):
        row = alerts.raise_("rule.broken", key=f"violation:{number}", link="/operator/", host=f"w{number}")
        alerts.acknowledge(by=operator, alert=row)
        alerts.raise_("run.failed", key=f"run:{number}", link="/operator/", host=f"w{number}")
    for architecture in ("hsvm", "nested", "shadow")[:hosts]:
        drills.schedule_make(by=operator, architecture=architecture, every_hours=1)
        held = [drills.drill_now(by=operator, architecture=architecture) for _ in "1"]
        for each in held:
            drills.drill_hold(drill_id=each.pk)
    return {"alert": row.pk, "drill": held[0].pk}


@pytest.mark.parametrize(("path", "who", "most"), PINNED)
def test_a_page_needs_its_pinned_number_of_queries(counted: Any, path: str, who: str, most: int) -> None:
    assert counted["many"][path, who] == most
    assert most <= MOST


@pytest.mark.parametrize(("path", "who"), [row[:2] for row in PINNED])
def test_the_number_of_queries_does_not_grow_with_the_rows(counted: Any, path: str, who: str) -> None:
    assert counted["few"][path, who] == counted["many"][path, who]
