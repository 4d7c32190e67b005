"""Whether the person behind an open socket is still signed in and still has the rights that they had."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare

ORGANISATION = "organisation"  # the session's key for the organisation that the person acts for


class Claim(NamedTuple):
    """What a socket was opened with."""

    session: str
    user: int
    rights_version: int


def claim_of(user: Any, session: str) -> Claim:
    return Claim(session, user.pk, user.rights_version)


def upheld(claims: Iterable[Claim]) -> dict[Claim, Any]:
    """The claims that still hold, each with its person as the database knows them now.

    A claim falls with its session (sign-out, expiry), with a new password, with disabling and with any change of roles.
    """
    wanted = set(claims)
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    rows = Session.objects.filter(
        session_key__in={claim.session for claim in wanted}, expire_date__gt=timezone.now()
    ).values_list("session_key", "session_data")
    sessions = {key: store.decode(data) for key, data in rows}
    users = get_user_model()._default_manager.in_bulk({claim.user for claim in wanted})
    held: dict[Claim, Any] = {}
    standing: dict[tuple[int, str | None], Any] = {}
    for claim in wanted:
        session, user = sessions.get(claim.session), users.get(claim.user)
        if session is None or user is None or not user.is_active:
            continue
        if str(session.get(SESSION_KEY)) != str(user.pk) or BACKEND_SESSION_KEY not in session:
            continue
        if not constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
            continue
        if user.rights_version == claim.rights_version:
            organisation = session.get(ORGANISATION)
            key = (user.pk, organisation)
            if key not in standing:  # two sessions of one person may stand for different organisations
                standing[key] = copy.copy(user)
                standing[key].act_for(organisation)
            held[claim] = standing[key]
    return held
