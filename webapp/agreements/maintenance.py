"""Maintenance of a host with the consent of the VMs on it.

The operator plans a time; the owner of each VM there is asked, and of each that wants to start there before. An owner
whose agreed wishes name maintenance times that cover it has agreed by that. It begins only when all who are there then
have agreed. From then until its end no VM starts on the host; what runs is never stopped against its owner's will.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from webapp.agreements.models import Consent, Maintenance, Negotiation
from webapp.agreements.selectors import agreement_in_force, predicate_of
from webapp.audit import services as audit
from webapp.errors import BadInput, Fault, VpmsError
from webapp.fleet.models import Host, Placement
from webapp.fleet.selectors import running_vms
from webapp.fleet.services import expect_in_service, expect_operator
from webapp.live import publish
from webapp.notices.services import tell
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.selectors import expect_own, missing
from webapp.tenants.services import document_of
from webapp.vpms import documents

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from webapp.accounts.models import User

State = Maintenance.State
WEEK: Final = 7 * 24 * 60  # minutes
LONGEST: Final = dt.timedelta(days=7)
MOST_PLANNED: Final = 10  # of one host at a time
QUESTIONS: Final = "/tenant/maintenance/"


# -- reads


def maintenances_of(*, user: User, host: Host) -> QuerySet[Maintenance]:
    """What was planned for the host, for those who see the site; the latest first."""
    found = Maintenance.objects.filter(host=host).select_related("by")
    return found if user.sees_site else found.none()


def maintenance_get(*, user: User, pk: int) -> Maintenance:
    found = Maintenance.objects.select_related("host", "by").filter(pk=pk).first()
    if found is None or not user.sees_site:
        raise missing()
    return found


def questions_to(*, user: User) -> QuerySet[Consent]:
    """What is planned and asked of the person's own VMs, answered or not; the soonest first."""
    own = VirtualMachine.objects.visible_to(user).values("pk")
    open_ones = Consent.objects.filter(vm__in=own, maintenance__state__in=Maintenance.OPEN)
    return open_ones.select_related("vm__tenant", "maintenance__host").order_by("maintenance__start", "vm__name")


def consent_get(*, user: User, pk: int) -> Consent:
    """A question to the person; a foreign one is as missing as one that does not exist."""
    own = VirtualMachine.objects.visible_to(user).values("pk")
    found = Consent.objects.filter(pk=pk, vm__in=own).select_related("vm__tenant", "maintenance__host").first()
    if found is None:
        raise missing()
    return found


def going_on() -> QuerySet[Maintenance]:
    """What keeps VMs from starting on hosts now: at most one a host."""
    return Maintenance.objects.filter(state=State.BEGUN, end__gt=timezone.now())


def under_way(*, hosts: Iterable[int]) -> dict[int, Maintenance]:
    """By host: the maintenance that keeps VMs from starting there now."""
    return {row.host_id: row for row in going_on().filter(host__in=hosts)}


def who_is_asked(maintenance: Maintenance) -> list[dict[str, Any]]:
    """Each VM that was asked, and each that is there and was not, with its answer; for the operator."""
    here = {vm.name: vm for vm in running_vms(host=maintenance.host)}
    asked = {row.vm.name: row for row in maintenance.consents.select_related("vm__tenant")}
    return [
        {"vm": here.get(name) or asked[name].vm, "consent": asked.get(name), "is_here": name in here}
        for name in sorted({*here, *asked})
    ]


def without_consent(maintenance: Maintenance) -> list[VirtualMachine]:
    """The VMs that are on the host now and have not agreed."""
    agreed = maintenance.consents.filter(state=Consent.State.AGREED).values("vm")
    return list(running_vms(host=maintenance.host).exclude(pk__in=agreed))


# -- times


def text_of(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M}"


def moment_read(text: str, path: str) -> dt.datetime:
    """A time as forms and programs send it, in UTC to the minute."""
    try:
        found = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput([Fault(path, _("must be a time like 2026-12-01T22:00, in UTC"))]) from None
    return (found if found.tzinfo else found.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).replace(second=0, microsecond=0)


def covered(windows: Sequence[tuple[int, int]], start: dt.datetime, end: dt.datetime) -> bool:
    """Does every minute of the time lie in one of these windows of the week?"""
    first = start.astimezone(dt.UTC)
    begin = (first.weekday() * 24 + first.hour) * 60 + first.minute
    free = {minute for low, high in windows for minute in range(low, high)}
    length = -(-int((end - start).total_seconds()) // 60)
    return length <= WEEK and all((begin + at) % WEEK in free for at in range(length))


# -- planning and asking


@transaction.atomic
def plan(*, by: User, host: Host, start: dt.datetime, end: dt.datetime, reason: str) -> Maintenance:
    """A time for work on the host; the owners of all who are there are asked at once. Nothing else happens yet."""
    expect_operator(by)
    row = Host.objects.select_for_update().get(pk=host.pk)
    expect_in_service(row)
    reason = " ".join(reason.split())
    faults = []
    if start < timezone.now() - dt.timedelta(minutes=1):
        faults.append(Fault("$.start", _("is over; choose a time that is to come")))
    if end <= start:
        faults.append(Fault("$.end", _("must be after the start")))
    elif end - start > LONGEST:
        faults.append(Fault("$.end", _("must be within seven days of the start")))
    if not 1 <= len(reason) <= 200:
        faults.append(Fault("$.reason", _("say in 1 to 200 characters what is to be done")))
    if faults:
        raise BadInput(faults)
    planned = Maintenance.objects.filter(host=row, state__in=Maintenance.OPEN)
    if planned.filter(start__lt=end, end__gt=start).exists():
        raise BadInput([Fault("$.start", _("another maintenance of this host is planned within this time"))])
    if planned.count() >= MOST_PLANNED:
        raise VpmsError("too_many", 409, message=_("Too much is planned for this host; call something off first."))
    made = Maintenance.objects.create(host=row, start=start, end=end, reason=reason, by=by)
    _record(made, "planned", by=by, end=text_of(end), reason=reason)
    for vm in running_vms(host=row):
        ask(made, vm)
    return made


def ask(maintenance: Maintenance, vm: VirtualMachine) -> Consent:
    """Put the question to the VM's owner once. Its agreed maintenance times can be the answer."""
    consent, fresh = Consent.objects.get_or_create(maintenance=maintenance, vm=vm)
    if not fresh:
        return consent
    windows = agreed_windows(maintenance.host, vm)
    if windows and covered(windows, maintenance.start, maintenance.end):
        consent.state, consent.auto, consent.answered_at = Consent.State.AGREED, True, timezone.now()
        consent.save(update_fields=["state", "auto", "answered_at"])
        _answer_recorded(consent, by=None)
    else:
        host = maintenance.host.name
        _tell("asked", consent, host=host, start=text_of(maintenance.start), end=text_of(maintenance.end))
    publish.changed(f"tenant/{vm.tenant.slug}")
    return consent


def agreed_windows(host: Host, vm: VirtualMachine) -> tuple[tuple[int, int], ...]:
    """The maintenance times in the wishes that the agreement in force was made with, else in the newest. Wishes that
    name none allow any time in the language; nobody has said yes by leaving something out, so its owner is asked."""
    agreement = agreement_in_force(host=host)
    parties = predicate_of(agreement)["parties"] if agreement else []
    version = next((row["policy_version"] for row in parties if row["id"] == vm.name), None)
    rows = Policy.objects.filter(vm=vm)
    policy = (rows.filter(version=version) if version else rows).order_by("-version").first()
    return (documents.read_policy(document_of(policy)).maintenance or ()) if policy else ()


def asked_to_join(*, vm: VirtualMachine, host: Host) -> None:
    """The VM is about to start on the host: what is planned there is asked of its owner too."""
    for planned in Maintenance.objects.filter(host=host, state=State.PLANNED, end__gt=timezone.now()):
        planned.host = host
        ask(planned, vm)


def expect_open(*, host: Host, vm: VirtualMachine) -> None:
    """No VM starts on a host under maintenance; the refusal says why and until when."""
    found = under_way(hosts=[host.pk]).get(host.pk)
    if found is not None:
        words = _("%(host)s is under maintenance until %(end)s UTC: %(reason)s. %(vm)s was not started.")
        told = {"host": host.name, "end": text_of(found.end), "reason": found.reason.rstrip("."), "vm": vm.name}
        data = {"until": found.end.isoformat(), "reason": found.reason}
        raise VpmsError("in_maintenance", 409, data, words % told)


@transaction.atomic
def answer(*, by: User, consent: Consent, agrees: bool) -> Consent:
    """The owner's answer. Until it begins it can be changed; given twice it stays one."""
    row = (
        Consent.objects.select_for_update(of=("self",))
        .select_related("vm__tenant", "maintenance__host")
        .get(pk=consent.pk)
    )
    expect_own(by=by, tenant=row.vm.tenant.slug)
    if row.maintenance.state != State.PLANNED:
        raise VpmsError("already_answered", 409, message=_("This maintenance has begun or is over."))
    state = Consent.State.AGREED if agrees else Consent.State.REFUSED
    if row.state == state and not row.auto:
        return row
    row.state, row.auto, row.by, row.answered_at = state, False, by, timezone.now()
    row.save(update_fields=["state", "auto", "by", "answered_at"])
    _answer_recorded(row, by=by)
    return row


def _answer_recorded(consent: Consent, *, by: User | None) -> None:
    """For the log and the operators: that a VM agreed, not whether its wishes said so already."""
    planned, vm = consent.maintenance, consent.vm
    words = "agreed" if consent.state == Consent.State.AGREED else "did not agree"
    data = {"vm": vm.name, "answer": words, "host": planned.host.name, "start": text_of(planned.start)}
    audit.record(by=by, type="maintenance.answer", subject=f"vm:{vm.name}", data=data, audience=[vm.tenant.slug])
    code = "maintenance.agreed" if consent.state == Consent.State.AGREED else "maintenance.refused"
    tell(
        code,
        tenant="",
        key=f"consent:{consent.pk}:{consent.answered_at.isoformat() if consent.answered_at else ''}",
        subject=vm.name,
        link=f"/operator/host/{planned.host.name}/maintenance/",
        vm=vm.name,
        host=planned.host.name,
        start=text_of(planned.start),
    )
    publish.changed(f"tenant/{vm.tenant.slug}")
    publish.changed("fleet")


@transaction.atomic
def move_offered(*, by: User, maintenance: Maintenance, vm: str) -> Consent:
    """The operator offers to let a VM go whose owner has not agreed. The owner chooses where to, or not at all."""
    expect_operator(by)
    rows = Consent.objects.select_for_update(of=("self",)).select_related("vm__tenant", "maintenance__host")
    consent = rows.filter(maintenance=maintenance, vm__name=vm).exclude(state=Consent.State.AGREED).first()
    if consent is None:
        raise missing()
    if maintenance.state != State.PLANNED:
        raise VpmsError("not_open", 409, message=_("This maintenance has begun or is over."))
    if consent.offered_at is None:
        consent.offered_at = timezone.now()
        consent.save(update_fields=["offered_at"])
        host = maintenance.host.name
        audit.record(
            by=by, type="maintenance.move_offered", subject=f"vm:{vm}", data={"host": host},
            audience=[consent.vm.tenant.slug],
        )  # fmt: skip
        _tell("move", consent, link=f"/tenant/vm/{vm}/move/", host=host)
    return consent


# -- its course


@transaction.atomic
def begin(*, by: User, maintenance: Maintenance) -> Maintenance:
    """From now until its end no VM starts on the host. Refused with the names while anybody there has not agreed.
    Starts that are being negotiated end without agreement; those VMs are stopped already."""
    row = _locked(by, maintenance)
    now = timezone.now()
    if row.state != State.PLANNED or now >= row.end:
        raise VpmsError("not_open", 409, message=_("This maintenance is not to come; plan another one."))
    if now < row.start:
        words = _("It was agreed for %(start)s UTC and cannot begin before.")
        raise VpmsError("too_early", 409, {"start": row.start.isoformat()}, words % {"start": text_of(row.start)})
    lacking = without_consent(row)
    if lacking:
        names = [vm.name for vm in lacking]
        words = _("It cannot begin: the owners of %(vms)s have not agreed. Nothing was changed.")
        raise VpmsError("consent_missing", 409, {"vms": names}, words % {"vms": ", ".join(names)})
    row.state, row.begun_at = State.BEGUN, now
    row.save(update_fields=["state", "begun_at"])
    _record(row, "begun", by=by)
    for consent in _there(row):
        _tell("begun", consent, host=row.host.name, end=text_of(row.end))
    _give_up_starts(row)
    return row


def _give_up_starts(row: Maintenance) -> None:
    from webapp.agreements.services import negotiation_give_up  # it asks this module before each start

    words = f"{row.host.name} is under maintenance until {text_of(row.end)} UTC: {row.reason}"
    for pk in Negotiation.objects.filter(host=row.host, state__in=Negotiation.OPEN).values_list("pk", flat=True):
        negotiation_give_up(negotiation_id=pk, reason=words)


@transaction.atomic
def end(*, by: User, maintenance: Maintenance) -> Maintenance:
    """The work is done: VMs can start again."""
    row = _locked(by, maintenance)
    if row.state != State.BEGUN:
        raise VpmsError("not_open", 409, message=_("Only a maintenance that has begun can be ended."))
    row.state, row.ended_at = State.ENDED, timezone.now()
    row.save(update_fields=["state", "ended_at"])
    _record(row, "ended", by=by)
    for consent in _there(row):
        _tell("ended", consent, host=row.host.name)
    return row


@transaction.atomic
def cancel(*, by: User, maintenance: Maintenance) -> Maintenance:
    """It is not to be. Whoever was asked is told."""
    row = _locked(by, maintenance)
    if row.state != State.PLANNED:
        raise VpmsError("not_open", 409, message=_("Only a maintenance that has not begun can be called off."))
    row.state, row.ended_at = State.CANCELLED, timezone.now()
    row.save(update_fields=["state", "ended_at"])
    _record(row, "cancelled", by=by)
    for consent in row.consents.select_related("vm__tenant"):
        _tell("cancelled", consent, host=row.host.name, start=text_of(row.start))
    return row


@transaction.atomic
def ask_newcomers(*, by: User, maintenance: Maintenance) -> None:
    """Whoever has come to the host since is asked; called where the operator looks who has agreed."""
    row = _locked(by, maintenance)
    if row.state == State.PLANNED and timezone.now() < row.end:
        for vm in running_vms(host=row.host).exclude(consents__maintenance=row):
            ask(row, vm)


def _locked(by: User, maintenance: Maintenance) -> Maintenance:
    """The row under its host's lock: a start asks the same lock first."""
    expect_operator(by)
    Host.objects.select_for_update().get(pk=maintenance.host_id)
    return Maintenance.objects.select_for_update(of=("self",)).select_related("host").get(pk=maintenance.pk)


def _there(row: Maintenance) -> list[Consent]:
    """Those who were asked and live on the host."""
    placed = Placement.objects.filter(host=row.host).values("vm")
    return list(row.consents.filter(vm__in=placed).select_related("vm__tenant"))


def _record(row: Maintenance, what: str, *, by: User, **more: str) -> None:
    slugs = {vm.tenant.slug for vm in running_vms(host=row.host)}
    slugs |= set(row.consents.values_list("vm__tenant__slug", flat=True))
    data = {"start": text_of(row.start), **more}
    audit.record(by=by, type=f"maintenance.{what}", subject=f"host:{row.host.name}", data=data, audience=slugs)
    for slug in slugs:
        publish.changed(f"tenant/{slug}")
    publish.changed("fleet")


def _tell(what: str, consent: Consent, *, link: str = QUESTIONS, **data: Any) -> None:
    vm = consent.vm
    key = f"maintenance:{consent.maintenance_id}:{vm.name}"
    tell(f"maintenance.{what}", tenant=vm.tenant.slug, key=key, subject=vm.name, link=link, vm=vm.name, **data)
