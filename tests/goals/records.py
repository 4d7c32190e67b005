"""What must be exactly the same: the log's chain, backups, migrations, and the engine's digests."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.e2e.stack import ROOT, inherited
from tests.goals import stack
from tests.goals.stack import Place


def manage(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of the site's on the place's database, in a process of its own."""
    own = {**inherited(place.run_dir), "HSVM_TLS": "0", "HSVM_REDIS": place.redis_url, "HSVM_LOG": "ERROR"}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env={**own, **place.database(), **environment}, capture_output=True, text=True, timeout=250,
    )  # fmt: skip


# -- A2


def log_edits(place: Place) -> dict[str, Any]:
    """Random edits, deletions and swaps in the log's table, each found at or before its place, and each taken back."""
    place.django()
    from django.db import connection, transaction

    from webapp.audit.services import verify

    stack.many_hosts(place.count(60, 20))
    tries, found = place.count(100, 30), 0
    missed: list[str] = []
    kinds: dict[str, int] = {}
    length = verify()["entries"]
    for _ in range(tries):
        with transaction.atomic():
            with connection.cursor() as cursor:
                kind, at = damage(cursor, place.random, length)
            verdict = verify()
            transaction.set_rollback(True)
        kinds[kind] = kinds.get(kind, 0) + 1
        if not verdict["valid"] and verdict["first_bad"] is not None and verdict["first_bad"] <= at:
            found += 1
        else:
            missed.append(f"{kind} at {at}: {verdict}")
    by_command = manage(place, "verify_audit")
    whole = by_command.returncode == 0 and json.loads(by_command.stdout)["valid"]
    with connection.cursor() as cursor:
        damage(cursor, place.random, length)
    by_command = manage(place, "verify_audit")
    named = by_command.returncode == 1 and not json.loads(by_command.stdout)["valid"]
    ok = found == tries and whole and named
    return {"ok": ok, "entries": length, "tries": tries, "found": found, "kinds": kinds, "missed": missed[:5],
            "command_whole": whole, "command_named": named}  # fmt: skip


def damage(cursor: Any, chance: random.Random, length: int) -> tuple[str, int]:
    """Do one thing to the log behind its back: its kind, and the last entry before which it must be found."""
    at = chance.randrange(length)
    other = (at + chance.randrange(1, length)) % length
    kind = chance.choice(("edit", "edit", "column", "delete", "swap", "tail", "forged"))
    if kind == "edit":  # one character of the line
        cursor.execute("SELECT line FROM audit_entry WHERE seq = %s", [at])
        line = cursor.fetchone()[0]
        place_ = chance.randrange(len(line))
        new = chance.choice([c for c in 'abcdef0123456789"{}, ' if c != line[place_]])
        cursor.execute(
            "UPDATE audit_entry SET line = %s WHERE seq = %s", [line[:place_] + new + line[place_ + 1 :], at]
        )
    elif kind == "column":
        column = chance.choice(("type", "actor", "subject", "hash"))
        cursor.execute(f"UPDATE audit_entry SET {column} = substr({column}, 2) || 'x' WHERE seq = %s", [at])
    elif kind == "delete":
        cursor.execute("DELETE FROM audit_audience WHERE entry_id = %s", [at])
        cursor.execute("DELETE FROM audit_entry WHERE seq = %s", [at])
    elif kind == "swap":  # two rows change places, whole
        cursor.execute("SELECT seq, line, hash, type, actor, subject, at FROM audit_entry WHERE seq IN (%s, %s)",
                       [at, other])  # fmt: skip
        rows = {row[0]: row[1:] for row in cursor.fetchall()}
        change = "UPDATE audit_entry SET line=%s, hash=%s, type=%s, actor=%s, subject=%s, at=%s WHERE seq = %s"
        cursor.execute(change, [*rows[other], at])
        cursor.execute(change, [*rows[at], other])
        at = min(at, other)
    elif kind == "tail":  # the newest entries go
        cursor.execute("DELETE FROM audit_audience WHERE entry_id >= %s", [at])
        cursor.execute("DELETE FROM audit_entry WHERE seq >= %s", [at])
    else:  # an entry with other words and a digest that fits them
        from webapp.strictjson import canonical, digest

        cursor.execute("SELECT line FROM audit_entry WHERE seq = %s", [at])
        body = json.loads(cursor.fetchone()[0])
        body.pop("hash")
        body["subject"] += "x"
        new = digest(body)
        line = canonical({**body, "hash": new}).decode()
        cursor.execute("UPDATE audit_entry SET line=%s, hash=%s, subject=%s WHERE seq=%s",
                       [line, new, body["subject"], at])  # fmt: skip
        return kind, min(at + 1, length)  # what follows does not follow
    return kind, at


# -- B1


def backup(place: Place) -> dict[str, Any]:
    """The told story is backed up, everything but the keys wiped, restored, and the site started on it."""
    from tests.e2e.stack import prepare

    prepare(place.run_dir, **place.database())
    place.django()
    from django.db import connection

    from webapp.ops import backup as backups

    connection.close()
    before = facts(backups)
    file = place.folder / "safe" / "site.tar"
    file.parent.mkdir(mode=0o700)
    began = time.monotonic()
    made = manage(place, "backup", str(file))
    backed = time.monotonic() - began
    wipe(place)
    restored = manage(place, "restore", str(file))
    seconds = time.monotonic() - began
    whole = manage(place, "verify_audit").returncode == 0
    after = facts(backups)
    with place.demo(HSVM_SLOWER="1"):
        from webapp.runs.models import Run

        moved = stack.within(lambda: sum(Run.objects.values_list("slice_no", flat=True)) > slices(before), 60)
    equal = {name: before[name] == after[name] for name in before if name != "slices"}
    return {
        "ok": made.returncode == restored.returncode == 0 and all(equal.values()) and whole and seconds <= 60
        and moved is not None,
        "seconds_in_all": round(seconds, 1), "backup_s": round(backed, 1), "bytes": file.stat().st_size,
        "equal": equal, "rows": sum(before["rows"].values()), "audit_entries": before["audit"]["entries"],
        "chain_verified": whole, "runs_go_on": moved is not None,
        "said": (made.stderr + restored.stderr)[-300:],
    }  # fmt: skip


def wipe(place: Place) -> None:
    """All but the two keys goes."""
    for path in place.run_dir.iterdir():
        if path.name not in ("seal.key", "secret.key"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if place.postgres:
        place.postgres.psql("DROP DATABASE vpms WITH (FORCE)")
        place.postgres.psql("CREATE DATABASE vpms")


def slices(found: dict[str, Any]) -> int:
    return int(found["slices"])


def facts(backups: Any) -> dict[str, Any]:
    """The facts that the backup itself compares, read from the database by this process."""
    from django.db import connection

    def ask(question: str) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())

    found: dict[str, Any] = backups.facts(ask)
    found["slices"] = ask("SELECT coalesce(sum(slice_no), 0) FROM runs_run")[0][0]
    connection.close()
    return found


# -- B2


def migrations(place: Place) -> dict[str, Any]:
    """Zero, head, zero, head: of an empty database and of one with the told story; and each app's newest migration back
    and forward without a row changing."""
    from tests.e2e.stack import prepare

    checked = manage(place, "makemigrations", "--check", "--dry-run")
    times: dict[str, float] = {}
    wrong: list[str] = []
    for name in ("empty", "populated"):
        if name == "populated":
            prepare(place.run_dir, **place.database())
            kept, faults = one_step(place)
            wrong += faults
        for target in ("head", "zero", "head"):
            began = time.monotonic()
            done = everything(place, target)
            times[f"{name}_{target}"] = round(time.monotonic() - began, 1)
            wrong += [f"{name} {target}: {said}" for said in done]
    told = manage(place, "check")
    ok = checked.returncode == 0 and not wrong and told.returncode == 0
    return {"ok": ok, "makemigrations_check": checked.returncode == 0, "wrong": wrong[:5], "seconds_of": times,
            "apps_stepped": len(kept), "tables_compared": sum(kept.values())}  # fmt: skip


def everything(place: Place, target: str) -> list[str]:
    """Migrate all apps to head or zero; what went wrong."""
    if target == "head":
        done = manage(place, "migrate", "--verbosity", "0")
        return [] if done.returncode == 0 else [done.stderr[-300:]]
    code = (
        "import django; django.setup()\n"
        "from django.db import connection\n"
        "from django.db.migrations.executor import MigrationExecutor\n"
        "executor = MigrationExecutor(connection)\n"
        "executor.migrate([(app, None) for app in sorted(executor.loader.migrated_apps)])\n"
        "left = set(connection.introspection.table_names()) - {'django_migrations', 'sqlite_sequence'}\n"
        "assert not left, left\n"
    )
    environment = {**inherited(place.run_dir), "HSVM_TLS": "0", "DJANGO_SETTINGS_MODULE": "webapp.settings"}
    environment |= place.database()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250
    )
    return [] if done.returncode == 0 else [done.stderr[-300:]]


def one_step(place: Place) -> tuple[dict[str, int], list[str]]:
    """Each app's newest migration back and forward on the populated database: tables compared, what went wrong."""
    place.django()
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor
    from django.db.migrations.loader import MigrationLoader

    compared, wrong = {}, []
    for app, (last, before) in leaves(MigrationLoader(connection)).items():
        rows = counts(connection)
        try:
            for target in ([(app, before)], MigrationLoader(connection).graph.leaf_nodes()):
                MigrationExecutor(connection).migrate(target)
        except Exception as error:  # an irreversible step is what is looked for
            wrong.append(f"{app} {last}: {type(error).__name__}: {error}"[:200])
            continue
        now = counts(connection)
        # Rows of tables that the step itself made go with it: what is compared is what stood before it.
        lost = {name for name in rows if now.get(name) != rows[name]}
        made = tables_made(app, last)
        if lost - made:
            wrong.append(f"{app} {last}: {sorted(lost - made)} changed")
        compared[app] = len(rows)
    connection.close()
    return compared, wrong


def leaves(loader: Any) -> dict[str, tuple[str, str]]:
    """Of each of our apps with more than one migration, the newest and the one before it."""
    found = {}
    for app, name in loader.graph.leaf_nodes():
        module = loader.disk_migrations[app, name].__module__
        older = sorted(n for a, n in loader.disk_migrations if a == app and n != name)
        if module.startswith("webapp.") and older:
            found[app] = (name, older[-1])
    return found


def tables_made(app: str, name: str) -> set[str]:
    """Tables that this migration makes."""
    from django.db import connection
    from django.db.migrations.loader import MigrationLoader
    from django.db.migrations.operations import CreateModel

    steps = MigrationLoader(connection).disk_migrations[app, name].operations
    return {f"{app}_{step.name.lower()}" for step in steps if isinstance(step, CreateModel)}


def counts(connection: Any) -> dict[str, int]:
    """Rows of each table but those that count migrating itself."""
    found = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if not re.match(r"django_(migrations|content_type)|auth_permission|sqlite_", table):
                cursor.execute(f'SELECT count(*) FROM "{table}"')
                found[table] = cursor.fetchone()[0]
    return found


# -- D1


def digests(place: Place) -> dict[str, Any]:
    """The same digests in another process, under every CPU variant, in the checked build, and after each checkpoint."""
    wanted = engine("tests.engine.digests")
    variants = ["baseline", *(name for name in ("avx2", "avx512f") if name in cpu_flags())]
    variants = [name.removesuffix("f") for name in variants]
    differ = [f"cpu {name}" for name in variants if engine("tests.engine.digests", HSVM_CPU=name) != wanted]
    differ += ["a second process"] if engine("tests.engine.digests", PYTHONHASHSEED="7") != wanted else []
    builds = ["normal"]
    if not place.few:
        from tests.engine.othertree import build, copied, python

        with copied("checked") as tree:
            build(tree, HSVM_CHECKS="1", HSVM_QUICK="1")
            builds.append("checked")
            differ += (
                [] if python(tree, "-m", "tests.engine.digests", quiet=True).stdout == wanted else ["checked build"]
            )
    wrong, at = resumed(place.seed, place.count(50, 8))
    apart = honest(place.seed, place.count(6, 2))
    ok = bool(wanted) and not differ and not wrong and not apart["differ"]
    return {"ok": ok, "rows": len(wanted.splitlines()), "cpu_variants": variants, "builds": builds, "differ": differ,
            "checkpoints": at, "wrong_after_resuming": wrong, "honest": apart}  # fmt: skip


def engine(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    return done.stdout if done.returncode == 0 else ""


def cpu_flags() -> set[str]:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^flags\s*:(.*)$", text, re.M)
    return set(found[1].split()) if found else set()


def resumed(seed: int, checkpoints: int) -> tuple[int, int]:
    """A run is saved at so many places of chance; each is loaded and played to the end. Wrong ends, and places."""
    from hsvm_engine.play import Player
    from hsvm_engine.scenarios import demo

    chance = random.Random(seed)
    steps = [chance.randrange(500, 4000) for _ in range(checkpoints + 4)]
    player = Player(seeded(demo(), seed))
    saved = []
    for size in steps:
        saved.append(player.save())
        player.step(size)
    end = player.digest()
    wrong = 0
    for place_ in range(1, checkpoints + 1):
        again = Player.load(saved[place_])
        for size in steps[place_:]:
            again.step(size)
        wrong += again.digest() != end
    return wrong, checkpoints


def honest(seed: int, runs: int) -> dict[str, Any]:
    """The rows hsvm and hsvm-smm play the same honest programs; owners and contents of every page are compared."""
    from hsvm_engine.play import Player
    from hsvm_engine.scenarios import demo

    differ: list[Any] = []
    pages = 0
    for number in range(runs):
        seen = []
        for row in ("hsvm", "hsvm-smm"):
            player = Player(seeded(demo(row), seed + number))
            for _ in range(10):
                player.step(20_000)
            seen.append((player.machine.ownership().tolist(), contents(player)))
        pages += len(seen[0][1]["bytes"])
        differ += [number] if seen[0] != seen[1] else []
    return {"runs": runs, "pages_with_content": pages, "differ": differ}


def seeded(scenario: Any, seed: int) -> Any:
    """The scenario with other seeds for its programs."""
    vms = tuple(replace(vm, seed=seed * 10 + number) for number, vm in enumerate(scenario.vms))
    return replace(scenario, seed=seed, vms=vms)


def contents(player: Any) -> dict[str, Any]:
    """Who maps what, and the bytes of every frame outside the hypervisor's own: those differ between the rows."""
    state = player.machine.dump()
    own = player.scenario.machine["hypervisor_frames"]
    frames = [mfn for mfn in state["nonzero"] if mfn >= own]
    held = {mfn: str(player.machine.physical.cold_boot_read(mfn=mfn)) for mfn in frames}
    return {"bytes": held, **{name: state[name] for name in ("owners", "leaves", "shared", "merged")}}
