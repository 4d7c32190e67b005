"""Tell people what happened, and what they choose to be told. An event is told once, in the transaction that made it.

The words hold nothing that not everybody in the organisation may know: names of its own VMs, pseudonyms, hosts, times.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from webapp.accounts.models import User
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import publish
from webapp.notices import outgoing, sealing, selectors
from webapp.notices.models import Choice, Delivery, Endpoint, Event, Mail, Notice, Reader
from webapp.notices.wording import DIGEST, KINDS, NOW, OFF, WORDS, kinds_for

if TYPE_CHECKING:
    from collections.abc import Sequence

MODES: Final = (NOW, DIGEST, OFF)
MOST_ENDPOINTS: Final = 5  # of one organisation
OVERLAP: Final = dt.timedelta(hours=24)  # so long the secret before signs too
MOST_AT_ONCE: Final = 500  # notices named in one request


# -- telling


def tell(
    code: str, *, tenant: str, key: str, subject: str, link: str, by: User | None = None, **data: Any
) -> Event | None:
    """What happened becomes an event of the organisation, a notice of each of its people, and work for mail and
    webhooks, inside the caller's transaction. The same key once more tells nobody again. Who did it needs no notice.

    `tenant` is the organisation's slug; empty means the operators; `models.alone(user)` one person.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("notices.tell belongs into the transaction of what it tells")
    word = WORDS[code]
    event, fresh = Event.objects.get_or_create(
        tenant=tenant,
        key=f"{code}:{key}"[:200],
        defaults={
            "code": code,
            "kind": word.kind,
            "severity": word.severity,
            "subject": subject[:120],
            "link": link,
            "data": data,
        },
    )
    if not fresh:
        return None
    people = [person for person in readers_of(tenant) if by is None or person.pk != by.pk]
    chosen = {row.user_id: row for row in Choice.objects.filter(user__in=people, kind=word.kind)}
    for person in people:
        choice: Any = chosen.get(person.pk) or KINDS[word.kind]
        if choice.page != OFF or choice.mail != OFF:
            mail = _mail_for(person, choice.mail)
            Notice.objects.create(event=event, user=person, page=choice.page, mail=mail)
            _changed(person.pk)
    now = timezone.now()
    wanted = [row for row in Endpoint.objects.filter(tenant=tenant, active=True) if word.kind in row.kinds]
    Delivery.objects.bulk_create([Delivery(endpoint=row, event=event, made_at=now, due_at=now) for row in wanted])
    publish.wake_keeper()
    return event


def readers_of(tenant: str) -> list[User]:
    """The owners and members of the organisation, the operators, or the one person."""
    if tenant.startswith("@"):
        return list(User.objects.filter(alias=tenant[1:], is_active=True))
    if tenant:
        roles = Q(memberships__tenant__slug=tenant, memberships__role__in=("owner", "member"))
    else:
        roles = Q(memberships__role="operator")
    return list(User.objects.filter(roles, is_active=True).distinct().order_by("pk"))


def _mail_for(person: User, mode: str) -> Mail | None:
    """The mail that will carry a notice: one of its own, or the digest that is being collected."""
    if mode == OFF or not person.email:
        return None
    if mode == NOW:
        return Mail.objects.create(user=person, due_at=timezone.now())
    collecting = Mail.objects.filter(user=person, digest=True, state=Mail.State.WAITING).first()
    if collecting is not None:
        return collecting
    due = digest_due(selectors.reader_of(user=person), timezone.now())
    return Mail.objects.create(user=person, digest=True, due_at=due)


def digest_due(reader: Reader, now: dt.datetime) -> dt.datetime:
    """The next time after now at which the person's digest comes."""
    due = now.replace(hour=reader.hour, minute=0, second=0, microsecond=0)
    if reader.every == Reader.Every.WEEKLY:
        due += dt.timedelta(days=(reader.weekday - due.weekday()) % 7)
    if due <= now:
        due += dt.timedelta(days=7 if reader.every == Reader.Every.WEEKLY else 1)
    return due


def _changed(user: int) -> None:
    """The person's pages look again."""
    Reader.objects.get_or_create(user_id=user)
    Reader.objects.filter(user_id=user).update(version=F("version") + 1)
    publish.changed(f"notices/{user}")


# -- reading and choosing


@transaction.atomic
def notices_read(*, by: User, ids: Sequence[int] | None = None, upto: int | None = None) -> int:
    """These notices of the person, or all up to a number, are read; how many were not before is answered."""
    rows = Notice.objects.visible_to(by).filter(read_at__isnull=True)
    if ids is not None:
        rows = rows.filter(pk__in=list(ids)[:MOST_AT_ONCE])
    if upto is not None:
        rows = rows.filter(pk__lte=upto)
    count = rows.update(read_at=timezone.now())
    if count:
        _changed(by.pk)
    return count


@transaction.atomic
def choices_set(*, by: User, choices: Mapping[str, Mapping[str, str]], every: str, hour: int, weekday: int = 0) -> None:
    """What the person wants to be told, where, and when the digest comes. Refused whole with its faults."""
    faults = [
        Fault(f"$.choices.{kind}.{channel}", f"must be one of {', '.join(MODES)}")
        for kind, row in choices.items()
        for channel in ("page", "mail")
        if kind in KINDS and row.get(channel) not in MODES
    ]
    faults += [Fault(f"$.choices.{kind}", "is not a kind of notice") for kind in choices if kind not in KINDS]
    if every not in Reader.Every.values:
        faults.append(Fault("$.every", "must be daily or weekly"))
    if not 0 <= hour <= 23:
        faults.append(Fault("$.hour", "must be a whole number from 0 to 23"))
    if not 0 <= weekday <= 6:
        faults.append(Fault("$.weekday", "must be a whole number from 0, Monday, to 6"))
    if faults:
        raise BadInput(faults)
    for kind, row in choices.items():
        values = {"page": row["page"], "mail": row["mail"]}
        Choice.objects.update_or_create(user=by, kind=kind, defaults=values)
    reader, _ = Reader.objects.update_or_create(user=by, defaults={"every": every, "hour": hour, "weekday": weekday})
    collecting = Mail.objects.filter(user=by, digest=True, state=Mail.State.WAITING)
    collecting.update(due_at=digest_due(reader, timezone.now()), enqueued_at=None)


# -- webhooks of an organisation


def _expect_owner(by: User, tenant: str) -> None:
    if tenant not in selectors.owned(user=by):
        raise selectors.missing()


def _kinds_checked(tenant: str, kinds: Iterable[str]) -> list[str]:
    wanted, offered = set(kinds), kinds_for(tenant)
    if not wanted or wanted - set(offered):
        raise BadInput([Fault("$.kinds", f"must name at least one of {', '.join(offered)}, and nothing else")])
    return [kind for kind in offered if kind in wanted]


@transaction.atomic
def endpoint_create(*, by: User, tenant: str, url: str, kinds: Iterable[str]) -> tuple[Endpoint, str]:
    """A new endpoint of the organisation, and its secret, which is never shown again."""
    _expect_owner(by, tenant)
    address = outgoing.address_of(url.strip(), path="$.url")
    chosen = _kinds_checked(tenant, kinds)
    if Endpoint.objects.filter(tenant=tenant, url=url.strip()).exists():
        raise BadInput([Fault("$.url", "this organisation is told at this address already")])
    if Endpoint.objects.filter(tenant=tenant).count() >= MOST_ENDPOINTS:
        raise VpmsError("too_many", 409, message=f"An organisation has at most {MOST_ENDPOINTS} webhooks; remove one.")
    secret = sealing.fresh_secret()
    row = Endpoint.objects.create(
        tenant=tenant, url=url.strip(), kinds=chosen, sealed_secret=sealing.seal(secret, tenant=tenant)
    )
    _record(by, row, "webhook.created", host=address.host)
    return row, secret


@transaction.atomic
def endpoint_change(*, by: User, endpoint: Endpoint, kinds: Iterable[str], active: bool) -> Endpoint:
    """What it is told, and whether at all. Switched on again it starts without failures."""
    row = _locked(by, endpoint)
    row.kinds = _kinds_checked(row.tenant, kinds)
    if active and not row.active:
        row.failures = 0
    row.active = active
    row.save(update_fields=["kinds", "active", "failures"])
    if not active:
        _drop_waiting(row)
    _record(by, row, "webhook.changed", active="on" if active else "off")
    return row


@transaction.atomic
def endpoint_rotate(*, by: User, endpoint: Endpoint, rotation: int) -> tuple[Endpoint, str]:
    """A new secret, shown once. For a day both sign, so that nothing is lost while the receiver changes over. Asked
    twice from the same page, the second is refused: it would take the secret just shown out of use."""
    row = _locked(by, endpoint)
    if row.rotation != rotation:
        raise VpmsError("outdated", 409, message="The secret was replaced meanwhile; look at the page again.")
    secret = sealing.fresh_secret()
    row.sealed_before, row.before_until = row.sealed_secret, timezone.now() + OVERLAP
    row.sealed_secret = sealing.seal(secret, tenant=row.tenant)
    row.rotation += 1
    row.save(update_fields=["sealed_before", "before_until", "sealed_secret", "rotation"])
    _record(by, row, "webhook.rotated")
    return row, secret


@transaction.atomic
def endpoint_delete(*, by: User, endpoint: Endpoint) -> None:
    """Nothing is sent there any more; its deliveries go with it."""
    row = _locked(by, endpoint)
    _record(by, row, "webhook.removed")
    row.delete()


@transaction.atomic
def endpoint_test(*, by: User, endpoint: Endpoint) -> Delivery:
    """A test is sent like everything else; while one is under way it is that one."""
    row = _locked(by, endpoint)
    if not row.active:
        raise VpmsError("switched_off", 409, message="The webhook is switched off; switch it on first.")
    waiting = row.deliveries.filter(event__isnull=True, state=Delivery.State.WAITING).first()
    if waiting is not None:
        return waiting
    publish.wake_keeper()
    return Delivery.objects.create(endpoint=row, due_at=timezone.now())


def _locked(by: User, endpoint: Endpoint) -> Endpoint:
    row = Endpoint.objects.select_for_update().filter(pk=endpoint.pk).first()
    if row is None:
        raise selectors.missing()
    _expect_owner(by, row.tenant)
    return row


def _drop_waiting(row: Endpoint) -> None:
    row.deliveries.filter(state=Delivery.State.WAITING).update(
        state=Delivery.State.FAILED, due_at=None, done_at=timezone.now(), lease_token="", lease_until=None
    )


def _record(by: User | None, row: Endpoint, type: str, **data: Any) -> None:
    """The log names the host only: the rest of an address may be a secret of the receiver's."""
    data = {"host": outgoing.host_of(row.url), **data}
    audit.record(by=by, type=type, subject=f"webhook:{row.pk}", data=data, audience=[row.tenant] if row.tenant else [])


@transaction.atomic
def endpoint_failed(*, endpoint: Endpoint, most: int) -> Endpoint | None:
    """One more try came to nothing; after so many in a row the endpoint is switched off, and its people are told. The
    endpoint, if this try was the last; operators learn it by an alert, which the caller raises."""
    row = Endpoint.objects.select_for_update().get(pk=endpoint.pk)
    row.failures += 1
    row.save(update_fields=["failures"])
    if row.failures < most or not row.active:
        return None
    Endpoint.objects.filter(pk=row.pk).update(active=False)
    _drop_waiting(row)
    host = outgoing.host_of(row.url)
    _record(None, row, "webhook.off", count=row.failures)
    if row.tenant:
        key = f"{row.pk}:{timezone.now().isoformat()}"
        tell("webhook.off", tenant=row.tenant, key=key, subject=host, link=row.page, host=host, count=row.failures)
    return row
