"""THREAT_MODEL.md names the test that guards each boundary: every one of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
GUARDS = sorted(set(NAMED.findall((ROOT / "THREAT_MODEL.md").read_text())))


@pytest.mark.parametrize(("file", "test"), GUARDS)
def test_a_guard_that_is_named_exists(file: str, test: str) -> None:
    path = ROOT / file
    assert path.is_file(), f"{file} is named and does not exist"
    assert not test or re.search(rf"^\s*(?:async )?def {test}\(", path.read_text(), re.MULTILINE), (
        f"no {test} in {file}"
    )


def test_each_boundary_names_its_guard() -> None:
    section = (ROOT / "THREAT_MODEL.md").read_text().partition("## Trust boundaries")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    assert not [row for row in rows if not NAMED.search(row)]
