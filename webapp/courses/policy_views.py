"""Pages of policy games: the item (a player's table, or the teacher's desk), one table's end, the projector's page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from webapp.agreements.replies import per_mille
from webapp.courses import policy_game, policy_pages, policy_play, selectors
from webapp.courses.kinds import Kind, Shipped
from webapp.courses.models import Item, Member, PolicyGame, PolicySeat
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import only_reads, read_only, signed_in_required

SUGGEST: Final = "suggest-"


def page(request: HttpRequest, item: Item, member: Member, status: int = 200, **more: Any) -> HttpResponse:
    context = {**policy_pages.context(item, member), **more}
    if "typed_claim" in more and context.get("seat"):
        game = policy_game.read(context["game"].text)
        context["seat"]["form"] = policy_pages.claim_form(game, context["seat"]["tenant"], more["typed_claim"])
    return render(request, "courses/policy.html", context, status=status)


KIND: Final = Kind(
    name=policy_play.KIND,
    label=gettext_lazy("Policy game"),
    says=gettext_lazy("Students play tenants with secret wishes; the solver's settlement is shown beside theirs."),
    read=policy_game.read,
    page=page,
    blank=policy_game.shipped()[0][1],
    grade=policy_play.kind_grade,
    shipped=lambda language: [
        Shipped(name, policy_game.read(text).title, text) for name, text in policy_game.shipped(language)
    ],
    points=10,
)


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1


@require_POST
@signed_in_required
def item_act(request: HttpRequest, pk: int) -> HttpResponse:
    """The teacher opens a game; a student takes a seat in the one that is open."""
    user: Any = request.user
    if only_reads(user):
        raise read_only()
    item, member = selectors.item_get(user=user, pk=pk)
    policy_play.definition(item)
    act = request.POST.get("act", "")
    if act == "open":
        policy_play.game_open(by=user, item=item)
    elif act == "seat":
        policy_play.seat_take(game=policy_play.open_game(item=item), member=member)
    else:
        raise BadInput([Fault("$.act", _("must be open or seat"))])
    return redirect("course-item", item.pk)


def _closed(user: Any, game: PolicyGame, request: HttpRequest) -> None:
    """Rounds by table and marker, as the page named them: `12:1.0`."""
    rounds = {}
    for text in request.POST.getlist("round"):
        table, _colon, marker = text.partition(":")
        if table.isascii() and table.isdecimal() and len(table) < 16:
            rounds[int(table)] = marker[:12]
    policy_play.round_close(by=user, game=game, rounds=rounds)


ACTS: Final[dict[str, Callable[[Any, PolicyGame, HttpRequest], Any]]] = {
    "seat-all": lambda user, game, _request: policy_play.seat_all(by=user, game=game),
    "begin": lambda user, game, _request: policy_play.game_begin(by=user, game=game),
    "close": _closed,
    "end": lambda user, game, _request: policy_play.game_end(by=user, game=game),
}


@require_POST
@signed_in_required
def game_act(request: HttpRequest, pk: int) -> HttpResponse:
    """The desk: seats for everybody, begin, close rounds, end."""
    game = policy_play.game_get(user=request.user, pk=pk)
    act = request.POST.get("act", "")
    if act not in ACTS:
        raise BadInput([Fault("$.act", f"must be one of {', '.join(ACTS)}")])
    try:
        ACTS[act](request.user, game, request)
    except VpmsError as refused:
        if refused.http_status in (403, 404):
            raise
        messages.warning(request, refused.message)
    return redirect("course-item", game.item_id)


@require_GET
@signed_in_required
def wall(request: HttpRequest, pk: int) -> HttpResponse:
    """For the projector: which tables have spoken; when the game is over, all tables beside the solver."""
    game = policy_play.game_get(user=request.user, pk=pk)
    context = {
        "item": game.item,
        "game": game,
        "desk": policy_pages.desk(game),
        "about": policy_pages.about(game.item),
        "topic": policy_play.desk_topic(game.item_id),
        "seq": policy_play.desk_until(game=game),
    }
    return render(request, "courses/policy_wall.html", context)


@require_GET
@signed_in_required
def table(request: HttpRequest, pk: int) -> HttpResponse:
    """What a table came to: to who sat there when the game is over, to the teacher when the table is."""
    found, seat = policy_play.table_get(user=request.user, pk=pk)
    if seat is not None and found.game.ended_at is None:
        return redirect("course-item", found.game.item_id)
    context = {
        "item": found.game.item,
        "table": found,
        "seat": seat,
        "reveal": policy_pages.revealed(found.game, found),
        "topic": policy_play.topic(found.game.item_id, seat.member_id or 0) if seat else "",
        "seq": policy_play.seen_until(game=found.game, table=found),
    }
    return render(request, "courses/policy_table.html", context)


# -- what players say


@require_POST
@signed_in_required
def claim(request: HttpRequest, pk: int) -> HttpResponse:
    seat = _seat(request, pk)
    declaration = _number(request, "declaration")
    typed = claim_typed(request, seat)
    try:
        policy_play.claim_put(seat=seat, declaration=declaration, claim=typed)
    except VpmsError as refused:
        return _refused(request, seat, refused, {"typed_claim": claim_typed(request, seat, plain=True)})
    return redirect(f"{reverse('course-item', args=[seat.game.item_id])}#round")


def claim_typed(request: HttpRequest, seat: PolicySeat, *, plain: bool = False) -> dict[str, Any]:
    """The claim as the form has it; a setting without a value is left out. `plain`: whole, numbers as typed."""

    def number(name: str) -> Any:
        return request.POST.get(name, "")[:10] if plain else _number(request, name)

    wishes = {}
    for setting in policy_game.read(seat.game.text).settings:
        value = request.POST.get(f"value-{setting}", "")[:40]
        if value or plain:
            strength = "must" if request.POST.get(f"must-{setting}") else "prefer"
            wishes[setting] = {"value": value, "strength": strength, "weight": number(f"weight-{setting}")}
    return {"wishes": wishes, "least": number("least"), "silent": request.POST.get("silent", "")[:12]}


@require_POST
@signed_in_required
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    seat = _seat(request, pk)
    given = {
        "answer": request.POST.get("answer", ""),
        "reason": reason_typed(request),
        "suggestion": {
            name.removeprefix(SUGGEST): str(value)[:40]
            for name, value in request.POST.items()
            if name.startswith(SUGGEST) and value
        },
    }
    if given["answer"] == "object":
        given["answer"] = "counter" if given["suggestion"] else "reject"
    at = {"declaration": _number(request, "declaration"), "proposal": _number(request, "proposal")}
    try:
        policy_play.answer_put(seat=seat, answer=given, **at)
    except VpmsError as refused:
        typed = {**given, "minimum": request.POST.get("minimum", "")[:10], "reason": request.POST.get("reason", "")}
        return _refused(request, seat, refused, {"typed_answer": typed})
    return redirect(f"{reverse('course-item', args=[seat.game.item_id])}#round")


def reason_typed(request: HttpRequest) -> str:
    """The reason as the language has it: a minimum in points of 1000."""
    reason = request.POST.get("reason", "")[:60]
    return f"floor:{per_mille(request.POST.get('minimum', ''))}" if reason == "minimum" else reason


def _seat(request: HttpRequest, pk: int) -> PolicySeat:
    if only_reads(request.user):
        raise read_only()
    return policy_play.own_seat(user=request.user, pk=pk)


def _refused(request: HttpRequest, seat: PolicySeat, refused: VpmsError, typed: dict[str, Any]) -> HttpResponse:
    """The page again, with what was typed and why it cannot be taken."""
    if refused.http_status in (403, 404):
        raise refused
    faults = refused.faults if isinstance(refused, BadInput) else [Fault("$", refused.message)]
    assert seat.member is not None
    return page(request, seat.game.item, seat.member, refused.http_status, faults=faults, **typed)
