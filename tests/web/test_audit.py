"""The log: every entry is chained to the one before, and no change of it goes unnoticed."""

import json

import pytest
from django.db import connection, transaction

from tests.conftest import Cast
from webapp.audit import services
from webapp.audit.models import Entry, Head
from webapp.errors import BadInput
from webapp.vpms.auditlog import verify_log

pytestmark = pytest.mark.django_db


def ten_entries() -> None:
    with transaction.atomic():
        for number in range(10):
            services.record(by=None, type="note", subject=f"vm:x{number}", data={"n": number, "word": "größer €"})


def test_an_untouched_chain_is_valid() -> None:
    ten_entries()
    verdict = services.verify()
    assert verdict["valid"] and verdict["entries"] == 10 and verdict["head"] == Head.objects.get().hash


def test_an_empty_log_is_valid() -> None:
    assert services.verify() == {
        "valid": True,
        "reason": "ok",
        "entries": 0,
        "first_bad": None,
        "why": "",
        "head": "0" * 64,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"line": "{}"},
        {"line": "no json"},
        {"actor": "mallory"},
        {"subject": "vm:other"},
        {"type": "other"},
        {"hash": "0" * 64},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_column_is_found_at_its_entry(change: dict[str, str]) -> None:
    ten_entries()
    Entry.objects.filter(pk=4).update(**change)
    assert (services.verify()["valid"], services.verify()["first_bad"]) == (False, 4)


def test_data_changed_together_with_its_own_hash_is_found_at_the_next_entry() -> None:
    ten_entries()
    entry = Entry.objects.get(pk=4)
    body = json.loads(entry.line)
    body["data"]["n"] = 99
    body.pop("hash")
    digest = services.digest_of(body)
    Entry.objects.filter(pk=4).update(line=services.canonical({**body, "hash": digest}).decode(), hash=digest)
    assert services.verify()["first_bad"] == 5


def test_a_removed_entry_is_found_where_it_stood() -> None:
    ten_entries()
    Entry.objects.filter(pk=6).delete()
    assert services.verify()["first_bad"] == 6


def test_a_removed_tail_is_found_by_the_head() -> None:
    ten_entries()
    Entry.objects.filter(pk__gte=8).delete()
    assert services.verify()["reason"] == "truncated" and services.verify()["first_bad"] == 8


def test_an_entry_smuggled_in_behind_the_head_is_found() -> None:
    ten_entries()
    last = Entry.objects.get(pk=9)
    Entry.objects.create(seq=12, at=last.at, type="note", actor="vpms", subject="x", line=last.line, hash=last.hash)
    assert services.verify()["first_bad"] == 12


def test_two_swapped_entries_are_found_at_the_first() -> None:
    ten_entries()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_entry SET seq = 100 WHERE seq = 2")
        cursor.execute("UPDATE audit_entry SET seq = 2 WHERE seq = 3")
        cursor.execute("UPDATE audit_entry SET seq = 3 WHERE seq = 100")
    assert services.verify()["first_bad"] == 2


def test_the_lines_of_the_whole_log_are_a_chain_by_themselves(cast: Cast, client) -> None:
    client.force_login(cast.olga)
    text = b"".join(client.get("/operator/audit/lines/").streaming_content).decode()
    assert verify_log(text.encode(), head=Head.objects.get().hash)["reason"] == "ok"
    assert verify_log(text.replace(cast.alice.alias, cast.bob.alias, 1).encode())["reason"] == "chain_broken"


def test_data_that_no_reader_could_verify_is_not_recorded(db: None) -> None:
    for data in ({"n": 1.5}, {"n": 2**60}, {"word": "two\nlines"}):
        with pytest.raises(BadInput), transaction.atomic():
            services.record(by=None, type="note", subject="x", data=data)
    assert not Entry.objects.exists()


def test_the_button_names_the_first_broken_entry(cast: Cast, client) -> None:
    client.force_login(cast.alice)
    assert "The chain is whole" in client.post("/tenant/audit/").content.decode()
    Entry.objects.filter(pk=3).update(subject="vm:z")
    assert "Entry 3 was changed" in client.post("/tenant/audit/").content.decode()


def test_a_tenant_reads_only_entries_meant_for_it(cast: Cast, client) -> None:
    client.force_login(cast.bob)
    page = client.get("/tenant/audit/").content.decode()
    assert "vm:b-web" in page and "a-db" not in page and "alpha" not in page
    lines = b"".join(client.get("/tenant/audit/lines/").streaming_content).decode()
    assert "b-web" in lines and "a-db" not in lines and "alice" not in lines


def test_recording_outside_a_transaction_is_a_mistake_of_the_caller(transactional_db: None) -> None:
    with pytest.raises(RuntimeError):
        services.record(by=None, type="note", subject="x", data={})


def test_the_log_page_costs_the_same_number_of_queries_however_long_it_is(
    cast: Cast, client, django_assert_num_queries
) -> None:
    client.force_login(cast.olga)
    with django_assert_num_queries(7):  # session, user, roles, entries, names, types, bell
        client.get("/operator/audit/")
    ten_entries()
    with django_assert_num_queries(7):
        client.get("/operator/audit/")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"line": "no json"}, "its line is no entry of a log"),
        ({"line": '{"hash": "x"}'}, "not in the form in which entries are written"),
        ({"actor": "mallory"}, "its column actor is not what its line says"),
        ({"hash": "0" * 64}, "its column hash is not what its line says"),
    ],
)
def test_the_page_says_what_is_wrong_at_the_first_bad_entry(
    cast: Cast, client, change: dict[str, str], why: str
) -> None:
    Entry.objects.filter(pk=3).update(**change)
    client.force_login(cast.alice)
    told = client.post("/tenant/audit/").content.decode()
    assert "Entry 3 was changed" in told and why in told
    assert client.get("/api/audit/verify").json()["why"] == services.verify()["why"]
    assert why in services.verify()["why"]


def test_a_changed_content_a_broken_link_and_a_gap_are_told_apart(cast: Cast) -> None:
    body = json.loads(Entry.objects.get(pk=3).line)
    Entry.objects.filter(pk=3).update(line=services.canonical({**body, "data": {}}).decode())
    assert "does not have the digest that it carries" in services.verify()["why"]
    body["data"] = {}
    body.pop("hash")
    digest = services.digest_of(body)
    line = services.canonical({**body, "hash": digest}).decode()
    Entry.objects.filter(pk=3).update(line=line, hash=digest)
    assert (services.verify()["first_bad"], services.verify()["why"]) == (
        4,
        "it does not carry the digest of the entry before it",
    )
    Entry.objects.filter(pk=2).delete()
    assert services.verify()["why"] == "entry 2 is missing; the next one that is there has the number 3"
