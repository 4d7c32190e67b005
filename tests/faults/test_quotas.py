"""Quotas of an organisation are exact under load, and what they count is what a slow count of all rows finds."""

from __future__ import annotations

import json
import random
import re
import runpy
import threading
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.test import Client

from tests.conftest import CAREFUL, wishes
from tests.faults.conftest import start_run
from tests.faults.test_fair import ready_vm
from webapp.agreements.models import Negotiation
from webapp.courses import lessons
from webapp.courses.builder import course_copy, item_delete
from webapp.courses.editing import text_put
from webapp.courses.models import Course, ItemVersion
from webapp.courses.services import course_create, item_add
from webapp.errors import BadInput, VpmsError
from webapp.fleet.models import Placement
from webapp.rest.codes import CODES
from webapp.runs import history, services, workloads
from webapp.runs.models import Act, Mark, Run
from webapp.shares.services import share_make
from webapp.tenants import quotas
from webapp.tenants.models import Tenant, VirtualMachine, Workload
from webapp.tenants.services import policy_save, vm_create

ROOT = Path(__file__).resolve().parents[2]
S = VirtualMachine.State
AT_ONCE = 50


def submit_at_once(calls: list[Any]) -> list[str]:
    """What came of each: "" or the code of the refusal. All begin together."""
    gate, found = threading.Barrier(len(calls)), [""] * len(calls)

    def one(place: int) -> None:
        gate.wait()
        try:
            calls[place]()
        except VpmsError as refused:
            found[place] = refused.code
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def program(number: int) -> bytes:
    """A program of its own in Valgrind's words; all of them take about as many bytes."""
    return f" L {0x1FFE0000 + 4096 * number:08x},8\n".encode() * 20


COUNTED = [name for name, row in quotas.QUOTAS.items() if row.used is not None and not callable(row.used)]


def used(tenant: Tenant) -> dict[str, int | None]:
    """What the database counts."""
    return {row.name: row.used for row in quotas.levels(tenant=tenant) if row.name in COUNTED}


def sized(cast: Any, vm: VirtualMachine, mib: int, **more: Any) -> None:
    """The next version of its wishes, with so much memory."""
    document = wishes(CAREFUL, vm=vm.name, tenant=vm.tenant.slug, version=vm.policies.count() + 1)
    document = {**document, "size": {"vcpus": 1, "memory_mib": mib}, **more}
    policy_save(by=cast.alice if vm.tenant == cast.alpha else cast.bob, vm=vm, document=document)


# -- exactly so many of fifty


@pytest.mark.parametrize(
    ("setting", "most", "winners", "code"),
    [
        ("TENANT_STARTS", 7, 7, "too_many_starts"),
        ("TENANT_RUNNING", 6, 6, "too_many_running"),
        ("TENANT_MEMORY_MIB", 5 * 8 + 7, 5, "too_much_memory"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_of_fifty_starts_at_once_exactly_the_allowed_number_wins(
    live_cast: Any, settings: Any, valkey: Any, setting: str, most: int, winners: int, code: str
) -> None:
    vms = [ready_vm(live_cast, number) for number in range(AT_ONCE)]
    setattr(settings, setting, most)
    found = Counter(submit_at_once([lambda vm=vm: services.vm_start(by=live_cast.alice, vm=vm) for vm in vms]))
    assert found == {"": winners, code: AT_ONCE - winners}
    assert VirtualMachine.objects.filter(tenant=live_cast.alpha, state="held").count() == winners
    assert Negotiation.objects.count() == winners
    assert used(live_cast.alpha)["memory"] == 8 * winners
    services.vm_start(by=live_cast.bob, vm=live_cast.b_web)  # another's quota is another's


@pytest.mark.django_db(transaction=True)
def test_of_fifty_new_vms_at_once_exactly_the_allowed_number_is_made(live_cast: Any, settings: Any) -> None:
    settings.TENANT_VMS = 1 + 9
    calls = [
        lambda name=f"n{number}": vm_create(by=live_cast.alice, tenant=live_cast.alpha, name=name, trace="gzip")
        for number in range(AT_ONCE)
    ]
    assert Counter(submit_at_once(calls)) == {"": 9, "too_many_vms": 41}
    assert VirtualMachine.objects.filter(tenant=live_cast.alpha).count() == 10


@pytest.mark.django_db(transaction=True)
def test_of_fifty_uploads_at_once_as_many_are_kept_as_fit(live_cast: Any, settings: Any) -> None:
    first = workloads.workload_add(by=live_cast.alice, tenant=live_cast.alpha, title="first", data=program(99))
    settings.TENANT_STORAGE = 15 * first.size // 2  # they differ by a few bytes
    found = Counter(
        submit_at_once(
            [
                lambda n=number: workloads.workload_add(
                    by=live_cast.alice, tenant=live_cast.alpha, title=str(n), data=program(n)
                )
                for number in range(AT_ONCE)
            ]
        )
    )
    assert found == {"": 6, "quota": 44}
    assert sum(Workload.objects.values_list("size", flat=True)) == used(live_cast.alpha)["storage"]


@pytest.mark.django_db(transaction=True)
def test_of_fifty_acts_at_once_exactly_the_allowed_number_is_asked(live_cast: Any, settings: Any) -> None:
    run = start_run(live_cast)
    Act.objects.update(state="done")
    VirtualMachine.objects.update(state=S.RUNNING)
    settings.TENANT_ACTS = 4
    vm = VirtualMachine.objects.select_related("tenant", "placement").get(pk=live_cast.a_db.pk)

    def ask() -> None:
        services.act_request(by=live_cast.olga, run=run, kind="drill", vm=vm, data={"attack": "A01"})

    assert Counter(submit_at_once([ask] * AT_ONCE)) == {"": 4, "too_many_acts": 46}
    assert Act.objects.filter(kind="drill").count() == 4 == used(live_cast.alpha)["acts"]
    services.vm_stop(by=live_cast.alice, vm=vm)  # stopping is never refused by it


@pytest.mark.django_db(transaction=True)
def test_of_fifty_marks_and_uploads_at_once_as_many_are_kept_as_fit(live_cast: Any, settings: Any, valkey: Any) -> None:
    run = start_run(live_cast)
    for number in range(3):
        services.run_slice(run_id=run.pk, slice_no=number)
    run.refresh_from_db()
    moment = history.at_step(run, run.seq)

    def mark(by: Any, view: str) -> Mark:
        return history.mark(run=run, view=view, by=by, moment=moment, text="here")

    size = mark(live_cast.alice, "tenant:alpha").size
    assert size > 10_000
    settings.TENANT_STORAGE = 4 * size  # three more marks; a program takes little of the last
    calls = [lambda: mark(live_cast.alice, "tenant:alpha")] * 49
    assert Counter(submit_at_once(calls)) == {"": 3, "quota": 46}
    with pytest.raises(VpmsError, match="or a mark"):
        workloads.workload_add(by=live_cast.alice, tenant=live_cast.alpha, title="t", data=program(1))
    mark(live_cast.olga, "operator")  # counts to nobody
    mark(live_cast.bob, "tenant:beta")  # to another
    Mark.objects.filter(tenant=live_cast.alpha).first().delete()  # type: ignore[union-attr]
    workloads.workload_add(by=live_cast.alice, tenant=live_cast.alpha, title="t", data=program(1))


LESSON = lessons.BLANK


@pytest.mark.django_db(transaction=True)
def test_of_fifty_texts_of_a_course_at_once_as_many_are_kept_as_fit(live_cast: Any, settings: Any) -> None:
    course = course_create(by=live_cast.ines, title="Course")
    settings.PERSON_STORAGE = 7 * len(LESSON) + 3

    def add() -> None:
        item_add(by=live_cast.ines, course=course, kind="lesson", title="t", text=LESSON)

    assert Counter(submit_at_once([add] * AT_ONCE)) == {"": 7, "bad_input": 43}
    assert course.items.count() == ItemVersion.objects.count() == 7
    item = course.items.first()
    with pytest.raises(BadInput, match="Revoke a link, or delete an item"):
        text_put(by=live_cast.ines, item=item, text=LESSON + "More.\n", seen=1)
    item.refresh_from_db()
    assert item.text == LESSON and item.version == 1  # nothing is half-changed
    with pytest.raises(BadInput):
        course_copy(by=live_cast.ines, course=course, title="Twin", days=0)
    assert Course.objects.count() == 1
    item_delete(by=live_cast.ines, item=item)
    text_put(by=live_cast.ines, item=course.items.last(), text=LESSON + "\n!", seen=1)  # there is room again
    settings.PERSON_STORAGE = 0
    add()


@pytest.mark.django_db(transaction=True)
def test_of_fifty_links_at_once_as_many_are_made_as_fit(live_cast: Any, settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("webapp.shares.services.MADE_A_MINUTE", 1000)
    asked = {"case": "nested", "step": "7"}
    size = share_make(by=live_cast.olga, kind="walk", asked=asked).size
    assert size > 50
    settings.PERSON_STORAGE = 5 * size + 1
    calls = [lambda: share_make(by=live_cast.olga, kind="walk", asked=asked)] * AT_ONCE
    assert Counter(submit_at_once(calls)) == {"": 4, "bad_input": 46}
    share_make(by=live_cast.ines, kind="walk", asked=asked)  # another's quota is another's
    settings.PERSON_STORAGE = 0
    monkeypatch.setattr("webapp.shares.services.MOST", 8)  # and how many they are is as exact
    assert Counter(submit_at_once(calls)) == {"": 3, "too_many": 47}


# -- memory that changes


@pytest.mark.django_db
def test_a_vm_that_runs_or_waits_grows_only_into_what_is_left(cast: Any, settings: Any, valkey: Any) -> None:
    settings.TENANT_MEMORY_MIB = 20
    sized(cast, cast.a_db, 64)  # a stopped VM may wish for anything
    with pytest.raises(VpmsError, match=r"have 0 of 20 MiB of memory; 64 MiB more") as refused:
        services.vm_start(by=cast.alice, vm=cast.a_db)
    assert refused.value.code == "too_much_memory" and not Negotiation.objects.exists()
    cast.a_db.refresh_from_db()
    assert cast.a_db.state == S.STOPPED
    sized(cast, cast.a_db, 8)
    services.vm_start(by=cast.alice, vm=cast.a_db)
    sized(cast, cast.a_db, 16)
    assert used(cast.alpha)["memory"] == 16
    with pytest.raises(VpmsError, match="have 16 of 20"):
        sized(cast, cast.a_db, 24)
    assert cast.a_db.policies.count() == 4
    sized(cast, cast.a_db, 8)  # what it may already have had is given back when it has stopped
    assert used(cast.alpha)["memory"] == 16
    VirtualMachine.objects.filter(pk=cast.a_db.pk).update(state=S.STOPPED)
    assert used(cast.alpha)["memory"] == 0


@pytest.mark.django_db
def test_a_vm_between_two_hosts_keeps_its_room(cast: Any) -> None:
    VirtualMachine.objects.filter(pk=cast.a_db.pk).update(memory_mib=8)
    row = Negotiation.objects.create(
        host=cast.h1, requester=cast.a_db, requested_by=cast.alice, moves=True, state="SIGNED"
    )
    assert (used(cast.alpha)["running"], used(cast.alpha)["memory"]) == (1, 8)
    Negotiation.objects.filter(pk=row.pk).update(state="ENFORCED")
    assert (used(cast.alpha)["running"], used(cast.alpha)["memory"]) == (0, 0)


@pytest.mark.django_db
def test_rows_from_before_are_filled_in(cast: Any) -> None:
    run = start_run(cast)
    VirtualMachine.objects.filter(pk=cast.b_web.pk).update(state=S.HELD)
    Act.objects.filter(vm=cast.a_db).update(data={"spec": {"vm_pages": 16 * 256}})
    mark = Mark.objects.create(run=run, view="tenant:alpha", op=0, seq=0, slice_no=0, text="t", by=cast.alice)
    import_module("webapp.runs.migrations.0007_mark_storage").filled(apps, None)
    mark.refresh_from_db()
    assert mark.tenant == cast.alpha
    assert (used(cast.alpha)["memory"], used(cast.beta)["memory"]) == (16, 8)


# -- the slow twin


def slowly(tenant: Tenant) -> dict[str, int]:
    """The same counts, row by row."""
    vms = [vm for vm in VirtualMachine.objects.all() if vm.tenant_id == tenant.pk]
    live = [vm for vm in vms if vm.state in quotas.LIVE]
    for row in Negotiation.objects.filter(moves=True, state="SIGNED"):
        live += [vm for vm in vms if vm.pk == row.requester_id and vm.state == S.STOPPED]
    kept = [*Workload.objects.filter(tenant=tenant), *Mark.objects.filter(tenant=tenant)]
    return {
        "vms": sum(vm.deleted_at is None for vm in vms),
        "running": len(live),
        "starts": sum(vm.state == S.HELD for vm in vms),
        "memory": sum(vm.memory_mib for vm in live),
        "acts": sum(act.vm in vms for act in Act.objects.filter(state="pending").select_related("vm")),
        "storage": sum(row.size for row in kept),
    }


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(12))
def test_the_counts_are_those_of_a_slow_twin(cast: Any, seed: int) -> None:
    from django.utils import timezone

    draw = random.Random(seed)
    run = Run.objects.create(host=cast.h1, scenario={}, engine_version="1")
    tenants = [cast.alpha, cast.beta]
    for number in range(draw.randrange(2, 30)):
        tenant = draw.choice(tenants)
        vm = VirtualMachine.objects.create(
            tenant=tenant, name=f"x{number}", trace="gzip", state=draw.choice(S.values),
            memory_mib=draw.choice((0, 8, 16, 64)), deleted_at=draw.choice((None, None, timezone.now())),
        )  # fmt: skip
        for _ in range(draw.randrange(4)):
            Act.objects.create(run=run, vm=vm, kind="reclaim", state=draw.choice(Act.State.values))
        if draw.random() < 0.5:
            Negotiation.objects.create(
                host=cast.h1, requester=vm, requested_by=cast.alice, moves=draw.random() < 0.5,
                state=draw.choice(("SIGNED", "DRAFT", "ENFORCED")),
            )  # fmt: skip
        if draw.random() < 0.5:
            Workload.objects.create(
                tenant=tenant, title="t", content=b"", size=draw.randrange(1 << 20), sha256=str(number), references=1,
                created_by=cast.alice,
            )  # fmt: skip
        for whose in draw.sample([None, *tenants], draw.randrange(3)):
            Mark.objects.create(
                run=run, view="v", op=0, seq=0, slice_no=0, text="t", by=cast.alice, tenant=whose,
                size=draw.randrange(1 << 17),
            )  # fmt: skip
    for tenant in tenants:
        assert used(tenant) == slowly(tenant)


# -- what people and operators are told


@pytest.mark.django_db
def test_a_program_of_too_many_references_is_refused_with_both_numbers(cast: Any, settings: Any) -> None:
    settings.TENANT_REFERENCES = 19
    with pytest.raises(BadInput, match="has 20 memory references; at most 19"):
        workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="t", data=program(1))
    settings.TENANT_REFERENCES = 20
    kept = workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="t", data=program(1))
    settings.TENANT_REFERENCES = 19  # the engine's own form says how many they are before anything is read
    with pytest.raises(BadInput, match="has 20 memory references; at most 19"):
        workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="t", data=bytes(kept.content))
    assert Workload.objects.count() == 1


@pytest.mark.django_db
def test_an_organisation_reads_its_own_levels_on_the_page_and_by_api(cast: Any, settings: Any) -> None:
    settings.TENANT_VMS, settings.TENANT_RUNNING, settings.TENANT_STARTS = 1, 0, 5
    for number in range(3):
        vm_create_past(cast.beta, f"b-{number}")
    clients = {}
    for name in ("alice", "bob", "ines"):
        clients[name] = Client()
        clients[name].force_login(getattr(cast, name))
    page = " ".join(clients["alice"].get("/tenant/people/").content.decode().split())
    assert "<dt>VMs</dt><dd> 1 of 1 <span" in page and "nearly used up" in page
    assert "0, without a limit" in page and "up to 4,194,304" in page
    told = clients["alice"].get("/api/quota").json()
    assert told["organisation"] == "alpha"
    rows = {row["name"]: row for row in told["quotas"]}
    assert rows["vms"]["used"] == rows["vms"]["most"] == 1 and rows["running"]["most"] is None
    assert list(rows) == list(quotas.QUOTAS)
    assert clients["bob"].get("/api/quota").json()["quotas"][0]["used"] == 4
    assert clients["bob"].get("/api/quota?organisation=alpha").status_code == 404
    told = clients["ines"].get("/api/quota").json()  # a teacher of no organisation
    assert (told["organisation"], told["quotas"]) == (None, [])
    assert [row["name"] for row in told["own"]] == list(quotas.PERSONAL)
    assert "Live pages that you have open" in clients["ines"].get("/shared/").content.decode()
    assert "1 of 1" in clients["alice"].get("/tenant/vm/new/").content.decode()
    assert "of 100.0\xa0MB" in clients["alice"].get("/tenant/workloads/").content.decode()


def vm_create_past(tenant: Tenant, name: str) -> VirtualMachine:
    """A VM that was made before the limit was set."""
    return VirtualMachine.objects.create(tenant=tenant, name=name, trace="gzip")


@pytest.mark.django_db
def test_a_start_that_is_refused_changes_nothing_and_says_what_to_do(cast: Any, settings: Any) -> None:
    settings.TENANT_RUNNING = 1
    vm_create_past(cast.alpha, "other")
    VirtualMachine.objects.filter(name="other").update(state=S.RUNNING)
    client = Client()
    client.force_login(cast.alice)
    answer = client.post("/tenant/vm/a-db/start/")
    assert answer.status_code == 409 and "no more may at once. Stop one first." in answer.content.decode()
    cast.a_db.refresh_from_db()
    assert cast.a_db.state == S.STOPPED and not Negotiation.objects.exists()
    assert Placement.objects.filter(vm=cast.a_db).exists()


VARIABLES = {"TENANT_STORAGE": "HSVM_TENANT_STORAGE_MIB", "PERSON_STORAGE": "HSVM_PERSON_STORAGE_MIB"}


SETTINGS = sorted(row.most for row in (*quotas.QUOTAS.values(), *quotas.PERSONAL.values()))


def variable_of(setting: str) -> str:
    return VARIABLES.get(setting, f"HSVM_{setting}")


def test_every_quota_has_a_variable_in_the_document_a_code_and_words() -> None:
    text = (ROOT / "docs" / "operators" / "quotas.md").read_text()
    named = re.findall(r"^\| `(HSVM_\w+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted(map(variable_of, SETTINGS))
    for row in quotas.QUOTAS.values():
        assert str(row.says) and (row.code in CODES or row.most == "TENANT_SOCKETS")  # a socket is told by closed.ts


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_no_limit_is_refused_at_start_in_one_sentence(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = variable_of(setting)
    for wrong in ("-1", "", "many", "1.5", "1e3", " 7", "67108865", "9" * 40, "0x10", "-0", "NaN"):
        monkeypatch.setenv(variable, wrong)
        with pytest.raises(ImproperlyConfigured, match=f"^{variable} must be a whole number from "):
            runpy.run_path(str(ROOT / "webapp" / "settings.py"))
    monkeypatch.setenv(variable, "0")
    if setting == "TENANT_REFERENCES":  # the one that is no count: a worker must have room for a program
        with pytest.raises(ImproperlyConfigured, match=variable):
            runpy.run_path(str(ROOT / "webapp" / "settings.py"))
    else:
        assert runpy.run_path(str(ROOT / "webapp" / "settings.py"))[setting] == 0


@pytest.mark.django_db
def test_without_limits_nothing_is_refused(cast: Any, settings: Any, valkey: Any) -> None:
    for row in quotas.QUOTAS.values():
        if row.used is not None:
            setattr(settings, row.most, 0)
    sized(cast, cast.a_db, 64)
    services.vm_start(by=cast.alice, vm=cast.a_db)
    workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="t", data=program(1))
    assert json.dumps(used(cast.alpha))
