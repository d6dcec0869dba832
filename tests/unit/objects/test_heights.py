"""Heights are distances, and the same in every window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from shared.imaging.objects.foreground import Region
from shared.imaging.objects.heights import UNITS, find_depth, find_heights, heights_reach
from shared.imaging.objects.rules import ObjectRules
from shared.imaging.tiling import Box

SHARP = ObjectRules(0.5, smoothing=0.0)


def region_of(inside: np.ndarray, foreground: np.ndarray | None = None) -> Region:
    return Region((inside if foreground is None else foreground).astype(np.uint8), inside)


def blobs(height: int, width: int, seed: int, size: float) -> np.ndarray:
    noise = np.random.default_rng(seed).random((height, width))
    return np.asarray(ndimage.gaussian_filter(noise, size) > 0.5)


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 999),
    size=st.sampled_from([0.0, 1.0, 3.0, 8.0]),
    farthest=st.integers(1, 20),
    smoothing=st.sampled_from([0.0, 0.4, 0.5, 1.0, 1.7, 2.5]),
    place=st.tuples(st.integers(0, 119), st.integers(0, 149)),
    extent=st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_every_window_has_the_heights_of_the_whole_image(seed, size, farthest, smoothing, place, extent) -> None:
    foreground = blobs(120, 150, seed, size)
    inside = foreground & blobs(120, 150, seed + 1, size)
    rules = ObjectRules(0.5, farthest=farthest, smoothing=smoothing)
    whole = Box(0, 0, 120, 150)
    box = Box(0, 0, *extent).move(*place).intersect(whole)
    window = box.grow(heights_reach(rules)).intersect(whole)
    seen = find_heights(region_of(inside[window.slices()], foreground[window.slices()]), rules)
    np.testing.assert_array_equal(
        seen[box.move(-window.top, -window.left).slices()],
        find_heights(region_of(inside, foreground), rules)[box.slices()],
    )


def test_heights_are_distances_to_the_outline_within_three_percent() -> None:
    inside = blobs(200, 220, 4, 9)
    heights = find_heights(region_of(inside), SHARP)[inside] / UNITS - SHARP.farthest
    expected = np.minimum(ndimage.distance_transform_edt(inside)[inside], SHARP.farthest)
    np.testing.assert_allclose(heights, expected, rtol=0.03)


def test_heights_are_smoothed_by_a_gaussian() -> None:
    inside = blobs(100, 120, 5, 6)
    everywhere = region_of(inside, np.ones_like(inside))
    smooth = find_heights(everywhere, ObjectRules(0.5, smoothing=2.0)).astype(np.float64)
    expected = ndimage.gaussian_filter(
        find_heights(everywhere, SHARP).astype(np.float64), 2.0, mode="nearest", radius=6
    )
    np.testing.assert_allclose(smooth, expected, atol=0.02 * UNITS)


def test_the_image_s_border_is_no_outline() -> None:
    inside = np.zeros((21, 30), dtype=bool)
    inside[5:16] = True
    heights = find_heights(region_of(inside), ObjectRules(0.5))
    np.testing.assert_array_equal(heights, heights[:, :1].repeat(30, axis=1))


def test_what_is_not_inside_climbs_towards_it() -> None:
    inside = np.zeros((1, 9), dtype=bool)
    inside[0, :3] = True
    heights = find_heights(region_of(inside, np.ones_like(inside)), SHARP)
    assert (np.diff(heights[0].astype(int)) < 0).all()


def test_only_background_has_no_height() -> None:
    foreground = blobs(60, 60, 6, 2)
    heights = find_heights(region_of(np.zeros_like(foreground), foreground), ObjectRules(0.5))
    np.testing.assert_array_equal(heights > 0, foreground)


@pytest.mark.parametrize("farthest", [3, 10])
def test_what_lies_deeper_counts_as_deep(farthest: int) -> None:
    inside = np.zeros((61, 61), dtype=bool)
    inside[1:60, 1:60] = True
    heights = find_heights(region_of(inside), ObjectRules(0.5, smoothing=0.0, farthest=farthest))
    assert heights.max() == 2 * farthest * UNITS


def test_even_without_a_depth_plateaus_stay_whole() -> None:
    assert find_depth(ObjectRules(0.5, depth=0.0)).least == 1
