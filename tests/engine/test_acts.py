"""What operators' software does to running guests, carried out: invariants hold, guests go on, nothing is lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hsvm_engine.play import Player, PlayError
from hsvm_engine.scenarios import Scenario, demo


def scenario(architecture: str) -> Scenario:
    made = demo(architecture)
    return replace(made, vms=tuple(replace(vm, image="guest-1") for vm in made.vms))


@pytest.fixture(params=["hsvm", "nested"])
def player(request: pytest.FixtureRequest) -> Player:
    made = Player(scenario(request.param))
    made.step(40_000)
    return made


def sound(player: Player) -> None:
    step = player.step(5_000)
    player.machine.check_invariants()
    assert len(step.violations) == 0


def test_equal_kernel_pages_are_merged_and_parted_again_when_a_vm_ends(player: Player) -> None:
    result = player.merge("a-db", "b-web", 50)
    assert result["merged"] == 50 and len(player.machine.dump()["merged"]) == 50
    sound(player)
    assert player.merge("b-web", "a-db", 10)["merged"] == 10
    player.stop_vm("a-db")
    assert player.machine.dump()["merged"] == []
    sound(player)


def test_guests_with_kernels_of_their_own_have_nothing_to_merge() -> None:
    for architecture in ("hsvm", "nested"):
        player = Player(demo(architecture))
        assert player.merge("a-db", "b-web", 50)["merged"] == 0
        sound(player)


def test_a_swapped_page_comes_back_at_the_first_touch_and_by_the_operator(player: Player) -> None:
    result = player.swap_out("a-db", 60)
    assert result["pages"] == len(player.images) > 20
    assert result["sealed"] is (player.machine.architecture == "hsvm")
    out = len(player.images)
    events = [event for _ in range(4) for event in player.step(50_000).events]
    assert len(player.images) < out and not [event for event in events if event["kind"] == "crash"]
    left = len(player.images)
    assert player.swap_in("a-db", 1 << 20)["pages"] == left and not player.images
    sound(player)


def test_memory_is_given_back_though_pages_are_swapped_out(player: Player) -> None:
    player.swap_out("a-db", 20)
    assert player.balloon("a-db", 10)["released"] == 10
    player.swap_in("a-db", 100)
    for _ in range(4):
        assert not [event for event in player.step(50_000).events if event["kind"] == "crash"]
    sound(player)


def test_a_plain_dump_has_the_secret_and_a_sealed_one_has_not() -> None:
    guarded, nested = Player(scenario("hsvm")), Player(scenario("nested"))
    assert nested.dump("a-db", "raw")["secret"] and guarded.dump("a-db", "raw")["secret"]
    sealed = guarded.dump("a-db", "sealed")
    assert not sealed["secret"] and sealed["sealed"] and sealed["bytes"] > 4_096 * sealed["pages"] > 0
    assert guarded.machine.dump()["shared"] == []  # the guest took back what it had lent for the plain one
    assert guarded.snapshot("a-db", "sealed")["registers"] == "F_PROTECTED"
    assert nested.snapshot("a-db", "raw")["registers"] == "read"
    assert nested.introspect("a-db", 4)["pages"] == 4
    for player in (guarded, nested):
        sound(player)


def test_a_saved_player_goes_on_with_its_images_and_merged_pages(player: Player) -> None:
    player.swap_out("a-db", 40)
    player.merge("a-db", "b-web", 5)
    again = Player.load(player.save())
    assert again.images == player.images
    for each in (player, again):
        for act, args in ACTS:
            getattr(each, act)(*args)
            each.step(30_000)
    assert again.digest() == player.digest()


ACTS: list[tuple[str, tuple[Any, ...]]] = [
    ("swap_in", ("a-db", 3)),
    ("dump", ("b-web", "raw")),
    ("introspect", ("a-db", 2)),
    ("balloon", ("a-db", 4)),
]


def test_an_act_with_a_vm_that_is_gone_is_refused_without_its_name(player: Player) -> None:
    with pytest.raises(PlayError, match="^the other VM is not running$"):
        player.merge("a-db", "c-gone", 5)
