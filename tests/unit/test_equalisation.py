"""Histogram equalisation of whole images."""

import numpy as np
import pytest

from shared.imaging.equalisation import Equalisation
from shared.imaging.tiling import Pixels


def draw_image(height: int = 20, width: int = 30, channels: int = 3) -> Pixels:
    """Dark values with a long tail, each channel with its own spread."""
    generator = np.random.default_rng(0)
    spread = 10 * (1 + np.arange(channels))
    return np.clip(generator.exponential(spread, (height, width, channels)), 0, 255).astype(np.uint8)


def test_a_value_becomes_the_share_of_pixels_no_brighter_than_it() -> None:
    image = np.array([[[0], [0], [10], [200]]], np.uint8)
    equalised = Equalisation.of([image]).apply(image)
    np.testing.assert_array_equal(equalised.ravel(), [128, 128, 191, 255])  # 255 · (2, 2, 3, 4) / 4


def test_the_values_of_an_equalised_image_are_spread_evenly() -> None:
    image = draw_image(200, 200)
    equalised = Equalisation.of([image]).apply(image)
    share_below_half = (equalised <= 127).mean(axis=(0, 1))
    assert (image <= 127).mean() > 0.95
    np.testing.assert_allclose(share_below_half, 0.5, atol=0.05)


def test_an_image_in_parts_is_equalised_as_the_whole_one() -> None:
    image = draw_image()
    whole = Equalisation.of([image])
    parts = [image[:7], image[7:, :11], image[7:, 11:]]
    np.testing.assert_array_equal(Equalisation.of(parts).table, whole.table)
    np.testing.assert_array_equal(whole.apply(image[3:9, 4:8]), whole.apply(image)[3:9, 4:8])


def test_each_channel_is_equalised_for_itself() -> None:
    image = draw_image()
    equalisation = Equalisation.of([image])
    assert equalisation.table.shape == (3, 256)
    for channel in range(3):
        alone = image[:, :, channel : channel + 1]
        np.testing.assert_array_equal(
            equalisation.apply(image)[:, :, channel : channel + 1], Equalisation.of([alone]).apply(alone)
        )


def test_the_order_of_brightness_is_kept() -> None:
    table = Equalisation.of([draw_image()]).table.astype(int)
    assert (np.diff(table, axis=1) >= 0).all()


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_constant_channel_stays_as_it_is(value: int) -> None:
    image = draw_image()
    image[:, :, 1] = value
    equalised = Equalisation.of([image]).apply(image)
    assert (equalised[:, :, 1] == value).all()
    assert (equalised[:, :, 0] != image[:, :, 0]).any()


def test_the_image_itself_is_not_changed() -> None:
    image = draw_image()
    before = image.copy()
    Equalisation.of([image]).apply(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("parts", [[], [np.zeros((0, 5, 1), np.uint8)]])
def test_an_image_without_pixels_cannot_be_equalised(parts: list[Pixels]) -> None:
    with pytest.raises(ValueError, match="without pixels"):
        Equalisation.of(parts)
