"""Reads of notices, choices, endpoints and their deliveries; every door takes the person who looks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from webapp.errors import VpmsError
from webapp.notices.models import (
    Choice,
    Delivery,
    Endpoint,
    EndpointQuerySet,
    Notice,
    NoticeQuerySet,
    Reader,
    owned_by,
    places_of,
)
from webapp.notices.wording import KINDS, NOW, OFF

if TYPE_CHECKING:
    from webapp.accounts.models import User

PAGE = 50
DELIVERIES_SHOWN = 50


class Bell(TypedDict):
    unread: int
    seq: int


class Page(TypedDict):
    notices: list[Notice]
    before: int | None  # pass it on to see older ones; None when there are none


def missing() -> VpmsError:
    """The one answer for what does not exist and for what somebody may not see."""
    return VpmsError("not_found", 404, message="There is nothing here that you may see.")


def bell_of(*, user: User) -> Bell:
    """How many unread notices the bell counts, and the number of this state, in one query."""
    unread = Notice.objects.filter(
        user=OuterRef("user"), read_at__isnull=True, page=NOW, event__tenant__in=places_of(user)
    )
    count = Coalesce(Subquery(unread.order_by().values("user").annotate(n=Count("pk")).values("n")), 0)
    found = Reader.objects.filter(user=user).annotate(unread=count).values_list("version", "unread").first()
    version, unread_now = found or (0, 0)
    return {"unread": unread_now, "seq": version}


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
    """For each kind what the person chose, or the default."""
    chosen = {row.kind: row for row in Choice.objects.filter(user=user)}
    return {
        name: {
            "page": chosen[name].page if name in chosen else kind.page,
            "mail": chosen[name].mail if name in chosen else kind.mail,
        }
        for name, kind in KINDS.items()
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
