"""Backup, restore, prune, and the other commands of operators: whole or refused, and nothing half done."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from tests.conftest import HOST, Cast
from webapp.audit import services as audit
from webapp.audit.models import Entry
from webapp.errors import BadInput, VpmsError
from webapp.fleet.models import Host
from webapp.notices.models import Mail
from webapp.ops import backup, exchange, retention
from webapp.runs.models import Checkpoint, Event, Mark, Run
from webapp.tenants.models import Tenant, VirtualMachine


@pytest.fixture
def place(live_cast: Cast, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site of its own: the cast in a file that may be wiped.
    What a server holds is done by goal B1 with --postgres."""
    if connection.vendor != "sqlite":
        pytest.skip("of a database that is a file")
    settings.RUN_DIR = tmp_path
    file = tmp_path / "vpms.sqlite3"
    with (
        contextlib.closing(sqlite3.connect(connection.settings_dict["NAME"])) as source,
        contextlib.closing(sqlite3.connect(file)) as copy,
    ):
        source.backup(copy)
        copy.execute("DELETE FROM ops_heartbeat")
        copy.commit()
    monkeypatch.setattr(backup, "database_file", lambda: file)
    return tmp_path


def facts(place: Path) -> dict[str, Any]:
    with backup.asking(place / "vpms.sqlite3") as ask:
        return backup.facts(ask)


def reason(code: str, work: Any) -> str:
    with pytest.raises(VpmsError) as refused:
        work()
    assert refused.value.code == code, refused.value.message
    return refused.value.message


def remade(path: Path, **changed: Any) -> Path:
    """The same backup with another manifest, in whole and with its digests right: as another release would write it."""
    with tarfile.open(path) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        member = path.with_name("database.sqlite3")
        member.write_bytes(archive.extractfile(member.name).read())  # type: ignore[union-attr]
    other = path.with_name(f"other-{len(os.listdir(path.parent))}.tar")
    with other.open("wb") as handle:
        backup._write(handle, {**manifest, **changed}, member)
    return other


@pytest.mark.django_db(transaction=True)
def test_what_is_restored_is_what_was_there(place: Path) -> None:
    before = facts(place)
    assert before["audit"]["valid"] and before["audit"]["entries"] > 5 and before["rows"]["tenants_policy"] == 2
    manifest = backup.make(place / "b.tar")
    assert {name: manifest[name] for name in before} == before
    assert oct((place / "b.tar").stat().st_mode)[-3:] == "600"
    assert sorted(os.listdir(place)) == ["b.tar", "vpms.sqlite3"]  # nothing is left lying about
    for name in ("seal.key", "secret"):
        assert site.SEAL_KEY not in (place / "b.tar").read_bytes(), name
    (place / "vpms.sqlite3").unlink()
    found = backup.restore(place / "b.tar")
    assert facts(place) == before and {name: found[name] for name in before} == before
    with contextlib.closing(sqlite3.connect(place / "vpms.sqlite3")) as file:
        assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.django_db(transaction=True)
def test_a_backup_with_a_changed_byte_anywhere_is_refused_and_nothing_is_touched(place: Path) -> None:
    backup.make(place / "b.tar")
    whole, before = (place / "b.tar").read_bytes(), facts(place)
    bad = place / "bad.tar"
    step = len(whole) // 40
    for at in [0, 100, 513, *range(1024, len(whole), step), len(whole) - 150, len(whole) - 70, len(whole) - 1]:
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        reason("damaged", lambda: backup.restore(bad, replace=True))
    for part in (b"", b"x", whole[:-1], whole[: len(whole) // 2], whole + b"\n", whole[1:], os.urandom(5000)):
        bad.write_bytes(part)
        reason("damaged", lambda: backup.restore(bad, replace=True))
    reason("unreadable", lambda: backup.restore(place / "nothing.tar"))
    reason("unreadable", lambda: backup.restore(place))
    assert facts(place) == before and not (place / "vpms.sqlite3.before-restore").exists()


@pytest.mark.django_db(transaction=True)
def test_a_foreign_or_newer_backup_is_refused(place: Path, settings: Any) -> None:
    manifest = backup.make(place / "b.tar")
    newer = remade(place / "b.tar", migrations=[*manifest["migrations"], ["runs", "9999_of_tomorrow"]])
    assert "runs.9999_of_tomorrow is unknown" in reason("newer", lambda: backup.restore(newer, replace=True))
    assert "vpms-backup/1" in reason("newer", lambda: backup.check(remade(place / "b.tar", format="vpms-backup/2")))
    reason("foreign", lambda: backup.check(remade(place / "b.tar", database="postgresql")))
    lying = remade(place / "b.tar", rows={**manifest["rows"], "tenants_tenant": 7})
    assert "rows" in reason("differs", lambda: backup.restore(lying, replace=True))
    sealed = settings.SEAL_KEY
    settings.SEAL_KEY = b"k" * 32
    told = reason("foreign", lambda: backup.restore(place / "b.tar", replace=True))
    assert backup.key_name(sealed) in told and "seal.key" in told
    forged = remade(place / "b.tar", seal_key=backup.key_name(sealed))  # who has not the key cannot make one
    settings.SEAL_KEY = sealed
    reason("damaged", lambda: backup.check(forged))
    assert not (place / "vpms.sqlite3.before-restore").exists()


@pytest.mark.django_db(transaction=True)
def test_data_is_replaced_only_when_that_is_said_and_the_old_stays_beside(place: Path) -> None:
    backup.make(place / "b.tar")
    before = facts(place)
    with contextlib.closing(sqlite3.connect(place / "vpms.sqlite3")) as file:
        file.execute("UPDATE tenants_tenant SET name = 'changed'")
        file.commit()
    reason("not_empty", lambda: backup.restore(place / "b.tar"))
    reason("exists", lambda: backup.make(place / "b.tar"))
    reason("no_place", lambda: backup.make(place / "nowhere" / "b.tar"))
    backup.restore(place / "b.tar", replace=True)
    assert facts(place) == before
    for name, expected in (("vpms.sqlite3", 0), ("vpms.sqlite3.before-restore", 2)):
        with backup.asking(place / name) as ask:
            assert ask("SELECT count(*) FROM tenants_tenant WHERE name = 'changed'") == [(expected,)]
    (place / "vpms.sqlite3").write_bytes(b"a file that nobody can read" * 100)
    reason("not_empty", lambda: backup.restore(place / "b.tar"))
    backup.restore(place / "b.tar", replace=True)
    assert facts(place) == before


@pytest.mark.django_db(transaction=True)
def test_nothing_is_restored_under_a_site_that_is_at_work(place: Path) -> None:
    backup.make(place / "b.tar")
    with contextlib.closing(sqlite3.connect(place / "vpms.sqlite3")) as file:
        file.execute("INSERT INTO ops_heartbeat VALUES ('keeper:1@x', ?)", [timezone.now().isoformat()])
        file.commit()
    reason("running", lambda: backup.restore(place / "b.tar", replace=True))
    with contextlib.closing(sqlite3.connect(place / "vpms.sqlite3")) as file:
        file.execute("DELETE FROM ops_heartbeat")
        file.commit()
    from webapp.ops import demo

    with demo.lock(place):
        reason("running", lambda: backup.restore(place / "b.tar", replace=True))
    backup.restore(place / "b.tar", replace=True)


@pytest.mark.django_db(transaction=True)
def test_an_error_on_the_way_leaves_the_old_database_and_no_half_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = facts(place)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup, "_write", full)
    with pytest.raises(OSError):
        backup.make(place / "b.tar")
    monkeypatch.undo()
    assert os.listdir(place) == ["vpms.sqlite3"]
    monkeypatch.setattr(backup, "database_file", lambda: place / "vpms.sqlite3")
    site_run_dir = site.RUN_DIR
    assert site_run_dir == place
    backup.make(place / "b.tar")
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError):
        backup.restore(place / "b.tar", replace=True)
    assert facts(place) == before
    assert sorted(os.listdir(place)) == ["b.tar", "demo.lock", "vpms.sqlite3"]


@pytest.mark.django_db
def test_the_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "pg_dump is missing" in reason("no_tool", lambda: backup._call("pg_dump"))


# -- prune


def ended(host: Host, *, days: int) -> Run:
    run = Run.objects.create(
        host=host, scenario={}, engine_version="2", state=Run.State.DONE,
        ended_at=timezone.now() - dt.timedelta(days=days), slice_no=3,
    )  # fmt: skip
    for number in range(1, 4):
        Checkpoint.objects.create(
            run=run, slice_no=number, seq=number * 10, op=number * 100, digest="", sealed=b"", picture=b""
        )
    Event.objects.create(run=run, number=1, op=1, kind="note", title="x")
    return run


@pytest.mark.django_db
def test_prune_removes_what_is_past_its_time_and_never_anything_of_the_log(cast: Cast) -> None:
    old, new = ended(cast.h1, days=1000), ended(cast.h1, days=1)
    Mark.objects.create(run=old, view="operator", op=100, seq=10, slice_no=1, text="here", by=cast.olga)
    mail = {"user": cast.bob, "done_at": timezone.now() - dt.timedelta(days=1000)}
    gone, waiting = Mail.objects.create(**mail), Mail.objects.create(**mail, due_at=timezone.now())
    chain = list(Entry.objects.values_list("hash", flat=True))
    out = io.StringIO()
    call_command("prune", "--dry-run", stdout=out)
    assert "1 would go: checkpoints" in out.getvalue() and old.checkpoints.count() == 3
    removed = retention.prune()
    # Of an ended run its last picture stays, and what somebody marked.
    assert sorted(old.checkpoints.values_list("slice_no", flat=True)) == [1, 3] and new.checkpoints.count() == 3
    assert removed["checkpoints of ended runs"] == removed["events of ended runs"] == removed["mails"] == 1
    assert not old.events.exists() and new.events.exists()
    assert not Mail.objects.filter(pk=gone.pk).exists() and Mail.objects.filter(pk=waiting.pk).exists()
    old.refresh_from_db()
    assert (old.oldest_op, old.oldest_seq) == (300, 30)
    assert list(Entry.objects.values_list("hash", flat=True))[: len(chain)] == chain and audit.verify()["valid"]
    assert Entry.objects.order_by("-seq")[0].type == "site.pruned"
    count = Entry.objects.count()
    assert not any(retention.prune().values()) and Entry.objects.count() == count


@pytest.mark.django_db
def test_what_runs_leave_is_archived_before_it_goes_and_can_be_loaded_again(
    cast: Cast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "TOGETHER", 2)  # more than one file
    runs = [ended(cast.h1, days=1000) for _ in range(3)]
    thousandth = timezone.now().replace(microsecond=5000)  # JSON keeps no finer time
    Checkpoint.objects.update(sealed=b"\x00sealed\xff", made_at=thousandth)
    Event.objects.update(at=thousandth)
    before = list(Checkpoint.objects.order_by("pk").values()), list(Event.objects.order_by("pk").values())
    call_command("prune", "--archive", str(tmp_path), stdout=io.StringIO())
    assert Checkpoint.objects.count() == len(runs) and not Event.objects.exists()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5 and {path.stat().st_mode & 0o777 for path in files} == {0o600}
    told = json.loads(Entry.objects.order_by("-seq")[0].line)["data"]["archives"]
    assert told == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    call_command("loaddata", *map(str, files), stdout=io.StringIO())
    again = list(Checkpoint.objects.order_by("pk").values()), list(Event.objects.order_by("pk").values())
    assert again == before


@pytest.mark.django_db
def test_what_cannot_be_archived_stays(cast: Cast, tmp_path: Path) -> None:
    run = ended(cast.h1, days=1000)
    with pytest.raises(CommandError, match="no folder"):
        call_command("prune", "--archive", str(tmp_path / "nowhere"))
    with (
        patch("webapp.ops.retention.os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(CommandError, match="No space left"),
    ):
        call_command("prune", "--archive", str(tmp_path))
    assert run.checkpoints.count() == 3 and run.events.count() == 1
    assert list(tmp_path.iterdir()) == []  # and no half of a file


@pytest.mark.django_db
def test_what_went_before_an_archive_failed_stands_in_the_log(cast: Cast, tmp_path: Path) -> None:
    run = ended(cast.h1, days=1000)
    with (
        patch("webapp.ops.retention.os.fsync", side_effect=[None, OSError(28, "No space left on device")]),
        pytest.raises(CommandError, match="No space left"),
    ):
        call_command("prune", "--archive", str(tmp_path))
    [file] = tmp_path.iterdir()
    told = json.loads(Entry.objects.get(type="site.pruned").line)["data"]
    assert run.checkpoints.count() == 1 and run.events.count() == 1
    assert told["rows"] == {"checkpoints of ended runs": 2} and list(told["archives"]) == [file.name]


# -- people, and a fleet as a document


@pytest.mark.django_db
def test_an_operator_begins_with_a_link_and_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_operator", "--username", "otto", "--email", "otto@example.org")
    link = capsys.readouterr().out.splitlines()[1]
    path = "/" + link.split("/", 3)[3]
    assert "password" in Client().get(path, follow=True).content.decode()
    from webapp.accounts.models import User

    otto = User.objects.get(username="otto")
    assert not otto.has_usable_password() and otto.is_operator and not otto.is_staff and not otto.is_superuser
    call_command("create_operator", "--username", "otto", "--support")  # the link was over: another one
    assert "/password/new/" in capsys.readouterr().out
    otto.set_password("a long and quiet password")
    otto.save()
    for wrong in (["--username", "otto"], ["--username", "ola", "--email", "nothing"], ["--username", "bad name"], []):
        with pytest.raises(SystemExit):
            call_command("create_operator", *wrong)
        assert "create_operator: " in capsys.readouterr().err


@pytest.mark.django_db
def test_a_fleet_goes_out_and_in_without_wishes_people_or_secrets(cast: Cast) -> None:
    document = exchange.export()
    assert [host["host"] for host in document["hosts"]] == ["h1"]
    assert document["tenants"][0]["vms"] == [{"name": "a-db", "trace": "sqlite3", "host": "h1"}]
    text = json.dumps(document)
    assert not any(word in text for word in ("alice", "balloon", "weight", "password", "argon2"))
    renamed = text.replace('"h1"', '"h9"').replace("alpha", "gamma").replace("beta", "delta")
    renamed = renamed.replace("a-db", "g-db").replace("b-web", "d-web")
    assert exchange.take_in(renamed.encode()) == {"hosts": 1, "tenants": 2, "vms": 2}
    assert VirtualMachine.objects.get(name="g-db").placement.host.name == "h9"
    again = exchange.export()
    assert {"h1", "h9"} == {host["host"] for host in again["hosts"]} and audit.verify()["valid"]


@pytest.mark.django_db
def test_a_document_with_one_fault_takes_in_nothing_and_names_every_fault(cast: Cast) -> None:
    good = {**HOST, "host": "h9"}
    vm = {"name": "g-db", "trace": "sqlite3", "host": "h9"}
    document = {
        "format": exchange.FORMAT,
        "hosts": [good, {**HOST, "host": "h1"}, {**HOST, "host": "h8", "colour": "red"}],
        "tenants": [
            {"slug": "gamma", "name": "Gamma", "vms": [vm, {**vm, "name": "a-db"}, {**vm, "trace": "none-such"}]},
            {"slug": "Not A Slug", "name": "", "vms": []},
            {"slug": "delta", "name": "Delta", "vms": [{"name": "d"}], "wishes": {}},
        ],
    }
    entries = Entry.objects.count()
    with pytest.raises(BadInput) as refused:
        exchange.take_in(json.dumps(document).encode())
    named = {fault.path for fault in refused.value.faults}
    assert {
        "$.hosts[1].host", "$.hosts[2].colour", "$.tenants[0].vms[1].vm", "$.tenants[0].vms[2].trace",
        "$.tenants[1].name", "$.tenants[2].wishes",
    } <= named  # fmt: skip
    assert not Host.objects.filter(name="h9").exists() and not Tenant.objects.filter(slug="gamma").exists()
    assert Entry.objects.count() == entries
    for text in ("[]", "{", '{"format": "vpms-fleet/2", "hosts": [], "tenants": []}', '{"a": NaN}', '{"a": 1, "a": 2}'):
        with pytest.raises(BadInput):
            exchange.take_in(text.encode())
