"""Pages of a class in session: coming in by its code, the student's page, the teacher's desk, the projector's page."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import qrcode
import qrcode.image.svg
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp.accounts import entering
from webapp.courses import class_stage, classes, selectors, spotlight
from webapp.courses.models import ClassSession, Item, Seat
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import only_reads, read_only, signed_in_required

WORD: Final = "class_word"  # of the session: the guest's word, shown once on the page of the class
LOCAL: Final = ("127.0.0.1", "localhost", "[::1]", "::1")


def wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept") == "application/json"


# -- coming in


@require_http_methods(["GET", "POST"])
def join(request: HttpRequest, code: str = "") -> HttpResponse:
    """By code and nickname, with or without an account; a guest comes back by the word."""
    form = {"code": code, "nickname": "", "word": ""}
    faults: list[Fault] = []
    try:
        if request.method == "POST":
            form = {name: request.POST.get(name, "").strip()[:60] for name in form}
            return _joined(request, form)
        if code:  # a link with a code that is none says so at once, and counts as a guess
            form["code"] = _session(request, code).code
    except BadInput as refused:
        faults = refused.faults
        form["code"] = form["code"] if request.method == "POST" else ""
    if request.method == "GET" and request.user.is_authenticated:
        form["nickname"] = request.user.username if not getattr(request.user, "guest", False) else ""
    context = {"form": form, "faults": {fault.path.removeprefix("$."): fault.reason for fault in faults}}
    return render(request, "courses/join.html", context, status=422 if faults else 200)


def _joined(request: HttpRequest, form: dict[str, str]) -> HttpResponse:
    user: Any = request.user
    if user.is_authenticated and only_reads(user):
        raise read_only()
    session = _session(request, form["code"])
    at = reverse("class", args=[session.code])
    if form["word"]:
        return entering.enter(request, classes.seat_again(session=session, **_again(form)), next=at)
    person = user if user.is_authenticated else None
    seat, word = classes.seat_take(session=session, user=person, nickname=form["nickname"])
    if person is not None:
        return redirect(at)
    answer = entering.enter(request, seat.member.user, next=at)
    request.session[WORD] = word
    return answer


def _again(form: dict[str, str]) -> dict[str, str]:
    return {"nickname": form["nickname"], "word": form["word"]}


def _session(request: HttpRequest, code: str) -> ClassSession:
    """The open class; BadInput beside the field for a code that is none, counted against guessing."""
    address = request.META.get("REMOTE_ADDR", "")
    classes.guess_checked(address)
    try:
        return classes.session_counted(code=code, address=address)
    except VpmsError:
        raise BadInput([Fault("$.code", _("is no code of a class that is open now"))]) from None


# -- the student's page


@require_GET
@signed_in_required
def show(request: HttpRequest, code: str) -> HttpResponse:
    """What the class sees now. Who comes by the link without a seat is asked for a nickname."""
    try:
        seat = classes.seat_of(user=request.user, code=code)
    except VpmsError:
        session = classes.session_get(code=code)
        teaches = session.course.members.filter(user=request.user, role="teacher", left_at=None).exists()  # type: ignore[misc]
        return redirect("class-desk", session.code) if teaches else redirect("join-code", session.code)
    session = seat.session
    context = {
        **class_stage.stage(session),
        "seat": seat,
        "word": request.session.pop(WORD, ""),
        "chosen": classes.mine(seat=seat, session=session),
        "topic": classes.topic(session.code),
        "asked_of_me": spotlight.asked_of(seat),
        "seat_seq": spotlight.number_of(seat.pk),
        "items": selectors.items_of(member=seat.member),
    }
    return render(request, "courses/class.html", context)


def _seat(request: HttpRequest, code: str) -> Seat:
    if only_reads(request.user):
        raise read_only()
    return classes.seat_of(user=request.user, code=code)


@require_POST
@signed_in_required
def answer(request: HttpRequest, code: str) -> HttpResponse:
    seat = _seat(request, code)
    try:
        given = classes.answer(seat=seat, choice=request.POST.get("choice", ""))
    except VpmsError as refused:
        if wants_json(request):
            return JsonResponse({"message": refused.message}, status=refused.http_status)
        messages.warning(request, refused.message)
        return redirect("class", seat.session.code)
    if wants_json(request):
        return JsonResponse({"number": given.number, "choice": given.choice})
    return redirect("class", seat.session.code)


@require_POST
@signed_in_required
def seat_act(request: HttpRequest, code: str) -> HttpResponse:
    """Follow or not; on the scoreboard or not."""
    seat = _seat(request, code)
    act = request.POST.get("act", "")
    if act in ("follow", "detach"):
        classes.seat_follow(seat=seat, following=act == "follow")
    elif act in ("board", "no-board"):
        classes.seat_board(seat=seat, on=act == "board")
    else:
        raise BadInput([Fault("$.act", _("must be follow, detach, board or no-board"))])
    return HttpResponse(status=204) if wants_json(request) else redirect("class", seat.session.code)


@require_POST
@signed_in_required
def spotlight_act(request: HttpRequest, code: str) -> HttpResponse:
    """Let the class see the attack that the teacher asked for, or not now; take it off the screens again."""
    seat = _seat(request, code)
    act = request.POST.get("act", "")
    if act in ("agree", "agree-named"):
        spotlight.agree(seat=seat, named=act == "agree-named")
    elif act == "decline":
        spotlight.decline(seat=seat)
    elif act == "end":
        spotlight.end(seat=seat)
    else:
        raise BadInput([Fault("$.act", _("must be agree, agree-named, decline or end"))])
    return redirect("class", seat.session.code)


# -- the teacher's desk


@require_POST
@signed_in_required
def open_course(request: HttpRequest, pk: int) -> HttpResponse:
    user: Any = request.user
    session = classes.class_open(by=user, course=selectors.course_get(user=user, pk=pk))
    return redirect("class-desk", session.code)


@require_POST
@signed_in_required
def open_lesson(request: HttpRequest, name: str) -> HttpResponse:
    """A class about a shipped lesson in one go."""
    user: Any = request.user
    if only_reads(user):
        raise read_only()
    session = classes.class_of_lesson(by=user, name=name, language=get_language() or "en")
    return redirect("class-desk", session.code)


@require_GET
@signed_in_required
def desk(request: HttpRequest, code: str) -> HttpResponse:
    session = classes.of_teacher(user=request.user, code=code)
    items = list(Item.objects.filter(course=session.course))
    counted = classes.counts(session=session)
    asked = session.question if session.question.get("text") else None
    context = {
        **class_stage.stage(session),
        **invitation(request, session),
        "outline": class_stage.outline(items),
        "seats": classes.seats(session=session),
        "wish": spotlight.wish_of(session=session, user=request.user),
        "topic": f"{classes.topic(session.code)}/desk",
        "seq": session.version + session.desk_version,
        "asked": asked,
        "counted": [{**each, "count": counted[each["name"]]} for each in asked["choices"]] if asked else [],
        "answers": sum(counted.values()),
        "cursor": session.cursor,
        "steps": _steps(session),
    }
    return render(request, "courses/desk.html", context)


def _steps(session: ClassSession) -> dict[str, Any] | None:
    """Where the buttons of the shown view lead."""
    cursor = session.cursor
    item = Item.objects.filter(pk=cursor["item"]).first() if cursor.get("kind") == "view" else None
    part = class_stage.view_of(class_stage.lessons.known(item.text), cursor["view"]) if item else None
    if part is None or len(part.view.numbers) < 2:
        return None
    numbers = part.view.numbers
    place = max((n for n, number in enumerate(numbers) if number <= cursor["step"]), default=0)
    return {
        "item": cursor["item"],
        "view": cursor["view"],
        "at": numbers[place],
        "back": numbers[max(0, place - 1)],
        "on": numbers[min(place + 1, len(numbers) - 1)],
        "last": numbers[-1],
    }


def invitation(request: HttpRequest, session: ClassSession) -> dict[str, Any]:
    """Where to come in; the picture of it only if others can reach the address (on loopback nobody else can)."""
    at = request.build_absolute_uri(reverse("join-code", args=[session.code]))
    host = request.get_host().rsplit(":", 1)[0]
    reached = host not in LOCAL and host in settings.ALLOWED_HOSTS
    return {"join_at": at, "join_short": at.split("//", 1)[-1], "qr": picture(at) if reached else ""}


def picture(text: str) -> SafeString:
    """The text as a QR code, drawn as SVG."""
    out = io.BytesIO()
    qrcode.make(text, image_factory=qrcode.image.svg.SvgPathImage, box_size=12, border=2).save(out)
    drawn = out.getvalue().decode()
    return mark_safe(drawn[drawn.index("<svg") :])


def _number(request: HttpRequest, name: str) -> int:
    text = request.POST.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise BadInput([Fault(f"$.{name}", _("must be a whole number"))])
    return int(text)


def _show(user: Any, session: ClassSession, request: HttpRequest) -> None:
    cursor: dict[str, Any] = {"kind": request.POST.get("kind", ""), "item": _number(request, "item")}
    names = {"section": ("section",), "view": ("view", "step")}.get(cursor["kind"], ())
    cursor.update({name: _number(request, name) for name in names})
    classes.show(by=user, session=session, cursor=cursor)


def _ask(user: Any, session: ClassSession, request: HttpRequest) -> None:
    """A question of a lesson, or one that the teacher typed: a line a choice."""
    if request.POST.get("key"):
        item, key = _number(request, "item"), request.POST["key"]
        question = class_stage.lesson_question(course=session.course, item=item, key=key)
    else:
        lines = [line.strip() for line in request.POST.get("choices", "").splitlines() if line.strip()]
        choices = [{"name": str(number), "text": line} for number, line in enumerate(lines, 1)]
        question = {"text": request.POST.get("text", "").strip(), "choices": choices}
    classes.ask(by=user, session=session, question=question)


ACTS: Final[dict[str, Callable[[Any, ClassSession, HttpRequest], Any]]] = {
    "show": _show,
    "ask": _ask,
    "reveal": lambda user, session, _request: classes.reveal(by=user, session=session),
    "freeze": lambda user, session, _request: classes.freeze(by=user, session=session, frozen=True),
    "go-on": lambda user, session, _request: classes.freeze(by=user, session=session, frozen=False),
    "board": lambda user, session, request: classes.board_set(
        by=user, session=session, board=request.POST.get("board", "")
    ),
    "rename": lambda user, session, request: classes.seat_rename(
        by=user, seat=_of(session, request), nickname=request.POST.get("nickname", "")
    ),
    "remove": lambda user, session, request: classes.seat_remove(by=user, seat=_of(session, request)),
    "spotlight": lambda user, session, request: spotlight.ask(by=user, seat=_of(session, request)),
    "spotlight-end": lambda user, session, _request: spotlight.stop(by=user, session=session),
    "end": lambda user, session, _request: classes.class_end(by=user, session=session),
}


def _of(session: ClassSession, request: HttpRequest) -> Seat:
    seat = Seat.objects.select_related("session", "member").filter(session=session, pk=_number(request, "seat")).first()
    if seat is None:
        raise selectors.missing()
    return seat


@require_POST
@signed_in_required
def desk_act(request: HttpRequest, code: str) -> HttpResponse:
    session = classes.of_teacher(user=request.user, code=code)
    act = request.POST.get("act", "")
    if act not in ACTS:
        raise BadInput([Fault("$.act", f"must be one of {', '.join(ACTS)}")])
    try:
        ACTS[act](request.user, session, request)
    except BadInput as refused:
        messages.error(request, refused.faults[0].reason[:1].upper() + refused.faults[0].reason[1:] + ".")
    except VpmsError as refused:
        if not act.startswith("spotlight"):
            raise
        messages.warning(request, refused.message)
    if act == "end":
        messages.success(request, _("The class is over. The students' work is in the course."))
        return redirect("course", session.course_id)
    return redirect(f"{reverse('class-desk', args=[session.code])}#now")


@require_GET
@signed_in_required
def wall(request: HttpRequest, code: str) -> HttpResponse:
    """For the projector: the stage alone, big, with code and address."""
    session = classes.of_teacher(user=request.user, code=code)
    context = {
        **class_stage.stage(session),
        **invitation(request, session),
        "topic": classes.topic(session.code),
        "seated": session.seats.filter(removed_at__isnull=True).count(),
    }
    return render(request, "courses/class_wall.html", context)
