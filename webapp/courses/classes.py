"""A class in session: opening it, taking a seat, what the teacher shows, asks, holds still and ends.

Each change locks the session's row, raises its version and tells the topic; pages and sockets are made from the row.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, OuterRef, Subquery, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.accounts.models import CallCount, User
from webapp.accounts.tokens import call_counted
from webapp.audit import services as audit
from webapp.courses import class_stage, reading, selectors, services
from webapp.courses.models import (
    Attempt,
    ClassAnswer,
    ClassSession,
    Course,
    Item,
    Mark,
    Member,
    Seat,
    Spotlight,
    ToldQuestion,
)
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish

if TYPE_CHECKING:
    from collections.abc import Mapping

LETTERS: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"  # none that is taken for another when it is read from a wall
LENGTH: Final = 6
MOST_SEATS: Final = 300
MOST_GUESSES: Final = 30  # codes that are none, of one address in a minute; there are 730 million
BOARD_ROWS: Final = 20
WORD_LETTERS: Final = "abcdefghjkmnpqrstvwxyz23456789"


# -- who may see what


def session_get(*, code: str) -> ClassSession:
    """The open class with this code, as typed; 404 if there is none."""
    found = (
        ClassSession.objects.select_related("course", "teacher")
        .filter(code=cleaned(code), ended_at__isnull=True)
        .first()
    )
    if found is None:
        raise selectors.missing()
    return found


def cleaned(code: str) -> str:
    return "".join(letter for letter in code.upper() if letter.isalnum())[: LENGTH + 1]


def guess_checked(address: str) -> None:
    """Refused while this address has tried too many codes that are none, in this minute: a class behind one address
    joins by right ones, which are not counted."""
    if CallCount.objects.filter(pk=_guesses(address), minute=_minute(), count__gte=MOST_GUESSES).exists():
        raise VpmsError("too_many_tries", 429, message=_("Too many codes that are none came from here. Wait a minute."))


def guess_failed(address: str) -> None:
    call_counted(key=_guesses(address), most=MOST_GUESSES)


def session_counted(*, code: str, address: str) -> ClassSession:
    """The open class; a code that is none is counted against this address."""
    try:
        return session_get(code=code)
    except VpmsError:
        guess_failed(address)
        raise


def _guesses(address: str) -> str:
    return "class:" + hashlib.sha256(address.encode()).hexdigest()[:32]


def _minute() -> int:
    return int(time.time()) // 60


def of_teacher(*, user: Any, code: str) -> ClassSession:
    """The open class, for a teacher of its course; to others it is missing, to its students refused."""
    found = session_get(code=code)
    selectors.must_teach(user=user, course=found.course)
    return found


def seat_of(*, user: Any, code: str) -> Seat:
    """The person's seat in the open class; 404 for who has none."""
    found = (
        Seat.objects.select_related("session__course", "session__teacher", "member__user")
        .filter(
            session__code=cleaned(code),
            session__ended_at__isnull=True,
            member__user=user,
            member__left_at__isnull=True,
            removed_at__isnull=True,
        )
        .first()
        if user.pk
        else None
    )
    if found is None:
        raise selectors.missing()
    return found


def open_of(*, course: Course) -> ClassSession | None:
    return ClassSession.objects.filter(course=course, ended_at__isnull=True).first()


# -- opening and ending


@transaction.atomic
def class_open(*, by: User, course: Course) -> ClassSession:
    """A class of this course, or the one that is open already: a course has one at a time."""
    teacher = selectors.must_change(user=by, course=course)
    Course.objects.select_for_update().get(pk=course.pk)
    found = open_of(course=course)
    if found is not None:
        return found
    code = next(each for each in iter(_code, "") if not ClassSession.objects.filter(code=each, ended_at=None).exists())
    session = ClassSession.objects.create(course=course, teacher=teacher, code=code)
    audit.record(by=by, type="class.opened", subject=f"course:{course.pk}", data={"class": session.pk})
    return session


def _code() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))


@transaction.atomic
def class_of_lesson(*, by: User, name: str, language: str) -> ClassSession:
    """A class about a shipped lesson in one go: in a course of its own, with the lesson shown to everybody."""
    found = reading.of_shipped(user=by, name=name, language=language)
    item = reading.copied(by, found, "new")
    Item.objects.filter(pk=item.pk).update(shown=True)
    session = class_open(by=by, course=item.course)
    return show(by=by, session=session, cursor={"kind": "section", "item": item.pk, "section": 0})


@transaction.atomic
def class_end(*, by: User, session: ClassSession) -> None:
    """Nobody can come in or answer any more; the work stays in the course."""
    row = locked(by, session)
    row.ended_at = timezone.now()
    row.question = {}
    row.spotlights.filter(state__in=Spotlight.OPEN).update(state=Spotlight.State.OVER)
    moved(row, "ended_at", "question")
    desk_moved(row)
    audit.record(by=by, type="class.ended", subject=f"course:{row.course_id}", data={"class": row.pk})


# -- seats


@transaction.atomic
def seat_take(*, session: ClassSession, user: User | None, nickname: str) -> tuple[Seat, str]:
    """A seat for this person, or for a guest who has no account; the word with which a guest comes back ("" for
    people with an account). BadInput for a nickname that is taken."""
    ClassSession.objects.select_for_update().get(pk=session.pk)
    if session.seats.count() >= MOST_SEATS:
        raise VpmsError("too_many", 409, message=_("The class is full."))
    word = ""
    if user is None:
        nickname = services.line("nickname", nickname, most=40, needed=True)
        user = User(username=f"guest-{secrets.token_hex(6)}", first_name=nickname[:40], guest=True)
        user.set_unusable_password()
        user.save()
        word = "".join(secrets.choice(WORD_LETTERS) for _ in range(8))
    held = Member.objects.filter(course=session.course, user=user, left_at__isnull=True).first()
    member = held or services.member_add(course=session.course, user=user, nickname=nickname)
    seat, made = Seat.objects.get_or_create(session=session, member=member)
    if seat.removed_at is not None:
        raise VpmsError("forbidden", 403, message=_("The teacher has taken this seat back."))
    if word:
        seat.word_sha256 = _digest(word)
        seat.save(update_fields=["word_sha256"])
    if made:
        desk_moved(session)
    return seat, word


def seat_again(*, session: ClassSession, nickname: str, word: str) -> User:
    """The guest who sits there, by nickname and word; BadInput for a wrong one."""
    seat = (
        Seat.objects.select_related("member__user")
        .filter(session=session, member__nickname__iexact=" ".join(nickname.split()), removed_at__isnull=True)
        .exclude(word_sha256="")
        .first()
    )
    if seat is None or not secrets.compare_digest(seat.word_sha256, _digest(word.strip().lower())):
        raise BadInput([Fault("$.word", _("is not the word of this nickname"))])
    return seat.member.user


def _digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


@transaction.atomic
def seat_follow(*, seat: Seat, following: bool) -> None:
    Seat.objects.filter(pk=seat.pk).update(following=following)
    desk_moved(seat.session)


@transaction.atomic
def seat_board(*, seat: Seat, on: bool) -> None:
    """Whether the nickname may stand on the scoreboard; taken off it at once."""
    Seat.objects.filter(pk=seat.pk).update(on_board=on)
    row = ClassSession.objects.select_for_update().get(pk=seat.session_id)
    if not on:
        row.board_rows = [each for each in row.board_rows if each[0] != seat.member.nickname]
        moved(row, "board_rows")
    desk_moved(row)


@transaction.atomic
def seat_rename(*, by: User, seat: Seat, nickname: str) -> None:
    """The teacher gives another nickname."""
    row = locked(by, seat.session)
    nickname = services.line("nickname", nickname, most=40, needed=True)
    taken = Member.objects.filter(course=row.course, nickname__iexact=nickname).exclude(pk=seat.member_id)
    if taken.exists():
        raise BadInput([Fault("$.nickname", _("is taken in this course; choose another"))])
    Member.objects.filter(pk=seat.member_id).update(nickname=nickname)
    row.board_rows = []
    moved(row, "board_rows")
    desk_moved(row)


@transaction.atomic
def seat_remove(*, by: User, seat: Seat) -> None:
    """The person is out of this class; what they did stays."""
    row = locked(by, seat.session)
    Seat.objects.filter(pk=seat.pk).update(removed_at=timezone.now())
    row.spotlights.filter(seat=seat, state__in=Spotlight.OPEN).update(state=Spotlight.State.OVER)
    row.board_rows = [each for each in row.board_rows if each[0] != seat.member.nickname]
    moved(row, "board_rows")
    desk_moved(row)
    publish.rights_changed(user=seat.member.user_id)


def seats(*, session: ClassSession) -> list[dict[str, Any]]:
    """Who is there, by nickname, whether they follow, and the newest attack of theirs that was executed (0: none)."""
    done = Attempt.objects.filter(member=OuterRef("member"), state=Attempt.State.DONE).order_by("-id").values("id")[:1]
    rows = Seat.objects.filter(session=session, removed_at__isnull=True, member__left_at__isnull=True)
    rows = rows.select_related("member")
    return [
        {
            "id": row.pk,
            "nickname": row.member.nickname,
            "following": row.following,
            "teaches": row.member.teaches,
            "attempt": row.attempt or 0,
        }
        for row in rows.annotate(attempt=Subquery(done)).order_by("member__nickname")
    ]


# -- what is shown


@transaction.atomic
def show(*, by: User, session: ClassSession, cursor: Mapping[str, Any]) -> ClassSession:
    """Everybody who follows sees this now. BadInput for a place that is none."""
    row = locked(by, session)
    row.cursor = class_stage.checked(course=row.course, cursor=cursor)
    if row.question.get("state") == "told":
        row.question = {"number": row.question["number"]}
    moved(row, "cursor", "question")
    return row


@transaction.atomic
def freeze(*, by: User, session: ClassSession, frozen: bool) -> ClassSession:
    """Held still: nobody can answer, and pages say so."""
    row = locked(by, session)
    row.frozen = frozen
    moved(row, "frozen")
    return row


# -- questions to the class


@transaction.atomic
def ask(*, by: User, session: ClassSession, question: Mapping[str, Any]) -> ClassSession:
    """Put a question to all: {"text", "choices": [{"name", "text", "misconception"}], "right", "why"}."""
    row = locked(by, session)
    asked = class_stage.question_checked(question)
    row.question = {"number": row.question.get("number", 0) + 1, "state": "open", **asked}
    moved(row, "question")
    desk_moved(row)
    return row


@transaction.atomic
def reveal(*, by: User, session: ClassSession) -> ClassSession:
    """Everybody sees how many chose what, what is right, and why."""
    row = locked(by, session)
    if row.question.get("state") != "open":
        raise VpmsError("invalid_transition", 409, message=_("No question is open."))
    row.question = {**row.question, "state": "told", "counts": dict(counts(session=row))}
    moved(row, "question")
    _remember(row, row.question)
    return row


def _remember(session: ClassSession, asked: Mapping[str, Any]) -> None:
    """What was answered wrongly, for the course's page of mistakes. Where nothing is right, nothing is wrong."""
    wrong = [
        {"text": each["text"], "misconception": each.get("misconception", ""), "count": asked["counts"][each["name"]]}
        for each in asked["choices"]
        if asked["right"] and each["name"] != asked["right"] and asked["counts"].get(each["name"])
    ]
    if wrong:
        told = {"text": asked["text"], "wrong": wrong}
        ToldQuestion.objects.get_or_create(session=session, number=asked["number"], defaults=told)


@transaction.atomic
def answer(*, seat: Seat, choice: str) -> ClassAnswer:
    """The seat's answer to the open question; a repeated post gets the first one back."""
    row = ClassSession.objects.select_for_update().get(pk=seat.session_id)
    if row.frozen:
        raise VpmsError("class_held", 409, message=_("The class is held still; wait for your teacher."))
    if row.ended_at is not None or row.question.get("state") != "open":
        raise VpmsError("invalid_transition", 409, message=_("No question is open."))
    if choice not in [each["name"] for each in row.question["choices"]]:
        raise BadInput([Fault("$.choice", _("is no choice of this question"))])
    number = row.question["number"]
    made, new = ClassAnswer.objects.get_or_create(seat=seat, number=number, defaults={"choice": choice})
    if new:
        desk_moved(row)
    return made


def counts(*, session: ClassSession) -> Counter[str]:
    """How often each choice of the present question was made; never by whom."""
    number = session.question.get("number", 0)
    rows = ClassAnswer.objects.filter(seat__session=session, number=number)
    return Counter(rows.values_list("choice", flat=True))


def mine(*, seat: Seat, session: ClassSession) -> str:
    """What this seat chose of the present question; "" for nothing."""
    rows = ClassAnswer.objects.filter(seat=seat, number=session.question.get("number", 0))
    return rows.values_list("choice", flat=True).first() or ""


# -- scoreboard


@transaction.atomic
def board_set(*, by: User, session: ClassSession, board: str) -> ClassSession:
    """Off, live (drawn anew now and with every mark), or held still as it stands."""
    if board not in ClassSession.Board.values:
        raise BadInput([Fault("$.board", f"must be one of {', '.join(ClassSession.Board.values)}")])
    row = locked(by, session)
    row.board = board
    if board != ClassSession.Board.FROZEN:
        row.board_rows = _rows(row) if board == ClassSession.Board.LIVE else []
    moved(row, "board", "board_rows")
    return row


def _rows(session: ClassSession) -> list[list[Any]]:
    """Nickname and points of those who allow it, best first."""
    seated = Seat.objects.filter(
        session=session, removed_at__isnull=True, on_board=True, member__role=Member.Role.STUDENT
    )
    points = dict(
        Mark.objects.filter(member__in=seated.values("member"))
        .order_by()
        .values_list("member")
        .annotate(total=Sum("points"))
    )
    names = seated.values_list("member", "member__nickname")
    rows = [[name, round(points.get(member, 0.0), 2)] for member, name in names]
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:BOARD_ROWS]


def marked(course_id: int) -> None:
    """A mark of the course has changed: a live scoreboard is drawn anew."""
    row = (
        ClassSession.objects.select_for_update()
        .filter(course=course_id, ended_at__isnull=True, board=ClassSession.Board.LIVE)
        .first()
    )
    if row is not None and (rows := _rows(row)) != row.board_rows:
        row.board_rows = rows
        moved(row, "board_rows")


# -- rows and topics


def topic(code: str) -> str:
    return f"class/{code}"


def locked(by: User, session: ClassSession) -> ClassSession:
    selectors.must_teach(user=by, course=session.course)
    row = ClassSession.objects.select_for_update(of=("self",)).select_related("course", "teacher").get(pk=session.pk)
    if row.ended_at is not None:
        raise VpmsError("class_over", 409, message=_("This class is over."))
    return row


def moved(row: ClassSession, *fields: str) -> None:
    row.version += 1
    row.save(update_fields=["version", *fields])
    publish.changed(topic(row.code))
    publish.changed(f"{topic(row.code)}/desk")


def desk_moved(row: ClassSession) -> None:
    ClassSession.objects.filter(pk=row.pk).update(desk_version=F("desk_version") + 1)
    publish.changed(f"{topic(row.code)}/desk")
