"""The dominant-owner map against its slow twin, which counts every cell with plain Python."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsvm_engine.core.maps import dominant

Owners = npt.NDArray[np.uint16]


def twin(owners: Owners, width: int, height: int) -> list[list[int]]:
    cells = width * height
    best = []
    for i in range(cells):
        counts = Counter(owners[i * len(owners) // cells : (i + 1) * len(owners) // cells].tolist())
        best.append(min(counts, key=lambda owner: (-counts[owner], owner)))
    return [best[row * width : (row + 1) * width] for row in range(height)]


def in_extents(source: np.random.Generator, frames: int, owners: int) -> Owners:
    """Runs of 1 to 80 frames with single frames of others in between, as real hosts look."""
    lengths = source.integers(1, 81, frames)
    found = np.repeat(source.integers(0, owners, frames), lengths)[:frames].astype(np.uint16)
    found[source.random(frames) < 0.05] = 0
    return found


def scattered(source: np.random.Generator, frames: int, owners: int) -> Owners:
    return source.integers(0, owners, frames).astype(np.uint16)


@pytest.mark.parametrize("make", [in_extents, scattered])
@pytest.mark.parametrize("owners", [2, 3, 40, 65536])
@pytest.mark.parametrize(
    ("frames", "width", "height"),
    [
        (1, 1, 1),
        (256, 16, 16),  # one frame a cell
        (257, 16, 16),  # the last cell has two
        (1000, 9, 7),  # 15 and 16 frames
        (4096, 16, 16),  # 16
        (4099, 16, 15),  # 17 and 18
        (6400, 10, 10),  # 64: the last that masks decide
        (6500, 10, 10),  # 65: the first that is counted
        (65_536, 3, 1),
        (200_003, 1, 2),
    ],
)
def test_each_cell_has_the_owner_of_most_of_its_frames(
    make: Callable[[np.random.Generator, int, int], Owners], owners: int, frames: int, width: int, height: int
) -> None:
    table = make(np.random.default_rng(frames), frames, owners)
    found = dominant(table, width, height)
    assert found.shape == (height, width)
    assert found.dtype == np.uint16
    assert found.tolist() == twin(table, width, height)


@settings(max_examples=150, deadline=None)
@given(
    table=st.lists(st.integers(0, 4), min_size=1, max_size=400),
    width=st.integers(1, 20),
    height=st.integers(1, 20),
)
def test_few_owners_and_many_ties_agree_with_the_twin(table: list[int], width: int, height: int) -> None:
    owners = np.array(table, dtype=np.uint16)
    width, height = min(width, len(table)), min(height, max(1, len(table) // width))
    assert dominant(owners, width, height).tolist() == twin(owners, width, height)


@pytest.mark.parametrize("size", [2, 4, 16, 32, 64, 66, 1024])
def test_a_tie_goes_to_the_lowest_slot_wherever_its_frames_lie(size: int) -> None:
    half = size // 2
    for low, high in ((3, 9), (0, 65535)):
        for cell in (
            [low] * half + [high] * half,
            [high] * half + [low] * half,
            [high, low] * half,
            [low, high] * half,
        ):
            assert dominant(np.array(cell, dtype=np.uint16), 1, 1).tolist() == [[low]]


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 63, 64, 65, 80])
def test_a_neighbour_cell_never_counts(size: int) -> None:
    """The frames beside a cell, and behind the last one, are of another owner that would win."""
    cells = np.repeat(np.array([7, 1, 7, 1, 7], dtype=np.uint16), size)
    behind = np.concatenate([cells, np.full(200, 1, dtype=np.uint16)])
    assert dominant(behind[: 5 * size], 5, 1).tolist() == [[7, 1, 7, 1, 7]]


def test_a_cell_can_hold_every_owner() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert dominant(every, 1, 1).tolist() == [[0]]
    assert dominant(np.append(every[::-1], np.uint16(513)), 1, 1).tolist() == [[513]]
    assert dominant(np.concatenate([every, every]), 2, 1).tolist() == [[0, 0]]  # nothing is left of the cell before


@pytest.mark.parametrize(
    ("width", "height", "named"),
    [(0, 1, "width"), (1, 0, "height"), (-1, 1, "width"), (True, 1, "width"), (1.0, 1, "width"), ("1", 1, "width")]
    + [(1 << 80, 1, "width"), (1 << 28, 1 << 28, "cells"), (11, 1, "cells"), (4, 3, "cells")],
)
def test_a_bad_side_is_named(width: int, height: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dominant(np.zeros(10, dtype=np.uint16), width, height)
