"""Links to what was frozen: made by somebody who may see it, opened by whom the maker chose, revoked for good."""

from __future__ import annotations

import datetime as dt
import re
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _

from webapp.accounts.tokens import call_counted
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.roles import only_reads, read_only
from webapp.shares import things
from webapp.shares.models import Share
from webapp.strictjson import canonical
from webapp.tenants import quotas
from webapp.tenants.selectors import missing

if TYPE_CHECKING:
    from webapp.accounts.models import User

DAYS: Final = (1, 7, 30, 90, 365, 0)  # 0: until it is revoked
MOST: Final = 100  # links of one person
MADE_A_MINUTE: Final = 20
OPENED_A_MINUTE: Final = 240  # of one address without an account: a class behind one opens a link at once
GUESSES_A_MINUTE: Final = 30  # addresses that are none
REF: Final = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f]{40})")


def person_checked(user: Any) -> None:
    """Guests of a class and people who only read make no links."""
    if only_reads(user):
        raise read_only()
    if user.guest:
        raise VpmsError("forbidden", 403, message=_("This is not open to guests of a class."))


@transaction.atomic
def share_make(
    *, by: User, kind: str, asked: Mapping[str, Any], name: str = "", days: int = 30, public: bool = False
) -> Share:
    """A link to a moment that the person may see, frozen as it is now. BadInput; 404 for what they may not see."""
    person_checked(by)
    thing = things.THINGS.get(kind)
    name = " ".join(name.split())
    faults = []
    if thing is None:
        faults.append(Fault("$.kind", f"must be one of {', '.join(things.THINGS)}"))
    if len(name) > 120 or not name.isprintable():
        faults.append(Fault("$.name", _("is longer than 120 characters, or has some that cannot be printed")))
    if days not in DAYS:
        faults.append(Fault("$.days", f"must be one of {', '.join(map(str, DAYS))}"))
    if public and not settings.SHARES_PUBLIC:
        faults.append(Fault("$.public", _("is not allowed by the operator of this site")))
    if thing is None or faults:
        raise BadInput(faults)
    if not call_counted(key=f"share:{by.pk}", most=MADE_A_MINUTE).allowed:
        raise VpmsError("too_many_tries", 429, message=_("So many links at once? Wait a minute."))
    quotas.lock_person(by.pk)
    if Share.objects.filter(maker=by).count() >= MOST:
        raise VpmsError("too_many", 409, message=_("You have 100 links already. Revoke one first."))
    frozen = thing.freeze(by, {field: asked[field] for field in thing.fields if asked.get(field) not in (None, "")})
    made = Share.objects.create(
        maker=by,
        kind=kind,
        name=name,
        about=frozen.about,
        shown=frozen.shown,
        frames=frozen.frames,
        size=len(frozen.frames) + len(canonical(frozen.shown)),
        nonce=secrets.token_hex(16),
        public=public,
        ends_at=timezone.now() + dt.timedelta(days=days) if days else None,
    )
    quotas.expect_stored(by=by, path="$.kind")
    if kind == "moment":
        _record(by, "share.made", made)
    return made


@transaction.atomic
def share_revoke(*, by: User, pk: int) -> None:
    """The link opens nothing any more, and what it showed is gone."""
    found = Share.objects.visible_to(by).select_for_update(of=("self",)).filter(pk=pk).first()
    if found is None:
        raise missing()
    if found.kind == "moment":
        _record(by, "share.revoked", found)
    found.delete()


def _record(by: User, type: str, share: Share) -> None:
    data = {"share": share.pk, "run": share.about["run"], "public": share.public}
    audit.record(by=by, type=type, subject=f"run:{share.about['run']}", data=data)


def ref_of(share: Share) -> str:
    """What the address of a link ends with: its number, and a word that only this site can make."""
    return (
        f"{share.pk}-{salted_hmac('webapp.shares', f'{share.pk}:{share.nonce}', algorithm='sha256').hexdigest()[:40]}"
    )


def path_of(share: Share) -> str:
    return reverse("share-open", args=[ref_of(share)])


def share_opened(*, ref: str, user: Any, address: str) -> Share:
    """The share that this address opens to this person; 404 for everything else, counted against guessing."""
    known = user.is_authenticated and not user.guest
    if not known:
        _held_back(f"share-open:{address}", OPENED_A_MINUTE)
    found = _named(ref)
    if found is None:
        _held_back(f"share-guess:{address}", GUESSES_A_MINUTE)
        raise missing()
    if not (known or (found.public and settings.SHARES_PUBLIC)):
        raise VpmsError("not_signed_in", 401, message=_("This link opens to people with an account here."))
    return found


def _named(ref: str) -> Share | None:
    match = REF.fullmatch(ref)
    found = Share.objects.open().select_related("maker").filter(pk=int(match[1])).first() if match else None
    if found is None or not constant_time_compare(ref_of(found), ref):
        return None
    return found if things.still_seen(found.kind, found.about, found.maker) else None


def _held_back(key: str, most: int) -> None:
    if not call_counted(key=key[:64], most=most).allowed:
        raise VpmsError("too_many_tries", 429, message=_("Too many links were tried from here. Wait a minute."))


# -- what is kept about a person


def own_data(user: User) -> list[dict[str, Any]]:
    return [
        {"kind": row.kind, "name": row.name, "about": row.about, "public": row.public, "since": row.made_at.isoformat()}
        for row in Share.objects.visible_to(user).order_by("pk")
    ]


def forget(user: User) -> None:
    Share.objects.filter(maker=user).delete()
