"""A policy game while it is played: seats, claims, answers, rounds, and the worker that moves a table on.

Who posts leaves a row; a worker puts what has come to the protocol, one table at a time. A step is computed without a
lock and kept only if nothing came meanwhile, so nothing is lost, and a doubled post or message changes nothing.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp import jobs
from webapp.agreements.checks import policy_time
from webapp.audit import services as audit
from webapp.courses import classes, policy_game, policy_table, selectors, services
from webapp.courses.kinds import Earned
from webapp.courses.models import (
    Item,
    Member,
    PolicyAnswer,
    PolicyClaim,
    PolicyGame,
    PolicySeat,
    PolicyTable,
)
from webapp.courses.policy_game import Game
from webapp.errors import VpmsError
from webapp.live import publish
from webapp.vpms import protocol

if TYPE_CHECKING:
    from webapp.accounts.models import User

KIND: Final = "policy"
MOST_TABLES: Final = 150
AT_WORK: Final = (PolicyTable.Phase.DECLARING, PolicyTable.Phase.ANSWERING, PolicyTable.Phase.COUNTING)
Phase = PolicyTable.Phase
State = PolicyGame.State


# -- reads


def definition(item: Item) -> Game:
    """The game of an item of this kind; to everything else a policy game is missing."""
    if item.kind != KIND:
        raise selectors.missing()
    return policy_game.read(item.text)


def newest(*, item: Item) -> PolicyGame | None:
    return PolicyGame.objects.filter(item=item).first()


def open_game(*, item: Item) -> PolicyGame:
    """The game of this item that is open; 409 where none is."""
    definition(item)
    found = PolicyGame.objects.filter(item=item, ended_at__isnull=True).first()
    if found is None:
        raise VpmsError("game_over", 409, message=_("No game is open here."))
    return found


def seat_of(*, game: PolicyGame, member: Member) -> PolicySeat | None:
    return PolicySeat.objects.select_related("table").filter(game=game, member=member).first()


def seats_of(*, item: Item, member: Member) -> Any:
    """The member's seats in all games of this item, the newest first."""
    return PolicySeat.objects.select_related("table", "game").filter(game__item=item, member=member).order_by("-game")


def game_get(*, user: Any, pk: int) -> PolicyGame:
    """A game, for a teacher of its course; to its students refused, to others missing."""
    found = PolicyGame.objects.select_related("item__course").filter(pk=pk).first()
    if found is None:
        raise selectors.missing()
    selectors.item_get(user=user, pk=found.item_id)
    selectors.must_teach(user=user, course=found.item.course)
    return found


def table_get(*, user: Any, pk: int) -> tuple[PolicyTable, PolicySeat | None]:
    """A table with the person's seat at it, or without one for a teacher of the course; to all others it is missing."""
    table = PolicyTable.objects.select_related("game__item__course").filter(pk=pk).first()
    if table is None:
        raise selectors.missing()
    _item, member = selectors.item_get(user=user, pk=table.game.item_id)
    seat = PolicySeat.objects.select_related("member").filter(table=table, member=member).first()
    if seat is None and not member.teaches:
        raise selectors.missing()
    return table, seat


def own_seat(*, user: Any, pk: int) -> PolicySeat:
    """The person's seat at a table; to who has none there it is missing."""
    table, seat = table_get(user=user, pk=pk)
    if seat is None:
        raise selectors.missing()
    seat.table = table
    return seat


def marker(table: PolicyTable) -> str:
    """Names the round that is open at a table: the declaration and its proposal, 0 while they declare."""
    return f"{table.declaration}.{table.protocol.get('round', 0) if table.phase == Phase.ANSWERING else 0}"


def claims_of(table: PolicyTable) -> dict[str, dict[str, Any]]:
    """By tenant: the last claim that each player has made up to this declaration."""
    rows = PolicyClaim.objects.filter(seat__table=table, declaration__lte=table.declaration)
    return dict(rows.order_by("declaration").values_list("seat__tenant", "claim"))


# -- opening, seats, beginning, ending


@transaction.atomic
def game_open(*, by: User, item: Item) -> PolicyGame:
    """A game of this item, or the one that is open. The item is shown, also to a class of the course that is open."""
    teacher = selectors.must_teach(user=by, course=item.course)
    definition(item)
    Item.objects.select_for_update().get(pk=item.pk)
    found = PolicyGame.objects.filter(item=item, ended_at__isnull=True).first()
    if found is not None:
        return found
    game = PolicyGame.objects.create(item=item, opened_by=teacher, text=item.text, item_version=item.version)
    if not item.shown:
        services.item_shown(by=by, item=item, shown=True)
    session = classes.open_of(course=item.course)
    if session is not None:
        classes.show(by=by, session=session, cursor={"kind": "item", "item": item.pk})
    _record(by, game, "opened")
    _tell_all(game)
    return game


@transaction.atomic
def seat_take(*, game: PolicyGame, member: Member) -> PolicySeat:
    """A seat for this student, by lot among those that are free: before the beginning at a table that fills up, then at
    one that has not handed in anything, else at a new one, which begins at once. Asked for again it is the same."""
    if member.teaches:
        raise VpmsError("forbidden", 403, message=_("Who teaches the course leads the game and does not play."))
    row = _locked(game)
    held = seat_of(game=row, member=member)
    if held is not None:
        return held
    open_ = Phase.WAITING if row.state == State.SEATING else Phase.DECLARING
    free = PolicySeat.objects.filter(game=row, member=None, table__phase=open_, table__declaration__lte=1)
    first = free.order_by("table__number").values_list("table", flat=True).first()
    table = PolicyTable.objects.get(pk=first) if first else _table_add(row)
    seat = secrets.choice(list(free.filter(table=table)))
    PolicySeat.objects.filter(pk=seat.pk).update(member=member)
    seat.member, seat.table = member, table
    _bump(table)
    return seat


def _table_add(game: PolicyGame) -> PolicyTable:
    number = game.tables.count() + 1
    if number > MOST_TABLES:
        raise VpmsError("too_many", 409, message=_("All tables of this game are taken."))
    table = PolicyTable.objects.create(game=game, number=number)
    names = policy_game.read(game.text).names
    PolicySeat.objects.bulk_create([PolicySeat(game=game, table=table, tenant=name) for name in names])
    if game.state == State.PLAYING:
        _begin(game)
        table.refresh_from_db()
    return table


@transaction.atomic
def seat_all(*, by: User, game: PolicyGame) -> int:
    """Seats for all students who are in the class that is open, or in the course where none is; how many got one."""
    selectors.must_teach(user=by, course=game.item.course)
    _locked(game)
    session = classes.open_of(course=game.item.course)
    found = Member.objects.filter(course=game.item.course, role=Member.Role.STUDENT, left_at__isnull=True)
    if session is not None:
        found = found.filter(seats__session=session, seats__removed_at__isnull=True)
    without = list(found.exclude(policy_seats__game=game))
    for member in without:
        seat_take(game=game, member=member)
    return len(without)


@transaction.atomic
def game_begin(*, by: User, game: PolicyGame) -> PolicyGame:
    """All tables declare from now on; the solver-bot plays the empty seats, or all of them where nobody plays."""
    selectors.must_teach(user=by, course=game.item.course)
    row = _locked(game)
    if row.state != State.SEATING:
        return row
    if not row.tables.exists():
        _table_add(row)
    row.state = State.PLAYING
    row.save(update_fields=["state"])
    _begin(row)
    _record(by, row, "begun")
    _tell_all(row)
    return row


def _begin(game: PolicyGame) -> None:
    deadline = timezone.now() + dt.timedelta(minutes=policy_game.read(game.text).minutes)
    waiting = PolicyTable.objects.filter(game=game, phase=Phase.WAITING)
    played = set(PolicySeat.objects.filter(game=game, member__isnull=False).values_list("table", flat=True))
    for table in waiting:
        due = deadline if table.pk in played else timezone.now()
        PolicyTable.objects.filter(pk=table.pk).update(
            phase=Phase.DECLARING, declaration=1, deadline_at=deadline, due_at=due, version=F("version") + 1
        )
    publish.wake_keeper()


@transaction.atomic
def round_close(*, by: User, game: PolicyGame, rounds: Mapping[int, str]) -> None:
    """Close these rounds now, by table and marker: who has said nothing is silent. A round that is over already is
    left alone, so a doubled post closes nothing more."""
    selectors.must_teach(user=by, course=game.item.course)
    _locked(game)
    for table in game.tables.select_for_update().filter(pk__in=rounds, phase__in=(Phase.DECLARING, Phase.ANSWERING)):
        if rounds[table.pk] == marker(table):
            PolicyTable.objects.filter(pk=table.pk).update(closing=marker(table))
            _due(table)


@transaction.atomic
def game_end(*, by: User, game: PolicyGame) -> None:
    """The game is over: what has no agreement has none. Tables where nobody has begun are taken away."""
    selectors.must_teach(user=by, course=game.item.course)
    row = PolicyGame.objects.select_for_update().get(pk=game.pk)
    if row.ended_at is not None:
        return
    row.tables.filter(phase=Phase.WAITING).delete()
    for table in row.tables.filter(phase__in=(Phase.DECLARING, Phase.ANSWERING)):
        PolicyTable.objects.filter(pk=table.pk).update(phase=Phase.COUNTING, ending="ended", deadline_at=None)
        _due(table)
    row.state, row.ended_at = State.OVER, timezone.now()
    row.save(update_fields=["state", "ended_at"])
    _record(by, row, "ended")
    _tell_all(row)


# -- what players say


@transaction.atomic
def claim_put(*, seat: PolicySeat, declaration: int, claim: Mapping[str, Any]) -> PolicyClaim:
    """What this seat says that it wants. The first claim of a declaration stands; a repeated post gets it back."""
    table = _locked_table(seat.table_id)
    held = PolicyClaim.objects.filter(seat=seat, declaration=declaration).first()
    if held is not None:
        return held
    if table.phase != Phase.DECLARING or table.declaration != declaration or table.closing == marker(table):
        raise VpmsError("round_over", 409, message=_("This round is over. Look at what is open now."))
    checked = policy_table.claim_checked(policy_game.read(seat.game.text), claim)
    made = PolicyClaim.objects.create(seat=seat, declaration=declaration, claim=checked)
    _due(table)
    return made


@transaction.atomic
def answer_put(*, seat: PolicySeat, declaration: int, proposal: int, answer: Mapping[str, Any]) -> PolicyAnswer:
    """What this seat answers to a proposal. The first answer stands; a repeated post gets it back."""
    table = _locked_table(seat.table_id)
    held = PolicyAnswer.objects.filter(seat=seat, declaration=declaration, proposal=proposal).first()
    if held is not None:
        return held
    current = (table.declaration, table.protocol.get("round")) == (declaration, proposal)
    if table.phase != Phase.ANSWERING or not current or table.closing == marker(table):
        raise VpmsError("round_over", 409, message=_("This round is over. Look at what is open now."))
    game = policy_game.read(seat.game.text)
    checked = policy_table.answer_checked(game, table.protocol, seat.tenant, answer, policy_time(timezone.now()))
    made = PolicyAnswer.objects.create(seat=seat, declaration=declaration, proposal=proposal, answer=checked)
    _due(table)
    return made


# -- the worker's side


class Step(NamedTuple):
    """What a step changes: fields of the table, and the answers that it put to the protocol."""

    changes: dict[str, Any]
    handled: dict[int, bool]  # answer: was it taken?


def table_work(*, table_id: int) -> None:
    """Take the steps that are due at a table. What came meanwhile is looked at again."""
    token = jobs.claim(PolicyTable, table_id, phase__in=AT_WORK)
    if token is None:
        return
    table = PolicyTable.objects.select_related("game__item").get(pk=table_id)
    with jobs.kept(PolicyTable, table_id, token):
        step = _step(table, timezone.now())
    _keep(table, token, step)
    publish.wake_keeper()


def _step(table: PolicyTable, now: dt.datetime) -> Step:
    game = policy_game.read(table.game.text)
    if table.phase == Phase.DECLARING:
        return _declared(table, game, now)
    if table.phase == Phase.ANSWERING:
        return _answered(table, game, now)
    return _counted(table, game)


def _declared(table: PolicyTable, game: Game, now: dt.datetime) -> Step:
    """When all have said what they want, or time is up, the protocol begins. Who said nothing stands by what it said
    before, else by the truth; the bot always by the truth."""
    players = set(table.seats.filter(member__isnull=False).values_list("tenant", flat=True))
    new = PolicyClaim.objects.filter(seat__table=table, declaration=table.declaration)
    missing = players - set(new.values_list("seat__tenant", flat=True))
    assert table.deadline_at is not None
    if missing and table.closing != marker(table) and now < table.deadline_at:
        return Step({"due_at": table.deadline_at}, {})
    said = claims_of(table)
    claims = {name: said.get(name, policy_table.truth(game, name)) if name in players else None for name in game.names}
    ident = f"game-{table.game_id}-{table.number}-{table.declaration}"
    state = policy_table.opened(game, claims, now=policy_time(now), ident=ident, seed=secrets.token_hex(16))
    return Step(_after(table, game, state, used=table.used + 1, now=now), {})


def _answered(table: PolicyTable, game: Game, now: dt.datetime) -> Step:
    """What has come is put to the protocol in its order; then what time, or the teacher, decides."""
    state, used, at = protocol.expire(table.protocol, policy_time(now)), table.used, policy_time(now)
    handled: dict[int, bool] = {}
    rows = PolicyAnswer.objects.filter(seat__table=table, declaration=table.declaration, handled=False)
    for row in rows.select_related("seat__member__user"):
        current = state["state"] == "PROPOSED" and row.proposal == state["round"]
        handled[row.pk] = current
        if current and used >= game.rounds and row.answer["answer"] != "accept":
            return Step(_over(table, "rounds", protocol=state), handled)
        if current:
            state, handled[row.pk] = _put(state, row, at)
            used += state["round"] - row.proposal
    if table.closing == marker(table) and state["round"] == table.protocol["round"]:
        state = policy_table.closed(state)
    return Step(_after(table, game, state, used=used, now=now), handled)


def _put(state: protocol.State, row: PolicyAnswer, at: str) -> tuple[protocol.State, bool]:
    user = row.seat.member.user.alias if row.seat.member else "nobody"
    try:
        return policy_table.answered(state, row.seat.tenant, row.answer, k=row.proposal, user=user, now=at), True
    except VpmsError:  # the proposal is another meanwhile, or the delegate has answered
        return state, False


def _after(table: PolicyTable, game: Game, state: protocol.State, *, used: int, now: dt.datetime) -> dict[str, Any]:
    """Where a table stands after the protocol has moved: answering, declaring anew, or to be counted."""
    if state["state"] == "PROPOSED":
        text = protocol.next_deadline(state)
        deadline = protocol.moment(text) if text else now
        changes = {"phase": Phase.ANSWERING, "deadline_at": deadline, "due_at": deadline, "ending": ""}
        return {**changes, "used": used, "protocol": state}
    if state["state"] == policy_table.AGREED:
        return {**_over(table, "", protocol=state), "used": used}
    ending = policy_table.ending(state)
    if ending == "final" or used >= game.rounds:
        return {**_over(table, ending, protocol=state), "used": used}
    deadline = now + dt.timedelta(minutes=game.minutes)
    anew = {"phase": Phase.DECLARING, "declaration": table.declaration + 1, "deadline_at": deadline, "due_at": deadline}
    return {**anew, "used": used, "protocol": state, "ending": ending}


def _over(table: PolicyTable, ending: str, **more: Any) -> dict[str, Any]:
    return {"phase": Phase.COUNTING, "ending": ending, "deadline_at": None, "due_at": timezone.now(), **more}


def agreed(table: PolicyTable) -> Mapping[str, Any] | None:
    """What the table has agreed, if it has."""
    settled = table.protocol.get("state") == policy_table.AGREED
    return dict(table.protocol["result"]["assignment"]) if settled else None


def _counted(table: PolicyTable, game: Game) -> Step:
    said = claims_of(table)
    players = set(table.seats.filter(member__isnull=False).values_list("tenant", flat=True))
    claims = {name: said.get(name, policy_table.truth(game, name)) if name in players else None for name in game.names}
    result = policy_table.reveal(table.game.text, agreed(table), claims)
    return Step({"phase": Phase.OVER, "result": result, "due_at": None, "deadline_at": None}, {})


@transaction.atomic
def _keep(table: PolicyTable, token: str, step: Step) -> None:
    """The step and all that follows from it, only if nobody said anything meanwhile."""
    row = _locked_table(table.pk)
    if row.version != table.version:
        jobs.release(PolicyTable, table.pk, token, attempts=0)
        return
    shown = {name for name in step.changes if name != "due_at"}
    version = {"version": F("version") + 1} if shown or step.handled else {}
    due = step.changes.pop("due_at")
    if not jobs.commit(PolicyTable, table.pk, token, due_at=due, **step.changes, **version):
        return
    for answer, taken in step.handled.items():
        PolicyAnswer.objects.filter(pk=answer).update(handled=True, taken=taken)
    if step.changes.get("phase") == Phase.OVER:
        _marked(table, step.changes["result"])
        _game_over(table.game)
    if version:
        _tell(table)


def _marked(table: PolicyTable, result: Mapping[str, Any]) -> None:
    item = table.game.item
    game = policy_game.read(table.game.text)
    for seat in table.seats.filter(member__isnull=False).select_related("member") if item.points else ():
        earned = earned_by(game, item.points, seat.tenant, result)
        services.mark_put(item=item, member=seat.member, earned=earned.points, reasons=earned.reasons)  # type: ignore[arg-type]


def _game_over(game: PolicyGame) -> None:
    """When the last table is over, so is the game."""
    if PolicyTable.objects.filter(game=game).exclude(phase=Phase.OVER).exists():
        return
    over = PolicyGame.objects.filter(pk=game.pk, ended_at__isnull=True)
    if over.update(state=State.OVER, ended_at=timezone.now()):
        _tell_all(game)


@transaction.atomic
def table_failed(table_id: int, *, reason: str) -> None:
    """Workers died of it three times: the table is over without a result, and says so."""
    PolicyTable.objects.filter(pk=table_id).update(
        phase=Phase.OVER,
        ending="failed",
        due_at=None,
        deadline_at=None,
        lease_token="",
        lease_until=None,
        attempts=0,
        version=F("version") + 1,
    )
    table = PolicyTable.objects.select_related("game").get(pk=table_id)
    _game_over(table.game)
    _tell(table)


# -- what it is worth


def earned_by(game: Game, points: float, tenant: str, result: Mapping[str, Any]) -> Earned:
    """An item's points for what a player reached, by the rule of the game, with the reason."""
    row = next(each for each in result["tenants"] if each["name"] == tenant)
    reached = policy_game.Reached(row["points"], row["solver"], row["least"])
    part = max(0.0, min(1.0, policy_game.RULES[game.points](reached)))
    has, solver, percent = f"{row['points']:g}", f"{row['solver']:g}", round(100 * part)
    says = f"{has} of 1000 points of your true wishes; the solver's settlement would have given you {solver}."
    says += f" That is {percent} percent {policy_game.WHOLE[game.points]}."
    if row["breaks"]:
        says += " The settlement breaks a must of yours, and so it is worth nothing."
    elif not result["settled"]:
        says += " There was no agreement: you keep the least that you would have accepted."
    earned = round(points * part, 4)
    return Earned(earned, [{"name": tenant, "points": earned, "of": points, "says": says}])


def kind_grade(item: Item, definition: Game, member: Member) -> Earned | None:
    """What the best of the member's tables is worth by this definition's rule; None: none is over. What was reached
    stays as it was played: the rule can change afterwards, the wishes cannot."""
    found = PolicySeat.objects.filter(member=member, game__item=item, table__phase=Phase.OVER)
    rows = [
        earned_by(definition, item.points, seat.tenant, seat.table.result)
        for seat in found.select_related("table")
        if seat.table.result
    ]
    return max(rows, key=lambda row: row.points, default=None)


# -- rows and topics


def topic(item_id: int, member_id: int) -> str:
    return f"policy/{item_id}-{member_id}"


def desk_topic(item_id: int) -> str:
    return f"policy-desk/{item_id}"


def seen_until(*, game: PolicyGame | None, table: PolicyTable | None) -> int:
    """The topic's sequence number of a player: rises with the game, and with the player's own table."""
    return 0 if game is None else game.pk * 10**6 + game.version + (table.version if table else 0)


def round_until(*, game: PolicyGame | None, table: PolicyTable | None) -> int:
    """The same of the round that is open to a player: what others say in it leaves it as it is."""
    if game is None or table is None:
        return seen_until(game=game, table=None)
    place = list(Phase).index(Phase(table.phase))
    return game.pk * 10**6 + game.version + 1 + 100 * table.declaration + 10 * table.used + place


def desk_until(*, game: PolicyGame | None) -> int:
    return 0 if game is None else game.pk * 10**6 + game.version + game.desk_version


def _locked(game: PolicyGame) -> PolicyGame:
    row = PolicyGame.objects.select_for_update().select_related("item__course").get(pk=game.pk)
    if row.ended_at is not None:
        raise VpmsError("game_over", 409, message=_("This game is over."))
    return row


def _locked_table(pk: int) -> PolicyTable:
    """The game's row first, always: two who lock both never wait for each other."""
    PolicyGame.objects.select_for_update().get(tables=pk)
    return PolicyTable.objects.select_for_update().get(pk=pk)


def _record(by: User, game: PolicyGame, act: str) -> None:
    data = {"item": game.item_id, "game": game.pk, "act": act}
    audit.record(by=by, type="course.game", subject=f"course:{game.item.course_id}", data=data)


def _due(table: PolicyTable) -> None:
    """Something came: a worker looks now."""
    PolicyTable.objects.filter(pk=table.pk).update(due_at=timezone.now(), enqueued_at=None)
    _bump(table)
    publish.wake_keeper()


def _bump(table: PolicyTable) -> None:
    PolicyTable.objects.filter(pk=table.pk).update(version=F("version") + 1)
    _tell(table)


def _tell(table: PolicyTable) -> None:
    """Those who sit there, and the desk, look again."""
    PolicyGame.objects.filter(pk=table.game_id).update(desk_version=F("desk_version") + 1)
    item = PolicyGame.objects.values_list("item_id", flat=True).get(pk=table.game_id)
    members: Sequence[int] = [pk for pk in table.seats.values_list("member_id", flat=True) if pk]
    for member in members:
        _tell_member(item, member)
    publish.changed(desk_topic(item))


def _tell_all(game: PolicyGame) -> None:
    """Everybody in the course looks again: a game has opened, begun or ended."""
    PolicyGame.objects.filter(pk=game.pk).update(version=F("version") + 1)
    course = Item.objects.values_list("course_id", flat=True).get(pk=game.item_id)
    for member in Member.objects.filter(course=course, left_at__isnull=True).values_list("pk", flat=True):
        _tell_member(game.item_id, member)
    publish.changed(desk_topic(game.item_id))


def _tell_member(item_id: int, member_id: int) -> None:
    publish.changed(topic(item_id, member_id))
    publish.changed(f"{topic(item_id, member_id)}/round")
