"""A snapshot is the whole machine; whatever else is refused with its reason."""

import contextlib
import hashlib
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from hsvm_engine import InvariantError, Machine
from hsvm_engine.randomops import RandomOperations, pair

from .conftest import Make, must
from .randomrun import Player, RandomRun, host


@pytest.mark.parametrize("architecture", ["hsvm", "nested"])
def test_fifty_restores_end_with_the_same_digest(architecture: str) -> None:
    machine, twin = pair(architecture)
    undisturbed, _ = pair(architecture)
    source = RandomOperations(twin, 9)
    for number in range(2500):
        op = source.next()
        twin.apply(op)
        assert machine.apply(op) == undisturbed.apply(op)
        if number % 50 == 0:
            machine = Machine.restore(machine.snapshot())
    assert machine.digest() == undisturbed.digest()
    assert machine.dump() == undisturbed.dump()
    assert machine.counters() == undisturbed.counters()
    machine.check_invariants()


def test_a_restored_machine_has_its_configuration_and_a_journal_of_its_own(make: Make) -> None:
    machine = make(seed=7, options={"skip": ["dma_check"]}, tlb={"l1": {"sets": 4, "ways": 2}}, costs={"map": 1})
    must(machine.hypervisor.claim(mfn=100))
    again = Machine.restore(machine.snapshot())
    assert again.config == machine.config
    assert again.snapshot() == machine.snapshot()
    assert again.op == machine.op
    with pytest.raises(ValueError, match="since_op"):
        again.dirty(0)
    must(again.hypervisor.claim(mfn=101))
    assert again.dirty(machine.op).tolist() == [101]


def test_the_digest_depends_on_state_not_on_the_way_there(make: Make, guest: Callable[..., int]) -> None:
    one, two = make(seed=1), make(seed=1)
    assert one.digest() == two.digest()
    guest(one)
    two.hypervisor.claim(mfn=0)  # refused
    guest(two)
    assert one.digest() == two.digest()
    must(two.guest.guest_write(core=0, gpa=0, data="01"))
    assert one.digest() != two.digest()


def test_an_idle_core_keeps_nothing_of_the_guest_that_was_there(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_set_registers(core=0, registers={"rax": 5, "cr3": 4096}))
    must(machine.hypervisor.context_save(core=0))
    assert Machine.restore(machine.snapshot()).digest() == machine.digest()


def test_every_damage_is_refused_with_a_reason(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    data = machine.snapshot()
    source = random.Random(1)
    for _ in range(300):
        place = source.randrange(len(data))
        with pytest.raises(ValueError, match="snapshot"):
            Machine.restore(data[:place] + bytes([data[place] ^ 1 << source.randrange(8)]) + data[place + 1 :])
        with pytest.raises(ValueError, match="snapshot"):
            Machine.restore(data[:place])
    for foreign in (b"", b"HSVM", b"\0" * 100, data + b"\0", data[:4] + b"\xff\xff" + data[6:], "text", None):
        with pytest.raises(ValueError, match="snapshot"):
            Machine.restore(foreign)  # type: ignore[arg-type]


def sealed(data: bytes, change: Callable[[bytearray], None]) -> bytes:
    """The snapshot with changed sections and a right checksum: what a clever forger would hand in."""
    length = struct.unpack_from("<I", data, 6)[0]
    body = bytearray(zlib.decompress(data[10 + length : -32]))
    change(body)
    head = data[: 10 + length] + zlib.compress(bytes(body), 1)
    return head + hashlib.sha256(head).digest()


def test_a_forged_snapshot_is_refused_or_harmless(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    guest(machine)
    must(machine.guest.guest_map(core=0, gva=0, gpn=1))
    must(machine.guest.guest_access(core=0, gva=0, kind="r"))
    data = machine.snapshot()
    source = random.Random(2)

    def flip(body: bytearray) -> None:
        # mostly in the sections that hold numbers of frames, slots and places
        start = body.index(b"VMS ") if source.random() < 0.8 else 0
        for _ in range(source.randrange(1, 4)):
            body[source.randrange(start, len(body))] = source.choice((0, 1, 3, 255, source.randrange(256)))

    accepted = 0
    for _ in range(400):
        try:
            forged = Machine.restore(sealed(data, flip))
        except ValueError as error:
            assert str(error).startswith("snapshot")
            continue
        accepted += 1
        forged.dump(), forged.digest(), forged.tlb()
        for op in (
            {"op": "context_save", "core": 0},
            {"op": "delete_vm", "vm": 65537},
            {"op": "create_vm", "vcpus": 2},
        ):
            forged.apply(op)
        with contextlib.suppress(InvariantError):
            forged.check_invariants()
    assert accepted < 400


def test_owners_that_do_not_cover_the_frames_once_are_refused(make: Make) -> None:
    data = make().snapshot()
    last_run = struct.pack("<IIH", 2048 - 64, 64, 2)
    for forged in ((2048 - 64, 65, 2), (2048 - 64, 63, 2), (2048 - 63, 64, 2), (2048 - 64, 1 << 31, 2)):

        def change(body: bytearray, run: tuple[int, int, int] = forged) -> None:
            place = body.index(last_run)
            body[place : place + 10] = struct.pack("<IIH", *run)

        with pytest.raises(ValueError, match="OWNR"):
            Machine.restore(sealed(data, change))


# Long runs with everything on: what a snapshot holds is what the rest of the run needs.

SMALL_TLB = {"l1": {"sets": 2, "ways": 2}, "l2": {"sets": 4, "ways": 3}}
CACHES = {"policy": "lru", "walk_cache": {"guest": 8, "nested": 16}}
RUNS: dict[str, dict[str, Any]] = {
    "nested": {"architecture": "nested", "tlb": SMALL_TLB},
    "shadow": {"architecture": "shadow"},
    "hsvm": {"architecture": "hsvm"},
    "hsvm, literal": {"architecture": "hsvm", "options": {"page_map_rule": "literal"}},
    "hsvm, a release stops": {"architecture": "hsvm", "options": {"fault": {"step": 2, "nth": 30}}},
    "hsvm, exact LRU and walk caches": {"architecture": "hsvm", "tlb": SMALL_TLB | CACHES},
    "hsvm-smm": {"architecture": "hsvm-smm", "options": {"smi_period": 7}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_restored_from_any_of_fifty_snapshots_ends_with_the_same_digest(name: str) -> None:
    player = Player(host(seed=3, **RUNS[name]))
    run = RandomRun(player, 21)
    steps, snapshots = [], []
    for number in range(1000):
        if number % 20 == 0:
            snapshots.append((number, player.machine.snapshot(), len(player.images)))
        steps.append(run.step()[0])
    end = (player.machine.digest(), player.machine.dump(), player.machine.counters())
    assert len(snapshots) == 50
    for number, data, images in snapshots:
        again = Player(Machine.restore(data), images=player.images[:images])
        assert again.machine.snapshot() == data
        for op in steps[number:]:
            again.do(op)
        assert (again.machine.digest(), again.machine.dump(), again.machine.counters()) == end, number
        assert again.images == player.images
