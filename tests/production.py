"""`make test-production`: the suite without browsers, on a real PostgreSQL and a real Redis or Valkey of its own.

`python -m tests.production [arguments of pytest]`. Ends with pytest's summary and one JSON line, and stops exactly the
servers that it started. PIECES=3 PIECE=1 runs every third test file, from the first, for machines with little time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from tests import servers
from webapp import keys

ROOT: Final = Path(__file__).resolve().parent.parent
COUNTED: Final = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected)")


def environment(run: Path, database: servers.Postgres, redis: servers.Redis) -> dict[str, str]:
    """What the suite and every process that it starts reads."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HSVM_", "DJANGO_"))},
        "HSVM_TLS": "0",
        "HSVM_RUN_DIR": str(run),
        "HSVM_DATABASE": database.url_of("vpms"),
        "HSVM_REDIS": redis.url,
        # The tests that kill the broker start one of their own: of the same make as the one here.
        "TEST_REDIS_SERVER": servers.redis_binary(),
    }


def chosen(pieces: int, piece: int) -> list[str]:
    """Every so manyth test file, from the piece on; all of them without pieces."""
    if pieces < 2:
        return []
    files = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "e2e" not in path.parts
    )
    return files[piece - 1 :: pieces]


def suite(arguments: list[str], variables: dict[str, str]) -> tuple[int, dict[str, int]]:
    """pytest's exit code and counts; what it prints is passed on as it comes."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--migrations",
        "-m",
        "not e2e",
        *arguments,
    ]
    counts: dict[str, int] = {}
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                print(line, end="", flush=True)
                if line.rstrip("= \n").endswith(")") or " in " in line:
                    counts = {word: int(number) for number, word in COUNTED.findall(line)} or counts
        except KeyboardInterrupt:
            running.terminate()
            raise
    return running.returncode, counts


def main(arguments: list[str]) -> int:
    def stopped(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stopped)
    began = time.monotonic()
    arguments += chosen(int(os.environ.get("PIECES", "1")), int(os.environ.get("PIECE", "1")))
    code, counts = 1, dict[str, int]()
    versions: dict[str, str] = {}
    with servers.place("vpms-prod-") as place:
        database = redis = None
        try:
            servers.redis_binary()  # both are looked for before either is started
            database = servers.Postgres(place / "pg")
            redis = servers.Redis(place / "redis")
            versions = {
                "postgresql": database.psql("SHOW server_version").split()[0],
                "redis": re.findall(r"v=([\d.]+)", subprocess.check_output([servers.redis_binary(), "-v"], text=True))[
                    0
                ],
            }
            run = place / "run"
            run.mkdir(mode=0o700)
            keys.make(run)
            code, counts = suite(arguments, environment(run, database, redis))
        except servers.Missing as reason:
            print(f"test-production: {reason}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("test-production: interrupted", file=sys.stderr)
        finally:
            for server in (redis, database):
                if server is not None:
                    server.stop()
    told = {"test": "production", "ok": code == 0, "exit": code, **versions, **counts}
    print(json.dumps({**told, "seconds": round(time.monotonic() - began)}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
