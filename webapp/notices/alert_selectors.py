"""Reads of alerts: for operators and auditors of the site; to everybody else there are none."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final, NamedTuple, TypedDict

from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from webapp.accounts.models import User
from webapp.audit import selectors as audit
from webapp.notices.models import Alert
from webapp.notices.selectors import missing as missing

STRIP: Final = 5  # alerts that the strip names
PASSED: Final = dt.timedelta(minutes=10)  # so long the strip still names a serious one that was over by itself
MOST_COUNTED: Final = 100
WEIGHT: Final = Case(
    When(severity="serious", then=Value(0)),
    When(severity="warning", then=Value(1)),
    default=Value(2),
    output_field=IntegerField(),
)
NARROWED_TO: Final = ("current", "open", "acknowledged", "silenced", "resolved", "all")
HISTORY: Final = 50


class Wanted(NamedTuple):
    """What is looked for; what is empty does not narrow it."""

    state: str = "current"
    host: str = ""
    kind: str = ""
    severity: str = ""
    owner: str = ""


class Strip(TypedDict):
    alerts: list[Alert]
    more: int


def alerts_of(*, user: User) -> QuerySet[Alert]:
    people = ("owner", "acknowledged_by", "silenced_by", "resolved_by")
    return Alert.objects.select_related(*people) if user.sees_site else Alert.objects.none()


def alert_get(*, user: User, pk: int) -> Alert:
    found = alerts_of(user=user).filter(pk=pk).first() if pk < 2**63 else None
    if found is None:
        raise missing()
    return found


def alerts_wanted(*, user: User, wanted: Wanted) -> QuerySet[Alert]:
    """Those that are looked for, newest first."""
    found = alerts_of(user=user)
    now = timezone.now()
    match wanted.state:
        case "current":
            found = found.exclude(state=Alert.State.RESOLVED)
        case "silenced":
            found = found.exclude(state=Alert.State.RESOLVED).filter(silenced_until__gt=now)
        case "open" | "acknowledged" | "resolved":
            found = found.filter(state=wanted.state)
    for name in ("host", "kind", "severity"):
        if getattr(wanted, name):
            found = found.filter(**{name: getattr(wanted, name)})
    return found.filter(owner__username=wanted.owner) if wanted.owner else found


def ordered(found: QuerySet[Alert], *, group: str) -> QuerySet[Alert]:
    """In groups, the groups by name; within each the newest first."""
    return found.order_by(group, "-last_at", "-id") if group else found.order_by("-last_at", "-id")


def strip_of(*, user: User) -> Strip:
    """The newest that nobody has acknowledged, the serious ones first; how many more there are. A serious one that was
    over before anybody looked stays for a while: its cause is still to be found."""
    now = timezone.now()
    found = alerts_of(user=user).filter(loud(now) | passed(now))
    rows = list(found.annotate(weight=WEIGHT).order_by("weight", "-last_at")[:MOST_COUNTED])
    return {"alerts": rows[:STRIP], "more": max(0, len(rows) - STRIP)}


def loud(now: dt.datetime) -> Q:
    """Open and not silenced."""
    return Q(state=Alert.State.OPEN) & (Q(silenced_until__isnull=True) | Q(silenced_until__lte=now))


def passed(now: dt.datetime) -> Q:
    """Serious, ended by itself a moment ago, and acknowledged by nobody."""
    ended = Q(state=Alert.State.RESOLVED, resolved_by__isnull=True, resolved_at__gt=now - PASSED)
    unseen = Q(severity="serious", acknowledged_at__isnull=True)
    return ended & unseen & (Q(silenced_until__isnull=True) | Q(silenced_until__lte=now))


def hosts_named() -> list[str]:
    """The hosts that alerts name, for the filter."""
    return list(Alert.objects.exclude(host="").order_by("host").values_list("host", flat=True).distinct()[:200])


def operators() -> list[User]:
    """Who may take an alert on."""
    found = User.objects.filter(memberships__role="operator", is_active=True)
    return list(found.distinct().order_by("username"))


def history_of(*, user: User, alert: Alert) -> list[dict[str, Any]]:
    """What the record says of it, newest first: who did what, when."""
    wanted = audit.Wanted(subject=f"alert:{alert.pk}")
    return audit.page_of(user=user, wanted=wanted, most=HISTORY)["entries"]
