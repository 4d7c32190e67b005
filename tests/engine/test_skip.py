"""Every check that exists can be switched off, and each one is missed: a cell flips or the twin objects."""

import pytest

from hsvm_engine.architectures import SKIPPABLE
from hsvm_engine.attackfile import attacks, builtin
from hsvm_engine.interpreter import run_attack
from hsvm_engine.randomops import compare, pair

# Which cells of hsvm fall when the check is off. The twin objects to every one of them besides.
FLIPS = {
    "owner_check": {"A03", "A05", "A22", "A23"},
    "hv_access_check": {"A01", "A02", "A07", "A22"},
    "context_protection": {"A11", "A12"},
    "zero_on_release": {"A13"},
    "tlb_shootdown": {"A14"},
    "swap_version": {"A08"},
    "swap_binding": {"A08"},
    "dma_check": {"A19"},
}


def test_the_table_names_every_check_that_exists() -> None:
    assert FLIPS.keys() == set(SKIPPABLE)


@pytest.mark.parametrize("check", SKIPPABLE)
def test_the_twin_objects_when_a_check_is_off(check: str) -> None:
    machine, twin = pair("hsvm", skip=[check])
    assert compare(machine, twin, ops=20_000, seed=11) is not None


@pytest.mark.parametrize("check", FLIPS)
def test_exactly_the_expected_cells_flip(check: str) -> None:
    flipped = {
        attack_id
        for attack_id, attack in attacks().items()
        if run_attack(attack, "hsvm").outcome == "BLOCKED"
        and run_attack(attack, "hsvm", options={"skip": [check]}).outcome != "BLOCKED"
    }
    assert flipped == FLIPS[check] and flipped


def test_a_check_that_does_not_exist_cannot_be_switched_off() -> None:
    with pytest.raises(ValueError, match="skip"):
        run_attack(builtin("A01"), "hsvm", options={"skip": ["gravity"]})
