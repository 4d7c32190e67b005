"""Courses and classes in session by API: what the pages of both do."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from django.utils.translation import get_language
from ninja import Field, Query, Router, Schema, Status
from pydantic import ConfigDict

from webapp.courses import class_live, class_stage, classes, selectors, services, spotlight
from webapp.courses.models import ClassSession, Item, Mark, Member, Seat
from webapp.rest.paging import Listed, Paging, Strict, pages

router = Router(tags=["courses"])
Number = Annotated[int, Field(ge=1, lt=2**53)]
Line = Annotated[str, Field(max_length=120)]
Code = Annotated[str, Field(max_length=12)]


class CourseOut(Schema):
    id: int
    title: str
    teaches: bool
    nickname: str
    class_code: str = Field("", description="Of the class that is open now.")


class CourseIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "Isolation"}]})
    title: Line


class ItemOut(Schema):
    id: int
    place: int
    kind: str
    title: str
    shown: bool
    points: int
    earned: float | None = Field(description="Your own mark; null: none yet.")


class ItemsOut(Schema):
    items: list[ItemOut]


class ShippedIn(Strict):
    """Something that comes with the product."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "lesson", "name": "two-translations"}]}
    )
    kind: Annotated[str, Field(max_length=16)]
    name: Annotated[str, Field(max_length=63)]


class ItemActIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"shown": True}]})
    shown: bool | None = None
    places: Annotated[int, Field(ge=-1000, le=1000)] = Field(0, description="So many places later; negative: earlier.")


class SeatOut(Schema):
    id: int
    nickname: str
    following: bool
    teaches: bool
    attempt: int = Field(description="Their newest attack that was executed; 0: none.")


class ClassOut(Schema):
    code: str
    course: int
    frozen: bool
    board: str
    cursor: dict[str, Any]
    question: dict[str, Any] | None
    chosen: str = Field("", description="What you chose of the question; empty: nothing.")
    html: str = Field(description="The stage as the pages show it.")


class SpotlightOut(Schema):
    """What a teacher asks of you: to show an attack of yours to the class."""

    state: Literal["", "asked", "shown"] = Field(description="Empty: nothing is asked.")
    attempt: int | None = None
    named: bool = False


class SpotlightIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"agree": True, "named": False}]})
    agree: bool
    named: bool = Field(False, description="With your nickname beside it.")


class SpotlightAskIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seat": 12}]})
    seat: Number


class WishOut(Schema):
    """What became of your own wish to show an attack."""

    nickname: str
    state: Literal["asked", "declined", "shown"]


class DeskOut(ClassOut):
    seats: list[SeatOut]
    counts: dict[str, int] = Field(description="How often each choice of the question was made; never by whom.")
    wish: WishOut | None = None


class JoinIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"nickname": "Ada"}]})
    nickname: Annotated[str, Field(max_length=60)]


class ChoiceIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"choice": "b"}]})
    choice: Annotated[str, Field(max_length=63)]


class SeatIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"following": False}]})
    following: bool | None = None
    on_board: bool | None = None


class ClassChangeIn(Strict):
    """Only what is given changes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"frozen": True}]})
    frozen: bool | None = None
    board: Literal["off", "live", "frozen"] | None = None


class CursorIn(Strict):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"kind": "section", "item": 1, "section": 0}]}
    )
    kind: Literal["item", "section", "view"]
    item: Number
    section: Annotated[int, Field(ge=0, le=200)] | None = None
    view: Annotated[int, Field(ge=1, le=99)] | None = None
    step: Annotated[int, Field(ge=0, le=100_000)] | None = None


class AskIn(Strict):
    """A question of a lesson of the course (`item`, `key`), or one of your own (`text`, `choices`)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Who owns it now?", "choices": ["VM A", "VM B"]}]}
    )
    item: Number | None = None
    key: Annotated[str, Field(max_length=63)] = ""
    text: Annotated[str, Field(max_length=500)] = ""
    choices: Annotated[list[Annotated[str, Field(max_length=300)]], Field(max_length=6)] = []


class SeatChangeIn(Strict):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"nickname": "Ada"}]})
    nickname: Annotated[str, Field(max_length=60)]


def course_shown(row: Member) -> dict[str, Any]:
    """The course of a membership; `class_code` was asked for with it (selectors.members_of)."""
    course: Any = row
    shown = {"id": row.course_id, "title": row.course.title, "teaches": row.teaches, "nickname": row.nickname}
    return {**shown, "class_code": course.class_code or ""}


def class_shown(session: ClassSession, *, chosen: str = "") -> dict[str, Any]:
    plain = {name: getattr(session, name) for name in ("code", "frozen", "board", "cursor")}
    question, html = class_stage.question_shown(session), class_stage.stage_html(session)
    return {**plain, "course": session.course_id, "question": question, "chosen": chosen, "html": html}


def desk_shown(session: ClassSession, user: Any = None) -> dict[str, Any]:
    session = classes.session_get(code=session.code)
    counts = dict(classes.counts(session=session))
    wish = spotlight.wish_of(session=session, user=user) if user else None
    return {**class_shown(session), "seats": classes.seats(session=session), "counts": counts, "wish": wish}


def seat_found(request: HttpRequest, code: str, pk: int) -> Seat:
    session = classes.of_teacher(user=request.user, code=code)
    found = Seat.objects.select_related("session__course", "member").filter(session=session, pk=pk).first()
    if found is None:
        raise selectors.missing()
    return found


@router.get("/courses", response=Listed[CourseOut])
def course_list(request: HttpRequest, paging: Query[Paging]) -> Any:
    """The courses in which you take part, as a teacher or a student."""
    return pages(request, selectors.members_of(user=request.user), paging, by="id", shown=course_shown)


@router.post("/courses", response={201: CourseOut})
def course_make(request: HttpRequest, body: CourseIn) -> Any:
    """A new, empty course of yours. Teachers only."""
    user: Any = request.user
    made = services.course_create(by=user, title=body.title)
    return Status(201, course_shown(selectors.members_of(user=user).get(course=made)))


@router.get("/courses/{int:pk}/items", response=ItemsOut)
def item_list(request: HttpRequest, pk: int) -> Any:
    """What the course holds, as far as it is open to you, with your own marks."""
    course = selectors.course_get(user=request.user, pk=pk)
    member = selectors.member_of(user=request.user, course=course)
    marks = dict(Mark.objects.filter(member=member).values_list("item_id", "points"))
    plain = ("place", "kind", "title", "shown", "points")
    rows = selectors.items_of(member=member)
    return {
        "items": [
            {"id": row.pk, **{name: getattr(row, name) for name in plain}, "earned": marks.get(row.pk)} for row in rows
        ]
    }


@router.post("/courses/{int:pk}/items", response={201: ItemOut})
def item_copy(request: HttpRequest, pk: int, body: ShippedIn) -> Any:
    """A copy of something that comes with the product, hidden until you show it."""
    user: Any = request.user
    course = selectors.course_get(user=user, pk=pk)
    language = get_language() or "en"
    row: Item = services.shipped_add(by=user, course=course, kind=body.kind, name=body.name, language=language)
    plain = ("place", "kind", "title", "shown", "points")
    return Status(201, {"id": row.pk, **{name: getattr(row, name) for name in plain}, "earned": None})


@router.post("/courses/items/{int:pk}/place", response={204: None})
def item_place(request: HttpRequest, pk: int, body: ItemActIn) -> Any:
    """Show the item to the students or hide it; move it in its course."""
    user: Any = request.user
    item, _member = selectors.item_get(user=user, pk=pk)
    if body.shown is not None:
        services.item_shown(by=user, item=item, shown=body.shown)
    if body.places:
        services.item_move(by=user, item=item, places=body.places)
    return Status(204, None)


@router.post("/courses/{int:pk}/classes", response={201: DeskOut})
def class_open(request: HttpRequest, pk: int) -> Any:
    """Open a class of this course, or get the one that is open."""
    user: Any = request.user
    session = classes.class_open(by=user, course=selectors.course_get(user=user, pk=pk))
    return Status(201, desk_shown(session))


@router.post("/lessons/{name}/classes", response={201: DeskOut})
def class_of_lesson(request: HttpRequest, name: str) -> Any:
    """A class about a shipped lesson in one go, in a course of its own."""
    user: Any = request.user
    return Status(201, desk_shown(classes.class_of_lesson(by=user, name=name, language=get_language() or "en")))


@router.post("/classes/{code}/seats", response={201: ClassOut})
def class_join(request: HttpRequest, code: str, body: JoinIn) -> Any:
    """Take a seat in the open class with this code."""
    user: Any = request.user
    address = request.META.get("REMOTE_ADDR", "")
    classes.guess_checked(address)
    session = classes.session_counted(code=code, address=address)
    classes.seat_take(session=session, user=user, nickname=body.nickname)
    return Status(201, class_shown(session))


@router.get("/classes/{code}", response=ClassOut)
def class_get(request: HttpRequest, code: str) -> Any:
    """What the class sees now, for who has a seat in it."""
    seat = classes.seat_of(user=request.user, code=code)
    return class_shown(seat.session, chosen=classes.mine(seat=seat, session=seat.session))


@router.post("/classes/{code}/answers", response=ClassOut)
def class_answer(request: HttpRequest, code: str, body: ChoiceIn) -> Any:
    """Answer the open question; the first answer stands."""
    seat = classes.seat_of(user=request.user, code=code)
    given = classes.answer(seat=seat, choice=body.choice)
    return class_shown(seat.session, chosen=given.choice)


@router.post("/classes/{code}/seat", response={204: None})
def class_seat(request: HttpRequest, code: str, body: SeatIn) -> Any:
    """Follow the teacher or go your own way; stand on the scoreboard or not."""
    seat = classes.seat_of(user=request.user, code=code)
    if body.following is not None:
        classes.seat_follow(seat=seat, following=body.following)
    if body.on_board is not None:
        classes.seat_board(seat=seat, on=body.on_board)
    return Status(204, None)


@router.get("/classes/{code}/desk", response=DeskOut)
def desk_get(request: HttpRequest, code: str) -> Any:
    """The teacher's view: who is there, how the class answers."""
    return desk_shown(classes.of_teacher(user=request.user, code=code), request.user)


@router.post("/classes/{code}/cursor", response=DeskOut)
def desk_show(request: HttpRequest, code: str, body: CursorIn) -> Any:
    """Show a section, a view at a step, or an item to all who follow."""
    user: Any = request.user
    session = classes.of_teacher(user=user, code=code)
    cursor = {name: value for name, value in body.dict().items() if value is not None}
    return desk_shown(classes.show(by=user, session=session, cursor=cursor))


@router.post("/classes/{code}/question", response=DeskOut)
def desk_ask(request: HttpRequest, code: str, body: AskIn) -> Any:
    """Put a question to all."""
    user: Any = request.user
    session = classes.of_teacher(user=user, code=code)
    if body.item is not None:
        question = class_stage.lesson_question(course=session.course, item=body.item, key=body.key)
    else:
        choices = [{"name": str(number), "text": text} for number, text in enumerate(body.choices, 1)]
        question = {"text": body.text, "choices": choices}
    return desk_shown(classes.ask(by=user, session=session, question=question))


@router.post("/classes/{code}/reveal", response=DeskOut)
def desk_reveal(request: HttpRequest, code: str) -> Any:
    """Show what the class said, what is right, and why."""
    user: Any = request.user
    return desk_shown(classes.reveal(by=user, session=classes.of_teacher(user=user, code=code)))


@router.post("/classes/{code}/state", response=DeskOut)
def desk_change(request: HttpRequest, code: str, body: ClassChangeIn) -> Any:
    """Hold the class still or let it go on; the scoreboard live, held still or off."""
    user: Any = request.user
    session = classes.of_teacher(user=user, code=code)
    if body.frozen is not None:
        classes.freeze(by=user, session=session, frozen=body.frozen)
    if body.board is not None:
        classes.board_set(by=user, session=session, board=body.board)
    return desk_shown(session)


@router.get("/classes/{code}/spotlight", response=SpotlightOut)
def spotlight_get(request: HttpRequest, code: str) -> Any:
    """Whether your teacher asks to show an attack of yours, or it is shown."""
    return spotlight.asked_of(classes.seat_of(user=request.user, code=code)) or {"state": ""}


@router.post("/classes/{code}/spotlight", response=DeskOut)
def spotlight_ask(request: HttpRequest, code: str, body: SpotlightAskIn) -> Any:
    """Ask a student to show their newest attack to the class. Nobody sees anything of it unless they agree. Teachers
    of the course only."""
    user: Any = request.user
    spotlight.ask(by=user, seat=seat_found(request, code, body.seat))
    return desk_shown(classes.of_teacher(user=user, code=code), user)


@router.post("/classes/{code}/spotlight/answer", response=SpotlightOut)
def spotlight_answer(request: HttpRequest, code: str, body: SpotlightIn) -> Any:
    """Let the class see your attack, with or without your nickname; or not now, which only who asked is told."""
    seat = classes.seat_of(user=request.user, code=code)
    if body.agree:
        spotlight.agree(seat=seat, named=body.named)
    else:
        spotlight.decline(seat=seat)
    return spotlight.asked_of(classes.seat_of(user=request.user, code=code)) or {"state": ""}


@router.delete("/classes/{code}/spotlight", response={204: None})
def spotlight_end(request: HttpRequest, code: str) -> Any:
    """Take the attack off all screens at once: your own, or as the teacher the one that is shown or asked for."""
    user: Any = request.user
    session = classes.session_get(code=code)
    if class_live.authorise_desk(user, session.code):
        spotlight.stop(by=user, session=session)
    else:
        spotlight.end(seat=classes.seat_of(user=user, code=code))
    return Status(204, None)


@router.put("/classes/{code}/seats/{int:pk}", response={204: None})
def desk_rename(request: HttpRequest, code: str, pk: int, body: SeatChangeIn) -> Any:
    """Give a seat another nickname."""
    user: Any = request.user
    classes.seat_rename(by=user, seat=seat_found(request, code, pk), nickname=body.nickname)
    return Status(204, None)


@router.delete("/classes/{code}/seats/{int:pk}", response={204: None})
def desk_remove(request: HttpRequest, code: str, pk: int) -> Any:
    """Take a seat back; what its student did stays."""
    user: Any = request.user
    classes.seat_remove(by=user, seat=seat_found(request, code, pk))
    return Status(204, None)


@router.delete("/classes/{code}", response={204: None})
def class_end(request: HttpRequest, code: str) -> Any:
    """The class is over; the work stays in the course."""
    user: Any = request.user
    classes.class_end(by=user, session=classes.of_teacher(user=user, code=code))
    return Status(204, None)
