"""The tenant's pages: the table of VMs, what is done to several, another host, the end of a VM, conduct."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from hsvm_engine.tracefile import BLOCK, HEADER, MAGIC
from tests.conftest import HOST, Cast
from webapp.audit.models import Entry
from webapp.errors import VpmsError
from webapp.fleet.models import Host, Placement
from webapp.fleet.services import host_create, placement_set
from webapp.ops import story
from webapp.runs import engine, services, workloads
from webapp.runs.models import Event, Run
from webapp.tenants import yamltext
from webapp.tenants.models import VirtualMachine, Workload
from webapp.tenants.services import document_of, vm_create

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_redis(settings: Any, tmp_path: Any) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/nobody.sock"


@pytest.fixture
def alice(cast: Cast, client: Client) -> Client:
    client.force_login(cast.alice)
    return client


def more_vms(cast: Cast, count: int) -> None:
    for number in range(count):
        vm = vm_create(by=cast.alice, tenant=cast.alpha, name=f"a-{number:03}", trace="gzip")
        placement_set(by=cast.alice, vm=vm, host=cast.h1)


def run_of(cast: Cast) -> Run:
    machine = {"architecture": "hsvm", "cores": 1}
    return Run.objects.create(host=cast.h1, scenario={"machine": machine, "seed": 1}, engine_version="x")


def event(cast: Cast, vm: VirtualMachine, **more: Any) -> Event:
    run = Run.objects.first() or run_of(cast)
    return Event.objects.create(run=run, number=run.events.count() + 1, op=1, vm=vm, title="t", **more)


def test_the_table_takes_no_more_queries_for_forty_vms_than_for_four(cast: Cast, alice: Client) -> None:
    more_vms(cast, 3)
    alice.get("/tenant/")
    with CaptureQueriesContext(
        connection,
    ) as few:
        alice.get("/tenant/")
    more_vms_from = VirtualMachine.objects.count()
    for number in range(40):
        vm = vm_create(by=cast.alice, tenant=cast.alpha, name=f"b-{number:03}", trace="gzip")
        placement_set(by=cast.alice, vm=vm, host=cast.h1)
    with CaptureQueriesContext(connection) as many:
        page = alice.get("/tenant/").content.decode()
    assert VirtualMachine.objects.count() == more_vms_from + 40 and page.count('form="bulk"') == 44
    assert len(many) <= len(few)


def test_the_table_is_found_through_and_comes_in_pages(cast: Cast, alice: Client) -> None:
    more_vms(cast, 60)
    assert alice.get("/tenant/").content.decode().count('form="bulk"') == 50
    assert alice.get("/tenant/?page=2&order=-name").content.decode().count('form="bulk"') == 11
    found = alice.get("/tenant/?text=a-05&state=stopped").content.decode()
    assert found.count('form="bulk"') == 10 and 'value="a-059"' in found
    assert "No VM like this" in alice.get("/tenant/?text=b-web").content.decode()


def test_each_of_several_vms_has_its_own_result_and_stays_after_a_reload(cast: Cast, alice: Client) -> None:
    more_vms(cast, 1)  # it has no wishes, so it cannot start
    chosen = {"vm": ["a-db", "a-000"]}
    sure = alice.post("/tenant/vms/", {**chosen, "act": "delete"}).content.decode()
    assert "cannot be brought back" in sure and VirtualMachine.objects.filter(deleted_at=None).count() == 3
    answer = alice.post("/tenant/vms/", {**chosen, "act": "profile", "profile": "balanced", "sure": "1"})
    assert answer.status_code == 302
    for _ in range(2):
        page = alice.get(answer["Location"]).content.decode()
        assert "2 of 2 done" in page and "Version 2 of the wishes for a-db is saved." in page
    again = alice.post("/tenant/vms/", {**chosen, "act": "profile", "profile": "balanced", "sure": "1"}, follow=True)
    assert again.content.decode().count("nothing was saved") == 2
    VirtualMachine.objects.filter(name="a-db").update(state="running")
    page = alice.post("/tenant/vms/", {**chosen, "act": "delete", "sure": "1"}, follow=True).content.decode()
    assert "1 of 2 done" in page and "only a stopped VM can be deleted" in page


def test_a_deleted_vm_is_missing_its_wishes_are_empty_and_its_name_is_never_given_again(
    cast: Cast, alice: Client
) -> None:
    assert b"Keep a-db" in alice.get("/tenant/vm/a-db/delete/").content
    alice.post("/tenant/vm/a-db/delete/")
    for path in ("", "delete/", "memory/"):
        assert alice.get(f"/tenant/vm/a-db/{path}").status_code == 404
    assert [policy.document for policy in cast.a_db.policies.all()] == ["{}"]
    assert Entry.objects.filter(type="vm.deleted", subject="vm:a-db").count() == 1
    with pytest.raises(VpmsError):
        vm_create(by=cast.bob, tenant=cast.beta, name="a-db", trace="gzip")


def test_a_foreign_vm_is_neither_deleted_nor_moved_nor_in_the_bulk(cast: Cast, alice: Client) -> None:
    assert alice.post("/tenant/vm/b-web/delete/").status_code == 404
    assert alice.post("/tenant/vm/b-web/move/", {"host": "h2"}).status_code == 404
    assert alice.post("/tenant/vms/", {"vm": ["b-web"], "act": "delete", "sure": "1"}).status_code == 404
    assert VirtualMachine.objects.get(name="b-web").deleted_at is None


def test_a_stopped_vm_is_placed_on_a_host_that_can_keep_its_wishes_and_on_no_other(cast: Cast, alice: Client) -> None:
    host_create(by=cast.olga, document={**HOST, "host": "h2"})
    open_host = {**HOST["capabilities"], "memory_protection": ["none"]}
    host_create(by=cast.olga, document={**HOST, "host": "h3", "capabilities": open_host})
    page = alice.get("/tenant/vm/a-db/move/").content.decode()
    assert 'value="h3" disabled' in page and 'value="h2" required' in page and 'value="h1"' not in page
    assert alice.post("/tenant/vm/a-db/move/", {"host": "h3"}).status_code == 409
    assert alice.post("/tenant/vm/a-db/move/", {"host": "nowhere"}).status_code == 422
    alice.post("/tenant/vm/a-db/move/", {"host": "h2"})
    assert VirtualMachine.objects.get(name="a-db").placement.host.name == "h2"


def test_a_vm_without_a_host_is_placed_where_nobody_has_to_be_asked_first(cast: Cast, alice: Client) -> None:
    VirtualMachine.objects.filter(name="b-web").update(state="running")  # on h1
    open_host = {**HOST["capabilities"], "memory_protection": ["none"]}
    host_create(by=cast.olga, document={**HOST, "host": "h0", "capabilities": open_host})  # empty, cannot protect
    host_create(by=cast.olga, document={**HOST, "host": "h2"})
    vm = {"name": "a-new", "trace": "gzip", "host": "", "memory_mib": "8", "profile": "confidential"}
    page = alice.post("/tenant/vm/new/", vm, follow=True).content.decode()
    assert "a-new is declared on host h2" in page
    page = alice.post("/tenant/vm/a-new/consequences/", form_of()).content.decode()
    assert "On h2, its host, a-new can start at once" in page
    spots = {row["host"]: row for row in alice.get("/api/vms/a-new/places").json()["items"]}
    assert [spots[name]["at_once"] for name in ("h0", "h1", "h2")] == [False, False, True] and spots["h1"]["busy"]
    alice.post("/tenant/vm/a-new/move/", {"host": "h1"})
    page = alice.post("/tenant/vm/a-new/consequences/", form_of()).content.decode()
    assert "Others run on h1, its host: they are asked first" in page and "It can start at once on h2." in page
    assert "b-web" not in page
    VirtualMachine.objects.filter(name="a-new").update(state="running")
    Placement.objects.filter(vm__name="a-new").update(host=Host.objects.get(name="h2"))
    made = alice.post("/api/vms", {**vm, "name": "a-two", "memory_mib": 8}, content_type="application/json")
    assert made.status_code == 201 and made.json()["host"] in ("h1", "h2")  # nowhere at once: where it can be kept


def test_conduct_tells_what_was_tried_against_own_vms_alone(cast: Cast, alice: Client) -> None:
    event(cast, cast.a_db, kind="denied", outcome="REFUSED", check_name="agreement: balloon")
    event(cast, cast.a_db, kind="drill", outcome="SUCCEEDED")
    event(cast, cast.b_web, kind="drill", outcome="BLOCKED", check_name="b-secret-check")
    page = alice.get("/tenant/conduct/").content.decode()
    assert "agreement: balloon" in page and "nothing that is in force protects from it" in page
    assert "b-web" not in page and "b-secret-check" not in page


def test_the_statement_names_the_whole_drill_and_never_leaves_succeeded_out(cast: Cast, alice: Client) -> None:
    run_of(cast)
    Run.objects.get().acts.create(kind="start_vm", vm=cast.a_db)
    VirtualMachine.objects.filter(name="a-db").update(state="running")
    page = " ".join(alice.get("/tenant/").content.decode().split())
    assert "12 of 25 attacks" in page and "0 succeeded" in page


LACKEY = b"I  04001000,3\n S 1ffe0000,8\n L 1ffe0008,8\n M 00602000,4\n" * 50


def test_an_uploaded_trace_is_really_played_by_a_process_that_never_saw_the_file(cast: Cast, alice: Client) -> None:
    file = SimpleUploadedFile("../../evil.txt", LACKEY)
    answer = alice.post("/tenant/workloads/", {"file": file, "title": "my load"})
    name = Workload.objects.get().name
    assert answer["Location"] == f"/tenant/vm/new/?trace={name}"
    assert f'value="{name}" selected' in alice.get(answer["Location"]).content.decode()
    typed = {"name": "a-own", "trace": name, "host": "h1", "memory_mib": "8", "profile": "balanced"}
    assert alice.post("/tenant/vm/new/", typed).status_code == 302
    services.vm_start(by=cast.alice, vm=VirtualMachine.objects.get(name="a-own"))
    engine._hot.clear()
    engine._uploaded.cache_clear()
    story.drain()
    assert VirtualMachine.objects.get(name="a-own").state == "running"
    title = Event.objects.filter(vm__name="a-own", kind="started").values_list("detail", flat=True).get()
    assert title["program"] == name
    assert alice.post(f"/tenant/workloads/{Workload.objects.get().pk}/delete/").status_code == 409


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"HSVMTRCE" + b"\xff" * 64, "is no whole trace"),
        (HEADER.pack(MAGIC, 1, 2, 1 << 27, -(-(1 << 27) // BLOCK), 0) + b"{}", "is no whole trace"),
        (b"\x00" * (5 << 20) + b"1", "larger than 5 MiB"),
    ],
    ids=["empty", "damaged", "claims too much", "too large"],
)
def test_what_is_no_whole_trace_is_refused_and_nothing_is_kept(
    cast: Cast, alice: Client, data: bytes, says: str
) -> None:
    answer = alice.post("/tenant/workloads/", {"file": SimpleUploadedFile("t", data), "title": "kept words"})
    page = answer.content.decode()
    assert answer.status_code == 422 and says in page and 'value="kept words"' in page
    assert not Workload.objects.exists()


def test_a_quota_counts_all_traces_of_a_tenant_and_others_traces_are_missing(
    cast: Cast, alice: Client, settings: Any
) -> None:
    foreign = workloads.workload_add(by=cast.bob, tenant=cast.beta, title="b", data=LACKEY)
    assert alice.post(f"/tenant/workloads/{foreign.pk}/delete/").status_code == 404
    assert foreign.name not in alice.get("/tenant/vm/new/").content.decode()
    settings.TENANT_STORAGE = foreign.size + 1
    first = workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="a", data=LACKEY)
    assert workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="a", data=LACKEY) == first
    with pytest.raises(VpmsError, match="more do not fit"):
        workloads.workload_add(by=cast.alice, tenant=cast.alpha, title="a", data=LACKEY + b" L 1ffe0010,8\n")


# -- wishes: two people, repeated posts, files, consequences


def form_of(**more: str) -> dict[str, str]:
    return {"tab": "form", "memory_mib": "8", "delegate": "human", "q1": "nobody", "q1-strength": "must", **more}


def test_who_saves_second_sees_both_sides_and_chooses_and_loses_nothing(cast: Cast, alice: Client) -> None:
    path = "/tenant/vm/a-db/"
    assert 'name="seen" value="1"' in alice.get(path).content.decode()
    assert alice.post(path, form_of(seen="1", memory_mib="16")).status_code == 302
    mine = form_of(seen="1", **{"q2": "never", "q2-strength": "must"})
    answer = alice.post(path, mine)
    page = answer.content.decode()
    assert answer.status_code == 412 and cast.a_db.policies.count() == 2
    for words in (
        "What they changed",
        "What yours would change now",
        "Take theirs",
        "Edit on",
        'name="seen" value="2"',
    ):
        assert words in page
    assert 'name="q2-strength" value="must" checked' in page
    assert alice.post(path, {**mine, "seen": "2", "act": "save"}).status_code == 302
    assert cast.a_db.policies.count() == 3


def test_the_same_form_sent_twice_saves_once(cast: Cast, alice: Client) -> None:
    for _ in range(2):
        assert alice.post("/tenant/vm/a-db/", form_of(seen="1")).status_code == 302
    assert cast.a_db.policies.count() == 2


def test_an_overtaken_document_keeps_its_text_under_the_next_number(cast: Cast, alice: Client) -> None:
    text = yamltext.write({**document_of(cast.a_db.policies.get()), "version": 2, "trustClass": "mine"})
    alice.post("/tenant/vm/a-db/", form_of(seen="1"))
    page = alice.post("/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "document": text, "seen": "1"})
    assert page.status_code == 412 and "version: 3" in page.content.decode() and "mine" in page.content.decode()


def test_an_imported_file_is_shown_as_a_difference_first_and_a_version_can_be_taken_away(
    cast: Cast, alice: Client
) -> None:
    taken = alice.get("/tenant/vm/a-db/wishes.yaml")
    assert "attachment" in taken["Content-Disposition"]
    text = taken.content.decode().replace("version: 1", "version: 2").replace("trustClass: default", "trustClass: own")
    file = SimpleUploadedFile("w.yaml", text.encode())
    page = alice.post("/tenant/vm/a-db/?tab=yaml", {"tab": "yaml", "seen": "1", "document": "", "file": file})
    assert "What would change" in page.content.decode() and "trustClass: own" in page.content.decode()
    assert cast.a_db.policies.count() == 1
    assert alice.get("/tenant/vm/b-web/wishes.json").status_code == 404
    assert alice.get("/tenant/vm/a-db/wishes.pdf").status_code == 404


def test_consequences_are_of_what_stands_in_the_form_and_nothing_is_saved(cast: Cast, alice: Client) -> None:
    path = "/tenant/vm/a-db/consequences/"
    strict = " ".join(alice.post(path, form_of(), headers={"X-Part": "consequences"}).content.decode().split())
    assert "12 of 25 attacks" in strict and "<strong>0</strong> succeeded" in strict and "1 of 1 host" in strict
    assert "model parameter" in strict and "estimate" in strict and "<html" not in strict
    open_ = alice.post(path, {**form_of(q1="anyone"), "q1-strength": "prefer"})
    assert "<html" in open_.content.decode()
    refused = alice.post(path, {"tab": "json", "document": "{"})
    assert refused.status_code == 422 and "Not computed" in refused.content.decode()
    assert alice.post("/tenant/vm/b-web/consequences/", form_of()).status_code == 404
    assert cast.a_db.policies.count() == 1


# -- the record


def test_the_record_is_found_by_vm_person_day_and_text_and_comes_as_a_page_to_print(cast: Cast, alice: Client) -> None:
    alice.post("/tenant/vm/a-db/", form_of(seen="1"))

    def shown(query: str) -> int:
        return alice.get(f"/tenant/audit/?{query}").content.decode().count('<li id="entry-')

    everything = shown("")
    assert 0 < shown("vm=a-db") < everything and shown("vm=b-web") == 0
    assert shown("who=alice") > 0 and shown("who=bob") == 0 and shown("who=vpms") > 0
    assert shown("text=CREATED") > 0 and shown("text=nothing-like-it") == 0
    assert shown("last=2000-01-01") == 0 and shown("first=2000-01-01") == everything
    assert shown("first=no-day") == everything
    paper = alice.get("/tenant/audit/?print=1&vm=a-db").content.decode()
    assert "The chain is whole" in paper and "Filter: vm=a-db" in paper and "b-web" not in paper
    newest = Entry.objects.filter(subject="vm:a-db").order_by("-seq")[0]
    assert newest.hash in paper
