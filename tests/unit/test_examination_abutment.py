"""Which images were cut from one, side by side."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from shared.examination.abutment import Abutment, find_abutting
from shared.examination.images import examine_image
from shared.examination.portraits import Gallery, Portrait
from shared.imaging.drawing import Stain
from shared.imaging.tiling import Pixels
from tests.array_slides import ArraySlide, drawn, flat

STAINS: list[Stain] = ["fluorescence", "histology"]


def find(images: Sequence[Pixels]) -> list[Abutment]:
    examined = [examine_image(ArraySlide(image), check=lambda: None) for image in images]
    return find_abutting(Gallery([Portrait.of(one) for one in examined]), check=lambda: None)


def cut(field: Pixels, rows: int, columns: int) -> list[Pixels]:
    """Row by row."""
    return [tile for band in np.split(field, rows) for tile in np.split(band, columns, axis=1)]


def tissue(seed: int) -> Pixels:
    """Drawn larger and cropped: what is drawn goes on from its last column in its first."""
    return drawn(seed, side=320, stain="histology")[10:-10, 10:-10]


@settings(max_examples=20)
@given(seed=st.integers(0, 5), rows=st.sampled_from([1, 2, 3]), columns=st.sampled_from([1, 2, 3]))
def test_no_pair_is_reported_that_does_not_abut(seed: int, rows: int, columns: int) -> None:
    for pair in find(cut(tissue(seed), rows, columns)):
        step = 1 if pair.side == "right" else columns
        assert pair.second - pair.first == step


def test_most_neighbours_are_found_in_noisy_tissue() -> None:
    found = sum(len(find(cut(tissue(seed), 2, 2))) for seed in range(6))
    assert found >= 0.75 * 6 * 4


def test_all_neighbours_are_found_where_little_noise_is() -> None:
    smooth = gaussian_filter(tissue(1), (1, 1, 0))
    found = {(pair.first, pair.second, pair.side) for pair in find(cut(smooth, 2, 2))}
    assert found == {(0, 1, "right"), (2, 3, "right"), (0, 2, "below"), (1, 3, "below")}


@pytest.mark.parametrize("stain", STAINS)
def test_different_fields_do_not_abut(stain: Stain) -> None:
    assert find([drawn(seed, side=192, stain=stain) for seed in range(12)]) == []


def test_the_other_tile_may_be_there_twice() -> None:
    left, right = np.split(drawn(1, side=256, stain="histology"), 2, axis=1)
    assert [(pair.first, pair.second) for pair in find([left, right, right.copy()])] == [(0, 1)]


def test_tiles_of_another_exposure_are_not_taken_for_neighbours() -> None:
    left, right = np.split(drawn(1, side=256, stain="histology"), 2, axis=1)
    assert find([left, right // 2]) == []


def test_blank_borders_abut_nothing() -> None:
    assert find([flat(30), flat(31), flat(30, width=65)]) == []


def test_an_image_does_not_abut_itself() -> None:
    stripes = np.tile(np.linspace(0, 255, 128).astype(np.uint8)[:, None, None], (1, 128, 3))
    assert find([stripes]) == []
