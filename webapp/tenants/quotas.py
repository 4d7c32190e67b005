"""What an organisation may have at once, so that none takes the others' share of the platform.

A quota is counted while the organisation's row is locked, in the transaction that adds to what is counted: of any
number of people who submit at once, exactly those get through for whom there is room, and no counter can drift. Whoever
locks other rows too locks the organisation's first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db.models import Aggregate, Count, IntegerField, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.template.defaultfilters import filesizeformat
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy as _

from webapp import tally
from webapp.accounts.models import User
from webapp.errors import BadInput, Fault, VpmsError
from webapp.live import places, publish
from webapp.tenants.models import Tenant, VirtualMachine

State = VirtualMachine.State
LIVE: Final = (State.HELD, State.STARTING, State.RUNNING, State.STOPPING)


def _of(what: Aggregate, of: type[Tenant | User] = Tenant, **where: Any) -> Any:
    """What is counted of the organisation (or person) of the outer query, 0 where there is none."""
    own = of._default_manager.order_by().filter(pk=OuterRef("pk"), **where).values("pk")
    return Coalesce(Subquery(own.annotate(all=what).values("all")), Value(0), output_field=IntegerField())


def _live(what: str) -> Any:
    """Of VMs that run or are about to. One that moves is between its hosts for a moment, and keeps its room."""
    count: Aggregate = Count("vms") if what == "vms" else Sum(what)
    moving = {"vms__state": State.STOPPED, "vms__requests__moves": True, "vms__requests__state": "SIGNED"}
    return _of(count, vms__state__in=LIVE) + _of(count, **moving)


class Quota(NamedTuple):
    """A row of the table. `most` is the setting, of which 0 is no limit; `used` is counted of Tenant, or a function of
    it that asks elsewhere, or None where each thing is measured by itself; `refusal` may name %(most)s, %(used)s and
    %(more)s."""

    most: str
    says: Any
    used: Any
    code: str = ""
    status: int = 0
    refusal: Any = ""
    bytes: bool = False

    def shown(self, value: int) -> str:
        return str(filesizeformat(value)) if self.bytes else number_format(value, force_grouping=True)


QUOTAS: Final[Mapping[str, Quota]] = {
    "vms": Quota(
        "TENANT_VMS", _("VMs"), _of(Count("vms"), vms__deleted_at__isnull=True), "too_many_vms", 409,
        _("Your organisation has %(used)s VMs already; no more are possible. Delete one that is no longer needed."),
    ),
    "running": Quota(
        "TENANT_RUNNING", _("VMs that run or are about to"), _live("vms"), "too_many_running", 409,
        _("%(used)s VMs of your organisation run or are about to; no more may at once. Stop one first."),
    ),
    "starts": Quota(
        "TENANT_STARTS", _("VMs that wait to start"), _of(Count("vms"), vms__state=State.HELD), "too_many_starts", 429,
        _("%(used)s VMs of your organisation wait to start already; no more may at once."),
    ),
    "memory": Quota(
        "TENANT_MEMORY_MIB", _("MiB of memory of VMs that run or are about to"), _live("vms__memory_mib"),
        "too_much_memory", 409,
        _(
            "VMs of your organisation that run or are about to have %(used)s of %(most)s MiB of memory; "
            "%(more)s MiB more do not fit. Stop one first, or give this one less."
        ),
    ),
    "acts": Quota(
        "TENANT_ACTS", _("Acts on its VMs that wait to be done or answered"),
        _of(Count("vms__acts"), vms__acts__state="pending"), "too_many_acts", 429,
        _("%(used)s acts on VMs of this organisation wait already; no more may at once."),
    ),
    "references": Quota(
        "TENANT_REFERENCES", _("References of one uploaded program"), None, "bad_input", 422,
        _("has %(used)s memory references; at most %(most)s are possible"),
    ),
    "storage": Quota(
        "TENANT_STORAGE", _("Uploaded programs and marked moments"),
        _of(Sum("workloads__size")) + _of(Sum("marks__size")), "quota", 409,
        _(
            "Uploaded programs and marked moments of your organisation take %(used)s of %(most)s; %(more)s more do not "
            "fit. Delete a program that no VM ever had, or a mark."
        ),
        bytes=True,
    ),
    "sockets": Quota(  # kept by webapp/live/places.py, which tells the page
        "TENANT_SOCKETS", _("Live pages that are open"),
        lambda tenant: publish.places_taken(places.key_of(places.ORGANISATION, tenant.slug)),
    ),
}  # fmt: skip


# Of a person, in an organisation or not.
PERSONAL: Final[Mapping[str, Quota]] = {
    "own_storage": Quota(
        "PERSON_STORAGE", _("What you have shared, and texts of courses that you wrote"),
        _of(Sum("shares__size"), User) + _of(Sum("item_texts__size"), User), "bad_input", 422,
        _(
            "does not fit: what you have shared and wrote in courses would take %(used)s, and may take %(most)s. "
            "Revoke a link, or delete an item that is no longer needed"
        ),
        bytes=True,
    ),
    "own_sockets": Quota(
        "PERSON_SOCKETS", _("Live pages that you have open"),
        lambda user: publish.places_taken(places.key_of(places.PERSON, user.pk)),
    ),
}  # fmt: skip


class Level(NamedTuple):
    """How far a quota is used up, for people: `used` is None where each thing is measured by itself."""

    name: str
    says: str
    used: int | None
    most: int | None
    used_shown: str
    most_shown: str

    @property
    def near(self) -> bool:
        return self.used is not None and self.most is not None and self.used * 10 >= self.most * 9


def lock(tenant_id: int) -> Tenant:
    """The organisation's row, for this transaction alone. On SQLite the transaction itself is the only writer."""
    return Tenant.objects.select_for_update(no_key=True).get(pk=tenant_id)


def refused(name: str, *, used: int, more: int = 1) -> VpmsError:
    """The refusal in words that name the limit and what to do."""
    row = {**QUOTAS, **PERSONAL}[name]
    tally.count("vpms_quota_refused_total", kind=name)
    figures = {"used": used, "most": getattr(settings, row.most), "more": more}
    told = str(row.refusal) % {key: row.shown(value) for key, value in figures.items()}
    return VpmsError(row.code, row.status, message=told)


def expect(name: str, *, tenant_id: int, more: int = 1) -> None:
    """Room for so much more, or VpmsError. Until the transaction ends nobody else adds to what the organisation has."""
    row = QUOTAS[name]
    most: int = getattr(settings, row.most)
    if not most:
        return
    lock(tenant_id)  # a statement of its own: what is counted must have been there when the lock was had
    used: int = Tenant.objects.values_list(row.used, flat=True).get(pk=tenant_id)
    if used + more > most:
        raise refused(name, used=used, more=more)


def lock_person(pk: int) -> None:
    """The person's row, for this transaction alone."""
    User.objects.select_for_update(no_key=True).values_list("pk", flat=True).get(pk=pk)


def expect_stored(*, by: User, path: str) -> None:
    """What the person stores is within its limit, with what this transaction wrote; else BadInput at this path, and
    the transaction is undone."""
    row, most = PERSONAL["own_storage"], settings.PERSON_STORAGE
    if not most:
        return
    lock_person(by.pk)
    used: int = User.objects.values_list(row.used, flat=True).get(pk=by.pk)
    if used > most:
        raise BadInput([Fault(path, refused("own_storage", used=used).message)])


def levels(*, tenant: Tenant) -> list[Level]:
    """Every quota of the organisation and how far it is used up, in one query."""
    return _levels(QUOTAS, tenant)


def own_levels(*, user: User) -> list[Level]:
    """The same of the person."""
    return _levels(PERSONAL, user)


def _levels(table: Mapping[str, Quota], of: Tenant | User) -> list[Level]:
    asked = {name: row.used(of) for name, row in table.items() if callable(row.used)}
    counted = [name for name, row in table.items() if row.used is not None and name not in asked]
    rows = of.__class__._default_manager.values_list(*(table[name].used for name in counted))
    used = {**dict(zip(counted, rows.get(pk=of.pk), strict=True)), **asked}
    return [_level(name, row, used.get(name)) for name, row in table.items()]


def level(name: str, *, tenant: Tenant) -> Level:
    """One of them."""
    row = QUOTAS[name]
    return _level(name, row, Tenant.objects.values_list(row.used, flat=True).get(pk=tenant.pk))


def _level(name: str, row: Quota, used: int | None) -> Level:
    most: int = getattr(settings, row.most)
    told = "" if used is None else row.shown(used)
    return Level(name, str(row.says), used, most or None, told, row.shown(most) if most else "")
