"""How long `make demo` takes until it says ready: first clone and empty home, second clone, warm caches, third start.

Prints one JSON object; seconds. Clones what is committed; needs the package indexes for the first figure.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.e2e.stack import ROOT, free_port

KEPT = ("PATH", "LANG", "PIP_", "UV_", "npm_config_", "NODE_", "SSL_", "CC")


def environment(home: Path) -> dict[str, str]:
    return {**{k: v for k, v in os.environ.items() if k.startswith(KEPT)}, "HOME": str(home), "TMPDIR": str(home)}


def seconds_until_ready(clone: Path, home: Path) -> float:
    """Seconds from typing `make demo` to its line `ready`. Ends the demo before returning."""
    port = free_port()
    begun = time.monotonic()
    with subprocess.Popen(
        ["make", "demo", f"PORT={port}"],
        cwd=clone,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(f"ready http://127.0.0.1:{port}"):
                elapsed = time.monotonic() - begun
                process.send_signal(signal.SIGTERM)
                process.stdout.read()
                return elapsed
    raise SystemExit("make demo ended before it was ready:\n" + "".join(said[-40:]))


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="vpms-setup-") as folder:
        home, first, second = (Path(folder) / name for name in ("home", "first", "second"))
        home.mkdir()
        for clone in (first, second):
            subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        cold = seconds_until_ready(first, home)
        warm = seconds_until_ready(second, home)
        again = seconds_until_ready(second, home)
    figures = {"cold_s": cold, "second_clone_s": warm, "started_again_s": again}
    print(json.dumps({"bench": "setup_times", **{k: round(v, 1) for k, v in figures.items()}}))


if __name__ == "__main__":
    main()
