"""Backups: one file with everything that the database holds, which is proved whole before anything is touched.

The file is a tar of a manifest and the database, and one last line: the SHA-256 of all before it, and its HMAC under
the seal key. So a changed byte anywhere is noticed, and so is a file of another site. The seal key is not in it: it
opens the sealed checkpoints, keys and factors, and whoever has the backup must not have it as well.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from django.conf import settings
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from webapp.errors import BadInput, VpmsError
from webapp.runs.engine import ENGINE_VERSION
from webapp.strictjson import canonical, digest, load
from webapp.vpms.auditlog import GENESIS, verify_log

FORMAT: Final = "vpms-backup/1"
MANIFEST: Final = "manifest.json"
MEMBERS: Final = {"sqlite": "database.sqlite3", "postgresql": "database.sql"}
TRAILER: Final = re.compile(rb"vpms-backup-end sha256=([0-9a-f]{64}) hmac=([0-9a-f]{64})\n")
TRAILER_BYTES: Final = len(b"vpms-backup-end sha256= hmac=\n") + 128
PIECE: Final = 1 << 20
MANIFEST_BYTES: Final = 4 << 20
STOPPED_AFTER: Final = dt.timedelta(seconds=10)  # a process that lives gives a sign every two seconds

Run = Callable[[str], list[tuple[Any, ...]]]  # asks the database, answers its rows


def refused(code: str, message: str) -> VpmsError:
    return VpmsError(code, 409, message=message)


# -- what is compared before and after


def facts(ask: Run) -> dict[str, Any]:
    """What must be the same after a restore: how many rows each table has, how far the migrations are, where every run
    stands, and the chain of the log, read as a whole."""
    tables = [name for (name,) in ask(TABLES[connection.vendor])]
    lines = [line for (line,) in ask("SELECT line FROM audit_entry ORDER BY seq")]
    chain: dict[str, Any] = {"valid": True, "entries": 0, "head": GENESIS}
    if lines:
        ends = ask("SELECT length, hash FROM audit_head")
        try:
            read = verify_log("\n".join(lines).encode(), head=ends[0][1] if ends else GENESIS)
        except BadInput:
            read = {"valid": False, "head": ""}
        chain = {"valid": read["valid"], "entries": len(lines), "head": read["head"]}
    runs = ask("SELECT id, state, slice_no, seq, op, digest FROM runs_run ORDER BY id")
    kept = ask("SELECT run_id, slice_no, digest FROM runs_checkpoint ORDER BY run_id, slice_no")
    return {
        "rows": {name: ask(f'SELECT count(*) FROM "{name}"')[0][0] for name in tables},
        "migrations": sorted(list(row) for row in ask("SELECT app, name FROM django_migrations")),
        "runs": {"count": len(runs), "checkpoints": len(kept), "digest": digest([map_of(runs), map_of(kept)])},
        "audit": chain,
    }


TABLES: Final = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND substr(name, 1, 7) <> 'sqlite_' ORDER BY 1",
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
}


def map_of(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(row) for row in rows]


@contextlib.contextmanager
def asking(file: Path | None = None) -> Iterator[Run]:
    """Ask a file of SQLite, or the site's own database where it is another."""
    if file is not None:
        with contextlib.closing(sqlite3.connect(file)) as opened:
            yield lambda query: opened.execute(query).fetchall()
        return
    with connection.cursor() as cursor:

        def ask(query: str) -> list[tuple[Any, ...]]:
            cursor.execute(query)
            return list(cursor.fetchall())

        yield ask


def database_file() -> Path | None:
    """Where SQLite keeps the site's database; None: it is another database."""
    return Path(connection.settings_dict["NAME"]) if connection.vendor == "sqlite" else None


def key_name(key: bytes) -> str:
    """What a seal key is called: enough to tell keys apart, nothing that opens anything."""
    return hmac.new(key, b"the name of this seal key", "sha256").hexdigest()[:16]


# -- make


def make(path: Path) -> dict[str, Any]:
    """Write a backup of the database as it stands in one moment, while the site works on. The file is there whole or
    not at all, for nobody else to read. Its manifest is returned."""
    if path.exists():
        raise refused("exists", f"{path} exists already, and no backup is overwritten. Choose another name.")
    if not path.parent.is_dir():
        raise refused("no_place", f"{path.parent} is no directory. Make it first, or choose another place.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".vpms-backup-") as room:  # 0700, on the same disk
        member = Path(room) / MEMBERS[connection.vendor]
        told = _copy(member)
        sha256, size = _digest_of(member)
        manifest = {
            "format": FORMAT,
            "made_at": timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "engine": ENGINE_VERSION,
            "database": connection.vendor,
            "seal_key": key_name(settings.SEAL_KEY),
            "members": {member.name: {"bytes": size, "sha256": sha256}},
            **told,
        }
        fresh = Path(room) / "backup"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            _write(handle, manifest, member)
            handle.flush()
            os.fsync(handle.fileno())
        check(fresh)  # read back, as a restore would
        fresh.rename(path)
    _sync(path.parent)
    return manifest


def _copy(member: Path) -> dict[str, Any]:
    """The database as of one moment in a file of its own; what stands in it is returned."""
    source = database_file()
    if source is None:
        return _dump(member)
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(member)) as copy:
        live.execute("PRAGMA busy_timeout = 20000")
        live.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
    member.chmod(0o600)
    with asking(member) as ask:
        return facts(ask)


class _Summed(io.RawIOBase):
    """Passes on what is written and sums it up."""

    def __init__(self, handle: IO[bytes]) -> None:
        self.handle, self.sum = handle, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.sum.update(data)
        return self.handle.write(data)


def _write(handle: IO[bytes], manifest: dict[str, Any], member: Path) -> None:
    summed = _Summed(handle)
    text = canonical(manifest) + b"\n"
    with tarfile.open(fileobj=summed, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_header(MANIFEST, len(text)), io.BytesIO(text))
        with member.open("rb") as content:
            archive.addfile(_header(member.name, member.stat().st_size), content)
    sha256 = summed.sum.hexdigest()
    handle.write(f"vpms-backup-end sha256={sha256} hmac={_mark(sha256)}\n".encode())


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    return header


def _mark(sha256: str) -> str:
    return hmac.new(settings.SEAL_KEY, b"backup " + sha256.encode(), "sha256").hexdigest()


def _digest_of(path: Path) -> tuple[str, int]:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest(), path.stat().st_size


def _sync(directory: Path) -> None:
    """What was renamed there is on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# -- read


def check(path: Path) -> dict[str, Any]:
    """The manifest of a whole backup of this site that this release understands; else refused, and nothing was done."""
    damaged = refused("damaged", f"{path} is damaged or no backup. Nothing was changed; take another backup.")
    try:
        size = path.stat().st_size
        with path.open("rb") as handle:
            handle.seek(max(0, size - TRAILER_BYTES))
            end = TRAILER.fullmatch(handle.read())
            if end is None or not _sums_up(handle, size - TRAILER_BYTES, end[1].decode()):
                raise damaged
    except OSError as error:
        raise refused("unreadable", f"{path} cannot be read: {error.strerror}. Nothing was changed.") from None
    sha256, mark = end[1].decode(), end[2].decode()
    manifest = _manifest(path, damaged)
    if manifest.get("format") != FORMAT:
        raise refused("newer", f"{path} has the format {manifest.get('format')!r}; this release reads {FORMAT}.")
    if manifest["seal_key"] != key_name(settings.SEAL_KEY):
        raise refused(
            "foreign",
            f"{path} belongs to the seal key {manifest['seal_key']}; the key here is {key_name(settings.SEAL_KEY)}. "
            f"Put that site's key into {settings.RUN_DIR / 'seal.key'} first. Nothing was changed.",
        )
    if not hmac.compare_digest(mark, _mark(sha256)):
        raise damaged
    if manifest["database"] != connection.vendor:
        raise refused(
            "foreign", f"{path} holds {manifest['database']}; this site keeps its data in {connection.vendor}."
        )
    known = set(MigrationLoader(None).disk_migrations)
    unknown = [f"{app}.{name}" for app, name in manifest["migrations"] if (app, name) not in known]
    if unknown:
        raise refused(
            "newer",
            f"{path} was made by a newer release: {unknown[0]} is unknown here. Install that release first. "
            "Nothing was changed.",
        )
    return manifest


def _sums_up(handle: IO[bytes], size: int, sha256: str) -> bool:
    handle.seek(0)
    summed, left = hashlib.sha256(), size
    while left > 0 and (piece := handle.read(min(PIECE, left))):
        summed.update(piece)
        left -= len(piece)
    return left == 0 and summed.hexdigest() == sha256


def _manifest(path: Path, damaged: VpmsError) -> dict[str, Any]:
    """The manifest, if the archive holds exactly what it names, each with the digest that it names."""
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            if first is None or first.name != MANIFEST or not first.isreg() or first.size > MANIFEST_BYTES:
                raise damaged
            manifest = load(_content(archive, first).read(), max_bytes=MANIFEST_BYTES, max_array=None)
            members = dict(manifest["members"])
            while (member := archive.next()) is not None:
                named = members.pop(member.name, None) if member.isreg() else None
                if named is None or named["bytes"] != member.size:
                    raise damaged
                if hashlib.file_digest(_content(archive, member), "sha256").hexdigest() != named["sha256"]:
                    raise damaged
    except (tarfile.TarError, BadInput, KeyError, TypeError, ValueError, AttributeError):
        raise damaged from None
    if members or not {"seal_key", "database", "engine", "migrations", "audit", "runs", "rows"} <= manifest.keys():
        raise damaged
    return dict(manifest)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
    content = archive.extractfile(member)
    if content is None:
        raise ValueError(member.name)
    return content


# -- restore


def restore(path: Path, *, replace: bool = False) -> dict[str, Any]:
    """Put the backup in the place of the database, all or nothing. What stands there afterwards is compared with the
    manifest, and returned. Where a database was, it stays beside the new one as `….before-restore`."""
    manifest = check(path)
    with _alone():
        target = database_file()
        _expect_free(target, replace=replace)
        room_at = target.parent if target is not None else settings.RUN_DIR
        with tempfile.TemporaryDirectory(dir=room_at, prefix=".vpms-restore-") as room:
            fresh = Path(room) / MEMBERS[connection.vendor]
            _extract(path, fresh, manifest["members"][fresh.name]["sha256"])
            if target is None:
                _load(fresh)
            else:
                _expect_same(manifest, fresh)
                _swap(fresh, target)
    connections.close_all()
    with asking(target) as ask:
        found = facts(ask)
    _compare(manifest, found)
    return {**manifest, **found}


def _compare(manifest: dict[str, Any], found: dict[str, Any]) -> None:
    differ = [name for name, value in found.items() if manifest[name] != value]
    if differ:
        raise refused("differs", f"What was restored differs from the backup in: {', '.join(differ)}.")


def _expect_same(manifest: dict[str, Any], fresh: Path) -> None:
    """Proved before the swap: the file is a whole database and says what the manifest says."""
    with asking(fresh) as ask:
        try:
            whole = ask("PRAGMA integrity_check") == [("ok",)]
            found = facts(ask)
        except sqlite3.DatabaseError:
            whole = False
    if not whole:
        raise refused("damaged", "The database in the backup is damaged. Nothing was changed; take another backup.")
    _compare(manifest, found)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nobody starts a demo in this directory meanwhile."""
    with (settings.RUN_DIR / "demo.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise refused("running", "The site is running. Stop it first; nothing was changed.") from None
        yield


def _expect_free(target: Path | None, *, replace: bool) -> None:
    """The site stands still, and there is nothing to lose; or the operator says that it may be replaced."""
    if target is not None and not target.exists():
        return
    try:
        with asking(target) as ask:
            beats = [_time(at) for (at,) in ask("SELECT at FROM ops_heartbeat")]
            held = sum(ask(f"SELECT count(*) FROM {table}")[0][0] for table in ("accounts_user", "audit_entry"))
    except Exception:  # no tables, or a file that nobody can read: only the operator knows whether it may go
        connection.close()
        beats, held = [], int(target is not None and target.stat().st_size > 0)
        with contextlib.suppress(sqlite3.DatabaseError), asking(target) as ask:
            held = len(ask(TABLES[connection.vendor])) and held
    if any(at > timezone.now() - STOPPED_AFTER for at in beats):
        raise refused("running", "The site was at work within the last 10 s. Stop it first; nothing was changed.")
    if held and not replace:
        raise refused(
            "not_empty",
            "There is data in the database of this site. To put the backup in its place, say --replace. "
            "Nothing was changed.",
        )


def _time(at: Any) -> dt.datetime:
    read = dt.datetime.fromisoformat(at) if isinstance(at, str) else at
    return read if read.tzinfo else read.replace(tzinfo=dt.UTC)


def _extract(path: Path, fresh: Path, sha256: str) -> None:
    """The member's bytes, summed up again as they are written: the file may have changed since it was checked."""
    with tarfile.open(path, "r:") as archive:
        content = _content(archive, archive.getmember(fresh.name))
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            shutil.copyfileobj(content, handle, PIECE)
            handle.flush()
            os.fsync(handle.fileno())
    if _digest_of(fresh)[0] != sha256:
        raise refused("damaged", f"{path} changed while it was read. Nothing was changed.")


def _swap(fresh: Path, target: Path) -> None:
    """One rename puts the new database into its place. At every moment there is a whole one."""
    connections.close_all()
    if target.exists():
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(target)) as old:
            old.execute("PRAGMA journal_mode = DELETE")  # what its journal holds goes into the file
        before = target.with_name(f"{target.name}.before-restore")
        before.unlink(missing_ok=True)
        os.link(target, before)
    for name in ("-wal", "-shm", "-journal"):  # of the old file: they must not be read into the new one
        target.with_name(target.name + name).unlink(missing_ok=True)
    fresh.replace(target)
    _sync(target.parent)


# -- PostgreSQL: by its own tools


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise refused("no_tool", f"{name} is missing. Install the PostgreSQL client programs of the server's version.")
    return found


def _call(name: str, *args: str) -> None:
    """One of PostgreSQL's programs on the site's database. The password goes by the environment, never by the line."""
    at = connection.settings_dict
    known = {"PGHOST": at["HOST"], "PGPORT": at["PORT"], "PGUSER": at["USER"], "PGDATABASE": at["NAME"]}
    environment = {**os.environ, **known, "PGPASSWORD": at["PASSWORD"]}
    done = subprocess.run([_tool(name), *args], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise refused("tool_failed", f"{name} failed: {last}")


def _dump(member: Path) -> dict[str, Any]:
    """The dump and what is counted beside it are of the same moment: they share one snapshot of the server."""
    member.touch(mode=0o600)
    connection.set_autocommit(False)
    try:
        with asking() as ask, connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            snapshot = ask("SELECT pg_export_snapshot()")[0][0]
            _call("pg_dump", "--no-owner", "--no-privileges", f"--snapshot={snapshot}", f"--file={member}")
            return facts(ask)
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def _load(fresh: Path) -> None:
    """The dump takes the place of all tables in one transaction: an error leaves everything as it was."""
    connections.close_all()
    empty = ("--command=DROP SCHEMA public CASCADE", "--command=CREATE SCHEMA public")
    flags = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1")
    _call("psql", *flags, *empty, f"--file={fresh}")


def told(manifest: dict[str, Any]) -> list[str]:
    """What both commands print: the same lines for the same content."""
    runs, audit = manifest["runs"], manifest["audit"]
    return [
        f"rows     {sum(manifest['rows'].values())} in {len(manifest['rows'])} tables",
        f"runs     {runs['count']}, checkpoints {runs['checkpoints']}, digest {runs['digest']}",
        f"audit    {'whole' if audit['valid'] else 'BROKEN'}, {audit['entries']} entries, head {audit['head']}",
        f"engine   {manifest['engine']}",
        f"seal key {manifest['seal_key']} (not in the backup: keep {settings.RUN_DIR / 'seal.key'} apart)",
    ]


def as_json(manifest: dict[str, Any]) -> str:
    return json.dumps({name: manifest[name] for name in ("made_at", "engine", "audit", "runs", "seal_key")})
