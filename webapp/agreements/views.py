"""The negotiation room, the operator's view of it, and the lists of conflicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.agreements import ladder, selectors, services, stakeholders
from webapp.agreements.models import Negotiation
from webapp.agreements.replies import per_mille
from webapp.agreements.room import Room
from webapp.agreements.stakeholders import Picture
from webapp.agreements.wording import rung_words, switch_label, switch_of_form
from webapp.errors import BadInput, VpmsError
from webapp.fleet.selectors import host_get
from webapp.roles import operator_required, tenant_required
from webapp.tenants.selectors import missing
from webapp.typed import SESSION_KEY, typed_for
from webapp.vpms.vocabulary import SWITCHES

NEWEST = 100
SUGGEST = "suggest-"  # begins the names of the form's fields for a counter


def conflict_list(request: HttpRequest, area: str) -> HttpResponse:
    """Conflicts that concern the person, open ones first choice, each with its evidence."""
    user: Any = request.user
    everything = request.GET.get("show") == "all"
    found = selectors.conflicts_of(user=user, open_only=not everything)
    rows = selectors.conflicts_shown(user=user, conflicts=found[:NEWEST])
    return render(request, "agreements/conflicts.html", {"area": area, "rows": rows, "everything": everything})


@tenant_required
@require_GET
def tenant_conflicts(request: HttpRequest) -> HttpResponse:
    return conflict_list(request, "tenant")


@operator_required
@require_GET
def operator_conflicts(request: HttpRequest) -> HttpResponse:
    return conflict_list(request, "operator")


def goals_page(request: HttpRequest, area: str, picture: Picture) -> HttpResponse:
    return render(request, "agreements/goals.html", {"area": area, "picture": picture, "host": picture.host})


@tenant_required
@require_GET
def tenant_goals(request: HttpRequest, name: str) -> HttpResponse:
    """Who wants what on the host, as far as the person may know it."""
    user: Any = request.user
    host = host_get(user=user, name=name)
    return goals_page(request, "tenant", stakeholders.tenant_picture(user=user, host=host))


@operator_required
@require_GET
def operator_goals(request: HttpRequest, name: str) -> HttpResponse:
    user: Any = request.user
    host = host_get(user=user, name=name)
    return goals_page(request, "operator", stakeholders.operator_picture(user=user, host=host))


def page(request: HttpRequest, room: Room, *, mediator: bool, status: int = 200, **more: Any) -> HttpResponse:
    user: Any = request.user
    asker = room.vm == room.negotiation.requester.name
    context = {
        "negotiation": room.negotiation,
        "room": room,
        "steps": ladder.steps_shown(room.negotiation) if asker else [],
        "under_way": ladder.under_way(room.negotiation) if asker else [],
        "own_part": [switch_of_form(name) for name in room.own_part],
        "mediator": mediator,
        "history": selectors.history_of(user=user, negotiation=room.negotiation),
        **more,
    }
    return render(request, "agreements/room.html", context, status=status)


@tenant_required
@require_GET
def room(request: HttpRequest, pk: int) -> HttpResponse:
    """The negotiation as the person's VM sees it."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    found = selectors.room_of(user=user, negotiation=negotiation, vm=request.GET.get("vm", ""))
    return page(request, found, mediator=False, **carried(request, found))


def carried(request: HttpRequest, found: Room) -> dict[str, Any]:
    """What fills the form of the answer on opening: what was typed before the sign-in ended, or an option chosen."""
    typed = typed_for(request)
    if typed is not None and typed.get("vm", found.vm) == found.vm:
        reply = Reply(typed)
        return {"typed": reply, "carried": True, "typed_other": reply.round not in (-1, found.negotiation.round)}
    chosen = Reply(request.GET)
    return {"typed": chosen} if chosen.suggestion else {}


@operator_required
@require_GET
def operator_room(request: HttpRequest, pk: int) -> HttpResponse:
    """The same for the mediator: to read, not to answer."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    return page(request, selectors.mediator_room_of(user=user, negotiation=negotiation), mediator=True)


class Reply:
    """What the form of an answer held: kept, so that a refusal or a preview shows it again."""

    def __init__(self, post: Mapping[str, str]) -> None:
        self.choice = post.get("answer", "")
        self.reason, self.minimum = post.get("reason", ""), post.get("minimum", "")
        self.suggestion = {
            key.removeprefix(SUGGEST): value for key, value in post.items() if key.startswith(SUGGEST) and value
        }
        self.round, self.version = number(post.get("round", "")), number(post.get("version", ""))
        self.percent = post.get("percent", "")

    @property
    def stated(self) -> str:
        """The reason as the services take it: a minimum in points of 1000."""
        return f"floor:{per_mille(self.minimum)}" if self.reason == "minimum" else self.reason

    def send(self, **to: Any) -> None:
        """Accept, reject or counter; BadInput when it is none of them."""
        if self.choice not in ("accept", "reject", "counter"):
            raise VpmsError("bad_input", 422, message="answer: must be accept, reject or counter.")
        services.answer(
            **to,
            round=self.round,
            version=self.version,
            accept=self.choice == "accept",
            reason="" if self.choice == "accept" else self.stated,
            suggestion=self.suggestion if self.choice == "counter" else None,
        )

    def preview(self, **to: Any) -> dict[str, str]:
        return services.counter_preview(
            **to, round=self.round, version=self.version, reason=self.stated, suggestion=self.suggestion
        )


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Accept, reject or counter exactly the proposal that was on the page; otherwise 409 with what is different now.
    Whoever comes to this address without an answer (a reload after a refusal) is shown the room."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    if request.method != "POST":
        return returned(request, negotiation)
    name = request.POST.get("vm", "")
    found = selectors.room_of(user=user, negotiation=negotiation, vm=name)
    seat = next((seat for seat in found.seats if seat.vm.name == name), None)
    if seat is None:
        raise missing()
    reply = Reply(request.POST)
    try:
        if reply.choice == "preview":
            changes = reply.preview(by=user, negotiation=negotiation, vm=seat.vm)
            return page(request, found, mediator=False, typed=reply, preview=found.preview(changes))
        reply.send(by=user, negotiation=negotiation, vm=seat.vm)
    except VpmsError as refused:
        if refused.http_status == 404:
            raise
        now = selectors.room_of(user=user, negotiation=selectors.negotiation_get(user=user, pk=pk), vm=name)
        return page(request, now, mediator=False, status=refused.http_status, typed=reply, **told_of(refused))
    said = {"accept": "acceptance", "counter": "counter"}.get(reply.choice, "rejection")
    messages.success(request, f"Your {said} of proposal {reply.round} for {name} is recorded.")
    return redirect(f"{reverse('negotiation', args=[pk])}?vm={name}")


def returned(request: HttpRequest, negotiation: Negotiation) -> HttpResponse:
    """The room at the address of its form: filled again if the sign-in had ended there; otherwise the room itself."""
    typed = request.session.get(SESSION_KEY)
    if not typed or urlsplit(typed["page"]).path != request.path:
        return redirect("negotiation", pk=negotiation.pk)
    user: Any = request.user
    found = selectors.room_of(user=user, negotiation=negotiation, vm="".join(typed["fields"].get("vm", [])[:1]))
    return page(request, found, mediator=False, **carried(request, found))


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def auto_accept(request: HttpRequest, pk: int) -> HttpResponse:
    """What keeps the VM's musts and so much of its wishes is accepted for it in this negotiation, until taken back."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    if request.method != "POST":
        return returned(request, negotiation)
    name = request.POST.get("vm", "")
    found = selectors.room_of(user=user, negotiation=negotiation, vm=name)
    seat = next((seat for seat in found.seats if seat.vm.name == name), None)
    if seat is None:
        raise missing()
    reply, revoked = Reply(request.POST), request.POST.get("act") == "revoke"
    try:
        after = services.auto_accept(
            by=user,
            negotiation=negotiation,
            vm=seat.vm,
            floor=None if revoked else floor_typed(reply.percent),
            round=reply.round,
            version=reply.version,
        )
    except VpmsError as refused:
        if refused.http_status == 404:
            raise
        now = selectors.room_of(user=user, negotiation=selectors.negotiation_get(user=user, pk=pk), vm=name)
        return page(request, now, mediator=False, status=refused.http_status, typed=reply, **told_of(refused))
    if revoked:
        words = _("You are asked again about every proposal for %(vm)s.")
    elif after.protocol["answers"].get(name, {}).get("bound"):
        words = _("The proposal on the table keeps what you set, so it is accepted for %(vm)s.")
    else:
        words = _("Recorded. You are asked about what keeps less for %(vm)s.")
    messages.success(request, words % {"vm": name})
    return redirect(f"{reverse('negotiation', args=[pk])}?vm={name}")


def floor_typed(text: str) -> int:
    """Percent with at most one decimal, as people write it, in points of 1000; what is none fits no floor."""
    return number(per_mille(text))


def told_of(refused: VpmsError) -> dict[str, Any]:
    """A refusal as the page shows it: what has changed, or what is wrong, by field."""
    if refused.code == "outdated":
        return {"outdated": refused.data["difference"]}
    if not isinstance(refused, BadInput):
        return {"refused": refused.message}
    told = {fault.path.removeprefix("$."): fault.reason for fault in reversed(refused.faults)}
    return {"faults": {field: f"{field_words(field)} {reason}." for field, reason in told.items()}}


def field_words(field: str) -> str:
    """A field of the answer as the beginning of a sentence."""
    name, _, setting = field.partition(".")
    words = {
        "reason": "The reason",
        "minimum": "The minimum",
        "suggestion": "Your suggestion",
        "floor": "The percentage",
    }.get(name, field)
    return f"{words} for “{switch_label(setting)}”" if setting in SWITCHES else words


@tenant_required
@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """The requester gives up the start."""
    user: Any = request.user
    services.withdraw(by=user, negotiation=selectors.negotiation_get(user=user, pk=pk))
    messages.success(request, "The start is withdrawn. Nobody else is touched.")
    return redirect("negotiation", pk=pk)


@tenant_required
@require_POST
def step(request: HttpRequest, pk: int) -> HttpResponse:
    """What the one who wanted to start chooses after no agreement."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    post = request.POST
    rung = ladder.choose(
        by=user,
        negotiation=negotiation,
        step=post.get("step", ""),
        host=post.get("host", ""),
        minutes=post.get("minutes", ""),
    )
    messages.success(request, rung_words(rung))
    return redirect("negotiation", pk=rung.next_id or pk)


@tenant_required
@require_POST
def move_answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Whether a running VM of the person's would move; nothing but a yes moves anything."""
    user: Any = request.user
    rung = next((rung for rung in ladder.questions_to(user) if rung.pk == pk), None)
    if rung is None:
        raise missing()
    after = ladder.move_answer(by=user, rung=rung, consent=request.POST.get("answer") == "agree")
    if after.next_id:
        messages.success(
            request, f"{rung.vm.name} runs on where it is while its place on the other host is negotiated."
        )
        return redirect("negotiation", pk=after.next_id)
    messages.success(request, f"{rung.vm.name} stays where it is.")
    return redirect("my-vms")


def number(text: str) -> int:
    """A whole number that a form sends; -1 for anything else, which fits no round and no version."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else -1
