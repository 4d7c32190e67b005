"""Doors of LTI: where a platform begins, where it arrives, our keys; who one is here; what a teacher puts in; grades.

No page of ours is ever shown in a frame of another site but one: it asks to go on in a window of its own.
"""

from __future__ import annotations

import secrets
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_cache_control
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from webapp.accounts import entering
from webapp.courses import gradebook
from webapp.errors import BadInput, Fault, VpmsError
from webapp.lti import keys, launches, platforms, returns, selectors, services
from webapp.roles import operator_required, role_required, signed_in_required

COOKIE: Final = "lti"
SECONDS: Final = 3600
GIVEN: Final = ("iss", "login_hint", "target_link_uri", "lti_message_hint", "client_id", "lti_deployment_id")
LONGEST: Final = 4000


def refusal(request: HttpRequest, error: VpmsError) -> HttpResponse:
    return render(request, "lti/refused.html", {"reason": error.message}, status=error.http_status)


# -- launches


@never_cache
@csrf_exempt
@xframe_options_exempt
@require_http_methods(["GET", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """A platform begins: on to where it says who it is. Nothing is stored here; a cookie names the browser."""
    given = request.POST if request.method == "POST" else request.GET
    words = {name: given[name][:LONGEST] for name in GIVEN if name in given}
    browser = request.COOKIES.get(COOKIE, "") or secrets.token_urlsafe(24)
    try:
        address, platform = launches.begun(words, browser=browser)
    except VpmsError as error:
        return refusal(request, error)
    if request.headers.get("Sec-Fetch-Dest") in ("iframe", "frame", "embed", "object"):
        return in_a_window(request, platform, words)
    answer = redirect(address)
    return with_cookie(answer, browser)


def with_cookie(answer: HttpResponse, browser: str) -> HttpResponse:
    """The platform's answer is a POST from another site: only a cookie that says so is sent with it."""
    answer.set_cookie(
        COOKIE, browser, max_age=SECONDS, path="/lti/", secure=True, httponly=True, samesite="None"
    )  # fmt: skip
    return answer


def in_a_window(request: HttpRequest, platform: platforms.Platform, words: dict[str, str]) -> HttpResponse:
    """In a frame a browser keeps no cookie of ours: a link opens the same start in a window of its own."""
    at = f"{settings.SITE_URL}/lti/login/?{urlencode(words)}"
    answer = render(request, "lti/window.html", {"platform": platform.name, "at": at})
    answer._csp_replace = {"frame-ancestors": platforms.origins(platform)}  # type: ignore[attr-defined]
    return answer


@never_cache
@csrf_exempt
@xframe_options_exempt
@require_POST
def launch(request: HttpRequest) -> HttpResponse:
    """A platform says who somebody is. Who is known goes in; others choose who they are here."""
    if "error" in request.POST:
        return refusal(
            request, launches.refused(_("The platform did not say who you are. Sign in there, then start again."))
        )
    browser = request.COOKIES.get(COOKIE, "")
    try:
        found = launches.checked(
            token=request.POST.get("id_token", ""), state=request.POST.get("state", "")[:LONGEST], browser=browser
        )
        user = services.account_of(found)
        if user is None:
            return redirect("lti-enter", services.arrival_keep(launch=found, browser=browser))
        return entering.first_step(request, user, next=onward(user, found, browser))
    except launches.NoCookie as framed:
        platform = platforms.found(framed.begun["iss"], framed.begun["client"])
        if platform is None:
            return refusal(
                request,
                launches.refused(_("This platform is not known here. The operator of this site names those that are.")),
            )
        words = {"iss": platform.issuer, "client_id": platform.client_id, "target_link_uri": launches.target()}
        hints = {name: framed.begun[name] for name in ("login_hint", "lti_message_hint") if name in framed.begun}
        return in_a_window(request, platform, {**words, **hints})
    except VpmsError as error:
        return refusal(request, error)


def onward(user: Any, found: launches.Launch, browser: str) -> str:
    """Where the person goes after signing in."""
    if found.kind == launches.DEEP_LINK:
        return f"/lti/pick/{services.arrival_keep(launch=found, browser=browser)}/"
    return f"/learn/items/{services.arrive(user=user, launch=found).pk}/"


@never_cache
@require_http_methods(["GET", "POST"])
def enter(request: HttpRequest, token: str) -> HttpResponse:
    """Somebody of a platform who is not known here: a new account, or the one that is signed in."""
    user: Any = request.user
    browser = request.COOKIES.get(COOKIE, "")
    arrival, found = services.arrival_get(secret=token, browser=browser)
    if request.method == "GET":
        context = {"launch": found, "platform": services.platform_of(found), "token": token}
        return render(request, "lti/enter.html", context)
    wanted = request.POST.get("act", "")
    if wanted not in ("make", "connect"):
        raise BadInput([Fault("$.act", "must be make or connect")])
    if wanted == "connect" and not (user.is_authenticated and not user.guest):
        return redirect(f"/sign-in/?{urlencode({'next': request.path})}")
    if wanted == "connect" and not entering.is_fresh(request):
        return entering.ask_again(request)
    try:
        services.arrival_use(arrival)
        who = (
            services.account_make(launch=found) if wanted == "make" else services.account_connect(by=user, launch=found)
        )
        next_ = onward(who, found, browser)
    except VpmsError as error:
        if error.http_status == 404:
            raise
        return refusal(request, error)
    return redirect(next_) if wanted == "connect" else entering.first_step(request, who, next=next_)


@never_cache
@signed_in_required
@require_http_methods(["GET", "POST"])
def pick(request: HttpRequest, token: str) -> HttpResponse:
    """A teacher chooses what stands in the platform's course; the answer goes back signed."""
    user: Any = request.user
    arrival, found = services.arrival_get(secret=token, browser=request.COOKIES.get(COOKIE, ""))
    known = services.account_of(found)
    if known is None or known.pk != user.pk or found.kind != launches.DEEP_LINK:
        raise selectors.missing()
    items = services.choices(user=user)
    context = {"launch": found, "platform": services.platform_of(found), "items": items}
    if request.method == "GET":
        return render(request, "lti/pick.html", context)
    wanted = request.POST.get("item", "")
    item = next((each for each in items if str(each.pk) == wanted), None)
    if item is None:
        return render(request, "lti/pick.html", {**context, "fault": True}, status=422)
    services.arrival_use(arrival)
    context |= {"item": item, "answer": services.link_make(by=user, launch=found, item=item)}
    answer = render(request, "lti/picked.html", context)
    answer._csp_update = {"form-action": [platforms.origin(found.back)]}  # type: ignore[attr-defined]
    return answer


@require_safe
def jwks(request: HttpRequest) -> JsonResponse:
    """Our public keys, for platforms that check what we sign."""
    answer = JsonResponse({"keys": keys.published()})
    patch_cache_control(answer, public=True, max_age=300)
    return answer


# -- grades on their way back


@require_http_methods(["GET", "POST"])
@signed_in_required
def course_returns(request: HttpRequest, pk: int) -> HttpResponse:
    """For the course's teachers: of each student, whether the platform has the points."""
    user: Any = request.user
    course = gradebook.teacher_of(user=user, pk=pk).course
    if request.method == "POST":
        number = request.POST.get("return", "")
        row = selectors.return_get(course=course, pk=int(number) if number.isdecimal() and len(number) < 16 else 0)
        try:
            returns.again(by=user, row=row)
            messages.success(request, _("It is sent again in a moment."))
        except VpmsError as error:
            messages.warning(request, error.message)
        return redirect("lti-returns", pk)
    context = {
        "course": course,
        "rows": selectors.returns_of(course=course)[:500],
        "contexts": selectors.contexts_of(course),
    }
    return render(request, "lti/returns.html", context)


# -- the operator's


@role_required("operator")
@require_GET
def operator(request: HttpRequest) -> HttpResponse:
    """The platforms of the settings, what to register there, and our keys."""
    return render(request, "lti/operator.html", selectors.operator_shown())


@operator_required
@require_POST
def rotate(request: HttpRequest) -> HttpResponse:
    """A new key signs from now on."""
    user: Any = request.user
    keys.rotate(by=user, seen=request.POST.get("seen", "")[:32])
    messages.success(request, _("A new key signs from now on; the one before is published for 30 more days."))
    return redirect("lti-operator")
