"""Which pixels of a large image tell its colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.imaging.sampling import SIDE, find_stretches, read_sample
from shared.imaging.tiling import Box, Pixels

LENGTH = st.one_of(st.integers(1, SIDE), st.integers(SIDE + 1, 10_000_000))


@given(length=LENGTH)
def test_stretches_lie_inside_apart_and_in_order(length: int) -> None:
    edges = np.ravel(find_stretches(length))
    assert (edges[0] >= 0, edges[-1] <= length) == (True, True)
    assert (np.diff(edges)[::2] > 0).all()  # none is empty
    assert (np.diff(edges)[1::2] >= 0).all()  # none begins before the last one ends


@given(length=LENGTH)
def test_a_sample_never_has_more_than_its_side(length: int) -> None:
    assert sum(last - first for first, last in find_stretches(length)) == min(length, SIDE)


def test_no_place_is_further_from_a_stretch_than_a_thirtysecond_of_the_axis() -> None:
    edges = np.ravel([(0, 0), *find_stretches(100_000), (100_000, 100_000)])
    assert np.diff(edges).max() <= 100_000 / 32


def test_a_small_image_is_its_own_sample() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(read_sample(lambda box: image[box.slices()], SIDE, 7), image)


@pytest.mark.parametrize("file_tile", [(1, 1), (256, 256), (1, 3000), (2100, 3000)])
def test_how_the_file_is_cut_does_not_change_the_sample(file_tile: tuple[int, int]) -> None:
    rows, columns = np.ogrid[:2100, :3000]
    image = ((rows * 31 + columns * 17) % 256).astype(np.uint8)[:, :, None]
    expected = read_sample(lambda box: image[box.slices()], 2100, 3000)
    assert expected.shape == (SIDE, SIDE, 1)
    sample = read_sample(lambda box: image[box.slices()], 2100, 3000, file_tile=file_tile)
    np.testing.assert_array_equal(sample, expected)


def test_file_tiles_as_wide_as_the_image_are_decoded_once_for_all_patches_beside_each_other() -> None:
    asked: list[Box] = []

    def read(box: Box) -> Pixels:
        asked.append(box)
        return np.zeros((box.height, box.width, 3), np.uint8)

    read_sample(read, 40_000, 50_000, file_tile=(16, 50_000))
    assert len(asked) == 32
    asked.clear()
    read_sample(read, 40_000, 50_000, file_tile=(256, 256))
    assert sum(box.height * box.width for box in asked) == SIDE**2
