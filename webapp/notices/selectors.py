"""Reads of notices, choices, endpoints and their deliveries; every door takes the person who looks."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, TypedDict

from django.contrib.auth import get_user_model
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from webapp.errors import VpmsError
from webapp.notices import wording
from webapp.notices.models import (
    Alert,
    Choice,
    Delivery,
    Endpoint,
    EndpointQuerySet,
    Notice,
    NoticeQuerySet,
    Reader,
    Watch,
    owned_by,
    places_of,
)
from webapp.notices.wording import KINDS, NOW, OFF

if TYPE_CHECKING:
    from webapp.accounts.models import User

PAGE = 50
DELIVERIES_SHOWN = 50
WATCHED: Final = dt.timedelta(seconds=15)  # without a look of the keeper for so long nobody watches


class Bell(TypedDict):
    unread: int
    seq: int
    alerts: Alarms


class Alarms(TypedDict):
    """For the badge of those who see the site; for others all is zero."""

    open: int
    seq: int
    newest: str
    watched: bool


class Page(TypedDict):
    notices: list[Notice]
    before: int | None  # pass it on to see older ones; None when there are none


def missing() -> VpmsError:
    """The one answer for what does not exist and for what somebody may not see."""
    return VpmsError("not_found", 404, message="There is nothing here that you may see.")


def bell_of(*, user: User) -> Bell:
    """How many unread notices the bell counts, and the number of this state; for operators also what the badge of the
    alerts says. All in one query: it is asked on every page."""
    unread = Notice.objects.filter(
        user=OuterRef("pk"), read_at__isnull=True, page=NOW, event__tenant__in=places_of(user)
    )
    count = Coalesce(Subquery(unread.order_by().values("user").annotate(n=Count("pk")).values("n")), 0)
    version = Coalesce(Subquery(Reader.objects.filter(user=OuterRef("pk")).values("version")), 0)
    alarms = _alarms() if user.sees_site else {}
    me = get_user_model()._default_manager.filter(pk=user.pk)
    found = me.annotate(unread=count, version=version, **alarms).values("unread", "version", *alarms).first()
    told: Alarms = {"open": 0, "seq": 0, "newest": "", "watched": True}
    if found is None:
        return {"unread": 0, "seq": 0, "alerts": told}
    if alarms:
        seen = found["seen"]
        told["watched"] = seen is not None and seen > timezone.now() - WATCHED
        told["open"], told["seq"] = found["loud"] or 0, found["number"] or 0
        told["newest"] = wording.text_of(found["code"], found["data"]) if found["code"] else ""
    return {"unread": found["unread"], "seq": found["version"], "alerts": told}


def _alarms() -> dict[str, Any]:
    """Open and not silenced: how many, and the newest; where the topic stands, and when the keeper last looked."""
    now = timezone.now()
    silent = Q(silenced_until__isnull=False, silenced_until__gt=now)
    rows = Alert.objects.filter(state=Alert.State.OPEN).exclude(silent)
    newest, watch = rows.order_by("-last_at", "-id"), Watch.objects.filter(pk=1)
    return {
        "loud": Subquery(rows.order_by().values("state").annotate(n=Count("pk")).values("n")),
        "code": Subquery(newest.values("code")[:1]),
        "data": Subquery(newest.values("data")[:1]),
        "number": Subquery(watch.values("number")[:1]),
        "seen": Subquery(watch.values("seen_at")[:1]),
    }


def notices_of(*, user: User, kind: str = "", unread: bool = False) -> NoticeQuerySet:
    """The person's notices, newest first; what was switched off for the page is not among them."""
    found = Notice.objects.visible_to(user).exclude(page=OFF).select_related("event")
    if kind:
        found = found.filter(event__kind=kind)
    return found.filter(read_at__isnull=True) if unread else found


def page_of(*, user: User, kind: str = "", unread: bool = False, before: int | None = None) -> Page:
    """At most PAGE of them."""
    found = notices_of(user=user, kind=kind, unread=unread)
    rows = list((found.filter(pk__lt=before) if before is not None else found)[: PAGE + 1])
    more = len(rows) > PAGE
    rows = rows[:PAGE]
    return {"notices": rows, "before": rows[-1].pk if more else None}


def choices_of(*, user: User) -> dict[str, dict[str, str]]:
    """For each kind what the person chose, or the default. Kinds for operators are theirs alone."""
    chosen = {row.kind: row for row in Choice.objects.filter(user=user)}
    return {
        name: {
            "page": chosen[name].page if name in chosen else KINDS[name].page,
            "mail": chosen[name].mail if name in chosen else KINDS[name].mail,
        }
        for name in wording.kinds_of(user)
    }


def reader_of(*, user: User) -> Reader:
    """When the person's digest comes; the defaults where nothing is stored."""
    return Reader.objects.filter(user=user).first() or Reader(user=user)


def owned(*, user: User) -> list[str]:
    """The organisations whose webhooks the person may see and change."""
    return owned_by(user)


def endpoints_of(*, user: User) -> EndpointQuerySet:
    return Endpoint.objects.visible_to(user)


def endpoint_get(*, user: User, pk: int) -> Endpoint:
    """One endpoint; a foreign one is as missing as one that does not exist."""
    found = Endpoint.objects.visible_to(user).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise missing()
    return found


def deliveries_all(*, endpoint: Endpoint) -> QuerySet[Delivery]:
    """Every delivery that is kept, with every try, newest first."""
    rows: QuerySet[Delivery] = endpoint.deliveries.select_related("event").prefetch_related("attempts_made")
    return rows


def deliveries_of(*, endpoint: Endpoint) -> QuerySet[Delivery]:
    """The newest of them, for the page."""
    return deliveries_all(endpoint=endpoint)[:DELIVERIES_SHOWN]
