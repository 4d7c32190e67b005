"""The matrix attack x architecture: every outcome is observed by executing the attack, none is declared."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from hsvm_engine.attackfile import BUILTIN, attacks, builtin, read_attack
from hsvm_engine.interpreter import Verdict, run_attack, secret_of

# The one readable table (engine.md section 8): outcome and evidence on nested, shadow, hsvm, hsvm with option
# page_map_rule=literal (the paper's words only) and hsvm-smm. S succeeded, B blocked, D detected, N not applicable,
# X out of scope; d derived from the text, o our own rule where it is silent, m modelled by us, else stated in the paper
# or by nested paging itself. Then the check that the BLOCKED cells name; after a slash what hsvm-smm has in its place.
MATRIX = """
    attack                                                      nes sha hsvm lit smm  checks
A01 read a guest's frame                                        S   S   B    B   S m  hv_access_check
A02 write a guest's frame                                       S   S   B    B   S m  hv_access_check
A03 map VM A's frame into VM B                                  S   S   B    B   B m  owner_check
A04 swap two of one VM's mappings                               S   S   B o  S   B m  slot_check
A05 alias two guest pages to one frame                          S   S   B o  S   B m  owner_check
A06 unmap a page and map a zero page in its place               S   S   S d  S   S d  -
A07 put a page's old bytes back in place                        S   S   B d  B   S m  hv_access_check
A08 tamper with, splice or replay a swapped page                S   S   B o  B   B m  swap_version
A09 write an NPT entry directly                                 S   S   B    B   D m  npt_protection
A10 load another NPT root at VM entry                           S   S   B    B   S m  npt_root_protection
A11 read or change saved registers                              S   S   B    B   S m  context_protection
A12 restore an old context                                      S   S   B d  B   S m  context_protection
A13 read a page after unmap or delete                           S   S   B    B   B m  zero_on_release
A14 use a stale TLB entry                                       S   S   B o  B   B m  tlb_shootdown
A15 reuse a deleted VM's id                                     S   S   B o  B   B m  handle_check
A16 follow a victim's pages by forced faults (swap out and in)  S   S   S d  S   S d  -
A17 single-step by timer                                        S   S   S d  S   S d  -
A18 inject an interrupt                                         S   S   S d  S   S d  -
A19 device DMA to a guest's frame                               S   S   B d  B   S m  dma_check
A20 tamper with a shared I/O buffer                             S   S   S d  S   S d  -
A21 map or claim a protected frame                              N   N   B    B   B m  protected_check
A22 edit the ownership table                                    N   N   B    B   B m  hv_access_check/smram_lock
A23 balloon the same page twice, map it to two VMs              S   S   B d  B   B m  owner_check
A24 deny service (never map, never schedule)                    S   S   X    X   X    -
A25 read DRAM after power-off                                   S   S   X    X   X    -
"""
OUTCOMES = {"S": "SUCCEEDED", "B": "BLOCKED", "D": "DETECTED", "N": "NOT_APPLICABLE", "X": "OUT_OF_SCOPE"}
EVIDENCE = {"": "stated", "d": "derived", "o": "own", "m": "modelled"}
ROWS = ("nested", "shadow", "hsvm", "hsvm-smm")
COLUMNS = ("nested", "shadow", "hsvm", "literal", "hsvm-smm")
LINE = re.compile(r"(A..) (.+?) +([SN]) +([SN]) +([SBX]) ([dom ]) +([SBX]) +([SBDX]) ?([dm ]?) *(\S+)")


@dataclass(frozen=True)
class Row:
    title: str
    outcomes: dict[str, str]  # by column
    evidence: dict[str, str]  # by architecture
    checks: dict[str, str]  # by architecture, where it blocks


def table() -> dict[str, Row]:
    rows = {}
    for line in MATRIX.strip("\n").splitlines()[1:]:
        found = LINE.fullmatch(line)
        assert found, line
        name, title, nested, shadow, hsvm, why, literal, smm, why_smm, check = found.groups()
        outcomes = [OUTCOMES[letter] for letter in (nested, shadow, hsvm, literal, smm)]
        evidence = [EVIDENCE[letter.strip()] for letter in ("", "", why, why_smm)]
        checks = {"hsvm": check.split("/")[0], "hsvm-smm": check.split("/")[-1]}
        rows[name] = Row(
            title,
            dict(zip(COLUMNS, outcomes, strict=True)),
            dict(zip(ROWS, evidence, strict=True)),
            {row: named for row, named in checks.items() if outcomes[COLUMNS.index(row)] == "BLOCKED"},
        )
    return rows


TABLE = table()


@cache
def verdict_of(attack: str, column: str) -> Verdict:
    if column == "literal":
        return run_attack(builtin(attack), "hsvm", options={"page_map_rule": "literal"})
    return run_attack(builtin(attack), column)


def observed(outcome: str) -> list[tuple[str, str, Verdict]]:
    """Attack, column and verdict of every cell that was executed and came out so."""
    found = [(attack, column, verdict_of(attack, column)) for attack in TABLE for column in COLUMNS]
    return [cell for cell in found if cell[2].outcome == outcome]


def test_every_attack_file_has_its_row_and_every_row_its_file() -> None:
    assert {name: row.title for name, row in TABLE.items()} == {name: file.title for name, file in attacks().items()}


@pytest.mark.parametrize("attack", TABLE)
def test_the_outcomes_are_those_of_the_table(attack: str) -> None:
    assert {column: verdict_of(attack, column).outcome for column in COLUMNS} == TABLE[attack].outcomes


@pytest.mark.parametrize("attack", TABLE)
def test_evidence_and_checks_are_those_of_the_table(attack: str) -> None:
    row = TABLE[attack]
    for architecture, evidence in row.evidence.items():
        verdict = verdict_of(attack, architecture)
        assert verdict.evidence == evidence, architecture
        assert verdict.check == row.checks.get(architecture), verdict.reason
        assert verdict.paper and verdict.reason


def test_the_page_of_the_documentation_shows_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text()
    word = {"": "", **{meaning: f" {letter}" for letter, meaning in EVIDENCE.items() if letter}, "stated": ""}
    letter_of = {outcome: letter for letter, outcome in OUTCOMES.items()}
    for attack, row in TABLE.items():
        cells = " | ".join(letter_of[row.outcomes[name]] + word[row.evidence[name]] for name in ROWS)
        checks = " / ".join(dict.fromkeys(f"`{check}`" for check in row.checks.values()))
        assert f"| {attack} | {row.title} | {cells} | {checks} |".replace("  |", " |") in page


def test_an_executed_cell_names_its_deciding_step_and_a_declared_one_its_reason() -> None:
    for outcome in ("SUCCEEDED", "BLOCKED", "DETECTED"):
        for attack, column, verdict in observed(outcome):
            assert verdict.step is not None and verdict.inputs, (attack, column)
            assert verdict.digest is not None and len(verdict.digest) == 64
    for outcome in ("OUT_OF_SCOPE", "NOT_APPLICABLE"):
        for attack, column, verdict in observed(outcome):
            assert not verdict.steps and verdict.digest is None, (attack, column)


def test_a_blocked_cell_is_decided_by_an_attacking_step() -> None:
    assert {verdict.step.phase for _, _, verdict in observed("BLOCKED") if verdict.step} == {"attacker"}


def test_the_deciding_step_shows_the_secret_on_nested() -> None:
    for attack in ("A01", "A03", "A09", "A10", "A13", "A14", "A19", "A23", "A25"):
        step = verdict_of(attack, "nested").step
        assert step is not None
        assert secret_of(0).hex() in step.result["data"]


def test_no_attacking_step_of_a_blocked_cell_was_ever_given_a_byte_of_the_secret() -> None:
    for attack, column, verdict in observed("BLOCKED"):
        for step in verdict.steps:
            if step.phase == "attacker":
                assert secret_of(0).hex()[:8] not in str(step.result), (attack, column)


def test_a_channel_that_stays_open_gives_the_secret_away_bit_by_bit() -> None:
    for attack, values in (("A16", {1, 2}), ("A17", {"l1", "l2"})):
        for architecture in ROWS:
            verdict = run_attack(builtin(attack), architecture, seed=5)
            notes = [step.op["value"] for step in verdict.steps if step.op["op"] == "note"]
            assert set(notes) == values
            bits = [notes[i : i + 8] for i in range(0, 128, 8)]
            one = 2 if attack == "A16" else "l1"
            assert bytes(sum((note == one) << i for i, note in enumerate(byte)) for byte in bits) == secret_of(5)


def test_a_direct_entry_that_is_used_before_the_next_comparison_wins_the_race() -> None:
    detected = verdict_of("A09", "hsvm-smm")
    assert detected.step is not None and detected.step.result["status"] == "F_TAMPERED"
    seldom = run_attack(builtin("A09"), "hsvm-smm", options={"smi_period": 4096})
    assert seldom.outcome == "SUCCEEDED"
    waiting = (
        "  - repeat: 64\n    steps:\n      - op: guest_read\n        core: 1\n        gpa: 4096\n        length: 16\n"
    )
    text = (BUILTIN / "A09.yaml").read_text()
    assert waiting in text
    assert run_attack(read_attack(text.replace(waiting, "")), "hsvm-smm").outcome == "SUCCEEDED"


def test_the_same_seed_gives_the_same_verdict_and_another_seed_another_secret() -> None:
    first, again, other = (run_attack(builtin("A01"), "nested", seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert other.outcome == first.outcome
    assert other.digest != first.digest
