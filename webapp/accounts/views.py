"""Sign in, sign out, theme, and the way from the sign-in to the person's own area."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import views as auth_views
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from webapp.accounts import entering, oidc, services
from webapp.accounts.context import THEMES
from webapp.errors import VpmsError
from webapp.live import publish
from webapp.live.rights import ORGANISATION
from webapp.roles import role_names, signed_in_required

AREAS = {"tenant": "/tenant/", "operator": "/operator/", "teacher": "/teach/", "student": "/learn/"}
NO_FIT = gettext_lazy("This name and password do not fit together. Both are read as typed, capital letters included.")
AWAY = gettext_lazy("Signing in is not possible at the moment. Nothing was changed. Try again in a minute.")
YEAR = 365 * 24 * 3600


def safe_next(request: HttpRequest, otherwise: str) -> str:
    """The page named by `next` if it is one of this site, else the given one."""
    wanted = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return wanted if ours else otherwise


class SignInForm(AuthenticationForm):
    """Name and password; while a delay runs, no password is looked at, right or wrong."""

    error_messages = {"invalid_login": NO_FIT, "inactive": NO_FIT}

    def clean(self) -> dict[str, Any]:
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        key = services.attempts_key(username=self.cleaned_data.get("username") or "", address=address)
        wait = services.sign_in_delay(key=key)
        if wait:
            told = _("Too many tries. Your account is not locked: the next try is looked at in %(wait)s s.")
            raise ValidationError(told % {"wait": wait}, code="delay")
        try:
            cleaned = super().clean()
        except ValidationError:
            services.sign_in_failed(key=key)
            raise
        if self.get_user() is not None:  # without a password nothing was tried, so nothing is forgotten
            services.sign_in_succeeded(key=key)
        return cleaned


class SignIn(auth_views.LoginView):
    template_name = "accounts/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def get_context_data(self, **more: Any) -> dict[str, Any]:
        typed = self.request.POST.get("typed", "")
        return super().get_context_data(**more, typed=typed, kept=bool(typed), providers=oidc.providers())

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        sealed, user = self.request.POST.get("typed", ""), form.get_user()
        return entering.first_step(self.request, user, next=self.get_success_url(), sealed=sealed)

    def form_invalid(self, form: AuthenticationForm) -> HttpResponse:
        delayed = form.has_error("__all__", code="delay")
        return self.render_to_response(self.get_context_data(form=form), status=429 if delayed else 422)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        except DatabaseError:  # the counters are away: fail closed, say so
            return HttpResponse(AWAY, status=503)


class SignOut(auth_views.LogoutView):
    http_method_names = ["post", "options"]


@signed_in_required
def home(request: HttpRequest) -> HttpResponse:
    """To the first area that the person may enter."""
    user: Any = request.user
    if user.waiting_areas and not user.roles:
        return entering.factor_first(request)
    return redirect(AREAS[role_names(user)[0]])


@require_POST
@signed_in_required
def organisation_choose(request: HttpRequest) -> HttpResponse:
    """From now on the person acts for this organisation of its own, in this sign-in."""
    user: Any = request.user
    wanted = request.POST.get("organisation", "")
    if wanted not in user.organisations:
        raise VpmsError("not_found", 404, message=_("There is nothing here that you may see."))
    request.session[ORGANISATION] = wanted
    publish.rights_changed(user=user.pk)  # pages of the other organisation stop following it
    messages.info(request, _("You act for %(organisation)s now.") % {"organisation": wanted})
    return redirect("home")


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remember the chosen theme in a cookie and go back; works without script and without signing in."""
    chosen = request.POST.get("theme", "")
    if chosen not in THEMES:
        return not_one_of(request, "theme", THEMES)
    return remembered(request, "theme", chosen)


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Remember the chosen language as the theme is; LocaleMiddleware reads the cookie. Mails to whoever is signed in
    come in it too."""
    chosen, known = request.POST.get("language", ""), dict(settings.LANGUAGES)
    if chosen not in known:
        return not_one_of(request, "language", known)
    user: Any = request.user
    if user.is_authenticated:
        services.language_set(user=user, language=chosen)
    return remembered(request, settings.LANGUAGE_COOKIE_NAME, chosen)


def not_one_of(request: HttpRequest, field: str, known: Iterable[str]) -> HttpResponse:
    reason = _("%(field)s: one of %(known)s.") % {"field": field, "known": ", ".join(known)}
    return render(request, "accounts/refused.html", {"reason": reason}, status=422)


def remembered(request: HttpRequest, name: str, chosen: str) -> HttpResponse:
    """Back to where the choice was made, with the choice in a cookie."""
    response = HttpResponseRedirect(safe_next(request, "/"))
    response.set_cookie(name, chosen, max_age=YEAR, samesite="Lax", secure=settings.TLS, httponly=True)
    return response
