"""Does what the pages for operators say, in their order and in one process: every line of every block ```sh.

A line that calls manage.py is called as from the command line, `make` is asked what it would do, and all else is run by
a shell. `curl` is for the tests with a server. What a page exports and is known here already stays so.
A block ```text after it says what must be printed: each of its lines, with … for anything.
Called as a program with the names of pages, it prints one JSON object a command.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "operators"
BLOCK = re.compile(r"^```sh\n(.*?)\n```$(?:\n+```text\n(.*?)\n```$)?", re.MULTILINE | re.DOTALL)
MANAGE = ".venv/bin/python manage.py "


def blocks(page: str) -> list[tuple[int, list[str], list[str]]]:
    """Line, commands and what is printed, of every block; a shell's lines that belong together are one command."""
    text = (DOCS / page).read_text()
    found = []
    for match in BLOCK.finditer(text):
        commands: list[str] = []
        shell: list[str] = []
        for line in match[1].splitlines():
            if line.startswith((MANAGE, "make ", "export ")):
                commands += ["\n".join(shell)] if shell else []
                commands.append(line)
                shell = []
            else:
                shell.append(line)
        commands += ["\n".join(shell)] if shell else []
        found.append((text[: match.start()].count("\n") + 1, commands, (match[2] or "").splitlines()))
    return found


def words_of(line: str) -> list[str]:
    """As the shell would split and fill them in."""
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, text=True, check=True)
    return told.stdout.split("\0")[:-1]


def called(command: str) -> tuple[int, str]:
    """Exit code and output."""
    if command.startswith(MANAGE):
        return managed(words_of(command.removeprefix(MANAGE)))
    if command.startswith("export "):
        name, _, value = command.removeprefix("export ").partition("=")
        os.environ.setdefault(name, value)
        return 0, ""
    if command.startswith("make "):
        command = "make -n " + command.removeprefix("make ")
    done = subprocess.run(["bash", "-e", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def managed(words: list[str]) -> tuple[int, str]:
    from django.core.management import execute_from_command_line
    from django.db import connections

    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            execute_from_command_line(["manage.py", *words])
        except SystemExit as end:
            code = int(end.code or 0)
    connections.close_all()  # as when a process ends
    return code, out.getvalue()


def lacking(expected: list[str], output: str) -> list[str]:
    """The lines that should have been printed, in this order, and were not."""
    came = iter(output.splitlines())
    patterns = [".*".join(map(re.escape, line.split("…"))) for line in expected]
    return [
        line
        for line, pattern in zip(expected, patterns, strict=True)
        if not any(re.match(pattern, one) for one in came)
    ]


def follow(page: str) -> Iterator[dict[str, Any]]:
    for line, commands, expected in blocks(page):
        if commands[0].startswith("curl "):
            continue
        printed = ""
        for number, command in enumerate(commands):
            code, output = called(command)
            printed += output
            wrong = lacking(expected, printed) if number == len(commands) - 1 else []
            yield {"page": page, "line": line, "command": command, "code": code, "output": output, "lacking": wrong}


def fill() -> None:
    """Something to lose: people, VMs, agreements and a log, as the big platform of the demo in small; and a run."""
    from django.db import connections
    from django.utils import timezone

    from webapp.ops import scale
    from webapp.runs.models import Checkpoint, Run

    scale.load(scale.Size(tenants=3, people=4, hosts=1, vms=10, records=120, negotiations=1))
    run = Run.objects.order_by("-pk")[0]
    Run.objects.filter(pk=run.pk).update(state="failed", digest="d" * 64, ended_at=timezone.now(), slice_no=4)
    Checkpoint.objects.create(run=run, slice_no=4, seq=4, op=9, digest="c" * 64, sealed=b"sealed", picture=b"p")
    connections.close_all()


if __name__ == "__main__":
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")
    sys.path.insert(0, str(ROOT))
    django.setup()
    for name in sys.argv[1:]:
        for step in follow(name):
            print(json.dumps(step), flush=True)
        if name == "install.md":
            fill()
