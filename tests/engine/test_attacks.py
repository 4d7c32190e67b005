"""The matrix attack x architecture: every outcome is observed by executing the attack, none is declared."""

import pytest

from hsvm_engine.attackfile import AttackFileError, attacks, builtin, read_attack
from hsvm_engine.interpreter import PHASES, Verdict, drill, run_attack, secret_of
from hsvm_engine.operations import OPERATIONS

# The one readable table (engine.md section 8): outcome, evidence, and the check that a BLOCKED cell names.
# S succeeded, B blocked; o our own rule where the text is silent, else stated in the paper or by nested paging itself.
MATRIX = """
A01  read a guest's frame                    nested S    hsvm B   hv_access_check
A02  write a guest's frame                   nested S    hsvm B   hv_access_check
A03  map VM A's frame into VM B              nested S    hsvm B   owner_check
A09  write an NPT entry directly             nested S    hsvm B   npt_protection
A10  load another NPT root at VM entry       nested S    hsvm B   npt_root_protection
A11  read or change saved registers          nested S    hsvm B   context_protection
A13  read a page after unmap or delete       nested S    hsvm B   zero_on_release
A14  use a stale TLB entry                   nested S    hsvm B o tlb_shootdown
"""
OUTCOMES = {"S": "SUCCEEDED", "B": "BLOCKED", "D": "DETECTED", "N": "NOT_APPLICABLE", "X": "OUT_OF_SCOPE"}
EVIDENCE = {"": "stated", "d": "derived", "o": "own", "m": "modelled"}


def cells() -> list[tuple[str, str, str, str, str | None]]:
    """(attack, architecture, outcome, evidence, check) of every cell of the table."""
    found: list[tuple[str, str, str, str, str | None]] = []
    for line in MATRIX.strip().splitlines():
        attack, nested, rest = line[:5].strip(), line.split("nested")[1].split("hsvm")[0], line.split("hsvm ")[1]
        *letters, check = rest.split()
        for architecture, cell, named in (("nested", nested.split(), None), ("hsvm", letters, check)):
            evidence = EVIDENCE[cell[1] if len(cell) > 1 else ""]
            found.append((attack, architecture, OUTCOMES[cell[0]], evidence, named))
    return found


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Verdict]:
    return {(name, row): run_attack(attack, row) for name, attack in attacks().items() for row in ("nested", "hsvm")}


def test_every_attack_file_has_its_row_and_every_row_its_file() -> None:
    rows = {line[:5].strip(): line[5:45].strip() for line in MATRIX.strip().splitlines()}
    assert rows == {attack_id: attack.title for attack_id, attack in attacks().items()}


@pytest.mark.parametrize(("attack", "architecture", "outcome", "evidence", "check"), cells())
def test_the_outcome_is_that_of_the_table(
    verdicts: dict[tuple[str, str], Verdict],
    attack: str,
    architecture: str,
    outcome: str,
    evidence: str,
    check: str | None,
) -> None:
    verdict = verdicts[attack, architecture]
    assert (verdict.outcome, verdict.evidence, verdict.check) == (outcome, evidence, check), verdict.reason
    assert verdict.step is not None and verdict.paper and verdict.reason
    assert verdict.digest is not None and len(verdict.digest) == 64


def test_a_blocked_cell_names_the_inputs_of_its_check(verdicts: dict[tuple[str, str], Verdict]) -> None:
    for (attack, architecture), verdict in verdicts.items():
        if verdict.outcome == "BLOCKED":
            assert verdict.step is not None and verdict.step.phase == "attacker", attack
            assert verdict.inputs, (attack, architecture)


def test_the_deciding_step_shows_the_secret_on_nested(verdicts: dict[tuple[str, str], Verdict]) -> None:
    for attack in ("A01", "A03", "A09", "A10", "A13", "A14"):
        step = verdicts[attack, "nested"].step
        assert step is not None
        assert secret_of(0).hex() in step.result["data"]


def test_no_attacking_step_on_hsvm_was_ever_given_a_byte_of_the_secret(
    verdicts: dict[tuple[str, str], Verdict],
) -> None:
    for attack in attacks():
        for step in verdicts[attack, "hsvm"].steps:
            if step.phase == "attacker":
                assert secret_of(0).hex()[:8] not in str(step.result)


def test_the_same_seed_gives_the_same_verdict_and_another_seed_another_secret() -> None:
    first, again, other = (run_attack(builtin("A01"), "nested", seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert other.outcome == first.outcome
    assert other.digest != first.digest


def test_the_attacker_uses_only_its_ports() -> None:
    for attack in attacks().values():
        for step in attack.phases["attacker"]:
            assert OPERATIONS[step.op].port in attack.ports  # type: ignore[union-attr]


# What a file cannot fake

SETUP = """\
schema: 1
id: fake
says: A file that would like to look successful.
port:
  - hypervisor
  - guest
setup:
  - op: create_vm
    vcpus: 1
    as: victim
  - op: page_map
    vm: $victim
    gpn: 0
    mfn: 4096
    perm: rw
    size: 1
  - op: context_restore
    vm: $victim
    vcpu: 0
    core: 0
victim:
  - op: guest_write
    core: 0
    gpa: 0
    data: $secret
"""


def fake(attacker: str, *, old: str = "", new: str = "", architecture: str = "hsvm") -> Verdict:
    text = SETUP.replace(old, new) if old else SETUP
    return run_attack(read_attack(text + "attacker:\n" + attacker), architecture)


def test_an_attacker_cannot_speak_for_the_victim() -> None:
    verdict = fake("  - op: guest_read\n    core: 0\n    gpa: 0\n    length: 16\n")
    assert verdict.outcome == "ERROR"
    assert "cannot speak for" in verdict.reason


def test_the_secret_is_only_the_victims_to_store() -> None:
    verdict = fake(
        "  - op: hv_read\n    mfn: 8\n    offset: 0\n    length: 16\n",
        old="  - op: guest_write\n    core: 0\n    gpa: 0\n",
        new="  - op: hv_write\n    mfn: 8\n    offset: 0\n",
    )
    assert verdict.outcome == "ERROR"
    assert "only the victim itself" in verdict.reason


def test_a_setup_that_is_refused_is_an_error_and_not_a_blocked_attack() -> None:
    read = "  - op: hv_read\n    mfn: 8\n    offset: 0\n    length: 16\n"
    verdict = fake(read, old="mfn: 4096", new="mfn: 8191")
    assert verdict.outcome == "ERROR"
    assert "answered E_PROT" in verdict.reason


def test_a_secret_collected_byte_by_byte_is_found() -> None:
    reads = "".join(f"  - op: hv_read\n    mfn: 4096\n    offset: {i}\n    length: 1\n" for i in range(16))
    verdict = fake(reads, architecture="nested")
    assert verdict.outcome == "SUCCEEDED"
    assert verdict.step is not None and verdict.step.op["offset"] == 15


def test_fifteen_bytes_of_the_secret_are_not_sixteen() -> None:
    read = "  - op: hv_read\n    mfn: 4096\n    offset: 0\n    length: 15\n"
    assert fake(read, architecture="nested").outcome == "BLOCKED"


def test_a_step_that_hangs_on_a_refused_one_is_skipped() -> None:
    steps = (
        "  - op: hv_read\n    mfn: 4096\n    offset: 0\n    length: 16\n    as: seen\n"
        "  - op: hv_write\n    mfn: 8\n    offset: 0\n    data: $seen\n"
    )
    verdict = fake(steps)
    assert verdict.outcome == "BLOCKED"
    assert verdict.steps[-1].result["status"] == "SKIPPED"


def test_a_page_that_the_victims_own_balloon_gave_up_is_not_missed() -> None:
    give = "  - op: balloon\n    vm: $victim\n    pages: 1\n"
    back = "  - op: page_map\n    vm: $victim\n    gpn: 0\n    mfn: 4096\n    perm: rw\n    size: 1\n"
    after = "after:\n  - op: guest_read\n    core: 0\n    gpa: 0\n    length: 16\n"
    assert fake(give + back + after).outcome == "BLOCKED"
    unmap = "  - op: page_unmap\n    vm: $victim\n    gpn: 0\n"
    assert fake(unmap + back + after).outcome == "SUCCEEDED"  # A06: stays possible under H-SVM


def test_changed_registers_are_seen_although_nothing_was_read() -> None:
    text = (attacks_path() / "A11.yaml").read_text()
    read = "  - op: hv_read_context\n    vm: $victim\n    vcpu: $vcpu\n    as: seen\n"
    assert read in text
    verdict = run_attack(read_attack(text.replace(read, "")), "nested")
    assert verdict.outcome == "SUCCEEDED"
    assert "rcx" in verdict.reason


def attacks_path():  # type: ignore[no-untyped-def]
    from hsvm_engine.attackfile import BUILTIN

    return BUILTIN


def test_a_declared_cell_is_not_executed_and_gives_its_reason() -> None:
    declared = "declared:\n  hsvm:\n    outcome: OUT_OF_SCOPE\n    reason: The paper excludes it.\nsetup:"
    verdict = fake("  - op: claim\n    mfn: 4097\n", old="setup:", new=declared)
    assert (verdict.outcome, verdict.reason, verdict.steps) == ("OUT_OF_SCOPE", "The paper excludes it.", ())


def test_ten_thousand_steps_run_and_one_more_is_refused() -> None:
    body = "  - repeat: {n}\n    steps:\n      - op: hv_read\n        mfn: 8\n        offset: 0\n        length: 1\n"
    verdict = fake(body.format(n=9996))
    assert verdict.outcome == "BLOCKED"
    assert len(verdict.steps) == 10_000
    with pytest.raises(AttackFileError, match="more than 10000"):
        fake(body.format(n=9997))


# Drills on a living machine


def living(architecture: str):  # type: ignore[no-untyped-def]
    from hsvm_engine.core.machine import Machine

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


def test_forty_megabytes_of_reading_take_no_forty_megabytes() -> None:
    body = (
        "  - repeat: 9996\n    steps:\n      - op: hv_read\n        mfn: 8\n        offset: 0\n        length: 4096\n"
    )
    verdict = fake(body)
    assert verdict.outcome == "BLOCKED"
    assert sum(len(step.result.get("data", "")) for step in verdict.steps) <= 2 << 20
