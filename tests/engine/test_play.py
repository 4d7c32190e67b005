"""The player: deterministic, resumable at any point, and a host on which guests live and attacks are observed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from hsvm_engine.play import Player, PlayError
from hsvm_engine.scenarios import Scenario, ScenarioError, VmSpec, demo
from hsvm_engine.step import Step
from hsvm_engine.tracefile import Trace, make_trace
from hsvm_engine.wire import State, WireError, decode, encode, map_keyframe
from tests.engine.wirecases import read_map

ATTACKS = ("A01", "A02", "A03", "A09", "A10", "A11", "A14")


def invented(seed: int, pages: int, length: int = 6_000) -> Trace:
    """References as a program makes them: loops over a working set that moves on, fetches from a few code pages."""
    random = np.random.default_rng(seed)
    kinds = random.choice(3, length, p=(0.25, 0.1, 0.65)).astype(np.uint8)
    moving = (np.arange(length) * pages // length + random.integers(0, 8, length)) % pages
    base = np.where(kinds == 2, 0x40_0000, 0x7FFE_0000_0000).astype(np.uint64)
    page = np.where(kinds == 2, moving % 5, moving).astype(np.uint64)
    return make_trace(base + page * np.uint64(4096) + random.integers(0, 4096, length).astype(np.uint64), kinds)


TRACES = {"one": invented(1, 120), "two": invented(2, 60, 4_000)}


def small(architecture: str = "hsvm", *, cores: tuple[int, int] = (0, 1), **more: Any) -> Scenario:
    return Scenario(
        machine={
            "frames": 2_048,
            "hypervisor_frames": 256,
            "protected_frames": 0 if architecture == "nested" else 256,
            "cores": 2,
            "architecture": architecture,
        },
        vms=(
            VmSpec(name="a-db", vm_pages=512, trace="one", core=cores[0], seed=1, balloon="on"),
            VmSpec(name="b-web", vm_pages=256, trace="two", core=cores[1], seed=2, vcpus=2),
        ),
        seed=7,
        quantum=500,
        **more,
    )


def player(scenario: Scenario | None = None) -> Player:
    return Player(scenario or small(), traces=TRACES)


@pytest.fixture(params=["hsvm", "nested"])
def architecture(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def vm_row(step: Step, name: str) -> dict[str, int]:
    slot = next(row["slot"] for row in step.vms if row["name"] == name)
    row: dict[str, int] = next(row for row in step.counters["vms"] if row["slot"] == slot)
    return row


def commands(p: Player, number: int) -> None:
    """Something for the operator to do before some of the steps."""
    if number == 5:
        p.balloon("a-db", 30)
    elif number == 9:
        p.start_vm(VmSpec(name="c-new", vm_pages=256, trace="two", seed=3))
    elif number == 14:
        p.drill("A03", "a-db")
    elif number == 20:
        p.stop_vm("b-web")
    elif number == 24:
        p.balloon("c-new", 5)


def test_the_same_scenario_gives_the_same_bytes() -> None:
    one, other = player(), player()
    for number in range(12):
        commands(one, number)
        commands(other, number)
        assert encode(one.step(700)) == encode(other.step(700))
    assert one.digest() == other.digest()


@pytest.mark.parametrize("architecture", ["hsvm", "nested"])
def test_a_player_resumed_at_any_of_50_checkpoints_ends_like_the_undisturbed_one(architecture: str) -> None:
    undisturbed = player(small(architecture))
    steps = []
    for number in range(25):
        commands(undisturbed, number)
        steps.append(encode(undisturbed.step(600)))
    resumed = player(small(architecture))
    for number in range(25):
        commands(resumed, number)
        resumed = Player.load(resumed.save(), traces=TRACES)  # after a command, before its step
        assert encode(resumed.step(600)) == steps[number]
        resumed = Player.load(resumed.save(), traces=TRACES)
    assert resumed.digest() == undisturbed.digest()
    assert resumed.save() == undisturbed.save()


def test_steps_lead_a_state_to_what_the_machine_holds() -> None:
    p = player()
    known = State.from_player(p)
    for number in range(26):
        commands(p, number)
        known.apply(decode(encode(p.step(600))))
        fresh = p.state()
        assert np.array_equal(known.owners, fresh.owners)
        assert np.array_equal(known.tlb, fresh.tlb)
        assert known.to_bytes() == fresh.to_bytes()


def test_every_reference_of_a_loop_is_run_and_every_page_touched_is_backed() -> None:
    p = player()
    step = p.step(len(TRACES["one"]))
    row = vm_row(step, "a-db")
    assert row["references"] == len(TRACES["one"])
    # every translation was a hit or a walk; a reference that faulted was translated again
    assert row["l1"] + row["l2"] + row["miss"] >= row["references"]
    pages = len(np.unique(TRACES["one"].addresses >> np.uint64(12)))
    guest = p.vms[0].guest
    assert guest.touched == pages
    assert row["faults"] >= pages
    leaves = {gpn for gpn, _, _, _ in p.machine.dump()["leaves"][p.vms[0].handle]}
    assert {gpn for gpn, _ in guest.program.values()} <= leaves
    p.machine.check_invariants()


def test_each_loop_is_a_new_process_and_the_map_keeps_moving_where_the_guest_gives_back() -> None:
    p = player()
    moved: dict[int, list[int]] = {3: [], 4: []}
    for _ in range(40):
        step = p.step(2_000)
        for slot, history in moved.items():
            history.append(int((step.owner == slot).sum()))
    ended = [vm.guest.processes for vm in p.vms]
    assert ended == [80_000 // 6_000, (80_000 - 1) // 4_000]
    assert sum(moved[3][30:]) > 100
    assert sum(moved[4][30:]) == 0  # without a balloon a guest keeps what it once had
    p.machine.check_invariants()


@pytest.mark.parametrize("flush", ["always", "on_change", "tagged"])
def test_vms_share_a_core_in_turns(flush: str) -> None:
    p = player(small(cores=(0, 0), flush=flush))
    step = p.step(4_000)
    assert vm_row(step, "a-db")["references"] == vm_row(step, "b-web")["references"] == 4_000
    held = {int(slot) for slot in p.state().tlb["slot"] if slot}
    assert held == ({3, 4} if flush == "tagged" else {4})  # what ran last stays until another comes
    p.machine.check_invariants()


def test_the_program_takes_its_turns_on_every_vcpu_of_its_vm() -> None:
    p = player()
    p.step(2_000)
    vm = p.vms[1]
    for vcpu in range(vm.spec.vcpus):
        p.machine.hypervisor.context_restore(vm=vm.handle, vcpu=vcpu, core=1)
        assert p.machine.guest.guest_registers(core=1)["registers"]["cr3"] == vm.guest.cr3 > 0
        p.machine.hypervisor.context_save(core=1)


def test_a_balloon_that_the_agreement_forbids_is_refused_with_its_inputs_and_changes_nothing() -> None:
    p = player()
    p.step(1_000)
    before = p.digest()
    result = p.balloon("b-web", 10)
    assert (result["status"], result["check"], result["released"]) == ("REFUSED", "balloon_policy", 0)
    assert result["inputs"] == {"vm": f"vm:{p.vms[1].handle}", "balloon": "none", "pages": 10}
    assert p.digest() == before
    event = p.step(1).events[0]
    assert (event["kind"], event["vm"], event["outcome"], event["check"]) == (
        *("balloon", "b-web", "REFUSED"),
        "balloon_policy",
    )


def test_a_balloon_takes_no_more_than_the_program_has() -> None:
    p = player()
    p.step(3_000)
    spare = p.vms[0].guest.spare()
    assert p.balloon("a-db", 100_000) == {"status": "OK", "released": spare}
    assert p.balloon("a-db", 1) == {"status": "OK", "released": 0}
    p.step(3_000)
    assert not p.vms[0].halted
    p.machine.check_invariants()


def test_a_stopped_vm_leaves_free_frames_and_its_number_is_not_used_again() -> None:
    p = player()
    p.step(2_000)
    had = np.flatnonzero(p.state().owners == 3)
    p.stop_vm("a-db")
    step = p.step(100)
    assert [row["name"] for row in step.vms] == ["b-web"]
    assert len(had) > 80
    assert set(had.tolist()) <= set(step.changed.tolist())
    assert 3 not in p.state().owners
    assert p.start_vm(VmSpec(name="a-db", vm_pages=256, trace="two"))["slot"] == 5
    assert [row["letter"] for row in p.step(100).vms] == ["B", "C"]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (VmSpec(name="a-db", vm_pages=256, trace="one"), "running already"),
        (VmSpec(name="c", vm_pages=256, trace="one", core=2), "no core 2"),
        (VmSpec(name="c", vm_pages=256, trace="nosuch"), "no trace is named"),
        (VmSpec(name="c", vm_pages=1 << 20, trace="one"), "too few free frames"),
    ],
)
def test_a_vm_that_cannot_start_changes_nothing_for_the_others(spec: VmSpec, reason: str) -> None:
    p = player()
    p.step(500)
    owners = p.machine.ownership().copy()
    with pytest.raises(PlayError, match=reason):
        p.start_vm(spec)
    assert np.array_equal(p.machine.ownership(), owners)
    assert [row["name"] for row in p.step(500).vms] == ["a-db", "b-web"]


def test_owner_bytes_stay_apart_however_many_vms_come_and_go() -> None:
    p = player()
    for number in range(260):
        p.start_vm(VmSpec(name=f"x-{number}", vm_pages=256, trace="two"))
        if number % 3:
            p.stop_vm(f"x-{number}")
        if len(p.vms) > 20:
            p.stop_vm(p.vms[2].spec.name)
    step = p.step(100)
    bytes_of = {row["byte"] for row in step.vms}
    assert max(row["slot"] for row in step.vms) > 255 > max(bytes_of)
    assert len(bytes_of) == len(step.vms)
    assert min(bytes_of) == 3
    shown = read_map(map_keyframe(p.state(), 1))
    assert set(shown["cells"]) == {0, 1, 2} | bytes_of


def test_a_host_that_runs_out_of_frames_lets_guests_wait_and_go_on() -> None:
    p = player()
    for number in range(20):
        try:
            p.start_vm(VmSpec(name=f"x-{number}", vm_pages=1_024, trace="one", seed=number))
        except PlayError:
            break
    kinds = [event["kind"] for _ in range(6) for event in p.step(3_000).events]
    assert "memory" in kinds
    assert not any(vm.halted for vm in p.vms)
    waiting = [vm for vm in p.vms if vm.waiting]
    for vm in [vm for vm in p.vms if vm.spec.name.startswith("x-") and vm not in waiting[:1]]:
        p.stop_vm(vm.spec.name)
    before = waiting[0].counts["references"]
    p.step(3_000)
    assert waiting[0].counts["references"] > before
    p.machine.check_invariants()


def test_a_guest_whose_page_tables_are_taken_starts_its_program_anew(architecture: str) -> None:
    p = player(small(architecture))
    p.step(3_000)
    vm = p.vms[0]
    walked = p.machine.dump()["leaves"][vm.handle]
    tables = [gpn for gpn, _, _, perm in walked if perm == "rw"]
    assert vm.guest.cr3 >> 12 in tables
    for gpn in tables:
        assert p.machine.hypervisor.page_unmap(vm=vm.handle, gpn=gpn)["status"] == "OK"
    events = [event for _ in range(3) for event in p.step(3_000).events if event["kind"] == "crash"]
    assert [(event["vm"], event["outcome"]) for event in events] == [("a-db", "RESTARTED")]
    assert vm.guest.processes == 1 + (vm.counts["references"] - 3_000) // len(vm.trace)
    assert vm.guest.cr3


# --- drills ---


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("victim", ["a-db", "b-web"])
def test_a_drill_finds_the_secret_on_nested_and_is_blocked_on_hsvm(architecture: str, attack: str, victim: str) -> None:
    p = player(small(architecture))
    p.step(2_000)
    result = p.drill(attack, victim)
    assert result["outcome"] == ("BLOCKED" if architecture == "hsvm" else "SUCCEEDED"), result
    step = p.step(2_000)
    event = next(event for event in step.events if event["kind"] == "drill")
    assert (event["vm"], event["outcome"], event["check"]) == (victim, result["outcome"], result["check"] or "")
    after = p.step(6_000)  # the drill is cleared up, and everybody goes on
    assert [row["name"] for row in after.vms] == ["a-db", "b-web"]
    assert len(after.violations) == 0
    assert not any(vm.halted for vm in p.vms)
    for vm in p.vms:
        core = vm.spec.core
        p.machine.hypervisor.context_restore(vm=vm.handle, vcpu=0, core=core)
        secret = p.machine.guest.guest_read(core=core, gpa=0, length=16)["data"]
        assert secret == vm.guest.secret.hex()
        p.machine.hypervisor.context_save(core=core)
    p.machine.check_invariants()


def test_a_drill_that_needs_a_second_core_is_refused_on_a_host_with_one() -> None:
    scenario = small(cores=(0, 0))
    p = player(Scenario(**{**vars(scenario), "machine": {**scenario.machine, "cores": 1}}))
    with pytest.raises(PlayError, match="A03: line .*: context_restore was answered with E_INPUT"):
        p.drill("A03", "a-db")
    assert p.drill("A01", "a-db")["outcome"] == "BLOCKED"
    assert [row["name"] for row in p.step(2_000).vms] == ["a-db", "b-web"]


def test_the_check_that_stopped_a_drill_is_named() -> None:
    p = player()
    assert p.drill("A01", "a-db")["check"] == "hv_access_check"
    assert p.drill("A03", "a-db")["check"] == "owner_check"
    assert p.drill("A14", "a-db")["check"] == "tlb_shootdown"  # nothing was refused: named by experiment


def test_a_violation_is_seen_while_it_stands() -> None:
    p = player(small("nested"))
    p.step(500)
    p.drill("A09", "a-db")
    assert len(p.step(500).violations) > 0
    assert len(p.step(500).violations) == 0


def test_an_attack_that_deletes_its_victim_ends_that_vm_only(architecture: str) -> None:
    p = player(small(architecture))
    p.step(2_000)
    result = p.drill("A13", "a-db")
    assert result["outcome"] == ("BLOCKED" if architecture == "hsvm" else "SUCCEEDED"), result
    step = p.step(2_000)
    assert [row["name"] for row in step.vms] == ["b-web"]
    assert step.events[1]["outcome"] == "DELETED"


def test_secrets_differ_between_vms_and_seeds() -> None:
    secrets = {vm.guest.secret for seed in (1, 2) for vm in player(Scenario(**{**vars(small()), "seed": seed})).vms}
    assert len(secrets) == 4


# --- saves and scenarios as text ---


def test_a_damaged_save_and_another_trace_are_refused() -> None:
    p = player()
    data = p.save()
    for at in range(0, len(data), max(1, len(data) // 50)):
        if at in (6, 7):
            continue
        with pytest.raises(WireError):
            Player.load(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], traces=TRACES)
    with pytest.raises(PlayError, match="not the one that was played"):
        Player.load(data, traces={**TRACES, "one": invented(9, 100)})


def test_a_scenario_comes_back_from_its_text() -> None:
    for scenario in (small(), demo(), demo("nested")):
        assert Scenario.from_json(scenario.to_json()) == scenario


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"seed":7', '"seed":NaN', "not an integer"),
        ('"seed":7', '"seed":true', "seed: must be an integer"),
        ('"seed":7', '"seed":-1', "seed: must be 0"),
        ('"seed":7', '"seed":7,"sed":1', "sed: unknown field"),
        ('"seed":7', '"seed":7,"seed":8', "duplicate key"),
        ('"hsvm-scenario/1"', '"hsvm-scenario/2"', "format: must be"),
        ('"vm_pages":512', '"vm_pages":9999999999', r"vms\[0\].vm_pages: must be 256"),
        ('"name":"b-web"', '"name":"a-db"', r"vms\[1\].name: a-db is taken"),
        ('"core":1', '"core":2', r"vms\[1\].core: the machine has no such core"),
        ('"trace":"one"', '"trace":"../one"', r"vms\[0\].trace: must match"),
        ('"balloon":"on"', '"balloon":"yes"', r"vms\[0\].balloon: must be one of"),
        ('"frames":2048,', "", "machine.frames: missing"),
        ('"cores":2', '"cores":"2"', "machine.cores: must be an integer"),
        ('"cores":2', '"cores":2,"clock":1', "machine.clock: unknown field"),
    ],
)
def test_a_bad_scenario_is_refused_with_field_and_reason(old: str, new: str, reason: str) -> None:
    text = small().to_json()
    assert old in text
    with pytest.raises(ValueError, match=reason):
        Scenario.from_json(text.replace(old, new, 1))


def test_too_long_a_scenario_is_refused() -> None:
    with pytest.raises(ScenarioError, match="characters"):
        Scenario.from_json(" " * (1 << 21))
