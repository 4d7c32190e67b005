"""What the documents name exists: addresses, commands, tests, pictures, and what curl is told to ask."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest
from django.urls import Resolver404, resolve

from hsvm_engine import cli as engine_cli
from webapp.vpms import cli as policy_cli

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CLAIMS = (DOCS / "paper-claims.md").read_text()
QUOTED = re.findall(r"`([^`\n]+)`", CLAIMS)


def exists(quoted: str) -> bool:
    """Whether a test or file of this name is in the checkout."""
    path, _, name = quoted.partition("::")
    source = ROOT / path
    return source.is_file() and (not name or f"def {name}(" in source.read_text())


def understood(command: str) -> bool:
    """Whether the command line knows the command, and its options and values."""
    program, *words = command.split()
    if (program, words[:2]) == ("hsvm", ["attack", "run"]):
        attack = ROOT / "hsvm_engine" / "attacks" / f"{words[2]}.yaml"
        rows = ("nested", "shadow", "hsvm", "hsvm-smm")
        return attack.is_file() and words[3] == "--architecture" and words[4] in rows
    main = {"hsvm": engine_cli.main, "vpms": policy_cli.main}[program]
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        try:
            main([words[0], "--help"])
        except SystemExit as end:
            return end.code == 0
    return False


def reachable(address: str) -> bool:
    try:
        resolve(address)
    except Resolver404:
        return False
    return True


@pytest.mark.parametrize("quoted", sorted(set(QUOTED)))
def test_what_the_claims_name_exists(quoted: str) -> None:
    if quoted.startswith("tests/"):
        assert exists(quoted)
    elif quoted.startswith("/"):
        assert reachable(quoted)
    else:
        assert quoted.split()[0] in ("hsvm", "vpms") and understood(quoted)


def test_a_name_that_does_not_exist_would_be_noticed() -> None:
    assert not exists("tests/web/test_docs.py::test_nothing_of_the_kind") and not reachable("/tenant/nothing/here/")
    assert not understood("vpms nothing") and not understood("hsvm attack run A99 --architecture hsvm")


def test_every_claim_is_shown_by_a_page_or_command_and_proved_or_says_that_it_is_not() -> None:
    rows = [row for row in CLAIMS.splitlines() if row.startswith("| ") and "`" in row]
    assert len(rows) >= 25
    for row in rows:
        _, _, _, see, command, proved, honest, _ = row.split("|")
        assert "`" in see + command, row
        assert "tests/" in proved or "**Not shown**" in honest, row


def test_the_sections_cited_are_those_of_the_paper() -> None:
    from webapp.ops.glossary import SECTIONS

    known = {*SECTIONS, "Abstract"}
    cited = re.findall(r"^\| ([^|]+) \|", CLAIMS, re.MULTILINE)
    for cell in cited:
        for part in cell.split(", "):
            assert part.split(" ")[0] in known | {"§", "---"}, cell


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_pictures_and_links_of_a_document_are_there(page: str) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", (DOCS / page).read_text()):
        if "://" not in target:
            assert (DOCS / target).exists(), target


def test_the_pictures_are_small_and_each_is_one_that_can_be_taken_again() -> None:
    taken = (ROOT / "tests" / "e2e" / "pictures.py").read_text()
    pictures = sorted((DOCS / "how-to").glob("*.png"))
    assert len(pictures) >= 8
    for picture in pictures:
        assert picture.stat().st_size < 150_000 and f'"{picture.stem}": Shot(' in taken, picture.name
        assert f"how-to/{picture.name}" in (DOCS / "how-to.md").read_text()
