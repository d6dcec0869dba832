"""Levels of an image: sizes, and what a pixel of one stands for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.worker.writers.pyramid import (
    TILE,
    Labels,
    LevelTiles,
    count_levels,
    find_size,
    halve_labels,
    halve_means,
    scale_down,
)
from shared.imaging.tiling import Box, Pixels, plan_blocks
from tests.unit.writers_pixels.drawn import LENGTHS, draw_blobs

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


@pytest.mark.parametrize(
    ("height", "width", "levels"), [(1, 1, 1), (512, 512, 1), (513, 1, 2), (100, 2049, 4), (45_000, 45_000, 8)]
)
def test_the_last_level_is_the_first_that_is_seen_at_a_glance(height: int, width: int, levels: int) -> None:
    assert count_levels(height, width) == levels


@given(height=st.integers(1, 10**6), level=st.integers(0, 12))
def test_a_level_has_a_pixel_for_the_last_row_even_if_it_is_odd(height: int, level: int) -> None:
    expected = height
    for _ in range(level):
        expected = (expected + 1) // 2
    assert find_size(height, 1, level=level) == (expected, 1)


@settings(deadline=None)
@given(arrays.arrays(np.uint8, SHAPES))
def test_a_pixel_is_the_rounded_mean_of_those_that_are_there(plane: Pixels) -> None:
    halved = halve_means(plane[None])[0]
    rows, columns = halved.shape
    for row in range(rows):
        for column in range(columns):
            mean = plane[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
            assert halved[row, column] == int(mean + 0.5)


@given(
    arrays.arrays(np.uint32, st.tuples(st.sampled_from([2, 4]), st.sampled_from([2, 4])), elements=st.integers(0, 3))
)
def test_a_label_is_that_of_most_pixels_and_background_only_of_three(labels: Labels) -> None:
    halved = halve_labels(labels)
    for row, column in np.ndindex(halved.shape):
        four = labels[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel().tolist()
        found = [label for label in four if label]
        expected = max(found, key=found.count) if len(found) >= 2 else 0  # of equals, max takes the first
        assert halved[row, column] == expected


def test_a_line_of_one_pixel_stays_a_line_whatever_row_it_lies_in() -> None:
    for row in range(8):
        labels = np.zeros((8, 8), dtype=np.uint32)
        labels[row] = 5
        assert (halve_labels(halve_labels(labels)) == 5).any(axis=0).all()


def test_gaps_between_objects_stay_open() -> None:
    labels = np.zeros((16, 16), dtype=np.uint32)
    labels[:, :5], labels[:, 8:] = 1, 2
    assert halve_labels(labels)[0].tolist() == [1, 1, 1, 0, 2, 2, 2, 2]


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), half=st.integers(1, 20), seed=st.integers(0, 9))
def test_blocks_halved_alone_make_the_whole_halved(height: int, width: int, half: int, seed: int) -> None:
    labels = draw_blobs(height, width, seed)
    halved = np.empty(find_size(height, width, level=1), dtype=np.uint32)
    for block in plan_blocks(height, width, side=2 * half):
        halved[scale_down(block, 1).slices()] = halve_labels(labels[block.slices()])
    np.testing.assert_array_equal(halved, halve_labels(labels))


@settings(max_examples=10, deadline=None)
@given(data=st.data(), height=LENGTHS, width=LENGTHS, side=st.integers(300, 1500))
def test_squares_are_complete_in_any_order_of_any_blocks(
    data: st.DataObject, height: int, width: int, side: int
) -> None:
    labels, count = draw_blobs(height, width), count_levels(height, width)
    levels = [labels]
    for _ in range(count - 1):
        levels.append(halve_labels(levels[-1]))
    tiles = LevelTiles(size=(height, width), levels=range(count), halve=halve_labels)
    found: dict[tuple[int, int, int], Labels] = {}
    for block in data.draw(st.permutations(list(plan_blocks(height, width, side=side)))):
        found |= {(tile.level, tile.row, tile.column): tile.pixels for tile in tiles.add(block, labels[block.slices()])}
    assert not list(tiles.finish())
    expected = {
        (level, place.top // TILE, place.left // TILE): pixels[place.slices()]
        for level, pixels in enumerate(levels)
        for place in plan_blocks(*pixels.shape, side=TILE)
    }
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[key], expected[key]) for key in expected)


def test_what_no_block_gave_is_background() -> None:
    tiles = LevelTiles(size=(1024, 1024), levels=range(2), halve=halve_labels)
    (alone,) = tiles.add(Box(0, 0, 512, 512), np.full((512, 512), 3, dtype=np.uint32))
    (above,) = tiles.finish()
    assert (alone.level, above.level) == (0, 1)
    assert (above.pixels[:256, :256] == 3).all()
    assert above.pixels.sum() == 3 * 256 * 256


def test_nothing_is_held_that_is_complete() -> None:
    tiles = LevelTiles(size=(512, 10_240), levels=range(1), halve=halve_labels)
    for left in range(0, 10_240, 512):
        assert len(list(tiles.add(Box(0, left, 512, left + 512), np.ones((512, 512), dtype=np.uint32)))) == 1
    assert not list(tiles.finish())
