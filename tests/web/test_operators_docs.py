"""The pages for operators: every command in them is run, and does what the page says; from an empty machine to a site
that is backed up, wiped and restored."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import manual
from tests.curl import ask, examples, faults

ROOT = manual.ROOT
PAGES = ["install.md", "commands.md", "upgrade.md", "backup.md"]  # in the order of a site's life
OURS = {path.stem for path in (ROOT / "webapp").glob("*/management/commands/*.py") if not path.stem.startswith("_")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What came of every command, on a site of its own."""
    place = tmp_path_factory.mktemp("operators")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HSVM_", "DJANGO_"))}
    environment |= {"HSVM_RUN_DIR": str(place / "run"), "SAFE": str(place / "safe"), "KEYS": str(place / "keys")}
    environment |= {"HSVM_TLS": "0", "HSVM_METRICS_SECONDS": "0", "HSVM_LOG": "WARNING", "HSVM_REDIS": "unix:///nobody"}
    told = subprocess.run(
        [sys.executable, "tests/manual.py", *PAGES],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_does_what_the_page_says(page: str, done: list[dict[str, Any]]) -> None:
    steps = [step for step in done if step["page"] == page]
    assert len(steps) == sum(len(commands) for _, commands, _ in manual.blocks(page))
    for step in steps:
        assert step["code"] == 0 and not step["lacking"], step


def test_who_reads_only_the_page_has_the_same_runs_and_the_same_log_after_wipe_and_restore(
    done: list[dict[str, Any]],
) -> None:
    steps = [(step["command"], step["output"]) for step in done if step["page"] == "backup.md"]

    def lines(of: str) -> list[list[str]]:
        return [re.findall(r"(?m)^(?:rows|runs|audit) .*$", output) for command, output in steps if of in command]

    made = lines("manage.py backup")[0]
    assert len(made) == 3 and "checkpoints 1" in made[1]
    assert lines("manage.py restore") == [made, made, made]  # looked at, restored, and put in the place of itself
    verdicts = [output for command, output in steps if "verify_audit" in command]
    assert len(verdicts) == 2 and verdicts[0] == verdicts[1] and json.loads(verdicts[0])["entries"] > 50
    assert any(command.startswith("rm -rf") for command, _ in steps)


def test_every_command_of_ours_is_on_the_page_of_commands(done: list[dict[str, Any]]) -> None:
    text = (manual.DOCS / "commands.md").read_text()
    named = set(re.findall(r"(?m)^\| `([a-z_]+)` \|", text))
    assert named == OURS
    run = {step["command"].split()[2] for step in done if step["command"].startswith(manual.MANAGE)}
    assert OURS - run == {"demo", "keeper"}  # which go on until they are ended: tests/faults


def test_every_variable_that_the_pages_name_is_read_by_the_settings() -> None:
    sources = (ROOT / "webapp" / "settings.py").read_text()
    for path in manual.DOCS.glob("*.md"):
        for name in set(re.findall(r"HSVM_[A-Z_]+[A-Z]", path.read_text())):
            assert f'"{name}"' in sources, (path.name, name)


@pytest.mark.django_db(transaction=True)
def test_what_the_page_of_figures_asks_answers_as_it_says(live_server: Any) -> None:
    found = examples(Path(manual.DOCS / "metrics.md"))
    assert len(found) == 2
    wrong = [fault for example in found for fault in faults(example, ask(example.command, {"URL": live_server.url}))]
    assert not wrong, "\n".join(wrong)
