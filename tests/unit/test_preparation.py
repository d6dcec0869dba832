"""What happens to a whole image before tiles are cut: the same in training and in segmenting."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.samples import prepare
from shared.imaging.normalisation import to_channels
from shared.imaging.preparation import Preparation
from shared.imaging.tiling import Pixels
from shared.schemas.training import PreparationIn


def draw_rgb(height: int, width: int, seed: int = 0) -> Pixels:
    """Dark values with a long tail, each channel with its own spread."""
    drawn = np.random.default_rng(seed).exponential([10, 20, 30], (height, width, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    step=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    equalise=st.booleans(),
    invert=st.booleans(),
    seed=st.integers(0, 99),
)
def test_strips_are_prepared_as_the_whole_image_was_in_training(
    size: tuple[int, int], step: int, channels: int, equalise: bool, invert: bool, seed: int
) -> None:
    rgb = draw_rgb(*size, seed=seed)
    expected = prepare(to_channels(rgb, channels), PreparationIn(equalise=equalise, invert=invert))

    def strips() -> Iterator[Pixels]:
        return (to_channels(rgb[top : top + step], channels) for top in range(0, size[0], step))

    preparation = Preparation.of(strips(), equalise=equalise, invert=invert)
    prepared = np.concatenate([preparation.apply(strip) for strip in strips()])
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, expected)


def test_an_image_is_equalised_before_it_is_inverted() -> None:
    image = np.array([[[0], [0], [10], [200]]], np.uint8)
    prepared = Preparation.of([image], equalise=True, invert=True).apply(image)
    np.testing.assert_array_equal(prepared.ravel(), [127, 127, 64, 0])  # 255 − 255 · (2, 2, 3, 4) / 4


def test_where_nothing_is_asked_nothing_is_copied() -> None:
    image = draw_rgb(5, 6)
    assert Preparation.of([image], equalise=False, invert=False).apply(image) is image


def test_inverting_does_not_need_to_see_the_image_first() -> None:
    def unread() -> Iterator[Pixels]:
        pytest.fail("the image was read")
        yield

    image = draw_rgb(5, 6)
    inverted = Preparation.of(unread(), equalise=False, invert=True).apply(image)
    np.testing.assert_array_equal(inverted.astype(int) + image, 255)
