"""A fleet for the demo: 5,000 hosts and 100,000 VMs beside the story's two, so that the wall can be looked at in full.

No engine plays these hosts: two cores could not. Their rows are written many at once, and `tick` writes their checks
anew as their slices would, with a little going wrong here and there. The story's own hosts are measured as ever.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import random
from itertools import islice
from typing import Any, Final, NamedTuple

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from webapp.audit import services as audit
from webapp.audit.models import Entry
from webapp.fleet.models import Host, Placement, columns_of
from webapp.live import publish
from webapp.ops.scale import PAST, draft, fleet_document, slug_of, spread
from webapp.runs import wall
from webapp.runs.engine import DEGRADED, NONE, OK, VIOLATION, Sight
from webapp.runs.models import HostCheck
from webapp.strictjson import canonical
from webapp.tenants.models import Tenant, VirtualMachine


class Size(NamedTuple):
    tenants: int
    hosts: int
    vms: int


FLEET: Final = Size(tenants=200, hosts=5000, vms=100_000)
SEED: Final = 7
NAME: Final = "fleet-"
ZONES: Final = ("north", "east", "south", "west", "harbour", "hill", "old-town", "airport")
TURNS: Final = 8  # ticks in which every host is measured once
SILENT: Final = 1250  # every so manieth host gives no sign: what is not heard of is unknown
WRONG_FOR: Final = dt.timedelta(seconds=30)
MOST_WRONG: Final = 8  # cells at once
FAULTS: Final[tuple[tuple[str, Sight], ...]] = (
    ("queue", Sight(DEGRADED, "slice_waited", {"ms": 3400})),
    ("engine", Sight(DEGRADED, "slice_slow", {"ms": 2900, "op": 0})),
    ("tlb", Sight(DEGRADED, "pending", {"count": 2})),
    ("queue", Sight(DEGRADED, "attempts", {"ms": 6100, "count": 2})),
    ("ownership", Sight(VIOLATION, "ownership_broken", {"count": 1})),
)
AT_ONCE: Final = 2000

_turn = 0
_fleet: list[int] = []  # the numbers of its hosts, read once


@transaction.atomic
def load(size: Size = FLEET) -> bool:
    """The fleet, unless it is there already. It comes whole or not at all."""
    if Host.objects.filter(name__startswith=NAME).exists():
        return False
    source = random.Random(SEED)
    now = timezone.now()
    last = Entry.objects.order_by("-seq").first()
    tenants = tenants_made(size)
    hosts = hosts_made(size)
    vms_made(source, size, tenants, hosts)
    cells_made(source, hosts, now)
    drafts = [draft("host.created", f"host:{host.name}", {"sha256": host.sha256}) for host in hosts]
    audit.record_all(spread(drafts, max(now - PAST, last.at) if last else now - PAST, now))
    return True


def tenants_made(size: Size) -> list[Tenant]:
    """Organisations; those of the big platform are there already if it was loaded before."""
    slugs = [f"{NAME}{slug_of(number)}" for number in range(size.tenants)]
    return Tenant.objects.bulk_create(Tenant(slug=slug, name=slug.replace("-", " ").title()) for slug in slugs)


def hosts_made(size: Size) -> list[Host]:
    """Hosts of eight zones; every fifth cannot protect memory."""
    hosts = []
    for number in range(size.hosts):
        document = fleet_document(f"{NAME}{number // 40 + 1:03}-{number % 40 + 1:02}")
        document["zone"] = ZONES[number // 40 % len(ZONES)]
        if number % 5 == 4:
            document["capabilities"] = {**document["capabilities"], "memory_protection": ["none"]}
        text = canonical(document)
        sha256, columns = hashlib.sha256(text).hexdigest(), columns_of(document)
        hosts.append(Host(name=document["host"], document=text.decode(), sha256=sha256, **columns))
    return Host.objects.bulk_create(hosts, batch_size=AT_ONCE)


def vms_made(source: random.Random, size: Size, tenants: list[Tenant], hosts: list[Host]) -> None:
    """Twenty VMs a host, of organisations by chance; they run. The log does not name them: a hundred thousand entries
    more would take minutes and show nothing on the wall."""
    running, vms = VirtualMachine.State.RUNNING, []
    for number in range(size.vms):
        tenant = source.choice(tenants)
        vms.append(VirtualMachine(tenant=tenant, name=f"{NAME}vm-{number:06}", trace="gzip", state=running))
    VirtualMachine.objects.bulk_create(vms, batch_size=AT_ONCE)
    rows = (Placement(vm=vm, host=hosts[number % len(hosts)]) for number, vm in enumerate(vms))
    while several := list(islice(rows, AT_ONCE)):
        Placement.objects.bulk_create(several)


def cells_made(source: random.Random, hosts: list[Host], now: dt.datetime) -> None:
    rows = []
    for number, host in enumerate(hosts):
        protects = number % 5 != 4
        at = now - dt.timedelta(seconds=source.random() * 5)
        for name in wall.NAMES:
            state, code = (OK, "") if protects or name not in ("region", "swap") else (NONE, ABSENT[name])
            data: dict[str, Any] = {}
            rows.append(HostCheck(host=host, name=name, state=state, code=code, data=data, measured_at=at, since=at))
    HostCheck.objects.bulk_create(rows, batch_size=AT_ONCE)


ABSENT: Final = {"region": "no_region", "swap": "swap_clear"}


def tick() -> None:
    """About once a second: an eighth of the fleet is measured anew, and now and then something goes wrong or is mended.
    Without a fleet it does nothing."""
    global _turn
    fleet = HostCheck.objects.filter(host__name__startswith=NAME)
    if not _fleet:
        _fleet.extend(Host.objects.filter(name__startswith=NAME).order_by("pk").values_list("pk", flat=True))
    now = timezone.now()
    _turn += 1
    share = len(_fleet) // TURNS + 1
    part = _fleet[_turn % TURNS * share :][:share]
    if not part:
        return
    silent = [pk for pk in part if pk % SILENT == 0]
    measured = HostCheck.objects.filter(host__gte=part[0], host__lte=part[-1]).exclude(host__in=silent)
    measured.update(measured_at=timezone.now(), version=F("version") + 1)
    publish.changed(wall.CELLS_TOPIC)
    wrong = list(fleet.filter(state__in=(DEGRADED, VIOLATION)).select_related("host"))
    for cell in wrong:
        if now - cell.since > WRONG_FOR:
            wall.cells_write(host=cell.host, sights={cell.name: Sight(OK)}, now=now)
    if _turn % 4 == 0 and len(wrong) < MOST_WRONG:
        something_wrong(random.Random(_turn), now)


def something_wrong(source: random.Random, now: dt.datetime) -> None:
    """A cell of some host turns; one in ten is a violation."""
    host = Host.objects.get(pk=source.choice(_fleet))
    name, sight = FAULTS[-1] if source.random() < 0.1 else source.choice(FAULTS[:-1])
    if host.pk % SILENT:
        wall.cells_write(host=host, sights={name: sight}, now=now)
