"""A moment of a run is the machine's state after exactly that operation, wherever the playing began."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hsvm_engine import wire
from hsvm_engine.moment import Looker
from hsvm_engine.play import Player
from hsvm_engine.scenarios import Scenario, VmSpec

ACCESSES = 3_000


def scenario(architecture: str = "hsvm") -> Scenario:
    protected = 256 if architecture == "hsvm" else 0
    machine = {"frames": 4096, "hypervisor_frames": 512, "protected_frames": protected, "cores": 2}
    vms = tuple(
        VmSpec(name=name, vm_pages=512, trace=trace, core=core, seed=core, balloon="on")
        for name, trace, core in (("a-db", "sqlite3", 0), ("b-web", "gzip", 1))
    )
    return Scenario(machine={**machine, "architecture": architecture}, seed=5, vms=vms)


class Dumb(Looker):
    """One access at a time, each followed by a look at the clock: slow, and with nothing to take back but commands."""

    def _access(self, vm: Any, core: int, count: int) -> Any:
        return super()._access(vm, core, 1)


def at(kind: type[Looker], save: bytes, op: int) -> Looker:
    looker = kind.load(save)
    while not looker.step_until(ACCESSES, op):
        assert looker.machine.op < op
    return looker


def told(looker: Looker) -> tuple[Any, ...]:
    state = looker.state()
    frames = wire.map_keyframe(state, 1), wire.tlb_keyframe(state, 1), wire.counters(state, 1)
    return (looker.machine.op, looker.digest(), *frames)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_moment_is_that_of_a_run_played_access_by_access_and_from_an_other_save(steps: int) -> None:
    player = Player(scenario())
    first = player.save()
    for _ in range(steps):
        player.step(ACCESSES)
    save, begun = player.save(), player.machine.op
    draw = random.Random(4)
    for op in sorted(draw.sample(range(begun, begun + ACCESSES), 6)):
        quick = told(at(Looker, save, op))
        assert quick[0] == op
        assert quick == told(at(Dumb, save, op))
        assert quick == told(at(Looker, first, op))


def test_a_million_operations_back_and_forth_end_in_the_same_digest() -> None:
    player, saves = Player(scenario()), []
    while player.machine.op < 1_000_000:
        saves.append((player.machine.op, player.save()))
        player.step(40_000)
    end = player.machine.op
    for begun, save in (saves[len(saves) // 2], saves[0]):
        looker = Looker.load(save)
        while not looker.step_until(40_000, end):
            assert begun < looker.machine.op < end
        assert (looker.machine.op, looker.digest()) == (end, player.digest())


def test_the_last_moment_of_a_step_is_what_onlookers_were_sent() -> None:
    player = Player(scenario())
    save = player.save()
    for _ in range(5):
        player.step(ACCESSES)
        looker = at(Looker, save, player.machine.op)
        assert (looker.number, looker.digest()) == (player.number, player.digest())
        assert wire.map_keyframe(looker.state(), 1) == wire.map_keyframe(player.state(), 1)


@pytest.mark.parametrize("architecture", ["nested", "hsvm"])
def test_inside_an_attack_the_state_is_that_after_each_of_its_operations(architecture: str) -> None:
    """The journal takes back what the attack did beyond; what is left of it is told by the digests, all of one path."""
    player = Player(scenario(architecture))
    player.step(ACCESSES)
    save, before = player.save(), player.machine.op
    player.drill("A03", "b-web")
    after = player.machine.op
    digests = []
    for op in range(before + 1, after + 1):
        looker = Looker.load(save)
        reached = looker.command_until(lambda each=looker: each.drill("A03", "b-web"), op)
        assert reached == (op < after)
        assert looker.machine.op == op
        assert looker.doing()["op"] >= op
        digests.append(looker.digest())
        assert {vm.spec.name for vm in looker.vms} == {"a-db", "b-web"}
    assert digests[-1] == player.digest()
    assert len(set(digests)) > 3


def test_misses_are_found_where_the_counters_rise() -> None:
    save = Player(scenario()).save()
    end = at(Looker, save, 2_000)
    found = Looker.load(save).misses_until(ACCESSES, 0, 2_000)
    before = {op: sum(vm.counts["miss"] for vm in at(Looker, save, op - 1).vms) for op in found[:6] + found[-3:]}
    after = {op: sum(vm.counts["miss"] for vm in at(Looker, save, op).vms) for op in before}
    assert all(after[op] == before[op] + 1 for op in before)
    assert len(found) == sum(vm.counts["miss"] for vm in end.vms) > 5


def test_a_frame_is_told_with_its_owner_leaves_translations_and_last_operations() -> None:
    player = Player(scenario())
    save = player.save()
    player.step(ACCESSES)
    looker = at(Looker, save, player.machine.op)
    vm = looker.vms[0]
    gpn, mfn, _, perm = next(leaf for leaf in looker.machine.dump()["leaves"][vm.handle] if leaf[0] == 0)
    seen = looker.frame(mfn)
    assert (seen["owner"], seen["maps"]) == (vm.slot, [(vm.handle, gpn, perm)])
    newest = looker.machine.events(looker.machine.oldest_op)
    assert seen["events"] == [each for each in reversed(newest) if each["mfn"] == mfn][:3]
    with pytest.raises(ValueError, match="the host has frames 0 to 4,095, not 4,096"):
        looker.frame(4096)
