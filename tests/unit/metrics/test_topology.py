"""Errors that change what is connected with what."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage
from skimage.measure import euler_number

from shared.imaging.metrics.clustering import pixel_error
from shared.imaging.metrics.topology import Connectivity, find_simple, warp, warping_error

SHAPES = arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays.arrays(bool, shape), arrays.arrays(bool, shape)))
CONNECTIVITY = st.sampled_from([4, 8])


def _draw_cells() -> np.ndarray:
    """Two cells of 9 × 4 px, one pixel of border around and between them."""
    cells = np.zeros((11, 11), dtype=bool)
    cells[1:10, 1:5] = cells[1:10, 6:10] = True
    return cells


def _count_objects_and_holes(mask: np.ndarray, connectivity: Connectivity) -> tuple[int, int]:
    structure = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    objects = ndimage.label(mask, structure=structure)[1]
    return objects, objects - euler_number(mask, connectivity=1 if connectivity == 4 else 2)


@settings(deadline=None)
@given(pair=PAIRS, connectivity=CONNECTIVITY)
def test_warping_keeps_every_object_and_every_hole(
    pair: tuple[np.ndarray, np.ndarray], connectivity: Connectivity
) -> None:
    truth, found = pair
    warped = warp(truth, found, connectivity=connectivity)
    framed, expected = np.pad(warped, 1), np.pad(truth, 1)  # outside is background
    assert _count_objects_and_holes(framed, connectivity) == _count_objects_and_holes(expected, connectivity)


@settings(deadline=None)
@given(pair=PAIRS, connectivity=CONNECTIVITY)
def test_warping_only_approaches_and_ends_where_nothing_more_can_be_flipped(
    pair: tuple[np.ndarray, np.ndarray], connectivity: Connectivity
) -> None:
    truth, found = pair
    warped = warp(truth, found, connectivity=connectivity)
    assert not (warped != truth)[truth == found].any()
    np.testing.assert_array_equal(warp(warped, found, connectivity=connectivity), warped)
    assert 0 <= warping_error(truth, found, connectivity=connectivity) <= pixel_error(truth, found)


def test_a_shifted_outline_costs_nothing() -> None:
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 30) ** 2 + (columns - 30) ** 2 < 15**2
    ring = disc & ((rows - 30) ** 2 + (columns - 30) ** 2 > 8**2)
    for truth, found in [(disc, np.roll(disc, (4, 5), (0, 1))), (ring, np.roll(ring, 2, 0)), (disc, disc[::-1, ::-1])]:
        assert pixel_error(truth, found) > 0
        assert warping_error(truth, found) == 0


def test_a_split_costs_the_thickness_of_the_false_border_not_its_length() -> None:
    whole = np.zeros((11, 11), dtype=bool)
    whole[1:10, 1:10] = True
    for width in (1, 2, 3):
        found = whole.copy()
        found[:, 4 : 4 + width] = False
        assert pixel_error(whole, found) * 121 == pytest.approx(9 * width)
        assert warping_error(whole, found) * 121 == pytest.approx(width)


def test_a_merger_costs_the_gap_in_the_border() -> None:
    truth = _draw_cells()
    found = truth.copy()
    found[4:7, 5] = True
    assert warping_error(truth, found) * 121 == pytest.approx(3)


def test_a_lost_object_costs_one_pixel_an_invented_one_its_area_and_so_do_holes() -> None:
    both = _draw_cells()
    one = both.copy()
    one[:, 6:] = False
    assert warping_error(both, one) * 121 == pytest.approx(1)
    assert warping_error(one, both) * 121 == pytest.approx(36)
    holed = both.copy()
    holed[3:6, 2:4] = False
    assert warping_error(holed, both) * 121 == pytest.approx(1)
    assert warping_error(both, holed) * 121 == pytest.approx(6)


def test_where_the_mask_is_unset_nothing_moves_and_differences_count() -> None:
    truth = _draw_cells()
    found = np.roll(truth, 1, axis=0)
    assert warping_error(truth, found) == 0
    assert warping_error(truth, found, mask=np.zeros_like(truth)) == pixel_error(truth, found)
    left = np.zeros_like(truth)
    left[:, :5] = True
    assert warping_error(truth, found, mask=left) == pixel_error(truth[:, 5:], found[:, 5:]) * 6 / 11


def test_the_tables_of_both_connectivities_mirror_each_other_and_hold_as_many_as_there_are() -> None:
    four, eight = find_simple(4), find_simple(8)
    np.testing.assert_array_equal(four, eight[::-1])  # exchange foreground and background
    assert (four.sum(), eight.sum()) == (116, 116)  # of 256, a known number
    assert not four[0b00010010]  # above and right, but not between: two 4-components
    assert eight[0b00010010]
    assert not four[0]
    assert not four[255]


@pytest.mark.parametrize(("truth", "found", "error"), [(0, 0, 0), (0, 1, 1), (1, 1, 0)])
def test_empty_and_full_images_have_an_error(truth: int, found: int, error: float) -> None:
    shape = (6, 7)
    assert warping_error(np.full(shape, truth, dtype=bool), np.full(shape, found, dtype=bool)) == error


def test_against_an_empty_prediction_one_pixel_of_each_object_remains() -> None:
    truth = _draw_cells()
    assert warping_error(truth, np.zeros_like(truth)) * 121 == pytest.approx(2)
    nothing = np.zeros((0, 3), dtype=bool)
    assert warping_error(nothing, nothing) == 0


def test_what_is_no_mask_is_refused() -> None:
    mask = np.zeros((2, 2), dtype=bool)
    with pytest.raises(ValueError, match="not of one shape"):
        warp(mask, mask[:1])
    with pytest.raises(ValueError, match="masks are bool"):
        warp(mask, mask.astype(np.uint8))


def test_a_large_image_takes_no_longer_than_it_may() -> None:
    one, full = np.zeros((512, 512), dtype=bool), np.ones((512, 512), dtype=bool)
    one[255, 0] = True
    start = time.process_time()
    assert warping_error(one, full) == 0  # every pixel flips: the most there is to do
    assert time.process_time() - start < 3
