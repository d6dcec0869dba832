"""From probabilities to classes and outlines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shared.imaging.masks import close_box, close_mask, disc, find_classes
from shared.imaging.tiling import plan_blocks

CLASSES = arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


@pytest.mark.parametrize(
    ("threshold", "first"), [(0.0, 0), (1 / 255, 1), (0.2, 51), (0.5, 128), (0.6, 153), (0.999, 255), (1.0, 255)]
)
def test_a_pixel_is_foreground_from_the_threshold_on(threshold: float, first: int) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    classes = find_classes(levels, threshold=threshold)
    assert (classes.shape, classes.dtype.name) == ((16, 16), "uint8")
    np.testing.assert_array_equal(classes.ravel(), np.arange(256) >= first)


@settings(deadline=None)
@given(level=st.integers(0, 255))
def test_a_stored_probability_reaches_itself(level: int) -> None:
    assert find_classes(np.full((1, 1, 1), level, dtype=np.uint8), threshold=level / 255).item() == 1


def test_of_several_classes_the_most_probable_wins_and_the_first_of_equals() -> None:
    planes = np.array([[[90, 80, 0]], [[80, 80, 0]], [[85, 95, 1]]], dtype=np.uint8)
    for threshold in (0.0, 0.5, 1.0):
        assert find_classes(planes, threshold=threshold).tolist() == [[0, 2, 2]]
    assert find_classes(planes[:2], threshold=0.5).tolist() == [[0, 0, 0]]


def test_as_many_classes_as_a_byte_can_count() -> None:
    planes = np.zeros((256, 1, 1), dtype=np.uint8)
    planes[255] = 1
    assert find_classes(planes, threshold=0.5).item() == 255


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Two classes on background, from a few pixels to a crowd: discs fit into the gaps, or do not."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 12)))
    share, generator = draw(st.sampled_from([0.05, 0.15, 0.4])), np.random.default_rng(draw(st.integers(0, 10_000)))
    return (generator.integers(1, 3, shape) * (generator.random(shape) < share)).astype(np.uint8)


@settings(max_examples=200)
@given(classes=masks(), radius=st.integers(0, 4), side=st.integers(1, 20))
def test_a_mask_in_blocks_of_any_size_is_closed_as_the_whole(classes: np.ndarray, radius: int, side: int) -> None:
    closed, (height, width) = np.full_like(classes, 255), classes.shape
    for block in plan_blocks(height, width, side=side):
        part = close_box(lambda box: classes[box.slices()], block, radius, height=height, width=width)
        closed[block.slices()] = part
    np.testing.assert_array_equal(closed, close_mask(classes, radius))


@given(classes=masks(), radius=st.integers(1, 4))
def test_closing_fills_what_no_disc_fits_into_and_takes_nothing_away(classes: np.ndarray, radius: int) -> None:
    """A background pixel stays exactly if some disc around it, whole and on the mirrored image, holds no class."""
    one = np.minimum(classes, 1)
    rows, columns = one.shape
    margin = 2 * radius
    seen = np.pad(one, margin, mode="symmetric")
    shape = disc(radius)
    expected = one.copy()
    for row, column in np.argwhere(one == 0):
        fits = any(
            not seen[margin + row + down - radius :, margin + column + across - radius :][
                : 2 * radius + 1, : 2 * radius + 1
            ][shape].any()
            for down, across in np.argwhere(shape) - radius
        )
        expected[row, column] = not fits
    np.testing.assert_array_equal(close_mask(one, radius), expected)
    assert (close_mask(classes, radius)[classes > 0] == classes[classes > 0]).all()
    assert (rows, columns) == close_mask(classes, radius).shape


def test_a_gap_goes_to_the_highest_class_that_closes_it() -> None:
    classes = np.zeros((9, 9), dtype=np.uint8)
    classes[:, 3], classes[:, 5] = 1, 1
    classes[3, :], classes[5, :] = 2, 2
    closed = close_mask(classes, 1)
    assert closed[4, 4] == 2
    assert closed[0, 4] == 1
    assert closed[4, 0] == 2
    assert closed[0, 0] == 0


def test_a_radius_of_0_changes_nothing() -> None:
    classes = np.random.default_rng(0).integers(0, 3, (20, 7), dtype=np.uint8)
    np.testing.assert_array_equal(close_mask(classes, 0), classes)


def test_of_background_and_foreground_the_threshold_decides() -> None:
    planes = np.array([[[155, 100, 127, 128]], [[100, 155, 128, 127]]], dtype=np.uint8)  # (2, 1, 4): a softmax
    assert find_classes(planes, threshold=0.5).tolist() == [[0, 1, 1, 0]] == [planes.argmax(axis=0)[0].tolist()]
    assert find_classes(planes, threshold=0.3).tolist() == [[1, 1, 1, 1]]
