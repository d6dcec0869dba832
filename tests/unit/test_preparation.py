"""What happens to a whole image before tiles are cut: the same in training and in segmenting."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.imaging.drawing import draw_nuclei
from shared.imaging.levels import Levels, count_values
from shared.imaging.normalisation import to_channels
from shared.imaging.preparation import Preparation, prepare, reference_of
from shared.imaging.stain import find_restaining
from shared.imaging.tiling import Pixels
from shared.schemas.preparation import PreparationIn, StainContract

TISSUE, _ = draw_nuclei(70, 60, seed=1, stain="histology")
LEVELS: list[dict[str, Any]] = [{}, {"equalise": True}, {"stretch": (0.5, 98)}]


def draw_rgb(height: int, width: int, seed: int = 0) -> Pixels:
    """Dark values with a long tail, each channel with its own spread."""
    drawn = np.random.default_rng(seed).exponential([10, 20, 30], (height, width, 3))
    return np.clip(drawn, 0, 255).astype(np.uint8)


def unread() -> Iterator[Pixels]:
    pytest.fail("the image was read")
    yield


def unseen() -> Pixels:
    pytest.fail("the image's sample was taken")


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    step=st.integers(1, 40),
    channels=st.sampled_from([1, 3]),
    levels=st.sampled_from(LEVELS),
    invert=st.booleans(),
    seed=st.integers(0, 99),
)
def test_strips_are_prepared_as_the_whole_image_was_in_training(
    size: tuple[int, int], step: int, channels: int, levels: dict[str, Any], invert: bool, seed: int
) -> None:
    rgb, asked = draw_rgb(*size, seed=seed), PreparationIn(invert=invert, **levels)
    expected = prepare(to_channels(rgb, channels), asked)

    def strips() -> Iterator[Pixels]:
        return (to_channels(rgb[top : top + step], channels) for top in range(0, size[0], step))

    preparation = Preparation.of(strips(), asked, look=unseen)
    prepared = np.concatenate([preparation.apply(strip) for strip in strips()])
    assert prepared.dtype == np.uint8
    np.testing.assert_array_equal(prepared, expected)


@given(
    top=st.integers(0, 69),
    left=st.integers(0, 59),
    height=st.integers(1, 70),
    width=st.integers(1, 60),
    levels=st.sampled_from(LEVELS),
    invert=st.booleans(),
)
def test_any_box_of_stained_tissue_prepared_is_that_box_of_the_prepared_image(
    top: int, left: int, height: int, width: int, levels: dict[str, Any], invert: bool
) -> None:
    preparation = Preparation.of(
        [TISSUE[:20], TISSUE[20:]],
        PreparationIn(stain=StainContract(), invert=invert, **levels),
        look=lambda: TISSUE,
    )
    box = slice(top, top + height), slice(left, left + width)
    assert preparation.restaining is not None
    np.testing.assert_array_equal(preparation.apply(TISSUE[box]), preparation.apply(TISSUE)[box])


def test_an_image_is_equalised_before_it_is_inverted() -> None:
    image = np.array([[[0], [0], [10], [200]]], np.uint8)
    prepared = prepare(image, PreparationIn(equalise=True, invert=True))
    np.testing.assert_array_equal(prepared.ravel(), [127, 127, 64, 0])  # 255 − 255 · (2, 2, 3, 4) / 4


def test_an_image_is_restained_before_it_is_stretched() -> None:
    restaining = find_restaining(TISSUE, reference_of(StainContract()))
    assert restaining is not None
    restained = restaining.apply(TISSUE)
    expected = Levels.stretching(count_values([restained]), 1, 99).apply(restained)
    prepared = prepare(TISSUE, PreparationIn(stain=StainContract(), stretch=(1, 99)))
    np.testing.assert_array_equal(prepared, expected)


def test_an_image_without_tissue_is_prepared_as_if_no_stain_were_asked_for() -> None:
    image = draw_rgb(20, 20)
    stained = prepare(image, PreparationIn(stain=StainContract(), stretch=(1, 99)))
    np.testing.assert_array_equal(stained, prepare(image, PreparationIn(stretch=(1, 99))))


def test_where_nothing_is_asked_nothing_is_copied() -> None:
    image = draw_rgb(5, 6)
    assert prepare(image, PreparationIn()) is image


def test_inverting_does_not_need_to_see_the_image_first() -> None:
    image = draw_rgb(5, 6)
    inverted = Preparation.of(unread(), PreparationIn(invert=True), look=unseen).apply(image)
    np.testing.assert_array_equal(inverted.astype(int) + image, 255)


def test_stains_are_found_from_the_sample_without_reading_the_image() -> None:
    preparation = Preparation.of(unread(), PreparationIn(stain=StainContract()), look=lambda: TISSUE)
    assert preparation.restaining == find_restaining(TISSUE, reference_of(StainContract()))
