"""Settings that would make the site unsafe are refused, each in one sentence that names its variable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from webapp import keys, safety

ROOT = Path(__file__).resolve().parents[2]
SAFE: dict[str, Any] = {
    "tls": True,
    "bind": "0.0.0.0",
    "hosts": ["vpms.example.org"],
    "origins": ["https://vpms.example.org"],
    "database": "postgres://vpms:a-long-password@db.example.org:5432/vpms?sslmode=verify-full",
    "database_password": "a-long-password",
    "redis": {
        "HSVM_REDIS": "rediss://live:a-long-password@redis.example.org:6379/0",
        "HSVM_BROKER": "rediss://work:a-long-password@broker.example.org:6379/0",
        "HSVM_CACHE": "",
    },
    "plain_hosts": [],
    "secret_key": "0123456789abcdef" * 4,
}
PRODUCTION = {
    "HSVM_HOSTS": "vpms.example.org",
    "HSVM_ORIGINS": "https://vpms.example.org",
    "HSVM_BIND": "0.0.0.0",
    "HSVM_BEHIND_PROXY": "1",
    "HSVM_DATABASE": "postgres://vpms:a-long-password@db.example.org:5432/vpms?sslmode=verify-full",
    "HSVM_REDIS": "rediss://live:a-long-password@redis.example.org:6379/0",
    "HSVM_BROKER": "rediss://work:a-long-password@broker.example.org:6379/0",
    "HSVM_CACHE": "rediss://keep:a-long-password@redis.example.org:6379/1",
    "HSVM_MAIL": "smtp+tls://user:a-long-password@mail.example.org",
    "HSVM_METRICS_TOKEN": "t" * 32,
}


def told(**changes: Any) -> list[str]:
    return safety.faults(**{**SAFE, **changes})


def test_safe_settings_have_no_fault() -> None:
    assert told() == []


@pytest.mark.parametrize(
    ("changes", "variable", "says"),
    [
        ({"hosts": []}, "HSVM_HOSTS", "must name the hosts"),
        ({"hosts": ["*"]}, "HSVM_HOSTS", "any name"),
        ({"hosts": ["*.example.org"]}, "HSVM_HOSTS", "any name"),
        ({"origins": ["http://vpms.example.org"]}, "HSVM_ORIGINS", "https://"),
        ({"origins": ["https://*.example.org"]}, "HSVM_ORIGINS", "must read"),
        ({"origins": ["vpms.example.org"]}, "HSVM_ORIGINS", "must read"),
        ({"secret_key": "short"}, "HSVM_SECRET_KEY", "at least 32"),
        ({"secret_key": "a" * 64}, "HSVM_SECRET_KEY", "nobody can guess"),
        ({"database": "postgres://vpms:pw@db:5432/vpms"}, "HSVM_DATABASE", "in the clear"),
        ({"database": "postgres://vpms:pw@db:5432/vpms?sslmode=prefer"}, "HSVM_DATABASE", "in the clear"),
        ({"database_password": ""}, "HSVM_DATABASE", "no password"),
        ({"database": "postgres://db.example.org/vpms?sslmode=require"}, "HSVM_DATABASE", "no user"),
        ({"redis": {"HSVM_REDIS": "redis://:a-long-password@redis:6379/0"}}, "HSVM_REDIS", "in the clear"),
        ({"redis": {"HSVM_REDIS": "rediss://redis:6379/0"}}, "HSVM_REDIS", "no password"),
        ({"redis": {"HSVM_REDIS": "rediss://:short@redis:6379/0"}}, "HSVM_REDIS", "at least 12"),
        (
            {"redis": {**SAFE["redis"], "HSVM_BROKER": "redis://broker:6379/0"}}, "HSVM_BROKER", "no password",
        ),
        (
            {"redis": {**SAFE["redis"], "HSVM_CACHE": "rediss://cache:6379/0"}}, "HSVM_CACHE", "no password",
        ),
    ],
)  # fmt: skip
def test_each_fault_is_one_sentence_that_names_its_variable(changes: dict[str, Any], variable: str, says: str) -> None:
    found = told(**changes)
    assert found and all("\n" not in sentence for sentence in found)
    assert any(sentence.startswith(variable) and says in sentence for sentence in found), found


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_on_loopback_neither_tls_nor_a_password_is_asked_of_redis(host: str) -> None:
    assert told(redis={"HSVM_REDIS": f"redis://{host}:6379/0"}) == []
    assert told(redis={"HSVM_REDIS": "unix:///run/vpms/valkey.sock"}) == []


def test_a_network_of_ones_own_is_named_and_still_asks_for_passwords() -> None:
    plain = {"plain_hosts": ["db", "redis"], "database": "postgres://vpms:pw@db/vpms"}
    assert told(**plain, redis={"HSVM_REDIS": "redis://:a-long-password@redis/0"}) == []
    assert any("no password" in each for each in told(**plain, redis={"HSVM_REDIS": "redis://redis/0"}))
    assert any(
        "in the clear" in each for each in told(**plain, redis={"HSVM_REDIS": "redis://:a-long-password@other/0"})
    )


# -- in a process of its own


def manage(run: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HSVM_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT, env={**clean, "HSVM_RUN_DIR": str(run), **variables}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_the_check_of_a_deployment_is_clean_under_production_settings(tmp_path: Path) -> None:
    keys.make(tmp_path)
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no issues (0 silenced)" in done.stdout


def test_a_refusal_is_told_in_sentences_and_not_as_a_traceback(tmp_path: Path) -> None:
    keys.make(tmp_path)
    unsafe = {**PRODUCTION, "HSVM_REDIS": "redis://redis.example.org:6379/0", "HSVM_HOSTS": "*"}
    done = manage(tmp_path, "check", **unsafe)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 3 and all("HSVM_HOSTS" in line or "HSVM_REDIS" in line for line in lines), lines
    assert "a-long-password" not in done.stderr


def test_a_site_of_several_machines_makes_no_keys_of_its_own(tmp_path: Path) -> None:
    done = manage(tmp_path, "check", **PRODUCTION)
    assert done.returncode == 1 and "HSVM_SECRET_KEY_FILE" in done.stderr and "webapp.keys" in done.stderr
    assert not (tmp_path / "secret.key").exists() and not (tmp_path / "seal.key").exists()


def test_keys_that_everybody_can_read_are_refused(tmp_path: Path) -> None:
    keys.make(tmp_path / "keys")
    named = {"HSVM_SECRET_KEY_FILE": f"{tmp_path}/keys/secret.key", "HSVM_SEAL_KEY_FILE": f"{tmp_path}/keys/seal.key"}
    assert manage(tmp_path / "run", "check", **PRODUCTION, **named).returncode == 0
    (tmp_path / "keys" / "seal.key").chmod(0o644)
    done = manage(tmp_path / "run", "check", **PRODUCTION, **named)
    assert (
        done.returncode == 1 and done.stderr.startswith("settings: HSVM_SEAL_KEY_FILE:") and "chmod 600" in done.stderr
    )


def test_passwords_may_stand_in_files_and_are_told_to_nobody(tmp_path: Path) -> None:
    keys.make(tmp_path)
    word = tmp_path / "word"
    word.write_text("a password/with#signs\n")
    word.chmod(0o600)
    production = {
        **PRODUCTION,
        "HSVM_DATABASE": "postgres://vpms@db.example.org/vpms?sslmode=verify-full",
        "HSVM_DATABASE_PASSWORD_FILE": str(word),
        "HSVM_REDIS": "rediss://live@redis.example.org:6379/0",
        "HSVM_REDIS_PASSWORD_FILE": str(word),
    }
    shown = "from django.conf import settings as s; from redis import Redis; k = Redis.from_url(s.REDIS_URL)"
    shown += (
        ".connection_pool.connection_kwargs; print([k['username'], k['password'], s.DATABASES['default']['PASSWORD']])"
    )
    done = manage(tmp_path, "shell", "-v", "0", "-c", shown, **production)
    assert "['live', 'a password/with#signs', 'a password/with#signs']" in done.stdout, done.stderr


def test_the_keys_of_a_site_are_made_once(tmp_path: Path) -> None:
    made = keys.make(tmp_path / "keys")
    assert [path.name for path in made] == ["secret.key", "seal.key"]
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    before = [path.read_bytes() for path in made]
    assert keys.make(tmp_path / "keys") == [] and [path.read_bytes() for path in made] == before
