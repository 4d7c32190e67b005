"""Operations are numbered; what each changed and refused can be asked afterwards."""

from collections.abc import Callable

import numpy as np
import pytest

from hsvm_engine.randomops import RandomOperations, pair

from .conftest import Make, must


@pytest.mark.parametrize("architecture", ["hsvm", "nested"])
def test_dirty_names_every_frame_whose_owner_changed(architecture: str) -> None:
    machine, twin = pair(architecture)
    source = RandomOperations(twin, 3)
    marks = []
    for number in range(2000):
        op = source.next()
        machine.apply(op)
        twin.apply(op)
        if number % 100 == 0:
            marks.append((machine.op, machine.ownership().copy()))
    for since, before in marks:
        changed = np.flatnonzero(machine.ownership() != before)
        dirty = machine.dirty(since)
        assert set(changed) <= set(dirty.tolist())  # a frame that went and came back is dirty too
        assert np.all(np.diff(dirty.astype(np.int64)) > 0)
    assert machine.dirty(machine.op).size == 0


def test_dirty_is_exactly_what_was_touched(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    since = machine.op
    must(machine.hypervisor.balloon(vm=vm, pages=3))
    must(machine.hypervisor.page_unmap(vm=vm, gpn=0))
    must(machine.hypervisor.page_map(vm=vm, gpn=0, mfn=256))
    machine.hypervisor.claim(mfn=0)
    must(machine.hypervisor.page_map(vm=vm, gpn=512, mfn=512, size=512))
    assert machine.dirty(since).tolist() == [256, 269, 270, 271, *range(512, 1024)]


def test_a_journal_that_is_too_short_says_so(make: Make) -> None:
    machine = make()
    machine.hypervisor.claim(mfn=100)
    claim, release = {"op": "claim", "mfn": 200}, {"op": "release", "mfn": 200}
    for _ in range(1 << 17):
        machine.apply(claim)
        machine.apply(release)
    with pytest.raises(ValueError, match="since_op"):
        machine.dirty(0)
    with pytest.raises(ValueError, match="since_op"):
        machine.events(0)
    assert machine.dirty(machine.op - 5).tolist() == [200]
    assert len(machine.events(machine.op - 5)) == 5


def test_an_event_tells_who_was_refused_by_which_check(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    machine.hypervisor.hv_read(mfn=256, offset=0, length=1)
    machine.apply({"op": "sing"})
    must(machine.hypervisor.balloon(vm=vm, pages=2))
    read, sing, balloon = machine.events(machine.op - 3)
    assert (read["kind"], read["status"], read["check"], read["mfn"]) == (
        "hv_read",
        "F_OWNER",
        "hv_access_check",
        256,
    )
    assert (sing["kind"], sing["status"], sing["vm"]) == ("unknown", "E_INPUT", None)
    assert (balloon["vm"], balloon["amount"], balloon["zeroed"]) == (vm, 2, 2)
    assert [event["op"] for event in (read, sing, balloon)] == [machine.op - 2, machine.op - 1, machine.op]


def test_counters_add_up_over_vms_that_come_and_go(make: Make, guest: Callable[..., int]) -> None:
    machine = make()
    vm = guest(machine)
    for page in (0, 1, 0):
        must(machine.guest.guest_read(core=0, gpa=page << 12, length=1))
    machine.guest.guest_read(core=0, gpa=99 << 12, length=1)
    mine = machine.counters()["vms"][0]
    assert (mine["miss"], mine["l1"], mine["faults"], mine["references"]) == (2, 1, 1, 12)
    must(machine.hypervisor.context_save(core=0))
    must(machine.hypervisor.delete_vm(vm=vm))
    total = machine.counters()
    assert (total["accesses"], total["faults"], total["maps"], total["unmaps"], total["vms"]) == (3, 1, 16, 16, [])
    assert sum(total["owners"].values()) == machine.frames
