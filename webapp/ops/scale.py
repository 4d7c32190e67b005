"""A big platform for the demo: many organisations, people, hosts, VMs and a long log, beside the story's cast.

Rows and entries of the log are the same as the services write; only what would take minutes one by one is written
many at once, with a past. Negotiations and agreements are made by the services themselves. Everything follows from
one seed. Nothing of it runs, so keeper and workers have no more to do than before.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.contrib.auth.hashers import make_password
from django.db import connection, models, transaction
from django.utils import timezone

from webapp.accounts.models import User
from webapp.agreements import checks, steps
from webapp.agreements import services as agreements
from webapp.agreements.models import Conflict, Negotiation
from webapp.audit import services as audit
from webapp.audit.models import Entry
from webapp.audit.services import SYSTEM, Draft
from webapp.fleet.models import Host, HostVersion, Placement, columns_of
from webapp.ops.story import CAREFUL, EASY, GIVES, KEEPS, QUICK, host_document
from webapp.runs import engine
from webapp.runs.models import Act, Event, Run
from webapp.runs.services import DEMO_RATE, DRILLS
from webapp.strictjson import canonical
from webapp.tenants.forms import delegate_default
from webapp.tenants.models import Membership, Policy, Tenant, VirtualMachine
from webapp.tenants.selectors import programs
from webapp.tenants.services import membership_add
from webapp.vpms import conflicts, documents
from webapp.vpms.answers import document_from_answers
from webapp.vpms.vocabulary import PROFILES


@dataclass(frozen=True)
class Size:
    tenants: int
    people: int
    hosts: int
    vms: int
    records: int  # of the log, at least
    negotiations: int


LARGE: Final = Size(tenants=200, people=420, hosts=250, vms=5000, records=100_000, negotiations=80)
SEED: Final = 6
PAST: Final = dt.timedelta(days=30)
OPEN_FOR: Final = 7 * 86400  # seconds in which an open proposal can be answered
OPERATOR: Final = "otto"
MEMORY_MIB: Final = 8

WHERE: Final = (
    "Amber",
    "Birch",
    "Cedar",
    "Coral",
    "Delta",
    "Elm",
    "Falcon",
    "Granite",
    "Harbour",
    "Iris",
    "Juniper",
    "Kestrel",
    "Lagoon",
    "Maple",
    "North",
    "Ocean",
    "Pine",
    "Quartz",
    "River",
    "Summit",
)
WHAT: Final = ("Clinic", "Shop", "Bank", "Press", "Labs", "Museum", "Transport", "Energy", "Insurance", "School")
FIRST: Final = ("Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Klara", "Paul")
USES: Final = ("db", "web", "mail", "files", "search", "cache", "build", "backup")

# What VMs wish: answers, or switches as somebody wrote them. The last is against every host's law.
Wishes = dict[str, Any]
ANSWERED: Final[dict[str, Wishes]] = {
    **{profile.name: {name: dict(given) for name, given in profile.answers.items()} for profile in PROFILES},
    "easy": EASY,
    "careful": CAREFUL,
    "quick": QUICK,
}
WRITTEN: Final[dict[str, Wishes]] = {
    "keeps": KEEPS,
    "gives": GIVES,
    "unlawful": {"audit_level": {"weight": 1000, "values": {"none": 1000, "metadata": "veto", "full": "veto"}}},
}
KINDS: Final = (*ANSWERED, *WRITTEN)
SHARES: Final = (12, 24, 20, 10, 12, 8, 8, 2, 2, 2)  # of the kinds, in percent
ASKED: Final = "template-vm"  # stands in a check's words where a VM's name will


class Kind(NamedTuple):
    """One kind of wishes: the document, and its check against a host of the fleet."""

    document: dict[str, Any]
    result: dict[str, Any]


class Machine(NamedTuple):
    """A VM with what its history needs."""

    vm: VirtualMachine
    slug: str
    host: Host
    owner: User
    kinds: list[str]  # of its versions, in order


@transaction.atomic
def load(size: Size = LARGE) -> bool:
    """The big platform, unless it is there already. It comes whole or not at all."""
    if User.objects.filter(username=OPERATOR).exists():
        return False
    source = random.Random(SEED)
    began = timezone.now()
    last = Entry.objects.order_by("-seq").first()
    first = max(began - PAST, last.at) if last else began - PAST
    kinds = {name: kind_of(name) for name in KINDS}
    tenants, owners, drafts = people_made(source, size)
    hosts = hosts_made(size, drafts)
    machines = machines_made(source, size, tenants, owners, hosts)
    drafts += wishes_made(machines, kinds)
    drafts += runs_made(source, machines, missing=size.records - len(drafts))
    audit.record_all(spread(drafts, first, began))
    dates_set(first, began)
    for number, host in enumerate(hosts[: size.negotiations]):
        negotiation_held(number, [machine for machine in machines if machine.host == host][:2])
    return True


def welcome(user: User) -> None:
    """The person also acts for the largest of the organisations, so that it can be looked at."""
    membership_add(by=None, user=user, role="owner", tenant=Tenant.objects.get(slug=slug_of(0)))


def spread(drafts: list[Draft], first: dt.datetime, last: dt.datetime) -> Iterator[Draft]:
    """The entries at even distances of time, in their order."""
    apart = (last - first) / max(1, len(drafts))
    return (draft._replace(at=first + apart * number) for number, draft in enumerate(drafts))


def draft(type: str, subject: str, data: dict[str, Any], *audience: str, by: User | None = None) -> Draft:
    """An entry whose time comes later."""
    return Draft(timezone.now(), by.alias if by else SYSTEM, type, subject, data, audience)


# -- who and where


def slug_of(number: int) -> str:
    return f"{WHERE[number % len(WHERE)]}-{WHAT[number // len(WHERE) % len(WHAT)]}".lower()


def people_made(source: random.Random, size: Size) -> tuple[list[Tenant], list[list[User]], list[Draft]]:
    """Organisations, each with an owner at least, and the operator of the fleet."""
    tenants = [Tenant(slug=slug_of(n), name=slug_of(n).replace("-", " ").title()) for n in range(size.tenants)]
    Tenant.objects.bulk_create(tenants)
    nobody = make_password(None)  # nobody signs in as one of them
    names = [f"{source.choice(FIRST).lower()}.{number:03}" for number in range(size.people)]
    users = [User(username=name, first_name=name.partition(".")[0].title(), password=nobody) for name in names]
    operator = User(username=OPERATOR, first_name="Otto", password=nobody)
    User.objects.bulk_create([operator, *users])
    drafts = [draft("account.created", f"user:{user.alias}", {}) for user in (operator, *users)]
    drafts += [draft("tenant.created", f"tenant:{tenant.slug}", {}, tenant.slug) for tenant in tenants]
    roles = [Membership(user=operator, role="operator")]
    owners: list[list[User]] = [[] for _ in tenants]
    for number, user in enumerate(users):
        at = number % len(tenants)
        role = "owner" if number < len(tenants) else "member"
        roles.append(Membership(user=user, tenant=tenants[at], role=role))
        owners[at].append(user)
    Membership.objects.bulk_create(roles)
    for row in roles:
        slugs = [row.tenant.slug] if row.tenant else []
        data = {"person": row.user.alias, "role": row.role, "tenant": slugs[0] if slugs else None}
        drafts.append(draft("role.given", f"user:{row.user.alias}", data, *slugs))
    return tenants, owners, drafts


def fleet_document(name: str) -> dict[str, Any]:
    """A host as in the story, with room for its twenty VMs."""
    document = host_document(name)
    return {**document, "capacity": {**document["capacity"], "cores": 16, "memory_mib": 512}}


def hosts_made(size: Size, drafts: list[Draft]) -> list[Host]:
    hosts = []
    operator = User.objects.get(username=OPERATOR)
    for number in range(size.hosts):
        document = fleet_document(f"rack{number // 10 + 1:02}-{number % 10}")
        text = canonical(document)
        sha256, columns = hashlib.sha256(text).hexdigest(), columns_of(document)
        hosts.append(Host(name=document["host"], document=text.decode(), sha256=sha256, **columns))
        drafts.append(draft("host.created", f"host:{hosts[-1].name}", {"sha256": hosts[-1].sha256}, by=operator))
    made = Host.objects.bulk_create(hosts)
    first = (HostVersion(host=host, version=1, document=host.document, sha256=host.sha256) for host in made)
    HostVersion.objects.bulk_create([*first])
    return made


def machines_made(
    source: random.Random, size: Size, tenants: list[Tenant], owners: list[list[User]], hosts: list[Host]
) -> list[Machine]:
    """VMs on hosts in turn. The first organisation has the most, the last the fewest."""
    shares = [1 / (number + 4) for number in range(len(tenants))]
    whose = source.choices(range(len(tenants)), shares, k=size.vms)
    made, counts, traces = [], [0] * len(tenants), programs()
    for number, at in enumerate(whose):
        host = hosts[number % len(hosts)]
        row = number // len(hosts)
        if row == 1 and number % len(hosts) < size.negotiations and at == whose[number - len(hosts)]:
            at = whose[number] = (at + 1) % len(tenants)  # the two that negotiate are of different organisations
        counts[at] += 1
        name = f"{tenants[at].slug}-{source.choice(USES)}-{counts[at]:03}"
        vm = VirtualMachine(tenant=tenants[at], name=name, trace=source.choice(traces), memory_mib=MEMORY_MIB)
        kinds = source.choices(KINDS, SHARES, k=source.choice((1, 1, 2, 2, 3, 4, 6)))
        if number % len(hosts) < size.negotiations and row < 2:
            kinds.append(("careful", "quick")[row])
        made.append(Machine(vm, tenants[at].slug, host, source.choice(owners[at]), kinds))
    VirtualMachine.objects.bulk_create([machine.vm for machine in made])
    Placement.objects.bulk_create([Placement(vm=machine.vm, host=machine.host) for machine in made])
    return made


# -- what they wish


def kind_of(name: str) -> Kind:
    """The kind's document for a VM that does not exist, and the check of it."""
    host = documents.read_host(fleet_document("rack"))
    size = {"vcpus": 1, "memory_mib": MEMORY_MIB}
    document = document_from_answers(
        ANSWERED.get(name, EASY),
        vm=ASKED,
        tenant=ASKED,
        version=1,
        size=size,
        delegate=delegate_default(),
        disagreement={"kind": "do-not-start", "utility": 200, "budget": 0},
        offers=documents.offered_values(host, size),
    )
    document = {**document, "switches": WRITTEN.get(name, document["switches"])}
    now = checks.policy_time(timezone.now())
    return Kind(document, conflicts.check([documents.read_policy(document)], host, now=now, trigger="create"))


def wishes_made(machines: list[Machine], kinds: dict[str, Kind]) -> list[Draft]:
    """Every version of every VM's wishes with its check, as saving them one after the other leaves them."""
    drafts: list[Draft] = []
    policies: list[Policy] = []
    found: list[tuple[Conflict, VirtualMachine]] = []
    now = timezone.now()
    for machine in machines:
        vm, slug, host, owner, names = machine
        subject = f"vm:{vm.name}"
        drafts.append(draft("vm.created", subject, {"trace": vm.trace}, slug, by=owner))
        drafts.append(draft("vm.placed", subject, {"host": host.name}, slug, by=owner))
        before = None
        for version, name in enumerate(names, start=1):
            document = {**kinds[name].document, "vm": vm.name, "tenant": slug, "version": version}
            text = canonical(document)
            sha256 = hashlib.sha256(text).hexdigest()
            policies.append(Policy(vm=vm, version=version, document=text.decode(), sha256=sha256, created_by=owner))
            data = {"version": version, "sha256": sha256, "before": before}
            drafts.append(draft("policy.version", subject, data, slug, by=owner))
            before = sha256
            result = renamed(kinds[name].result, vm.name)
            drafts.append(check_entry(machine, result, sha256))
            closed = None if version == len(names) else now
            for conflict in checked(machine, result, closed):
                found.append((conflict, vm))
                drafts.append(conflict_entry(conflict, slug))
    Policy.objects.bulk_create(policies)
    conflicts_store(found)
    return drafts


def renamed(result: dict[str, Any], name: str) -> dict[str, Any]:
    """A check's result about this VM."""
    if not result["conflicts"]:
        return result
    changed: dict[str, Any] = json.loads(json.dumps(result).replace(ASKED, name))
    return changed


def check_entry(machine: Machine, result: dict[str, Any], sha256: str) -> Draft:
    name, host = machine.vm.name, machine.host
    against = {
        **result["checked_against"],
        "host": host.name,
        "host_sha256": host.sha256,
        "policies": {name: sha256},
    }
    codes = sorted(conflict["code"] for conflict in result["conflicts"])
    data = {"words": checks.status_words(result), "trigger": "create", "against": against, "codes": codes}
    return draft("check", f"vm:{name}", data, machine.slug)


def checked(machine: Machine, result: dict[str, Any], closed: dt.datetime | None) -> Iterator[Conflict]:
    """The conflicts that the check of a version leaves; a later version has closed them."""
    for row in result["conflicts"]:
        if row["severity"] in checks.BLOCKING:
            yield Conflict(
                host=machine.host,
                code=row["code"],
                name=row["name"],
                kind="static",
                trigger="create",
                severity=row["severity"],
                switch=row["switch"] or "",
                text=checks.finding_words(row),
                evidence={"core": row["core"], "background": row["background"]},
                closed_at=closed,
            )


def conflict_entry(conflict: Conflict, slug: str) -> Draft:
    names = ("code", "name", "severity", "switch", "text", "evidence")
    data = {name: getattr(conflict, name) for name in names}
    return draft("conflict", f"host:{conflict.host.name}", data, slug)


def conflicts_store(found: list[tuple[Conflict, VirtualMachine]]) -> None:
    Conflict.objects.bulk_create([conflict for conflict, _ in found])
    through = Conflict.vms.through
    through.objects.bulk_create(  # type: ignore[attr-defined]
        [through(conflict=conflict, virtualmachine=vm) for conflict, vm in found]
    )


# -- what went on


def runs_made(source: random.Random, machines: list[Machine], missing: int) -> list[Draft]:
    """One run of each host that is over, with drills and requests for memory, until the log is long enough."""
    operator = User.objects.get(username=OPERATOR)
    by_host: dict[int, list[Machine]] = {}
    for machine in machines:
        by_host.setdefault(machine.host.pk, []).append(machine)
    runs = {pk: run_over(here[0].host) for pk, here in by_host.items()}
    Run.objects.bulk_create(runs.values())
    drafts: list[Draft] = []
    acts: list[Act] = []
    events: list[Event] = []
    found: list[tuple[Conflict, VirtualMachine]] = []
    hosts = list(by_host.values())
    for turn, here in enumerate(hosts):
        run = runs[here[0].host.pk]
        share = max(0, missing - len(drafts)) // (len(hosts) - turn)
        told = host_history(source, run, here[:4], operator, share)
        drafts += told.drafts
        acts += told.acts
        events += told.events
        found += told.conflicts
    Act.objects.bulk_create(acts)
    Event.objects.bulk_create(events)
    conflicts_store(found)
    return drafts


class History(NamedTuple):
    drafts: list[Draft]
    acts: list[Act]
    events: list[Event]
    conflicts: list[tuple[Conflict, VirtualMachine]]


EVENTS_A_HOST: Final = 40  # a run that long ago has told more, but no page shows it


def run_over(host: Host) -> Run:
    return Run(
        host=host,
        state=Run.State.DONE,
        scenario=engine.scenario_of(document=json.loads(host.document), seed=host.pk),
        engine_version=engine.ENGINE_VERSION,
        rate=DEMO_RATE,
        reason="No VM is left on the host.",
        ended_at=timezone.now(),
    )


def host_history(source: random.Random, run: Run, here: list[Machine], operator: User, share: int) -> History:
    """The VMs start, are asked for memory and drilled in turn, and stop; `share` entries of the log in all."""
    told = History([], [], [], [])
    host = run.host.name
    for slot, machine in enumerate(here, start=1):
        told.acts.append(
            Act(run=run, vm=machine.vm, kind="start_vm", state=Act.State.DONE, slice_no=0, result={"slot": slot})
        )
        told.drafts.append(draft("vm.running", f"vm:{machine.vm.name}", {"host": host, "run": run.pk}, machine.slug))
    for number in range(max(0, share - 3 * len(here))):
        machine = here[number % len(here)]
        if number % 50 == 7 and machine.kinds[-1] in ("keeps", "careful", "confidential"):
            refused(told, run, machine, number)
        drill = number % 3 != 0
        data = {"attack": source.choice(list(DRILLS))} if drill else {"pages": 32 * source.randint(1, 8)}
        kind = "drill" if drill else "reclaim"
        told.drafts.append(
            draft(f"act.{kind}", f"vm:{machine.vm.name}", {"host": host, **data}, machine.slug, by=operator)
        )
        if drill and len(told.events) < EVENTS_A_HOST:
            told.events.append(drilled(run, machine.vm, data["attack"], len(told.events) + 1))
    for machine in here:
        subject, reason = f"vm:{machine.vm.name}", {"reason": "it was asked to."}
        told.drafts.append(draft("vm.stop", subject, {}, machine.slug, by=machine.owner))
        told.drafts.append(draft("vm.stopped", subject, {"host": host, "run": run.pk, **reason}, machine.slug))
    return told


def drilled(run: Run, vm: VirtualMachine, attack: str, number: int) -> Event:
    title = f"{DRILLS[attack]} against {vm.name}"[:200]
    return Event(run=run, number=number, op=1000 * number, kind="drill", vm=vm, title=title, outcome="BLOCKED")


def refused(told: History, run: Run, machine: Machine, number: int) -> None:
    """A request for memory that an agreement of the past forbade: the conflict that it left, seen to since."""
    name, pages = machine.vm.name, 96
    state = hashlib.sha256(f"{run.pk} {number}".encode()).hexdigest()
    conflict = Conflict(
        host=run.host,
        code="C19",
        name=conflicts.NAMES["C19"],
        kind="dynamic",
        trigger="run",
        severity="hard",
        switch="balloon",
        text=(
            f"The operator asked {name} for {pages} pages of memory. The agreement in force says "
            "“Giving memory back: never”, so the request was refused and nothing changed."
        ),
        evidence={
            "event": {"kind": "reclaim", "vm": name, "pages": pages},
            "value_in_force": "none",
            "digest_before": state,
            "digest_after": state,
            "agreement": hashlib.sha256(run.host.name.encode()).hexdigest(),
        },
        closed_at=timezone.now() if number % 4 else None,
    )
    told.conflicts.append((conflict, machine.vm))
    told.drafts.append(conflict_entry(conflict, machine.slug))


# -- dates and agreements


DATED: Final[tuple[tuple[type[models.Model], str], ...]] = (
    (VirtualMachine, "created_at"),
    (Policy, "created_at"),
    (Conflict, "found_at"),
    (Act, "asked_at"),
    (Event, "at"),
)


def dates_set(first: dt.datetime, last: dt.datetime) -> None:
    """Rows get a time between the two in the order in which they were made: the database gave them all that of now."""
    for model, field in DATED:
        rows = list(
            model._default_manager.filter(**{f"{field}__gte": last}).order_by("pk").values_list("pk", flat=True)
        )
        apart = (last - first) / max(1, len(rows))
        table, column = model._meta.db_table, model._meta.get_field(field).column
        pairs = [(connection.ops.adapt_datetimefield_value(first + apart * n), pk) for n, pk in enumerate(rows)]
        with connection.cursor() as cursor:
            cursor.executemany(f'UPDATE "{table}" SET "{column}" = %s WHERE id = %s', pairs)  # own names
    Run.objects.filter(started_at__gte=last).update(started_at=first, ended_at=last)


def negotiation_held(number: int, pair: list[Machine]) -> None:
    """The first VM gets an agreement of its own, then the second wants to start beside it; how that ends differs."""
    one, two = pair
    alone = agreements.start_request(by=one.owner, vm=one.vm)
    if not settle(alone):
        return
    VirtualMachine.objects.filter(pk=one.vm.pk).update(state=VirtualMachine.State.RUNNING)
    both = agreements.start_request(by=two.owner, vm=two.vm)
    if both.state == Negotiation.State.DETECTED:
        steps.keep(both, steps.proposed(both.protocol, seconds=OPEN_FOR))
        both = agreements.fresh(both)
    if both.state == Negotiation.State.PROPOSED and number % 6 == 1:
        agreements.withdraw(by=two.owner, negotiation=both)
    elif both.state == Negotiation.State.PROPOSED and number % 6 != 0:  # every sixth stays open
        for machine in pair:
            if machine.vm.name not in both.protocol["answers"]:
                both = agreements.answer(
                    by=machine.owner, negotiation=both, vm=machine.vm, round=both.round, version=both.version,
                    accept=number % 6 != 2 or machine is two, reason="final",
                )  # fmt: skip
        settle(both)
    VirtualMachine.objects.filter(pk=one.vm.pk).update(state=VirtualMachine.State.STOPPED)


def settle(negotiation: Negotiation) -> bool:
    """Advance it as a worker would; an agreement is put in force, and the VM then stopped again."""
    after = agreements.negotiation_advance(negotiation_id=negotiation.pk)
    if after.state != Negotiation.State.SIGNED:
        return False
    agreements.agreement_put_in_force(negotiation=after)
    VirtualMachine.objects.filter(pk=after.requester_id).update(state=VirtualMachine.State.STOPPED)
    return True
