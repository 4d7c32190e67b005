"""Drills: attacks on a living machine, and those that are refused before anything is done."""

import re

import pytest

from hsvm_engine import Machine
from hsvm_engine.attackfile import attacks, builtin
from hsvm_engine.drill import DrillError, Stage, refusal
from hsvm_engine.interpreter import PHASES, drill, secret_of
from hsvm_engine.play import PlayError
from tests.engine.test_play import player, small


def living(architecture: str) -> tuple[Machine, int]:
    protected = 64 if architecture == "hsvm" else 0
    machine = Machine(2048, 64, protected, 2, architecture)
    victim = machine.apply({"op": "create_vm", "vcpus": 1})["vm"]
    for op in (
        {"op": "page_map", "vm": victim, "gpn": 5, "mfn": 777, "perm": "rw", "size": 1},
        {"op": "context_restore", "vm": victim, "vcpu": 0, "core": 1},
        {"op": "guest_write", "core": 1, "gpa": 5 << 12, "data": secret_of(9).hex()},
    ):
        assert machine.apply(op)["status"] == "OK"
    return machine, victim


@pytest.mark.parametrize(("architecture", "outcome"), [("nested", "SUCCEEDED"), ("hsvm", "BLOCKED")])
@pytest.mark.parametrize("attack", ["A01", "A02", "A11"])
def test_a_drill_attacks_a_living_victim(attack: str, architecture: str, outcome: str) -> None:
    machine, victim = living(architecture)
    if attack == "A11":
        low, high = (int.from_bytes(part, "little") for part in (secret_of(9)[:8], secret_of(9)[8:]))
        machine.apply({"op": "guest_set_registers", "core": 1, "registers": {"rax": low, "rbx": high}})
    verdict = drill(
        machine,
        builtin(attack),
        {"victim": victim, "frame": 777, "core": 1, "gpa": 5 << 12},
        secret=secret_of(9),
        written={5 << 12: secret_of(9)},
        after=attack == "A02",
    )
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.architecture == architecture
    assert {step.phase for step in verdict.steps} <= {"attacker", "after"} < set(PHASES)


@pytest.mark.parametrize(
    ("attack", "architecture", "outcome"),
    [
        ("A18", "nested", "SUCCEEDED"),
        ("A18", "hsvm", "SUCCEEDED"),
        ("A19", "nested", "SUCCEEDED"),
        ("A19", "hsvm", "BLOCKED"),
        ("A24", "nested", "SUCCEEDED"),
        ("A25", "nested", "SUCCEEDED"),
    ],
)
def test_a_drill_is_held_in_a_running_host_which_goes_on(attack: str, architecture: str, outcome: str) -> None:
    host = player(small(architecture))
    host.step(2_000)
    result = host.drill(attack, "a-db")
    assert result["outcome"] == outcome, result["reason"]
    host.step(2_000)
    after = host.step(4_000)
    assert [row["name"] for row in after.vms] == ["a-db", "b-web"] and not any(vm.halted for vm in host.vms)
    host.machine.check_invariants()


def test_a_drill_that_is_refused_leaves_the_host_as_it_was() -> None:
    host = player(small("nested"))
    host.step(500)
    before = host.machine.digest()
    with pytest.raises(PlayError, match="A16: line .*: it needs more pages of the victim than the first"):
        host.drill("A16", "a-db")
    assert host.machine.digest() == before
    host.step(500)


REFUSED = {
    "A04": "line 51: it needs more pages of the victim than the first",
    "A05": "it needs more pages of the victim",
    "A06": "frame 4097 is meant on its own machine only",
    "A07": "it scripts what the victim does meanwhile",
    "A08": "it scripts what the victim does meanwhile",
    "A12": "it scripts what the victim does meanwhile",
    "A15": "its setup needs delete_vm",
    "A16": "it needs more pages of the victim",
    "A17": "it scripts what the victim does meanwhile",
    "A20": "the victim would have to do guest_share",
    "A21": "frame 7201 is meant on its own machine only",
    "A22": "frame 7170 is meant on its own machine only",
    "A23": "it needs more pages of the victim",
    "A24": "OUT OF SCOPE on hsvm",
    "A25": "OUT OF SCOPE on hsvm",
}


@pytest.mark.parametrize("attack", attacks())
def test_an_attack_is_a_drill_or_is_refused_with_its_reason_before_anything_is_done(attack: str) -> None:
    reason = refusal(builtin(attack), "hsvm", 64)
    assert (reason is None) == (attack not in REFUSED), reason
    if attack in REFUSED:
        assert reason is not None and REFUSED[attack] in reason
        machine, victim = living("hsvm")
        number, digest = machine.op, machine.digest()
        with pytest.raises(DrillError, match=re.escape(reason)):
            Stage(
                machine,
                builtin(attack),
                victim=victim,
                secret=secret_of(9),
                free_frame=lambda vm: None,
                rewrite_secret=lambda core: None,
            )
        assert (machine.op, machine.digest()) == (number, digest)


def test_what_is_out_of_scope_on_one_row_is_a_drill_on_another() -> None:
    assert refusal(builtin("A24"), "nested", 64) is None
    assert refusal(builtin("A25"), "nested", 64) is None
    assert "NOT APPLICABLE on nested" in (refusal(builtin("A21"), "nested", 64) or "")
