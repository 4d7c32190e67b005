"""On the way in: the second factor, a forgotten password, and the password or factor that is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from webapp.accounts import entering, factors, services
from webapp.accounts.models import User
from webapp.errors import BadInput
from webapp.roles import signed_in_required


class Afterwards(HttpResponse):
    """An answer after which something is done: whoever waits for the answer cannot measure how long that takes."""

    work: Callable[[], None] | None = None

    def close(self) -> None:
        super().close()
        work, self.work = self.work, None
        if work is not None:
            work()


def factor_given(request: HttpRequest, user: User) -> str:
    """Empty if a right second factor was sent, else the sentence that says why not. Failures slow the next try down,
    per account and wherever it comes from: codes are short."""
    key = services.attempts_key(username=f"factor:{user.pk}", address="")
    wait = services.sign_in_delay(key=key)
    if wait:
        return _("Too many tries. Your account is not locked: the next try is looked at in %d s.") % wait
    answer, code = request.POST.get("credential", ""), request.POST.get("code", "")
    fits = factors.key_fits(user=user, answer=answer) if answer else factors.code_fits(user=user, code=code)
    if fits:
        services.sign_in_succeeded(key=key)
        return ""
    services.sign_in_failed(key=key)
    if answer:
        return _("The security key's answer does not fit. Nothing was changed. Try again.")
    return _("This code does not fit, or it was used already. Wait for the next one of your app and type that.")


def factor_context(user: User) -> dict[str, Any]:
    """What a page that asks for a second factor needs to know."""
    has = factors.of(user=user)
    return {"has": has, "key_options": factors.key_options(user=user, signing_in=True) if has["keys"] else ""}


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def second_step(request: HttpRequest) -> HttpResponse:
    """The second factor of somebody whose password was right."""
    waiting = entering.pending(request)
    if waiting is None:
        return redirect("sign-in")
    user, told = waiting
    fault = factor_given(request, user) if request.method == "POST" else ""
    if request.method == "POST" and not fault:
        return entering.enter(request, user, next=told["next"], told=told["typed"])
    context = {**factor_context(user), "fault": fault, "person": user}
    return render(request, "accounts/second_step.html", context, status=422 if fault else 200)


@never_cache
@sensitive_post_parameters()
@signed_in_required
@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: HttpRequest) -> HttpResponse:
    """Password or second factor once more, before something grave is changed."""
    user: Any = request.user
    fault = ""
    if request.method == "POST":
        fault = confirm_fault(request, user)
        if not fault:
            entering.confirmed(request)
            return redirect(entering.ours(request, request.session.pop("confirm-next", ""), "/account/"))
    context = {**factor_context(user), "fault": fault, "with_password": user.has_usable_password()}
    return render(request, "accounts/confirm.html", context, status=422 if fault else 200)


def confirm_fault(request: HttpRequest, user: User) -> str:
    if request.POST.get("credential") or request.POST.get("code"):
        return factor_given(request, user)
    return entering.password_fault(request, user, request.POST.get("password", ""))


# -- a forgotten password


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def password_forgotten(request: HttpRequest) -> HttpResponse:
    """Ask for a link. The answer is the same, after the same time, whether or not anybody has this address."""
    email = request.POST.get("email", "").strip()
    if request.method != "POST" or not email:
        return render(request, "accounts/password_forgotten.html", {"sent": False})
    key = services.attempts_key(username="password-forgotten", address=request.META.get("REMOTE_ADDR", ""))
    wait = services.sign_in_delay(key=key)
    if wait:
        context = {"sent": False, "wait": wait, "email": email}
        return render(request, "accounts/password_forgotten.html", context, status=429)
    services.sign_in_failed(key=key)  # each request counts, known address or not
    page = render(request, "accounts/password_forgotten.html", {"sent": True, "email": email})
    answer = Afterwards(page.content)
    answer.work = lambda: services.reset_send(email=email)
    return answer


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def password_new(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Choose a password by a link from a mail. All sign-ins of the account end; the second factor stays asked for."""
    user = services.reset_user(uid=uid, token=token)
    if user is None:
        return render(request, "accounts/password_new.html", {"person": None}, status=404)
    faults: list[str] = []
    if request.method == "POST":
        password = request.POST.get("password", "")
        try:
            services.password_check(password, again=request.POST.get("again", ""), user=user)
        except BadInput as refused:
            faults = [fault.reason for fault in refused.faults]
        else:
            services.password_set(by=user, user=user, password=password)
            messages.success(request, _("Your new password stands. Sign in with it."))
            return redirect("sign-in")
    context = {"person": user, "faults": faults}
    return render(request, "accounts/password_new.html", context, status=422 if faults else 200)
