"""Real PostgreSQL and Redis (or Valkey) servers of our own for tests and benches: started, and stopped again.

PostgreSQL refuses root, so there it runs as an ordinary user. Nothing here touches a server that it did not start.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from webapp.ops.supervisor import die_with_parent

ORDINARY: Final = ("postgres", "nobody")  # who runs PostgreSQL when we are root
START_SECONDS: Final = 60
STOP_SECONDS: Final = 30


class Missing(RuntimeError):
    """A server that is not installed here; the message is one line that says what to do."""


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def postgres_binaries() -> Path:
    """The folder of initdb and postgres: the newest of Debian's, or what is on PATH."""
    newest = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    found = newest[-1] if newest else shutil.which("initdb")
    if not found:
        raise Missing("PostgreSQL is missing (initdb); install it: apt-get install postgresql")
    return Path(found).resolve().parent


def redis_binary() -> str:
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if not found:
        raise Missing("Redis is missing (redis-server or valkey-server); install it: apt-get install redis-server")
    return found


def ordinary() -> dict[str, object]:
    """Options of subprocess by which a command runs as an ordinary user when we are root."""
    if os.geteuid():
        return {}
    for name in ORDINARY:
        with contextlib.suppress(KeyError):
            person = pwd.getpwnam(name)
            return {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
    raise Missing("PostgreSQL refuses root, and there is no user `postgres` or `nobody` to run it")


@dataclass
class Server:
    """One process that we started, and what must be true before it is used."""

    name: str
    command: Sequence[str]
    log: Path
    options: dict[str, object] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.log.parent,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()) if not self.options else None,
                **self.options,  # type: ignore[call-overload]
            )
        end = time.monotonic() + START_SECONDS
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{self.name} did not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(self.stop_signal)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Postgres:
    """A cluster in a directory of its own. `url` names its superuser: tests make and drop databases."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", networks: Sequence[str] = ()) -> None:
        self.binaries, run_as = postgres_binaries(), ordinary()
        self.data, self.address, self.port = directory / "data", address, free_port(address)
        self.password = secrets.token_urlsafe(18)
        directory.mkdir(parents=True, exist_ok=True)
        word = directory / "password"
        with os.fdopen(os.open(word, os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
            handle.write(self.password)
        if run_as:
            for path in (directory, word):
                os.chown(path, int(str(run_as["user"])), int(str(run_as["group"])))
        made = subprocess.run(
            [
                str(self.binaries / "initdb"), "-D", str(self.data), "-U", "owner", "--auth=scram-sha-256",
                "--pwfile", str(word), "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
            ],
            capture_output=True, text=True, cwd=directory, check=False, **run_as,  # type: ignore[call-overload]
        )  # fmt: skip
        word.unlink()
        if made.returncode:
            raise RuntimeError(f"initdb: {made.stderr[-1000:]}")
        for network in networks:
            with (self.data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {network} scram-sha-256\n")
        options = {
            "listen_addresses": address, "port": str(self.port), "unix_socket_directories": str(directory),
            "max_connections": "300", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
            "shared_buffers": "128MB",
        }  # fmt: skip
        command = [str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self.server = Server("postgresql", command, directory / "postgresql.log", run_as, signal.SIGINT)
        self.server.log.touch()
        self.start()

    @property
    def url(self) -> str:
        return f"postgres://owner:{self.password}@{self.address}:{self.port}/postgres"

    def url_of(self, database: str) -> str:
        return f"postgres://owner:{self.password}@{self.address}:{self.port}/{database}"

    def psql(self, statement: str, *, database: str = "postgres") -> str:
        """The answer of one statement, fields parted by |."""
        done = subprocess.run(
            [
                str(self.binaries / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.address,
                "-p", str(self.port), "-U", "owner", "-d", database, "-c", statement,
            ],
            capture_output=True, text=True, check=True, env={**os.environ, "PGPASSWORD": self.password},
        )  # fmt: skip
        return done.stdout.strip()

    def start(self) -> None:
        self.server.start(self.ready)

    def ready(self) -> bool:
        try:
            return self.psql("SELECT 1") == "1"
        except subprocess.CalledProcessError:
            return False

    def stop(self) -> None:
        self.server.stop()


class Redis:
    """A server with a password, on loopback; what it holds is in its memory alone."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", extra: Sequence[str] = ()) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.address, self.port, self.password = address, free_port(address), secrets.token_urlsafe(18)
        config = directory / "redis.conf"  # not on the command line, where everybody could read the password
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT, 0o600), "w") as handle:
            handle.write(f"requirepass {self.password}\nbind {address}\nport {self.port}\n")
            handle.write(f'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy noeviction\ndir {directory}\n')
            handle.writelines(f"{line}\n" for line in extra)
        self.server = Server("redis", [redis_binary(), str(config)], directory / "redis.log")
        self.start()

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{self.address}:{self.port}/0"

    def start(self) -> None:
        self.server.start(self.ready)

    def ready(self) -> bool:
        import redis

        try:
            return bool(redis.Redis.from_url(self.url, retry=None).ping())
        except redis.RedisError:
            return False

    def stop(self) -> None:
        self.server.stop()


@contextlib.contextmanager
def place(prefix: str = "vpms-") -> Iterator[Path]:
    """A short private directory, gone afterwards. An ordinary PostgreSQL must be able to pass through it."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
