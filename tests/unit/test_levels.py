"""New values for old in whole images: histogram equalisation, and stretching between percentiles."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.imaging.levels import Histogram, Levels, count_values, find_percentile
from shared.imaging.tiling import Pixels


def draw_image(height: int = 20, width: int = 30, channels: int = 3) -> Pixels:
    """Dark values with a long tail, each channel with its own spread."""
    generator = np.random.default_rng(0)
    spread = 10 * (1 + np.arange(channels))
    return np.clip(generator.exponential(spread, (height, width, channels)), 0, 255).astype(np.uint8)


def equalise(image: Pixels) -> Pixels:
    return Levels.equalising(count_values([image])).apply(image)


def stretch(image: Pixels, low: float, high: float) -> Pixels:
    return Levels.stretching(count_values([image]), low, high).apply(image)


# Histogram


def test_an_image_in_parts_has_the_histogram_of_the_whole_one() -> None:
    image = draw_image()
    parts = [image[:7], image[7:, :11], image[7:, 11:]]
    counted = count_values(parts)
    assert counted.shape == (3, 256)
    np.testing.assert_array_equal(counted, count_values([image]))
    assert counted[1, 5] == (image[:, :, 1] == 5).sum()


@pytest.mark.parametrize("parts", [[], [np.zeros((0, 5, 1), np.uint8)]])
def test_an_image_without_pixels_has_no_histogram(parts: list[Pixels]) -> None:
    with pytest.raises(ValueError, match="without pixels"):
        count_values(parts)


# Equalisation


def test_a_value_becomes_the_share_of_pixels_no_brighter_than_it() -> None:
    image = np.array([[[0], [0], [10], [200]]], np.uint8)
    np.testing.assert_array_equal(equalise(image).ravel(), [128, 128, 191, 255])  # 255 · (2, 2, 3, 4) / 4


def test_the_values_of_an_equalised_image_are_spread_evenly() -> None:
    image = draw_image(200, 200)
    share_below_half = (equalise(image) <= 127).mean(axis=(0, 1))
    assert (image <= 127).mean() > 0.95
    np.testing.assert_allclose(share_below_half, 0.5, atol=0.05)


# Percentiles


@given(
    values=arrays(np.uint8, st.integers(1, 300), elements=st.integers(0, 255)),
    percent=st.one_of(st.integers(0, 100), st.floats(0, 100)),
)
def test_percentiles_are_numpys_of_all_pixels(values: Pixels, percent: float) -> None:
    (histogram,) = count_values([values[:, None, None]])
    assert find_percentile(histogram, percent) == pytest.approx(np.percentile(values, percent), abs=1e-9)


def test_percentiles_of_more_pixels_than_memory_holds_are_exact() -> None:
    histogram = np.zeros(256, dtype=np.int64)
    histogram[[3, 90, 91]] = 10**11, 1, 10**11  # places 0 … 10¹¹ − 1, 10¹¹, and from there on
    assert [find_percentile(histogram, percent) for percent in (0, 49.9999999, 50, 50.0000001, 100)] == [
        3, 3, 90, 91, 91,
    ]  # fmt: skip


@given(low=st.integers(0, 49), high=st.integers(51, 100), seed=st.integers(0, 99))
def test_what_lies_between_the_percentiles_is_spread_over_all_values(low: int, high: int, seed: int) -> None:
    image = np.random.default_rng(seed).integers(20, 200, (30, 20, 1), dtype=np.uint8)
    least, most = np.percentile(image, [low, high])
    expected = np.clip((image.astype(float) - least) / (most - least), 0, 1) * 255
    assert np.abs(stretch(image, low, high) - expected).max() <= 0.5 + 1e-9


def test_each_channel_is_stretched_to_both_ends() -> None:
    stretched = stretch(draw_image(200, 200), 1, 99)
    for channel in range(3):
        assert (stretched[..., channel].min(), stretched[..., channel].max()) == (0, 255)


def test_where_the_percentiles_are_one_value_what_is_rare_is_kept() -> None:
    image = np.full((100, 100, 1), 10, np.uint8)
    image[0, :5] = 60  # 0.05 % of the pixels
    image[0, 5] = 110
    stretched = stretch(image, 1, 99)
    assert [stretched[5, 5, 0], stretched[0, 0, 0], stretched[0, 5, 0]] == [0, 128, 255]


# Both

MAKERS: list[Callable[[Histogram], Levels]] = [Levels.equalising, lambda histogram: Levels.stretching(histogram, 2, 98)]
either_way = pytest.mark.parametrize("make", MAKERS, ids=["equalised", "stretched"])


@either_way
def test_any_part_gets_the_values_of_the_whole(make: Callable[[Histogram], Levels]) -> None:
    image = draw_image()
    levels = make(count_values([image]))
    np.testing.assert_array_equal(levels.apply(image[3:9, 4:8]), levels.apply(image)[3:9, 4:8])


@either_way
def test_each_channel_has_a_table_of_its_own(make: Callable[[Histogram], Levels]) -> None:
    image = draw_image()
    levels = make(count_values([image]))
    assert levels.table.shape == (3, 256)
    for channel in range(3):
        alone = image[:, :, channel : channel + 1]
        np.testing.assert_array_equal(levels.table[channel], make(count_values([alone])).table[0])


@either_way
def test_the_order_of_brightness_is_kept(make: Callable[[Histogram], Levels]) -> None:
    table = make(count_values([draw_image()])).table.astype(int)
    assert (np.diff(table, axis=1) >= 0).all()


@either_way
@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_stays_as_it_is(make: Callable[[Histogram], Levels], value: int) -> None:
    image = draw_image()
    image[:, :, 1] = value
    changed = make(count_values([image])).apply(image)
    assert (changed[:, :, 1] == value).all()
    assert (changed[:, :, 0] != image[:, :, 0]).any()


@either_way
def test_the_image_itself_is_not_changed(make: Callable[[Histogram], Levels]) -> None:
    image = draw_image()
    before = image.copy()
    make(count_values([image])).apply(image)
    np.testing.assert_array_equal(image, before)
