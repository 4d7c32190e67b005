"""A recording is the attack itself: the same steps, outcome and digest, and its states are those of the machine."""

from __future__ import annotations

from typing import Any

import pytest

from hsvm_engine.architectures import ARCHITECTURES
from hsvm_engine.attackfile import PHASES, builtin, builtin_ids
from hsvm_engine.interpreter import Done, Run, boot, run_attack, secret_of
from hsvm_engine.replay import Recording, record

LONG = ("A16", "A17", "A24")


def recorded(attack: str, architecture: str, **more: Any) -> Recording:
    at = {1, 5, 400, 1001} if attack in LONG else None
    return record(builtin(attack), architecture, at=at, **more)


@pytest.mark.parametrize("attack", builtin_ids())
def test_a_recording_changes_nothing(attack: str) -> None:
    for architecture in ARCHITECTURES:
        assert recorded(attack, architecture).verdict == run_attack(builtin(attack), architecture)


def test_states_are_kept_where_they_are_asked_for_and_before_the_first_step() -> None:
    assert [state.number for state in record(builtin("A17"), "hsvm", at={3, 7}).states] == [0, 3, 7]
    whole = record(builtin("A03"), "hsvm")
    assert [state.number for state in whole.states] == list(range(len(whole.verdict.steps) + 1))
    assert [state.op for state in whole.states] == [state.number for state in whole.states]
    assert record(builtin("A25"), "hsvm").states == ()


@pytest.mark.parametrize("attack", ["A03", "A09", "A13", "A14", "A23"])
@pytest.mark.parametrize("architecture", ["nested", "hsvm", "hsvm-smm"])
def test_the_states_are_those_of_a_machine_that_nobody_watches(attack: str, architecture: str) -> None:
    """The dumb way: another machine, dumped frame by frame after each step."""
    dumps: list[tuple[list[str], Any, Any]] = []

    def dump(machine: Any, done: Done | None, bind: str | None) -> None:
        found = machine.dump()
        owners = [owner for _, count, owner in found["owners"] for _ in range(count)]
        dumps.append((owners, found, machine.tlb()))

    plain = Run(builtin(attack), boot(builtin(attack), architecture, seed=0, options={}), secret_of(0), watch=dump)
    plain.verdict(architecture, 0, PHASES)
    states = record(builtin(attack), architecture).states
    assert len(states) == len(dumps)
    for state, (owners, found, tlb) in zip(states, dumps, strict=True):
        for mfn, frame in state.frames.items():
            assert frame.owner == owners[mfn] and frame.holds_bytes == (mfn in found["nonzero"])
            held = ((vm, leaf) for vm, leaves in found["leaves"].items() for leaf in leaves)
            maps = [(vm, leaf[0], leaf[3]) for vm, leaf in held if leaf[1] == mfn]
            assert sorted(frame.maps) == sorted(maps)
        assert len(state.tlb) == int((tlb["valid"] != 0).sum())
        assert [entry.stale for entry in state.tlb] == [bool(s) for s in tlb["state"][tlb["valid"] != 0]]
    changed = {mfn for owners, _, _ in dumps for mfn, owner in enumerate(owners) if owner != dumps[0][0][mfn]}
    assert changed <= states[0].frames.keys()


def test_the_stale_entry_of_an_unprotected_host_is_seen_when_it_becomes_stale() -> None:
    states = record(builtin("A14"), "nested").states
    assert [any(entry.stale for entry in state.tlb) for state in states] == [False] * 5 + [True] * 6
    assert not any(entry.stale for state in record(builtin("A14"), "hsvm").states for entry in state.tlb)


def test_registers_are_those_that_the_guest_would_read() -> None:
    changed = record(builtin("A12"), "nested")
    assert changed.verdict.step is not None
    state = changed.states[changed.verdict.step.number]
    [(victim, vcpu)] = [key for key in state.registers if state.names[key[0]] == "victim"]
    assert changed.verdict.step.result["registers"] == state.registers[victim, vcpu]
    saved = record(builtin("A11"), "hsvm").states  # saved where the hypervisor cannot look: the guest still has them
    assert any(any((registers or {}).values()) for registers in saved[-1].registers.values())


def test_a_vm_is_called_as_its_file_calls_it() -> None:
    assert set(record(builtin("A14"), "nested").states[-1].names.values()) == {"victim", "attacker"}
