"""The negotiation room, the operator's view of it, and the lists of conflicts."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.agreements import selectors, services
from webapp.agreements.room import Room
from webapp.errors import VpmsError
from webapp.roles import operator_required, tenant_required
from webapp.tenants.selectors import missing

NEWEST = 100


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


def page(request: HttpRequest, room: Room, *, mediator: bool, status: int = 200, **more: Any) -> HttpResponse:
    user: Any = request.user
    context = {
        "negotiation": room.negotiation,
        "room": room,
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
    return page(request, found, mediator=False)


@operator_required
@require_GET
def operator_room(request: HttpRequest, pk: int) -> HttpResponse:
    """The same for the mediator: to read, not to answer."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    return page(request, selectors.mediator_room_of(user=user, negotiation=negotiation), mediator=True)


@tenant_required
@require_http_methods(["GET", "HEAD", "POST"])
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """Accept or reject exactly the proposal that was on the page; otherwise 409 with what is different now. Whoever
    comes to this address without an answer (a reload after a refusal) is shown the room."""
    user: Any = request.user
    negotiation = selectors.negotiation_get(user=user, pk=pk)
    if request.method != "POST":
        return redirect("negotiation", pk=pk)
    post = request.POST
    name = post.get("vm", "")
    found = selectors.room_of(user=user, negotiation=negotiation, vm=name)
    seat = next((seat for seat in found.seats if seat.vm.name == name), None)
    if seat is None:
        raise missing()
    accept = post.get("answer") == "accept"
    try:
        if not accept and post.get("answer") != "reject":
            raise VpmsError("bad_input", 422, message="answer: must be accept or reject.")
        services.answer(
            by=user,
            negotiation=negotiation,
            vm=seat.vm,
            round=number(post.get("round", "")),
            version=number(post.get("version", "")),
            accept=accept,
            reason="" if accept else post.get("reason", ""),
        )
    except VpmsError as refused:
        if refused.http_status == 404:
            raise
        now = selectors.room_of(user=user, negotiation=selectors.negotiation_get(user=user, pk=pk), vm=name)
        told = {"outdated": refused.data["difference"]} if refused.code == "outdated" else {"refused": refused.message}
        return page(request, now, mediator=False, status=refused.http_status, typed_reason=post.get("reason"), **told)
    messages.success(request, f"Your answer for {name} is recorded.")
    return redirect(f"{reverse('negotiation', args=[pk])}?vm={name}")


@tenant_required
@require_POST
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """The requester gives up the start."""
    user: Any = request.user
    services.withdraw(by=user, negotiation=selectors.negotiation_get(user=user, pk=pk))
    messages.success(request, "The start is withdrawn. Nobody else is touched.")
    return redirect("negotiation", pk=pk)


def number(text: str) -> int:
    """A whole number that a form sends; -1 for anything else, which fits no round and no version."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else -1
