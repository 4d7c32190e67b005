"""When several things are wrong the first in the contract's order decides: every pair, for every operation."""

from itertools import combinations
from typing import Any

import pytest

from hsvm_engine.operations import OPERATIONS

from .states import ALIGNED_EMPTY, BORROWED_TOO, FRAMES, READ_ONLY, Host, every_state
from .wrongs import INPUT, Wrong, table


@pytest.fixture(scope="module")
def host() -> Host:
    return every_state()


def outcome(host: Host, data: bytes, op: dict[str, Any], wrongs: tuple[Wrong, ...]) -> str:
    """The status of the operation on a host in which all of `wrongs` hold; a refusal must have changed nothing."""
    fresh = host.restored(data) if any(one.setup for one in wrongs) else host
    for one in wrongs:
        if one.setup:
            one.setup(fresh)
        op = op | one.fields
    before = fresh.machine.digest()
    status = str(fresh.machine.apply(op)["status"])
    assert status != "OK" and fresh.machine.digest() == before, (op, status, [str(one) for one in wrongs])
    return status


def test_the_table_has_every_operation(host: Host) -> None:
    assert table(host).keys() == OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_right_fields_pass_and_one_wrong_thing_has_its_status(host: Host, name: str) -> None:
    right, passes, wrongs = table(host)[name]
    data = host.machine.snapshot()
    assert host.restored(data).status(name, **right) == passes
    for one in wrongs:
        assert outcome(host, data, {"op": name, **right}, (one,)) == one.status, str(one)


@pytest.mark.parametrize("name", OPERATIONS)
def test_of_two_wrong_things_the_earlier_in_the_order_decides(host: Host, name: str) -> None:
    right, _, wrongs = table(host)[name]
    everywhere = Wrong(INPUT, "E_INPUT", {"surprise": 1})
    data = host.machine.snapshot()
    pairs = [
        pair
        for pair in combinations([*wrongs, everywhere], 2)
        if not pair[0].fields.keys() & pair[1].fields.keys() and not (pair[0].setup and pair[1].setup)
    ]
    assert pairs
    for first, second in pairs:
        expected = min((first, second), key=lambda one: one.rank).status
        got = outcome(host, data, {"op": name, **right}, (first, second))
        assert got == expected, f"{first} and {second} gave {got}"


def test_of_several_frames_the_first_bad_one_decides(host: Host) -> None:
    """A 2 MiB map runs into H-SVM's region; a frame that somebody owns may come before it."""
    fields = {"vm": host.a, "gpn": ALIGNED_EMPTY, "mfn": FRAMES - 512, "perm": "rw", "size": 512}
    data = host.machine.snapshot()
    assert host.restored(data).status("page_map", **fields) == "E_PROT"
    fresh = host.restored(data)
    fresh.do("claim", mfn=FRAMES - 500)
    assert fresh.status("page_map", **fields) == "E_OWNER"


def test_the_first_bad_page_in_address_order_decides(host: Host) -> None:
    """A write that runs from a read-only page into an absent one is F_PERMISSION, the other way F_NOT_PRESENT."""
    over = {"core": 0, "data": "00" * 32}
    assert host.status("guest_write", gpa=(READ_ONLY << 12) - 16, **over) == "F_NOT_PRESENT"  # page 6 is unfinished
    assert host.status("guest_write", gpa=((BORROWED_TOO + 1) << 12) - 16, **over) == "F_PERMISSION"
