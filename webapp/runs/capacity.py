"""What hosts have, what of it is promised and used, who is where, and where a VM of some size could go.

Promised is what the agreements in force give to the VMs that run; used is what the machine has mapped for them as of
its newest checkpoint. A VM that is stopped holds nothing: its next start is checked against what is free then.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from webapp.agreements import selectors as agreed
from webapp.agreements.models import Agreement
from webapp.errors import BadInput, Fault
from webapp.fleet.changes import CAPACITY
from webapp.fleet.models import Host, Placement
from webapp.fleet.selectors import ON_HOST, document_of
from webapp.runs import selectors
from webapp.runs.engine import PAGES_PER_MIB
from webapp.runs.models import Run
from webapp.tenants.models import Policy, VirtualMachine
from webapp.tenants.selectors import missing
from webapp.vpms.vocabulary import OVERCOMMIT_PERCENT, RESOURCES, SWITCHES

if TYPE_CHECKING:
    from webapp.accounts.models import User

UNSAID: Final = {"cache_ways": 1, "bandwidth_pct": 10}  # of a VM's size
LOCKED: Final = "locked_mib"  # the one resource without a capacity of its own
LABELS: Final = {**CAPACITY, LOCKED: "Memory that is never swapped out, in MiB"}
TOGETHER: Final = 200  # hosts that are read at once while a place is looked for
MOST_LOOKED_AT: Final = 1000
MOST_FOUND: Final = 20
LARGEST_MIB: Final = 1 << 26


@dataclass
class Guest:
    """A VM that lives on a host; what it holds is nothing while it is stopped."""

    vm: VirtualMachine
    size: Mapping[str, int] = field(default_factory=dict)
    holds: Mapping[str, int] = field(default_factory=dict)  # by resource
    used_mib: int | None = None

    @property
    def runs(self) -> bool:
        return self.vm.state in ON_HOST

    @property
    def memory_mib(self) -> int:
        return int(self.size.get("memory_mib", 0))

    @property
    def held(self) -> list[tuple[str, int]]:
        return [(LABELS[name], amount) for name, amount in self.holds.items() if amount]


@dataclass
class Room:
    """One host with everybody who lives there."""

    host: Host
    capacity: Mapping[str, int]
    guests: list[Guest]
    percent: int  # of its memory that may be promised
    binding: bool  # that follows from the agreement in force, else from what is offered

    @property
    def promised_mib(self) -> int:
        return sum(guest.memory_mib for guest in self.guests if guest.runs)

    @property
    def used_mib(self) -> int | None:
        """None: the machine has not told of anybody who runs."""
        known = [guest.used_mib for guest in self.guests if guest.runs and guest.used_mib is not None]
        return sum(known) if known else None

    @property
    def limit_mib(self) -> int:
        return self.capacity["memory_mib"] * self.percent // 100

    @property
    def free_mib(self) -> int:
        return max(0, self.limit_mib - self.promised_mib)

    @property
    def running(self) -> int:
        return sum(guest.runs for guest in self.guests)

    def row(self, name: str) -> dict[str, Any]:
        """One resource: how much there is, is promised, and is free."""
        if name == "memory_mib":
            there, promised = self.limit_mib, self.promised_mib
        else:
            there = self.capacity["memory_mib" if name == LOCKED else name]
            promised = sum(guest.holds.get(name, 0) for guest in self.guests)
        return {
            "name": name,
            "label": LABELS[name],
            "there": there,
            "promised": promised,
            "used": self.used_mib if name == "memory_mib" else None,
            "free": max(0, there - promised),
            "bar": max(there, promised, 1),
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.row(name) for name in LABELS]


def rooms(hosts: Sequence[Host]) -> list[Room]:
    """These hosts with who lives there; as many queries for one as for a hundred."""
    placed: dict[int, list[VirtualMachine]] = defaultdict(list)
    rows = Placement.objects.filter(host__in=hosts, vm__deleted_at__isnull=True).select_related("vm__tenant")
    for row in rows.order_by("vm__name"):
        placed[row.host_id].append(row.vm)
    agreements = {row.host_id: row for row in Agreement.objects.filter(host__in=hosts, in_force=True)}
    predicates = {host: agreed.predicate_of(row) for host, row in agreements.items()}
    running = [vm for vms in placed.values() for vm in vms if vm.state in ON_HOST]
    sizes = _sizes(running, predicates.values())
    figures = {
        host: run.figures
        for host, run in selectors.newest_runs(runs=Run.objects.all(), hosts=[host.pk for host in hosts]).items()
    }
    return [_room(host, placed[host.pk], predicates.get(host.pk), sizes, figures.get(host.pk, {})) for host in hosts]


def _sizes(running: list[VirtualMachine], predicates: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By VM: the size in the wishes that its agreement was made with; no other part of the wishes is looked at."""
    versions = {row["id"]: row["policy_version"] for each in predicates for row in each["parties"]}
    rows = Policy.objects.filter(vm__in=running, version__in={versions.get(vm.name) or 0 for vm in running})
    found = {}
    for name, version, document in rows.values_list("vm__name", "version", "document").order_by("vm__name"):
        if version == versions.get(name):
            found[name] = {**UNSAID, **json.loads(document)["size"]}
    return found


def _room(
    host: Host,
    vms: list[VirtualMachine],
    predicate: Mapping[str, Any] | None,
    sizes: Mapping[str, Mapping[str, int]],
    figures: Mapping[str, Mapping[str, int]],
) -> Room:
    document = document_of(host)
    shared = predicate["assignment"]["host"] if predicate else {}
    own = predicate["assignment"]["vms"] if predicate else {}
    guests = []
    for vm in vms:
        guest = Guest(vm, sizes.get(vm.name, {}))
        if guest.runs:
            guest.holds = _held({**shared, **own.get(vm.name, {})}, guest.size)
            pages = figures.get(vm.name, {}).get("mapped")
            guest.used_mib = None if pages is None else -(-pages // PAGES_PER_MIB)
        guests.append(guest)
    binding = any(guest.runs for guest in guests) and "overcommit" in shared
    value = shared["overcommit"] if binding else _laxest(document)
    return Room(host, document["capacity"], guests, OVERCOMMIT_PERCENT[value], binding)


def _held(view: Mapping[str, str], size: Mapping[str, int]) -> dict[str, int]:
    """What a VM with these values in force takes of each scarce thing."""
    return {
        resource.name: 1 if resource.amount is None else int(size.get(resource.amount, 0))
        for resource in RESOURCES
        if view.get(resource.switch) in resource.values
    }


def _laxest(document: Mapping[str, Any]) -> str:
    """The most that the host may promise while nobody's agreement says less."""
    operator = document["operator"]
    parts = [part.get("overcommit") for part in (document.get("capabilities", {}), operator.get("law", {}))]
    parts.append(operator.get("offers", {}).get("overcommit"))
    allowed = [name for name in SWITCHES["overcommit"].names if all(part is None or name in part for part in parts)]
    return allowed[-1] if allowed else "none"


def room_of(*, user: User, host: Host) -> Room:
    """One host, for those who see the site."""
    if not user.sees_site:
        raise missing()
    return rooms([host])[0]


def size_read(text: str) -> int:
    """The MiB that are asked for."""
    if not text.isascii() or not text.isdecimal() or len(text) > 8 or not 1 <= int(text) <= LARGEST_MIB:
        raise BadInput([Fault("$.mib", f"must be a whole number from 1 to {LARGEST_MIB}")])
    return int(text)


def places_for(*, user: User, mib: int) -> list[Room]:
    """Hosts in service with so much memory free to promise, by name. It says nothing of other wishes: a start is
    checked against them, and everybody there is asked. At most MOST_FOUND, among the first MOST_LOOKED_AT hosts."""
    if not user.sees_site:
        raise missing()
    hosts = Host.objects.filter(retired_at__isnull=True).order_by("name")
    found: list[Room] = []
    for first in range(0, MOST_LOOKED_AT, TOGETHER):
        several = list(hosts[first : first + TOGETHER])
        found += [room for room in rooms(several) if room.free_mib >= mib and not _taken(room)]
        if len(several) < TOGETHER or len(found) >= MOST_FOUND:
            break
    return found[:MOST_FOUND]


def _taken(room: Room) -> bool:
    """Is the host given to one VM alone?"""
    return (
        room.running == 1
        and Placement.objects.filter(host=room.host, alone=True)
        .exclude(vm__state=VirtualMachine.State.STOPPED)
        .exists()
    )
