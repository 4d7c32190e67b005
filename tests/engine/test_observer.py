"""What is observed of an attack, and what a file cannot fake."""

import pytest

from hsvm_engine.attackfile import BUILTIN, AttackFileError, read_attack
from hsvm_engine.interpreter import Verdict, run_attack, secret_of
from hsvm_engine.observer import Observer

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
    text = (BUILTIN / "A11.yaml").read_text()
    read = "  - op: hv_read_context\n    vm: $victim\n    vcpu: $vcpu\n    as: seen\n"
    assert read in text
    verdict = run_attack(read_attack(text.replace(read, "")), "nested")
    assert verdict.outcome == "SUCCEEDED"
    assert "rcx" in verdict.reason


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


def test_forty_megabytes_of_reading_take_no_forty_megabytes() -> None:
    body = (
        "  - repeat: 9996\n    steps:\n      - op: hv_read\n        mfn: 8\n        offset: 0\n        length: 4096\n"
    )
    verdict = fake(body)
    assert verdict.outcome == "BLOCKED"
    assert sum(len(step.result.get("data", "")) for step in verdict.steps) <= 2 << 20


# Denied service

IDLE = "  - repeat: {n}\n    steps:\n      - op: hv_read\n        mfn: 8\n        offset: 0\n        length: 1\n"
SAVE = "  - op: context_save\n    core: 0\n"
BACK = "  - op: context_restore\n    vm: $victim\n    vcpu: 0\n    core: 0\n"
TURN = "  - victim:\n      - op: guest_read\n        core: 0\n        gpa: {gpa}\n        length: 1\n"


def test_a_victim_that_is_off_its_core_for_a_thousand_steps_is_denied_service() -> None:
    verdict = fake(SAVE + IDLE.format(n=999))
    assert verdict.outcome == "SUCCEEDED" and "no progress for 1,000 steps" in verdict.reason
    assert fake(SAVE + IDLE.format(n=998)).outcome == "BLOCKED"


def test_a_victim_that_got_on_in_between_is_not_denied_service() -> None:
    starved = SAVE + IDLE.format(n=600) + BACK
    assert fake(starved + TURN.format(gpa=0) + starved).outcome == "BLOCKED"
    assert fake(starved + TURN.format(gpa=8192) + starved).outcome == "SUCCEEDED"  # its only access was refused


def test_a_victim_that_faults_a_thousand_times_is_denied_service() -> None:
    faults = "  - repeat: 1000\n    steps:\n" + "".join(
        f"    {line}\n" for line in TURN.format(gpa=8192).removesuffix("\n").split("\n")
    )
    assert fake(faults).outcome == "SUCCEEDED"


def test_a_victim_that_never_started_or_was_deleted_is_not_runnable() -> None:
    assert fake(SAVE + "  - op: delete_vm\n    vm: $victim\n" + IDLE.format(n=1200)).outcome == "BLOCKED"
    write = "victim:\n  - op: guest_write\n    core: 0\n    gpa: 0\n    data: $secret\n"
    text = SETUP.replace(BACK, "").replace(write, "") + "attacker:\n" + IDLE.format(n=1200)
    assert run_attack(read_attack(text), "hsvm").outcome == "BLOCKED"


# The victim's turn, exits and notes


def test_of_the_victims_turn_the_attacker_gets_the_page_of_a_nested_fault_and_never_the_data() -> None:
    turn = TURN.format(gpa=8192) + "        as: exit\n"
    verdict = fake(turn + "  - note: $exit.gpn\n  - note: $exit.status\n")
    assert [step.op.get("value") for step in verdict.steps if step.op["op"] == "note"] == [2, "F_NOT_PRESENT"]
    verdict = fake(TURN.format(gpa=0) + "        as: exit\n  - note: $exit.gpn\n  - note: $exit.status\n")
    assert verdict.steps[-2].result["status"] == "SKIPPED"
    assert verdict.steps[-1].op["value"] == "OK"
    with pytest.raises(AttackFileError, match="exit has no field data"):
        fake(TURN.format(gpa=0) + "        as: exit\n  - note: $exit.data\n")


def test_what_the_guest_sorts_out_by_itself_or_cannot_say_is_no_exit() -> None:
    pages = "".join(PAGES.format(gpn=gpn, mfn=4200 + gpn) for gpn in range(1, 7))
    table = "  - victim:\n      - op: guest_map\n        core: 0\n        gva: 4096\n        gpn: 0\n        perm: r\n"
    access = "      - op: guest_access\n        core: 0\n        gva: {}\n        kind: {}\n        as: exit\n"
    noted = "  - note: $exit.status\n"
    for gva, kind, status in ((8192, "r", "F_NOT_PRESENT"), (4096, "w", "F_PERMISSION"), (1, "rw", "E_INPUT")):
        verdict = fake(pages + table + access.format(gva, kind) + noted + "  - note: $exit.gpn\n")
        assert [step.result["status"] for step in verdict.steps[-3:]] == [status, "NOTED", "SKIPPED"]
        assert verdict.steps[-2].op["value"] == "OK"


def test_the_victims_turn_is_on_a_core_that_runs_the_victim() -> None:
    other = "  - op: create_vm\n    vcpus: 1\n    as: other\n" + BACK.replace("$victim", "$other")
    verdict = fake(SAVE + other + TURN.format(gpa="$secret.page"))
    assert verdict.outcome == "ERROR" and "another guest than the victim" in verdict.reason
    assert fake(SAVE + TURN.format(gpa="$secret.page")).steps[-1].result["status"] == "E_STATE"


PAGES = """\
  - op: page_map
    vm: $victim
    gpn: {gpn}
    mfn: {mfn}
    perm: rw
    size: 1
"""


def test_the_page_of_the_secret_moves_on_only_after_a_success() -> None:
    turns = TURN.format(gpa="$secret.page")
    maps = PAGES.format(gpn=1, mfn=4200) + PAGES.format(gpn=2, mfn=4201)
    verdict = fake(turns * 3 + maps + turns * 9)
    seen = [step for step in verdict.steps if step.phase == "turn"]
    bits = [secret_of(0)[i >> 3] >> (i & 7) & 1 for i in range(9)]
    assert [step.op["gpa"] for step in seen] == [4096 * (1 + bit) for bit in [bits[0]] * 3 + bits]


def noting(count: int, *, note: str = "$exit.gpn", architecture: str = "hsvm") -> Verdict:
    """The victim's pages are taken away and given back for every bit, and the fault is noted."""
    gone = "      - op: page_unmap\n        vm: $victim\n        gpn: {gpn}\n"
    lines = PAGES.replace("\n", "\n    ").removesuffix("    ")
    body = gone.format(gpn=1) + gone.format(gpn=2)
    body += "      - op: hv_flush\n        core: 0\n        vm: $victim\n"
    body += "      - victim:\n          - op: guest_read\n            core: 0\n            gpa: $secret.page\n"
    body += f"            length: 1\n            as: exit\n      - note: {note}\n"
    body += "    " + lines.format(gpn=1, mfn=4200) + "    " + lines.format(gpn=2, mfn=4201)
    body += "      - victim:\n          - op: guest_read\n            core: 0\n            gpa: $secret.page\n"
    body += "            length: 1\n"
    first = PAGES.format(gpn=1, mfn=4200) + PAGES.format(gpn=2, mfn=4201)
    return fake(f"{first}  - repeat: {count}\n    steps:\n{body}", architecture=architecture)


@pytest.mark.parametrize("architecture", ["nested", "hsvm"])
def test_a_hundred_and_twenty_eight_notes_that_follow_the_bits_rebuild_the_secret(architecture: str) -> None:
    verdict = noting(128, architecture=architecture)
    assert verdict.outcome == "SUCCEEDED" and "bit by bit" in verdict.reason
    assert verdict.step is not None and verdict.step.op["op"] == "note"


def test_notes_that_are_too_few_or_all_the_same_give_nothing_away() -> None:
    assert noting(127).outcome == "BLOCKED"
    assert noting(128, note="$exit.status").outcome == "BLOCKED"


def observer_of(secret: bytes) -> Observer:
    return Observer(1, secret, {0: (1, 0)})


def test_notes_are_read_under_both_assignments_and_only_these() -> None:
    secret = secret_of(3)
    bits = [secret[i >> 3] >> (i & 7) & 1 for i in range(128)]
    for names, given_away in ((("a", "b"), True), (("b", "a"), True), (("a", "a"), False)):
        watching = observer_of(secret)
        findings = [watching.note(names[bit]) for bit in bits]
        assert findings[:127] == [None] * 127
        assert (findings[127] is not None) == given_away
    wrong = observer_of(secret)
    assert not any(wrong.note(bit ^ (i == 77)) for i, bit in enumerate(bits))
    third = observer_of(secret)
    assert not any(third.note(2 if i == 5 else bit) for i, bit in enumerate(bits))


# What comes out of the ports


def test_an_image_that_holds_the_secret_in_the_clear_is_bytes_of_the_attacker() -> None:
    watching = observer_of(secret_of(0))
    plain = (b"\0" * 7 + secret_of(0)).hex()
    assert watching.attacker_step({"op": "swap_out", "vm": 1, "gpn": 0}, {"status": "OK", "image": plain}) is not None
    assert observer_of(secret_of(0)).attacker_step({"op": "swap_out"}, {"status": "E_BUSY"}) is None


def test_a_vector_counts_only_where_the_victim_runs_and_it_arrives() -> None:
    for core, status, seen in ((0, "OK", True), (1, "OK", False), (0, "E_STATE", False)):
        found = observer_of(secret_of(0)).attacker_step({"op": "inject", "core": core, "vector": 3}, {"status": status})
        assert (found is not None) == seen


def test_a_victim_that_moves_by_export_and_import_stays_the_victim() -> None:
    watching = observer_of(secret_of(0))
    watching.any_step({"op": "context_save", "core": 0}, {"status": "OK"})
    watching.any_step({"op": "export_vm", "vm": 1, "target": "00"}, {"status": "OK", "image": "abcd"})
    watching.any_step({"op": "import_vm", "image": "ffff"}, {"status": "OK", "vm": 8})
    watching.any_step({"op": "import_vm", "image": "abcd"}, {"status": "OK", "vm": 9})
    for handle, is_victim in ((8, False), (9, True), (1, False)):
        watching.any_step({"op": "context_restore", "vm": handle, "vcpu": 0, "core": 0}, {"status": "OK"})
        assert watching.runs_victim(0) == is_victim


# Names that must not be laundered


def test_what_hangs_on_a_refused_step_is_skipped_through_every_name() -> None:
    steps = (
        "  - op: hv_read\n    mfn: 4096\n    offset: 0\n    length: 16\n    as: refused\n"
        "  - let:\n      copy: $refused\n"
        "  - op: hv_write\n    mfn: 9\n    offset: 0\n    data: $copy\n"
        "  - op: hv_read\n    mfn: $after_all.mfn\n    offset: 0\n    length: 16\n"
    ).replace("$after_all.mfn", "9")
    verdict = fake(steps)
    assert [step.result["status"] for step in verdict.steps[-2:]] == ["SKIPPED", "OK"]


def test_a_skipped_step_leaves_nothing_of_the_victims_under_its_name() -> None:
    own = "  - op: guest_read\n    core: 0\n    gpa: 0\n    length: 16\n    as: x\nattacker:\n"
    steps = (
        "  - op: npt_locate\n    vm: 99\n    gpn: 0\n    as: nowhere\n"
        "  - op: hv_read\n    mfn: $nowhere.mfn\n    offset: 0\n    length: 16\n    as: x\n"
        "  - op: hv_write\n    mfn: 8\n    offset: 0\n    data: $x\n"
        "  - op: hv_read\n    mfn: 8\n    offset: 0\n    length: 16\n"
    )
    verdict = run_attack(read_attack(SETUP + own + steps), "hsvm")
    assert verdict.outcome == "BLOCKED", verdict.reason
    assert [step.result["status"] for step in verdict.steps[-4:]] == ["E_NOVM", "SKIPPED", "SKIPPED", "OK"]
