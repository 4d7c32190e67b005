"""Policy games by API: what the pages of a player and of the teacher's desk do and show."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Field, Router, Schema, Status
from pydantic import ConfigDict

from webapp.courses import policy_game, policy_pages, policy_play, policy_table, selectors
from webapp.courses.models import Item, Member, PolicyGame, PolicySeat, PolicyTable
from webapp.rest.paging import Strict

router = Router(tags=["policies"])
Number = Annotated[int, Field(ge=1, lt=2**53)]
Word = Annotated[str, Field(max_length=40)]
Points = Annotated[float, Field(description="Of 1000, by the true wishes.")]


class PolicySettingOut(Schema):
    switch: str
    label: str
    help: str
    values: list[str] = Field(description="What the game's host offers, strict to lax.")


class PolicyWishOut(Schema):
    value: str
    strength: str
    weight: int


class PolicyClaimOut(Schema):
    wishes: dict[str, PolicyWishOut]
    least: int
    silent: str


class PolicyOtherOut(Schema):
    name: str
    bot: bool = Field(description="Played by the solver-bot, which says the truth and accepts what keeps its least.")
    done: bool = Field(description="Has spoken in this round.")


class PolicyChoiceOut(Schema):
    switch: str
    proposal: str
    you_give_up: int = Field(description="Millionths of what you claimed.")
    choices: list[str] = Field(description="What a counter may suggest.")


class PolicyGainOut(Schema):
    name: str
    gain_percent: int | None


class PolicyProposalOut(Schema):
    k: int
    rows: list[PolicyChoiceOut]
    view: dict[str, str] = Field(description="All settings of the game as they are proposed for you.")
    true_points: Points
    kept_points: float = Field(description="Of 1000, by what you claimed.")
    gain_percent: int
    breaks: bool = Field(description="It breaks a must of your true wishes.")
    others: list[PolicyGainOut]
    answer: str = Field(description="Your answer: accepted, rejected or waiting.")


class PolicySeatOut(Schema):
    """Your seat. Nothing here is another's."""

    table: int
    number: int
    tenant: str
    says: str
    truth: PolicyClaimOut
    phase: str
    declaration: int
    used: int
    rounds: int
    deadline_at: str | None
    others: list[PolicyOtherOut]
    claim: PolicyClaimOut | None = Field(description="What you have said in this declaration; null: nothing yet.")
    proposal: PolicyProposalOut | None
    answered: dict[str, Any] | None = Field(description="What you have answered to the proposal.")
    ending: str = Field(description="Why the last negotiation came to nothing: clash, silence, final, rounds, time.")


class PolicyGameOut(Schema):
    title: str
    says: str
    settings: list[PolicySettingOut]
    tenants: list[str]
    rounds: int
    minutes: int
    points: str
    game: int | None = Field(description="The newest game; null: none was opened.")
    state: str = Field(description="seating, playing, over; empty: none was opened.")
    seat: PolicySeatOut | None


class PolicyDeskSeatOut(Schema):
    tenant: str
    nickname: str = Field(description="Empty: the solver-bot.")
    done: bool


class PolicyDeskTableOut(Schema):
    id: int
    number: int
    phase: str
    used: int
    marker: str = Field(description="Names the round that is open; empty: none is.")
    settled: bool
    ending: str
    seats: list[PolicyDeskSeatOut]


class PolicyDeskOut(Schema):
    game: int
    state: str
    tables: list[PolicyDeskTableOut]


class PolicyTableOut(Schema):
    table: int
    number: int
    phase: str
    ending: str
    seat: PolicySeatOut | None
    reveal: dict[str, Any] | None = Field(
        description="Both settlements, all wishes and claims, and what lies would have brought. Players read it when "
        "the game is over, teachers when the table is."
    )


class PolicyWishIn(Strict):
    value: Word
    strength: Literal["must", "prefer"] = "prefer"
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


EXAMPLE: Any = {"declaration": 1, "wishes": {"smt": {"value": "off", "strength": "prefer", "weight": 3}}, "least": 200}


class PolicyClaimIn(Strict):
    """What you say that you want. The first claim of a declaration stands."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [EXAMPLE]})
    declaration: Annotated[int, Field(ge=1, le=100)]
    wishes: Annotated[dict[Word, PolicyWishIn], Field(max_length=policy_game.MOST_SETTINGS)]
    least: Annotated[int, Field(ge=0, le=1000)] = 0
    silent: Literal["accept", "reject"] = "accept"


class PolicyAnswerIn(Strict):
    """accept; or reject and counter with a reason: veto:SETTING, floor:POINTS, more, final."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"declaration": 1, "proposal": 1, "answer": "accept"}]}
    )
    declaration: Annotated[int, Field(ge=1, le=100)]
    proposal: Annotated[int, Field(ge=1, le=100)]
    answer: Literal["accept", "reject", "counter"]
    reason: Annotated[str, Field(max_length=60)] = ""
    suggestion: Annotated[dict[Word, Word], Field(max_length=policy_game.MOST_SETTINGS)] = {}


class PolicyStateIn(Strict):
    """begin, end, seats for everybody, or rounds to close: by table the marker that the desk told."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"act": "begin"}]})
    act: Literal["begin", "end", "seat-all", "close"]
    rounds: Annotated[dict[Annotated[str, Field(pattern="^[0-9]{1,15}$")], Word], Field(max_length=200)] = {}


def game_shown(item: Item, member: Member) -> dict[str, Any]:
    about = policy_pages.about(item)
    read = policy_play.definition(item)
    game = policy_play.newest(item=item)
    seat = policy_play.seat_of(game=game, member=member) if game else None
    return {
        **about,
        "settings": [{**row, "values": read.values(row["switch"])} for row in about["settings"]],
        "game": game.pk if game else None,
        "state": game.state if game else "",
        "seat": seat_shown(game, seat) if game and seat else None,
    }


def seat_shown(game: PolicyGame, seat: PolicySeat) -> dict[str, Any]:
    """What the page shows of a seat, in the names of documents."""
    shown = policy_pages.player(game, seat)
    proposal = shown["proposal"]
    if proposal:
        rows = [{**row, "choices": [each["name"] for each in row["choices"]]} for row in proposal["rows"]]
        proposal = {**proposal, "rows": rows}
    truth = policy_table.truth(policy_game.read(game.text), seat.tenant)
    deadline = shown["deadline"]
    return {
        **shown,
        "truth": truth,
        "deadline_at": deadline.isoformat() if deadline else None,
        "proposal": proposal,
        "answered": shown["answer"],
    }


def table_shown(table: PolicyTable, seat: PolicySeat | None) -> dict[str, Any]:
    open_ = seat is None or table.game.ended_at is not None
    plain = {name: getattr(table, name) for name in ("number", "phase", "ending")}
    return {
        **plain,
        "table": table.pk,
        "seat": seat_shown(table.game, seat) if seat else None,
        "reveal": table.result if open_ and table.result else None,
    }


@router.get("/items/{int:pk}/game", response=PolicyGameOut)
def game_get(request: HttpRequest, pk: Number) -> Any:
    """The game as everybody may read it, and your seat in the newest one with what you may see there."""
    item, member = selectors.item_get(user=request.user, pk=pk)
    return game_shown(item, member)


@router.post("/items/{int:pk}/game", response={201: PolicyDeskOut})
def game_open(request: HttpRequest, pk: Number) -> Any:
    """Open a game of this item, or get the one that is open. Teachers of the course only."""
    user: Any = request.user
    item, _member = selectors.item_get(user=user, pk=pk)
    return Status(201, policy_pages.desk(policy_play.game_open(by=user, item=item)))


@router.post("/items/{int:pk}/game/seat", response={201: PolicyGameOut})
def game_seat(request: HttpRequest, pk: Number) -> Any:
    """A seat in the open game, given by lot; asked for again it is the same."""
    item, member = selectors.item_get(user=request.user, pk=pk)
    policy_play.seat_take(game=policy_play.open_game(item=item), member=member)
    return Status(201, game_shown(item, member))


@router.get("/games/{int:pk}", response=PolicyDeskOut)
def game_desk(request: HttpRequest, pk: Number) -> Any:
    """The teacher's view: tables, who sits there, who has spoken. Nobody's wishes or claims."""
    return policy_pages.desk(policy_play.game_get(user=request.user, pk=pk))


@router.post("/games/{int:pk}/state", response=PolicyDeskOut)
def game_change(request: HttpRequest, pk: Number, body: PolicyStateIn) -> Any:
    """Begin, close rounds, give everybody a seat, end. A round that is over already is left alone."""
    user: Any = request.user
    game = policy_play.game_get(user=user, pk=pk)
    if body.act == "begin":
        policy_play.game_begin(by=user, game=game)
    elif body.act == "end":
        policy_play.game_end(by=user, game=game)
    elif body.act == "seat-all":
        policy_play.seat_all(by=user, game=game)
    else:
        policy_play.round_close(by=user, game=game, rounds={int(pk): mark for pk, mark in body.rounds.items()})
    return policy_pages.desk(policy_play.game_get(user=user, pk=pk))


@router.get("/tables/{int:pk}", response=PolicyTableOut)
def table_get(request: HttpRequest, pk: Number) -> Any:
    """A table at which you sit, or one of your course; when it is revealed, everything."""
    return table_shown(*policy_play.table_get(user=request.user, pk=pk))


@router.post("/tables/{int:pk}/claim", response=PolicyTableOut)
def table_claim(request: HttpRequest, pk: Number, body: PolicyClaimIn) -> Any:
    """Say what you want. It need not be the truth."""
    seat = policy_play.own_seat(user=request.user, pk=pk)
    claim = body.dict()
    policy_play.claim_put(seat=seat, declaration=claim.pop("declaration"), claim=claim)
    return table_shown(*policy_play.table_get(user=request.user, pk=pk))


@router.post("/tables/{int:pk}/answer", response=PolicyTableOut)
def table_answer(request: HttpRequest, pk: Number, body: PolicyAnswerIn) -> Any:
    """Accept the proposal, or object with a reason, with or without something else that you suggest."""
    seat = policy_play.own_seat(user=request.user, pk=pk)
    answer = body.dict()
    at = {name: answer.pop(name) for name in ("declaration", "proposal")}
    policy_play.answer_put(seat=seat, answer=answer, **at)
    return table_shown(*policy_play.table_get(user=request.user, pk=pk))
