"""The wire: bytes come back as they were, deltas lead where keyframes lead, a tenant's frames tell of nobody else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsvm_engine.step import WAY, Step
from hsvm_engine.wire import (
    OTHER,
    Change,
    State,
    Visible,
    WireError,
    counters,
    decode,
    encode,
    map_delta,
    map_keyframe,
    tlb_delta,
    tlb_keyframe,
)
from tests.engine.wirecases import FRAMES, GEOMETRY, read_map, state, step, vm, way, ways
from tests.golden.regenerate import FOLDER, golden

A, B, C = vm(3, "a-db"), vm(4, "b-web"), vm(5, "c-mail")
OWN = frozenset({4})


def same(one: Step, other: Step) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


def test_a_step_comes_back_as_it_was_encoded() -> None:
    event = {
        "number": 1,
        "op": 5,
        "kind": "drill",
        "vm": "a-db",
        "slot": 3,
        "title": "Ü",
        "detail": {"inputs": {"n": 1}},
    }
    sent = step(8, [A, B], {20: 3, 21: 0, 40: 4}, ways(way(3, 3), way(9, 4, state=1)), events=[event])
    assert same(decode(encode(sent)), sent)
    assert encode(sent) == encode(decode(encode(sent)))


def test_damaged_steps_are_refused() -> None:
    sent = encode(step(8, [A], {20: 3}))
    for at in range(len(sent)):
        if at in (6, 7):  # reserved
            continue
        with pytest.raises(WireError):
            decode(sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :])
    for length in range(len(sent)):
        with pytest.raises(WireError):
            decode(sent[:length])
    with pytest.raises(WireError, match="something else"):
        State.from_bytes(sent)


def test_a_state_comes_back_as_it_was_saved() -> None:
    saved = state([A, B], {20: 3, 40: 4}, way(3, 3))
    again = State.from_bytes(saved.to_bytes())
    assert again.to_bytes() == saved.to_bytes()
    again.apply(step(8, [A, B], {20: 0}))  # a loaded state can go on
    assert again.owners[20] == 0


def test_a_step_that_does_not_follow_changes_nothing() -> None:
    known = state([A], {20: 3})
    before = known.to_bytes()
    for number in (6, 7, 9):
        with pytest.raises(ValueError, match="does not follow"):
            known.apply(step(number, [A], {21: 3}))
    with pytest.raises(ValueError, match="does not have"):
        known.apply(step(8, [A], {FRAMES: 3}))
    with pytest.raises(ValueError, match="do not have"):
        known.apply(step(8, [A], {}, ways(way(GEOMETRY.total, 3))))
    assert known.to_bytes() == before


def test_a_map_shows_every_owner_to_the_operator_and_one_grey_beside_their_own_to_tenants() -> None:
    known = state([A, B], {20: 3, 40: 4, 41: 4})
    full, own = read_map(map_keyframe(known, 1)), read_map(map_keyframe(known, 1, OWN))
    assert (full["cells"][20], full["cells"][40]) == (3, 4)
    assert [row["name"] for row in full["owners"]] == ["free", "hypervisor", "hsvm", "a-db", "b-web"]
    assert set(own["cells"]) == {3, OTHER}
    assert [i for i, byte in enumerate(own["cells"]) if byte == 3] == [40, 41]
    assert own["owners"] == [
        {"byte": 3, "owner": "vm:b-web", "name": "b-web", "letter": "A"},
        {"byte": OTHER, "owner": "other", "name": "other", "letter": ""},
    ]


def test_a_new_owner_needs_a_keyframe_but_only_in_views_that_may_know_it() -> None:
    known = state([A, B], {20: 3, 40: 4})
    change = known.apply(step(8, [A, B, C], {30: 5}))
    assert map_delta(known, 1, change) is None
    assert map_delta(known, 1, change, frozenset({5})) is None
    unseen = map_delta(known, 1, change, OWN)
    assert unseen is not None
    assert read_map(unseen)["rows"] == []


def test_a_way_that_another_vm_took_is_empty_for_a_tenant() -> None:
    known = state([A, B], {}, way(2, 4), way(3, 3))
    change = known.apply(step(8, [A, B], {}, ways(way(2, 3), way(3, 3, vpn=0x99))))
    assert json.loads(tlb_delta(known, 1, change, OWN))["data"]["entries"] == [[2]]
    full = json.loads(tlb_delta(known, 1, change))["data"]["entries"]
    assert full == [[2, "0x10", 3, 1, "rw", 5, "ok", 2, 20], [3, "0x99", 3, 1, "rw", 5, "ok", 2, 20]]


def test_violations_reach_the_owner_of_the_frame_and_the_operator() -> None:
    known = state([A, B], {20: 3, 40: 4})
    change = known.apply(step(8, [A, B], {}, violations=np.array([20, 40], np.uint32)))
    assert read_map(map_keyframe(known, 1))["violations"] == [20, 40]
    assert read_map(map_keyframe(known, 1, OWN))["violations"] == [40]
    delta = map_delta(known, 1, change, OWN)
    assert delta is not None
    assert read_map(delta)["violations"] == [40]


def test_counters_add_up_in_each_view() -> None:
    known = state([A, B], {20: 3, 40: 4, 41: 4})
    full = json.loads(counters(known, 1))["data"]
    assert full["owners"] == {"free": 45, "hypervisor": 8, "hsvm": 8, "a-db": 1, "b-web": 2}
    assert full["references"] == sum(row["references"] for row in full["vms"])
    own = json.loads(counters(known, 1, OWN))["data"]
    assert own["owners"] == {"b-web": 2, "other": 62}
    assert [row["letter"] for row in own["vms"]] == ["A"]
    assert own["references"] == own["op"] == own["vms"][0]["references"]


# --- what holds for all runs ---

SLOTS = st.sampled_from([0, 1, 3, 4, 5])
STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(8, FRAMES - 9), SLOTS, max_size=12),
        st.dictionaries(st.integers(0, GEOMETRY.total - 1), SLOTS, max_size=6),
    ),
    min_size=1,
    max_size=6,
)


def steps_of(drawn: list[tuple[dict[int, int], dict[int, int]]], vms: list[dict[str, Any]]) -> list[Step]:
    empty = (0,) * (len(WAY.names or ()) - 1)
    return [
        step(
            8 + i,
            vms,
            frames,
            ways(*(way(index, slot, vpn=i // 2) if slot > 2 else (index, *empty) for index, slot in filled.items())),
        )
        for i, (frames, filled) in enumerate(drawn)
    ]


@settings(max_examples=60, deadline=None)
@given(drawn=STEPS, visible=st.sampled_from([None, frozenset({4}), frozenset({3, 5})]))
def test_a_merged_delta_leads_to_the_keyframe_of_the_last_step(
    drawn: list[tuple[dict[int, int], dict[int, int]]], visible: Visible
) -> None:
    known = state([A, B, C], {20: 3, 40: 4, 30: 5}, way(1, 4))
    cells = read_map(map_keyframe(known, 1, visible))["cells"]
    entries = {row[0]: row for row in json.loads(tlb_keyframe(known, 1, visible))["data"]["entries"]}
    merged: Change | None = None
    for each in steps_of(drawn, [A, B, C]):
        change = known.apply(decode(encode(each)))
        merged = change if merged is None else merged.then(change)
    assert merged is not None
    delta = map_delta(known, 1, merged, visible)
    assert delta is not None
    shown = read_map(delta)
    assert (shown["base"], shown["seq"]) == (7, 7 + len(drawn))
    for mfn, byte in shown["rows"]:
        assert cells[mfn] != byte
        cells[mfn] = byte
    assert cells == read_map(map_keyframe(known, 1, visible))["cells"]
    for row in json.loads(tlb_delta(known, 1, merged, visible))["data"]["entries"]:
        if len(row) == 1:
            entries.pop(row[0], None)
        else:
            entries[row[0]] = row
    assert sorted(entries.values()) == json.loads(tlb_keyframe(known, 1, visible))["data"]["entries"]


@settings(max_examples=60, deadline=None)
@given(drawn=STEPS)
def test_a_tenant_cannot_tell_who_else_is_there(drawn: list[tuple[dict[int, int], dict[int, int]]]) -> None:
    """Two runs with the same VM 4 and all else different give its owner the same frames, byte for byte."""

    def frames_of(vms: list[dict[str, Any]], keep: bool) -> list[object]:
        def others(slots: dict[int, int]) -> dict[int, int]:
            return {key: slot if slot == 4 or keep else 0 for key, slot in slots.items()}

        known = state(vms, {40: 4, **({20: 3, 21: 3, 30: 5} if keep else {})}, way(1, 4))
        known.op += 0 if keep else 17
        seen: list[object] = [map_keyframe(known, 1, OWN), tlb_keyframe(known, 1, OWN), counters(known, 1, OWN)]
        for each in steps_of([(others(frames), others(filled)) for frames, filled in drawn], vms):
            each.tlb["age"] = 9 if keep else 1  # ages tell of evictions by others
            change = known.apply(each)
            seen += [map_delta(known, 1, change, OWN), tlb_delta(known, 1, change, OWN), counters(known, 1, OWN)]
        return seen

    alone = {**B, "letter": "Z", "byte": 77, "handle": 99}
    assert frames_of([A, B, C], keep=True) == frames_of([alone], keep=False)


# --- golden bytes, read by vitest too ---


@pytest.mark.parametrize("name", sorted(golden()))
def test_the_golden_bytes_are_what_the_wire_makes(name: str) -> None:
    kept, made = (FOLDER / name).read_bytes(), golden()[name]
    if name.endswith("keyframe.bin") or name == "map_tenant.bin":  # another zlib may pack the same cells otherwise
        assert read_map(kept) == read_map(made)
    else:
        assert kept == made, "if this is meant: python -m tests.golden.regenerate"


def test_the_golden_maps_say_what_their_twin_in_json_says() -> None:
    expected = json.loads((FOLDER / "maps.expected.json").read_text())
    assert len(expected) == 3
    for name, shown in expected.items():
        assert read_map((Path(FOLDER) / name).read_bytes()) == shown
