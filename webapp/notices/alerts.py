"""Alerts: raised once while they last, told once, acknowledged, silenced and resolved by people, each with a record.

A silence never hides an alert: it only keeps mails, webhooks and notices back. What goes and comes again within ten
minutes is the same alert, which counts. Every change takes the next number of the topic `alerts`.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish
from webapp.notices import alert_selectors as selectors
from webapp.notices import services
from webapp.notices.models import Alert, Watch
from webapp.notices.runbooks import KIND_OF, RUNBOOKS
from webapp.notices.wording import WORDS
from webapp.roles import must

if TYPE_CHECKING:
    from collections.abc import Sequence

TOPIC: Final = "alerts"
FLAP: Final = dt.timedelta(minutes=10)  # what comes again within so long is the same alert
LONGEST_SILENCE: Final = dt.timedelta(days=30)
LONGEST_TEXT: Final = 200
UNWATCHED: Final = dt.timedelta(seconds=10)  # without a keeper for so long, nobody watches
LIVE: Final = (Alert.State.OPEN, Alert.State.ACKNOWLEDGED)


# -- raised and ended by the product


@transaction.atomic
def raise_(code: str, *, key: str, link: str, **data: Any) -> Alert:
    """The alert of this key: a new one that is told, or one more time of the one that lasts. `data` is what its words
    need; `host` in it is the host that the alert is about. Inside the transaction of what it tells, if there is one."""
    number, now = _next_number(), timezone.now()
    row = Alert.objects.select_for_update(of=("self",)).filter(key=key).order_by("-id").first()
    if row is not None and (row.state in LIVE or _flaps(row, now)):
        if row.ended:
            row.state = Alert.State.ACKNOWLEDGED if row.acknowledged_at else Alert.State.OPEN
            row.resolved_at = None
        row.code, row.data, row.link, row.severity = code, data, link, WORDS[code].severity
        row.count, row.last_at, row.number = row.count + 1, now, number
        row.save()
        publish.changed(TOPIC)
        return row
    silence = _silence_of(row, now)
    row = Alert.objects.create(
        key=key,
        kind=KIND_OF[code],
        code=code,
        data=data,
        severity=WORDS[code].severity,
        host=str(data.get("host", "")),
        link=link,
        raised_at=now,
        last_at=now,
        number=number,
        **silence,
    )
    _record(None, row, "raised", words=in_english(row))
    if not silence:
        _tell(row)
    publish.changed(TOPIC)
    return row


def _flaps(row: Alert, now: dt.datetime) -> bool:
    """It ended by itself a moment ago. What a person ended is told anew when it comes again."""
    return row.resolved_by_id is None and row.resolved_at is not None and row.resolved_at > now - FLAP


def _silence_of(before: Alert | None, now: dt.datetime) -> dict[str, Any]:
    """A silence lasts until its end, also for the next alert of the same key."""
    if before is None or before.silenced_until is None or before.silenced_until <= now:
        return {}
    return {name: getattr(before, name) for name in ("silenced_until", "silenced_by", "silence_reason")}


def _tell(row: Alert) -> None:
    Alert.objects.filter(pk=row.pk).update(told=True)
    row.told = True
    services.tell(row.code, tenant="", key=f"alert:{row.pk}", subject=row.host or row.kind, link=row.page, **row.data)


@transaction.atomic
def resolve(*, key: str) -> bool:
    """What raised the alert is over. Whether there was one."""
    return _ended(Alert.objects.filter(key=key, state__in=LIVE)) > 0


def _ended(rows: Any) -> int:
    found = list(rows.select_for_update(of=("self",)))
    for row in found:
        row.state, row.resolved_at, row.number = Alert.State.RESOLVED, timezone.now(), _next_number()
        row.save(update_fields=["state", "resolved_at", "number"])
        _record(None, row, "resolved")
    if found:
        publish.changed(TOPIC)
    return len(found)


def follow(holds: bool, code: str, *, key: str, link: str, **data: Any) -> None:
    """A condition that is looked at again and again: an alert while it holds, raised once."""
    lasting = Alert.objects.filter(key=key, state__in=LIVE).exists()
    if holds and not lasting:
        raise_(code, key=key, link=link, **data)
    elif lasting and not holds:
        resolve(key=key)


def tick(now: dt.datetime) -> None:
    """The keeper's look: somebody watches; what was quiet for long enough ends; what outlived its silence is told."""
    seen = Watch.objects.filter(pk=1).values_list("seen_at", flat=True).first()
    if seen is not None and now - seen > UNWATCHED:
        away = int((now - seen).total_seconds())
        raise_("keeper.back", key="keeper", link="/operator/alerts/", seconds=away)
    Watch.objects.update_or_create(pk=1, defaults={"seen_at": now})
    quiet = [Q(kind=kind, last_at__lt=now - book.quiet) for kind, book in RUNBOOKS.items() if book.quiet]
    over = quiet[0]
    for each in quiet[1:]:
        over |= each
    due = Q(told=False) & (Q(silenced_until__isnull=True) | Q(silenced_until__lte=now))
    if not Alert.objects.filter(over | due, state__in=LIVE).exists():
        return
    with transaction.atomic():
        _ended(Alert.objects.filter(over, state__in=LIVE))
        for row in Alert.objects.select_for_update(of=("self",)).filter(due, state__in=LIVE):
            _tell(row)


# -- what operators do


def _may(by: User) -> None:
    if not by.sees_site:
        raise selectors.missing()
    must(by, "act", tenant=None)


def _text(text: str, path: str, *, needed: bool = False) -> str:
    found = text.strip()
    if needed and not found:
        raise BadInput([Fault(path, _("must say why, in a few words"))])
    if len(found) > LONGEST_TEXT or any(not char.isprintable() for char in found):
        raise BadInput([Fault(path, _("must be one line of at most %(most)d characters") % {"most": LONGEST_TEXT})])
    return found


def _locked(by: User, alert: Alert) -> Alert:
    """The alert, still open, for somebody who may change it."""
    _may(by)
    row = Alert.objects.select_for_update(of=("self",)).filter(pk=alert.pk).first()
    if row is None:
        raise selectors.missing()
    if row.ended:
        raise VpmsError("alert_over", 409, message=_("This alert is over; nothing can be changed about it any more."))
    return row


def _changed(by: User, row: Alert, act: str, fields: Sequence[str], **data: Any) -> Alert:
    row.number = _next_number()
    row.save(update_fields=[*fields, "number"])
    _record(by, row, act, **data)
    publish.changed(TOPIC)
    return row


@transaction.atomic
def acknowledge(*, by: User, alert: Alert, note: str = "") -> Alert:
    """The person has seen it and takes it on, unless somebody has it already."""
    row = _locked(by, alert)
    row.note = _text(note, "$.note")
    row.state, row.acknowledged_by, row.acknowledged_at = Alert.State.ACKNOWLEDGED, by, timezone.now()
    row.owner = row.owner or by
    fields = ["note", "state", "acknowledged_by", "acknowledged_at", "owner"]
    return _changed(by, row, "acknowledged", fields, note=row.note)


@transaction.atomic
def hand_over(*, by: User, alert: Alert, person: str) -> Alert:
    """From now on this operator sees to it."""
    row = _locked(by, alert)
    found = next((each for each in selectors.operators() if each.username == person), None)
    if found is None:
        raise BadInput([Fault("$.person", _("is no operator of this platform"))])
    row.owner = found
    return _changed(by, row, "handed_over", ["owner"], person=found.alias)


@transaction.atomic
def silence(*, by: User, alert: Alert, until: dt.datetime | None, reason: str) -> Alert:
    """Nothing is sent of it until then; it stays on the page. A silence has an end and a reason."""
    row, now = _locked(by, alert), timezone.now()
    if until is None:
        raise BadInput([Fault("$.until", _("must be a time: a silence without an end is forgotten"))])
    if until <= now:
        raise BadInput([Fault("$.until", _("must lie in the future"))])
    if until > now + LONGEST_SILENCE:
        raise BadInput([Fault("$.until", _("must lie within 30 days"))])
    row.silence_reason = _text(reason, "$.reason", needed=True)
    row.silenced_until, row.silenced_by = until, by
    shown = until.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    fields = ["silenced_until", "silenced_by", "silence_reason"]
    return _changed(by, row, "silenced", fields, until=shown, reason=row.silence_reason)


@transaction.atomic
def lift(*, by: User, alert: Alert) -> Alert:
    """The silence ends now; what it kept back is told."""
    row = _locked(by, alert)
    if not row.silent:
        raise VpmsError("not_silenced", 409, message=_("This alert is not silenced."))
    row.silenced_until = row.silenced_by = None
    row.silence_reason = ""
    row = _changed(by, row, "silence_lifted", ["silenced_until", "silenced_by", "silence_reason"])
    if not row.told:
        _tell(row)
    return row


@transaction.atomic
def resolve_by_hand(*, by: User, alert: Alert, note: str = "") -> Alert:
    """A person says that it is over. What still holds is not over by being said so."""
    row = _locked(by, alert)
    book = RUNBOOKS[row.kind]
    if not book.by_hand:
        raise VpmsError("still_holds", 409, message=_("This cannot be resolved by hand: what raised it still holds."))
    row.note = _text(note, "$.note") or row.note
    row.state, row.resolved_at, row.resolved_by = Alert.State.RESOLVED, timezone.now(), by
    row.silenced_until = row.silenced_by = None  # a silence is of what lasts
    fields = ["note", "state", "resolved_at", "resolved_by", "silenced_until", "silenced_by"]
    return _changed(by, row, "resolved", fields, note=row.note)


@transaction.atomic
def test(*, by: User) -> Alert:
    """An alert that means nothing goes the whole way: page, mail, webhook. The test before it ends."""
    _may(by)
    _ended(Alert.objects.filter(kind="test", state__in=LIVE))
    row = raise_("alert.test", key=f"test:{uuid.uuid4().hex}", link="/operator/alerts/")
    _record(by, row, "tested")
    return row


# -- together


def _next_number() -> int:
    """Counted by an UPDATE that holds the row until the transaction ends: numbers become visible in their order."""
    if not Watch.objects.filter(pk=1).update(number=F("number") + 1):
        Watch.objects.get_or_create(pk=1)
        Watch.objects.filter(pk=1).update(number=F("number") + 1)
    return Watch.objects.values_list("number", flat=True).get(pk=1)


def _record(by: User | None, row: Alert, act: str, **data: Any) -> None:
    told = {"kind": row.kind, **({"host": row.host} if row.host else {}), **{k: v for k, v in data.items() if v}}
    audit.record(by=by, type=f"alert.{act}", subject=f"alert:{row.pk}", data=told)


def in_english(row: Alert) -> str:
    with translation.override("en"):
        return row.text
