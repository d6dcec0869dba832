"""From every pixel to the top, and where basins touch."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from shared.imaging.objects.basins import find_basins
from shared.imaging.objects.heights import Heights
from shared.imaging.objects.merging import OPEN
from shared.imaging.tiling import Box

FRAMED = arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=3, max_side=9), elements=st.integers(0, 4))
BLOCK_TOP, BLOCK_LEFT, WIDTH = 20, 30, 100


def block_of(framed: Heights) -> Box:
    height, width = framed.shape
    return Box(BLOCK_TOP, BLOCK_LEFT, BLOCK_TOP + height - 2, BLOCK_LEFT + width - 2)


def in_block(framed: Heights, row: int, column: int) -> bool:
    height, width = framed.shape
    return row in range(1, height - 1) and column in range(1, width - 1)


def climb(framed: Heights, row: int, column: int) -> tuple[int, int]:
    """Step by step to the top, or to the last pixel within the block."""
    while True:
        around = [(row, column - 1), (row - 1, column), (row, column), (row + 1, column), (row, column + 1)]
        best = max(around, key=lambda place: framed[place])  # the first of equals
        if best == (row, column) or not in_block(framed, *best):
            return row, column
        row, column = best


def foreground_of(framed: Heights) -> list[tuple[int, int]]:
    return [(row, column) for row, column in np.argwhere(framed).tolist() if in_block(framed, row, column)]


@settings(deadline=None)
@given(framed=FRAMED)
def test_pixels_of_a_basin_are_those_that_climb_to_the_same_top(framed: Heights) -> None:
    found = find_basins(framed, block_of(framed), WIDTH, "watershed")
    ends = [climb(framed, row, column) for row, column in foreground_of(framed)]
    order = sorted(set(ends))
    assert found.basins.tolist() == [order.index(end) for end in ends]


@settings(deadline=None)
@given(framed=FRAMED)
def test_of_every_two_basins_that_touch_the_highest_saddle_is_known(framed: Heights) -> None:
    found = find_basins(framed, block_of(framed), WIDTH, "watershed")
    basins = dict(zip(foreground_of(framed), found.basins.tolist(), strict=True))
    expected: dict[tuple[int, int], tuple[int, int]] = {}
    for (row, column), basin in basins.items():
        for is_below, beside in enumerate([(row, column + 1), (row + 1, column)]):
            if basins.get(beside, basin) != basin:
                position = 2 * ((row - 1 + BLOCK_TOP) * WIDTH + column - 1 + BLOCK_LEFT) + is_below
                pair = (min(basin, basins[beside]), max(basin, basins[beside]))
                edge = (-int(min(framed[row, column], framed[beside])), position)
                expected[pair] = min(expected.get(pair, edge), edge)
    edges = found.edges
    pairs = zip(np.minimum(edges.first, edges.second), np.maximum(edges.first, edges.second), strict=True)
    first = dict[tuple[int, int], tuple[int, int]]()
    for pair, saddle, position in zip(pairs, edges.saddles, edges.positions, strict=True):
        first.setdefault((int(pair[0]), int(pair[1])), (-int(saddle), int(position)))
    assert first == expected


@settings(deadline=None)
@given(framed=FRAMED)
def test_a_basin_is_open_from_the_highest_saddle_to_what_lies_beyond(framed: Heights) -> None:
    found = find_basins(framed, block_of(framed), WIDTH, "watershed")
    openings = dict.fromkeys(range(found.tops.size), -1)
    for (row, column), basin in zip(foreground_of(framed), found.basins.tolist(), strict=True):
        around = [(row, column - 1), (row - 1, column), (row, column), (row + 1, column), (row, column + 1)]
        best = max(around, key=lambda place: framed[place])
        for beyond in around:
            if not in_block(framed, *beyond) and framed[beyond]:
                saddle = OPEN if best == beyond else int(min(framed[row, column], framed[beyond]))
                openings[basin] = max(openings[basin], saddle)
    assert found.openings.tolist() == list(openings.values())


def test_components_are_connected_by_four_neighbours() -> None:
    framed = np.zeros((5, 6), dtype=np.uint16)
    framed[1:4, 1:5] = [[0, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]]
    found = find_basins(framed, block_of(framed), WIDTH, "components")
    assert found.basins.tolist() == [0, 1, 0, 0, 2, 2]


def test_a_block_without_foreground_has_no_basins() -> None:
    framed = np.zeros((5, 6), dtype=np.uint16)
    found = find_basins(framed, block_of(framed), WIDTH, "watershed")
    assert (found.basins.size, found.tops.size, len(found.edges)) == (0, 0, 0)
