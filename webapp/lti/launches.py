"""A launch from a platform, checked: who sends it, for whom, to where, and that it is used once.

Nothing of a launch is believed before its signature, issuer, audience, deployment, nonce and target are right, and it
comes to the browser in which it began. (1EdTech Security Framework 1.0, LTI 1.3 core.)
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import jwt
from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.utils.crypto import constant_time_compare
from django.utils.translation import gettext as _

from webapp.errors import VpmsError
from webapp.lti import platforms
from webapp.lti.models import Nonce
from webapp.lti.platforms import Platform
from webapp.notices import outgoing

log = logging.getLogger(__name__)

CLAIM: Final = "https://purl.imsglobal.org/spec/lti/claim/"
DEEP: Final = "https://purl.imsglobal.org/spec/lti-dl/claim/"
AGS: Final = "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint"
SCORE: Final = "https://purl.imsglobal.org/spec/lti-ags/scope/score"
RESOURCE, DEEP_LINK = "LtiResourceLinkRequest", "LtiDeepLinkingRequest"
TEACHES: Final = (
    "http://purl.imsglobal.org/vocab/lis/v2/membership#Instructor",
    "http://purl.imsglobal.org/vocab/lis/v2/membership#ContentDeveloper",
)
LEARNS: Final = "http://purl.imsglobal.org/vocab/lis/v2/membership#Learner"
SALT: Final = "lti.state"
STATE_SECONDS: Final = 600
LEEWAY: Final = 30
LONGEST_TOKEN: Final = 64 * 1024
LONGEST: Final = 255
KEYS_SECONDS: Final = 3600
KEYS_AGAIN: Final = 30  # after so many seconds an unknown key is asked for again

_keys: dict[str, tuple[float, dict[str, Any]]] = {}


class NoCookie(Exception):
    """The browser did not send the cookie with which the launch began: it keeps none in a frame of another site."""

    def __init__(self, begun: dict[str, Any]) -> None:
        super().__init__()
        self.begun = begun


class Launch(NamedTuple):
    """What of a launch is needed later; plain values."""

    issuer: str
    client_id: str
    subject: str
    deployment: str
    kind: str
    name: str
    teaches: bool
    context: str
    context_title: str
    item: int
    line_item: str
    back: str  # of a deep link: where the choice is sent
    data: str  # of a deep link: goes back unchanged


def refused(reason: str) -> VpmsError:
    return VpmsError("launch_refused", 403, message=reason)


def target() -> str:
    """The one address to which launches lead."""
    return f"{settings.SITE_URL}/lti/launch/"


# -- how it begins


def begun(words: dict[str, str], *, browser: str) -> tuple[str, Platform]:
    """The address at the platform to which the browser goes next. Nothing is stored: the state is sealed by us."""
    platform = platforms.found(words.get("iss", ""), words.get("client_id", ""))
    if platform is None:
        raise refused(_("This platform is not known here. The operator of this site names those that are."))
    if words.get("target_link_uri", "") != target() or not words.get("login_hint"):
        raise refused(_("The start does not lead to this site, or does not say for whom."))
    if words.get("lti_deployment_id", platform.deployments[0]) not in platform.deployments:
        raise refused(_("The platform is known, and this place in it is not."))
    nonce = secrets.token_urlsafe(24)
    kept = {name: words[name] for name in ("login_hint", "lti_message_hint") if words.get(name)}
    told = {"iss": platform.issuer, "client": platform.client_id, "nonce": nonce, "browser": digest(browser), **kept}
    asked = {
        "scope": "openid",
        "response_type": "id_token",
        "response_mode": "form_post",
        "prompt": "none",
        "client_id": platform.client_id,
        "redirect_uri": target(),
        "nonce": nonce,
        "state": signing.dumps(told, salt=SALT, compress=True),
        **kept,
    }
    seam = "&" if "?" in platform.auth_url else "?"
    return f"{platform.auth_url}{seam}{urlencode(asked)}", platform


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


# -- how it arrives


def checked(*, token: str, state: str, browser: str) -> Launch:
    """The launch in a token, or a refusal that says what is wrong with it. A token counts once."""
    try:
        began = signing.loads(state, salt=SALT, max_age=STATE_SECONDS)
    except signing.BadSignature:
        raise refused(
            _("The start did not begin here, or began too long ago. Start again from the platform.")
        ) from None
    if not browser:
        raise NoCookie(began)
    if not constant_time_compare(began["browser"], digest(browser)):
        raise refused(_("The start began in another browser. Start again from the platform."))
    platform = platforms.found(began["iss"], began["client"])
    if platform is None:
        raise refused(_("This platform is not known here. The operator of this site names those that are."))
    claims = _claims(platform, token)
    if not constant_time_compare(str(claims["nonce"]), began["nonce"]):
        raise refused(_("The platform's answer is for another start."))
    found = _launch(platform, claims)
    _use(began["nonce"])
    return found


def _claims(platform: Platform, token: str) -> dict[str, Any]:
    """What the token says, if the platform signed it for us, and lately. Only RS256 counts, whatever it says itself."""
    if len(token) > LONGEST_TOKEN:
        raise refused(_("The platform's answer is too long."))
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != "RS256":
            raise jwt.InvalidAlgorithmError
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(platform, str(header.get("kid", ""))),
            algorithms=["RS256"],
            audience=platform.client_id,
            issuer=platform.issuer,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud", "sub", "nonce"]},
        )
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        log.warning("a launch of %s is refused: %s", platform.issuer, type(error).__name__)
        raise refused(_("The platform's answer is not signed as it must be, or is not for us, or too old.")) from None
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if claims.get("azp", platform.client_id if not several else "") != platform.client_id:
        raise refused(_("The platform's answer is not signed as it must be, or is not for us, or too old."))
    if claims["iat"] < time.time() - STATE_SECONDS:
        raise refused(_("The platform's answer is not signed as it must be, or is not for us, or too old."))
    return claims


def _launch(platform: Platform, claims: dict[str, Any]) -> Launch:
    told = {name: claims.get(CLAIM + name) for name in ("deployment_id", "version", "message_type", "target_link_uri")}
    if told["deployment_id"] not in platform.deployments:
        raise refused(_("The platform is known, and this place in it is not."))
    if told["version"] != "1.3.0" or told["message_type"] not in (RESOURCE, DEEP_LINK):
        raise refused(_("The start is of a kind that this site does not know."))
    if told["target_link_uri"] != target():
        raise refused(_("The start does not lead to this site, or does not say for whom."))
    deep = told["message_type"] == DEEP_LINK
    context, settings_ = _part(claims, CLAIM + "context"), _part(claims, DEEP + "deep_linking_settings")
    roles = claims.get(CLAIM + "roles")
    roles = [role for role in roles if isinstance(role, str)] if isinstance(roles, list) else []
    subject = _text(claims["sub"])
    if not subject or not _text(context.get("id")):
        raise refused(_("The start does not say who it is, or in which course."))
    back = _text(settings_.get("deep_link_return_url"), most=2000)
    if deep and not (back and platform.leads_back(back)):
        raise refused(_("The way back is not the platform's own."))
    endpoint = _part(claims, AGS)
    scores = SCORE in endpoint.get("scope", ()) if isinstance(endpoint.get("scope"), list) else False
    item = str(_part(claims, CLAIM + "custom").get("item", ""))
    return Launch(
        issuer=platform.issuer,
        client_id=platform.client_id,
        subject=subject,
        deployment=str(told["deployment_id"]),
        kind=str(told["message_type"]),
        name=_text(claims.get("given_name")) or _text(claims.get("name")),
        teaches=any(role in TEACHES for role in roles),
        context=_text(context.get("id")),
        context_title=_text(context.get("title")),
        item=int(item) if item.isascii() and item.isdecimal() and len(item) < 16 else 0,
        line_item=_text(endpoint.get("lineitem"), most=500) if scores else "",
        back=back if deep else "",
        data=_text(settings_.get("data"), most=4000) if deep else "",
    )


def _part(claims: dict[str, Any], name: str) -> dict[str, Any]:
    value = claims.get(name)
    return value if isinstance(value, dict) else {}


def _text(value: Any, *, most: int = LONGEST) -> str:
    """A text of at most so many characters; everything else counts as missing."""
    return value if isinstance(value, str) and len(value) <= most and "\0" not in value else ""


def _use(nonce: str) -> None:
    try:
        with transaction.atomic():
            Nonce.objects.create(nonce=nonce)
    except IntegrityError:
        raise refused(_("This start was used already. Start again from the platform.")) from None


# -- the platform's keys


def _key(platform: Platform, kid: str) -> Any:
    """The platform's key of that name. Keys are kept for an hour; one that is not among them is asked for again."""
    at, found = _keys.get(platform.jwks_url, (0.0, {}))
    age = time.monotonic() - at
    if not at or age > KEYS_SECONDS or (kid not in found and age > KEYS_AGAIN):
        found = _fetched(platform)
        _keys[platform.jwks_url] = (time.monotonic(), found)
    if kid not in found:
        raise jwt.InvalidKeyError("unknown key")
    return found[kid].key


def _fetched(platform: Platform) -> dict[str, Any]:
    try:
        status, content = outgoing.call("GET", platform.jwks_url, None, {}, hosts=platform.callable)
        rows = json.loads(content)["keys"] if status == 200 else None
        if not isinstance(rows, list):
            raise ValueError
        kept = [row for row in rows[:50] if isinstance(row, dict) and row.get("kty") == "RSA" and "d" not in row]
        return {str(row.get("kid", "")): jwt.PyJWK(row, algorithm="RS256") for row in kept}
    except (outgoing.Refused, ValueError, KeyError, TypeError, RecursionError, jwt.PyJWTError) as error:
        log.warning("the keys of %s cannot be had: %s", platform.issuer, type(error).__name__)
        raise refused(_("The platform's keys cannot be read just now. Try again in a moment.")) from None
