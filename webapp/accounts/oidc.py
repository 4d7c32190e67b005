"""Signing in by an OpenID Connect provider that the operator named in the settings; nothing of it without.

The provider only says who somebody is: an account must have been connected with it by its owner. It never makes an
account, and it stands for the password, not for the second factor. Requests go to the named issuer's origin alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.internal import jwtkit
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from webapp.accounts import entering
from webapp.audit import services as audit
from webapp.errors import VpmsError

if TYPE_CHECKING:
    from webapp.accounts.models import User

log = logging.getLogger(__name__)

SECONDS = 5
MOST_BYTES = 1 << 20


def providers() -> list[dict[str, str]]:
    """The providers that the settings name: address part and words for the button."""
    apps = settings.SOCIALACCOUNT_PROVIDERS.get("openid_connect", {}).get("APPS", [])
    return [{"id": app["provider_id"], "name": app["name"]} for app in apps]


def connections(*, user: User) -> list[dict[str, Any]]:
    """With which of the providers the account is connected."""
    known = set(SocialAccount.objects.filter(user=user).values_list("provider", flat=True))
    return [{**provider, "connected": provider["id"] in known} for provider in providers()]


class OneOrigin(requests.Session):
    """Speaks to the named issuers only: https outside loopback, no redirects, no proxies, in time."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False

    def request(self, method: Any, url: Any, *args: Any, **more: Any) -> requests.Response:
        parts = urlsplit(str(url))
        if f"{parts.scheme}://{parts.netloc}" not in settings.OIDC_ORIGINS:
            raise requests.exceptions.InvalidURL("not an origin of an identity provider that the settings name")
        more |= {"timeout": SECONDS, "allow_redirects": False}
        answer = super().request(method, url, *args, **more)
        if len(answer.content) > MOST_BYTES or answer.is_redirect:
            raise requests.exceptions.InvalidURL("the identity provider's answer cannot be used")
        return answer


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Ties allauth's sign-in to the one way in of this site."""

    def get_requests_session(self) -> requests.Session:
        return OneOrigin()

    def is_open_for_signup(self, request: HttpRequest, sociallogin: Any) -> bool:
        return False

    def on_authentication_error(self, request: HttpRequest, provider: Any, **more: Any) -> None:
        raise ImmediateHttpResponse(unconfirmed(request))

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Never on to allauth's own pages: the answer is made here."""
        raise ImmediateHttpResponse(answered(request, sociallogin.account))


def answered(request: HttpRequest, account: Any) -> HttpResponse:
    """The provider has said who it is: connect the signed-in person's account, or let its owner in."""
    known = SocialAccount.objects.filter(provider=account.provider, uid=account.uid).select_related("user").first()
    user: Any = request.user
    if user.is_authenticated:
        if known is not None and known.user_id != user.pk:
            messages.warning(request, _("That sign-in is connected with another account. Nothing was changed."))
        elif known is None and not entering.is_fresh(request):
            messages.warning(request, _("That took too long. Nothing was changed; try again."))
        elif known is None:
            connect(user=user, provider=account.provider, uid=account.uid)
            messages.success(request, _("From now on that sign-in opens your account too."))
        return redirect("account")
    if known is None or not known.user.is_active:
        told = _(
            "No account here is connected with that sign-in. Sign in by name and password, connect it on your "
            "profile, and it opens your account from then on. If you have no account, ask to be invited."
        )
        messages.warning(request, told)
        return redirect("sign-in")
    return entering.first_step(request, known.user, next="/home/")


@transaction.atomic
def connect(*, user: User, provider: str, uid: str) -> None:
    SocialAccount.objects.filter(user=user, provider=provider).delete()
    SocialAccount.objects.create(user=user, provider=provider, uid=uid, extra_data={})
    audit.record(by=user, type="account.connected", subject=f"user:{user.alias}", data={"provider": provider})


@transaction.atomic
def part(*, user: User, provider: str) -> None:
    """The provider no longer opens the account. Whoever has no password keeps the way in that there is."""
    if not user.has_usable_password():
        raise VpmsError("last_way_in", 409, message=_("This is your only way in. Set a password first."))
    gone, _rows = SocialAccount.objects.filter(user=user, provider=provider).delete()
    if gone:
        audit.record(by=user, type="account.disconnected", subject=f"user:{user.alias}", data={"provider": provider})


class Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """The token's signature counts always, not only where it came from."""

    def _decode_id_token(self, app: Any, id_token: str) -> dict[str, Any]:
        found: dict[str, Any] = jwtkit.verify_and_decode(
            credential=id_token,
            keys_url=self.openid_config["jwks_uri"],
            issuer=app.settings.get("issuer", app.settings["server_url"]),
            audience=app.client_id,
            lookup_kid=jwtkit.lookup_kid_jwk,
            verify_signature=True,
        )
        return found


def adapter_of(request: HttpRequest, provider_id: str) -> Adapter:
    if provider_id not in [provider["id"] for provider in providers()]:
        raise Http404
    return Adapter(request, provider_id)


@never_cache
@require_POST
def login(request: HttpRequest, provider_id: str) -> HttpResponse:
    """To the provider, from a button: a link elsewhere must not start a sign-in."""
    adapter = adapter_of(request, provider_id)
    if request.user.is_authenticated and not entering.is_fresh(request):
        return entering.ask_again(request)
    return spoken(request, OAuth2LoginView.adapter_view(adapter))


@never_cache
@require_GET
def callback(request: HttpRequest, provider_id: str) -> HttpResponse:
    """Back from the provider."""
    return spoken(request, OAuth2CallbackView.adapter_view(adapter_of(request, provider_id)))


def spoken(request: HttpRequest, view: Any) -> HttpResponse:
    """The view's answer; a provider that is away, or speaks nonsense, is no failure of the site."""
    try:
        answer: HttpResponse = view(request)
    except (requests.RequestException, KeyError, TypeError, ValueError) as error:
        log.warning("the identity provider could not be used: %s", type(error).__name__)
        return unconfirmed(request)
    return answer


def unconfirmed(request: HttpRequest) -> HttpResponse:
    told = _("The other provider did not confirm who you are. Nothing was changed; sign in here, or try again.")
    messages.warning(request, told)
    return redirect("account" if request.user.is_authenticated else "sign-in")
