"""The reliability goals, each measured on the real product: `python -m tests.goals [K1 V2 ...]`.

Prints one JSON line for each goal and exits 1 if one is not ok. Every goal works in a process and a directory of its
own and is ended after five minutes. All lines, with date and machine, are added to RUN_DIR/goals/report.jsonl; what
the processes of a missed goal said stands beside it. `--few` only tries the kit: its figures prove nothing.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.e2e.stack import ROOT

MOST_SECONDS: Final = 300


class Goal(NamedTuple):
    kit: str
    does: str  # module.function here, called with a Place, answers figures with "ok"
    words: str


GOALS: Final = {
    "K1": Goal("chaos", "chaos.kills", "20 kill -9 during 60 runs: nothing lost or doubled, resumed within 15 s"),
    "K2": Goal("chaos", "chaos.redis_away", "5 kills of Redis and 5 resets: every view right again within 10 s"),
    "K3": Goal("chaos", "chaos.redis_wiped", "FLUSHALL: no run lost, views rebuilt"),
    "F1": Goal("chaos", "faults.bad_ways", "delay, loss, half-open and slow ways: as K2"),
    "F2": Goal("chaos", "faults.full_disk", "a full disk: clear refusals, nothing half done, recovers"),
    "F3": Goal(
        "chaos", "faults.clock_jumps", "the clock jumps by hours: runs go on within 15 s, effects as undisturbed"
    ),
    "A2": Goal("chaos", "records.log_edits", "100 random edits of the audit log, every one found"),
    "B1": Goal("chaos", "records.backup", "backup, wipe, restore within 60 s; counts, digests and chain equal"),
    "B2": Goal("chaos", "records.migrations", "migrations to zero and back, empty and populated"),
    "D1": Goal("chaos", "records.digests", "one digest across processes, CPU variants, builds and 50 checkpoints"),
    "V1": Goal("load", "load.viewers", "200 viewers at 5 Hz: p95 500 ms, 250 MB; 400 without loss"),
    "V2": Goal("load", "load.never_reading", "20 clients that never read: 50 MB, dropped within 15 s"),
    "M1": Goal("load", "probes.malformed", "20,000 malformed inputs: nothing above 499, none hangs, nothing dies"),
    "M2": Goal("load", "probes.bombs", "60 bombs refused within 1 s each and 64 MB"),
    "I1": Goal("load", "access.foreign_things", "2,000 probes and 200 subscriptions by strangers: nothing leaks"),
    "I2": Goal("load", "access.rights_end", "rights that end close 20 of 20 open sockets within 5 s"),
    "I3": Goal("load", "access.turns_and_quotas", "a thousand queued runs double another's wait at most"),
    "A1": Goal("load", "access.settings_and_headers", "check --deploy, headers, cookies, failed sign-ins"),
    "S1": Goal("soak", "soak.soak", "four minutes at half load: memory, descriptors and threads flat, no error"),
}
OF_A_FILE: Final = ("F2",)  # the full disk of a database that is a file of the site's own processes


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=", ".join(GOALS))
    parser.add_argument("--kit", choices=sorted({goal.kit for goal in GOALS.values()}), help="all goals of a kit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--postgres", action="store_true", help=f"on PostgreSQL; without {' and '.join(OF_A_FILE)}")
    parser.add_argument("--here", action="store_true", help="one goal in this process, without report or time limit")
    args = parser.parse_args(argv)
    known = [name for name in GOALS if not (args.postgres and name in OF_A_FILE)]
    wanted = args.goals or [name for name in known if args.kit in (None, GOALS[name].kit)]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        parser.error(f"no goal {', '.join(unknown)}; there are {', '.join(known)}")
    if args.here:
        found = measured(wanted[0], args)
        print(json.dumps(found), flush=True)
        return 0 if found["ok"] else 1
    report = Path(os.environ.get("HSVM_RUN_DIR") or ROOT / ".run") / "goals"
    report.mkdir(mode=0o700, parents=True, exist_ok=True)
    missed = [name for name in wanted if not told(name, report, args)["ok"]]
    return 1 if missed else 0


def measured(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The goal in this process."""
    from tests.goals import stack

    signal.signal(signal.SIGTERM, too_long)
    module, _, function = GOALS[name].does.partition(".")
    began = time.monotonic()
    with stack.place(args.seed, args.few, args.postgres) as place:
        try:
            found = getattr(importlib.import_module(f"tests.goals.{module}"), function)(place)
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            found = {"ok": False, "error": f"{type(error).__name__}: {error}"[:600]}
        if not found["ok"]:
            for log in sorted(place.folder.glob("*/logs/*.log")) + sorted(place.folder.glob("*/demo.log")):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-8000:]}", file=sys.stderr)
    seconds = round(time.monotonic() - began, 1)
    of = {**({"database": "postgresql"} if args.postgres else {}), **({"few": True} if args.few else {})}
    return {"goal": name, **found, "seed": args.seed, "seconds": seconds, **of}


def too_long(*_: object) -> None:
    """Ends the goal so that what it started is ended too; a second signal must not break that off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("it took too long")


def told(name: str, report: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The goal in a process of its own; its line printed and added to the report."""
    command = [sys.executable, "-m", "tests.goals", name, "--here", "--seed", str(args.seed)]
    load = os.getloadavg()[0]
    log = report / f"{name}.log"
    with log.open("w") as errors:
        child = subprocess.Popen(
            [*command, *(["--few"] if args.few else []), *(["--postgres"] if args.postgres else [])],
            cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            said, _ = child.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            child.terminate()
            try:
                said, _ = child.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                child.kill()
                said, _ = child.communicate()
    lines = [line for line in said.splitlines() if line.startswith('{"goal"')]
    if lines:
        found: dict[str, Any] = json.loads(lines[-1])
    else:
        found = {"goal": name, "ok": False, "error": log.read_text(errors="replace")[-600:]}
    found["load"] = round(load, 1)  # of the machine before it began
    print(json.dumps(found), flush=True)
    if found["ok"]:
        log.unlink()
    machine = {
        "at": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "cores": os.cpu_count(),
        "cpu": platform.machine(),
    }
    with (report / "report.jsonl").open("a") as lines_of:
        lines_of.write(json.dumps({**found, **machine, "words": GOALS[name].words}) + "\n")
    return found


def environment() -> dict[str, str]:
    """This process's, without what a person has set for a site of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HSVM_")}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
