"""The demo's story: who takes part, what they wish, and what keeps going on. Everything through the normal services.

Host h1: a-db runs; b-web's start clashed with it, and a proposal waits for both people. Host h2: a-mail and b-shop run
under an agreement; the operator asks both for memory now and then, and holds attack drills against them. Host h3 is
empty: a newcomer's VM starts there at once.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any, Final

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from webapp.accounts import services as accounts
from webapp.accounts.models import User
from webapp.agreements import declaring
from webapp.agreements import services as agreements
from webapp.agreements.models import Negotiation
from webapp.classroom import services as classroom
from webapp.courses import builder, classes, reading
from webapp.courses import services as courses
from webapp.courses.models import Course
from webapp.errors import VpmsError
from webapp.fleet import services as fleet
from webapp.fleet.forms import blank
from webapp.fleet.models import Host
from webapp.runs import recording
from webapp.runs import services as runs
from webapp.runs.models import Act, Run
from webapp.tenants import services as tenants
from webapp.tenants.models import Tenant, VirtualMachine
from webapp.vpms import documents, negotiation
from webapp.vpms.answers import document_from_answers
from webapp.vpms.vocabulary import SWITCHES

log = logging.getLogger(__name__)

PEOPLE: Final = {
    "alice": "acts for tenant alpha",
    "bob": "acts for tenant beta",
    "olga": "operates the hosts",
    "ines": "teaches",
    "sven": "learns in the course of ines",
    "nora": "audits tenant alpha: reads, changes nothing",
}
COURSE: Final = "Memory that is nobody else's"
SIZES: Final = {"a-db": 16, "b-web": 8, "a-mail": 8, "b-shop": 16}
RECLAIM_PAGES: Final = 96
RECLAIM_EVERY: Final = dt.timedelta(seconds=15)
REFUSED_EVERY: Final = dt.timedelta(minutes=3)
DRILL_EVERY: Final = dt.timedelta(minutes=1)
MOST_OPEN_CONFLICTS: Final = 5
MOST_STEPS: Final = 60

# What a-db's owner wished at first; it runs under the agreement that came of it.
EASY: Final = {
    "q1": {"answer": "nobody", "strength": "must"},
    "q2": {"answer": "anyone", "strength": "prefer"},
    "q3": {"answer": "anyone", "strength": "prefer"},
    "q4": {"answer": "no", "strength": "prefer"},
    "q7": {"answer": "speed", "strength": "prefer"},
}
# Two wishes that clash over what the whole host shares, and can be settled: what a-db's owner wishes now, and b-web's.
CAREFUL: Final = {
    "q1": {"answer": "nobody", "strength": "must"},
    "q2": {"answer": "never", "strength": "prefer"},
    "q3": {"answer": "class", "strength": "prefer"},
    "q4": {"answer": "no", "strength": "prefer"},
}
QUICK: Final = {
    "q2": {"answer": "anyone", "strength": "prefer"},
    "q3": {"answer": "anyone", "strength": "prefer"},
    "q4": {"answer": "yes", "strength": "prefer"},
    "q7": {"answer": "speed", "strength": "prefer"},
}
# Two wishes that do not clash: one gives no memory back, the other does.
GUARDED: Final = {"weight": 500, "values": {"snp_tdx": 800, "hsvm": 1000, "sev": 400, "none": "veto"}}
USUAL: Final = {"weight": 100, "values": {"full": 0, "default": 1000, "off": 0}}
KEEPS: Final = {
    "memory_protection": GUARDED,
    "balloon": {"weight": 400, "values": {"none": 1000, "ask": 300, "on": 0}},
    "mitigations": USUAL,
}
GIVES: Final = {
    "memory_protection": GUARDED,
    "balloon": {"weight": 400, "values": {"none": 0, "ask": 500, "on": 1000}},
    "mitigations": USUAL,
}


def host_document(name: str) -> dict[str, Any]:
    """A host of 64 MiB with two cores that can protect memory and may ask guests for memory back."""
    new = blank(name)
    said = {"law": {"audit_level": ["full", "metadata"]}, "actions": ["reclaim"]}
    return {**new, "operator": {**new["operator"], **said, "prices": {"relocate": 5, "dedicated_host": 40}}}


def wishes(vm: str, tenant: str, host: str, answers: dict[str, dict[str, str]], version: int = 1) -> dict[str, Any]:
    """The policy document for these answers; people decide, and silence is a no."""
    size = {"vcpus": 1, "memory_mib": SIZES[vm]}
    return document_from_answers(
        answers,
        vm=vm,
        tenant=tenant,
        version=version,
        size=size,
        delegate={"mode": "human", "deadline_s": settings.NEGOTIATION_DEADLINE_SECONDS, "onTimeout": "reject"},
        disagreement={"kind": "do-not-start", "utility": 200, "budget": 0},
        offers=documents.offered_values(documents.read_host(host_document(host)), size),
    )


def plain_wishes(vm: str, tenant: str, host: str, switches: dict[str, Any]) -> dict[str, Any]:
    """The same with the switches as given."""
    return {**wishes(vm, tenant, host, {"q1": CAREFUL["q1"]}), "switches": switches}


# -- before the demo opens


def prepare(passwords: dict[str, str]) -> None:
    """The cast can sign in with these passwords, and the story is under way, whether the data is new or from before."""
    _check_database()
    if User.objects.filter(username="alice").exists():
        for name, password in passwords.items():
            accounts.password_set(by=None, user=_person(name, password), password=password)
    else:
        _cast(passwords)
    for name in PEOPLE:  # where the demo's e-mails go: to files in RUN_DIR/mail, unless HSVM_MAIL says otherwise
        User.objects.filter(username=name, email="").update(email=f"{name}@demo.example")
    classroom.table_prepare()
    recording.make(settlement=settlement())
    _set_going("h2", "a-mail")
    _set_going("h2", "b-shop")
    _all_accept("h2")
    _set_going("h1", "a-db")
    _wish_again("a-db", CAREFUL)
    _set_going("h1", "b-web")
    _teach(passwords)


@transaction.atomic
def _teach(passwords: dict[str, str]) -> None:
    """A course of ines in which sven has begun to learn, and a class of it that is open."""
    ines, sven = (_person(name, passwords[name]) for name in ("ines", "sven"))
    ines.forget_roles()
    if not ines.is_teacher:  # where that role asks for a second factor, it sleeps until she has one
        return
    course = Course.objects.filter(title=COURSE, members__user=ines).first() or _course(ines, sven)
    if course.archived_at is not None or not course.members.filter(user=ines, role="teacher", left_at=None).exists():
        return
    session = classes.class_open(by=ines, course=course)
    first = course.items.filter(kind="lesson", shown=True).first()
    if first is not None and not session.cursor:
        classes.show(by=ines, session=session, cursor={"kind": "section", "item": first.pk, "section": 0})


def _course(ines: User, sven: User) -> Course:
    """Three lessons and a lab: two lessons are open, the lab is due in a week, the last lesson is not open yet."""
    course = courses.course_create(by=ines, title=COURSE, summary="Who may read whose memory, and who says so.")
    member = courses.member_add(course=course, user=sven, nickname="sven")
    due = timezone.now().replace(hour=18, minute=0, second=0, microsecond=0) + dt.timedelta(days=7)
    terms = {"due_at": due, "late": "daily", "late_percent": 10, "accepted_until": due + dt.timedelta(days=7)}
    for kind, name, shown, given in (
        ("lesson", "two-translations", True, {"points": 10, "due_at": due}),
        ("lesson", "who-owns-a-page", True, {"points": 10}),
        ("attack", "read-the-secret", True, {**terms, "tries": 5}),
        ("lesson", "compromised-hypervisor", False, {"visible_from": due}),
    ):
        item = courses.shipped_add(by=ines, course=course, kind=kind, name=name, language="en")
        builder.settings_put(by=ines, item=item, given=given, seen=None)
        courses.item_shown(by=ines, item=item, shown=shown)
    lesson = course.items.filter(kind="lesson").select_related("course").first()
    assert lesson is not None
    reader = reading.of_item(item=lesson, member=member)
    key, question = next(iter(reader.lesson.questions.items()))
    reading.answer(reader, key=key, choice=question.right)
    return course


def _check_database() -> None:
    """The settings that keep SQLite's writers apart really hold; elsewhere they would fail without a word."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            [mode] = cursor.execute("PRAGMA journal_mode").fetchone()
        if mode != "wal":
            raise RuntimeError(f"SQLite runs in journal mode {mode}, not wal")


@transaction.atomic
def _cast(passwords: dict[str, str]) -> None:
    """People, tenants, hosts and VMs with their wishes; nothing runs yet."""
    people = {name: _person(name, passwords[name]) for name in PEOPLE}
    alpha = tenants.tenant_create(by=None, slug="alpha", name="Alpha Clinic")
    beta = tenants.tenant_create(by=None, slug="beta", name="Beta Shop")
    tenants.membership_add(by=None, user=people["alice"], role="owner", tenant=alpha)
    tenants.membership_add(by=None, user=people["bob"], role="owner", tenant=beta)
    tenants.membership_add(by=None, user=people["olga"], role="operator")
    tenants.membership_add(by=None, user=people["ines"], role="teacher")
    tenants.membership_add(by=None, user=people["nora"], role="auditor", tenant=alpha)
    h1, h2 = (fleet.host_create(by=people["olga"], document=host_document(name)) for name in ("h1", "h2"))
    fleet.host_create(by=people["olga"], document=host_document("h3"))
    _vm(people["alice"], alpha, h1, "a-db", "sqlite3", wishes("a-db", "alpha", "h1", EASY))
    _vm(people["bob"], beta, h1, "b-web", "gzip", wishes("b-web", "beta", "h1", QUICK))
    _vm(people["alice"], alpha, h2, "a-mail", "gzip", plain_wishes("a-mail", "alpha", "h2", KEEPS))
    _vm(people["bob"], beta, h2, "b-shop", "sqlite3", plain_wishes("b-shop", "beta", "h2", GIVES))


def _person(name: str, password: str) -> User:
    """One of the cast, made if it is not there yet, with an address at which nobody can be reached."""
    found = User.objects.filter(username=name).first()
    return found or accounts.user_create(
        by=None, username=name, password=password, full_name=name.capitalize(), email=f"{name}@vpms.example"
    )


def _vm(by: User, tenant: Tenant, host: Host, name: str, trace: str, document: dict[str, Any]) -> None:
    vm = tenants.vm_create(by=by, tenant=tenant, name=name, trace=trace)
    fleet.placement_set(by=by, vm=vm, host=host)
    vm = VirtualMachine.objects.select_related("placement__host", "tenant").get(pk=vm.pk)
    declaring.wishes_declare(by=by, vm=vm, document=document)


def _set_going(host: str, name: str) -> None:
    """The VM's owner presses Start if it is stopped, and the work that follows is done until it waits for people."""
    vm = VirtualMachine.objects.select_related("placement__host", "tenant").filter(name=name).first()
    if vm is None or vm.state != VirtualMachine.State.STOPPED:
        return
    try:
        runs.vm_start(by=_owner(vm), vm=vm)
    except VpmsError as refused:  # e.g. wishes that somebody has changed since
        log.warning("%s was not started: %s", name, refused.message)
        return
    drain()


def _wish_again(name: str, answers: dict[str, dict[str, str]]) -> None:
    """The owner of a running VM wishes for more than its agreement holds. Nothing changes by that alone."""
    vm = VirtualMachine.objects.select_related("placement__host", "tenant").filter(name=name).first()
    if vm is not None and vm.policies.count() == 1:
        document = wishes(vm.name, vm.tenant.slug, vm.placement.host.name, answers, version=2)
        declaring.wishes_declare(by=_owner(vm), vm=vm, document=document)


def _all_accept(host: str) -> None:
    """The people of the host's parties have read the proposal that stands and accept it."""
    proposed = Negotiation.objects.filter(host__name=host, state=Negotiation.State.PROPOSED)
    for row in proposed:
        for seat in row.seats.select_related("vm__tenant"):
            agreements.answer(
                by=_owner(seat.vm),
                negotiation=row,
                vm=seat.vm,
                round=row.round,
                version=row.version,
                accept=True,
                reason="",
            )
            row.refresh_from_db()
    drain()


def _owner(vm: VirtualMachine) -> User:
    return User.objects.get(username="alice" if vm.tenant.slug == "alpha" else "bob")


def drain() -> None:
    """Do the negotiations and slices that are due now in this process, as a worker would."""
    for _ in range(MOST_STEPS):
        now = timezone.now()
        open_ones = Negotiation.objects.filter(due_at__lte=now, lease_token="").values_list("pk", flat=True)
        starting = Run.objects.filter(
            state=Run.State.RUNNING, host__placements__vm__state=VirtualMachine.State.STARTING
        ).distinct()
        if not open_ones and not starting:
            return
        for pk in list(open_ones):
            runs.negotiation_work(negotiation_id=pk)
        for run in starting:
            Run.objects.filter(pk=run.pk).update(due_at=now)
            runs.run_slice(run_id=run.pk, slice_no=run.slice_no)


def settlement() -> list[str]:
    """Captions from a real negotiation of the demo's two clashing wishes."""
    host = documents.read_host({**host_document("h1"), "running": ["a-db"]})
    policies = [
        documents.read_policy(wishes("a-db", "alpha", "h1", CAREFUL)),
        documents.read_policy(wishes("b-web", "beta", "h1", QUICK)),
    ]
    result = negotiation.negotiate(policies, host, timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    shared = [issue.partition("/")[2] for issue in result["contested"] if issue.startswith("host/")]
    labels = ", ".join(SWITCHES[name].label.lower() for name in shared)
    lines = [
        "Two tenants want to share the host, and their wishes clash: a-db wants to be guarded, b-web wants to be fast.",
        f"They cannot both have their way in {len(shared)} settings of the host: {labels}.",
    ]
    if result["assignment"] is None:
        return [*lines, "No settlement exists, so the second VM is not started. Nobody who runs is touched."]
    kept = {vm: result["utilities"][vm] // 10_000 for vm in ("a-db", "b-web")}
    terms = ", ".join(
        f"{SWITCHES[name].label.lower()}: {_value(name, result['assignment']['host'][name])}" for name in shared
    )
    return [
        *lines,
        f"The solver proposes {terms}.",
        f"Of its weighted wishes a-db keeps {kept['a-db']} percent, b-web {kept['b-web']}. "
        "It holds only if both accept; silence is a no.",
    ]


def _value(switch: str, name: str) -> str:
    return next(value.label.lower() for value in SWITCHES[switch].values if value.name == name)


# -- while the demo runs


def tick() -> None:
    """Ask for memory and hold drills when it is time again; when it was last is read from rows."""
    olga = User.objects.filter(username="olga").first()
    run = Run.objects.select_related("host").filter(host__name="h2", state=Run.State.RUNNING).first()
    if olga is None or run is None:
        return
    vms = {vm.name: vm for vm in VirtualMachine.objects.select_related("placement", "tenant").filter(
        placement__host=run.host, state=VirtualMachine.State.RUNNING
    )}  # fmt: skip
    gives, keeps = vms.get("b-shop"), vms.get("a-mail")
    if gives is not None and _time_for(run, gives, "reclaim", RECLAIM_EVERY):
        runs.act_request(by=olga, run=run, kind="reclaim", vm=gives, data={"pages": RECLAIM_PAGES})
    if keeps is not None and _time_for(run, keeps, "reclaim", REFUSED_EVERY):
        told = keeps.conflicts.filter(closed_at__isnull=True, code="C19").count()
        if told < MOST_OPEN_CONFLICTS:
            runs.act_request(by=olga, run=run, kind="reclaim", vm=keeps, data={"pages": RECLAIM_PAGES})
    if keeps is not None and _time_for(run, keeps, "drill", DRILL_EVERY):
        held = Act.objects.filter(run=run, kind="drill").count()
        attack = list(runs.DRILLS)[held % len(runs.DRILLS)]
        runs.act_request(by=olga, run=run, kind="drill", vm=keeps, data={"attack": attack})


def _time_for(run: Run, vm: VirtualMachine, kind: str, every: dt.timedelta) -> bool:
    last = Act.objects.filter(run=run, vm=vm, kind=kind).order_by("-id").first()
    return last is None or timezone.now() - last.asked_at >= every
