"""Stain normalisation by Macenko et al. 2009."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.imaging.drawing import draw_nuclei
from shared.imaging.preparation import reference_of
from shared.imaging.stain import LAMP, Restaining, Stains, find_restaining, find_stains
from shared.imaging.tiling import Pixels
from shared.schemas.preparation import StainContract

REFERENCE = reference_of(StainContract())
OTHER = Stains(((0.6, 0.7, 0.2), (0.1, 0.9, 0.3)), (1.2, 0.7))
PURPLE_AND_PINK = np.array([[0.55, 0.76, 0.35], [0.27, 0.83, 0.49]])
BLUE_AND_RED = np.array([[0.72, 0.62, 0.31], [0.29, 0.80, 0.53]])


def draw_amounts(side: int = 128, seed: int = 0) -> NDArray[np.float64]:
    """Amounts (side, side, 2) of two stains: a third of the pixels hold one, a third the other, the rest both."""
    generator = np.random.default_rng(seed)
    amounts = generator.uniform(0.6, 1.6, (side, side, 2))
    kind = generator.integers(0, 3, (side, side))
    amounts[kind == 0, 1] = 0
    amounts[kind == 1, 0] = 0
    return amounts


def paint(amounts: NDArray[np.float64], colours: NDArray[np.float64]) -> Pixels:
    """What a camera sees of stains of these colours (2, 3)."""
    directions = colours / np.linalg.norm(colours, axis=1, keepdims=True)
    return as_pixels(LAMP * np.exp(-(amounts @ directions)) - 1)


def as_pixels(values: NDArray[np.float64]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


def add_noise(pixels: Pixels, deviation: float) -> Pixels:
    return as_pixels(pixels + np.random.default_rng(0).normal(0, deviation, pixels.shape))


def restain_slowly(pixels: Pixels, restaining: Restaining) -> NDArray[np.float64]:
    """The same by the equations, in real numbers."""
    densities = -np.log((pixels + 1.0) / LAMP)
    restained: NDArray[np.float64] = np.clip(LAMP * np.exp(-(densities @ restaining.matrix())) - 1, 0, 255)
    return restained


def angle_between(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """In degrees."""
    cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    return float(np.degrees(np.arccos(min(cosine, 1))))


@pytest.mark.parametrize("colours", [PURPLE_AND_PINK, BLUE_AND_RED])
def test_the_stains_of_a_known_mixture_are_found(colours: NDArray[np.float64]) -> None:
    amounts = draw_amounts()
    found = find_stains(paint(amounts, colours))
    assert found is not None
    assert angle_between(np.array(found.colours[0]), colours[0]) < 2
    assert angle_between(np.array(found.colours[1]), colours[1]) < 2
    np.testing.assert_allclose(found.amounts, np.percentile(amounts.reshape(-1, 2), 99, axis=0), rtol=0.05)


def test_the_stain_that_absorbs_more_red_comes_first_however_they_are_mixed() -> None:
    amounts = draw_amounts() * [0.7, 1.3]
    found = find_stains(paint(amounts, BLUE_AND_RED))
    assert found is not None
    assert found.colours[0][0] > found.colours[1][0]
    assert found.amounts[0] < found.amounts[1]


def test_the_same_tissue_stained_in_two_ways_becomes_nearly_the_same_picture() -> None:
    amounts = draw_amounts()
    pale, dark = paint(amounts * 0.8, PURPLE_AND_PINK), paint(amounts * 1.3, BLUE_AND_RED)
    restained = []
    for picture in (pale, dark):
        restaining = find_restaining(picture, REFERENCE)
        assert restaining is not None
        restained.append(restaining.apply(picture).astype(float))
    before = np.abs(pale.astype(float) - dark).mean()
    assert before > 25
    assert np.abs(restained[0] - restained[1]).mean() < before / 10


def test_a_restained_picture_has_the_stains_of_the_reference() -> None:
    picture = paint(draw_amounts(), BLUE_AND_RED)
    restaining = find_restaining(picture, REFERENCE)
    assert restaining is not None
    found = find_stains(restaining.apply(picture))
    assert found is not None
    for one, other in zip(found.colours, REFERENCE.colours, strict=True):
        assert angle_between(np.array(one), np.array(other)) < 3
    np.testing.assert_allclose(found.amounts, REFERENCE.amounts, rtol=0.1)


@given(seed=st.integers(0, 30))
def test_tables_restain_as_the_equations_do(seed: int) -> None:
    picture, _ = draw_nuclei(64, 64, seed=seed, stain="histology")
    restaining = find_restaining(picture, REFERENCE) or Restaining(OTHER, REFERENCE)
    everything = np.random.default_rng(seed).integers(0, 256, (40, 41, 3), dtype=np.uint8)
    for pixels in (picture, everything):
        assert np.abs(restaining.apply(pixels) - restain_slowly(pixels, restaining)).max() < 1


def test_a_picture_stained_like_the_reference_stays_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Restaining(REFERENCE, REFERENCE).apply(pixels), pixels)


def test_clear_glass_stays_clear() -> None:
    glass = np.full((4, 4, 3), LAMP - 1, np.uint8)
    restaining = find_restaining(paint(draw_amounts(), BLUE_AND_RED), REFERENCE)
    assert restaining is not None
    np.testing.assert_array_equal(restaining.apply(glass), glass)


@pytest.mark.parametrize(
    "picture",
    [
        np.full((200, 200, 3), 250, np.uint8),
        np.zeros((200, 200, 3), np.uint8),
        np.full((200, 200, 3), (120, 60, 140), np.uint8),
        np.arange(200 * 200 * 3, dtype=np.uint8).reshape(200, 200, 3)[:, :, :1].repeat(3, axis=2),
        paint(draw_amounts(25), PURPLE_AND_PINK),
        paint(draw_amounts() * [1, 0], PURPLE_AND_PINK),
        add_noise(paint(draw_amounts()[:, :, :1].clip(0.3) * [1, 0], PURPLE_AND_PINK), 3),
        paint(draw_amounts() * [1, 0.05], PURPLE_AND_PINK),
    ],
    ids=[
        "glass",
        "black",
        "one colour",
        "grey",
        "too small",
        "one stain",
        "one stain and noise",
        "hardly any of the second",
    ],
)
def test_a_picture_without_two_stains_stays_as_it_is(picture: Pixels) -> None:
    assert find_restaining(picture, REFERENCE) is None


def test_a_stain_is_not_strengthened_beyond_belief() -> None:
    strong = Stains(REFERENCE.colours, (50.0, 1.0))
    picture = paint(draw_amounts(), BLUE_AND_RED)
    assert find_restaining(picture, REFERENCE) is not None
    assert find_restaining(picture, strong) is None


@given(
    height=st.integers(1, 30),
    width=st.integers(1, 30),
    top=st.integers(0, 29),
    left=st.integers(0, 29),
    seed=st.integers(0, 9),
)
def test_any_box_restained_is_that_box_of_the_restained_picture(
    height: int, width: int, top: int, left: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    restaining = Restaining(OTHER, REFERENCE)
    np.testing.assert_array_equal(restaining.apply(pixels[top:, left:]), restaining.apply(pixels)[top:, left:])


def test_the_picture_itself_is_not_changed() -> None:
    pixels = paint(draw_amounts(), BLUE_AND_RED)
    before = pixels.copy()
    restaining = find_restaining(pixels, REFERENCE)
    assert restaining is not None
    restaining.apply(pixels)
    np.testing.assert_array_equal(pixels, before)
